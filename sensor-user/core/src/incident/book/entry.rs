//! One open incident, and everything that is remembered of it but not told.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use sensor_ebpf::abi::Addr;
use serde_json::{Value, json};

use super::index::Index;
use super::{COVERAGE, P_VALUE};
use crate::detect::Finding;
use crate::incident::summary::summary;
use crate::incident::{Change, Class, Incident, IncidentEvent, Language};
use crate::time::Timestamp;

/// Addresses remembered of one incident; beyond that only the listed ones are sure.
const REMEMBERED: usize = 65_536;
/// Moments told of one incident: the first ones and the latest.
const MOMENTS: usize = 16;

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) incident: Incident,
    attackers: BTreeSet<Addr>,
    victims: BTreeSet<Addr>,
    ports: BTreeSet<u16>,
    /// Size at the last event, to tell of growth only when it doubles.
    told: usize,
    /// The latest finding.
    pub(super) reported: Timestamp,
    /// What it was like when it was told of.
    timeline: Vec<Value>,
}

impl Entry {
    pub(super) fn new(finding: Finding, now: Timestamp, language: Language, index: &mut Index) -> Self {
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
            timeline: Vec::new(),
        };
        entry.grow(finding, now, language, index);
        entry
    }

    pub(super) fn event(&self, change: Change, at: Timestamp) -> IncidentEvent {
        IncidentEvent { change, at, incident: self.incident.clone() }
    }

    pub(super) fn attackers(&self) -> &BTreeSet<Addr> {
        &self.attackers
    }

    pub(super) fn victims(&self) -> &BTreeSet<Addr> {
        &self.victims
    }

    pub(super) fn has_victims(&self, victims: &BTreeSet<Addr>) -> bool {
        self.victims == *victims
    }

    pub(super) fn shares_a_port(&self, finding: &Finding) -> bool {
        !self.ports.is_disjoint(&finding.ports)
    }

    /// Whether it grew enough to tell: in severity, or to twice the hosts and ports last told.
    pub(super) fn grow(&mut self, finding: Finding, now: Timestamp, language: Language, index: &mut Index) -> bool {
        self.reported = now;
        // A flood once seen from forged addresses keeps no attackers.
        if is_spoofed(&self.incident.evidence) || is_spoofed(&finding.evidence) {
            std::mem::take(&mut self.attackers).into_iter().for_each(|addr| index.remove(addr));
        } else {
            extend(&mut self.attackers, &finding.attackers, index);
        }
        extend(&mut self.victims, &finding.victims, index);
        self.ports.extend(&finding.ports);
        let incident = &mut self.incident;
        let rose = finding.severity > incident.severity;
        incident.severity = incident.severity.max(finding.severity);
        incident.first_seen = incident.first_seen.min(finding.first_seen);
        incident.last_seen = incident.last_seen.max(finding.last_seen);
        incident.score = incident.score.max(finding.score);
        for (name, value) in finding.evidence {
            merge(&mut incident.evidence, name, value);
        }
        let size = self.attackers.len() + self.victims.len() + self.ports.len();
        let told = rose || size >= 2 * self.told;
        if told {
            self.told = size;
        }
        self.describe(told.then_some(now), language);
        told
    }

    /// Takes over the hosts and the times of another.
    pub(super) fn absorb(&mut self, other: &Self, index: &mut Index) {
        extend(&mut self.attackers, &other.attackers, index);
        extend(&mut self.victims, &other.victims, index);
        self.ports.extend(&other.ports);
        self.incident.severity = self.incident.severity.max(other.incident.severity);
        self.incident.first_seen = self.incident.first_seen.min(other.incident.first_seen);
        self.incident.last_seen = self.incident.last_seen.max(other.incident.last_seen);
        self.incident.score = self.incident.score.max(other.incident.score);
    }

    /// Its hosts are no longer involved.
    pub(super) fn leave(&self, index: &mut Index) {
        self.attackers.iter().chain(&self.victims).for_each(|&addr| index.remove(addr));
    }

    fn describe(&mut self, moment: Option<Timestamp>, language: Language) {
        let incident = &mut self.incident;
        incident.attackers = listed(&self.attackers);
        incident.victims = listed(&self.victims);
        incident.ports = self.ports.iter().copied().take(Incident::LISTED).collect();
        let totals = [
            ("attackers_total", self.attackers.len()),
            ("victims_total", self.victims.len()),
            ("ports_total", self.ports.len()),
        ];
        for (name, count) in totals {
            incident.evidence.insert(name.to_owned(), json!(count));
        }
        let seconds = incident.last_seen.since(incident.first_seen).as_secs_f64();
        incident.evidence.insert("duration_s".to_owned(), json!((seconds * 1000.0).round() / 1000.0));
        if let Some(at) = moment {
            if self.timeline.len() == MOMENTS {
                self.timeline.remove(MOMENTS / 2);
            }
            self.timeline.push(json!({
                "at": at.epoch_seconds(),
                "severity": incident.severity.as_str(),
                "attackers": totals[0].1,
                "victims": totals[1].1,
                "ports": totals[2].1,
            }));
            incident.evidence.insert("timeline".to_owned(), self.timeline.clone().into());
        }
        incident.summary = summary(incident, language);
    }
}

fn is_spoofed(evidence: &BTreeMap<String, Value>) -> bool {
    evidence.get("spoofed") == Some(&Value::Bool(true))
}

fn extend(set: &mut BTreeSet<Addr>, more: &BTreeSet<Addr>, index: &mut Index) {
    for &addr in more {
        if set.len() < REMEMBERED && set.insert(addr) {
            index.add(addr);
        }
    }
}

fn listed(addrs: &BTreeSet<Addr>) -> Vec<IpAddr> {
    let mut listed: Vec<IpAddr> = addrs.iter().take(Incident::LISTED).map(|&addr| addr.into()).collect();
    listed.sort_unstable();
    listed
}

/// Counts are those of the largest window, the coverage and the p-value are the lowest; flags stay set; the rest is as last said.
fn merge(evidence: &mut BTreeMap<String, Value>, name: String, value: Value) {
    let kept = match (evidence.get(&name), &value) {
        (Some(Value::Number(old)), Value::Number(new)) if name == COVERAGE || name == P_VALUE => {
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
