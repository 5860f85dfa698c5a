//! One chat, as its courier writes to it and the bot answers in it.

use std::sync::Arc;

use sensor_core::incident::Change;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::{Mutex, watch};
use tracing::{debug, info};

use super::api::{Api, Failure};
use super::standing::Standing;
use super::words::Words;
use super::{ChatId, html, keyboard};
use crate::notify::sink::Refusal;
use crate::notify::template::Templates;
use crate::notify::view::{Author, View};
use crate::respond::Act;
use crate::store::keeper::Keeper;
use crate::store::{Event, Kept};

/// Under which the chat's new number is remembered when a group becomes a supergroup.
const MOVED: &str = "moved-to";

/// What all chats of a bot share.
pub struct Bot {
    /// The table's name, under which is remembered what belongs to no single chat.
    pub table: String,
    /// Way to Telegram.
    pub api: Api,
    /// Words of messages.
    pub templates: Arc<Templates>,
    /// Who speaks.
    pub author: Author,
    /// Way to the store.
    pub keeper: Keeper,
    /// How to block somebody; nothing before the sensor can.
    pub response: watch::Receiver<Option<Arc<dyn Act>>>,
    /// Whether anybody hears what is pressed.
    pub listens: bool,
}

impl Bot {
    /// Words of buttons and answers.
    pub const fn words(&self) -> Words {
        Words(self.author.language)
    }

    /// Who acts, once the sensor can.
    pub fn acting(&self) -> Option<Arc<dyn Act>> {
        self.response.borrow().clone()
    }

    /// What has been done about an incident.
    pub async fn standing(&self, id: &str) -> Standing {
        let (table, id) = (self.table.clone(), id.to_owned());
        let standing = self.keeper.call(move |desk| Standing::of(desk, &table, &id)).await.unwrap_or_default();
        match self.acting() {
            Some(act) => standing.with_blocks(act.as_ref(), self.words()),
            None => standing,
        }
    }
}

/// One chat.
pub struct Room {
    /// The sink's name.
    pub name: String,
    /// What it shares with others.
    pub bot: Arc<Bot>,
    chat: ChatId,
    /// Held while a message is drawn anew, so that an older drawing does not come after a later one.
    drawing: Mutex<()>,
}

/// What became of a message about an incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// It is new.
    Sent(i64),
    /// The chat had one, which is up to date now.
    Edited(i64),
}

impl Room {
    /// A chat that nothing is known of yet.
    pub fn new(name: String, chat: ChatId, bot: Arc<Bot>) -> Self {
        Self { name, bot, chat, drawing: Mutex::new(()) }
    }

    /// Whether it is the chat that Telegram speaks of.
    pub async fn is(&self, number: i64, name: Option<&str>) -> bool {
        let configured = match &self.chat {
            ChatId::Number(own) => *own == number,
            ChatId::Name(own) => name.is_some_and(|name| own.trim_start_matches('@').eq_ignore_ascii_case(name)),
        };
        configured || self.place().await == ChatId::Number(number)
    }

    /// A group has become a supergroup, which has another number.
    pub async fn moved(&self, to: i64) {
        info!(sink = self.name, to, "the group has a new number: correct chat_ids when you can");
        self.remember(MOVED, to.to_string()).await;
    }

    /// Sends a message of HTML text, in reply to one of the same chat. Gives its number.
    pub async fn send(
        &self,
        html: &str,
        reply_to: Option<i64>,
        keyboard: Option<Value>,
        key: &str,
    ) -> Result<i64, Failure> {
        let mut body = message(html, keyboard);
        if let Some(reply_to) = reply_to {
            body["reply_parameters"] = json!({"message_id": reply_to, "allow_sending_without_reply": true});
        }
        let sent: Sent = match self.call("sendMessage", body.clone(), key).await {
            Err(Failure { moved_to: Some(to), .. }) => {
                self.moved(to).await;
                self.call("sendMessage", body, key).await?
            }
            sent => sent?,
        };
        Ok(sent.message_id)
    }

    /// Sends a picture in reply to a message, without a sound.
    pub async fn send_photo(&self, png: &[u8], reply_to: i64, key: &str) -> Result<(), Failure> {
        let reply = json!({"message_id": reply_to, "allow_sending_without_reply": true}).to_string();
        let fields = [
            ("chat_id", self.place().await.to_string()),
            ("reply_parameters", reply),
            ("disable_notification", "true".to_owned()),
        ];
        self.bot.api.send_photo(&fields, png, key).await
    }

    /// Has the message about an incident say what an event says; sends it where there is none that can be edited.
    pub async fn show(&self, event: &Event) -> Result<Shown, Refusal> {
        let _turn = self.drawing.lock().await;
        let id = &event.incident.id;
        let known = self.message_about(id).await;
        let mut view = View::of(event, &self.bot.author);
        view.told |= known.is_some();
        let (text, keyboard) = self.draw(id, &view).await.map_err(|error| Refusal::Never(format!("{error:#}")))?;
        let key = event.key();
        if let Some(message) = known {
            match self.edit(message, &text, keyboard.clone(), &key).await {
                Ok(()) => return Ok(Shown::Edited(message)),
                Err(Failure { moved_to: Some(to), .. }) => self.moved(to).await,
                Err(failure) if failure.is_bad_request() => {
                    debug!(sink = self.name, failure.why, "the message cannot be edited: sending another");
                }
                Err(failure) => return Err(failure.refusal()),
            }
        }
        let message = self.send(&text, None, keyboard, &key).await.map_err(Failure::refusal)?;
        self.remember(&about(id), format!("{} {message}", self.place().await)).await;
        Ok(Shown::Sent(message))
    }

    /// Draws a message about an incident anew, after something was done about it: the one given, or the one that is known.
    pub async fn redraw(&self, kept: &Kept, message: Option<i64>) {
        let _turn = self.drawing.lock().await;
        let id = &kept.incident.id;
        let known = self.message_about(id).await;
        let event = event_of(kept);
        let Ok((text, keyboard)) = self.draw(id, &View::of(&event, &self.bot.author)).await else { return };
        let mut messages = [message.or(known), known];
        if messages[0] == messages[1] {
            messages[1] = None;
        }
        for message in messages.into_iter().flatten() {
            if let Err(failure) = self.edit(message, &text, keyboard.clone(), &format!("{}-drawn", event.key())).await {
                debug!(sink = self.name, failure.why, "a message could not be drawn anew");
            }
        }
    }

    /// Puts other buttons, or none, below a message.
    pub async fn offer(&self, message: i64, keyboard: Option<Value>, key: &str) {
        let mut body = json!({"message_id": message});
        if let Some(keyboard) = keyboard {
            body["reply_markup"] = keyboard;
        }
        let offered: Result<Value, _> = self.call("editMessageReplyMarkup", body, key).await;
        if let Err(failure) = offered {
            debug!(sink = self.name, failure.why, "buttons could not be changed");
        }
    }

    /// Has a message say something else, without buttons.
    pub async fn rewrite(&self, message: i64, html: &str, key: &str) {
        if let Err(failure) = self.edit(message, html, None, key).await {
            debug!(sink = self.name, failure.why, "a message could not be rewritten");
        }
    }

    /// The number of the message about an incident, if it was sent to where the chat is now.
    pub async fn message_about(&self, id: &str) -> Option<i64> {
        let known = self.recall(&about(id)).await?;
        let (place, message) = known.split_once(' ')?;
        (place == self.place().await.to_string()).then(|| message.parse().ok())?
    }

    async fn edit(&self, number: i64, html: &str, keyboard: Option<Value>, key: &str) -> Result<(), Failure> {
        let mut body = message(html, keyboard);
        body["message_id"] = number.into();
        match self.call::<Value>("editMessageText", body, key).await {
            Err(failure) if !failure.is_unmodified() => Err(failure),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    async fn call<T: DeserializeOwned>(&self, method: &str, mut body: Value, key: &str) -> Result<T, Failure> {
        body["chat_id"] = match self.place().await {
            ChatId::Number(number) => number.into(),
            ChatId::Name(name) => name.into(),
        };
        self.bot.api.call(method, &body, key).await
    }

    /// The text and the buttons of a message about an incident.
    async fn draw(&self, id: &str, view: &View) -> anyhow::Result<(String, Option<Value>)> {
        let standing = self.bot.standing(id).await;
        let text = compose(&self.bot.templates, view, &standing)?;
        let keyboard = self.bot.listens.then(|| keyboard::of(id, &standing, self.bot.words()));
        Ok((text, keyboard.flatten()))
    }

    async fn place(&self) -> ChatId {
        let moved = self.recall(MOVED).await.and_then(|to| to.parse().ok());
        moved.map_or_else(|| self.chat.clone(), ChatId::Number)
    }

    async fn recall(&self, about: &str) -> Option<String> {
        let (name, about) = (self.name.clone(), about.to_owned());
        self.bot.keeper.call(move |desk| desk.recall(&name, &about)).await.flatten()
    }

    async fn remember(&self, about: &str, value: String) {
        let (name, about) = (self.name.clone(), about.to_owned());
        self.bot.keeper.call(move |desk| desk.remember(&name, &about, &value)).await;
    }
}

/// A message about an incident, and below it what people have done.
pub fn compose(templates: &Templates, view: &View, standing: &Standing) -> anyhow::Result<String> {
    let done: String = standing.lines.iter().map(|line| format!("\n{}", html::escape(line))).collect();
    let whole = |text: &str| if done.is_empty() { text.to_owned() } else { format!("{}\n{done}", text.trim_end()) };
    let text = templates.render_to_fit("telegram.message.html", view, |text| html::fits(&whole(text)))?;
    Ok(whole(&text))
}

/// An incident as it is kept, as an event.
pub fn event_of(kept: &Kept) -> Event {
    let at = kept.closed_at.unwrap_or(kept.incident.last_seen);
    let change = if kept.closed_at.is_some() { Change::Closed } else { Change::Updated };
    let incident = kept.incident.clone();
    Event { seq: 0, n: kept.events, change, rose: false, told: true, at, kept_at: at, incident }
}

fn about(id: &str) -> String {
    format!("message:{id}")
}

fn message(html: &str, keyboard: Option<Value>) -> Value {
    let mut body = json!({"text": html, "parse_mode": "HTML", "link_preview_options": {"is_disabled": true}});
    if let Some(keyboard) = keyboard {
        body["reply_markup"] = keyboard;
    }
    body
}

#[derive(serde::Deserialize)]
struct Sent {
    message_id: i64,
}
