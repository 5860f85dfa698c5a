//! How long to wait before trying a receiver again.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};

/// Pace of repeated attempts: doubling from `first` to `longest`, with as much again of jitter.
///
/// The number of attempts is bounded by the age at which a sink gives a notification up (`give_up_after`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Wait after the first failure.
    pub first: Duration,
    /// No wait is longer than this, jitter apart.
    pub longest: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { first: Duration::from_millis(500), longest: Duration::from_secs(60) }
    }
}

impl Retry {
    /// The waits after one failure, two failures, and so on.
    #[must_use]
    pub fn backoff(self) -> Backoff {
        Backoff { retry: self, waits: self.waits() }
    }

    fn waits(self) -> ExponentialBackoff {
        ExponentialBuilder::default()
            .with_min_delay(self.first)
            .with_max_delay(self.longest)
            .with_factor(2.0)
            .with_jitter()
            .without_max_times()
            .build()
    }
}

/// Where a row of failures has got to.
#[derive(Debug)]
pub struct Backoff {
    retry: Retry,
    waits: ExponentialBackoff,
}

impl Backoff {
    /// The next wait.
    pub fn wait(&mut self) -> Duration {
        self.waits.next().unwrap_or(self.retry.longest)
    }

    /// Begins again with the first wait.
    pub fn reset(&mut self) {
        self.waits = self.retry.waits();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let retry = Retry { first: Duration::from_millis(100), longest: Duration::from_millis(400) };
        let mut backoff = retry.backoff();
        for floor in [100, 200, 400, 400, 400] {
            let (wait, floor) = (backoff.wait(), Duration::from_millis(floor));
            assert!(wait >= floor && wait <= 2 * floor, "{wait:?} for {floor:?}");
        }
        backoff.reset();
        assert!(backoff.wait() <= Duration::from_millis(200));
    }
}
