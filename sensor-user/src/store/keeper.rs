//! The thread that writes. Nothing else in a running sensor waits for the disk.
//!
//! When the disk fails, what happens is kept in memory and told all the same, and written when the disk is back.

mod decisions;
mod desk;

pub use decisions::{Decisions, Judged};
pub use desk::Desk;

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::fcntl::{Flock, FlockArg};
use sensor_core::incident::IncidentEvent;
use sensor_core::respond::{Change, Offence};
use sensor_core::time::Timestamp;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::flows::{FlowRow, Retention};
use super::{Event, Settlement, Store, StoreError, event_time};
use crate::export::prometheus::{Metrics, StoreLoss};
use crate::notify::Clock;

/// Held by the one sensor that writes to a store.
const LOCK: &str = "leuko.lock";
/// Events that may wait for the disk.
const WAITING: usize = 16_384;
/// Flows that may wait for the disk, some 200 octets each.
const FLOWS_WAITING: usize = 131_072;
/// How often the thread looks at what other processes have changed, and tries a disk that has failed.
const ROUND: Duration = Duration::from_secs(1);
/// Rounds between two looks at how long the queues are.
const QUEUES: u32 = 5;

/// How long what is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Incidents, their events and the audit trail.
    pub incidents: Duration,
    /// Flows.
    pub flows: Retention,
}

impl Default for Keep {
    fn default() -> Self {
        let days = |days: u64| Duration::from_secs(days * 86_400);
        let flows = Retention { keep: days(7), keep_summaries: days(90), max_octets: 1_000_000_000 };
        Self { incidents: days(365), flows }
    }
}

/// A way to the thread. Clones lead to the same one.
#[derive(Clone)]
pub struct Keeper {
    shared: Arc<Shared>,
}

struct Shared {
    inbox: Mutex<Inbox>,
    bell: Condvar,
    news: watch::Sender<News>,
    decisions: Mutex<Decisions>,
    metrics: Arc<Metrics>,
}

/// What the thread has to tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Grows with every event that is kept.
    pub events: u64,
    /// Grows when another process has changed the store: what was given up may wait again.
    pub others: u64,
}

#[derive(Default)]
struct Inbox {
    jobs: VecDeque<Job>,
    waiting: usize,
    /// After everything else.
    flows: VecDeque<Vec<FlowRow>>,
    flows_waiting: usize,
    stopping: bool,
}

type Task = Box<dyn FnOnce(&mut Desk) + Send>;

enum Job {
    Record(Vec<Arc<IncidentEvent>>),
    Do(Task),
}

/// The thread; [`Running::stop`] has it finish what it was given.
pub struct Running {
    keeper: Keeper,
    thread: JoinHandle<()>,
}

impl Keeper {
    /// Opens the store of a state directory and starts the thread.
    ///
    /// A store that another sensor writes to, or that cannot be written, is no reason not to watch: incidents are then told
    /// but not kept.
    ///
    /// # Errors
    /// The store is damaged, newer than this program, or not one.
    pub fn start(state_dir: &Path, keep: Keep, metrics: Arc<Metrics>, clock: Clock) -> Result<Running> {
        let lock = lock(state_dir);
        let disk = match &lock {
            Ok(_) => Store::open(state_dir),
            Err(error) => {
                Err(StoreError::Unreadable { path: state_dir.join(LOCK), cause: io::Error::from(error.kind()) })
            }
        };
        let place = match (&disk, lock) {
            (Ok(_), Ok(lock)) => Some((state_dir.to_owned(), lock)),
            (Err(error), Ok(lock)) if error.is_of_medium() => Some((state_dir.to_owned(), lock)),
            (_, Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                warn!(
                    dir = %state_dir.display(),
                    "another sensor keeps its incidents there: those of this one are told but not kept; \
                     give it a --state-dir of its own"
                );
                None
            }
            (Err(error), Ok(_)) => anyhow::bail!("{error}"),
            (_, Err(error)) => {
                warn!(dir = %state_dir.display(), %error, "incidents are told but not kept: the folder cannot be used");
                None
            }
        };
        let (place, lock) = place.map_or((None, None), |(place, lock)| (Some(place), Some(lock)));
        let keeper = Self {
            shared: Arc::new(Shared {
                inbox: Mutex::default(),
                bell: Condvar::new(),
                news: watch::Sender::new(News::default()),
                decisions: Mutex::default(),
                metrics: Arc::clone(&metrics),
            }),
        };
        let desk = Desk::new(place, disk, keep, metrics).context("prepare to keep incidents in memory")?;
        let worker = Worker {
            shared: Arc::clone(&keeper.shared),
            desk,
            clock,
            busy: false,
            rounded: Instant::now(),
            _lock: lock,
        };
        let thread = thread::Builder::new().name("store".to_owned()).spawn(move || worker.run());
        Ok(Running { keeper, thread: thread.context("start the thread of the store")? })
    }

    /// Names the sinks that each event is for, and goes on with what an earlier process has left. Comes before any event.
    pub fn begin(&self, sinks: Vec<String>) {
        self.post(Box::new(move |desk| desk.begin(sinks)));
    }

    /// Has events kept and told. Never waits.
    pub fn record(&self, events: &[Arc<IncidentEvent>]) {
        if events.is_empty() {
            return;
        }
        let mut inbox = self.lock();
        if inbox.waiting + events.len() > WAITING {
            drop(inbox);
            self.shared.metrics.store().lost(StoreLoss::Events, events.len() as u64);
            error!(lost = events.len(), "the disk does not keep up: incidents are neither kept nor told");
            return;
        }
        inbox.waiting += events.len();
        inbox.jobs.push_back(Job::Record(events.to_vec()));
        drop(inbox);
        self.shared.bell.notify_one();
    }

    /// Has flows kept that have ended, when there is nothing better to do. Never waits.
    pub fn flows(&self, rows: Vec<FlowRow>) {
        if rows.is_empty() {
            return;
        }
        let mut inbox = self.lock();
        if inbox.flows_waiting + rows.len() > FLOWS_WAITING {
            drop(inbox);
            self.shared.metrics.store().lost(StoreLoss::Flows, rows.len() as u64);
            return;
        }
        inbox.flows_waiting += rows.len();
        inbox.flows.push_back(rows);
        drop(inbox);
        self.shared.bell.notify_one();
    }

    /// Has something done by the thread, and gives what came of it; nothing once it has stopped.
    pub async fn call<R: Send + 'static>(&self, task: impl FnOnce(&mut Desk) -> R + Send + 'static) -> Option<R> {
        let (answer, answered) = oneshot::channel();
        self.post(Box::new(move |desk| drop(answer.send(task(desk)))));
        answered.await.ok()
    }

    /// The first events that wait for a sink beyond one that it has dealt with.
    pub async fn pending(&self, sink: &str, after: i64, limit: usize) -> Vec<Event> {
        let sink = sink.to_owned();
        self.call(move |desk| desk.pending(&sink, after, limit)).await.unwrap_or_default()
    }

    /// Has the fate of events kept. Does not wait: what is not kept when the process dies is told again.
    pub fn settle(&self, settled: Vec<Settlement>) {
        if !settled.is_empty() {
            self.post(Box::new(move |desk| desk.settle(settled)));
        }
    }

    /// Has it kept what was blocked and lifted. Does not wait.
    pub fn keep_blocks(&self, changes: Vec<Change>) {
        if !changes.is_empty() {
            self.post(Box::new(move |desk| desk.change(|store, now| store.keep_blocks(&changes, now))));
        }
    }

    /// Has it kept who was blocked, how often, and since when the sensor is here. Does not wait.
    pub fn keep_offences(&self, offences: Vec<Offence>, armed_since: Timestamp) {
        self.post(Box::new(move |desk| desk.change(|store, _| store.keep_offences(&offences, armed_since))));
    }

    /// What people have decided since the last call.
    #[must_use]
    pub fn decisions(&self) -> Decisions {
        std::mem::take(&mut self.shared.decisions.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What the thread has to tell.
    #[must_use]
    pub fn news(&self) -> watch::Receiver<News> {
        self.shared.news.subscribe()
    }

    fn post(&self, task: Task) {
        let mut inbox = self.lock();
        if !inbox.stopping {
            inbox.jobs.push_back(Job::Do(task));
            drop(inbox);
            self.shared.bell.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.shared.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    /// A way to the thread.
    #[must_use]
    pub fn keeper(&self) -> Keeper {
        self.keeper.clone()
    }

    /// Has the thread finish what it was given, and waits for it.
    pub fn stop(self) {
        self.keeper.lock().stopping = true;
        self.keeper.shared.bell.notify_one();
        // A panic has been told already.
        let _ = self.thread.join();
    }
}

struct Worker {
    shared: Arc<Shared>,
    desk: Desk,
    clock: Clock,
    /// There is more upkeep to do.
    busy: bool,
    /// When the last round was.
    rounded: Instant,
    _lock: Option<Flock<File>>,
}

impl Worker {
    fn run(mut self) {
        let mut round: u32 = 0;
        loop {
            match self.next() {
                Next::Job(job) => self.work(job),
                Next::Flows(rows) => self.desk.keep_flows(&rows),
                Next::Round => {
                    self.follow();
                    if self.desk.look_around(event_time((self.clock)())) {
                        self.shared.news.send_modify(|news| news.others += 1);
                    }
                    if round.is_multiple_of(QUEUES) {
                        self.desk.report(event_time((self.clock)()));
                    }
                    self.busy = self.desk.upkeep(event_time((self.clock)()));
                    round = round.wrapping_add(1);
                }
                Next::Stop => return self.desk.end(event_time((self.clock)())),
            }
        }
    }

    fn work(&mut self, job: Job) {
        let now = event_time((self.clock)());
        self.desk.set_now(now);
        match job {
            Job::Record(events) => {
                self.desk.record(&events, now);
                self.shared.news.send_modify(|news| news.events += 1);
            }
            Job::Do(task) => {
                task(&mut self.desk);
                self.follow();
            }
        }
    }

    fn follow(&mut self) {
        let decided = self.desk.decided();
        if !decided.is_empty() {
            self.shared.decisions.lock().unwrap_or_else(PoisonError::into_inner).extend(decided);
        }
    }

    fn next(&mut self) -> Next {
        let mut inbox = self.shared.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            // However much there is to do.
            let left = ROUND.saturating_sub(self.rounded.elapsed());
            if left.is_zero() && !inbox.stopping {
                self.rounded = Instant::now();
                return Next::Round;
            }
            if let Some(job) = inbox.jobs.pop_front() {
                if let Job::Record(events) = &job {
                    inbox.waiting -= events.len();
                }
                return Next::Job(job);
            }
            if let Some(rows) = inbox.flows.pop_front() {
                inbox.flows_waiting -= rows.len();
                return Next::Flows(rows);
            }
            if inbox.stopping {
                return Next::Stop;
            }
            if self.busy {
                return Next::Round;
            }
            inbox = self.shared.bell.wait_timeout(inbox, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

enum Next {
    Job(Job),
    Flows(Vec<FlowRow>),
    Round,
    Stop,
}

/// The right to write, until it is dropped.
fn lock(state_dir: &Path) -> io::Result<Flock<File>> {
    std::fs::create_dir_all(state_dir)?;
    let file = File::options().create(true).truncate(false).write(true).open(state_dir.join(LOCK))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| error.into())
}

/// Says what an earlier process has left undone.
fn tell_left(closed: usize, pending: u64, given_up: usize) {
    if closed + given_up > 0 || pending > 0 {
        info!(closed, pending, given_up, "going on with what an earlier process has left in the store");
    }
}
