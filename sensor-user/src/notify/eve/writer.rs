//! The thread that writes flows and counters, so that the sensor waits for no disk.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use sensor_core::flow::FlowRecord;
use sensor_core::time::Timestamp;
use tracing::{info, warn};

use super::EveConfig;
use super::log::{self, Log};
use crate::export::eve::{self, Stats};

/// Flows that may wait for the disk: 19 MB of them.
const WAITING: usize = 65_536;
/// Octets that are written together.
const CHUNK: usize = 64 * 1024;

/// A way into the file for what is no incident. Clones lead to the same file; the thread ends with the last of them.
#[derive(Clone, Debug)]
pub struct EveFile {
    log: Arc<Mutex<Log>>,
    jobs: Sender<Job>,
    counts: Arc<Counts>,
    flows: bool,
    stats_every: Option<Duration>,
}

#[derive(Debug, Default)]
struct Counts {
    /// Flows that wait.
    waiting: AtomicUsize,
    /// Lines that were not written.
    lost: AtomicU64,
    /// When counters are next written.
    stats_due: Mutex<Option<Timestamp>>,
}

#[derive(Debug)]
enum Job {
    Flows(Vec<FlowRecord>),
    Stats(Box<Stats>),
    /// Answered when everything before is written.
    Flush(SyncSender<()>),
}

impl EveFile {
    /// Starts the thread.
    pub(super) fn new(config: &EveConfig, sensor: &str) -> Result<Self> {
        let log = Arc::new(Mutex::new(Log::new(&config.file, config.rotate_size.octets(), config.keep)));
        let (jobs, inbox) = mpsc::channel();
        let counts = Arc::new(Counts::default());
        let worker =
            Worker { log: Arc::clone(&log), counts: Arc::clone(&counts), sensor: sensor.to_owned(), failing: false };
        let thread = thread::Builder::new().name("eve".to_owned()).spawn(move || worker.run(&inbox));
        thread.context("start the thread that writes flows")?;
        let stats_every = config.stats.then(|| config.stats_every.get());
        Ok(Self { log, jobs, counts, flows: config.flows, stats_every })
    }

    /// Whether flows are wanted.
    #[must_use]
    pub const fn wants_flows(&self) -> bool {
        self.flows
    }

    /// Has flows written that ended, if they are wanted. Never waits: what finds no room is [lost](Self::lost).
    pub fn flows(&self, records: &[FlowRecord]) {
        if !self.flows || records.is_empty() {
            return;
        }
        let room = WAITING.saturating_sub(self.counts.waiting.load(Ordering::Relaxed));
        let taken = &records[..records.len().min(room)];
        self.counts.lose(records.len() - taken.len());
        if !taken.is_empty() {
            self.counts.waiting.fetch_add(taken.len(), Ordering::Relaxed);
            self.post(Job::Flows(taken.to_vec()));
        }
    }

    /// Has counters written if they are due at `now`; only then asks for them. Never waits.
    pub fn stats(&self, now: Timestamp, stats: impl FnOnce() -> Stats) {
        let Some(every) = self.stats_every else { return };
        let mut due = self.counts.stats_due.lock().unwrap_or_else(PoisonError::into_inner);
        if due.is_none_or(|due| now >= due) {
            *due = Some(now + every);
            self.post(Job::Stats(Box::new(stats())));
        }
    }

    /// Waits until what was given is written, for at most `within`.
    pub fn flush(&self, within: Duration) {
        let (done, answer) = mpsc::sync_channel(1);
        self.post(Job::Flush(done));
        // Late or not, nothing more can be done.
        let _ = answer.recv_timeout(within);
    }

    /// Lines that were not written so far, because the disk was too slow, or full.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.counts.lost.load(Ordering::Relaxed)
    }

    pub(super) const fn log(&self) -> &Arc<Mutex<Log>> {
        &self.log
    }

    fn post(&self, job: Job) {
        // The thread is there as long as this is.
        let _ = self.jobs.send(job);
    }
}

impl Counts {
    fn lose(&self, lines: usize) {
        self.lost.fetch_add(lines as u64, Ordering::Relaxed);
    }
}

struct Worker {
    log: Arc<Mutex<Log>>,
    counts: Arc<Counts>,
    sensor: String,
    failing: bool,
}

impl Worker {
    fn run(mut self, inbox: &Receiver<Job>) {
        while let Ok(job) = inbox.recv() {
            match job {
                Job::Flows(records) => self.flows(&records),
                Job::Stats(stats) => {
                    let line = eve::stats(&stats, &self.sensor, self.counts.lost.load(Ordering::Relaxed));
                    self.append(&line, 1);
                }
                Job::Flush(done) => drop(done.send(())),
            }
        }
    }

    fn flows(&mut self, records: &[FlowRecord]) {
        let (mut chunk, mut lines) = (String::with_capacity(CHUNK), 0);
        for record in records {
            chunk.push_str(&eve::flow(record, &self.sensor, |flow| log::lock(&self.log).is_alerted(flow)));
            lines += 1;
            if chunk.len() >= CHUNK {
                self.append(&chunk, lines);
                (chunk, lines) = (String::with_capacity(CHUNK), 0);
            }
        }
        if lines > 0 {
            self.append(&chunk, lines);
        }
        self.counts.waiting.fetch_sub(records.len(), Ordering::Relaxed);
    }

    fn append(&mut self, text: &str, lines: usize) {
        let written = log::lock(&self.log).append(text.as_bytes());
        match written {
            Ok(()) if self.failing => info!("flows and counters are written again"),
            Ok(()) => {}
            Err(ref error) => {
                self.counts.lose(lines);
                if !self.failing {
                    warn!(%error, "flows and counters are not written");
                }
            }
        }
        self.failing = written.is_err();
    }
}
