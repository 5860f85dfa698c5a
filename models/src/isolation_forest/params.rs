//! What a forest is fitted with, checked before anything is computed.

use ndarray::ArrayView2;
use thiserror::Error;

/// Most trees a forest may have.
pub const MAX_TREES: u32 = 1024;
/// Most rows a tree may see. A tree then has fewer than 2^14 nodes, and distances between them fit in 16 bits.
pub const MAX_SAMPLE_SIZE: u32 = 8192;
/// Most columns a row may have.
pub const MAX_FEATURES: u16 = 1024;

/// Parameters as the caller wrote them: [`check`](Self::check) turns them into [`ValidParams`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IsolationForestParams {
    trees: u32,
    sample_size: u32,
    seed: u64,
}

/// Parameters that were checked; they can [`fit`](Self::fit).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValidParams(IsolationForestParams);

/// A parameter that is out of range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ParamsError {
    /// No trees, or more than [`MAX_TREES`].
    #[error("{0} trees: choose between 1 and {MAX_TREES}, 100 is usual")]
    Trees(u32),
    /// Less than two rows a tree, or more than [`MAX_SAMPLE_SIZE`].
    #[error("sample size {0}: choose between 2 and {MAX_SAMPLE_SIZE}, 256 is usual")]
    SampleSize(u32),
}

/// Training rows that no forest can be fitted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FitError {
    /// A single row, or none, has nothing to be separated from.
    #[error("{rows} training rows, at least {needed} are needed: collect more traffic")]
    TooFewRows {
        /// Rows given.
        rows: usize,
        /// Rows needed.
        needed: usize,
    },
    /// More rows than a 32-bit index counts.
    #[error("{0} training rows, at most {max} are supported: train on a sample", max = u32::MAX)]
    TooManyRows(usize),
    /// No column, or more than [`MAX_FEATURES`].
    #[error("{0} feature columns: between 1 and {MAX_FEATURES} are supported")]
    Columns(usize),
    /// More columns than a model that compares each column with each can have.
    #[error("{0} feature columns: at most {max} are supported by this model", max = crate::linalg::MAX_DENSE_COLUMNS)]
    DenseColumns(usize),
    /// `NaN` or an infinity.
    #[error("training value at row {row}, column {column} is not a finite number: drop the row or fill the value")]
    NotFinite {
        /// Row, from 0.
        row: usize,
        /// Column, from 0.
        column: usize,
    },
}

impl IsolationForestParams {
    /// The values of Liu et al.: 100 trees of 256 rows; seed 0.
    #[must_use]
    pub fn new() -> Self {
        Self { trees: 100, sample_size: 256, seed: 0 }
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
    pub fn check(self) -> Result<ValidParams, ParamsError> {
        if !(1..=MAX_TREES).contains(&self.trees) {
            return Err(ParamsError::Trees(self.trees));
        }
        if !(2..=MAX_SAMPLE_SIZE).contains(&self.sample_size) {
            return Err(ParamsError::SampleSize(self.sample_size));
        }
        Ok(ValidParams(self))
    }
}

impl Default for IsolationForestParams {
    fn default() -> Self {
        Self::new()
    }
}

impl ValidParams {
    /// Number of trees.
    #[must_use]
    pub fn trees(&self) -> u32 {
        self.0.trees
    }

    /// Rows each tree sees at most.
    #[must_use]
    pub fn sample_size(&self) -> u32 {
        self.0.sample_size
    }

    /// The only source of randomness.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.0.seed
    }
}

/// Number of rows and of columns, if a forest can be fitted to them.
pub(crate) fn check_rows(rows: ArrayView2<'_, f32>) -> Result<(u32, u16), FitError> {
    let features = u16::try_from(rows.ncols())
        .ok()
        .filter(|columns| (1..=MAX_FEATURES).contains(columns))
        .ok_or(FitError::Columns(rows.ncols()))?;
    if rows.nrows() < 2 {
        return Err(FitError::TooFewRows { rows: rows.nrows(), needed: 2 });
    }
    let count = u32::try_from(rows.nrows()).map_err(|_| FitError::TooManyRows(rows.nrows()))?;
    match rows.indexed_iter().find(|(_, value)| !value.is_finite()) {
        Some(((row, column), _)) => Err(FitError::NotFinite { row, column }),
        None => Ok((count, features)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, array};

    #[test]
    fn parameters_out_of_range_are_rejected() {
        let params = IsolationForestParams::new;
        for (given, expected) in [
            (params().trees(0), ParamsError::Trees(0)),
            (params().trees(MAX_TREES + 1), ParamsError::Trees(MAX_TREES + 1)),
            (params().sample_size(0), ParamsError::SampleSize(0)),
            (params().sample_size(1), ParamsError::SampleSize(1)),
            (params().sample_size(MAX_SAMPLE_SIZE + 1), ParamsError::SampleSize(MAX_SAMPLE_SIZE + 1)),
        ] {
            assert_eq!(given.check(), Err(expected));
        }
    }

    #[test]
    fn parameters_at_the_limits_are_accepted() {
        for (trees, sample_size) in [(1, 2), (100, 256), (MAX_TREES, MAX_SAMPLE_SIZE)] {
            let valid = IsolationForestParams::new().trees(trees).sample_size(sample_size).seed(9).check().unwrap();
            assert_eq!((valid.trees(), valid.sample_size(), valid.seed()), (trees, sample_size, 9));
        }
    }

    #[test]
    fn rows_that_cannot_be_fitted_are_rejected() {
        for (rows, expected) in [
            (Array2::zeros((0, 1)), FitError::TooFewRows { rows: 0, needed: 2 }),
            (Array2::zeros((1, 1)), FitError::TooFewRows { rows: 1, needed: 2 }),
            (Array2::zeros((2, 0)), FitError::Columns(0)),
            (Array2::zeros((2, 1025)), FitError::Columns(1025)),
            (array![[0.0, 1.0], [f32::NAN, 1.0]], FitError::NotFinite { row: 1, column: 0 }),
            (array![[0.0, f32::INFINITY], [0.0, 1.0]], FitError::NotFinite { row: 0, column: 1 }),
            (array![[0.0, f32::NEG_INFINITY], [0.0, 1.0]], FitError::NotFinite { row: 0, column: 1 }),
        ] {
            assert_eq!(check_rows(rows.view()), Err(expected));
        }
    }
}
