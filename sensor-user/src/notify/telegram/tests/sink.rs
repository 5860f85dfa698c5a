//! A chat as a sink: one message for each incident, and what becomes of it.

use std::io::{Read as _, Write as _};
use std::time::Duration;

use sensor_core::incident::{Change, Severity};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::fake::Telegram;
use crate::notify::Outcome;
use crate::notify::testing::{Answer, Fake, Rig, incident, logs, refused, sent, until};

/// Nobody listens.
const DEAF: &str = "commands = false";

fn rig(url: &str, chats: &str, more: &str) -> Rig {
    Rig::start(&format!("[telegram]\ntoken = \"123:abc\"\napi_base = \"{url}\"\nchat_ids = {chats}\n{DEAF}\n{more}\n"))
}

fn deaf(telegram: &Telegram, chats: &str, more: &str) -> Rig {
    telegram.rig(chats, &format!("{DEAF}\n{more}"))
}

fn count(rig: &Rig, outcome: Outcome) -> u64 {
    rig.count("telegram:", outcome)
}

fn methods(telegram: &Telegram) -> Vec<String> {
    telegram.calls().into_iter().map(|call| call.method).collect()
}

#[tokio::test]
async fn one_message_shows_how_an_incident_goes_on_and_replies_tell_what_matters() {
    let telegram = Telegram::start().await;
    let rig = deaf(&telegram, "[-100]", "");
    let mut a = incident("a");
    rig.send(Change::Opened, &a);
    telegram.wait_for("sendMessage", 1).await;
    a.ports.push(8080);
    rig.send(Change::Updated, &a);
    until(|| count(&rig, Outcome::Delivered) == 2).await;
    a.severity = Severity::Critical;
    rig.send(Change::Updated, &a);
    rig.send(Change::Closed, &a);
    until(|| count(&rig, Outcome::Delivered) == 4).await;

    let calls = telegram.calls();
    let edit = "editMessageText";
    assert_eq!(methods(&telegram), ["sendMessage", edit, edit, "sendMessage", edit, "sendMessage"]);
    assert_eq!(calls[0].body["chat_id"], -100);
    assert_eq!(calls[0].body["parse_mode"], "HTML");
    assert!(calls[0].body.get("reply_parameters").is_none());
    assert!(calls.iter().all(|call| call.buttons().is_empty()), "nobody hears what is pressed");
    assert_eq!(
        calls[0].text().trim_end(),
        "🟡 <b>Port scan</b> · medium · web-1\n\
         203.0.113.5 probed 812 ports of 192.0.2.10 &lt;tcp&gt; &amp; more\n\n\
         <b>From</b> 203.0.113.5\n<b>To</b> 192.0.2.10\n<b>Ports</b> 22, 80, 443\n\
         <b>Since</b> 2025-06-15 15:06:40 UTC\n<b>Score</b> 0.93\n<code>a</code>\n\n\
         failed_ratio: 0.988\nports: 812"
    );
    assert!(calls[1].text().contains("22, 80, 443, 8080"));
    assert!(calls[2].text().starts_with("🔴 <b>Port scan</b> · critical"));
    assert_eq!(calls[3].text().trim_end(), "🔴 <b>Port scan</b> is critical now");
    assert!(calls[4].text().starts_with("🟢") && calls[4].text().contains("<b>Over</b> after 42 s\n<b>From</b>"));
    assert_eq!(calls[5].text().trim_end(), "🟢 <b>Port scan</b> is over after 42 s");
    for call in [&calls[1], &calls[2], &calls[4]] {
        assert_eq!(call.body["message_id"], 100);
    }
    for call in [&calls[3], &calls[5]] {
        assert_eq!(call.body["reply_parameters"]["message_id"], 100);
    }
    let keys: Vec<_> = calls.iter().map(|call| call.key.as_str()).collect();
    assert_eq!(keys, ["a.1", "a.2", "a.3", "a.3-reply", "a.4", "a.4-reply"]);
}

#[tokio::test]
async fn an_end_that_is_not_to_be_told_is_only_shown() {
    let telegram = Telegram::start().await;
    let rig = deaf(&telegram, "[1]", "send_resolved = false\nsend_updates = false");
    rig.send(Change::Opened, &incident("a"));
    telegram.wait_for("sendMessage", 1).await;
    until(|| count(&rig, Outcome::Delivered) == 1).await;
    rig.send(Change::Updated, &incident("a"));
    rig.send(Change::Closed, &incident("a"));
    let edit = telegram.wait_for("editMessageText", 1).await;
    assert!(edit.text().contains("<b>Over</b>"));
    until(|| count(&rig, Outcome::Delivered) == 2 && count(&rig, Outcome::Skipped) == 1).await;
    assert_eq!(methods(&telegram), ["sendMessage", "editMessageText"]);
}

#[tokio::test]
async fn the_message_is_known_after_a_restart() {
    let telegram = Telegram::start().await;
    let rig = deaf(&telegram, "[1]", "");
    rig.send(Change::Opened, &incident("a"));
    until(|| count(&rig, Outcome::Delivered) == 1).await;
    let dir = rig.shutdown(Duration::from_secs(2)).await;
    // The incident that was open is over, for nobody knows more about it.
    let rig = Rig::again(&telegram.toml("[1]", DEAF), dir);
    until(|| count(&rig, Outcome::Delivered) == 1).await;
    assert_eq!(methods(&telegram), ["sendMessage", "editMessageText", "sendMessage"]);
    assert_eq!(telegram.calls()[1].body["message_id"], 100);
}

#[tokio::test]
async fn what_cannot_be_edited_is_sent_anew_and_what_needs_no_edit_is_done() {
    let telegram = Telegram::start().await;
    let rig = deaf(&telegram, "[1]", "");
    let a = incident("a");
    rig.send(Change::Opened, &a);
    until(|| count(&rig, Outcome::Delivered) == 1).await;
    let unmodified =
        "Bad Request: message is not modified: specified new message content and reply markup are the same";
    telegram.refuse("editMessageText", 400, unmodified, Value::Null);
    rig.send(Change::Updated, &a);
    until(|| count(&rig, Outcome::Delivered) == 2).await;
    assert_eq!(methods(&telegram), ["sendMessage", "editMessageText"]);
    telegram.refuse("editMessageText", 400, "Bad Request: message to edit not found", Value::Null);
    rig.send(Change::Updated, &a);
    until(|| count(&rig, Outcome::Delivered) == 3).await;
    rig.send(Change::Updated, &a);
    until(|| count(&rig, Outcome::Delivered) == 4).await;
    let calls = telegram.calls();
    assert_eq!(methods(&telegram)[2..], ["editMessageText", "sendMessage", "editMessageText"]);
    assert_eq!(calls[4].body["message_id"], 101, "the new one is edited from now on");
}

#[tokio::test]
async fn incidents_are_told_when_they_reach_the_minimum_severity() {
    let telegram = Telegram::start().await;
    let rig = deaf(&telegram, "[1]", "min_severity = \"high\"");
    let mut a = incident("a");
    rig.send(Change::Opened, &a);
    rig.send(Change::Closed, &incident("b"));
    a.severity = Severity::Critical;
    rig.send(Change::Updated, &a);
    rig.send(Change::Closed, &a);
    until(|| count(&rig, Outcome::Delivered) == 2 && count(&rig, Outcome::Skipped) == 2).await;
    assert_eq!(methods(&telegram), ["sendMessage", "editMessageText", "sendMessage"]);
    assert!(telegram.calls()[0].text().starts_with("🔴 <b>Port scan</b> · critical"));
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
async fn a_reply_that_fails_is_tried_again_and_the_edit_before_it_is_harmless() {
    let telegram = Telegram::start().await;
    let rig = deaf(&telegram, "[1]", "");
    rig.send(Change::Opened, &incident("a"));
    until(|| count(&rig, Outcome::Delivered) == 1).await;
    telegram.refuse("sendMessage", 502, "Bad Gateway", Value::Null);
    rig.send(Change::Closed, &incident("a"));
    until(|| count(&rig, Outcome::Delivered) == 2).await;
    let edit = "editMessageText";
    assert_eq!(methods(&telegram), ["sendMessage", edit, "sendMessage", edit, "sendMessage"]);
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
async fn a_refused_token_is_complained_of_once_with_the_remedy() {
    let (_guard, log) = logs();
    let telegram = Fake::start(|_, _| refused(401, "Unauthorized", Value::Null)).await;
    let rig = rig(&telegram.url, "[1]", "");
    for id in ["a", "b", "c"] {
        rig.send(Change::Opened, &incident(id));
    }
    until(|| count(&rig, Outcome::Retried) == 1).await;
    sleep(Duration::from_millis(50)).await;
    assert_eq!((telegram.posts().len(), count(&rig, Outcome::Dead)), (1, 0), "a person has to mend it first");
    let log = String::from_utf8(log.lock().unwrap().clone()).unwrap();
    assert_eq!(log.matches("ERROR").count(), 1, "{log}");
    assert!(log.contains("@BotFather") && log.contains("notify.telegram.token"), "{log}");
}

#[tokio::test]
async fn a_chat_that_blocks_the_bot_stops_neither_the_others_nor_itself() {
    let (_guard, log) = logs();
    let telegram = Fake::start(|number, post| match (post.body["chat_id"].as_i64(), post.body["text"].as_str()) {
        (Some(1), Some(text)) if !text.starts_with("🟢") => {
            refused(403, "Forbidden: bot was blocked by the user", Value::Null)
        }
        _ => Answer::Json(200, sent(number)),
    })
    .await;
    let rig = rig(&telegram.url, "[1, 2]", "");
    rig.send(Change::Opened, &incident("a"));
    until(|| rig.count("telegram:1", Outcome::Dead) == 1).await;
    // The user has let the bot in again.
    rig.send(Change::Closed, &incident("a"));
    until(|| rig.count("telegram:1", Outcome::Delivered) == 1 && rig.count("telegram:2", Outcome::Delivered) == 2)
        .await;
    assert_eq!(count(&rig, Outcome::Retried), 0);
    let log = String::from_utf8(log.lock().unwrap().clone()).unwrap();
    assert!(log.contains("bot was blocked by the user"), "{log}");
}

#[tokio::test]
async fn a_group_that_moved_is_followed_across_restarts() {
    let telegram = Fake::start(|number, post| match post.body["chat_id"].as_i64() {
        Some(-5) => refused(400, "group chat was upgraded", json!({"migrate_to_chat_id": -1005})),
        _ => Answer::Json(200, sent(number)),
    })
    .await;
    let first = rig(&telegram.url, "[-5]", "");
    first.send(Change::Opened, &incident("a"));
    until(|| count(&first, Outcome::Delivered) == 1).await;
    let dir = first.shutdown(Duration::from_secs(2)).await;
    let toml = format!("[telegram]\ntoken = \"123:abc\"\napi_base = \"{}\"\nchat_ids = [-5]\n{DEAF}\n", telegram.url);
    let _rig = Rig::again(&toml, dir);
    let posts = telegram.wait_for(4).await;
    let chats: Vec<_> = posts.iter().map(|post| post.body["chat_id"].as_i64().unwrap()).collect();
    assert_eq!(chats, [-5, -1005, -1005, -1005]);
    assert!(posts[2].path.ends_with("/editMessageText"), "the message is in the new group");
}

#[tokio::test]
async fn an_end_of_what_was_never_told_says_so() {
    let telegram = Fake::start(|number, post| match post.body["text"].as_str() {
        Some(text) if text.starts_with("🟢") => Answer::Json(200, sent(number)),
        _ => Answer::Json(502, json!("bad gateway")),
    })
    .await;
    let rig = rig(&telegram.url, "[1]", "give_up_after = \"30ms\"\nsend_resolved = false");
    rig.send(Change::Opened, &incident("a"));
    until(|| count(&rig, Outcome::Dead) == 1).await;
    rig.send(Change::Closed, &incident("a"));
    until(|| count(&rig, Outcome::Delivered) == 1).await;
    let last = telegram.posts().pop().unwrap();
    let text = last.body["text"].as_str().unwrap();
    assert!(text.contains("<b>Over</b> after 42 s; it could not be told before\n<b>From</b>"), "{text}");
    assert!(last.path.ends_with("/sendMessage"));
}

#[tokio::test]
async fn a_burst_becomes_digests_that_list_what_they_tell() {
    let telegram = Telegram::start().await;
    let rig = deaf(&telegram, "[1]", "rate_limit = \"2/1m\"");
    telegram.refuse("sendMessage", 502, "Bad Gateway", Value::Null);
    for n in 0..40 {
        rig.send(Change::Opened, &incident(&format!("burst-{n:02}")));
    }
    until(|| count(&rig, Outcome::Delivered) == 40).await;
    let text: String = telegram.of("sendMessage").iter().skip(1).map(|call| call.text().to_owned()).collect();
    for n in 0..40 {
        assert!(text.contains(&format!("<code>burst-{n:02}.1</code>")), "{n}\n{text}");
    }
    let last = telegram.of("sendMessage").pop().unwrap();
    assert!(last.key.contains("-digest-"), "{last:?}");
    assert!(last.text().contains("events of"), "{last:?}");
}

#[tokio::test]
async fn messages_keep_the_order_of_events() {
    let telegram = Telegram::start().await;
    let rig = deaf(&telegram, "[1]", "rate_limit = \"100/1s\"");
    for n in 0..50 {
        rig.send(Change::Opened, &incident(&format!("n{n}")));
    }
    until(|| count(&rig, Outcome::Delivered) == 50).await;
    for (n, call) in telegram.of("sendMessage").iter().enumerate() {
        assert!(call.text().contains(&format!("<code>n{n}</code>")));
    }
}

#[tokio::test]
async fn pictures_follow_what_is_worth_a_look_now() {
    let telegram = Telegram::start().await;
    let rig = deaf(&telegram, "[1]", "pictures = true");
    let with_timeline = |id: &str, severity: Severity| {
        let mut incident = incident(id);
        incident.severity = severity;
        let moment = json!({"at": 1_750_000_003.0, "severity": severity, "attackers": 1, "victims": 1, "ports": 9});
        incident.evidence.insert("timeline".to_owned(), json!([moment]));
        incident
    };
    rig.send(Change::Opened, &with_timeline("mild", Severity::Medium));
    rig.send(Change::Opened, &with_timeline("bad", Severity::High));
    let photo = telegram.wait_for("sendPhoto", 1).await;
    let form = photo.body.as_str().unwrap();
    assert!(form.contains("name=\"chat_id\"\r\n\r\n1\r\n") && form.contains("\"message_id\":101"), "{form}");
    assert!(form.contains("PNG") && form.trim_end().ends_with("-part--"));
    // A picture that is refused is no reason to tell the incident again.
    telegram.refuse("sendPhoto", 400, "Bad Request: PHOTO_INVALID_DIMENSIONS", Value::Null);
    rig.send(Change::Opened, &with_timeline("worse", Severity::Critical));
    until(|| count(&rig, Outcome::Delivered) == 3).await;
    assert_eq!((telegram.of("sendMessage").len(), telegram.of("sendPhoto").len()), (3, 2));
}
