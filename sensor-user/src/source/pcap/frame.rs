//! A captured frame, and where its network layer begins.

use sensor_core::time::Timestamp;

/// What the first octet of a frame is.
///
/// The numbers are those of <https://www.tcpdump.org/linktypes.html>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LinkType {
    /// An Ethernet header (1).
    Ethernet,
    /// An IPv4 or IPv6 header (12, 14, 101, 228, 229).
    RawIp,
    /// The cooked header of Linux' "any" device (113).
    LinuxSll,
    /// The second version of it (276).
    LinuxSll2,
    /// A protocol family in the byte order of either the capturing host (0) or the network (108).
    Loopback,
    /// Anything else.
    Other(u32),
}

impl From<u16> for LinkType {
    fn from(number: u16) -> Self {
        match number {
            1 => Self::Ethernet,
            12 | 14 | 101 | 228 | 229 => Self::RawIp,
            113 => Self::LinuxSll,
            276 => Self::LinuxSll2,
            0 | 108 => Self::Loopback,
            other => Self::Other(u32::from(other)),
        }
    }
}

/// One captured frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// When it was captured; a time that 64 bits of nanoseconds cannot hold is the nearest one they can.
    pub at: Timestamp,
    /// What `data` begins with.
    pub link: LinkType,
    /// The captured octets.
    pub data: &'a [u8],
    /// The octets on the wire, never fewer than captured.
    pub wire_len: u32,
}

/// Where the network layer of a frame begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkLayer {
    /// Behind an Ethernet header at the first octet.
    Ethernet,
    /// At an offset.
    At {
        /// What is there, as an Ethernet type.
        ethertype: u16,
        /// Octets before it.
        offset: usize,
    },
    /// The link layer is not understood, or does not carry an Ethernet type.
    Unknown,
    /// The frame ends inside its link-layer header.
    Truncated,
}

impl Frame<'_> {
    /// Finds the network layer.
    #[must_use]
    pub fn network_layer(&self) -> NetworkLayer {
        let layer = match self.link {
            LinkType::Ethernet => return NetworkLayer::Ethernet,
            LinkType::Other(_) => return NetworkLayer::Unknown,
            LinkType::RawIp => self.data.first().map(|first| At(ip_version(first >> 4), 0)),
            LinkType::LinuxSll => self.octets::<16>().map(|h| At(ethertype([h[14], h[15]]), 16)),
            LinkType::LinuxSll2 => self.octets::<20>().map(|h| At(ethertype([h[0], h[1]]), 20)),
            LinkType::Loopback => self.octets::<4>().map(|h| At(family(*h), 4)),
        };
        match layer {
            None => NetworkLayer::Truncated,
            Some(At(None, _)) => NetworkLayer::Unknown,
            Some(At(Some(ethertype), offset)) => NetworkLayer::At { ethertype, offset },
        }
    }

    fn octets<const N: usize>(&self) -> Option<&[u8; N]> {
        self.data.first_chunk()
    }
}

/// Ethernet type, if any, and octets before it.
struct At(Option<u16>, usize);

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;

fn ip_version(nibble: u8) -> Option<u16> {
    match nibble {
        4 => Some(IPV4),
        6 => Some(IPV6),
        _ => None,
    }
}

/// Cooked headers put other numbers (802.2, netlink families) into the protocol field, all below the Ethernet types.
fn ethertype(protocol: [u8; 2]) -> Option<u16> {
    Some(u16::from_be_bytes(protocol)).filter(|number| *number >= 0x0600)
}

/// `AF_INET` is 2 everywhere; `AF_INET6` is 10 on Linux, 24 on NetBSD and OpenBSD, 28 on FreeBSD, 30 on macOS.
fn family(octets: [u8; 4]) -> Option<u16> {
    [u32::from_le_bytes(octets), u32::from_be_bytes(octets)].into_iter().find_map(|family| match family {
        2 => Some(IPV4),
        10 | 24 | 28 | 30 => Some(IPV6),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::NetworkLayer::{At, Ethernet, Truncated, Unknown};
    use super::*;

    const SLL: [u8; 16] = [0, 0, 0, 1, 0, 6, 1, 2, 3, 4, 5, 6, 0, 0, 0x86, 0xdd];
    const SLL_802_2: [u8; 16] = [0, 0, 0, 1, 0, 6, 1, 2, 3, 4, 5, 6, 0, 0, 0, 4];
    const SLL2: [u8; 20] = [0x08, 0x00, 0, 0, 0, 0, 0, 2, 0, 1, 0, 6, 1, 2, 3, 4, 5, 6, 0, 0];

    #[test]
    fn network_layer_is_found_behind_each_link_layer() {
        let ip4 = |offset| At { ethertype: 0x0800, offset };
        let ip6 = |offset| At { ethertype: 0x86dd, offset };
        let table: &[(u16, &[u8], NetworkLayer)] = &[
            (1, &[], Ethernet),
            (101, &[0x45], ip4(0)),
            (12, &[0x60], ip6(0)),
            (14, &[0x45], ip4(0)),
            (228, &[0x46], ip4(0)),
            (229, &[0x6f], ip6(0)),
            (101, &[0x50], Unknown),
            (101, &[], Truncated),
            (113, &SLL, ip6(16)),
            (113, &SLL_802_2, Unknown),
            (113, &SLL[..15], Truncated),
            (276, &SLL2, ip4(20)),
            (276, &SLL2[..19], Truncated),
            (0, &[2, 0, 0, 0], ip4(4)),
            (0, &[0, 0, 0, 2], ip4(4)),
            (0, &[30, 0, 0, 0], ip6(4)),
            (0, &[24, 0, 0, 0], ip6(4)),
            (0, &[0, 0, 0, 28], ip6(4)),
            (108, &[0, 0, 0, 10], ip6(4)),
            (108, &[0, 0, 0, 7], Unknown),
            (108, &[0, 0, 2], Truncated),
            (105, &[0x45], Unknown),
        ];
        for (number, data, layer) in table {
            let frame = Frame { at: Timestamp::EPOCH, link: LinkType::from(*number), data, wire_len: 0 };
            assert_eq!(frame.network_layer(), *layer, "link type {number}, {data:?}");
        }
    }
}
