//! Tells people and other systems of incidents, without ever making the sensor wait for them.
//!
//! Events wait in the outbox of the [store](crate::store). Each receiver (an Alertmanager, one Telegram chat, a mailbox) has a
//! courier of its own, so that one that is slow or dead delays nobody else.

pub mod alertmanager;
pub mod auth;
mod courier;
pub mod discord;
pub mod email;
pub mod eve;
pub mod http;
pub mod mattermost;
pub mod ntfy;
pub mod otlp;
mod pace;
pub mod picture;
pub mod post;
pub mod retry;
pub mod sample;
mod sink;
pub mod slack;
pub mod syslog;
pub mod telegram;
pub mod template;
mod terms;
pub mod text;
pub mod value;
pub mod view;
pub mod webhook;

#[cfg(test)]
mod hook_tests;
#[cfg(test)]
mod hostile_tests;
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
use self::discord::{Discord, DiscordConfig};
use self::email::{Email, EmailConfig};
use self::eve::{Eve, EveConfig, EveFile};
use self::mattermost::{Mattermost, MattermostConfig};
use self::ntfy::{Ntfy, NtfyConfig};
use self::otlp::{Otlp, OtlpConfig};
use self::retry::Retry;
pub use self::sink::{Kind, Outcome, Refusal, Sink};
use self::slack::{Slack, SlackConfig};
use self::syslog::{Syslog, SyslogConfig};
use self::telegram::TelegramConfig;
use self::template::Templates;
pub use self::terms::{RateLimit, SinkName, Terms};
use self::value::{HttpUrl, Period};
use self::view::Author;
use self::webhook::{Webhook, WebhookConfig};
use crate::export::prometheus::Metrics;
use crate::respond::Act;
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
    /// Webhooks of any number of Discord channels.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub discord: Vec<DiscordConfig>,
    /// Webhooks of any number of Mattermost channels.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mattermost: Vec<MattermostConfig>,
    /// Any number of topics of ntfy servers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ntfy: Vec<NtfyConfig>,
    /// Any number of OpenTelemetry collectors.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub otlp: Vec<OtlpConfig>,
    /// Webhooks of any number of Slack channels.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub slack: Vec<SlackConfig>,
    /// Any number of sets of mailboxes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub email: Vec<EmailConfig>,
    /// Any number of files as Suricata writes them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub eve: Vec<EveConfig>,
    /// Any number of syslog daemons.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub syslog: Vec<SyslogConfig>,
    /// One bot that writes to any number of chats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub telegram: Option<TelegramConfig>,
    /// Any number of programs that take JSON.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub webhook: Vec<WebhookConfig>,
}

impl NotifyConfig {
    /// Sinks that cannot be asked whether they are there without being told something.
    #[must_use]
    pub const fn others(&self) -> usize {
        self.discord.len()
            + self.email.len()
            + self.eve.len()
            + self.mattermost.len()
            + self.ntfy.len()
            + self.otlp.len()
            + self.slack.len()
            + self.syslog.len()
            + self.webhook.len()
    }

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
    /// How to block somebody; nothing before the sensor can.
    pub response: watch::Receiver<Option<Arc<dyn Act>>>,
}

/// The sinks of a configuration, ready to run.
pub struct Sinks {
    sinks: Vec<Ready>,
    listeners: Vec<Listen>,
    names: BTreeSet<String>,
    endpoints: BTreeSet<(String, u16)>,
    eve: Vec<EveFile>,
}

/// Starts the courier of a sink.
type Start = Box<dyn FnOnce(Terms, &Keeper, &Wiring, watch::Receiver<bool>) -> Task + Send>;
/// Starts what listens to a receiver in place of sending to it.
type Listen = Box<dyn FnOnce(watch::Receiver<bool>) -> Task + Send>;
type Task = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

struct Ready {
    name: String,
    terms: Terms,
    start: Start,
}

impl Sinks {
    /// Reads the secrets and the templates, and builds every sink.
    ///
    /// # Errors
    /// When a secret, a certificate or a template cannot be used, or two sinks are called alike.
    pub fn build(config: &NotifyConfig, wiring: &Wiring) -> Result<Self> {
        let templates = Arc::new(Templates::load(config.templates.as_deref(), wiring.author.language)?);
        let mut this = Self {
            sinks: Vec::new(),
            listeners: Vec::new(),
            names: BTreeSet::new(),
            endpoints: BTreeSet::new(),
            eve: Vec::new(),
        };
        for one in &config.alertmanager {
            let (sink, terms) =
                Alertmanager::build(one, wiring).with_context(|| format!("set up the Alertmanager at {}", one.url))?;
            this.add(Kind::Alertmanager, sink, terms)?;
            this.endpoints.insert(one.url.endpoint());
        }
        this.hooks(config, wiring, &templates)?;
        for one in &config.email {
            let sink =
                Email::build(one, wiring, &templates).with_context(|| format!("set up e-mail by {}", one.host))?;
            this.add(Kind::Email, sink, one.terms.clone())?;
            this.endpoints.insert((one.host.clone(), one.port));
        }
        for (index, one) in config.eve.iter().enumerate() {
            if config.eve[..index].iter().any(|other| other.file == one.file) {
                bail!("two tables of [[notify.eve]] write {}: one is enough", one.file.display());
            }
            let (sink, file) =
                Eve::build(one, wiring).with_context(|| format!("set up the EVE file {}", one.file.display()))?;
            this.add(Kind::Eve, sink, one.terms.clone())?;
            this.eve.push(file);
        }
        for one in &config.syslog {
            let sink =
                Syslog::build(one, wiring, &templates).with_context(|| format!("set up syslog to {}", one.address))?;
            this.add(Kind::Syslog, sink, one.terms.clone())?;
            this.endpoints.extend(one.address.endpoint());
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

    /// Those that are told by one HTTP request.
    fn hooks(&mut self, config: &NotifyConfig, wiring: &Wiring, templates: &Arc<Templates>) -> Result<()> {
        for one in &config.discord {
            let name = self.name(Kind::Discord, &one.terms);
            let built = Discord::build(one, &name, wiring, templates);
            let (sink, endpoint) = built.with_context(|| format!("set up {name}"))?;
            self.endpoints.insert(endpoint);
            self.add_called(name, sink, one.terms.clone())?;
        }
        for one in &config.mattermost {
            let (sink, endpoint) = Mattermost::build(one, wiring, templates).context("set up Mattermost")?;
            self.endpoints.insert(endpoint);
            self.add(Kind::Mattermost, sink, one.terms.clone())?;
        }
        for one in &config.ntfy {
            let sink = Ntfy::build(one, wiring, templates).with_context(|| format!("set up ntfy at {}", one.url))?;
            self.endpoints.insert(one.url.endpoint());
            self.add(Kind::Ntfy, sink, one.terms.clone())?;
        }
        for one in &config.otlp {
            let sink = Otlp::build(one, wiring).with_context(|| format!("set up OTLP at {}", one.url))?;
            self.endpoints.insert(one.url.endpoint());
            self.add(Kind::Otlp, sink, one.terms.clone())?;
        }
        for one in &config.slack {
            let (sink, endpoint) = Slack::build(one, wiring, templates).context("set up Slack")?;
            self.endpoints.insert(endpoint);
            self.add(Kind::Slack, sink, one.terms.clone())?;
        }
        for one in &config.webhook {
            let (sink, endpoint) = Webhook::build(one, wiring, templates).context("set up a webhook")?;
            self.endpoints.insert(endpoint);
            self.add(Kind::Webhook, sink, one.terms.clone())?;
        }
        Ok(())
    }

    /// What they are called, in the outbox and in metrics.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.sinks.iter().map(|sink| sink.name.clone()).collect()
    }

    /// The sink of a name, told of everything at once and given up at the first failure, to try it.
    #[must_use]
    pub fn only(mut self, name: &str) -> Option<Self> {
        self.sinks.retain(|sink| sink.name == name);
        // Whoever tries a sink does not take its messages from the running sensor.
        self.listeners.clear();
        for sink in &mut self.sinks {
            let Terms { timeout, name, .. } = sink.terms.clone();
            let give_up_after = Period::try_from(Duration::from_millis(1)).unwrap_or(timeout);
            sink.terms = Terms { timeout, name, give_up_after, ..Terms::usual() };
        }
        (!self.sinks.is_empty()).then_some(self)
    }

    /// The remote hosts and ports that they talk to, so that the sensor recognises its own traffic.
    #[must_use]
    pub fn endpoints(&self) -> Vec<(String, u16)> {
        self.endpoints.iter().cloned().collect()
    }

    /// The EVE files, for flows and counters.
    #[must_use]
    pub fn eve_files(&self) -> Vec<EveFile> {
        self.eve.clone()
    }

    fn add<S: Sink>(&mut self, kind: Kind, sink: S, terms: Terms) -> Result<()> {
        let name = self.name(kind, &terms);
        self.add_called(name, sink, terms)
    }

    /// The name of a table, else that of its kind: `webhook`, `webhook-2`, ...
    fn name(&self, kind: Kind, terms: &Terms) -> String {
        terms.name.as_ref().map(|name| name.as_str().to_owned()).unwrap_or_else(|| {
            let numbered = (2..).map(|number| format!("{}-{number}", kind.as_str()));
            let mut names = std::iter::once(kind.as_str().to_owned()).chain(numbered);
            names.find(|name| !self.names.contains(name)).expect("there is always a number")
        })
    }

    fn add_called<S: Sink>(&mut self, name: String, sink: S, terms: Terms) -> Result<()> {
        if !self.names.insert(name.clone()) {
            bail!("two sinks are called {name}: give one of them another name");
        }
        let called = name.clone();
        let start: Start = Box::new(move |terms, keeper, wiring, closing| {
            Box::pin(Courier::new(called, sink, terms, keeper.clone(), wiring, closing).run())
        });
        self.sinks.push(Ready { name, terms, start });
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
            couriers.spawn((ready.start)(ready.terms, keeper, wiring, closing.subscribe()));
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
