//! A small network that learns to repeat normal traffic through a narrow middle, and fails on what it has not seen.
//!
//! `columns -> hidden -> middle -> hidden -> columns`, leaky ReLU in the hidden layers, trained by Adam on the squared
//! error of scaled rows. A tenth of the rows is held out: training ends when their error has not fallen for some epochs,
//! and the best weights are kept. With `e_j` the error in column `j` and `s_j` its usual size on held-out rows:
//!
//! ```text
//! score(x) = sqrt(mean over j of (e_j / s_j)^2)      1 is a typical row
//! ```
//!
//! Sources: Kramer, "Nonlinear principal component analysis using autoassociative neural networks" (1991); Kingma, Ba,
//! "Adam" (2015).

mod network;
mod params;

use ndarray::{Array2, ArrayView2};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::isolation_forest::FitError;
use crate::model::{InvalidModel, checked_serde, sample_rows};
use crate::one_class::OneClass;
use crate::residual::fit_dense;
use crate::scale::{Scaler, narrow};

use network::{Adam, Network};

pub use params::{AutoencoderParams, AutoencoderParamsError, MAX_EPOCHS, MAX_HIDDEN, ValidAutoencoderParams};

/// Rows the network is trained on at most; more are sampled.
const MAX_ROWS: u32 = 10_000;
const BATCH: usize = 64;
/// Epochs without a better held-out error after which training ends.
const PATIENCE: u32 = 6;
/// Smallest usual error of a column, in robust standard deviations.
const SMALLEST_ERROR: f64 = 0.05;

/// A trained network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Autoencoder {
    scaler: Scaler,
    network: Network,
    /// `s_j`, at least [`SMALLEST_ERROR`].
    usual_error: Vec<f64>,
}

checked_serde!(Autoencoder);

impl ValidAutoencoderParams {
    /// Trains the network on `rows`.
    ///
    /// # Errors
    /// Fewer than two rows, no or more than [`MAX_DENSE_COLUMNS`](crate::MAX_DENSE_COLUMNS) columns, or a value
    /// that is not finite.
    pub fn fit(&self, rows: ArrayView2<'_, f32>) -> Result<Autoencoder, FitError> {
        let scaler = fit_dense(rows)?;
        let mut rng = ChaCha8Rng::seed_from_u64(self.0.seed);
        let scaled = sample_rows(&scaler, rows, MAX_ROWS, &mut rng).mapv(narrow);
        let held_out = (scaled.nrows() / 10).max(1);
        let (check, train) = scaled.view().split_at(ndarray::Axis(0), held_out);
        let network = self.train(&train.to_owned(), &check.to_owned(), &mut rng);
        let usual_error = usual_error(&network, check, scaler.columns().len());
        Ok(Autoencoder { scaler, network, usual_error })
    }

    fn train(&self, train: &Array2<f32>, check: &Array2<f32>, rng: &mut ChaCha8Rng) -> Network {
        let width = train.ncols();
        let hidden = self.0.hidden.unwrap_or_else(|| (2 * width).clamp(16, 64));
        let middle = self.0.middle.unwrap_or_else(|| width.div_ceil(4));
        let mut network = Network::random(&[width, hidden, middle, hidden, width], rng);
        let mut best = (network.clone(), network.mean_error(check.view()));
        let mut adam = Adam::new(&network);
        let mut order: Vec<usize> = (0..train.nrows()).collect();
        let mut waited = 0;
        for _ in 0..self.0.epochs {
            shuffle(&mut order, rng);
            for batch in order.chunks(BATCH) {
                adam.step(&mut network, train.view(), batch);
            }
            let error = network.mean_error(check.view());
            waited = if error < 0.998 * best.1 { 0 } else { waited + 1 };
            if error < best.1 {
                best = (network.clone(), error);
            }
            if waited == PATIENCE {
                break;
            }
        }
        best.0
    }
}

fn shuffle(order: &mut [usize], rng: &mut ChaCha8Rng) {
    for at in 1..order.len() {
        let count = u32::try_from(at + 1).expect("at most MAX_ROWS");
        order.swap(at, rng.gen_range(0..count) as usize);
    }
}

/// Root mean square of the error of each column.
fn usual_error(network: &Network, rows: ArrayView2<'_, f32>, width: usize) -> Vec<f64> {
    let mut squares = vec![0.0; width];
    for row in rows.rows() {
        let row = row.to_vec();
        for ((square, value), other) in squares.iter_mut().zip(&row).zip(network.repeat(&row)) {
            *square += f64::from(value - other).powi(2);
        }
    }
    squares.into_iter().map(|square| (square / rows.nrows() as f64).sqrt().max(SMALLEST_ERROR)).collect()
}

impl Autoencoder {
    fn validate(&self) -> Result<(), InvalidModel> {
        let width = self.scaler.columns().len();
        let fits = self.network.columns() == width
            && self.usual_error.len() == width
            && self.usual_error.iter().all(|error| error.is_finite() && *error >= SMALLEST_ERROR);
        if fits { Ok(()) } else { Err(InvalidModel("the parts of the autoencoder do not fit together")) }
    }
}

impl OneClass for Autoencoder {
    fn features(&self) -> usize {
        self.usual_error.len()
    }

    fn score(&self, row: &[f32]) -> f64 {
        self.contributions(row).iter().sum::<f64>().sqrt()
    }

    /// `(e_j / s_j)^2 / columns`: they sum to the squared score.
    fn contributions(&self, row: &[f32]) -> Vec<f64> {
        let scaled: Vec<f32> = self.scaler.scale(row).into_iter().map(narrow).collect();
        let repeated = self.network.repeat(&scaled);
        let width = scaled.len() as f64;
        let part = |((value, other), usual): ((&f32, &f32), &f64)| {
            ((f64::from(*value) - f64::from(*other)) / usual).powi(2) / width
        };
        scaled.iter().zip(&repeated).zip(&self.usual_error).map(part).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_from_other_columns_is_learnt() {
        let rows = Array2::from_shape_fn((1500, 4), |(at, column)| {
            let [a, b] = [(at * 7 % 53) as f32, (at * 11 % 59) as f32];
            [a, b, a + b, a - b][column]
        });
        let model = AutoencoderParams::new().hidden(12).middle(2).check().unwrap().fit(rows.view()).unwrap();
        let kept = model.score(&[30.0, 20.0, 50.0, 10.0]);
        let broken = model.score(&[30.0, 20.0, 100.0, 10.0]);
        assert!(broken > 3.0 * kept, "{kept} {broken}");
    }

    #[test]
    fn the_widest_network_can_be_read_back() {
        let rows = Array2::from_shape_fn((20, 2), |(at, _)| at as f32);
        let params = AutoencoderParams::new().hidden(MAX_HIDDEN).middle(MAX_HIDDEN).epochs(1).check().unwrap();
        let model = params.fit(rows.view()).unwrap();
        let text = serde_json::to_string(&model).unwrap();
        assert_eq!(serde_json::from_str::<Autoencoder>(&text).unwrap(), model);
    }
}
