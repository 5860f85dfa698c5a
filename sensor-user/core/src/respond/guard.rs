//! The guard: who is never blocked, whoever decides.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Protection;
use crate::net::Network;
use crate::roles::is_nobody_elses;

/// Networks that are never blocked, nor anything that overlaps one of them.
#[derive(Clone, Debug)]
pub struct Guard {
    /// Of each kind in order, and none within another, so that those which overlap a network are neighbours.
    kinds: BTreeMap<Protection, Vec<Network>>,
    local: Vec<Network>,
}

/// A guard of what is of no single host.
impl Default for Guard {
    fn default() -> Self {
        let mut guard = Self { kinds: BTreeMap::new(), local: Vec::new() };
        guard.set(Protection::Special, Vec::new());
        guard
    }
}

impl Guard {
    /// Networks of a kind; those beyond have no place.
    pub const KEPT: usize = 65_536;

    /// Replaces the networks of a kind. Special ones are added to those that are always special. Says how many have found
    /// no place, which is worth a warning.
    pub fn set(&mut self, kind: Protection, mut networks: Vec<Network>) -> usize {
        if kind == Protection::Special {
            networks.extend(special());
        }
        networks.sort_unstable();
        networks.dedup_by(|narrow, wide| wide.covers(narrow));
        let left_out = networks.len().saturating_sub(Self::KEPT);
        networks.truncate(Self::KEPT);
        self.kinds.insert(kind, networks);
        left_out
    }

    /// Replaces the networks whose hosts are ours, besides this host and the networks that are nobody else's.
    pub fn set_local(&mut self, networks: Vec<Network>) {
        self.local = networks;
    }

    /// Why a network must not be blocked: the first reason, if an address of it has several.
    #[must_use]
    pub fn protects(&self, network: &Network) -> Option<Protection> {
        let overlaps = |networks: &[Network]| {
            let after = networks.partition_point(|one| one < network);
            let neighbours = &networks[after.saturating_sub(1)..networks.len().min(after + 1)];
            neighbours.iter().any(|one| one.overlaps(network))
        };
        self.kinds.iter().find(|(_, networks)| overlaps(networks)).map(|(&kind, _)| kind)
    }

    /// Whether a list from elsewhere must not have a network blocked: some of it is protected or ours, or it holds all of a
    /// private range, as lists of what is not routed do.
    #[must_use]
    pub fn spares(&self, network: &Network) -> bool {
        self.protects(network).is_some()
            || self.local.iter().any(|local| local.overlaps(network))
            || private().iter().any(|range| network.covers(range))
    }

    /// Whether a host is ours to shield.
    #[must_use]
    pub fn is_ours(&self, host: IpAddr) -> bool {
        let own = self.kinds.get(&Protection::Own).into_iter().flatten();
        own.chain(&self.local).any(|network| network.contains(host.into())) || is_nobody_elses(host.into())
    }

    /// Every network, by kind and in order.
    pub fn networks(&self) -> impl Iterator<Item = (Protection, Network)> {
        self.kinds.iter().flat_map(|(&kind, networks)| networks.iter().map(move |&network| (kind, network)))
    }
}

/// This network (RFC 1122), loopback, link-local, multicast, broadcast, unspecified.
fn special() -> [Network; 9] {
    let v4 = |a, b, prefix| Network::new(IpAddr::V4(Ipv4Addr::new(a, b, 0, 0)), prefix);
    let v6 = |a, last, prefix| Network::new(IpAddr::V6(Ipv6Addr::new(a, 0, 0, 0, 0, 0, 0, last)), prefix);
    [
        v4(0, 0, 8),
        v4(127, 0, 8),
        v4(169, 254, 16),
        v4(224, 0, 4),
        Network::new(IpAddr::V4(Ipv4Addr::BROADCAST), 32),
        v6(0, 0, 128),
        v6(0, 1, 128),
        v6(0xfe80, 0, 10),
        v6(0xff00, 0, 8),
    ]
}

/// Private networks (RFC 1918), and those behind the NAT of a provider (RFC 6598).
fn private() -> [Network; 4] {
    [(10, 0, 8), (100, 64, 10), (172, 16, 12), (192, 168, 16)]
        .map(|(a, b, prefix)| Network::new(IpAddr::V4(Ipv4Addr::new(a, b, 0, 0)), prefix))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_protected_or_holds_it_is_not_blocked() {
        let mut guard = Guard::default();
        guard.set(Protection::Own, vec![network("203.0.113.5")]);
        guard.set(
            Protection::Configured,
            ["10.1.0.0/16", "10.0.0.0/8", "10.0.0.0/8", "2001:db8::/48"].map(network).into(),
        );
        guard.set(Protection::Gateway, vec![network("10.0.0.1")]);
        for (text, expected) in [
            ("203.0.113.5", Some(Protection::Own)),
            ("203.0.113.0/24", Some(Protection::Own)),
            ("203.0.113.6", None),
            ("10.0.0.1", Some(Protection::Gateway)),
            ("10.255.0.0/16", Some(Protection::Configured)),
            ("8.0.0.0/5", Some(Protection::Gateway)),
            ("11.0.0.0/8", None),
            ("2001:db8:0:1::/64", Some(Protection::Configured)),
            ("2001:db8:1::/64", None),
            ("127.0.0.1", Some(Protection::Special)),
            ("::ffff:127.0.0.1", Some(Protection::Special)),
            ("169.254.169.254", Some(Protection::Special)),
            ("239.1.1.1", Some(Protection::Special)),
            ("255.255.255.255", Some(Protection::Special)),
            ("fe80::1", Some(Protection::Special)),
            ("ff02::1", Some(Protection::Special)),
            ("::1", Some(Protection::Special)),
            ("::/64", Some(Protection::Own)),
            ("::/0", Some(Protection::Own)),
        ] {
            assert_eq!(guard.protects(&network(text)), expected, "{text}");
        }
        assert_eq!(guard.networks().filter(|(kind, _)| *kind == Protection::Configured).count(), 2);
        guard.set(Protection::Configured, Vec::new());
        guard.set(Protection::Special, Vec::new());
        assert_eq!(guard.protects(&network("10.255.0.0/16")), None);
        assert_eq!(guard.protects(&network("127.0.0.1")), Some(Protection::Special), "always");
    }

    #[test]
    fn lists_have_nothing_blocked_that_is_protected_or_ours() {
        let mut guard = Guard::default();
        guard.set(Protection::Own, vec![network("203.0.113.5")]);
        guard.set_local(vec![network("198.51.100.0/24"), network("2001:db8:7::/48")]);
        for (text, expected) in [
            ("203.0.113.5", true),
            ("203.0.113.0/24", true),
            ("203.0.113.6", false),
            ("198.51.100.7", true),
            ("198.51.0.0/16", true),
            ("198.51.101.0/24", false),
            ("2001:db8:7:1::/64", true),
            ("2001:db8:8::/48", false),
            ("10.0.0.0/8", true),
            ("172.16.0.0/12", true),
            ("192.168.0.0/16", true),
            ("192.0.0.0/8", true),
            ("100.64.0.0/10", true),
            ("10.9.8.7", false),
            ("10.9.0.0/16", false),
        ] {
            assert_eq!(guard.spares(&network(text)), expected, "{text}");
        }
    }

    #[test]
    fn our_hosts_are_this_one_and_those_nearby() {
        let mut guard = Guard::default();
        guard.set(Protection::Own, vec![network("203.0.113.5")]);
        guard.set_local(vec![network("198.51.100.0/24")]);
        for (host, ours) in [
            ("203.0.113.5", true),
            ("198.51.100.9", true),
            ("10.0.0.7", true),
            ("203.0.113.6", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(guard.is_ours(host.parse().unwrap()), ours, "{host}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            rng_seed: RngSeed::Fixed(7),
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn neighbours_are_all_that_can_overlap(nets in prop::collection::vec((0_u32..64, 24_u8..=32), 0..24), asked: (u8, u8)) {
            let network = |low: u32, prefix: u8| Network::new(IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 | low << 3)), prefix);
            let nets: Vec<Network> = nets.into_iter().map(|(low, prefix)| network(low, prefix)).collect();
            let asked = network(u32::from(asked.0 % 64), asked.1 % 33);
            let mut guard = Guard::default();
            prop_assert_eq!(guard.set(Protection::Own, nets.clone()), 0);
            let expected = nets.iter().any(|net| net.overlaps(&asked));
            prop_assert_eq!(guard.protects(&asked) == Some(Protection::Own), expected);
        }
    }
}
