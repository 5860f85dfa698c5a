//! What is blocked, for the next process, and what was done about it.

use rusqlite::{Connection, Result, Transaction};
use sensor_core::respond::{Block, Change, Ending, Offence};
use sensor_core::time::Timestamp;

use super::audit::{self, Action};
use super::{Store, micros};
use crate::respond::line::BlockLine;

/// Who remembers, in the table of memos.
const RESPOND: &str = "respond";
/// What: who was blocked, and how often.
const OFFENCES: &str = "offences";
/// What: since when the sensor is here, in microseconds since the epoch.
const ARMED: &str = "armed_since";
/// The sensor itself, in the audit trail.
const SENSOR: &str = "sensor";

impl Store {
    /// Keeps what was blocked and lifted, and notes it.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn keep_blocks(&mut self, changes: &[Change], now: Timestamp) -> Result<()> {
        let step = self.db.transaction()?;
        for change in changes {
            match change {
                Change::Put(block) => put(&step, block, now)?,
                Change::Lift(block, ending) => lift(&step, block, ending, now)?,
            }
        }
        step.commit()
    }

    /// What is blocked. What cannot be read is not.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn blocks(&self) -> Result<Vec<Block>> {
        let mut rows = self.db.prepare_cached("SELECT body FROM block ORDER BY target")?;
        let bodies = rows.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>>>()?;
        Ok(bodies.iter().filter_map(|body| serde_json::from_str::<BlockLine>(body).ok()?.block()).collect())
    }

    /// Remembers who was blocked, how often, and since when the sensor is here.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn keep_offences(&mut self, offences: &[Offence], armed_since: Timestamp) -> Result<()> {
        let text = serde_json::to_string(offences).unwrap_or_default();
        self.remember(RESPOND, OFFENCES, &text)?;
        self.remember(RESPOND, ARMED, &micros(armed_since).to_string())
    }

    /// Who was blocked, and how often.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn offences(&self) -> Result<Vec<Offence>> {
        let text = self.recall(RESPOND, OFFENCES)?;
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default())
    }

    /// Since when a sensor that responds is here: since now, if this is the first.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn armed_since(&mut self, now: Timestamp) -> Result<Timestamp> {
        let known = self.recall(RESPOND, ARMED)?.and_then(|text| text.parse::<i64>().ok());
        if let Some(at) = known {
            return Ok(super::timestamp(at));
        }
        self.remember(RESPOND, ARMED, &micros(now).to_string())?;
        Ok(now)
    }
}

fn put(db: &Transaction<'_>, block: &Block, now: Timestamp) -> Result<()> {
    let line = BlockLine::from(block);
    let body = serde_json::to_string(&line).unwrap_or_default();
    db.prepare_cached("INSERT OR REPLACE INTO block (target, body) VALUES (?1, ?2)")?
        .execute([&block.target.to_string(), &body])?;
    let action = if block.enforced { "block" } else { "would_block" };
    let until = block.until;
    let why = if block.reason.is_empty() { String::new() } else { format!(": {}", block.reason) };
    note(db, &line.by, action, block, &format!("{}, until {until}{why}", block.measure), now)
}

fn lift(db: &Transaction<'_>, block: &Block, ending: &Ending, now: Timestamp) -> Result<()> {
    db.prepare_cached("DELETE FROM block WHERE target = ?1")?.execute([block.target.to_string()])?;
    let (actor, reason) = match ending {
        Ending::Unblocked { actor, reason } => (actor.as_str(), reason.clone()),
        Ending::Expired | Ending::RolledBack | Ending::Guarded(_) | Ending::Delisted => (SENSOR, ending.to_string()),
    };
    note(db, actor, "unblock", block, &reason, now)
}

fn note(db: &Connection, actor: &str, action: &str, block: &Block, reason: &str, now: Timestamp) -> Result<()> {
    audit::note(db, &Action { actor, action, target: &block.target.to_string(), reason }, now)
}

#[cfg(test)]
mod tests {
    use sensor_core::respond::{Decider, Measure, Scope, Target};

    use super::*;

    #[test]
    fn blocks_are_kept_until_they_are_lifted_and_everything_is_noted() {
        let at = Timestamp::from_secs;
        let mut store = Store::in_memory().unwrap();
        let block = |net: &str, by| Block {
            target: Target::Peer { network: net.parse().unwrap(), scope: Scope::All },
            measure: Measure::Drop,
            enforced: true,
            since: at(100),
            until: at(700),
            by,
            reason: "a test".to_owned(),
        };
        let mine = block("203.0.113.7", Decider::Person("local:alice".to_owned()));
        let own = block("203.0.113.8", Decider::Incident("ab".to_owned()));
        store.keep_blocks(&[Change::Put(mine.clone()), Change::Put(own.clone())], at(100)).unwrap();
        assert_eq!(store.blocks().unwrap(), [mine.clone(), own.clone()]);
        let ending = Ending::Unblocked { actor: "local:bob".to_owned(), reason: "a friend".to_owned() };
        store.keep_blocks(&[Change::Lift(mine, ending), Change::Lift(own, Ending::Expired)], at(200)).unwrap();
        assert!(store.blocks().unwrap().is_empty());
        let audit = store.audit(Timestamp::EPOCH, 10).unwrap();
        let noted: Vec<_> = audit.iter().map(|one| (one.actor.as_str(), one.action.as_str())).collect();
        let expected =
            [("local:alice", "block"), ("incident:ab", "block"), ("local:bob", "unblock"), ("sensor", "unblock")];
        assert_eq!(noted, expected);
    }

    #[test]
    fn a_sensor_knows_since_when_it_is_here() {
        let at = Timestamp::from_secs;
        let mut store = Store::in_memory().unwrap();
        assert_eq!([store.armed_since(at(5)).unwrap(), store.armed_since(at(9)).unwrap()], [at(5); 2]);
        let offences = [Offence { network: "203.0.113.7".parse().unwrap(), count: 3, last: at(7) }];
        store.keep_offences(&offences, at(6)).unwrap();
        assert_eq!((store.offences().unwrap(), store.armed_since(at(9)).unwrap()), (offences.to_vec(), at(6)));
    }
}
