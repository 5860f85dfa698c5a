//! What an extended forest is fitted with, checked before anything is computed.

use thiserror::Error;

use crate::isolation_forest::{MAX_SAMPLE_SIZE, MAX_TREES};

/// Most columns in one split.
pub const MAX_SLOPE: usize = 16;

/// Parameters as the caller wrote them: [`check`](Self::check) turns them into [`ValidExtendedForestParams`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtendedForestParams {
    pub(super) trees: u32,
    pub(super) sample_size: u32,
    pub(super) slope: usize,
    pub(super) seed: u64,
}

/// Parameters that were checked; they can [`fit`](Self::fit).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValidExtendedForestParams(pub(super) ExtendedForestParams);

/// A parameter that is out of range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ExtendedForestParamsError {
    /// No trees, or more than [`MAX_TREES`].
    #[error("{0} trees: choose between 1 and {MAX_TREES}, 100 is usual")]
    Trees(u32),
    /// Less than two rows a tree, or more than [`MAX_SAMPLE_SIZE`].
    #[error("sample size {0}: choose between 2 and {MAX_SAMPLE_SIZE}, 512 is usual")]
    SampleSize(u32),
    /// No columns, or more than [`MAX_SLOPE`].
    #[error("splits of {0} columns: choose between 1 and {MAX_SLOPE}, 3 is usual")]
    Slope(usize),
}

impl ExtendedForestParams {
    /// 100 trees of 512 rows, splits of 3 columns, seed 0.
    #[must_use]
    pub fn new() -> Self {
        Self { trees: 100, sample_size: 512, slope: 3, seed: 0 }
    }

    /// Number of trees. More trees make scores steadier and slower.
    #[must_use]
    pub fn trees(mut self, trees: u32) -> Self {
        self.trees = trees;
        self
    }

    /// Rows each tree sees, drawn without replacement; all rows if there are fewer.
    #[must_use]
    pub fn sample_size(mut self, sample_size: u32) -> Self {
        self.sample_size = sample_size;
        self
    }

    /// Columns in one split, the extension level plus one; all columns if there are fewer.
    #[must_use]
    pub fn slope(mut self, slope: usize) -> Self {
        self.slope = slope;
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
    pub fn check(self) -> Result<ValidExtendedForestParams, ExtendedForestParamsError> {
        if !(1..=MAX_TREES).contains(&self.trees) {
            return Err(ExtendedForestParamsError::Trees(self.trees));
        }
        if !(2..=MAX_SAMPLE_SIZE).contains(&self.sample_size) {
            return Err(ExtendedForestParamsError::SampleSize(self.sample_size));
        }
        if !(1..=MAX_SLOPE).contains(&self.slope) {
            return Err(ExtendedForestParamsError::Slope(self.slope));
        }
        Ok(ValidExtendedForestParams(self))
    }
}

impl Default for ExtendedForestParams {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_out_of_range_are_rejected() {
        let params = ExtendedForestParams::new;
        let (trees, rows) = (MAX_TREES + 1, MAX_SAMPLE_SIZE + 1);
        for (given, expected) in [
            (params().trees(0), ExtendedForestParamsError::Trees(0)),
            (params().trees(trees), ExtendedForestParamsError::Trees(trees)),
            (params().sample_size(1), ExtendedForestParamsError::SampleSize(1)),
            (params().sample_size(rows), ExtendedForestParamsError::SampleSize(rows)),
            (params().slope(0), ExtendedForestParamsError::Slope(0)),
            (params().slope(MAX_SLOPE + 1), ExtendedForestParamsError::Slope(MAX_SLOPE + 1)),
        ] {
            assert_eq!(given.check(), Err(expected));
        }
    }

    #[test]
    fn parameters_at_the_limits_are_accepted() {
        for (trees, rows, slope) in [(1, 2, 1), (MAX_TREES, MAX_SAMPLE_SIZE, MAX_SLOPE)] {
            let given = ExtendedForestParams::new().trees(trees).sample_size(rows).slope(slope).seed(3);
            assert_eq!(given.check().unwrap().0, given);
        }
    }
}
