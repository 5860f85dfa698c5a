//! What a score costs, one core, nothing else running.

use std::hint::black_box;
use std::time::Instant;

use anyhow::Result;
use ndarray::{Array2, ArrayView2, Axis};
use serde::Serialize;

use crate::contestants::{self, SEED};
use crate::floors::{Costs, Floors};
use crate::{Prepared, PreparedSet};

/// Rows of a batch.
pub const BATCH: usize = 10_000;

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
            let (batch_us, single_us) = (cost.batch * 1e6, cost.single * 1e6);
            costs.push(Cost { model: format!("scikit-learn {model}"), floor: true, batch_us, single_us });
        }
    }
    let rows = set.rows.select(Axis(0), &data.validation[..data.validation.len().min(BATCH)]);
    let normal = set.rows.select(Axis(0), &data.fit_normal);
    for model in contestants::ONE_CLASS {
        let fitted = (model.fit)(normal.view(), SEED)?;
        let batch = |rows: ArrayView2<'_, f32>| {
            black_box(fitted.score_batch(rows));
        };
        costs.push(cost(model.name, &rows, batch, |row| fitted.score(row)));
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
