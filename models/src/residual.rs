//! Distance from the centre of normal traffic, measured against how its columns vary together.
//!
//! ```text
//! score(x) = sqrt(z' C^-1 z / columns)      z = scaled x - mean
//! ```
//!
//! where `C` is the covariance of the scaled training rows, shrunk towards a sphere (Ledoit, Wolf 2004) plus a floor on
//! each direction. A row that breaks a relation between columns (octets per packet, packets per second) is far away even
//! if each value on its own is usual. 1 is a typical row.
//!
//! Of the two classical statistics of a principal component model, `T2` (inside the retained components) and `Q`
//! (outside), this distance is the whole: components need not be cut off, because shrinkage and floor bound what a
//! direction without variance weighs.
//!
//! Source: Mahalanobis, "On the generalised distance in statistics" (1936).

mod params;

use ndarray::ArrayView2;
use serde::{Deserialize, Serialize};

use crate::isolation_forest::FitError;
use crate::linalg::{Cholesky, MAX_DENSE_COLUMNS, dot, means, shrink};
use crate::model::{InvalidModel, checked_serde};
use crate::one_class::OneClass;
use crate::scale::Scaler;

pub use params::{MAX_FLOOR, MIN_FLOOR, ResidualParams, ResidualParamsError, ValidResidualParams};
pub(crate) use params::{USUAL_FLOOR, is_floor};

/// A fitted Mahalanobis distance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Residual {
    scaler: Scaler,
    mean: Vec<f64>,
    factor: Cholesky,
}

checked_serde!(Residual);

impl ValidResidualParams {
    /// Fits the distance to `rows`.
    ///
    /// # Errors
    /// Fewer than two rows, no or more than [`MAX_DENSE_COLUMNS`] columns, or a value that is not finite.
    pub fn fit(&self, rows: ArrayView2<'_, f32>) -> Result<Residual, FitError> {
        let scaler = fit_dense(rows)?;
        let scaled = scaler.scale_rows(rows);
        let mean = means(scaled.view());
        let (mut matrix, _) = shrink(scaled.view(), &mean);
        finish(&mut matrix, &scaler, self.0.floor);
        let factor = Cholesky::new(&matrix).expect("the floor makes a covariance positive definite");
        Ok(Residual { scaler, mean, factor })
    }
}

/// Scaling for models that keep a matrix of columns by columns.
pub(crate) fn fit_dense(rows: ArrayView2<'_, f32>) -> Result<Scaler, FitError> {
    if rows.ncols() > MAX_DENSE_COLUMNS {
        return Err(FitError::DenseColumns(rows.ncols()));
    }
    Scaler::fit(rows)
}

/// Adds the floor; columns that never varied get variance 1 and no relation, so that their penalty counts as it is.
pub(crate) fn finish(matrix: &mut ndarray::Array2<f64>, scaler: &Scaler, floor: f64) {
    matrix.diag_mut().mapv_inplace(|value| value + floor);
    for (at, _) in scaler.columns().iter().enumerate().filter(|(_, column)| column.constant) {
        matrix.row_mut(at).fill(0.0);
        matrix.column_mut(at).fill(0.0);
        matrix[[at, at]] = 1.0;
    }
}

impl Residual {
    fn deviation(&self, row: &[f32]) -> Vec<f64> {
        self.scaler.scale(row).iter().zip(&self.mean).map(|(value, mean)| value - mean).collect()
    }

    fn validate(&self) -> Result<(), InvalidModel> {
        let width = self.scaler.columns().len();
        let fits = self.mean.len() == width && self.factor.size() == width;
        let bounded = self.mean.iter().all(|mean| mean.abs() <= crate::scale::CLIP);
        if fits && bounded { Ok(()) } else { Err(InvalidModel("the parts of the residual model do not fit together")) }
    }
}

impl OneClass for Residual {
    fn features(&self) -> usize {
        self.mean.len()
    }

    fn score(&self, row: &[f32]) -> f64 {
        let white = self.factor.whiten(&self.deviation(row));
        (dot(&white, &white) / self.mean.len() as f64).sqrt()
    }

    /// `z_j (C^-1 z)_j / columns`: their sum is the squared score. A column that only follows what another one did is
    /// credited with little, or negative.
    fn contributions(&self, row: &[f32]) -> Vec<f64> {
        let deviation = self.deviation(row);
        let solved = self.factor.solve(&deviation);
        let width = self.mean.len() as f64;
        deviation.iter().zip(solved).map(|(z, solved)| z * solved / width).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;

    /// Two columns on a lattice: standardised, uncorrelated.
    #[test]
    fn the_distance_is_the_one_computed_by_hand() {
        let rows =
            Array2::from_shape_fn((2500, 2), |(at, column)| (if column == 0 { at % 50 } else { at / 50 }) as f32);
        let model = ResidualParams::new().floor(1e-4).check().unwrap().fit(rows.view()).unwrap();
        let [x, y] = [0, 1].map(|at| model.scaler.columns()[at]);
        let variance = |column: crate::scale::ColumnScale| (50.0 * 50.0 - 1.0) / 12.0 / column.spread.powi(2) + 1e-4;
        let square =
            |value: f64, column: crate::scale::ColumnScale| ((value - 24.5) / column.spread).powi(2) / variance(column);
        let expected = ((square(40.0, x) + square(10.0, y)) / 2.0).sqrt();
        assert!((model.score(&[40.0, 10.0]) - expected).abs() < 1e-9);
        let parts = model.contributions(&[40.0, 10.0]);
        assert!((parts[0] - square(40.0, x) / 2.0).abs() < 1e-9);
        assert!((parts.iter().sum::<f64>() - expected.powi(2)).abs() < 1e-9);
    }

    #[test]
    fn a_broken_relation_is_far_away() {
        let rows = Array2::from_shape_fn((400, 2), |(at, _)| (at % 40) as f32);
        let model = ResidualParams::new().check().unwrap().fit(rows.view()).unwrap();
        assert!(model.score(&[35.0, 5.0]) > 4.0 * model.score(&[39.0, 39.0]));
    }

    #[test]
    fn too_many_columns_are_refused() {
        assert_eq!(
            ResidualParams::new().check().unwrap().fit(Array2::zeros((3, 257)).view()),
            Err(FitError::DenseColumns(257))
        );
    }
}
