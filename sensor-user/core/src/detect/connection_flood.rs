//! Floods of connections that are completed: one client opens far more of them with one service than anybody needs.
//!
//! Whoever completes a connection cannot forge its address, and passes SYN cookies (RFC 4987); such floods exhaust what the
//! service does for each connection. A crowd of clients opens as many without being an attack, so that it is the client that
//! is looked at. Proxies and load balancers open many, too, and go on doing so: a client is measured against what it has
//! usually opened. Those of our own networks need a reason less, because most of them are such servers.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use sensor_ebpf::abi::Addr;
use sensor_ebpf::packet::proto;
use serde_json::json;

use super::{Detector, Finding, saturating_score};
use crate::bounded::make_room;
use crate::flow::FlowEvent;
use crate::incident::{Class, Severity};
use crate::roles::Roles;
use crate::time::Timestamp;

/// Parameters of the detector.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConnectionFloodParams {
    /// Connections of a client from outside with one service, in the window, that make a flood.
    pub connections: u64,
    /// Of a client of our own networks, so many times as many.
    pub local_factor: u64,
    /// How many times what is usual for the client it must be.
    pub growth: f64,
    /// Clients and services followed at once, at most 160 octets each; the least recently seen give way.
    pub pairs: usize,
}

impl Default for ConnectionFloodParams {
    fn default() -> Self {
        Self { connections: 2000, local_factor: 5, growth: 4.0, pairs: 8192 }
    }
}

/// Seconds in the window.
const WINDOW: u64 = 10;
/// What is usual follows what is done with this time constant.
const HABIT: Duration = Duration::from_secs(3600);

/// Floods of completed connections.
#[derive(Debug)]
pub struct ConnectionFlood {
    params: ConnectionFloodParams,
    pairs: HashMap<Pair, Opened>,
    touched: BTreeSet<Pair>,
}

/// A client, and the service that it asks.
type Pair = (Addr, Addr, u16);

/// Connections of a pair.
#[derive(Debug, Default)]
struct Opened {
    /// By second.
    seconds: BTreeMap<u64, u64>,
    first_seen: Timestamp,
    last_seen: Timestamp,
    /// Connections in a window, as they usually are.
    usual: f64,
    /// When that was brought up to date last.
    learned: Timestamp,
}

impl Detector for ConnectionFlood {
    fn observe(&mut self, event: &FlowEvent) {
        if event.proto != proto::TCP || !event.completed {
            return;
        }
        // A port that is used again shows as further requests of a connection that was completed.
        let begun = if event.completed_is_new { event.sent.syns.max(1) } else { event.sent.syns };
        if begun == 0 {
            return;
        }
        let pair = (event.client.addr, event.server.addr, event.server.port);
        make_room(&mut self.pairs, self.params.pairs, &pair, |opened| opened.last_seen);
        let opened = self.pairs.entry(pair).or_insert_with(|| Opened {
            first_seen: event.first_seen,
            learned: event.last_seen,
            ..Opened::default()
        });
        *opened.seconds.entry(event.last_seen.secs()).or_default() += begun;
        opened.last_seen = opened.last_seen.max(event.last_seen);
        self.touched.insert(pair);
    }

    fn tick(&mut self, now: Timestamp, roles: &Roles) -> Vec<Finding> {
        let oldest = now.secs().saturating_sub(WINDOW);
        let mut floods: BTreeMap<Addr, Vec<(Pair, u64, u64)>> = BTreeMap::new();
        for pair in std::mem::take(&mut self.touched) {
            let Some(opened) = self.pairs.get_mut(&pair) else { continue };
            opened.seconds.retain(|&second, _| second > oldest);
            let connections: u64 = opened.seconds.values().sum();
            let peak = opened.seconds.values().copied().max().unwrap_or(0);
            let factor = if roles.is_local(pair.0) { self.params.local_factor } else { 1 };
            let enough = self.params.connections * factor;
            let is_flood = connections >= enough && connections as f64 >= self.params.growth * opened.usual;
            opened.learn(connections, now);
            if is_flood {
                floods.entry(pair.1).or_default().push((pair, connections, peak));
            }
        }
        floods.into_iter().map(|(server, pairs)| self.finding(server, &pairs)).collect()
    }

    fn is_idle(&self) -> bool {
        self.touched.is_empty()
    }
}

impl Opened {
    fn learn(&mut self, connections: u64, now: Timestamp) {
        let share = 1.0 - (-now.since(self.learned).as_secs_f64() / HABIT.as_secs_f64()).exp();
        self.usual += (connections as f64 - self.usual) * share;
        self.learned = now;
    }
}

impl ConnectionFlood {
    /// A detector that has seen nothing.
    #[must_use]
    pub fn new(params: ConnectionFloodParams) -> Self {
        Self { params, pairs: HashMap::new(), touched: BTreeSet::new() }
    }

    fn finding(&self, server: Addr, pairs: &[(Pair, u64, u64)]) -> Finding {
        let connections: u64 = pairs.iter().map(|(_, connections, _)| connections).sum();
        let peak: u64 = pairs.iter().map(|(.., peak)| peak).sum();
        let opened = || pairs.iter().filter_map(|(pair, ..)| self.pairs.get(pair));
        let usual: f64 = opened().map(|opened| opened.usual).sum();
        let enough = self.params.connections;
        Finding {
            class: Class::ConnectionFlood,
            subject: server,
            severity: if connections >= 10 * enough { Severity::Critical } else { Severity::High },
            attackers: pairs.iter().map(|((client, ..), ..)| *client).collect(),
            victims: BTreeSet::from([server]),
            ports: pairs.iter().map(|((.., port), ..)| *port).collect(),
            first_seen: opened().map(Opened::begun).min().unwrap_or_default(),
            last_seen: opened().map(|opened| opened.last_seen).max().unwrap_or_default(),
            score: saturating_score(connections as f64, enough as f64),
            chance: None,
            evidence: BTreeMap::from([
                ("connections".to_owned(), json!(connections)),
                ("peak_connections_per_s".to_owned(), json!(peak)),
                ("usual_connections".to_owned(), json!(usual.round())),
                ("window_s".to_owned(), json!(WINDOW)),
            ]),
        }
    }
}

impl Opened {
    /// The first second of the window in which much was opened, or the start of the pair: before that is ordinary traffic.
    fn begun(&self) -> Timestamp {
        let peak = self.seconds.values().copied().max().unwrap_or(0);
        let second = self.seconds.iter().find(|(_, begun)| **begun * 10 >= peak).map_or(0, |(&second, _)| second);
        self.first_seen.max(Timestamp::from_secs(second))
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    /// So many connections a second with a service, for so many seconds from a time.
    fn open(flood: &mut ConnectionFlood, client: &str, rate: u64, from: u64, seconds: u64) -> Vec<Finding> {
        let mut found = Vec::new();
        for second in from..from + seconds {
            let at = Timestamp::from_secs(second);
            for port in 0..rate {
                let mut event = FlowEvent::example(at);
                event.client.addr = client.parse::<IpAddr>().unwrap().into();
                event.client.port = u16::try_from(10_000 + port).unwrap();
                flood.observe(&event);
            }
            found.extend(flood.tick(at + Duration::from_secs(1), &Roles::default()));
        }
        found
    }

    #[test]
    fn a_client_that_opens_far_too_many_connections_floods() {
        for (client, rate, expected) in [
            ("203.0.113.9", 150, false),
            ("203.0.113.9", 250, true),
            ("10.0.0.9", 250, false),
            ("10.0.0.9", 1500, true),
        ] {
            let mut flood = ConnectionFlood::new(ConnectionFloodParams::default());
            let found = open(&mut flood, client, rate, 1000, 12);
            assert_eq!(!found.is_empty(), expected, "{client} {rate}/s");
            for finding in found {
                assert_eq!(finding.attackers, BTreeSet::from([client.parse::<IpAddr>().unwrap().into()]));
                assert_eq!((finding.class, finding.ports), (Class::ConnectionFlood, BTreeSet::from([443])));
                assert!(finding.evidence["connections"].as_u64().unwrap() >= 2000);
            }
        }
    }

    #[test]
    fn what_a_client_always_does_becomes_usual() {
        let mut flood = ConnectionFlood::new(ConnectionFloodParams::default());
        assert!(!open(&mut flood, "203.0.113.9", 250, 1000, 60).is_empty(), "nobody knows it yet");
        open(&mut flood, "203.0.113.9", 250, 1060, 2400);
        assert!(open(&mut flood, "203.0.113.9", 250, 3460, 60).is_empty(), "a proxy, then");
        assert!(!open(&mut flood, "203.0.113.9", 1500, 3520, 12).is_empty(), "more than it ever did");
    }

    #[test]
    fn a_crowd_and_what_is_not_completed_are_none() {
        let mut flood = ConnectionFlood::new(ConnectionFloodParams::default());
        for second in 1000..1012 {
            let at = Timestamp::from_secs(second);
            for client in 0..2000_u32 {
                let mut event = FlowEvent::example(at);
                event.client.addr = Addr::from_v4(0xcb00_0000 + client);
                flood.observe(&event);
                event.client.addr = Addr::from_v4(0xc633_6401);
                (event.completed, event.completed_is_new) = (false, false);
                flood.observe(&event);
            }
            assert!(flood.tick(at + Duration::from_secs(1), &Roles::default()).is_empty());
        }
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let params = ConnectionFloodParams { pairs: 64, ..ConnectionFloodParams::default() };
        let mut flood = ConnectionFlood::new(params);
        for client in 0..1000_u32 {
            let mut event = FlowEvent::example(Timestamp::from_secs(u64::from(client)));
            event.client.addr = Addr::from_v4(client);
            flood.observe(&event);
        }
        assert!(flood.pairs.len() <= 64);
    }
}
