//! What is kept, and who was told.

use prometheus::{GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};
use sensor_core::time::Timestamp;

use super::{Result, add, counter, counters, gauge, gauges};
use crate::notify::Outcome;
use crate::store::Queue;

/// What a store that cannot keep up loses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreLoss {
    /// Events of incidents.
    Events,
    /// Records of flows.
    Flows,
}

impl StoreLoss {
    const ALL: [Self; 2] = [Self::Events, Self::Flows];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Flows => "flows",
        }
    }
}

/// Metrics of the store and of the outbox. The label `sink` is the name of a sink in the configuration.
pub struct StoreMetrics {
    up: IntGauge,
    size: IntGauge,
    errors: IntCounter,
    lost: IntCounterVec,
    events: IntGaugeVec,
    oldest: GaugeVec,
    dead: IntGaugeVec,
    notifications: IntCounterVec,
}

impl StoreMetrics {
    pub(super) fn new(r: &Registry) -> Result<Self> {
        let this = Self {
            up: gauge(r, "leuko_store_up", "1 if the store can be written; else incidents are told but not kept.")?,
            size: gauge(r, "leuko_store_size_bytes", "Size of what is kept.")?,
            errors: counter(r, "leuko_store_errors_total", "Writes to the store that failed.")?,
            lost: counters(r, "leuko_store_lost_total", "What was neither kept nor told.", &["what"])?,
            events: gauges(r, "leuko_outbox_events", "Events that wait for a sink.", "sink")?,
            oldest: add(
                r,
                GaugeVec::new(
                    Opts::new("leuko_outbox_oldest_age_seconds", "How long the first of them has waited."),
                    &["sink"],
                )?,
            )?,
            dead: gauges(r, "leuko_outbox_dead_letters", "Events that were given up.", "sink")?,
            notifications: counters(
                r,
                "leuko_notifications_total",
                "What became of events at a sink.",
                &["sink", "result"],
            )?,
        };
        for what in StoreLoss::ALL {
            this.lost(what, 0);
        }
        Ok(this)
    }

    /// Makes the series of sinks, so that `rate()` sees the first event.
    pub fn expect<'a>(&self, sinks: impl IntoIterator<Item = &'a str>) {
        for sink in sinks {
            self.events.with_label_values(&[sink]).set(0);
            self.oldest.with_label_values(&[sink]).set(0.0);
            self.dead.with_label_values(&[sink]).set(0);
            for outcome in Outcome::ALL {
                self.notified(sink, outcome, 0);
            }
        }
    }

    /// Whether the store can be written.
    pub fn up(&self, up: bool) {
        self.up.set(i64::from(up));
    }

    /// A write has failed.
    pub fn failed(&self) {
        self.errors.inc();
    }

    /// Something was lost.
    pub fn lost(&self, what: StoreLoss, count: u64) {
        self.lost.with_label_values(&[what.as_str()]).inc_by(count);
    }

    /// Size in bytes.
    pub fn size(&self, bytes: u64) {
        self.size.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Where sinks stand.
    pub fn outbox(&self, queues: &[Queue], now: Timestamp) {
        for queue in queues {
            let sink = [queue.sink.as_str()];
            let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
            self.events.with_label_values(&sink).set(count(queue.pending));
            self.dead.with_label_values(&sink).set(count(queue.dead));
            let age = queue.oldest.map_or(0.0, |oldest| now.since(oldest).as_secs_f64());
            self.oldest.with_label_values(&sink).set(age);
        }
    }

    /// Counts what became of events at a sink.
    pub fn notified(&self, sink: &str, outcome: Outcome, events: u64) {
        self.notifications.with_label_values(&[sink, outcome.as_str()]).inc_by(events);
    }
}
