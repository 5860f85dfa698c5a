//! Any program that takes JSON by HTTP: the incident as the contract has it, signed if wanted.

pub(crate) mod sign;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use minijinja::{Value, context};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use sensor_core::contract::IncidentLine;
use sensor_core::incident::{Change, IncidentEvent};
use serde::{Deserialize, Serialize};

use self::sign::Signer;
use super::auth::{Auth, AuthConfig, Headers, RawBasic};
use super::post::{Poster, key_of};
use super::sink::{Refusal, Sink};
use super::template::Templates;
use super::terms::{Terms, table};
use super::value::WebhookUrl;
use super::view::{Author, DigestView, View};
use super::{Clock, Wiring, http};
use crate::secret::{Secret, SecretSource};
use crate::store::{Event, event_time};

/// Events that a digest lists.
const LISTED: usize = 100;

/// `[[notify.webhook]]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawConfig", into = "RawConfig")]
pub struct WebhookConfig {
    /// The address: `url` or `url_file`.
    pub url: SecretSource,
    /// Who the sensor is to the server.
    pub auth: Option<AuthConfig>,
    /// Headers besides those of every request.
    pub headers: Headers,
    /// What requests are signed with: `secret` or `secret_file`.
    pub secret: Option<SecretSource>,
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
        basic_auth: Option<RawBasic>,
        #[serde(skip_serializing_if = "Option::is_none")]
        bearer_token: Option<Secret>,
        #[serde(skip_serializing_if = "Option::is_none")]
        bearer_token_file: Option<PathBuf>,
        #[serde(default, skip_serializing_if = "Headers::is_empty")]
        headers: Headers,
        #[serde(skip_serializing_if = "Option::is_none")]
        secret: Option<Secret>,
        #[serde(skip_serializing_if = "Option::is_none")]
        secret_file: Option<PathBuf>,
        #[serde(skip_serializing_if = "Option::is_none")]
        ca_file: Option<PathBuf>,
    }
}

impl TryFrom<RawConfig> for WebhookConfig {
    type Error = String;

    fn try_from(raw: RawConfig) -> Result<Self, String> {
        let terms = raw.terms(Terms::usual());
        let auth = AuthConfig::of(raw.basic_auth, raw.bearer_token, raw.bearer_token_file)?;
        if auth.is_some() && raw.headers.authorize() {
            return Err("the header Authorization excludes basic_auth and bearer_token".to_owned());
        }
        let url = WebhookUrl::source(raw.url, raw.url_file)?;
        let secret = SecretSource::of(raw.secret, raw.secret_file).map_err(|error| format!("secret: {error}"))?;
        Ok(Self { url, auth, headers: raw.headers, secret, ca_file: raw.ca_file, terms })
    }
}

impl From<WebhookConfig> for RawConfig {
    fn from(config: WebhookConfig) -> Self {
        let (url, url_file) = config.url.into_settings();
        let (basic, token, token_file) = AuthConfig::into_settings(config.auth);
        let (secret, secret_file) = config.secret.map(SecretSource::into_settings).unwrap_or_default();
        Self {
            url,
            url_file,
            basic_auth: basic,
            bearer_token: token,
            bearer_token_file: token_file,
            secret,
            secret_file,
            ..Self::of(config.terms, None, None, None, None, None, config.headers, None, None, config.ca_file)
        }
    }
}

/// Posts to one address.
pub struct Webhook {
    poster: Poster,
    url: WebhookUrl,
    auth: Auth,
    headers: HeaderMap,
    signer: Option<Signer>,
    clock: Clock,
    words: Words,
}

impl Webhook {
    /// The sink of a table, and the server that it talks to.
    ///
    /// # Errors
    /// When the address, a secret or a certificate cannot be read.
    pub fn build(config: &WebhookConfig, wiring: &Wiring, templates: &Arc<Templates>) -> Result<(Self, (String, u16))> {
        let url = WebhookUrl::load(&config.url)?;
        let auth = Auth::load(config.auth.as_ref())?;
        let secret = config.secret.as_ref().map(SecretSource::load).transpose().context("read the secret")?;
        let signer = secret.as_ref().map(Signer::new).transpose()?;
        let client = http::client_for(&url.server(), config.ca_file.as_deref())?;
        let hidden = url.secrets().into_iter().chain(auth.secret()).chain(config.headers.secrets()).chain(secret);
        let endpoint = url.server().endpoint();
        let this = Self {
            poster: Poster::new(client, config.terms.timeout.get(), hidden),
            url,
            auth,
            headers: config.headers.map(),
            signer,
            clock: Arc::clone(&wiring.clock),
            words: Words { templates: Arc::clone(templates), author: wiring.author.clone() },
        };
        Ok((this, endpoint))
    }

    async fn post(&self, body: Result<String>, key: &str) -> Result<(), Refusal> {
        let body = body.map_err(|error| Refusal::Never(format!("{error:#}")))?;
        let request = self.poster.client().post(self.url.url().clone()).headers(self.headers.clone());
        let mut request = self.auth.sign(request).header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(signer) = &self.signer {
            request = request.headers(signer.headers(key, event_time((self.clock)()).secs(), &body));
        }
        self.poster.send(request.body(body), Some(key)).await.map(drop)
    }
}

impl Sink for Webhook {
    async fn deliver(&mut self, events: &[Event]) -> Result<(), Refusal> {
        for event in events {
            self.post(self.words.event(event), &event.key()).await?;
        }
        Ok(())
    }

    async fn digest(&mut self, events: &[Event]) -> Result<usize, Refusal> {
        let listed = &events[..events.len().min(LISTED)];
        self.post(self.words.digest(listed), &key_of(listed, "digest")).await?;
        Ok(listed.len())
    }
}

/// What is posted.
pub(super) struct Words {
    pub(super) templates: Arc<Templates>,
    pub(super) author: Author,
}

impl Words {
    /// About one event.
    pub(super) fn event(&self, event: &Event) -> Result<String> {
        self.json("webhook.event.json", self.seen(event))
    }

    /// About several.
    pub(super) fn digest(&self, events: &[Event]) -> Result<String> {
        let seen: Vec<Value> = events.iter().map(|event| self.seen(event)).collect();
        let view = Value::from_serialize(DigestView::of(events, &self.author));
        self.json("webhook.digest.json", context! { events => seen, ..view })
    }

    /// What every template sees, the incident as other programs read it, and the time as they do.
    fn seen(&self, event: &Event) -> Value {
        context! {
            incident => Value::from_serialize(line(event)),
            at_epoch => event.at.epoch_seconds(),
            ..Value::from_serialize(View::of(event, &self.author))
        }
    }

    fn json(&self, name: &str, view: Value) -> Result<String> {
        let text = self.templates.render(name, view)?;
        serde_json::from_str::<serde::de::IgnoredAny>(&text)
            .with_context(|| format!("the template {name} does not give JSON"))?;
        Ok(text)
    }
}

/// The incident as the contract has it; what is not over is open.
fn line(event: &Event) -> Option<IncidentLine> {
    let change = match event.change {
        Change::Opened | Change::Updated => Change::Opened,
        Change::Closed => Change::Closed,
    };
    IncidentLine::of(&IncidentEvent { change, at: event.at, incident: event.incident.clone() })
}
