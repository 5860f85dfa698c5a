//! Measures the models of Leuko on public labelled data, beside scikit-learn on the same rows, and writes the cards.
//!
//! - [`datasets`]: the data, read from compressed CSV files that are not part of this repository.
//! - [`columns`]: which columns a model sees, and which none may ever see.
//! - [`split`]: which rows fit, which calibrate and which are measured.
//! - [`measures`]: what is measured, with exact definitions, and how sure it is.
//! - [`contestants`]: the models, one line each.
//! - [`evaluate`]: fits, scores and measures all of them.
//! - [`floors`]: the same rows scored by scikit-learn.
//! - [`parity`]: whether our Isolation Forest is scikit-learn's.
//! - [`speed`]: what a score costs.
//! - [`card`]: the result as Markdown.
//!
//! Measures detection on labelled captures:
//!
//! - [`detection`]: what is found, how soon, and what is said besides.
//!
//! And trains what is shipped:
//!
//! - [`captures`]: flows of labelled captures in the sensor's own columns.
//! - [`attack_classes`]: the classifier fitted to them, and what it is worth.

#![forbid(unsafe_code)]
#![expect(clippy::print_stderr, reason = "progress of a command line program")]

pub mod attack_classes;
pub mod captures;
pub mod card;
pub mod columns;
pub mod contestants;
pub mod datasets;
pub mod detection;
pub mod evaluate;
pub mod floors;
pub mod measures;
pub mod parity;
pub mod speed;
pub mod split;

use ndarray::Array2;

use columns::ColumnSet;
use datasets::Dataset;
use measures::{Scores, Truth};
use split::{Part, Split};

/// A data set, split, with the rows of each of its column sets.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The data.
    pub data: Dataset,
    /// The split.
    pub split: Split,
    /// Its column sets.
    pub sets: Vec<PreparedSet>,
    /// Normal rows that models are fitted to.
    pub fit_normal: Vec<usize>,
    /// Rows, normal or not, that classifiers are fitted to.
    pub fit: Vec<usize>,
    /// Normal rows that thresholds are chosen on.
    pub calibration: Vec<usize>,
    /// Rows that are measured.
    pub validation: Vec<usize>,
    /// Families of the validation rows.
    family: Vec<u16>,
}

/// All rows in the columns of one set.
#[derive(Clone, Debug)]
pub struct PreparedSet {
    /// The set.
    pub set: ColumnSet,
    /// One row for each row of the data.
    pub rows: Array2<f32>,
    /// Names of the columns.
    pub names: Vec<String>,
}

impl Prepared {
    /// Splits `data` and lays out its column sets.
    #[must_use]
    pub fn new(data: Dataset) -> Self {
        let split = Split::of(&data);
        let normal = |row: usize| data.family[row] == 0;
        let fitted: Vec<bool> = split.part.iter().map(|part| *part == Part::Fit).collect();
        let prepare = |set: &ColumnSet| {
            let (rows, names) = set.rows(&data, &fitted);
            PreparedSet { set: *set, rows, names }
        };
        let validation = split.rows(Part::Validation, |_| true);
        Self {
            sets: data.source.sets.iter().map(prepare).collect(),
            fit_normal: split.rows(Part::Fit, normal),
            fit: split.rows(Part::Fit, |_| true),
            calibration: split.rows(Part::Calibration, normal),
            family: validation.iter().map(|row| data.family[*row]).collect(),
            validation,
            split,
            data,
        }
    }

    /// The validation rows, weighted by `weight`, which has a value for each of them.
    #[must_use]
    pub fn truth<'a>(&'a self, weight: &'a [f64]) -> Truth<'a> {
        Truth { family: &self.family, weight, families: self.data.source.attacks().count().try_into().unwrap_or(0) }
    }

    /// Of scores for all rows, those that are needed.
    #[must_use]
    pub fn scores(&self, score: impl Fn(usize) -> f64) -> Scores {
        Scores {
            calibration: self.calibration.iter().map(|row| score(*row)).collect(),
            validation: self.validation.iter().map(|row| score(*row)).collect(),
        }
    }
}
