//! What the tables of all sinks have in common: a name, what is told, and how often.

use std::num::NonZeroU32;
use std::time::Duration;

use sensor_core::incident::{Change, Severity};
use serde::{Deserialize, Serialize};

use super::value::{Period, seconds};
use crate::store::Event;

/// On which terms a sink is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Terms {
    /// By which the outbox and the commands call it; nothing for its kind.
    pub name: Option<SinkName>,
    /// Incidents that never reach it are not told.
    pub min_severity: Severity,
    /// Whether changes of an open incident are told, too. That it became worse always is.
    pub send_updates: bool,
    /// Whether the end of an incident is told.
    pub send_resolved: bool,
    /// How long one request may take.
    pub timeout: Period,
    /// How old an event gets before it is given up.
    pub give_up_after: Period,
    /// How often it may be told; what is more goes into one message. Nothing for as often as there is something.
    pub rate_limit: Option<RateLimit>,
    /// How long it is left in peace after a message; what comes meanwhile goes into one message, and something critical ends
    /// the peace.
    pub cool_down: Option<Period>,
}

impl Terms {
    /// The defaults, less what a kind of sink has of its own.
    #[must_use]
    pub const fn usual() -> Self {
        Self {
            name: None,
            min_severity: Severity::Low,
            send_updates: true,
            send_resolved: true,
            timeout: Period::from_secs(10),
            give_up_after: Period::from_secs(86_400),
            rate_limit: None,
            cool_down: None,
        }
    }

    /// As often as this, at most.
    #[must_use]
    pub fn at_most(self, messages: u32, per: Period) -> Self {
        let messages = match NonZeroU32::new(messages) {
            Some(messages) => messages,
            None => NonZeroU32::MIN,
        };
        Self { rate_limit: Some(RateLimit { messages, per }), ..self }
    }

    /// Why an event is not told; nothing if it is.
    #[must_use]
    pub fn refuses(&self, event: &Event) -> Option<&'static str> {
        if event.incident.severity < self.min_severity {
            return Some("below min_severity");
        }
        match event.change {
            Change::Opened => None,
            // Its opening was milder than what is told, or was given up: people hear of it now.
            Change::Updated => (event.told && !event.rose && !self.send_updates).then_some("send_updates is off"),
            Change::Closed => (event.told && !self.send_resolved).then_some("send_resolved is off"),
        }
    }
}

/// Calls a sink: letters, digits, `-`, `_`, `.`, `:` and `@`, at most 64.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SinkName(String);

impl SinkName {
    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for SinkName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.:@".contains(&b);
        if text.is_empty() || text.len() > 64 || !text.bytes().all(allowed) {
            return Err("a name has letters, digits, -, _, ., : and @, at most 64".to_owned());
        }
        Ok(Self(text))
    }
}

impl From<SinkName> for String {
    fn from(name: SinkName) -> Self {
        name.0
    }
}

/// How often: `"20/1m"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RateLimit {
    /// At most so many messages
    pub messages: NonZeroU32,
    /// in this time.
    pub per: Period,
}

impl TryFrom<String> for RateLimit {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let parsed = text.split_once('/').and_then(|(messages, per)| {
            let per = per.trim();
            // "20/m" is "20/1m".
            let span = if per.starts_with(|c: char| c.is_ascii_digit()) { per.to_owned() } else { format!("1{per}") };
            let span = Duration::try_from_secs_f64(seconds(&span)?).ok()?;
            Some(Self { messages: messages.trim().parse().ok()?, per: Period::try_from(span).ok()? })
        });
        parsed.ok_or_else(|| "write for instance \"20/1m\": at most 20 messages a minute".to_owned())
    }
}

impl From<RateLimit> for String {
    fn from(limit: RateLimit) -> Self {
        format!("{}/{}", limit.messages, Self::from(limit.per))
    }
}

/// Declares the table of a sink as it is written in TOML: its own settings, and those of [`Terms`], which may be left out.
macro_rules! table {
    ($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$meta])*
        #[derive(Clone, ::serde::Serialize, ::serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct $name {
            #[serde(default, skip_serializing_if = "Option::is_none")]
            name: Option<$crate::notify::terms::SinkName>,
            $($(#[$field_meta])* $field: $type,)*
            #[serde(default, skip_serializing_if = "Option::is_none")]
            min_severity: Option<::sensor_core::incident::Severity>,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            send_updates: Option<bool>,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            send_resolved: Option<bool>,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            timeout: Option<$crate::notify::value::Period>,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            give_up_after: Option<$crate::notify::value::Period>,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            rate_limit: Option<$crate::notify::terms::RateLimit>,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            cool_down: Option<$crate::notify::value::Period>,
        }

        impl $name {
            /// What the table says of the terms, and what it leaves as usual.
            fn terms(&self, usual: $crate::notify::terms::Terms) -> $crate::notify::terms::Terms {
                $crate::notify::terms::Terms {
                    name: self.name.clone().or(usual.name),
                    min_severity: self.min_severity.unwrap_or(usual.min_severity),
                    send_updates: self.send_updates.unwrap_or(usual.send_updates),
                    send_resolved: self.send_resolved.unwrap_or(usual.send_resolved),
                    timeout: self.timeout.unwrap_or(usual.timeout),
                    give_up_after: self.give_up_after.unwrap_or(usual.give_up_after),
                    rate_limit: self.rate_limit.or(usual.rate_limit),
                    cool_down: self.cool_down.or(usual.cool_down),
                }
            }

            /// The table of these terms and of the sink's own settings.
            #[allow(clippy::too_many_arguments, reason = "one for each setting of the sink")]
            fn of(terms: $crate::notify::terms::Terms, $($field: $type,)*) -> Self {
                Self {
                    name: terms.name,
                    $($field,)*
                    min_severity: Some(terms.min_severity),
                    send_updates: Some(terms.send_updates),
                    send_resolved: Some(terms.send_resolved),
                    timeout: Some(terms.timeout),
                    give_up_after: Some(terms.give_up_after),
                    rate_limit: terms.rate_limit,
                    cool_down: terms.cool_down,
                }
            }
        }
    };
}
pub(super) use table;
