//! The flows that are part of an incident.

use anyhow::Result;
use rusqlite::Connection;
use sensor_core::features::flow::FlowVector;
use sensor_core::incident::Incident;
use sensor_ebpf::abi::Addr;

use super::{Filter, query};
use crate::attribution::{Attribution, FlowSpan, IncidentLog};

impl Filter {
    /// Narrows the filter to the hosts and the time of an incident: so far fewer flows are looked at. Which of these are
    /// part of it is for the [`Attribution`] to say.
    pub fn narrow(&mut self, incident: &Incident) -> Attribution {
        self.since = self.since.max(Some(incident.first_seen));
        self.until = Some(self.until.map_or(incident.last_seen, |until| until.min(incident.last_seen)));
        if self.hosts.is_empty() && incident.victims.len() < Incident::LISTED {
            self.hosts = incident.victims.iter().map(|victim| Addr::from(*victim).into()).collect();
        }
        let mut log = IncidentLog::default();
        log.note_last(incident.clone());
        log.attribution()
    }
}

/// What models see of flows that are part of an incident, at most `limit`, those that were stored last.
///
/// # Errors
/// The file cannot be read.
pub fn vectors(conn: &mut Connection, incident: &Incident, limit: u64) -> Result<Vec<FlowVector>> {
    let mut filter = Filter { limit: Some(limit), ..Filter::default() };
    let attribution = filter.narrow(incident);
    let is_part = |span: &FlowSpan| attribution.class_of(span).is_some();
    let mut vectors = Vec::new();
    query(conn, &filter, Some(&is_part), |entry| {
        // Of an earlier layout: it has no vector of today.
        vectors.extend(entry.row.features().map(|features| features.vector));
        Ok(())
    })?;
    Ok(vectors)
}
