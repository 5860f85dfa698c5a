//! A service that is made to flood others: somebody asks it in the victim's name, and it answers at length.
//!
//! The bandwidth amplification factor (Rossow, "Amplification hell", NDSS 2014) is octets answered per octet asked. Honest
//! clients of such services ask many different things; who forges asks the one thing that is answered at most length,
//! over and over. So the questions of one client within ten seconds tell by `answered >= factor * asked`, by being many
//! and all of one length, and by answers worth a flood.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use sensor_ebpf::abi::Addr;
use sensor_ebpf::packet::proto;
use serde_json::json;

use super::{Detector, Finding, saturating_score};
use crate::flow::{FlowEvent, Outcome};
use crate::incident::{Class, Severity};
use crate::roles::Roles;
use crate::time::Timestamp;

/// Parameters of the detector.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReflectorParams {
    /// Octets answered per octet asked, headers included.
    pub factor: u64,
    /// Questions in the window.
    pub questions: u64,
    /// Octets of answers in the window.
    pub octets: u64,
    /// Clients of such services followed at once, 128 octets each; those answered least give way.
    pub clients: usize,
}

impl Default for ReflectorParams {
    fn default() -> Self {
        Self { factor: 20, questions: 50, octets: 1_000_000, clients: 4096 }
    }
}

/// UDP services that answer at length to a short question, of those of Rossow and CISA (TA14-017A): without those whose
/// honest clients are sent streams (TURN, games).
const SERVICES: [u16; 17] =
    [17, 19, 53, 111, 123, 137, 161, 389, 427, 1900, 3283, 3702, 5351, 5683, 10001, 11211, 37810];
const WINDOW: Duration = Duration::from_secs(10);
/// Octets by which questions that are the same may differ.
const SAME: u16 = 4;

/// Services that are made to flood others.
#[derive(Debug)]
pub struct Reflector {
    params: ReflectorParams,
    clients: HashMap<Key, Asked>,
    touched: BTreeSet<Key>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Key {
    server: Addr,
    port: u16,
    client: Addr,
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    since: Timestamp,
    last_seen: Timestamp,
    questions: u64,
    sent: u64,
    received: u64,
    shortest: u16,
    longest: u16,
}

impl Detector for Reflector {
    fn observe(&mut self, event: &FlowEvent) {
        if event.proto != proto::UDP
            || event.outcome != Outcome::Served
            || event.sent.packets + event.received.packets == 0
            || !SERVICES.contains(&event.server.port)
        {
            return;
        }
        let key = Key { server: event.server.addr, port: event.server.port, client: event.client.addr };
        if self.clients.len() >= self.params.clients && !self.clients.contains_key(&key) {
            self.make_room();
        }
        let asked = self.clients.entry(key).or_insert_with(|| Asked::since(event.last_seen));
        if event.last_seen.since(asked.since) >= WINDOW {
            *asked = Asked::since(event.last_seen);
        }
        asked.last_seen = asked.last_seen.max(event.last_seen);
        asked.questions += event.sent.packets;
        asked.sent += event.sent.octets;
        asked.received += event.received.octets;
        if event.sent.packets > 0 {
            asked.shortest = asked.shortest.min(event.sent_lengths.min);
            asked.longest = asked.longest.max(event.sent_lengths.max);
        }
        if asked.received >= self.params.octets {
            self.touched.insert(key);
        }
    }

    fn tick(&mut self, _: Timestamp, _: &Roles) -> Vec<Finding> {
        let touched = std::mem::take(&mut self.touched);
        touched.into_iter().filter_map(|key| self.judge(key)).collect()
    }

    fn is_idle(&self) -> bool {
        self.touched.is_empty()
    }
}

impl Reflector {
    /// A detector that has seen nothing.
    #[must_use]
    pub fn new(params: ReflectorParams) -> Self {
        Self { params, clients: HashMap::new(), touched: BTreeSet::new() }
    }

    fn make_room(&mut self) {
        let worth = self.params.octets / 10;
        self.clients.retain(|_, asked| asked.received >= worth);
        if self.clients.len() > self.params.clients / 2 {
            self.clients.clear();
        }
    }

    fn judge(&self, key: Key) -> Option<Finding> {
        let asked = self.clients.get(&key)?;
        let params = &self.params;
        let is_one_question = asked.longest.saturating_sub(asked.shortest) <= SAME;
        if asked.questions < params.questions
            || asked.received < params.octets
            || asked.received < params.factor.saturating_mul(asked.sent)
            || !is_one_question
        {
            return None;
        }
        let factor = asked.received / asked.sent.max(1);
        Some(Finding {
            class: Class::Amplification,
            subject: key.server,
            severity: Severity::High,
            attackers: BTreeSet::from([key.server]),
            victims: BTreeSet::from([key.client]),
            ports: BTreeSet::from([key.port]),
            first_seen: asked.since,
            last_seen: asked.last_seen,
            score: saturating_score(asked.received as f64, params.octets as f64),
            chance: None,
            evidence: BTreeMap::from([
                ("reflector".to_owned(), json!(true)),
                ("sent_octets".to_owned(), json!(asked.received)),
                ("received_octets".to_owned(), json!(asked.sent)),
                ("questions".to_owned(), json!(asked.questions)),
                ("amplification_factor".to_owned(), json!(factor)),
            ]),
        })
    }
}

impl Asked {
    const fn since(since: Timestamp) -> Self {
        Self { since, last_seen: since, questions: 0, sent: 0, received: 0, shortest: u16::MAX, longest: 0 }
    }
}
