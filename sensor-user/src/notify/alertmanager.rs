//! Alertmanager, API v2: every open incident is an alert that is repeated until the incident closes.
//!
//! An alert's identity is its labels: `alertname`, `incident_id`, `class`, `severity`, `sensor`. When the severity of an
//! open incident rises, the alert of the old severity ends and one of the new severity begins in the same request: the
//! rise is routed as what it is, and an incident has one active alert at any time.
//!
//! Firing alerts say that they end three refreshes from now, so that they end by themselves when the sensor dies.

mod board;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use reqwest::{Client, StatusCode};
use serde::{Deserialize, Serialize};

use self::board::{Board, Entry, Key};
use super::sink::{Refusal, Sink};
use super::terms::{Terms, table};
use super::value::{HttpUrl, Period};
use super::view::Author;
use super::{Clock, Wiring, http, text};
use crate::secret::{Secret, SecretError, SecretSource};
use crate::store::Event;

/// Wait before a refresh that failed is repeated.
const AGAIN: Duration = Duration::from_secs(5);

/// `[[notify.alertmanager]]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawConfig", into = "RawConfig")]
pub struct AlertmanagerConfig {
    /// Base address, e.g. `http://127.0.0.1:9093`.
    pub url: HttpUrl,
    /// Who the sensor is to Alertmanager.
    pub auth: Option<AuthConfig>,
    /// Certificates in PEM that sign that of the server, besides those of the system.
    pub ca_file: Option<PathBuf>,
    /// How often firing alerts are repeated. Alertmanager's `resolve_timeout` does not matter: every alert has an end.
    pub resend: Period,
    /// On which terms it is told. Without `send_resolved` alerts run out by themselves within three times `resend`.
    pub terms: Terms,
}

/// HTTP authentication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthConfig {
    /// `basic_auth = { username = "...", password_file = "..." }`.
    Basic {
        /// Sent in the clear to whoever asks, so not a secret.
        username: String,
        /// The password.
        password: SecretSource,
    },
    /// `bearer_token` or `bearer_token_file`.
    Bearer(SecretSource),
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
        #[serde(skip_serializing_if = "Option::is_none")]
        ca_file: Option<PathBuf>,
        #[serde(default = "default_resend")]
        resend: Period,
    }
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBasic {
    username: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<Secret>,
    #[serde(skip_serializing_if = "Option::is_none")]
    password_file: Option<PathBuf>,
}

fn default_resend() -> Period {
    Period::from_secs(60)
}

impl TryFrom<RawConfig> for AlertmanagerConfig {
    type Error = String;

    fn try_from(raw: RawConfig) -> Result<Self, String> {
        let terms = raw.terms(Terms::usual());
        let named = |name: &str, error: SecretError| format!("{name}: {error}");
        let bearer = SecretSource::of(raw.bearer_token, raw.bearer_token_file)
            .map_err(|error| named("bearer_token", error))?
            .map(AuthConfig::Bearer);
        let basic = match raw.basic_auth {
            None => None,
            Some(basic) => {
                let password = SecretSource::of(basic.password, basic.password_file)
                    .map_err(|error| named("basic_auth.password", error))?
                    .ok_or("basic_auth needs a password or a password_file")?;
                Some(AuthConfig::Basic { username: basic.username, password })
            }
        };
        if bearer.is_some() && basic.is_some() {
            return Err("basic_auth and bearer_token exclude each other".to_owned());
        }
        Ok(Self { url: raw.url, auth: basic.or(bearer), ca_file: raw.ca_file, resend: raw.resend, terms })
    }
}

impl From<AlertmanagerConfig> for RawConfig {
    fn from(config: AlertmanagerConfig) -> Self {
        let mut raw = Self::of(config.terms, config.url, None, None, None, config.ca_file, config.resend);
        match config.auth {
            None => {}
            Some(AuthConfig::Basic { username, password }) => {
                let (password, password_file) = password.into_settings();
                raw.basic_auth = Some(RawBasic { username, password, password_file });
            }
            Some(AuthConfig::Bearer(token)) => (raw.bearer_token, raw.bearer_token_file) = token.into_settings(),
        }
        raw
    }
}

enum Auth {
    Basic(String, Secret),
    Bearer(Secret),
}

impl Auth {
    fn load(config: &AuthConfig) -> Result<Self, SecretError> {
        Ok(match config {
            AuthConfig::Basic { username, password } => Self::Basic(username.clone(), password.load()?),
            AuthConfig::Bearer(token) => Self::Bearer(token.load()?),
        })
    }

    fn secret(&self) -> &Secret {
        match self {
            Self::Basic(_, secret) | Self::Bearer(secret) => secret,
        }
    }
}

/// Keeps one Alertmanager informed.
pub struct Alertmanager {
    client: Client,
    url: String,
    auth: Option<Auth>,
    author: Author,
    clock: Clock,
    resend: Duration,
    timeout: Duration,
    send_resolved: bool,
    board: Board,
}

impl Alertmanager {
    /// The sink of a table, and its terms for the courier: an end that is not told has to be known here all the same.
    ///
    /// # Errors
    /// When a secret or a certificate cannot be read.
    pub fn build(config: &AlertmanagerConfig, wiring: &Wiring) -> Result<(Self, Terms)> {
        let this = Self {
            client: http::client_for(&config.url, config.ca_file.as_deref())?,
            url: config.url.join("/api/v2/alerts"),
            auth: config.auth.as_ref().map(Auth::load).transpose()?,
            author: wiring.author.clone(),
            clock: wiring.clock.clone(),
            resend: config.resend.get(),
            timeout: config.terms.timeout.get(),
            send_resolved: config.terms.send_resolved,
            board: Board::default(),
        };
        Ok((this, Terms { send_resolved: true, ..config.terms.clone() }))
    }

    async fn post(&self, alerts: &[wire::Alert]) -> Result<(), Refusal> {
        let request = self.client.post(&self.url).timeout(self.timeout).json(alerts);
        let request = match &self.auth {
            None => request,
            Some(Auth::Basic(username, password)) => request.basic_auth(username, Some(password.expose())),
            Some(Auth::Bearer(token)) => request.bearer_auth(token.expose()),
        };
        let hidden = |why: &str| self.auth.as_ref().map_or_else(|| why.to_owned(), |auth| auth.secret().redact(why));
        let answer = request.send().await.map_err(|error| Refusal::later(hidden(&http::describe(error))))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let body = http::body(answer).await.unwrap_or_default();
        let why = hidden(&format!("{status}: {}", text::clip(text::plain(body.trim()).trim(), 300)));
        Err(match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Refusal::Credentials(why),
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Refusal::later(why),
            status if status.is_server_error() => Refusal::later(why),
            _ => Refusal::Never(why),
        })
    }

    fn alerts<'a>(&self, entries: impl Iterator<Item = (&'a Key, &'a Entry)>) -> Vec<wire::Alert> {
        let now = (self.clock)();
        entries.map(|entry| wire::Alert::of(entry, &self.author, now, self.resend)).collect()
    }
}

impl Sink for Alertmanager {
    const BATCH: usize = 64;

    async fn deliver(&mut self, events: &[Event]) -> Result<(), Refusal> {
        let mut board = self.board.clone();
        let now = (self.clock)();
        let touched: BTreeSet<Key> = events.iter().flat_map(|event| board.apply(event, now)).collect();
        let told = board.of(&touched).filter(|(_, entry)| self.send_resolved || entry.ended.is_none() || !entry.seen);
        let alerts = self.alerts(told);
        if !alerts.is_empty() {
            self.post(&alerts).await?;
        }
        board.taken(&touched, self.send_resolved);
        self.board = board;
        Ok(())
    }

    async fn digest(&mut self, events: &[Event]) -> Result<usize, Refusal> {
        self.deliver(events).await.map(|()| events.len())
    }

    /// Alerts end by themselves unless they are repeated: three refreshes from now, so that two may fail.
    async fn refresh(&mut self) -> Option<Duration> {
        let alerts = self.alerts(self.board.all());
        if alerts.is_empty() {
            return Some(self.resend);
        }
        match self.post(&alerts).await {
            Ok(()) => {
                self.board.repeated();
                Some(self.resend)
            }
            Err(_) => Some(self.resend.min(AGAIN)),
        }
    }
}
