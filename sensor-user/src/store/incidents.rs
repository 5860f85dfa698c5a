//! Incidents: written as they happen, read by people.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use rusqlite::{OptionalExtension as _, Result, Row, Transaction, TransactionBehavior, params};
use sensor_core::incident::{Change, Class, Incident, IncidentEvent, Severity};
use sensor_core::net::Network;
use sensor_core::time::Timestamp;
use sensor_ebpf::abi::Addr;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::audit::{self, Action};
use super::record::Record;
use super::{Store, micros, timestamp};

/// What a person said of an incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It was one.
    Confirmed,
    /// It was none.
    FalsePositive,
}

impl Verdict {
    /// The stable identifier.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::FalsePositive => "false_positive",
        }
    }

    fn named(identifier: &str) -> Option<Self> {
        [Self::Confirmed, Self::FalsePositive].into_iter().find(|verdict| verdict.as_str() == identifier)
    }
}

/// A verdict and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// What was said.
    pub verdict: Verdict,
    /// Why; may be empty.
    pub reason: String,
}

/// An incident as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// As it was last.
    pub incident: Incident,
    /// When it was over; nothing while it is open.
    pub closed_at: Option<Timestamp>,
    /// How much has happened to it.
    pub events: u32,
    /// What a person said of it.
    pub judgement: Option<Judgement>,
    /// The rule that was applied to it afterwards.
    pub muted_by: Option<String>,
}

impl Kept {
    /// Whether it is none, somebody said, or nobody wants to hear of it.
    #[must_use]
    pub fn is_false(&self) -> bool {
        let judged = self.judgement.as_ref().map(|judgement| judgement.verdict);
        judged == Some(Verdict::FalsePositive) || (judged.is_none() && self.muted_by.is_some())
    }
}

/// Which incidents; what is left out does not matter.
#[derive(Clone, Debug, Default)]
pub struct Incidents {
    /// Detected not before.
    pub since: Option<Timestamp>,
    /// Detected before.
    pub until: Option<Timestamp>,
    /// Of these classes.
    pub classes: BTreeSet<Class>,
    /// At least so bad.
    pub min_severity: Option<Severity>,
    /// About a host of this network.
    pub host: Option<Network>,
    /// Open, or over.
    pub open: Option<bool>,
    /// What was said of them.
    pub verdict: Option<Verdict>,
    /// Whether those that a rule was applied to are left out.
    pub without_muted: bool,
    /// At most so many, the latest.
    pub limit: Option<u32>,
}

impl Store {
    /// Keeps what happened to incidents, and that each of `sinks` is to be told; all of it or nothing.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn record(&mut self, events: &[Arc<IncidentEvent>], sinks: &[String], now: Timestamp) -> Result<()> {
        let step = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for event in events {
            put(&step, event, sinks, now)?;
        }
        step.commit()
    }

    /// Closes what an earlier process has left open, for it can say no more about it. Gives how many there were.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn close_abandoned(&mut self, sinks: &[String], now: Timestamp) -> Result<usize> {
        let step = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let open = {
            let mut rows =
                step.prepare("SELECT body FROM incident WHERE closed_at IS NULL ORDER BY detected_at, id")?;
            let rows = rows.query_map([], |row| incident_of(row, 0))?;
            rows.collect::<Result<Vec<_>>>()?
        };
        for incident in &open {
            let mut incident = incident.clone();
            incident.evidence.insert("closed_because".to_owned(), json!("the sensor was restarted"));
            put(&step, &IncidentEvent { change: Change::Closed, at: now, incident }, sinks, now)?;
        }
        step.commit()?;
        Ok(open.len())
    }

    /// The incident of an identifier, or of the beginning of one if no other begins so.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn incident(&self, id: &str) -> Result<Option<Kept>> {
        let exact = self.db.prepare_cached(&format!("{SELECT} WHERE id = ?1"))?.query_row([id], kept).optional()?;
        if exact.is_some() || id.is_empty() {
            return Ok(exact);
        }
        // Every identifier that begins so is below the same followed by the last character there is.
        let mut alike = self.db.prepare_cached(&format!("{SELECT} WHERE id >= ?1 AND id < ?2 LIMIT 2"))?;
        let mut alike = alike.query_map([id, &format!("{id}\u{10ffff}")], kept)?.collect::<Result<Vec<_>>>()?;
        Ok(alike.pop().filter(|_| alike.is_empty()))
    }

    /// Incidents, the earliest first; with a limit the latest of them.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn incidents(&self, which: &Incidents) -> Result<Vec<Kept>> {
        let mut sql = format!("{SELECT} WHERE detected_at >= ?1 AND detected_at < ?2 AND severity >= ?3");
        if let Some(open) = which.open {
            sql += if open { " AND closed_at IS NULL" } else { " AND closed_at IS NOT NULL" };
        }
        if let Some(verdict) = which.verdict {
            // One of two words of ours.
            let _ = write!(sql, " AND verdict = '{}'", verdict.as_str());
        }
        if which.without_muted {
            sql += " AND muted_by IS NULL";
        }
        if !which.classes.is_empty() {
            let classes: Vec<String> = which.classes.iter().map(|class| format!("'{class}'")).collect();
            let _ = write!(sql, " AND class IN ({})", classes.join(","));
        }
        if which.host.is_some() {
            sql += " AND id IN (SELECT incident FROM incident_host WHERE addr BETWEEN ?5 AND ?6)";
        }
        sql += " ORDER BY detected_at DESC, id DESC LIMIT ?4";
        let (first, last) = which.host.map_or(([0; 16], [u8::MAX; 16]), range);
        let mut rows = self.db.prepare(&sql)?;
        let bounds = (micros(which.since.unwrap_or_default()), which.until.map_or(i64::MAX, micros));
        let severity = which.min_severity.map_or(0, rank);
        let limit = which.limit.map_or(-1, i64::from);
        let mut found = if which.host.is_some() {
            rows.query_map(params![bounds.0, bounds.1, severity, limit, first, last], kept)?
                .collect::<Result<Vec<_>>>()?
        } else {
            rows.query_map(params![bounds.0, bounds.1, severity, limit], kept)?.collect::<Result<Vec<_>>>()?
        };
        found.reverse();
        Ok(found)
    }

    /// What happened after an event, and the number of each; the latest `limit` if `after` is nothing.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn events(&self, after: Option<i64>, limit: u32) -> Result<Vec<(i64, IncidentEvent)>> {
        let after = match after {
            Some(after) => after,
            None => self.last_event()?.saturating_sub(i64::from(limit)),
        };
        let mut rows =
            self.db.prepare_cached("SELECT seq, change, at, body FROM event WHERE seq > ?1 ORDER BY seq LIMIT ?2")?;
        rows.query_map(params![after, limit], |row| Ok((row.get(0)?, happened(row)?)))?.collect()
    }

    /// What has happened to an incident, in order.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn history(&self, id: &str) -> Result<Vec<IncidentEvent>> {
        let mut rows =
            self.db.prepare_cached("SELECT seq, change, at, body FROM event WHERE incident = ?1 ORDER BY n")?;
        rows.query_map([id], happened)?.collect()
    }

    /// Keeps what a person says of an incident, and who it was. Gives whether there is such an incident.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn judge(&mut self, id: &str, judgement: &Judgement, actor: &str, now: Timestamp) -> Result<bool> {
        let step = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let verdict = judgement.verdict.as_str();
        let judged = step.execute(
            "UPDATE incident SET verdict = ?2, verdict_reason = ?3 WHERE id = ?1",
            [id, verdict, &judgement.reason],
        )?;
        if judged > 0 {
            let action = Action { actor, action: verdict, target: id, reason: &judgement.reason };
            audit::note(&step, &action, now)?;
        }
        step.commit()?;
        Ok(judged > 0)
    }

    /// Marks past incidents as what a rule would have kept from being told.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn mute_past(&mut self, ids: &[&str], rule: &str, actor: &str, now: Timestamp) -> Result<()> {
        let step = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for id in ids {
            step.execute("UPDATE incident SET muted_by = ?2 WHERE id = ?1", [*id, rule])?;
        }
        let reason = format!("applied to {} past incidents", ids.len());
        audit::note(&step, &Action { actor, action: "mute_past", target: rule, reason: &reason }, now)?;
        step.commit()
    }
}

const SELECT: &str = "SELECT body, closed_at, events, verdict, verdict_reason, muted_by FROM incident";

fn kept(row: &Row<'_>) -> Result<Kept> {
    let verdict: Option<String> = row.get(3)?;
    let judgement = match verdict.as_deref().and_then(Verdict::named) {
        Some(verdict) => Some(Judgement { verdict, reason: row.get::<_, Option<String>>(4)?.unwrap_or_default() }),
        None => None,
    };
    Ok(Kept {
        incident: incident_of(row, 0)?,
        closed_at: row.get::<_, Option<i64>>(1)?.map(timestamp),
        events: row.get(2)?,
        judgement,
        muted_by: row.get(5)?,
    })
}

/// The incident in a column of JSON.
pub(super) fn incident_of(row: &Row<'_>, column: usize) -> Result<Incident> {
    Record::incident(row.get_ref(column)?.as_str()?).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
    })
}

fn happened(row: &Row<'_>) -> Result<IncidentEvent> {
    let change: String = row.get(1)?;
    Ok(IncidentEvent { change: change_named(&change), at: timestamp(row.get(2)?), incident: incident_of(row, 3)? })
}

fn put(step: &Transaction<'_>, event: &IncidentEvent, sinks: &[String], now: Timestamp) -> Result<()> {
    let incident = &event.incident;
    let (body, severity) = (Record::text(incident), rank(incident.severity));
    let before: Option<(u32, i64)> = step
        .prepare_cached("SELECT events, severity FROM incident WHERE id = ?1")?
        .query_row([&incident.id], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let n = before.map_or(0, |(events, _)| events).saturating_add(1);
    let rose = before.is_some_and(|(_, before)| severity > before);
    let closed_at = (event.change == Change::Closed).then(|| micros(event.at));
    step.prepare_cached(
        "INSERT INTO incident (id, class, severity, first_seen, detected_at, last_seen, closed_at, events, body)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
         ON CONFLICT (id) DO UPDATE SET severity = ?3, first_seen = ?4, last_seen = ?6, closed_at = ?7, events = ?8,
         body = ?9",
    )?
    .execute(params![
        incident.id,
        incident.class.as_str(),
        severity,
        micros(incident.first_seen),
        micros(incident.detected_at),
        micros(incident.last_seen),
        closed_at,
        n,
        body
    ])?;
    let mut host = step.prepare_cached("INSERT OR IGNORE INTO incident_host (addr, incident) VALUES (?1, ?2)")?;
    for addr in incident.attackers.iter().chain(&incident.victims) {
        host.execute(params![octets(*addr), incident.id])?;
    }
    step.prepare_cached(
        "INSERT INTO event (incident, n, change, rose, at, kept_at, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute(params![incident.id, n, change_name(event.change), rose, micros(event.at), micros(now), body])?;
    let seq = step.last_insert_rowid();
    let mut delivery = step.prepare_cached("INSERT INTO delivery (sink, seq, fate) VALUES (?1, ?2, 0)")?;
    for sink in sinks {
        delivery.execute(params![sink, seq])?;
    }
    Ok(())
}

pub(super) const fn change_name(change: Change) -> &'static str {
    match change {
        Change::Opened => "opened",
        Change::Updated => "updated",
        Change::Closed => "closed",
    }
}

pub(super) fn change_named(name: &str) -> Change {
    match name {
        "opened" => Change::Opened,
        "closed" => Change::Closed,
        _ => Change::Updated,
    }
}

pub(super) fn rank(severity: Severity) -> i64 {
    Severity::ALL.iter().position(|one| *one == severity).and_then(|at| i64::try_from(at).ok()).unwrap_or(0)
}

/// An address as the store keeps it.
fn octets(addr: IpAddr) -> [u8; 16] {
    Addr::from(addr).octets()
}

/// The first and the last address of a network.
fn range(network: Network) -> ([u8; 16], [u8; 16]) {
    let (first, last) = network.bounds();
    (first.octets(), last.octets())
}
