//! The file as a whole: whether it is sound, its size, copies of it, and what is old enough to be forgotten.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, Result, params};
use sensor_core::time::Timestamp;
use serde::Serialize;

use super::{Store, micros};

/// Events, incidents or actions that are forgotten in one transaction.
const STEP: u32 = 2_000;

/// What a store holds.
#[derive(Clone, Debug, Serialize)]
pub struct Holdings {
    /// What is damaged; nothing in a sound file.
    pub damage: Vec<String>,
    /// Bytes in use.
    pub used_bytes: u64,
    /// Bytes of the file that are not used.
    pub free_bytes: u64,
    /// Incidents.
    pub incidents: u64,
    /// Of these, going on.
    pub open_incidents: u64,
    /// Events of incidents.
    pub events: u64,
    /// Deliveries that wait.
    pub pending: u64,
    /// Deliveries that were given up.
    pub dead: u64,
    /// Rules.
    pub mutes: u64,
    /// Entries of the audit trail.
    pub audit: u64,
}

impl Store {
    /// What the store holds, and whether it is sound. Reads all of it.
    ///
    /// # Errors
    /// The file cannot be read at all.
    pub fn holdings(&self) -> Result<Holdings> {
        let count = |sql: &str| self.db.query_row(sql, [], |row| row.get::<_, u64>(0));
        let mut check = self.db.prepare("PRAGMA integrity_check")?;
        let found = check.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>>>()?;
        let free = self.db.pragma_query_value(None, "freelist_count", |row| row.get::<_, u64>(0))?;
        let page = self.db.pragma_query_value(None, "page_size", |row| row.get::<_, u64>(0))?;
        Ok(Holdings {
            damage: found.into_iter().filter(|line| line != "ok").collect(),
            used_bytes: self.size()?,
            free_bytes: free.saturating_mul(page),
            incidents: count("SELECT count(*) FROM incident")?,
            open_incidents: count("SELECT count(*) FROM incident WHERE closed_at IS NULL")?,
            events: count("SELECT count(*) FROM event")?,
            pending: count("SELECT count(*) FROM delivery WHERE fate = 0")?,
            dead: count("SELECT count(*) FROM delivery WHERE fate = 3")?,
            mutes: count("SELECT count(*) FROM mute")?,
            audit: count("SELECT count(*) FROM audit")?,
        })
    }

    /// Writes the file anew, without the room that is not used. Nobody can write meanwhile.
    ///
    /// # Errors
    /// There is no room for a second copy, or somebody writes.
    pub fn compact(&mut self) -> Result<()> {
        self.db.execute_batch("VACUUM; PRAGMA wal_checkpoint(TRUNCATE);")
    }

    /// Copies the store as it is at this moment to a file that is not there yet.
    ///
    /// # Errors
    /// The file is there, or cannot be written.
    pub fn copy_to(&self, file: &Path) -> Result<()> {
        self.db.execute("VACUUM INTO ?1", [file.to_string_lossy()])?;
        Ok(())
    }

    /// Forgets what is older than `keep`, but no incident that is open and no event that somebody waits for. Gives whether
    /// there is more to forget.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn forget_older(&mut self, keep: Duration, now: Timestamp) -> Result<bool> {
        let before = micros(now - keep);
        let step = self.db.transaction()?;
        let mut most = 0;
        for sql in [
            "DELETE FROM delivery WHERE seq IN (SELECT seq FROM event WHERE kept_at < ?1 AND NOT EXISTS
             (SELECT 1 FROM delivery d WHERE d.seq = event.seq AND d.fate = 0) ORDER BY seq LIMIT ?2)",
            "DELETE FROM event WHERE seq IN (SELECT seq FROM event WHERE kept_at < ?1 AND NOT EXISTS
             (SELECT 1 FROM delivery d WHERE d.seq = event.seq) ORDER BY seq LIMIT ?2)",
            "DELETE FROM incident WHERE id IN (SELECT id FROM incident WHERE detected_at < ?1 AND closed_at < ?1
             AND NOT EXISTS (SELECT 1 FROM event WHERE event.incident = incident.id) LIMIT ?2)",
            "DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE at < ?1 ORDER BY id LIMIT ?2)",
        ] {
            most = most.max(step.execute(sql, params![before, STEP])?);
        }
        step.execute(
            "DELETE FROM incident_host WHERE NOT EXISTS (SELECT 1 FROM incident WHERE id = incident_host.incident)
             AND ?1 > 0",
            [most],
        )?;
        step.execute(
            "DELETE FROM memo WHERE ?1 > 0 AND (length(about) = 16 OR about LIKE 'message:%' OR about LIKE 'muted:%'
             OR about LIKE 'judged:%') AND NOT EXISTS
             (SELECT 1 FROM incident WHERE id = substr(memo.about, instr(memo.about, ':') + 1))",
            [most],
        )?;
        step.commit()?;
        Ok(most >= STEP as usize)
    }
}

/// What is wrong with a file that cannot be opened as a store.
///
/// # Errors
/// It cannot be read at all.
pub fn damage(path: &Path) -> Result<Vec<String>> {
    let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let mut check = db.prepare("PRAGMA integrity_check")?;
    let found = check.query_map([], |row| row.get::<_, String>(0))?;
    found.filter(|line| !line.as_ref().is_ok_and(|line| line == "ok")).collect()
}
