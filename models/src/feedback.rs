//! What the user said about rows, and what the next baseline and the serving one make of it.
//!
//! *Confirmed attacks* take rows out before a fit: [`FeedbackSet::clean`]. A sample of traffic may hold an attack that was
//! learned before it was known to be one: rows whose nearest marked row is an attack, not further than `radius`, are
//! dropped. At most half of the rows are dropped, the nearest ones: a wrong mark cannot take the ground from under a
//! baseline.
//!
//! *False positives* are put in among the rows that are fitted, in turn, until copies of them make up `share` of these
//! rows, be it one or many: [`FeedbackSet::reinforce`]. The share must be large: at 1 or 2 % a forest finds the copies as
//! anomalous as before, because a small dense clump is soon separated; at 10 % it learns a false positive and its like.
//! Copies do not belong among the rows that calibrate. Where they were not learned, as with several that have nothing in
//! common, their high scores would hide whatever is less anomalous than they are: with five of them in the calibration
//! too, a moderate anomaly rises from a p-value below 0.01 to one above 0.05.
//!
//! *Rows like a marked row* have their answer while serving: [`FeedbackSet::known`] tells the mark of the nearest marked
//! row within `radius`. This is exact and local, and holds for false positives that no model can learn.
//!
//! Distance is the root of the mean square difference over the columns scaled by [`scale`](crate::scale), in robust
//! standard deviations; two unrelated normal rows are about 1.4 apart.
//!
//! Source: upsampling of labelled normal rows and removal of contaminants as in Das, Wong, Fern, Dietterich, Siddiqui,
//! "Incorporating feedback into tree-based anomaly detection" (2017), made independent of the model.

mod params;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use ndarray::{Array2, ArrayView1, ArrayView2, Axis};
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use params::{FeedbackParams, FeedbackParamsError, MAX_FEEDBACK_ROWS, ValidFeedbackParams};

use crate::isolation_forest::{FitError, MAX_FEATURES};
use crate::scale::Scaler;

/// What a row is, according to the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// A false positive: normal here.
    Normal,
    /// A confirmed attack.
    Attack,
}

/// Marked rows, at most `limit` of each kind; the oldest go first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Plain", into = "Plain")]
pub struct FeedbackSet {
    params: ValidFeedbackParams,
    normal: VecDeque<Vec<f32>>,
    attacks: VecDeque<Vec<f32>>,
}

/// Rows without those that are like a confirmed attack.
#[derive(Clone, Debug, PartialEq)]
pub struct Cleaned {
    /// The rows that were kept, in their order.
    pub rows: Array2<f32>,
    /// Rows that were dropped.
    pub dropped: usize,
    /// Rows that are like a confirmed attack and were kept, because half of the rows are never dropped.
    pub spared: usize,
}

/// A row, or a saved set, that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FeedbackError {
    /// Not as many columns as the other rows.
    #[error("a marked row has {found} columns where {expected} are expected: forget marks of another version")]
    Width {
        /// Columns wanted.
        expected: usize,
        /// Columns there are.
        found: usize,
    },
    /// No column, or more than [`MAX_FEATURES`].
    #[error("{0} feature columns: between 1 and {MAX_FEATURES} are supported")]
    Columns(usize),
    /// `NaN` or an infinity in this column.
    #[error("column {0} of a marked row is not a finite number")]
    NotFinite(usize),
    /// More rows of a kind than the limit.
    #[error("{0} marked rows of a kind are more than the limit of the set")]
    TooMany(usize),
    /// The rows to clean do not suit a model.
    #[error(transparent)]
    Rows(#[from] FitError),
}

impl FeedbackSet {
    /// An empty set.
    #[must_use]
    pub fn new(params: ValidFeedbackParams) -> Self {
        Self { params, normal: VecDeque::new(), attacks: VecDeque::new() }
    }

    /// Takes in the user's word about `row`; about an equal row, the last word counts.
    ///
    /// # Errors
    /// A row with a value that is not finite, or with other columns than the rows before it.
    pub fn mark(&mut self, mark: Mark, row: &[f32]) -> Result<(), FeedbackError> {
        check_row(row, self.width())?;
        self.forget(row);
        let limit = self.params.limit();
        let rows = match mark {
            Mark::Normal => &mut self.normal,
            Mark::Attack => &mut self.attacks,
        };
        if rows.len() == limit {
            rows.pop_front();
        }
        rows.push_back(row.to_vec());
        Ok(())
    }

    /// Takes back what was said about rows equal to `row`. Whether there was anything.
    pub fn forget(&mut self, row: &[f32]) -> bool {
        let before = self.normal.len() + self.attacks.len();
        self.normal.retain(|marked| marked != row);
        self.attacks.retain(|marked| marked != row);
        before != self.normal.len() + self.attacks.len()
    }

    /// Rows of a kind, the oldest first.
    pub fn rows(&self, mark: Mark) -> impl ExactSizeIterator<Item = &[f32]> {
        match mark {
            Mark::Normal => self.normal.iter().map(Vec::as_slice),
            Mark::Attack => self.attacks.iter().map(Vec::as_slice),
        }
    }

    /// Columns of the marked rows; none while there are no rows.
    #[must_use]
    pub fn width(&self) -> Option<usize> {
        self.normal.front().or(self.attacks.front()).map(Vec::len)
    }

    /// Rows of normal traffic, one a row, without those that are like a confirmed attack.
    ///
    /// # Errors
    /// Other columns than the marked rows have, fewer than two rows, or a value that is not finite.
    pub fn clean(&self, rows: ArrayView2<'_, f32>) -> Result<Cleaned, FeedbackError> {
        self.check_width(rows)?;
        let (dropped, spared) = self.polluted(&Scaler::fit(rows)?, rows);
        let mut kept = vec![true; rows.nrows()];
        dropped.iter().for_each(|row| kept[*row] = false);
        let kept: Vec<usize> = (0..rows.nrows()).filter(|row| kept[*row]).collect();
        Ok(Cleaned { rows: rows.select(Axis(0), &kept), dropped: dropped.len(), spared })
    }

    /// `rows` and, after them, copies of false positives: what to fit a model to.
    ///
    /// # Errors
    /// Other columns than the marked rows have.
    pub fn reinforce(&self, rows: ArrayView2<'_, f32>) -> Result<Array2<f32>, FeedbackError> {
        self.check_width(rows)?;
        let mut all = rows.to_owned();
        for marked in self.normal.iter().cycle().take(self.copies(rows.nrows())) {
            all.push_row(ArrayView1::from(marked)).expect("the width was checked");
        }
        Ok(all)
    }

    /// What the user said about rows like `row`: the mark of the nearest marked row within `radius`, if there is one. An
    /// attack if one of each kind is equally near. `scaler` is that of the rows of the baseline that serves.
    ///
    /// # Panics
    /// If `row` or the marked rows do not have one value for each column of `scaler`.
    #[must_use]
    pub fn known(&self, scaler: &Scaler, row: &[f32]) -> Option<Mark> {
        let scaled = scaler.scale(row);
        let radius = self.params.radius().powi(2) * row.len() as f64;
        let attack = nearest(&scaled, &scale(scaler, &self.attacks), radius);
        let normal = nearest(&scaled, &scale(scaler, &self.normal), radius);
        match (attack, normal) {
            (None, None) => None,
            (Some(attack), Some(normal)) if normal < attack => Some(Mark::Normal),
            (Some(_), _) => Some(Mark::Attack),
            (None, Some(_)) => Some(Mark::Normal),
        }
    }

    fn check_width(&self, rows: ArrayView2<'_, f32>) -> Result<(), FeedbackError> {
        match self.width() {
            Some(expected) if expected != rows.ncols() => Err(FeedbackError::Width { expected, found: rows.ncols() }),
            _ => Ok(()),
        }
    }

    /// Numbers of the rows to drop, the nearest to an attack first, and how many more are as near as that.
    fn polluted(&self, scaler: &Scaler, rows: ArrayView2<'_, f32>) -> (Vec<usize>, usize) {
        if self.attacks.is_empty() {
            return (Vec::new(), 0);
        }
        let (attacks, normal) = (scale(scaler, &self.attacks), scale(scaler, &self.normal));
        let radius = self.params.radius().powi(2) * rows.ncols() as f64;
        let mut near: Vec<(f64, usize)> = Vec::new();
        for (number, row) in rows.rows().into_iter().enumerate() {
            let row = scaler.scale(&row.to_vec());
            let Some(attack) = nearest(&row, &attacks, radius) else { continue };
            if nearest(&row, &normal, attack).is_none() {
                near.push((attack, number));
            }
        }
        near.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let dropped = near.len().min(rows.nrows() / 2);
        (near[..dropped].iter().map(|(_, row)| *row).collect(), near.len() - dropped)
    }

    /// Copies of false positives to add to this many rows.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a number of rows")]
    fn copies(&self, rows: usize) -> usize {
        if self.normal.is_empty() {
            return 0;
        }
        // copies / (rows + copies) = share
        let share = self.params.share();
        (rows as f64 * share / (1.0 - share)) as usize
    }
}

fn scale(scaler: &Scaler, marked: &VecDeque<Vec<f32>>) -> Vec<Vec<f64>> {
    marked.iter().map(|row| scaler.scale(row)).collect()
}

/// The least squared distance of `row` to one of `others` that is at most `limit`.
fn nearest(row: &[f64], others: &[Vec<f64>], limit: f64) -> Option<f64> {
    let mut best = None;
    for other in others {
        let bound = best.unwrap_or(limit);
        let mut sum = 0.0;
        for (a, b) in row.chunks(8).zip(other.chunks(8)) {
            sum += a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
            if sum > bound {
                break;
            }
        }
        if sum <= bound {
            best = Some(sum);
        }
    }
    best
}

fn check_row(row: &[f32], width: Option<usize>) -> Result<(), FeedbackError> {
    if !(1..=usize::from(MAX_FEATURES)).contains(&row.len()) {
        return Err(FeedbackError::Columns(row.len()));
    }
    if let Some(expected) = width.filter(|width| *width != row.len()) {
        return Err(FeedbackError::Width { expected, found: row.len() });
    }
    match row.iter().position(|value| !value.is_finite()) {
        Some(column) => Err(FeedbackError::NotFinite(column)),
        None => Ok(()),
    }
}

#[derive(Serialize, Deserialize)]
struct Plain {
    params: ValidFeedbackParams,
    normal: VecDeque<Vec<f32>>,
    attacks: VecDeque<Vec<f32>>,
}

impl From<FeedbackSet> for Plain {
    fn from(FeedbackSet { params, normal, attacks }: FeedbackSet) -> Self {
        Self { params, normal, attacks }
    }
}

impl TryFrom<Plain> for FeedbackSet {
    type Error = FeedbackError;

    fn try_from(Plain { params, normal, attacks }: Plain) -> Result<Self, FeedbackError> {
        let most = normal.len().max(attacks.len());
        if most > params.limit() {
            return Err(FeedbackError::TooMany(most));
        }
        let set = Self { params, normal, attacks };
        set.normal.iter().chain(&set.attacks).try_for_each(|row| check_row(row, set.width()))?;
        Ok(set)
    }
}
