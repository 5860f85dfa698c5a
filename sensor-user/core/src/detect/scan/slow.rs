//! The same test for scans that take their time: a probe every few seconds to minutes, over hours.
//!
//! What a source tried is kept by victim and by service, as lists of distinct ports and hosts, so that a client whose
//! server is down fails once however often it tries. Over hours more fails innocently than in a minute, so only what is
//! clearly a request counts: TCP, and echo requests, to ports that are not ephemeral (connections older than the sensor
//! may look turned round), and of host scans only local hosts (peer-to-peer programs try many that have gone).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::time::Duration;

use sensor_ebpf::abi::Addr;
use sensor_ebpf::packet::proto;
use serde_json::json;

use super::{protocol_name, saturating_score};
use crate::detect::Finding;
use crate::flow::{FlowEvent, Outcome};
use crate::incident::{Class, Severity};
use crate::roles::Roles;
use crate::time::Timestamp;

/// Parameters of the test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlowScanParams {
    /// Failed minus served first contacts that decide.
    pub margin: usize,
    /// How long contacts count: after it, the older half is forgotten.
    pub window: Duration,
    /// Pairs of source and victim followed at once, at most 0.5 KiB each; those that failed least give way.
    pub pairs: usize,
    /// Pairs of source and service followed at once, at most 2 KiB each; likewise.
    pub services: usize,
}

impl Default for SlowScanParams {
    fn default() -> Self {
        Self { margin: 20, window: Duration::from_secs(6 * 3600), pairs: 8192, services: 4096 }
    }
}

/// Distinct contacts of a kind remembered in one list.
const REMEMBERED: usize = 64;
/// Ports from here on are given to clients (Linux; RFC 6335 has them begin higher).
const EPHEMERAL: u16 = 32_768;
/// Between reports that belong together.
const TOGETHER: Duration = Duration::from_secs(60);

/// Slow scans of every source.
#[derive(Debug)]
pub(super) struct Slow {
    params: SlowScanParams,
    /// Ports by source and victim.
    victims: HashMap<(Addr, Addr), Tried<u16>>,
    /// Hosts by source, protocol and port.
    services: HashMap<(Addr, u8, u16), Tried<Addr>>,
    touched_victims: BTreeSet<(Addr, Addr)>,
    touched_services: BTreeSet<(Addr, u8, u16)>,
    next_sweep: Timestamp,
}

#[derive(Debug)]
struct Tried<T> {
    /// In the order in which they failed.
    failed: Vec<T>,
    unanswered: usize,
    served: Vec<T>,
    first_seen: Timestamp,
    last_seen: Timestamp,
    /// When it was last reported, and with how many.
    reported: Option<(Timestamp, usize)>,
}

impl Slow {
    pub(super) fn new(params: SlowScanParams) -> Self {
        Self {
            params,
            victims: HashMap::new(),
            services: HashMap::new(),
            touched_victims: BTreeSet::new(),
            touched_services: BTreeSet::new(),
            next_sweep: Timestamp::EPOCH,
        }
    }

    /// Takes in what became of a request, once it is known.
    pub(super) fn observe(&mut self, event: &FlowEvent) {
        if !event.is_new && event.before == event.outcome {
            return;
        }
        let served = event.outcome == Outcome::Served;
        // What is torn down before any payload may have been an empty transfer.
        let failed = matches!(event.outcome, Outcome::Unanswered | Outcome::Refused | Outcome::HalfOpen);
        let port = event.server.port;
        let (source, victim) = (event.client.addr, event.server.addr);
        let counts = match event.proto {
            proto::TCP => port < EPHEMERAL,
            proto::ICMP | proto::ICMPV6 => true,
            _ => false,
        };
        if !counts || !(served || failed) {
            return;
        }
        if event.proto == proto::TCP {
            let key = (source, victim);
            if note(&mut self.victims, self.params.pairs, key, port, event) {
                self.touched_victims.insert(key);
            }
        }
        let key = (source, event.proto, port);
        if note(&mut self.services, self.params.services, key, victim, event) {
            self.touched_services.insert(key);
        }
    }

    /// Reports the slow scans of which there is more; `found` are sources of which more is known already.
    pub(super) fn tick(&mut self, now: Timestamp, roles: &Roles, found: &BTreeSet<Addr>) -> Vec<Finding> {
        if now >= self.next_sweep {
            self.next_sweep = now + self.params.window / 4;
            let oldest = now - self.params.window;
            self.victims.retain(|_, tried| tried.forget(oldest, self.params.window));
            self.services.retain(|_, tried| tried.forget(oldest, self.params.window));
        }
        let mut findings = Vec::new();
        for key in std::mem::take(&mut self.touched_victims) {
            let Some(tried) = self.victims.get_mut(&key).filter(|_| !found.contains(&key.0)) else {
                continue;
            };
            let ports: BTreeSet<u16> = tried.failed.iter().copied().collect();
            if ports.len() >= self.params.margin + tried.served.len() && tried.is_news(ports.len(), now) {
                let finding = tried.finding((key.0, proto::TCP), ports.len(), self.params.margin);
                findings.push(Finding { class: Class::PortScan, victims: BTreeSet::from([key.1]), ports, ..finding });
            }
        }
        for key in std::mem::take(&mut self.touched_services) {
            let Some(tried) = self.services.get_mut(&key).filter(|_| !found.contains(&key.0)) else {
                continue;
            };
            if tried.failed.len() < self.params.margin + tried.served.len() {
                continue;
            }
            let knows = |host: Addr| self.victims.get(&(key.0, host)).is_some_and(|tried| !tried.served.is_empty());
            let hosts: BTreeSet<Addr> =
                tried.failed.iter().copied().filter(|&host| roles.is_local(host) && !knows(host)).collect();
            if hosts.len() >= self.params.margin + tried.served.len() && tried.is_news(hosts.len(), now) {
                let finding = tried.finding((key.0, key.1), hosts.len(), self.params.margin);
                let ports = if key.1 == proto::TCP { BTreeSet::from([key.2]) } else { BTreeSet::new() };
                findings.push(Finding { victims: hosts, ports, ..finding });
            }
        }
        findings
    }
}

/// Whether something new failed.
fn note<K: Copy + Eq + Hash, T: Copy + Eq>(
    map: &mut HashMap<K, Tried<T>>,
    most: usize,
    key: K,
    target: T,
    event: &FlowEvent,
) -> bool {
    if map.len() >= most && !map.contains_key(&key) {
        const FEW: usize = 2;
        map.retain(|_, tried| tried.failed.len() > FEW);
        // Whoever fills it with failures is found by the fast test.
        if map.len() > most / 2 {
            map.clear();
        }
    }
    let tried = map.entry(key).or_insert_with(|| Tried {
        failed: Vec::new(),
        unanswered: 0,
        served: Vec::new(),
        first_seen: event.first_seen,
        last_seen: event.last_seen,
        reported: None,
    });
    tried.note(target, event)
}

impl<T: Copy + Eq> Tried<T> {
    fn note(&mut self, target: T, event: &FlowEvent) -> bool {
        // Once served, a service stays known: a later failure to reach it is an outage, not a probe.
        if self.served.contains(&target) {
            return false;
        }
        let failed = self.failed.iter().position(|&known| known == target);
        if event.outcome == Outcome::Served {
            if let Some(index) = failed {
                self.failed.remove(index);
            }
            if self.served.len() < REMEMBERED {
                self.served.push(target);
            }
            return false;
        }
        if failed.is_some() || self.failed.len() >= REMEMBERED {
            return false;
        }
        if self.failed.is_empty() {
            self.first_seen = event.first_seen;
        }
        self.failed.push(target);
        self.unanswered += usize::from(event.outcome == Outcome::Unanswered);
        self.last_seen = self.last_seen.max(event.last_seen);
        true
    }

    /// Whether there is something left once what is too old is forgotten.
    fn forget(&mut self, oldest: Timestamp, window: Duration) -> bool {
        if self.first_seen < oldest {
            self.failed.drain(..self.failed.len().div_ceil(2));
            self.served.drain(..self.served.len().div_ceil(2));
            self.unanswered /= 2;
            self.first_seen = oldest + window / 2;
            self.reported = self.reported.map(|(at, told)| (at, told.min(self.failed.len())));
        }
        !self.failed.is_empty() || !self.served.is_empty()
    }

    /// Whether it is worth another report: soon after the one before, or once it has doubled.
    fn is_news(&mut self, failed: usize, now: Timestamp) -> bool {
        let is_news = self.reported.is_none_or(|(at, told)| now.since(at) <= TOGETHER || failed >= 2 * told);
        if is_news {
            self.reported = Some((now, failed));
        }
        is_news
    }

    fn finding(&self, (source, protocol): (Addr, u8), failed: usize, margin: usize) -> Finding {
        let unanswered = self.unanswered.min(failed);
        Finding {
            class: Class::HostScan,
            subject: source,
            severity: Severity::Medium,
            attackers: BTreeSet::from([source]),
            victims: BTreeSet::new(),
            ports: BTreeSet::new(),
            first_seen: self.first_seen,
            last_seen: self.last_seen,
            score: saturating_score(failed as f64, margin as f64),
            chance: None,
            evidence: BTreeMap::from([
                ("failed_contacts".to_owned(), json!(failed)),
                ("served_contacts".to_owned(), json!(self.served.len())),
                ("unanswered".to_owned(), json!(unanswered)),
                ("refused".to_owned(), json!(failed - unanswered)),
                ("protocols".to_owned(), json!([protocol_name(protocol)])),
                ("slow".to_owned(), json!(true)),
            ]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{Delta, Endpoint};

    fn failure(n: u32, server: u32, port: u16) -> FlowEvent {
        let addr = |bits: u32| Addr::from_v4(bits);
        let at = Timestamp::from_secs(1_000 + u64::from(n));
        let nothing = Delta::default();
        FlowEvent {
            client: Endpoint { addr: addr(0x0b00_0000 + n), port: 40_000 },
            server: Endpoint { addr: addr(server), port },
            is_new: false,
            before: Outcome::Pending,
            outcome: Outcome::Unanswered,
            sent: nothing,
            received: nothing,
            received_packets: 0,
            received_octets: 0,
            ..FlowEvent::example(at)
        }
    }

    #[test]
    fn forged_sources_are_bounded() {
        let mut slow = Slow::new(SlowScanParams::default());
        for n in 0..30_000 {
            for port in [1, 2, 3] {
                slow.observe(&failure(n, 0x0a00_0001, port));
            }
            assert!(slow.victims.len() <= slow.params.pairs && slow.services.len() <= slow.params.services);
        }
    }

    #[test]
    fn what_is_older_than_the_window_is_forgotten() {
        let mut slow = Slow::new(SlowScanParams::default());
        let source = 7;
        for port in 1..=19 {
            slow.observe(&failure(source, 0x0a00_0001, port));
        }
        let later = Timestamp::from_secs(1_000) + 2 * slow.params.window;
        assert!(slow.tick(later, &Roles::default(), &BTreeSet::new()).is_empty());
        assert!(slow.victims.values().all(|tried| tried.failed.len() < 10));
    }
}
