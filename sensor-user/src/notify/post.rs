//! One HTTP request of a sink, and what the answer means: the same for every service, but for what a service says of its own.

use std::time::Duration;

use jiff::fmt::rfc2822;
use reqwest::header::{DATE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Client, RequestBuilder, StatusCode};

use super::sink::Refusal;
use super::{http, text};
use crate::secret::Secret;
use crate::store::Event;

/// Shortest wait that is granted to a receiver that asks for one.
const SHORTEST_ASKED: Duration = Duration::from_millis(100);
/// Characters of an answer that are shown.
const SHOWN: usize = 300;
/// Texts shorter than this hide more than they would reveal.
const SHORTEST_HIDDEN: usize = 4;

/// Sends requests and judges answers.
pub struct Poster {
    client: Client,
    timeout: Duration,
    secrets: Vec<Secret>,
}

/// What a receiver said.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, as far as it came: a request whose status says success was taken, whatever becomes of the rest.
    pub body: String,
    /// Status and body for people, without secrets.
    pub said: String,
}

impl Poster {
    /// Requests take at most `timeout`, and `secrets` never show in what is said of them.
    pub fn new(client: Client, timeout: Duration, secrets: impl IntoIterator<Item = Secret>) -> Self {
        let mut secrets: Vec<Secret> = secrets.into_iter().collect();
        secrets.retain(|secret| secret.expose().len() >= SHORTEST_HIDDEN);
        // One may be part of another.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.expose().len()));
        Self { client, timeout, secrets }
    }

    /// To begin a request with.
    #[must_use]
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// Sends a request that is known by a key to be the same again; the answer may be a refusal.
    ///
    /// # Errors
    /// [`Refusal::Later`] when there is no answer.
    pub async fn ask(&self, request: RequestBuilder, key: Option<&str>) -> Result<Answer, Refusal> {
        let request = match key.and_then(|key| HeaderValue::from_str(key).ok()) {
            Some(key) => request.header("Idempotency-Key", key),
            None => request,
        };
        let sent = request.timeout(self.timeout).send().await;
        let answer = sent.map_err(|error| Refusal::later(self.hide(&http::describe(error))))?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = http::body(answer).await.unwrap_or_default();
        let shown = text::plain(body.trim());
        let said = text::clip(&self.hide(&format!("{status}: {}", shown.trim())), SHOWN);
        Ok(Answer { status, headers, body, said })
    }

    /// Sends a request; the answer is one of success.
    ///
    /// # Errors
    /// What [`Answer::refusal`] says.
    pub async fn send(&self, request: RequestBuilder, key: Option<&str>) -> Result<Answer, Refusal> {
        self.ask(request, key).await?.taken()
    }

    /// `text` without secrets.
    fn hide(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_owned(), |text, secret| secret.redact(&text))
    }
}

impl Answer {
    /// This, if it is one of success.
    ///
    /// # Errors
    /// What [`Self::refusal`] says.
    pub fn taken(self) -> Result<Self, Refusal> {
        if self.status.is_success() { Ok(self) } else { Err(self.refusal(None)) }
    }

    /// What a refusal means. `asked` is how long the service wants to be left alone if it says so in its own way.
    #[must_use]
    pub fn refusal(&self, asked: Option<Duration>) -> Refusal {
        let asked = asked.or_else(|| retry_after(&self.headers)).filter(|asked| !asked.is_zero());
        let after = asked.map(|asked| asked.max(SHORTEST_ASKED));
        let why = self.said.clone();
        match self.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Refusal::Credentials(why),
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Refusal::Later { after, why },
            status if status.is_server_error() => Refusal::Later { after, why },
            _ => Refusal::Never(why),
        }
    }

    /// What it means where an address that nobody knows is a secret that nobody knows any more.
    #[must_use]
    pub fn refusal_of_secret_address(&self, asked: Option<Duration>) -> Refusal {
        match self.status {
            StatusCode::NOT_FOUND | StatusCode::GONE => Refusal::Credentials(self.said.clone()),
            _ => self.refusal(asked),
        }
    }
}

/// The key of a request of several events: the same for the same events.
#[must_use]
pub fn key_of(events: &[Event], what: &str) -> String {
    match events {
        [] => String::new(),
        [event] => event.key(),
        [first, ..] => format!("{}-{what}-{}", first.key(), events.len()),
    }
}

/// A number of seconds as services write it, with or without a fraction.
#[must_use]
pub fn seconds(text: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(text.trim().parse().ok()?).ok()
}

/// `Retry-After`, RFC 9110: seconds, or a date, which the server's own clock says how far away it is.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?;
    seconds(text).or_else(|| {
        let date = |text: &str| rfc2822::parse(text).ok();
        let (then, now) = (date(text)?, date(headers.get(DATE)?.to_str().ok()?)?);
        Duration::try_from(then.duration_since(&now)).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, headers: &[(&'static str, &'static str)]) -> Answer {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
        let status = StatusCode::from_u16(status).unwrap();
        Answer { status, headers: headers.collect(), body: String::new(), said: "said".to_owned() }
    }

    #[test]
    fn answers_are_judged_by_whether_another_attempt_can_help() {
        let later = |after: Option<u64>| Refusal::Later { after: after.map(Duration::from_millis), why: "said".into() };
        let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
        for (status, headers, asked, refusal) in [
            (429, &[("retry-after", "7")] as &[_], None, later(Some(7000))),
            (429, &[("retry-after", "7")], Some(Duration::from_millis(350)), later(Some(350))),
            (503, &[("retry-after", "Sun, 06 Nov 1994 08:50:37 GMT"), date], None, later(Some(60_000))),
            (503, &[("retry-after", "Sun, 06 Nov 1994 08:48:37 GMT"), date], None, later(None)),
            (503, &[("retry-after", "Sun, 06 Nov 1994 08:50:37 GMT")], None, later(None)),
            (429, &[("retry-after", "0")], None, later(None)),
            (429, &[("retry-after", "0.001")], None, later(Some(100))),
            (429, &[("retry-after", "soon")], None, later(None)),
            (408, &[], None, later(None)),
            (500, &[], None, later(None)),
            (401, &[], None, Refusal::Credentials("said".into())),
            (403, &[], None, Refusal::Credentials("said".into())),
            (302, &[], None, Refusal::Never("said".into())),
            (404, &[], None, Refusal::Never("said".into())),
            (413, &[], None, Refusal::Never("said".into())),
        ] {
            assert_eq!(answer(status, headers).refusal(asked), refusal, "{status} {headers:?}");
        }
        for status in [404, 410] {
            let refusal = answer(status, &[]).refusal_of_secret_address(None);
            assert_eq!(refusal, Refusal::Credentials("said".into()));
        }
    }
}
