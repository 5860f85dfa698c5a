//! Slow denial of service: connections that are held open to a service and hardly used.
//!
//! Services serve a bounded number of connections at once: 256 Apache and 512 nginx, as they come. Slow attacks fill them
//! with connections that cost the attacker nothing (Cambiaso, Papaleo, Aiello 2013): whose request never ends (slowloris,
//! slow POST), whose answer is not taken (slow read), or on which nothing is ever asked. So what counts is how many
//! connections to a service are held at a time, of those that are open:
//! - slow request: some seconds after it began, the client still says a little more, and the server has said nothing;
//! - slow read: the client keeps announcing a window of zero and has taken little;
//! - idle: open for long enough to ask, and nothing was ever said.
//!
//! A service at which only clients speak (logs over TCP) is never told from slow requests by one connection: it is one
//! that nobody has seen answering, and no host needs many connections to it.

mod connection;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use sensor_ebpf::abi::Addr;
use sensor_ebpf::packet::proto;
use serde_json::json;

use self::connection::{Connection, Hold};
use super::{Detector, Finding, is_group, saturating_score};
use crate::flow::{Endpoint, FlowEvent, Outcome};
use crate::incident::{Class, Severity};
use crate::roles::Roles;
use crate::time::Timestamp;

/// Parameters of the detector.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlowDosParams {
    /// Connections held at once that decide; idle ones are four times as many.
    pub held: u32,
    /// Share of the open connections that must be held; twice that of idle ones.
    pub share: f64,
    /// Connections followed at once, 160 octets each; while there are more, new ones are not followed.
    pub connections: usize,
    /// Services followed at once; those without connections give way.
    pub services: usize,
}

impl Default for SlowDosParams {
    fn default() -> Self {
        Self { held: 50, share: 0.25, connections: 65_536, services: 16_384 }
    }
}

/// How long a connection without payload is left to say something.
const IDLE: Duration = Duration::from_secs(10);
/// After so long without news a connection is taken for over: flows of TCP end then, too.
const FORGET: Duration = Duration::from_secs(300);
/// How many times what decides must be idle, and how much more of the open connections.
const IDLE_HELD: (u32, f64) = (4, 2.0);
/// Share of the held connections that makes a source an attacker by itself.
const NOTABLE: f64 = 0.03;
/// Attackers listed when no source holds that share.
const LISTED: usize = 64;
/// To a service that was never seen answering, one source must hold so many times what decides.
const CONCENTRATED: u32 = 2;

/// Slow denial of service of every service.
#[derive(Debug)]
pub struct SlowDos {
    params: SlowDosParams,
    services: HashMap<Endpoint, Service>,
    /// Connections of all services.
    connections: usize,
    touched: BTreeSet<Endpoint>,
    /// When connections without payload are idle, in the order in which they were first seen.
    opened: VecDeque<(Timestamp, Endpoint, Endpoint)>,
    /// Whether services without connections have given way since the last tick.
    swept: bool,
    next_sweep: Timestamp,
}

#[derive(Debug, Default)]
struct Service {
    connections: HashMap<Endpoint, Connection>,
    /// Held connections, by [`Hold`].
    held: [u32; Hold::KINDS],
    /// Slow and stalled connections by source.
    sources: HashMap<Addr, u32>,
    /// Whether it was seen answering anyone.
    answers: bool,
    last_seen: Timestamp,
}

impl Detector for SlowDos {
    fn observe(&mut self, event: &FlowEvent) {
        if event.proto != proto::TCP || is_group(event.server.addr) {
            return;
        }
        let over = event.closing || event.outcome.is_failure() || event.outcome == Outcome::Unasked;
        if over {
            self.end(event);
            return;
        }
        let is_established = event.outcome == Outcome::Served || (event.received_packets > 0 && event.sent_packets > 1);
        if is_established {
            self.follow(event);
        }
    }

    fn tick(&mut self, now: Timestamp, _: &Roles) -> Vec<Finding> {
        self.swept = false;
        if now >= self.next_sweep {
            self.next_sweep = now + FORGET / 4;
            self.forget(now);
        }
        while let Some((due, server, client)) = self.opened.front().copied()
            && due <= now
        {
            self.opened.pop_front();
            if let Some(service) = self.services.get_mut(&server)
                && service.note_idle(&client)
            {
                self.touched.insert(server);
            }
        }
        let touched = std::mem::take(&mut self.touched);
        touched.into_iter().filter_map(|server| self.services.get(&server)?.judge(server, &self.params)).collect()
    }

    fn is_idle(&self) -> bool {
        self.opened.is_empty() && self.touched.is_empty()
    }
}

impl SlowDos {
    /// A detector that has seen nothing.
    #[must_use]
    pub fn new(params: SlowDosParams) -> Self {
        Self {
            params,
            services: HashMap::new(),
            connections: 0,
            touched: BTreeSet::new(),
            opened: VecDeque::new(),
            swept: false,
            next_sweep: Timestamp::EPOCH,
        }
    }

    /// Connections followed.
    #[must_use]
    pub const fn connections(&self) -> usize {
        self.connections
    }

    /// Services followed, and remembered.
    #[must_use]
    pub fn services(&self) -> usize {
        self.services.len()
    }

    fn end(&mut self, event: &FlowEvent) {
        // A service is remembered for its answers, not for failures.
        let is_answered = connection::is_answered(event);
        let service = if is_answered { self.service(event.server) } else { self.services.get_mut(&event.server) };
        if let Some(service) = service {
            service.answers |= is_answered;
            service.last_seen = service.last_seen.max(event.last_seen);
            let was_followed = service.remove(&event.client);
            self.connections -= usize::from(was_followed);
        }
    }

    fn follow(&mut self, event: &FlowEvent) {
        let (connections, most) = (self.connections, self.params.connections);
        let Some(service) = self.service(event.server) else {
            return;
        };
        service.last_seen = service.last_seen.max(event.last_seen);
        service.answers |= connection::is_answered(event);
        let is_new = !service.connections.contains_key(&event.client);
        // Of a connection whose beginning was not seen it is not known whether it was used.
        let begins = event.is_new && event.sent.syns > 0;
        let began = begins || (!event.is_new && event.before == Outcome::Pending);
        if is_new && (connections >= most || !began) {
            return;
        }
        if begins {
            service.remove(&event.client);
        }
        let is_held = service.update(event);
        if is_held {
            self.touched.insert(event.server);
        }
        if is_new {
            self.connections += 1;
            // Events of a tick come in any order, by less than a tick.
            if event.first_speaker.is_none() && self.opened.len() < 2 * most {
                self.opened.push_back((event.first_seen + IDLE, event.server, event.client));
            }
        }
    }

    /// What is known of a service; nothing where there is no room.
    fn service(&mut self, server: Endpoint) -> Option<&mut Service> {
        if self.services.len() >= self.params.services && !self.services.contains_key(&server) && !self.make_room() {
            return None;
        }
        Some(self.services.entry(server).or_default())
    }

    fn forget(&mut self, now: Timestamp) {
        let oldest = now - FORGET;
        for service in self.services.values_mut() {
            let gone: Vec<Endpoint> = service
                .connections
                .iter()
                .filter(|(_, connection)| connection.last_seen < oldest)
                .map(|(client, _)| *client)
                .collect();
            for client in gone {
                self.connections -= usize::from(service.remove(&client));
            }
        }
        self.services.retain(|_, service| !service.connections.is_empty() || service.last_seen + 12 * FORGET >= now);
    }

    /// Once a tick, since it looks at every service.
    fn make_room(&mut self) -> bool {
        if !std::mem::replace(&mut self.swept, true) {
            self.services.retain(|_, service| !service.connections.is_empty());
        }
        self.services.len() < self.params.services
    }
}

impl Service {
    /// Whether the connection is held.
    fn update(&mut self, event: &FlowEvent) -> bool {
        let connection = self.connections.entry(event.client).or_insert_with(|| Connection::new(event));
        let before = connection.hold;
        connection.update(event);
        let after = connection.hold;
        self.recount(event.client.addr, before, after);
        after.is_some()
    }

    /// Whether the connection is idle by now.
    fn note_idle(&mut self, client: &Endpoint) -> bool {
        let Some(connection) = self.connections.get_mut(client) else {
            return false;
        };
        if connection.hold.is_some() || connection.has_spoken {
            return false;
        }
        connection.hold = Some(Hold::Idle);
        self.recount(client.addr, None, Some(Hold::Idle));
        true
    }

    /// Whether it was there.
    fn remove(&mut self, client: &Endpoint) -> bool {
        let Some(connection) = self.connections.remove(client) else {
            return false;
        };
        self.recount(client.addr, connection.hold, None);
        true
    }

    fn recount(&mut self, source: Addr, before: Option<Hold>, after: Option<Hold>) {
        if before == after {
            return;
        }
        if let Some(before) = before {
            self.held[before as usize] -= 1;
            if let Some(count) = self.sources.get_mut(&source) {
                *count -= 1;
                if *count == 0 {
                    self.sources.remove(&source);
                }
            }
        }
        if let Some(after) = after {
            self.held[after as usize] += 1;
            *self.sources.entry(source).or_default() += 1;
        }
    }

    fn judge(&self, server: Endpoint, params: &SlowDosParams) -> Option<Finding> {
        let [slow, stalled, idle] = self.held;
        let open = self.connections.len() as f64;
        let busy = slow + stalled;
        let is_busy = busy >= params.held && f64::from(busy) >= params.share * open;
        let all = busy + idle;
        let is_idle = all >= IDLE_HELD.0 * params.held && f64::from(all) >= IDLE_HELD.1 * params.share * open;
        if !is_busy && !is_idle {
            return None;
        }
        let most = self.sources.values().copied().max().unwrap_or(0);
        // A slow reader is one that was answered.
        let one_way = !self.answers && stalled == 0;
        if one_way && most < CONCENTRATED * params.held {
            return None;
        }
        Some(self.finding(server, params))
    }

    fn finding(&self, server: Endpoint, params: &SlowDosParams) -> Finding {
        let held: Vec<&Connection> = self.connections.values().filter(|connection| connection.hold.is_some()).collect();
        let count = u32::try_from(held.len()).unwrap_or(u32::MAX);
        let mut ages: Vec<Duration> = held.iter().map(|held| self.last_seen.since(held.first_seen)).collect();
        ages.sort_unstable();
        let age = ages.get(ages.len() / 2).copied().unwrap_or_default();
        let kinds = [Hold::SlowRequest, Hold::SlowRead, Hold::Idle];
        let kind = kinds.into_iter().max_by_key(|kind| self.held[*kind as usize]).map_or("", Hold::name);
        Finding {
            class: Class::SlowDos,
            subject: server.addr,
            severity: if count >= 10 * params.held { Severity::Critical } else { Severity::High },
            attackers: self.attackers(count),
            victims: BTreeSet::from([server.addr]),
            ports: BTreeSet::from([server.port]),
            first_seen: held.iter().map(|held| held.first_seen).min().unwrap_or_default(),
            last_seen: held.iter().map(|held| held.last_seen).max().unwrap_or_default(),
            score: saturating_score(f64::from(count), f64::from(params.held)),
            chance: None,
            evidence: BTreeMap::from([
                ("held_connections".to_owned(), json!(count)),
                ("held_s".to_owned(), json!(age.as_secs())),
                ("open_connections".to_owned(), json!(self.connections.len())),
                ("distinct_sources".to_owned(), json!(self.sources.len())),
                ("kind".to_owned(), json!(kind)),
            ]),
        }
    }

    /// Sources that hold a notable share of the connections, or the first of those that hold most.
    fn attackers(&self, held: u32) -> BTreeSet<Addr> {
        let mut sources: Vec<(u32, Addr)> = self.sources.iter().map(|(source, count)| (*count, *source)).collect();
        sources.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        let notable = sources.iter().filter(|(count, _)| f64::from(*count) >= NOTABLE * f64::from(held)).count();
        let listed = if notable > 0 { notable } else { LISTED };
        sources.into_iter().take(listed).map(|(_, source)| source).collect()
    }
}
