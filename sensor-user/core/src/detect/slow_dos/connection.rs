//! One connection to a service, and whether it is held.

use std::time::Duration;

use sensor_ebpf::abi::Addr;

use crate::flow::FlowEvent;
use crate::time::Timestamp;

/// How a connection is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    /// The request never ends.
    SlowRequest = 0,
    /// The answer is not taken.
    SlowRead = 1,
    /// Nothing is asked.
    Idle = 2,
}

impl Hold {
    /// How many there are.
    pub(super) const KINDS: usize = 3;

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::SlowRequest => "slow_request",
            Self::SlowRead => "slow_read",
            Self::Idle => "idle",
        }
    }
}

/// A request takes less to be sent, unless it is slow; a retransmission comes sooner, too.
const PROMPT: Duration = Duration::from_secs(3);
/// What a slow request is at most: octets at the beginning, and a second.
const REQUEST: (u64, u64) = (4096, 128);
/// Mean IP octets of a trickle's segments.
const TRICKLE: u64 = 200;
/// What a slow reader has taken at most: octets at the beginning, and a second.
const TAKEN: (u64, u64) = (32_768, 1024);
/// Announcements of a window of zero, since the connection began, of one who does not read.
const ZERO_WINDOWS: u32 = 2;

/// A connection that is open.
#[derive(Clone, Copy, Debug)]
pub(super) struct Connection {
    pub(super) first_seen: Timestamp,
    pub(super) last_seen: Timestamp,
    pub(super) hold: Option<Hold>,
    /// Whether there was payload.
    pub(super) has_spoken: bool,
    is_answered: bool,
    zero_windows: u16,
    /// Octets since the connection began, beyond those of the flow that is its latest part.
    sent_octets: u64,
    received_octets: u64,
    zeros: u32,
    pushes: u32,
}

impl Connection {
    pub(super) const fn new(event: &FlowEvent) -> Self {
        Self {
            first_seen: event.first_seen,
            last_seen: event.last_seen,
            hold: None,
            has_spoken: false,
            is_answered: false,
            zero_windows: 0,
            sent_octets: 0,
            received_octets: 0,
            zeros: 0,
            pushes: 0,
        }
    }

    pub(super) fn update(&mut self, event: &FlowEvent) {
        self.has_spoken |= event.first_speaker.is_some();
        self.is_answered |= is_answered(event);
        self.last_seen = self.last_seen.max(event.last_seen);
        self.sent_octets += event.sent.octets;
        self.received_octets += event.received.octets;
        let zeros = if event.is_new { event.zero_windows } else { event.zero_windows.wrapping_sub(self.zero_windows) };
        let moved = event.sent.packets + event.received.packets > 0;
        let zeros = if moved { zeros } else { 0 };
        if moved {
            self.zero_windows = event.zero_windows;
        }
        self.zeros = self.zeros.saturating_add(u32::from(zeros));
        let says_more = moved && !event.is_new && event.sent_pushes != self.pushes;
        if moved {
            self.pushes = event.sent_pushes;
        }
        let age = self.last_seen.since(self.first_seen);
        self.hold = if self.is_slow_request(event, age, says_more) {
            Some(Hold::SlowRequest)
        } else if self.is_slow_read(zeros, age) {
            Some(Hold::SlowRead)
        } else {
            self.hold.filter(|hold| *hold == Hold::Idle && !self.has_spoken)
        };
    }

    fn is_slow_request(&self, event: &FlowEvent, age: Duration, says_more: bool) -> bool {
        if self.is_answered || !self.has_spoken || self.sent_octets > allowance(REQUEST, age) {
            return false;
        }
        // What is sent again to a server that does not acknowledge it is no trickle.
        let is_heard = event.received.packets > 0 || event.received_packets == 0;
        let trickles = age >= PROMPT && says_more && is_heard && event.sent.octets <= TRICKLE * event.sent.packets;
        trickles || self.hold == Some(Hold::SlowRequest)
    }

    fn is_slow_read(&self, zeros: u16, age: Duration) -> bool {
        if age < PROMPT || self.received_octets > allowance(TAKEN, age) {
            return false;
        }
        // A reader that takes something now and then says zero again after it.
        self.zeros >= ZERO_WINDOWS && (zeros > 0 || self.hold == Some(Hold::SlowRead))
    }
}

/// Whether the server has sent payload, as far as can be told: payload is pushed. Where only the client is seen, it has
/// acknowledged something: of its segments without SYN, FIN and payload more than the one that completes the handshake.
pub(super) fn is_answered(event: &FlowEvent) -> bool {
    if event.received_packets > 0 {
        return event.received_pushes > 0 || event.received_lengths.max > bare(event.server.addr);
    }
    let other = 2 + u64::from(event.sent_pushes) + u64::from(event.closing);
    event.sent_pushes > 0 && event.sent_packets > other
}

/// IP octets of the longest segment without payload.
fn bare(addr: Addr) -> u16 {
    if std::net::IpAddr::from(addr).is_ipv4() { 80 } else { 100 }
}

const fn allowance((once, a_second): (u64, u64), age: Duration) -> u64 {
    once + a_second * age.as_secs()
}
