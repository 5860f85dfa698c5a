//! What the bot answers to a command.

use anyhow::{Context as _, Result};
use tracing::info;

use super::command::{Command, Order, Usage};
use super::html::escape;
use super::listener::Listener;
use super::page::{self, Details};
use super::room::Room;
use super::standing::{self, Muted, Person, Wish};
use super::update::Message;
use crate::notify::text::{clip, plain};
use crate::store::keeper::Desk;
use crate::store::{Incidents, Kept, event_time};

/// What `/top` looks back on, in seconds.
const DAY: u64 = 86_400;
/// Incidents that `/top` counts at most, the latest.
const COUNTED: u32 = 5000;
/// Longest name of a rule that is repeated, in characters.
const NAME_LIMIT: usize = 64;

/// What the bot says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The text.
    pub html: String,
    /// What it asks about, if it asks whether that is meant.
    pub order: Option<Order>,
}

impl From<String> for Answer {
    fn from(html: String) -> Self {
        Self { html, order: None }
    }
}

impl Listener {
    /// Answers a text, if it is a command.
    pub(super) async fn answer(&self, room: &Room, message: &Message, text: &str, who: &Person) {
        let alone = message.chat.is_private();
        let Some(command) = Command::parse(text, self.me.as_deref(), alone) else { return };
        let answer = self.answer_of(command, who).await;
        let answer = answer.unwrap_or_else(|error| escape(&self.bot.words().failed(&error)).into());
        let said = self.say(room, &answer, message.message_id, &format!("answer-{}", message.message_id)).await;
        if let (Some(number), Some(order)) = (said, answer.order) {
            self.asked((message.chat.id, number), order);
        }
    }

    async fn answer_of(&self, command: Command, who: &Person) -> Result<Answer> {
        let (bot, words) = (&self.bot, self.bot.words());
        let html = match command {
            Command::Help => bot.page("telegram.help.html", |_| page::Help::of(&bot.author.sensor, words)),
            Command::Status => {
                let store = self.ask(|desk| Ok(desk.store()?.queues()?)).await;
                let status = *self.status.borrow();
                bot.page("telegram.status.html", |_| page::StatusPage::of(&bot.author, status, &store))
            }
            Command::Top => {
                let since = event_time((self.clock)()) - std::time::Duration::from_secs(DAY);
                let which = Incidents { since: Some(since), limit: Some(COUNTED), ..Incidents::default() };
                let found = self.incidents(which).await?;
                bot.page("telegram.top.html", |most| page::Top::of(&bot.author.sensor, &found, most))
            }
            Command::Incidents(count) => {
                let found = self.incidents(Incidents { limit: Some(count), ..Incidents::default() }).await?;
                bot.page("telegram.incidents.html", |most| page::List::of(&bot.author, &found, most))
            }
            Command::Incident(id) => match self.kept(&id).await? {
                Some(kept) => self.details(&kept).await,
                None => words.no_incident().to_owned(),
            },
            Command::Mute { id, seconds, reason } => match self.kept(&id).await? {
                Some(kept) => self.mute_for(&kept, who, Wish { seconds, reason, replaces: true }).await?,
                None => words.no_incident().to_owned(),
            },
            Command::Mutes => {
                let rules = self.ask(|desk| Ok(desk.store()?.mutes()?)).await?;
                bot.page("telegram.mutes.html", |most| page::Mutes::of(&rules, words, most))
            }
            Command::Unmute(name) => self.unmute(&name, who).await?,
            Command::Order(order) => return Ok(self.question(order)),
            Command::Blocks => self.blocks(),
            Command::Unknown => words.unknown_command().to_owned(),
            Command::Misused(Usage::Incident) => words.usage_incident().to_owned(),
            Command::Misused(Usage::Mute) => words.usage_mute().to_owned(),
            Command::Misused(Usage::Unmute) => words.usage_unmute().to_owned(),
            Command::Misused(Usage::Block) => words.usage_block().to_owned(),
            Command::Misused(Usage::Unblock) => words.usage_unblock().to_owned(),
        };
        Ok(html.into())
    }

    /// All that is known of an incident, as HTML.
    pub(super) async fn details(&self, kept: &Kept) -> String {
        let standing = self.bot.standing(&kept.incident.id).await;
        self.bot.page("telegram.details.html", |most| Details::of(kept, &standing, &self.bot.author, most))
    }

    async fn mute_for(&self, kept: &Kept, who: &Person, wish: Wish) -> Result<String> {
        let words = self.bot.words();
        match self.mute(kept, who, wish).await? {
            Muted::Before(until) => Ok(escape(&words.muted_before(&until))),
            Muted::Now(rule) => {
                self.redraw(kept, None).await;
                let raw = rule.raw();
                Ok(words.rule_added(rule.name(), &raw.expires.to_string(), &page::what(&rule, words)))
            }
        }
    }

    async fn unmute(&self, name: &str, who: &Person) -> Result<String> {
        let (table, by, rule) = (self.bot.table.clone(), who.clone(), name.to_owned());
        let removed = self.ask(move |desk| standing::unmute(desk, &table, &rule, &by)).await?;
        if removed {
            info!(rule = name, actor = who.actor, "a rule was removed");
            if let Some(id) = name.strip_prefix(&standing::rule_name(""))
                && let Some(kept) = self.kept(id).await?
            {
                self.redraw(&kept, None).await;
            }
        }
        Ok(self.bot.words().rule_removed(&clip(&plain(name), NAME_LIMIT), removed))
    }

    async fn incidents(&self, which: Incidents) -> Result<Vec<Kept>> {
        self.ask(move |desk| Ok(desk.store()?.incidents(&which)?)).await
    }

    /// Asks the store.
    async fn ask<R: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Desk) -> Result<R> + Send + 'static,
    ) -> Result<R> {
        self.bot.keeper.call(question).await.context(self.bot.words().stopping())?
    }
}
