//! What a reservoir is made with, checked before memory is taken.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::isolation_forest::MAX_FEATURES;

/// Most rows a reservoir may keep.
pub const MAX_RESERVOIR_ROWS: usize = 1 << 20;
/// Most values a reservoir may keep, rows times columns (256 MiB).
pub const MAX_RESERVOIR_VALUES: usize = 1 << 26;
/// Longest half-life in seconds, a little more than three thousand years.
pub const MAX_HALF_LIFE_S: f64 = 1e11;

/// Parameters as the caller wrote them: [`check`](Self::check) turns them into [`ValidReservoirParams`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReservoirParams {
    capacity: usize,
    width: usize,
    half_life: f64,
    seed: u64,
}

/// Parameters that were checked.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "ReservoirParams", into = "ReservoirParams")]
pub struct ValidReservoirParams(ReservoirParams);

/// A parameter or a saved state that no reservoir can have.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
pub enum ReservoirError {
    /// No rows, or more than [`MAX_RESERVOIR_ROWS`].
    #[error("a reservoir of {0} rows: choose between 1 and {MAX_RESERVOIR_ROWS}, 8192 is usual")]
    Capacity(usize),
    /// No column, or more than [`MAX_FEATURES`].
    #[error("{0} feature columns: between 1 and {MAX_FEATURES} are supported")]
    Width(usize),
    /// More than [`MAX_RESERVOIR_VALUES`].
    #[error("a reservoir of {0} values: at most {MAX_RESERVOIR_VALUES} are supported, keep fewer rows")]
    Values(usize),
    /// Less than a second, more than [`MAX_HALF_LIFE_S`], or no number.
    #[error("a half-life of {0} seconds: choose between 1 and {MAX_HALF_LIFE_S}, 86400 is usual")]
    HalfLife(f64),
    /// Parts of a saved state that do not belong together, or that are not finite.
    #[error("the saved reservoir is damaged: {0}")]
    State(&'static str),
}

impl ReservoirParams {
    /// 8192 rows of `width` columns, a half-life of a day, seed 0.
    #[must_use]
    pub fn new(width: usize) -> Self {
        Self { capacity: 8192, width, half_life: 86_400.0, seed: 0 }
    }

    /// Rows kept.
    #[must_use]
    pub fn capacity(mut self, capacity: usize) -> Self {
        self.capacity = capacity;
        self
    }

    /// Event time, in seconds, in which the weight of a row halves.
    #[must_use]
    pub fn half_life(mut self, half_life: f64) -> Self {
        self.half_life = half_life;
        self
    }

    /// The only source of randomness.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// The first parameter that is out of range.
    pub fn check(self) -> Result<ValidReservoirParams, ReservoirError> {
        if !(1..=MAX_RESERVOIR_ROWS).contains(&self.capacity) {
            return Err(ReservoirError::Capacity(self.capacity));
        }
        if !(1..=usize::from(MAX_FEATURES)).contains(&self.width) {
            return Err(ReservoirError::Width(self.width));
        }
        if self.capacity * self.width > MAX_RESERVOIR_VALUES {
            return Err(ReservoirError::Values(self.capacity * self.width));
        }
        if !(1.0..=MAX_HALF_LIFE_S).contains(&self.half_life) {
            return Err(ReservoirError::HalfLife(self.half_life));
        }
        Ok(ValidReservoirParams(self))
    }
}

impl ValidReservoirParams {
    /// Rows kept.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.0.capacity
    }

    /// Columns of a row.
    #[must_use]
    pub fn width(&self) -> usize {
        self.0.width
    }

    /// Event time, in seconds, in which the weight of a row halves.
    #[must_use]
    pub fn half_life(&self) -> f64 {
        self.0.half_life
    }

    /// The only source of randomness.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.0.seed
    }
}

impl TryFrom<ReservoirParams> for ValidReservoirParams {
    type Error = ReservoirError;

    fn try_from(params: ReservoirParams) -> Result<Self, ReservoirError> {
        params.check()
    }
}

impl From<ValidReservoirParams> for ReservoirParams {
    fn from(params: ValidReservoirParams) -> Self {
        params.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_out_of_range_are_rejected() {
        let params = || ReservoirParams::new(4);
        for (given, expected) in [
            (params().capacity(0), ReservoirError::Capacity(0)),
            (params().capacity(MAX_RESERVOIR_ROWS + 1), ReservoirError::Capacity(MAX_RESERVOIR_ROWS + 1)),
            (ReservoirParams::new(0), ReservoirError::Width(0)),
            (ReservoirParams::new(1025), ReservoirError::Width(1025)),
            (ReservoirParams::new(1024).capacity(1 << 20), ReservoirError::Values(1 << 30)),
            (params().half_life(0.5), ReservoirError::HalfLife(0.5)),
            (params().half_life(f64::INFINITY), ReservoirError::HalfLife(f64::INFINITY)),
        ] {
            assert_eq!(given.check(), Err(expected));
        }
        assert!(params().half_life(f64::NAN).check().is_err());
    }

    #[test]
    fn parameters_at_the_limits_are_accepted() {
        for (capacity, width, half_life) in
            [(1, 1, 1.0), (MAX_RESERVOIR_ROWS, 64, MAX_HALF_LIFE_S), (65_536, 1024, 1.0)]
        {
            let given = ReservoirParams::new(width).capacity(capacity).half_life(half_life).seed(3);
            let valid = given.check().unwrap();
            assert_eq!(
                (valid.capacity(), valid.width(), valid.half_life(), valid.seed()),
                (capacity, width, half_life, 3)
            );
        }
    }
}
