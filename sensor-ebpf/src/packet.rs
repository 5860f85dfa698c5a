//! From headers to [`Packet`]: Ethernet, VLAN, IPv4, IPv6 and its extension headers, TCP, UDP, SCTP, others by protocol.
#![expect(
    clippy::cast_possible_truncation,
    reason = "offsets stay far below 2^32, and a checked conversion costs instructions"
)]

use crate::abi::{Addr, Reason};

/// Largest offset at which a header may start: keeps every read bounded for the verifier.
pub const MAX_OFFSET: usize = 1 << 12;

/// VLAN tags that are followed.
pub const VLAN_DEPTH: usize = 2;

/// IPv6 extension headers that are followed.
pub const EXTENSION_DEPTH: usize = 8;

/// Random access to the octets of a frame.
pub trait Reader {
    /// The `N` octets at `offset`, or nothing where the frame is shorter. `N` is at least 2: of a single octet at a
    /// variable offset LLVM writes a bounds check that the verifier does not understand.
    fn bytes<const N: usize>(&self, offset: usize) -> Option<[u8; N]>;

    /// Octets of the whole frame on the wire.
    fn wire_len(&self) -> u32;
}

/// EtherTypes.
pub mod ethertype {
    /// Internet Protocol version 4.
    pub const IPV4: u16 = 0x0800;
    /// Address Resolution Protocol.
    pub const ARP: u16 = 0x0806;
    /// IEEE 802.1Q tag.
    pub const VLAN: u16 = 0x8100;
    /// Internet Protocol version 6.
    pub const IPV6: u16 = 0x86dd;
    /// IEEE 802.1ad service tag.
    pub const QINQ: u16 = 0x88a8;
    /// Pre-standard service tag.
    pub const QINQ_OLD: u16 = 0x9100;
}

/// IANA protocol numbers.
pub mod proto {
    /// Internet Control Message.
    pub const ICMP: u8 = 1;
    /// IPv4 in IP.
    pub const IPIP: u8 = 4;
    /// Transmission Control.
    pub const TCP: u8 = 6;
    /// User Datagram.
    pub const UDP: u8 = 17;
    /// IPv6 in IP.
    pub const IPV6: u8 = 41;
    /// Generic Routing Encapsulation.
    pub const GRE: u8 = 47;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
    /// Stream Control Transmission.
    pub const SCTP: u8 = 132;
    /// UDP-Lite.
    pub const UDPLITE: u8 = 136;
}

/// Bits of the TCP flags octet (RFC 9293).
pub mod tcp_flags {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// Push.
    pub const PSH: u8 = 0x08;
    /// The acknowledgement field is valid.
    pub const ACK: u8 = 0x10;
    /// The urgent pointer is valid.
    pub const URG: u8 = 0x20;
    /// ECN echo.
    pub const ECE: u8 = 0x40;
    /// Congestion window reduced.
    pub const CWR: u8 = 0x80;
}

/// What the sensor knows of one IP packet, or of one offloaded super-packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packet {
    /// Sender.
    pub src: Addr,
    /// Receiver.
    pub dst: Addr,
    /// 0 for protocols without ports and for later fragments.
    pub src_port: u16,
    /// 0 for protocols without ports and for later fragments.
    pub dst_port: u16,
    /// IANA protocol number; the last one reached in IPv6.
    pub proto: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// TCP flags; 0 for others and where the header is cut short.
    pub tcp_flags: u8,
    /// Whether it is a fragment, and which.
    pub fragment: Fragment,
    /// TCP window, unscaled; for ICMP and ICMPv6 type and code.
    pub window: u16,
    /// TCP sequence number.
    pub seq: u32,
    /// TCP acknowledgement number.
    pub ack: u32,
    /// What fragments of one packet have in common (RFC 791, RFC 8200); 0 for whole packets.
    pub fragment_id: u32,
    /// IP total length: headers and payload, without link layer and padding.
    pub ip_octets: u32,
    /// Octets before the transport payload, counted from the IP header.
    pub header_octets: u32,
    /// Where in the frame the transport header begins.
    pub transport_offset: u32,
}

/// What part of a packet it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Fragment {
    /// All of it.
    #[default]
    Whole = 0,
    /// The one with the transport header.
    First = 1,
    /// One without.
    Later = 2,
}

impl Fragment {
    /// By its offset, and by whether more follow.
    #[inline(always)]
    const fn new(offset: u16, more: bool) -> Self {
        if offset != 0 {
            Self::Later
        } else if more {
            Self::First
        } else {
            Self::Whole
        }
    }
}

impl Packet {
    /// Whether it is a fragment without transport header.
    #[inline(always)]
    #[must_use]
    pub const fn is_later_fragment(&self) -> bool {
        matches!(self.fragment, Fragment::Later)
    }

    /// Whether it reports what became of another packet, which it quotes (RFC 792, RFC 4443).
    #[inline(always)]
    #[must_use]
    pub const fn is_icmp_error(&self) -> bool {
        let kind = self.window >> 8;
        match self.proto {
            _ if self.is_later_fragment() => false,
            proto::ICMP => matches!(kind, 3 | 4 | 5 | 11 | 12),
            proto::ICMPV6 => matches!(kind, 1..=4),
            _ => false,
        }
    }

    /// Octets of transport payload.
    #[inline(always)]
    #[must_use]
    pub const fn payload(&self) -> u32 {
        self.ip_octets.saturating_sub(self.header_octets)
    }
}

/// Parses an Ethernet frame.
///
/// # Errors
/// The reason why the packet belongs to no flow.
#[inline(always)]
pub fn parse_ethernet<R: Reader>(frame: &R, tunnels: u32) -> Result<Packet, Reason> {
    let (kind, offset) = skip_ethernet(frame, 0)?;
    parse_network(frame, kind, offset, tunnels)
}

/// The EtherType of the network layer of the Ethernet frame at `start`, and where that layer begins.
///
/// # Errors
/// The frame is too short, or has too many VLAN tags.
#[inline(always)]
pub fn skip_ethernet<R: Reader>(frame: &R, start: usize) -> Result<(u16, usize), Reason> {
    let mut offset = start + 14;
    let mut kind = u16_at(frame, start + 12)?;
    for _ in 0..VLAN_DEPTH {
        if !is_vlan(kind) {
            break;
        }
        kind = u16_at(frame, offset + 2)?;
        offset += 4;
    }
    if is_vlan(kind) { Err(Reason::VlanDepth) } else { Ok((kind, offset)) }
}

/// Parses what follows the link layer; of a packet in one of `tunnels` (see [`tunnel`]), what is inside.
///
/// # Errors
/// The reason why the packet belongs to no flow.
#[inline(always)]
pub fn parse_network<R: Reader>(frame: &R, kind: u16, offset: usize, tunnels: u32) -> Result<Packet, Reason> {
    let outer = parse_layers(frame, kind, offset)?;
    if tunnels == 0 {
        return Ok(outer);
    }
    match tunnel::inside(frame, &outer, tunnels) {
        Some((kind, offset)) => parse_layers(frame, kind, offset).or(Ok(outer)),
        None => Ok(outer),
    }
}

/// Parses what follows the link layer, and does not look into tunnels.
///
/// # Errors
/// The reason why the packet belongs to no flow.
#[inline(always)]
pub fn parse_layers<R: Reader>(frame: &R, kind: u16, offset: usize) -> Result<Packet, Reason> {
    match kind {
        ethertype::IPV4 => parse_ipv4(frame, offset),
        ethertype::IPV6 => parse_ipv6(frame, offset),
        ethertype::ARP => Err(Reason::Arp),
        _ => Err(Reason::NonIp),
    }
}

const fn is_vlan(kind: u16) -> bool {
    matches!(kind, ethertype::VLAN | ethertype::QINQ | ethertype::QINQ_OLD)
}

#[inline(always)]
fn parse_ipv4<R: Reader>(frame: &R, offset: usize) -> Result<Packet, Reason> {
    let [version_ihl, _, length_1, length_0, id_1, id_0, fragment_1, fragment_0] = bytes_at::<R, 8>(frame, offset)?;
    let [ttl, proto, _, _] = bytes_at::<R, 4>(frame, offset + 8)?;
    let header = usize::from(version_ihl & 0x0f) * 4;
    let total = u32::from(u16::from_be_bytes([length_1, length_0]));
    if version_ihl >> 4 != 4 || header < 20 {
        return Err(Reason::Malformed);
    }
    let ip_octets = announced_or_left(frame, total, offset);
    if (ip_octets as usize) < header {
        return Err(Reason::Malformed);
    }
    let fragmentation = u16::from_be_bytes([fragment_1, fragment_0]);
    let fragment = Fragment::new(fragmentation & 0x1fff, fragmentation & 0x2000 != 0);
    let fragment_id = if matches!(fragment, Fragment::Whole) { 0 } else { u32::from(u16::from_be_bytes([id_1, id_0])) };
    let packet = Packet {
        src: Addr::from_v4(u32_at(frame, offset + 12)?),
        dst: Addr::from_v4(u32_at(frame, offset + 16)?),
        proto,
        ttl,
        fragment,
        fragment_id,
        ip_octets,
        header_octets: header as u32,
        ..Packet::default()
    };
    parse_transport(frame, offset + header, packet)
}

#[inline(always)]
fn parse_ipv6<R: Reader>(frame: &R, offset: usize) -> Result<Packet, Reason> {
    let [version, _, _, _, length_1, length_0, mut next, ttl] = bytes_at::<R, 8>(frame, offset)?;
    if version >> 4 != 6 {
        return Err(Reason::Malformed);
    }
    let payload = u32::from(u16::from_be_bytes([length_1, length_0]));
    // A payload length of zero is a jumbogram (RFC 2675) or a super-packet above 64 KiB, unless nothing follows.
    let ip_octets =
        if payload == 0 && next != NO_NEXT_HEADER { announced_or_left(frame, 0, offset) } else { payload + 40 };
    let src = Addr { high: u64_at(frame, offset + 8)?, low: u64_at(frame, offset + 16)? };
    let dst = Addr { high: u64_at(frame, offset + 24)?, low: u64_at(frame, offset + 32)? };
    let mut at = offset + 40;
    let mut fragment = Fragment::Whole;
    let mut fragment_id = 0;
    let mut depth = 0;
    loop {
        let extension = EXTENSIONS[next as usize];
        if !extension.is_followed() {
            break;
        }
        if depth == EXTENSION_DEPTH {
            return Err(Reason::ExtensionDepth);
        }
        depth += 1;
        let [following, length, fragment_1, fragment_0] = bytes_at::<R, 4>(frame, at)?;
        if next == FRAGMENT {
            let fragmentation = u16::from_be_bytes([fragment_1, fragment_0]);
            fragment = Fragment::new(fragmentation & 0xfff8, fragmentation & 1 != 0);
            fragment_id = u32_at(frame, at + 4)?;
        }
        let octets = extension.octets(length);
        next = following;
        at += octets;
        if matches!(fragment, Fragment::Later) {
            break;
        }
    }
    let packet = Packet {
        src,
        dst,
        proto: next,
        ttl,
        fragment,
        fragment_id,
        ip_octets,
        header_octets: (at - offset) as u32,
        ..Packet::default()
    };
    parse_transport(frame, at, packet)
}

const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const NO_NEXT_HEADER: u8 = 59;

/// How long an IPv6 extension header is: `(length field & mask) + plus`, in units of `1 << shift` octets.
#[derive(Clone, Copy)]
struct Extension {
    mask: u8,
    plus: u8,
    shift: u8,
}

impl Extension {
    /// What ends the chain.
    const NONE: Self = Self { mask: 0, plus: 0, shift: 0 };
    /// RFC 8200: in 8-octet units, not counting the first.
    const OPTIONS: Self = Self { mask: 0xff, plus: 1, shift: 3 };
    /// RFC 8200: eight octets, the length field is reserved.
    const FRAGMENT: Self = Self { mask: 0, plus: 1, shift: 3 };
    /// RFC 4302: in 4-octet units, minus 2.
    const AUTHENTICATION: Self = Self { mask: 0xff, plus: 2, shift: 2 };

    #[inline(always)]
    const fn is_followed(self) -> bool {
        self.plus != 0
    }

    #[inline(always)]
    const fn octets(self, length: u8) -> usize {
        ((length & self.mask) as usize + self.plus as usize) << (self.shift & 3)
    }
}

/// By header number. A table, because the arms of a `match` would be that many paths a header for the verifier.
static EXTENSIONS: [Extension; 256] = {
    let mut table = [Extension::NONE; 256];
    // Hop-by-hop, routing, destination options, mobility, HIP, shim6.
    let options = [0, 43, 60, 135, 139, 140];
    let mut index = 0;
    while index < options.len() {
        table[options[index]] = Extension::OPTIONS;
        index += 1;
    }
    table[FRAGMENT as usize] = Extension::FRAGMENT;
    table[AUTHENTICATION as usize] = Extension::AUTHENTICATION;
    table
};

#[inline(always)]
fn parse_transport<R: Reader>(frame: &R, offset: usize, mut packet: Packet) -> Result<Packet, Reason> {
    packet.transport_offset = offset as u32;
    if packet.is_later_fragment() {
        return Ok(packet);
    }
    match packet.proto {
        proto::TCP => parse_tcp(frame, offset, &mut packet)?,
        proto::UDP | proto::UDPLITE => {
            parse_ports(frame, offset, &mut packet)?;
            packet.header_octets += 8;
        }
        proto::SCTP => {
            parse_ports(frame, offset, &mut packet)?;
            packet.header_octets += 12;
        }
        proto::ICMP | proto::ICMPV6 => {
            if let Ok(kind) = u16_at(frame, offset) {
                packet.window = kind;
            }
        }
        _ => {}
    }
    Ok(packet)
}

#[inline(always)]
fn parse_ports<R: Reader>(frame: &R, offset: usize, packet: &mut Packet) -> Result<(), Reason> {
    let [src_1, src_0, dst_1, dst_0] = bytes_at::<R, 4>(frame, offset)?;
    packet.src_port = u16::from_be_bytes([src_1, src_0]);
    packet.dst_port = u16::from_be_bytes([dst_1, dst_0]);
    Ok(())
}

/// A TCP header that ends after its ports still names its flow; its flags then count as absent.
#[inline(always)]
fn parse_tcp<R: Reader>(frame: &R, offset: usize, packet: &mut Packet) -> Result<(), Reason> {
    parse_ports(frame, offset, packet)?;
    let (Ok(numbers), Ok([data_offset, flags, window_1, window_0])) =
        (u64_at(frame, offset + 4), bytes_at::<R, 4>(frame, offset + 12))
    else {
        packet.header_octets += 20;
        return Ok(());
    };
    packet.seq = (numbers >> 32) as u32;
    packet.ack = numbers as u32;
    packet.tcp_flags = flags;
    packet.window = u16::from_be_bytes([window_1, window_0]);
    let header = u32::from(data_offset >> 4) * 4;
    packet.header_octets += if header < 20 { 20 } else { header };
    Ok(())
}

/// Whether the transport header begins with two ports.
#[inline(always)]
#[must_use]
pub const fn has_ports(protocol: u8) -> bool {
    matches!(protocol, proto::TCP | proto::UDP | proto::UDPLITE | proto::SCTP)
}

/// The announced length, or what is left of the frame where the header says zero (segmentation offload).
#[inline(always)]
fn announced_or_left<R: Reader>(frame: &R, announced: u32, offset: usize) -> u32 {
    if announced != 0 { announced } else { frame.wire_len().saturating_sub(offset as u32) }
}

#[inline(always)]
fn bytes_at<R: Reader, const N: usize>(frame: &R, offset: usize) -> Result<[u8; N], Reason> {
    frame.bytes(offset).ok_or(Reason::Truncated)
}

#[inline(always)]
fn u16_at<R: Reader>(frame: &R, offset: usize) -> Result<u16, Reason> {
    Ok(u16::from_be_bytes(bytes_at(frame, offset)?))
}

#[inline(always)]
fn u32_at<R: Reader>(frame: &R, offset: usize) -> Result<u32, Reason> {
    Ok(u32::from_be_bytes(bytes_at(frame, offset)?))
}

#[inline(always)]
fn u64_at<R: Reader>(frame: &R, offset: usize) -> Result<u64, Reason> {
    Ok(u64::from_be_bytes(bytes_at(frame, offset)?))
}

/// A frame held in memory: what captures and tests read.
#[derive(Clone, Copy, Debug)]
pub struct SliceReader<'a> {
    /// The captured octets.
    pub data: &'a [u8],
    /// Octets of the whole frame on the wire, at least `data.len()`.
    pub wire_len: u32,
}

impl Reader for SliceReader<'_> {
    #[inline(always)]
    fn bytes<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        if offset > MAX_OFFSET {
            return None;
        }
        self.data.get(offset..)?.first_chunk().copied()
    }

    #[inline(always)]
    fn wire_len(&self) -> u32 {
        self.wire_len
    }
}

pub mod arp;
mod quote;
pub mod tunnel;

pub use quote::quoted;

#[cfg(test)]
mod tests;
