//! The alerts that one Alertmanager was told of and that are to be repeated.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

use sensor_core::incident::{Change, Incident, Severity};

use crate::store::Event;

/// How often an end that was told is repeated, one refresh apart.
///
/// Alertmanager ignores an end that lies in the future by its own clock; it also may have been restarted.
const REPEATS: u8 = 2;

/// Identity of an alert, apart from what never changes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Incident.
    pub id: String,
    /// Severity the alert was begun with.
    pub severity: Severity,
}

/// What is known of an alert.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The incident as it was last.
    pub incident: Arc<Incident>,
    /// Severity the incident was opened with.
    pub opened_as: Severity,
    /// When it ended, if it has.
    pub ended: Option<SystemTime>,
    /// Whether it was seen to fire. One that was not must first be, so that somebody hears of it.
    pub seen: bool,
    /// Repetitions of the end still to come.
    repeats: u8,
}

/// The alerts.
#[derive(Clone, Debug, Default)]
pub struct Board {
    alerts: BTreeMap<Key, Entry>,
}

impl Board {
    /// Takes in an event that is told at `now`. Gives the alerts to be told.
    pub fn apply(&mut self, event: &Event, now: SystemTime) -> BTreeSet<Key> {
        let incident = Arc::new(event.incident.clone());
        let key = Key { id: incident.id.clone(), severity: incident.severity };
        let mut touched = BTreeSet::from([key.clone()]);
        let mut opened_as = incident.severity;
        if let Some((other, entry)) = self.active(&incident.id) {
            opened_as = entry.opened_as;
            if other != key {
                // It became worse: the old alert ends, if anybody has seen it.
                if entry.seen {
                    entry.ended = Some(now);
                    touched.insert(other);
                } else {
                    self.alerts.remove(&other);
                }
            }
        }
        let over = event.change == Change::Closed;
        let entry = self.alerts.entry(key).or_insert_with(|| Entry {
            incident: Arc::clone(&incident),
            opened_as,
            ended: None,
            // An earlier process may have told of it.
            seen: over && event.told,
            repeats: REPEATS,
        });
        entry.incident = incident;
        entry.ended = over.then_some(now);
        touched
    }

    /// The alerts of these keys.
    pub fn of<'a>(&'a self, keys: &'a BTreeSet<Key>) -> impl Iterator<Item = (&'a Key, &'a Entry)> {
        keys.iter().filter_map(|key| self.alerts.get_key_value(key))
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = (&Key, &Entry)> {
        self.alerts.iter()
    }

    /// Alertmanager has taken the alerts of these keys.
    pub fn taken(&mut self, keys: &BTreeSet<Key>, repeat_ends: bool) {
        self.alerts.retain(|key, entry| {
            let told = keys.contains(key);
            // Told of only when it was over, it ends by itself.
            let flashed = told && !entry.seen && entry.ended.is_some();
            entry.seen |= told;
            !flashed && (repeat_ends || entry.ended.is_none())
        });
    }

    /// Alertmanager has taken all of them once more.
    pub fn repeated(&mut self) {
        self.alerts.retain(|_, entry| {
            if entry.ended.is_some() {
                entry.repeats = entry.repeats.saturating_sub(1);
            }
            entry.repeats > 0
        });
    }

    fn active(&mut self, id: &str) -> Option<(Key, &mut Entry)> {
        let of = |severity| Key { id: id.to_owned(), severity };
        let mut alerts = self.alerts.range_mut(of(Severity::Low)..=of(Severity::Critical));
        alerts.find(|(_, entry)| entry.ended.is_none()).map(|(key, entry)| (key.clone(), entry))
    }
}
