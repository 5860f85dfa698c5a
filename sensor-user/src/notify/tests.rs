//! The sinks together: configuration, secrets, independence, restarts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sensor_core::incident::Change;
use tokio::time::{Instant, timeout};

use super::testing::{Answer, Fake, Rig, incident, logs, until};
use super::*;

const TOKEN: &str = "123456:AAhunter2";

fn telegram(url: &str, more: &str) -> String {
    format!("[telegram]\ntoken = \"{TOKEN}\"\napi_base = \"{url}\"\nchat_ids = [1]\ncommands = false\n{more}\n")
}

fn alertmanager(url: &str, more: &str) -> String {
    format!("[[alertmanager]]\nurl = \"{url}\"\n{more}\n")
}

#[test]
fn configuration_survives_a_round_trip_without_its_secrets() {
    let config: NotifyConfig = toml::from_str(
        r#"
        [[alertmanager]]
        url = "http://127.0.0.1:9093"
        basic_auth = { username = "leuko", password = "hunter1" }
        [[alertmanager]]
        url = "https://am.example/prefix/"
        bearer_token_file = "/run/secrets/am"
        resend = "30s"
        name = "second"
        [telegram]
        token = "123456:AAhunter2"
        chat_ids = [-100123, "@leuko_alerts", "42"]
        min_severity = "high"
        rate_limit = "5/m"
        "#,
    )
    .unwrap();
    let printed = toml::to_string(&config).unwrap();
    assert!(!printed.contains("hunter") && !format!("{config:?}").contains("hunter"), "{printed}");
    assert!(printed.contains("token = \"***\"") && printed.contains("/run/secrets/am"), "{printed}");
    assert!(printed.contains("rate_limit = \"5/60s\"") && printed.contains("name = \"second\""), "{printed}");
    let again: NotifyConfig = toml::from_str(&printed).unwrap();
    assert_eq!(again.telegram.unwrap().terms, config.telegram.unwrap().terms);
}

#[test]
fn configuration_errors_say_the_line_and_the_remedy() {
    for (toml, line, words) in [
        ("[[alertmanager]]\nurl = \"am:9093\"", 2, "http://host:port"),
        ("[[alertmanager]]\nurl = \"http://am\"\nresend = \"5 parsecs\"", 3, "write for instance"),
        ("[[alertmanager]]\nurl = \"http://am\"\nresent = 5", 3, "unknown field `resent`"),
        ("[[alertmanager]]\nurl = \"http://am\"\nrate_limit = \"often\"", 3, "20/1m"),
        ("[[alertmanager]]\nurl = \"http://am\"\nname = \"a b\"", 3, "a name has letters"),
        ("[[alertmanager]]\nurl = \"http://am\"\nbearer_token = \"\"", 3, "the secret is empty"),
        ("[[alertmanager]]\nurl = \"http://am\"\nbasic_auth = { username = \"u\" }", 1, "password or a password_file"),
        ("[telegram]\nchat_ids = [1]", 1, "token or a token_file"),
        ("[telegram]\ntoken = \"1:a\"\ntoken_file = \"f\"\nchat_ids = [1]", 1, "given twice"),
        ("[telegram]\ntoken = \"1:a\"\nchat_ids = []", 1, "chat_ids is empty"),
        ("[telegram]\ntoken = \"1:a\"\nchat_ids = [\"leuko\"]", 3, "@name"),
        ("[telegram]\ntoken = \"1:a\"\nchat_ids = [1]\nmin_severity = \"bad\"", 4, "unknown variant"),
        ("[pigeon]", 1, "unknown field"),
    ] {
        let error = toml::from_str::<NotifyConfig>(toml).unwrap_err().to_string();
        assert!(error.contains(words), "{toml}\n{error}");
        assert!(error.contains(&format!("line {line},")), "{toml}\n{error}");
    }
}

#[tokio::test]
async fn what_cannot_be_used_is_named_at_start() {
    let dir = || Arc::new(tempfile::tempdir().unwrap());
    let start = |toml: &str| format!("{:#}", Rig::try_start(toml, dir()).err().unwrap());
    let file = tempfile::NamedTempFile::new().unwrap();
    for (path, words) in
        [("/nonexistent/token", "No such file"), (file.path().to_str().unwrap(), "the secret is empty")]
    {
        let error =
            start(&format!("[telegram]\ntoken_file = \"{path}\"\napi_base = \"http://127.0.0.1:1\"\nchat_ids = [1]"));
        assert!(error.contains(words) && error.contains(path) && error.contains("set up Telegram"), "{error}");
    }
    let error = start(&telegram("http://127.0.0.1:1", "").replace(TOKEN, "123/../hunter2"));
    assert!(error.contains("@BotFather") && !error.contains("hunter2"), "{error}");
    let error = start(&alertmanager("http://127.0.0.1:1", "name = \"a\"").repeat(2));
    assert!(error.contains("two sinks are called a"), "{error}");
}

#[tokio::test]
async fn no_secret_is_ever_logged() {
    let (_guard, log) = logs();
    // One port that refuses, one peer that repeats the path in its error page, one that never answers.
    let echo =
        Fake::start(|_, post| testing::refused(403, &format!("no {}", post.path), serde_json::Value::Null)).await;
    let slow = Fake::dead().await;
    for url in ["http://127.0.0.1:1", &echo.url, &slow.url] {
        let more = "timeout = \"200ms\"\ngive_up_after = \"300ms\"";
        let bearer = format!("bearer_token = \"{TOKEN}\"\n{more}");
        let rig = Rig::start(&format!("{}{}", alertmanager(url, &bearer), telegram(url, more)));
        rig.send(Change::Opened, &incident("a"));
        until(|| rig.count("telegram:1", Outcome::Dead) + rig.count("telegram:1", Outcome::Retried) > 0).await;
        until(|| rig.count("alertmanager", Outcome::Dead) + rig.count("alertmanager", Outcome::Retried) > 0).await;
        rig.shutdown(Duration::from_millis(100)).await;
    }
    let log = String::from_utf8(log.lock().unwrap().clone()).unwrap();
    assert!(log.contains("/bot***/sendMessage") && log.contains("403"), "{log}");
    assert!(!log.contains("hunter2"), "{log}");
}

#[tokio::test]
async fn a_dead_receiver_delays_nobody() {
    let (dead, alive) = (Fake::dead().await, Fake::ok().await);
    let rig = Rig::start(&format!(
        "{}{}{}",
        alertmanager(&dead.url, ""),
        alertmanager(&alive.url, ""),
        telegram(&dead.url, "")
    ));
    let begun = Instant::now();
    for n in 0..300 {
        rig.send(Change::Opened, &incident(&format!("i{n}")));
    }
    until(|| rig.count("alertmanager-2", Outcome::Delivered) == 300).await;
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    timeout(Duration::from_secs(3), rig.shutdown(Duration::from_millis(100))).await.expect("the deadline is kept");
}

#[tokio::test]
async fn shutdown_delivers_what_is_waiting() {
    let receiver = Fake::ok().await;
    let rig = Rig::start(&format!("{}{}", alertmanager(&receiver.url, ""), telegram(&receiver.url, "")));
    for n in 0..5 {
        rig.send(Change::Opened, &incident(&format!("i{n}")));
        rig.send(Change::Closed, &incident(&format!("i{n}")));
    }
    let metrics = Arc::clone(&rig.metrics);
    rig.shutdown(Duration::from_secs(5)).await;
    assert_eq!(testing::count(&metrics, "telegram:1", Outcome::Delivered), 10);
    assert_eq!(testing::count(&metrics, "alertmanager", Outcome::Delivered), 10);
}

#[tokio::test]
async fn what_was_not_delivered_is_delivered_after_a_restart() {
    let up = Arc::new(AtomicBool::new(false));
    let is_up = Arc::clone(&up);
    let receiver = Fake::start(move |number, _| match is_up.load(Ordering::Relaxed) {
        false => Answer::Json(500, serde_json::Value::Null),
        true => Answer::Json(200, testing::sent(number)),
    })
    .await;
    let config = telegram(&receiver.url, "");
    let rig = Rig::start(&config);
    rig.send(Change::Opened, &incident("a"));
    receiver.wait_for(1).await;
    let dir = rig.shutdown(Duration::from_millis(50)).await;
    up.store(true, Ordering::Relaxed);
    let rig = Rig::again(&config, dir);
    // The incident that was open is over, for nobody knows more about it.
    let text = |post: &testing::Post| post.body["text"].as_str().unwrap().to_owned();
    until(|| receiver.posts().last().is_some_and(|post| text(post).contains("is over"))).await;
    until(|| rig.count("telegram:1", Outcome::Delivered) > 0).await;
    // The message, its edit and the reply.
    let posts = receiver.posts();
    assert!(posts.len() >= 3 && text(&posts[posts.len() - 3]).contains("<code>a</code>"));
}

#[tokio::test]
async fn nothing_configured_is_nothing_to_do() {
    let rig = Rig::start("");
    rig.send(Change::Opened, &incident("a"));
    rig.shutdown(Duration::from_secs(1)).await;
}
