//! From findings to incidents: what is suppressed, what the budget allows, and what is said beside the evidence.

use std::collections::BTreeSet;
use std::net::IpAddr;

use sensor_ebpf::abi::Addr;
use serde_json::{Value, json};

use super::Engine;
use crate::detect::{Finding, MINUTE};
use crate::features::host::{self, HostVector, HostWindow};
use crate::flow::FlowTable;
use crate::incident::{COVERAGE, Incident, IncidentEvent, P_VALUE};
use crate::time::Timestamp;

/// Incidents of a tick for which examples of flows are looked for: it takes a look at every flow.
const SAMPLED: usize = 16;

/// Hosts of a finding whose roles are told.
const ROLES: usize = 16;

impl Engine {
    /// Makes a finding part of an incident, if it is to be reported.
    pub(super) fn report(&mut self, finding: Finding, now: Timestamp) -> Vec<IncidentEvent> {
        if self.disabled.contains(&finding.class) {
            return Vec::new();
        }
        let Some(mut finding) = self.suppressor.pass(finding, now) else {
            return Vec::new();
        };
        if !self.book.knows(&finding) && !self.admission.admits(&finding, now) {
            return Vec::new();
        }
        // Rounded down: what is not all is never said to be.
        finding.evidence.insert(COVERAGE.to_owned(), json!((self.coverage * 1e4).floor() / 1e4));
        if let Some(chance) = finding.chance {
            let log10 = chance.log_p / std::f64::consts::LN_10;
            finding.evidence.insert(P_VALUE.to_owned(), json!((log10 * 10.0).round() / 10.0));
        }
        let roles = finding.attackers.iter().chain(&finding.victims).take(ROLES).filter_map(|&addr| {
            let roles = self.roles.of(addr);
            (!roles.is_empty()).then(|| (IpAddr::from(addr).to_string(), json!(roles)))
        });
        let roles: serde_json::Map<String, Value> = roles.collect();
        if !roles.is_empty() {
            finding.evidence.insert("roles".to_owned(), roles.into());
        }
        let (table, looked) = (&self.table, &mut self.looked_for_samples);
        self.book.report(finding, now, |finding| {
            *looked += 1;
            if *looked <= SAMPLED { sample(table, finding) } else { Value::Null }
        })
    }

    /// Learns from the windows that have ended, and adds them to incidents about their hosts.
    pub(super) fn note_windows(&mut self, now: Timestamp) {
        let (book, hosts) = (&mut self.book, &mut self.host_anomaly);
        self.windows.tick(now, |window| {
            hosts.observe(window, book.involves(window.host));
            if book.is_subject(window.host) {
                let name = format!("host_{}s", window.length.as_secs());
                book.note(window.host, &name, &described(window));
                let unusual = hosts.unusual(&window.vector);
                if window.length == MINUTE && !unusual.is_empty() {
                    book.note(window.host, "unusual_in_a_minute", &unusual.into());
                }
            }
        });
    }
}

/// The last minute of the host that an incident is about, if it tells of one.
pub(super) fn minute_of(incident: &Incident) -> Option<HostVector> {
    let told = incident.evidence.get("host_60s")?.as_object()?;
    #[expect(clippy::cast_possible_truncation, reason = "they were single precision before they were told")]
    let column = |name| told.get(name).and_then(Value::as_f64).unwrap_or(0.0) as f32;
    Some(host::COLUMNS.map(column))
}

/// The columns of a window that are not zero, by name.
fn described(window: &HostWindow) -> Value {
    let columns = host::COLUMNS.iter().zip(window.vector).filter(|(_, value)| *value != 0.0);
    columns.map(|(name, value)| ((*name).to_owned(), json!(value))).collect::<serde_json::Map<_, _>>().into()
}

/// Flows between the attackers and the victims of a finding, those to its ports first.
fn sample(table: &FlowTable, finding: &Finding) -> Value {
    const SAMPLES: usize = 3;
    let among = |hosts: &BTreeSet<Addr>, addr: Addr| hosts.is_empty() || hosts.contains(&addr);
    let samples = table.sample(SAMPLES, |flow| {
        let (client, server) = (flow.client.addr, flow.server.addr);
        let towards = among(&finding.attackers, client) && among(&finding.victims, server);
        let back = among(&finding.attackers, server) && among(&finding.victims, client);
        let port = finding.ports.contains(&flow.server.port) || finding.ports.contains(&flow.client.port);
        if towards || back { 1 + u8::from(port) } else { 0 }
    });
    json!(samples)
}
