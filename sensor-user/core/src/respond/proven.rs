//! Hosts that have completed a connection with us lately, so that their addresses are not forged, and how they fare.

use std::collections::HashMap;
use std::time::Duration;

use super::Health;
use crate::bounded::make_room;
use crate::net::Network;
use crate::service::Attempt;
use crate::time::Timestamp;

/// Hosts remembered; the least recently seen give way.
const KEPT: usize = 65_536;
/// How long a host is no stranger.
const LATELY: Duration = Duration::from_secs(3600);
/// Attempts of a host that count in one tick.
const EACH: u8 = 5;

/// Who has completed a connection, and when last. Hosts are those of [`super::Ladder::host`], so that nobody with an IPv6
/// network has more than one place for it.
#[derive(Debug, Default)]
pub struct Proven {
    hosts: HashMap<Network, Timestamp>,
}

impl Proven {
    /// A host has completed a connection.
    pub fn note(&mut self, host: Network, now: Timestamp) {
        make_room(&mut self.hosts, KEPT, &host, |seen| *seen);
        self.hosts.insert(host, now);
    }

    /// Whether a host has done so lately.
    #[must_use]
    pub fn holds(&self, host: &Network, now: Timestamp) -> bool {
        self.hosts.get(host).is_some_and(|seen| now.since(*seen) <= LATELY)
    }

    /// How services fared in a tick for those who had completed a connection before it: what is asked from forged addresses
    /// says nothing, and one host among many little.
    pub fn health<'a>(&self, attempts: impl IntoIterator<Item = (Network, &'a Attempt)>, now: Timestamp) -> Health {
        let mut counted: HashMap<Network, u8> = HashMap::new();
        let mut health = Health::default();
        let mut trips = Vec::new();
        for (host, attempt) in attempts {
            if !self.holds(&host, now) {
                continue;
            }
            let count = counted.entry(host).or_default();
            if *count == EACH {
                continue;
            }
            *count += 1;
            health.attempts += 1;
            health.served += u64::from(attempt.served);
            trips.extend(attempt.round_trip);
        }
        trips.sort_unstable();
        health.rtt = trips.get(trips.len() / 2).copied();
        health
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn host(n: u32) -> Network {
        Network::new(Ipv4Addr::from_bits(0x0b00_0000 + n).into(), 32)
    }

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_secs(1_000_000 + secs)
    }

    #[test]
    fn a_host_is_no_stranger_for_an_hour() {
        let mut proven = Proven::default();
        proven.note(host(1), at(0));
        assert!(proven.holds(&host(1), at(3600)) && !proven.holds(&host(2), at(0)));
        assert!(!proven.holds(&host(1), at(3601)));
    }

    #[test]
    fn a_full_table_takes_in_new_hosts_and_keeps_those_that_come_again() {
        let mut proven = Proven::default();
        for n in (0..).take(4 * KEPT) {
            let now = at(u64::from(n) / 1000);
            proven.note(host(1 + n), now);
            assert!(proven.holds(&host(1 + n), now));
            if n % 1000 == 0 {
                proven.note(host(0), now);
            }
        }
        assert!(proven.holds(&host(0), at(262)) && !proven.holds(&host(1), at(262)));
        assert!(proven.hosts.len() <= KEPT);
    }

    #[test]
    fn only_proven_hosts_say_how_services_fare_and_none_says_much() {
        let mut proven = Proven::default();
        proven.note(host(1), at(0));
        proven.note(host(2), at(3000));
        let attempt = |n: u32, served| {
            let client = host(n).bounds().0;
            (host(n), Attempt { client, served, round_trip: served.then(|| Duration::from_millis(u64::from(n))) })
        };
        let forged: Vec<_> = (10..5000).map(|n| attempt(n, false)).collect();
        let bot: Vec<_> = (0..5000).map(|_| attempt(1, false)).collect();
        let customs: Vec<_> = (0..3).map(|_| attempt(2, true)).collect();
        let health = |attempts: &[&[(Network, Attempt)]], secs| {
            let attempts = attempts.concat();
            let Health { attempts, served, rtt } =
                proven.health(attempts.iter().map(|(host, attempt)| (*host, attempt)), at(secs));
            (attempts, served, rtt.map(|rtt| rtt.as_millis()))
        };
        assert_eq!(health(&[&forged], 3600), (0, 0, None));
        assert_eq!(health(&[&forged, &customs], 3600), (3, 3, Some(2)));
        assert_eq!(health(&[&bot, &forged, &customs], 3600), (8, 3, Some(2)));
        assert_eq!(health(&[&bot, &customs], 3601), (3, 3, Some(2)), "no longer known");
    }
}
