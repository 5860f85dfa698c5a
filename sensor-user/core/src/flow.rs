//! Biflows: what a source counts, when a flow ends, and what each tick brought.

mod aggregate;
mod community_id;
mod memory;
mod record;
mod sample;
mod table;
mod view;

pub use aggregate::{AGGREGATE_IDLE, AggregateTable, OverflowDelta, OverflowEvent};
pub use community_id::community_id;
pub use memory::{MemoryHook, MemorySlots};
pub use record::{EndReason, FlowRecord};
pub use sample::FlowSample;
pub use table::{FlowTable, Timeouts};
pub use view::{FlowView, Outcome, Side};

use std::net::IpAddr;

use sensor_ebpf::abi::Addr;

use crate::time::Timestamp;

/// Index of a flow's slot in its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId(pub u32);

/// Index of an overflow aggregate in its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AggregateId(pub u32);

/// One end of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// Address.
    pub addr: Addr,
    /// Port, 0 for protocols without ports.
    pub port: u16,
}

impl Endpoint {
    /// The address as the rest of the world writes it.
    #[must_use]
    pub fn ip(&self) -> IpAddr {
        self.addr.into()
    }
}

/// What one direction of a flow moved since the last tick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// Packets.
    pub packets: u64,
    /// IP octets.
    pub octets: u64,
    /// Sum of squared IP lengths; a hint.
    pub len_sq: u64,
    /// TCP segments with SYN.
    pub syns: u64,
}

/// The IP lengths of the packets of one direction, since the flow began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lengths {
    /// Of the shortest, 0 while there is none.
    pub min: u16,
    /// Of the longest.
    pub max: u16,
}

/// What a tick learned of one flow. A plain value: detectors keep what they need of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FlowEvent {
    /// Who asked, as far as can be told (see [`FlowView::client`]).
    pub client: Endpoint,
    /// Who was asked.
    pub server: Endpoint,
    /// IANA protocol number.
    pub proto: u8,
    /// The first event of this flow.
    pub is_new: bool,
    /// What became of it before this event; equal to `outcome` for a new flow.
    pub before: Outcome,
    /// What became of it so far.
    pub outcome: Outcome,
    /// First packet of the flow.
    pub first_seen: Timestamp,
    /// Latest packet of the flow.
    pub last_seen: Timestamp,
    /// Client to server, since the last event.
    pub sent: Delta,
    /// Server to client, since the last event.
    pub received: Delta,
    /// Packets from client to server, since the flow began.
    pub sent_packets: u64,
    /// Packets from server to client, since the flow began.
    pub received_packets: u64,
    /// Octets from client to server, since the flow began.
    pub sent_octets: u64,
    /// Octets from server to client, since the flow began.
    pub received_octets: u64,
    /// Lengths of packets from client to server; of nothing in an event that moved nothing.
    pub sent_lengths: Lengths,
    /// Lengths of packets from server to client; likewise.
    pub received_lengths: Lengths,
    /// TCP: how often the client announced a window of zero since the flow began, modulo 2^16; likewise.
    pub zero_windows: u16,
    /// Latest TTL or hop limit of a packet from the client; likewise.
    pub client_ttl: u8,
    /// TCP: segments with PSH from the client since the flow began; likewise.
    pub sent_pushes: u32,
    /// TCP: segments with PSH from the server; likewise.
    pub received_pushes: u32,
    /// ICMP and ICMPv6: type of the latest message from server to client; likewise.
    pub received_kind: u8,
    /// Whose payload came first.
    pub first_speaker: Option<Side>,
    /// TCP: a FIN or RST was seen.
    pub closing: bool,
    /// TCP: `closing`, and the event before did not say so.
    pub closing_is_new: bool,
    /// TCP: the client has acknowledged the server's SYN-ACK, so that its address is not forged.
    pub completed: bool,
    /// TCP: `completed`, and the event before did not say so.
    pub completed_is_new: bool,
}

#[cfg(test)]
impl FlowEvent {
    /// A conversation from 10.0.0.1 to port 443 of 10.0.0.2 that was served at once.
    pub(crate) fn example(at: Timestamp) -> Self {
        let end = |last: u32, port: u16| Endpoint { addr: Addr::from_v4(0x0a00_0000 + last), port };
        Self {
            client: end(1, 40_000),
            server: end(2, 443),
            proto: 6,
            is_new: true,
            before: Outcome::Served,
            outcome: Outcome::Served,
            first_seen: at,
            last_seen: at,
            sent: Delta { packets: 5, octets: 500, syns: 1, len_sq: 50_000 },
            received: Delta { packets: 5, octets: 900, syns: 1, len_sq: 162_000 },
            sent_packets: 5,
            received_packets: 5,
            sent_octets: 500,
            received_octets: 900,
            sent_lengths: Lengths { min: 40, max: 300 },
            received_lengths: Lengths { min: 40, max: 700 },
            zero_windows: 0,
            client_ttl: 64,
            sent_pushes: 1,
            received_pushes: 1,
            received_kind: 0,
            first_speaker: Some(Side::Client),
            closing: false,
            closing_is_new: false,
            completed: true,
            completed_is_new: true,
        }
    }
}

impl FlowEvent {
    /// Whether anything moved or was decided; the final counters of a flow often say nothing new. That a failure was of
    /// another kind, as an ICMP error told too late, is no news: the request is not made again.
    #[must_use]
    pub fn is_news(&self) -> bool {
        self.is_new || self.closing_is_new || self.is_decided() || self.sent.packets + self.received.packets > 0
    }

    fn is_decided(&self) -> bool {
        self.before != self.outcome && !(self.before.is_failure() && self.outcome.is_failure())
    }
}
