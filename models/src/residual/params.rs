//! What a Mahalanobis distance is fitted with, checked before anything is computed.

use thiserror::Error;

/// Smallest floor of a covariance.
pub const MIN_FLOOR: f64 = 1e-4;
/// Largest floor of a covariance.
pub const MAX_FLOOR: f64 = 1.0;
/// A deviation of a tenth is no surprise.
pub(crate) const USUAL_FLOOR: f64 = 0.01;

/// Parameters as the caller wrote them: [`check`](Self::check) turns them into [`ValidResidualParams`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ResidualParams {
    pub(super) floor: f64,
}

/// Parameters that were checked; they can [`fit`](Self::fit).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ValidResidualParams(pub(super) ResidualParams);

/// A parameter that is out of range.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
pub enum ResidualParamsError {
    /// Less than [`MIN_FLOOR`], more than [`MAX_FLOOR`], or no number.
    #[error("floor {0}: choose between {MIN_FLOOR} and {MAX_FLOOR}, {USUAL_FLOOR} is usual")]
    Floor(f64),
}

impl ResidualParams {
    /// Floor 0.01.
    #[must_use]
    pub fn new() -> Self {
        Self { floor: USUAL_FLOOR }
    }

    /// Variance added to each direction, in squared robust standard deviations.
    #[must_use]
    pub fn floor(mut self, floor: f64) -> Self {
        self.floor = floor;
        self
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// The first parameter that is out of range.
    pub fn check(self) -> Result<ValidResidualParams, ResidualParamsError> {
        if !is_floor(self.floor) {
            return Err(ResidualParamsError::Floor(self.floor));
        }
        Ok(ValidResidualParams(self))
    }
}

impl Default for ResidualParams {
    fn default() -> Self {
        Self::new()
    }
}

pub(crate) fn is_floor(floor: f64) -> bool {
    (MIN_FLOOR..=MAX_FLOOR).contains(&floor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_out_of_range_are_rejected() {
        for floor in [0.0, -0.01, 0.99 * MIN_FLOOR, 1.01 * MAX_FLOOR, f64::INFINITY] {
            assert_eq!(ResidualParams::new().floor(floor).check(), Err(ResidualParamsError::Floor(floor)));
        }
        assert!(ResidualParams::new().floor(f64::NAN).check().is_err());
    }

    #[test]
    fn parameters_at_the_limits_are_accepted() {
        for floor in [MIN_FLOOR, USUAL_FLOOR, MAX_FLOOR] {
            assert_eq!(ResidualParams::new().floor(floor).check().unwrap().0.floor, floor);
        }
    }

    #[test]
    fn the_error_says_what_to_choose() {
        let error = ResidualParams::new().floor(7.0).check().unwrap_err();
        assert_eq!(error.to_string(), "floor 7: choose between 0.0001 and 1, 0.01 is usual");
    }
}
