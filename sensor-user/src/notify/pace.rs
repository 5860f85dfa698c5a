//! How often a sink may be told: a token bucket, and a rest after each message.

use std::time::Duration;

use tokio::time::Instant;

use super::terms::Terms;
use super::value::Period;

/// Events that wait from which even a sink without a limit gets them in one message: one by one it would not keep up.
const BACKLOG: usize = 64;

/// Keeps count of one sink's messages.
#[derive(Debug)]
pub struct Pace {
    limit: Option<Bucket>,
    cool_down: Duration,
    rests_until: Option<Instant>,
}

#[derive(Debug)]
struct Bucket {
    size: f64,
    per_second: f64,
    tokens: f64,
    at: Instant,
}

/// What may be done with events that wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permit {
    /// A message for the first of them.
    Message,
    /// One message for all of them.
    Digest,
    /// Nothing before this.
    Wait(Instant),
}

impl Pace {
    /// A sink that was not told anything lately.
    pub fn new(terms: &Terms, now: Instant) -> Self {
        let limit = terms.rate_limit.map(|limit| {
            let size = f64::from(limit.messages.get());
            Bucket { size, per_second: size / limit.per.get().as_secs_f64(), tokens: size, at: now }
        });
        Self { limit, cool_down: terms.cool_down.map_or(Duration::ZERO, Period::get), rests_until: None }
    }

    /// What may be done with `waiting` events, of which some are `urgent`.
    pub fn permit(&mut self, waiting: usize, urgent: bool, now: Instant) -> Permit {
        if let Some(until) = self.rests_until.filter(|until| !urgent && now < *until) {
            return Permit::Wait(until);
        }
        let rests = !self.cool_down.is_zero();
        let Some(bucket) = &mut self.limit else {
            return if (rests && waiting > 1) || waiting >= BACKLOG { Permit::Digest } else { Permit::Message };
        };
        bucket.fill(now);
        if bucket.tokens < 1.0 {
            return Permit::Wait(now + Duration::from_secs_f64((1.0 - bucket.tokens) / bucket.per_second));
        }
        if rests && waiting > 1 || bucket.tokens < waiting as f64 {
            return if waiting > 1 { Permit::Digest } else { Permit::Message };
        }
        Permit::Message
    }

    /// A message was sent.
    pub fn spend(&mut self, now: Instant) {
        if let Some(bucket) = &mut self.limit {
            bucket.fill(now);
            bucket.tokens = (bucket.tokens - 1.0).max(0.0);
        }
        if !self.cool_down.is_zero() {
            self.rests_until = Some(now + self.cool_down);
        }
    }
}

impl Bucket {
    fn fill(&mut self, now: Instant) {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + since * self.per_second).min(self.size);
        self.at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::super::terms::RateLimit;
    use super::*;

    fn pace(limit: Option<&str>, cool_down: Option<u32>) -> (Pace, Instant) {
        let now = Instant::now();
        let terms = Terms {
            rate_limit: limit.map(|text| RateLimit::try_from(text.to_owned()).unwrap()),
            cool_down: cool_down.map(Period::from_secs),
            ..Terms::usual()
        };
        (Pace::new(&terms, now), now)
    }

    #[test]
    fn a_burst_beyond_the_limit_becomes_one_message() {
        let (mut pace, now) = pace(Some("3/1m"), None);
        assert_eq!(pace.permit(3, false, now), Permit::Message);
        pace.spend(now);
        assert_eq!(pace.permit(3, false, now), Permit::Digest);
        pace.spend(now);
        pace.spend(now);
        assert_eq!(pace.permit(1, true, now), Permit::Wait(now + Duration::from_secs(20)), "urgency buys no messages");
        assert_eq!(pace.permit(9, false, now + Duration::from_secs(21)), Permit::Digest);
    }

    #[test]
    fn a_rest_is_kept_until_something_urgent_comes() {
        let (mut pace, now) = pace(None, Some(60));
        assert_eq!(pace.permit(1, false, now), Permit::Message);
        pace.spend(now);
        assert_eq!(pace.permit(2, false, now), Permit::Wait(now + Duration::from_secs(60)));
        assert_eq!(pace.permit(2, true, now), Permit::Digest);
        assert_eq!(pace.permit(2, false, now + Duration::from_secs(60)), Permit::Digest);
    }

    #[test]
    fn without_limits_each_event_is_a_message() {
        let (mut pace, now) = pace(None, None);
        pace.spend(now);
        assert_eq!(pace.permit(63, false, now), Permit::Message);
        assert_eq!(pace.permit(64, false, now), Permit::Digest, "unless there are so many that it does not keep up");
    }
}
