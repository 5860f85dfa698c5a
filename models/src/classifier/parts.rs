//! Everything of a classifier but its trees, and the rules it keeps.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::params::{MAX_CLASSES, MAX_ROUNDS, is_share};
use super::trees::TreesError;
use super::{ClassifierTraining, MAX_METRICS, MetricsError};
use crate::baseline::check_names;
use crate::isolation_forest::MAX_FEATURES;

/// Everything but the trees: what a file says in words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Parts {
    pub(crate) columns: Vec<String>,
    pub(crate) classes: Vec<String>,
    pub(crate) rounds: u16,
    pub(crate) pass_at: f64,
    pub(crate) name_at: f64,
    pub(crate) normal_share: f64,
    pub(crate) training: ClassifierTraining,
    pub(crate) metrics: BTreeMap<String, f64>,
}

/// The rule that parts of a classifier break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum PartsError {
    #[error("{0}")]
    Rule(&'static str),
    #[error(transparent)]
    Trees(#[from] TreesError),
}

impl Parts {
    /// The number of columns, if a classifier can have these parts.
    pub(super) fn check(&self) -> Result<u16, PartsError> {
        let rows = &self.training.rows_per_class;
        let features = u16::try_from(self.columns.len()).ok().filter(|columns| (1..=MAX_FEATURES).contains(columns));
        let rules = [
            (check_names(&self.columns).is_ok(), "the names of the columns are not usable"),
            (are_classes(&self.classes), "the names of the classes are not usable"),
            (rows.len() == self.classes.len(), "there is not one number of rows for each class"),
            (rows.first().is_some_and(|rows| *rows > 0), "there are no normal training rows"),
            (rows.iter().skip(1).any(|rows| *rows > 0), "there are no attacks in the training rows"),
            ((1..=MAX_ROUNDS).contains(&self.rounds), "the number of rounds is out of range"),
            (is_share(self.pass_at) && is_share(self.name_at), "a probability to decide at is out of range"),
            (is_prior(self.normal_share), "the share of normal traffic is out of range"),
            (check_metrics(&self.metrics).is_ok(), "the metrics are not usable"),
        ];
        match rules.into_iter().find(|(holds, _)| !holds) {
            Some((_, rule)) => Err(PartsError::Rule(rule)),
            None => features.ok_or(PartsError::Rule("the number of columns is out of range")),
        }
    }
}

pub(super) fn are_classes<S: AsRef<str>>(names: &[S]) -> bool {
    (2..=usize::from(MAX_CLASSES)).contains(&names.len()) && check_names(names).is_ok()
}

pub(super) fn check_metrics(metrics: &BTreeMap<String, f64>) -> Result<(), MetricsError> {
    let names: Vec<&String> = metrics.keys().collect();
    let usable = metrics.len() <= MAX_METRICS && check_names(&names).is_ok();
    if usable && metrics.values().all(|value| value.is_finite()) { Ok(()) } else { Err(MetricsError) }
}

/// Large enough that its logarithm, and that of the rest, are numbers.
pub(super) fn is_prior(share: f64) -> bool {
    (f64::MIN_POSITIVE..1.0).contains(&share)
}
