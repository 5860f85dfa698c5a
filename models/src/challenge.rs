//! Decides whether a new baseline takes the place of the one that serves.
//!
//! Both are asked for the p-values of stored normal rows that neither was fitted to or calibrated with, and of stored
//! rows of confirmed attacks. The challenger is promoted only if all of these hold, each test at the level `confidence`:
//!
//! 1. there are enough normal rows to tell;
//! 2. its false alarms (p-value at most `alert_level`) are no more than promised, and no fewer: a baseline that never
//!    speaks has no false alarms either. With `m` calibration scores, an honest baseline alarms on a beta-binomial number
//!    of `n` rows, with parameters `l = floor(alert_level (m + 1))` and `m + 1 - l`: chance in the calibration counts;
//! 3. it finds as many confirmed attacks as the champion;
//! 4. it is better in one way: it finds more attacks; or the champion has more false alarms than promised, and the
//!    challenger fewer; or the p-values of the champion have become too small (one-sided Kolmogorov-Smirnov, against `n`
//!    rows and `m` scores), and those of the challenger are nearer to uniform.
//!
//! In all other cases the champion stays. Rows are taken as independent: of flows that come in bursts, give one of each.
//!
//! Source: Vovk, "Conditional validity of inductive conformal predictors" (2013), for the beta-binomial distribution;
//! Smirnov (1939), with the bound `exp(-2 D^2 n m / (n + m))`.

use ndarray::ArrayView2;
use serde::Serialize;
use thiserror::Error;

/// Parameters as the caller wrote them: [`check`](Self::check) turns them into [`ValidChallengeParams`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChallengeParams {
    alert_level: f64,
    confidence: f64,
    min_rows: usize,
}

/// Parameters that were checked; they can [`decide`](Self::decide).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ValidChallengeParams(ChallengeParams);

/// A parameter that is out of range.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
pub enum ChallengeError {
    /// Not in (0, 0.5].
    #[error("an alert level of {0}: choose more than 0 and at most 0.5, 0.01 is usual")]
    AlertLevel(f64),
    /// Not in (0, 0.5].
    #[error("a confidence of {0}: choose more than 0 and at most 0.5, 0.01 is usual")]
    Confidence(f64),
    /// No rows.
    #[error("a decision on no rows: choose at least 1, 500 is usual")]
    MinRows,
}

/// A baseline as far as the decision needs it.
#[derive(Clone, Copy)]
pub struct Contender<'a> {
    /// P-value of a row.
    pub p_value: &'a dyn Fn(&[f32]) -> f64,
    /// Scores of its calibration.
    pub calibration: usize,
}

/// Rows that neither contender has seen.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// Recent normal traffic, one example a row.
    pub normal: ArrayView2<'a, f32>,
    /// Confirmed attacks, one example a row; may be empty.
    pub attacks: ArrayView2<'a, f32>,
}

/// Which baseline is to serve, and why.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Decision {
    /// Why.
    pub reason: Reason,
    /// Normal rows looked at.
    pub rows: usize,
    /// Attacks looked at.
    pub attacks: usize,
    /// Of the baseline that served.
    pub champion: Figures,
    /// Of the new one.
    pub challenger: Figures,
}

/// Why a baseline is to serve: the first of these that applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The champion stays: too few normal rows to tell.
    TooFewRows,
    /// The champion stays: the challenger has more false alarms than promised.
    FalseAlarms,
    /// The champion stays: the challenger alarms so rarely that its p-values cannot be right.
    Silent,
    /// The champion stays: the challenger finds fewer confirmed attacks.
    LosesAttacks,
    /// The challenger serves: it finds more confirmed attacks.
    FindsMore,
    /// The challenger serves: the champion has more false alarms than promised.
    FewerFalseAlarms,
    /// The challenger serves: the p-values of the champion have become too small.
    Drifted,
    /// The challenger serves: nothing speaks against either, and it was calibrated on at least twice as many rows.
    Sharper,
    /// The champion stays: nothing speaks against it.
    Tie,
}

/// How one contender did.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Figures {
    /// Normal rows with a p-value of at most the alert level.
    pub false_alarms: usize,
    /// Chance of an honest baseline to have so many false alarms or more.
    pub too_many: f64,
    /// Chance of an honest baseline to have so few false alarms or fewer.
    pub too_few: f64,
    /// Attacks with a p-value of at most the alert level.
    pub found: usize,
    /// By how much the distribution of its p-values is above that of uniform ones at most: 0 is as promised.
    pub distance: f64,
    /// Bound on the chance of an honest baseline to be that far above.
    pub drift: f64,
}

impl Reason {
    /// Whether the challenger is to serve.
    #[must_use]
    pub fn promotes(self) -> bool {
        matches!(self, Self::FindsMore | Self::FewerFalseAlarms | Self::Drifted | Self::Sharper)
    }
}

impl ChallengeParams {
    /// Alerts at 0.01, tests at 0.01, at least 500 rows.
    #[must_use]
    pub fn new() -> Self {
        Self { alert_level: 0.01, confidence: 0.01, min_rows: 500 }
    }

    /// The p-value up to which a row alarms.
    #[must_use]
    pub fn alert_level(mut self, alert_level: f64) -> Self {
        self.alert_level = alert_level;
        self
    }

    /// Chance of each test to speak against an honest baseline.
    #[must_use]
    pub fn confidence(mut self, confidence: f64) -> Self {
        self.confidence = confidence;
        self
    }

    /// Normal rows below which the champion stays.
    #[must_use]
    pub fn min_rows(mut self, min_rows: usize) -> Self {
        self.min_rows = min_rows;
        self
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// The first parameter that is out of range.
    pub fn check(self) -> Result<ValidChallengeParams, ChallengeError> {
        let level = |value: f64| value > 0.0 && value <= 0.5;
        if !level(self.alert_level) {
            return Err(ChallengeError::AlertLevel(self.alert_level));
        }
        if !level(self.confidence) {
            return Err(ChallengeError::Confidence(self.confidence));
        }
        if self.min_rows == 0 {
            return Err(ChallengeError::MinRows);
        }
        Ok(ValidChallengeParams(self))
    }
}

impl Default for ChallengeParams {
    fn default() -> Self {
        Self::new()
    }
}

impl ValidChallengeParams {
    /// Which of the two is to serve.
    #[must_use]
    pub fn decide(&self, champion: Contender<'_>, challenger: Contender<'_>, evidence: &Evidence<'_>) -> Decision {
        let sharper = challenger.calibration >= 2 * champion.calibration;
        let (champion, challenger) = (self.figures(champion, evidence), self.figures(challenger, evidence));
        let (rows, attacks) = (evidence.normal.nrows(), evidence.attacks.nrows());
        let mut reason = self.reason(rows, &champion, &challenger);
        if sharper && matches!(reason, Reason::TooFewRows | Reason::Tie) {
            reason = Reason::Sharper;
        }
        Decision { reason, rows, attacks, champion, challenger }
    }

    fn reason(&self, rows: usize, champion: &Figures, challenger: &Figures) -> Reason {
        let ChallengeParams { confidence, min_rows, .. } = self.0;
        if rows < min_rows {
            Reason::TooFewRows
        } else if challenger.too_many < confidence {
            Reason::FalseAlarms
        } else if challenger.too_few < confidence {
            Reason::Silent
        } else if challenger.found < champion.found {
            Reason::LosesAttacks
        } else if challenger.found > champion.found {
            Reason::FindsMore
        } else if champion.too_many < confidence && challenger.false_alarms < champion.false_alarms {
            Reason::FewerFalseAlarms
        } else if champion.drift < confidence && challenger.distance < champion.distance {
            Reason::Drifted
        } else {
            Reason::Tie
        }
    }

    fn figures(&self, contender: Contender<'_>, evidence: &Evidence<'_>) -> Figures {
        let p_values = |rows: ArrayView2<'_, f32>| -> Vec<f64> {
            rows.rows().into_iter().map(|row| (contender.p_value)(&row.to_vec())).collect()
        };
        let alarms = |p_values: &[f64]| p_values.iter().filter(|p| **p <= self.0.alert_level).count();
        let normal = p_values(evidence.normal);
        let false_alarms = alarms(&normal);
        let (too_many, too_few) = self.tails(false_alarms, normal.len(), contender.calibration);
        let (n, m) = (normal.len() as f64, contender.calibration as f64);
        let distance = above_uniform(normal);
        let drift = if n * m > 0.0 { (-2.0 * distance.powi(2) * n * m / (n + m)).exp() } else { 1.0 };
        Figures { false_alarms, too_many, too_few, found: alarms(&p_values(evidence.attacks)), distance, drift }
    }

    /// Chances of at least and of at most so many alarms on `rows` rows.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most the number of scores")]
    fn tails(&self, alarms: usize, rows: usize, calibration: usize) -> (f64, f64) {
        let alarming = (self.0.alert_level * (calibration + 1) as f64).floor() as usize;
        if alarming == 0 {
            // P-values are never as small as the alert level.
            return (if alarms == 0 { 1.0 } else { 0.0 }, 1.0);
        }
        beta_binomial_tails(alarms, rows, alarming as f64, (calibration + 1 - alarming) as f64)
    }
}

/// `sup_t (F(t) - t)` over the empirical distribution of the p-values, at least 0.
fn above_uniform(mut p_values: Vec<f64>) -> f64 {
    p_values.sort_unstable_by(f64::total_cmp);
    let count = p_values.len() as f64;
    (1..).zip(&p_values).map(|(at, p): (u32, &f64)| f64::from(at) / count - p).fold(0.0, f64::max)
}

/// `P(X >= k)` and `P(X <= k)` of a beta-binomial variable of `n` trials, with `a, b >= 1` and `k <= n`.
fn beta_binomial_tails(k: usize, n: usize, a: f64, b: f64) -> (f64, f64) {
    let trials = n as f64;
    // Of no success; then from one number of successes to the next.
    let mut log: f64 = (0..n).map(|i| ((b + i as f64) / (a + b + i as f64)).ln()).sum();
    let (mut at_least, mut at_most) = (0.0, 0.0);
    for successes in 0..=n {
        let chance = log.exp();
        if successes >= k {
            at_least += chance;
        }
        if successes <= k {
            at_most += chance;
        }
        let j = successes as f64;
        log += ((trials - j) / (j + 1.0) * (a + j) / (b + trials - j - 1.0)).ln();
    }
    (at_least.min(1.0), at_most.min(1.0))
}

#[cfg(test)]
mod tests;
