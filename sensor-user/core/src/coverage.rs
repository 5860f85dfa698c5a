//! How much of the traffic was accounted, and whether every packet is in exactly one counter.
//!
//! Conservation: packets at the hooks = packets in flows + packets in overflow aggregates + packets counted by reason.

use std::collections::BTreeMap;

use sensor_ebpf::abi::{Counters, Reason};

/// What userspace was handed so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Packets in flows.
    pub in_flows: u64,
    /// Packets in overflow aggregates.
    pub in_aggregates: u64,
    /// Packets of either that an earlier process took out of the source's tables.
    pub earlier: u64,
}

impl Held {
    /// The packets that were looked at, where the source looks at one of `sampling` and multiplies what it counts.
    #[must_use]
    pub const fn looked_at(self, sampling: u32) -> Self {
        let factor = if sampling == 0 { 1 } else { sampling as u64 };
        Self { in_flows: self.in_flows / factor, in_aggregates: self.in_aggregates / factor, ..self }
    }
}

/// The counters of all hooks together.
#[must_use]
pub fn total(hooks: &[Counters]) -> Counters {
    let mut total = Counters::default();
    hooks.iter().for_each(|counters| total.merge(counters));
    total
}

/// Packets that should be in a flow or an aggregate and are in neither: unreadable, or of a link layer that is not
/// understood.
#[must_use]
pub fn missed(counters: &Counters) -> u64 {
    counters.unaccounted_total() - beside(counters)
}

/// Part of the packets that is in flows or aggregates, of those that belong into one; 1 when there are none.
///
/// Other protocols than IP, copies of packets that have been counted, and what sampling leaves out belong into none.
#[must_use]
pub fn ratio(counters: &Counters) -> f64 {
    let expected = counters.packets.saturating_sub(beside(counters));
    if expected == 0 {
        return 1.0;
    }
    1.0 - missed(counters).min(expected) as f64 / expected as f64
}

/// [`ratio`] of what was counted from `then` to `now`.
#[must_use]
pub fn ratio_between(then: &Counters, now: &Counters) -> f64 {
    let mut moved = Counters { packets: now.packets.saturating_sub(then.packets), ..Counters::default() };
    for (moved, (now, then)) in moved.unaccounted.iter_mut().zip(now.unaccounted.iter().zip(then.unaccounted)) {
        *moved = now.saturating_sub(then);
    }
    ratio(&moved)
}

/// Packets that no counter holds, or, below zero, that more than one holds.
///
/// The hooks' counters are read before the tables and after: what is `held` lies between the two unless packets are
/// missing, however busy the hooks are. Packets that a processor is counting at that instant may show as a gap of a few.
#[must_use]
pub fn gap(before: &Counters, held: Held, after: &Counters) -> i64 {
    let in_tables = held.in_flows.saturating_add(held.in_aggregates).saturating_add(held.earlier);
    let distance = |counters: &Counters| {
        let held = i128::from(in_tables) + i128::from(counters.unaccounted_total());
        let gap = i128::from(counters.packets) - held;
        i64::try_from(gap).unwrap_or(if gap > 0 { i64::MAX } else { i64::MIN })
    };
    match (distance(before), distance(after)) {
        (missing, _) if missing > 0 => missing,
        (_, surplus) if surplus < 0 => surplus,
        _ => 0,
    }
}

/// Packets in no flow by what became of them, as the summary names it: in an overflow aggregate, or the reason.
#[must_use]
pub fn outside_flows(counters: &Counters) -> BTreeMap<String, u64> {
    let reasons = Reason::ALL.iter().map(|&reason| (reason.as_str(), counters.unaccounted[reason as usize]));
    reasons.chain([("overflow", counters.overflowed)]).map(|(name, packets)| (name.to_owned(), packets)).collect()
}

/// Packets that belong into no flow by nature or by configuration.
fn beside(counters: &Counters) -> u64 {
    counters.without_flow() + counters.unaccounted[Reason::Sampled as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(packets: u64, overflowed: u64, reasons: &[(Reason, u64)]) -> Counters {
        let mut counters = Counters { packets, overflowed, ..Counters::default() };
        reasons.iter().for_each(|&(reason, packets)| counters.unaccounted[reason as usize] = packets);
        counters
    }

    #[test]
    fn coverage_is_of_what_belongs_into_a_flow() {
        use Reason::{Arp, Forwarded, Malformed, NonIp, Sampled, Truncated};
        for (counters, expected) in [
            (counters(0, 0, &[]), 1.0),
            (counters(100, 0, &[]), 1.0),
            (counters(100, 60, &[]), 1.0),
            (counters(100, 0, &[(Arp, 10), (NonIp, 10), (Forwarded, 10), (Sampled, 20)]), 1.0),
            (counters(100, 0, &[(Arp, 20), (Truncated, 15), (Malformed, 5)]), 0.75),
            (counters(10, 0, &[(Arp, 10)]), 1.0),
            (counters(10, 0, &[(Truncated, 10)]), 0.0),
        ] {
            assert!((ratio(&counters) - expected).abs() < 1e-12, "{counters:?}");
        }
    }

    #[test]
    fn an_interval_has_its_own_coverage() {
        let then = counters(1000, 0, &[(Reason::Truncated, 500)]);
        let now = counters(1100, 0, &[(Reason::Truncated, 525), (Reason::Arp, 50)]);
        assert!((ratio_between(&then, &now) - 0.5).abs() < 1e-12);
        assert!((ratio_between(&now, &now) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn a_gap_is_only_what_traffic_does_not_explain() {
        let (before, after) = (counters(100, 0, &[(Reason::Arp, 10)]), counters(160, 0, &[(Reason::Arp, 20)]));
        for (in_flows, in_aggregates, expected) in
            [(90, 0, 0), (100, 20, 0), (140, 0, 0), (80, 5, 5), (141, 0, -1), (0, 145, -5)]
        {
            for (in_flows, earlier) in [(in_flows, 0), (0, in_flows)] {
                let held = Held { in_flows, in_aggregates, earlier };
                assert_eq!(gap(&before, held, &after), expected, "{held:?}");
            }
        }
        let multiplied = Held { in_flows: 900, in_aggregates: 200, earlier: 5 };
        assert_eq!(multiplied.looked_at(10), Held { in_flows: 90, in_aggregates: 20, earlier: 5 });
        assert_eq!((multiplied.looked_at(0), multiplied.looked_at(1)), (multiplied, multiplied));
        assert_eq!(gap(&Counters::default(), Held::default(), &Counters::default()), 0);
    }

    #[test]
    fn the_summary_names_overflow_beside_the_reasons() {
        let named = outside_flows(&counters(100, 30, &[(Reason::Truncated, 2)]));
        assert_eq!((named.len(), named["overflow"], named["truncated"]), (Reason::COUNT + 1, 30, 2));
    }
}
