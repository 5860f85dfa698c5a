//! Flows of a capture to learn from: replayed as `leuko replay` does, flows of incidents apart.

use std::convert::Infallible;
use std::path::Path;

use anyhow::Result;
use sensor_core::contract::FlowLine;
use sensor_core::features::flow::{FlowVector, vector};
use sensor_core::incident::Class;

use super::rows::{Origin, Rows, class_number};
use super::{Progress, Schema};
use crate::attribution::{FlowSpan, IncidentLog};
use crate::replay::{Output, ReplayOptions, replay};
use crate::source::pcap::Capture;

/// Adds the flows of the capture at `path`.
///
/// # Errors
/// It cannot be opened. Damage ends it and is noted.
pub fn read(path: &Path, options: &ReplayOptions, rows: &mut Rows, progress: &Progress) -> Result<()> {
    let mut capture = Capture::open(path)?;
    let mut options = options.clone();
    options.engine.keep_records = true;
    let mut flows: Vec<(FlowSpan, FlowVector)> = Vec::new();
    let mut incidents = IncidentLog::default();
    progress.begin_count("replaying", path);
    let done: Result<_, Infallible> = replay(&mut capture, options, |output| {
        match output {
            Output::Flow(record) => {
                flows.push((FlowSpan::from(&FlowLine::from(record.as_ref())), vector(&record)));
                progress.at(flows.len() as u64);
            }
            Output::Incident(event) => incidents.note(&event),
            Output::Beacon(_) | Output::Summary(_) => {}
        }
        Ok(())
    });
    let Ok(_) = done;
    let attribution = incidents.attribution();
    let mut origin =
        Origin { path: path.to_owned(), kind: "capture", labelled: true, rows: flows.len(), ..Origin::default() };
    for (span, measured) in flows {
        origin.note_span(span.first_seen, span.last_seen);
        rows.push(&measured, learnable(attribution.class_of(&span).map_or("normal", Class::as_str), Schema::Flows));
    }
    origin.damage = capture.damage().map(ToString::to_string);
    rows.origins.push(origin);
    Ok(())
}

/// The class of a row, or nothing for one that the sensor itself found unusual: what a model like this one has said is
/// neither learned nor a measure.
pub fn learnable(class: &str, schema: Schema) -> Option<u16> {
    (schema != Schema::Flows || class != Class::Anomaly.as_str()).then(|| class_number(class))
}
