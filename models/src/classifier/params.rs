//! What a classifier is fitted with, checked before anything is computed.

use thiserror::Error;

use super::trees::MAX_LEAVES;
use crate::baseline::SchemaError;
use crate::isolation_forest::FitError;

/// Most rounds of boosting.
pub const MAX_ROUNDS: u16 = 1000;
/// Most classes, normal traffic included.
pub const MAX_CLASSES: u16 = 32;

/// Parameters as the caller wrote them: [`check`](Self::check) turns them into [`ValidClassifierParams`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClassifierParams {
    pub(super) rounds: u16,
    pub(super) leaves: u16,
    pub(super) learning_rate: f64,
    pub(super) l2: f64,
    pub(super) min_rows: u32,
    pub(super) column_share: f64,
    pub(super) balance: f64,
    pub(super) pass_at: f64,
    pub(super) name_at: f64,
    pub(super) seed: u64,
}

/// Parameters that were checked; they can [`fit`](Self::fit).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ValidClassifierParams(pub(super) ClassifierParams);

/// A parameter that is out of range.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
pub enum ClassifierParamsError {
    /// No rounds, or more than [`MAX_ROUNDS`].
    #[error("{0} rounds: choose between 1 and {MAX_ROUNDS}, 100 is usual")]
    Rounds(u16),
    /// Trees that cannot divide rows, or of more than [`MAX_LEAVES`] leaves.
    #[error("{0} leaves: choose between 2 and {MAX_LEAVES}, 31 is usual")]
    Leaves(u16),
    /// Not in (0, 1].
    #[error("learning rate {0}: choose more than 0 and at most 1, 0.1 is usual")]
    LearningRate(f64),
    /// Not in [1e-3, 1e6].
    #[error("L2 penalty {0}: choose between 0.001 and 1000000, 5 is usual")]
    L2(f64),
    /// A leaf without rows.
    #[error("at least {0} rows in a leaf: choose at least 1, 5 is usual")]
    MinRows(u32),
    /// Not in (0, 1].
    #[error("share of columns {0}: choose more than 0 and at most 1, 0.3 is usual")]
    ColumnShare(f64),
    /// Not in [0, 1].
    #[error("balance {0}: choose between 0 (rows count alike) and 1 (classes count alike)")]
    Balance(f64),
    /// Not in (0, 1].
    #[error("probability {0} to decide at: choose more than 0 and at most 1")]
    Threshold(f64),
}

/// Training rows that no classifier can be fitted to.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FitClassifierError {
    /// The rows do not suit a tree.
    #[error(transparent)]
    Rows(#[from] FitError),
    /// The columns are not all named, once each.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// Too few or too many classes, or names that are empty, too long, not printable or used twice.
    #[error("the classes need 2 to {MAX_CLASSES} printable names of their own, normal first")]
    ClassNames,
    /// Not one class for each row.
    #[error("{classes} classes for {rows} rows: give one for each row")]
    Lengths {
        /// Rows given.
        rows: usize,
        /// Classes given.
        classes: usize,
    },
    /// A class without a name.
    #[error("row {row} is of class {class}, which has no name")]
    Class {
        /// Row, from 0.
        row: usize,
        /// Its class.
        class: u16,
    },
    /// Nothing to tell attacks from.
    #[error("no row is normal: add rows of class 0")]
    NoNormal,
    /// Nothing to tell from normal rows.
    #[error("every row is normal: add rows of attacks")]
    NoAttack,
}

impl ClassifierParams {
    /// 100 rounds of trees of 31 leaves, learning rate 0.1, L2 penalty 5, 5 rows a leaf, 0.3 of the columns a tree, rows
    /// that count alike, passing at 0.85 and naming at 0.5; seed 0.
    #[must_use]
    pub fn new() -> Self {
        Self {
            rounds: 100,
            leaves: 31,
            learning_rate: 0.1,
            l2: 5.0,
            min_rows: 5,
            column_share: 0.3,
            balance: 0.0,
            pass_at: 0.85,
            name_at: 0.5,
            seed: 0,
        }
    }

    /// Rounds of boosting: each adds one tree for each class that occurs.
    #[must_use]
    pub fn rounds(mut self, rounds: u16) -> Self {
        self.rounds = rounds;
        self
    }

    /// Leaves of a tree at most.
    #[must_use]
    pub fn leaves(mut self, leaves: u16) -> Self {
        self.leaves = leaves;
        self
    }

    /// How much of its step each tree takes, in (0, 1].
    #[must_use]
    pub fn learning_rate(mut self, learning_rate: f64) -> Self {
        self.learning_rate = learning_rate;
        self
    }

    /// Penalty on the squares of leaf values: higher trusts small leaves less.
    #[must_use]
    pub fn l2(mut self, l2: f64) -> Self {
        self.l2 = l2;
        self
    }

    /// Training rows in a leaf at least.
    #[must_use]
    pub fn min_rows(mut self, min_rows: u32) -> Self {
        self.min_rows = min_rows;
        self
    }

    /// Share of the columns that a tree may use, in (0, 1], drawn for each tree.
    #[must_use]
    pub fn column_share(mut self, column_share: f64) -> Self {
        self.column_share = column_share;
        self
    }

    /// A row of a class of `n` rows counts `n^-balance`: from 0, all rows alike, to 1, all classes alike. It moves the
    /// attention of the trees; probabilities are corrected for it.
    #[must_use]
    pub fn balance(mut self, balance: f64) -> Self {
        self.balance = balance;
        self
    }

    /// Probability of normal, in (0, 1], at which a row passes.
    #[must_use]
    pub fn pass_at(mut self, probability: f64) -> Self {
        self.pass_at = probability;
        self
    }

    /// Probability of an attack class given that the row is not normal, in (0, 1], at which the class is named.
    #[must_use]
    pub fn name_at(mut self, probability: f64) -> Self {
        self.name_at = probability;
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
    /// The first parameter that is out of range.
    pub fn check(self) -> Result<ValidClassifierParams, ClassifierParamsError> {
        use ClassifierParamsError as E;
        let rules = [
            ((1..=MAX_ROUNDS).contains(&self.rounds), E::Rounds(self.rounds)),
            ((2..=MAX_LEAVES).contains(&self.leaves), E::Leaves(self.leaves)),
            (is_share(self.learning_rate), E::LearningRate(self.learning_rate)),
            ((1e-3..=1e6).contains(&self.l2), E::L2(self.l2)),
            (self.min_rows > 0, E::MinRows(self.min_rows)),
            (is_share(self.column_share), E::ColumnShare(self.column_share)),
            ((0.0..=1.0).contains(&self.balance), E::Balance(self.balance)),
            (is_share(self.pass_at), E::Threshold(self.pass_at)),
            (is_share(self.name_at), E::Threshold(self.name_at)),
        ];
        match rules.into_iter().find(|(holds, _)| !holds) {
            Some((_, error)) => Err(error),
            None => Ok(ValidClassifierParams(self)),
        }
    }
}

impl Default for ClassifierParams {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether `value` is in (0, 1].
pub(crate) fn is_share(value: f64) -> bool {
    value > 0.0 && value <= 1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_out_of_range_are_rejected() {
        use ClassifierParamsError as E;
        let params = ClassifierParams::new;
        for (given, expected) in [
            (params().rounds(0), E::Rounds(0)),
            (params().rounds(MAX_ROUNDS + 1), E::Rounds(MAX_ROUNDS + 1)),
            (params().leaves(1), E::Leaves(1)),
            (params().leaves(MAX_LEAVES + 1), E::Leaves(MAX_LEAVES + 1)),
            (params().learning_rate(0.0), E::LearningRate(0.0)),
            (params().learning_rate(1.1), E::LearningRate(1.1)),
            (params().l2(0.0), E::L2(0.0)),
            (params().l2(f64::INFINITY), E::L2(f64::INFINITY)),
            (params().min_rows(0), E::MinRows(0)),
            (params().column_share(0.0), E::ColumnShare(0.0)),
            (params().column_share(1.5), E::ColumnShare(1.5)),
            (params().balance(-0.1), E::Balance(-0.1)),
            (params().balance(1.1), E::Balance(1.1)),
            (params().pass_at(0.0), E::Threshold(0.0)),
            (params().name_at(1.01), E::Threshold(1.01)),
        ] {
            assert_eq!(given.check(), Err(expected));
        }
        for given in [params().learning_rate(f64::NAN), params().l2(f64::NAN), params().balance(f64::NAN)] {
            assert!(given.check().is_err());
        }
    }

    #[test]
    fn parameters_at_the_limits_are_accepted() {
        let least = ClassifierParams::new().rounds(1).leaves(2).l2(1e-3).min_rows(1).balance(1.0);
        let most =
            ClassifierParams::new().rounds(MAX_ROUNDS).leaves(MAX_LEAVES).l2(1e6).learning_rate(1.0).pass_at(1.0);
        for given in [ClassifierParams::default(), least, most] {
            assert!(given.check().is_ok());
        }
    }
}
