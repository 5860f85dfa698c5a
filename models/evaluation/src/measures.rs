//! What is measured, and how sure it is.
//!
//! Rows carry a weight `w` (1, or the rows of the full data set they stand for). A row is flagged at a threshold `t` when
//! its score is at least `t`; rows of equal score are flagged together, so ties have one outcome and no order.
//!
//! ```text
//! TPR(t) = weight of flagged attacks / weight of attacks        FPR(t) = weight of flagged normal rows / of normal rows
//! P(t)   = weight of flagged attacks / weight of flagged rows
//! AUC    = P(s_attack > s_normal) + P(s_attack = s_normal) / 2                     (Mann, Whitney 1947)
//! AP     = sum over the distinct scores, descending, of (TPR(t_i) - TPR(t_{i-1})) P(t_i)     (no interpolation)
//! TPR at FPR a = the largest TPR(t) with FPR(t) <= a, over the distinct scores and infinity  (no interpolation)
//! ```
//!
//! The *chosen threshold* flags rows whose conformal p-value among the calibration rows is at most
//! [`ALPHA`]; FPR, F1 = 2 TP / (2 TP + FP + FN) and the recall of each family are those of this threshold.

pub mod bootstrap;
pub mod ranking;

use sensor_models::Calibration;
use serde::Serialize;

use bootstrap::Resamples;
use ranking::Ranking;

/// Largest p-value that is flagged.
pub const ALPHA: f64 = 0.01;
/// Fewest normal validation rows for a figure at 0.1 % FPR: ten of them are above such a threshold.
pub const ROWS_FOR_PER_MILLE: usize = 10_000;

/// A measure of the validation rows, and the middle 95 % of it over bootstrap resamples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// On the rows as they are.
    pub value: f64,
    /// 2.5 % of the resamples are below.
    pub low: f64,
    /// 2.5 % of the resamples are above.
    pub high: f64,
}

/// Everything measured of one model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measures {
    /// Area under the ROC curve.
    pub auc: Interval,
    /// Average precision.
    pub average_precision: Interval,
    /// TPR at 1 % FPR.
    pub tpr_at_1_percent: Interval,
    /// TPR at 0.1 % FPR; none with fewer than [`ROWS_FOR_PER_MILLE`] normal validation rows.
    pub tpr_at_1_per_mille: Option<Interval>,
    /// FPR at the chosen threshold.
    pub fpr: Interval,
    /// TPR at the chosen threshold.
    pub recall: Interval,
    /// F1 at the chosen threshold.
    pub f1: Interval,
    /// Recall of each family at the chosen threshold, in the order of the families; none without rows.
    pub family_recall: Vec<Option<Interval>>,
}

/// Validation rows, apart from what a model says of them.
#[derive(Clone, Copy, Debug)]
pub struct Truth<'a> {
    /// 0 is normal, else the number of the family.
    pub family: &'a [u16],
    /// Rows each row stands for.
    pub weight: &'a [f64],
    /// How many families of attacks there are.
    pub families: u16,
}

/// Scores of calibration rows (all normal) and of validation rows; higher is more anomalous.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    /// Of the normal calibration rows.
    pub calibration: Vec<f64>,
    /// Of all validation rows.
    pub validation: Vec<f64>,
}

impl Scores {
    /// Which validation rows are flagged at the chosen threshold.
    ///
    /// # Errors
    /// No calibration rows, or a score that is not a number.
    pub fn flagged(&self) -> anyhow::Result<Vec<bool>> {
        let calibration = Calibration::new(self.calibration.clone())?;
        Ok(self.validation.iter().map(|score| calibration.p_value(*score) <= ALPHA).collect())
    }
}

impl Measures {
    /// Measures `scores` against `truth`.
    ///
    /// # Errors
    /// As [`Scores::flagged`].
    pub fn of(scores: &Scores, truth: Truth<'_>, resamples: &Resamples) -> anyhow::Result<Self> {
        let flagged = scores.flagged()?;
        let ranking = Ranking::new(&scores.validation);
        let attacks: Vec<bool> = truth.family.iter().map(|family| *family > 0).collect();
        let measure = |weight: &[f64]| {
            let [auc, precision, percent, per_mille] = ranking.measure(&attacks, weight, [0.01, 0.001]);
            let at = AtThreshold::new(&flagged, truth, weight);
            let mut all = vec![auc, precision, percent, per_mille, at.fpr(), at.recall(), at.f1()];
            all.extend((1..=truth.families).map(|family| at.family_recall(family)));
            all
        };
        let intervals = resamples.intervals(truth.weight, measure);
        let normal = attacks.iter().filter(|attack| !**attack).count();
        Ok(Self {
            auc: intervals[0],
            average_precision: intervals[1],
            tpr_at_1_percent: intervals[2],
            tpr_at_1_per_mille: (normal >= ROWS_FOR_PER_MILLE).then_some(intervals[3]),
            fpr: intervals[4],
            recall: intervals[5],
            f1: intervals[6],
            family_recall: intervals[7..].iter().map(|recall| recall.value.is_finite().then_some(*recall)).collect(),
        })
    }
}

/// Weights of rows by family, flagged and all.
struct AtThreshold {
    flagged: Vec<f64>,
    all: Vec<f64>,
}

impl AtThreshold {
    fn new(flagged: &[bool], truth: Truth<'_>, weight: &[f64]) -> Self {
        let families = usize::from(truth.families) + 1;
        let mut sums = Self { flagged: vec![0.0; families], all: vec![0.0; families] };
        for ((flagged, family), weight) in flagged.iter().zip(truth.family).zip(weight) {
            let family = usize::from(*family);
            sums.all[family] += weight;
            sums.flagged[family] += if *flagged { *weight } else { 0.0 };
        }
        sums
    }

    fn fpr(&self) -> f64 {
        self.flagged[0] / self.all[0]
    }

    fn recall(&self) -> f64 {
        self.flagged[1..].iter().sum::<f64>() / self.all[1..].iter().sum::<f64>()
    }

    fn f1(&self) -> f64 {
        let found: f64 = self.flagged[1..].iter().sum();
        2.0 * found / (found + self.flagged[0] + self.all[1..].iter().sum::<f64>())
    }

    fn family_recall(&self, family: u16) -> f64 {
        self.flagged[usize::from(family)] / self.all[usize::from(family)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_of_a_small_example_are_those_worked_out_by_hand() {
        // 199 calibration rows: a p-value of at most 0.01 needs a score above all but one of them.
        let scores = Scores {
            calibration: (0..199).map(f64::from).collect(),
            validation: vec![1.0, 198.0, 2.0, 3.0, 500.0, 198.5, 4.0, 5.0],
        };
        let family = [0, 0, 0, 0, 1, 2, 2, 2];
        let truth = Truth { family: &family, weight: &[1.0; 8], families: 3 };
        let groups: Vec<u64> = (0..8).collect();
        let measures = Measures::of(&scores, truth, &Resamples::new(truth.family, &groups, 50)).unwrap();
        assert_eq!(measures.fpr.value, 0.25);
        assert_eq!(measures.recall.value, 0.5);
        assert_eq!(measures.f1.value, 4.0 / 7.0);
        assert_eq!(measures.auc.value, (4.0 + 4.0 + 3.0 + 3.0) / 16.0);
        assert_eq!(measures.tpr_at_1_percent.value, 0.5);
        assert_eq!(measures.tpr_at_1_per_mille, None);
        let recall: Vec<_> = measures.family_recall.iter().map(|recall| recall.map(|recall| recall.value)).collect();
        assert_eq!(recall, [Some(1.0), Some(1.0 / 3.0), None]);
        assert!(measures.auc.low < measures.auc.value && measures.auc.value < measures.auc.high);
    }

    #[test]
    fn weights_count_rows_that_are_not_there() {
        let scores = Scores { calibration: (0..99).map(f64::from).collect(), validation: vec![1.0, 200.0, 2.0, 200.0] };
        let truth = Truth { family: &[0, 0, 1, 1], weight: &[3.0, 1.0, 1.0, 2.0], families: 1 };
        let measures = Measures::of(&scores, truth, &Resamples::new(truth.family, &[1, 2, 3, 4], 20)).unwrap();
        assert_eq!(measures.fpr.value, 0.25);
        assert_eq!(measures.recall.value, 2.0 / 3.0);
        assert_eq!(measures.f1.value, 4.0 / (4.0 + 1.0 + 1.0));
    }
}
