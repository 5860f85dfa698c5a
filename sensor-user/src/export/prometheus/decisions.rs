//! What became of findings before they were incidents: alerts that chance could have brought, and what was withheld.

use prometheus::{Gauge, IntCounter, IntCounterVec, Registry};
use sensor_core::engine::Engine;
use sensor_core::incident::Class;

use super::{Result, counter, counters, real};

pub(super) struct Decisions {
    alerts: IntCounterVec,
    held_back: IntCounterVec,
    per_day: Gauge,
    suppressed: IntCounterVec,
    not_opened: IntCounter,
}

impl Decisions {
    pub(super) fn new(r: &Registry) -> Result<Self> {
        let this = Self {
            alerts: counters(
                r,
                "leuko_alert_budget_alerts_total",
                "Incidents that the alert budget let through; what is certain is not counted.",
                &["class"],
            )?,
            held_back: counters(
                r,
                "leuko_alert_budget_held_back_total",
                "Times that something rare was not reported because the alert budget was spent.",
                &["class"],
            )?,
            per_day: real(r, "leuko_alert_budget_per_day", "Alerts a day that are acceptable.")?,
            suppressed: counters(
                r,
                "leuko_findings_suppressed_total",
                "Findings withheld by a rule; one attack gives a finding at each tick.",
                &["rule"],
            )?,
            not_opened: counter(
                r,
                "leuko_incidents_not_opened_total",
                "Findings that found no room for an incident, one attack at each tick.",
            )?,
        };
        for class in Class::ALL {
            this.alerts.with_label_values(&[class.as_str()]);
            this.held_back.with_label_values(&[class.as_str()]);
        }
        Ok(this)
    }

    pub(super) fn feed(&self, engine: &Engine) {
        let admission = engine.admission();
        self.per_day.set(admission.budget().alerts_per_day());
        for (all, counts) in [(&self.alerts, admission.alerts()), (&self.held_back, admission.held_back())] {
            counts.iter().for_each(|(class, &count)| raise(all, class.as_str(), count));
        }
        self.not_opened.inc_by(engine.not_opened_incidents().saturating_sub(self.not_opened.get()));
        engine.suppressor().withheld().iter().for_each(|(rule, &count)| raise(&self.suppressed, rule, count));
    }
}

/// A counter follows a count; one that began anew counts on.
fn raise(counters: &IntCounterVec, label: &str, count: u64) {
    let counter = counters.with_label_values(&[label]);
    counter.inc_by(count.saturating_sub(counter.get()));
}
