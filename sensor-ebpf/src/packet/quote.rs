//! What an ICMP error says about another packet.
#![expect(clippy::cast_possible_truncation, reason = "the halves of a word are what is wanted")]

use super::{Packet, Reader, has_ports, proto};
use crate::abi::{Addr, FlowKey};

/// The flow of the packet that an ICMP error quotes. Enough of it is there by RFC 792 and RFC 4443; quotes of IPv6
/// packets with extension headers are not followed.
#[inline(always)]
pub fn quoted<R: Reader>(frame: &R, error: &Packet) -> Option<FlowKey> {
    let at = error.transport_offset as usize + 8;
    let [version_ihl, _] = frame.bytes::<2>(at)?;
    let (src, dst, proto, header) = if error.proto == proto::ICMP {
        let header = usize::from(version_ihl & 0x0f) * 4;
        let [_, proto] = frame.bytes::<2>(at + 8)?;
        let addrs = u64::from_be_bytes(frame.bytes(at + 12)?);
        if version_ihl >> 4 != 4 || header < 20 {
            return None;
        }
        (Addr::from_v4((addrs >> 32) as u32), Addr::from_v4(addrs as u32), proto, header)
    } else {
        if version_ihl >> 4 != 6 {
            return None;
        }
        let [proto, _] = frame.bytes::<2>(at + 6)?;
        let word = |offset: usize| Some(u64::from_be_bytes(frame.bytes(at + offset)?));
        (Addr { high: word(8)?, low: word(16)? }, Addr { high: word(24)?, low: word(32)? }, proto, 40)
    };
    let mut ports = [0, 0];
    if has_ports(proto) {
        let octets: [u8; 4] = frame.bytes(at + header)?;
        ports = [u16::from_be_bytes([octets[0], octets[1]]), u16::from_be_bytes([octets[2], octets[3]])];
    }
    Some(FlowKey::canonical(src, ports[0], dst, ports[1], proto).0)
}
