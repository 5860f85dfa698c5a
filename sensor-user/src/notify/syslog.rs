//! Syslog as RFC 5424 has it, over UDP (RFC 5426), TCP (RFC 6587, counted octets) or TLS (RFC 5425), and to the local daemon.
//!
//! What a program looks for is in the structured data `[leuko@32473 ...]`, what a person reads in the message. Neither UDP nor
//! TCP tells whether a message was read: an event counts as delivered when it is written and the other side has not hung up, or
//! said that nobody listens.

mod line;
mod link;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use self::line::{Dialect, Scribe};
use self::link::Link;
use super::Wiring;
use super::sink::{Refusal, Sink};
use super::template::Templates;
use super::terms::{Terms, table};
use crate::store::Event;

/// `[[notify.syslog]]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawConfig", into = "RawConfig")]
pub struct SyslogConfig {
    /// Where the daemon listens.
    pub address: Address,
    /// Which part of the system speaks.
    pub facility: Facility,
    /// Which program speaks.
    pub app_name: AppName,
    /// Certificates in PEM that sign that of the server, besides those of the system.
    pub ca_file: Option<PathBuf>,
    /// On which terms it is told.
    pub terms: Terms,
}

/// `udp://host:514`, `tcp://host:601`, `tls://host:6514` or `unix:///dev/log`; ports may be left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Address {
    /// One datagram a message.
    Udp(String, u16),
    /// A stream.
    Tcp(String, u16),
    /// An encrypted stream.
    Tls(String, u16),
    /// The socket of the local daemon.
    Unix(PathBuf),
}

impl Address {
    /// The remote host and port, if it is remote.
    #[must_use]
    pub fn endpoint(&self) -> Option<(String, u16)> {
        match self {
            Self::Udp(host, port) | Self::Tcp(host, port) | Self::Tls(host, port) => Some((host.clone(), *port)),
            Self::Unix(_) => None,
        }
    }
}

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        const FORM: &str = "write udp://host:514, tcp://host:601, tls://host:6514 or unix:///dev/log";
        if let Some(path) = text.strip_prefix("unix://") {
            return if path.starts_with('/') { Ok(Self::Unix(path.into())) } else { Err(FORM.to_owned()) };
        }
        let (scheme, rest) = text.split_once("://").ok_or(FORM)?;
        let (build, usual): (fn(String, u16) -> Self, u16) = match scheme {
            "udp" => (Self::Udp, 514),
            "tcp" => (Self::Tcp, 601),
            "tls" => (Self::Tls, 6514),
            _ => return Err(FORM.to_owned()),
        };
        let (host, port) = match rest.strip_prefix('[') {
            Some(bracketed) => bracketed.split_once(']').ok_or(FORM)?,
            None => rest.split_at(rest.find(':').unwrap_or(rest.len())),
        };
        let port = match port.strip_prefix(':') {
            Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or(FORM)?,
            None if port.is_empty() => usual,
            None => return Err(FORM.to_owned()),
        };
        if host.is_empty() || !host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:%".contains(&b)) {
            return Err(FORM.to_owned());
        }
        Ok(build(host.to_owned(), port))
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, host, port) = match self {
            Self::Unix(path) => return write!(f, "unix://{}", path.display()),
            Self::Udp(host, port) => ("udp", host, port),
            Self::Tcp(host, port) => ("tcp", host, port),
            Self::Tls(host, port) => ("tls", host, port),
        };
        if host.contains(':') { write!(f, "{scheme}://[{host}]:{port}") } else { write!(f, "{scheme}://{host}:{port}") }
    }
}

/// The facilities that daemons sort by, RFC 5424.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Facility {
    User,
    Daemon,
    Auth,
    Authpriv,
    #[default]
    Local0,
    Local1,
    Local2,
    Local3,
    Local4,
    Local5,
    Local6,
    Local7,
}

impl Facility {
    const fn code(self) -> u8 {
        match self {
            Self::User => 1,
            Self::Daemon => 3,
            Self::Auth => 4,
            Self::Authpriv => 10,
            Self::Local0 => 16,
            Self::Local1 => 17,
            Self::Local2 => 18,
            Self::Local3 => 19,
            Self::Local4 => 20,
            Self::Local5 => 21,
            Self::Local6 => 22,
            Self::Local7 => 23,
        }
    }
}

/// Letters, digits, `-`, `_`, `.` and `/`, at most 32: what every daemon takes for one name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AppName(String);

impl TryFrom<String> for AppName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_./".contains(&b);
        if text.is_empty() || text.len() > 32 || !text.bytes().all(allowed) {
            return Err("app_name has letters, digits, -, _, . and /, at most 32".to_owned());
        }
        Ok(Self(text))
    }
}

impl From<AppName> for String {
    fn from(name: AppName) -> Self {
        name.0
    }
}

impl Default for AppName {
    fn default() -> Self {
        Self("leuko".to_owned())
    }
}

table! {
    RawConfig {
        address: Address,
        #[serde(default)]
        facility: Facility,
        #[serde(default)]
        app_name: AppName,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ca_file: Option<PathBuf>,
    }
}

impl TryFrom<RawConfig> for SyslogConfig {
    type Error = String;

    fn try_from(raw: RawConfig) -> Result<Self, String> {
        let terms = raw.terms(Terms::usual());
        if raw.ca_file.is_some() && !matches!(raw.address, Address::Tls(..)) {
            return Err("ca_file is for tls:// addresses".to_owned());
        }
        let RawConfig { address, facility, app_name, ca_file, .. } = raw;
        Ok(Self { address, facility, app_name, ca_file, terms })
    }
}

impl From<SyslogConfig> for RawConfig {
    fn from(config: SyslogConfig) -> Self {
        Self::of(config.terms, config.address, config.facility, config.app_name, config.ca_file)
    }
}

/// Writes to one daemon.
pub struct Syslog {
    scribe: Scribe,
    link: Link,
    timeout: Duration,
}

impl Syslog {
    /// The sink of a table.
    ///
    /// # Errors
    /// When a certificate cannot be read.
    pub fn build(config: &SyslogConfig, wiring: &Wiring, templates: &Arc<Templates>) -> Result<Self> {
        let dialect = match &config.address {
            Address::Unix(_) => Dialect::Local,
            Address::Udp(..) => Dialect::Rfc5424 { limit: 2048 },
            Address::Tcp(..) | Address::Tls(..) => Dialect::Rfc5424 { limit: 8192 },
        };
        let scribe = Scribe {
            dialect,
            facility: config.facility.code(),
            app_name: config.app_name.0.clone(),
            process: std::process::id(),
            author: wiring.author.clone(),
            templates: Arc::clone(templates),
        };
        let link = Link::new(&config.address, config.ca_file.as_deref())?;
        Ok(Self { scribe, link, timeout: config.terms.timeout.get() })
    }
}

impl Sink for Syslog {
    const BATCH: usize = 64;

    async fn deliver(&mut self, events: &[Event]) -> Result<(), Refusal> {
        let lines: Result<Vec<String>> = events.iter().map(|event| self.scribe.line(event)).collect();
        let lines = lines.map_err(|error| Refusal::Never(format!("{error:#}")))?;
        match timeout(self.timeout, self.link.send(&lines)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Refusal::later(error.to_string())),
            Err(_) => Err(Refusal::later("the syslog daemon does not take messages in time")),
        }
    }

    async fn digest(&mut self, events: &[Event]) -> Result<usize, Refusal> {
        self.deliver(events).await.map(|()| events.len())
    }
}
