//! How often the kernel's tables are polled: more often while they fill.

use std::time::Duration;

/// Below this a poll would cost more than it finds out.
const SHORTEST: Duration = Duration::from_millis(100);

/// What the flow table was like at the last tick.
#[derive(Clone, Copy, Debug)]
pub struct Pressure {
    /// Slots in use.
    pub live: u64,
    /// Slots.
    pub capacity: u64,
    /// Whether packets went into overflow aggregates since the tick before.
    pub overflowed: bool,
}

impl Pressure {
    /// Whether the table is more than half full, or overflows.
    #[must_use]
    pub const fn is_high(self) -> bool {
        self.overflowed || self.live > self.capacity / 2
    }
}

/// Time to the next tick: `interval`, or a quarter of it under pressure, so that ended flows make room sooner and a flood
/// is named sooner.
#[must_use]
pub fn pause(interval: Duration, pressure: Pressure) -> Duration {
    if pressure.is_high() { (interval / 4).max(SHORTEST).min(interval) } else { interval }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_under_pressure_is_polled_four_times_as_often() {
        let millis = Duration::from_millis;
        for (interval, live, overflowed, expected) in [
            (1000, 0, false, 1000),
            (1000, 512, false, 1000),
            (1000, 513, false, 250),
            (1000, 0, true, 250),
            (60_000, 1024, true, 15_000),
            (300, 1024, true, 100),
            (100, 1024, true, 100),
            (50, 1024, true, 50),
        ] {
            let pressure = Pressure { live, capacity: 1024, overflowed };
            assert_eq!(pause(millis(interval), pressure), millis(expected), "{interval} ms, {pressure:?}");
        }
    }
}
