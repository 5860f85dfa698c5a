//! Layout of everything that kernel and userspace share, versioned.

mod address;
mod aggregate;
mod block;
mod counters;

pub use address::{Addr, MacAddr};
pub use aggregate::Aggregate;
pub use block::{
    ALLOWED_ENTRIES, BlockEntry, BlockKey, FILTER_ENTRIES, Gate, PROVEN_ENTRIES, RETRY_ENTRIES, filter, gate, kind,
};
pub use counters::{Counters, Hook, Reason};

/// Version of this layout. Userspace refuses maps of another version.
pub const ABI_VERSION: u32 = 4;

/// Slots in a bucket of a table: eight 8-byte tags fill one cache line.
pub const BUCKET_SLOTS: u32 = 8;

/// Overflow aggregates, the first of which is for what finds no room among the others.
pub const AGGREGATES: u32 = 512;

/// Entries of the fragment cache.
pub const FRAGMENT_ENTRIES: u32 = 8192;

/// Entries of the cache of handshakes seen while the flow table is closed to strangers.
pub const HANDSHAKE_ENTRIES: u32 = 65_536;

/// Interfaces that may be watched at once.
pub const WATCHED_INTERFACES: u32 = 1024;

/// Octets of the ring that carries ARP messages.
pub const ARP_RING_OCTETS: u32 = 1 << 18;

/// Canonical biflow key: the lower endpoint first, so that both directions meet in one entry.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowKey {
    /// Address of the lower endpoint.
    pub lo_addr: Addr,
    /// Address of the higher endpoint.
    pub hi_addr: Addr,
    /// Port of the lower endpoint, 0 for protocols without ports.
    pub lo_port: u16,
    /// Port of the higher endpoint, 0 for protocols without ports.
    pub hi_port: u16,
    /// IANA protocol number.
    pub proto: u8,
    /// Always zero: the key is hashed and compared as bytes.
    pub zero: [u8; 3],
}

/// Which way a packet of a biflow goes; also the index of that half in [`FlowSlot`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Direction {
    /// From the lower endpoint to the higher.
    LoToHi = 0,
    /// From the higher endpoint to the lower.
    HiToLo = 1,
}

impl Direction {
    /// The index of the half.
    #[inline(always)]
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The other way.
    #[inline(always)]
    #[must_use]
    pub const fn reverse(self) -> Self {
        match self {
            Self::LoToHi => Self::HiToLo,
            Self::HiToLo => Self::LoToHi,
        }
    }
}

impl FlowKey {
    /// The key of a packet and the way the packet goes.
    #[inline(always)]
    #[must_use]
    pub fn canonical(src: Addr, src_port: u16, dst: Addr, dst_port: u16, proto: u8) -> (Self, Direction) {
        let forward = (src.high, src.low, src_port) <= (dst.high, dst.low, dst_port);
        let key = if forward {
            Self { lo_addr: src, hi_addr: dst, lo_port: src_port, hi_port: dst_port, proto, zero: [0; 3] }
        } else {
            Self { lo_addr: dst, hi_addr: src, lo_port: dst_port, hi_port: src_port, proto, zero: [0; 3] }
        };
        (key, if forward { Direction::LoToHi } else { Direction::HiToLo })
    }
}

/// What every packet of a direction touches: one cache line.
///
/// `packets`, `octets` and `psh` are exact with all CPUs writing; the rest may lose a racing update.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Half {
    /// Wire packets.
    pub packets: u64,
    /// IP octets on the wire (IP total length).
    pub octets: u64,
    /// Time of the first packet, ns; 0 while there is none.
    pub first_ns: u64,
    /// Time of the latest packet, ns.
    pub last_ns: u64,
    /// Sum of squared IP lengths.
    pub len_sq: u64,
    /// Sum of squared inter-arrival times in units of (1.024 us)^2. Their plain sum is `last_ns - first_ns`.
    pub iat_sq: u64,
    /// TCP: the sequence number expected next.
    pub next_seq: u32,
    /// TCP segments with PSH.
    pub psh: u32,
    /// TCP: latest window, unscaled. ICMP and ICMPv6: latest type (high octet) and code.
    pub window: u16,
    /// TCP: segments that announced a window of zero, RST and SYN apart; wraps.
    pub zero_windows: u16,
    /// Shortest IP length, 0 while there is no packet.
    pub len_min: u16,
    /// Longest IP length.
    pub len_max: u16,
}

/// What few packets of a direction touch. The flag counts are exact, `retransmits` is a hint.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HalfRare {
    /// TCP segments with FIN.
    pub fin: u32,
    /// TCP segments with SYN.
    pub syn: u32,
    /// TCP segments with RST.
    pub rst: u32,
    /// TCP segments with URG.
    pub urg: u32,
    /// TCP segments with ECE.
    pub ece: u32,
    /// TCP segments with CWR.
    pub cwr: u32,
    /// TCP segments without ACK. Almost every segment has ACK, so its absence is what is counted.
    pub no_ack: u32,
    /// TCP segments whose end was at or before one already seen: retransmissions and keep-alives.
    pub retransmits: u32,
}

/// One biflow: four cache lines, zeroed while unused.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowSlot {
    /// Whose counters these are.
    pub key: FlowKey,
    /// TCP: time of the first SYN in units of 1.024 us, modulo 2^32 and never 0; 0 while there is none.
    pub syn_time: u32,
    /// TCP: from SYN to SYN-ACK in units of 1.024 us, at least 1; 0 while there is none.
    pub syn_ack_delay: u32,
    /// TCP: from SYN to the ACK that completes the handshake, same unit; 0 while there is none.
    pub ack_delay: u32,
    /// ICMP errors that quote a packet of this flow; a hint, wraps.
    pub icmp_errors: u16,
    /// Type (high octet) and code of the latest of them.
    pub icmp_error: u16,
    /// Latest TTL or hop limit, by direction.
    pub ttl: [u8; 2],
    /// [`Direction`] of the first packet seen.
    pub initiator: u8,
    /// 1 + [`Direction`] of the first TCP or UDP payload; 0 while there is none. Tells who speaks first.
    pub first_payload: u8,
    /// Interface on which the flow was first seen; 0 in captures.
    pub ifindex: u32,
    /// By direction.
    pub half: [Half; 2],
    /// By direction.
    pub rare: [HalfRare; 2],
}

#[cfg(not(target_arch = "bpf"))]
impl FlowSlot {
    /// What was counted if only one packet of `factor` was looked at. Hints and times stay as they are.
    #[must_use]
    pub fn scaled(mut self, factor: u32) -> Self {
        for half in &mut self.half {
            for count in [&mut half.packets, &mut half.octets, &mut half.len_sq] {
                *count = count.saturating_mul(u64::from(factor));
            }
            half.psh = half.psh.saturating_mul(factor);
        }
        for rare in &mut self.rare {
            let HalfRare { fin, syn, rst, urg, ece, cwr, no_ack, retransmits: _ } = rare;
            for count in [fin, syn, rst, urg, ece, cwr, no_ack] {
                *count = count.saturating_mul(factor);
            }
        }
        self
    }
}

/// One ARP message (RFC 826) for IPv4 over Ethernet, as the kernel program hands it over.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArpMessage {
    /// When it was seen, ns.
    pub time_ns: u64,
    /// Interface on which it was seen; 0 in captures.
    pub ifindex: u32,
    /// Protocol address of the sender, in host order.
    pub sender_ip: u32,
    /// Protocol address of the target, in host order.
    pub target_ip: u32,
    /// 1 request, 2 reply.
    pub operation: u16,
    /// Always zero.
    pub zero: [u8; 2],
    /// Hardware address of the sender, as the message claims.
    pub sender_mac: MacAddr,
    /// Hardware address of the target, as the message claims.
    pub target_mac: MacAddr,
    /// Hardware address that the frame came from.
    pub frame_mac: MacAddr,
}

/// The part of the flow table's state that is neither tag nor slot.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableState {
    /// [`ABI_VERSION`] of whoever made the maps.
    pub abi_version: u32,
    /// Slots of the flow table.
    pub slots: u32,
    /// Secret seed of the hashes.
    pub seed: u64,
    /// Packets of flows and aggregates that userspace has taken out of the tables.
    pub retired_packets: u64,
    /// Slots claimed and not freed. Added to by the kernel, taken from by userspace.
    pub live: u64,
    /// The admission tick (see [`crate::overflow`]) in which `admitted` counts.
    pub tick: u64,
    /// New flows in this tick.
    pub admitted: u64,
}

/// State of a slot, in the low two bits of its tag; the other bits are the key's hash.
///
/// A tag goes FREE -> CLAIMED -> LIVE in the kernel and LIVE -> DEAD -> FREE in userspace, never otherwise.
pub mod tag {
    /// Nobody uses the slot and its memory is zero. The whole tag is zero.
    pub const FREE: u64 = 0;
    /// A CPU is writing the key. The whole tag is this value.
    pub const CLAIMED: u64 = 1;
    /// The slot counts.
    pub const LIVE: u64 = 2;
    /// Userspace has unlinked the slot; after a grace period its counters are final.
    pub const DEAD: u64 = 3;
    /// The bits of the state.
    pub const STATE: u64 = 3;
}

/// Load-time constants of the kernel program: read-only, so the verifier removes what they switch off.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Secret seed of the hashes.
    pub seed: u64,
    /// When not zero, the time of every packet: for tests.
    pub fixed_ns: u64,
    /// Buckets of the flow table.
    pub buckets: u32,
    /// One of so many packets is looked at, 0 or 1 for every one.
    pub sampling: u32,
    /// Tunnels whose inner packets are counted in place of the outer: bits of [`crate::packet::tunnel`].
    pub tunnels: u32,
    /// Not zero where packets that leave are not seen at egress: on a mirror port, or with egress switched off.
    pub mirror: u32,
}

const _: () = {
    assert!(size_of::<Addr>() == 16);
    assert!(size_of::<FlowKey>() == 40);
    assert!(size_of::<Half>() == 64);
    assert!(size_of::<HalfRare>() == 32);
    assert!(size_of::<FlowSlot>() == 256);
    assert!(core::mem::offset_of!(FlowSlot, half) == 64);
    assert!(core::mem::offset_of!(FlowSlot, rare) == 192);
    assert!(size_of::<Aggregate>() == 96 + Aggregate::PEER_REGISTERS + Aggregate::PORT_REGISTERS);
    assert!(size_of::<ArpMessage>() == 48);
    assert!(size_of::<TableState>() == 48);
    assert!(size_of::<Counters>() == 160);
    assert!(size_of::<Settings>() == 32);
};

#[cfg(feature = "user")]
mod pod {
    // SAFETY: repr(C), no padding (asserted sizes are the sums of the fields), no pointers; every bit pattern is valid.
    unsafe impl aya::Pod for super::Counters {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Settings {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::TableState {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::IpAddr;

    #[test]
    fn both_directions_meet_in_one_key() {
        let a = Addr::from("192.0.2.9".parse::<IpAddr>().unwrap());
        let b = Addr::from("192.0.2.10".parse::<IpAddr>().unwrap());
        let (forward, way) = FlowKey::canonical(a, 50_000, b, 443, 6);
        let (reverse, back) = FlowKey::canonical(b, 443, a, 50_000, 6);
        assert_eq!(forward, reverse);
        assert_eq!((way, back), (Direction::LoToHi, Direction::HiToLo));
    }

    #[test]
    fn ports_order_a_flow_to_oneself() {
        let a = Addr::from_v4(0x7f00_0001);
        assert_eq!(FlowKey::canonical(a, 9, a, 7, 17).0, FlowKey::canonical(a, 7, a, 9, 17).0);
    }
}
