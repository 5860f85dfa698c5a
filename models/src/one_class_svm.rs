//! One-class support vector machine: a smooth boundary around normal traffic, kept as its support vectors.
//!
//! Fitted by the sequential minimal optimisation of linfa-svm to a bounded sample of the scaled rows; what is kept are the
//! rows with a weight `a_i > 0` and their weights. The decision function of the method is `sum a_i k(x, s_i) - rho` with
//! `k(x, s) = exp(-|x - s|^2 / width)`. It has the same small value for everything that is far away; its logarithm has
//! not, and orders rows the same way:
//!
//! ```text
//! score(x) = -ln(sum a_i k(x, s_i) / sum a_i)      0 on the support vectors' common spot, unbounded above
//! ```
//!
//! Source: Schölkopf, Platt, Shawe-Taylor, Smola, Williamson, "Estimating the support of a high-dimensional
//! distribution" (2001). The width is a multiple of the median squared distance between training rows.

mod params;

use linfa::DatasetBase;
use linfa::ParamGuard as _;
use linfa::traits::Fit as _;
use linfa_svm::Svm;
use ndarray::{Array1, Array2, ArrayView2, Axis};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::isolation_forest::FitError;
use crate::model::{InvalidModel, checked_serde, sample_rows};
use crate::one_class::OneClass;
use crate::scale::{CLIP, Scaler, narrow, quantile};

pub use params::{
    MAX_KERNEL_WIDTH, MAX_SVM_ROWS, MIN_KERNEL_WIDTH, MIN_NU, OneClassSvmParams, OneClassSvmParamsError,
    ValidOneClassSvmParams,
};

/// Difference of logarithms below which a term does not change a sum.
const NEGLIGIBLE: f64 = -40.0;

/// A fitted machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct OneClassSvm {
    scaler: Scaler,
    /// `width` of the kernel, positive.
    width: f64,
    /// `ln` of the weights, which are positive and sum to 1.
    log_weights: Vec<f64>,
    /// Scaled rows, column after column: a score adds up all distances at once.
    vectors: Vec<f32>,
}

checked_serde!(OneClassSvm);

impl ValidOneClassSvmParams {
    /// Fits the machine to `rows`.
    ///
    /// # Errors
    /// Fewer than two rows, no or too many columns, or a value that is not finite.
    pub fn fit(&self, rows: ArrayView2<'_, f32>) -> Result<OneClassSvm, FitError> {
        let scaler = Scaler::fit(rows)?;
        let mut rng = ChaCha8Rng::seed_from_u64(self.0.seed);
        let sample = sample_rows(&scaler, rows, self.0.rows, &mut rng);
        let width = self.0.width * typical_distance(&sample, &mut rng);
        let weights = self.weights(&sample, width);
        let total: f64 = weights.iter().sum();
        let kept: Vec<usize> = (0..weights.len()).filter(|at| weights[*at] > 1e-9 * total).collect();
        let vectors = sample.select(Axis(0), &kept).t().iter().map(|value| narrow(*value)).collect();
        let log_weights = kept.iter().map(|at| (weights[*at] / total).ln()).collect();
        Ok(OneClassSvm { scaler, width, log_weights, vectors })
    }

    /// One weight a row; all the same if the optimisation has no answer.
    fn weights(&self, sample: &Array2<f64>, width: f64) -> Vec<f64> {
        let everything = vec![1.0; sample.nrows()];
        let data = DatasetBase::new(sample.view(), Array1::from_elem(sample.nrows(), ()));
        let targets = data.targets.view();
        let data = DatasetBase::new(sample.view(), targets);
        let Ok(params) =
            Svm::<f64, linfa::dataset::Pr>::params().gaussian_kernel(width).nu_weight(self.0.nu).eps(1e-3).check()
        else {
            return everything;
        };
        let fitted: Result<Svm<f64, bool>, _> = params.fit(&data);
        match fitted {
            Ok(model)
                if model.alpha.len() == sample.nrows()
                    && model.alpha.iter().all(|a| a.is_finite() && *a >= 0.0)
                    && model.alpha.iter().any(|a| *a > 0.0) =>
            {
                model.alpha
            }
            _ => everything,
        }
    }
}

/// Median squared distance between random pairs of rows, at least 1e-3.
fn typical_distance(sample: &Array2<f64>, rng: &mut ChaCha8Rng) -> f64 {
    const PAIRS: usize = 2000;
    let count = u32::try_from(sample.nrows()).expect("at most MAX_SVM_ROWS");
    let mut distances: Vec<f64> = (0..PAIRS)
        .map(|_| {
            let (a, b) = (rng.gen_range(0..count) as usize, rng.gen_range(0..count) as usize);
            sample.row(a).iter().zip(sample.row(b)).map(|(x, y)| (x - y).powi(2)).sum()
        })
        .collect();
    distances.sort_unstable_by(f64::total_cmp);
    quantile(&distances, 0.5).max(1e-3)
}

impl OneClassSvm {
    /// Support vectors kept.
    #[must_use]
    pub fn support_vectors(&self) -> usize {
        self.log_weights.len()
    }

    /// `ln(a_i k(x, s_i))` for each support vector, and the logarithm of their sum. Terms that are too small to change the
    /// sum are not added: almost all, for most rows.
    fn terms(&self, scaled: &[f32]) -> (Vec<f64>, f64) {
        let mut distances = vec![0.0_f32; self.log_weights.len()];
        for (value, column) in scaled.iter().zip(self.vectors.chunks_exact(distances.len())) {
            distances.iter_mut().zip(column).for_each(|(sum, other)| *sum += (value - other) * (value - other));
        }
        let narrowness = 1.0 / self.width;
        let logs = self.log_weights.iter().zip(distances);
        let terms: Vec<f64> = logs.map(|(log, distance)| log - f64::from(distance) * narrowness).collect();
        let largest = terms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = terms.iter().map(|term| term - largest).filter(|term| *term > NEGLIGIBLE).map(f64::exp).sum();
        (terms, largest + sum.ln())
    }

    fn scaled(&self, row: &[f32]) -> Vec<f32> {
        self.scaler.scale(row).into_iter().map(narrow).collect()
    }

    fn validate(&self) -> Result<(), InvalidModel> {
        let width = self.scaler.columns().len();
        let usable = (1..=MAX_SVM_ROWS as usize).contains(&self.log_weights.len())
            && self.vectors.len() == self.log_weights.len() * width
            && self.log_weights.iter().all(|weight| *weight > -30.0 && *weight <= 1e-9)
            && self.vectors.iter().all(|value| f64::from(value.abs()) <= CLIP)
            && (1e-9..=1e9).contains(&self.width);
        if usable { Ok(()) } else { Err(InvalidModel("the support vectors are not usable")) }
    }
}

impl OneClass for OneClassSvm {
    fn features(&self) -> usize {
        self.scaler.columns().len()
    }

    fn score(&self, row: &[f32]) -> f64 {
        -self.terms(&self.scaled(row)).1
    }

    /// Squared distance in each column to the support vectors, each weighted by its part in the kernel sum, in kernel
    /// widths. Never negative.
    fn contributions(&self, row: &[f32]) -> Vec<f64> {
        let scaled = self.scaled(row);
        let (terms, total) = self.terms(&scaled);
        let mut parts = vec![0.0; scaled.len()];
        for (at, term) in terms.iter().enumerate().filter(|(_, term)| **term - total > NEGLIGIBLE) {
            let share = (term - total).exp() / self.width;
            for (column, (part, value)) in parts.iter_mut().zip(&scaled).enumerate() {
                *part += share * f64::from(value - self.vectors[column * terms.len() + at]).powi(2);
            }
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Golden: the sum of weights is nu times rows, and what is kept reproduces the decision of the library.
    #[test]
    fn the_kept_vectors_order_rows_as_the_library_does() {
        let rows = Array2::from_shape_fn((200, 2), |(at, column)| ((at * (7 + column * 6)) % 53) as f32);
        let params = OneClassSvmParams::new().nu(0.2).width(0.3).rows(200).seed(3).check().unwrap();
        let model = params.fit(rows.view()).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let sample = sample_rows(&model.scaler, rows.view(), 200, &mut rng);
        let alpha = params.weights(&sample, model.width);
        assert!((alpha.iter().sum::<f64>() - 40.0).abs() < 1e-6);
        assert!(model.support_vectors() < 200);
        let targets = Array1::from_elem(200, ());
        let data = DatasetBase::new(sample.view(), targets.view());
        let valid = Svm::<f64, linfa::dataset::Pr>::params()
            .gaussian_kernel(model.width)
            .nu_weight(0.2)
            .eps(1e-3)
            .check()
            .unwrap();
        let library: Svm<f64, bool> = valid.fit(&data).unwrap();
        for row in [[3.0, 9.0], [26.0, 26.0], [60.0, -4.0]] {
            let point = Array1::from(model.scaler.scale(&row));
            let expected = -(library.weighted_sum(&point) / 40.0).ln();
            assert!((model.score(&row) - expected).abs() < 1e-4 * expected.max(1.0), "{row:?}");
        }
    }

    #[test]
    fn rows_that_are_far_away_keep_their_order() {
        let rows = Array2::from_shape_fn((300, 2), |(at, column)| ((at * (7 + column * 6)) % 53) as f32);
        let model = OneClassSvmParams::new().check().unwrap().fit(rows.view()).unwrap();
        let scores: Vec<f64> = [26.0, 80.0, 120.0, 160.0].iter().map(|value| model.score(&[*value, 26.0])).collect();
        assert!(scores.is_sorted_by(|a, b| a < b), "{scores:?}");
    }
}
