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

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use reqwest::{Client, StatusCode};
use sensor_core::incident::IncidentEvent;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use self::board::{Board, Entry};
use super::retry::Backoff;
use super::value::{HttpUrl, Period};
use super::{Clock, Sink, Wiring, http, text};
use crate::notify::sink::Outcome;
use crate::secret::{Secret, SecretError, SecretSource};

/// `[[notify.alertmanager]]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawConfig", into = "RawConfig")]
pub struct AlertmanagerConfig {
    /// Base address, e.g. `http://127.0.0.1:9093`.
    pub url: HttpUrl,
    /// Who the sensor is to Alertmanager.
    pub auth: Option<AuthConfig>,
    /// How long one request may take.
    pub timeout: Period,
    /// How often firing alerts are repeated. Alertmanager's `resolve_timeout` does not matter: every alert has an end.
    pub resend: Period,
    /// Whether closing is told; if not, alerts run out by themselves within three times `resend`.
    pub send_resolved: bool,
    /// How long an opening or closing is retried before it counts as failed.
    pub give_up_after: Period,
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

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    url: HttpUrl,
    #[serde(skip_serializing_if = "Option::is_none")]
    basic_auth: Option<RawBasic>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bearer_token: Option<Secret>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bearer_token_file: Option<PathBuf>,
    #[serde(default = "default_timeout")]
    timeout: Period,
    #[serde(default = "default_resend")]
    resend: Period,
    #[serde(default = "yes")]
    send_resolved: bool,
    #[serde(default = "default_give_up")]
    give_up_after: Period,
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

fn default_timeout() -> Period {
    Period::from_secs(10)
}

fn default_resend() -> Period {
    Period::from_secs(60)
}

fn default_give_up() -> Period {
    Period::from_secs(3600)
}

fn yes() -> bool {
    true
}

impl TryFrom<RawConfig> for AlertmanagerConfig {
    type Error = String;

    fn try_from(raw: RawConfig) -> Result<Self, String> {
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
        Ok(Self {
            url: raw.url,
            auth: basic.or(bearer),
            timeout: raw.timeout,
            resend: raw.resend,
            send_resolved: raw.send_resolved,
            give_up_after: raw.give_up_after,
        })
    }
}

impl From<AlertmanagerConfig> for RawConfig {
    fn from(config: AlertmanagerConfig) -> Self {
        let mut raw = Self {
            url: config.url,
            basic_auth: None,
            bearer_token: None,
            bearer_token_file: None,
            timeout: config.timeout,
            resend: config.resend,
            send_resolved: config.send_resolved,
            give_up_after: config.give_up_after,
        };
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

/// Takes events for one Alertmanager.
pub struct Inlet {
    board: Arc<Board>,
    clock: Clock,
}

impl Inlet {
    /// Takes note of the event.
    pub fn offer(&self, event: &IncidentEvent) {
        self.board.apply(event, (self.clock)());
    }

    /// No more events come.
    pub fn close(&self) {
        self.board.close();
    }

    /// Gives up what is not delivered; how much it was.
    pub fn abandon(&self) -> u64 {
        self.board.abandon()
    }
}

/// The inlet and the task of one Alertmanager.
///
/// # Errors
/// When a secret cannot be read.
pub fn build(config: &AlertmanagerConfig, wiring: &Wiring, client: &Client) -> Result<(Inlet, Worker)> {
    let board = Arc::new(Board::new(Arc::clone(&wiring.metrics), config.send_resolved));
    let inlet = Inlet { board: Arc::clone(&board), clock: Arc::clone(&wiring.clock) };
    let worker = Worker {
        board,
        client: client.clone(),
        url: config.url.join("/api/v2/alerts"),
        auth: config.auth.as_ref().map(Auth::load).transpose()?,
        config: config.clone(),
        backoff: wiring.retry.backoff(),
        wiring: wiring.clone(),
        failing: false,
    };
    Ok((inlet, worker))
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

/// Why Alertmanager has not taken a batch.
enum Refusal {
    /// Unreachable, too slow or in trouble: worth another attempt.
    Transient(String),
    /// It understood, and said no.
    Permanent(String),
}

/// Keeps one Alertmanager informed.
pub struct Worker {
    board: Arc<Board>,
    client: Client,
    url: String,
    auth: Option<Auth>,
    config: AlertmanagerConfig,
    backoff: Backoff,
    wiring: Wiring,
    failing: bool,
}

impl Worker {
    /// Runs until the board is closed and everything on it is delivered.
    pub async fn run(mut self) {
        let mut next = Instant::now() + self.config.resend.get();
        loop {
            if self.failing {
                sleep_until(next).await;
            } else if !self.board.is_urgent() {
                tokio::select! {
                    () = sleep_until(next) => {}
                    () = self.board.changed() => continue,
                }
            }
            let done = self.board.is_done();
            let batch = self.board.batch();
            if !done && !batch.is_empty() {
                next = Instant::now() + self.deliver(&batch).await;
            } else {
                next = Instant::now() + self.config.resend.get();
            }
            if self.board.is_done() {
                return;
            }
        }
    }

    /// Posts the batch and gives the time until the next.
    async fn deliver(&mut self, batch: &[Entry]) -> Duration {
        match self.post(batch).await {
            Ok(()) => {
                if self.failing {
                    info!(url = %self.config.url, "alertmanager takes alerts again");
                }
                self.failing = false;
                self.backoff.reset();
                self.board.delivered(batch);
                self.config.resend.get()
            }
            Err(Refusal::Transient(error)) => {
                let given_up = self.board.gave_up(batch, self.config.give_up_after.get());
                self.count(Outcome::Retried);
                self.complain(&error, given_up);
                self.failing = true;
                self.backoff.wait()
            }
            Err(Refusal::Permanent(error)) => {
                let given_up = self.board.gave_up(batch, Duration::ZERO);
                self.complain(&error, given_up);
                self.config.resend.get()
            }
        }
    }

    fn complain(&self, error: &str, given_up: u64) {
        let error = self.auth.as_ref().map_or_else(|| error.to_owned(), |auth| auth.secret().redact(error));
        if given_up > 0 {
            warn!(url = %self.config.url, error, given_up, "alertmanager was not told of incidents");
        } else if !self.failing {
            warn!(url = %self.config.url, error, "alertmanager does not take alerts, trying again");
        }
    }

    async fn post(&self, batch: &[Entry]) -> Result<(), Refusal> {
        let now = (self.wiring.clock)();
        let alerts: Vec<_> = batch
            .iter()
            .map(|entry| wire::Alert::of(entry, &self.wiring.sensor, now, self.config.resend.get()))
            .collect();
        let request = self.client.post(&self.url).timeout(self.config.timeout.get()).json(&alerts);
        let request = match &self.auth {
            None => request,
            Some(Auth::Basic(username, password)) => request.basic_auth(username, Some(password.expose())),
            Some(Auth::Bearer(token)) => request.bearer_auth(token.expose()),
        };
        let answer = request.send().await.map_err(|error| Refusal::Transient(http::describe(error)))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let body = http::body(answer).await.unwrap_or_default();
        let error = format!("{status}: {}", text::clip(text::plain(body.trim()).trim(), 300));
        let transient =
            status.is_server_error() || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
        Err(if transient { Refusal::Transient(error) } else { Refusal::Permanent(error) })
    }

    fn count(&self, outcome: Outcome) {
        self.wiring.metrics.notified(Sink::Alertmanager, outcome, 1);
    }
}
