//! `leuko flows`.

mod table;

use std::io::{self, BufWriter, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rusqlite::Connection;
use sensor_core::contract::Line;
use sensor_core::features::flow::COLUMNS;
use sensor_core::incident::Class;
use tracing::warn;

use super::{now, print};
use crate::attribution::{Attribution, FlowSpan, IncidentLog};
use crate::cli::flows::FlowsArgs;
use crate::export::flows::{ATTACK_CAT, IDENTITY, LABEL, NORMAL, identity};
use crate::export::parquet::ParquetFile;
use crate::export::unsw::UnswRows;
use crate::store::flows::{self, Features, Filter, FlowEntry, FlowRow, Found};
use crate::store::{Incidents, Store};

/// How long an incident may have been found before the flows that are part of it.
const DAY: Duration = Duration::from_secs(86_400);

/// Prints flows of the history, or writes them to a file.
///
/// # Errors
/// There is no history, it cannot be read, or what is asked for cannot be written.
pub fn run(state_dir: &Path, args: &FlowsArgs) -> Result<ExitCode> {
    let mut store = Store::open_existing(state_dir)?;
    let filter = args.filter(now());
    let done =
        if args.summaries { summaries(store.database(), &filter, args) } else { entries(&mut store, filter, args) };
    match done {
        Err(error) if is_gone(&error) => Ok(ExitCode::SUCCESS),
        done => done.map(|()| ExitCode::SUCCESS),
    }
}

/// Whoever read what is printed has gone, as `| head` does: no error.
fn is_gone(error: &anyhow::Error) -> bool {
    let broken = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    error.chain().any(|cause| {
        let kind = cause.downcast_ref::<csv::Error>().map(csv::Error::kind);
        cause.downcast_ref::<io::Error>().is_some_and(broken)
            || matches!(kind, Some(csv::ErrorKind::Io(error)) if broken(error))
            || cause
                .downcast_ref::<serde_json::Error>()
                .is_some_and(|error| error.io_error_kind() == Some(io::ErrorKind::BrokenPipe))
    })
}

/// What is asked for, and what is known of the incidents.
struct Question<'a> {
    conn: &'a mut Connection,
    filter: Filter,
    incidents: Attribution,
    class: Option<Class>,
    /// The one whose flows are asked for.
    only: Option<Attribution>,
}

impl Question<'_> {
    fn each(&mut self, mut each: impl FnMut(FlowEntry, Option<Class>) -> Result<()>) -> Result<Found> {
        let Self { conn, filter, incidents, class, only } = self;
        let keep = |span: &FlowSpan| {
            only.as_ref().is_none_or(|only| only.class_of(span).is_some())
                && class.is_none_or(|class| incidents.class_of(span) == Some(class))
        };
        let everything = only.is_none() && class.is_none();
        let found = flows::query(conn, filter, (!everything).then_some(&keep), |entry| {
            let class = incidents.class_of(&entry.row.span());
            each(entry, class)
        })?;
        if found.gone > 0 {
            warn!(flows = found.gone, "some flows became sums of their hour while the others were read");
        }
        Ok(found)
    }
}

fn entries(store: &mut Store, mut filter: Filter, args: &FlowsArgs) -> Result<()> {
    let incidents = incidents_of(store, &filter)?;
    let only = match &args.incident {
        None => None,
        Some(id) => Some(only(store, id, &mut filter)?),
    };
    let mut question = Question { conn: store.database(), filter, incidents, class: args.class, only };
    if let Some(path) = &args.parquet {
        let rows = parquet(&mut question, path).with_context(|| format!("export to {}", path.display()))?;
        print(format!("{rows} flows in {}\n", path.display()).as_bytes()).map(drop)
    } else if args.csv {
        csv(&mut question)
    } else if args.json {
        json(&mut question)
    } else {
        text(&mut question)
    }
}

/// The flows of one incident, and its hosts and times for the filter: so far fewer flows are looked at.
fn only(store: &Store, id: &str, filter: &mut Filter) -> Result<Attribution> {
    let Some(incident) = store.incident(id)?.map(|kept| kept.incident) else {
        bail!("there is no incident {id}, or several begin so; `leuko incidents list` shows them");
    };
    Ok(filter.narrow(&incident))
}

fn text(question: &mut Question<'_>) -> Result<()> {
    let mut table = table::Table::new(&table::FLOWS);
    let found = question.each(|entry, class| {
        table.push(table::flow(&entry.row.line(), class));
        Ok(())
    })?;
    print(table.with_end("flow", found).as_bytes()).map(drop)
}

fn json(question: &mut Question<'_>) -> Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    question.each(|entry, _| {
        serde_json::to_writer(&mut out, &Line::Flow(entry.row.line()))?;
        Ok(out.write_all(b"\n")?)
    })?;
    Ok(out.flush()?)
}

fn csv(question: &mut Question<'_>) -> Result<()> {
    let mut out = csv::Writer::from_writer(io::stdout().lock());
    out.write_record(csv_header())?;
    question.each(|entry, class| Ok(out.write_record(csv_row(&entry.row, &features(&entry)?, class))?))?;
    Ok(out.flush()?)
}

fn csv_header() -> impl Iterator<Item = &'static str> {
    IDENTITY.into_iter().chain(COLUMNS).chain([LABEL, ATTACK_CAT])
}

/// As [`FlowExport`](crate::export::flows::FlowExport) writes it.
fn csv_row(row: &FlowRow, features: &Features, class: Option<Class>) -> impl Iterator<Item = String> {
    let label = [u8::from(class.is_some()).to_string(), class.map_or(NORMAL, Class::as_str).to_owned()];
    identity(&row.line()).into_iter().chain(features.vector.map(|value| value.to_string())).chain(label)
}

fn parquet(question: &mut Question<'_>, path: &Path) -> Result<u64> {
    let mut rows = UnswRows::default();
    let mut file = ParquetFile::create(path, &UnswRows::example())?;
    question.each(|entry, class| file.row(rows.row(&entry.row, &features(&entry)?, class)))?;
    file.finish()
}

fn features(entry: &FlowEntry) -> Result<Features> {
    entry.row.features().with_context(|| format!("read flow {}", entry.id))
}

fn summaries(conn: &Connection, filter: &Filter, args: &FlowsArgs) -> Result<()> {
    if args.json {
        let mut out = BufWriter::new(io::stdout().lock());
        flows::hours(conn, filter, |sum| {
            serde_json::to_writer(&mut out, &table::HourLine::from(&sum))?;
            Ok(out.write_all(b"\n")?)
        })?;
        Ok(out.flush()?)
    } else if args.csv {
        let mut out = csv::Writer::from_writer(io::stdout().lock());
        out.write_record(table::HOUR_COLUMNS)?;
        flows::hours(conn, filter, |sum| Ok(out.write_record(table::hour_cells(&sum))?))?;
        Ok(out.flush()?)
    } else {
        let mut table = table::Table::new(&table::HOURS);
        let found = flows::hours(conn, filter, |sum| {
            table.push(table::hour(&sum));
            Ok(())
        })?;
        print(table.with_end("sum", found).as_bytes()).map(drop)
    }
}

/// Whose flows are part of an incident, as far as that is what people say.
fn incidents_of(store: &Store, filter: &Filter) -> Result<Attribution> {
    // An incident goes on after it was found: those of the day before may be of the time asked for.
    let since = filter.since.map(|since| since - DAY);
    let incidents = store.incidents(&Incidents { since, ..Incidents::default() }).context("read the incidents")?;
    let mut log = IncidentLog::default();
    for kept in incidents.into_iter().filter(|kept| !kept.is_false()) {
        log.note_last(kept.incident);
    }
    Ok(log.attribution())
}

#[cfg(test)]
mod tests;
