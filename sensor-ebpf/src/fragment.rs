//! The fragment cache: which ports the later fragments of a packet belong to.
//!
//! Direct-mapped, one 64-bit word an entry, so that a racing update is seen whole or not at all. A word holds 24 bits
//! of the secretly seeded hash of what fragments have in common, the time in units of 2^32 ns (4.3 s) modulo 256, and
//! the two ports; index and hash together tell 2^37 packets apart. An entry serves for seven units: hosts give a
//! packet up for lost after 30 s (RFC 791, `net.ipv4.ipfrag_time`).

#![expect(clippy::cast_possible_truncation, reason = "the low bits are what is wanted")]

use crate::abi::FRAGMENT_ENTRIES;
use crate::hash::Hash;
use crate::packet::Packet;

/// How long an entry serves, in units of 4.3 s.
const LIFETIME: u64 = 7;

/// Where the ports of a packet's fragments are kept, and what tells them from those of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Index into the cache.
    pub index: u32,
    tag: u64,
}

impl Place {
    /// The place of a packet's fragments.
    #[inline(always)]
    #[must_use]
    pub fn of(packet: &Packet, seed: u64) -> Self {
        let hash = Hash::new(seed)
            .word(packet.src.high)
            .word(packet.src.low)
            .word(packet.dst.high)
            .word(packet.dst.low)
            .word(u64::from(packet.fragment_id) << 8 | u64::from(packet.proto))
            .finish();
        Self { index: (hash >> 40) as u32 & (FRAGMENT_ENTRIES - 1), tag: (hash & 0xff_ffff) << 40 }
    }

    /// What to keep of a first fragment.
    #[inline(always)]
    #[must_use]
    pub const fn word(self, packet: &Packet, now_ns: u64) -> u64 {
        self.tag | (now_ns >> 32 & 0xff) << 32 | (packet.src_port as u64) << 16 | packet.dst_port as u64
    }

    /// Source and destination port, if `word` was kept for this packet.
    #[inline(always)]
    #[must_use]
    pub const fn ports(self, word: u64, now_ns: u64) -> Option<(u16, u16)> {
        let age = (now_ns >> 32).wrapping_sub(word >> 32) & 0xff;
        if word == 0 || word & 0xff_ffff << 40 != self.tag || age > LIFETIME {
            return None;
        }
        Some(((word >> 16) as u16, word as u16))
    }
}

const _: () = assert!(FRAGMENT_ENTRIES.is_power_of_two());

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn packet(fragment_id: u32) -> Packet {
        Packet { fragment_id, src_port: 4000, dst_port: 53, proto: 17, ..Packet::default() }
    }

    #[test]
    fn later_fragments_find_the_ports_of_the_first() {
        let place = Place::of(&packet(7), 1);
        let word = place.word(&packet(7), 100 * SECOND);
        assert_eq!(Place::of(&Packet { src_port: 0, dst_port: 0, ..packet(7) }, 1), place);
        assert_eq!(place.ports(word, 100 * SECOND), Some((4000, 53)));
        assert_eq!(place.ports(word, 125 * SECOND), Some((4000, 53)));
        assert_eq!(place.ports(word, 140 * SECOND), None, "too old");
        assert_eq!(place.ports(0, 100 * SECOND), None, "an empty entry");
    }

    #[test]
    fn other_packets_find_nothing() {
        let word = Place::of(&packet(7), 1).word(&packet(7), SECOND);
        assert_eq!(Place::of(&packet(8), 1).ports(word, SECOND), None);
        assert_eq!(Place::of(&packet(7), 2).ports(word, SECOND), None, "another seed");
    }
}
