//! Ended flows as CSV, to train on or to look at: `leuko replay --export`.
//!
//! One line a flow: who and when, the columns of [`COLUMNS`] in their units, then whether the flow is part of an
//! incident of this replay (`label`, 0 or 1; the rule is that of [`attribution`](crate::attribution)) and its class
//! (`attack_cat`, `normal` if it is of none). Numbers are written so that they are read back bit for bit. `src` is the
//! sender of the first packet, as in the JSON contract; the `s` and `d` of the columns are the client and the server.
//!
//! Incidents are found after many of their flows have ended, so rows wait in a file beside their place for the labels.

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context as _, Result};
use sensor_core::contract::FlowLine;
use sensor_core::features::flow::{COLUMNS, vector};
use sensor_core::flow::FlowRecord;
use sensor_core::incident::{Class, IncidentEvent};

use crate::atomic::{self, NewFile};
use crate::attribution::{FlowSpan, IncidentLog};

/// Columns before those of the vector: who, when, and how it ended. No model sees them.
pub const IDENTITY: [&str; 8] =
    ["src_addr", "src_port", "dst_addr", "dst_port", "proto", "first_seen", "last_seen", "end_reason"];
/// The column that is 1 for flows of incidents.
pub const LABEL: &str = "label";
/// The column with the class.
pub const ATTACK_CAT: &str = "attack_cat";
/// The class of flows that are part of no incident.
pub const NORMAL: &str = "normal";

/// An export that is being written. What is not [finished](Self::finish) leaves no file.
#[derive(Debug)]
pub struct FlowExport {
    rows: csv::Writer<File>,
    /// Where the rows wait.
    waiting: PathBuf,
    new: Option<NewFile>,
    incidents: IncidentLog,
}

impl FlowExport {
    /// Begins an export to `path`.
    ///
    /// # Errors
    /// There is no such folder, or nothing can be written there.
    pub fn create(path: &Path) -> Result<Self> {
        atomic::check_place(path)?;
        let waiting = atomic::with_suffix(path, ".rows");
        let new = NewFile::create(path)?;
        let file = File::create(&waiting).with_context(|| format!("create {}", waiting.display()))?;
        Ok(Self { rows: csv::Writer::from_writer(file), waiting, new: Some(new), incidents: IncidentLog::default() })
    }

    /// Takes a flow that ended.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn flow(&mut self, record: &FlowRecord) -> Result<()> {
        let row = identity(&FlowLine::from(record)).into_iter().chain(vector(record).map(|value| value.to_string()));
        self.rows.write_record(row).with_context(|| format!("write {}", self.waiting.display()))
    }

    /// Takes what became of an incident.
    pub fn incident(&mut self, event: &IncidentEvent) {
        self.incidents.note(event);
    }

    /// Labels the rows and puts the file in its place. Gives the number of rows.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(mut self) -> Result<u64> {
        self.rows.flush().with_context(|| format!("write {}", self.waiting.display()))?;
        let new = self.new.take().expect("there is one until here");
        let attribution = std::mem::take(&mut self.incidents).attribution();
        let rows = File::open(&self.waiting).with_context(|| format!("read {}", self.waiting.display()))?;
        let class_of = |flow: &FlowSpan| attribution.class_of(flow);
        let count = label(rows, &new.file, class_of).with_context(|| format!("label {}", self.waiting.display()))?;
        new.commit()?;
        Ok(count)
    }
}

/// The cells of [`IDENTITY`].
#[must_use]
pub fn identity(line: &FlowLine) -> [String; IDENTITY.len()] {
    [
        line.src_addr.to_string(),
        line.src_port.to_string(),
        line.dst_addr.to_string(),
        line.dst_port.to_string(),
        line.proto.to_string(),
        line.first_seen.to_string(),
        line.last_seen.to_string(),
        line.end_reason.to_owned(),
    ]
}

impl Drop for FlowExport {
    fn drop(&mut self) {
        atomic::remove(&self.waiting);
    }
}

fn label(rows: impl io::Read, out: impl io::Write, class_of: impl Fn(&FlowSpan) -> Option<Class>) -> Result<u64> {
    let mut rows = csv::ReaderBuilder::new().has_headers(false).from_reader(rows);
    let mut out = csv::Writer::from_writer(out);
    out.write_record(IDENTITY.into_iter().chain(COLUMNS).chain([LABEL, ATTACK_CAT]))?;
    let (mut row, mut count) = (csv::StringRecord::new(), 0);
    while rows.read_record(&mut row)? {
        let class = class_of(&span(&row)?);
        row.push_field(if class.is_some() { "1" } else { "0" });
        row.push_field(class.map_or(NORMAL, Class::as_str));
        out.write_record(&row)?;
        count += 1;
    }
    out.flush()?;
    Ok(count)
}

/// Of a row that begins with [`IDENTITY`].
fn span(row: &csv::StringRecord) -> Result<FlowSpan> {
    fn cell<T: FromStr>(row: &csv::StringRecord, at: usize) -> Result<T>
    where
        T::Err: std::error::Error + Send + Sync + 'static,
    {
        row[at].parse().with_context(|| format!("{} {:?}", IDENTITY[at], &row[at]))
    }
    Ok(FlowSpan {
        src: (cell::<IpAddr>(row, 0)?, cell(row, 1)?),
        dst: (cell::<IpAddr>(row, 2)?, cell(row, 3)?),
        first_seen: cell(row, 5)?,
        last_seen: cell(row, 6)?,
    })
}
