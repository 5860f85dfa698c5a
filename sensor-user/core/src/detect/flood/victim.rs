//! What one victim of a flood was sent, second by second.

use std::collections::{BTreeMap, BTreeSet};

use sensor_ebpf::abi::Addr;

use super::WINDOW;
use crate::flow::{FlowEvent, OverflowEvent};
use crate::incident::Class;
use crate::sketch::Distinct;
use crate::time::Timestamp;

/// Part of what the busiest source sends in vain below which a source is not called an attacker.
const MINOR: u64 = 20;
/// Ports counted exactly for one victim in one second.
const PORTS: usize = 256;
/// Sources listed for one victim in one second.
const SOURCES: usize = 64;
/// Mean octets of unasked answers from which they are heavy: twice what ordinary questions bring.
const HEAVY: u64 = 300;
/// Ports counted exactly that are hit by heavy answers to one victim in one second.
const STRUCK: usize = 32;
/// UDP services that answer at greater length than they are asked: those of Rossow and of the
/// alerts that CISA has published since (TA14-017A).
const AMPLIFIERS: [u16; 22] = [
    17, 19, 53, 69, 111, 123, 137, 161, 389, 427, 520, 1900, 3283, 3478, 3702, 5351, 5353, 5683, 10001, 11211, 27015,
    37810,
];

#[derive(Debug, Default)]
pub(super) struct Victim {
    /// What arrived, by the second of event time; at most the window's.
    pub(super) seconds: BTreeMap<u64, Second>,
    /// Since the victim is followed, in flows.
    pub(super) sources: Distinct,
    pub(super) ports: Distinct,
    /// Since the victim is followed, in aggregates: estimates.
    pub(super) overflow_sources: u64,
    pub(super) overflow_ports: u64,
    /// What the flood was first taken for.
    pub(super) class: Option<Class>,
}

#[derive(Debug, Default)]
pub(super) struct Second {
    pub(super) arrivals: u64,
    pub(super) octets: u64,
    pub(super) useful: u64,
    /// TCP: connections completed and not used; negative while the use of those of an earlier second is all there is.
    pub(super) completed: i64,
    /// Unasked answers, by the port of the service that gave them.
    pub(super) reflected: BTreeMap<u16, u64>,
    /// Who gave them.
    reflectors: BTreeMap<Addr, Reflected>,
    /// Heavy ones, by the port that they hit.
    struck: BTreeMap<u16, u64>,
    pub(super) flows: u64,
    /// Arrivals in aggregates, and all packets in them.
    pub(super) overflow_arrivals: u64,
    pub(super) overflow_packets: u64,
    /// What each port was sent in vain; likewise.
    pub(super) ports: BTreeMap<u16, i64>,
    /// What each source sent in vain; negative while an answer to an earlier second is all there is.
    pub(super) sources: BTreeMap<Addr, i64>,
    pub(super) first_seen: Option<Timestamp>,
    pub(super) last_seen: Timestamp,
}

/// Unasked answers of one host.
#[derive(Clone, Copy, Debug, Default)]
struct Reflected {
    heavy: u64,
    /// Where its latest answer arrived.
    port: u16,
}

pub(super) struct Arrival {
    pub(super) victim: Addr,
    pub(super) port: u16,
    pub(super) source: Addr,
    pub(super) arrivals: u64,
    pub(super) octets: u64,
    pub(super) useful: u64,
    /// Connections that were completed and not used, or less those that are used now.
    pub(super) completed: i64,
    /// Port of the service whose unasked answer this is.
    pub(super) amplifier: Option<u16>,
}

impl Victim {
    pub(super) fn sum(&self, field: impl Fn(&Second) -> u64) -> u64 {
        self.seconds.values().map(field).sum()
    }

    /// Connections that were completed and not used.
    pub(super) fn completed(&self) -> u64 {
        self.seconds.values().map(|second| second.completed).sum::<i64>().try_into().unwrap_or(0)
    }

    /// A source that is in flows and in aggregates counts twice.
    pub(super) fn sources(&self) -> u64 {
        self.sources.count() + self.overflow_sources
    }

    /// The ports that flows and aggregates name are mostly the same.
    pub(super) fn ports(&self) -> u64 {
        self.ports.count().max(self.overflow_ports)
    }

    /// Sources that send much in vain: clients that are served are none.
    pub(super) fn attackers(&self) -> BTreeSet<Addr> {
        let mut useless: BTreeMap<Addr, i64> = BTreeMap::new();
        for (&source, count) in self.seconds.values().flat_map(|second| &second.sources) {
            *useless.entry(source).or_default() += count;
        }
        let useless = useless.into_iter().filter_map(|(source, count)| Some((source, u64::try_from(count).ok()?)));
        let useless: Vec<(Addr, u64)> = useless.collect();
        let most = useless.iter().map(|&(_, count)| count).max().unwrap_or(0);
        useless.into_iter().filter(|&(_, count)| count > 0 && count * MINOR >= most).map(|(source, _)| source).collect()
    }

    /// What each port was sent in vain: services that serve are not what is attacked.
    fn by_port(&self) -> BTreeMap<u16, u64> {
        let mut ports: BTreeMap<u16, i64> = BTreeMap::new();
        for (&port, count) in self.seconds.values().flat_map(|second| &second.ports) {
            *ports.entry(port).or_default() += count;
        }
        ports.into_iter().filter_map(|(port, count)| Some((port, u64::try_from(count).ok()?))).collect()
    }

    /// Unasked answers of services that amplify, by port.
    pub(super) fn reflected(&self) -> BTreeMap<u16, u64> {
        let mut ports: BTreeMap<u16, u64> = BTreeMap::new();
        for (&port, count) in self.seconds.values().flat_map(|second| &second.reflected) {
            *ports.entry(port).or_default() += count;
        }
        ports
    }

    /// Heavy answers nobody asked for, if most hit one port: a resolver whose questions are not seen asks from many
    /// (RFC 5452).
    pub(super) fn heavy(&self) -> u64 {
        self.struck().map_or(0, |(_, heavy)| heavy)
    }

    /// Hosts that gave unasked answers; of those to other ports than most heavy ones, if most hit one port, only those
    /// that gave heavy ones.
    pub(super) fn reflectors(&self) -> BTreeSet<Addr> {
        let struck = self.struck().map(|(port, _)| port);
        let all = self.seconds.values().flat_map(|second| &second.reflectors);
        let wanted = all.filter(|(_, by)| struck.is_none_or(|port| by.heavy > 0 || by.port == port));
        wanted.map(|(&addr, _)| addr).collect()
    }

    /// The port that most heavy answers hit, and how many there are.
    fn struck(&self) -> Option<(u16, u64)> {
        let mut ports: BTreeMap<u16, u64> = BTreeMap::new();
        for (&port, count) in self.seconds.values().flat_map(|second| &second.struck) {
            *ports.entry(port).or_default() += count;
        }
        let (port, most) = ports.into_iter().max_by_key(|&(_, count)| count)?;
        let heavy = self.seconds.values().flat_map(|second| second.reflectors.values()).map(|by| by.heavy).sum();
        (2 * most >= heavy).then_some((port, heavy))
    }

    pub(super) fn most_on_a_port(&self) -> u64 {
        self.by_port().into_values().max().unwrap_or(0)
    }

    /// The ports hit most, but for stray ones.
    pub(super) fn busiest_ports(&self) -> BTreeSet<u16> {
        let ports = self.by_port();
        let most = ports.values().copied().max().unwrap_or(0);
        ports.into_iter().filter(|&(_, count)| count * 20 >= most).map(|(port, _)| port).collect()
    }
}

impl Second {
    pub(super) fn add(&mut self, arrival: &Arrival, event: &FlowEvent) {
        self.arrivals += arrival.arrivals;
        self.octets += arrival.octets;
        self.useful += arrival.useful;
        self.completed += arrival.completed;
        self.flows += u64::from(event.is_new);
        if let Some(port) = arrival.amplifier.filter(|port| AMPLIFIERS.contains(port)) {
            *self.reflected.entry(port).or_default() += arrival.arrivals;
            self.add_reflected(arrival);
        }
        let useless = i64::try_from(arrival.arrivals).unwrap_or(i64::MAX) - i64::try_from(arrival.useful).unwrap_or(0);
        if self.ports.len() < PORTS || self.ports.contains_key(&arrival.port) {
            *self.ports.entry(arrival.port).or_default() += useless;
        }
        if self.sources.len() < SOURCES || self.sources.contains_key(&arrival.source) {
            *self.sources.entry(arrival.source).or_default() += useless;
        }
        self.cover(event.first_seen, event.last_seen);
    }

    fn add_reflected(&mut self, arrival: &Arrival) {
        let heavy = if arrival.octets >= HEAVY * arrival.arrivals { arrival.arrivals } else { 0 };
        if self.reflectors.len() < SOURCES || self.reflectors.contains_key(&arrival.source) {
            let by = self.reflectors.entry(arrival.source).or_default();
            by.heavy += heavy;
            by.port = arrival.port;
        }
        if heavy > 0 && (self.struck.len() < STRUCK || self.struck.contains_key(&arrival.port)) {
            *self.struck.entry(arrival.port).or_default() += heavy;
        }
    }

    pub(super) fn add_overflow(&mut self, event: &OverflowEvent, second: u64, shares: [u64; 4]) {
        let [arrivals, useful, octets, packets] = shares;
        self.arrivals += arrivals;
        self.useful += useful;
        self.octets += octets;
        self.overflow_arrivals += arrivals;
        self.overflow_packets += packets;
        if let Some(port) = event.main_port
            && (self.ports.len() < PORTS || self.ports.contains_key(&port))
        {
            *self.ports.entry(port).or_default() += i64::try_from(arrivals - useful.min(arrivals)).unwrap_or(i64::MAX);
        }
        let end = Timestamp::from_nanos(Timestamp::from_secs(second + 1).nanos() - 1);
        self.cover(event.since, event.last_seen.min(end));
    }

    /// What was seen may be older than this second of it.
    fn cover(&mut self, first_seen: Timestamp, last_seen: Timestamp) {
        let begun = first_seen.max(Timestamp::from_secs(last_seen.secs()));
        self.first_seen = Some(self.first_seen.map_or(begun, |first| first.min(begun)));
        self.last_seen = self.last_seen.max(last_seen);
    }
}

/// A count spread evenly over the time in which it was made; `from` is not after `to`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shares {
    pub(super) total: u64,
    pub(super) from: Timestamp,
    pub(super) to: Timestamp,
}

impl Shares {
    /// The seconds of it that a window can hold.
    pub(super) fn seconds(self) -> std::ops::RangeInclusive<u64> {
        self.from.secs().max(self.to.secs().saturating_sub(WINDOW))..=self.to.secs()
    }

    /// What falls into one of its seconds; those of all seconds add up to the whole.
    pub(super) fn of(self, second: u64) -> u64 {
        self.before(second + 1) - self.before(second)
    }

    fn before(self, second: u64) -> u64 {
        if second > self.to.secs() {
            return self.total;
        }
        let (past, whole) = (Timestamp::from_secs(second).since(self.from), self.to.since(self.from));
        let share = u128::from(self.total) * past.as_nanos() / whole.as_nanos().max(1);
        u64::try_from(share).map_or(self.total, |share| share.min(self.total))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_seconds_add_up() {
        let at = |millis: u64| Timestamp::from_nanos(millis * 1_000_000);
        for (from, to, expected) in [
            (10_200, 10_900, vec![(10, 1000)]),
            (10_500, 12_500, vec![(10, 250), (11, 500), (12, 250)]),
            (10_999, 11_000, vec![(10, 1000), (11, 0)]),
            (10_500, 10_500, vec![(10, 1000)]),
        ] {
            let shares = Shares { total: 1000, from: at(from), to: at(to) };
            let of: Vec<(u64, u64)> = shares.seconds().map(|second| (second, shares.of(second))).collect();
            assert_eq!(of, expected, "{from} to {to}");
        }
        let long = Shares { total: 6000, from: at(0), to: at(60_000) };
        assert_eq!(long.seconds().map(|second| long.of(second)).sum::<u64>(), 1000);
    }
}
