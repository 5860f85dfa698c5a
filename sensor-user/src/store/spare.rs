//! How a store in memory stands in for one that cannot be written, and gives back what it has.

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, Result, TransactionBehavior, params, params_from_iter};
use sensor_core::time::Timestamp;

use super::outbox::write;
use super::record::Record;
use super::{Kept, Settlement, Store};

impl Store {
    /// The number of the last event.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn last_event(&self) -> Result<i64> {
        let mut last = self.db.prepare_cached("SELECT seq FROM sqlite_sequence WHERE name = 'event'")?;
        Ok(last.query_row([], |row| row.get(0)).optional()?.unwrap_or(0))
    }

    /// Bytes of the file that are in use.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn size(&self) -> Result<u64> {
        let number = |pragma: &str| self.db.pragma_query_value(None, pragma, |row| row.get::<_, u64>(0));
        Ok((number("page_count")?.saturating_sub(number("freelist_count")?)).saturating_mul(number("page_size")?))
    }

    /// Numbers events from here on.
    pub(super) fn begin_after(&mut self, seq: i64) -> Result<()> {
        self.db.execute("DELETE FROM sqlite_sequence WHERE name = 'event'", [])?;
        self.db.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('event', ?1)", [seq])?;
        Ok(())
    }

    /// Goes on with an incident of another store.
    pub(super) fn adopt(&mut self, known: &Kept) -> Result<()> {
        let severity = super::incidents::rank(known.incident.severity);
        self.db.execute(
            "INSERT INTO incident (id, class, severity, first_seen, detected_at, last_seen, events, body)
             VALUES (?1, '', ?2, 0, 0, 0, ?3, ?4)",
            params![known.incident.id, severity, known.events, Record::text(&known.incident)],
        )?;
        Ok(())
    }

    /// Takes in all that another store has kept in this one's place; all of it or nothing.
    pub(super) fn take_over(&mut self, spare: &Self, settled: &[Settlement], now: Timestamp) -> Result<()> {
        let step = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        copy(
            (&spare.db, &step),
            "SELECT id, class, severity, first_seen, detected_at, last_seen, closed_at, events, body FROM incident
             WHERE id IN (SELECT incident FROM event)",
            "INSERT INTO incident (id, class, severity, first_seen, detected_at, last_seen, closed_at, events, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
             ON CONFLICT (id) DO UPDATE SET severity = ?3, first_seen = ?4, last_seen = ?6, closed_at = ?7, events = ?8,
             body = ?9",
        )?;
        for (table, columns) in [
            ("incident_host", "addr, incident"),
            ("event", "seq, incident, n, change, rose, at, kept_at, body"),
            ("delivery", "sink, seq, fate, settled_at, note"),
            ("memo", "sink, about, value"),
        ] {
            let places = vec!["?"; columns.split(',').count()].join(", ");
            copy(
                (&spare.db, &step),
                &format!("SELECT {columns} FROM {table}"),
                &format!("INSERT OR REPLACE INTO {table} ({columns}) VALUES ({places})"),
            )?;
        }
        write(&step, settled, now)?;
        step.commit()
    }
}

fn copy((from, to): (&Connection, &Connection), select: &str, insert: &str) -> Result<()> {
    let (mut select, mut insert) = (from.prepare(select)?, to.prepare(insert)?);
    let columns = select.column_count();
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let values = (0..columns).map(|column| row.get::<_, Value>(column)).collect::<Result<Vec<_>>>()?;
        insert.execute(params_from_iter(values))?;
    }
    Ok(())
}
