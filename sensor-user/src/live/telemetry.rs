//! From ticks to metrics: totals of the kernel and the engine become increments.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use sensor_core::engine::Engine;
use sensor_core::flow::EndReason;
use sensor_ebpf::abi::{Counters, Hook, Reason};
use tracing::warn;

use super::Tick;
use crate::export::prometheus::{Metrics, Vocabulary};
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
    started: u64,
    ended: BTreeMap<&'static str, u64>,
    programs: BTreeMap<&'static str, (u64, Duration)>,
}

/// Rates over the last interval, for the status line.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moved {
    /// Wire packets.
    pub packets: u64,
    /// IP octets.
    pub octets: u64,
    /// Packets in no flow for lack of room.
    pub lost: u64,
}

impl Telemetry {
    /// Feeds `metrics`.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            counters: [Counters::default(); 2],
            started: 0,
            ended: BTreeMap::new(),
            programs: BTreeMap::new(),
        }
    }

    /// Takes in a tick; says what moved since the one before.
    pub fn feed(&mut self, engine: &mut Engine, tick: &Tick) -> Moved {
        let moved = self.feed_traffic(tick);
        self.feed_flows(engine, tick);
        self.feed_programs(tick);
        for event in &tick.events {
            self.metrics.incident(event);
        }
        for score in engine.take_scores() {
            self.metrics.scored(score);
        }
        self.metrics.warmup_remaining(engine.warmup_left(tick.now).unwrap_or_default());
        if let Some(baseline) = engine.baseline() {
            self.metrics.model_trained(UNIX_EPOCH + Duration::from_secs(baseline.training().trained_at_s));
        }
        self.metrics.polled(tick.polled);
        self.metrics.ticked(tick.took);
        moved
    }

    fn feed_traffic(&mut self, tick: &Tick) -> Moved {
        let mut moved = Moved::default();
        for hook in Hook::ALL {
            let (now, before) = (&tick.counters[hook as usize], &mut self.counters[hook as usize]);
            let packets = now.packets.saturating_sub(before.packets);
            let octets = now.octets.saturating_sub(before.octets);
            self.metrics.traffic(hook, packets, octets);
            for reason in Reason::ALL {
                let lost = now.unaccounted[reason as usize].saturating_sub(before.unaccounted[reason as usize]);
                self.metrics.unaccounted(reason.as_str(), lost);
            }
            moved.lost += now.overflowed.saturating_sub(before.overflowed);
            moved.packets += packets;
            moved.octets += octets;
            *before = *now;
        }
        if moved.lost > 0 {
            warn!(packets = moved.lost, "flow table full: packets in no flow; raise --flows");
        }
        moved
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
        let balance = Balance::of(&tick.counters, engine.accounted_packets());
        self.metrics.conservation(balance.coverage, balance.gap);
    }

    fn feed_programs(&mut self, tick: &Tick) {
        for &(program, runs, time) in &tick.program_runs {
            let (runs_before, time_before) = self.programs.insert(program, (runs, time)).unwrap_or_default();
            self.metrics.program_ran(program, runs.saturating_sub(runs_before), time.saturating_sub(time_before));
        }
    }
}

/// The conservation equation: packets at the hooks = packets in flows + packets counted by reason.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Balance {
    /// Packets in flows over packets at the hooks; 1 while there are none.
    pub coverage: f64,
    /// Packets at the hooks that no counter holds. While traffic runs, those in flight between two reads show here.
    pub gap: i64,
}

impl Balance {
    /// Compares the hooks' counters with the packets that reached userspace in flows.
    #[must_use]
    pub fn of(counters: &[Counters; 2], accounted: u64) -> Self {
        let mut total = Counters::default();
        counters.iter().for_each(|counters| total.merge(counters));
        let held = accounted.saturating_add(total.unaccounted_total());
        let coverage = if total.packets == 0 { 1.0 } else { (accounted as f64 / total.packets as f64).min(1.0) };
        let gap = i128::from(total.packets) - i128::from(held);
        Self { coverage, gap: i64::try_from(gap).unwrap_or(i64::MAX) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_balance_counts_every_packet_once() {
        let mut ingress = Counters { packets: 100, ..Counters::default() };
        ingress.unaccounted[Reason::Arp as usize] = 10;
        let egress = Counters { packets: 50, ..Counters::default() };
        for (accounted, coverage, gap) in [(140, 140.0 / 150.0, 0), (135, 0.9, 5), (142, 142.0 / 150.0, -2)] {
            let balance = Balance::of(&[ingress, egress], accounted);
            assert_eq!(balance, Balance { coverage, gap });
        }
        assert_eq!(Balance::of(&[Counters::default(); 2], 0), Balance { coverage: 1.0, gap: 0 });
    }

    #[test]
    fn every_reason_is_a_label() {
        assert_eq!(UNACCOUNTED.map(str::is_empty), [false; Reason::COUNT]);
        assert_eq!(ENDED.map(str::is_empty), [false; EndReason::ALL.len()]);
    }
}
