//! What people were asked before it is done: whether they mean it.
//!
//! An order may be longer than a button's data, and must not come true long after it was given: it is kept here, by the
//! message that asks, and for some minutes only. After a restart it has to be given again.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::command::Order;

/// How long an order can be confirmed.
const VALID: Duration = Duration::from_secs(300);
/// Orders that wait at once; the oldest gives way.
const WAITING: usize = 64;

/// A message by its chat's number and its own.
pub type Place = (i64, i64);

/// Orders that wait for a yes.
#[derive(Debug, Default)]
pub struct Questions {
    waiting: VecDeque<(Place, Instant, Order)>,
}

impl Questions {
    /// Keeps what a message asks.
    pub fn ask(&mut self, place: Place, order: Order, now: Instant) {
        if self.waiting.len() >= WAITING {
            self.waiting.pop_front();
        }
        self.waiting.push_back((place, now, order));
    }

    /// What a message has asked, once: nothing for one that has not, or no more. An order that was asked about too long ago
    /// is an error.
    pub fn take(&mut self, place: Place, now: Instant) -> Option<Result<Order, Late>> {
        let at = self.waiting.iter().position(|(of, ..)| *of == place)?;
        let (_, asked, order) = self.waiting.remove(at)?;
        Some(if now.saturating_duration_since(asked) <= VALID { Ok(order) } else { Err(Late) })
    }
}

/// The time to confirm an order is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Late;

#[cfg(test)]
mod tests {
    use super::*;

    fn order(host: u8) -> Order {
        Order::Unblock { network: format!("192.0.2.{host}").parse().unwrap(), reason: String::new() }
    }

    #[test]
    fn an_order_is_given_once_and_in_time_to_whom_was_asked() {
        let mut questions = Questions::default();
        let now = Instant::now();
        for host in 0..3 {
            questions.ask((1, host.into()), order(host), now);
        }
        assert_eq!(questions.take((2, 0), now), None, "another chat has a message of that number");
        assert_eq!(questions.take((1, 1), now + VALID), Some(Ok(order(1))));
        assert_eq!(questions.take((1, 1), now), None);
        assert_eq!(questions.take((1, 2), now + VALID + Duration::from_secs(1)), Some(Err(Late)));
        assert_eq!(questions.take((1, 2), now), None, "it is forgotten");
    }

    #[test]
    fn of_many_orders_the_oldest_gives_way() {
        let mut questions = Questions::default();
        let now = Instant::now();
        for message in 0..=64 {
            questions.ask((1, message), order(1), now);
        }
        assert_eq!(questions.waiting.len(), WAITING);
        assert_eq!((questions.take((1, 0), now), questions.take((1, 64), now)), (None, Some(Ok(order(1)))));
    }
}
