//! What is left of packets in no flow: their sums by host.

use super::Addr;

/// What arrives for one host and protocol while the flow table is closed to strangers: the sums of a flood.
///
/// `packets`, `octets` and `requests` are exact with all CPUs writing; the rest may lose a racing update.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aggregate {
    /// The host that the flows have in common; unspecified in the aggregate that takes what finds no other.
    pub subject: Addr,
    /// IANA protocol number of TCP, UDP, ICMP or ICMPv6; 0 for all others together.
    pub proto: u8,
    /// Always zero: subject and protocol are hashed and compared as words.
    pub zero: [u8; 7],
    /// Time of the first packet, ns; 0 while there is none.
    pub first_ns: u64,
    /// Time of the latest packet, ns.
    pub last_ns: u64,
    /// Wire packets to the subject and from it.
    pub packets: [u64; 2],
    /// IP octets to the subject and from it.
    pub octets: [u64; 2],
    /// TCP segments with SYN and without ACK, to the subject and from it.
    pub requests: [u64; 2],
    /// Majority vote (Boyer, Moore 1981) on the subject's port: the port in the low 16 bits, its lead in the others.
    pub port_vote: u64,
    /// HyperLogLog registers (Flajolet et al. 2007) of the other hosts.
    pub peers: [u8; Self::PEER_REGISTERS],
    /// HyperLogLog registers of the subject's ports.
    pub ports: [u8; Self::PORT_REGISTERS],
}

impl Aggregate {
    /// Standard error of the count of peers: 3.3 %.
    pub const PEER_REGISTERS: usize = 1024;
    /// Standard error of the count of ports: 13 %.
    pub const PORT_REGISTERS: usize = 64;

    /// An aggregate of nothing.
    pub const EMPTY: Self = Self {
        subject: Addr { high: 0, low: 0 },
        proto: 0,
        zero: [0; 7],
        first_ns: 0,
        last_ns: 0,
        packets: [0; 2],
        octets: [0; 2],
        requests: [0; 2],
        port_vote: 0,
        peers: [0; Self::PEER_REGISTERS],
        ports: [0; Self::PORT_REGISTERS],
    };

    /// What was counted if only one packet of `factor` was looked at.
    #[cfg(not(target_arch = "bpf"))]
    #[must_use]
    pub fn scaled(mut self, factor: u32) -> Self {
        let factor = u64::from(factor);
        for count in [&mut self.packets, &mut self.octets, &mut self.requests].into_iter().flatten() {
            *count = count.saturating_mul(factor);
        }
        self
    }

    /// The port most packets had, if one had more than half of them.
    #[must_use]
    pub const fn main_port(&self) -> Option<u16> {
        if self.port_vote >> 16 == 0 { None } else { Some((self.port_vote & 0xffff) as u16) }
    }
}
