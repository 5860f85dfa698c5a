//! What hosts are for: learned from whom they ask and whom they serve.
//!
//! A role never makes an attack; it says why something that looks like one is not, and tells the user whom it concerns.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use sensor_ebpf::abi::Addr;
use serde::Serialize;

use crate::bounded::make_room;
use crate::flow::{FlowEvent, Outcome};
use crate::net::Network;
use crate::time::Timestamp;

/// What a host is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Serves several hosts at one of its ports.
    Server,
    /// Answers several hosts' questions for names.
    Resolver,
    /// Asks the same many services again and again, as monitoring does.
    Monitor,
    /// Several hosts are behind one address: packets come with the time to live of different systems, or over different
    /// ways (Maier, Schneider, Feldmann, "NAT usage in residential broadband networks", PAM 2011).
    Nat,
}

/// Clients of one port that make a server.
const CLIENTS: usize = 3;
/// Services asked again and again that make a monitor.
const ROUNDS_OF: usize = 10;
/// Times that a service must be asked, a minute or more apart, to be asked again and again.
const ROUNDS: u8 = 4;
/// Ports remembered of a host, clients remembered of a port, and times to live of a host.
const REMEMBERED: usize = 4;
/// Services remembered of a host that asks.
const ASKED: usize = 32;

/// What is known of hosts. At most [`Roles::HOSTS`], at most 1.5 KiB each; the least recently seen give way.
#[derive(Debug, Default)]
pub struct Roles {
    hosts: HashMap<Addr, Host>,
    /// Networks that are ours, besides those that are nobody else's.
    local: Vec<Network>,
}

#[derive(Debug, Default)]
struct Host {
    last_seen: Timestamp,
    /// Port, and some of its clients.
    serves: Vec<(u16, Vec<Addr>)>,
    /// Services asked: how often, and when that was counted last.
    asks: Vec<Asked>,
    ttls: Vec<u8>,
}

#[derive(Debug)]
struct Asked {
    server: Addr,
    port: u16,
    rounds: u8,
    counted: Timestamp,
}

impl Roles {
    /// Hosts followed.
    pub const HOSTS: usize = 16_384;

    /// Nothing is known but which networks are ours, besides those that are nobody else's.
    #[must_use]
    pub fn new(local: Vec<Network>) -> Self {
        Self { hosts: HashMap::new(), local }
    }

    /// Takes in what a tick learned of a flow.
    pub fn observe(&mut self, event: &FlowEvent) {
        let (client, server) = (event.client.addr, event.server.addr);
        let served = event.outcome == Outcome::Served;
        let begun = served && (event.is_new || event.before != Outcome::Served);
        if begun {
            self.host(server, event.last_seen).serve(event.server.port, client);
        }
        if event.sent.packets > 0 {
            let host = self.host(client, event.last_seen);
            if served {
                host.remember_ttl(event.client_ttl);
            }
            if event.is_new && event.outcome != Outcome::Unasked {
                host.ask(server, event.server.port, event.last_seen);
            }
        }
    }

    /// What a host is known for.
    #[must_use]
    pub fn of(&self, addr: Addr) -> BTreeSet<Role> {
        let roles = [Role::Server, Role::Resolver, Role::Monitor, Role::Nat];
        let host = self.hosts.get(&addr);
        roles.into_iter().filter(|role| host.is_some_and(|host| host.has(*role))).collect()
    }

    /// Whether a host is known for a role.
    #[must_use]
    pub fn has(&self, addr: Addr, role: Role) -> bool {
        self.hosts.get(&addr).is_some_and(|host| host.has(role))
    }

    /// Whether a host has asked for a service again and again, in vain or not: it is not looking for it.
    #[must_use]
    pub fn asks_regularly(&self, client: Addr, server: Addr, port: u16) -> bool {
        let asks = |asked: &Asked| asked.server == server && asked.port == port && asked.rounds >= ROUNDS;
        self.hosts.get(&client).is_some_and(|host| host.asks.iter().any(asks))
    }

    /// Whether a host serves several others at a port.
    #[must_use]
    pub fn serves_at(&self, addr: Addr, port: u16) -> bool {
        self.hosts.get(&addr).is_some_and(|host| host.serves_at(port))
    }

    /// Whether an address is of the networks that are watched over: those that were named, and private (RFC 1918, RFC
    /// 4193), shared (RFC 6598) and link-local addresses.
    #[must_use]
    pub fn is_local(&self, addr: Addr) -> bool {
        self.local.iter().any(|network| network.contains(addr)) || is_nobody_elses(addr)
    }

    fn host(&mut self, addr: Addr, at: Timestamp) -> &mut Host {
        make_room(&mut self.hosts, Self::HOSTS, &addr, |host| host.last_seen);
        let host = self.hosts.entry(addr).or_default();
        host.last_seen = host.last_seen.max(at);
        host
    }
}

/// Whether an address may be used by anyone, and by nobody on the Internet.
pub(crate) fn is_nobody_elses(addr: Addr) -> bool {
    match IpAddr::from(addr) {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            v4.is_private() || v4.is_link_local() || v4.is_loopback() || (a == 100 && b & 0xc0 == 64)
        }
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local() || v6.is_loopback(),
    }
}

impl Host {
    fn serve(&mut self, port: u16, client: Addr) {
        let known = self.serves.iter().position(|(other, _)| *other == port);
        let place = match known {
            Some(place) => place,
            None if self.serves.len() < REMEMBERED => {
                self.serves.push((port, Vec::new()));
                self.serves.len() - 1
            }
            None => return,
        };
        let clients = &mut self.serves[place].1;
        if clients.len() < REMEMBERED && !clients.contains(&client) {
            clients.push(client);
        }
    }

    fn ask(&mut self, server: Addr, port: u16, at: Timestamp) {
        const APART_S: u64 = 60;
        let known = self.asks.iter_mut().find(|asked| asked.server == server && asked.port == port);
        if let Some(asked) = known {
            if at.since(asked.counted).as_secs() >= APART_S {
                asked.rounds = asked.rounds.saturating_add(1);
                asked.counted = at;
            }
            return;
        }
        let first = Asked { server, port, rounds: 1, counted: at };
        if self.asks.len() < ASKED {
            self.asks.push(first);
        } else if let Some(least) = self.asks.iter_mut().min_by_key(|asked| (asked.rounds, asked.counted)) {
            // Who has been asked least gives way: what is asked again and again stays.
            *least = first;
        }
    }

    fn remember_ttl(&mut self, ttl: u8) {
        if ttl != 0 && self.ttls.len() < REMEMBERED && !self.ttls.contains(&ttl) {
            self.ttls.push(ttl);
        }
    }

    fn serves_at(&self, port: u16) -> bool {
        self.serves.iter().any(|(other, clients)| *other == port && clients.len() >= CLIENTS)
    }

    fn has(&self, role: Role) -> bool {
        match role {
            Role::Server => self.serves.iter().any(|(_, clients)| clients.len() >= CLIENTS),
            Role::Resolver => self.serves_at(53),
            Role::Monitor => self.asks.iter().filter(|asked| asked.rounds >= ROUNDS).count() >= ROUNDS_OF,
            Role::Nat => self.ttls.iter().map(|ttl| initial_ttl(*ttl)).collect::<BTreeSet<_>>().len() > 1,
        }
    }
}

/// What systems begin with: 32, 64, 128 or 255.
const fn initial_ttl(ttl: u8) -> u8 {
    match ttl {
        0..=32 => 32,
        33..=64 => 64,
        65..=128 => 128,
        129..=255 => 255,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::flow::Endpoint;

    fn addr(last: u32) -> Addr {
        Addr::from_v4(0x0a00_0000 + last)
    }

    fn flow(client: u32, server: u32, port: u16, seconds: u64) -> FlowEvent {
        let at = Timestamp::from_secs(1_700_000_000) + Duration::from_secs(seconds);
        FlowEvent {
            client: Endpoint { addr: addr(client), port: 40_000 },
            server: Endpoint { addr: addr(server), port },
            ..FlowEvent::example(at)
        }
    }

    fn roles(flows: impl IntoIterator<Item = FlowEvent>) -> Roles {
        let mut roles = Roles::default();
        flows.into_iter().for_each(|flow| roles.observe(&flow));
        roles
    }

    fn of(roles: &Roles, host: u32) -> Vec<Role> {
        roles.of(addr(host)).into_iter().collect()
    }

    #[test]
    fn who_serves_several_is_a_server_and_who_answers_names_a_resolver() {
        let roles = roles((1..=3).flat_map(|client| [flow(client, 10, 443, 0), flow(client, 11, 53, 0)]));
        assert_eq!((of(&roles, 10), of(&roles, 11)), (vec![Role::Server], vec![Role::Server, Role::Resolver]));
        assert!(roles.serves_at(addr(10), 443) && !roles.serves_at(addr(10), 80));
        assert_eq!(of(&roles, 1), []);
    }

    #[test]
    fn who_asks_the_same_again_and_again_is_a_monitor_even_if_nobody_answers() {
        let poll = |round: u64| (100..115).map(move |server| flow(1, server, 9100, round * 60));
        let failed = |flow: FlowEvent| FlowEvent { outcome: Outcome::Unanswered, ..flow };
        let answered = roles((0..4).flat_map(poll));
        assert_eq!(of(&answered, 1), [Role::Monitor]);
        let in_vain = roles((0..4).flat_map(poll).map(failed));
        assert!(in_vain.asks_regularly(addr(1), addr(100), 9100) && !in_vain.asks_regularly(addr(1), addr(100), 22));
        let scan = roles((0..1000).map(|n| failed(flow(1, n, 22, u64::from(n)))));
        assert!(of(&scan, 1).is_empty() && !scan.asks_regularly(addr(1), addr(999), 22));
    }

    #[test]
    fn packets_of_different_systems_tell_a_nat() {
        let with = |ttl: u8| FlowEvent { client_ttl: ttl, ..flow(1, 2, 443, 0) };
        assert_eq!(of(&roles([with(64), with(57)]), 1), []);
        assert_eq!(of(&roles([with(57), with(121)]), 1), [Role::Nat]);
    }

    #[test]
    fn named_networks_and_private_ones_are_ours() {
        let addr = |text: &str| Addr::from(text.parse::<IpAddr>().unwrap());
        let roles = Roles::new(vec![Network::new("203.0.113.0".parse().unwrap(), 28)]);
        for (text, ours) in [("203.0.113.9", true), ("203.0.113.16", false), ("10.1.2.3", true), ("2001:db8::1", false)]
        {
            assert_eq!(roles.is_local(addr(text)), ours, "{text}");
        }
        assert!(!Roles::default().is_local(addr("203.0.113.9")));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut roles = Roles::default();
        for n in 0..60_000_u32 {
            roles.observe(&flow(n, 1_000_000 + n % 7, (n % 1000) as u16, u64::from(n)));
            assert!(roles.hosts.len() <= Roles::HOSTS);
        }
        assert!(roles.hosts.values().all(|host| host.asks.len() <= ASKED && host.serves.len() <= REMEMBERED));
    }
}
