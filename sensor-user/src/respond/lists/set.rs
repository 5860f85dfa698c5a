//! Networks in which an address is found quickly, and of which a million fit in a few megabytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use sensor_core::net::Network;
use sensor_ebpf::abi::Addr;

/// The networks of a list, without repetition: none is part of another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListSet {
    v4: Box<[Entry<Ipv4Addr>]>,
    v6: Box<[Entry<Ipv6Addr>]>,
}

/// First address and prefix length: 5 octets, or 17.
type Entry<A> = (A, u8);

impl ListSet {
    /// How many networks there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Memory that it takes, in octets.
    #[must_use]
    pub fn octets(&self) -> usize {
        size_of_val(&*self.v4) + size_of_val(&*self.v6)
    }

    /// The network that an address belongs to.
    #[must_use]
    pub fn find(&self, addr: Addr) -> Option<Network> {
        match IpAddr::from(addr) {
            IpAddr::V4(addr) => covering(&self.v4, addr),
            IpAddr::V6(addr) => covering(&self.v6, addr),
        }
    }

    /// Those that have addresses in common with another network.
    pub fn overlapping(&self, other: Network) -> impl Iterator<Item = Network> {
        let wider = self.find(other.bounds().0).filter(|found| *found != other && found.covers(&other));
        wider.into_iter().chain(inside(&self.v4, other)).chain(inside(&self.v6, other))
    }

    /// All of them, in the order of their addresses, IPv4 first.
    pub fn networks(&self) -> impl Iterator<Item = Network> {
        self.v4.iter().map(network).chain(self.v6.iter().map(network))
    }
}

/// What will be a [`ListSet`].
#[derive(Debug, Default)]
pub struct Gathered {
    v4: Vec<Entry<Ipv4Addr>>,
    v6: Vec<Entry<Ipv6Addr>>,
}

impl Gathered {
    /// One more. IPv4 networks that are mapped into IPv6 are not expected.
    pub fn push(&mut self, net: IpNet) {
        match net {
            IpNet::V4(net) => self.v4.push((net.network(), net.prefix_len())),
            IpNet::V6(net) => self.v6.push((net.network(), net.prefix_len())),
        }
    }

    /// How many there are, repetitions included.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// The set of these.
    #[must_use]
    pub fn sorted(self) -> ListSet {
        ListSet { v4: merged(self.v4), v6: merged(self.v6) }
    }
}

fn merged<A: Copy + Ord + Into<IpAddr>>(mut entries: Vec<Entry<A>>) -> Box<[Entry<A>]> {
    // A network that holds others comes before them.
    entries.sort_unstable();
    let mut last: Option<Network> = None;
    entries.retain(|entry| {
        let covered = last.is_some_and(|last| last.contains(entry.0.into().into()));
        if !covered {
            last = Some(network(entry));
        }
        !covered
    });
    entries.into_boxed_slice()
}

fn covering<A: Copy + Ord + Into<IpAddr>>(sorted: &[Entry<A>], addr: A) -> Option<Network> {
    let before = sorted.partition_point(|(base, _)| *base <= addr);
    let candidate = network(&sorted[before.checked_sub(1)?]);
    candidate.contains(addr.into().into()).then_some(candidate)
}

fn inside<A: Copy + Into<IpAddr>>(sorted: &[Entry<A>], wide: Network) -> impl Iterator<Item = Network> {
    let before = sorted.partition_point(|(base, _)| Addr::from((*base).into()) < wide.bounds().0);
    sorted[before..].iter().map(network).take_while(move |network| wide.covers(network))
}

fn network<A: Copy + Into<IpAddr>>(&(base, prefix): &Entry<A>) -> Network {
    Network::new(base.into(), prefix)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(nets: &[&str]) -> ListSet {
        let mut gathered = Gathered::default();
        for net in nets {
            gathered.push(net.parse().unwrap());
        }
        gathered.sorted()
    }

    fn addr(text: &str) -> Addr {
        text.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn entries_of_both_families_are_found_and_what_they_cover_is_not_kept() {
        let set = set(&[
            "198.51.100.0/25",
            "198.51.100.7/32",
            "192.0.2.0/24",
            "192.0.2.0/25",
            "192.0.2.0/24",
            "2001:db8::/32",
        ]);
        assert_eq!(set.len(), 3);
        assert_eq!(set.octets(), 2 * 5 + 17);
        let net = |text: &str, prefix| Some(Network::new(text.parse().unwrap(), prefix));
        for (text, found) in [
            ("192.0.2.0", net("192.0.2.0", 24)),
            ("192.0.2.255", net("192.0.2.0", 24)),
            ("::ffff:192.0.2.255", net("192.0.2.0", 24)),
            ("192.0.3.0", None),
            ("192.0.1.255", None),
            ("198.51.100.127", net("198.51.100.0", 25)),
            ("198.51.100.128", None),
            ("255.255.255.255", None),
            ("2001:db8:ffff::1", net("2001:db8::", 32)),
            ("2001:db9::", None),
            ("::", None),
        ] {
            assert_eq!(set.find(addr(text)), found, "{text}");
        }
    }

    proptest! {
        #[test]
        fn finds_what_a_walk_through_the_list_finds(
            nets in prop::collection::vec((any::<u8>(), any::<u8>(), 20_u8..=32), 0..40),
            hosts in prop::collection::vec((any::<u8>(), any::<u8>()), 20),
        ) {
            let host = |(c, d): (u8, u8)| IpAddr::V4(Ipv4Addr::new(192, 0, c & 7, d));
            let all: Vec<Network> = nets.iter().map(|&(c, d, prefix)| Network::new(host((c, d)), prefix)).collect();
            let mut gathered = Gathered::default();
            for &(c, d, prefix) in &nets {
                gathered.push(IpNet::new(host((c, d)), prefix).unwrap());
            }
            let set = gathered.sorted();
            for pair in hosts {
                let addr = host(pair).into();
                let found = set.find(addr);
                prop_assert_eq!(found.is_some(), all.iter().any(|net| net.contains(addr)));
                prop_assert!(found.is_none_or(|net| net.contains(addr)));
            }
            for other in &all {
                let wide = Network::new(other.addr(), other.prefix_len() - 4);
                for other in [*other, wide, Network::of(other.bounds().1)] {
                    let expected: Vec<Network> = set.networks().filter(|net| net.overlaps(&other)).collect();
                    prop_assert_eq!(set.overlapping(other).collect::<Vec<_>>(), expected);
                }
            }
            let kept: Vec<Network> = set.networks().collect();
            prop_assert!(kept.iter().is_sorted());
            prop_assert!(kept.windows(2).all(|pair| !pair[0].contains(pair[1].bounds().0)));
        }
    }
}
