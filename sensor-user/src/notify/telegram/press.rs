//! What happens when a button is pressed.
//!
//! Everything can be pressed twice, late, or by two people at once: what is done already is said, and not done again.

use anyhow::{Context as _, Result, anyhow};
use serde_json::{Value, json};
use tracing::{debug, info};

use super::keyboard::{self, Button};
use super::listener::Listener;
use super::room::Room;
use super::standing::{self, Muted, Person, Wish};
use super::update::{Message, Press};
use crate::store::{Kept, Verdict};

/// What the person is shown at once, and what comes after.
pub(super) struct Outcome {
    text: String,
    /// Whether the text has to be closed, in place of fading away.
    alert: bool,
    then: Then,
}

pub(super) enum Then {
    Nothing,
    /// Other buttons below the message.
    Offer(Option<Value>),
    /// The message shows what was done.
    Redraw(Box<Kept>),
    /// The same, and what cannot be said in short.
    RedrawAndSay(Box<Kept>, String),
    /// The message says this, and has no buttons any more.
    Rewrite(String),
    /// All that is known, as a reply.
    Details(Box<Kept>),
}

impl Outcome {
    pub(super) fn then(then: Then) -> Self {
        Self { text: String::new(), alert: false, then }
    }

    pub(super) fn short(text: impl Into<String>, then: Then) -> Self {
        Self { text: text.into(), alert: false, then }
    }

    pub(super) fn alert(text: impl Into<String>) -> Self {
        Self { text: text.into(), alert: true, then: Then::Nothing }
    }

    /// An alert, and what comes after.
    pub(super) fn alert_then(text: impl Into<String>, then: Then) -> Self {
        Self { then, ..Self::alert(text) }
    }
}

impl Listener {
    /// Does what a button stands for. Telegram shows a clock on the button until the press is answered: it always is.
    pub(super) async fn press(&self, room: &Room, press: &Press, message: &Message) {
        let words = self.bot.words();
        let outcome = if !self.may_act(&message.chat, &press.from) {
            debug!(chat = message.chat.id, user = press.from.id, "somebody who may not act has pressed a button");
            Outcome::alert(words.not_allowed())
        } else {
            let (data, who) = (press.data.as_deref().unwrap_or_default(), press.from.person());
            match (keyboard::consent(data), keyboard::parse(data)) {
                (Some(meant), _) => self.consent((message.chat.id, message.message_id), meant, &who).await,
                (None, Some((button, id))) => {
                    let done = self.act(button, id, &who).await;
                    done.unwrap_or_else(|error| Outcome::alert(words.failed(&error)))
                }
                (None, None) => Outcome::short(words.unknown_button(), Then::Nothing),
            }
        };
        self.answer_press(&press.id, &outcome).await;
        let key = format!("press-{}", press.id);
        match outcome.then {
            Then::Nothing => {}
            Then::Offer(keyboard) => room.offer(message.message_id, keyboard, &key).await,
            Then::Redraw(kept) => self.redraw(&kept, Some((room, message.message_id))).await,
            Then::RedrawAndSay(kept, html) => {
                self.redraw(&kept, Some((room, message.message_id))).await;
                self.say(room, &html.into(), message.message_id, &key).await;
            }
            Then::Rewrite(html) => room.rewrite(message.message_id, &html, &key).await,
            Then::Details(kept) => {
                let page = self.details(&kept).await;
                self.say(room, &page.into(), message.message_id, &key).await;
            }
        }
    }

    /// Has the messages about an incident in all chats show what was done, and one that a button was pressed of.
    pub(super) async fn redraw(&self, kept: &Kept, pressed: Option<(&Room, i64)>) {
        for room in &self.rooms {
            let pressed = pressed.filter(|(pressed, _)| pressed.name == room.name).map(|(_, message)| message);
            room.redraw(kept, pressed).await;
        }
    }

    async fn act(&self, button: Button, id: &str, who: &Person) -> Result<Outcome> {
        let words = self.bot.words();
        let Some(kept) = self.kept(id).await?.filter(|kept| kept.incident.id == id) else {
            return Ok(Outcome::short(words.no_incident(), Then::Nothing));
        };
        let kept = Box::new(kept);
        Ok(match button {
            Button::Details => Outcome::then(Then::Details(kept)),
            Button::Mute => Outcome::then(Then::Offer(keyboard::spans(id, words))),
            Button::FalsePositive => Outcome::then(Then::Offer(keyboard::sure(id, words))),
            Button::Cancel => Outcome::then(Then::Offer(keyboard::of(id, &self.bot.standing(id).await, words))),
            Button::MuteFor(span) => {
                let wish = Wish { seconds: span.seconds(), reason: String::new(), replaces: false };
                match self.mute(&kept, who, wish).await? {
                    Muted::Before(until) => Outcome::short(words.muted_before(&until), Then::Redraw(kept)),
                    Muted::Now(_) => Outcome::short(words.muted_short(), Then::Redraw(kept)),
                }
            }
            Button::SurelyFalsePositive => self.judge(kept, who, Verdict::FalsePositive).await?,
            Button::Confirmed => self.judge(kept, who, Verdict::Confirmed).await?,
            Button::Block => self.ask_to_block(&kept),
            Button::SurelyBlock => self.block_attackers(kept, who),
            Button::Unblock => self.ask_to_unblock(&kept),
            Button::SurelyUnblock => self.unblock_attackers(kept, who),
        })
    }

    async fn judge(&self, kept: Box<Kept>, who: &Person, verdict: Verdict) -> Result<Outcome> {
        let words = self.bot.words();
        let (table, by, about) = (self.bot.table.clone(), who.clone(), kept.clone());
        let judged = self.bot.keeper.call(move |desk| standing::judge(desk, &table, &about, &by, verdict, words)).await;
        if !judged.context(words.stopping())?? {
            return Ok(Outcome::short(words.judged_before(), Then::Redraw(kept)));
        }
        info!(incident = kept.incident.id, verdict = verdict.as_str(), actor = who.actor, "an incident was judged");
        Ok(Outcome::short(words.judged_short(), Then::Redraw(kept)))
    }

    /// Adds the rule about an incident.
    pub(super) async fn mute(&self, kept: &Kept, who: &Person, wish: Wish) -> Result<Muted> {
        let words = self.bot.words();
        let (table, by, about) = (self.bot.table.clone(), who.clone(), kept.clone());
        let muted = self.bot.keeper.call(move |desk| standing::mute(desk, &table, &about, &by, &wish, words)).await;
        let muted = muted.context(words.stopping())??;
        if let Muted::Now(rule) = &muted {
            info!(rule = rule.name(), until = %rule.raw().expires, actor = who.actor, "an incident was muted");
        }
        Ok(muted)
    }

    /// The incident that an identifier, or its beginning, stands for.
    pub(super) async fn kept(&self, id: &str) -> Result<Option<Kept>> {
        let id = id.to_owned();
        let kept = self.bot.keeper.call(move |desk| Ok(desk.store()?.incident(&id)?)).await;
        kept.ok_or_else(|| anyhow!(self.bot.words().stopping()))?
    }

    async fn answer_press(&self, id: &str, outcome: &Outcome) {
        let mut body = json!({"callback_query_id": id});
        if !outcome.text.is_empty() {
            body["text"] = outcome.text.as_str().into();
            body["show_alert"] = outcome.alert.into();
        }
        let mut patience = self.patience();
        let key = format!("press-{id}-answer");
        while let Err(failure) = self.bot.api.call::<Value>("answerCallbackQuery", &body, &key).await {
            if !patience.allows(&failure).await {
                debug!(bot = self.bot.table, failure.why, "a press could not be answered");
                return;
            }
        }
    }
}
