//! What templates see of an event: words and numbers that are safe to print, in the language of the sensor.

use sensor_core::incident::{Change, Incident, Language, Severity};
use sensor_core::time::Timestamp;
use serde::Serialize;

use super::text::{self, clip, plain};
use crate::store::Event;

/// Addresses and ports that are listed.
const LISTED: usize = 10;
/// Lines of evidence.
const EVIDENCE: usize = 48;
const SUMMARY_LIMIT: usize = 1000;
const NAME_LIMIT: usize = 64;

/// A sensor, as messages speak of it.
#[derive(Clone, Debug)]
pub struct Author {
    /// Its name.
    pub sensor: String,
    /// Language of the words.
    pub language: Language,
    /// Where people find more about an incident; nothing where there is no dashboard.
    pub dashboard: Option<String>,
}

/// One event. All text is one line without control characters; templates escape it for what they write.
#[derive(Clone, Debug, Serialize)]
pub struct View {
    /// Name of the sensor.
    pub sensor: String,
    /// Identifies the event; the same whenever it is sent.
    pub key: String,
    /// `opened`, `updated` or `closed`.
    pub change: &'static str,
    /// Whether the severity is higher than at the event before.
    pub rose: bool,
    /// Whether this sink was told of the incident before.
    pub told: bool,
    /// When it happened, `2025-06-15 15:06:40` in UTC.
    pub at: String,
    /// The incident's identifier.
    pub id: String,
    /// `port_scan`, ...
    pub class: &'static str,
    /// The class as people say it.
    pub title: String,
    /// `low`, `medium`, `high` or `critical`.
    pub severity: &'static str,
    /// The severity as people say it.
    pub severity_name: &'static str,
    /// A coloured dot for the severity, green when it is over.
    pub emoji: &'static str,
    /// The severity's colour as `0xrrggbb`, green when it is over.
    pub colour: u32,
    /// In [0, 1], two decimals.
    pub score: String,
    /// One plain sentence.
    pub summary: String,
    /// Who attacks, in words.
    pub attackers: String,
    /// Who is attacked, in words; may be empty.
    pub victims: String,
    /// The victims' ports, in words; may be empty.
    pub ports: String,
    /// First packet of the behaviour, as `at`.
    pub first_seen: String,
    /// Latest packet of the behaviour, as `at`.
    pub last_seen: String,
    /// From the first packet to the latest, in words.
    pub lasted: String,
    /// Counts, rates and features, by name.
    pub evidence: Vec<Evidence>,
    /// Where people find more; may be empty.
    pub link: String,
}

/// One piece of evidence.
#[derive(Clone, Debug, Serialize)]
pub struct Evidence {
    /// Its name.
    pub name: String,
    /// Its value, in short.
    pub value: String,
}

/// Several events in one message.
#[derive(Clone, Debug, Serialize)]
pub struct DigestView {
    /// Name of the sensor.
    pub sensor: String,
    /// How many events there are.
    pub count: usize,
    /// How many incidents they are of.
    pub incidents: usize,
    /// The worst severity as people say it.
    pub severity_name: &'static str,
    /// Its dot.
    pub emoji: &'static str,
    /// Its colour.
    pub colour: u32,
    /// When the first happened.
    pub from: String,
    /// When the last happened.
    pub to: String,
    /// The events, in order.
    pub events: Vec<View>,
    /// The dashboard; may be empty.
    pub link: String,
}

impl View {
    /// What is seen of an event.
    #[must_use]
    pub fn of(event: &Event, author: &Author) -> Self {
        let incident = &event.incident;
        let over = event.change == Change::Closed;
        let (emoji, colour) = if over { ("🟢", 0x2e_a0_43) } else { signal(incident.severity) };
        Self {
            sensor: clip(&plain(&author.sensor), NAME_LIMIT),
            key: plain(&event.key()),
            change: change(event.change),
            rose: event.rose,
            told: event.told,
            at: moment(event.at),
            id: clip(&plain(&incident.id), NAME_LIMIT),
            class: incident.class.as_str(),
            title: text::title(incident.class, author.language).to_owned(),
            severity: incident.severity.as_str(),
            severity_name: text::severity(incident.severity, author.language),
            emoji,
            colour,
            score: format!("{:.2}", incident.score),
            summary: clip(&plain(&incident.summary), SUMMARY_LIMIT),
            attackers: text::attackers(incident, LISTED, author.language),
            victims: text::list(&incident.victims, LISTED, author.language),
            ports: text::list(&incident.ports, LISTED, author.language),
            first_seen: moment(incident.first_seen),
            last_seen: moment(incident.last_seen),
            lasted: text::span(incident.last_seen.since(incident.first_seen)),
            evidence: evidence(incident),
            link: author.link(&incident.id),
        }
    }

    /// The same with less evidence.
    #[must_use]
    pub fn with_evidence(mut self, lines: usize) -> Self {
        self.evidence.truncate(lines);
        self
    }
}

impl DigestView {
    /// What is seen of several events.
    #[must_use]
    pub fn of(events: &[Event], author: &Author) -> Self {
        let worst = events.iter().map(|event| event.incident.severity).max().unwrap_or(Severity::Low);
        let (emoji, colour) = signal(worst);
        let mut incidents: Vec<&str> = events.iter().map(|event| event.incident.id.as_str()).collect();
        incidents.sort_unstable();
        incidents.dedup();
        Self {
            sensor: clip(&plain(&author.sensor), NAME_LIMIT),
            count: events.len(),
            incidents: incidents.len(),
            severity_name: text::severity(worst, author.language),
            emoji,
            colour,
            from: events.first().map(|event| moment(event.at)).unwrap_or_default(),
            to: events.last().map(|event| moment(event.at)).unwrap_or_default(),
            events: events.iter().map(|event| View::of(event, author)).collect(),
            link: author.dashboard.clone().unwrap_or_default(),
        }
    }
}

impl Author {
    /// Where people find more about an incident; empty without a dashboard.
    #[must_use]
    pub fn link(&self, id: &str) -> String {
        let safe = id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        self.dashboard.as_ref().filter(|_| safe).map(|base| format!("{base}/incidents/{id}")).unwrap_or_default()
    }
}

fn evidence(incident: &Incident) -> Vec<Evidence> {
    let evidence = text::evidence(incident).take(EVIDENCE);
    evidence.map(|(name, value)| Evidence { name: clip(&name, NAME_LIMIT), value }).collect()
}

const fn change(change: Change) -> &'static str {
    match change {
        Change::Opened => "opened",
        Change::Updated => "updated",
        Change::Closed => "closed",
    }
}

const fn signal(severity: Severity) -> (&'static str, u32) {
    match severity {
        Severity::Low => ("🔵", 0x38_8b_fd),
        Severity::Medium => ("🟡", 0xd2_99_22),
        Severity::High => ("🟠", 0xdb_6d_28),
        Severity::Critical => ("🔴", 0xda_36_33),
    }
}

/// `2025-06-15 15:06:40`, in UTC.
pub(super) fn moment(at: Timestamp) -> String {
    let text = at.to_string();
    text.split('.').next().unwrap_or(&text).replace('T', " ")
}
