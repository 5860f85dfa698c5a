//! Turns raw scores into conformal p-values: how rare is a score this high on normal traffic of this network?
//!
//! Source: Vovk, Gammerman, Shafer, "Algorithmic Learning in a Random World" (2005); Bates, Candès, Lei, Romano, Sesia,
//! "Testing for outliers with conformal p-values", Annals of Statistics 51 (2023).
//!
//! If the calibration rows were not used for fitting and a new normal row is exchangeable with them, then
//! `P(p_value <= alpha) <= alpha` for each `alpha`, whatever the model and the distribution. Traffic that drifts is not
//! exchangeable with old traffic: the promise is as good as the baseline is fresh.

mod merge;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Most scores a calibration may hold (8 MiB).
pub const MAX_SCORES: usize = 1 << 20;

/// Scores of normal rows that the model was not fitted to, in ascending order. Serialises as the plain list of scores.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<f64>", into = "Vec<f64>")]
pub struct Calibration {
    sorted: Vec<f64>,
}

/// Scores that no calibration can be made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CalibrationError {
    /// Nothing to compare with.
    #[error("no calibration scores: collect more traffic")]
    Empty,
    /// More than [`MAX_SCORES`].
    #[error("{0} calibration scores, at most {MAX_SCORES} are supported: calibrate on a sample")]
    TooMany(usize),
    /// `NaN` or an infinity, at this position.
    #[error("calibration score {0} is not a finite number")]
    NotFinite(usize),
}

impl Calibration {
    /// Takes scores in any order; higher is more anomalous.
    ///
    /// # Errors
    /// No scores, too many of them, or one that is not finite.
    pub fn new(mut scores: Vec<f64>) -> Result<Self, CalibrationError> {
        if scores.is_empty() {
            return Err(CalibrationError::Empty);
        }
        if scores.len() > MAX_SCORES {
            return Err(CalibrationError::TooMany(scores.len()));
        }
        if let Some(at) = scores.iter().position(|score| !score.is_finite()) {
            return Err(CalibrationError::NotFinite(at));
        }
        scores.sort_unstable_by(f64::total_cmp);
        Ok(Self { sorted: scores })
    }

    /// `(1 + #{s_i >= score}) / (n + 1)`, in `[1 / (n + 1), 1]`; small is anomalous. A score that is `NaN` has 1.
    #[must_use]
    pub fn p_value(&self, score: f64) -> f64 {
        let below = self.sorted.partition_point(|normal| *normal < score);
        ratio(1 + self.len() - below, 1 + self.len())
    }

    /// [`Self::p_value`], but falling on beyond the largest score, where that has one value for all: an exponential tail
    /// with the mean excess of the scores above the 90th percentile. An order among rows that are all beyond what is
    /// known, not a promise: what is combined of such values is calibrated anew. In (0, 1].
    ///
    /// Source: Pickands, "Statistical inference using extreme order statistics", Annals of Statistics 3 (1975): excesses
    /// over a high threshold; the exponential is the case between bounded and heavy tails.
    #[must_use]
    pub fn tail_p_value(&self, score: f64) -> f64 {
        const SMALLEST: f64 = 1e-12;
        let beyond = score - self.max();
        if beyond.is_nan() || beyond <= 0.0 {
            return self.p_value(score);
        }
        let high = self.sorted.partition_point(|normal| *normal < self.quantile(0.9));
        let excesses: f64 = self.sorted[high..].iter().map(|normal| normal - self.sorted[high]).sum();
        let mean = excesses / self.sorted[high..].len() as f64;
        let fall = if mean > 0.0 { (-beyond / mean).exp() } else { 0.0 };
        (fall * self.p_value(score)).max(SMALLEST)
    }

    /// The smallest calibration score with at least the fraction `level` of the scores at or below it. Levels outside
    /// of `[0, 1]` are taken as the nearest end, `NaN` as 0.
    #[must_use]
    pub fn quantile(&self, level: f64) -> f64 {
        let wanted = self.sorted.partition_point(|normal| {
            let at_or_below = self.sorted.partition_point(|other| other <= normal);
            ratio(at_or_below, self.len()) < level
        });
        self.sorted[wanted.min(self.len() - 1)]
    }

    /// Number of scores, at least one. The smallest p-value is `1 / (len + 1)`.
    #[expect(clippy::len_without_is_empty, reason = "a calibration is never empty")]
    #[must_use]
    pub fn len(&self) -> usize {
        self.sorted.len()
    }

    /// The largest score: what is above it has the smallest p-value.
    #[must_use]
    pub fn max(&self) -> f64 {
        self.sorted[self.len() - 1]
    }

    /// The scores in ascending order.
    #[must_use]
    pub fn scores(&self) -> &[f64] {
        &self.sorted
    }
}

impl TryFrom<Vec<f64>> for Calibration {
    type Error = CalibrationError;

    fn try_from(scores: Vec<f64>) -> Result<Self, CalibrationError> {
        Self::new(scores)
    }
}

impl From<Calibration> for Vec<f64> {
    fn from(calibration: Calibration) -> Self {
        calibration.sorted
    }
}

/// Exact for counts of scores, which are far below 2^53.
fn ratio(part: usize, whole: usize) -> f64 {
    part as f64 / whole as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::{Rng as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn p_value_counts_scores_at_least_as_high() {
        let calibration = Calibration::new(vec![0.4, 0.1, 0.3, 0.3]).unwrap();
        for (score, expected) in [
            (f64::NEG_INFINITY, 1.0),
            (0.1, 1.0),
            (0.2, 0.8),
            (0.3, 0.8),
            (0.31, 0.4),
            (0.4, 0.4),
            (0.5, 0.2),
            (f64::INFINITY, 0.2),
            (f64::NAN, 1.0),
        ] {
            assert_eq!(calibration.p_value(score), expected, "{score}");
        }
    }

    #[test]
    fn quantile_is_the_smallest_score_that_covers_the_level() {
        let calibration = Calibration::new(vec![4.0, 1.0, 2.0, 2.0]).unwrap();
        for (level, expected) in
            [(-1.0, 1.0), (0.0, 1.0), (0.25, 1.0), (0.26, 2.0), (0.75, 2.0), (0.76, 4.0), (1.0, 4.0), (2.0, 4.0)]
        {
            assert_eq!(calibration.quantile(level), expected, "{level}");
        }
        assert_eq!(calibration.quantile(f64::NAN), 1.0);
        assert_eq!((calibration.len(), calibration.max()), (4, 4.0));
    }

    #[test]
    fn scores_without_an_order_are_rejected() {
        for (scores, expected) in [
            (vec![], CalibrationError::Empty),
            (vec![0.0; MAX_SCORES + 1], CalibrationError::TooMany(MAX_SCORES + 1)),
            (vec![0.5, f64::NAN], CalibrationError::NotFinite(1)),
            (vec![f64::INFINITY], CalibrationError::NotFinite(0)),
        ] {
            assert_eq!(Calibration::new(scores), Err(expected));
        }
    }

    #[test]
    fn json_is_checked_when_read() {
        let calibration = Calibration::new(vec![0.75, 0.25]).unwrap();
        assert_eq!(serde_json::to_string(&calibration).unwrap(), "[0.25,0.75]");
        assert_eq!(serde_json::from_str::<Calibration>("[0.75,0.25]").unwrap(), calibration);
        assert!(serde_json::from_str::<Calibration>("[]").unwrap_err().to_string().contains("no calibration scores"));
    }

    #[test]
    fn p_values_of_normal_rows_are_uniform() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut score = || rng.gen_range(0.0_f64..1.0).powi(3);
        let p_values: Vec<f64> =
            (0..4000).map(|_| Calibration::new((0..99).map(|_| score()).collect()).unwrap().p_value(score())).collect();
        for alpha in [0.01, 0.05, 0.1, 0.25, 0.5, 0.9] {
            let share = ratio(p_values.iter().filter(|p| **p <= alpha).count(), p_values.len());
            let deviation = (alpha * (1.0 - alpha) / 4000.0_f64).sqrt();
            assert!((share - alpha).abs() < 4.0 * deviation, "{share} of the p-values are at most {alpha}");
        }
    }

    proptest! {
        #[test]
        fn p_value_is_its_definition(scores in prop::collection::vec(0_u8..9, 1..60), score in 0_u8..9) {
            let at_least = scores.iter().filter(|s| **s >= score).count();
            let expected = ratio(1 + at_least, 1 + scores.len());
            let calibration = Calibration::new(scores.into_iter().map(f64::from).collect()).unwrap();
            prop_assert_eq!(calibration.p_value(f64::from(score)), expected);
        }

        #[test]
        fn no_false_alarm_rate_is_exceeded(scores in prop::collection::vec(0.0_f64..1.0, 2..60), alpha in 0.0_f64..1.0) {
            let alarms = (0..scores.len()).filter(|&held_out| {
                let mut others = scores.clone();
                let score = others.swap_remove(held_out);
                Calibration::new(others).unwrap().p_value(score) <= alpha
            });
            prop_assert!(ratio(alarms.count(), scores.len()) <= alpha);
        }
    }
}
