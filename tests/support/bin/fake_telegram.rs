//! Speaks Telegram's Bot API and records what it was sent: `fake_telegram LISTEN RECORD [STATUS]...`.
//!
//! Each request but polls becomes a line of JSON in RECORD. The first requests that are recorded are refused with the given
//! statuses. What is posted to `/update` is an update that polls bring. Source of the answers:
//! <https://core.telegram.org/bots/api#making-requests>.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Map, Value, json};

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let listen = args.next().context("usage: fake_telegram LISTEN RECORD [STATUS]...")?;
    let record = args.next().context("usage: fake_telegram LISTEN RECORD [STATUS]...")?;
    let refusals = args.map(|status| status.parse().context("a status is a number")).collect::<Result<_>>()?;
    let record =
        OpenOptions::new().create(true).append(true).open(&record).with_context(|| format!("open {record}"))?;
    let api = &Mutex::new(Api { refusals, record, updates: Vec::new() });
    let listener = TcpListener::bind(&listen).with_context(|| format!("listen on {listen}"))?;
    thread::scope(|scope| {
        for stream in listener.incoming().flatten() {
            // A peer that breaks off does not end the service.
            scope.spawn(move || serve(&stream, api));
        }
    });
    Ok(())
}

/// Longest body that is read, in octets.
const BODY_MAX: usize = 1 << 20;

/// Longest text of a message, in UTF-16 code units.
const TEXT_MAX: usize = 4096;

/// How long a poll may wait, and between two looks.
const POLL_MAX: u64 = 50;
const LOOK: Duration = Duration::from_millis(20);

struct Api {
    refusals: VecDeque<u16>,
    record: File,
    /// What has happened so far, each with its number.
    updates: Vec<Value>,
}

struct Request {
    method: String,
    path: String,
    headers: Map<String, Value>,
    body: String,
}

/// Answers the requests of one connection.
fn serve(stream: &TcpStream, api: &Mutex<Api>) -> Result<()> {
    let mut reader = BufReader::new(stream);
    let mut writer = stream;
    while let Some(request) = read(&mut reader)? {
        let body = serde_json::from_str(&request.body).unwrap_or(Value::String(request.body));
        let (status, answer) = if let Some(waiting) = polled(&request.path, &body) {
            (200, json!({"ok": true, "result": poll(api, &waiting)?}).to_string())
        } else if request.path == "/update" {
            happen(api, body)?;
            (200, json!({"ok": true}).to_string())
        } else {
            let mut api = api.lock().ok().context("a thread has panicked")?;
            let refusal = api.refusals.pop_front();
            let (status, answer) = refusal.map_or_else(|| answer(&request.path, &body), refuse);
            let line = json!({
                "method": request.method, "path": request.path, "headers": request.headers, "body": body,
                "status": status,
            });
            api.record.write_all(format!("{line}\n").as_bytes())?;
            (status, answer.to_string())
        };
        let length = answer.len();
        let head = format!("HTTP/1.1 {status} -\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n");
        writer.write_all(format!("{head}{answer}").as_bytes())?;
    }
    Ok(())
}

/// From which update on a poll asks, and for how many looks.
struct Poll {
    offset: i64,
    looks: u64,
}

fn polled(path: &str, body: &Value) -> Option<Poll> {
    let (token, method) = path.strip_prefix("/bot")?.split_once('/')?;
    let seconds = body["timeout"].as_u64().unwrap_or(0).min(POLL_MAX);
    let looks = 1 + seconds * 1000 / u64::try_from(LOOK.as_millis()).ok()?;
    let offset = body["offset"].as_i64().unwrap_or(0);
    (method == "getUpdates" && token.contains(':')).then_some(Poll { offset, looks })
}

fn poll(api: &Mutex<Api>, poll: &Poll) -> Result<Vec<Value>> {
    for _ in 0..poll.looks {
        let mut api = api.lock().ok().context("a thread has panicked")?;
        // What is before the offset has been taken.
        for update in api.updates.iter_mut().filter(|update| update["update_id"].as_i64() < Some(poll.offset)) {
            *update = Value::Null;
        }
        let waiting: Vec<Value> = api.updates.iter().filter(|update| !update.is_null()).cloned().collect();
        drop(api);
        if !waiting.is_empty() {
            return Ok(waiting);
        }
        thread::sleep(LOOK);
    }
    Ok(Vec::new())
}

fn happen(api: &Mutex<Api>, mut update: Value) -> Result<()> {
    let mut api = api.lock().ok().context("a thread has panicked")?;
    ensure!(update.is_object(), "an update is an object");
    update["update_id"] = (api.updates.len() + 1).into();
    api.updates.push(update);
    Ok(())
}

/// The next request of a connection; nothing when the peer has closed it.
fn read(reader: &mut BufReader<&TcpStream>) -> Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next().context("a method")?, words.next().context("a path")?);
    let mut headers = Map::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), Value::from(value.trim()));
    }
    let length = headers.get("content-length").and_then(Value::as_str).unwrap_or("0").parse()?;
    ensure!(length <= BODY_MAX, "a body of {length} octets");
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some(Request { method, path, headers, body: String::from_utf8_lossy(&body).into_owned() }))
}

/// What the API answers to a request that is not refused.
fn answer(path: &str, body: &Value) -> (u16, Value) {
    let bot = path.strip_prefix("/bot").and_then(|rest| rest.split_once('/'));
    match bot {
        Some((token, "sendMessage")) if token.contains(':') => send_message(body),
        Some((token, "editMessageText")) if token.contains(':') => edit_message(body),
        Some((token, "sendPhoto")) if token.contains(':') => send_photo(body),
        Some((token, "answerCallbackQuery" | "editMessageReplyMarkup" | "setMyCommands")) if token.contains(':') => {
            (200, json!({"ok": true, "result": true}))
        }
        Some((token, "getMe")) if token.contains(':') => {
            let result = json!({"id": 1, "is_bot": true, "first_name": "Leuko", "username": "leuko_bot"});
            (200, json!({"ok": true, "result": result}))
        }
        Some((token, _)) if !token.contains(':') => error(401, "Unauthorized"),
        _ => error(404, "Not Found"),
    }
}

fn send_message(body: &Value) -> (u16, Value) {
    let chat = &body["chat_id"];
    if !chat.is_i64() && !chat.is_string() {
        return error(400, "Bad Request: chat_id is empty");
    }
    match body["text"].as_str() {
        None | Some("") => error(400, "Bad Request: message text is empty"),
        Some(text) if text.encode_utf16().count() > TEXT_MAX => error(400, "Bad Request: message is too long"),
        Some(text) => {
            // A chat has a number, by whichever name it was called; clients refuse anything else.
            let id = chat.as_i64().or_else(|| chat.as_str()?.parse().ok()).unwrap_or(-1001);
            let chat = json!({"id": id, "type": "private"});
            (200, json!({"ok": true, "result": {"message_id": 1, "date": 1_700_000_000, "chat": chat, "text": text}}))
        }
    }
}

fn edit_message(body: &Value) -> (u16, Value) {
    if !body["message_id"].is_i64() {
        return error(400, "Bad Request: message to edit not found");
    }
    send_message(body)
}

/// A form, whose picture is not looked at.
fn send_photo(body: &Value) -> (u16, Value) {
    let form = body.as_str().unwrap_or_default();
    if !form.contains("name=\"chat_id\"") || !form.contains("name=\"photo\"") {
        return error(400, "Bad Request: there is no photo in the request");
    }
    (200, json!({"ok": true, "result": {"message_id": 2, "date": 1_700_000_000}}))
}

fn refuse(status: u16) -> (u16, Value) {
    if status != 429 {
        return error(status, "Internal Server Error");
    }
    let (status, mut answer) = error(status, "Too Many Requests: retry after 1");
    answer["parameters"] = json!({"retry_after": 1});
    (status, answer)
}

fn error(status: u16, description: &str) -> (u16, Value) {
    (status, json!({"ok": false, "error_code": status, "description": description}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, body: &Value, status: u16) {
        let (found, answer) = answer(path, body);
        assert_eq!(found, status, "{answer}");
        assert_eq!(answer["ok"], status == 200);
    }

    #[test]
    fn messages_are_judged_as_telegram_does() {
        check("/bot1:a/sendMessage", &json!({"chat_id": 7, "text": "hello"}), 200);
        check("/bot1:a/sendMessage", &json!({"chat_id": "@channel", "text": "hello"}), 200);
        check("/bot1:a/sendMessage", &json!({"text": "hello"}), 400);
        check("/bot1:a/sendMessage", &json!({"chat_id": 7, "text": ""}), 400);
        check("/bot1:a/sendMessage", &json!({"chat_id": 7, "text": "a".repeat(4097)}), 400);
        check("/bot1:a/getMe", &Value::Null, 200);
        check("/bot1:a/answerCallbackQuery", &json!({"callback_query_id": "1"}), 200);
        check("/bot1:a/editMessageText", &json!({"chat_id": 7, "message_id": 1, "text": "hello"}), 200);
        check("/bot1:a/editMessageText", &json!({"chat_id": 7, "text": "hello"}), 400);
        check("/bot1:a/sendPhoto", &json!("name=\"chat_id\" name=\"photo\""), 200);
        check("/bot1:a/sendPhoto", &json!({"chat_id": 7}), 400);
        check("/bot1:a/fly", &Value::Null, 404);
        check("/botx/sendMessage", &json!({"chat_id": 7, "text": "hello"}), 401);
        check("/", &Value::Null, 404);
    }

    #[test]
    fn a_chat_is_answered_by_its_number() {
        for (called, number) in [(json!(7), 7), (json!("-100"), -100), (json!("@channel"), -1001)] {
            let (_, answer) = send_message(&json!({"chat_id": called, "text": "hello"}));
            assert_eq!(answer["result"]["chat"]["id"], number);
        }
    }

    #[test]
    fn polls_bring_what_has_not_been_taken() {
        let record = tempfile::tempfile().unwrap();
        let api = Mutex::new(Api { refusals: VecDeque::new(), record, updates: Vec::new() });
        for text in ["a", "b"] {
            happen(&api, json!({"message": {"text": text}})).unwrap();
        }
        let ask = |offset: i64| {
            let asked = polled("/bot1:a/getUpdates", &json!({"offset": offset, "timeout": 0})).unwrap();
            poll(&api, &asked).unwrap().iter().map(|update| update["update_id"].as_i64().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!((ask(0), ask(2), ask(0), ask(3)), (vec![1, 2], vec![2], vec![2], vec![]));
        assert!(polled("/bot1:a/sendMessage", &Value::Null).is_none());
    }

    #[test]
    fn a_refusal_for_haste_says_when_to_come_back() {
        assert_eq!(refuse(429).1["parameters"]["retry_after"], 1);
        assert_eq!(refuse(500).1["parameters"], Value::Null);
    }
}
