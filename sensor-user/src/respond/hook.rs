//! Tells a URL of each block that begins, changes or ends.
//!
//! What is told is the difference between the state and what was told before; a sensor that starts tells of all that is blocked
//! then. Of a block that ends while no sensor runs nobody is told: each has its end in `until`.

mod config;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use reqwest::header::CONTENT_TYPE;
use sensor_core::respond::{Block, Target};
use sensor_core::time::Timestamp;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tracing::{error, warn};

pub use self::config::HookConfig;
use super::Blocks;
use super::line::BlockLine;
use crate::notify::post::Poster;
use crate::notify::retry::Retry;
use crate::notify::value::WebhookUrl;
use crate::notify::webhook::sign::Signer;
use crate::notify::{Clock, Refusal, http};
use crate::secret::SecretSource;
use crate::store::event_time;

/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Requests about one change, before it is given up.
const ATTEMPTS: u32 = 6;
/// Longest wait that the receiver may ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(60);
/// Waits between them.
const RETRY: Retry = Retry { first: Duration::from_millis(500), longest: Duration::from_secs(30) };

/// What posts. Dropping it ends that.
pub struct Hook {
    health: watch::Receiver<HookHealth>,
    task: JoinHandle<()>,
}

/// How the receiver fares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HookHealth {
    /// Changes that it took.
    pub delivered: u64,
    /// Changes that were given up.
    pub lost: u64,
    /// Why the last attempt failed, if it did.
    pub error: Option<String>,
}

impl Hook {
    /// Begins to tell. Needs a tokio runtime.
    ///
    /// # Errors
    /// The address, the secret or a certificate cannot be read.
    pub fn start(config: &HookConfig, blocks: Blocks, clock: Clock) -> Result<Self> {
        Self::start_at(config, blocks, clock, RETRY)
    }

    fn start_at(config: &HookConfig, blocks: Blocks, clock: Clock, retry: Retry) -> Result<Self> {
        let url = WebhookUrl::load(&config.url)?;
        let secret = config.secret.as_ref().map(SecretSource::load).transpose().context("read the secret")?;
        let signer = secret.as_ref().map(Signer::new).transpose()?;
        let client = http::client_for(&url.server(), config.ca_file.as_deref())?;
        let poster = Poster::new(client, TIMEOUT, url.secrets().into_iter().chain(secret));
        let (sender, health) = watch::channel(HookHealth::default());
        let told = BTreeMap::new();
        let teller = Teller { poster, url, signer, blocks, clock, retry, told, health: sender };
        Ok(Self { health, task: tokio::spawn(teller.run()) })
    }

    /// How the receiver fares.
    #[must_use]
    pub fn health(&self) -> HookHealth {
        self.health.borrow().clone()
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Teller {
    poster: Poster,
    url: WebhookUrl,
    signer: Option<Signer>,
    blocks: Blocks,
    clock: Clock,
    retry: Retry,
    /// What the receiver has been told, or was given up.
    told: BTreeMap<Target, Block>,
    health: watch::Sender<HookHealth>,
}

/// What is to be told.
enum News {
    Blocked(Block),
    Unblocked(Block),
}

impl Teller {
    /// Until there are no more states.
    async fn run(mut self) {
        loop {
            let blocks = Arc::clone(&self.blocks.borrow_and_update());
            for news in self.news(&blocks) {
                self.tell(&news).await;
                match news {
                    News::Blocked(block) => drop(self.told.insert(block.target, block)),
                    News::Unblocked(block) => drop(self.told.remove(&block.target)),
                }
                // The rest may be old by now.
                if self.blocks.has_changed().unwrap_or(false) {
                    break;
                }
            }
            if self.blocks.changed().await.is_err() {
                return;
            }
        }
    }

    /// First what ends.
    fn news(&self, blocks: &[Block]) -> Vec<News> {
        let enforced = blocks.iter().filter(|block| block.enforced);
        let now: BTreeMap<Target, &Block> = enforced.map(|block| (block.target, block)).collect();
        let over = self.told.values().filter(|block| !now.contains_key(&block.target));
        let other = now.values().filter(|block| self.told.get(&block.target) != Some(block));
        let over = over.cloned().map(News::Unblocked);
        over.chain(other.map(|block| News::Blocked(Block::clone(block)))).collect()
    }

    async fn tell(&self, news: &News) {
        let at = event_time((self.clock)());
        let (id, body) = (news.id(), news.body(at).to_string());
        let mut backoff = self.retry.backoff();
        for attempt in 1..=ATTEMPTS {
            let refusal = match self.post(&id, &body).await {
                Ok(()) => {
                    self.health.send_modify(|health| {
                        health.delivered += 1;
                        health.error = None;
                    });
                    return;
                }
                Err(refusal) => refusal,
            };
            self.health.send_modify(|health| health.error = Some(refusal.why().to_owned()));
            let wait = match &refusal {
                Refusal::Later { after, .. } => after.map_or_else(|| backoff.wait(), |asked| asked.min(LONGEST_ASKED)),
                Refusal::Credentials(_) | Refusal::Never(_) => break,
            };
            if attempt < ATTEMPTS {
                warn!(id, why = refusal.why(), "the webhook of the blocks does not answer, trying again");
                sleep(wait).await;
            }
        }
        self.health.send_modify(|health| health.lost += 1);
        error!(id, why = self.health.borrow().error, "the webhook of the blocks is not told of a change");
    }

    async fn post(&self, id: &str, body: &str) -> Result<(), Refusal> {
        let mut request = self.poster.client().post(self.url.url().clone()).header(CONTENT_TYPE, "application/json");
        if let Some(signer) = &self.signer {
            request = request.headers(signer.headers(id, event_time((self.clock)()).secs(), body));
        }
        self.poster.send(request.body(body.to_owned()), Some(id)).await.map(drop)
    }
}

impl News {
    const fn block(&self) -> &Block {
        match self {
            Self::Blocked(block) | Self::Unblocked(block) => block,
        }
    }

    const fn action(&self) -> &'static str {
        match self {
            Self::Blocked(_) => "block",
            Self::Unblocked(_) => "unblock",
        }
    }

    /// The same for the same news.
    fn id(&self) -> String {
        let block = self.block();
        let target = block.target.to_string().replace(' ', "-");
        format!("{}-{target}-{}-{}", self.action(), block.since.nanos(), block.until.nanos())
    }

    fn body(&self, at: Timestamp) -> Value {
        json!({ "action": self.action(), "at": at.epoch_seconds(), "block": BlockLine::from(self.block()) })
    }
}
