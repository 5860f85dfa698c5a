//! Which alerts Alertmanager should know, and what of that it does not know yet.
//!
//! A board instead of a queue: changes of an incident while the receiver is away fold into one entry, and a closing always
//! has room, because its incident has.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use sensor_core::incident::{Change, Incident, IncidentEvent, Severity};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::export::prometheus::Metrics;
use crate::notify::sink::{Outcome, Sink};

/// Alerts at a time, at most about 8 KiB each. A new incident that finds no room is counted as dropped.
const CAPACITY: usize = 1024;
/// How often a closing that was delivered is repeated, one refresh apart.
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

/// An alert as it is to be sent.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its identity.
    pub key: Key,
    /// What is known of the incident.
    pub incident: Arc<Incident>,
    /// Severity the incident was opened with.
    pub opened_as: Severity,
    /// When it ended, if it has.
    pub ended: Option<SystemTime>,
    /// Whether Alertmanager has confirmed it while it was firing. One that has not must first be seen to fire.
    seen: bool,
    /// Since when there is something of note to deliver.
    pending: Option<Instant>,
    /// Grows with every change of note.
    version: u64,
    /// Repetitions of the end still to come.
    repeats: u8,
}

impl Entry {
    /// The end to announce as past, or nothing for an alert that has to fire.
    pub fn resolved_at(&self) -> Option<SystemTime> {
        self.ended.filter(|_| self.seen)
    }

    fn touch(&mut self) {
        self.version += 1;
        self.pending.get_or_insert_with(Instant::now);
    }
}

/// The alerts of one Alertmanager.
pub struct Board {
    state: Mutex<State>,
    wake: Notify,
    metrics: Arc<Metrics>,
    send_resolved: bool,
}

#[derive(Default)]
struct State {
    entries: BTreeMap<Key, Entry>,
    closed: bool,
    /// Pending entries, as the metric has them.
    reported: i64,
}

impl Board {
    /// An empty board.
    pub fn new(metrics: Arc<Metrics>, send_resolved: bool) -> Self {
        Self { state: Mutex::default(), wake: Notify::new(), metrics, send_resolved }
    }

    /// Takes note of an event that happened at `now`.
    pub fn apply(&self, event: &IncidentEvent, now: SystemTime) {
        let mut state = self.lock();
        let incident = Arc::new(event.incident.clone());
        match event.change {
            Change::Opened => {
                if !self.fire(&mut state, &incident, now) {
                    self.metrics.notified(Sink::Alertmanager, Outcome::Dropped, 1);
                }
            }
            Change::Updated => {
                self.fire(&mut state, &incident, now);
            }
            Change::Closed => {
                if state.active(&incident.id).is_none() {
                    // Its opening was lost: people are told all the same.
                    self.fire(&mut state, &incident, now);
                }
                self.end(&mut state, &incident, now);
            }
        }
        self.report(&mut state);
        drop(state);
        self.wake.notify_one();
    }

    /// No more events come.
    pub fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_one();
    }

    /// Whether the board is closed and Alertmanager knows all of it.
    pub fn is_done(&self) -> bool {
        let state = self.lock();
        state.closed && state.pending() == 0
    }

    /// Whether something should be sent before the next refresh.
    pub fn is_urgent(&self) -> bool {
        let state = self.lock();
        state.closed || state.pending() > 0
    }

    /// Waits for an event or for closing.
    pub async fn changed(&self) {
        self.wake.notified().await;
    }

    /// Everything to be sent now: what is firing, and ends that have to be told.
    pub fn batch(&self) -> Vec<Entry> {
        self.lock().entries.values().cloned().collect()
    }

    /// Alertmanager has taken the batch.
    pub fn delivered(&self, batch: &[Entry]) {
        let mut state = self.lock();
        for sent in batch {
            let Some(entry) = state.entries.get_mut(&sent.key) else {
                continue;
            };
            let resolved = sent.resolved_at().is_some();
            let current = entry.version == sent.version;
            let first_seen_after_end = current && !entry.seen && sent.ended.is_some();
            entry.seen |= sent.ended.is_none();
            if current && entry.pending.take().is_some() {
                self.metrics.notified(Sink::Alertmanager, Outcome::Delivered, 1);
            } else if resolved {
                entry.repeats = entry.repeats.saturating_sub(1);
            }
            let silent_end = entry.ended.is_some() && entry.seen && !self.send_resolved;
            if first_seen_after_end || silent_end || (resolved && entry.repeats == 0) {
                state.entries.remove(&sent.key);
            }
        }
        self.report(&mut state);
    }

    /// Alertmanager has not taken the batch: what is older than `age` is given up. Returns how much that was.
    ///
    /// Firing alerts stay on the board and go out with a later refresh.
    pub fn gave_up(&self, batch: &[Entry], age: Duration) -> u64 {
        let mut state = self.lock();
        let mut given_up = 0;
        for sent in batch {
            let Some(entry) = state.entries.get_mut(&sent.key) else {
                continue;
            };
            if entry.version != sent.version || entry.pending.is_none_or(|since| since.elapsed() < age) {
                continue;
            }
            given_up += 1;
            entry.pending = None;
            if entry.ended.is_some() {
                state.entries.remove(&sent.key);
            }
        }
        self.metrics.notified(Sink::Alertmanager, Outcome::Failed, given_up);
        self.report(&mut state);
        given_up
    }

    /// Forgets everything; returns how much of it was not delivered.
    pub fn abandon(&self) -> u64 {
        let mut state = self.lock();
        let lost = state.pending();
        state.entries.clear();
        self.metrics.notified(Sink::Alertmanager, Outcome::Dropped, lost);
        self.report(&mut state);
        lost
    }

    /// Makes the incident's alert active with its present severity, unless there is no room for one more.
    fn fire(&self, state: &mut State, incident: &Arc<Incident>, now: SystemTime) -> bool {
        let mut opened_as = incident.severity;
        if let Some(entry) = state.active(&incident.id) {
            opened_as = entry.opened_as;
            if entry.key.severity == incident.severity {
                entry.incident = Arc::clone(incident);
                return true;
            }
            self.end(state, incident, now);
        } else if state.entries.len() >= CAPACITY {
            return false;
        }
        let key = Key { id: incident.id.clone(), severity: incident.severity };
        let mut entry = Entry {
            key: key.clone(),
            incident: Arc::clone(incident),
            opened_as,
            ended: None,
            seen: false,
            pending: None,
            version: state.entries.get(&key).map_or(0, |old| old.version),
            repeats: REPEATS,
        };
        entry.touch();
        state.entries.insert(key, entry);
        true
    }

    /// Ends the active alert of the incident. One that was replaced before anybody saw it is forgotten.
    fn end(&self, state: &mut State, incident: &Arc<Incident>, now: SystemTime) {
        let Some(entry) = state.active(&incident.id) else {
            return;
        };
        let key = entry.key.clone();
        let replaced = key.severity != incident.severity;
        let untold = entry.seen && !replaced && !self.send_resolved;
        if untold || (replaced && !entry.seen) {
            state.entries.remove(&key);
            return;
        }
        entry.ended = Some(now);
        if !replaced {
            entry.incident = Arc::clone(incident);
        }
        entry.touch();
    }

    fn report(&self, state: &mut State) {
        let pending = i64::try_from(state.pending()).unwrap_or(i64::MAX);
        self.metrics.queue_changed(Sink::Alertmanager, pending - state.reported);
        state.reported = pending;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn active(&mut self, id: &str) -> Option<&mut Entry> {
        let first = Key { id: id.to_owned(), severity: Severity::Low };
        let last = Key { id: id.to_owned(), severity: Severity::Critical };
        self.entries.range_mut(first..=last).map(|(_, entry)| entry).find(|entry| entry.ended.is_none())
    }

    fn pending(&self) -> u64 {
        self.entries.values().filter(|entry| entry.pending.is_some()).count() as u64
    }
}
