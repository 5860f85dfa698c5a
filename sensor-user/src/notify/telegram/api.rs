//! Requests of the Bot API, and what its answers mean.
//!
//! Source: <https://core.telegram.org/bots/api#making-requests>.

use std::time::Duration;

use anyhow::{Result, bail};
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::TelegramConfig;
use crate::notify::sink::Refusal;
use crate::notify::{http, text};
use crate::secret::Secret;

/// How long the server may wait for an update.
const POLL: Duration = Duration::from_secs(50);
/// Updates of one answer. Whoever knows the bot's name can send it some, each of up to some hundred kilobytes.
const UPDATES: u32 = 20;
/// Longest part of an answer that is read, in octets: more than any twenty updates.
const ANSWER_LIMIT: usize = 16 << 20;

/// A bot at the API, known by its token.
pub struct Api {
    client: Client,
    base: String,
    token: Secret,
    timeout: Duration,
}

/// Why a request came to nothing. Holds no secret.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What the server answered; nothing where it did not.
    pub status: Option<StatusCode>,
    /// For people.
    pub why: String,
    /// What it asks to wait.
    pub after: Option<Duration>,
    /// Where the group is now.
    pub moved_to: Option<i64>,
}

impl Failure {
    fn later(why: String) -> Self {
        Self { status: None, why, after: None, moved_to: None }
    }

    /// Whether the message looks already as it was asked to.
    pub fn is_unmodified(&self) -> bool {
        self.is_bad_request() && self.why.contains("message is not modified")
    }

    /// Whether the request itself is refused: there is no such message any more, or it cannot be edited.
    pub fn is_bad_request(&self) -> bool {
        self.status == Some(StatusCode::BAD_REQUEST)
    }

    /// Whether the token is refused.
    pub fn is_of_token(&self) -> bool {
        matches!(self.status, Some(StatusCode::UNAUTHORIZED | StatusCode::NOT_FOUND))
    }

    /// What a courier makes of it.
    pub fn refusal(self) -> Refusal {
        let Self { status, why, after, .. } = self;
        match status {
            Some(StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT) => Refusal::Later { after, why },
            Some(StatusCode::UNAUTHORIZED | StatusCode::NOT_FOUND) => Refusal::Credentials(why),
            Some(status) if status.is_client_error() || status.is_redirection() => Refusal::Never(why),
            Some(_) | None => Refusal::Later { after, why },
        }
    }
}

impl Api {
    /// A bot at the configured server.
    ///
    /// # Errors
    /// When the token has characters that no token has.
    pub fn new(client: Client, config: &TelegramConfig, token: Secret) -> Result<Self> {
        let in_token = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b':' | b'_' | b'-');
        if !token.expose().bytes().all(in_token) {
            bail!("the bot token is not of the form 123456:ABC-DEF; copy it from @BotFather again");
        }
        let base = config.api_base.join(&format!("/bot{}", token.expose()));
        Ok(Self { client, base, token, timeout: config.terms.timeout.get() })
    }

    /// The bot's number, which is no secret: the token's first part.
    pub fn bot(&self) -> &str {
        self.token.expose().split_once(':').map_or("bot", |(number, _)| number)
    }

    /// One request. `key` is the same whenever it is repeated.
    pub async fn call<T: DeserializeOwned>(&self, method: &str, body: &Value, key: &str) -> Result<T, Failure> {
        self.ask(keyed(self.post(method, self.timeout).json(body), key)).await
    }

    /// Sends a picture.
    pub async fn send_photo(&self, fields: &[(&str, String)], png: &[u8], key: &str) -> Result<(), Failure> {
        let (kind, body) = multipart(fields, png);
        let request = self.post("sendPhoto", self.timeout).header(CONTENT_TYPE, kind).body(body);
        self.ask::<Value>(keyed(request, key)).await.map(drop)
    }

    /// What people wrote and pressed from `offset` on; waits for it.
    pub async fn updates(&self, offset: i64) -> Result<Vec<Value>, Failure> {
        let allowed = ["message", "callback_query"];
        let body = json!({"offset": offset, "timeout": POLL.as_secs(), "limit": UPDATES, "allowed_updates": allowed});
        self.ask(self.post("getUpdates", self.timeout + POLL).json(&body)).await
    }

    fn post(&self, method: &str, timeout: Duration) -> RequestBuilder {
        self.client.post(format!("{}/{method}", self.base)).timeout(timeout)
    }

    async fn ask<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Failure> {
        let later = |error| Failure::later(self.token.redact(&http::describe(error)));
        let answer = request.send().await.map_err(later)?;
        let status = answer.status();
        let asked = answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
        let body = read(answer).await.map_err(later)?;
        let said: Answer = serde_json::from_slice(&body).unwrap_or_default();
        if status.is_success() && said.ok {
            return serde_json::from_value(said.result)
                .map_err(|_| Failure::later(format!("{status}: an answer that Telegram does not give")));
        }
        let description = said.description.as_deref().unwrap_or("no description");
        let mut why = self.token.redact(&text::clip(&text::plain(&format!("{status}: {description}")), 300));
        let parameters = said.parameters.unwrap_or_default();
        let after = parameters.retry_after.or(asked).map(Duration::from_secs);
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::NOT_FOUND) {
            // A malformed token makes a path that does not exist.
            why += " (notify.telegram.token or token_file is not what @BotFather gave)";
        }
        Err(Failure { status: Some(status), why, after, moved_to: parameters.migrate_to_chat_id })
    }
}

/// Servers in between know a repeated request by it.
fn keyed(request: RequestBuilder, key: &str) -> RequestBuilder {
    match HeaderValue::from_str(key) {
        Ok(key) => request.header("idempotency-key", key),
        Err(_) => request,
    }
}

async fn read(mut answer: Response) -> Result<Vec<u8>, reqwest::Error> {
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        let room = ANSWER_LIMIT - bytes.len();
        bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() >= room {
            break;
        }
    }
    Ok(bytes)
}

/// The body of a form with a picture, and what it is (RFC 7578).
fn multipart(fields: &[(&str, String)], png: &[u8]) -> (String, Vec<u8>) {
    // Neither JSON nor a compressed picture has this line.
    const BOUNDARY: &str = "leuko-7c1d0b6f52e94a0b8f3e-part";
    let mut body = Vec::with_capacity(png.len() + 1024);
    for (name, value) in fields {
        let part = format!("--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
        body.extend_from_slice(part.as_bytes());
    }
    let head = "content-disposition: form-data; name=\"photo\"; filename=\"timeline.png\"\r\ncontent-type: image/png";
    body.extend_from_slice(format!("--{BOUNDARY}\r\n{head}\r\n\r\n").as_bytes());
    body.extend_from_slice(png);
    body.extend_from_slice(format!("\r\n--{BOUNDARY}--\r\n").as_bytes());
    (format!("multipart/form-data; boundary={BOUNDARY}"), body)
}

#[derive(Default, Deserialize)]
struct Answer {
    #[serde(default)]
    ok: bool,
    #[serde(default)]
    result: Value,
    description: Option<String>,
    parameters: Option<Parameters>,
}

#[derive(Default, Deserialize)]
struct Parameters {
    retry_after: Option<u64>,
    migrate_to_chat_id: Option<i64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_judged_by_whether_another_attempt_can_help() {
        let after = Some(Duration::from_secs(3));
        let judge = |status: u16| {
            let status = Some(StatusCode::from_u16(status).unwrap());
            Failure { status, why: String::new(), after, moved_to: None }.refusal()
        };
        for status in [408, 429, 500, 502] {
            assert_eq!(judge(status), Refusal::Later { after, why: String::new() });
        }
        for status in [401, 404] {
            assert_eq!(judge(status), Refusal::Credentials(String::new()));
        }
        for status in [302, 400, 403, 413] {
            assert_eq!(judge(status), Refusal::Never(String::new()));
        }
        assert_eq!(Failure::later("x".to_owned()).refusal(), Refusal::later("x"));
    }
}
