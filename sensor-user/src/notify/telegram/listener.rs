//! Listens to what people write and press, by long polling: no port is open for it.
//!
//! How far it has got is kept in the store, so that a restart neither loses an update nor takes one twice.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, error, info, warn};

use super::answer::Answer;
use super::api::Failure;
use super::keyboard;
use super::question::Questions;
use super::room::{Bot, Room};
use super::update::{Chat, Update, User};
use crate::export::prometheus::{Metrics, UpdateResult};
use crate::notify::retry::{Backoff, Retry};
use crate::notify::sink::Refusal;
use crate::notify::{Clock, Wiring};
use crate::terminal::Status;

/// Longest wait that Telegram may ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(600);
/// Wait after the token was refused: a person has to mend it.
const REFUSED: Duration = Duration::from_secs(300);
/// A poll that brings nothing takes longer than this, unless the server does not wait.
const SHORT: Duration = Duration::from_secs(1);
/// Longest wait before what the bot says is tried again.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Listens for one bot.
pub struct Listener {
    pub(super) bot: Arc<Bot>,
    pub(super) rooms: Vec<Arc<Room>>,
    pub(super) clock: Clock,
    pub(super) status: watch::Receiver<Option<Status>>,
    /// The bot's own name, once Telegram has said it.
    pub(super) me: Option<String>,
    /// Orders that wait to be confirmed.
    pub(super) questions: Mutex<Questions>,
    allowed_users: BTreeSet<i64>,
    metrics: Arc<Metrics>,
    retry: Retry,
    backoff: Backoff,
    /// The update to go on with.
    next: Option<i64>,
    /// Why the last poll failed, if it did.
    failing: Option<String>,
}

impl Listener {
    /// Listens to the chats of a bot.
    pub(super) fn new(bot: Arc<Bot>, rooms: Vec<Arc<Room>>, allowed_users: BTreeSet<i64>, wiring: &Wiring) -> Self {
        Self {
            bot,
            rooms,
            clock: Arc::clone(&wiring.clock),
            status: wiring.status.clone(),
            me: None,
            questions: Mutex::default(),
            allowed_users,
            metrics: Arc::clone(&wiring.metrics),
            retry: wiring.retry,
            backoff: wiring.retry.backoff(),
            next: None,
            failing: None,
        }
    }

    /// Listens until the sensor stops. What has been begun is finished.
    pub async fn run(mut self, mut closing: watch::Receiver<bool>) {
        loop {
            let polled = tokio::select! {
                polled = self.poll() => polled,
                _ = closing.wait_for(|closing| *closing) => return,
            };
            match polled {
                Ok(updates) => {
                    for update in updates {
                        self.take(update).await;
                        if *closing.borrow() {
                            return;
                        }
                    }
                }
                Err(failure) => {
                    let wait = self.complain(&failure);
                    let _ = timeout(wait, closing.wait_for(|closing| *closing)).await;
                }
            }
        }
    }

    async fn poll(&mut self) -> Result<Vec<Value>, Failure> {
        if self.me.is_none() {
            self.introduce().await;
        }
        let offset = self.offset().await;
        let begun = Instant::now();
        let updates = self.bot.api.updates(offset).await?;
        if self.failing.take().is_some() {
            info!(bot = self.bot.table, "the bot listens again");
        }
        if updates.is_empty() && begun.elapsed() < SHORT {
            sleep(self.backoff.wait()).await;
        } else {
            self.backoff.reset();
        }
        Ok(updates)
    }

    /// Learns the bot's name, and tells clients which commands there are. Neither is needed to go on.
    async fn introduce(&mut self) {
        let Ok(me) = self.bot.api.call::<Value>("getMe", &json!({}), "get-me").await else { return };
        self.me = me["username"].as_str().map(str::to_owned);
        let commands = self.bot.words().commands();
        let commands = commands.map(|(command, about)| json!({"command": command, "description": about}));
        let told = self.bot.api.call::<Value>("setMyCommands", &json!({"commands": commands}), "set-my-commands").await;
        if let Err(failure) = told {
            debug!(bot = self.bot.table, failure.why, "the commands could not be listed");
        }
    }

    /// The first update that has not been taken yet.
    async fn offset(&mut self) -> i64 {
        if let Some(next) = self.next {
            return next;
        }
        let (table, about) = (self.bot.table.clone(), self.about());
        let known = self.bot.keeper.call(move |desk| desk.recall(&table, &about)).await.flatten();
        let next = known.and_then(|known| known.parse().ok()).unwrap_or(0);
        self.next = Some(next);
        next
    }

    /// Deals with one update, and has that kept.
    async fn take(&mut self, update: Value) {
        let Some(number) = update["update_id"].as_i64().filter(|number| *number >= self.next.unwrap_or(0)) else {
            return;
        };
        let result = match serde_json::from_value::<Update>(update) {
            Ok(update) => self.handle(&update).await,
            Err(error) => {
                debug!(bot = self.bot.table, %error, "an update of no known form");
                UpdateResult::Unreadable
            }
        };
        self.metrics.telegram().update(result);
        let next = number.saturating_add(1);
        self.next = Some(next);
        let (table, about) = (self.bot.table.clone(), self.about());
        self.bot.keeper.call(move |desk| desk.remember(&table, &about, &next.to_string())).await;
    }

    async fn handle(&self, update: &Update) -> UpdateResult {
        if let Some(press) = &update.callback_query {
            let Some(message) = &press.message else { return UpdateResult::Unreadable };
            let Some(room) = self.room(&message.chat).await else { return stranger(&message.chat) };
            self.press(&room, press, message).await;
            return UpdateResult::Handled;
        }
        let Some(message) = &update.message else { return UpdateResult::Unreadable };
        let Some(room) = self.room(&message.chat).await else { return stranger(&message.chat) };
        if let Some(to) = message.migrate_to_chat_id {
            room.moved(to).await;
        } else if let (Some(text), Some(from)) = (&message.text, &message.from) {
            if !self.may_act(&message.chat, from) {
                debug!(chat = message.chat.id, user = from.id, "somebody who may not act has written");
                return UpdateResult::Stranger;
            }
            self.answer(&room, message, text, &from.person()).await;
        }
        UpdateResult::Handled
    }

    pub(super) fn may_act(&self, chat: &Chat, user: &User) -> bool {
        chat.lets(user, &self.allowed_users)
    }

    async fn room(&self, chat: &Chat) -> Option<Arc<Room>> {
        for room in &self.rooms {
            if room.is(chat.id, chat.username.as_deref()).await {
                return Some(Arc::clone(room));
            }
        }
        None
    }

    /// Says it, and waits when Telegram asks to. Gives the message's number, if there is one.
    pub(super) async fn say(&self, room: &Room, answer: &Answer, reply_to: i64, key: &str) -> Option<i64> {
        let keyboard = answer.order.as_ref().map(|order| keyboard::meant(order, self.bot.words()));
        let mut patience = self.patience();
        loop {
            match room.send(&answer.html, Some(reply_to), keyboard.clone(), key).await {
                Ok(message) => return Some(message),
                Err(failure) if patience.allows(&failure).await => {}
                Err(failure) => {
                    warn!(sink = room.name, failure.why, "the bot could not answer");
                    return None;
                }
            }
        }
    }

    pub(super) fn patience(&self) -> Patience {
        Patience { attempts: 3, backoff: self.retry.backoff() }
    }

    /// Logs what is new, and gives how long to wait.
    fn complain(&mut self, failure: &Failure) -> Duration {
        let (bot, why) = (&self.bot.table, &failure.why);
        if self.failing.as_ref() != Some(why) {
            if failure.status == Some(StatusCode::CONFLICT) {
                error!(
                    bot,
                    why,
                    "somebody else listens for this bot: stop the other program (or remove its webhook), give this \
                     sensor a bot of its own, or set notify.telegram.commands = false; messages are sent all the same"
                );
            } else if failure.is_of_token() {
                error!(bot, why, "the bot cannot listen: mend notify.telegram, and restart");
            } else {
                warn!(bot, why, "the bot cannot listen, trying again");
            }
        }
        self.failing = Some(why.clone());
        match (failure.after, failure.is_of_token()) {
            (Some(asked), _) => asked.min(LONGEST_ASKED),
            (None, true) => REFUSED,
            (None, false) => self.backoff.wait(),
        }
    }

    /// Another bot counts its updates differently.
    fn about(&self) -> String {
        format!("offset:{}", self.bot.api.bot())
    }
}

fn stranger(chat: &Chat) -> UpdateResult {
    debug!(chat = chat.id, kind = chat.kind, "a chat that is not configured has written");
    UpdateResult::Stranger
}

/// How often something is tried that people wait for.
pub(super) struct Patience {
    attempts: u32,
    backoff: Backoff,
}

impl Patience {
    /// Whether another attempt is worth it; waits until then.
    pub(super) async fn allows(&mut self, failure: &Failure) -> bool {
        self.attempts -= 1;
        let Refusal::Later { after, .. } = failure.clone().refusal() else { return false };
        if self.attempts == 0 {
            return false;
        }
        sleep(after.unwrap_or_else(|| self.backoff.wait()).min(LONGEST_PAUSE)).await;
        true
    }
}
