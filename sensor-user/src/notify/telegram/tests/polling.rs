//! How the bot listens: across restarts, and to servers in trouble.

use std::io::{Read as _, Write as _};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::fake::{Telegram, UNKNOWN};
use crate::notify::testing::{Rig, logs, until};

#[tokio::test]
async fn a_restart_neither_loses_an_update_nor_takes_one_twice() {
    let telegram = Telegram::start().await;
    let rig = telegram.rig("[1]", "");
    telegram.write(1, "/help");
    telegram.wait_for("sendMessage", 1).await;
    let polls = telegram.of("getUpdates");
    assert_eq!(polls[0].body["offset"], 0);
    assert_eq!(polls[0].body["allowed_updates"], json!(["message", "callback_query"]));
    let dir = rig.shutdown(Duration::from_secs(2)).await;
    // A second comes while nobody listens.
    telegram.write(1, "/mutes");
    let before = telegram.of("getUpdates").len();
    let rig = Rig::again(&telegram.toml("[1]", ""), dir);
    let second = telegram.wait_for("sendMessage", 2).await;
    assert_eq!(second.text().trim_end(), "Nothing is muted");
    telegram.all_taken().await;
    assert_eq!(telegram.of("sendMessage").len(), 2);
    assert_eq!(telegram.of("getUpdates")[before].body["offset"], 702);
    rig.shutdown(Duration::from_secs(2)).await;
}

#[tokio::test]
async fn trouble_is_waited_out() {
    let telegram = Telegram::start().await;
    telegram.refuse("getMe", 500, "oops", Value::Null);
    telegram.refuse("getUpdates", 429, "Too Many Requests: retry after 1", json!({"retry_after": 1}));
    telegram.refuse("getUpdates", 500, "oops", Value::Null);
    let begun = Instant::now();
    let rig = telegram.rig("[1]", "");
    telegram.write(1, "/help");
    telegram.wait_for("sendMessage", 1).await;
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!(telegram.of("getMe").len(), 2, "the name is asked for again");
    // What the bot says waits as well.
    telegram.refuse("sendMessage", 502, "bad gateway", Value::Null);
    telegram.write(1, "/mutes");
    telegram.wait_for("sendMessage", 3).await;
    rig.shutdown(Duration::from_secs(2)).await;
}

#[tokio::test]
async fn another_listener_is_complained_of_once_with_the_remedy() {
    let (_guard, log) = logs();
    let telegram = Telegram::start().await;
    for _ in 0..4 {
        let why = "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running";
        telegram.refuse("getUpdates", 409, why, Value::Null);
    }
    let rig = telegram.rig("[1]", "");
    telegram.write(1, "/help");
    telegram.wait_for("sendMessage", 1).await;
    rig.shutdown(Duration::from_secs(2)).await;
    let log = String::from_utf8(log.lock().unwrap().clone()).unwrap();
    assert_eq!(log.matches("ERROR").count(), 1, "{log}");
    assert!(log.contains("notify.telegram.commands = false") && log.contains("the bot listens again"), "{log}");
    assert!(!log.contains("123:abc"), "{log}");
}

#[tokio::test]
async fn a_refused_token_is_complained_of_once() {
    let (_guard, log) = logs();
    let telegram = Telegram::start().await;
    let toml = telegram.toml("[1]", "").replace("123:abc", "123:hunter2");
    let rig = Rig::start(&toml);
    // It asks who it is, and then for updates.
    until(|| telegram.of(UNKNOWN).len() == 2).await;
    sleep(Duration::from_millis(100)).await;
    rig.shutdown(Duration::from_secs(2)).await;
    assert_eq!(telegram.of(UNKNOWN).len(), 2, "a person has to mend it first");
    let log = String::from_utf8(log.lock().unwrap().clone()).unwrap();
    assert_eq!(log.matches("ERROR").count(), 1, "{log}");
    assert!(log.contains("@BotFather") && !log.contains("hunter2"), "{log}");
}

#[tokio::test]
async fn nobody_listens_where_nobody_may_ask() {
    let telegram = Telegram::start().await;
    let rig = telegram.rig("[1]", "commands = false");
    sleep(Duration::from_millis(50)).await;
    assert!(telegram.calls().is_empty());
    rig.shutdown(Duration::from_secs(2)).await;
}

#[tokio::test]
async fn an_answer_that_breaks_half_way_is_asked_for_again() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let said = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&said);
    std::thread::spawn(move || {
        let mut polls = 0;
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 65536];
            let length = stream.read(&mut request).unwrap();
            let request = String::from_utf8_lossy(&request[..length]).into_owned();
            let poll = request.contains("/getUpdates");
            let chat = json!({"id": 1, "type": "private"});
            let message = json!({"message_id": 7, "chat": chat, "from": {"id": 1}, "text": "/help"});
            let result = if poll { json!([{"update_id": 5, "message": message}]) } else { json!({"message_id": 1}) };
            let body = json!({"ok": true, "result": result}).to_string();
            polls += usize::from(poll);
            let cut = if poll && polls == 1 { body.len() / 2 } else { body.len() };
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(format!("{head}{}", &body[..cut]).as_bytes());
            heard.lock().unwrap().push(request);
        }
    });
    let rig = Rig::start(&format!("[telegram]\ntoken = \"123:abc\"\napi_base = \"{url}\"\nchat_ids = [1]\n"));
    let count = |method: &str| said.lock().unwrap().iter().filter(|request| request.contains(method)).count();
    until(|| count("/sendMessage") == 1 && count("/getUpdates") >= 4).await;
    assert_eq!(count("/sendMessage"), 1, "the server repeats the update, and it is not taken again");
    rig.shutdown(Duration::from_secs(2)).await;
}
