//! Connections to a server, again and again, by threads of this process that are inside a namespace.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::netns::Namespace;
use crate::wait::{Deadline, now};

/// No load goes on for longer.
const LONGEST: Duration = Duration::from_secs(60);

/// What is done, and how often.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Connections that are begun in a second, unless answers are slow.
    pub per_second: u32,
    /// Connections at once.
    pub threads: u32,
    /// How long an answer may take.
    pub patience: Duration,
    /// Whether a web page is asked for: else the connection is closed as soon as it is there.
    pub asks: bool,
}

/// What has come of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Connections, or pages.
    pub served: u64,
    /// Those that were not, in time.
    pub failed: u64,
    /// The longest time that one which was served has taken.
    pub slowest: Duration,
    /// When the first that was not served was begun, since the start.
    pub first_failure: Option<Duration>,
}

/// Connections until this is dropped, for a minute at most.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// Begins, from the addresses of a namespace.
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    pub fn start(from: &Namespace, server: SocketAddr, pace: Pace) -> Result<Self> {
        let shared = Arc::new(Shared::new());
        let work = |turn| {
            let shared = Arc::clone(&shared);
            move || shared.work(turn, server, pace)
        };
        // A thread is in the namespace of the one that has made it.
        let threads = from.inside(|| (0..pace.threads).map(|turn| thread::spawn(work(turn))).collect())?;
        Ok(Self { shared, threads })
    }

    /// What has come of it so far.
    pub fn counts(&self) -> Counts {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let first_failure = Some(get(&self.shared.first_failure_us)).filter(|us| *us < u64::MAX);
        Counts {
            served: get(&self.shared.served),
            failed: get(&self.shared.failed),
            slowest: Duration::from_micros(get(&self.shared.slowest_us)),
            first_failure: first_failure.map(Duration::from_micros),
        }
    }

    /// Ends it when every connection that was begun has ended, and gives what has come of it.
    pub fn stop(mut self) -> Counts {
        self.end();
        self.counts()
    }

    fn end(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // One that has panicked has said why.
            let _ = thread.join();
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.end();
    }
}

#[derive(Debug)]
struct Shared {
    started: Instant,
    stopped: AtomicBool,
    served: AtomicU64,
    failed: AtomicU64,
    slowest_us: AtomicU64,
    first_failure_us: AtomicU64,
}

impl Shared {
    fn new() -> Self {
        let [served, failed, slowest_us, first_failure_us] = [0, 0, 0, u64::MAX].map(AtomicU64::new);
        Self { started: now(), stopped: AtomicBool::new(false), served, failed, slowest_us, first_failure_us }
    }

    fn work(&self, turn: u32, server: SocketAddr, pace: Pace) {
        let end = Deadline::after(LONGEST);
        let gap = Duration::from_secs(1) * pace.threads / pace.per_second;
        let mut due = self.started + gap * turn / pace.threads;
        while !self.stopped.load(Ordering::Relaxed) && !end.passed() {
            sleep(due.saturating_duration_since(now()));
            let begun = now();
            // What was missed is not made up for.
            due = begun.max(due + gap);
            self.note(begun, connect(server, pace));
        }
    }

    fn note(&self, begun: Instant, served: bool) {
        let micros = |span: Duration| u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        if served {
            self.served.fetch_add(1, Ordering::Relaxed);
            self.slowest_us.fetch_max(micros(begun.elapsed()), Ordering::Relaxed);
        } else {
            self.failed.fetch_add(1, Ordering::Relaxed);
            self.first_failure_us.fetch_min(micros(begun - self.started), Ordering::Relaxed);
        }
    }
}

fn connect(server: SocketAddr, pace: Pace) -> bool {
    let Ok(mut stream) = TcpStream::connect_timeout(&server, pace.patience) else { return false };
    if !pace.asks {
        return true;
    }
    let mut page = String::new();
    stream.set_read_timeout(Some(pace.patience)).is_ok()
        && stream.write_all(b"GET / HTTP/1.0\r\n\r\n").is_ok()
        && stream.read_to_string(&mut page).is_ok()
        && page.starts_with("HTTP/1.1 200")
}
