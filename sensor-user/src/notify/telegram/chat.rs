//! A chat as a sink: a message for each incident, edited as it goes on, and short replies for what people should hear of.

use std::sync::Arc;

use sensor_core::incident::{Change, Severity};
use tracing::debug;

use super::api::Failure;
use super::html;
use super::room::{Room, Shown};
use crate::notify::picture;
use crate::notify::sink::{Refusal, Sink};
use crate::notify::view::{DigestView, View};
use crate::store::Event;

/// Events that a digest lists.
const LISTED: usize = 60;

/// Writes to one chat.
pub struct Chat {
    pub(super) room: Arc<Room>,
    /// Whether the end of an incident is told in a message of its own; the first one shows it all the same.
    pub(super) send_resolved: bool,
    pub(super) pictures: bool,
}

impl Chat {
    async fn tell(&self, event: &Event) -> Result<(), Refusal> {
        let message = match self.room.show(event).await? {
            Shown::Sent(message) => {
                if event.change != Change::Closed {
                    self.draw(event, message).await;
                }
                return Ok(());
            }
            Shown::Edited(message) => message,
        };
        if event.change == Change::Closed {
            if self.send_resolved {
                self.reply("telegram.over.html", event, message).await?;
            }
        } else if event.rose {
            self.reply("telegram.rise.html", event, message).await?;
            self.draw(event, message).await;
        }
        Ok(())
    }

    /// An edited message makes no sound; this one does.
    async fn reply(&self, template: &str, event: &Event, to: i64) -> Result<(), Refusal> {
        let bot = &self.room.bot;
        let text = bot.templates.render(template, View::of(event, &bot.author));
        let text = text.map_err(|error| Refusal::Never(format!("{error:#}")))?;
        let sent = self.room.send(&text, Some(to), None, &format!("{}-reply", event.key())).await;
        sent.map(drop).map_err(Failure::refusal)
    }

    /// The time line, for what is worth a look now. A message without its picture is told all the same.
    async fn draw(&self, event: &Event, message: i64) {
        if !self.pictures || event.incident.severity < Severity::High {
            return;
        }
        let Some(png) = picture::timeline(&event.incident, self.room.bot.author.language) else { return };
        if let Err(failure) = self.room.send_photo(&png, message, &format!("{}-picture", event.key())).await {
            debug!(sink = self.room.name, failure.why, "a picture could not be sent");
        }
    }
}

impl Sink for Chat {
    async fn deliver(&mut self, events: &[Event]) -> Result<(), Refusal> {
        for event in events {
            self.tell(event).await?;
        }
        Ok(())
    }

    async fn digest(&mut self, events: &[Event]) -> Result<usize, Refusal> {
        let bot = &self.room.bot;
        let mut listed = &events[..events.len().min(LISTED)];
        let text = loop {
            let text = bot.templates.render("telegram.digest.html", DigestView::of(listed, &bot.author));
            let text = text.map_err(|error| Refusal::Never(format!("{error:#}")))?;
            if html::fits(&text) || listed.len() <= 1 {
                break text;
            }
            listed = &listed[..listed.len() * 3 / 4];
        };
        let key = format!("{}-digest-{}", listed.first().map(Event::key).unwrap_or_default(), listed.len());
        self.room.send(&text, None, None, &key).await.map_err(Failure::refusal)?;
        Ok(listed.len())
    }
}
