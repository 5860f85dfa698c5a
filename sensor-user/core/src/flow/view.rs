//! A slot's counters seen from the client, and what they say about the flow's fate.

use std::net::IpAddr;
use std::time::Duration;

use sensor_ebpf::abi::{Direction, FlowSlot, Half, HalfRare};
use sensor_ebpf::packet::proto;

use super::{EndReason, Endpoint};

/// How long a request may stay without an answer before it counts as unanswered.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// A participant of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// Who asked.
    Client,
    /// Who was asked.
    Server,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// Too early to say.
    Pending,
    /// Nothing came back in time.
    Unanswered,
    /// TCP: reset instead of a handshake. Any protocol: nothing but an ICMP error that the destination cannot be reached.
    Refused,
    /// TCP: the server answered and the client did not complete the handshake in time.
    HalfOpen,
    /// TCP: the handshake was answered, and the connection ended before any payload.
    Torn,
    /// Payload moved, or a datagram was answered.
    Served,
    /// Nobody asked: answers without a question, or errors about other flows.
    Unasked,
}

impl Outcome {
    /// Whether the request failed, as most requests of a scanner do.
    #[must_use]
    pub const fn is_failure(self) -> bool {
        match self {
            Self::Unanswered | Self::Refused | Self::HalfOpen | Self::Torn => true,
            Self::Pending | Self::Served | Self::Unasked => false,
        }
    }
}

/// A slot seen from the client.
#[derive(Clone, Copy, Debug)]
pub struct FlowView<'a> {
    slot: &'a FlowSlot,
    client: Direction,
}

impl<'a> FlowView<'a> {
    /// Finds out who the client is: the sender of a SYN, else the receiver of a SYN-ACK or of nothing but RST, or the
    /// sender of echo requests, else the sender of the first packet, unless that came from a well-known port to one that is not (an answer whose question
    /// was not seen).
    #[must_use]
    pub fn new(slot: &'a FlowSlot) -> Self {
        let first = initiator(slot);
        let client = if slot.key.proto == proto::TCP {
            tcp_client(slot).unwrap_or_else(|| by_port(slot, first))
        } else if matches!(slot.key.proto, proto::ICMP | proto::ICMPV6) {
            icmp_client(slot).unwrap_or(first)
        } else {
            by_port(slot, first)
        };
        Self { slot, client }
    }

    /// The slot seen from the sender of the first packet, whoever asked.
    #[must_use]
    pub fn from_initiator(slot: &'a FlowSlot) -> Self {
        Self { slot, client: initiator(slot) }
    }

    /// The slot itself.
    #[must_use]
    pub const fn slot(&self) -> &'a FlowSlot {
        self.slot
    }

    /// The direction from client to server.
    #[must_use]
    pub const fn direction(&self) -> Direction {
        self.client
    }

    /// IANA protocol number.
    #[must_use]
    pub const fn proto(&self) -> u8 {
        self.slot.key.proto
    }

    /// Who asked.
    #[must_use]
    pub const fn client(&self) -> Endpoint {
        sender(self.slot, self.client)
    }

    /// Who was asked.
    #[must_use]
    pub const fn server(&self) -> Endpoint {
        sender(self.slot, self.client.reverse())
    }

    /// Client to server.
    #[must_use]
    pub const fn sent(&self) -> &'a Half {
        &self.slot.half[self.client.index()]
    }

    /// Server to client.
    #[must_use]
    pub const fn received(&self) -> &'a Half {
        &self.slot.half[self.client.reverse().index()]
    }

    /// Client to server, rare counters.
    #[must_use]
    pub const fn sent_rare(&self) -> &'a HalfRare {
        &self.slot.rare[self.client.index()]
    }

    /// Server to client, rare counters.
    #[must_use]
    pub const fn received_rare(&self) -> &'a HalfRare {
        &self.slot.rare[self.client.reverse().index()]
    }

    /// ICMP and ICMPv6: type of the latest message from server to client; 0 for other protocols.
    #[must_use]
    pub fn received_kind(&self) -> u8 {
        match self.proto() {
            proto::ICMP | proto::ICMPV6 => self.received().window.to_be_bytes()[0],
            _ => 0,
        }
    }

    /// Whose payload came first.
    #[must_use]
    pub fn first_speaker(&self) -> Option<Side> {
        match self.slot.first_payload.checked_sub(1)? {
            way if way == self.client as u8 => Some(Side::Client),
            _ => Some(Side::Server),
        }
    }

    /// TCP: a FIN or RST was seen.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.slot.rare.iter().any(|rare| rare.fin > 0 || rare.rst > 0)
    }

    /// TCP: why the connection is over, when it is: reset, or FIN from both sides.
    #[must_use]
    pub fn closed(&self) -> Option<EndReason> {
        let rare = &self.slot.rare;
        if rare.iter().any(|rare| rare.rst > 0) {
            Some(EndReason::TcpRst)
        } else {
            rare.iter().all(|rare| rare.fin > 0).then_some(EndReason::TcpFin)
        }
    }

    /// What became of the request. `waited` says whether a second has passed since the first packet.
    #[must_use]
    pub fn outcome(&self, waited: bool) -> Outcome {
        let decided = match self.proto() {
            proto::TCP => self.tcp_outcome(),
            proto::ICMP | proto::ICMPV6 => self.icmp_outcome(),
            _ => self.datagram_outcome(),
        };
        match decided {
            Ok(outcome) => outcome,
            Err(after_waiting) if waited => after_waiting,
            Err(_) => Outcome::Pending,
        }
    }

    /// `Err` holds the outcome that waiting will bring.
    fn tcp_outcome(&self) -> Result<Outcome, Outcome> {
        let (sent, received) = (self.sent(), self.received());
        let acknowledged = sent.packets > u64::from(self.sent_rare().no_ack);
        if sent.packets == 0 {
            return Ok(Outcome::Unasked);
        }
        if self.slot.first_payload != 0 && (received.packets > 0 || acknowledged) {
            return Ok(Outcome::Served);
        }
        if self.received_rare().syn > 0 {
            return if self.is_closing() {
                Ok(Outcome::Torn)
            } else if self.slot.ack_delay == 0 {
                Err(Outcome::HalfOpen)
            } else {
                Err(Outcome::Pending)
            };
        }
        if self.received_rare().rst > 0 {
            return Ok(Outcome::Refused);
        }
        if received.packets > 0 { Ok(Outcome::Served) } else { self.unanswered() }
    }

    fn icmp_outcome(&self) -> Result<Outcome, Outcome> {
        let kind = self.sent().window >> 8;
        if is_echo_request(self.proto(), kind) { self.datagram_outcome() } else { Ok(Outcome::Unasked) }
    }

    fn datagram_outcome(&self) -> Result<Outcome, Outcome> {
        match (self.sent().packets, self.received().packets) {
            (0, _) => Ok(Outcome::Unasked),
            (_, 0) => self.unanswered(),
            _ => Ok(Outcome::Served),
        }
    }

    /// What becomes of a request to which nothing was answered by whom it was for.
    fn unanswered(&self) -> Result<Outcome, Outcome> {
        if self.is_unreachable() { Ok(Outcome::Refused) } else { Err(Outcome::Unanswered) }
    }

    /// Whether the latest ICMP error about this flow said that the destination cannot be reached: type 3 (RFC 792), other
    /// than the code by which routers say the largest packet they pass (RFC 1191), or type 1 of ICMPv6 (RFC 4443).
    fn is_unreachable(&self) -> bool {
        const FRAGMENTATION_NEEDED: u16 = 4;
        let (kind, code) = (self.slot.icmp_error >> 8, self.slot.icmp_error & 0xff);
        if self.slot.icmp_errors == 0 {
            false
        } else if IpAddr::from(self.slot.key.lo_addr).is_ipv4() {
            kind == 3 && code != FRAGMENTATION_NEEDED
        } else {
            kind == 1
        }
    }
}

const fn sender(slot: &FlowSlot, way: Direction) -> Endpoint {
    match way {
        Direction::LoToHi => Endpoint { addr: slot.key.lo_addr, port: slot.key.lo_port },
        Direction::HiToLo => Endpoint { addr: slot.key.hi_addr, port: slot.key.hi_port },
    }
}

const fn initiator(slot: &FlowSlot) -> Direction {
    if slot.initiator == Direction::LoToHi as u8 { Direction::LoToHi } else { Direction::HiToLo }
}

fn tcp_client(slot: &FlowSlot) -> Option<Direction> {
    let ways = [Direction::LoToHi, Direction::HiToLo];
    let rare = |way: Direction| &slot.rare[way.index()];
    let asked = |way: &Direction| rare(*way).syn > 0 && rare(*way).no_ack > 0;
    let only_resets = |way: &Direction| {
        let packets = slot.half[way.index()].packets;
        packets > 0 && u64::from(rare(*way).rst) == packets && slot.half[way.reverse().index()].packets == 0
    };
    let answered = |way: &Direction| (rare(*way).syn > 0 && rare(*way).no_ack == 0) || only_resets(way);
    ways.into_iter().find(asked).or_else(|| ways.into_iter().find(answered).map(Direction::reverse))
}

/// Whose latest message is an echo request, if that is one of the two: what else was said first, an error say, does not
/// matter.
fn icmp_client(slot: &FlowSlot) -> Option<Direction> {
    let asks = |way: Direction| {
        let half = &slot.half[way.index()];
        half.packets > 0 && is_echo_request(slot.key.proto, half.window >> 8)
    };
    match [Direction::LoToHi, Direction::HiToLo].map(asks) {
        [true, false] => Some(Direction::LoToHi),
        [false, true] => Some(Direction::HiToLo),
        [true, true] | [false, false] => None,
    }
}

const fn is_echo_request(protocol: u8, kind: u16) -> bool {
    matches!((protocol, kind), (proto::ICMP, 8) | (proto::ICMPV6, 128))
}

/// The first packet's sender asked, unless only its port is well known.
const fn by_port(slot: &FlowSlot, first: Direction) -> Direction {
    const WELL_KNOWN: u16 = 1024;
    let (from, to) = (sender(slot, first).port, sender(slot, first.reverse()).port);
    if from != 0 && from < WELL_KNOWN && to >= WELL_KNOWN { first.reverse() } else { first }
}
