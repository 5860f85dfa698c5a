//! One event as one syslog message.

use std::fmt::{Display, Write as _};
use std::sync::Arc;

use anyhow::Result;
use sensor_core::incident::{Change, Severity};
use sensor_core::time::Timestamp;

use crate::notify::template::Templates;
use crate::notify::text::{clip, plain};
use crate::notify::view::{Author, View};
use crate::store::Event;

/// Addresses and ports that are listed.
const LISTED: usize = 10;
/// Longest value of a parameter that has no limit by nature, in characters.
const VALUE: usize = 128;

/// How messages are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// To a remote daemon, at most `limit` octets.
    Rfc5424 {
        /// Longest message.
        limit: usize,
    },
    /// As `syslog(3)` writes to the local daemon. rsyslog and journald read nothing else on that socket, and go by their own
    /// clocks; the structured data is at the end of the text.
    Local,
}

/// Writes messages.
pub struct Scribe {
    /// For whom.
    pub dialect: Dialect,
    /// Number of the facility.
    pub facility: u8,
    /// Name of this program.
    pub app_name: String,
    /// Number of this process.
    pub process: u32,
    /// Who speaks.
    pub author: Author,
    /// The words.
    pub templates: Arc<Templates>,
}

impl Scribe {
    /// The message of an event.
    ///
    /// # Errors
    /// A template of the user asks for something that there is not.
    pub fn line(&self, event: &Event) -> Result<String> {
        let view = View::of(event, &self.author);
        let words = self.templates.render("syslog.message.txt", &view)?;
        let words = plain(words.trim());
        let priority = self.facility * 8 + severity(event);
        let (app_name, process) = (&self.app_name, self.process);
        let data = data(event);
        Ok(match self.dialect {
            Dialect::Local => format!("<{priority}>{app_name}[{process}]: {} {data}", cut(&words, 1024)),
            Dialect::Rfc5424 { limit } => {
                let at = micros(event.at);
                let (host, class) = (name(&self.author.sensor), event.incident.class);
                let head = format!("<{priority}>1 {at} {host} {app_name} {process} {class} {data} \u{feff}");
                let room = limit.saturating_sub(head.len());
                head + cut(&words, room)
            }
        })
    }
}

/// As RFC 5424 counts: what is over is information, whatever it was.
const fn severity(event: &Event) -> u8 {
    match (event.change, event.incident.severity) {
        (Change::Closed, _) => 6,
        (Change::Opened | Change::Updated, Severity::Low) => 5,
        (Change::Opened | Change::Updated, Severity::Medium) => 4,
        (Change::Opened | Change::Updated, Severity::High) => 3,
        (Change::Opened | Change::Updated, Severity::Critical) => 2,
    }
}

/// 32473 is the number that RFC 5612 gives to those who have none.
fn data(event: &Event) -> String {
    let incident = &event.incident;
    let change = match event.change {
        Change::Opened => "opened",
        Change::Updated => "updated",
        Change::Closed => "closed",
    };
    let mut data = "[leuko@32473".to_owned();
    for (name, value) in [
        ("key", clip(&event.key(), VALUE)),
        ("incident", clip(&incident.id, VALUE)),
        ("class", incident.class.to_string()),
        ("severity", incident.severity.to_string()),
        ("change", change.to_owned()),
        ("src", first(&incident.attackers)),
        ("dst", first(&incident.victims)),
        ("ports", first(&incident.ports)),
    ] {
        let _ = write!(data, " {name}=\"{}\"", escape(&value));
    }
    data.push(']');
    data
}

fn first<T: Display>(items: &[T]) -> String {
    items.iter().take(LISTED).map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// RFC 5424, 6.3.3: three characters are escaped.
fn escape(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for c in plain(value).chars() {
        if matches!(c, '"' | '\\' | ']') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// A host name as the header takes it: printable ASCII without spaces, at most 255, `-` for none.
fn name(text: &str) -> String {
    let name: String = text.chars().filter(char::is_ascii_graphic).take(255).collect();
    if name.is_empty() { "-".to_owned() } else { name }
}

/// `2025-06-15T15:06:40.123456Z`: microseconds are the most that RFC 5424 allows.
fn micros(at: Timestamp) -> String {
    let text = at.to_string();
    let seconds = text.split('.').next().unwrap_or(&text);
    format!("{seconds}.{:06}Z", at.nanos() / 1000 % 1_000_000)
}

/// The first octets of `text`, whole characters.
fn cut(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}
