//! A threshold from an alert budget: so many alerts a day are acceptable, whatever the evidence is made of.
//!
//! Evidence is `-ln p` of a test, so that `t` tests a day of true p-values give `t e^-threshold` alerts a day. The threshold
//! starts there, at `ln(tests a day / alerts a day)`. P-values are rarely true: traffic comes in bursts and drifts. So the
//! threshold learns from what it lets through: each alert raises it by `STEP`, and each day without one lowers it by
//! `STEP` times the budget, never below the start. If it stays below some `M`, then, whatever the evidence is, even if it
//! is chosen by an adversary,
//!
//! ```text
//! alerts in d days <= budget * d + (M - start) / STEP + 1
//! ```
//!
//! because each alert takes one step up and only time takes it down again.
//!
//! Source: Gibbs, Candès, "Adaptive conformal inference under distribution shift" (NeurIPS 2021), with the update on the
//! scale of evidence, so that a threshold far in the tail is found in a few steps.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// By how much an alert raises the threshold, in nats: a p-value must be ten times smaller.
const STEP: f64 = std::f64::consts::LN_10;
/// Largest threshold, in nats.
const HIGHEST: f64 = 1e4;
const DAY_S: f64 = 86_400.0;

/// Most alerts a day that can be asked for.
pub const MAX_ALERTS_PER_DAY: f64 = 100_000.0;

/// The threshold and what it has let through.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlertBudget {
    alerts_per_day: f64,
    /// Above the start, in nats.
    raised: f64,
    /// Event time of the latest decision, seconds.
    at: Option<f64>,
    alerts: u64,
    held_back: u64,
}

/// What the budget says to evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weighed {
    /// Enough for an alert.
    Admitted,
    /// The p-value alone would have been enough, but the budget is spent.
    HeldBack,
    /// Chance brings as much every day.
    Weak,
}

/// A budget that is out of range.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
#[error("{0} alerts a day: choose more than 0 and at most {MAX_ALERTS_PER_DAY}, 10 is usual")]
pub struct BudgetError(f64);

impl AlertBudget {
    /// A budget of which nothing is spent.
    ///
    /// # Errors
    /// No positive number of alerts, or too many.
    pub fn new(alerts_per_day: f64) -> Result<Self, BudgetError> {
        if alerts_per_day > 0.0 && alerts_per_day <= MAX_ALERTS_PER_DAY {
            Ok(Self { alerts_per_day, raised: 0.0, at: None, alerts: 0, held_back: 0 })
        } else {
            Err(BudgetError(alerts_per_day))
        }
    }

    /// Weighs evidence, in nats, at event time `at`, in seconds, where `tests_per_day` such decisions are made a day.
    /// Evidence that is enough is taken to have become an alert. `NaN` is never enough.
    pub fn weigh(&mut self, evidence: f64, tests_per_day: f64, at: f64) -> Weighed {
        self.pass_time(at);
        if evidence >= self.threshold(tests_per_day) {
            self.alerts += 1;
            self.raised = (self.raised + STEP).min(HIGHEST);
            Weighed::Admitted
        } else if evidence >= self.start(tests_per_day) {
            self.held_back += 1;
            Weighed::HeldBack
        } else {
            Weighed::Weak
        }
    }

    /// Evidence that is enough now, in nats.
    #[must_use]
    pub fn threshold(&self, tests_per_day: f64) -> f64 {
        self.start(tests_per_day) + self.raised
    }

    /// Alerts a day that are acceptable.
    #[must_use]
    pub const fn alerts_per_day(&self) -> f64 {
        self.alerts_per_day
    }

    /// Alerts let through so far.
    #[must_use]
    pub fn alerts(&self) -> u64 {
        self.alerts
    }

    /// Decisions so far that the p-value alone would have let through.
    #[must_use]
    pub fn held_back(&self) -> u64 {
        self.held_back
    }

    fn start(&self, tests_per_day: f64) -> f64 {
        (tests_per_day / self.alerts_per_day).max(1.0).ln()
    }

    fn pass_time(&mut self, at: f64) {
        let days = (at - self.at.unwrap_or(at)).max(0.0) / DAY_S;
        self.raised = (self.raised - STEP * self.alerts_per_day * days).max(0.0);
        self.at = Some(self.at.map_or(at, |latest| latest.max(at)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::{Rng as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    impl AlertBudget {
        fn admits(&mut self, evidence: f64, tests_per_day: f64, at: f64) -> bool {
            self.weigh(evidence, tests_per_day, at) == Weighed::Admitted
        }
    }

    /// Alerts in `days` of a test a minute.
    fn alerts(budget: f64, days: u32, mut evidence: impl FnMut(u32) -> f64) -> u64 {
        let mut held = AlertBudget::new(budget).unwrap();
        for minute in 0..days * 1440 {
            held.admits(evidence(minute), 1440.0, f64::from(minute) * 60.0);
        }
        held.alerts()
    }

    #[test]
    fn true_p_values_spend_less_than_the_budget() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let spent = alerts(10.0, 30, |_| -rng.gen_range(f64::MIN_POSITIVE..1.0).ln());
        assert!((100..=300).contains(&spent), "{spent}");
    }

    #[test]
    fn p_values_that_are_a_thousand_times_too_small_spend_the_budget() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let spent = alerts(10.0, 30, |_| -rng.gen_range(f64::MIN_POSITIVE..1.0).ln() + 1000_f64.ln());
        assert!((250..=310).contains(&spent), "{spent}");
    }

    #[test]
    fn evidence_beyond_doubt_is_an_alert_at_once() {
        let mut budget = AlertBudget::new(10.0).unwrap();
        assert!(budget.admits(200.0, 1e6, 0.0) && budget.admits(200.0, 1e6, 1.0));
        assert!(!budget.admits(3.0, 1e6, 2.0) && !budget.admits(f64::NAN, 1e6, 3.0));
        assert_eq!((budget.alerts(), budget.held_back()), (2, 0));
        assert!(!budget.admits(12.0, 1e6, 4.0) && budget.admits(12.0, 1e6, DAY_S));
        assert_eq!(budget.held_back(), 1);
    }

    #[test]
    fn budgets_out_of_range_are_rejected() {
        for wrong in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e6] {
            assert!(AlertBudget::new(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_evidence_spends_more_than_is_promised(evidence in prop::collection::vec(0.0..60.0_f64, 1..400), budget in 0.5..50.0_f64, hours in 0.1..24.0_f64) {
            let mut held = AlertBudget::new(budget).unwrap();
            let mut at = 0.0;
            for evidence in &evidence {
                held.admits(*evidence, 24.0 / hours, at);
                at += hours * 3600.0;
            }
            let days = evidence.len() as f64 * hours / 24.0;
            prop_assert!(held.alerts() as f64 <= budget * days + 60.0 / STEP + 2.0);
        }

        #[test]
        fn clocks_that_jump_do_no_harm(steps in prop::collection::vec((-1e9..1e9_f64, 0.0..100.0_f64), 1..100)) {
            let mut held = AlertBudget::new(10.0).unwrap();
            for (at, evidence) in steps {
                held.admits(evidence, 1e4, at);
                prop_assert!(held.threshold(1e4).is_finite() && held.threshold(1e4) >= 1000_f64.ln());
            }
        }
    }
}
