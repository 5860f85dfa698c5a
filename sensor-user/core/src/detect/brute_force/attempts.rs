//! Conversations that may be guesses, and what they have in common.

use std::time::Duration;

use crate::flow::FlowEvent;
use crate::time::Timestamp;

/// One conversation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt {
    pub(super) first_seen: Timestamp,
    pub(super) last_seen: Timestamp,
    pub(super) sent: u32,
    pub(super) received: u32,
}

impl Attempt {
    pub(super) fn of(event: &FlowEvent) -> Self {
        let low = |octets: u64| u32::try_from(octets).unwrap_or(u32::MAX);
        Self {
            first_seen: event.first_seen,
            last_seen: event.last_seen,
            sent: low(event.sent_octets),
            received: low(event.received_octets),
        }
    }

    /// Whether it moved more than twice as much as another, both ways.
    pub(super) const fn exceeds(&self, other: (u32, u32)) -> bool {
        self.sent / 2 > other.0 && self.received / 2 > other.1
    }
}

/// The median sizes.
pub(super) fn medians(attempts: &[Attempt]) -> (u32, u32) {
    (median(attempts.iter().map(|attempt| attempt.sent)), median(attempts.iter().map(|attempt| attempt.received)))
}

/// The conversations near the median in both sizes: guesses stand out among other visits of the same client.
pub(super) fn alike(attempts: &[Attempt], tolerance: f64) -> Vec<Attempt> {
    let near = |size: u32, median: u32| f64::from(size.abs_diff(median)) <= tolerance * f64::from(median);
    let (sent, received) = medians(attempts);
    let alike = attempts.iter().filter(|attempt| near(attempt.sent, sent) && near(attempt.received, received));
    alike.copied().collect()
}

/// Whether they come as a health check or a mail client makes them: evenly spaced, with far longer pauses than
/// conversations. Who guesses goes on as soon as one guess has failed.
pub(super) fn is_polling(attempts: &[Attempt]) -> bool {
    const REGULAR: f64 = 0.25;
    const BUSY: f64 = 0.1;
    const PAUSE: f64 = 1.5;
    let mut starts: Vec<Timestamp> = attempts.iter().map(|attempt| attempt.first_seen).collect();
    starts.sort_unstable();
    let gaps: Vec<f64> = starts.windows(2).map(|pair| pair[1].since(pair[0]).as_secs_f64()).collect();
    if gaps.len() < 3 {
        return false;
    }
    let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
    let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
    let taken: Duration = attempts.iter().map(|attempt| attempt.last_seen.since(attempt.first_seen)).sum();
    mean >= PAUSE && variance.sqrt() <= REGULAR * mean && taken.as_secs_f64() <= BUSY * mean * attempts.len() as f64
}

/// The upper median; 0 of nothing.
fn median(sizes: impl Iterator<Item = u32>) -> u32 {
    let mut sizes: Vec<u32> = sizes.collect();
    let middle = sizes.len() / 2;
    if sizes.is_empty() { 0 } else { *sizes.select_nth_unstable(middle).1 }
}

pub(super) fn mean(sizes: impl ExactSizeIterator<Item = u32>) -> u64 {
    let count = sizes.len().max(1) as u64;
    sizes.map(u64::from).sum::<u64>() / count
}
