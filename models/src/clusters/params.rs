//! What clusters are fitted with, checked before anything is computed.

use thiserror::Error;

use crate::residual::{MAX_FLOOR, MIN_FLOOR, USUAL_FLOOR, is_floor};

/// Most clusters of a model.
pub const MAX_CLUSTERS: usize = 256;
/// Most rows' worth of pooled covariance, per column: the clusters then have one shape.
pub const MAX_POOLING: f64 = 1e6;

/// Parameters as the caller wrote them: [`check`](Self::check) turns them into [`ValidClustersParams`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClustersParams {
    pub(super) clusters: usize,
    pub(super) floor: f64,
    pub(super) pooling: f64,
    pub(super) seed: u64,
}

/// Parameters that were checked; they can [`fit`](Self::fit).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ValidClustersParams(pub(super) ClustersParams);

/// A parameter that is out of range.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
pub enum ClustersParamsError {
    /// No clusters, or more than [`MAX_CLUSTERS`].
    #[error("{0} clusters: choose between 1 and {MAX_CLUSTERS}, 48 is usual")]
    Clusters(usize),
    /// Less than [`MIN_FLOOR`], more than [`MAX_FLOOR`], or no number.
    #[error("floor {0}: choose between {MIN_FLOOR} and {MAX_FLOOR}, {USUAL_FLOOR} is usual")]
    Floor(f64),
    /// Negative, more than [`MAX_POOLING`], or no number.
    #[error("pooling {0}: choose between 0 (each cluster has its own shape) and {MAX_POOLING}, 1 is usual")]
    Pooling(f64),
}

impl ClustersParams {
    /// 48 clusters, floor 0.01, pooling 1, seed 0.
    #[must_use]
    pub fn new() -> Self {
        Self { clusters: 48, floor: USUAL_FLOOR, pooling: 1.0, seed: 0 }
    }

    /// Clusters wanted; fewer are made if there are less than 40 rows for each, or if the rows have fewer kinds.
    #[must_use]
    pub fn clusters(mut self, clusters: usize) -> Self {
        self.clusters = clusters;
        self
    }

    /// Variance added to each direction, in squared robust standard deviations.
    #[must_use]
    pub fn floor(mut self, floor: f64) -> Self {
        self.floor = floor;
        self
    }

    /// Rows' worth of pooled covariance in that of each cluster, per column.
    #[must_use]
    pub fn pooling(mut self, pooling: f64) -> Self {
        self.pooling = pooling;
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
    pub fn check(self) -> Result<ValidClustersParams, ClustersParamsError> {
        if !(1..=MAX_CLUSTERS).contains(&self.clusters) {
            return Err(ClustersParamsError::Clusters(self.clusters));
        }
        if !is_floor(self.floor) {
            return Err(ClustersParamsError::Floor(self.floor));
        }
        if !(0.0..=MAX_POOLING).contains(&self.pooling) {
            return Err(ClustersParamsError::Pooling(self.pooling));
        }
        Ok(ValidClustersParams(self))
    }
}

impl Default for ClustersParams {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_out_of_range_are_rejected() {
        let params = ClustersParams::new;
        for (given, expected) in [
            (params().clusters(0), ClustersParamsError::Clusters(0)),
            (params().clusters(MAX_CLUSTERS + 1), ClustersParamsError::Clusters(MAX_CLUSTERS + 1)),
            (params().floor(0.0), ClustersParamsError::Floor(0.0)),
            (params().floor(2.0), ClustersParamsError::Floor(2.0)),
            (params().pooling(-0.1), ClustersParamsError::Pooling(-0.1)),
            (params().pooling(f64::INFINITY), ClustersParamsError::Pooling(f64::INFINITY)),
        ] {
            assert_eq!(given.check(), Err(expected));
        }
        assert!(params().floor(f64::NAN).check().is_err());
        assert!(params().pooling(f64::NAN).check().is_err());
    }

    #[test]
    fn parameters_at_the_limits_are_accepted() {
        for (clusters, floor, pooling) in [(1, MIN_FLOOR, 0.0), (48, 0.01, 1.0), (MAX_CLUSTERS, MAX_FLOOR, MAX_POOLING)]
        {
            let given = ClustersParams::new().clusters(clusters).floor(floor).pooling(pooling).seed(3);
            assert_eq!(given.check().unwrap().0, given);
        }
    }
}
