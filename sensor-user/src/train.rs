//! `leuko train`: from tables and captures to a baseline, perhaps a classifier, and their card.
//!
//! What is normal is fitted, what is an attack is only measured (and, if asked for, fitted to a classifier). A fifth of
//! the rows, chosen by their content so that copies stay together, is held out of every fit and measured.

mod capture;
mod card;
mod fit;
mod input;
mod measure;
mod progress;
mod rows;
mod schema;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use sensor_models::{Classifier, ModelKind};
use serde::Serialize;

pub use self::progress::Progress;
pub use self::rows::{Origin, Rows};
pub use self::schema::Schema;
use crate::atomic;
use crate::replay::ReplayOptions;

/// How to train.
#[derive(Clone, Debug)]
pub struct TrainOptions {
    /// Fraction of the normal rows that are not normal, nobody knows which.
    pub contamination: f64,
    /// The only source of randomness.
    pub seed: u64,
    /// Models, each with its weight.
    pub recipe: Vec<(ModelKind, f64)>,
    /// Whether to fit a classifier, too.
    pub classes: bool,
    /// Share of normal flows where the classifier will run.
    pub prior: Option<f64>,
    /// How captures are replayed.
    pub replay: ReplayOptions,
}

/// What was trained.
#[derive(Clone, Debug)]
pub struct Trained {
    /// What the rows were and where they came from.
    pub rows: Rows,
    /// The baseline.
    pub baseline: sensor_models::Baseline,
    /// The classifier, if one was asked for.
    pub classifier: Option<Classifier>,
}

/// What was written where: the one line of `leuko train --json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename = "trained")]
pub struct Written {
    /// The baseline.
    pub model: PathBuf,
    /// The classifier.
    pub classifier: Option<PathBuf>,
    /// What both are worth.
    pub card: PathBuf,
    /// `flows`, or the name of the data set whose columns the model has.
    pub columns: &'static str,
    /// Whether `leuko run` and `leuko replay` can use the baseline.
    pub usable_by_run: bool,
    /// Rows of normal traffic, those held out included.
    pub normal_rows: usize,
    /// Rows of attacks.
    pub attack_rows: usize,
    /// Rows that are neither.
    pub left_out_rows: usize,
    /// What was measured of the baseline.
    pub metrics: sensor_models::Metrics,
    /// What was measured of the classifier.
    pub classifier_metrics: sensor_models::Metrics,
}

/// Reads `inputs`, fits, and measures. Nothing is written.
///
/// # Errors
/// An input that cannot be read or does not go with the others, too little normal traffic, or options out of range.
pub fn train(inputs: &[PathBuf], options: &TrainOptions, progress: &Progress) -> Result<Trained> {
    let rows = input::read_all(inputs, &options.replay, progress)?;
    fit::fit(rows, options, progress)
}

impl Trained {
    /// Writes the baseline to `output` and the rest beside it, each file as a whole or not at all.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write(&self, output: &Path, options: &TrainOptions) -> Result<Written> {
        let written = self.described(output);
        let card = card::markdown(self, options, &written);
        atomic::write(output, &self.baseline.to_bytes().context("write the baseline")?)?;
        if let (Some(classifier), Some(path)) = (&self.classifier, &written.classifier) {
            atomic::write(path, &classifier.to_bytes())?;
        }
        atomic::write(&written.card, card.as_bytes())?;
        Ok(written)
    }

    /// The damage of captures, told last: everything before it was used.
    ///
    /// # Errors
    /// If there is any.
    pub fn complain_of_damage(&self) -> Result<()> {
        match self.rows.origins.iter().find_map(|origin| Some((origin, origin.damage.as_ref()?))) {
            None => Ok(()),
            Some((origin, damage)) => {
                Err(anyhow!("{}: {damage}; trained on everything before it", origin.path.display()))
            }
        }
    }

    fn described(&self, output: &Path) -> Written {
        let Rows { schema, .. } = self.rows;
        Written {
            model: output.to_owned(),
            classifier: self.classifier.as_ref().map(|_| classifier_path(output)),
            card: atomic::with_suffix(output, ".md"),
            columns: schema.name(),
            usable_by_run: schema.is_of_the_sensor(),
            normal_rows: self.rows.count(|class| class == Some(0)),
            attack_rows: self.rows.count(|class| class.is_some_and(|class| class > 0)),
            left_out_rows: self.rows.count(|class| class.is_none()),
            metrics: self.baseline.metrics().clone(),
            classifier_metrics: self.classifier.as_ref().map(|it| it.metrics().clone()).unwrap_or_default(),
        }
    }
}

/// Where the classifier of a baseline goes: `office.leuko` has `office.classes.leuko`.
fn classifier_path(output: &Path) -> PathBuf {
    match output.extension().and_then(|extension| extension.to_str()) {
        Some(extension) => output.with_extension(format!("classes.{extension}")),
        None => atomic::with_suffix(output, ".classes"),
    }
}
