//! What people have decided while the sensor runs: rules, and verdicts on incidents.

use sensor_core::features::flow::FlowVector;
use sensor_core::incident::Incident;
use tracing::warn;

use crate::config::suppress::Suppress;
use crate::store::{Store, Verdict, flows};

/// Under which the store remembers which decisions the sensor knows.
const ENGINE: (&str, &str) = ("engine", "audit");
/// Flows of an incident that a verdict is about, at most.
const FLOWS: u64 = 512;

/// What was decided since the last look.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decisions {
    /// All the rules, if any has changed.
    pub rules: Option<Vec<Suppress>>,
    /// Incidents that were judged.
    pub judged: Vec<Judged>,
}

/// An incident that was judged.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// The incident.
    pub incident: Incident,
    /// What was said of it.
    pub verdict: Verdict,
    /// What models see of its flows, as far as these are kept.
    pub flows: Vec<FlowVector>,
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
        let mut judged = Vec::new();
        for (incident, verdict) in store.judged_after(known)? {
            let flows = flows::vectors(store.database(), &incident, FLOWS).unwrap_or_else(|error| {
                warn!(id = incident.id, %error, "the flows of an incident that was judged cannot be read");
                Vec::new()
            });
            judged.push(Judged { incident, verdict, flows });
        }
        let decisions = Decisions { rules: Some(store.mutes()?), judged };
        store.remember(ENGINE.0, ENGINE.1, &last.to_string())?;
        self.known = Some(last);
        Ok(decisions)
    }
}
