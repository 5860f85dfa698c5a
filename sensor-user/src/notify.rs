//! Tells people and other systems of incidents, without ever making the sensor wait for them.
//!
//! Events wait in the outbox of the [store](crate::store). Each receiver (an Alertmanager, one Telegram chat, a mailbox) has a
//! [courier] of its own, so that one that is slow or dead delays nobody else.

pub mod alertmanager;
mod courier;
pub mod http;
mod pace;
pub mod picture;
pub mod retry;
mod sink;
pub mod telegram;
pub mod template;
mod terms;
pub mod text;
pub mod value;
pub mod view;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use self::alertmanager::{Alertmanager, AlertmanagerConfig};
use self::courier::Courier;
use self::retry::Retry;
pub use self::sink::{Kind, Outcome, Refusal, Sink};
use self::telegram::TelegramConfig;
use self::template::Templates;
pub use self::terms::{RateLimit, SinkName, Terms};
use self::value::HttpUrl;
use self::view::Author;
use crate::export::prometheus::Metrics;
use crate::store::keeper::Keeper;
use crate::terminal::Status;

/// The time of day, as `app.rs` reads it.
pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// Who is told of incidents: the tables below `[notify]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NotifyConfig {
    /// Base address of the dashboard, for links.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dashboard: Option<HttpUrl>,
    /// Folder with templates that take the place of the built-in ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub templates: Option<PathBuf>,
    /// Any number of Alertmanagers; a cluster's members are all listed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alertmanager: Vec<AlertmanagerConfig>,
    /// One bot that writes to any number of chats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub telegram: Option<TelegramConfig>,
}

impl NotifyConfig {
    /// Whether nobody is told.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let without_sinks =
            Self { dashboard: self.dashboard.clone(), templates: self.templates.clone(), ..Self::default() };
        *self == without_sinks
    }
}

/// What the sinks need of the world around them.
#[derive(Clone)]
pub struct Wiring {
    /// Who speaks.
    pub author: Author,
    /// Where deliveries and losses are counted.
    pub metrics: Arc<Metrics>,
    /// Wall clock; alerts begin and end by it.
    pub clock: Clock,
    /// Pace of repeated attempts.
    pub retry: Retry,
    /// Way to the store.
    pub keeper: Keeper,
    /// How the sensor fares; nothing before the first tick.
    pub status: watch::Receiver<Option<Status>>,
}

/// The sinks of a configuration, ready to run.
pub struct Sinks {
    sinks: Vec<Ready>,
    listeners: Vec<Listen>,
    names: BTreeSet<String>,
    endpoints: BTreeSet<(String, u16)>,
}

/// Starts the courier of a sink.
type Start = Box<dyn FnOnce(&Keeper, &Wiring, watch::Receiver<bool>) -> Task + Send>;
/// Starts what listens to a receiver in place of sending to it.
type Listen = Box<dyn FnOnce(watch::Receiver<bool>) -> Task + Send>;
type Task = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

struct Ready {
    name: String,
    start: Start,
}

impl Sinks {
    /// Reads the secrets and the templates, and builds every sink.
    ///
    /// # Errors
    /// When a secret, a certificate or a template cannot be used, or two sinks are called alike.
    pub fn build(config: &NotifyConfig, wiring: &Wiring) -> Result<Self> {
        let templates = Arc::new(Templates::load(config.templates.as_deref(), wiring.author.language)?);
        let mut this =
            Self { sinks: Vec::new(), listeners: Vec::new(), names: BTreeSet::new(), endpoints: BTreeSet::new() };
        for one in &config.alertmanager {
            let (sink, terms) =
                Alertmanager::build(one, wiring).with_context(|| format!("set up the Alertmanager at {}", one.url))?;
            this.add(Kind::Alertmanager, sink, terms)?;
            this.endpoints.insert(one.url.endpoint());
        }
        if let Some(bot) = &config.telegram {
            this.endpoints.insert(bot.api_base.endpoint());
            let built = telegram::build(bot, wiring, &templates).context("set up Telegram")?;
            for (name, sink) in built.chats {
                this.add_called(name, sink, built.terms.clone())?;
            }
            if let Some(listener) = built.listener {
                this.listeners.push(Box::new(|closing| Box::pin(listener.run(closing))));
            }
        }
        Ok(this)
    }

    /// What they are called, in the outbox and in metrics.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.sinks.iter().map(|sink| sink.name.clone()).collect()
    }

    /// The remote hosts and ports that they talk to, so that the sensor recognises its own traffic.
    #[must_use]
    pub fn endpoints(&self) -> Vec<(String, u16)> {
        self.endpoints.iter().cloned().collect()
    }

    /// By the name of its table, else by its kind: `webhook`, `webhook-2`, ...
    fn add<S: Sink>(&mut self, kind: Kind, sink: S, terms: Terms) -> Result<()> {
        let name = terms.name.as_ref().map(|name| name.as_str().to_owned()).unwrap_or_else(|| {
            let numbered = (2..).map(|number| format!("{}-{number}", kind.as_str()));
            let mut names = std::iter::once(kind.as_str().to_owned()).chain(numbered);
            names.find(|name| !self.names.contains(name)).expect("there is always a number")
        });
        self.add_called(name, sink, terms)
    }

    fn add_called<S: Sink>(&mut self, name: String, sink: S, terms: Terms) -> Result<()> {
        if !self.names.insert(name.clone()) {
            bail!("two sinks are called {name}: give one of them another name");
        }
        let called = name.clone();
        let start: Start = Box::new(move |keeper, wiring, closing| {
            Box::pin(Courier::new(called, sink, terms, keeper.clone(), wiring, closing).run())
        });
        self.sinks.push(Ready { name, start });
        Ok(())
    }
}

/// The running couriers and listeners. Dropping it stops them at once; [`Notifier::shutdown`] lets them finish.
pub struct Notifier {
    closing: watch::Sender<bool>,
    couriers: JoinSet<()>,
}

impl Notifier {
    /// Starts a courier for each sink. Needs a tokio runtime.
    #[must_use]
    pub fn start(sinks: Sinks, keeper: &Keeper, wiring: &Wiring) -> Self {
        wiring.metrics.store().expect(sinks.names.iter().map(String::as_str));
        let closing = watch::Sender::new(false);
        let mut couriers = JoinSet::new();
        for ready in sinks.sinks {
            couriers.spawn((ready.start)(keeper, wiring, closing.subscribe()));
        }
        for listen in sinks.listeners {
            couriers.spawn(listen(closing.subscribe()));
        }
        Self { closing, couriers }
    }

    /// Delivers what can be delivered at once, for at most `deadline`, then stops. What remains waits in the store.
    pub async fn shutdown(mut self, deadline: Duration) {
        self.closing.send_replace(true);
        // Late or not, what is not delivered is in the store.
        let _ = timeout(deadline, async { while self.couriers.join_next().await.is_some() {} }).await;
        self.couriers.shutdown().await;
    }
}
