//! Names the class of an attack: gradient boosted trees fitted to rows whose class is known.
//!
//! ```text
//! margin_c(row)  = ln prior_c + sum over the trees of class c of the value of the leaf the row is in
//! p(c | row)     = exp margin_c / sum over the classes of exp margin
//! ```
//!
//! Class 0 is normal traffic. Trees compare one column with a threshold: units and monotone scales do not matter, and a
//! row with NaN or infinities has a probability, too (NaN goes where large values go).
//!
//! How common attacks are in training rows says nothing of a network. Probabilities are those of the shares in the
//! training rows until [`Classifier::with_prior`] gives them the share of normal traffic to expect; `p'(c | row)` is
//! then proportional to `p(c | row) prior'_c / prior_c`. Source: Saerens, Latinne, Decaestecker, "Adjusting the outputs
//! of a classifier to new a priori probabilities" (Neural Computation 14, 2002).
//!
//! A class of attacks that no training row belongs to has probability 0: its rows come out as another class, as unknown
//! or as normal. What was never seen is the business of the one-class models.
//!
//! ```
//! use ndarray::Array2;
//! use sensor_models::classifier::{ClassifierParams, Decision, Names};
//!
//! let rows = Array2::from_shape_fn((300, 2), |(i, j)| ((i * (3 + j)) % 40 + 100 * (i % 3) * j) as f32);
//! let classes: Vec<u16> = (0..300).map(|i| i % 3).collect();
//! let names = Names { columns: &["packets_per_second", "distinct_ports"], classes: &["normal", "scan", "sweep"] };
//! let classifier = ClassifierParams::new().seed(7).check()?.fit(rows.view(), &classes, names, 1_700_000_000)?;
//!
//! let verdict = classifier.verdict(&[20.0, 210.0]);
//! assert_eq!(verdict.decision, Decision::Attack(2));
//! assert_eq!(classifier.classes()[2], "sweep");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod bins;
mod boost;
mod grow;
mod params;
mod parts;
mod trees;

use std::collections::BTreeMap;

use ndarray::{Array2, ArrayView2};
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use params::{
    ClassifierParams, ClassifierParamsError, FitClassifierError, MAX_CLASSES, MAX_ROUNDS, ValidClassifierParams,
};
pub use trees::MAX_LEAVES;
pub(crate) use trees::{Node, Split};

use crate::baseline::{MAX_COLUMN_NAME, SchemaError, check_names};
use crate::isolation_forest::check_rows;
pub(crate) use parts::Parts;
use parts::{PartsError, are_classes, check_metrics, is_prior};
use trees::Trees;

/// Most figures that are kept with a classifier.
pub const MAX_METRICS: usize = 256;
/// Rows that a batch takes through one tree after the other.
const BLOCK: usize = 256;

/// What columns and classes are called: each once, printable, at most [`MAX_COLUMN_NAME`] bytes.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    /// Columns of a row.
    pub columns: &'a [&'a str],
    /// Classes; the first is normal.
    pub classes: &'a [&'a str],
}

/// Where a classifier comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassifierTraining {
    /// Training rows of each class, normal first.
    pub rows_per_class: Vec<u32>,
    /// The only source of randomness.
    pub seed: u64,
    /// Event time of the training, seconds since the Unix epoch, as the caller gave it.
    pub trained_at_s: u64,
}

/// A fitted classifier. Equal rows, parameters and seed give equal classifiers.
#[derive(Clone, Debug, PartialEq)]
pub struct Classifier {
    parts: Parts,
    trees: Trees,
    /// Classes that occur in the training rows.
    present: Vec<Present>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Present {
    class: u16,
    log_prior: f64,
}

/// What a row is, and how sure that is.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// What to do with the row.
    pub decision: Decision,
    /// Of each class, normal first; they sum to 1.
    pub probabilities: Vec<f64>,
}

/// What a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Normal traffic.
    Normal,
    /// An attack of this class, from 1.
    Attack(u16),
    /// Not sure enough to be normal, nor to be named.
    Unknown,
}

/// A share of normal traffic that leaves no room for one side.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
#[error("share of normal traffic {0}: choose more than 0 and less than 1")]
pub struct PriorError(f64);

/// Figures that cannot be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "metrics need finite values, printable names of 1 to {MAX_COLUMN_NAME} bytes, and at most {MAX_METRICS} of them"
)]
pub struct MetricsError;

impl ValidClassifierParams {
    /// Fits to `rows` of known classes: `classes[i]` is the position in `names.classes` of the class of row `i`; not each
    /// class need occur. `trained_at_s` is the event time to note, seconds since the Unix epoch.
    ///
    /// Time grows with rounds x classes x rows x columns, memory with rows x (columns + classes) and with leaves x columns.
    ///
    /// # Errors
    /// Rows with values that are not finite, of too few, too many or unnamed columns; classes that do not match the rows
    /// or have no name; no normal row or no attack.
    pub fn fit(
        &self,
        rows: ArrayView2<'_, f32>,
        classes: &[u16],
        names: Names<'_>,
        trained_at_s: u64,
    ) -> Result<Classifier, FitClassifierError> {
        let rows_per_class = count_rows(rows, classes, names)?;
        let place = |next: &mut usize, rows: &u32| Some(std::mem::replace(next, *next + usize::from(*rows > 0)));
        // Position of each class among those that occur.
        let places: Vec<usize> = rows_per_class.iter().scan(0, place).collect();
        let positions: Vec<usize> = classes.iter().map(|class| places[usize::from(*class)]).collect();
        let present: Vec<u32> = rows_per_class.iter().copied().filter(|rows| *rows > 0).collect();
        let trees = boost::boost(&self.0, rows, &positions, &present);
        let normal_share = training_share(&rows_per_class);
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let parts = Parts {
            columns: owned(names.columns),
            classes: owned(names.classes),
            rounds: self.0.rounds,
            pass_at: self.0.pass_at,
            name_at: self.0.name_at,
            normal_share,
            training: ClassifierTraining { rows_per_class, seed: self.0.seed, trained_at_s },
            metrics: BTreeMap::new(),
        };
        Ok(Classifier::from_parts(parts, trees.into_iter().flatten())
            .expect("what was checked and grown keeps the rules"))
    }
}

impl Classifier {
    /// Probability of each class, normal first. They sum to 1, whatever the values of `row`.
    ///
    /// # Panics
    /// If `row` does not have one value for each column.
    #[must_use]
    pub fn probabilities(&self, row: &[f32]) -> Vec<f64> {
        let mut present: Vec<f64> = (0..self.present.len()).map(|place| self.margin_at(place, row)).collect();
        let mut all = vec![0.0; self.parts.classes.len()];
        self.spread(&mut present, &mut all);
        all
    }

    /// [`Self::probabilities`] of each row, bit for bit.
    ///
    /// # Panics
    /// As [`Self::probabilities`].
    #[must_use]
    pub fn probabilities_batch(&self, rows: ArrayView2<'_, f32>) -> Array2<f64> {
        self.expect_width(rows.ncols());
        let rows = rows.as_standard_layout();
        let (width, classes) = (rows.ncols(), self.parts.classes.len());
        let values = rows.as_slice().expect("the layout is standard");
        let mut all = vec![0.0; rows.nrows() * classes];
        let mut margins = Vec::new();
        for (block, out) in values.chunks(BLOCK * width).zip(all.chunks_mut(BLOCK * classes)) {
            self.margins_of_block(block, &mut margins);
            for (margins, out) in margins.chunks_exact_mut(self.present.len()).zip(out.chunks_exact_mut(classes)) {
                self.spread(margins, out);
            }
        }
        Array2::from_shape_vec((rows.nrows(), classes), all).expect("one value for each row and class")
    }

    /// What each column adds to [`margin`](Self::margin) of `class`, in the order of the columns: with
    /// [`bias`](Self::bias) they sum to it. The contributions to two classes may be subtracted: the difference explains
    /// `ln(p(a) / p(b))`. All zero for a class without training rows.
    ///
    /// Each split on the way of the row changes the value to expect; the change is credited to the column the split
    /// compares. Source: Saabas, "Interpreting random forests" (2014).
    ///
    /// # Panics
    /// If `row` does not have one value for each column, or there is no such class.
    #[must_use]
    pub fn contributions(&self, row: &[f32], class: u16) -> Vec<f64> {
        self.expect_width(row.len());
        let mut columns = vec![0.0; row.len()];
        if let Some(place) = self.place(class) {
            self.trees_of(place).for_each(|tree| self.trees.attribute(tree, row, &mut columns));
        }
        columns
    }

    /// Logarithm of the probability of `class` up to a number that all classes of a row share; minus infinity for a class
    /// without training rows.
    ///
    /// # Panics
    /// As [`Self::contributions`].
    #[must_use]
    pub fn margin(&self, row: &[f32], class: u16) -> f64 {
        self.place(class).map_or(f64::NEG_INFINITY, |place| self.margin_at(place, row))
    }

    /// Margin of `class` for a row of which nothing is known.
    ///
    /// # Panics
    /// If there is no such class.
    #[must_use]
    pub fn bias(&self, class: u16) -> f64 {
        self.place(class).map_or(f64::NEG_INFINITY, |place| {
            let roots: f64 = self.trees_of(place).map(|tree| self.trees.root_value(tree)).sum();
            self.present[place].log_prior + roots
        })
    }

    /// Judges in two stages: a row whose probability of being normal is at least
    /// [`pass_at`](ClassifierParams::pass_at) passes. Of another, the likeliest class of attacks is named if its
    /// probability given that the row is not normal is at least [`name_at`](ClassifierParams::name_at).
    ///
    /// # Panics
    /// As [`Self::probabilities`].
    #[must_use]
    pub fn verdict(&self, row: &[f32]) -> Verdict {
        self.judge(self.probabilities(row))
    }

    /// The verdict on [`probabilities`](Self::probabilities), as those of a batch.
    ///
    /// # Panics
    /// If there is not one for each class.
    #[must_use]
    pub fn judge(&self, probabilities: Vec<f64>) -> Verdict {
        assert_eq!(probabilities.len(), self.parts.classes.len(), "there must be one probability for each class");
        let attacks = (1_u16..).zip(&probabilities[1..]);
        let attack: f64 = probabilities[1..].iter().sum();
        let (class, best) = attacks.fold((0, 0.0), |best, (class, p)| if *p > best.1 { (class, *p) } else { best });
        let decision = if probabilities[0] >= self.parts.pass_at {
            Decision::Normal
        } else if class > 0 && best >= self.parts.name_at * attack {
            Decision::Attack(class)
        } else {
            Decision::Unknown
        };
        Verdict { decision, probabilities }
    }

    /// The same classifier where `normal_share` of the traffic, in (0, 1), is expected to be normal; the shares of the
    /// attacks among each other stay those of the training rows.
    ///
    /// # Errors
    /// A share that is not in (0, 1).
    pub fn with_prior(mut self, normal_share: f64) -> Result<Self, PriorError> {
        if !is_prior(normal_share) {
            return Err(PriorError(normal_share));
        }
        self.parts.normal_share = normal_share;
        self.present = present_classes(&self.parts);
        Ok(self)
    }

    /// Share of normal traffic that is expected; that of the training rows unless [`with_prior`](Self::with_prior) said
    /// another.
    #[must_use]
    pub fn normal_share(&self) -> f64 {
        self.parts.normal_share
    }

    /// Keeps figures with the classifier, such as its measured quality; they replace those it has.
    ///
    /// # Errors
    /// A value that is not finite, a name that is empty, too long or not printable, or more than [`MAX_METRICS`].
    pub fn with_metrics(mut self, metrics: BTreeMap<String, f64>) -> Result<Self, MetricsError> {
        check_metrics(&metrics)?;
        self.parts.metrics = metrics;
        Ok(self)
    }

    /// Figures kept with the classifier, by name.
    #[must_use]
    pub fn metrics(&self) -> &BTreeMap<String, f64> {
        &self.parts.metrics
    }

    /// Names of the columns, in order.
    #[must_use]
    pub fn columns(&self) -> &[String] {
        &self.parts.columns
    }

    /// Names of the classes, normal first.
    #[must_use]
    pub fn classes(&self) -> &[String] {
        &self.parts.classes
    }

    /// Where this classifier comes from.
    #[must_use]
    pub fn training(&self) -> &ClassifierTraining {
        &self.parts.training
    }

    /// Checks that rows made for `schema` are rows of this classifier.
    ///
    /// # Errors
    /// The first difference.
    pub fn expect_schema(&self, schema: &[&str]) -> Result<(), SchemaError> {
        let found = &self.parts.columns;
        if schema.len() != found.len() {
            return Err(SchemaError::Width { expected: schema.len(), found: found.len() });
        }
        match schema.iter().zip(found).position(|(expected, found)| expected != found) {
            None => Ok(()),
            Some(at) => Err(SchemaError::Column { at, expected: schema[at].to_owned(), found: found[at].clone() }),
        }
    }

    /// The classifier of `parts`, with trees as [`nodes`](Self::nodes) gives them.
    pub(crate) fn from_parts(parts: Parts, nodes: impl Iterator<Item = Node>) -> Result<Self, PartsError> {
        let features = parts.check()?;
        let present = present_classes(&parts);
        let trees = Trees::assemble(nodes, present.len() * usize::from(parts.rounds), features)?;
        Ok(Self { parts, trees, present })
    }

    pub(crate) fn parts(&self) -> &Parts {
        &self.parts
    }

    /// Nodes of all trees in pre-order: those of the first class that occurs in the order of the rounds, then those of the
    /// next.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = Node> + '_ {
        self.trees.nodes()
    }

    fn margins_of_block(&self, rows: &[f32], margins: &mut Vec<f64>) {
        let (width, count) = (self.parts.columns.len(), self.present.len());
        margins.clear();
        margins.resize(rows.len() / width * count, 0.0);
        for (place, Present { log_prior, .. }) in self.present.iter().enumerate() {
            for tree in self.trees_of(place) {
                for (at, row) in rows.chunks_exact(width).enumerate() {
                    margins[at * count + place] += self.trees.value(tree, row);
                }
            }
            margins.iter_mut().skip(place).step_by(count).for_each(|margin| *margin += log_prior);
        }
    }

    fn margin_at(&self, place: usize, row: &[f32]) -> f64 {
        self.expect_width(row.len());
        let sum = self.trees_of(place).fold(0.0, |sum, tree| sum + self.trees.value(tree, row));
        sum + self.present[place].log_prior
    }

    /// Turns margins of the classes that occur into probabilities of all classes.
    fn spread(&self, margins: &mut [f64], all: &mut [f64]) {
        softmax(margins);
        for (Present { class, .. }, probability) in self.present.iter().zip(margins) {
            all[usize::from(*class)] = *probability;
        }
    }

    fn place(&self, class: u16) -> Option<usize> {
        assert!(usize::from(class) < self.parts.classes.len(), "there is no class {class}");
        self.present.iter().position(|present| present.class == class)
    }

    fn trees_of(&self, place: usize) -> std::ops::Range<usize> {
        let rounds = usize::from(self.parts.rounds);
        place * rounds..(place + 1) * rounds
    }

    fn expect_width(&self, width: usize) {
        assert_eq!(width, self.parts.columns.len(), "a row must have one value for each column of the classifier");
    }
}

/// Training rows of each class, if a classifier can be fitted to them.
fn count_rows(rows: ArrayView2<'_, f32>, classes: &[u16], names: Names<'_>) -> Result<Vec<u32>, FitClassifierError> {
    check_rows(rows)?;
    check_names(names.columns)?;
    if names.columns.len() != rows.ncols() {
        return Err(SchemaError::Width { expected: names.columns.len(), found: rows.ncols() }.into());
    }
    if !are_classes(names.classes) {
        return Err(FitClassifierError::ClassNames);
    }
    if classes.len() != rows.nrows() {
        return Err(FitClassifierError::Lengths { rows: rows.nrows(), classes: classes.len() });
    }
    let mut counts = vec![0; names.classes.len()];
    for (row, class) in classes.iter().enumerate() {
        let count = counts.get_mut(usize::from(*class));
        *count.ok_or(FitClassifierError::Class { row, class: *class })? += 1;
    }
    match counts.split_first() {
        Some((0, _)) | None => Err(FitClassifierError::NoNormal),
        Some((_, attacks)) if attacks.iter().all(|rows| *rows == 0) => Err(FitClassifierError::NoAttack),
        Some(_) => Ok(counts),
    }
}

fn training_share(rows_per_class: &[u32]) -> f64 {
    let all: f64 = rows_per_class.iter().map(|rows| f64::from(*rows)).sum();
    f64::from(rows_per_class[0]) / all
}

/// The classes that occur, with the shares they are expected to have.
fn present_classes(parts: &Parts) -> Vec<Present> {
    let rows = &parts.training.rows_per_class;
    let attacks: f64 = rows[1..].iter().map(|rows| f64::from(*rows)).sum();
    let share = |class: u16, rows: u32| match class {
        0 => parts.normal_share,
        _ => (1.0 - parts.normal_share) * (f64::from(rows) / attacks),
    };
    let occurring = (0_u16..).zip(rows).filter(|(_, rows)| **rows > 0);
    occurring.map(|(class, rows)| Present { class, log_prior: share(class, *rows).ln() }).collect()
}

/// Probabilities from margins, in place.
fn softmax(margins: &mut [f64]) {
    let highest = margins.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    margins.iter_mut().for_each(|margin| *margin = (*margin - highest).exp());
    let sum: f64 = margins.iter().sum();
    margins.iter_mut().for_each(|margin| *margin /= sum);
}

#[cfg(test)]
mod tests;
