//! An incident as the store keeps it: JSON that a later version can still read.

use std::collections::BTreeMap;
use std::net::IpAddr;

use sensor_core::incident::{Class, Incident, Severity};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{micros, timestamp};

/// Apart from the domain's type, so that the domain can change and the file need not.
#[derive(Debug, Serialize, Deserialize)]
pub struct Record {
    id: String,
    class: Class,
    severity: Severity,
    attackers: Vec<IpAddr>,
    victims: Vec<IpAddr>,
    ports: Vec<u16>,
    first_seen: i64,
    detected_at: i64,
    last_seen: i64,
    score: f64,
    summary: String,
    evidence: BTreeMap<String, Value>,
}

impl Record {
    /// The JSON of an incident.
    pub fn text(incident: &Incident) -> String {
        serde_json::to_string(&Self::from(incident)).expect("it has nothing that JSON has not")
    }

    /// The incident of a JSON.
    pub fn incident(text: &str) -> serde_json::Result<Incident> {
        serde_json::from_str::<Self>(text).map(Incident::from)
    }
}

impl From<&Incident> for Record {
    fn from(incident: &Incident) -> Self {
        Self {
            id: incident.id.clone(),
            class: incident.class,
            severity: incident.severity,
            attackers: incident.attackers.clone(),
            victims: incident.victims.clone(),
            ports: incident.ports.clone(),
            first_seen: micros(incident.first_seen),
            detected_at: micros(incident.detected_at),
            last_seen: micros(incident.last_seen),
            score: incident.score,
            summary: incident.summary.clone(),
            evidence: incident.evidence.clone(),
        }
    }
}

impl From<Record> for Incident {
    fn from(record: Record) -> Self {
        Self {
            id: record.id,
            class: record.class,
            severity: record.severity,
            attackers: record.attackers,
            victims: record.victims,
            ports: record.ports,
            first_seen: timestamp(record.first_seen),
            detected_at: timestamp(record.detected_at),
            last_seen: timestamp(record.last_seen),
            score: record.score,
            summary: record.summary,
            evidence: record.evidence,
        }
    }
}
