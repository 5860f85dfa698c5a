//! `sendMessage` of the Bot API, and what its answers mean.
//!
//! Source: <https://core.telegram.org/bots/api#making-requests>.

use std::time::Duration;

use anyhow::{Result, bail};
use reqwest::{Client, StatusCode};
use serde::{Deserialize, Serialize};

use super::{ChatId, TelegramConfig};
use crate::notify::sink::Refusal;
use crate::notify::{http, text};
use crate::secret::Secret;

/// Body of the request.
#[derive(Debug, Serialize)]
pub struct SendMessage<'a> {
    chat_id: &'a ChatId,
    text: &'a str,
    parse_mode: &'static str,
    link_preview_options: LinkPreview,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_parameters: Option<Reply>,
}

#[derive(Debug, Serialize)]
struct LinkPreview {
    is_disabled: bool,
}

#[derive(Debug, Serialize)]
struct Reply {
    message_id: i64,
    allow_sending_without_reply: bool,
}

impl<'a> SendMessage<'a> {
    /// A message of HTML text, in reply to the message `reply_to` of the same chat.
    pub fn new(chat_id: &'a ChatId, text: &'a str, reply_to: Option<i64>) -> Self {
        Self {
            chat_id,
            text,
            parse_mode: "HTML",
            link_preview_options: LinkPreview { is_disabled: true },
            reply_parameters: reply_to.map(|message_id| Reply { message_id, allow_sending_without_reply: true }),
        }
    }
}

/// A bot, known by its token.
pub struct Bot {
    client: Client,
    url: String,
    token: Secret,
    timeout: Duration,
}

impl Bot {
    /// A bot at the configured server.
    ///
    /// # Errors
    /// When the token has characters that no token has.
    pub fn new(client: Client, config: &TelegramConfig, token: Secret) -> Result<Self> {
        let in_token = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b':' | b'_' | b'-');
        if !token.expose().bytes().all(in_token) {
            bail!("the bot token is not of the form 123456:ABC-DEF; copy it from @BotFather again");
        }
        let url = config.api_base.join(&format!("/bot{}/sendMessage", token.expose()));
        Ok(Self { client, url, token, timeout: config.terms.timeout.get() })
    }

    /// Sends a message; gives its number in the chat when Telegram says it.
    pub async fn send(&self, message: &SendMessage<'_>) -> Result<Option<i64>, Refusal> {
        let later = |error| Refusal::Later { after: None, why: self.token.redact(&http::describe(error)) };
        let answer = self.client.post(&self.url).timeout(self.timeout).json(message).send().await.map_err(later)?;
        let status = answer.status();
        let asked = answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
        let body = http::body(answer).await.map_err(later)?;
        let parsed: Answer = serde_json::from_str(&body).unwrap_or_default();
        if status.is_success() && parsed.ok {
            return Ok(parsed.result.map(|message| message.message_id));
        }
        let said = parsed.description.as_deref().unwrap_or("no description");
        let why = self.token.redact(&text::clip(&text::plain(&format!("{status}: {said}")), 300));
        Err(judge(status, why, parsed.parameters.unwrap_or_default(), asked))
    }
}

fn judge(status: StatusCode, why: String, parameters: Parameters, asked: Option<u64>) -> Refusal {
    let after = parameters.retry_after.or(asked).map(Duration::from_secs);
    match status {
        // A malformed token makes a path that does not exist.
        StatusCode::UNAUTHORIZED | StatusCode::NOT_FOUND => Refusal::Credentials(why),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => Refusal::Later { after, why },
        status if status.is_client_error() || status.is_redirection() => Refusal::Never(why),
        _ => Refusal::Later { after, why },
    }
}

#[derive(Default, Deserialize)]
struct Answer {
    #[serde(default)]
    ok: bool,
    result: Option<Message>,
    description: Option<String>,
    parameters: Option<Parameters>,
}

#[derive(Deserialize)]
struct Message {
    message_id: i64,
}

#[derive(Default, Deserialize)]
struct Parameters {
    retry_after: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_judged_by_whether_another_attempt_can_help() {
        let judge =
            |status: u16, parameters| judge(StatusCode::from_u16(status).unwrap(), String::new(), parameters, Some(7));
        let parameters = |retry_after| Parameters { retry_after };
        let later = |secs| Refusal::Later { after: Some(Duration::from_secs(secs)), why: String::new() };
        assert_eq!(judge(429, parameters(Some(3))), later(3));
        assert_eq!(judge(429, parameters(None)), later(7));
        assert_eq!(judge(502, parameters(None)), later(7));
        for status in [401, 404] {
            assert_eq!(judge(status, parameters(None)), Refusal::Credentials(String::new()));
        }
        for status in [302, 400, 403, 413] {
            assert_eq!(judge(status, parameters(None)), Refusal::Never(String::new()));
        }
    }
}
