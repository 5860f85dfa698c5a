//! What is normal here: a forest with named features, its calibration and the usual range of each feature.

use std::collections::HashSet;

use ndarray::{ArrayView2, Axis};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::calibrate::{Calibration, CalibrationError, MAX_SCORES};
use crate::isolation_forest::{FitError, IsolationForest, ValidParams, check_rows, draw};

/// Fewest rows a baseline is fitted to: 70 to fit, 30 to calibrate, smallest p-value 1/31.
pub const MIN_ROWS: usize = 100;
/// Longest column name, in bytes.
pub const MAX_COLUMN_NAME: usize = 64;

/// A trained model of normal traffic. Written and read by [`format`](mod@crate::format).
#[derive(Clone, Debug, PartialEq)]
pub struct Baseline {
    schema: Vec<String>,
    training: Training,
    summaries: Vec<FeatureSummary>,
    forest: IsolationForest,
    calibration: Calibration,
}

/// Where a baseline comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Training {
    /// Rows given; those not used to fit were used to calibrate.
    pub rows: u32,
    /// Rows the forest was fitted to.
    pub fit_rows: u32,
    /// Seed of the split and of the forest.
    pub seed: u64,
    /// Event time of the training, seconds since the Unix epoch, as the caller gave it.
    pub trained_at_s: u64,
}

/// The usual range of one feature over all training rows, in its own unit. Quantiles by nearest rank: each is a value
/// that was seen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FeatureSummary {
    /// Half of the rows are at or below.
    pub median: f32,
    /// 99 % of the rows are at or below.
    pub p99: f32,
    /// 1 % of the rows are at or below.
    pub p01: f32,
}

/// Why a row is anomalous: one feature, its value, and what is usual.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Explanation {
    /// Column in the schema.
    pub feature: usize,
    /// Value in the row that is explained.
    pub value: f32,
    /// Median of the training rows.
    pub median: f32,
    /// 99th percentile of the training rows.
    pub p99: f32,
    /// 1st percentile of the training rows.
    pub p01: f32,
    /// Fraction of all that speaks for an anomaly, in (0, 1].
    pub share: f64,
}

/// Training data that no baseline can be fitted to.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BaselineError {
    /// The rows do not suit a forest, or are fewer than [`MIN_ROWS`].
    #[error(transparent)]
    Fit(#[from] FitError),
    /// The schema does not name each column once.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// The scores of the calibration rows are unusable.
    #[error(transparent)]
    Calibration(#[from] CalibrationError),
}

/// Columns that are not the expected ones.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SchemaError {
    /// Not as many columns.
    #[error("{found} feature columns where {expected} are expected: retrain the baseline with this version")]
    Width {
        /// Columns wanted.
        expected: usize,
        /// Columns there are.
        found: usize,
    },
    /// Another column at this position.
    #[error("feature column {at} is {found:?} where {expected:?} is expected: retrain the baseline with this version")]
    Column {
        /// Position, from 0.
        at: usize,
        /// Name wanted.
        expected: String,
        /// Name there is.
        found: String,
    },
    /// An empty name, one longer than [`MAX_COLUMN_NAME`], with control characters, or used before.
    #[error("feature column {0} needs a printable name of its own of 1 to {MAX_COLUMN_NAME} bytes")]
    Name(usize),
}

impl Baseline {
    /// Fits a baseline to `rows` of normal traffic, one example a row, one column for each name in `schema`.
    ///
    /// A seeded random 70 % of the rows fit the forest, the others (at most [`MAX_SCORES`]) calibrate it: p-values are
    /// only honest on rows the forest has not seen. `trained_at_s` is seconds since the Unix epoch and is only kept.
    ///
    /// # Errors
    /// Fewer than [`MIN_ROWS`] rows, a value that is not finite, or a schema that does not fit the columns.
    pub fn fit(
        schema: &[&str],
        rows: ArrayView2<'_, f32>,
        params: ValidParams,
        trained_at_s: u64,
    ) -> Result<Self, BaselineError> {
        check_names(schema)?;
        if rows.ncols() != schema.len() {
            return Err(SchemaError::Width { expected: schema.len(), found: rows.ncols() }.into());
        }
        let (count, _) = check_rows(rows)?;
        if rows.nrows() < MIN_ROWS {
            return Err(FitError::TooFewRows { rows: rows.nrows(), needed: MIN_ROWS }.into());
        }
        let (fit, held_out) = split(count, params.seed());
        let forest = params.fit(rows.select(Axis(0), &fit).view())?;
        let scores = forest.score_batch(rows.select(Axis(0), &held_out).view());
        Ok(Self {
            schema: schema.iter().map(ToString::to_string).collect(),
            training: Training {
                rows: count,
                fit_rows: count - u32::try_from(held_out.len()).expect("at most MAX_SCORES"),
                seed: params.seed(),
                trained_at_s,
            },
            summaries: rows.columns().into_iter().map(|column| FeatureSummary::of(column.to_vec())).collect(),
            calibration: Calibration::new(scores.to_vec())?,
            forest,
        })
    }

    /// Raw score of a row, in (0, 1): 0.5 is average, towards 1 is anomalous.
    ///
    /// # Panics
    /// If `row` does not have one value for each column of the schema.
    #[must_use]
    pub fn score(&self, row: &[f32]) -> f64 {
        self.forest.score(row)
    }

    /// Probability that normal traffic scores at least as high as `row`, in (0, 1]; see [`calibrate`](crate::calibrate).
    ///
    /// # Panics
    /// If `row` does not have one value for each column of the schema.
    #[must_use]
    pub fn p_value(&self, row: &[f32]) -> f64 {
        self.calibration.p_value(self.score(row))
    }

    /// The features that speak most for `row` being anomalous, the strongest first, at most `top`.
    ///
    /// A share is the feature's part of all positive [contributions](IsolationForest::contributions). Features that do
    /// not speak for an anomaly are left out, so that an ordinary row may have no explanation at all.
    ///
    /// # Panics
    /// If `row` does not have one value for each column of the schema.
    #[must_use]
    pub fn explain(&self, row: &[f32], top: usize) -> Vec<Explanation> {
        let mut credits: Vec<(usize, f64)> =
            self.forest.contributions(row).into_iter().enumerate().filter(|(_, credit)| *credit > 0.0).collect();
        let total: f64 = credits.iter().map(|(_, credit)| credit).sum();
        credits.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        credits.truncate(top);
        credits
            .into_iter()
            .map(|(feature, credit)| {
                let FeatureSummary { median, p99, p01 } = self.summaries[feature];
                Explanation { feature, value: row[feature], median, p99, p01, share: credit / total }
            })
            .collect()
    }

    /// Checks that rows made for `schema` are rows of this baseline.
    ///
    /// # Errors
    /// The first difference.
    pub fn expect_schema(&self, schema: &[&str]) -> Result<(), SchemaError> {
        if schema.len() != self.schema.len() {
            return Err(SchemaError::Width { expected: schema.len(), found: self.schema.len() });
        }
        match schema.iter().zip(&self.schema).position(|(expected, found)| expected != found) {
            None => Ok(()),
            Some(at) => {
                Err(SchemaError::Column { at, expected: schema[at].to_owned(), found: self.schema[at].clone() })
            }
        }
    }

    /// Names of the columns, in order.
    #[must_use]
    pub fn schema(&self) -> &[String] {
        &self.schema
    }

    /// Where this baseline comes from.
    #[must_use]
    pub fn training(&self) -> &Training {
        &self.training
    }

    /// The usual range of each column, in the order of the schema.
    #[must_use]
    pub fn summaries(&self) -> &[FeatureSummary] {
        &self.summaries
    }

    /// The model behind the scores.
    #[must_use]
    pub fn forest(&self) -> &IsolationForest {
        &self.forest
    }

    /// The scores behind the p-values.
    #[must_use]
    pub fn calibration(&self) -> &Calibration {
        &self.calibration
    }

    /// A baseline of parts that were read: each is valid on its own, this checks that they belong together.
    pub(crate) fn from_parts(
        schema: Vec<String>,
        training: Training,
        summaries: Vec<FeatureSummary>,
        (forest, calibration): (IsolationForest, Calibration),
    ) -> Result<Self, &'static str> {
        let calibrated = u32::try_from(calibration.len()).ok();
        if check_names(&schema).is_err() {
            return Err("the names of the columns are not usable");
        }
        if schema.len() != forest.features() || schema.len() != summaries.len() {
            return Err("the parts do not have the same columns");
        }
        if summaries.iter().any(|summary| !summary.is_ordered()) {
            return Err("the percentiles of a column are out of order");
        }
        if forest.sample_size() > training.fit_rows || training.rows.checked_sub(training.fit_rows) != calibrated {
            return Err("the numbers of rows do not add up");
        }
        Ok(Self { schema, training, summaries, forest, calibration })
    }
}

impl FeatureSummary {
    /// Of finite values, at least one.
    fn of(mut values: Vec<f32>) -> Self {
        values.sort_unstable_by(f32::total_cmp);
        let percentile = |percent: usize| values[(values.len() * percent).div_ceil(100) - 1];
        Self { median: percentile(50), p99: percentile(99), p01: percentile(1) }
    }

    fn is_ordered(&self) -> bool {
        self.p01.is_finite() && self.p01 <= self.median && self.median <= self.p99 && self.p99.is_finite()
    }
}

/// Row numbers to fit on and to calibrate on, each in ascending order.
fn split(count: u32, seed: u64) -> (Vec<usize>, Vec<usize>) {
    const CALIBRATION_PERCENT: u64 = 30;
    let held_out = u64::from(count) * CALIBRATION_PERCENT / 100;
    let held_out = u32::try_from(held_out.min(MAX_SCORES as u64)).expect("less than count");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(SPLIT_STREAM);
    let mut order: Vec<u32> = (0..count).collect();
    draw(&mut order, held_out, &mut rng);
    let sorted = |rows: &[u32]| {
        let mut rows: Vec<usize> = rows.iter().map(|&row| row as usize).collect();
        rows.sort_unstable();
        rows
    };
    let (calibrate, fit) = order.split_at(held_out as usize);
    (sorted(fit), sorted(calibrate))
}

/// The forest uses stream 0 of the same seed.
const SPLIT_STREAM: u64 = 1;

pub(crate) fn check_names<S: AsRef<str>>(schema: &[S]) -> Result<(), SchemaError> {
    let mut seen = HashSet::new();
    let usable = |name: &str| (1..=MAX_COLUMN_NAME).contains(&name.len()) && !name.contains(char::is_control);
    match schema.iter().map(AsRef::as_ref).position(|name| !usable(name) || !seen.insert(name)) {
        Some(at) => Err(SchemaError::Name(at)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
