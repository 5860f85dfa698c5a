//! Against a server that speaks Discord's wire format.

use std::time::Duration;

use reqwest::Method;
use sensor_core::incident::{Change, Severity};
use serde_json::{Value, json};

use crate::notify::Outcome;
use crate::notify::testing::{Answer, Fake, Post, Rig, incident, until};

fn rig(url: &str, more: &str) -> Rig {
    Rig::start(&format!(
        "dashboard = \"https://leuko.example\"\n[[discord]]\nurl = \"{url}/api/webhooks/1/abc\"\n{more}\n"
    ))
}

fn sent(number: usize) -> Answer {
    Answer::Json(200, json!({"id": (100 + number).to_string(), "type": 0}))
}

async fn delivered(rig: &Rig, events: u64) {
    until(|| rig.count("discord", Outcome::Delivered) == events).await;
}

fn requests(posts: &[Post]) -> Vec<String> {
    posts.iter().map(|post| format!("{} {}?{}", post.method, post.path, post.query)).collect()
}

#[tokio::test]
async fn an_incident_is_one_message_that_changes() {
    let discord = Fake::start(|number, _| sent(number)).await;
    let rig = rig(&discord.url, "");
    let mut a = incident("a");
    rig.send(Change::Opened, &a);
    a.ports.push(8080);
    rig.send(Change::Updated, &a);
    rig.send(Change::Closed, &a);
    delivered(&rig, 3).await;
    let posts = discord.posts();
    assert_eq!(
        requests(&posts),
        [
            "POST /api/webhooks/1/abc?wait=true",
            "PATCH /api/webhooks/1/abc/messages/100?",
            "PATCH /api/webhooks/1/abc/messages/100?"
        ]
    );
    assert_eq!(
        posts[0].body,
        json!({
            "embeds": [{
                "title": "🟡 Port scan · medium · web-1",
                "url": "https://leuko.example/incidents/a",
                "description": "203.0.113.5 probed 812 ports of 192.0.2.10 <\u{200b}tcp\\> &\u{200b} more\n\n\
                    **From** `203.0.113.5`\n**To** `192.0.2.10`\n**Ports** 22, 80, 443\n\
                    **Since** 2025-06-15 15:06:40 UTC\n**Score** 0.93",
                "color": 0xd2_99_22,
                "fields": [
                    {"name": "failed\\_ratio", "value": "0.988", "inline": true},
                    {"name": "ports", "value": "812", "inline": true},
                ],
                "footer": {"text": "web-1 · a.1"},
                "timestamp": "2025-06-15T15:07:22.000Z",
            }],
            "allowed_mentions": {"parse": []},
        })
    );
    let over = &posts[2].body["embeds"][0];
    assert_eq!((&over["color"], &over["footer"]["text"]), (&json!(0x2e_a0_43), &json!("web-1 · a.3")));
    assert!(over["description"].as_str().unwrap().contains("**Over** after 42 s"), "{over}");
}

#[tokio::test]
async fn what_becomes_worse_is_a_new_message_that_changes_from_then_on() {
    let discord = Fake::start(|number, _| sent(number)).await;
    let rig = rig(&discord.url, "");
    let mut a = incident("a");
    rig.send(Change::Opened, &a);
    a.severity = Severity::Critical;
    rig.send(Change::Updated, &a);
    rig.send(Change::Closed, &a);
    delivered(&rig, 3).await;
    let posts = discord.posts();
    assert_eq!(
        posts.iter().map(|post| post.method.clone()).collect::<Vec<_>>(),
        [Method::POST, Method::POST, Method::PATCH]
    );
    assert!(posts[2].path.ends_with("/messages/101"), "{}", posts[2].path);
}

#[tokio::test]
async fn a_message_that_was_deleted_is_posted_again() {
    let discord = Fake::start(|number, post| match (number, &post.method) {
        (_, &Method::PATCH) if post.path.ends_with("/100") => {
            Answer::Json(404, json!({"message": "Unknown Message", "code": 10008}))
        }
        _ => sent(number),
    })
    .await;
    let rig = rig(&discord.url, "");
    for change in [Change::Opened, Change::Updated, Change::Closed] {
        rig.send(change, &incident("a"));
    }
    delivered(&rig, 3).await;
    let paths: Vec<_> = discord.posts().iter().map(|post| post.path.rsplit('/').next().unwrap().to_owned()).collect();
    assert_eq!(paths, ["abc", "100", "abc", "102"]);
}

#[tokio::test]
async fn a_message_is_known_after_a_restart() {
    let discord = Fake::start(|number, _| sent(number)).await;
    let first = rig(&discord.url, "");
    first.send(Change::Opened, &incident("a"));
    delivered(&first, 1).await;
    let dir = first.shutdown(Duration::from_secs(1)).await;
    let toml = format!("[[discord]]\nurl = \"{}/api/webhooks/1/abc\"\n", discord.url);
    let second = Rig::again(&toml, dir);
    second.send(Change::Closed, &incident("a"));
    until(|| discord.posts().len() > 1 && discord.posts()[1].path.ends_with("/messages/100")).await;
}

#[tokio::test]
async fn a_deleted_webhook_is_for_a_person_to_mend() {
    let discord = Fake::start(|_, _| Answer::Json(404, json!({"message": "Unknown Webhook", "code": 10015}))).await;
    let rig = rig(&discord.url, "");
    rig.send(Change::Opened, &incident("a"));
    until(|| rig.count("discord", Outcome::Retried) == 1).await;
    assert_eq!(rig.count("discord", Outcome::Dead), 0);
}

#[tokio::test]
async fn the_wait_that_discord_asks_for_is_kept() {
    for answer in [
        || Answer::Json(429, json!({"message": "You are being rate limited.", "retry_after": 0.35, "global": false})),
        || Answer::With(429, ("x-ratelimit-reset-after", "0.35"), Value::Null),
    ] {
        let discord = Fake::start(move |number, _| if number == 0 { answer() } else { sent(number) }).await;
        let rig = rig(&discord.url, "");
        rig.send(Change::Opened, &incident("a"));
        delivered(&rig, 1).await;
        let posts = discord.posts();
        let waited = posts[1].at - posts[0].at;
        assert!(waited >= Duration::from_millis(350) && waited < Duration::from_secs(2), "{waited:?}");
    }
}
