//! What a sink has to remember across restarts, such as the number of the message about an incident.

use rusqlite::{OptionalExtension as _, Result};

use super::Store;

impl Store {
    /// What a sink remembers about something.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn recall(&self, sink: &str, about: &str) -> Result<Option<String>> {
        let mut memo = self.db.prepare_cached("SELECT value FROM memo WHERE sink = ?1 AND about = ?2")?;
        memo.query_row([sink, about], |row| row.get(0)).optional()
    }

    /// Has a sink remember something.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn remember(&mut self, sink: &str, about: &str, value: &str) -> Result<()> {
        self.db
            .prepare_cached("INSERT OR REPLACE INTO memo (sink, about, value) VALUES (?1, ?2, ?3)")?
            .execute([sink, about, value])?;
        Ok(())
    }

    /// Has a sink forget something.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn forget(&mut self, sink: &str, about: &str) -> Result<()> {
        self.db.prepare_cached("DELETE FROM memo WHERE sink = ?1 AND about = ?2")?.execute([sink, about])?;
        Ok(())
    }
}
