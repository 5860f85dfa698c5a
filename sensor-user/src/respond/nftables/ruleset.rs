//! The table as `nft` reads it.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use sensor_core::net::Network;
use sensor_core::respond::{Block, Measure, Scope, Target};
use sensor_core::time::Timestamp;

use crate::respond::plain::cidr;

/// What the table is called, in the family `inet`.
pub const TABLE: &str = "leuko";

/// One transaction that replaces the table, and whether there is one afterwards: none is needed where nothing is blocked.
///
/// Counters and the state of limits begin anew with it.
#[must_use]
pub fn ruleset(blocks: &[Block], now: Timestamp) -> (String, bool) {
    let sets = sets(blocks, now);
    let mut text = remove();
    if sets.is_empty() {
        return (text, false);
    }
    let written = write_table(&mut text, &sets);
    written.expect("writing to a string does not fail");
    (text, true)
}

/// One transaction that removes the table, whether or not it is there.
#[must_use]
pub fn remove() -> String {
    format!("add table inet {TABLE}\ndelete table inet {TABLE}\n")
}

/// Entries of one type, for which one thing is done.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Set {
    limited: bool,
    key: Key,
    v6: bool,
}

/// What is looked up.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Peer,
    Protocol,
    Port,
    Requests,
}

/// An entry.
#[derive(Clone, Copy)]
struct Element {
    network: Network,
    proto: u8,
    port: u16,
    rate: u32,
    left: Duration,
}

impl Element {
    /// What has to be the same for one to cover another.
    const fn scope(&self) -> (u8, u16) {
        (self.proto, self.port)
    }
}

fn sets(blocks: &[Block], now: Timestamp) -> BTreeMap<Set, Vec<Element>> {
    let mut sets: BTreeMap<Set, Vec<Element>> = BTreeMap::new();
    for block in blocks {
        let left = block.until.since(now);
        // The kernel counts milliseconds.
        if !block.enforced || left.as_millis() == 0 {
            continue;
        }
        let rate = match block.measure {
            Measure::Drop => 0,
            Measure::Limit(rate) => rate,
        };
        let (key, network, proto, port) = match block.target {
            Target::Peer { network, scope: Scope::All } => (Key::Peer, network, 0, 0),
            Target::Peer { network, scope: Scope::Protocol(proto) } => (Key::Protocol, network, proto, 0),
            Target::Peer { network, scope: Scope::Port { proto, port } } => (Key::Port, network, proto, port),
            Target::Requests { host, port } => (Key::Requests, Network::new(host, 128), 0, port),
        };
        let v6 = IpAddr::from(network.bounds().0).is_ipv6();
        let element = Element { network, proto, port, rate, left };
        sets.entry(Set { limited: rate > 0, key, v6 }).or_default().push(element);
    }
    for elements in sets.values_mut() {
        apart(elements);
    }
    sets
}

/// Leaves out what is part of another: nftables has no two entries for one address. If it is for longer it comes back when
/// the other is over; a sensor that has died by then blocks too little, not too much.
fn apart(elements: &mut Vec<Element>) {
    elements.sort_by_key(|element| {
        let (first, last) = element.network.bounds();
        (element.scope(), first, Reverse(last), Reverse(element.left))
    });
    let mut last: Option<Element> = None;
    elements.retain(|element| {
        let covered =
            |last: Element| last.scope() == element.scope() && last.network.contains(element.network.bounds().0);
        let keep = !last.is_some_and(covered);
        if keep {
            last = Some(*element);
        }
        keep
    });
}

fn write_table(text: &mut String, sets: &BTreeMap<Set, Vec<Element>>) -> std::fmt::Result {
    writeln!(text, "table inet {TABLE} {{")?;
    for (set, elements) in sets {
        set.write(text, elements)?;
    }
    for (name, hook, outgoing) in [("incoming", "prerouting", false), ("outgoing", "output", true)] {
        writeln!(text, "\tchain {name} {{\n\t\ttype filter hook {hook} priority raw; policy accept;")?;
        for set in sets.keys() {
            set.write_rules(text, outgoing)?;
        }
        writeln!(text, "\t}}")?;
    }
    writeln!(text, "}}")
}

impl Set {
    fn name(self) -> String {
        let verdict = if self.limited { "limited" } else { "blocked" };
        let key = match self.key {
            Key::Peer => "",
            Key::Protocol => "_protocol",
            Key::Port => "_port",
            Key::Requests => "_requests",
        };
        format!("{verdict}{key}{}", if self.v6 { 6 } else { 4 })
    }

    fn write(self, text: &mut String, elements: &[Element]) -> std::fmt::Result {
        let addr = if self.v6 { "ipv6_addr" } else { "ipv4_addr" };
        let (key, flags) = match self.key {
            Key::Peer => ("", "interval, timeout"),
            Key::Protocol => (" . inet_proto", "interval, timeout"),
            Key::Port => (" . inet_proto . inet_service", "interval, timeout"),
            Key::Requests => (" . inet_service", "timeout"),
        };
        writeln!(text, "\tset {} {{\n\t\ttype {addr}{key}\n\t\tflags {flags}", self.name())?;
        if self.limited {
            // Each entry has its own; this one says that they have.
            writeln!(text, "\t\tlimit rate over 1/second")?;
        }
        writeln!(text, "\t\telements = {{")?;
        for element in elements {
            self.write_element(text, element)?;
        }
        writeln!(text, "\t\t}}\n\t}}")
    }

    fn write_element(self, text: &mut String, element: &Element) -> std::fmt::Result {
        let Element { network, proto, port, rate, left } = *element;
        let net = cidr(network);
        match self.key {
            Key::Peer => write!(text, "\t\t\t{net}")?,
            Key::Protocol => write!(text, "\t\t\t{net} . {proto}")?,
            Key::Port => write!(text, "\t\t\t{net} . {proto} . {port}")?,
            Key::Requests => write!(text, "\t\t\t{} . {port}", net.addr())?,
        }
        if self.limited {
            write!(text, " limit rate over {rate}/second burst {rate} packets")?;
        }
        let millis = left.as_millis();
        if millis.is_multiple_of(1000) {
            writeln!(text, " timeout {}s,", millis / 1000)
        } else {
            writeln!(text, " timeout {millis}ms,")
        }
    }

    /// What a peer sends is dropped or limited, and what is sent to it is dropped, also by those for whom this host forwards.
    fn write_rules(self, text: &mut String, outgoing: bool) -> std::fmt::Result {
        let ip = if self.v6 { "ip6" } else { "ip" };
        let (from, to) = match self.key {
            Key::Peer => (format!("{ip} saddr"), format!("{ip} daddr")),
            Key::Protocol => (format!("{ip} saddr . meta l4proto"), format!("{ip} daddr . meta l4proto")),
            Key::Port => {
                (format!("{ip} saddr . meta l4proto . th dport"), format!("{ip} daddr . meta l4proto . th sport"))
            }
            Key::Requests => {
                (format!("tcp flags & (fin | syn | rst | ack) == syn {ip} daddr . tcp dport"), String::new())
            }
        };
        if !outgoing {
            writeln!(text, "\t\t{from} @{} counter drop", self.name())?;
        }
        if !self.limited && self.key != Key::Requests {
            writeln!(text, "\t\t{to} @{} counter drop", self.name())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::respond::testing::{limited, observed, peer, requests, scoped};

    const TCP_22: Scope = Scope::Port { proto: 6, port: 22 };

    #[test]
    fn the_table_has_what_is_left_of_each_block() {
        let blocks = [
            peer("203.0.113.9/32", 60),
            peer("192.0.2.0/24", 7),
            peer("2001:db8:1::/64", 3600),
            scoped("203.0.113.0/28", TCP_22, 60),
            scoped("2001:db8::7/128", Scope::Protocol(58), 60),
            limited("198.51.100.0/24", 50, 60),
            requests("192.0.2.1", 443, 200, 60),
            peer("192.0.3.1/32", 5),
            observed("192.0.3.2/32", 60),
        ];
        let (text, present) = ruleset(&blocks, Timestamp::from_nanos(5_500_000_000));
        assert!(present);
        assert_eq!(text, include_str!("ruleset.nft"));
        assert_eq!(ruleset(&blocks, Timestamp::from_secs(3600)), (remove(), false));
    }

    #[test]
    fn what_is_part_of_another_entry_is_left_out() {
        let (text, _) = ruleset(
            &[
                peer("192.0.2.7/32", 90),
                peer("192.0.2.0/24", 60),
                peer("192.0.2.0/24", 61),
                peer("192.0.3.0/32", 60),
                scoped("192.0.2.7/32", TCP_22, 60),
                scoped("192.0.2.0/24", Scope::Port { proto: 6, port: 23 }, 60),
                limited("192.0.2.9/32", 0, 60),
                limited("192.0.2.9/32", 9, 60),
            ],
            Timestamp::EPOCH,
        );
        let entries: Vec<&str> = text.lines().map(str::trim).filter(|line| line.contains("timeout ")).collect();
        let limit = "192.0.2.9/32 limit rate over 9/second burst 9 packets timeout 60s,";
        assert_eq!(
            entries,
            [
                "192.0.2.0/24 timeout 61s,",
                "192.0.3.0/32 timeout 60s,",
                "192.0.2.7/32 . 6 . 22 timeout 60s,",
                "192.0.2.0/24 . 6 . 23 timeout 60s,",
                limit,
            ]
        );
    }
}
