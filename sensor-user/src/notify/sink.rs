//! What a sink is: something that takes events of incidents, one message at a time or many in one request.

use std::time::Duration;

use crate::store::Event;

/// Delivers events to one receiver. What is common to all (order, retries, limits, digests, giving up) is done by the
/// courier; a sink says how a request is made and what its answer means.
pub trait Sink: Send + 'static {
    /// Most events that one request can carry as they are; 1 where each is a message of its own.
    const BATCH: usize = 1;

    /// Sends events, in this order. Only what was sent as a whole counts as delivered.
    fn deliver(&mut self, events: &[Event]) -> impl Future<Output = Result<(), Refusal>> + Send;

    /// Sends one message that lists as many of the events as it can hold, the first ones. Gives how many these are, at
    /// least one. Asked only of sinks with a limit on how often they may be told.
    fn digest(&mut self, events: &[Event]) -> impl Future<Output = Result<usize, Refusal>> + Send;

    /// Called at the start, and again after the time it gives; for receivers that have to be told again and again.
    fn refresh(&mut self) -> impl Future<Output = Option<Duration>> + Send {
        std::future::ready(None)
    }
}

/// Why a receiver has not taken a message. No variant holds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Unreachable, too slow or in trouble, or asking for `after`: worth another attempt.
    Later {
        /// What the receiver asks to wait.
        after: Option<Duration>,
        /// For people.
        why: String,
    },
    /// It does not know us: worth another attempt much later, for a person has to mend it.
    Credentials(String),
    /// It understood, and will say no again.
    Never(String),
}

impl Refusal {
    /// Worth another attempt, whenever.
    pub fn later(why: impl Into<String>) -> Self {
        Self::Later { after: None, why: why.into() }
    }

    /// For people.
    #[must_use]
    pub fn why(&self) -> &str {
        match self {
            Self::Later { why, .. } | Self::Credentials(why) | Self::Never(why) => why,
        }
    }
}

/// What became of an event at a sink, as metrics name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver has it, or a digest that lists it.
    Delivered,
    /// The configuration does not want it told.
    Skipped,
    /// Given up: refused for good, or too old.
    Dead,
    /// An attempt failed and will be repeated.
    Retried,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 4] = [Self::Delivered, Self::Skipped, Self::Dead, Self::Retried];

    /// The stable identifier.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Skipped => "skipped",
            Self::Dead => "dead",
            Self::Retried => "retried",
        }
    }
}

/// A kind of sink, by which its table in the configuration and its built-in templates are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Kind {
    Alertmanager,
    Telegram,
    Discord,
    Slack,
    Mattermost,
    Webhook,
    Email,
    Ntfy,
    Syslog,
    Eve,
    Otlp,
}

impl Kind {
    /// The stable identifier.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Alertmanager => "alertmanager",
            Self::Telegram => "telegram",
            Self::Discord => "discord",
            Self::Slack => "slack",
            Self::Mattermost => "mattermost",
            Self::Webhook => "webhook",
            Self::Email => "email",
            Self::Ntfy => "ntfy",
            Self::Syslog => "syslog",
            Self::Eve => "eve",
            Self::Otlp => "otlp",
        }
    }
}
