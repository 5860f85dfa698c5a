//! What happens when new flows come faster than the flow table can take them: who still gets a slot, and what the
//! packets of the others are summed up by.
//!
//! A flood of new keys must neither push out nor blur the flows that are there, and it must be named. So the table is
//! closed to strangers by degrees ([`Limits`]), flows that have proven themselves ([`Proof`]) may use its last slots,
//! and everything else is counted in one [`Aggregate`] for each attacked host and protocol.
#![expect(
    clippy::cast_possible_truncation,
    reason = "each is masked or bounded in the same line, and a checked conversion costs instructions"
)]

use core::ptr::addr_of_mut;

use crate::abi::{Addr, Aggregate, Hook};
use crate::account::{Adder, Wire};
use crate::hash::Hash;
use crate::packet::{Packet, proto, tcp_flags};

/// Admission is reckoned in ticks of 2^27 ns (134 ms).
pub const TICK_SHIFT: u32 = 27;

/// Slots of a bucket that are kept for flows that have proven themselves.
pub const RESERVED: u64 = 1;

/// How many flows the table takes in. When it is no longer open, strangers leave [`RESERVED`] slots of each bucket free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Live flows below which every new one gets a slot.
    pub open: u64,
    /// Live flows from which only proven ones get a slot; between the two at most `rate` a tick do.
    pub closed: u64,
    /// New flows in a tick.
    pub rate: u64,
}

impl Limits {
    /// Of a table of so many slots: open to one half, closed from seven eighths, and in between a tenth of the table in
    /// a second.
    #[inline(always)]
    #[must_use]
    pub const fn of(slots: u32) -> Self {
        let slots = slots as u64;
        Self { open: slots / 2, closed: slots - slots / 8, rate: slots / 75 + 1 }
    }
}

/// What a packet of an unknown flow says about its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Nothing: its address may be forged.
    Stranger,
    /// Answers a connection request: what it acknowledges is worth remembering.
    Answer,
    /// Acknowledges: proves itself if it acknowledges an answer.
    Acknowledgement,
    /// This host itself sends data over an established connection.
    Established,
}

impl Proof {
    /// What `packet` says at `hook`. A forwarded one is not of this host.
    #[inline(always)]
    #[must_use]
    pub const fn of(packet: &Packet, hook: Hook, is_forwarded: bool) -> Self {
        const RELEVANT: u8 = tcp_flags::SYN | tcp_flags::ACK | tcp_flags::RST;
        const ANSWER: u8 = tcp_flags::SYN | tcp_flags::ACK;
        if packet.proto != proto::TCP || packet.is_later_fragment() {
            return Self::Stranger;
        }
        match packet.tcp_flags & RELEVANT {
            ANSWER => Self::Answer,
            tcp_flags::ACK if matches!(hook, Hook::Egress) && packet.payload() > 0 && !is_forwarded => {
                Self::Established
            }
            tcp_flags::ACK => Self::Acknowledgement,
            _ => Self::Stranger,
        }
    }
}

/// An answer that was seen of a flow, as a word: 16 bits of the flow's hash, its direction, where it was seen, and the
/// number that it wants acknowledged.
///
/// Who acknowledges it proves that it was received, if the answer cannot have come from the same forger: it goes the
/// other way, and was seen at another hook or interface than its acknowledgement. On a mirror port both are seen at the
/// same place; there a forger who knows that has to send two packets for each slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handshake(pub u64);

impl Handshake {
    const PLACE: u64 = 0x7fff << 32;
    const DIRECTION: u64 = 1 << 47;

    /// What a packet of a flow says: an answer of what it wants acknowledged, an acknowledgement of what it acknowledges.
    #[inline(always)]
    #[must_use]
    pub const fn new(flow_hash: u64, direction: u8, (hook, ifindex): (u8, u32), acknowledged: u32) -> Self {
        let place = ((ifindex as u64) << 1 | hook as u64) << 32 & Self::PLACE;
        let direction = (direction as u64 & 1) << 47;
        Self(flow_hash & 0xffff << 48 | direction | place | acknowledged as u64)
    }

    /// Whether this acknowledgement proves that its sender has received `answer`.
    #[inline(always)]
    #[must_use]
    pub const fn acknowledges(self, answer: Self, is_mirror: bool) -> bool {
        let differing = self.0 ^ answer.0;
        let elsewhere = differing & Self::PLACE != 0;
        differing & !Self::PLACE == Self::DIRECTION && (elsewhere || is_mirror)
    }
}

/// A packet in no flow, for the aggregate of its subject.
#[derive(Clone, Copy, Debug)]
pub struct Stray {
    /// The host whose aggregate it is.
    pub subject: Addr,
    /// The other host.
    pub peer: Addr,
    /// Port of the subject.
    pub port: u16,
    /// Whether the subject sent it.
    pub sent: bool,
}

impl Stray {
    /// The packet with its receiver as the subject, or with its sender.
    #[inline(always)]
    #[must_use]
    pub const fn new(packet: &Packet, sent: bool) -> Self {
        if sent {
            Self { subject: packet.src, peer: packet.dst, port: packet.src_port, sent }
        } else {
            Self { subject: packet.dst, peer: packet.src, port: packet.dst_port, sent }
        }
    }

    /// The protocol whose aggregate it is: the rare ones are summed up together, lest one host have two hundred.
    #[inline(always)]
    #[must_use]
    pub const fn class(proto: u8) -> u8 {
        match proto {
            proto::TCP | proto::UDP | proto::ICMP | proto::ICMPV6 => proto,
            _ => 0,
        }
    }

    /// Whether the sender is the subject, if neither host has an aggregate yet: at egress it is this host, and an
    /// answer comes from who is asked.
    #[inline(always)]
    #[must_use]
    pub const fn sender_is_subject(packet: &Packet, hook: Hook) -> bool {
        match hook {
            Hook::Egress => true,
            Hook::Ingress => {
                packet.proto == proto::TCP
                    && (packet.tcp_flags & tcp_flags::RST != 0
                        || matches!(Proof::of(packet, hook, false), Proof::Answer))
            }
        }
    }

    /// Accounts the packet to its aggregate. Packets, octets and requests are exact when several CPUs do so at once.
    ///
    /// # Safety
    /// `aggregate` is valid and aligned, is the stray's, and is written by nothing but this function.
    #[inline(always)]
    pub unsafe fn account<A: Adder>(
        &self,
        aggregate: *mut Aggregate,
        packet: &Packet,
        wire: &Wire,
        now_ns: u64,
        seed: u64,
    ) {
        const REQUEST: u8 = tcp_flags::SYN | tcp_flags::ACK;
        let way = self.sent as usize;
        // SAFETY: the aggregate is valid, so its fields are; registers are indexed below their number.
        unsafe {
            A::add64(addr_of_mut!((*aggregate).packets).cast::<u64>().add(way), u64::from(wire.packets));
            A::add64(addr_of_mut!((*aggregate).octets).cast::<u64>().add(way), wire.octets);
            if packet.proto == proto::TCP && packet.tcp_flags & REQUEST == tcp_flags::SYN {
                A::add64(addr_of_mut!((*aggregate).requests).cast::<u64>().add(way), 1);
            }
            let aggregate = &mut *aggregate;
            if aggregate.first_ns == 0 {
                aggregate.first_ns = now_ns;
            }
            if now_ns > aggregate.last_ns {
                aggregate.last_ns = now_ns;
            }
            aggregate.port_vote = vote(aggregate.port_vote, self.port);
            let peer = Hash::new(seed).word(self.peer.high).word(self.peer.low).word(0).finish();
            register(&mut aggregate.peers, peer);
            register(&mut aggregate.ports, Hash::new(seed).word(u64::from(self.port)).word(0).finish());
        }
    }
}

/// One step of the majority vote.
#[inline(always)]
const fn vote(vote: u64, port: u16) -> u64 {
    const ONE: u64 = 1 << 16;
    if vote >> 16 == 0 {
        ONE | port as u64
    } else if vote as u16 == port {
        vote + ONE
    } else {
        vote - ONE
    }
}

/// Registers of a power of two, indexed by the low bits of the hash; the rank is that of the high ones.
#[inline(always)]
fn register<const N: usize>(registers: &mut [u8; N], hash: u64) {
    let rank = leading_zeros(hash | 1 << 10) + 1;
    let register = &mut registers[hash as usize & (N - 1)];
    if rank > *register {
        *register = rank;
    }
}

/// By halves: BPF has no instruction for it.
#[inline(always)]
const fn leading_zeros(mut word: u64) -> u8 {
    let mut zeros = 0;
    let mut shift = 32_u8;
    while shift > 0 {
        if word >> (64 - shift) == 0 {
            zeros += shift;
            word <<= shift;
        }
        shift /= 2;
    }
    zeros
}

/// How many distinct things a set of registers has seen: HyperLogLog, with linear counting where few were (Flajolet et
/// al. 2007).
#[cfg(not(target_arch = "bpf"))]
#[must_use]
pub fn distinct(registers: &[u8]) -> f64 {
    let m = registers.len() as f64;
    let alpha = if registers.len() <= 64 { 0.709 } else { 0.7213 / (1.0 + 1.079 / m) };
    let sum: f64 = registers.iter().map(|&rank| 1.0 / (1_u64 << rank.min(63)) as f64).sum();
    let raw = alpha * m * m / sum;
    let zeros = registers.iter().filter(|&&rank| rank == 0).count();
    if raw <= 2.5 * m && zeros > 0 { m * ln(m / zeros as f64) } else { raw }
}

/// `core` has no logarithm. Exact to about 1e-12 for what linear counting asks (1 to 1024).
#[cfg(not(target_arch = "bpf"))]
fn ln(value: f64) -> f64 {
    // ln x = ln m + e ln 2 with m in [1, 2), and ln m = 2 artanh((m - 1) / (m + 1)).
    let bits = value.to_bits();
    let exponent = (bits >> 52) as i32 - 1023;
    let mantissa = f64::from_bits(bits & 0x000f_ffff_ffff_ffff | 0x3ff0_0000_0000_0000);
    let ratio = (mantissa - 1.0) / (mantissa + 1.0);
    let (mut term, mut sum, mut odd) = (ratio, 0.0, 1.0_f64);
    while odd < 40.0 {
        sum += term / odd;
        term *= ratio * ratio;
        odd += 2.0;
    }
    2.0 * sum + f64::from(exponent) * core::f64::consts::LN_2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::Plain;

    fn syn(source: u32, port: u16) -> Packet {
        Packet {
            src: Addr::from_v4(source),
            dst: Addr::from_v4(0xc000_0201),
            src_port: 40_000,
            dst_port: port,
            proto: proto::TCP,
            tcp_flags: tcp_flags::SYN,
            ip_octets: 40,
            header_octets: 40,
            ..Packet::default()
        }
    }

    fn flood(sources: u32) -> Aggregate {
        let mut aggregate = Aggregate::EMPTY;
        for source in 0..sources {
            let packet = syn(source, if source % 3 == 0 { source as u16 } else { 443 });
            let stray = Stray::new(&packet, false);
            // SAFETY: an exclusive reference is valid, aligned and owned.
            unsafe {
                stray.account::<Plain>(&mut aggregate, &packet, &Wire::single(&packet), u64::from(source) + 1, 9);
            };
        }
        aggregate
    }

    #[test]
    fn a_flood_is_summed_up() {
        let aggregate = flood(30_000);
        assert_eq!(
            (aggregate.packets, aggregate.octets, aggregate.requests),
            ([30_000, 0], [1_200_000, 0], [30_000, 0])
        );
        assert_eq!((aggregate.first_ns, aggregate.last_ns), (1, 30_000));
        assert_eq!(aggregate.main_port(), Some(443));
    }

    #[test]
    fn peers_are_counted_within_four_standard_errors() {
        for sources in [1, 10, 100, 1_000, 30_000, 1_000_000] {
            let estimate = distinct(&flood(sources).peers);
            let error = (estimate - f64::from(sources)).abs() / f64::from(sources);
            assert!(error < 0.14, "{sources}: {estimate}");
        }
    }

    #[test]
    fn logarithms_are_those_of_the_standard_library() {
        for value in [1.0, 1.0005, 1.5, 2.0, 3.3, 100.0, 1023.0, 1024.0] {
            assert!((ln(value) - value.ln()).abs() < 1e-12, "{value}");
        }
    }

    #[test]
    fn leading_zeros_are_those_of_the_processor() {
        for shift in 0..64u32 {
            let word = u64::MAX >> shift;
            assert_eq!(u32::from(leading_zeros(word)), word.leading_zeros());
        }
    }

    #[test]
    fn only_an_acknowledgement_proves_a_stranger() {
        let packet = |flags, payload: u32| Packet { tcp_flags: flags, ip_octets: 40 + payload, ..syn(1, 80) };
        let table = [
            (packet(tcp_flags::SYN, 0), Hook::Ingress, Proof::Stranger),
            (packet(tcp_flags::SYN | tcp_flags::ACK, 0), Hook::Egress, Proof::Answer),
            (packet(tcp_flags::ACK, 0), Hook::Ingress, Proof::Acknowledgement),
            (packet(tcp_flags::ACK | tcp_flags::PSH, 9), Hook::Ingress, Proof::Acknowledgement),
            (packet(tcp_flags::ACK | tcp_flags::PSH, 9), Hook::Egress, Proof::Established),
            (packet(tcp_flags::RST | tcp_flags::ACK, 0), Hook::Egress, Proof::Stranger),
            (Packet { proto: proto::UDP, ..packet(tcp_flags::ACK, 0) }, Hook::Ingress, Proof::Stranger),
        ];
        for (packet, hook, proof) in table {
            assert_eq!(Proof::of(&packet, hook, false), proof, "{packet:?}");
        }
    }

    #[test]
    fn forwarded_data_is_not_of_this_host() {
        let data = Packet { tcp_flags: tcp_flags::ACK, ip_octets: 80, ..syn(1, 80) };
        assert_eq!(Proof::of(&data, Hook::Egress, true), Proof::Acknowledgement);
    }

    #[test]
    fn an_answer_is_acknowledged_from_elsewhere() {
        const FLOW: u64 = 0xabcd_0123_4567_89ab;
        let answer = Handshake::new(FLOW, 1, (1, 2), 901);
        let is_proof = |direction, place, acknowledged, is_mirror| {
            Handshake::new(FLOW, direction, place, acknowledged).acknowledges(answer, is_mirror)
        };
        assert!(is_proof(0, (0, 2), 901, false), "the other hook");
        assert!(is_proof(0, (1, 3), 901, false), "another interface");
        assert!(!is_proof(0, (1, 2), 901, false), "the same place: one forger can have sent both");
        assert!(is_proof(0, (1, 2), 901, true), "a mirror port has one place only");
        assert!(!is_proof(1, (0, 2), 901, true), "the same direction");
        assert!(!is_proof(0, (0, 2), 902, true), "another number");
        assert!(!Handshake::new(!FLOW, 0, (0, 2), 901).acknowledges(answer, true), "another flow");
    }

    #[test]
    fn limits_leave_room_for_the_proven() {
        for slots in [8, 1024, 131_072, 16_777_216] {
            let limits = Limits::of(slots);
            assert!(limits.open < limits.closed && limits.closed < u64::from(slots) && limits.rate > 0);
        }
    }
}
