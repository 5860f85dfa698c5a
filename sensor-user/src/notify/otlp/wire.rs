//! The JSON of `ExportLogsServiceRequest`.
//!
//! Source: <https://github.com/open-telemetry/opentelemetry-proto>, and the mapping of Protocol Buffers to JSON: 64-bit integers
//! are strings.

use sensor_core::incident::{Incident, Severity};
use serde_json::{Value, json};

use crate::notify::text::clip;
use crate::notify::view::{Author, View};
use crate::store::Event;

/// Longest text of the body and of an attribute, in characters.
const TEXT: usize = 4096;

/// One request of several records.
pub fn request(events: &[Event], author: &Author) -> Value {
    let records: Vec<Value> = events.iter().map(|event| record(event, author)).collect();
    let version = env!("CARGO_PKG_VERSION");
    let resource = [
        attribute("service.name", &json!("leuko")),
        attribute("service.version", &json!(version)),
        attribute("host.name", &json!(author.sensor)),
    ];
    json!({"resourceLogs": [{
        "resource": {"attributes": resource},
        "scopeLogs": [{"scope": {"name": "leuko", "version": version}, "logRecords": records}],
    }]})
}

fn record(event: &Event, author: &Author) -> Value {
    let view = View::of(event, author);
    let (number, text) = severity(event.incident.severity);
    json!({
        "timeUnixNano": event.at.nanos().to_string(),
        "observedTimeUnixNano": event.kept_at.nanos().to_string(),
        "severityNumber": number,
        "severityText": text,
        "eventName": format!("leuko.incident.{}", view.change),
        "body": {"stringValue": view.summary},
        "attributes": attributes(event, &event.incident, &view),
    })
}

fn attributes(event: &Event, incident: &Incident, view: &View) -> Vec<Value> {
    let addresses = |addresses: &[std::net::IpAddr]| addresses.iter().map(ToString::to_string).collect::<Vec<_>>();
    let mut attributes = vec![
        attribute("log.record.uid", &json!(view.key)),
        attribute("incident.id", &json!(view.id)),
        attribute("incident.change", &json!(view.change)),
        attribute("incident.class", &json!(view.class)),
        attribute("incident.severity", &json!(view.severity)),
        attribute("incident.rose", &json!(event.rose)),
        attribute("incident.score", &json!(incident.score)),
        attribute("incident.attackers", &json!(addresses(&incident.attackers))),
        attribute("incident.victims", &json!(addresses(&incident.victims))),
        attribute("incident.ports", &json!(incident.ports)),
        attribute("incident.first_seen", &json!(incident.first_seen.to_string())),
        attribute("incident.detected_at", &json!(incident.detected_at.to_string())),
        attribute("incident.last_seen", &json!(incident.last_seen.to_string())),
        attribute("incident.evidence", &json!(incident.evidence)),
    ];
    if !view.link.is_empty() {
        attributes.push(attribute("incident.link", &json!(view.link)));
    }
    attributes
}

fn attribute(name: &str, value: &Value) -> Value {
    json!({"key": name, "value": any(value)})
}

/// `AnyValue`.
fn any(value: &Value) -> Value {
    match value {
        Value::Null => json!({}),
        Value::Bool(flag) => json!({"boolValue": flag}),
        Value::String(text) => json!({"stringValue": clip(text, TEXT)}),
        Value::Array(items) => json!({"arrayValue": {"values": items.iter().map(any).collect::<Vec<_>>()}}),
        Value::Object(fields) => {
            let values: Vec<Value> = fields.iter().map(|(name, value)| attribute(name, value)).collect();
            json!({"kvlistValue": {"values": values}})
        }
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => json!({"intValue": integer.to_string()}),
            (None, Some(float)) => json!({"doubleValue": float}),
            (None, None) => json!({"stringValue": number.to_string()}),
        },
    }
}

/// The first of four numbers of `INFO`, `WARN`, `ERROR` and `FATAL`.
const fn severity(severity: Severity) -> (u8, &'static str) {
    match severity {
        Severity::Low => (9, "low"),
        Severity::Medium => (13, "medium"),
        Severity::High => (17, "high"),
        Severity::Critical => (21, "critical"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_type() {
        let value = json!({"a": [1, -2, 0.5, true, null, "x"], "big": u64::MAX});
        assert_eq!(
            any(&value),
            json!({"kvlistValue": {"values": [
                {"key": "a", "value": {"arrayValue": {"values": [
                    {"intValue": "1"}, {"intValue": "-2"}, {"doubleValue": 0.5}, {"boolValue": true}, {}, {"stringValue": "x"},
                ]}}},
                {"key": "big", "value": {"doubleValue": 18_446_744_073_709_551_615.0}},
            ]}})
        );
    }
}
