//! What every model of normal rows can do, whatever it is made of.

use ndarray::{Array1, ArrayView2};

use crate::isolation_forest::IsolationForest;

/// A model fitted to rows of normal traffic. Scores have no common unit: they are made comparable by a
/// [`Calibration`](crate::Calibration) on rows that the model was not fitted to.
pub trait OneClass: Send + Sync {
    /// Columns of a row.
    fn features(&self) -> usize;

    /// How unlike the training rows a row is: higher is more anomalous, always a number.
    ///
    /// # Panics
    /// If `row` does not have one value for each column.
    fn score(&self, row: &[f32]) -> f64;

    /// [`Self::score`] of each row.
    ///
    /// # Panics
    /// As [`Self::score`].
    fn score_batch(&self, rows: ArrayView2<'_, f32>) -> Array1<f64> {
        rows.rows().into_iter().map(|row| self.score(&row.to_vec())).collect()
    }

    /// How much each column speaks for the row being anomalous, in the order of the columns; negative where it speaks
    /// against it. Only comparable within one row.
    ///
    /// # Panics
    /// As [`Self::score`].
    fn contributions(&self, row: &[f32]) -> Vec<f64>;
}

impl OneClass for IsolationForest {
    fn features(&self) -> usize {
        self.features()
    }

    fn score(&self, row: &[f32]) -> f64 {
        self.score(row)
    }

    fn score_batch(&self, rows: ArrayView2<'_, f32>) -> Array1<f64> {
        self.score_batch(rows)
    }

    fn contributions(&self, row: &[f32]) -> Vec<f64> {
        self.contributions(row)
    }
}
