//! What userspace remembers of each overflow aggregate: enough to say what a tick brought, and when it is of no more use.

use std::time::Duration;

use sensor_ebpf::abi::{AGGREGATES, Addr, Aggregate};
use sensor_ebpf::overflow::distinct;

use super::AggregateId;
use crate::time::Timestamp;

/// Silence after which an aggregate is released.
pub const AGGREGATE_IDLE: Duration = Duration::from_secs(10);

/// The index of the aggregate that takes what finds no other. It belongs to nobody and is never released.
const COMMON: u32 = 0;

/// What one direction of an aggregate moved since the last tick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OverflowDelta {
    /// Wire packets.
    pub packets: u64,
    /// IP octets.
    pub octets: u64,
    /// TCP segments with SYN and without ACK.
    pub requests: u64,
}

/// What a tick learned of one aggregate. A plain value: detectors keep what they need of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OverflowEvent {
    /// The host that the packets have in common; nothing for the aggregate that takes what finds no other.
    pub subject: Option<Addr>,
    /// IANA protocol number.
    pub proto: u8,
    /// To the subject, since the last event.
    pub received: OverflowDelta,
    /// From the subject, since the last event.
    pub sent: OverflowDelta,
    /// Estimate of the other hosts, since the aggregate began; standard error 3.3 %.
    pub peers: u64,
    /// Estimate of the subject's ports, since the aggregate began; standard error 13 %.
    pub ports: u64,
    /// The subject's port that had at least a twentieth of the packets more than all others together.
    pub main_port: Option<u16>,
    /// Latest packet before those of this event, or the first packet; not after `last_seen`.
    pub since: Timestamp,
    /// Latest packet of the aggregate.
    pub last_seen: Timestamp,
}

impl OverflowEvent {
    /// Whether anything moved.
    #[must_use]
    pub const fn is_news(&self) -> bool {
        self.received.packets + self.sent.packets > 0
    }
}

/// Live aggregates by index: [`AGGREGATES`] of them, 72 octets each, no allocation after the first.
#[derive(Debug)]
pub struct AggregateTable {
    entries: Box<[Entry]>,
    packets: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    live: bool,
    last_seen: Timestamp,
    packets: [u64; 2],
    octets: [u64; 2],
    requests: [u64; 2],
}

impl Default for AggregateTable {
    fn default() -> Self {
        Self { entries: vec![Entry::default(); AGGREGATES as usize].into(), packets: 0 }
    }
}

impl AggregateTable {
    /// Packets in aggregates so far.
    #[must_use]
    pub const fn packets(&self) -> u64 {
        self.packets
    }

    /// Takes in an aggregate in which something moved. `epoch_ns` is what to add to the source's times to get event
    /// time.
    ///
    /// # Panics
    /// When the source has more than [`AGGREGATES`].
    pub fn observe(&mut self, id: AggregateId, aggregate: &Aggregate, epoch_ns: u64) -> OverflowEvent {
        let event = self.entries[id.0 as usize].update(aggregate, epoch_ns);
        self.packets += event.received.packets + event.sent.packets;
        event
    }

    /// Aggregates that have been idle for [`AGGREGATE_IDLE`], for the source to release.
    pub fn expire(&self, now: Timestamp) -> Vec<AggregateId> {
        self.released(|entry| now.since(entry.last_seen) >= AGGREGATE_IDLE)
    }

    /// All live aggregates that can be released, for the end of the input.
    #[must_use]
    pub fn drain(&self) -> Vec<AggregateId> {
        self.released(|_| true)
    }

    /// Takes in the final counters of a released aggregate.
    pub fn retire(&mut self, id: AggregateId, aggregate: &Aggregate, epoch_ns: u64) -> OverflowEvent {
        let event = self.observe(id, aggregate, epoch_ns);
        self.entries[id.0 as usize] = Entry::default();
        event
    }

    fn released(&self, wanted: impl Fn(&Entry) -> bool) -> Vec<AggregateId> {
        let entries = (0_u32..).zip(&self.entries);
        entries
            .filter(|&(id, entry)| id != COMMON && entry.live && wanted(entry))
            .map(|(id, _)| AggregateId(id))
            .collect()
    }
}

impl Entry {
    fn update(&mut self, aggregate: &Aggregate, epoch_ns: u64) -> OverflowEvent {
        let delta = |way: usize| OverflowDelta {
            packets: aggregate.packets[way].wrapping_sub(self.packets[way]),
            octets: aggregate.octets[way].wrapping_sub(self.octets[way]),
            requests: aggregate.requests[way].wrapping_sub(self.requests[way]),
        };
        let first_seen = Timestamp::from_nanos(aggregate.first_ns.wrapping_add(epoch_ns));
        let last_seen = Timestamp::from_nanos(aggregate.last_ns.wrapping_add(epoch_ns));
        let event = OverflowEvent {
            subject: (aggregate.subject != Addr::default()).then_some(aggregate.subject),
            proto: aggregate.proto,
            received: delta(0),
            sent: delta(1),
            peers: estimate(&aggregate.peers),
            ports: estimate(&aggregate.ports),
            main_port: leading_port(aggregate),
            // The wall clock may have been set back.
            since: first_seen.max(self.last_seen).min(last_seen),
            last_seen,
        };
        *self = Self {
            live: true,
            last_seen: event.last_seen,
            packets: aggregate.packets,
            octets: aggregate.octets,
            requests: aggregate.requests,
        };
        event
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count estimate, never negative")]
fn estimate(registers: &[u8]) -> u64 {
    distinct(registers).round() as u64
}

/// The lead of the vote is a lower bound of the packets of its port; a small one is chance.
fn leading_port(aggregate: &Aggregate) -> Option<u16> {
    const NOTABLE: u64 = 20;
    let lead = aggregate.port_vote >> 16;
    let packets = aggregate.packets[0] + aggregate.packets[1];
    aggregate.main_port().filter(|_| lead.saturating_mul(NOTABLE) >= packets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aggregate(packets: [u64; 2], last_s: u64) -> Aggregate {
        Aggregate {
            subject: Addr::from_v4(0xc000_0201),
            proto: 6,
            first_ns: 1_000_000_000,
            last_ns: last_s * 1_000_000_000,
            packets,
            octets: packets.map(|packets| packets * 40),
            requests: [packets[0], 0],
            port_vote: packets[0] << 16 | 443,
            ..Aggregate::EMPTY
        }
    }

    #[test]
    fn an_event_says_what_moved_since_the_last() {
        let mut table = AggregateTable::default();
        let first = table.observe(AggregateId(3), &aggregate([100, 7], 2), 0);
        assert_eq!(first.received, OverflowDelta { packets: 100, octets: 4000, requests: 100 });
        assert_eq!(first.sent, OverflowDelta { packets: 7, octets: 280, requests: 0 });
        assert_eq!((first.main_port, first.subject), (Some(443), Some(Addr::from_v4(0xc000_0201))));
        let second = table.retire(AggregateId(3), &aggregate([130, 7], 4), 0);
        assert_eq!((second.received.packets, second.sent, second.is_news()), (30, OverflowDelta::default(), true));
        assert_eq!((first.since, first.last_seen), (Timestamp::from_secs(1), Timestamp::from_secs(2)));
        assert_eq!((second.since, second.last_seen), (Timestamp::from_secs(2), Timestamp::from_secs(4)));
        assert_eq!(table.packets(), 137);
        let again = table.observe(AggregateId(3), &aggregate([5, 0], 9), 0);
        assert_eq!(again.received.packets, 5, "a new aggregate in the old place");
    }

    #[test]
    fn idle_aggregates_expire_and_the_common_one_stays() {
        let mut table = AggregateTable::default();
        table.observe(AggregateId(COMMON), &aggregate([1, 0], 2), 0);
        table.observe(AggregateId(5), &aggregate([1, 0], 2), 0);
        table.observe(AggregateId(9), &aggregate([1, 0], 8), 0);
        assert_eq!(table.expire(Timestamp::from_secs(11)), []);
        assert_eq!(table.expire(Timestamp::from_secs(12)), [AggregateId(5)]);
        assert_eq!(table.drain(), [AggregateId(5), AggregateId(9)]);
    }

    #[test]
    fn a_port_by_chance_is_no_main_port() {
        let scanned = Aggregate { port_vote: 3 << 16 | 80, ..aggregate([1000, 0], 2) };
        assert_eq!(AggregateTable::default().observe(AggregateId(1), &scanned, 0).main_port, None);
    }
}
