//! Port scans and host scans, by the sequential hypothesis test of Jung, Paxson, Berger, Balakrishnan (2004).
//!
//! A benign host's first contacts mostly succeed, a scanner's mostly fail. With success probabilities of 0.8 and 0.2,
//! each failed first contact multiplies the likelihood ratio by four and each successful one divides it by four. So
//! `failed - served >= margin` is their test with a false-positive bound of 4^-margin per source: 10^-9 for 15.
//!
//! The contacts of a source are counted by victim (distinct ports: a port scan) and by service (distinct hosts of which
//! none has served the source: a host scan).

mod slow;

pub use slow::SlowScanParams;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use sensor_ebpf::abi::Addr;
use sensor_ebpf::packet::proto;
use serde_json::json;

use self::slow::Slow;
use super::{Detector, Finding, is_group, saturating_score};
use crate::flow::{FlowEvent, Outcome};
use crate::incident::{Class, Severity};
use crate::roles::Roles;
use crate::time::Timestamp;

/// Parameters of the test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScanParams {
    /// Failed minus served first contacts that decide.
    pub margin: usize,
    /// How long a contact counts.
    pub window: Duration,
    /// Sources followed at once; the ones with the fewest contacts give way.
    pub sources: usize,
    /// Contacts remembered of one source; the oldest give way.
    pub contacts: usize,
    /// Of the test over hours.
    pub slow: SlowScanParams,
}

impl Default for ScanParams {
    fn default() -> Self {
        Self {
            margin: 15,
            window: Duration::from_secs(60),
            sources: 65_536,
            contacts: 16_384,
            slow: SlowScanParams::default(),
        }
    }
}

/// Port scans and host scans of every source.
#[derive(Debug)]
pub struct Scan {
    params: ScanParams,
    sources: HashMap<Addr, Source>,
    slow: Slow,
    touched: BTreeSet<Addr>,
    next_sweep: Timestamp,
}

#[derive(Debug, Default)]
struct Source {
    contacts: HashMap<Target, Contact>,
    /// Distinct targets by victim.
    victims: HashMap<Addr, Tally>,
    /// Distinct hosts by protocol and port.
    services: HashMap<(u8, u16), Tally>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Target {
    host: Addr,
    proto: u8,
    port: u16,
}

#[derive(Clone, Copy, Debug)]
struct Contact {
    outcome: Outcome,
    first_seen: Timestamp,
    last_seen: Timestamp,
}

#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    failed: usize,
    served: usize,
}

impl Tally {
    const fn exceeds(self, margin: usize) -> bool {
        self.failed >= margin + self.served
    }
}

impl Detector for Scan {
    fn observe(&mut self, event: &FlowEvent) {
        let counts = event.outcome.is_failure() || event.outcome == Outcome::Served;
        if !counts || is_group(event.server.addr) || is_traceroute(event) {
            return;
        }
        self.slow.observe(event);
        if self.sources.len() >= self.params.sources && !self.sources.contains_key(&event.client.addr) {
            self.make_room();
        }
        let source = self.sources.entry(event.client.addr).or_default();
        let target = Target { host: event.server.addr, proto: event.proto, port: event.server.port };
        source.note(target, event);
        if source.contacts.len() > self.params.contacts {
            source.keep_newest(self.params.contacts / 2);
        }
        if event.outcome.is_failure() {
            self.touched.insert(event.client.addr);
        }
    }

    fn tick(&mut self, now: Timestamp, roles: &Roles) -> Vec<Finding> {
        if now >= self.next_sweep {
            self.next_sweep = now + self.params.window / 4;
            let oldest = now - self.params.window;
            self.sources.retain(|_, source| source.expire(oldest));
        }
        let touched = std::mem::take(&mut self.touched);
        let judged = touched.into_iter().filter_map(|addr| {
            let (source, margin) = (self.sources.get(&addr)?, self.params.margin);
            source.judge(addr, margin).filter(|_| source.news(addr, roles) >= margin)
        });
        let mut findings: Vec<Finding> = judged.collect();
        let found = findings.iter().map(|finding| finding.subject).collect();
        findings.extend(self.slow.tick(now, roles, &found));
        findings
    }

    fn is_idle(&self) -> bool {
        self.sources.is_empty()
    }
}

impl Scan {
    /// A detector that has seen nothing.
    #[must_use]
    pub fn new(params: ScanParams) -> Self {
        Self {
            params,
            sources: HashMap::new(),
            slow: Slow::new(params.slow),
            touched: BTreeSet::new(),
            next_sweep: Timestamp::EPOCH,
        }
    }

    fn make_room(&mut self) {
        const FEW: usize = 2;
        self.sources.retain(|_, source| source.contacts.len() > FEW);
        if self.sources.len() >= self.params.sources {
            self.sources.clear();
        }
    }
}

impl Source {
    fn note(&mut self, target: Target, event: &FlowEvent) {
        let known = self.contacts.get(&target).copied();
        // Once served, a service stays known: a later failure to reach it is an outage, not a probe.
        let outcome = match known {
            Some(contact) if contact.outcome == Outcome::Served => Outcome::Served,
            _ => event.outcome,
        };
        let first_seen = known.map_or(event.first_seen, |contact| contact.first_seen.min(event.first_seen));
        self.contacts.insert(target, Contact { outcome, first_seen, last_seen: event.last_seen });
        match known {
            Some(contact) if contact.outcome == outcome => {}
            Some(contact) => {
                self.count(target, outcome, true);
                self.count(target, contact.outcome, false);
            }
            None => self.count(target, outcome, true),
        }
    }

    fn count(&mut self, target: Target, outcome: Outcome, add: bool) {
        let victim = self.victims.entry(target.host).or_default();
        victim.shift(outcome, add);
        if victim.failed + victim.served == 0 {
            self.victims.remove(&target.host);
        }
        let key = (target.proto, target.port);
        let service = self.services.entry(key).or_default();
        service.shift(outcome, add);
        if service.failed + service.served == 0 {
            self.services.remove(&key);
        }
    }

    /// Whether anything is left.
    fn expire(&mut self, oldest: Timestamp) -> bool {
        self.keep(|contact| contact.last_seen >= oldest);
        !self.contacts.is_empty()
    }

    fn keep_newest(&mut self, count: usize) {
        let mut times: Vec<Timestamp> = self.contacts.values().map(|contact| contact.last_seen).collect();
        times.sort_unstable_by(|a, b| b.cmp(a));
        if let Some(&oldest) = times.get(count) {
            self.keep(|contact| contact.last_seen > oldest);
        }
    }

    fn keep(&mut self, wanted: impl Fn(&Contact) -> bool) {
        let gone: Vec<(Target, Outcome)> = self
            .contacts
            .iter()
            .filter(|(_, contact)| !wanted(contact))
            .map(|(target, contact)| (*target, contact.outcome))
            .collect();
        for (target, outcome) in gone {
            self.contacts.remove(&target);
            self.count(target, outcome, false);
        }
    }

    fn judge(&self, source: Addr, margin: usize) -> Option<Finding> {
        let scanned: BTreeSet<Addr> =
            self.victims.iter().filter(|(_, tally)| tally.exceeds(margin)).map(|(host, _)| *host).collect();
        if !scanned.is_empty() {
            return Some(self.finding(Class::PortScan, source, margin, |target, _| scanned.contains(&target.host)));
        }
        let swept: BTreeSet<(u8, u16)> = self
            .services
            .iter()
            .filter(|(_, tally)| tally.exceeds(margin))
            .map(|(service, _)| *service)
            .filter(|service| self.strangers(*service) >= margin)
            .collect();
        if swept.is_empty() {
            return None;
        }
        Some(self.finding(Class::HostScan, source, margin, |target, source| {
            swept.contains(&(target.proto, target.port)) && source.is_stranger(target.host)
        }))
    }

    /// Services asked in vain, less those that the source asks again and again: it is not looking for them.
    fn news(&self, source: Addr, roles: &Roles) -> usize {
        let failed = self.contacts.iter().filter(|(_, contact)| contact.outcome.is_failure());
        failed.filter(|(target, _)| !roles.asks_regularly(source, target.host, target.port)).count()
    }

    /// Hosts asked in vain for a service that have not served the source in any other way.
    fn strangers(&self, service: (u8, u16)) -> usize {
        let failed = self.contacts.iter().filter(|(target, contact)| {
            (target.proto, target.port) == service && contact.outcome.is_failure() && self.is_stranger(target.host)
        });
        failed.count()
    }

    fn is_stranger(&self, host: Addr) -> bool {
        self.victims.get(&host).is_none_or(|tally| tally.served == 0)
    }

    fn finding(&self, class: Class, source: Addr, margin: usize, concerns: impl Fn(&Target, &Self) -> bool) -> Finding {
        let probes: Vec<(&Target, &Contact)> = self
            .contacts
            .iter()
            .filter(|(target, contact)| contact.outcome.is_failure() && concerns(target, self))
            .collect();
        let with = |outcome: Outcome| probes.iter().filter(|(_, contact)| contact.outcome == outcome).count();
        let answered: BTreeSet<u16> = probes
            .iter()
            .filter(|(_, contact)| matches!(contact.outcome, Outcome::Torn | Outcome::HalfOpen))
            .map(|(target, _)| target.port)
            .collect();
        let protocols: BTreeSet<&str> = probes.iter().map(|(target, _)| protocol_name(target.proto)).collect();
        let served = self.contacts.values().filter(|contact| contact.outcome == Outcome::Served).count();
        let mut evidence = BTreeMap::from([
            ("failed_contacts".to_owned(), json!(probes.len())),
            ("served_contacts".to_owned(), json!(served)),
            ("unanswered".to_owned(), json!(with(Outcome::Unanswered))),
            ("refused".to_owned(), json!(with(Outcome::Refused))),
            ("protocols".to_owned(), json!(protocols)),
        ]);
        if !answered.is_empty() {
            evidence.insert("open_ports_found".to_owned(), json!(answered.iter().take(64).collect::<Vec<_>>()));
        }
        Finding {
            class,
            subject: source,
            severity: if answered.is_empty() { Severity::Medium } else { Severity::High },
            attackers: BTreeSet::from([source]),
            victims: probes.iter().map(|(target, _)| target.host).collect(),
            ports: probes.iter().filter(|(target, _)| has_ports(target.proto)).map(|(target, _)| target.port).collect(),
            first_seen: probes.iter().map(|(_, contact)| contact.first_seen).min().unwrap_or_default(),
            last_seen: probes.iter().map(|(_, contact)| contact.last_seen).max().unwrap_or_default(),
            score: saturating_score(probes.len() as f64, margin as f64),
            chance: None,
            evidence,
        }
    }
}

impl Tally {
    fn shift(&mut self, outcome: Outcome, add: bool) {
        let count = if outcome == Outcome::Served { &mut self.served } else { &mut self.failed };
        *count = if add { *count + 1 } else { count.saturating_sub(1) };
    }
}

/// UDP traceroute counts ports up from 33434, its registered port, and none of them is meant to answer.
fn is_traceroute(event: &FlowEvent) -> bool {
    event.proto == proto::UDP && (33_434..33_534).contains(&event.server.port)
}

const fn has_ports(protocol: u8) -> bool {
    matches!(protocol, proto::TCP | proto::UDP | proto::UDPLITE | proto::SCTP)
}

const fn protocol_name(protocol: u8) -> &'static str {
    match protocol {
        proto::TCP => "tcp",
        proto::UDP => "udp",
        proto::ICMP => "icmp",
        proto::ICMPV6 => "icmpv6",
        proto::SCTP => "sctp",
        _ => "other",
    }
}
