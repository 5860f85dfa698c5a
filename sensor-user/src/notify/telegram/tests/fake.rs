//! A Bot API on 127.0.0.1 that people write to and press buttons in.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::notify::testing::{Rig, until};

/// How long a poll is held, in place of 50 s.
const POLL: Duration = Duration::from_millis(1500);

/// The method of a request with another token.
pub const UNKNOWN: &str = "unknown";

/// A request.
#[derive(Clone, Debug)]
pub struct Call {
    pub method: String,
    /// Of a form, its text.
    pub body: Value,
    pub key: String,
}

impl Call {
    pub fn text(&self) -> &str {
        self.body["text"].as_str().unwrap_or_default()
    }

    /// The callback data of the buttons.
    pub fn buttons(&self) -> Vec<String> {
        let rows = self.body["reply_markup"]["inline_keyboard"].as_array();
        let buttons = rows.into_iter().flatten().flat_map(|row| row.as_array().into_iter().flatten());
        buttons.map(|button| button["callback_data"].as_str().unwrap().to_owned()).collect()
    }
}

#[derive(Default)]
struct State {
    calls: Vec<Call>,
    updates: Vec<Value>,
    update_ids: i64,
    messages: i64,
    refusals: VecDeque<(&'static str, u16, Value)>,
}

/// The server.
#[derive(Clone)]
pub struct Telegram {
    pub url: String,
    state: Arc<Mutex<State>>,
    bell: Arc<Notify>,
}

impl Telegram {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = State { update_ids: 700, messages: 99, ..State::default() };
        let this = Self { url, state: Arc::new(Mutex::new(state)), bell: Arc::default() };
        let serving = this.clone();
        let handler = move |uri: Uri, headers: HeaderMap, body: Bytes| async move {
            serving.serve(uri.path(), &headers, &body).await
        };
        tokio::spawn(axum::serve(listener, Router::new().fallback(handler)).into_future());
        this
    }

    async fn serve(&self, path: &str, headers: &HeaderMap, body: &[u8]) -> Response {
        let method = path.strip_prefix("/bot123:abc/").unwrap_or(UNKNOWN).to_owned();
        let text = || String::from_utf8_lossy(body).into_owned();
        let body: Value = serde_json::from_slice(body).unwrap_or_else(|_| text().into());
        let key = headers.get("idempotency-key").map(|key| key.to_str().unwrap().to_owned()).unwrap_or_default();
        let answer = {
            let mut state = self.state.lock().unwrap();
            state.calls.push(Call { method: method.clone(), body: body.clone(), key });
            let refused = state.refusals.front().is_some_and(|(of, ..)| *of == method);
            match refused.then(|| state.refusals.pop_front()).flatten() {
                Some((_, status, answer)) => Some((status, answer)),
                None if method == UNKNOWN => Some((401, json!({"ok": false, "description": "Unauthorized"}))),
                None if method == "getUpdates" => None,
                None => Some((200, json!({"ok": true, "result": state.result(&method)}))),
            }
        };
        let (status, answer) = match answer {
            Some(answer) => answer,
            None => (200, json!({"ok": true, "result": self.poll(body["offset"].as_i64().unwrap()).await})),
        };
        (StatusCode::from_u16(status).unwrap(), answer.to_string()).into_response()
    }

    async fn poll(&self, offset: i64) -> Vec<Value> {
        let found = || {
            let mut state = self.state.lock().unwrap();
            state.updates.retain(|update| update["update_id"].as_i64().unwrap() >= offset);
            state.updates.clone()
        };
        let waited = timeout(POLL, async {
            loop {
                let rung = self.bell.notified();
                let updates = found();
                if !updates.is_empty() {
                    return updates;
                }
                rung.await;
            }
        });
        waited.await.unwrap_or_default()
    }

    /// The next request of this method is answered so.
    pub fn refuse(&self, method: &'static str, status: u16, description: &str, parameters: Value) {
        let mut answer = json!({"ok": false, "error_code": status, "description": description});
        if !parameters.is_null() {
            answer["parameters"] = parameters;
        }
        self.state.lock().unwrap().refusals.push_back((method, status, answer));
    }

    /// Something happens in a chat.
    pub fn update(&self, mut update: Value) {
        let mut state = self.state.lock().unwrap();
        state.update_ids += 1;
        update["update_id"] = state.update_ids.into();
        state.updates.push(update);
        drop(state);
        self.bell.notify_waiters();
    }

    /// Ana writes.
    pub fn write(&self, chat: i64, text: &str) {
        self.write_as(&ana(), chat, text);
    }

    /// Ana presses a button.
    pub fn press(&self, chat: i64, message: i64, data: &str) {
        self.press_as(&ana(), (chat, message), data);
    }

    pub fn write_as(&self, who: &Value, chat: i64, text: &str) {
        self.update(json!({"message": {"message_id": 7, "chat": chat_of(chat), "from": who, "text": text}}));
    }

    pub fn press_as(&self, who: &Value, (chat, message): (i64, i64), data: &str) {
        let message = json!({"message_id": message, "chat": chat_of(chat), "date": 0});
        self.update(json!({"callback_query": {"id": "q1", "from": who, "message": message, "data": data}}));
    }

    pub fn calls(&self) -> Vec<Call> {
        self.state.lock().unwrap().calls.clone()
    }

    /// The requests of a method so far.
    pub fn of(&self, method: &str) -> Vec<Call> {
        self.calls().into_iter().filter(|call| call.method == method).collect()
    }

    /// Waits for so many requests of a method; gives the last of them.
    pub async fn wait_for(&self, method: &str, count: usize) -> Call {
        until(|| self.of(method).len() >= count).await;
        self.of(method)[count - 1].clone()
    }

    /// Waits until everything that happened has been taken.
    pub async fn all_taken(&self) {
        let last = self.state.lock().unwrap().update_ids;
        until(|| self.of("getUpdates").last().is_some_and(|call| call.body["offset"].as_i64() > Some(last))).await;
    }

    pub fn rig(&self, chats: &str, more: &str) -> Rig {
        Rig::start(&self.toml(chats, more))
    }

    pub fn toml(&self, chats: &str, more: &str) -> String {
        format!("[telegram]\ntoken = \"123:abc\"\napi_base = \"{}\"\nchat_ids = {chats}\n{more}\n", self.url)
    }
}

impl State {
    fn result(&mut self, method: &str) -> Value {
        match method {
            "sendMessage" | "sendPhoto" => {
                self.messages += 1;
                json!({"message_id": self.messages, "date": 0})
            }
            "getMe" => json!({"id": 123, "is_bot": true, "first_name": "Leuko", "username": "leuko_bot"}),
            _ => json!(true),
        }
    }
}

fn chat_of(number: i64) -> Value {
    let kind = if number < 0 { "supergroup" } else { "private" };
    json!({"id": number, "type": kind})
}

fn ana() -> Value {
    json!({"id": 42, "is_bot": false, "first_name": "Ana", "last_name": "<b>López"})
}
