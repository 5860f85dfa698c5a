//! Speaks Telegram's Bot API and records what it was sent: `fake_telegram LISTEN RECORD [STATUS]...`.
//!
//! Each request becomes a line of JSON in RECORD. The first requests are refused with the given statuses. Source of the
//! answers: <https://core.telegram.org/bots/api#making-requests>.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Mutex;
use std::thread;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Map, Value, json};

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let listen = args.next().context("usage: fake_telegram LISTEN RECORD [STATUS]...")?;
    let record = args.next().context("usage: fake_telegram LISTEN RECORD [STATUS]...")?;
    let refusals = args.map(|status| status.parse().context("a status is a number")).collect::<Result<_>>()?;
    let record =
        OpenOptions::new().create(true).append(true).open(&record).with_context(|| format!("open {record}"))?;
    let api = &Mutex::new(Api { refusals, record });
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

struct Api {
    refusals: VecDeque<u16>,
    record: File,
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
        let (status, answer) = {
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
    Ok(Some(Request { method, path, headers, body: String::from_utf8(body)? }))
}

/// What the API answers to a request that is not refused.
fn answer(path: &str, body: &Value) -> (u16, Value) {
    let bot = path.strip_prefix("/bot").and_then(|rest| rest.split_once('/'));
    match bot {
        Some((token, "sendMessage")) if token.contains(':') => send_message(body),
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
    fn a_refusal_for_haste_says_when_to_come_back() {
        assert_eq!(refuse(429).1["parameters"]["retry_after"], 1);
        assert_eq!(refuse(500).1["parameters"], Value::Null);
    }
}
