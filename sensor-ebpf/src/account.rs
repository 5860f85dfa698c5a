//! What one packet does to the counters of its flow.
#![expect(
    clippy::cast_possible_truncation,
    reason = "each is bounded in the same line, and a checked conversion costs instructions"
)]

use core::ptr::addr_of_mut;

use crate::abi::{Direction, FlowSlot, Half, HalfRare};
use crate::packet::{Packet, proto, tcp_flags};

/// A packet as it is on the wire, where one super-packet of an offload is several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wire {
    /// Packets on the wire.
    pub packets: u32,
    /// IP octets on the wire, headers repeated in each packet.
    pub octets: u64,
    /// IP length of every packet but the last.
    pub full_len: u32,
    /// IP length of the last packet.
    pub last_len: u32,
}

impl Wire {
    /// A packet that is on the wire as it is here.
    #[inline(always)]
    #[must_use]
    pub const fn single(packet: &Packet) -> Self {
        Self { packets: 1, octets: packet.ip_octets as u64, full_len: packet.ip_octets, last_len: packet.ip_octets }
    }

    /// A super-packet that the network card or the stack cuts into payloads of `gso_size` octets (GSO), or that it has
    /// merged from such (GRO). `gso_size` 0 means no offload. `gso_segs` is how many, 0 if nobody has counted them: then
    /// they are reckoned from the payload. Of a tunnel whose outer packet is counted, the inner headers are taken for
    /// payload of the first: octets are then short by those of the other segments (5 % for VXLAN at full size).
    #[inline(always)]
    #[must_use]
    pub const fn segmented(packet: &Packet, gso_size: u32, gso_segs: u32) -> Self {
        let payload = packet.payload();
        if gso_size == 0 || payload <= gso_size {
            return Self::single(packet);
        }
        let packets = if gso_segs > 1 { gso_segs } else { payload.div_ceil(gso_size) };
        let header = packet.header_octets;
        let last_payload = payload.saturating_sub((packets - 1).saturating_mul(gso_size));
        Self {
            packets,
            octets: payload as u64 + packets as u64 * header as u64,
            full_len: header.saturating_add(gso_size),
            last_len: header.saturating_add(last_payload),
        }
    }

    #[inline(always)]
    const fn len_sq(&self) -> u64 {
        let full = self.full_len as u64 * self.full_len as u64;
        let last = self.last_len as u64 * self.last_len as u64;
        full.wrapping_mul((self.packets - 1) as u64).wrapping_add(last)
    }
}

/// How exact counters are added to: atomically in the kernel, plainly where one thread owns the slot.
pub trait Adder {
    /// Adds to a counter that several CPUs may add to at once.
    ///
    /// # Safety
    /// `counter` is valid, aligned, and written by nothing but additions.
    unsafe fn add64(counter: *mut u64, value: u64);

    /// As [`Self::add64`], for 32 bits.
    ///
    /// # Safety
    /// As for [`Self::add64`].
    unsafe fn add32(counter: *mut u32, value: u32);
}

/// For a slot that this thread alone owns.
#[derive(Clone, Copy, Debug)]
pub struct Plain;

impl Adder for Plain {
    #[inline(always)]
    unsafe fn add64(counter: *mut u64, value: u64) {
        // SAFETY: valid and aligned by the trait's contract, and owned by this thread.
        unsafe { *counter = (*counter).wrapping_add(value) };
    }

    #[inline(always)]
    unsafe fn add32(counter: *mut u32, value: u32) {
        // SAFETY: as above.
        unsafe { *counter = (*counter).wrapping_add(value) };
    }
}

impl FlowSlot {
    /// Accounts a packet to a slot that this thread owns.
    pub fn observe(&mut self, packet: &Packet, wire: &Wire, direction: Direction, now_ns: u64) {
        // SAFETY: an exclusive reference is valid, aligned and owned.
        unsafe { observe::<Plain>(self, packet, wire, direction, now_ns) }
    }

    /// Notes an ICMP error to a slot that this thread owns.
    pub fn observe_icmp_error(&mut self, kind: u16) {
        // SAFETY: as above.
        unsafe { observe_icmp_error(self, kind) }
    }
}

/// Accounts a packet to its flow. Packets, octets and flags are exact when several CPUs do so at once; times, extremes
/// and moments may lose a racing update.
///
/// # Safety
/// `slot` is valid and aligned, its key is the packet's, and it is written by nothing but this function.
#[inline(always)]
pub unsafe fn observe<A: Adder>(slot: *mut FlowSlot, packet: &Packet, wire: &Wire, direction: Direction, now_ns: u64) {
    // SAFETY: the slot is valid, so its fields are; an array of two is indexed by a direction, 0 or 1.
    unsafe {
        let way = direction.index();
        let half = addr_of_mut!((*slot).half).cast::<Half>().add(way);
        let rare = addr_of_mut!((*slot).rare).cast::<HalfRare>().add(way);
        *addr_of_mut!((*slot).ttl).cast::<u8>().add(way) = packet.ttl;
        observe_times(half, now_ns);
        observe_lengths(half, wire);
        A::add64(addr_of_mut!((*half).packets), u64::from(wire.packets));
        A::add64(addr_of_mut!((*half).octets), wire.octets);
        if packet.is_later_fragment() {
            if packet.proto == proto::TCP {
                A::add32(addr_of_mut!((*rare).no_ack), wire.packets);
            }
            return;
        }
        (*half).window = packet.window;
        if (*slot).first_payload == 0 && packet.payload() > 0 && has_payload_order(packet.proto) {
            (*slot).first_payload = 1 + direction as u8;
        }
        if packet.proto == proto::TCP {
            let other = addr_of_mut!((*slot).half).cast::<Half>().add(direction.reverse().index());
            observe_tcp::<A>(slot, [half, other], rare, packet, wire, now_ns);
        }
    }
}

const fn has_payload_order(protocol: u8) -> bool {
    matches!(protocol, proto::TCP | proto::UDP)
}

#[inline(always)]
unsafe fn observe_times(half: *mut Half, now_ns: u64) {
    // SAFETY: valid by the caller's contract.
    let half = unsafe { &mut *half };
    if half.first_ns == 0 {
        half.first_ns = now_ns;
        half.last_ns = now_ns;
    } else if now_ns > half.last_ns {
        let gap = (now_ns - half.last_ns) >> 10;
        half.iat_sq = half.iat_sq.wrapping_add(gap.wrapping_mul(gap));
        half.last_ns = now_ns;
    }
}

#[inline(always)]
unsafe fn observe_lengths(half: *mut Half, wire: &Wire) {
    // SAFETY: valid by the caller's contract.
    let half = unsafe { &mut *half };
    half.len_sq = half.len_sq.wrapping_add(wire.len_sq());
    let longest = if wire.full_len > 0xffff { 0xffff } else { wire.full_len as u16 };
    let shortest = if wire.last_len > 0xffff { 0xffff } else { wire.last_len as u16 };
    if longest > half.len_max {
        half.len_max = longest;
    }
    if half.len_min == 0 || shortest < half.len_min {
        half.len_min = shortest;
    }
}

/// Counts flags as the wire has them: of a super-packet every segment has ACK, and the rest is on one segment only.
#[inline(always)]
unsafe fn observe_tcp<A: Adder>(
    slot: *mut FlowSlot,
    [half, other]: [*mut Half; 2],
    rare: *mut HalfRare,
    packet: &Packet,
    wire: &Wire,
    now_ns: u64,
) {
    let flags = packet.tcp_flags;
    // SAFETY: valid by the caller's contract.
    unsafe {
        if flags & tcp_flags::PSH != 0 {
            A::add32(addr_of_mut!((*half).psh), 1);
        }
        let end = packet.seq.wrapping_add(packet.payload());
        let carries = packet.payload() > 0;
        if carries && (*half).next_seq != 0 && end.wrapping_sub((*half).next_seq).wrapping_sub(1) >= 1 << 31 {
            (*rare).retransmits = (*rare).retransmits.wrapping_add(1);
        } else if carries || flags & tcp_flags::SYN != 0 {
            (*half).next_seq = end;
        }
        if packet.window == 0 && flags & (tcp_flags::SYN | tcp_flags::RST) == 0 {
            (*half).zero_windows = (*half).zero_windows.wrapping_add(1);
        }
        if flags & !tcp_flags::PSH != tcp_flags::ACK {
            observe_rare_flags::<A>(rare, flags, wire.packets);
        }
        if (*slot).ack_delay == 0 {
            observe_handshake(slot, rare, flags, acknowledges(packet, other), now_ns);
        }
    }
}

#[inline(always)]
unsafe fn observe_rare_flags<A: Adder>(rare: *mut HalfRare, flags: u8, packets: u32) {
    // SAFETY: valid by the caller's contract.
    unsafe {
        if flags & tcp_flags::ACK == 0 {
            A::add32(addr_of_mut!((*rare).no_ack), packets);
        }
        if flags & tcp_flags::FIN != 0 {
            A::add32(addr_of_mut!((*rare).fin), 1);
        }
        if flags & tcp_flags::SYN != 0 {
            A::add32(addr_of_mut!((*rare).syn), 1);
        }
        if flags & tcp_flags::RST != 0 {
            A::add32(addr_of_mut!((*rare).rst), 1);
        }
        if flags & tcp_flags::URG != 0 {
            A::add32(addr_of_mut!((*rare).urg), 1);
        }
        if flags & tcp_flags::ECE != 0 {
            A::add32(addr_of_mut!((*rare).ece), 1);
        }
        if flags & tcp_flags::CWR != 0 {
            A::add32(addr_of_mut!((*rare).cwr), 1);
        }
    }
}

/// Whether a segment acknowledges something that the other side has sent: who forges his address does not know what that
/// was.
#[inline(always)]
unsafe fn acknowledges(packet: &Packet, other: *const Half) -> bool {
    // SAFETY: valid by the caller's contract.
    let (next_seq, octets) = unsafe { ((*other).next_seq, (*other).octets) };
    // A SYN takes up a number that `next_seq` leaves out.
    u64::from(next_seq.wrapping_add(1).wrapping_sub(packet.ack)) < octets
}

/// SYN, SYN-ACK, ACK. The last counts only from the side that sent a SYN without ACK, and for what it acknowledges.
#[inline(always)]
unsafe fn observe_handshake(slot: *mut FlowSlot, rare: *mut HalfRare, flags: u8, acknowledges: bool, now_ns: u64) {
    const SYN_ACK: u8 = tcp_flags::SYN | tcp_flags::ACK;
    // SAFETY: valid by the caller's contract.
    unsafe {
        let now = (now_ns >> 10) as u32;
        let since_syn = now.wrapping_sub((*slot).syn_time);
        // A clock that stepped back is no delay of an hour.
        let delay = if since_syn >= 1 << 31 || since_syn == 0 { 1 } else { since_syn };
        match flags & (SYN_ACK | tcp_flags::RST) {
            tcp_flags::SYN if (*slot).syn_time == 0 => (*slot).syn_time = if now == 0 { 1 } else { now },
            SYN_ACK if (*slot).syn_time != 0 && (*slot).syn_ack_delay == 0 => (*slot).syn_ack_delay = delay,
            tcp_flags::ACK if acknowledges && (*slot).syn_ack_delay != 0 && (*rare).syn != 0 && (*rare).no_ack != 0 => {
                (*slot).ack_delay = delay;
            }
            _ => {}
        }
    }
}

/// Notes an ICMP error of `kind` (type in the high octet, code in the low) that quotes a packet of this flow.
///
/// # Safety
/// `slot` is valid and aligned.
#[inline(always)]
pub unsafe fn observe_icmp_error(slot: *mut FlowSlot, kind: u16) {
    // SAFETY: by the caller's contract.
    unsafe {
        (*slot).icmp_errors = (*slot).icmp_errors.wrapping_add(1);
        (*slot).icmp_error = kind;
    }
}

#[cfg(test)]
mod tests;
