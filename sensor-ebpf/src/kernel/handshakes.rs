//! Handshakes of flows that have no slot: a direct-mapped cache of what their answers want acknowledged.
#![expect(clippy::cast_possible_truncation, reason = "masked in the same line")]

use super::maps;
use crate::abi::HANDSHAKE_ENTRIES;
use crate::overflow::handshake_word;

/// Keeps what an answer wants acknowledged.
#[inline(always)]
pub fn remember(flow_hash: u64, acknowledged: u32) {
    if let Some(entry) = maps::handshake(index(flow_hash)) {
        // SAFETY: an aligned element of the array, written as a whole.
        unsafe { entry.write_volatile(handshake_word(flow_hash, acknowledged)) };
    }
}

/// Whether a packet acknowledges the answer of its flow: its sender has received that, so its address is not forged.
#[inline(always)]
pub fn is_acknowledged(flow_hash: u64, acknowledged: u32) -> bool {
    // SAFETY: as above.
    maps::handshake(index(flow_hash))
        .is_some_and(|entry| unsafe { entry.read_volatile() } == handshake_word(flow_hash, acknowledged))
}

const fn index(flow_hash: u64) -> u32 {
    (flow_hash >> 4) as u32 & (HANDSHAKE_ENTRIES - 1)
}
