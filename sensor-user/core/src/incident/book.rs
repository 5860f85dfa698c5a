//! Findings become incidents: one per attack, opened, updated and closed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use sensor_ebpf::abi::Addr;
use serde_json::{Value, json};

use super::summary::summary;
use super::{Change, Class, Incident, IncidentEvent, Language};
use crate::detect::Finding;
use crate::time::Timestamp;

/// Silence after which an attack is over.
const QUIET: Duration = Duration::from_secs(60);
/// Evidence: the part of the packets that was accounted, at its lowest while the incident was reported.
pub const COVERAGE: &str = "coverage";
/// Addresses remembered of one incident; beyond that only the listed ones are sure.
const REMEMBERED: usize = 65_536;

/// Open incidents. Bounded by what detectors can report: their tables of sources and victims.
#[derive(Debug, Default)]
pub struct Book {
    language: Language,
    open: BTreeMap<Key, Entry>,
    opened: u64,
}

/// What makes findings one attack. Scans of one source are one, whichever kind was found first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    class: Class,
    subject: Addr,
}

#[derive(Debug)]
struct Entry {
    incident: Incident,
    attackers: BTreeSet<Addr>,
    victims: BTreeSet<Addr>,
    ports: BTreeSet<u16>,
    /// Size at the last event, to tell of growth only when it doubles.
    told: usize,
    /// The latest finding.
    reported: Timestamp,
}

impl Book {
    /// A book without incidents, that speaks a language.
    #[must_use]
    pub fn new(language: Language) -> Self {
        Self { language, ..Self::default() }
    }

    /// Incidents that are open.
    #[must_use]
    pub fn open(&self) -> impl ExactSizeIterator<Item = &Incident> {
        self.open.values().map(|entry| &entry.incident)
    }

    /// Incidents opened so far.
    #[must_use]
    pub const fn opened(&self) -> u64 {
        self.opened
    }

    /// Whether an address attacks or is attacked in an open incident.
    #[must_use]
    pub fn involves(&self, addr: Addr) -> bool {
        self.open.values().any(|entry| entry.attackers.contains(&addr) || entry.victims.contains(&addr))
    }

    /// Takes in a finding; says what changed, if it is worth telling.
    pub fn report(&mut self, finding: Finding, now: Timestamp) -> Option<IncidentEvent> {
        let key = Key::of(&finding);
        if let Some(entry) = self.open.get_mut(&key) {
            return entry.grow(finding, now, self.language).then(|| IncidentEvent {
                change: Change::Updated,
                at: now,
                incident: entry.incident.clone(),
            });
        }
        if finding.class == Class::Anomaly && self.involves(finding.subject) {
            return None;
        }
        self.opened += 1;
        let entry = Entry::new(finding, now, self.language);
        let event = IncidentEvent { change: Change::Opened, at: now, incident: entry.incident.clone() };
        self.open.insert(key, entry);
        Some(event)
    }

    /// Adds evidence to the open incidents about a subject.
    pub fn note(&mut self, subject: Addr, name: &str, value: &Value) {
        for entry in self.open.iter_mut().filter(|(key, _)| key.subject == subject).map(|(_, entry)| entry) {
            entry.incident.evidence.insert(name.to_owned(), value.clone());
        }
    }

    /// Whether any open incident is about an address.
    #[must_use]
    pub fn is_subject(&self, subject: Addr) -> bool {
        self.open.keys().any(|key| key.subject == subject)
    }

    /// Closes what has been quiet.
    pub fn expire(&mut self, now: Timestamp) -> Vec<IncidentEvent> {
        self.close(now, |entry| now.since(entry.incident.last_seen.max(entry.reported)) >= QUIET)
    }

    /// Closes everything.
    pub fn close_all(&mut self, now: Timestamp) -> Vec<IncidentEvent> {
        self.close(now, |_| true)
    }

    fn close(&mut self, now: Timestamp, over: impl Fn(&Entry) -> bool) -> Vec<IncidentEvent> {
        let closed = self.open.extract_if(.., |_, entry| over(entry));
        closed.map(|(_, entry)| IncidentEvent { change: Change::Closed, at: now, incident: entry.incident }).collect()
    }
}

impl Key {
    fn of(finding: &Finding) -> Self {
        let class = if finding.class == Class::HostScan { Class::PortScan } else { finding.class };
        Self { class, subject: finding.subject }
    }
}

impl Entry {
    fn new(finding: Finding, now: Timestamp, language: Language) -> Self {
        let mut entry = Self {
            incident: Incident {
                id: identifier(finding.class, finding.subject, now),
                class: finding.class,
                severity: finding.severity,
                attackers: Vec::new(),
                victims: Vec::new(),
                ports: Vec::new(),
                first_seen: finding.first_seen,
                detected_at: now,
                last_seen: finding.last_seen,
                score: 0.0,
                summary: String::new(),
                evidence: BTreeMap::new(),
            },
            attackers: BTreeSet::new(),
            victims: BTreeSet::new(),
            ports: BTreeSet::new(),
            told: 0,
            reported: now,
        };
        entry.grow(finding, now, language);
        entry
    }

    /// Whether it grew enough to tell: in severity, or to twice the hosts and ports last told.
    fn grow(&mut self, finding: Finding, now: Timestamp, language: Language) -> bool {
        self.reported = now;
        let incident = &mut self.incident;
        // A flood once seen from forged addresses keeps no attackers.
        let spoofed = incident.evidence.get("spoofed") == Some(&Value::Bool(true)) || is_spoofed(&finding);
        if spoofed {
            self.attackers.clear();
        } else {
            extend(&mut self.attackers, &finding.attackers);
        }
        extend(&mut self.victims, &finding.victims);
        self.ports.extend(&finding.ports);
        let rose = finding.severity > incident.severity;
        incident.severity = incident.severity.max(finding.severity);
        incident.first_seen = incident.first_seen.min(finding.first_seen);
        incident.last_seen = incident.last_seen.max(finding.last_seen);
        incident.score = incident.score.max(finding.score);
        for (name, value) in finding.evidence {
            merge(&mut incident.evidence, name, value);
        }
        incident.attackers = listed(&self.attackers);
        incident.victims = listed(&self.victims);
        incident.ports = self.ports.iter().copied().take(Incident::LISTED).collect();
        for (name, count) in [
            ("attackers_total", self.attackers.len()),
            ("victims_total", self.victims.len()),
            ("ports_total", self.ports.len()),
        ] {
            incident.evidence.insert(name.to_owned(), json!(count));
        }
        let seconds = incident.last_seen.since(incident.first_seen).as_secs_f64();
        incident.evidence.insert("duration_s".to_owned(), json!((seconds * 1000.0).round() / 1000.0));
        incident.summary = summary(incident, language);
        let size = self.attackers.len() + self.victims.len() + self.ports.len();
        let doubled = size >= 2 * self.told;
        if rose || doubled {
            self.told = size;
        }
        rose || doubled
    }
}

fn is_spoofed(finding: &Finding) -> bool {
    finding.evidence.get("spoofed") == Some(&Value::Bool(true))
}

fn extend(set: &mut BTreeSet<Addr>, more: &BTreeSet<Addr>) {
    let room = REMEMBERED.saturating_sub(set.len());
    set.extend(more.iter().take(room));
}

fn listed(addrs: &BTreeSet<Addr>) -> Vec<IpAddr> {
    let mut listed: Vec<IpAddr> = addrs.iter().take(Incident::LISTED).map(|&addr| addr.into()).collect();
    listed.sort_unstable();
    listed
}

/// Counts are those of the largest window, the coverage is the lowest; flags stay set; the rest is as last said.
fn merge(evidence: &mut BTreeMap<String, Value>, name: String, value: Value) {
    let kept = match (evidence.get(&name), &value) {
        (Some(Value::Number(old)), Value::Number(new)) if name == COVERAGE => {
            if old.as_f64() < new.as_f64() {
                return;
            }
            value
        }
        (Some(Value::Number(old)), Value::Number(new)) if old.as_f64() > new.as_f64() => return,
        (Some(Value::Bool(true)), Value::Bool(_)) => return,
        _ => value,
    };
    evidence.insert(name, kept);
}

/// FNV-1a over class, subject and time of detection: the same capture gives the same identifiers.
fn identifier(class: Class, subject: Addr, detected_at: Timestamp) -> String {
    let class = class.as_str().bytes();
    let bytes = class.chain(subject.octets()).chain(detected_at.nanos().to_be_bytes());
    let hash =
        bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{hash:016x}")
}
