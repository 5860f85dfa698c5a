//! Packets in packets: VXLAN, Geneve, GRE and IP in IP, one level deep.

use super::{Packet, Reader, bytes_at, ethertype, proto, skip_ethernet, u16_at};

/// VXLAN (RFC 7348).
pub const VXLAN: u32 = 1;
/// Geneve (RFC 8926).
pub const GENEVE: u32 = 2;
/// GRE (RFC 2784, RFC 2890), with IP or Ethernet inside.
pub const GRE: u32 = 4;
/// IPv4 or IPv6 in IP (RFC 2003, RFC 2473, RFC 4213).
pub const IPIP: u32 = 8;

/// Ports of VXLAN: the one of IANA, and the one Linux had before.
const VXLAN_PORTS: [u16; 2] = [4789, 8472];
const GENEVE_PORT: u16 = 6081;
const UDP_HEADER: usize = 8;
/// Transparent Ethernet bridging.
const ETHERNET: u16 = 0x6558;

/// The EtherType of the packet inside `outer`, and where it begins, if `outer` is one of `tunnels`.
#[inline(always)]
#[must_use]
pub fn inside<R: Reader>(frame: &R, outer: &Packet, tunnels: u32) -> Option<(u16, usize)> {
    if outer.is_later_fragment() {
        return None;
    }
    let at = outer.transport_offset as usize;
    match outer.proto {
        proto::IPIP if tunnels & IPIP != 0 => Some((ethertype::IPV4, at)),
        proto::IPV6 if tunnels & IPIP != 0 => Some((ethertype::IPV6, at)),
        proto::GRE if tunnels & GRE != 0 => gre(frame, at),
        proto::UDP if tunnels & VXLAN != 0 && VXLAN_PORTS.contains(&outer.dst_port) => {
            const HEADER: usize = 8;
            let [flags, _] = bytes_at::<R, 2>(frame, at + UDP_HEADER).ok()?;
            if flags & 0x08 == 0 { None } else { skip_ethernet(frame, at + UDP_HEADER + HEADER).ok() }
        }
        proto::UDP if tunnels & GENEVE != 0 && outer.dst_port == GENEVE_PORT => {
            let [version_length, _, kind_1, kind_0] = bytes_at::<R, 4>(frame, at + UDP_HEADER).ok()?;
            let header = 8 + usize::from(version_length & 0x3f) * 4;
            if version_length >> 6 != 0 {
                return None;
            }
            network(frame, u16::from_be_bytes([kind_1, kind_0]), at + UDP_HEADER + header)
        }
        _ => None,
    }
}

#[inline(always)]
fn gre<R: Reader>(frame: &R, at: usize) -> Option<(u16, usize)> {
    const CHECKSUM: u16 = 0x8000;
    const KEY: u16 = 0x2000;
    const SEQUENCE: u16 = 0x1000;
    const VERSION: u16 = 0x0007;
    let flags = u16_at(frame, at).ok()?;
    let kind = u16_at(frame, at + 2).ok()?;
    let optional =
        usize::from(flags & CHECKSUM != 0) + usize::from(flags & KEY != 0) + usize::from(flags & SEQUENCE != 0);
    if flags & VERSION != 0 {
        return None;
    }
    network(frame, kind, at + 4 + optional * 4)
}

#[inline(always)]
fn network<R: Reader>(frame: &R, kind: u16, at: usize) -> Option<(u16, usize)> {
    match kind {
        ETHERNET => skip_ethernet(frame, at).ok(),
        ethertype::IPV4 | ethertype::IPV6 => Some((kind, at)),
        _ => None,
    }
}
