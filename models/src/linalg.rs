//! The little linear algebra that the models need: covariance, its shrinkage, Cholesky.

use ndarray::{Array2, ArrayView2};
use serde::{Deserialize, Serialize};

use crate::model::{InvalidModel, checked_serde};

/// `L` with `A = L L'`, row-major, lower triangle only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub(crate) struct Cholesky {
    size: usize,
    lower: Vec<f64>,
}

checked_serde!(Cholesky);

impl Cholesky {
    /// Of a symmetric positive definite matrix; `None` if it is not.
    pub(crate) fn new(matrix: &Array2<f64>) -> Option<Self> {
        let size = matrix.nrows();
        let mut lower = Vec::with_capacity(size * (size + 1) / 2);
        for row in 0..size {
            for column in 0..=row {
                let (a, b): (&[f64], &[f64]) = (&lower[start(row)..], &lower[start(column).min(lower.len())..]);
                let sum: f64 = if column == row { dot(&a[..row], &a[..row]) } else { dot(&a[..column], &b[..column]) };
                let rest = matrix[[row, column]] - sum;
                let value = if column == row { rest.sqrt() } else { rest / lower[start(column) + column] };
                if !value.is_finite() || (column == row && value <= 0.0) {
                    return None;
                }
                lower.push(value);
            }
        }
        Some(Self { size, lower })
    }

    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// `y` with `L y = vector`; its squared length is `vector' A^-1 vector`.
    pub(crate) fn whiten(&self, vector: &[f64]) -> Vec<f64> {
        let mut out = Vec::with_capacity(self.size);
        for (row, value) in vector.iter().enumerate() {
            let line = &self.lower[start(row)..=start(row) + row];
            let rest = value - dot(&line[..row], &out);
            out.push(rest / line[row]);
        }
        out
    }

    /// `vector' A^-1 vector` if it is below `limit`. `scratch` is overwritten.
    pub(crate) fn square_below(
        &self,
        vector: impl Iterator<Item = f64>,
        limit: f64,
        scratch: &mut Vec<f64>,
    ) -> Option<f64> {
        scratch.clear();
        let mut square = 0.0;
        for (row, value) in vector.enumerate() {
            let line = &self.lower[start(row)..=start(row) + row];
            let white = (value - dot(&line[..row], scratch)) / line[row];
            square += white * white;
            if square >= limit {
                return None;
            }
            scratch.push(white);
        }
        Some(square)
    }

    /// `A^-1 vector`.
    pub(crate) fn solve(&self, vector: &[f64]) -> Vec<f64> {
        let mut out = self.whiten(vector);
        for row in (0..self.size).rev() {
            let line = &self.lower[start(row)..=start(row) + row];
            out[row] /= line[row];
            let value = out[row];
            out[..row].iter_mut().zip(line).for_each(|(to, from)| *to -= value * from);
        }
        out
    }

    /// Large factors would let a scaled row overflow; covariances of scaled rows are far from these limits.
    fn validate(&self) -> Result<(), InvalidModel> {
        const SMALLEST: f64 = 1e-6;
        const LARGEST: f64 = 1e6;
        let invalid = Err(InvalidModel("a covariance is not usable"));
        if self.size > MAX_DENSE_COLUMNS || self.lower.len() != start(self.size) {
            return invalid;
        }
        let diagonal = |row: usize| self.lower[start(row) + row] >= SMALLEST;
        let bounded = self.lower.iter().all(|value| value.abs() <= LARGEST) && (0..self.size).all(diagonal);
        // A forged triangle may still grow exponentially when solved: try the worst rows it will see.
        let worst = vec![crate::scale::CLIP * 2.0; self.size];
        let solved = |vector: &[f64]| self.solve(vector).iter().all(|value| value.abs() < 1e120);
        let alternating: Vec<f64> = worst.iter().enumerate().map(|(at, v)| if at % 2 == 0 { *v } else { -v }).collect();
        if bounded && solved(&worst) && solved(&alternating) { Ok(()) } else { invalid }
    }
}

/// Most columns of models that keep a covariance.
pub const MAX_DENSE_COLUMNS: usize = 256;

fn start(row: usize) -> usize {
    row * (row + 1) / 2
}

pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// Means of the columns of at least one row.
pub(crate) fn means(rows: ArrayView2<'_, f64>) -> Vec<f64> {
    let count = rows.nrows() as f64;
    rows.columns().into_iter().map(|column| column.sum() / count).collect()
}

/// Covariance about `centre`, divided by the number of rows.
pub(crate) fn covariance(rows: ArrayView2<'_, f64>, centre: &[f64]) -> Array2<f64> {
    let centred = Array2::from_shape_fn(rows.dim(), |(row, column)| rows[[row, column]] - centre[column]);
    centred.t().dot(&centred) / rows.nrows() as f64
}

/// `(1 - r) S + r m I` where `m` is the mean variance and `r` minimises the expected squared error.
///
/// Source: Ledoit, Wolf, "A well-conditioned estimator for large-dimensional covariance matrices" (2004).
pub(crate) fn shrink(rows: ArrayView2<'_, f64>, centre: &[f64]) -> (Array2<f64>, f64) {
    let sample = covariance(rows, centre);
    let (count, size) = (rows.nrows() as f64, sample.nrows() as f64);
    let mean_variance = sample.diag().sum() / size;
    let norm: f64 = sample.iter().map(|value| value * value).sum();
    let distance = (norm - size * mean_variance * mean_variance).max(0.0);
    let fourth: f64 = rows
        .rows()
        .into_iter()
        .map(|row| row.iter().zip(centre).map(|(value, centre)| (value - centre).powi(2)).sum::<f64>().powi(2))
        .sum();
    let error = ((fourth - count * norm) / (count * count)).clamp(0.0, distance);
    let share = if distance > 0.0 { error / distance } else { 1.0 };
    let mut shrunk = sample * (1.0 - share);
    shrunk.diag_mut().mapv_inplace(|value| value + share * mean_variance);
    (shrunk, share)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn a_small_system_is_solved_as_by_hand() {
        let factor = Cholesky::new(&array![[4.0, 2.0], [2.0, 3.0]]).unwrap();
        assert_eq!(factor.lower, [2.0, 1.0, 2.0_f64.sqrt()]);
        let solved = factor.solve(&[8.0, 7.0]);
        assert!((solved[0] - 1.25).abs() < 1e-12 && (solved[1] - 1.5).abs() < 1e-12);
        assert!((dot(&factor.whiten(&[8.0, 7.0]), &factor.whiten(&[8.0, 7.0])) - 20.5).abs() < 1e-12);
        let below = |limit| factor.square_below([8.0, 7.0].into_iter(), limit, &mut vec![9.0]);
        assert!(below(20.0).is_none() && (below(21.0).unwrap() - 20.5).abs() < 1e-12);
    }

    #[test]
    fn what_is_not_positive_definite_has_no_factor() {
        assert_eq!(Cholesky::new(&array![[1.0, 2.0], [2.0, 1.0]]), None);
        assert_eq!(Cholesky::new(&array![[0.0]]), None);
        assert_eq!(Cholesky::new(&array![[f64::NAN]]), None);
    }

    #[test]
    fn shrinkage_is_between_the_sample_and_the_sphere() {
        let rows = array![[1.0, 1.0], [-1.0, -1.0], [2.0, -2.0], [-2.0, 2.0]];
        let (shrunk, share) = shrink(rows.view(), &[0.0, 0.0]);
        // S = [[2.5, -1.5], [-1.5, 2.5]]: distance 4.5, fourth moments 2 * 4 + 2 * 64 = 136, |S|^2 = 17.
        assert!((share - ((136.0 - 68.0) / 16.0 / 4.5_f64).min(1.0)).abs() < 1e-12);
        assert!((shrunk[[0, 0]] - 2.5).abs() < 1e-12);
        assert!((shrunk[[0, 1]] + 1.5 * (1.0 - share)).abs() < 1e-12);
    }

    #[test]
    fn a_forged_factor_is_refused() {
        for text in [
            r#"{"size":1,"lower":[]}"#,
            r#"{"size":1,"lower":[0.0]}"#,
            r#"{"size":2,"lower":[1,1e9,1]}"#,
            r#"{"size":99999999999,"lower":[1]}"#,
        ] {
            assert!(serde_json::from_str::<Cholesky>(text).is_err(), "{text}");
        }
    }
}
