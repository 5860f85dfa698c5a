//! The outbox: who is to be told of which event, and whether they were.
//!
//! An event stays until each sink has settled it: delivered, not wanted by its configuration, or given up, which a person can
//! see and undo.

use std::time::Duration;

use rusqlite::{Connection, Result, Row, TransactionBehavior, params};
use sensor_core::incident::{Change, Incident};
use sensor_core::time::Timestamp;

use super::incidents::{change_named, incident_of};
use super::{Store, micros, timestamp};

/// An event that a sink is to be told of.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Its place in the order of events.
    pub seq: i64,
    /// Which of its incident it is, from 1.
    pub n: u32,
    /// What happened.
    pub change: Change,
    /// Whether the severity is higher than at the event before.
    pub rose: bool,
    /// Whether an earlier event of the incident was delivered to this sink.
    pub told: bool,
    /// When it happened, in event time.
    pub at: Timestamp,
    /// When it was kept, by the wall clock.
    pub kept_at: Timestamp,
    /// The incident as it was then.
    pub incident: Incident,
}

impl Event {
    /// The same whenever and wherever the event is sent: receivers know duplicates by it.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}.{}", self.incident.id, self.n)
    }
}

/// What became of an event at a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The receiver has it, or a digest that lists it.
    Delivered,
    /// The configuration does not want it told.
    Skipped,
    /// Given up.
    Dead,
}

/// What became of an event at a sink, to be kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Settlement {
    /// Which sink.
    pub sink: String,
    /// Which event.
    pub seq: i64,
    /// What became of it.
    pub fate: Fate,
    /// The digest it was in, or why it was not told.
    pub note: Option<String>,
}

/// Where a sink stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Queue {
    /// The sink.
    pub sink: String,
    /// Events that wait.
    pub pending: u64,
    /// Since when the first of them waits.
    pub oldest: Option<Timestamp>,
    /// Events that were given up.
    pub dead: u64,
}

/// An event that was given up.
#[derive(Clone, Debug, PartialEq)]
pub struct Undelivered {
    /// Which sink.
    pub sink: String,
    /// The event.
    pub event: Event,
    /// When it was given up.
    pub at: Timestamp,
    /// Why.
    pub why: String,
}

/// A sink may be out of the configuration for so long, as with `--no-notify`.
const DAY: Duration = Duration::from_secs(86_400);

impl Store {
    /// The first events that wait for a sink, beyond one that it has dealt with.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn pending(&self, sink: &str, after: i64, limit: usize) -> Result<Vec<Event>> {
        let mut rows = self.db.prepare_cached(&format!(
            "{SELECT} WHERE d.sink = ?1 AND d.fate = 0 AND d.seq > ?2 ORDER BY d.seq LIMIT ?3"
        ))?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        rows.query_map(params![sink, after, limit], event)?.collect()
    }

    /// Keeps what became of events; all of it or nothing.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn settle(&mut self, settled: &[Settlement], now: Timestamp) -> Result<()> {
        let step = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        write(&step, settled, now)?;
        step.commit()
    }

    /// Where each sink stands that anything waits for, or was given up of.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn queues(&self) -> Result<Vec<Queue>> {
        let mut queues: Vec<Queue> = Vec::new();
        let mut pending = self.db.prepare_cached(
            "SELECT sink, waiting, (SELECT kept_at FROM event WHERE seq = first)
             FROM (SELECT sink, count(*) AS waiting, min(seq) AS first FROM delivery WHERE fate = 0 GROUP BY sink)",
        )?;
        let rows = pending.query_map([], |row| {
            let oldest = row.get::<_, Option<i64>>(2)?.map(timestamp);
            Ok(Queue { sink: row.get(0)?, pending: row.get(1)?, oldest, dead: 0 })
        })?;
        for queue in rows {
            queues.push(queue?);
        }
        let mut dead = self.db.prepare_cached("SELECT sink, count(*) FROM delivery WHERE fate = 3 GROUP BY sink")?;
        let rows = dead.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, u64>(1)?)))?;
        for row in rows {
            let (sink, dead) = row?;
            match queues.iter_mut().find(|queue| queue.sink == sink) {
                Some(queue) => queue.dead = dead,
                None => queues.push(Queue { sink, dead, ..Queue::default() }),
            }
        }
        queues.sort_by(|a, b| a.sink.cmp(&b.sink));
        Ok(queues)
    }

    /// What was given up, the earliest first.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn undelivered(&self, sink: Option<&str>, limit: u32) -> Result<Vec<Undelivered>> {
        let mut rows = self.db.prepare_cached(&format!(
            "{SELECT} WHERE d.fate = 3 AND (?1 IS NULL OR d.sink = ?1) ORDER BY d.seq, d.sink LIMIT ?2"
        ))?;
        let rows = rows.query_map(params![sink, limit], |row| {
            Ok(Undelivered {
                sink: row.get("sink")?,
                event: event(row)?,
                at: timestamp(row.get::<_, Option<i64>>("settled_at")?.unwrap_or(0)),
                why: row.get::<_, Option<String>>("note")?.unwrap_or_default(),
            })
        })?;
        rows.collect()
    }

    /// Has what was given up tried again, of one sink or of all; of one incident or of all. Gives how many events.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn resend(&mut self, sink: Option<&str>, incident: Option<&str>) -> Result<usize> {
        self.db.execute(
            "UPDATE delivery SET fate = 0, settled_at = NULL WHERE fate = 3 AND (?1 IS NULL OR sink = ?1)
             AND (?2 IS NULL OR seq IN (SELECT seq FROM event WHERE incident = ?2))",
            params![sink, incident],
        )
    }

    /// Gives up what has waited for a day for sinks that are not configured any more. Gives how many events.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn give_up_others(&mut self, sinks: &[String], now: Timestamp) -> Result<usize> {
        let mut given_up = 0;
        for queue in self.queues()?.iter().filter(|queue| !sinks.contains(&queue.sink)) {
            given_up += self.db.execute(
                "UPDATE delivery SET fate = 3, settled_at = ?2, note = 'the sink is not configured any more'
                 WHERE sink = ?1 AND fate = 0 AND seq IN (SELECT seq FROM event WHERE kept_at < ?3)",
                params![queue.sink, micros(now), micros(now - DAY)],
            )?;
        }
        Ok(given_up)
    }
}

/// As part of a transaction.
pub(super) fn write(db: &Connection, settled: &[Settlement], now: Timestamp) -> Result<()> {
    let mut update =
        db.prepare_cached("UPDATE delivery SET fate = ?3, settled_at = ?4, note = ?5 WHERE sink = ?1 AND seq = ?2")?;
    for one in settled {
        update.execute(params![one.sink, one.seq, code(one.fate), micros(now), one.note])?;
    }
    Ok(())
}

/// `told` goes by what the same sink was told before.
const SELECT: &str = "SELECT e.seq, e.n, e.change, e.rose, e.at, e.kept_at, e.body, d.sink, d.settled_at, d.note,
    EXISTS (SELECT 1 FROM event p JOIN delivery q ON q.seq = p.seq AND q.sink = d.sink
            WHERE p.incident = e.incident AND p.n < e.n AND q.fate = 1) AS told
    FROM delivery d JOIN event e ON e.seq = d.seq";

fn event(row: &Row<'_>) -> Result<Event> {
    let change: String = row.get("change")?;
    Ok(Event {
        seq: row.get("seq")?,
        n: row.get("n")?,
        change: change_named(&change),
        rose: row.get("rose")?,
        told: row.get("told")?,
        at: timestamp(row.get("at")?),
        kept_at: timestamp(row.get("kept_at")?),
        incident: incident_of(row, 6)?,
    })
}

const fn code(fate: Fate) -> i64 {
    match fate {
        Fate::Delivered => 1,
        Fate::Skipped => 2,
        Fate::Dead => 3,
    }
}
