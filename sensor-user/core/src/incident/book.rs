//! Findings become incidents: one per attack, opened, updated and closed.
//!
//! Findings of one class about one subject are one incident. What several attackers do to one victim at the same time is
//! one attack too: with the third of them their incidents become one about the victim. An incident whose attacker was
//! an attacker or a victim of another before it goes on with that one's story.

mod entry;
mod index;
mod story;

use std::collections::BTreeMap;
use std::time::Duration;

use sensor_ebpf::abi::Addr;
use serde_json::{Value, json};

use self::entry::Entry;
use self::index::Index;
use self::story::Stories;
use super::{Change, Class, Incident, IncidentEvent, Language};
use crate::detect::Finding;
use crate::time::Timestamp;

/// Silence after which an attack is over.
const QUIET: Duration = Duration::from_secs(60);
/// The same of tunnels, which wait for somebody to type, and where a minute is what is looked at.
const QUIET_MINUTES: Duration = Duration::from_secs(300);
/// Attackers of one victim from which their incidents are one.
const MANY: usize = 3;
/// Evidence: the part of the packets that was accounted, at its lowest while the incident was reported.
pub const COVERAGE: &str = "coverage";
/// Evidence: decimal logarithm of the p-value, at its lowest.
pub const P_VALUE: &str = "log10_p_value";

/// Open incidents, at most [`Book::OPEN`].
#[derive(Debug, Default)]
pub struct Book {
    language: Language,
    open: BTreeMap<Key, Entry>,
    index: Index,
    stories: Stories,
    opened: u64,
    not_opened: u64,
}

/// What makes findings one attack. Scans of one source are one, whichever kind was found first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    class: Class,
    subject: Addr,
    /// What many do to the subject, whoever they are.
    collective: bool,
}

impl Book {
    /// Incidents that can be open at once, some kilobytes each; findings beyond are counted.
    pub const OPEN: usize = 4096;

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

    /// Findings so far that found no room for an incident.
    #[must_use]
    pub const fn not_opened(&self) -> u64 {
        self.not_opened
    }

    /// Whether an address attacks or is attacked in an open incident.
    #[must_use]
    pub fn involves(&self, addr: Addr) -> bool {
        self.index.contains(addr)
    }

    /// Whether a finding goes on with an incident that is open.
    #[must_use]
    pub fn knows(&self, finding: &Finding) -> bool {
        self.open.contains_key(&self.key(finding))
    }

    /// Takes in a finding; says what changed, if it is worth telling. `sample` gives examples of the flows behind a new
    /// incident.
    pub fn report(
        &mut self,
        finding: Finding,
        now: Timestamp,
        sample: impl FnOnce(&Finding) -> Value,
    ) -> Vec<IncidentEvent> {
        let key = self.key(&finding);
        if let Some(entry) = self.open.get_mut(&key) {
            let told = entry.grow(finding, now, self.language, &mut self.index);
            return if told { vec![entry.event(Change::Updated, now)] } else { Vec::new() };
        }
        if finding.class == Class::Anomaly && self.involves(finding.subject) {
            return Vec::new();
        }
        if let Some(victim) = self.crowded_victim(&finding) {
            return self.merge(finding, victim, now);
        }
        if self.open.len() >= Self::OPEN {
            self.not_opened += 1;
            return Vec::new();
        }
        self.opened += 1;
        let flows = sample(&finding);
        let mut entry = Entry::new(finding, now, self.language, &mut self.index);
        if flows.as_array().is_some_and(|flows| !flows.is_empty()) {
            entry.incident.evidence.insert("sample_flows".to_owned(), flows);
        }
        self.stories.join(&mut entry);
        let event = entry.event(Change::Opened, now);
        self.open.insert(key, entry);
        vec![event]
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
        self.index.contains(subject) && self.open.keys().any(|key| key.subject == subject)
    }

    /// Closes what has been quiet.
    pub fn expire(&mut self, now: Timestamp) -> Vec<IncidentEvent> {
        self.close(now, |entry| {
            let slow = matches!(
                entry.incident.class,
                Class::Anomaly | Class::Exfiltration | Class::DnsTunnel | Class::IcmpTunnel
            );
            let quiet = if slow { QUIET_MINUTES } else { QUIET };
            now.since(entry.incident.last_seen.max(entry.reported)) >= quiet
        })
    }

    /// Closes everything.
    pub fn close_all(&mut self, now: Timestamp) -> Vec<IncidentEvent> {
        self.close(now, |_| true)
    }

    fn close(&mut self, now: Timestamp, over: impl Fn(&Entry) -> bool) -> Vec<IncidentEvent> {
        let closed: Vec<Entry> = self.open.extract_if(.., |_, entry| over(entry)).map(|(_, entry)| entry).collect();
        closed.into_iter().map(|entry| self.closed(entry, now)).collect()
    }

    fn closed(&mut self, entry: Entry, now: Timestamp) -> IncidentEvent {
        entry.leave(&mut self.index);
        entry.event(Change::Closed, now)
    }

    /// The incident that a finding belongs to: that of the crowd, if there is one about its victim.
    fn key(&self, finding: &Finding) -> Key {
        let crowd = only_victim(finding).map(|victim| Key::of(finding.class, victim, true));
        crowd
            .filter(|crowd| self.open.contains_key(crowd))
            .unwrap_or_else(|| Key::of(finding.class, finding.subject, false))
    }

    /// The victim of a finding, if enough others do the same to it already.
    fn crowded_victim(&self, finding: &Finding) -> Option<Addr> {
        let victim = only_victim(finding)?;
        let alike = self.open.iter().filter(|(key, entry)| same_attack(key, entry, finding));
        (alike.count() + 1 >= MANY).then_some(victim)
    }

    /// Makes one of a finding and of the incidents that are the same attack: the oldest of them goes on.
    fn merge(&mut self, finding: Finding, victim: Addr, now: Timestamp) -> Vec<IncidentEvent> {
        let key = Key::of(finding.class, victim, true);
        let mut alike: Vec<Entry> =
            self.open.extract_if(.., |key, entry| same_attack(key, entry, &finding)).map(|(_, entry)| entry).collect();
        alike.sort_by_key(|entry| entry.incident.detected_at);
        let mut alike = alike.into_iter();
        let Some(mut crowd) = alike.next() else {
            return Vec::new();
        };
        let mut events = Vec::new();
        for mut entry in alike {
            crowd.absorb(&entry, &mut self.index);
            entry.incident.evidence.insert("merged_into".to_owned(), json!(crowd.incident.id));
            events.push(self.closed(entry, now));
        }
        crowd.grow(finding, now, self.language, &mut self.index);
        crowd.incident.evidence.insert("distributed".to_owned(), json!(true));
        events.insert(0, crowd.event(Change::Updated, now));
        self.open.insert(key, crowd);
        events
    }
}

impl Key {
    fn of(class: Class, subject: Addr, collective: bool) -> Self {
        let class = if class == Class::HostScan { Class::PortScan } else { class };
        Self { class, subject, collective }
    }
}

/// The victim of an attack that many can make together: other attacks are about a victim already, or about a source.
fn only_victim(finding: &Finding) -> Option<Addr> {
    let joint = matches!(finding.class, Class::PortScan | Class::BruteForce | Class::Beacon | Class::DnsTunnel);
    let victim = finding.victims.first().filter(|_| joint && finding.victims.len() == 1)?;
    (finding.subject != *victim).then_some(*victim)
}

fn same_attack(key: &Key, entry: &Entry, finding: &Finding) -> bool {
    let ports = finding.class == Class::PortScan || entry.shares_a_port(finding);
    key.class == Key::of(finding.class, finding.subject, false).class
        && entry.incident.class == finding.class
        && !key.collective
        && entry.has_victims(&finding.victims)
        && ports
}

#[cfg(test)]
impl Book {
    fn index_len(&self) -> usize {
        self.index.len()
    }
}

#[cfg(test)]
mod tests;
