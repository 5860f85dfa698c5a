//! Who did what, when and why.

use rusqlite::{Connection, OptionalExtension as _, Result, params};
use sensor_core::incident::Incident;
use sensor_core::time::Timestamp;

use super::{Store, Verdict, micros, timestamp};

/// Something that was done.
#[derive(Clone, Copy, Debug)]
pub struct Action<'a> {
    /// Who: a user of this host, somebody on Telegram, or the sensor itself.
    pub actor: &'a str,
    /// What, such as `mute` or `false_positive`.
    pub action: &'a str,
    /// To what: an incident, a rule, a sink.
    pub target: &'a str,
    /// Why; may be empty.
    pub reason: &'a str,
}

/// Something that was done, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of Action")]
pub struct Audited {
    pub at: Timestamp,
    pub actor: String,
    pub action: String,
    pub target: String,
    pub reason: String,
}

impl Store {
    /// Keeps what was done.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn note(&mut self, action: &Action<'_>, now: Timestamp) -> Result<()> {
        note(&self.db, action, now)
    }

    /// What was done, the earliest first; at most so many, the latest.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn audit(&self, since: Timestamp, limit: u32) -> Result<Vec<Audited>> {
        let mut rows = self.db.prepare_cached(
            "SELECT at, actor, action, target, reason FROM audit WHERE at >= ?1 ORDER BY id DESC LIMIT ?2",
        )?;
        let rows = rows.query_map(params![micros(since), limit], |row| {
            Ok(Audited {
                at: timestamp(row.get(0)?),
                actor: row.get(1)?,
                action: row.get(2)?,
                target: row.get(3)?,
                reason: row.get(4)?,
            })
        })?;
        let mut found = rows.collect::<Result<Vec<_>>>()?;
        found.reverse();
        Ok(found)
    }
}

impl Store {
    /// The number of the last thing that was done.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn last_action(&self) -> Result<i64> {
        let mut last = self.db.prepare_cached("SELECT seq FROM sqlite_sequence WHERE name = 'audit'")?;
        Ok(last.query_row([], |row| row.get(0)).optional()?.unwrap_or(0))
    }

    /// The incidents that were judged after a thing was done, each with its verdict as it is now.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn judged_after(&self, action: i64) -> Result<Vec<(Incident, Verdict)>> {
        let mut rows = self.db.prepare_cached(
            "SELECT DISTINCT target FROM audit WHERE id > ?1 AND action IN ('confirmed', 'false_positive')",
        )?;
        let ids = rows.query_map([action], |row| row.get(0))?.collect::<Result<Vec<String>>>()?;
        let mut judged = Vec::new();
        for id in ids {
            let known = self.incident(&id)?;
            judged.extend(known.and_then(|kept| Some((kept.incident, kept.judgement?.verdict))));
        }
        Ok(judged)
    }
}

/// As part of a transaction.
pub(super) fn note(db: &Connection, action: &Action<'_>, now: Timestamp) -> Result<()> {
    db.prepare_cached("INSERT INTO audit (at, actor, action, target, reason) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![micros(now), action.actor, action.action, action.target, action.reason])?;
    Ok(())
}
