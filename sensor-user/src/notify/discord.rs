//! Discord, by a webhook of a channel: one message for each incident, which changes with it. When an incident becomes worse, it
//! gets a new one, for nobody is told of an edit.
//!
//! Source: <https://docs.discord.com/developers/resources/webhook>.

pub(super) mod embed;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use reqwest::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::post::{Answer, Poster, key_of, seconds};
use super::sink::{Refusal, Sink};
use super::template::Templates;
use super::terms::{Terms, table};
use super::value::{Period, WebhookUrl};
use super::view::Author;
use super::{Wiring, http};
use crate::secret::{Secret, SecretSource};
use crate::store::Event;
use crate::store::keeper::Keeper;

/// `[[notify.discord]]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawConfig", into = "RawConfig")]
pub struct DiscordConfig {
    /// The webhook's address: `url` or `url_file`.
    pub url: SecretSource,
    /// On which terms it is told.
    pub terms: Terms,
}

table! {
    RawConfig {
        #[serde(skip_serializing_if = "Option::is_none")]
        url: Option<Secret>,
        #[serde(skip_serializing_if = "Option::is_none")]
        url_file: Option<PathBuf>,
    }
}

impl TryFrom<RawConfig> for DiscordConfig {
    type Error = String;

    fn try_from(raw: RawConfig) -> Result<Self, String> {
        // A webhook may post thirty messages a minute to one channel.
        let terms = raw.terms(Terms::usual().at_most(30, Period::from_secs(60)));
        Ok(Self { url: WebhookUrl::source(raw.url, raw.url_file)?, terms })
    }
}

impl From<DiscordConfig> for RawConfig {
    fn from(config: DiscordConfig) -> Self {
        let (url, url_file) = config.url.into_settings();
        Self::of(config.terms, url, url_file)
    }
}

/// Posts to one channel.
pub struct Discord {
    name: String,
    poster: Poster,
    url: WebhookUrl,
    templates: Arc<Templates>,
    author: Author,
    keeper: Keeper,
}

impl Discord {
    /// The sink of a table, by the name under which it remembers its messages, and the server that it talks to.
    ///
    /// # Errors
    /// When the address cannot be read.
    pub fn build(
        config: &DiscordConfig,
        name: &str,
        wiring: &Wiring,
        templates: &Arc<Templates>,
    ) -> Result<(Self, (String, u16))> {
        let url = WebhookUrl::load(&config.url)?;
        let client = http::client_for(&url.server(), None)?;
        let endpoint = url.server().endpoint();
        let this = Self {
            name: name.to_owned(),
            poster: Poster::new(client, config.terms.timeout.get(), url.secrets()),
            url,
            templates: Arc::clone(templates),
            author: wiring.author.clone(),
            keeper: wiring.keeper.clone(),
        };
        Ok((this, endpoint))
    }

    /// Posts a message; gives its number when Discord says it.
    async fn post(&self, message: &Value, key: &str) -> Result<Option<String>, Refusal> {
        let request = self.poster.client().post(self.url.with(&[], Some(("wait", "true")))).json(message);
        let answer = self.poster.ask(request, Some(key)).await?;
        if !answer.status.is_success() {
            return Err(answer.refusal_of_secret_address(asked(&answer)));
        }
        let message: Option<Message> = serde_json::from_str(&answer.body).ok();
        Ok(message.map(|message| message.id).filter(|id| is_number(id)))
    }

    /// Changes a message; says whether it is still there.
    async fn edit(&self, number: &str, message: &Value, key: &str) -> Result<bool, Refusal> {
        let request = self.poster.client().patch(self.url.with(&["messages", number], None)).json(message);
        let answer = self.poster.ask(request, Some(key)).await?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(false),
            status if status.is_success() => Ok(true),
            _ => Err(answer.refusal(asked(&answer))),
        }
    }

    async fn recall(&self, about: &str) -> Option<String> {
        let (name, about) = (self.name.clone(), about.to_owned());
        self.keeper.call(move |desk| desk.recall(&name, &about)).await.flatten().filter(|number| is_number(number))
    }

    async fn remember(&self, about: &str, number: String) {
        let (name, about) = (self.name.clone(), about.to_owned());
        self.keeper.call(move |desk| desk.remember(&name, &about, &number)).await;
    }
}

impl Sink for Discord {
    async fn deliver(&mut self, events: &[Event]) -> Result<(), Refusal> {
        for event in events {
            let (key, about) = (event.key(), &event.incident.id);
            let message = embed::of(event, &self.author, &self.templates);
            let message = message.map_err(|error| Refusal::Never(format!("{error:#}")))?;
            let known = if event.rose { None } else { self.recall(about).await };
            if let Some(number) = known
                && self.edit(&number, &message, &key).await?
            {
                continue;
            }
            if let Some(number) = self.post(&message, &key).await? {
                self.remember(about, number).await;
            }
        }
        Ok(())
    }

    async fn digest(&mut self, events: &[Event]) -> Result<usize, Refusal> {
        let digest = embed::of_several(events, &self.author, &self.templates);
        let (message, listed) = digest.map_err(|error| Refusal::Never(format!("{error:#}")))?;
        self.post(&message, &key_of(&events[..listed], "digest")).await?;
        Ok(listed)
    }
}

#[derive(Deserialize)]
struct Message {
    id: String,
}

#[derive(Deserialize)]
struct Limited {
    retry_after: f64,
}

/// How long Discord wants to be left alone: in the body to the millisecond, else in a header.
fn asked(answer: &Answer) -> Option<Duration> {
    let in_body = serde_json::from_str::<Limited>(&answer.body).ok();
    let in_body = in_body.and_then(|limited| Duration::try_from_secs_f64(limited.retry_after).ok());
    in_body.or_else(|| seconds(answer.headers.get("x-ratelimit-reset-after")?.to_str().ok()?))
}

/// Whether this can be the number of a message, and so part of a path.
fn is_number(id: &str) -> bool {
    !id.is_empty() && id.len() <= 20 && id.bytes().all(|b| b.is_ascii_digit())
}
