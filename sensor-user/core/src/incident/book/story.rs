//! Incidents that belong together: what one host did first and next, and what became of its victims.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use sensor_ebpf::abi::Addr;
use serde_json::json;

use super::entry::Entry;
use crate::incident::Class;
use crate::time::Timestamp;

/// How long an incident can be gone on with.
const MEMORY: Duration = Duration::from_secs(86_400);
/// Incidents remembered; the oldest give way.
const REMEMBERED: usize = 1024;
/// Addresses remembered of each side of an incident.
const HOSTS: usize = 64;
/// Incidents that one is told to be related to.
const RELATED: usize = 8;

/// The incidents of the last day.
#[derive(Debug, Default)]
pub(super) struct Stories {
    past: VecDeque<Chapter>,
}

#[derive(Debug)]
struct Chapter {
    id: String,
    story: String,
    class: Class,
    at: Timestamp,
    attackers: BTreeSet<Addr>,
    victims: BTreeSet<Addr>,
}

impl Stories {
    /// Relates a new incident to those before it, and remembers it. Evidence: `story` is the identifier of the first
    /// incident of the story, `related` the latest ones before this.
    pub(super) fn join(&mut self, entry: &mut Entry) {
        let now = entry.incident.detected_at;
        while self.past.len() >= REMEMBERED || self.past.front().is_some_and(|past| now.since(past.at) >= MEMORY) {
            self.past.pop_front();
        }
        let related: Vec<(&Chapter, &str)> =
            self.past.iter().rev().filter_map(|past| Some((past, past.relation(entry)?))).take(RELATED).collect();
        let story = related.first().map(|(past, _)| past.story.clone());
        if let Some(story) = &story {
            let evidence = &mut entry.incident.evidence;
            evidence.insert("story".to_owned(), json!(story));
            let related = related.iter().rev();
            let related = related.map(|(past, how)| json!({ "id": past.id, "class": past.class, "how": how }));
            evidence.insert("related".to_owned(), related.collect::<Vec<_>>().into());
        }
        self.past.push_back(Chapter {
            id: entry.incident.id.clone(),
            story: story.unwrap_or_else(|| entry.incident.id.clone()),
            class: entry.incident.class,
            at: now,
            attackers: entry.attackers().iter().copied().take(HOSTS).collect(),
            victims: entry.victims().iter().copied().take(HOSTS).collect(),
        });
    }
}

impl Chapter {
    /// How an incident goes on with this one.
    fn relation(&self, entry: &Entry) -> Option<&'static str> {
        if !self.attackers.is_disjoint(entry.attackers()) {
            Some("same_attacker")
        } else if !self.victims.is_disjoint(entry.attackers()) {
            Some("victim_became_attacker")
        } else {
            None
        }
    }
}
