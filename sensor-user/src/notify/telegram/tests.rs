//! Against servers that speak the Bot API's wire format.

use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use sensor_core::incident::{Change, Severity};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::notify::Outcome;
use crate::notify::testing::{Answer, Fake, Rig, incident, logs, refused, sent, until};

fn rig(url: &str, chats: &str, more: &str) -> Rig {
    Rig::start(&format!("[telegram]\ntoken = \"123:abc\"\napi_base = \"{url}\"\nchat_ids = {chats}\n{more}\n"))
}

fn count(rig: &Rig, outcome: Outcome) -> u64 {
    rig.count("telegram:", outcome)
}

#[tokio::test]
async fn opening_is_a_message_and_closing_a_reply_to_it() {
    let telegram = Fake::ok().await;
    let rig = rig(&telegram.url, "[-100]", "");
    let a = incident("a");
    rig.send(Change::Opened, &a);
    rig.send(Change::Updated, &a);
    rig.send(Change::Closed, &a);
    let posts = telegram.wait_for(2).await;

    assert_eq!(posts[0].path, "/bot123:abc/sendMessage");
    assert!(posts[0].headers["user-agent"].to_str().unwrap().starts_with("leuko/"));
    assert_eq!(posts[0].body["chat_id"], -100);
    assert_eq!(posts[0].body["parse_mode"], "HTML");
    assert!(posts[0].body.get("reply_parameters").is_none());
    let text = posts[0].body["text"].as_str().unwrap();
    assert_eq!(
        text,
        "🟡 <b>Port scan</b> · medium · web-1\n\
         203.0.113.5 probed 812 ports of 192.0.2.10 &lt;tcp&gt; &amp; more\n\n\
         <b>From</b> 203.0.113.5\n<b>To</b> 192.0.2.10\n<b>Ports</b> 22, 80, 443\n\
         <b>Since</b> 2025-06-15 15:06:40 UTC\n<b>Score</b> 0.93\n<code>a</code>\n\n\
         failed_ratio: 0.988\nports: 812"
    );
    assert_eq!(posts[1].body["text"], "🟢 <b>Port scan</b> is over after 42 s");
    assert_eq!(posts[1].body["reply_parameters"]["message_id"], 100);
    until(|| count(&rig, Outcome::Delivered) == 2).await;
}

#[tokio::test]
async fn updates_are_replies_where_they_are_wanted() {
    let telegram = Fake::ok().await;
    let rig = rig(&telegram.url, "[1]", "send_updates = true");
    rig.send(Change::Opened, &incident("a"));
    rig.send(Change::Updated, &incident("a"));
    let posts = telegram.wait_for(2).await;
    assert!(posts[1].body["text"].as_str().unwrap().starts_with("<b>Update</b>\n🟡"));
    assert_eq!(posts[1].body["reply_parameters"]["message_id"], 100);
}

#[tokio::test]
async fn incidents_are_told_when_they_reach_the_minimum_severity() {
    let telegram = Fake::ok().await;
    let rig = rig(&telegram.url, "[1]", "min_severity = \"high\"");
    let mut a = incident("a");
    rig.send(Change::Opened, &a);
    rig.send(Change::Closed, &incident("b"));
    a.severity = Severity::Critical;
    rig.send(Change::Updated, &a);
    rig.send(Change::Updated, &a);
    rig.send(Change::Closed, &a);
    let posts = telegram.wait_for(2).await;
    assert!(posts[0].body["text"].as_str().unwrap().starts_with("🔴 <b>Port scan</b> · critical"));
    assert_eq!(posts[1].body["reply_parameters"]["message_id"], 100);
    sleep(Duration::from_millis(20)).await;
    assert_eq!(telegram.posts().len(), 2);
}

#[tokio::test]
async fn retry_after_is_waited_for_while_other_chats_go_on() {
    let telegram = Fake::start(|number, post| match (number, post.body["chat_id"].as_i64()) {
        (0..2, Some(1)) => refused(429, "Too Many Requests: retry after 1", json!({"retry_after": 1})),
        _ => Answer::Json(200, sent(number)),
    })
    .await;
    let rig = rig(&telegram.url, "[1, 2]", "");
    rig.send(Change::Opened, &incident("a"));
    let posts = telegram.wait_for(3).await;
    let of = |chat: i64| posts.iter().filter(move |post| post.body["chat_id"] == chat).collect::<Vec<_>>();
    assert_eq!((of(1).len(), of(2).len()), (2, 1));
    let waited = of(1)[1].at - of(1)[0].at;
    assert!(waited >= Duration::from_secs(1), "{waited:?}");
    assert!(of(2)[0].at - of(1)[0].at < Duration::from_millis(500));
    until(|| count(&rig, Outcome::Delivered) == 2 && count(&rig, Outcome::Retried) == 1).await;
}

#[tokio::test]
async fn trouble_is_retried_until_it_is_over() {
    let telegram = Fake::start(|number, _| match number {
        0 => Answer::Json(500, json!("oops")),
        1 => Answer::Never,
        2 => Answer::Json(200, json!("not what Telegram says")),
        _ => Answer::Json(200, sent(number)),
    })
    .await;
    let rig = rig(&telegram.url, "[1]", "timeout = \"300ms\"");
    rig.send(Change::Opened, &incident("a"));
    until(|| count(&rig, Outcome::Delivered) == 1).await;
    assert_eq!((telegram.posts().len(), count(&rig, Outcome::Retried)), (4, 3));
}

#[tokio::test]
async fn a_connection_that_breaks_half_way_is_retried() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 65536]).unwrap();
            let body = sent(0).to_string();
            let cut = if number == 0 { body.len() / 2 } else { body.len() };
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            stream.write_all(format!("{head}{}", &body[..cut]).as_bytes()).unwrap();
        }
    });
    let rig = rig(&url, "[1]", "");
    rig.send(Change::Opened, &incident("a"));
    until(|| count(&rig, Outcome::Delivered) == 1).await;
    assert_eq!(count(&rig, Outcome::Retried), 1);
}

#[tokio::test]
async fn a_refused_token_is_complained_of_once_and_not_tried_again() {
    let (_guard, log) = logs();
    let telegram = Fake::start(|_, _| refused(401, "Unauthorized", Value::Null)).await;
    let rig = rig(&telegram.url, "[1]", "");
    for id in ["a", "b", "c"] {
        rig.send(Change::Opened, &incident(id));
    }
    until(|| count(&rig, Outcome::Dead) == 3).await;
    assert_eq!((telegram.posts().len(), count(&rig, Outcome::Retried)), (1, 0));
    let log = String::from_utf8(log.lock().unwrap().clone()).unwrap();
    assert_eq!(log.matches("ERROR").count(), 1, "{log}");
    assert!(log.contains("@BotFather") && log.contains("Unauthorized"), "{log}");
}

#[tokio::test]
async fn a_chat_that_blocks_the_bot_does_not_stop_the_others() {
    let (_guard, log) = logs();
    let telegram = Fake::start(|number, post| match post.body["chat_id"].as_i64() {
        Some(1) => refused(403, "Forbidden: bot was blocked by the user", Value::Null),
        _ => Answer::Json(200, sent(number)),
    })
    .await;
    let rig = rig(&telegram.url, "[1, 2]", "");
    rig.send(Change::Opened, &incident("a"));
    rig.send(Change::Closed, &incident("a"));
    until(|| count(&rig, Outcome::Delivered) == 2 && count(&rig, Outcome::Dead) == 2).await;
    assert_eq!(count(&rig, Outcome::Retried), 0);
    let log = String::from_utf8(log.lock().unwrap().clone()).unwrap();
    assert!(log.contains("WARN") && log.contains("bot was blocked by the user"), "{log}");
}

#[tokio::test]
async fn a_group_that_moved_is_followed() {
    let telegram = Fake::start(|number, post| match post.body["chat_id"].as_i64() {
        Some(-5) => refused(400, "group chat was upgraded", json!({"migrate_to_chat_id": -1005})),
        _ => Answer::Json(200, sent(number)),
    })
    .await;
    let rig = rig(&telegram.url, "[-5]", "");
    rig.send(Change::Opened, &incident("a"));
    rig.send(Change::Closed, &incident("a"));
    let chats: Vec<_> = telegram.wait_for(3).await.iter().map(|post| post.body["chat_id"].as_i64().unwrap()).collect();
    assert_eq!(chats, [-5, -1005, -1005]);
}

#[tokio::test]
async fn a_closing_tells_the_incident_whose_opening_was_given_up() {
    let telegram = Fake::start(|number, post| match post.body["text"].as_str() {
        Some(text) if text.starts_with("🟢") => Answer::Json(200, sent(number)),
        _ => Answer::Json(502, json!("bad gateway")),
    })
    .await;
    let rig = rig(&telegram.url, "[1]", "give_up_after = \"30ms\"");
    rig.send(Change::Opened, &incident("a"));
    until(|| count(&rig, Outcome::Dead) == 1).await;
    rig.send(Change::Closed, &incident("a"));
    until(|| count(&rig, Outcome::Delivered) == 1).await;
    let last = telegram.posts().pop().unwrap();
    let text = last.body["text"].as_str().unwrap();
    assert!(text.contains("could not be told before:\n🟡 <b>Port scan</b>"), "{text}");
}

#[tokio::test]
async fn sending_without_waiting_keeps_the_order() {
    let telegram = Fake::ok().await;
    let rig = rig(&telegram.url, "[1]", "");
    for n in 0..50 {
        rig.send(Change::Opened, &incident(&format!("n{n}")));
    }
    let posts = telegram.wait_for(50).await;
    for (n, post) in posts.iter().enumerate() {
        assert!(post.body["text"].as_str().unwrap().contains(&format!("<code>n{n}</code>")));
    }
    drop(Arc::clone(&rig.metrics));
}
