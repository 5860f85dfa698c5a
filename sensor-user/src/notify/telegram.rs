//! Telegram: a message for each incident, which shows how it goes on, and a bot that people can ask and tell.
//!
//! Each chat is a sink of its own, so that one that is rate-limited, gone or has blocked the bot does not hold up the others.
//! Beside them one task for each token listens to the chats.

mod answer;
mod api;
mod block;
mod chat;
mod command;
mod html;
mod keyboard;
mod listener;
mod page;
mod press;
mod question;
mod room;
mod standing;
#[cfg(test)]
mod tests;
mod update;
mod words;

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use self::api::Api;
pub use self::chat::Chat;
pub use self::listener::Listener;
use self::room::{Bot, Room};
use super::template::Templates;
use super::terms::{SinkName, Terms, table};
use super::value::{HttpUrl, Period};
use super::{Wiring, http};
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
    /// Whether the chats may ask and act.
    pub commands: bool,
    /// Who may act in groups, by their numbers; empty for everybody in a private group, and nobody in a public one.
    pub allowed_users: BTreeSet<i64>,
    /// Whether incidents that are high or critical come with a picture of their time line.
    pub pictures: bool,
    /// On which terms each chat is told.
    pub terms: Terms,
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

table! {
    RawConfig {
        #[serde(skip_serializing_if = "Option::is_none")]
        token: Option<Secret>,
        #[serde(skip_serializing_if = "Option::is_none")]
        token_file: Option<PathBuf>,
        chat_ids: Vec<ChatId>,
        #[serde(default = "default_api_base")]
        api_base: HttpUrl,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        commands: Option<bool>,
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        allowed_users: BTreeSet<i64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pictures: Option<bool>,
    }
}

fn default_api_base() -> HttpUrl {
    HttpUrl::try_from("https://api.telegram.org".to_owned()).expect("a constant that is a URL")
}

/// A bot may send twenty messages a minute to one group, <https://core.telegram.org/bots/faq>.
fn usual() -> Terms {
    Terms { timeout: Period::from_secs(15), ..Terms::usual() }.at_most(20, Period::from_secs(60))
}

impl TryFrom<RawConfig> for TelegramConfig {
    type Error = String;

    fn try_from(raw: RawConfig) -> Result<Self, String> {
        let terms = raw.terms(usual());
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
            commands: raw.commands.unwrap_or(true),
            allowed_users: raw.allowed_users,
            pictures: raw.pictures.unwrap_or(false),
            terms,
        })
    }
}

impl From<TelegramConfig> for RawConfig {
    fn from(config: TelegramConfig) -> Self {
        let (token, token_file) = config.token.into_settings();
        let (commands, pictures) = ((!config.commands).then_some(false), config.pictures.then_some(true));
        let (chats, users) = (config.chat_ids, config.allowed_users);
        Self::of(config.terms, token, token_file, chats, config.api_base, commands, users, pictures)
    }
}

/// A bot: the sink of each chat with its name, on which terms they are told, and who listens to them.
pub struct Built {
    /// Called like the table, or `telegram`, and the chat.
    pub chats: Vec<(String, Chat)>,
    /// Those of the table; but an end is always shown in the first message.
    pub terms: Terms,
    /// Nothing where nobody may ask.
    pub listener: Option<Listener>,
}

/// Builds a bot.
///
/// # Errors
/// When the token cannot be read or cannot be one.
pub fn build(config: &TelegramConfig, wiring: &Wiring, templates: &Arc<Templates>) -> Result<Built> {
    let token = config.token.load().context("read the bot token")?;
    let table = config.terms.name.as_ref().map_or("telegram", SinkName::as_str);
    let bot = Arc::new(Bot {
        table: table.to_owned(),
        api: Api::new(http::client_for(&config.api_base, None)?, config, token)?,
        templates: Arc::clone(templates),
        author: wiring.author.clone(),
        keeper: wiring.keeper.clone(),
        response: wiring.response.clone(),
        listens: config.commands,
    });
    let room = |chat: &ChatId| Arc::new(Room::new(format!("{table}:{chat}"), chat.clone(), Arc::clone(&bot)));
    let rooms: Vec<_> = config.chat_ids.iter().map(room).collect();
    let chat = |room: &Arc<Room>| {
        let (room, name) = (Arc::clone(room), room.name.clone());
        (name, Chat { room, send_resolved: config.terms.send_resolved, pictures: config.pictures })
    };
    Ok(Built {
        chats: rooms.iter().map(chat).collect(),
        terms: Terms { send_resolved: true, ..config.terms.clone() },
        listener: config.commands.then(|| Listener::new(bot, rooms, config.allowed_users.clone(), wiring)),
    })
}

#[cfg(test)]
mod unit_tests {
    use super::*;

    #[test]
    fn what_the_bot_may_do_survives_a_round_trip() {
        let head = "token_file = \"/t\"\nchat_ids = [1]\n";
        for (more, expected) in [
            ("", (true, vec![], false)),
            ("commands = false\nallowed_users = [7, 42, 7]\npictures = true", (false, vec![7, 42], true)),
        ] {
            let config: TelegramConfig = toml::from_str(&format!("{head}{more}")).unwrap();
            let users = config.allowed_users.iter().copied().collect();
            assert_eq!((config.commands, users, config.pictures), expected);
            let again: TelegramConfig = toml::from_str(&toml::to_string(&config).unwrap()).unwrap();
            assert_eq!(again, config);
        }
    }
}
