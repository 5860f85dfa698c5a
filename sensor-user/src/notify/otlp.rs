//! OpenTelemetry: a log record for each event, by OTLP over HTTP as JSON.
//!
//! Source: <https://opentelemetry.io/docs/specs/otlp/#otlphttp>.

#[cfg(test)]
mod tests;
pub(super) mod wire;

use std::path::PathBuf;

use anyhow::Result;
use reqwest::header::HeaderMap;
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::auth::{Auth, AuthConfig, Headers, RawBasic};
use super::post::{Poster, key_of};
use super::sink::{Refusal, Sink};
use super::terms::{Terms, table};
use super::text::{clip, plain};
use super::value::HttpUrl;
use super::view::Author;
use super::{Wiring, http};
use crate::secret::Secret;
use crate::store::Event;

/// `[[notify.otlp]]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawConfig", into = "RawConfig")]
pub struct OtlpConfig {
    /// Where logs go, e.g. `http://127.0.0.1:4318/v1/logs`; this path is added to an address without one.
    pub url: HttpUrl,
    /// Who the sensor is to the collector.
    pub auth: Option<AuthConfig>,
    /// Headers besides those of every request.
    pub headers: Headers,
    /// Certificates in PEM that sign that of the server, besides those of the system.
    pub ca_file: Option<PathBuf>,
    /// On which terms it is told.
    pub terms: Terms,
}

table! {
    RawConfig {
        url: HttpUrl,
        #[serde(skip_serializing_if = "Option::is_none")]
        basic_auth: Option<RawBasic>,
        #[serde(skip_serializing_if = "Option::is_none")]
        bearer_token: Option<Secret>,
        #[serde(skip_serializing_if = "Option::is_none")]
        bearer_token_file: Option<PathBuf>,
        #[serde(default, skip_serializing_if = "Headers::is_empty")]
        headers: Headers,
        #[serde(skip_serializing_if = "Option::is_none")]
        ca_file: Option<PathBuf>,
    }
}

impl TryFrom<RawConfig> for OtlpConfig {
    type Error = String;

    fn try_from(raw: RawConfig) -> Result<Self, String> {
        let terms = raw.terms(Terms::usual());
        let auth = AuthConfig::of(raw.basic_auth, raw.bearer_token, raw.bearer_token_file)?;
        if auth.is_some() && raw.headers.authorize() {
            return Err("the header Authorization excludes basic_auth and bearer_token".to_owned());
        }
        Ok(Self { url: raw.url, auth, headers: raw.headers, ca_file: raw.ca_file, terms })
    }
}

impl From<OtlpConfig> for RawConfig {
    fn from(config: OtlpConfig) -> Self {
        let (basic, token, token_file) = AuthConfig::into_settings(config.auth);
        Self::of(config.terms, config.url, basic, token, token_file, config.headers, config.ca_file)
    }
}

/// Sends to one collector.
pub struct Otlp {
    poster: Poster,
    url: String,
    auth: Auth,
    headers: HeaderMap,
    author: Author,
}

impl Otlp {
    /// The sink of a table.
    ///
    /// # Errors
    /// When a secret or a certificate cannot be read.
    pub fn build(config: &OtlpConfig, wiring: &Wiring) -> Result<Self> {
        let auth = Auth::load(config.auth.as_ref())?;
        let client = http::client_for(&config.url, config.ca_file.as_deref())?;
        let hidden = config.headers.secrets().chain(auth.secret());
        Ok(Self {
            poster: Poster::new(client, config.terms.timeout.get(), hidden),
            url: config.url.join(if config.url.has_path() { "" } else { "/v1/logs" }),
            auth,
            headers: config.headers.map(),
            author: wiring.author.clone(),
        })
    }
}

impl Sink for Otlp {
    const BATCH: usize = 64;

    /// A record that is sent twice carries the same `log.record.uid`: when a collector takes only some, the courier looks
    /// for those that it does not take.
    async fn deliver(&mut self, events: &[Event]) -> Result<(), Refusal> {
        let request = self.poster.client().post(&self.url).headers(self.headers.clone());
        let request = self.auth.sign(request).json(&wire::request(events, &self.author));
        let answer = self.poster.send(request, Some(&key_of(events, "batch"))).await?;
        // What is no answer of OTLP was a success all the same.
        let partial = serde_json::from_str::<Answer>(&answer.body).ok().and_then(|answer| answer.partial_success);
        let Some(partial) = partial else { return Ok(()) };
        let rejected = partial.rejected();
        let why = clip(&plain(&partial.error_message), 300);
        if rejected > 0 {
            return Err(Refusal::Never(format!("{rejected} of {} log records are not taken: {why}", events.len())));
        }
        if !why.is_empty() {
            warn!(why, "the collector takes log records, but complains");
        }
        Ok(())
    }

    async fn digest(&mut self, events: &[Event]) -> Result<usize, Refusal> {
        self.deliver(events).await.map(|()| events.len())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    partial_success: Option<Partial>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Partial {
    rejected_log_records: Option<Count>,
    error_message: String,
}

/// 64 bits are a string in the JSON of Protocol Buffers; some write a number.
#[derive(Deserialize)]
#[serde(untagged)]
enum Count {
    Number(u64),
    Text(String),
}

impl Partial {
    fn rejected(&self) -> u64 {
        match &self.rejected_log_records {
            None => 0,
            Some(Count::Number(number)) => *number,
            Some(Count::Text(text)) => text.parse().unwrap_or(0),
        }
    }
}
