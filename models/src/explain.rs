//! The smallest change that would make a row normal: which columns would have to move, from where to where.
//!
//! Greedy: of all columns that speak for an anomaly, the one whose move to the nearest usual value (or, if that does
//! not help, to the median) lowers the score most is moved, until the score is at most the threshold. Then moves that
//! turn out not to be needed are taken back. The fewest columns are not guaranteed, a bounded number of scores is.
//!
//! Source: the idea of Wachter, Mittelstadt, Russell, "Counterfactual explanations without opening the black box" (2018).

use ndarray::ArrayView2;

use crate::isolation_forest::{FitError, check_rows};
use crate::one_class::OneClass;

/// Columns moved at most.
pub const MAX_CHANGES: usize = 8;
/// Columns tried for each move: those that contribute most.
const TRIED: usize = 12;

/// What is usual in each column.
#[derive(Clone, Debug, PartialEq)]
pub struct Reference {
    columns: Vec<FeatureSummary>,
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

/// One column that would have to move.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// Column, from 0.
    pub feature: usize,
    /// Value in the row.
    pub from: f32,
    /// Value that would be normal.
    pub to: f32,
}

/// How a row would have to change.
#[derive(Clone, Debug, PartialEq)]
pub struct Counterfactual {
    /// The most effective first; empty if the row is normal.
    pub changes: Vec<Change>,
    /// Score of the row as it is.
    pub score_before: f64,
    /// Score after the changes.
    pub score_after: f64,
    /// Whether the changes suffice.
    pub normal: bool,
}

impl Reference {
    /// Of the training rows.
    ///
    /// # Errors
    /// Fewer than two rows, no or too many columns, or a value that is not finite.
    pub fn fit(rows: ArrayView2<'_, f32>) -> Result<Self, FitError> {
        check_rows(rows)?;
        Ok(Self { columns: rows.columns().into_iter().map(|column| FeatureSummary::of(column.to_vec())).collect() })
    }

    /// The usual range of each column, in order.
    #[must_use]
    pub fn columns(&self) -> &[FeatureSummary] {
        &self.columns
    }

    /// Of summaries that were read; none if one is out of order.
    pub(crate) fn new(columns: Vec<FeatureSummary>) -> Option<Self> {
        columns.iter().all(FeatureSummary::is_ordered).then_some(Self { columns })
    }

    /// The change that brings `row` to a score of at most `threshold`. Takes at most a few hundred scores.
    ///
    /// # Panics
    /// If `row` does not have one value for each column of the model and of this reference.
    #[must_use]
    pub fn smallest_change(&self, model: &dyn OneClass, row: &[f32], threshold: f64) -> Counterfactual {
        assert_eq!(row.len(), self.columns.len(), "a row must have one value for each column of the reference");
        let score_before = model.score(row);
        let mut now = row.to_vec();
        let mut score = score_before;
        let mut moved: Vec<usize> = Vec::new();
        while score > threshold && moved.len() < MAX_CHANGES {
            let Some((feature, value, lower)) = self.best_move(model, &mut now, &moved) else { break };
            if lower >= score {
                break;
            }
            now[feature] = value;
            score = lower;
            moved.push(feature);
        }
        if score <= threshold {
            moved.retain(|&feature| {
                let kept = std::mem::replace(&mut now[feature], row[feature]);
                let without = model.score(&now);
                if without <= threshold {
                    score = without;
                    return false;
                }
                now[feature] = kept;
                true
            });
        }
        let change = |feature: usize| Change { feature, from: row[feature], to: now[feature] };
        Counterfactual {
            changes: moved.into_iter().map(change).collect(),
            score_before,
            score_after: score,
            normal: score <= threshold,
        }
    }

    /// Column, value and score of the move that lowers the score most.
    fn best_move(&self, model: &dyn OneClass, now: &mut [f32], moved: &[usize]) -> Option<(usize, f32, f64)> {
        let parts = model.contributions(now);
        let mut order: Vec<usize> = (0..now.len()).filter(|column| !moved.contains(column)).collect();
        order.sort_by(|a, b| parts[*b].total_cmp(&parts[*a]));
        order.truncate(TRIED);
        let mut best: Option<(usize, f32, f64)> = None;
        for column in order {
            let FeatureSummary { p01, median, p99 } = self.columns[column];
            let value = now[column];
            let nearest = if value < p01 {
                p01
            } else if value <= p99 {
                value
            } else {
                p99
            };
            for to in [nearest, median] {
                if to.to_bits() == value.to_bits() {
                    continue;
                }
                now[column] = to;
                let score = model.score(now);
                if best.is_none_or(|(_, _, lowest)| score < lowest) {
                    best = Some((column, to, score));
                }
            }
            now[column] = value;
        }
        best
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ModelKind;
    use ndarray::Array2;
    use rand::{Rng as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    fn rows() -> Array2<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        Array2::from_shape_simple_fn((800, 5), || rng.gen_range(0.0..97.0))
    }

    #[test]
    fn only_the_column_that_moved_is_moved_back() {
        let rows = rows();
        let (fit, held_out) = rows.view().split_at(ndarray::Axis(0), 600);
        let reference = Reference::fit(fit).unwrap();
        for kind in ModelKind::ALL {
            let model = kind.fit(fit, 1).unwrap();
            let threshold = model.score_batch(held_out).iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let row = [48.0, 48.0, 48.0, 5000.0, 48.0];
            let found = reference.smallest_change(&model, &row, threshold);
            if found.score_before <= threshold {
                // The forests and the half-spaces see a value beyond the training range as just outside of it.
                continue;
            }
            assert!(found.normal, "{kind}: {found:?}");
            assert_eq!(found.changes.iter().map(|change| change.feature).collect::<Vec<_>>(), [3], "{kind}");
            assert!(found.changes[0].to <= 97.0 && found.score_after < found.score_before, "{kind}");
        }
    }

    #[test]
    fn summaries_are_values_that_were_seen() {
        let summary = |values: Vec<f32>| FeatureSummary::of(values);
        let hundred = summary((1_u8..=100).rev().map(f32::from).collect());
        assert_eq!(hundred, FeatureSummary { p01: 1.0, median: 50.0, p99: 99.0 });
        assert_eq!(summary(vec![7.0]), FeatureSummary { p01: 7.0, median: 7.0, p99: 7.0 });
    }

    #[test]
    fn a_normal_row_needs_no_change_and_an_impossible_threshold_is_said_to_be() {
        let rows = rows();
        let reference = Reference::fit(rows.view()).unwrap();
        let model = ModelKind::Residual.fit(rows.view(), 1).unwrap();
        assert_eq!(reference.smallest_change(&model, &[48.0; 5], 10.0).changes, []);
        let found = reference.smallest_change(&model, &[f32::MAX; 5], -1.0);
        assert!(!found.normal && found.changes.len() <= MAX_CHANGES && found.score_after.is_finite());
    }
}
