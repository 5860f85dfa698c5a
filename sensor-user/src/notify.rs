//! Tells people and other systems of incidents, without ever making the sensor wait for them.
//!
//! Each receiver (an Alertmanager, one Telegram chat) has a task and a bounded store of its own, so that one that is
//! slow or dead delays nobody else. What is lost is counted in `leuko_notifications_total`.

pub mod alertmanager;
pub mod http;
pub mod retry;
mod sink;
pub mod telegram;
pub mod text;
pub mod value;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use sensor_core::incident::IncidentEvent;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::warn;

use self::alertmanager::AlertmanagerConfig;
use self::retry::Retry;
pub use self::sink::{Outcome, Sink};
use self::telegram::TelegramConfig;
use self::value::HttpUrl;
use crate::export::prometheus::Metrics;

/// The time of day, as `app.rs` reads it.
pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// Who is told of incidents: `[[notify.alertmanager]]` and `[notify.telegram]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NotifyConfig {
    /// Any number of Alertmanagers; a cluster's members are all listed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alertmanager: Vec<AlertmanagerConfig>,
    /// One bot that writes to any number of chats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub telegram: Option<TelegramConfig>,
}

impl NotifyConfig {
    fn urls(&self) -> impl Iterator<Item = &HttpUrl> {
        self.alertmanager.iter().map(|one| &one.url).chain(self.telegram.iter().map(|bot| &bot.api_base))
    }
}

/// The remote hosts and ports that notifications go to, so that the sensor recognises its own traffic.
#[must_use]
pub fn endpoints(config: &NotifyConfig) -> Vec<(String, u16)> {
    let mut endpoints: Vec<_> = config.urls().map(HttpUrl::endpoint).collect();
    endpoints.sort();
    endpoints.dedup();
    endpoints
}

/// What the sinks need of the world around them.
#[derive(Clone)]
pub struct Wiring {
    /// Name of this sensor in alerts and messages, e.g. the host name.
    pub sensor: String,
    /// Where deliveries and losses are counted.
    pub metrics: Arc<Metrics>,
    /// Wall clock; alerts begin and end by it.
    pub clock: Clock,
    /// Pace of repeated attempts.
    pub retry: Retry,
}

/// The running sinks. Dropping it stops them at once; [`Notifier::shutdown`] lets them finish.
pub struct Notifier {
    sinks: Vec<Inlet>,
    tasks: JoinSet<()>,
}

/// The end of a sink that takes events, without waiting.
enum Inlet {
    Alertmanager(alertmanager::Inlet),
    Telegram(telegram::Inlet),
}

impl Notifier {
    /// Reads the secrets, builds the HTTP client and starts a task per receiver. Needs a tokio runtime.
    ///
    /// # Errors
    /// When a secret file is missing or empty, or `https` is configured and the system has no CA certificates.
    pub fn start(config: &NotifyConfig, wiring: &Wiring) -> Result<Self> {
        let mut this = Self { sinks: Vec::new(), tasks: JoinSet::new() };
        if config.urls().next().is_none() {
            return Ok(this);
        }
        let https = config.urls().any(HttpUrl::is_https);
        let client = http::client(if https { http::Trust::SystemRoots } else { http::Trust::Nobody })?;
        for one in &config.alertmanager {
            let (inlet, worker) = alertmanager::build(one, wiring, &client)
                .with_context(|| format!("set up the Alertmanager at {}", one.url))?;
            this.sinks.push(Inlet::Alertmanager(inlet));
            this.tasks.spawn(worker.run());
        }
        if let Some(bot) = &config.telegram {
            for (inlet, worker) in telegram::build(bot, wiring, &client).context("set up Telegram")? {
                this.sinks.push(Inlet::Telegram(inlet));
                this.tasks.spawn(worker.run());
            }
        }
        Ok(this)
    }

    /// Hands the event to every sink. Never waits and never fails; a sink that is full counts its loss.
    pub fn send(&self, event: &Arc<IncidentEvent>) {
        for sink in &self.sinks {
            match sink {
                Inlet::Alertmanager(inlet) => inlet.offer(event),
                Inlet::Telegram(inlet) => inlet.offer(event),
            }
        }
    }

    /// Delivers what is queued, for at most `deadline`, then stops. What remains is counted as dropped.
    pub async fn shutdown(mut self, deadline: Duration) {
        for sink in &mut self.sinks {
            match sink {
                Inlet::Alertmanager(inlet) => inlet.close(),
                Inlet::Telegram(inlet) => inlet.close(),
            }
        }
        let finished = timeout(deadline, async { while self.tasks.join_next().await.is_some() {} }).await;
        if finished.is_ok() {
            return;
        }
        self.tasks.shutdown().await;
        for sink in &self.sinks {
            let lost = match sink {
                Inlet::Alertmanager(inlet) => inlet.abandon(),
                Inlet::Telegram(inlet) => inlet.abandon(),
            };
            if lost > 0 {
                warn!(sink = sink.kind().as_str(), lost, "stopped before every notification was delivered");
            }
        }
    }
}

impl Inlet {
    fn kind(&self) -> Sink {
        match self {
            Self::Alertmanager(_) => Sink::Alertmanager,
            Self::Telegram(_) => Sink::Telegram,
        }
    }
}
