//! What userspace remembers of each live flow: enough to say what a tick brought, and when the flow ends.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use sensor_ebpf::abi::{Direction, FlowKey, FlowSlot, Half};
use sensor_ebpf::packet::proto;
use serde::{Deserialize, Serialize};

use super::view::ANSWER_TIMEOUT;
use super::{Delta, EndReason, Endpoint, FlowEvent, FlowRecord, FlowSample, FlowView, Lengths, Outcome, Side, SlotId};
use crate::time::Timestamp;

/// When a silent or long flow ends, by protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeouts {
    /// TCP, connection in use.
    pub tcp_idle: Duration,
    /// TCP, after FIN from both sides or RST.
    pub tcp_closed: Duration,
    /// TCP, no payload yet: probes and half-open connections.
    pub tcp_opening: Duration,
    /// UDP other than DNS, and protocols not named here.
    pub udp_idle: Duration,
    /// UDP from or to port 53.
    pub dns_idle: Duration,
    /// ICMP and ICMPv6.
    pub icmp_idle: Duration,
    /// Any flow: it is recorded and begins anew.
    pub active: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            tcp_idle: Duration::from_secs(300),
            tcp_closed: Duration::from_secs(5),
            tcp_opening: Duration::from_secs(30),
            udp_idle: Duration::from_secs(60),
            dns_idle: Duration::from_secs(10),
            icmp_idle: Duration::from_secs(10),
            active: Duration::from_secs(1800),
        }
    }
}

/// Live flows by slot. Bounded by the source's slots: 136 octets each, and 4 for each mention in the wheel or among
/// the pending. In the steady state nothing is allocated per flow.
#[derive(Debug)]
pub struct FlowTable {
    entries: Vec<Entry>,
    live: usize,
    started: u64,
    accounted: u64,
    /// `None` when flows never end before the input does.
    timeouts: Option<Timeouts>,
    /// Every live entry is in the bucket of its `due`, a second at or before its deadline. Other mentions are stale.
    wheel: BTreeMap<u64, Vec<SlotId>>,
    /// Buckets that are over, to be used again.
    spare: Vec<Vec<SlotId>>,
    /// Flows whose outcome waits for [`ANSWER_TIMEOUT`].
    pending: Vec<SlotId>,
    /// The source has little room: see [`Self::set_pressure`].
    under_pressure: bool,
    /// The latest flows that ended, as examples.
    ended: VecDeque<(FlowKey, Direction, FlowEvent)>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    key: FlowKey,
    first_seen: Timestamp,
    last_seen: Timestamp,
    octets: [u64; 2],
    len_sq: [u64; 2],
    packets: [u32; 2],
    syns: [u32; 2],
    client: Direction,
    outcome: Outcome,
    after_waiting: Outcome,
    first_speaker: Option<Side>,
    /// Why the flow will end next, once that is decided.
    end: Option<EndReason>,
    /// TCP: why it is over, when it is.
    closed: Option<EndReason>,
    closing: bool,
    completed: bool,
    waiting: bool,
    live: bool,
    /// The second in whose bucket the entry is looked at next.
    due: u64,
}

/// Flows that ended which are remembered as examples.
const EXAMPLES: usize = 256;

const VACANT: Entry = Entry {
    key: FlowKey {
        lo_addr: sensor_ebpf::abi::Addr { high: 0, low: 0 },
        hi_addr: sensor_ebpf::abi::Addr { high: 0, low: 0 },
        lo_port: 0,
        hi_port: 0,
        proto: 0,
        zero: [0; 3],
    },
    first_seen: Timestamp::EPOCH,
    last_seen: Timestamp::EPOCH,
    octets: [0; 2],
    len_sq: [0; 2],
    packets: [0; 2],
    syns: [0; 2],
    client: Direction::LoToHi,
    outcome: Outcome::Pending,
    after_waiting: Outcome::Pending,
    first_speaker: None,
    end: None,
    closed: None,
    closing: false,
    completed: false,
    waiting: false,
    live: false,
    due: u64::MAX,
};

impl FlowTable {
    /// Octets of memory for a slot of the source.
    pub const SLOT_OCTETS: usize = size_of::<Entry>();

    /// An empty table; without `timeouts` flows end only when the input does.
    #[must_use]
    pub const fn new(timeouts: Option<Timeouts>) -> Self {
        Self {
            entries: Vec::new(),
            live: 0,
            started: 0,
            accounted: 0,
            timeouts,
            wheel: BTreeMap::new(),
            spare: Vec::new(),
            pending: Vec::new(),
            under_pressure: false,
            ended: VecDeque::new(),
        }
    }

    /// Makes room for all the slots a source has, so that nothing is moved later.
    pub fn reserve(&mut self, slots: usize) {
        self.entries.reserve_exact(slots.saturating_sub(self.entries.len()));
    }

    /// Live flows.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.live
    }

    /// Whether there is no live flow.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Flows begun so far.
    #[must_use]
    pub const fn started(&self) -> u64 {
        self.started
    }

    /// Packets in flows so far.
    #[must_use]
    pub const fn accounted(&self) -> u64 {
        self.accounted
    }

    /// Whether some flow waits for its outcome or its end.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.pending.is_empty() || !self.wheel.is_empty()
    }

    /// Takes in a slot in which something moved. `epoch_ns` is what to add to the source's times to get event time.
    pub fn observe(&mut self, id: SlotId, slot: &FlowSlot, epoch_ns: u64, now: Timestamp) -> FlowEvent {
        let index = id.0 as usize;
        if index >= self.entries.len() {
            self.entries.resize(index + 1, VACANT);
        }
        let is_new = !self.entries[index].live;
        if is_new {
            self.live += 1;
            self.started += 1;
            self.entries[index] = Entry { key: slot.key, live: true, ..VACANT };
        }
        let event = self.entries[index].update(slot, epoch_ns, now, is_new);
        self.accounted += event.sent.packets + event.received.packets;
        let entry = &mut self.entries[index];
        if entry.outcome == Outcome::Pending && entry.after_waiting != Outcome::Pending && !entry.waiting {
            entry.waiting = true;
            self.pending.push(id);
        }
        if let Some(timeouts) = &self.timeouts {
            let due = entry.deadline(timeouts).0.secs() + 1;
            if due < entry.due {
                entry.due = due;
                self.remind(due, id);
            }
        }
        event
    }

    /// Flows whose answer has not come in time: their outcome is now known, as of the last time the slot was read. An
    /// ICMP error that came since, and no packet with it, is seen when the slot is read again, at the latest when the
    /// flow ends: then the outcome turns from one failure into another, which is no news (see [`FlowEvent::is_news`]).
    pub fn overdue(&mut self, now: Timestamp, mut each: impl FnMut(FlowEvent)) {
        let mut pending = std::mem::take(&mut self.pending);
        pending.retain(|id| {
            let entry = &mut self.entries[id.0 as usize];
            if !entry.live || entry.outcome != Outcome::Pending {
                entry.waiting = false;
                return false;
            }
            if now.since(entry.first_seen) < ANSWER_TIMEOUT {
                return true;
            }
            entry.waiting = false;
            let before = std::mem::replace(&mut entry.outcome, entry.after_waiting);
            each(entry.event(before));
            false
        });
        self.pending = pending;
    }

    /// Says whether the source has little room. A flow in use then keeps its slot beyond the active timeout: it might not
    /// get another.
    pub const fn set_pressure(&mut self, under_pressure: bool) {
        self.under_pressure = under_pressure;
    }

    /// Slots of flows that have ended by `now`, for the source to release.
    pub fn expire(&mut self, now: Timestamp) -> Vec<SlotId> {
        let Some(timeouts) = self.timeouts else {
            return Vec::new();
        };
        let mut ended = Vec::new();
        while let Some(bucket) = self.wheel.first_entry() {
            if *bucket.key() > now.secs() {
                break;
            }
            let (second, mut ids) = bucket.remove_entry();
            for id in ids.drain(..) {
                let entry = &mut self.entries[id.0 as usize];
                if !entry.live || entry.due != second {
                    continue;
                }
                let (deadline, reason) = entry.deadline(&timeouts);
                let is_kept = self.under_pressure && reason == EndReason::ActiveTimeout;
                if deadline <= now && !is_kept {
                    entry.end = Some(reason);
                    entry.due = u64::MAX;
                    ended.push(id);
                } else {
                    entry.due = (deadline.secs() + 1).max(now.secs() + 1);
                    let due = entry.due;
                    self.remind(due, id);
                }
            }
            self.keep_spare(ids);
        }
        ended.sort_unstable();
        ended
    }

    fn remind(&mut self, due: u64, id: SlotId) {
        let spare = &mut self.spare;
        self.wheel.entry(due).or_insert_with(|| spare.pop().unwrap_or_default()).push(id);
    }

    /// A bucket that had to hold a flood is given back.
    fn keep_spare(&mut self, bucket: Vec<SlotId>) {
        const BUCKETS: usize = 64;
        const MENTIONS: usize = 16_384;
        if self.spare.len() < BUCKETS && bucket.capacity() <= MENTIONS {
            self.spare.push(bucket);
        }
    }

    /// All live slots, for the end of the input.
    pub fn drain(&mut self) -> Vec<SlotId> {
        self.wheel.clear();
        self.pending.clear();
        let live = self.entries.iter().enumerate().filter(|(_, entry)| entry.live);
        live.map(|(index, _)| SlotId(u32::try_from(index).expect("indexed by SlotId"))).collect()
    }

    /// Examples of live flows and of the latest that ended, those first that are wanted most; `wanted` says how much a flow is, 0 for not at all.
    #[must_use]
    pub fn sample(&self, count: usize, wanted: impl Fn(&FlowEvent) -> u8) -> Vec<FlowSample> {
        let mut best: Vec<(u8, FlowSample)> = Vec::new();
        let live = self.entries.iter().filter(|entry| entry.live);
        let live = live.map(|entry| (entry.key, entry.client, entry.event(entry.outcome)));
        for (key, client, event) in live.chain(self.ended.iter().copied()) {
            let wanted = wanted(&event);
            let place = best.partition_point(|(other, _)| *other >= wanted);
            if wanted > 0 && place < count {
                best.truncate(count - 1);
                best.insert(place, (wanted, FlowSample::of(&key, client, &event)));
            }
        }
        best.into_iter().map(|(_, sample)| sample).collect()
    }

    /// Takes in the final counters of a released slot.
    pub fn retire(&mut self, id: SlotId, slot: &FlowSlot, epoch_ns: u64, now: Timestamp) -> (FlowEvent, FlowRecord) {
        let mut event = self.observe(id, slot, epoch_ns, now);
        let entry = &mut self.entries[id.0 as usize];
        let before = event.outcome;
        if entry.outcome == Outcome::Pending {
            entry.outcome = entry.after_waiting;
            event = FlowEvent { before, outcome: entry.outcome, ..event };
        }
        let record = FlowRecord {
            slot: *slot,
            first_seen: entry.first_seen,
            last_seen: entry.last_seen,
            end_reason: entry.end.or(entry.closed).unwrap_or(EndReason::ForcedEnd),
        };
        if self.ended.len() == EXAMPLES {
            self.ended.pop_front();
        }
        self.ended.push_back((entry.key, entry.client, event));
        *entry = Entry { waiting: entry.waiting, ..VACANT };
        self.live -= 1;
        (event, record)
    }
}

impl Entry {
    fn update(&mut self, slot: &FlowSlot, epoch_ns: u64, now: Timestamp, is_new: bool) -> FlowEvent {
        let view = FlowView::new(slot);
        let times = slot.half.iter().filter(|half| half.packets > 0);
        let first = times.clone().map(|half| half.first_ns).min().unwrap_or(0);
        let last = times.map(|half| half.last_ns).max().unwrap_or(0);
        self.first_seen = Timestamp::from_nanos(first.wrapping_add(epoch_ns));
        self.last_seen = Timestamp::from_nanos(last.wrapping_add(epoch_ns));
        self.client = view.direction();
        self.first_speaker = view.first_speaker();
        let before = self.outcome;
        self.outcome = view.outcome(now.since(self.first_seen) >= ANSWER_TIMEOUT);
        self.after_waiting = view.outcome(true);
        let was_closing = std::mem::replace(&mut self.closing, view.is_closing());
        self.closed = view.closed();
        let was_completed = std::mem::replace(&mut self.completed, slot.ack_delay != 0);
        let mut deltas = [Delta::default(); 2];
        for way in [Direction::LoToHi, Direction::HiToLo] {
            let (half, rare) = (&slot.half[way.index()], &slot.rare[way.index()]);
            let packets = low_word(half.packets);
            deltas[way.index()] = Delta {
                // A flow that was there before this process may have more than the low word holds.
                packets: if is_new { half.packets } else { u64::from(packets.wrapping_sub(self.packets[way.index()])) },
                octets: half.octets.wrapping_sub(self.octets[way.index()]),
                len_sq: half.len_sq.saturating_sub(self.len_sq[way.index()]),
                syns: u64::from(rare.syn.wrapping_sub(self.syns[way.index()])),
            };
            self.packets[way.index()] = packets;
            self.octets[way.index()] = half.octets;
            self.len_sq[way.index()] = half.len_sq;
            self.syns[way.index()] = rare.syn;
        }
        let event = self.event(if is_new { self.outcome } else { before });
        FlowEvent {
            is_new,
            sent: deltas[self.client.index()],
            received: deltas[self.client.reverse().index()],
            sent_packets: view.sent().packets,
            received_packets: view.received().packets,
            sent_lengths: lengths(view.sent()),
            received_lengths: lengths(view.received()),
            zero_windows: view.sent().zero_windows,
            client_ttl: slot.ttl[self.client.index()],
            sent_pushes: view.sent().psh,
            received_pushes: view.received().psh,
            received_kind: view.received_kind(),
            closing_is_new: self.closing && !was_closing,
            completed_is_new: self.completed && !was_completed,
            ..event
        }
    }

    /// An event in which nothing moved.
    fn event(&self, before: Outcome) -> FlowEvent {
        let lo = Endpoint { addr: self.key.lo_addr, port: self.key.lo_port };
        let hi = Endpoint { addr: self.key.hi_addr, port: self.key.hi_port };
        let (client, server) = if self.client == Direction::LoToHi { (lo, hi) } else { (hi, lo) };
        let (sent, received) = (self.client.index(), self.client.reverse().index());
        FlowEvent {
            client,
            server,
            proto: self.key.proto,
            is_new: false,
            before,
            outcome: self.outcome,
            first_seen: self.first_seen,
            last_seen: self.last_seen,
            sent: Delta::default(),
            received: Delta::default(),
            sent_packets: u64::from(self.packets[sent]),
            received_packets: u64::from(self.packets[received]),
            sent_octets: self.octets[sent],
            received_octets: self.octets[received],
            sent_lengths: Lengths::default(),
            received_lengths: Lengths::default(),
            zero_windows: 0,
            client_ttl: 0,
            sent_pushes: 0,
            received_pushes: 0,
            received_kind: 0,
            first_speaker: self.first_speaker,
            closing: self.closing,
            closing_is_new: false,
            completed: self.completed,
            completed_is_new: false,
        }
    }

    fn deadline(&self, timeouts: &Timeouts) -> (Timestamp, EndReason) {
        if let Some(reason) = self.closed {
            return (self.last_seen + timeouts.tcp_closed, reason);
        }
        let idle = match self.key.proto {
            proto::TCP if self.outcome == Outcome::Served => timeouts.tcp_idle,
            proto::TCP => timeouts.tcp_opening,
            proto::UDP if self.key.lo_port == 53 || self.key.hi_port == 53 => timeouts.dns_idle,
            proto::ICMP | proto::ICMPV6 => timeouts.icmp_idle,
            _ => timeouts.udp_idle,
        };
        let idle = self.last_seen + idle;
        let active = self.first_seen + timeouts.active;
        if active < idle { (active, EndReason::ActiveTimeout) } else { (idle, EndReason::IdleTimeout) }
    }
}

const fn lengths(half: &Half) -> Lengths {
    Lengths { min: half.len_min, max: half.len_max }
}

/// Packets are remembered modulo 2^32: a flow moves fewer between two polls.
#[expect(clippy::cast_possible_truncation, reason = "the low word is what is wanted")]
const fn low_word(packets: u64) -> u32 {
    packets as u32
}
