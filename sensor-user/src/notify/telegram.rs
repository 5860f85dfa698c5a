//! Telegram: one message when an incident opens, a short reply to it when it is over.
//!
//! Each chat has a task and a queue of its own, so that one that is rate-limited, gone or has blocked the bot does not hold
//! up the others. A token that Telegram refuses pauses them all: the error is logged once, with how to mend it.

mod api;
mod chat;
mod message;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use reqwest::Client;
use sensor_core::incident::Severity;
use serde::{Deserialize, Serialize};

use self::api::{Bot, Circuit};
pub use self::chat::{Inlet, Worker};
use super::Wiring;
use super::value::{HttpUrl, Period};
use crate::secret::{Secret, SecretSource};

/// `[notify.telegram]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawConfig", into = "RawConfig")]
pub struct TelegramConfig {
    /// What @BotFather gave: `token` or `token_file`.
    pub token: SecretSource,
    /// Whom the bot writes to; not empty, no duplicates.
    pub chat_ids: Vec<ChatId>,
    /// Server of the Bot API.
    pub api_base: HttpUrl,
    /// How long one request may take.
    pub timeout: Period,
    /// Whether changes of an open incident are told, too.
    pub send_updates: bool,
    /// Incidents that never reach it are not told.
    pub min_severity: Severity,
    /// How long a message is retried before it counts as failed.
    pub give_up_after: Period,
}

/// A user, group or channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, try_from = "RawChatId")]
pub enum ChatId {
    /// As Telegram numbers it; groups are negative.
    Number(i64),
    /// `@name` of a public channel or group.
    Name(String),
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a chat's number or the @name of a public channel")]
enum RawChatId {
    Number(i64),
    Text(String),
}

impl TryFrom<RawChatId> for ChatId {
    type Error = String;

    fn try_from(raw: RawChatId) -> Result<Self, String> {
        let text = match raw {
            RawChatId::Number(number) => return Ok(Self::Number(number)),
            RawChatId::Text(text) => text,
        };
        if let Ok(number) = text.parse() {
            return Ok(Self::Number(number));
        }
        let is_name = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !text.strip_prefix('@').is_some_and(is_name) {
            return Err("a chat is a number or the @name of a public channel".to_owned());
        }
        Ok(Self::Name(text))
    }
}

impl fmt::Display for ChatId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<Secret>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_file: Option<PathBuf>,
    chat_ids: Vec<ChatId>,
    #[serde(default = "default_api_base")]
    api_base: HttpUrl,
    #[serde(default = "default_timeout")]
    timeout: Period,
    #[serde(default)]
    send_updates: bool,
    #[serde(default = "default_min_severity")]
    min_severity: Severity,
    #[serde(default = "default_give_up")]
    give_up_after: Period,
}

fn default_api_base() -> HttpUrl {
    HttpUrl::try_from("https://api.telegram.org".to_owned()).expect("a constant that is a URL")
}

fn default_timeout() -> Period {
    Period::from_secs(15)
}

fn default_min_severity() -> Severity {
    Severity::Low
}

fn default_give_up() -> Period {
    Period::from_secs(3600)
}

impl TryFrom<RawConfig> for TelegramConfig {
    type Error = String;

    fn try_from(raw: RawConfig) -> Result<Self, String> {
        let token = SecretSource::of(raw.token, raw.token_file)
            .map_err(|error| format!("token: {error}"))?
            .ok_or("telegram needs a token or a token_file (@BotFather gives one)")?;
        let mut chat_ids = raw.chat_ids;
        let mut seen = Vec::new();
        chat_ids.retain(|chat| {
            !seen.contains(chat) && {
                seen.push(chat.clone());
                true
            }
        });
        if chat_ids.is_empty() {
            return Err("chat_ids is empty: name at least one chat".to_owned());
        }
        Ok(Self {
            token,
            chat_ids,
            api_base: raw.api_base,
            timeout: raw.timeout,
            send_updates: raw.send_updates,
            min_severity: raw.min_severity,
            give_up_after: raw.give_up_after,
        })
    }
}

impl From<TelegramConfig> for RawConfig {
    fn from(config: TelegramConfig) -> Self {
        let (token, token_file) = config.token.into_settings();
        Self {
            token,
            token_file,
            chat_ids: config.chat_ids,
            api_base: config.api_base,
            timeout: config.timeout,
            send_updates: config.send_updates,
            min_severity: config.min_severity,
            give_up_after: config.give_up_after,
        }
    }
}

/// The inlet and the task of each chat.
///
/// # Errors
/// When the token cannot be read or cannot be one.
pub fn build(config: &TelegramConfig, wiring: &Wiring, client: &Client) -> Result<Vec<(Inlet, Worker)>> {
    let token = config.token.load().context("read the bot token")?;
    let bot = Arc::new(Bot::new(client.clone(), config, token)?);
    let circuit = Arc::new(Circuit::default());
    Ok(config.chat_ids.iter().map(|chat| chat::build(chat, config, (&bot, &circuit), wiring)).collect())
}
