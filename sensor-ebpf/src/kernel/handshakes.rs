//! Handshakes of flows that have no slot: a direct-mapped cache of what their answers want acknowledged.
#![expect(clippy::cast_possible_truncation, reason = "masked in the same line")]

use super::maps;
use super::table::Newcomer;
use crate::abi::HANDSHAKE_ENTRIES;
use crate::overflow::Handshake;

/// Keeps what an answer wants acknowledged.
#[inline(always)]
pub fn remember(answer: &Newcomer) {
    if let Some(entry) = maps::handshake(index(answer.hash)) {
        // SAFETY: an aligned element of the array, written as a whole.
        unsafe { entry.write_volatile(word(answer).0) };
    }
}

/// Whether a packet acknowledges the answer of its flow: its sender has received that, so its address is not forged.
#[inline(always)]
pub fn is_acknowledged(newcomer: &Newcomer) -> bool {
    let Some(entry) = maps::handshake(index(newcomer.hash)) else {
        return false;
    };
    // SAFETY: as above.
    let answer = Handshake(unsafe { entry.read_volatile() });
    word(newcomer).acknowledges(answer, maps::is_mirror())
}

#[inline(always)]
const fn word(newcomer: &Newcomer) -> Handshake {
    let place = (newcomer.hook, newcomer.ifindex);
    Handshake::new(newcomer.hash, newcomer.direction, place, newcomer.acknowledged)
}

const fn index(flow_hash: u64) -> u32 {
    (flow_hash >> 4) as u32 & (HANDSHAKE_ENTRIES - 1)
}
