//! What people have decided while the sensor runs: rules, and verdicts on incidents.

use sensor_core::incident::Incident;

use crate::config::suppress::Suppress;
use crate::store::{Store, Verdict};

/// Under which the store remembers which decisions the sensor knows.
const ENGINE: (&str, &str) = ("engine", "audit");

/// What was decided since the last look.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decisions {
    /// All the rules, if any has changed.
    pub rules: Option<Vec<Suppress>>,
    /// Incidents that were judged.
    pub judged: Vec<(Incident, Verdict)>,
}

impl Decisions {
    /// Whether there is nothing new.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_none() && self.judged.is_empty()
    }

    /// Adds what was decided after.
    pub fn extend(&mut self, later: Self) {
        self.rules = later.rules.or(self.rules.take());
        self.judged.extend(later.judged);
    }
}

/// Follows the decisions in a store.
#[derive(Debug, Default)]
pub struct Follower {
    known: Option<i64>,
}

impl Follower {
    /// What was decided since the last call; at first all rules, and what was judged while no sensor ran.
    pub fn look(&mut self, store: &mut Store) -> rusqlite::Result<Decisions> {
        let last = store.last_action()?;
        if self.known == Some(last) {
            return Ok(Decisions::default());
        }
        let known = match self.known {
            Some(known) => known,
            None => store.recall(ENGINE.0, ENGINE.1)?.and_then(|text| text.parse().ok()).unwrap_or(0),
        };
        let decisions = Decisions { rules: Some(store.mutes()?), judged: store.judged_after(known)? };
        store.remember(ENGINE.0, ENGINE.1, &last.to_string())?;
        self.known = Some(last);
        Ok(decisions)
    }
}
