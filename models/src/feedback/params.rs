//! How much feedback is kept and how much it weighs, checked before anything is kept.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::scale::CLIP;

/// Most rows of a kind that a set may keep.
pub const MAX_FEEDBACK_ROWS: usize = 4096;

/// Parameters as the caller wrote them: [`check`](Self::check) turns them into [`ValidFeedbackParams`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeedbackParams {
    limit: usize,
    share: f64,
    radius: f64,
}

/// Parameters that were checked.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "FeedbackParams", into = "FeedbackParams")]
pub struct ValidFeedbackParams(FeedbackParams);

/// A parameter that is out of range.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
pub enum FeedbackParamsError {
    /// No rows, or more than [`MAX_FEEDBACK_ROWS`].
    #[error("{0} marked rows of a kind: choose between 1 and {MAX_FEEDBACK_ROWS}, 256 is usual")]
    Limit(usize),
    /// Not in (0, 0.25].
    #[error("a share of {0}: choose more than 0 and at most 0.25, 0.1 is usual")]
    Share(f64),
    /// Negative, or more than scaled rows can be apart.
    #[error("a radius of {0}: choose between 0 and {max}, 0.25 is usual", max = 2.0 * CLIP)]
    Radius(f64),
}

impl FeedbackParams {
    /// 256 rows of a kind, false positives make up 10 % of the rows, a radius of 0.25.
    #[must_use]
    pub fn new() -> Self {
        Self { limit: 256, share: 0.1, radius: 0.25 }
    }

    /// Rows kept of each kind.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// Share of the rows that all false positives together make up, if there is one.
    #[must_use]
    pub fn share(mut self, share: f64) -> Self {
        self.share = share;
        self
    }

    /// Root mean square distance, in robust standard deviations of a column, up to which a row is like an attack.
    #[must_use]
    pub fn radius(mut self, radius: f64) -> Self {
        self.radius = radius;
        self
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// The first parameter that is out of range.
    pub fn check(self) -> Result<ValidFeedbackParams, FeedbackParamsError> {
        if !(1..=MAX_FEEDBACK_ROWS).contains(&self.limit) {
            return Err(FeedbackParamsError::Limit(self.limit));
        }
        if !(self.share > 0.0 && self.share <= 0.25) {
            return Err(FeedbackParamsError::Share(self.share));
        }
        if !(0.0..=2.0 * CLIP).contains(&self.radius) {
            return Err(FeedbackParamsError::Radius(self.radius));
        }
        Ok(ValidFeedbackParams(self))
    }
}

impl Default for FeedbackParams {
    fn default() -> Self {
        Self::new()
    }
}

impl ValidFeedbackParams {
    /// Rows kept of each kind.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.0.limit
    }

    /// Share of the rows that all false positives together make up.
    #[must_use]
    pub fn share(&self) -> f64 {
        self.0.share
    }

    /// Distance up to which a row is like an attack.
    #[must_use]
    pub fn radius(&self) -> f64 {
        self.0.radius
    }
}

impl TryFrom<FeedbackParams> for ValidFeedbackParams {
    type Error = FeedbackParamsError;

    fn try_from(params: FeedbackParams) -> Result<Self, FeedbackParamsError> {
        params.check()
    }
}

impl From<ValidFeedbackParams> for FeedbackParams {
    fn from(params: ValidFeedbackParams) -> Self {
        params.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_out_of_range_are_rejected() {
        let params = FeedbackParams::new;
        for (given, expected) in [
            (params().limit(0), FeedbackParamsError::Limit(0)),
            (params().limit(4097), FeedbackParamsError::Limit(4097)),
            (params().share(0.0), FeedbackParamsError::Share(0.0)),
            (params().share(0.3), FeedbackParamsError::Share(0.3)),
            (params().radius(-0.1), FeedbackParamsError::Radius(-0.1)),
            (params().radius(25.0), FeedbackParamsError::Radius(25.0)),
        ] {
            assert_eq!(given.check(), Err(expected));
        }
        assert!(params().radius(f64::NAN).check().is_err() && params().share(f64::NAN).check().is_err());
    }

    #[test]
    fn parameters_at_the_limits_are_accepted() {
        let valid = FeedbackParams::new().limit(4096).share(0.25).radius(0.0).check().unwrap();
        assert_eq!((valid.limit(), valid.share(), valid.radius()), (4096, 0.25, 0.0));
    }
}
