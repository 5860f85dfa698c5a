//! `leuko incidents`, `leuko feedback` and `leuko audit`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use sensor_core::contract::{IncidentLine, State};
use sensor_core::incident::{Change, IncidentEvent, Language};
use sensor_core::net;
use sensor_core::time::Timestamp;
use serde::Serialize;
use serde_json::json;

use super::{actor, now, print};
use crate::cli::incidents::{AuditArgs, FeedbackArgs, IncidentsAction, ListArgs};
use crate::notify::text;
use crate::printer::Printer;
use crate::store::{Incidents, Judgement, Kept, Store, Verdict};
use crate::terminal::Reader;

/// Time between two looks of `tail`.
const LOOK: Duration = Duration::from_millis(250);
/// Events that are read at once.
const PAGE: u32 = 256;

/// Lists, shows or follows incidents.
///
/// # Errors
/// There is no store, no such incident, or the file cannot be read.
pub fn run(state_dir: &Path, action: &IncidentsAction) -> Result<ExitCode> {
    let store = Store::open_existing(state_dir)?;
    match action {
        IncidentsAction::List(args) => print(list(&store, args)?.as_bytes()),
        IncidentsAction::Show { id, json } => print(show(&store, id, *json)?.as_bytes()),
        IncidentsAction::Tail { lines, json } => tail(&store, *lines, *json),
    }
}

/// Keeps what a person says of an incident.
///
/// # Errors
/// There is no store or no such incident, or it cannot be written.
pub fn feedback(state_dir: &Path, args: &FeedbackArgs) -> Result<ExitCode> {
    let mut store = Store::open_existing(state_dir)?;
    let kept = find(&store, &args.id)?;
    let judgement = Judgement { verdict: args.verdict.into(), reason: text::clip(&text::plain(&args.reason), 200) };
    store.judge(&kept.incident.id, &judgement, &actor(), now())?;
    let mut told = format!("{} is {}\n", kept.incident.id, words(judgement.verdict));
    if judgement.verdict == Verdict::FalsePositive {
        let from: Vec<String> = kept.incident.attackers.iter().take(8).map(ToString::to_string).collect();
        if !from.is_empty() {
            let _ = writeln!(
                told,
                "to hear of it no more: leuko mute add NAME --class {} --from {} --for 30d --reason ... --dry-run",
                kept.incident.class,
                from.join(",")
            );
        }
    }
    print(told.as_bytes())
}

/// Prints who did what.
///
/// # Errors
/// There is no store, or it cannot be read.
pub fn audit(state_dir: &Path, args: &AuditArgs) -> Result<ExitCode> {
    let store = Store::open_existing(state_dir)?;
    let since = args.since.map(|moment| moment.at(now())).unwrap_or_default();
    let mut out = String::new();
    for done in store.audit(since, args.limit).context("read the audit trail")? {
        if args.json {
            let line = json!({
                "at": done.at.epoch_seconds(), "actor": done.actor, "action": done.action, "target": done.target,
                "reason": done.reason,
            });
            let _ = writeln!(out, "{line}");
        } else {
            let [actor, target, reason] = [&done.actor, &done.target, &done.reason].map(|text| text::plain(text));
            let _ = writeln!(out, "{}  {actor:<20} {:<15} {target:<20} {reason}", done.at, done.action);
        }
    }
    if out.is_empty() && !args.json {
        out += "nothing was done\n";
    }
    print(out.as_bytes())
}

/// One incident with what became of it.
#[derive(Serialize)]
struct Line {
    #[serde(flatten)]
    incident: IncidentLine,
    closed_at: Option<f64>,
    events: u32,
    feedback: Option<&'static str>,
    feedback_reason: Option<String>,
    muted_by: Option<String>,
}

impl From<&Kept> for Line {
    fn from(kept: &Kept) -> Self {
        let state = if kept.closed_at.is_some() { State::Closed } else { State::Open };
        Self {
            incident: IncidentLine::with_state(&kept.incident, state),
            closed_at: kept.closed_at.map(Timestamp::epoch_seconds),
            events: kept.events,
            feedback: kept.judgement.as_ref().map(|judgement| judgement.verdict.as_str()),
            feedback_reason: kept.judgement.as_ref().map(|judgement| judgement.reason.clone()),
            muted_by: kept.muted_by.clone(),
        }
    }
}

fn list(store: &Store, args: &ListArgs) -> Result<String> {
    let now = now();
    let which = Incidents {
        since: args.since.map(|moment| moment.at(now)),
        until: args.until.map(|moment| moment.at(now)),
        classes: args.class.iter().copied().collect(),
        min_severity: args.severity,
        host: args.host.map(|network| net::Network::new(network.addr(), network.prefix_len())),
        open: args.open.then_some(true),
        verdict: args.feedback.map(Into::into),
        without_muted: !args.muted,
        limit: Some(args.limit),
    };
    let found = store.incidents(&which).context("read the incidents")?;
    let mut out = String::new();
    for kept in &found {
        if args.json {
            out += &(serde_json::to_string(&Line::from(kept)).context("print an incident as JSON")? + "\n");
        } else {
            out += &row(kept);
        }
    }
    if !args.json && found.is_empty() {
        out += "no incidents\n";
    } else if !args.json && found.len() == args.limit as usize {
        let _ = writeln!(out, "only the latest {} are shown: --limit shows more", args.limit);
    }
    Ok(out)
}

fn row(kept: &Kept) -> String {
    let incident = &kept.incident;
    let from = text::attackers(incident, 2, Language::En);
    let to = text::list(&incident.victims, 2, Language::En);
    let state = match kept.closed_at {
        None => "open".to_owned(),
        Some(_) => text::span(incident.last_seen.since(incident.first_seen)),
    };
    let said = kept.judgement.as_ref().map(|judgement| words(judgement.verdict).to_owned());
    let said: Vec<String> =
        said.into_iter().chain(kept.muted_by.as_ref().map(|rule| format!("muted by {rule}"))).collect();
    let line = format!(
        "{}  {}  {:<8}  {:<16}  {state:>12}  {from} > {to}  {}",
        incident.detected_at,
        text::plain(&incident.id),
        incident.severity,
        incident.class,
        said.join(", ")
    );
    line.trim_end().to_owned() + "\n"
}

fn show(store: &Store, id: &str, json: bool) -> Result<String> {
    let kept = find(store, id)?;
    let history = store.history(&kept.incident.id).context("read what happened to it")?;
    if json {
        let mut line = serde_json::to_value(Line::from(&kept)).context("print an incident as JSON")?;
        line["history"] = history.iter().map(moment).collect();
        return Ok(line.to_string() + "\n");
    }
    let incident = &kept.incident;
    let mut rows = vec![
        ("id", incident.id.clone()),
        ("class", incident.class.to_string()),
        ("severity", incident.severity.to_string()),
        ("from", text::attackers(incident, usize::MAX, Language::En)),
        ("to", text::list(&incident.victims, usize::MAX, Language::En)),
        ("ports", text::list(&incident.ports, usize::MAX, Language::En)),
        ("first seen", incident.first_seen.to_string()),
        ("found", incident.detected_at.to_string()),
        ("last seen", incident.last_seen.to_string()),
        ("over", kept.closed_at.map_or_else(|| "not yet".to_owned(), |at| at.to_string())),
        ("score", format!("{:.2}", incident.score)),
        ("feedback", kept.judgement.as_ref().map_or_else(String::new, said)),
        ("muted by", kept.muted_by.clone().unwrap_or_default()),
    ];
    rows.retain(|(_, value)| !value.is_empty());
    let mut out = format!("{}\n", text::plain(&incident.summary));
    for (name, value) in rows {
        let _ = writeln!(out, "  {name:<11} {}", text::plain(&value));
    }
    out += "evidence\n";
    for (name, value) in &incident.evidence {
        let _ = writeln!(out, "  {:<28} {}", text::plain(name), text::plain(&value.to_string()));
    }
    out += "history\n";
    for event in &history {
        let sentence = text::plain(&event.incident.summary);
        let _ = writeln!(out, "  {}  {:<8} {:<8} {sentence}", event.at, change(event), event.incident.severity);
    }
    Ok(out)
}

fn said(judgement: &Judgement) -> String {
    let reason = if judgement.reason.is_empty() { String::new() } else { format!(": {}", judgement.reason) };
    words(judgement.verdict).to_owned() + &reason
}

fn moment(event: &IncidentEvent) -> serde_json::Value {
    json!({
        "at": event.at.epoch_seconds(), "change": change(event), "severity": event.incident.severity,
        "summary": event.incident.summary,
    })
}

const fn change(event: &IncidentEvent) -> &'static str {
    match event.change {
        Change::Opened => "opened",
        Change::Updated => "updated",
        Change::Closed => "closed",
    }
}

fn tail(store: &Store, lines: u32, json: bool) -> Result<ExitCode> {
    let mut printer = Printer::stdout(json, true);
    let mut after = if lines == 0 { Some(store.last_event()?) } else { None };
    loop {
        let limit = if after.is_none() { lines } else { PAGE };
        let events = store.events(after, limit).context("read what happened")?;
        for (seq, event) in &events {
            after = Some(*seq);
            if printer.incident(event).context("write to standard output")? == Reader::Gone {
                return Ok(ExitCode::SUCCESS);
            }
        }
        after = after.or(Some(0));
        if events.len() < PAGE as usize {
            thread::sleep(LOOK);
        }
    }
}

fn find(store: &Store, id: &str) -> Result<Kept> {
    match store.incident(id).context("read the incident")? {
        Some(kept) => Ok(kept),
        None => bail!("there is no incident {id}, or several begin so; `leuko incidents list` shows them"),
    }
}

const fn words(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Confirmed => "confirmed",
        Verdict::FalsePositive => "a false positive",
    }
}

/// How many incidents of each class were judged how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// All of them.
    pub incidents: u64,
    /// Those that are attacks, somebody said.
    pub confirmed: u64,
    /// Those that are none.
    pub false_positive: u64,
}

/// Counts incidents by class.
pub fn tally<'a>(incidents: impl Iterator<Item = &'a Kept>) -> BTreeMap<&'static str, Tally> {
    let mut tallies: BTreeMap<&'static str, Tally> = BTreeMap::new();
    for kept in incidents {
        let tally = tallies.entry(kept.incident.class.as_str()).or_default();
        tally.incidents += 1;
        match kept.judgement.as_ref().map(|judgement| judgement.verdict) {
            None => {}
            Some(Verdict::Confirmed) => tally.confirmed += 1,
            Some(Verdict::FalsePositive) => tally.false_positive += 1,
        }
    }
    tallies
}
