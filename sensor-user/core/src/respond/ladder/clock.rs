//! A clock that may be set: what is a matter of milliseconds, what is a jump.

use std::time::Duration;

use crate::time::Timestamp;

/// The time may be so much earlier than the latest, because it is read in several places.
const JITTER: Duration = Duration::from_secs(1);
/// More time than ever passes between two calls, but for a jump of the clock.
const LEAP: Duration = Duration::from_secs(3600);

/// The latest time that was given.
#[derive(Debug, Default)]
pub(super) struct Clock {
    latest: Option<Timestamp>,
}

/// How the time has gone on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// As ever.
    On,
    /// The clock was set back.
    Back(Duration),
    /// The clock was set forward, or the host slept.
    Leap(Duration),
}

impl Clock {
    pub(super) fn step(&mut self, now: Timestamp) -> Step {
        let latest = *self.latest.get_or_insert(now);
        let (back, on) = (latest.since(now), now.since(latest));
        if back > JITTER {
            self.latest = Some(now);
            return Step::Back(back);
        }
        self.latest = Some(latest.max(now));
        if on > LEAP { Step::Leap(on) } else { Step::On }
    }

    /// The latest time since the clock was last set back.
    pub(super) fn latest(&self, now: Timestamp) -> Timestamp {
        self.latest.unwrap_or(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_is_no_jump() {
        let mut clock = Clock::default();
        let millis = |millis: u64| Timestamp::from_nanos(millis * 1_000_000);
        for (now, step, latest) in [
            (100_000, Step::On, 100_000),
            (99_500, Step::On, 100_000),
            (99_000, Step::On, 100_000),
            (98_900, Step::Back(Duration::from_millis(1100)), 98_900),
            (3_698_900, Step::On, 3_698_900),
            (7_300_000, Step::Leap(Duration::from_millis(3_601_100)), 7_300_000),
        ] {
            assert_eq!((clock.step(millis(now)), clock.latest(millis(now))), (step, millis(latest)), "{now}");
        }
    }
}
