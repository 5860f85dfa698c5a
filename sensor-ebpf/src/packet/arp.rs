//! ARP messages, and whom a frame is for at the link layer.
#![expect(clippy::cast_possible_truncation, reason = "the low half is what is wanted")]

use super::{Reader, ethertype};
use crate::abi::{ArpMessage, MacAddr};

/// Asks who has an address.
pub const REQUEST: u16 = 1;
/// Says who has it.
pub const REPLY: u16 = 2;

/// Whom the link layer sends a frame to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cast {
    /// One station.
    Unicast,
    /// A group.
    Multicast,
    /// Everyone.
    Broadcast,
}

impl Cast {
    /// By the destination of an Ethernet frame.
    #[inline(always)]
    pub fn of<R: Reader>(frame: &R) -> Self {
        match mac(frame, 0) {
            Some(MacAddr::BROADCAST) => Self::Broadcast,
            Some(destination) if destination.is_group() => Self::Multicast,
            _ => Self::Unicast,
        }
    }
}

/// The message at `offset` of an Ethernet frame, if it is for IPv4 over Ethernet. Time and interface are left open.
#[inline(always)]
pub fn parse<R: Reader>(frame: &R, offset: usize) -> Option<ArpMessage> {
    const ETHERNET: u64 = 1;
    let header = u64::from_be_bytes(frame.bytes(offset)?);
    let expected = ETHERNET << 48 | (ethertype::IPV4 as u64) << 32 | 6 << 24 | 4 << 16;
    if header & !0xffff != expected {
        return None;
    }
    Some(ArpMessage {
        operation: header as u16,
        sender_mac: mac(frame, offset + 8)?,
        sender_ip: u32::from_be_bytes(frame.bytes(offset + 14)?),
        target_mac: mac(frame, offset + 18)?,
        target_ip: u32::from_be_bytes(frame.bytes(offset + 24)?),
        frame_mac: mac(frame, 6)?,
        ..ArpMessage::default()
    })
}

/// The address at `offset`, which two more octets follow.
#[inline(always)]
fn mac<R: Reader>(frame: &R, offset: usize) -> Option<MacAddr> {
    Some(MacAddr(u64::from_be_bytes(frame.bytes(offset)?) >> 16))
}
