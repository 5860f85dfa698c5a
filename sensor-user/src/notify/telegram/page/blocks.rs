//! What `/blocks` sees.

use std::time::Duration;

use sensor_core::respond::Mode;
use sensor_core::time::Timestamp;
use serde::Serialize;

use crate::notify::telegram::words::Words;
use crate::notify::text::{clip, plain, span};
use crate::respond::Listed;

/// Longest reason of a block, in characters.
const REASON_LIMIT: usize = 150;

/// `/blocks`.
#[derive(Serialize)]
pub struct Blocks {
    blocked: Group,
    /// What would be blocked: packets are only counted.
    counted: Group,
    mode: String,
}

#[derive(Serialize)]
struct Group {
    total: usize,
    lines: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    target: String,
    measure: String,
    left: String,
    packets: u64,
    by: String,
    reason: String,
}

impl Blocks {
    /// The latest first, at most so many of each kind.
    pub fn of(
        listed: &[Listed],
        (mode, unarmed): (Mode, Duration),
        (words, now): (Words, Timestamp),
        most: usize,
    ) -> Self {
        let line = |listed: &&Listed| {
            let block = &listed.block;
            Line {
                target: words.target(&block.target),
                measure: words.measure(block.measure),
                left: span(block.left(now)),
                packets: listed.hits.packets,
                by: words.decider(&block.by),
                reason: clip(&plain(&block.reason), REASON_LIMIT),
            }
        };
        let group = |enforced: bool| {
            let mut of: Vec<&Listed> = listed.iter().filter(|listed| listed.block.enforced == enforced).collect();
            of.sort_by_key(|listed| std::cmp::Reverse(listed.block.since));
            Group { total: of.len(), lines: of.iter().take(most).map(line).collect() }
        };
        Self { blocked: group(true), counted: group(false), mode: words.mode(mode, unarmed) }
    }
}
