//! What every sink does that tells by one HTTP request: order, keys, troubles, digests, and silence about secrets.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::Duration;

use sensor_core::incident::Change;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::testing::{Answer, Fake, Post, Rig, incident, logs, until};
use super::{NotifyConfig, Outcome};

const SECRET: &str = "hunter2hunter2";

/// The table of each sink, for a server at `url`.
fn tables(url: &str) -> [(&'static str, String); 6] {
    [
        ("discord", format!("[[discord]]\nurl = \"{url}/api/webhooks/1/{SECRET}?thread_id=7\"\n")),
        ("mattermost", format!("[[mattermost]]\nurl = \"{url}/hooks/{SECRET}\"\n")),
        ("ntfy", format!("[[ntfy]]\nurl = \"{url}\"\ntopic = \"leuko\"\ntoken = \"{SECRET}\"\n")),
        ("otlp", format!("[[otlp]]\nurl = \"{url}\"\nheaders = {{ api-key = \"{SECRET}\" }}\n")),
        ("slack", format!("[[slack]]\nurl = \"{url}/services/T0/B0/{SECRET}\"\n")),
        (
            "webhook",
            format!(
                "[[webhook]]\nurl = \"{url}/in?token={SECRET}\"\nsecret = \"{SECRET}\"\nbearer_token = \"{SECRET}\"\n"
            ),
        ),
    ]
}

fn taken(number: usize) -> Answer {
    Answer::Json(200, json!({"id": (100 + number).to_string()}))
}

fn header<'a>(post: &'a Post, name: &str) -> &'a str {
    post.headers[name].to_str().unwrap()
}

/// The keys of the events that a request tells of.
fn keys(post: &Post) -> Vec<String> {
    let Some(records) = post.body["resourceLogs"][0]["scopeLogs"][0]["logRecords"].as_array() else {
        return vec![header(post, "idempotency-key").to_owned()];
    };
    let uid = |record: &Value| record["attributes"][0]["value"]["stringValue"].as_str().unwrap().to_owned();
    records.iter().map(uid).collect()
}

#[tokio::test]
async fn events_arrive_in_order_each_with_its_key() {
    for number in 0..6 {
        let receiver = Fake::start(|number, _| taken(number)).await;
        let (name, table) = tables(&receiver.url)[number].clone();
        let rig = Rig::start(&table);
        for n in 0..9 {
            rig.send(Change::Opened, &incident(&format!("i{n}")));
        }
        rig.send(Change::Closed, &incident("i3"));
        until(|| rig.count(name, Outcome::Delivered) == 10).await;
        let posts = receiver.posts();
        let told: Vec<_> = posts.iter().flat_map(keys).collect();
        let sent: Vec<_> = (0..9).map(|n| format!("i{n}.1")).chain(["i3.2".to_owned()]).collect();
        assert_eq!(told, sent, "{name}");
        assert!(posts.iter().all(|post| header(post, "content-type") == "application/json"), "{name}");
        assert!(posts.iter().all(|post| header(post, "user-agent").starts_with("leuko/")), "{name}");
    }
}

#[tokio::test]
async fn trouble_is_retried_with_the_same_key_until_it_is_over() {
    for number in 0..6 {
        let receiver = Fake::start(|number, _| match number {
            0 => Answer::With(429, ("retry-after", "0.3"), json!({"error": "slow down"})),
            1 => Answer::Json(500, json!("oops")),
            2 => Answer::Never,
            _ => taken(number),
        })
        .await;
        let (name, table) = tables(&receiver.url)[number].clone();
        let rig = Rig::start(&format!("{table}timeout = \"300ms\"\n"));
        rig.send(Change::Opened, &incident("a"));
        until(|| rig.count(name, Outcome::Delivered) == 1).await;
        let posts = receiver.posts();
        assert_eq!((posts.len(), rig.count(name, Outcome::Retried)), (4, 3), "{name}");
        assert!(posts.iter().all(|post| header(post, "idempotency-key") == "a.1"), "{name}");
        let waited = posts[1].at - posts[0].at;
        assert!(waited >= Duration::from_millis(300) && waited < Duration::from_secs(2), "{name}: {waited:?}");
    }
}

#[tokio::test]
async fn a_connection_that_breaks_before_the_answer_is_retried_and_one_after_it_is_not() {
    for number in 0..6 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 65536]).unwrap();
                let answer: &[u8] = match number {
                    0 => b"",
                    1 => b"HTTP/1.1 200 O",
                    _ => b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"id\":",
                };
                stream.write_all(answer).unwrap();
            }
        });
        let (name, table) = tables(&url)[number].clone();
        let rig = Rig::start(&table);
        rig.send(Change::Opened, &incident("a"));
        until(|| rig.count(name, Outcome::Delivered) == 1).await;
        sleep(Duration::from_millis(20)).await;
        assert_eq!(rig.count(name, Outcome::Retried), 2, "{name}");
        assert_eq!(rig.count(name, Outcome::Delivered), 1, "{name}");
    }
}

#[tokio::test]
async fn what_is_refused_for_good_is_given_up_and_holds_up_nothing() {
    for number in 0..6 {
        let receiver = Fake::start(|number, post| match post.text.contains("poison") {
            true => Answer::Json(400, json!({"message": "no"})),
            false => taken(number),
        })
        .await;
        let (name, table) = tables(&receiver.url)[number].clone();
        let rig = Rig::start(&table);
        for id in ["a", "poison", "b", "c"] {
            rig.send(Change::Opened, &incident(id));
        }
        until(|| rig.count(name, Outcome::Delivered) == 3 && rig.count(name, Outcome::Dead) == 1).await;
        assert_eq!(rig.count(name, Outcome::Retried), 0, "{name}");
    }
}

#[tokio::test]
async fn a_burst_becomes_a_digest_that_lists_every_key() {
    for number in [0, 1, 2, 4, 5] {
        let receiver = Fake::start(|number, _| taken(number)).await;
        let (name, table) = tables(&receiver.url)[number].clone();
        let rig = Rig::start(&format!("{table}rate_limit = \"2/200ms\"\n"));
        for n in 0..130 {
            rig.send(Change::Opened, &incident(&format!("incident-{n}")));
        }
        until(|| rig.count(name, Outcome::Delivered) == 130).await;
        let posts = receiver.posts();
        assert!(posts.len() < 20, "{name}: {}", posts.len());
        for n in 0..130 {
            let key = format!("incident-{n}.1");
            assert!(posts.iter().any(|post| post.text.contains(&key)), "{name}: {key}");
        }
        let digest = posts.iter().find(|post| header(post, "idempotency-key").contains("-digest-")).unwrap();
        let count = header(digest, "idempotency-key").rsplit('-').next().unwrap();
        assert!(digest.text.contains(count), "{name}: {}", digest.text);
    }
}

#[tokio::test]
async fn who_is_not_known_is_said_once_and_nothing_is_lost() {
    for number in 0..6 {
        let (_guard, log) = logs();
        let receiver = Fake::start(|_, _| Answer::Json(401, json!({"message": "who?"}))).await;
        let (name, table) = tables(&receiver.url)[number].clone();
        let rig = Rig::start(&table);
        rig.send(Change::Opened, &incident("a"));
        rig.send(Change::Opened, &incident("b"));
        until(|| rig.count(name, Outcome::Retried) == 1).await;
        sleep(Duration::from_millis(50)).await;
        assert_eq!((receiver.posts().len(), rig.count(name, Outcome::Dead)), (1, 0), "{name}");
        let log = String::from_utf8(log.lock().unwrap().clone()).unwrap();
        assert_eq!(log.matches("refuses who we are").count(), 1, "{log}");
    }
}

#[tokio::test]
async fn no_secret_of_a_hook_is_logged_or_printed() {
    let (_guard, log) = logs();
    // One port that refuses, one peer that repeats all that it was sent, one that never answers.
    let echo = Fake::start(|_, post| {
        let sent = format!("no {}?{} {:?}", post.path, post.query, post.headers);
        Answer::Json(400, json!(sent))
    })
    .await;
    let slow = Fake::start(|_, _| Answer::Never).await;
    for url in ["http://127.0.0.1:1", &echo.url, &slow.url] {
        let tables = tables(url).map(|(_, table)| format!("{table}timeout = \"100ms\"\n"));
        let rig = Rig::start(&tables.concat());
        rig.send(Change::Opened, &incident("a"));
        for name in ["discord", "mattermost", "ntfy", "otlp", "slack", "webhook"] {
            until(|| rig.count(name, Outcome::Dead) + rig.count(name, Outcome::Retried) > 0).await;
        }
        let config: NotifyConfig = toml::from_str(&tables.concat()).unwrap();
        let printed = format!("{config:?}\n{}", toml::to_string(&config).unwrap());
        assert!(!printed.contains("hunter2"), "{printed}");
        rig.shutdown(Duration::from_millis(50)).await;
    }
    let log = String::from_utf8(log.lock().unwrap().clone()).unwrap();
    assert!(log.contains("no ***") && log.contains("400") && log.contains("sink=\"otlp\""), "{log}");
    assert!(!log.contains("hunter2"), "{log}");
}

#[tokio::test]
async fn a_dead_hook_delays_no_other() {
    let (dead, alive) = (Fake::dead().await, Fake::start(|number, _| taken(number)).await);
    let tables: Vec<_> = tables(&dead.url).into_iter().zip(tables(&alive.url)).flat_map(|(a, b)| [a.1, b.1]).collect();
    let rig = Rig::start(&tables.concat());
    let begun = Instant::now();
    rig.send(Change::Opened, &incident("a"));
    until(|| alive.posts().len() == 6).await;
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

#[test]
fn tables_survive_a_round_trip() {
    let config: NotifyConfig = toml::from_str(
        r#"
        [[discord]]
        url_file = "/run/secrets/discord"
        [[mattermost]]
        url_file = "/run/secrets/mattermost"
        channel = "soc"
        username = "leuko"
        ca_file = "/etc/ssl/ca.pem"
        [[ntfy]]
        url = "https://ntfy.example"
        topic = "soc"
        token_file = "/run/secrets/ntfy"
        [[otlp]]
        url = "http://127.0.0.1:4318"
        bearer_token_file = "/run/secrets/otlp"
        [[slack]]
        url_file = "/run/secrets/slack"
        plain = true
        [[webhook]]
        url_file = "/run/secrets/webhook"
        basic_auth = { username = "leuko", password_file = "/run/secrets/password" }
        secret_file = "/run/secrets/key"
        rate_limit = "5/m"
        min_severity = "high"
        "#,
    )
    .unwrap();
    let again: NotifyConfig = toml::from_str(&toml::to_string(&config).unwrap()).unwrap();
    assert_eq!(again, config);
}

#[test]
fn tables_that_cannot_be_meant_say_why() {
    for (toml, words) in [
        ("[[discord]]", "a url or a url_file is needed"),
        ("[[slack]]\nurl = \"http://a\"\nurl_file = \"b\"", "given twice"),
        ("[[slack]]\nurl = \"http://a\"\ncolour = 1", "unknown field"),
        ("[[ntfy]]\nurl = \"http://a\"\ntopic = \"a/b\"", "a topic has letters"),
        ("[[ntfy]]\ntopic = \"a\"", "missing field `url`"),
        ("[[otlp]]\nurl = \"http://a/v1/logs?key=1\"", "no query"),
        (
            "[[otlp]]\nurl = \"http://a\"\nheaders = { Authorization = \"x\" }\nbearer_token = \"x\"",
            "excludes basic_auth",
        ),
        ("[[webhook]]\nurl = \"http://a\"\nheaders = { Host = \"x\" }", "set by the sensor"),
        ("[[webhook]]\nurl = \"http://a\"\nbasic_auth = { username = \"u\" }", "password or a password_file"),
    ] {
        let error = toml::from_str::<NotifyConfig>(toml).unwrap_err().to_string();
        assert!(error.contains(words), "{toml}\n{error}");
    }
}

#[tokio::test]
async fn an_address_that_cannot_be_used_is_named_at_start_but_not_printed() {
    for table in ["discord", "mattermost", "slack", "webhook"] {
        let toml = format!("[[{table}]]\nurl = \"hunter2\"");
        let error = Rig::try_start(&toml, std::sync::Arc::new(tempfile::tempdir().unwrap())).err().unwrap();
        let error = format!("{error:#}").to_lowercase();
        assert!(error.contains(table) && error.contains("not a url") && !error.contains("hunter2"), "{error}");
    }
}
