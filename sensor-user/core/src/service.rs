//! How established services fare, and who has completed a connection with one of them.
//!
//! What is asked of a port that has served somebody lately is an attempt; whether those of healthy clients fail more often
//! than before is what a block is judged by (see [`crate::respond`]).

use std::collections::HashMap;
use std::time::Duration;

use sensor_ebpf::abi::{Addr, FlowSlot};
use sensor_ebpf::packet::proto;

use crate::bounded::make_room;
use crate::flow::{FlowEvent, Outcome};
use crate::time::Timestamp;

/// Services remembered.
const SERVICES: usize = 4096;
/// How long a service is established after it has served somebody.
const ESTABLISHED: Duration = Duration::from_secs(600);
/// Attempts of a tick that are kept.
const ATTEMPTS: usize = 8192;

/// A connection to an established service that was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Who asked.
    pub client: Addr,
    /// Whether it was served.
    pub served: bool,
    /// From the server's SYN-ACK to what acknowledges it: the round trip to the client.
    pub round_trip: Option<Duration>,
}

/// What was asked of services since the last call.
#[derive(Debug, Default)]
pub struct Services {
    established: HashMap<(Addr, u16), Timestamp>,
    attempts: Vec<Attempt>,
    /// Clients that have completed a connection, some of them several times.
    proven: Vec<Addr>,
}

impl Services {
    /// Takes in what a tick learned of a flow.
    pub fn observe(&mut self, event: &FlowEvent, slot: Option<&FlowSlot>, is_ours: bool) {
        if event.completed_is_new && self.proven.len() < ATTEMPTS {
            self.proven.push(event.client.addr);
        }
        if event.proto != proto::TCP || (event.before == event.outcome && !event.is_new) {
            return;
        }
        let service = (event.server.addr, event.server.port);
        let served = match event.outcome {
            Outcome::Served => true,
            Outcome::Unanswered | Outcome::Refused | Outcome::HalfOpen | Outcome::Torn => false,
            Outcome::Pending | Outcome::Unasked => return,
        };
        if !is_ours {
            return;
        }
        if served {
            make_room(&mut self.established, SERVICES, &service, |at| *at);
            self.established.insert(service, event.last_seen);
        }
        let known = self.established.get(&service);
        if known.is_some_and(|at| event.last_seen.since(*at) <= ESTABLISHED) && self.attempts.len() < ATTEMPTS {
            let round_trip = slot.filter(|_| event.completed).map(round_trip);
            self.attempts.push(Attempt { client: event.client.addr, served, round_trip });
        }
    }

    /// What was asked since the last call, and who has completed a connection.
    pub fn take(&mut self) -> (Vec<Attempt>, Vec<Addr>) {
        (std::mem::take(&mut self.attempts), std::mem::take(&mut self.proven))
    }
}

/// Times of a handshake are in units of 1.024 us.
fn round_trip(slot: &FlowSlot) -> Duration {
    Duration::from_nanos(u64::from(slot.ack_delay.saturating_sub(slot.syn_ack_delay)) << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_of_services_that_have_served_somebody() {
        let at = Timestamp::from_secs;
        let mut services = Services::default();
        let asked = |outcome, secs| {
            let completed = outcome == Outcome::Served && secs < 10;
            let event = FlowEvent { outcome, last_seen: at(secs), ..FlowEvent::example(at(secs)) };
            FlowEvent { completed, completed_is_new: completed, ..event }
        };
        services.observe(&asked(Outcome::Unanswered, 1), None, true);
        let slot = FlowSlot { syn_ack_delay: 10, ack_delay: 1010, ..FlowSlot::default() };
        services.observe(&asked(Outcome::Served, 2), Some(&slot), true);
        services.observe(&asked(Outcome::HalfOpen, 3), Some(&FlowSlot::default()), true);
        let held = FlowEvent { before: Outcome::Pending, is_new: false, ..asked(Outcome::Pending, 4) };
        services.observe(&FlowEvent { completed: true, completed_is_new: true, ..held }, None, true);
        services.observe(&asked(Outcome::Unanswered, 700), None, true);
        services.observe(&asked(Outcome::Served, 701), None, false);
        let client = FlowEvent::example(at(0)).client.addr;
        let (attempts, proven) = services.take();
        let expected = [(true, Some(Duration::from_nanos(1_024_000))), (false, None)];
        assert_eq!(attempts.iter().map(|one| (one.served, one.round_trip)).collect::<Vec<_>>(), expected);
        assert_eq!(proven, [client; 2]);
        assert_eq!(services.take(), (vec![], vec![]));
    }
}
