//! ntfy: a notification on a phone for each event.
//!
//! Source: <https://docs.ntfy.sh/publish/#publish-as-json>.

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use sensor_core::incident::{Change, Severity};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::auth::{Auth, AuthConfig};
use super::post::{Poster, key_of};
use super::sink::{Refusal, Sink};
use super::template::Templates;
use super::terms::{Terms, table};
use super::text::clip;
use super::value::{HttpUrl, Period};
use super::view::{Author, DigestView, View};
use super::{Wiring, http};
use crate::secret::{Secret, SecretSource};
use crate::store::Event;

/// Longest message in octets: what is longer becomes a file.
const MESSAGE: usize = 4096;
/// Longest title, in characters.
const TITLE: usize = 200;
/// Events that a digest lists.
const LISTED: usize = 40;

/// `[[notify.ntfy]]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawConfig", into = "RawConfig")]
pub struct NtfyConfig {
    /// The server.
    pub url: HttpUrl,
    /// What phones subscribe to.
    pub topic: String,
    /// Access token: `token` or `token_file`.
    pub token: Option<SecretSource>,
    /// Certificates in PEM that sign that of the server, besides those of the system.
    pub ca_file: Option<PathBuf>,
    /// On which terms it is told.
    pub terms: Terms,
}

table! {
    RawConfig {
        url: HttpUrl,
        topic: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        token: Option<Secret>,
        #[serde(skip_serializing_if = "Option::is_none")]
        token_file: Option<PathBuf>,
        #[serde(skip_serializing_if = "Option::is_none")]
        ca_file: Option<PathBuf>,
    }
}

impl TryFrom<RawConfig> for NtfyConfig {
    type Error = String;

    fn try_from(raw: RawConfig) -> Result<Self, String> {
        let terms = raw.terms(Terms::usual().at_most(20, Period::from_secs(60)));
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if raw.topic.is_empty() || raw.topic.len() > 64 || !raw.topic.bytes().all(allowed) {
            return Err("a topic has letters, digits, - and _, at most 64".to_owned());
        }
        let token = SecretSource::of(raw.token, raw.token_file).map_err(|error| format!("token: {error}"))?;
        Ok(Self { url: raw.url, topic: raw.topic, token, ca_file: raw.ca_file, terms })
    }
}

impl From<NtfyConfig> for RawConfig {
    fn from(config: NtfyConfig) -> Self {
        let (token, token_file) = config.token.map(SecretSource::into_settings).unwrap_or_default();
        Self::of(config.terms, config.url, config.topic, token, token_file, config.ca_file)
    }
}

/// Publishes to one topic.
pub struct Ntfy {
    poster: Poster,
    url: String,
    auth: Auth,
    words: Words,
}

impl Ntfy {
    /// The sink of a table.
    ///
    /// # Errors
    /// When the token or a certificate cannot be read.
    pub fn build(config: &NtfyConfig, wiring: &Wiring, templates: &Arc<Templates>) -> Result<Self> {
        let auth = config.token.clone().map(AuthConfig::Bearer);
        let auth = Auth::load(auth.as_ref()).context("read the token")?;
        let client = http::client_for(&config.url, config.ca_file.as_deref())?;
        Ok(Self {
            poster: Poster::new(client, config.terms.timeout.get(), auth.secret()),
            url: config.url.join("/"),
            auth,
            words: Words {
                templates: Arc::clone(templates),
                author: wiring.author.clone(),
                topic: config.topic.clone(),
            },
        })
    }

    async fn post(&self, message: &Value, key: &str) -> Result<(), Refusal> {
        let request = self.auth.sign(self.poster.client().post(&self.url).json(message));
        self.poster.send(request, Some(key)).await.map(drop)
    }
}

impl Sink for Ntfy {
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

/// What is published.
pub(super) struct Words {
    pub(super) templates: Arc<Templates>,
    pub(super) author: Author,
    pub(super) topic: String,
}

impl Words {
    /// About one event.
    pub(super) fn message(&self, event: &Event) -> Result<Value> {
        let view = View::of(event, &self.author);
        let text = self.templates.render_to_fit("ntfy.message.txt", &view, |text| text.len() <= MESSAGE)?;
        let over = event.change == Change::Closed;
        let title = format!("{} · {} · {}", view.title, view.severity_name, view.sensor);
        let mut message = json!({
            "topic": self.topic,
            "title": clip(&title, TITLE),
            "message": text.trim(),
            "priority": if over { 2 } else { priority(event.incident.severity) },
            "tags": [if over { "green_circle" } else { circle(event.incident.severity) }, view.class, view.change],
        });
        if !view.link.is_empty() {
            message["click"] = Value::from(view.link);
        }
        Ok(message)
    }

    /// About the first of several events, and how many these are.
    pub(super) fn digest(&self, events: &[Event]) -> Result<(Value, usize)> {
        let fits = |text: &str| text.len() <= MESSAGE;
        let of = (events, &self.author);
        let (text, listed) = self.templates.digest_to_fit("ntfy.digest.txt", of, LISTED, fits)?;
        let (title, text) = text.split_once('\n').unwrap_or((&text, &text));
        let listed_events = &events[..listed];
        let worst = listed_events.iter().map(|event| event.incident.severity).max().unwrap_or(Severity::Low);
        let view = DigestView::of(listed_events, &self.author);
        let mut message = json!({
            "topic": self.topic,
            "title": clip(title, TITLE),
            "message": text.trim(),
            "priority": priority(worst),
            "tags": [circle(worst)],
        });
        if !view.link.is_empty() {
            message["click"] = Value::from(view.link);
        }
        Ok((message, listed))
    }
}

/// 3 is the usual one; 5 rings through.
const fn priority(severity: Severity) -> u8 {
    match severity {
        Severity::Low => 2,
        Severity::Medium => 3,
        Severity::High => 4,
        Severity::Critical => 5,
    }
}

/// By the names that ntfy shows as pictures.
const fn circle(severity: Severity) -> &'static str {
    match severity {
        Severity::Low => "large_blue_circle",
        Severity::Medium => "yellow_circle",
        Severity::High => "orange_circle",
        Severity::Critical => "red_circle",
    }
}
