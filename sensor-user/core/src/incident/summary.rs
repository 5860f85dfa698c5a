//! The one plain sentence of an incident.

mod english;
mod spanish;

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Incident;

/// The language of sentences.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Language {
    /// English.
    #[default]
    En,
    /// Spanish.
    Es,
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::En => "en",
            Self::Es => "es",
        })
    }
}

/// Says who does what to whom, with the numbers that matter.
#[must_use]
pub fn summary(incident: &Incident, language: Language) -> String {
    match language {
        Language::En => english::summary(incident),
        Language::Es => spanish::summary(incident),
    }
}

fn total(incident: &Incident, name: &str) -> u64 {
    incident.evidence.get(name).and_then(Value::as_u64).unwrap_or(0)
}

fn number(incident: &Incident, name: &str) -> String {
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
    incident.evidence.get(name).map_or_else(|| "?".to_owned(), plain)
}

/// A share as a percentage.
fn percent(incident: &Incident, name: &str) -> String {
    let share = incident.evidence.get(name).and_then(Value::as_f64);
    share.map_or_else(|| "?".to_owned(), |share| format!("{:.0}", share * 100.0))
}

/// Octets in the unit that keeps the number short.
fn octets(incident: &Incident, name: &str) -> String {
    const UNITS: [&str; 4] = ["B", "kB", "MB", "GB"];
    let Some(mut octets) = incident.evidence.get(name).and_then(Value::as_f64) else {
        return "?".to_owned();
    };
    let mut unit = 0;
    while octets >= 1000.0 && unit + 1 < UNITS.len() {
        octets /= 1000.0;
        unit += 1;
    }
    if unit == 0 || octets >= 100.0 {
        format!("{octets:.0} {}", UNITS[unit])
    } else {
        format!("{octets:.1} {}", UNITS[unit])
    }
}

fn list(incident: &Incident, name: &str) -> String {
    let values = incident.evidence.get(name).and_then(Value::as_array);
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
    values.into_iter().flatten().map(plain).collect::<Vec<_>>().join(", ")
}

/// Names of the features that stood out.
fn features(incident: &Incident) -> String {
    let features = incident.evidence.get("features").and_then(Value::as_array);
    let names = features.into_iter().flatten().filter_map(|feature| feature.get("feature")?.as_str());
    names.collect::<Vec<_>>().join(", ")
}

fn is_true(incident: &Incident, name: &str) -> bool {
    incident.evidence.get(name) == Some(&Value::Bool(true))
}

/// Open ports that a scan has found.
fn found(incident: &Incident) -> usize {
    incident.evidence.get("open_ports_found").and_then(Value::as_array).map_or(0, Vec::len)
}

/// One host by its address, several by their number and an example.
fn hosts(listed: &[IpAddr], total: u64, unknown: &str, several: impl Fn(u64, &IpAddr) -> String) -> String {
    match listed {
        [] => unknown.to_owned(),
        [only] => only.to_string(),
        [first, ..] => several(total, first),
    }
}

/// One port by its number, several by how many they are.
fn ports(incident: &Incident, none: &str, one: &str, several: &str) -> String {
    match incident.ports.as_slice() {
        [] => none.to_owned(),
        [port] => format!("{one} {port}"),
        ports => format!("{} {several}", total(incident, "ports_total").max(ports.len() as u64)),
    }
}

fn duration(incident: &Incident, brief: &str) -> String {
    span(incident.last_seen.since(incident.first_seen).as_secs_f64(), brief)
}

/// A span of time; `brief` is what is said of less than a second.
fn span(seconds: f64, brief: &str) -> String {
    if seconds < 1.0 {
        brief.to_owned()
    } else if seconds < 120.0 {
        format!("{seconds:.0} s")
    } else if seconds < 7200.0 {
        format!("{:.0} min", seconds / 60.0)
    } else {
        format!("{:.0} h", seconds / 3600.0)
    }
}

fn spanned(incident: &Incident, name: &str, brief: &str) -> String {
    incident.evidence.get(name).and_then(Value::as_f64).map_or_else(|| "?".to_owned(), |seconds| span(seconds, brief))
}
