//! Mattermost, by an incoming webhook: a message with one attachment for each event.
//!
//! Source: <https://developers.mattermost.com/integrate/reference/message-attachments/>.

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::post::{Poster, key_of};
use super::sink::{Refusal, Sink};
use super::template::Templates;
use super::template::escape::markdown;
use super::template::fit::units;
use super::terms::{Terms, table};
use super::value::{Period, WebhookUrl};
use super::view::{Author, DigestView, View};
use super::{Wiring, http};
use crate::secret::{Secret, SecretSource};
use crate::store::Event;

/// Longest text of an attachment.
const TEXT: usize = 4000;
/// Longest attachment: older servers keep no more than 8000 characters of one, with the marks of its JSON.
const TOTAL: usize = 6000;
/// Events that a digest lists.
const LISTED: usize = 60;

/// `[[notify.mattermost]]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawConfig", into = "RawConfig")]
pub struct MattermostConfig {
    /// The webhook's address: `url` or `url_file`.
    pub url: SecretSource,
    /// A channel other than the webhook's own, where it is not bound to that.
    pub channel: Option<String>,
    /// By which name it posts, where the server allows it.
    pub username: Option<String>,
    /// Certificates in PEM that sign that of the server, besides those of the system.
    pub ca_file: Option<PathBuf>,
    /// On which terms it is told.
    pub terms: Terms,
}

table! {
    RawConfig {
        #[serde(skip_serializing_if = "Option::is_none")]
        url: Option<Secret>,
        #[serde(skip_serializing_if = "Option::is_none")]
        url_file: Option<PathBuf>,
        #[serde(skip_serializing_if = "Option::is_none")]
        channel: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        username: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        ca_file: Option<PathBuf>,
    }
}

impl TryFrom<RawConfig> for MattermostConfig {
    type Error = String;

    fn try_from(raw: RawConfig) -> Result<Self, String> {
        let terms = raw.terms(Terms::usual().at_most(30, Period::from_secs(60)));
        let url = WebhookUrl::source(raw.url, raw.url_file)?;
        Ok(Self { url, channel: raw.channel, username: raw.username, ca_file: raw.ca_file, terms })
    }
}

impl From<MattermostConfig> for RawConfig {
    fn from(config: MattermostConfig) -> Self {
        let (url, url_file) = config.url.into_settings();
        Self::of(config.terms, url, url_file, config.channel, config.username, config.ca_file)
    }
}

/// Posts to one channel.
pub struct Mattermost {
    poster: Poster,
    url: WebhookUrl,
    words: Words,
}

impl Mattermost {
    /// The sink of a table, and the server that it talks to.
    ///
    /// # Errors
    /// When the address or a certificate cannot be read.
    pub fn build(
        config: &MattermostConfig,
        wiring: &Wiring,
        templates: &Arc<Templates>,
    ) -> Result<(Self, (String, u16))> {
        let url = WebhookUrl::load(&config.url)?;
        let client = http::client_for(&url.server(), config.ca_file.as_deref())?;
        let words = Words {
            templates: Arc::clone(templates),
            author: wiring.author.clone(),
            channel: config.channel.clone(),
            username: config.username.clone(),
        };
        let endpoint = url.server().endpoint();
        let poster = Poster::new(client, config.terms.timeout.get(), url.secrets());
        Ok((Self { poster, url, words }, endpoint))
    }

    async fn post(&self, message: &Value, key: &str) -> Result<(), Refusal> {
        let request = self.poster.client().post(self.url.url().clone()).json(message);
        let answer = self.poster.ask(request, Some(key)).await?;
        if answer.status.is_success() { Ok(()) } else { Err(answer.refusal_of_secret_address(None)) }
    }
}

impl Sink for Mattermost {
    async fn deliver(&mut self, events: &[Event]) -> Result<(), Refusal> {
        for event in events {
            let message = self.words.message(event).map_err(|error| Refusal::Never(format!("{error:#}")))?;
            self.post(&message, &event.key()).await?;
        }
        Ok(())
    }

    async fn digest(&mut self, events: &[Event]) -> Result<usize, Refusal> {
        let digest = self.words.digest(events);
        let (message, listed) = digest.map_err(|error| Refusal::Never(format!("{error:#}")))?;
        self.post(&message, &key_of(&events[..listed], "digest")).await?;
        Ok(listed)
    }
}

/// What is posted.
pub(super) struct Words {
    pub(super) templates: Arc<Templates>,
    pub(super) author: Author,
    pub(super) channel: Option<String>,
    pub(super) username: Option<String>,
}

impl Words {
    /// About one event.
    pub(super) fn message(&self, event: &Event) -> Result<Value> {
        let view = View::of(event, &self.author);
        let text = self.templates.render_to_fit("mattermost.message.md", &view, |text| units(text) <= TEXT)?;
        let title = format!("{} {} · {} · {}", view.emoji, view.title, view.severity_name, markdown(&view.sensor));
        let mut room = TOTAL.saturating_sub(units(&text) + 2 * units(&title));
        let mut fields = Vec::new();
        for one in &view.evidence {
            let (name, value) = (markdown(&one.name), markdown(&one.value));
            let Some(left) = room.checked_sub(units(&name) + units(&value)) else { break };
            room = left;
            fields.push(json!({"title": name, "value": value, "short": true}));
        }
        let mut attachment = json!({
            "fallback": title,
            "color": format!("#{:06x}", view.colour),
            "title": title,
            "text": text.trim(),
            "fields": fields,
            "footer": format!("{} · {}", markdown(&view.sensor), markdown(&view.key)),
        });
        if !view.link.is_empty() {
            attachment["title_link"] = Value::from(view.link);
        }
        Ok(self.of(&attachment))
    }

    /// About the first of several events, and how many these are.
    pub(super) fn digest(&self, events: &[Event]) -> Result<(Value, usize)> {
        let fits = |text: &str| units(text) <= TEXT;
        let of = (events, &self.author);
        let (text, listed) = self.templates.digest_to_fit("mattermost.digest.md", of, LISTED, fits)?;
        let text = text.trim();
        let view = DigestView::of(&events[..listed], &self.author);
        let attachment = json!({
            "fallback": text.lines().next().unwrap_or_default(),
            "color": format!("#{:06x}", view.colour),
            "text": text,
        });
        Ok((self.of(&attachment), listed))
    }

    fn of(&self, attachment: &Value) -> Value {
        let mut message = json!({"attachments": [attachment]});
        for (name, value) in [("channel", &self.channel), ("username", &self.username)] {
            if let Some(value) = value {
                message[name] = Value::from(value.as_str());
            }
        }
        message
    }
}
