//! What Telegram tells the bot of: a message, or a button that was pressed.
//!
//! Source: <https://core.telegram.org/bots/api#update>.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::standing::Person;
use crate::notify::text::{clip, plain};

/// Longest name of a person, in characters.
const NAME_LIMIT: usize = 32;

/// Something that happened in a chat.
#[derive(Debug, Deserialize)]
pub struct Update {
    /// A message was written.
    pub message: Option<Message>,
    /// A button was pressed.
    pub callback_query: Option<Press>,
}

/// A message; of one that is too old, only where it is.
#[derive(Debug, Deserialize)]
pub struct Message {
    /// Its number in the chat.
    pub message_id: i64,
    /// Where.
    pub chat: Chat,
    /// Who wrote it.
    pub from: Option<User>,
    /// What.
    pub text: Option<String>,
    /// The group has become this supergroup.
    pub migrate_to_chat_id: Option<i64>,
}

/// A press of a button.
#[derive(Debug, Deserialize)]
pub struct Press {
    /// By which it is answered.
    pub id: String,
    /// Who.
    pub from: User,
    /// Below which message.
    pub message: Option<Message>,
    /// What the button stands for; whoever presses may have made it up.
    pub data: Option<String>,
}

/// A private chat, a group or a channel.
#[derive(Debug, Deserialize)]
pub struct Chat {
    /// Its number.
    pub id: i64,
    /// `private`, `group`, `supergroup` or `channel`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Public ones have a name, without `@`.
    pub username: Option<String>,
}

impl Chat {
    /// Whether it is a chat with one person.
    pub fn is_private(&self) -> bool {
        self.kind == "private"
    }

    /// Whether somebody who writes in it, or presses a button, may act. The chat itself is one of the configured.
    ///
    /// Anybody can join a public group or read a public channel, so there only those who are named may act.
    pub fn lets(&self, user: &User, allowed: &BTreeSet<i64>) -> bool {
        let is_closed = matches!(self.kind.as_str(), "group" | "supergroup") && self.username.is_none();
        self.is_private() || allowed.contains(&user.id) || allowed.is_empty() && is_closed
    }
}

/// Somebody on Telegram, called as they like.
#[derive(Debug, Deserialize)]
pub struct User {
    /// Their number, which never changes.
    pub id: i64,
    #[serde(default)]
    first_name: String,
    #[serde(default)]
    last_name: String,
    username: Option<String>,
}

impl User {
    /// Their name in one line, and as the audit has it: with the number, for anybody can be called anything.
    pub fn person(&self) -> Person {
        let full = plain(&format!("{} {}", self.first_name, self.last_name));
        let full = full.split_whitespace().collect::<Vec<_>>().join(" ");
        let name = match (full.is_empty(), &self.username) {
            (false, _) => full,
            (true, Some(username)) => format!("@{}", plain(username)),
            (true, None) => self.id.to_string(),
        };
        let name = clip(&name, NAME_LIMIT);
        Person { actor: format!("telegram:{} ({name})", self.id), name }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn in_public_only_those_who_are_named_may_act() {
        let user = |id: i64| serde_json::from_value::<User>(json!({"id": id, "first_name": "A"})).unwrap();
        let chat = |kind: &str, username: Option<&str>| Chat {
            id: -1,
            kind: kind.to_owned(),
            username: username.map(str::to_owned),
        };
        for (kind, name, allowed, may) in [
            ("private", Some("ana"), &[] as &[i64], true),
            ("private", None, &[9], true),
            ("group", None, &[], true),
            ("supergroup", None, &[], true),
            ("supergroup", Some("public"), &[], false),
            ("channel", None, &[], false),
            ("anything", None, &[], false),
            ("group", None, &[9], false),
            ("group", None, &[7, 9], true),
            ("channel", Some("public"), &[7], true),
        ] {
            let allowed = allowed.iter().copied().collect();
            assert_eq!(chat(kind, name).lets(&user(7), &allowed), may, "{kind} {name:?} {allowed:?}");
        }
    }

    #[test]
    fn people_are_called_in_one_line() {
        for (user, actor) in [
            (json!({"id": 7, "first_name": "Ana", "last_name": "López", "username": "al"}), "telegram:7 (Ana López)"),
            (json!({"id": 7, "first_name": "\n\u{202e}\t", "username": "al"}), "telegram:7 (@al)"),
            (json!({"id": 7, "first_name": "a\nb"}), "telegram:7 (a b)"),
            (json!({"id": 7}), "telegram:7 (7)"),
        ] {
            let user: User = serde_json::from_value(user).unwrap();
            assert_eq!(user.person().actor, actor);
        }
    }
}
