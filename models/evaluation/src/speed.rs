//! What a score costs, one core, nothing else running.

use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use ndarray::{Array2, ArrayView2, Axis};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use sensor_models::IsolationForestParams;
use serde::Serialize;

use crate::contestants::{self, SEED};
use crate::floors::{self, Costs, Floors};
use crate::{Prepared, PreparedSet};

/// Rows of a batch.
pub const BATCH: usize = 10_000;

/// Columns of made-up rows, as many as UNSW-NB15 has numbers.
pub const COLUMNS: usize = 31;

/// What scikit-learn's Isolation Forest has when it is not told.
const TREES: u32 = 100;
const SAMPLE_SIZE: u32 = 256;

/// What a score of one model costs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cost {
    /// Name of the model.
    pub model: String,
    /// Whether it is scikit-learn's.
    pub floor: bool,
    /// Microseconds a row in a batch of [`BATCH`].
    pub batch_us: f64,
    /// Microseconds for one row alone.
    pub single_us: f64,
}

/// Fits each model to the rows of `set` and measures the scores of its validation rows.
///
/// # Errors
/// A model that cannot be fitted, or a script that fails.
pub fn measure(data: &Prepared, set: &PreparedSet, floors: Option<&Floors>) -> Result<Vec<Cost>> {
    let mut costs = Vec::new();
    if let Some(floors) = floors {
        let Costs { isolation_forest, random_forest } = floors.costs()?;
        for (model, cost) in [("isolation forest", isolation_forest), ("random forest", random_forest)] {
            costs.push(floor(model, cost));
        }
    }
    let rows = set.rows.select(Axis(0), &data.validation[..data.validation.len().min(BATCH)]);
    let normal = set.rows.select(Axis(0), &data.fit_normal);
    let calibration = set.rows.select(Axis(0), &data.calibration);
    for (name, fitted) in contestants::one_class(normal.view(), calibration.view())? {
        let batch = |rows: ArrayView2<'_, f32>| {
            black_box(fitted.score_batch(rows));
        };
        costs.push(cost(name, &rows, batch, |row| fitted.score(row)));
    }
    let fit = set.rows.select(Axis(0), &data.fit);
    let families: Vec<u16> = data.fit.iter().map(|row| data.data.family[*row]).collect();
    for model in contestants::SUPERVISED {
        let fitted = (model.fit)(fit.view(), &families, data.truth(&[]).families + 1, SEED)?;
        let batch = |rows: ArrayView2<'_, f32>| {
            black_box(fitted.score_batch(rows));
        };
        costs.push(cost(model.name, &rows, batch, |row| fitted.score(row)));
    }
    Ok(costs)
}

/// What a score of our Isolation Forest costs and one of scikit-learn's, with the same parameters and the same made-up
/// rows of [`COLUMNS`] columns, which spread as durations and octets do.
///
/// # Errors
/// A model that cannot be fitted, or a script that fails.
pub fn isolation_forests(python: Option<&Path>) -> Result<(Cost, Option<Cost>)> {
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    let mut rows = |count| {
        let value = || (0..4).map(|_| random.gen_range(-2.0_f32..2.0)).sum::<f32>().exp();
        Array2::from_shape_simple_fn((count, COLUMNS), value)
    };
    let (fit, scored) = (rows(BATCH), rows(BATCH));
    let fitted =
        IsolationForestParams::new().trees(TREES).sample_size(SAMPLE_SIZE).seed(SEED).check()?.fit(fit.view())?;
    let batch = |rows: ArrayView2<'_, f32>| {
        black_box(fitted.score_batch(rows));
    };
    let ours = cost("Isolation Forest", &scored, batch, |row| fitted.score(row));
    let theirs = python.map(|python| floors::isolation_forest_cost(python, &fit, &scored)).transpose()?;
    Ok((ours, theirs.map(|cost| floor("isolation forest", cost))))
}

fn floor(model: &str, cost: floors::Cost) -> Cost {
    let (batch_us, single_us) = (cost.batch * 1e6, cost.single * 1e6);
    Cost { model: format!("scikit-learn {model}"), floor: true, batch_us, single_us }
}

fn cost(model: &str, rows: &Array2<f32>, batch: impl Fn(ArrayView2<'_, f32>), single: impl Fn(&[f32]) -> f64) -> Cost {
    let one = |row: usize| rows.row(row % rows.nrows()).to_vec();
    let few: Vec<Vec<f32>> = (0..1000).map(one).collect();
    let count = rows.nrows() as f64;
    Cost {
        model: model.to_owned(),
        floor: false,
        batch_us: 1e6 * least_seconds(20, || batch(rows.view())) / count,
        single_us: 1e6
            * least_seconds(20, || {
                for row in &few {
                    black_box(single(black_box(row)));
                }
            })
            / few.len() as f64,
    }
}

/// The quickest of several runs: what else a machine does can only add to it.
#[expect(clippy::disallowed_methods, reason = "measures time")]
fn least_seconds(runs: usize, call: impl Fn()) -> f64 {
    let seconds = || {
        let start = Instant::now();
        call();
        start.elapsed().as_secs_f64()
    };
    (0..runs).map(|_| seconds()).fold(f64::INFINITY, f64::min)
}
