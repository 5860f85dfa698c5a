//! What is normal here: an ensemble of models over named features, and the usual range of each feature.

use std::collections::{BTreeMap, HashSet};

use ndarray::{Array2, ArrayView2, Axis, Slice};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::calibrate::Calibration;
use crate::ensemble::{Ensemble, EnsembleError, USUAL};
use crate::explain::{Counterfactual, FeatureSummary, Reference};
use crate::feedback::{FeedbackError, FeedbackParams, FeedbackSet};
use crate::isolation_forest::{FitError, check_rows, draw};
use crate::model::ModelKind;
use crate::one_class::OneClass as _;
use crate::scale::Scaler;

/// Fewest rows a baseline is fitted to: 70 to fit, 30 to calibrate, smallest p-value 1/31.
pub const MIN_ROWS: usize = 100;
/// Most rows that calibrate; the others fit.
pub const MAX_CALIBRATION_ROWS: usize = 65_536;
/// Part of the rows that calibrate, while they are fewer.
const CALIBRATION_PERCENT: u64 = 30;
/// Longest column name, in bytes.
pub const MAX_COLUMN_NAME: usize = 64;
/// Largest fraction of the training rows that may be taken for something else than normal traffic.
pub const MAX_CONTAMINATION: f64 = 0.5;

/// A trained model of normal traffic. Written and read by [`format`](mod@crate::format).
#[derive(Clone, Debug, PartialEq)]
pub struct Baseline {
    schema: Vec<String>,
    training: Training,
    metrics: Metrics,
    reference: Reference,
    scaler: Scaler,
    ensemble: Ensemble,
}

/// What was measured of a model, by name; the unit is in the name.
pub type Metrics = BTreeMap<String, f64>;

/// What a baseline is fitted with, as the caller wrote it: [`check`](Self::check) turns it into
/// [`ValidBaselineParams`].
#[derive(Clone, Debug, PartialEq)]
pub struct BaselineParams {
    recipe: Vec<(ModelKind, f64)>,
    contamination: f64,
    seed: u64,
}

/// Parameters that were checked; they can [`fit`](Self::fit).
#[derive(Clone, Debug, PartialEq)]
pub struct ValidBaselineParams(BaselineParams);

/// Where a baseline comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Training {
    /// Rows given; those not used to fit were used to calibrate, or left out as contamination or as confirmed attacks.
    pub rows: u32,
    /// Rows the models were fitted to, copies of false positives aside.
    pub fit_rows: u32,
    /// Seed of the split and of the models.
    pub seed: u64,
    /// Event time of the training, seconds since the Unix epoch, as the caller gave it.
    pub trained_at_s: u64,
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
#[derive(Clone, Debug, PartialEq, Error)]
pub enum BaselineError {
    /// The rows do not suit the models, or are fewer than [`MIN_ROWS`].
    #[error(transparent)]
    Fit(#[from] FitError),
    /// The schema does not name each column once.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// What the user said does not suit the rows.
    #[error(transparent)]
    Feedback(#[from] FeedbackError),
    /// The models cannot be fitted or calibrated.
    #[error(transparent)]
    Ensemble(#[from] EnsembleError),
    /// A fraction that is out of range.
    #[error("contamination {0}: choose a fraction from 0 to {MAX_CONTAMINATION}, 0 if all rows are known to be normal")]
    Contamination(f64),
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

impl BaselineParams {
    /// The [usual models](USUAL), no contamination, seed 0.
    #[must_use]
    pub fn new() -> Self {
        Self { recipe: USUAL.to_vec(), contamination: 0.0, seed: 0 }
    }

    /// The models, each with its weight.
    #[must_use]
    pub fn recipe(mut self, recipe: &[(ModelKind, f64)]) -> Self {
        self.recipe = recipe.to_vec();
        self
    }

    /// Fraction of the training rows that are not normal, nobody knows which: that many of the rows that look most
    /// anomalous to a fit on the other half of the rows are left out.
    #[must_use]
    pub fn contamination(mut self, fraction: f64) -> Self {
        self.contamination = fraction;
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
    /// A contamination that is out of range. Recipes are checked when they are fitted.
    pub fn check(self) -> Result<ValidBaselineParams, BaselineError> {
        if (0.0..=MAX_CONTAMINATION).contains(&self.contamination) {
            Ok(ValidBaselineParams(self))
        } else {
            Err(BaselineError::Contamination(self.contamination))
        }
    }
}

impl Default for BaselineParams {
    fn default() -> Self {
        Self::new()
    }
}

impl ValidBaselineParams {
    /// Fits a baseline to `rows` of normal traffic, one example a row, one column for each name in `schema`.
    ///
    /// A seeded random 70 % of the rows fit the models, the others (at most [`MAX_CALIBRATION_ROWS`]) calibrate them:
    /// p-values are only honest on rows the models have not seen. `trained_at_s` is seconds since the Unix epoch and is
    /// only kept.
    ///
    /// # Errors
    /// Fewer than [`MIN_ROWS`] rows (after contamination is left out), a value that is not finite, a schema that does not
    /// fit the columns, or a recipe without models or with weights that are not positive.
    pub fn fit(
        &self,
        schema: &[&str],
        rows: ArrayView2<'_, f32>,
        trained_at_s: u64,
    ) -> Result<Baseline, BaselineError> {
        let nothing = FeedbackParams::new().check().expect("the usual values are in range");
        self.fit_marked(schema, rows, trained_at_s, &FeedbackSet::new(nothing))
    }

    /// [`Self::fit`] with what the user said: rows like a confirmed attack are left out, and false positives are learned.
    ///
    /// # Errors
    /// As [`Self::fit`]; also marked rows with other columns than `rows`.
    pub fn fit_marked(
        &self,
        schema: &[&str],
        rows: ArrayView2<'_, f32>,
        trained_at_s: u64,
        marked: &FeedbackSet,
    ) -> Result<Baseline, BaselineError> {
        check_names(schema)?;
        if rows.ncols() != schema.len() {
            return Err(SchemaError::Width { expected: schema.len(), found: rows.ncols() }.into());
        }
        let (given, _) = check_rows(rows)?;
        let clean = marked.clean(rows)?.rows;
        let rows = self.without_contamination(clean.view())?.unwrap_or(clean);
        let (fit, held_out) = self.split(rows.view(), CALIBRATION_PERCENT)?;
        let (learned, judged) = (rows.select(Axis(0), &fit), rows.select(Axis(0), &held_out));
        let learned = marked.reinforce(learned.view())?;
        let ensemble = Ensemble::fit(&self.0.recipe, learned.view(), judged.view(), self.0.seed)?;
        Ok(Baseline {
            schema: schema.iter().map(ToString::to_string).collect(),
            training: Training {
                rows: given,
                fit_rows: u32::try_from(fit.len()).expect("the number of rows was checked"),
                seed: self.0.seed,
                trained_at_s,
            },
            metrics: Metrics::new(),
            reference: Reference::fit(rows.view())?,
            scaler: Scaler::fit(rows.view())?,
            ensemble,
        })
    }

    /// The rows of each half that are not the most anomalous ones to a fit on the other half; none if all are to be kept.
    fn without_contamination(&self, rows: ArrayView2<'_, f32>) -> Result<Option<Array2<f32>>, BaselineError> {
        if self.0.contamination == 0.0 {
            return Ok(None);
        }
        let (half, other) = self.split(rows, 50)?;
        let mut kept = Vec::with_capacity(rows.nrows());
        for (fit, judged) in [(&half, &other), (&other, &half)] {
            let (learned, others) = (rows.select(Axis(0), fit), rows.select(Axis(0), judged));
            let calibrating = every_nth(&others, others.nrows().div_ceil(MAX_CALIBRATION_ROWS));
            let ensemble = Ensemble::fit(&self.0.recipe, learned.view(), calibrating, self.0.seed)?;
            let scores = ensemble.score_batch(others.view());
            let mut order: Vec<usize> = (0..judged.len()).collect();
            order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most half of the rows")]
            let left_out = (self.0.contamination * judged.len() as f64).round() as usize;
            kept.extend(order[left_out..].iter().map(|at| judged[*at]));
        }
        kept.sort_unstable();
        Ok(Some(rows.select(Axis(0), &kept)))
    }

    /// Row numbers to fit on and, for `percent` of the rows, to calibrate on; each in ascending order.
    fn split(&self, rows: ArrayView2<'_, f32>, percent: u64) -> Result<(Vec<usize>, Vec<usize>), BaselineError> {
        if rows.nrows() < MIN_ROWS {
            return Err(FitError::TooFewRows { rows: rows.nrows(), needed: MIN_ROWS }.into());
        }
        let count = u32::try_from(rows.nrows()).map_err(|_| FitError::TooManyRows(rows.nrows()))?;
        Ok(split(count, percent, self.0.seed))
    }
}

impl Baseline {
    /// Score of a row, in [0, 1): 1 minus the weighted geometric mean of what each model takes for its p-value; see
    /// [`ensemble`](crate::ensemble).
    ///
    /// # Panics
    /// If `row` does not have one value for each column of the schema.
    #[must_use]
    pub fn score(&self, row: &[f32]) -> f64 {
        self.ensemble.score(row)
    }

    /// Probability that normal traffic scores at least as high as `row`, in (0, 1]; see [`calibrate`](crate::calibrate).
    ///
    /// # Panics
    /// If `row` does not have one value for each column of the schema.
    #[must_use]
    pub fn p_value(&self, row: &[f32]) -> f64 {
        self.ensemble.p_value(row)
    }

    /// P-value of a score, falling on beyond the largest score of the calibration, where [`Self::p_value`] has one value
    /// for all. A score is 1 less a mean of p-values, so that `-ln(1 - score)` has a tail close to exponential; its mean
    /// excess above the 90th percentile says how fast it falls. An estimate, not the promise of the calibration.
    #[must_use]
    pub fn tail_p_value(&self, score: f64) -> f64 {
        let calibration = self.calibration();
        let scores = calibration.scores();
        let evidence = |score: f64| -(1.0 - score).max(f64::EPSILON).ln();
        let beyond = evidence(score) - evidence(calibration.max());
        let p_value = calibration.p_value(score);
        if beyond.is_nan() || beyond <= 0.0 {
            return p_value;
        }
        let high = calibration.quantile(0.9);
        let above = scores.partition_point(|other| *other < high);
        let excesses: f64 = scores[above..].iter().map(|other| evidence(*other) - evidence(high)).sum();
        let mean = (excesses / (scores.len() - above) as f64).max(1.0);
        p_value * (-beyond / mean).exp()
    }

    /// The features that speak most for `row` being anomalous, the strongest first, at most `top`.
    ///
    /// A share is the feature's part of all positive contributions to the ensemble. Features that do not speak for an
    /// anomaly are left out, so that an ordinary row may have no explanation at all.
    ///
    /// # Panics
    /// If `row` does not have one value for each column of the schema.
    #[must_use]
    pub fn explain(&self, row: &[f32], top: usize) -> Vec<Explanation> {
        let mut credits: Vec<(usize, f64)> =
            self.ensemble.contributions(row).into_iter().enumerate().filter(|(_, credit)| *credit > 0.0).collect();
        let total: f64 = credits.iter().map(|(_, credit)| credit).sum();
        credits.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        credits.truncate(top);
        credits
            .into_iter()
            .map(|(feature, credit)| {
                let FeatureSummary { median, p99, p01 } = self.reference.columns()[feature];
                Explanation { feature, value: row[feature], median, p99, p01, share: credit / total }
            })
            .collect()
    }

    /// The change that would give `row` a p-value above `p_value`; see [`explain`](mod@crate::explain).
    ///
    /// # Panics
    /// If `row` does not have one value for each column of the schema.
    #[must_use]
    pub fn smallest_change(&self, row: &[f32], p_value: f64) -> Counterfactual {
        let threshold = self.calibration().quantile(1.0 - p_value);
        self.reference.smallest_change(&self.ensemble, row, threshold)
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

    /// This baseline with what was measured of it; without what has no number or no printable name of 1 to
    /// [`MAX_COLUMN_NAME`] bytes.
    #[must_use]
    pub fn with_metrics(mut self, metrics: Metrics) -> Self {
        self.metrics = metrics.into_iter().filter(|(name, value)| is_name(name) && value.is_finite()).collect();
        self
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

    /// What was measured of this baseline when it was trained.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The usual range of each column, in the order of the schema.
    #[must_use]
    pub fn reference(&self) -> &Reference {
        &self.reference
    }

    /// The scale on which rows of this network are near or far; for [`FeedbackSet::known`].
    #[must_use]
    pub fn scaler(&self) -> &Scaler {
        &self.scaler
    }

    /// The models behind the scores.
    #[must_use]
    pub fn ensemble(&self) -> &Ensemble {
        &self.ensemble
    }

    /// The scores behind the p-values.
    #[must_use]
    pub fn calibration(&self) -> &Calibration {
        self.ensemble.calibration()
    }

    /// A baseline of parts that were read: each is valid on its own, this checks that they belong together.
    pub(crate) fn from_parts(
        (schema, training, metrics): (Vec<String>, Training, Metrics),
        (reference, scaler): (Reference, Scaler),
        ensemble: Ensemble,
    ) -> Result<Self, &'static str> {
        if check_names(&schema).is_err() {
            return Err("the names of the columns are not usable");
        }
        if !metrics.keys().all(|name| is_name(name)) {
            return Err("the names of the metrics are not usable");
        }
        if [ensemble.features(), reference.columns().len(), scaler.columns().len()] != [schema.len(); 3] {
            return Err("the parts do not have the same columns");
        }
        let calibrated = u64::try_from(ensemble.calibration().len()).unwrap_or(u64::MAX);
        if u64::from(training.fit_rows).checked_add(calibrated).is_none_or(|used| used > u64::from(training.rows)) {
            return Err("the numbers of rows do not add up");
        }
        Ok(Self { schema, training, metrics, reference, scaler, ensemble })
    }
}

fn split(count: u32, percent: u64, seed: u64) -> (Vec<usize>, Vec<usize>) {
    let held_out = u64::from(count) * percent / 100;
    let held_out = u32::try_from(held_out.min(MAX_CALIBRATION_ROWS as u64)).expect("less than count");
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

/// The first row and each `n`-th after it.
fn every_nth(rows: &Array2<f32>, n: usize) -> ArrayView2<'_, f32> {
    let step = isize::try_from(n).expect("memory holds as many rows");
    rows.slice_axis(Axis(0), Slice::new(0, None, step))
}

/// The models use stream 0 of the same seed.
const SPLIT_STREAM: u64 = 1;

pub(crate) fn check_names<S: AsRef<str>>(schema: &[S]) -> Result<(), SchemaError> {
    let mut seen = HashSet::new();
    match schema.iter().map(AsRef::as_ref).position(|name| !is_name(name) || !seen.insert(name)) {
        Some(at) => Err(SchemaError::Name(at)),
        None => Ok(()),
    }
}

fn is_name(name: &str) -> bool {
    (1..=MAX_COLUMN_NAME).contains(&name.len()) && !name.contains(char::is_control)
}

#[cfg(test)]
mod tests;
