//! The JSON of `POST /api/v2/alerts`.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use sensor_core::incident::{Incident, Language};
use serde::Serialize;

use super::board::{Entry, Key};
use crate::notify::text;
use crate::notify::view::Author;
use crate::store::event_time;

/// Firing alerts end by themselves after this many refreshes.
const LIFETIME: u32 = 3;
/// Addresses and ports that an annotation lists.
const LISTED: usize = 16;
/// Characters of the evidence annotation.
const EVIDENCE_LIMIT: usize = 2000;
/// Characters of the summary annotation.
const SUMMARY_LIMIT: usize = 1000;

/// One alert.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Alert {
    labels: BTreeMap<&'static str, String>,
    annotations: BTreeMap<&'static str, String>,
    starts_at: String,
    ends_at: String,
    /// Where people find more.
    #[serde(rename = "generatorURL", skip_serializing_if = "String::is_empty")]
    generator_url: String,
}

impl Alert {
    /// The alert of `entry` as seen at `now`.
    pub fn of((key, entry): (&Key, &Entry), author: &Author, now: SystemTime, resend: Duration) -> Self {
        let now = event_time(now);
        let mut ends_at = match entry.ended {
            Some(end) if entry.seen => event_time(end),
            // Over before it was told: it fires for one refresh, so that somebody hears of it.
            Some(_) => now + resend,
            None => now + resend * LIFETIME,
        };
        // Event time may be ahead of the wall clock; an alert that ends before it starts would be refused.
        let starts_at = entry.incident.detected_at.min(now);
        ends_at = ends_at.max(starts_at);
        Self {
            labels: BTreeMap::from([
                ("alertname", "LeukoIncident".to_owned()),
                ("incident_id", key.id.clone()),
                ("class", entry.incident.class.to_string()),
                ("severity", key.severity.to_string()),
                ("sensor", author.sensor.clone()),
            ]),
            annotations: annotations(&entry.incident, entry.opened_as.as_str(), author.language),
            starts_at: starts_at.to_string(),
            ends_at: ends_at.to_string(),
            generator_url: author.link(&key.id),
        }
    }
}

fn annotations(incident: &Incident, opened_as: &str, language: Language) -> BTreeMap<&'static str, String> {
    let evidence = text::evidence(incident).map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>();
    let mut annotations = BTreeMap::from([
        ("summary", text::clip(&text::plain(&incident.summary), SUMMARY_LIMIT)),
        ("attackers", text::attackers(incident, LISTED, language)),
        ("victims", text::list(&incident.victims, LISTED, language)),
        ("ports", text::list(&incident.ports, LISTED, language)),
        ("score", format!("{:.2}", incident.score)),
        ("severity_now", incident.severity.to_string()),
        ("severity_at_opening", opened_as.to_owned()),
        ("evidence", text::clip(&evidence.join("; "), EVIDENCE_LIMIT)),
        ("first_seen", incident.first_seen.to_string()),
        ("last_seen", incident.last_seen.to_string()),
    ]);
    annotations.retain(|_, text| !text.is_empty());
    annotations
}
