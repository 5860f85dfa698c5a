//! What is done about attackers.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};
use sensor_core::respond::{Block, Decider, Ending, LadderStats, Protection};
use sensor_core::time::Timestamp;

use super::{Result, counter, counters, gauge, gauges};
use crate::respond::lists::ListStatus;

/// Metrics of blocks.
pub struct RespondMetrics {
    blocks: IntGaugeVec,
    entries: IntGauge,
    put: IntCounterVec,
    lifted: IntCounterVec,
    spared: IntCounterVec,
    would_drop: IntCounterVec,
    failures: IntCounter,
    list_entries: IntGaugeVec,
    list_age: IntGaugeVec,
}

const STATES: [&str; 2] = ["enforced", "observed"];
const DECIDERS: [&str; 3] = ["person", "incident", "list"];
const SPARED: [&str; 3] = ["unproven", "protected", "cap"];
const ENDINGS: [&Ending; 5] = [
    &Ending::Expired,
    &Ending::Unblocked { actor: String::new(), reason: String::new() },
    &Ending::RolledBack,
    &Ending::Guarded(Protection::Own),
    &Ending::Delisted,
];

impl RespondMetrics {
    pub(super) fn new(r: &Registry) -> Result<Self> {
        let metrics = Self {
            blocks: gauges(r, "leuko_blocks", "Blocks of people and of the sensor.", "state")?,
            entries: gauge(
                r,
                "leuko_block_entries",
                "Entries of the kernel's list of blocks, those of lists included.",
            )?,
            put: counters(
                r,
                "leuko_blocked_total",
                "Blocks that were put, by who decided and whether they only count.",
                &["by", "state"],
            )?,
            lifted: counters(r, "leuko_unblocked_total", "Blocks that ended, by why.", &["why"])?,
            spared: counters(r, "leuko_not_blocked_total", "Attackers that were left alone, by why.", &["why"])?,
            would_drop: counters(
                r,
                "leuko_would_drop_packets_total",
                "Packets that blocks which only count would have dropped.",
                &["hook"],
            )?,
            list_entries: gauges(r, "leuko_list_entries", "Networks of a list from elsewhere.", "list")?,
            list_age: gauges(
                r,
                "leuko_list_age_seconds",
                "Time since a list was known to be what its source has.",
                "list",
            )?,
            failures: counter(r, "leuko_block_failures_total", "Blocks that the kernel has not taken.")?,
        };
        STATES.iter().for_each(|state| metrics.blocks.with_label_values(&[state]).set(0));
        for by in DECIDERS {
            STATES.iter().for_each(|state| metrics.put.with_label_values(&[by, *state]).inc_by(0));
        }
        ENDINGS.iter().for_each(|ending| metrics.lifted.with_label_values(&[ending.as_str()]).inc_by(0));
        SPARED.iter().for_each(|why| metrics.spared.with_label_values(&[why]).inc_by(0));
        for hook in sensor_ebpf::abi::Hook::ALL {
            metrics.would_drop.with_label_values(&[hook.as_str()]).inc_by(0);
        }
        Ok(metrics)
    }

    /// Counts a block that was put.
    pub fn put(&self, block: &Block) {
        let by = match block.by {
            Decider::Person(_) => DECIDERS[0],
            Decider::Incident(_) => DECIDERS[1],
            Decider::List(_) => DECIDERS[2],
        };
        self.put.with_label_values(&[by, STATES[usize::from(!block.enforced)]]).inc();
    }

    /// Counts a block that ended.
    pub fn lifted(&self, ending: &Ending) {
        self.lifted.with_label_values(&[ending.as_str()]).inc();
    }

    /// Counts a block that the kernel has not taken.
    pub fn failed(&self) {
        self.failures.inc();
    }

    /// Says how lists from elsewhere fare. One that was never read has no entries and no age.
    pub fn lists(&self, lists: &[ListStatus], now: Timestamp) {
        let whole = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        for list in lists {
            let name = [list.name.as_str()];
            self.list_entries.with_label_values(&name).set(whole(list.entries.unwrap_or(0) as u64));
            if let Some(age) = list.age(now) {
                self.list_age.with_label_values(&name).set(whole(age.as_secs()));
            }
        }
    }

    /// Counts packets that would have been dropped.
    pub fn would_drop(&self, hook: &str, packets: u64) {
        self.would_drop.with_label_values(&[hook]).inc_by(packets);
    }

    /// Follows the ladder: what it has counted so far, its blocks (enforced, observed), and the entries in the kernel.
    pub fn feed(&self, before: &LadderStats, now: &LadderStats, blocks: [usize; 2], entries: usize) {
        let spared = [now.unproven - before.unproven, now.guarded - before.guarded, now.capped - before.capped];
        for (why, count) in SPARED.iter().zip(spared) {
            self.spared.with_label_values(&[why]).inc_by(count);
        }
        for (state, count) in STATES.iter().zip(blocks) {
            self.blocks.with_label_values(&[state]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        self.entries.set(i64::try_from(entries).unwrap_or(i64::MAX));
    }
}
