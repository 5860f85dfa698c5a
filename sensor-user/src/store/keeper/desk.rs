//! The store on the disk, and in memory what cannot be written to it at the moment.

use std::path::PathBuf;
use std::sync::Arc;

use sensor_core::incident::IncidentEvent;
use sensor_core::time::Timestamp;
use tracing::{error, info};

use super::decisions::{Decisions, Follower};
use super::{Keep, tell_left};
use crate::export::prometheus::{Metrics, StoreLoss};
use crate::store::flows::{self, FlowRow, Upkeep};
use crate::store::{Event, Queue, Settlement, Store, StoreError};

/// Events that are kept in memory while the disk fails.
const SPARE: u64 = 16_384;
/// Rounds between two looks at what is old enough to be forgotten.
const FORGET: u32 = 600;
/// Rounds between two attempts to write to a disk that has failed.
const PATIENCE: u32 = 5;

/// What the thread has before it.
pub struct Desk {
    /// The state directory; nothing if it is not ours.
    place: Option<PathBuf>,
    disk: Option<Store>,
    /// Why the disk cannot be written, if so.
    trouble: Option<String>,
    /// What could not be written.
    spare: Store,
    spare_events: u64,
    /// The last event on the disk: those in memory come after.
    last: i64,
    /// What became of events on the disk and could not be written.
    unsettled: Vec<Settlement>,
    sinks: Vec<String>,
    keep: Keep,
    metrics: Arc<Metrics>,
    version: i64,
    follower: Follower,
    rounds: u32,
    now: Timestamp,
}

impl Desk {
    pub(super) fn new(
        place: Option<PathBuf>,
        disk: Result<Store, StoreError>,
        keep: Keep,
        metrics: Arc<Metrics>,
    ) -> Result<Self, StoreError> {
        let (disk, trouble) = match disk {
            Ok(store) => (Some(store), None),
            Err(error) => (None, Some(error.to_string())),
        };
        metrics.store().up(trouble.is_none());
        if let Some(why) = trouble.as_deref().filter(|_| place.is_some()) {
            complain(why);
        }
        Ok(Self {
            place,
            disk,
            trouble,
            spare: Store::in_memory()?,
            spare_events: 0,
            last: 0,
            unsettled: Vec::new(),
            sinks: Vec::new(),
            keep,
            metrics,
            version: 0,
            follower: Follower::default(),
            rounds: 0,
            now: Timestamp::EPOCH,
        })
    }

    /// Goes on with what an earlier process has left.
    pub(super) fn begin(&mut self, sinks: Vec<String>) {
        self.sinks = sinks;
        let now = self.now;
        let Some(disk) = self.disk.as_mut() else { return };
        let begun = (|| {
            let given_up = disk.give_up_others(&self.sinks, now)?;
            let closed = disk.close_abandoned(&self.sinks, now)?;
            let pending = disk.queues()?.iter().map(|queue| queue.pending).sum();
            tell_left(closed, pending, given_up);
            self.last = disk.last_event()?;
            self.version = disk.data_version()?;
            Ok(())
        })();
        if let Err(error) = begun {
            self.fail(&error);
        }
    }

    pub(super) const fn set_now(&mut self, now: Timestamp) {
        self.now = now;
    }

    /// The time of what is being done.
    #[must_use]
    pub const fn now(&self) -> Timestamp {
        self.now
    }

    /// The store, to read and to change.
    ///
    /// # Errors
    /// Why it cannot be used at the moment.
    pub fn store(&mut self) -> anyhow::Result<&mut Store> {
        match (&self.trouble, self.disk.as_mut()) {
            (None, Some(disk)) => Ok(disk),
            (Some(why), _) => anyhow::bail!("the store cannot be written: {why}"),
            (None, None) => anyhow::bail!("there is no store"),
        }
    }

    /// Changes the store, if it can be written at the moment.
    pub(super) fn change(&mut self, change: impl FnOnce(&mut Store, Timestamp) -> rusqlite::Result<()>) {
        let (None, Some(disk)) = (&self.trouble, self.disk.as_mut()) else { return };
        if let Err(error) = change(disk, self.now) {
            self.fail(&error);
        }
    }

    pub(super) fn record(&mut self, events: &[Arc<IncidentEvent>], now: Timestamp) {
        if let (None, Some(disk)) = (&self.trouble, self.disk.as_mut()) {
            match disk.record(events, &self.sinks, now).and_then(|()| disk.last_event()) {
                Ok(last) => {
                    self.last = last;
                    return;
                }
                Err(error) => self.fail(&error),
            }
        }
        if self.spare_events + events.len() as u64 > SPARE {
            self.metrics.store().lost(StoreLoss::Events, events.len() as u64);
            return;
        }
        let spared = self.seed(events).and_then(|()| self.spare.record(events, &self.sinks, now));
        match spared {
            Ok(()) => self.spare_events += events.len() as u64,
            Err(error) => {
                self.metrics.store().lost(StoreLoss::Events, events.len() as u64);
                error!(%error, lost = events.len(), "incidents cannot even be kept in memory");
            }
        }
    }

    /// Has the memory go on counting where the disk has stopped.
    fn seed(&mut self, events: &[Arc<IncidentEvent>]) -> rusqlite::Result<()> {
        if self.spare_events == 0 {
            self.spare.begin_after(self.last)?;
        }
        let Some(disk) = &self.disk else { return Ok(()) };
        for event in events {
            let id = &event.incident.id;
            if let (None, Some(known)) = (self.spare.incident(id)?, disk.incident(id).unwrap_or_default()) {
                self.spare.adopt(&known)?;
            }
        }
        Ok(())
    }

    pub(super) fn pending(&mut self, sink: &str, after: i64, limit: usize) -> Vec<Event> {
        let mut found = Vec::new();
        if let Some(disk) = &self.disk {
            match disk.pending(sink, after, limit) {
                Ok(events) => found = events,
                Err(error) => self.fail(&error),
            }
        }
        if found.len() < limit && self.spare_events > 0 {
            found.extend(self.spare.pending(sink, after, limit - found.len()).unwrap_or_default());
        }
        found
    }

    pub(super) fn settle(&mut self, settled: Vec<Settlement>) {
        let (disk, spare): (Vec<_>, Vec<_>) = settled.into_iter().partition(|one| one.seq <= self.last);
        if !spare.is_empty() {
            // Memory does not fail; if it did, the sink would still know what it has dealt with.
            let _ = self.spare.settle(&spare, self.now);
        }
        if !disk.is_empty() {
            self.unsettled.extend(disk);
            self.write_unsettled();
        }
    }

    fn write_unsettled(&mut self) {
        let (None, Some(disk)) = (&self.trouble, self.disk.as_mut()) else { return };
        match disk.settle(&self.unsettled, self.now) {
            Ok(()) => self.unsettled.clear(),
            Err(error) => self.fail(&error),
        }
    }

    /// What a sink remembers.
    pub fn recall(&mut self, sink: &str, about: &str) -> Option<String> {
        let spared = self.spare.recall(sink, about).ok().flatten();
        spared.or_else(|| self.disk.as_ref()?.recall(sink, about).ok().flatten())
    }

    /// Has a sink remember something.
    pub fn remember(&mut self, sink: &str, about: &str, value: &str) {
        if let (None, Some(disk)) = (&self.trouble, self.disk.as_mut()) {
            match disk.remember(sink, about, value) {
                Ok(()) => return,
                Err(error) => self.fail(&error),
            }
        }
        let _ = self.spare.remember(sink, about, value);
    }

    pub(super) fn keep_flows(&mut self, rows: &[FlowRow]) {
        if let (None, Some(disk)) = (&self.trouble, self.disk.as_mut()) {
            match flows::append(disk.database(), rows) {
                Ok(()) => return,
                Err(error) => self.fail(&error),
            }
        }
        self.metrics.store().lost(StoreLoss::Flows, rows.len() as u64);
    }

    /// A step of upkeep. Gives whether there is more to do at once.
    pub(super) fn upkeep(&mut self, now: Timestamp) -> bool {
        let (None, Some(disk)) = (&self.trouble, self.disk.as_mut()) else { return false };
        let forgets = self.rounds.is_multiple_of(FORGET);
        let sinks = &self.sinks;
        let done = flows::upkeep(disk.database(), now, &self.keep.flows).and_then(|step| {
            if forgets {
                disk.give_up_others(sinks, now)?;
            }
            let more = forgets && disk.forget_older(self.keep.incidents, now)?;
            Ok(more || step != Upkeep::Idle)
        });
        done.unwrap_or_else(|error| {
            self.fail(&error);
            false
        })
    }

    /// What people have decided since the last call.
    pub(super) fn decided(&mut self) -> Decisions {
        let (None, Some(disk)) = (&self.trouble, self.disk.as_mut()) else { return Decisions::default() };
        self.follower.look(disk).unwrap_or_else(|error| {
            self.fail(&error);
            Decisions::default()
        })
    }

    /// Tries a disk that has failed, and says whether another process has changed the store.
    pub(super) fn look_around(&mut self, now: Timestamp) -> bool {
        self.now = now;
        self.rounds = self.rounds.wrapping_add(1);
        if self.trouble.is_some() && self.rounds.is_multiple_of(PATIENCE) {
            self.recover();
        }
        let Some(disk) = &self.disk else { return false };
        let Ok(version) = disk.data_version() else { return false };
        std::mem::replace(&mut self.version, version) != version
    }

    fn recover(&mut self) {
        let Some(place) = &self.place else { return };
        let recovered = (|| {
            let mut disk = match self.disk.take() {
                Some(disk) => disk,
                None => Store::open(place)?,
            };
            let taken = disk.take_over(&self.spare, &self.unsettled, self.now);
            let last = taken.and_then(|()| disk.last_event());
            self.disk = Some(disk);
            Ok::<_, StoreError>(last?)
        })();
        match recovered {
            Ok(last) => {
                info!(events = self.spare_events, "the store can be written again");
                self.last = last;
                self.trouble = None;
                self.unsettled.clear();
                self.spare_events = 0;
                if let Ok(spare) = Store::in_memory() {
                    self.spare = spare;
                }
                self.metrics.store().up(true);
            }
            Err(error) => {
                self.metrics.store().failed();
                self.trouble = Some(error.to_string());
            }
        }
    }

    /// Where each sink stands.
    pub(super) fn report(&mut self, now: Timestamp) {
        let mut queues: Vec<Queue> =
            self.sinks.iter().map(|sink| Queue { sink: sink.clone(), ..Queue::default() }).collect();
        let stores = self.disk.iter().chain((self.spare_events > 0).then_some(&self.spare));
        for found in stores.flat_map(|store| store.queues().unwrap_or_default()) {
            match queues.iter_mut().find(|queue| queue.sink == found.sink) {
                Some(queue) => {
                    queue.pending += found.pending;
                    queue.oldest = [queue.oldest, found.oldest].into_iter().flatten().min();
                    queue.dead += found.dead;
                }
                None => queues.push(found),
            }
        }
        self.metrics.store().outbox(&queues, now);
        if let Some(size) = self.disk.as_ref().and_then(|disk| disk.size().ok()) {
            self.metrics.store().size(size);
        }
    }

    pub(super) fn end(&mut self, now: Timestamp) {
        self.now = now;
        if self.trouble.is_some() {
            self.recover();
        }
        if self.trouble.is_some() && self.spare_events > 0 {
            error!(events = self.spare_events, "incidents are lost with this process: they could not be written");
            self.metrics.store().lost(StoreLoss::Events, self.spare_events);
        }
    }

    fn fail(&mut self, error: &rusqlite::Error) {
        self.metrics.store().failed();
        self.metrics.store().up(false);
        let why = error.to_string();
        if self.trouble.as_ref() != Some(&why) {
            complain(&why);
        }
        self.trouble = Some(why);
    }
}

fn complain(why: &str) {
    error!(why, "the store cannot be written: incidents are told, and kept in memory until it can");
}
