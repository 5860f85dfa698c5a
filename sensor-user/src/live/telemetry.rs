//! From ticks to metrics: totals of the kernel and the engine become increments.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use sensor_core::engine::Engine;
use sensor_core::flow::EndReason;
use sensor_ebpf::abi::{Counters, Hook, Reason};

use super::Tick;
use super::conditions::Conditions;
use crate::export::prometheus::{Learning, Metrics, Vocabulary};
use crate::source::kernel::PROGRAMS;

/// Label values that exist from the start.
pub const VOCABULARY: Vocabulary = Vocabulary { unaccounted: &UNACCOUNTED, ended: &ENDED, programs: &PROGRAMS };

const UNACCOUNTED: [&str; Reason::COUNT] = {
    let mut names = [""; Reason::COUNT];
    let mut index = 0;
    while index < names.len() {
        names[index] = Reason::ALL[index].as_str();
        index += 1;
    }
    names
};

const ENDED: [&str; EndReason::ALL.len()] = {
    let mut names = [""; EndReason::ALL.len()];
    let mut index = 0;
    while index < names.len() {
        names[index] = EndReason::ALL[index].as_str();
        index += 1;
    }
    names
};

/// Feeds the metrics, and remembers what it has fed.
pub struct Telemetry {
    metrics: Arc<Metrics>,
    counters: [Counters; 2],
    conditions: Conditions,
    arp: [u64; 2],
    learning: Learning,
    started: u64,
    ended: BTreeMap<&'static str, u64>,
    programs: BTreeMap<&'static str, (u64, Duration)>,
}

impl Telemetry {
    /// Feeds `metrics`.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            counters: [Counters::default(); 2],
            conditions: Conditions::default(),
            arp: [0; 2],
            learning: Learning::default(),
            started: 0,
            ended: BTreeMap::new(),
            programs: BTreeMap::new(),
        }
    }

    /// Takes in a tick.
    pub fn feed(&mut self, engine: &mut Engine, tick: &Tick) {
        self.conditions.tell(tick);
        self.metrics.conservation(tick.coverage, tick.gap);
        self.feed_traffic(tick);
        self.feed_arp(engine);
        self.feed_flows(engine, tick);
        self.feed_programs(tick);
        for event in &tick.events {
            self.metrics.incident(event);
        }
        for score in engine.take_scores() {
            self.metrics.scored(score);
        }
        self.feed_learning(engine);
        self.metrics.decided(engine);
        self.metrics.warmup_remaining(engine.warmup_left(tick.now).unwrap_or_default());
        if let Some(baseline) = engine.baseline() {
            self.metrics.model_trained(UNIX_EPOCH + Duration::from_secs(baseline.training().trained_at_s));
        }
        if let Some(report) = &tick.canary {
            self.metrics.canary(report);
        }
        self.metrics.polled(tick.polled);
        self.metrics.ticked(tick.took);
    }

    fn feed_traffic(&mut self, tick: &Tick) {
        for hook in Hook::ALL {
            let (now, before) = (&tick.counters[hook as usize], &mut self.counters[hook as usize]);
            let since = |field: fn(&Counters) -> u64| field(now).saturating_sub(field(before));
            self.metrics.traffic(hook, since(|all| all.packets), since(|all| all.octets));
            self.metrics.overflowed(hook, since(|all| all.overflowed));
            self.metrics.fragments(since(|all| all.fragments), since(|all| all.orphan_fragments));
            self.metrics.groups(since(|all| all.multicast), since(|all| all.broadcast));
            self.metrics.arp_lost(since(|all| all.arp_lost));
            self.metrics.respond().would_drop(hook.as_str(), since(|all| all.would_drop));
            for reason in Reason::ALL {
                let packets = now.unaccounted[reason as usize].saturating_sub(before.unaccounted[reason as usize]);
                self.metrics.unaccounted(reason.as_str(), packets);
            }
            *before = *now;
        }
    }

    fn feed_arp(&mut self, engine: &Engine) {
        let now = [engine.arp_messages(), engine.arp_conflicts()];
        let [messages, conflicts] = [0, 1].map(|index: usize| now[index] - self.arp[index]);
        self.metrics.arp(messages, conflicts);
        self.arp = now;
    }

    fn feed_flows(&mut self, engine: &Engine, tick: &Tick) {
        let live = engine.live_flows();
        self.metrics.flow_table(live as u64, live as f64 / tick.capacity.max(1) as f64);
        self.metrics.flows_started(engine.started_flows() - self.started);
        self.started = engine.started_flows();
        for (&reason, &count) in engine.ended() {
            let before = self.ended.insert(reason, count).unwrap_or(0);
            self.metrics.flows_ended(reason, count - before);
        }
    }

    fn feed_learning(&mut self, engine: &Engine) {
        let anomaly = engine.anomaly();
        let learners = [anomaly.learner(), engine.host_anomaly().learner()];
        let now = Learning {
            not_scored: anomaly.passed_over(),
            not_learned: learners.iter().map(|learner| learner.lost()).sum::<u64>()
                + engine.host_anomaly().passed_over(),
            drifts: learners.iter().map(|learner| learner.drifts()).sum(),
        };
        let before = std::mem::replace(&mut self.learning, now);
        self.metrics.anomaly(Learning {
            not_scored: now.not_scored - before.not_scored,
            not_learned: now.not_learned - before.not_learned,
            drifts: now.drifts - before.drifts,
        });
    }

    fn feed_programs(&mut self, tick: &Tick) {
        for &(program, runs, time) in &tick.program_runs {
            let (runs_before, time_before) = self.programs.insert(program, (runs, time)).unwrap_or_default();
            self.metrics.program_ran(program, runs.saturating_sub(runs_before), time.saturating_sub(time_before));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_a_label() {
        assert_eq!(UNACCOUNTED.map(str::is_empty), [false; Reason::COUNT]);
        assert_eq!(ENDED.map(str::is_empty), [false; EndReason::ALL.len()]);
    }
}
