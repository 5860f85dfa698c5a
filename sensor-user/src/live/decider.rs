//! Has the engine follow what people decide while it runs: rules, and verdicts on incidents.

use sensor_core::engine::Engine;
use sensor_core::incident::suppress::Rule;
use sensor_models::Mark;
use tracing::{debug, info};

use crate::config::suppress::Suppress;
use crate::store::Verdict;
use crate::store::keeper::{Judged, Keeper};

/// Between the store and the engine.
pub struct Decider {
    /// Way to the store.
    pub keeper: Keeper,
    /// What the configuration says is not to be reported, always.
    pub fixed: Vec<Rule>,
}

impl Decider {
    /// Hands over what was decided since the last call.
    pub fn apply(&self, engine: &mut Engine) {
        let decided = self.keeper.decisions();
        if let Some(rules) = decided.rules {
            debug!(rules = rules.len(), "rules of what is not reported");
            engine.suppress(self.fixed.iter().cloned().chain(rules.iter().map(Suppress::rule)).collect());
        }
        for Judged { incident, verdict, flows } in &decided.judged {
            let mark = match verdict {
                Verdict::Confirmed => Mark::Attack,
                Verdict::FalsePositive => Mark::Normal,
            };
            let rows = engine.judge(incident, mark, flows);
            info!(id = incident.id, verdict = verdict.as_str(), rows, "learning from feedback");
        }
    }
}
