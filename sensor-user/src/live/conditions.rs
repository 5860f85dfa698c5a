//! Conditions that are worth a word when they begin and one when they are over, and not one at every tick.

use std::time::Duration;

use sensor_core::time::Timestamp;
use tracing::{info, warn};

use super::{Moved, Tick};

/// Polls for which packets must be missing: processors that count at the instant of a poll show as a gap of a few.
const GAP_POLLS: u32 = 3;
/// Silence after which the flow table is taken to be open again.
const CALM: Duration = Duration::from_secs(10);

/// What is told to the log.
#[derive(Debug)]
pub struct Conditions {
    overflow: Episode,
    gap: Episode,
    /// Packets in overflow aggregates in this episode, by hook.
    overflowed: [u64; 2],
}

impl Default for Conditions {
    fn default() -> Self {
        Self { overflow: Episode::new(1, CALM), gap: Episode::new(GAP_POLLS, Duration::ZERO), overflowed: [0; 2] }
    }
}

impl Conditions {
    /// Looks at a tick.
    pub fn tell(&mut self, tick: &Tick) {
        self.tell_overflow(tick.now, &tick.moved);
        match self.gap.update(tick.gap != 0, tick.now) {
            Some(Edge::Begun) => {
                warn!(packets = tick.gap, "packets are in no counter or in two: the counts cannot be relied on");
            }
            Some(Edge::Over) => info!("every packet is in one counter again"),
            None => {}
        }
    }

    fn tell_overflow(&mut self, now: Timestamp, moved: &Moved) {
        for (sum, packets) in self.overflowed.iter_mut().zip(moved.overflowed) {
            *sum += packets;
        }
        let [ingress, egress] = self.overflowed;
        match self.overflow.update(moved.overflowed != [0; 2], now) {
            Some(Edge::Begun) => warn!(
                ingress,
                egress,
                "new flows come faster than the flow table takes them in: they are counted per victim; raise --flows"
            ),
            Some(Edge::Over) => {
                info!(ingress, egress, "every new flow is counted by itself again");
                self.overflowed = [0; 2];
            }
            None => {}
        }
    }
}

/// What has just happened to a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Edge {
    Begun,
    Over,
}

/// A condition that begins when it has been seen at so many ticks in a row, and is over when it has not been seen for a
/// while.
#[derive(Debug)]
struct Episode {
    needed: u32,
    calm: Duration,
    in_a_row: u32,
    going_on: bool,
    last_seen: Timestamp,
}

impl Episode {
    const fn new(needed: u32, calm: Duration) -> Self {
        Self { needed, calm, in_a_row: 0, going_on: false, last_seen: Timestamp::EPOCH }
    }

    fn update(&mut self, seen: bool, now: Timestamp) -> Option<Edge> {
        if seen {
            self.in_a_row = self.in_a_row.saturating_add(1);
            self.last_seen = now;
            let begins = !self.going_on && self.in_a_row >= self.needed;
            self.going_on |= begins;
            return begins.then_some(Edge::Begun);
        }
        self.in_a_row = 0;
        let ends = self.going_on && now.since(self.last_seen) >= self.calm;
        self.going_on &= !ends;
        ends.then_some(Edge::Over)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edges(mut episode: Episode, seen: &str) -> Vec<(u64, Edge)> {
        let ticks = (1..).zip(seen.chars());
        ticks.filter_map(|(n, c)| Some((n, episode.update(c == 'x', Timestamp::from_secs(n))?))).collect()
    }

    #[test]
    fn overflow_is_told_at_once_and_its_end_after_a_calm() {
        let seen = "..x.xxx..........x";
        let expected = [(3, Edge::Begun), (17, Edge::Over), (18, Edge::Begun)];
        assert_eq!(edges(Episode::new(1, CALM), seen), expected);
    }

    #[test]
    fn a_gap_is_told_when_it_persists_and_once() {
        let seen = "x.xx..xxxxx.x";
        assert_eq!(edges(Episode::new(GAP_POLLS, Duration::ZERO), seen), [(9, Edge::Begun), (12, Edge::Over)]);
    }
}
