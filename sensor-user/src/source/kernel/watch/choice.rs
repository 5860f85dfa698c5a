//! Which of the links of a namespace are watched, and why the others are not.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::config::interface::NamePattern;
use crate::source::kernel::rtnetlink::Link;

/// What becomes of a link that was asked for, or that is watched already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Whether it was asked for by its name, and not by a pattern.
    pub by_name: bool,
    /// Why it is not watched; none when it is.
    pub skip: Option<Skip>,
}

/// Why a link is not watched although it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Skip {
    /// Its frames have no Ethernet header.
    NotEthernet {
        /// `ARPHRD_*`.
        hardware: u16,
    },
    /// What it sends and receives passes these, which are watched: it would be counted twice.
    Upper {
        /// Their names.
        lower: Vec<String>,
    },
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotEthernet { hardware } => write!(f, "carries no Ethernet frames (type {hardware})"),
            Self::Upper { lower } => write!(f, "its packets are counted on {}", lower.join(", ")),
        }
    }
}

/// Every link that was asked for or is in `watched`, by index. A link that is watched stays asked for when it is
/// renamed. Patterns do not mean the loopback.
#[must_use]
pub fn choose(links: &[Link], patterns: &[NamePattern], watched: &BTreeSet<u32>) -> BTreeMap<u32, Choice> {
    let lowers = Lowers::of(links);
    let asked = |link: &&Link| {
        let by_pattern = !link.is_loopback() && patterns.iter().any(|pattern| pattern.matches(&link.name));
        by_pattern || is_named(patterns, &link.name) || watched.contains(&link.index)
    };
    let asked: Vec<&Link> = links.iter().filter(asked).collect();
    let names: BTreeMap<u32, &str> =
        asked.iter().filter(|link| link.is_ethernet()).map(|link| (link.index, link.name.as_str())).collect();
    let choice = |link: &Link| {
        let below = lowers.below(link.index);
        let lower: Vec<String> = below.iter().filter_map(|index| names.get(index)).map(ToString::to_string).collect();
        let skip = match link.is_ethernet() {
            false => Some(Skip::NotEthernet { hardware: link.hardware }),
            true if lower.is_empty() => None,
            true => Some(Skip::Upper { lower }),
        };
        Choice { by_name: is_named(patterns, &link.name), skip }
    };
    asked.iter().map(|link| (link.index, choice(link))).collect()
}

fn is_named(patterns: &[NamePattern], name: &str) -> bool {
    patterns.iter().any(|pattern| pattern.name() == Some(name))
}

/// The links on which each link stands.
struct Lowers(BTreeMap<u32, Vec<u32>>);

impl Lowers {
    fn of(links: &[Link]) -> Self {
        let mut lowers: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for link in links {
            if let Some(master) = link.master {
                lowers.entry(master).or_default().push(link.index);
            }
            if let Some(base) = link.base {
                lowers.entry(link.index).or_default().push(base);
            }
        }
        Self(lowers)
    }

    /// Those below `upper`, at any depth.
    fn below(&self, upper: u32) -> BTreeSet<u32> {
        let mut found = BTreeSet::new();
        let mut open = vec![upper];
        while let Some(index) = open.pop() {
            for &lower in self.0.get(&index).into_iter().flatten() {
                if found.insert(lower) {
                    open.push(lower);
                }
            }
        }
        // The kernel allows no loops; none may skip itself if one is seen.
        found.remove(&upper);
        found
    }
}

/// The links that are watched, and those above them that nothing but watched ones carry. What came in by such a link was
/// counted below it, and the kernel names the upper one once the packet has passed it.
#[must_use]
pub fn counted(links: &[Link], watched: &BTreeSet<u32>) -> BTreeSet<u32> {
    let lowers = Lowers::of(links);
    let mut counted = watched.clone();
    loop {
        let is_new = |index: &u32| {
            let below = lowers.0.get(index);
            !counted.contains(index) && below.is_some_and(|below| below.iter().all(|lower| counted.contains(lower)))
        };
        let more: Vec<u32> = links.iter().map(|link| link.index).filter(is_new).collect();
        if more.is_empty() {
            return counted;
        }
        counted.extend(more);
    }
}

/// Indices that mean a watched link wherever they mean one: `namespaces` holds, of each, every link and those watched.
///
/// The kernel program is told these alone. What was forwarded from an unwatched link would else be taken for counted
/// because a watched link of another namespace has the same index.
#[must_use]
pub fn unambiguous(namespaces: &[(BTreeSet<u32>, BTreeSet<u32>)]) -> BTreeSet<u32> {
    let watched: BTreeSet<u32> = namespaces.iter().flat_map(|(_, watched)| watched).copied().collect();
    let clear = |index: &u32| namespaces.iter().all(|(all, watched)| !all.contains(index) || watched.contains(index));
    watched.into_iter().filter(clear).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TUN: u16 = 65_534;

    fn link(index: u32, name: &str) -> Link {
        Link { index, name: name.to_owned(), hardware: 1, up: true, ..Link::default() }
    }

    fn port(index: u32, name: &str, master: u32) -> Link {
        Link { master: Some(master), ..link(index, name) }
    }

    fn on(index: u32, name: &str, base: u32) -> Link {
        Link { base: Some(base), ..link(index, name) }
    }

    /// `eth0`, or `eth0 - why not`, in the order of indices.
    #[track_caller]
    fn check(links: &[Link], patterns: &[&str], watched: &[u32], expected: &[&str]) {
        let patterns: Vec<_> = patterns.iter().map(|text| NamePattern::new(text).unwrap()).collect();
        let choices = choose(links, &patterns, &watched.iter().copied().collect());
        let told = choices.iter().map(|(index, choice)| {
            let name = &links.iter().find(|link| link.index == *index).unwrap().name;
            choice.skip.as_ref().map_or_else(|| name.clone(), |why| format!("{name} - {why}"))
        });
        assert_eq!(told.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn patterns_and_names_choose() {
        let links = [
            Link { hardware: 772, ..link(1, "lo") },
            link(2, "eth0"),
            link(3, "veth1"),
            Link { hardware: TUN, ..link(4, "tun0") },
        ];
        check(&links, &["*"], &[], &["eth0", "veth1", "tun0 - carries no Ethernet frames (type 65534)"]);
        check(&links, &["l?", "veth*"], &[], &["veth1"]);
        check(&links, &["lo", "eth0"], &[], &["lo", "eth0"]);
        check(&links, &["eth1"], &[], &[]);
        check(&links, &["eth1"], &[3], &["veth1"]);
    }

    #[test]
    fn of_an_upper_device_and_what_it_is_made_of_the_latter_is_watched() {
        let bridge = [port(2, "eth0", 4), port(3, "eth1", 4), link(4, "br0")];
        check(&bridge, &["*"], &[], &["eth0", "eth1", "br0 - its packets are counted on eth0, eth1"]);
        check(&bridge, &["br0", "eth1"], &[], &["eth1", "br0 - its packets are counted on eth1"]);
        check(&bridge, &["br*"], &[], &["br0"]);
        check(&bridge, &["eth0"], &[4], &["eth0", "br0 - its packets are counted on eth0"]);
        let vlan = [link(2, "eth0"), on(3, "eth0.5", 2), on(4, "mac0", 2)];
        check(&vlan, &["eth0.*", "mac0"], &[], &["eth0.5", "mac0"]);
        check(
            &vlan,
            &["*"],
            &[],
            &["eth0", "eth0.5 - its packets are counted on eth0", "mac0 - its packets are counted on eth0"],
        );
    }

    #[test]
    fn a_device_may_stand_on_another_at_some_distance() {
        let tower = [port(2, "eth0", 3), port(3, "bond0", 4), link(4, "br0"), on(5, "br0.7", 4)];
        check(&tower, &["eth0", "br0.7"], &[], &["eth0", "br0.7 - its packets are counted on eth0"]);
        check(&tower, &["bond0", "br0"], &[], &["bond0", "br0 - its packets are counted on bond0"]);
    }

    #[test]
    fn a_port_that_cannot_be_watched_does_not_stand_for_its_bridge() {
        let links = [Link { hardware: TUN, ..port(2, "tun0", 3) }, link(3, "br0")];
        check(&links, &["*"], &[], &["tun0 - carries no Ethernet frames (type 65534)", "br0"]);
    }

    #[test]
    fn a_loop_ends() {
        check(&[port(2, "a", 3), port(3, "b", 2)], &["a"], &[], &["a"]);
    }

    #[test]
    fn what_came_in_above_watched_links_is_counted() {
        let set = |indices: &[u32]| indices.iter().copied().collect::<BTreeSet<u32>>();
        // A bridge of two ports with a VLAN on it, and a bond of which one port is not watched.
        let links = [
            port(1, "veth0", 3),
            port(2, "veth1", 3),
            link(3, "br0"),
            on(4, "br0.5", 3),
            port(5, "eth0", 7),
            port(6, "eth1", 7),
            link(7, "bond0"),
            link(8, "eth2"),
        ];
        assert_eq!(counted(&links, &set(&[1, 2, 5])), set(&[1, 2, 3, 4, 5]));
        assert_eq!(counted(&links, &set(&[1])), set(&[1]));
        assert_eq!(counted(&links, &set(&[5, 6])), set(&[5, 6, 7]));
    }

    #[test]
    fn an_index_of_two_namespaces_is_told_when_both_are_watched() {
        let set = |indices: &[u32]| indices.iter().copied().collect::<BTreeSet<u32>>();
        let namespaces = [(set(&[1, 2, 3, 4]), set(&[2, 4])), (set(&[1, 3, 4]), set(&[3, 4]))];
        assert_eq!(unambiguous(&namespaces), set(&[2, 4]));
        assert_eq!(unambiguous(&[]), set(&[]));
    }
}
