//! What is sent: plain text and HTML side by side, with headers that programs can sort by.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use lettre::Message;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MessageBuilder, MultiPart};
use sensor_core::incident::Severity;
use sensor_core::time::Timestamp;

use super::EmailConfig;
use crate::notify::template::Templates;
use crate::notify::text::{clip, plain};
use crate::notify::view::{Author, DigestView, View};
use crate::store::Event;

/// Longest part of a letter, in bytes.
const LIMIT: usize = 256 * 1024;
/// Longest subject, in characters.
const SUBJECT: usize = 160;

/// Writes letters.
pub struct Scribe {
    from: Mailbox,
    to: Vec<Mailbox>,
    templates: Arc<Templates>,
    author: Author,
    /// Right of the `@` in Message-IDs.
    domain: String,
}

impl Scribe {
    /// Who writes to whom.
    pub fn new(config: &EmailConfig, author: Author, templates: Arc<Templates>) -> Self {
        let to = config.to.iter().map(|address| address.0.clone()).collect();
        Self { from: config.from.0.clone(), to, templates, domain: domain(&author.sensor), author }
    }

    /// The letter about an event. Written again it has the same Message-ID, by which a mailbox knows a duplicate; letters
    /// about one incident are a thread.
    pub fn event(&self, event: &Event) -> Result<Message> {
        let view = View::of(event, &self.author);
        let subject = self.templates.render("email.subject.txt", &view)?;
        let text = self.templates.render_to_fit("email.message.txt", &view, |text| text.len() <= LIMIT)?;
        let html = self.templates.render_to_fit("email.message.html", &view, |text| text.len() <= LIMIT)?;
        let mut headers = self
            .headers(&event.key(), &subject, event.kept_at, event.incident.severity)
            .raw_header(header("X-Leuko-Incident", atom(&event.incident.id)));
        if event.n > 1 {
            let first = self.message_id(&format!("{}.1", event.incident.id));
            headers = headers.in_reply_to(first.clone()).references(first);
        }
        headers.multipart(MultiPart::alternative_plain_html(text, html)).context("write the letter")
    }

    /// One letter about several events.
    pub fn digest(&self, events: &[Event]) -> Result<Message> {
        let view = DigestView::of(events, &self.author);
        let worst = events.iter().map(|event| event.incident.severity).max().unwrap_or(Severity::Low);
        let kept_at = events.last().map(|event| event.kept_at).unwrap_or_default();
        let subject = self.templates.render("email.digest_subject.txt", &view)?;
        let text = self.templates.render("email.digest.txt", &view)?;
        let html = self.templates.render("email.digest.html", &view)?;
        let headers = self.headers(&digest_key(events), &subject, kept_at, worst);
        headers.multipart(MultiPart::alternative_plain_html(text, html)).context("write the letter")
    }

    fn headers(&self, key: &str, subject: &str, date: Timestamp, severity: Severity) -> MessageBuilder {
        let mut headers = Message::builder()
            .from(self.from.clone())
            .subject(clip(plain(subject).trim(), SUBJECT))
            .date(system_time(date))
            .message_id(Some(self.message_id(key)))
            .raw_header(header("Auto-Submitted", "auto-generated".to_owned()))
            .raw_header(header("X-Leuko-Severity", severity.as_str().to_owned()));
        for to in &self.to {
            headers = headers.to(to.clone());
        }
        headers
    }

    fn message_id(&self, key: &str) -> String {
        format!("<{}@{}>", atom(key), self.domain)
    }
}

/// Names a digest by what it lists.
pub fn digest_key(events: &[Event]) -> String {
    format!("{}-digest-{}", events.first().map(Event::key).unwrap_or_default(), events.len())
}

fn header(name: &'static str, value: String) -> HeaderValue {
    HeaderValue::new(HeaderName::new_from_ascii_str(name), value)
}

/// What may stand in a Message-ID, RFC 5322: identifiers of incidents have nothing else.
fn atom(text: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    text.chars().take(128).map(safe).collect()
}

/// The sensor's name as a domain.
fn domain(sensor: &str) -> String {
    let words = sensor.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').filter(|word| !word.is_empty());
    let name: String = words.collect::<Vec<_>>().join(".").chars().take(128).collect();
    let name = name.trim_matches(['.', '-']);
    if name.is_empty() { "leuko".to_owned() } else { name.to_owned() }
}

fn system_time(at: Timestamp) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(at.secs())
}
