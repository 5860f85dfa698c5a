//! E-mail over SMTP: a letter for each event, threaded by incident, or one letter that lists many.
//!
//! `tls = "starttls"` and `"tls"` never fall back to plain text: a server that offers no encryption gets no letter.

mod letter;
mod session;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use lettre::message::Mailbox;
use serde::{Deserialize, Serialize};

use self::letter::Scribe;
use self::session::{Patience, Session};
use super::Wiring;
use super::sink::{Refusal, Sink};
use super::template::Templates;
use super::terms::{Terms, table};
use super::value::Period;
use crate::secret::{Secret, SecretSource};
use crate::store::Event;

/// Events that a letter lists.
const LISTED: usize = 100;
/// How long a connection is kept for the next letter. Servers hang up after minutes.
const IDLE: Duration = Duration::from_secs(30);
/// Attempts for all recipients before a letter goes to those alone whose server takes it.
const ATTEMPTS: u32 = 5;

/// `[[notify.email]]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawConfig", into = "RawConfig")]
pub struct EmailConfig {
    /// Name or address of the mail server; its certificate has to be for this name.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is encrypted.
    pub tls: Tls,
    /// User name, and `password` or `password_file`; nothing for a server that asks for none.
    pub login: Option<(String, SecretSource)>,
    /// Who writes.
    pub from: MailAddress,
    /// Who reads; not empty.
    pub to: Vec<MailAddress>,
    /// Certificates in PEM that sign that of the server, besides those of the system.
    pub ca_file: Option<PathBuf>,
    /// On which terms it is told.
    pub terms: Terms,
}

/// How a connection to a mail server is encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tls {
    /// It begins in plain text and is encrypted before anything is sent (port 587).
    #[default]
    Starttls,
    /// From the first byte (port 465).
    Tls,
    /// Not at all (port 25).
    None,
}

impl Tls {
    const fn port(self) -> u16 {
        match self {
            Self::Starttls => 587,
            Self::Tls => 465,
            Self::None => 25,
        }
    }
}

/// `ops@example.org` or `Operations <ops@example.org>`; the address itself is ASCII.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MailAddress(Mailbox);

impl TryFrom<String> for MailAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let mailbox: Mailbox = text.parse().map_err(|_| "not an e-mail address")?;
        let address: &str = mailbox.email.as_ref();
        if !address.is_ascii() || text.chars().any(char::is_control) {
            return Err("an e-mail address is one line of ASCII letters, digits and signs".to_owned());
        }
        Ok(Self(mailbox))
    }
}

impl From<MailAddress> for String {
    fn from(address: MailAddress) -> Self {
        address.to_string()
    }
}

impl fmt::Display for MailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

table! {
    RawConfig {
        host: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        port: Option<u16>,
        #[serde(default)]
        tls: Tls,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        username: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        password: Option<Secret>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        password_file: Option<PathBuf>,
        from: MailAddress,
        to: Vec<MailAddress>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ca_file: Option<PathBuf>,
    }
}

/// A mailbox is read by a person, now and then: a burst is one letter.
fn usual() -> Terms {
    let usual = Terms::usual().at_most(20, Period::from_secs(3600));
    Terms { timeout: Period::from_secs(30), cool_down: Some(Period::from_secs(300)), ..usual }
}

impl TryFrom<RawConfig> for EmailConfig {
    type Error = String;

    fn try_from(raw: RawConfig) -> Result<Self, String> {
        let terms = raw.terms(usual());
        let password =
            SecretSource::of(raw.password, raw.password_file).map_err(|error| format!("password: {error}"))?;
        let login = match (raw.username, password) {
            (Some(username), Some(password)) => Some((username, password)),
            (None, None) => None,
            (Some(_), None) => return Err("username needs a password or a password_file".to_owned()),
            (None, Some(_)) => return Err("password needs a username".to_owned()),
        };
        let host = raw.host;
        if host.is_empty() || !host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:".contains(&b)) {
            return Err("host is the name or address of a mail server; its port has a setting of its own".to_owned());
        }
        if raw.tls == Tls::None && login.is_some() && !is_loopback(&host) {
            return Err("tls = \"none\" would send the password in plain text: use \"starttls\" or \"tls\"".to_owned());
        }
        if raw.to.is_empty() {
            return Err("to is empty: name at least one address".to_owned());
        }
        let port = raw.port.unwrap_or_else(|| raw.tls.port());
        Ok(Self { host, port, tls: raw.tls, login, from: raw.from, to: raw.to, ca_file: raw.ca_file, terms })
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|addr: std::net::IpAddr| addr.is_loopback())
}

impl From<EmailConfig> for RawConfig {
    fn from(config: EmailConfig) -> Self {
        let (username, password) = config.login.unzip();
        let (password, password_file) = password.map(SecretSource::into_settings).unwrap_or_default();
        let port = Some(config.port);
        Self::of(
            config.terms,
            config.host,
            port,
            config.tls,
            username,
            password,
            password_file,
            config.from,
            config.to,
            config.ca_file,
        )
    }
}

/// Writes to one set of mailboxes.
pub struct Email {
    scribe: Scribe,
    session: Session,
    timeout: Duration,
    /// The letter that some recipients do not take yet, and how often it was tried.
    tried: (String, u32),
}

impl Email {
    /// The sink of a table.
    ///
    /// # Errors
    /// When the password or a certificate cannot be read.
    pub fn build(config: &EmailConfig, wiring: &Wiring, templates: &Arc<Templates>) -> Result<Self> {
        let session = Session::new(config).context("prepare the connection to the mail server")?;
        let scribe = Scribe::new(config, wiring.author.clone(), Arc::clone(templates));
        Ok(Self { scribe, session, timeout: config.terms.timeout.get(), tried: (String::new(), 0) })
    }

    async fn send(&mut self, key: String, letter: Result<lettre::Message>) -> Result<(), Refusal> {
        let letter = letter.map_err(|error| Refusal::Never(format!("{error:#}")))?;
        if self.tried.0 != key {
            self.tried = (key, 0);
        }
        self.tried.1 += 1;
        let patience = if self.tried.1 < ATTEMPTS { Patience::ForAll } else { Patience::ForSome };
        let text = letter.formatted();
        let sent = self.session.send(letter.envelope(), &text, patience);
        match tokio::time::timeout(self.timeout, sent).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Refusal::later("the mail server does not answer in time")),
        }
    }
}

impl Sink for Email {
    async fn deliver(&mut self, events: &[Event]) -> Result<(), Refusal> {
        for event in events {
            self.send(event.key(), self.scribe.event(event)).await?;
        }
        Ok(())
    }

    async fn digest(&mut self, events: &[Event]) -> Result<usize, Refusal> {
        let listed = &events[..events.len().min(LISTED)];
        self.send(letter::digest_key(listed), self.scribe.digest(listed)).await?;
        Ok(listed.len())
    }

    /// Hangs up when there is nothing to say.
    async fn refresh(&mut self) -> Option<Duration> {
        let _ = tokio::time::timeout(self.timeout, self.session.hang_up_after(IDLE)).await;
        Some(IDLE)
    }
}
