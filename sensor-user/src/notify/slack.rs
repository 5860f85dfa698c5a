//! Slack, by an incoming webhook: a message of blocks for each event. Others that take Slack's webhooks, such as Rocket.Chat,
//! are told in plain text.
//!
//! Source: <https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks>.

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
use super::template::escape::slack as escaped;
use super::template::fit::units;
use super::terms::{Terms, table};
use super::text::clip;
use super::value::{Period, WebhookUrl};
use super::view::{Author, View};
use super::{Wiring, http};
use crate::secret::{Secret, SecretSource};
use crate::store::Event;

/// Longest header, in characters.
const HEADER: usize = 150;
/// Longest text of a section, in characters.
const SECTION: usize = 3000;
/// Longest text of which Slack makes no more than one message.
const TEXT: usize = 4000;
/// Events that a digest lists.
const LISTED: usize = 60;

/// `[[notify.slack]]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawConfig", into = "RawConfig")]
pub struct SlackConfig {
    /// The webhook's address: `url` or `url_file`.
    pub url: SecretSource,
    /// Whether text is sent instead of blocks.
    pub plain: bool,
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
        #[serde(default)]
        plain: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        ca_file: Option<PathBuf>,
    }
}

impl TryFrom<RawConfig> for SlackConfig {
    type Error = String;

    fn try_from(raw: RawConfig) -> Result<Self, String> {
        // A webhook may post once a second; people do not read as fast.
        let terms = raw.terms(Terms::usual().at_most(30, Period::from_secs(60)));
        let url = WebhookUrl::source(raw.url, raw.url_file)?;
        Ok(Self { url, plain: raw.plain, ca_file: raw.ca_file, terms })
    }
}

impl From<SlackConfig> for RawConfig {
    fn from(config: SlackConfig) -> Self {
        let (url, url_file) = config.url.into_settings();
        Self::of(config.terms, url, url_file, config.plain, config.ca_file)
    }
}

/// Posts to one channel.
pub struct Slack {
    poster: Poster,
    url: WebhookUrl,
    words: Words,
}

impl Slack {
    /// The sink of a table, and the server that it talks to.
    ///
    /// # Errors
    /// When the address or a certificate cannot be read.
    pub fn build(config: &SlackConfig, wiring: &Wiring, templates: &Arc<Templates>) -> Result<(Self, (String, u16))> {
        let url = WebhookUrl::load(&config.url)?;
        let client = http::client_for(&url.server(), config.ca_file.as_deref())?;
        let poster = Poster::new(client, config.terms.timeout.get(), url.secrets());
        let words = Words { templates: Arc::clone(templates), author: wiring.author.clone(), plain: config.plain };
        let endpoint = url.server().endpoint();
        Ok((Self { poster, url, words }, endpoint))
    }

    async fn post(&self, message: Result<Value>, key: &str) -> Result<(), Refusal> {
        let message = message.map_err(|error| Refusal::Never(format!("{error:#}")))?;
        let request = self.poster.client().post(self.url.url().clone()).json(&message);
        let answer = self.poster.ask(request, Some(key)).await?;
        if answer.status.is_success() { Ok(()) } else { Err(answer.refusal_of_secret_address(None)) }
    }
}

impl Sink for Slack {
    async fn deliver(&mut self, events: &[Event]) -> Result<(), Refusal> {
        for event in events {
            self.post(self.words.message(event), &event.key()).await?;
        }
        Ok(())
    }

    async fn digest(&mut self, events: &[Event]) -> Result<usize, Refusal> {
        let digest = self.words.digest(events);
        let (message, listed) = digest.map_err(|error| Refusal::Never(format!("{error:#}")))?;
        self.post(Ok(message), &key_of(&events[..listed], "digest")).await?;
        Ok(listed)
    }
}

/// What is posted.
pub(super) struct Words {
    pub(super) templates: Arc<Templates>,
    pub(super) author: Author,
    pub(super) plain: bool,
}

impl Words {
    /// About one event.
    pub(super) fn message(&self, event: &Event) -> Result<Value> {
        let view = View::of(event, &self.author);
        let text = self.templates.render_to_fit("slack.message.mrkdwn", &view, |text| units(text) <= SECTION)?;
        let title = format!("{} {} · {} · {}", view.emoji, view.title, view.severity_name, view.sensor);
        if self.plain {
            return Ok(only_text(&format!("*{}*\n{}\n`{}`", escaped(&title), text.trim(), escaped(&view.key))));
        }
        // What notifications show, and what is read aloud.
        let short = format!("{}: {}", escaped(&title), escaped(&clip(&view.summary, SECTION / 10)));
        let mut message = only_text(&short);
        message["blocks"] = json!([
            {"type": "header", "text": {"type": "plain_text", "text": clip(&title, HEADER), "emoji": false}},
            section(text.trim()),
            {"type": "context", "elements": [mrkdwn(&format!("{} · {}", escaped(&view.sensor), escaped(&view.key)))]},
        ]);
        Ok(message)
    }

    /// About the first of several events, and how many these are.
    pub(super) fn digest(&self, events: &[Event]) -> Result<(Value, usize)> {
        let fits = |text: &str| units(text) <= SECTION;
        let of = (events, &self.author);
        let (text, listed) = self.templates.digest_to_fit("slack.digest.mrkdwn", of, LISTED, fits)?;
        let text = text.trim();
        if self.plain {
            return Ok((only_text(text), listed));
        }
        let mut message = only_text(text.lines().next().unwrap_or_default());
        message["blocks"] = json!([section(text)]);
        Ok((message, listed))
    }
}

/// Text in which nothing is looked for: no names, no links.
fn only_text(text: &str) -> Value {
    debug_assert!(units(text) <= TEXT, "sections are shorter");
    json!({"text": text, "parse": "none", "link_names": false, "unfurl_links": false, "unfurl_media": false})
}

fn section(text: &str) -> Value {
    json!({"type": "section", "text": mrkdwn(text)})
}

fn mrkdwn(text: &str) -> Value {
    json!({"type": "mrkdwn", "text": text, "verbatim": true})
}
