//! Brings somebody who enforces blocks to the latest state, and tries again where that fails.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use sensor_core::respond::Block;
use sensor_core::time::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::notify::Clock;
use crate::notify::retry::Retry;
use crate::store::event_time;

/// The blocks that are enforced, latest state.
pub type Blocks = watch::Receiver<Arc<Vec<Block>>>;

/// Wait for what may come with a change.
const DEBOUNCE: Duration = Duration::from_millis(200);
/// Pace of attempts.
const RETRY: Retry = Retry { first: Duration::from_millis(500), longest: Duration::from_secs(60) };

/// Somebody who enforces blocks.
pub trait Enforce: Send + 'static {
    /// In logs.
    const NAME: &str;

    /// Time between two looks at whether what was applied is still there.
    const LOOK: Option<Duration> = None;

    /// Makes these all that is blocked.
    fn apply(&mut self, blocks: &[Block], now: Timestamp) -> impl Future<Output = Result<()>> + Send;

    /// Whether somebody else has taken away what was applied.
    fn is_gone(&mut self) -> impl Future<Output = bool> + Send {
        std::future::ready(false)
    }

    /// Leaves nothing blocked: the sensor ends.
    fn clear(&mut self) -> impl Future<Output = Result<()>> + Send;
}

/// How somebody who enforces blocks fares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// When the state was last applied.
    pub applied: Option<Timestamp>,
    /// Blocks in it.
    pub blocks: usize,
    /// Attempts that failed.
    pub failures: u64,
    /// Why the latest state is not applied.
    pub error: Option<String>,
}

/// Somebody who enforces blocks, kept up to date. Dropping it stops that, and leaves what is blocked;
/// [`Enforcer::stop`] does not.
pub struct Enforcer {
    health: watch::Receiver<Health>,
    closing: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Enforcer {
    /// Begins. Needs a tokio runtime.
    pub(super) fn start<E: Enforce>(enforce: E, blocks: Blocks, clock: Clock) -> Self {
        let (sender, health) = watch::channel(Health::default());
        let (closing, closed) = watch::channel(false);
        let task = tokio::spawn(Reconciler { enforce, blocks, clock, health: sender, closed }.run());
        Self { health, closing, task }
    }

    /// How it fares.
    #[must_use]
    pub fn health(&self) -> Health {
        self.health.borrow().clone()
    }

    /// Leaves nothing blocked.
    pub async fn stop(mut self) {
        self.closing.send_replace(true);
        if let Err(error) = (&mut self.task).await {
            warn!(%error, "an enforcer of blocks has ended badly");
        }
    }
}

impl Drop for Enforcer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn closed(closed: &mut watch::Receiver<bool>) {
    // An error means that whoever could close is gone, and this task with it.
    let _ = closed.wait_for(|closed| *closed).await;
}

struct Reconciler<E> {
    enforce: E,
    blocks: Blocks,
    clock: Clock,
    health: watch::Sender<Health>,
    closed: watch::Receiver<bool>,
}

impl<E: Enforce> Reconciler<E> {
    async fn run(mut self) {
        let mut backoff = RETRY.backoff();
        loop {
            let blocks = Arc::clone(&self.blocks.borrow_and_update());
            // Not interrupted by the end: what is half applied could not be taken back.
            let applied = self.enforce.apply(&blocks, event_time((self.clock)())).await;
            let again = if applied.is_ok() { None } else { Some(backoff.wait()) };
            if applied.is_ok() {
                backoff.reset();
            }
            self.note(applied, blocks.len());
            if !self.wait(again).await {
                break;
            }
        }
        if let Err(error) = self.enforce.clear().await {
            warn!(enforcer = E::NAME, error = format!("{error:#}"), "what is blocked cannot be taken back");
        }
    }

    /// Waits for a reason to apply the state, or for the time to try again. False at the end.
    async fn wait(&mut self, again: Option<Duration>) -> bool {
        loop {
            let pause = async {
                match again.or(E::LOOK) {
                    Some(pause) => sleep(pause).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = closed(&mut self.closed) => return false,
                changed = self.blocks.changed() => {
                    sleep(DEBOUNCE).await;
                    return changed.is_ok();
                }
                () = pause => {}
            }
            if again.is_some() || self.enforce.is_gone().await {
                return true;
            }
        }
    }

    fn note(&self, applied: Result<()>, blocks: usize) {
        let now = event_time((self.clock)());
        self.health.send_modify(|health| match applied {
            Ok(()) => {
                if health.error.is_some() {
                    info!(enforcer = E::NAME, "blocks are enforced again");
                }
                *health = Health { applied: Some(now), blocks, failures: health.failures, error: None };
            }
            Err(error) => {
                let error = format!("{error:#}");
                if health.error.as_ref() != Some(&error) {
                    warn!(enforcer = E::NAME, error, "blocks cannot be enforced, trying again");
                }
                health.failures += 1;
                health.error = Some(error);
            }
        });
    }
}
