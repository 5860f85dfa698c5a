//! What became of canaries.

use prometheus::{Histogram, IntCounterVec, Registry};

use super::{Result, counters, histogram};
use crate::canary::{Outcome, Report};

/// Metrics of the self-test.
pub struct CanaryMetrics {
    seconds: Histogram,
    results: IntCounterVec,
}

impl CanaryMetrics {
    /// Registers them.
    ///
    /// # Errors
    /// When the registry holds one of the names already.
    pub fn new(r: &Registry) -> Result<Self> {
        let buckets = prometheus::exponential_buckets(0.062_5, 2.0, 12)?;
        let this = Self {
            seconds: histogram(r, "leuko_canary_seconds", "From a canary's first packet to its incident.", buckets)?,
            results: counters(r, "leuko_canaries_total", "Canaries by what became of them.", &["result"])?,
        };
        for outcome in Outcome::ALL {
            this.results.with_label_values(&[outcome.as_str()]);
        }
        Ok(this)
    }

    /// Records one.
    pub fn feed(&self, report: &Report) {
        self.results.with_label_values(&[report.outcome.as_str()]).inc();
        if let Some(incident) = report.stages.incident {
            self.seconds.observe(incident.as_secs_f64());
        }
    }
}
