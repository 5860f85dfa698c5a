//! Keeps one list fresh.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, anyhow, bail};
use sensor_core::time::Timestamp;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tracing::{info, warn};

use super::State;
use super::cache::{Cache, Mark};
use super::config::{Format, ListConfig, ListName, ListUrl, MaxEntries, Source};
use super::fetch::{Answer, fetch};
use super::parse::{Parsed, parse};
use crate::notify::Clock;
use crate::notify::retry::Retry;
use crate::store::event_time;

/// When things are done.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Waits after a failure, which are never longer than the time between two successes.
    pub retry: Retry,
    /// How long an answer may take as a whole.
    pub timeout: Duration,
    /// Time between two looks at a file.
    pub look: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            retry: Retry { first: Duration::from_secs(15), longest: Duration::from_secs(3600) },
            timeout: Duration::from_secs(60),
            look: Duration::from_secs(5),
        }
    }
}

/// What keeps a list.
pub struct Task {
    /// Its table.
    pub config: ListConfig,
    /// Where copies are.
    pub folder: PathBuf,
    /// Whom to tell.
    pub publisher: Publisher,
    /// Wall clock.
    pub clock: Clock,
    /// When.
    pub pace: Pace,
}

impl Task {
    /// Never ends.
    pub async fn run(self) {
        match &self.config.source {
            Source::File(path) => self.follow_file(path).await,
            Source::Url(url) => self.follow_url(url).await,
        }
    }

    async fn follow_file(&self, path: &Path) {
        let mut read = None;
        loop {
            // Before it is read: what is written meanwhile is read the next time.
            let stamp = stamp(path);
            if stamp.is_none() || stamp != read {
                let parsed = match open(path) {
                    Ok(list) => self.parse(list).await,
                    Err(error) => Err(error),
                };
                self.publisher.tell(parsed.map(Some));
                read = stamp;
            }
            sleep(self.pace.look).await;
        }
    }

    async fn follow_url(&self, url: &ListUrl) {
        let cache = Cache::new(self.folder.join(self.config.name.as_str()), url);
        let (mut mark, mut wait) = self.recall(&cache).await;
        let mut backoff = self.pace.retry.backoff();
        let refresh = self.config.refresh.get();
        loop {
            sleep(wait).await;
            let answer = self.ask(url, &mut mark, &cache).await;
            wait = if answer.is_ok() { refresh } else { backoff.wait().min(refresh) };
            if answer.is_ok() {
                backoff.reset();
            }
            self.publisher.tell(answer);
        }
    }

    /// What the copy says, and how long it is good for.
    async fn recall(&self, cache: &Cache) -> (Option<Mark>, Duration) {
        let Some(copy) = cache.open() else { return (None, Duration::ZERO) };
        match self.parse(copy.list).await {
            Ok(parsed) => {
                self.publisher.recall(parsed, event_time(copy.asked));
                // A clock that was put back does not make it good for longer.
                let age = (self.clock)().duration_since(copy.asked).unwrap_or_default();
                (Some(copy.mark), self.config.refresh.get().saturating_sub(age))
            }
            Err(error) => {
                warn!(list = %self.config.name, error = format!("{error:#}"), "the copy of a list cannot be used");
                (None, Duration::ZERO)
            }
        }
    }

    /// The list, if it is another than that of the mark.
    async fn ask(&self, url: &ListUrl, mark: &mut Option<Mark>, cache: &Cache) -> Result<Option<Parsed>> {
        match fetch(url, mark.as_ref(), cache, self.pace.timeout).await? {
            Answer::Same => {
                cache.touch((self.clock)())?;
                Ok(None)
            }
            Answer::New(draft) => {
                let parsed = self.parse(draft.read()?).await?;
                draft.keep((self.clock)())?;
                *mark = cache.open().map(|copy| copy.mark);
                Ok(Some(parsed))
            }
        }
    }

    async fn parse(&self, list: impl BufRead + Send + 'static) -> Result<Parsed> {
        let (format, most): (Format, MaxEntries) = (self.config.format.clone(), self.config.max_entries);
        let parsed = spawn_blocking(move || parse(list, &format, most)).await;
        parsed.context("read the list")?.map_err(|error| anyhow!("the list is refused: {error}"))
    }
}

fn open(path: &Path) -> Result<BufReader<File>> {
    // Opening a pipe would wait for somebody to write.
    if fs::metadata(path).is_ok_and(|data| !data.is_file()) {
        bail!("{} is no file", path.display());
    }
    File::open(path).map(BufReader::new).with_context(|| format!("open {}", path.display()))
}

/// By which a change of a file is seen.
fn stamp(path: &Path) -> Option<(SystemTime, u64)> {
    let data = fs::metadata(path).ok()?;
    Some((data.modified().ok()?, data.len()))
}

/// Tells of a list.
pub struct Publisher {
    name: ListName,
    state: watch::Sender<State>,
    changed: watch::Sender<u64>,
    clock: Clock,
}

impl Publisher {
    /// Tells of the list called `name`.
    pub const fn new(name: ListName, state: watch::Sender<State>, changed: watch::Sender<u64>, clock: Clock) -> Self {
        Self { name, state, changed, clock }
    }

    /// What its source says now; nothing for the same as before.
    fn tell(&self, answer: Result<Option<Parsed>>) {
        let now = event_time((self.clock)());
        match answer {
            Ok(Some(parsed)) => self.recall(parsed, now),
            Ok(None) => {
                self.state.send_modify(|state| {
                    state.confirmed = Some(now);
                    state.error = None;
                });
            }
            Err(error) => {
                let error = format!("{error:#}");
                if self.state.borrow().error.as_ref() != Some(&error) {
                    warn!(list = %self.name, error, "a list cannot be had, the one before it stays");
                }
                self.state.send_modify(|state| state.error = Some(error));
            }
        }
    }

    /// What its source said then.
    fn recall(&self, parsed: Parsed, confirmed: Timestamp) {
        let Parsed { set, report } = parsed;
        let same = self.state.borrow().set.as_deref() == Some(&set);
        if !same {
            let (entries, bad, too_wide) = (set.len(), report.bad, report.too_wide);
            info!(list = %self.name, entries, bad, too_wide, examples = ?report.examples, "a list was read");
        }
        self.state.send_modify(|state| {
            if !same {
                state.set = Some(Arc::new(set));
            }
            state.report = report;
            state.confirmed = Some(confirmed);
            state.error = None;
        });
        if !same {
            self.changed.send_modify(|changes| *changes += 1);
        }
    }
}
