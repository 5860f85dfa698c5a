//! The sinks together: configuration, secrets, independence, shutdown.

use std::time::Duration;

use sensor_core::incident::Change;
use tokio::time::{Instant, timeout};

use super::testing::{Fake, Rig, incident, logs, until, wiring};
use super::*;

const TOKEN: &str = "123456:AAhunter2";

fn telegram(url: &str, more: &str) -> String {
    format!("[telegram]\ntoken = \"{TOKEN}\"\napi_base = \"{url}\"\nchat_ids = [1]\n{more}\n")
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
        [telegram]
        token = "123456:AAhunter2"
        chat_ids = [-100123, "@leuko_alerts", "42"]
        min_severity = "high"
        "#,
    )
    .unwrap();
    assert_eq!(
        endpoints(&config),
        [("127.0.0.1".to_owned(), 9093), ("am.example".to_owned(), 443), ("api.telegram.org".to_owned(), 443)]
    );
    let printed = toml::to_string(&config).unwrap();
    assert!(!printed.contains("hunter") && !format!("{config:?}").contains("hunter"), "{printed}");
    assert!(printed.contains("token = \"***\"") && printed.contains("/run/secrets/am"), "{printed}");
    let again: NotifyConfig = toml::from_str(&printed).unwrap();
    assert_eq!(again.telegram.unwrap().chat_ids, config.telegram.unwrap().chat_ids);
}

#[test]
fn configuration_errors_say_the_line_and_the_remedy() {
    for (toml, line, words) in [
        ("[[alertmanager]]\nurl = \"am:9093\"", 2, "http://host:port"),
        ("[[alertmanager]]\nurl = \"http://am\"\nresend = \"5 parsecs\"", 3, "write for instance"),
        ("[[alertmanager]]\nurl = \"http://am\"\nresent = 5", 3, "unknown field `resent`"),
        ("[[alertmanager]]\nurl = \"http://am\"\nbearer_token = \"\"", 3, "the secret is empty"),
        ("[[alertmanager]]\nurl = \"http://am\"\nbasic_auth = { username = \"u\" }", 1, "password or a password_file"),
        ("[telegram]\nchat_ids = [1]", 1, "token or a token_file"),
        ("[telegram]\ntoken = \"1:a\"\ntoken_file = \"f\"\nchat_ids = [1]", 1, "given twice"),
        ("[telegram]\ntoken = \"1:a\"\nchat_ids = []", 1, "chat_ids is empty"),
        ("[telegram]\ntoken = \"1:a\"\nchat_ids = [\"leuko\"]", 3, "@name"),
        ("[telegram]\ntoken = \"1:a\"\nchat_ids = [1]\nmin_severity = \"bad\"", 4, "unknown variant"),
        ("[email]", 1, "unknown field"),
    ] {
        let error = toml::from_str::<NotifyConfig>(toml).unwrap_err().to_string();
        assert!(error.contains(words), "{toml}\n{error}");
        assert!(error.contains(&format!("line {line},")), "{toml}\n{error}");
    }
}

#[tokio::test]
async fn unusable_secrets_are_named_at_start() {
    let file = tempfile::NamedTempFile::new().unwrap();
    for (path, words) in
        [("/nonexistent/token", "No such file"), (file.path().to_str().unwrap(), "the secret is empty")]
    {
        let toml = format!("[telegram]\ntoken_file = \"{path}\"\napi_base = \"http://127.0.0.1:1\"\nchat_ids = [1]");
        let config: NotifyConfig = toml::from_str(&toml).unwrap();
        let error = format!("{:#}", Notifier::start(&config, &wiring()).err().unwrap());
        assert!(error.contains(words) && error.contains(path) && error.contains("set up Telegram"), "{error}");
    }
    let toml = telegram("http://127.0.0.1:1", "").replace(TOKEN, "123/../hunter2");
    let config: NotifyConfig = toml::from_str(&toml).unwrap();
    let error = format!("{:#}", Notifier::start(&config, &wiring()).err().unwrap());
    assert!(error.contains("@BotFather") && !error.contains("hunter2"), "{error}");
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
        for sink in Sink::ALL {
            until(|| rig.count(sink, Outcome::Failed) == 1).await;
        }
        rig.notifier.shutdown(Duration::from_millis(100)).await;
    }
    let log = String::from_utf8(log.lock().unwrap().clone()).unwrap();
    assert!(log.contains("telegram message not delivered") && log.contains("alertmanager was not told"), "{log}");
    assert!(log.contains("/bot***/sendMessage"), "{log}");
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
    for n in 0..3000 {
        rig.send(Change::Opened, &incident(&format!("i{n}")));
    }
    until(|| alive.posts().iter().map(|post| post.body.as_array().unwrap().len()).max() >= Some(1024)).await;
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    assert!(rig.count(Sink::Telegram, Outcome::Dropped) >= 3000 - 1025);
    assert_eq!(rig.count(Sink::Alertmanager, Outcome::Dropped), 2 * (3000 - 1024));

    let metrics = Arc::clone(&rig.metrics);
    let stopping = rig.notifier.shutdown(Duration::from_millis(100));
    timeout(Duration::from_secs(1), stopping).await.expect("the deadline is kept");
    let text = metrics.render();
    for sink in Sink::ALL {
        let empty = format!("leuko_notification_queue_length{{sink=\"{}\"}} 0", sink.as_str());
        assert!(text.contains(&empty), "{text}");
    }
}

#[tokio::test]
async fn shutdown_delivers_what_is_queued() {
    let receiver = Fake::ok().await;
    let rig = Rig::start(&format!("{}{}", alertmanager(&receiver.url, ""), telegram(&receiver.url, "")));
    for n in 0..20 {
        rig.send(Change::Opened, &incident(&format!("i{n}")));
        rig.send(Change::Closed, &incident(&format!("i{n}")));
    }
    let metrics = Arc::clone(&rig.metrics);
    rig.notifier.shutdown(Duration::from_secs(5)).await;
    assert_eq!(testing::count(&metrics, Sink::Telegram, Outcome::Delivered), 40);
    assert_eq!(testing::count(&metrics, Sink::Telegram, Outcome::Dropped), 0);
    let posts = receiver.posts();
    let alerts =
        posts.iter().filter(|post| post.path == "/api/v2/alerts").flat_map(|post| post.body.as_array().unwrap());
    let ids: std::collections::BTreeSet<_> = alerts.map(|alert| alert["labels"]["incident_id"].to_string()).collect();
    assert_eq!(ids.len(), 20);
}

#[tokio::test]
async fn nothing_configured_is_nothing_to_do() {
    let rig = Rig::start("");
    rig.send(Change::Opened, &incident("a"));
    rig.notifier.shutdown(Duration::from_secs(1)).await;
}
