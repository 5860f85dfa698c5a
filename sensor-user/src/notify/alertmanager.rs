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
use serde::{Deserialize, Serialize};

use self::board::{Board, Entry, Key};
pub use super::auth::AuthConfig;
use super::auth::{Auth, RawBasic};
use super::post::{Poster, key_of};
use super::sink::{Refusal, Sink};
use super::terms::{Terms, table};
use super::value::{HttpUrl, Period};
use super::view::Author;
use super::{Clock, Wiring, http};
use crate::secret::Secret;
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

fn default_resend() -> Period {
    Period::from_secs(60)
}

impl TryFrom<RawConfig> for AlertmanagerConfig {
    type Error = String;

    fn try_from(raw: RawConfig) -> Result<Self, String> {
        let terms = raw.terms(Terms::usual());
        let auth = AuthConfig::of(raw.basic_auth, raw.bearer_token, raw.bearer_token_file)?;
        Ok(Self { url: raw.url, auth, ca_file: raw.ca_file, resend: raw.resend, terms })
    }
}

impl From<AlertmanagerConfig> for RawConfig {
    fn from(config: AlertmanagerConfig) -> Self {
        let (basic, token, token_file) = AuthConfig::into_settings(config.auth);
        Self::of(config.terms, config.url, basic, token, token_file, config.ca_file, config.resend)
    }
}

/// Keeps one Alertmanager informed.
pub struct Alertmanager {
    poster: Poster,
    url: String,
    auth: Auth,
    author: Author,
    clock: Clock,
    resend: Duration,
    send_resolved: bool,
    board: Board,
}

impl Alertmanager {
    /// The sink of a table, and its terms for the courier: an end that is not told has to be known here all the same.
    ///
    /// # Errors
    /// When a secret or a certificate cannot be read.
    pub fn build(config: &AlertmanagerConfig, wiring: &Wiring) -> Result<(Self, Terms)> {
        let auth = Auth::load(config.auth.as_ref())?;
        let client = http::client_for(&config.url, config.ca_file.as_deref())?;
        let this = Self {
            poster: Poster::new(client, config.terms.timeout.get(), auth.secret()),
            url: config.url.join("/api/v2/alerts"),
            auth,
            author: wiring.author.clone(),
            clock: wiring.clock.clone(),
            resend: config.resend.get(),
            send_resolved: config.terms.send_resolved,
            board: Board::default(),
        };
        Ok((this, Terms { send_resolved: true, ..config.terms.clone() }))
    }

    async fn post(&self, alerts: &[wire::Alert], key: Option<&str>) -> Result<(), Refusal> {
        let request = self.auth.sign(self.poster.client().post(&self.url).json(alerts));
        self.poster.send(request, key).await.map(drop)
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
            self.post(&alerts, Some(&key_of(events, "batch"))).await?;
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
        match self.post(&alerts, None).await {
            Ok(()) => {
                self.board.repeated();
                Some(self.resend)
            }
            Err(_) => Some(self.resend.min(AGAIN)),
        }
    }
}
