//! How a block is found, and what a limit lets pass.
//!
//! Networks are in one hash by address and prefix length. Which lengths to try is said by two filters of 65,536 words: one
//! for the first 16 bits of an IPv4 address, one for a hash of the first 32 of an IPv6 address. A bit is set for each
//! length of a blocked network that such an address may be in, so that most packets cost one load however long the list
//! is, and the others one look-up for each length that occurs near them. A trie would cost several dependent loads for
//! every packet.
#![expect(clippy::cast_possible_truncation, reason = "the low bits are what is wanted")]

use crate::abi::{Addr, BlockKey, FILTER_ENTRIES, PROVEN_ENTRIES, RETRY_ENTRIES};
use crate::hash::Hash;
use crate::packet::Packet;

/// How long a request is remembered, in ticks of 134 ms: hosts ask again after 1, 2, 4 and 8 seconds (RFC 6298), so that
/// each is recognised by the one before.
const RETRY_TICKS: u32 = 64;
/// Sooner, it is not a host that waits for an answer.
const IMPATIENT_TICKS: u32 = 2;
/// How long a completed connection speaks for its source, in seconds.
const PROVEN_SECONDS: u32 = 3600;

impl Addr {
    /// The IPv4 address, if it is one.
    #[inline(always)]
    #[must_use]
    pub const fn v4(self) -> Option<u32> {
        if self.high == 0 && self.low >> 32 == 0xffff { Some(self.low as u32) } else { None }
    }

    /// The first `prefix` bits of the mapped address, 1 to 128; the others are zero.
    #[inline(always)]
    #[must_use]
    pub const fn network(self, prefix: u32) -> Self {
        if prefix <= 64 {
            Self { high: self.high & (!0 << ((64 - prefix) & 63)), low: 0 }
        } else {
            Self { high: self.high, low: self.low & (!0 << ((128 - prefix) & 63)) }
        }
    }
}

impl BlockKey {
    /// All packets of a network; `prefix` is that of the mapped address.
    #[inline(always)]
    #[must_use]
    pub const fn network(addr: Addr, prefix: u32) -> Self {
        Self { addr: addr.network(prefix), kind: 0, port: 0, proto: 0, prefix: prefix as u8 }
    }
}

/// Word of the filter for an IPv4 address.
#[inline(always)]
#[must_use]
pub const fn place_v4(addr: u32) -> u32 {
    addr >> 16
}

/// Word of the filter for an IPv6 address, given its first half.
#[inline(always)]
#[must_use]
pub const fn place_v6(high: u64) -> u32 {
    Hash::new(0).word(high >> 32).finish() as u32 & (FILTER_ENTRIES - 1)
}

/// Whether a packet conforms to a limit of one packet each `gap_ns`, `burst_ns` of which may be saved up, and until when
/// that much more is spoken for: the generic cell rate algorithm (ITU-T I.371), which is a token bucket in one word.
#[inline(always)]
#[must_use]
pub const fn conforms(due_ns: u64, now_ns: u64, packets: u32, gap_ns: u32, burst_ns: u32) -> Option<u64> {
    let saved = now_ns.saturating_sub(burst_ns as u64);
    let due = if due_ns < saved { saved } else { due_ns };
    if due > now_ns { None } else { Some(due + packets as u64 * gap_ns as u64) }
}

/// Where it is noted that a source has completed a connection, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof {
    /// Index of the word.
    pub index: u32,
    tag: u32,
}

impl Proof {
    /// The place of a source.
    #[inline(always)]
    #[must_use]
    pub const fn of(source: Addr, seed: u64) -> Self {
        let hash = Hash::new(seed).word(source.high).word(source.low).finish();
        Self { index: hash as u32 & (PROVEN_ENTRIES - 1), tag: (hash >> 32) as u32 }
    }

    /// What to note.
    #[inline(always)]
    #[must_use]
    pub const fn word(self, now_ns: u64) -> u64 {
        (self.tag as u64) << 32 | (now_ns >> 30) & 0xffff_ffff
    }

    /// Whether `word` says so of this source.
    #[inline(always)]
    #[must_use]
    pub const fn holds(self, word: u64, now_ns: u64) -> bool {
        let age = ((now_ns >> 30) as u32).wrapping_sub(word as u32);
        word != 0 && (word >> 32) as u32 == self.tag && age <= PROVEN_SECONDS
    }
}

/// What is known of a connection request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// It was not seen lately: keep this word.
    New(u32),
    /// It was, too short a time ago.
    Hasty,
    /// It comes again, after the time that hosts wait for an answer.
    Again,
}

/// Where a request is remembered, and what tells it from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Index of the word.
    pub index: u32,
    tag: u32,
}

impl Retry {
    /// The place of a request. One that comes again has the same ports and the same sequence number (RFC 9293).
    #[inline(always)]
    #[must_use]
    pub const fn of(packet: &Packet, seed: u64) -> Self {
        let ports = (packet.src_port as u64) << 48 | (packet.dst_port as u64) << 32 | packet.seq as u64;
        let hash = Hash::new(seed)
            .word(packet.src.high)
            .word(packet.src.low)
            .word(packet.dst.high)
            .word(packet.dst.low)
            .word(ports)
            .finish();
        Self { index: hash as u32 & (RETRY_ENTRIES - 1), tag: (hash >> 48) as u32 }
    }

    /// What a request is, given the word at its place.
    #[inline(always)]
    #[must_use]
    pub const fn of_word(self, word: u32, now_ns: u64) -> Request {
        let tick = (now_ns >> 27) as u32 & 0xffff;
        let age = tick.wrapping_sub(word) & 0xffff;
        if word == 0 || word >> 16 != self.tag || age > RETRY_TICKS {
            return Request::New(self.tag << 16 | tick);
        }
        if age < IMPATIENT_TICKS { Request::Hasty } else { Request::Again }
    }
}

const _: () =
    assert!(FILTER_ENTRIES.is_power_of_two() && PROVEN_ENTRIES.is_power_of_two() && RETRY_ENTRIES.is_power_of_two());

#[cfg(test)]
mod tests {
    use core::net::IpAddr;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn addr(text: &str) -> Addr {
        text.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn networks_keep_their_prefix_only() {
        for (host, prefix, network) in [
            ("203.0.113.77", 96 + 32, "203.0.113.77"),
            ("203.0.113.77", 96 + 24, "203.0.113.0"),
            ("203.0.113.77", 96 + 1, "128.0.0.0"),
            ("2001:db8:1:2:3::9", 128, "2001:db8:1:2:3::9"),
            ("2001:db8:1:2:3::9", 64, "2001:db8:1:2::"),
            ("2001:db8:1:2:3::9", 65, "2001:db8:1:2::"),
            ("ffff::", 1, "8000::"),
        ] {
            assert_eq!(addr(host).network(prefix), addr(network), "{host}/{prefix}");
        }
        assert_eq!((addr("10.0.0.1").v4(), addr("::1").v4()), (Some(0x0a00_0001), None));
    }

    #[test]
    fn a_limit_passes_its_rate_and_what_was_saved_up() {
        // 100 packets a second, a quarter of a second saved up.
        let (gap, burst) = (10_000_000, 250_000_000);
        let passed = |mut due: u64, from: u64, until: u64, each: u64| {
            let mut passed = 0;
            for now in (from..until).step_by(each as usize) {
                if let Some(next) = conforms(due, now, 1, gap, burst) {
                    (due, passed) = (next, passed + 1);
                }
            }
            passed
        };
        assert_eq!(passed(0, SECOND, 11 * SECOND, 100_000), 1025, "ten seconds of a flood");
        assert_eq!(passed(0, SECOND, 11 * SECOND, 4_000_000), 1025, "by a clock of 4 ms");
        assert_eq!(passed(0, SECOND, 11 * SECOND, 20_000_000), 500, "slower than the limit");
        assert_eq!(conforms(0, SECOND, 40, gap, burst), Some(SECOND + 150_000_000), "a super-packet");
        assert_eq!(conforms(SECOND + 1, SECOND, 1, gap, burst), None);
    }

    #[test]
    fn a_proof_is_of_one_source_and_for_an_hour() {
        let proof = Proof::of(addr("203.0.113.7"), 9);
        let word = proof.word(100 * SECOND);
        assert!(proof.holds(word, 100 * SECOND) && proof.holds(word, 3600 * SECOND));
        assert!(!proof.holds(word, 5000 * SECOND) && !proof.holds(0, 100 * SECOND));
        assert!(!Proof::of(addr("203.0.113.8"), 9).holds(word, 100 * SECOND));
    }

    #[test]
    fn a_request_that_comes_again_is_told_from_a_flood() {
        let packet = Packet { src: addr("198.51.100.1"), dst: addr("192.0.2.1"), seq: 77, ..Packet::default() };
        let retry = Retry::of(&packet, 5);
        let Request::New(word) = retry.of_word(0, 10 * SECOND) else { panic!("nothing is known yet") };
        assert_eq!(retry.of_word(word, 10 * SECOND), Request::Hasty);
        for later in [11, 12, 14, 18] {
            assert_eq!(retry.of_word(word, later * SECOND), Request::Again, "{later}");
        }
        assert!(matches!(retry.of_word(word, 20 * SECOND), Request::New(_)));
        let other = Retry::of(&Packet { seq: 78, ..packet }, 5);
        assert!(matches!(other.of_word(word, 11 * SECOND), Request::New(_)));
    }
}
