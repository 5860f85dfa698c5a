//! The receivers of alerts: whether they are there and know us. They are asked, and sent nothing.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use reqwest::{Client, RequestBuilder, StatusCode};
use serde::Deserialize;

use super::Check;
use crate::notify::alertmanager::{AlertmanagerConfig, AuthConfig};
use crate::notify::telegram::TelegramConfig;
use crate::notify::text::{clip, plain};
use crate::notify::{NotifyConfig, http};
use crate::secret::Secret;

const AREA: &str = "receivers";
const TIMEOUT: Duration = Duration::from_secs(5);

pub async fn checks(config: &NotifyConfig) -> Vec<Check> {
    if config.is_empty() {
        let check = Check::ok(AREA, "receivers", "none: incidents are only printed");
        return vec![check.warn("configure notify.telegram or notify.alertmanager to be told of incidents")];
    }
    let https = config.alertmanager.iter().any(|one| one.url.is_https())
        || config.telegram.as_ref().is_some_and(|bot| bot.api_base.is_https());
    let client = match http::client(if https { http::Trust::SystemRoots } else { http::Trust::Nobody }) {
        Ok(client) => client,
        Err(error) => {
            let check = Check::ok(AREA, "certificates", "no HTTPS client");
            return vec![check.fail(format!("{error:#}"))];
        }
    };
    let mut asked = Vec::new();
    for one in config.alertmanager.clone() {
        let client = client.clone();
        asked.push(tokio::spawn(async move { check_of("alertmanager", alertmanager(&client, &one).await) }));
    }
    if let Some(bot) = config.telegram.clone() {
        asked.push(tokio::spawn(async move { check_of("telegram", telegram(&client, &bot).await) }));
    }
    let mut checks = Vec::new();
    let others = config.others();
    if others > 0 {
        checks.push(Check::ok(AREA, "others", format!("{others}; `leuko notify test` sends them a sample incident")));
    }
    for task in asked {
        // A task fails only by a panic, which has been told already.
        checks.extend(task.await);
    }
    checks
}

/// What was found, or the error (where, what) and its remedy.
type Found = Result<String, (anyhow::Error, &'static str)>;

fn check_of(name: &str, found: Found) -> Check {
    match found {
        Ok(found) => Check::ok(AREA, name, found),
        Err((error, advice)) => Check::ok(AREA, name, clip(&format!("{error:#}"), 300)).fail(advice),
    }
}

async fn alertmanager(client: &Client, config: &AlertmanagerConfig) -> Found {
    let request = client.get(config.url.join("/-/ready")).timeout(config.terms.timeout.get().min(TIMEOUT));
    let request =
        with_auth(request, config.auth.as_ref()).map_err(|error| (error, "correct the secret of this Alertmanager"))?;
    let away = |error| (error, "start it, or correct notify.alertmanager.url and its way through firewalls");
    let answer = request.send().await.map_err(http::describe).map_err(anyhow::Error::msg);
    let status = answer.with_context(|| config.url.to_string()).map_err(away)?.status();
    if status.is_success() {
        return Ok(format!("{} is ready", config.url));
    }
    let advice = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "correct basic_auth or bearer_token of this Alertmanager",
        StatusCode::NOT_FOUND => {
            "the URL is that of another program, or lacks the path below which Alertmanager is served"
        }
        _ => "look into the log of Alertmanager",
    };
    Err((anyhow::anyhow!("{}: {status}", config.url), advice))
}

fn with_auth(request: RequestBuilder, auth: Option<&AuthConfig>) -> Result<RequestBuilder> {
    Ok(match auth {
        None => request,
        Some(AuthConfig::Basic { username, password }) => request.basic_auth(username, Some(password.load()?.expose())),
        Some(AuthConfig::Bearer(token)) => request.bearer_auth(token.load()?.expose()),
    })
}

/// `getMe`, <https://core.telegram.org/bots/api#getme>: "a simple method for testing your bot's authentication token".
async fn telegram(client: &Client, config: &TelegramConfig) -> Found {
    let token =
        config.token.load().map_err(|error| (error.into(), "correct token or token_file of notify.telegram"))?;
    let refused = "put the token that @BotFather gave into token or token_file of notify.telegram";
    well_formed(&token).map_err(|error| (error, refused))?;
    let away = "let this host reach it, or correct notify.telegram.api_base";
    let hidden = |error: anyhow::Error| anyhow::Error::msg(token.redact(&format!("{error:#}")));
    let url = config.api_base.join(&format!("/bot{}/getMe", token.expose()));
    let ask = async {
        let answer = client.get(url).timeout(config.terms.timeout.get().min(TIMEOUT)).send().await;
        let answer = answer.map_err(http::describe).map_err(anyhow::Error::msg)?;
        let status = answer.status();
        let body = http::body(answer).await.map_err(http::describe).map_err(anyhow::Error::msg)?;
        anyhow::Ok((status, serde_json::from_str::<Answer>(&body).unwrap_or_default()))
    };
    let asked = ask.await.with_context(|| config.api_base.to_string());
    let (status, answer) = asked.map_err(hidden).map_err(|error| (error, away))?;
    if let Some(me) = answer.result.filter(|_| status.is_success() && answer.ok) {
        let name = token.redact(&clip(&plain(&me.username), 64));
        return Ok(format!("{} knows the bot @{name}; {} chats are told", config.api_base, config.chat_ids.len()));
    }
    let said = token.redact(&clip(&plain(&answer.description), 200));
    let error = anyhow::anyhow!("{}: {status} {said}", config.api_base);
    let is_refused = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::NOT_FOUND);
    Err((error, if is_refused { refused } else { away }))
}

/// Other characters would change the path of the request.
fn well_formed(token: &Secret) -> Result<()> {
    if token.expose().bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b':' | b'_' | b'-')) {
        return Ok(());
    }
    bail!("the bot token is not of the form 123456:ABC-DEF")
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Answer {
    ok: bool,
    description: String,
    result: Option<Me>,
}

#[derive(Deserialize)]
struct Me {
    username: String,
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::http::{HeaderMap, Uri};

    use super::super::Verdict;
    use super::*;

    /// A receiver that knows one password and one token.
    async fn receiver() -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let answer = |uri: Uri, headers: HeaderMap| async move {
            let auth = headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
            match (uri.path(), auth.as_deref()) {
                ("/-/ready", Some("Bearer hunter1")) | ("/open/-/ready", None) => (200, "OK".to_owned()),
                ("/-/ready", _) => (401, String::new()),
                ("/bot1:hunter2/getMe", _) => (200, r#"{"ok":true,"result":{"username":"leuko_bot"}}"#.to_owned()),
                ("/slow/bot1:hunter2/getMe", _) => std::future::pending().await,
                (path, _) if path.ends_with("getMe") => {
                    (401, format!(r#"{{"ok":false,"description":"Unauthorized {path}\u001b"}}"#))
                }
                _ => (404, String::new()),
            }
        };
        let handler = move |uri, headers| async move {
            let (status, body) = answer(uri, headers).await;
            (StatusCode::from_u16(status).unwrap(), body)
        };
        tokio::spawn(IntoFuture::into_future(axum::serve(listener, Router::new().fallback(handler))));
        url
    }

    async fn check(toml: &str, verdict: Verdict, words: &[&str]) {
        let checks = checks(&toml::from_str(toml).unwrap()).await;
        assert_eq!(checks.len(), 1, "{checks:?}");
        let text = format!("{} {}", checks[0].found, checks[0].advice.as_deref().unwrap_or_default());
        assert_eq!(checks[0].verdict, verdict, "{text}");
        assert!(words.iter().all(|words| text.contains(words)) && !text.contains("hunter"), "{text}");
        assert!(!text.contains('\x1b'), "{text:?}");
    }

    #[tokio::test]
    async fn alertmanagers_are_asked_whether_they_are_ready() {
        let url = receiver().await;
        let toml = |url: &str, more: &str| format!("[[alertmanager]]\nurl = \"{url}\"\n{more}");
        check(&toml(&url, "bearer_token = \"hunter1\""), Verdict::Ok, &[&url, "is ready"]).await;
        check(&toml(&format!("{url}/open/"), ""), Verdict::Ok, &["is ready"]).await;
        check(&toml(&url, "bearer_token = \"hunter9\""), Verdict::Fail, &["401", "correct basic_auth"]).await;
        check(&toml(&format!("{url}/other"), ""), Verdict::Fail, &["404", "lacks the path"]).await;
        check(&toml("http://127.0.0.1:1", ""), Verdict::Fail, &["127.0.0.1:1", "Connection refused", "start it"]).await;
        check(&toml(&url, "bearer_token_file = \"/nonexistent\""), Verdict::Fail, &["/nonexistent: No such file"])
            .await;
    }

    #[tokio::test]
    async fn telegram_is_asked_whether_it_knows_the_token() {
        let url = receiver().await;
        let toml = |base: &str, token: &str| {
            format!("[telegram]\nchat_ids = [1, 2]\ntimeout = \"300ms\"\napi_base = \"{base}\"\ntoken = \"{token}\"")
        };
        check(&toml(&url, "1:hunter2"), Verdict::Ok, &["@leuko_bot", "2 chats"]).await;
        check(&toml(&url, "1:hunter3"), Verdict::Fail, &["401", "Unauthorized", "@BotFather"]).await;
        check(&toml(&url, "1:hunter3/../x"), Verdict::Fail, &["not of the form"]).await;
        check(&toml("http://127.0.0.1:1", "1:hunter2"), Verdict::Fail, &["Connection refused", "api_base"]).await;
        check(&toml(&format!("{url}/slow"), "1:hunter2"), Verdict::Fail, &["timed out"]).await;
    }

    #[tokio::test]
    async fn nobody_to_tell_is_worth_a_warning() {
        check("", Verdict::Warn, &["only printed", "notify.telegram"]).await;
    }
}
