//! What is not reported: the rules of `leuko mute` and of the buttons on Telegram.

use rusqlite::{Connection, Result, TransactionBehavior};
use sensor_core::time::Timestamp;

use super::Store;
use super::audit::{self, Action};
use crate::config::suppress::Suppress;

impl Store {
    /// The rules, by name.
    ///
    /// # Errors
    /// The file cannot be read, or has a rule that is none.
    pub fn mutes(&self) -> Result<Vec<Suppress>> {
        let mut rows = self.db.prepare_cached("SELECT body FROM mute ORDER BY name")?;
        let rows = rows.query_map([], |row| {
            serde_json::from_str(row.get_ref(0)?.as_str()?).map_err(|error| {
                rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
            })
        })?;
        rows.collect()
    }

    /// Adds a rule, in place of one of the same name, and keeps who did.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn add_mute(&mut self, rule: &Suppress, actor: &str, now: Timestamp) -> Result<()> {
        let step = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        put(&step, rule)?;
        let action = Action { actor, action: "mute", target: rule.name(), reason: &rule.raw().reason };
        audit::note(&step, &action, now)?;
        step.commit()
    }

    /// Removes a rule, and keeps who did. Gives whether it was there.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn remove_mute(&mut self, name: &str, actor: &str, now: Timestamp) -> Result<bool> {
        let step = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let removed = step.execute("DELETE FROM mute WHERE name = ?1", [name])? > 0;
        if removed {
            audit::note(&step, &Action { actor, action: "unmute", target: name, reason: "" }, now)?;
        }
        step.commit()?;
        Ok(removed)
    }
}

fn put(db: &Connection, rule: &Suppress) -> Result<()> {
    let body = serde_json::to_string(rule).expect("a rule has nothing that JSON has not");
    db.execute("INSERT OR REPLACE INTO mute (name, body) VALUES (?1, ?2)", [rule.name(), &body])?;
    Ok(())
}
