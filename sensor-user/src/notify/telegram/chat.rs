//! One chat: a message when an incident opens, and a reply to it for what comes after.

use std::sync::Arc;

use sensor_core::incident::Change;

use super::ChatId;
use super::api::{Bot, SendMessage};
use crate::notify::sink::{Refusal, Sink};
use crate::notify::template::Templates;
use crate::notify::view::{Author, DigestView, View};
use crate::store::Event;
use crate::store::keeper::Keeper;

/// Longest message, in UTF-16 code units of the text without its tags.
const LIMIT: usize = 4096;
/// Events that a digest lists.
const LISTED: usize = 60;

/// Writes to one chat.
pub struct Chat {
    pub(super) name: String,
    pub(super) chat: ChatId,
    pub(super) bot: Arc<Bot>,
    pub(super) templates: Arc<Templates>,
    pub(super) author: Author,
    pub(super) keeper: Keeper,
}

impl Chat {
    async fn send(&mut self, text: &str, reply_to: Option<i64>) -> Result<Option<i64>, Refusal> {
        self.bot.send(&SendMessage::new(&self.chat, text, reply_to)).await
    }

    async fn recall(&self, about: &str) -> Option<i64> {
        let (name, about) = (self.name.clone(), about.to_owned());
        self.keeper.call(move |desk| desk.recall(&name, &about)).await.flatten()?.parse().ok()
    }

    async fn remember(&self, about: &str, number: i64) {
        let (name, about) = (self.name.clone(), about.to_owned());
        self.keeper.call(move |desk| desk.remember(&name, &about, &number.to_string())).await;
    }
}

impl Sink for Chat {
    async fn deliver(&mut self, events: &[Event]) -> Result<(), Refusal> {
        for event in events {
            let view = View::of(event, &self.author);
            let first = self.recall(&view.id).await;
            let template = match (event.change, first) {
                (Change::Closed, Some(_)) => "telegram.over.html",
                (Change::Opened | Change::Updated | Change::Closed, _) => "telegram.message.html",
            };
            let text = self.templates.render_to_fit(template, &view, |html| units(html) <= LIMIT);
            let text = text.map_err(|error| Refusal::Never(format!("{error:#}")))?;
            let number = self.send(&text, first).await?;
            if let (None, Some(number)) = (first, number) {
                self.remember(&view.id, number).await;
            }
        }
        Ok(())
    }

    async fn digest(&mut self, events: &[Event]) -> Result<usize, Refusal> {
        let listed = &events[..events.len().min(LISTED)];
        let text = self.templates.render("telegram.digest.html", DigestView::of(listed, &self.author));
        let text = text.map_err(|error| Refusal::Never(format!("{error:#}")))?;
        self.send(&text, None).await?;
        Ok(listed.len())
    }
}

/// Length of a text as Telegram counts it: without tags, and entities as what they stand for.
fn units(html: &str) -> usize {
    let (mut units, mut rest) = (0, html);
    while let Some(c) = rest.chars().next() {
        let end = match c {
            '<' => rest.find('>'),
            '&' => rest.find(';').inspect(|_| units += 1),
            _ => {
                units += c.len_utf16();
                None
            }
        };
        rest = &rest[end.map_or(c.len_utf8(), |end| end + 1)..];
    }
    units
}
