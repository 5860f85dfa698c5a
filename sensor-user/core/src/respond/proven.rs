//! Hosts that have completed a connection with us lately, so that their addresses are not forged.

use std::collections::HashMap;
use std::time::Duration;

use crate::bounded::make_room;
use crate::net::Network;
use crate::time::Timestamp;

/// Hosts remembered; the least recently seen give way.
const KEPT: usize = 65_536;
/// How long a host is no stranger.
const LATELY: Duration = Duration::from_secs(3600);

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
}
