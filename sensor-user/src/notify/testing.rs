//! Receivers on 127.0.0.1 and incidents to send them.

use std::io::Write;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use prometheus::Registry;
use sensor_core::incident::{Change, Class, Incident, IncidentEvent, Language, Severity};
use sensor_core::time::Timestamp;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tracing::subscriber::DefaultGuard;

use super::retry::Retry;
use super::view::Author;
use super::{Notifier, NotifyConfig, Outcome, Sinks, Wiring};
use crate::export::prometheus::{Metrics, Vocabulary};
use crate::respond::Act;
use crate::store::Event;
use crate::store::keeper::{Keep, Keeper, Running};

/// What a fake receiver got.
#[derive(Clone, Debug)]
pub struct Post {
    pub method: Method,
    pub path: String,
    pub query: String,
    pub headers: HeaderMap,
    pub body: Value,
    /// The body as it came.
    pub text: String,
    pub at: Instant,
}

/// What a fake receiver does.
pub enum Answer {
    Json(u16, Value),
    /// With a header.
    With(u16, (&'static str, &'static str), Value),
    Never,
}

/// A receiver that records what is posted and answers as told.
#[derive(Clone)]
pub struct Fake {
    pub url: String,
    posts: Arc<Mutex<Vec<Post>>>,
}

impl Fake {
    /// `answer` is given the number of the request, from 0, and the request.
    pub async fn start(answer: impl Fn(usize, &Post) -> Answer + Clone + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let posts = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&posts);
        let handler = move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| async move {
            let post = Post {
                method,
                path: uri.path().to_owned(),
                query: uri.query().unwrap_or_default().to_owned(),
                headers,
                body: serde_json::from_slice(&body).unwrap(),
                text: String::from_utf8(body.to_vec()).unwrap(),
                at: Instant::now(),
            };
            let number = {
                let mut posts = record.lock().unwrap();
                posts.push(post.clone());
                posts.len() - 1
            };
            match answer(number, &post) {
                Answer::Json(status, body) => reply(status, &body),
                Answer::With(status, header, body) => ([header], reply(status, &body)).into_response(),
                Answer::Never => std::future::pending().await,
            }
        };
        tokio::spawn(axum::serve(listener, Router::new().fallback(handler)).into_future());
        Self { url, posts }
    }

    pub async fn ok() -> Self {
        Self::start(|number, _| Answer::Json(200, sent(number))).await
    }

    pub async fn dead() -> Self {
        Self::start(|_, _| Answer::Never).await
    }

    pub fn posts(&self) -> Vec<Post> {
        self.posts.lock().unwrap().clone()
    }

    pub async fn wait_for(&self, posts: usize) -> Vec<Post> {
        until(|| self.posts().len() >= posts).await;
        self.posts()
    }
}

fn reply(status: u16, body: &Value) -> Response {
    (StatusCode::from_u16(status).unwrap(), body.to_string()).into_response()
}

/// Telegram's answer to a message it took; Alertmanager's is not read.
pub fn sent(number: usize) -> Value {
    json!({"ok": true, "result": {"message_id": 100 + number, "date": 0}})
}

/// Telegram's answer to a message it did not take.
pub fn refused(status: u16, description: &str, parameters: Value) -> Answer {
    let mut body = json!({"ok": false, "error_code": status, "description": description});
    if !parameters.is_null() {
        body["parameters"] = parameters;
    }
    Answer::Json(status, body)
}

pub async fn until(condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(5), "waited in vain");
        sleep(Duration::from_millis(2)).await;
    }
}

/// The sinks of a configuration in TOML, with fast retries and a store of their own.
pub struct Rig {
    pub notifier: Notifier,
    pub metrics: Arc<Metrics>,
    pub keeper: Keeper,
    pub store: Running,
    pub dir: Arc<TempDir>,
    /// Gives the sinks a way to block.
    pub acting: watch::Sender<Option<Arc<dyn Act>>>,
}

impl Rig {
    pub fn start(toml: &str) -> Self {
        Self::again(toml, Arc::new(tempfile::tempdir().unwrap()))
    }

    /// With the store of another, which has ended.
    pub fn again(toml: &str, dir: Arc<TempDir>) -> Self {
        Self::try_start(toml, dir).unwrap()
    }

    pub fn try_start(toml: &str, dir: Arc<TempDir>) -> anyhow::Result<Self> {
        let config: NotifyConfig = toml::from_str(toml).unwrap();
        let metrics = Arc::new(Metrics::new(&Registry::new(), &Vocabulary::default()).unwrap());
        let store = Keeper::start(dir.path(), Keep::default(), Arc::clone(&metrics), Arc::new(now)).unwrap();
        let keeper = store.keeper();
        let acting = watch::Sender::new(None);
        let wiring = Wiring {
            author: Author {
                sensor: "web-1".to_owned(),
                language: Language::En,
                dashboard: config.dashboard.as_ref().map(ToString::to_string),
            },
            metrics: Arc::clone(&metrics),
            clock: Arc::new(now),
            retry: Retry { first: Duration::from_millis(10), longest: Duration::from_millis(40) },
            keeper: keeper.clone(),
            status: watch::channel(None).1,
            response: acting.subscribe(),
        };
        let sinks = Sinks::build(&config, &wiring)?;
        keeper.begin(sinks.names());
        let notifier = Notifier::start(sinks, &keeper, &wiring);
        Ok(Self { notifier, metrics, keeper, store, dir, acting })
    }

    pub fn send(&self, change: Change, incident: &Incident) {
        self.keeper.record(&[event(change, incident)]);
    }

    /// Events of all sinks whose name begins so.
    pub fn count(&self, sink: &str, outcome: Outcome) -> u64 {
        count(&self.metrics, sink, outcome)
    }

    pub async fn shutdown(self, deadline: Duration) -> Arc<TempDir> {
        self.notifier.shutdown(deadline).await;
        tokio::task::spawn_blocking(move || self.store.stop()).await.unwrap();
        self.dir
    }
}

#[expect(clippy::disallowed_methods, reason = "a real Alertmanager goes by the real time")]
pub fn now() -> SystemTime {
    SystemTime::now()
}

pub fn count(metrics: &Metrics, sink: &str, outcome: Outcome) -> u64 {
    let begin = format!("leuko_notifications_total{{result=\"{}\",sink=\"{sink}", outcome.as_str());
    let text = metrics.render();
    text.lines()
        .filter(|line| line.starts_with(&begin))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum()
}

pub fn event(change: Change, incident: &Incident) -> Arc<IncidentEvent> {
    Arc::new(IncidentEvent { change, at: incident.last_seen, incident: incident.clone() })
}

pub fn incident(id: &str) -> Incident {
    Incident {
        id: id.to_owned(),
        class: Class::PortScan,
        severity: Severity::Medium,
        attackers: vec![Ipv4Addr::new(203, 0, 113, 5).into()],
        victims: vec![Ipv4Addr::new(192, 0, 2, 10).into()],
        ports: vec![22, 80, 443],
        first_seen: Timestamp::from_secs(1_750_000_000),
        detected_at: Timestamp::from_secs(1_750_000_003),
        last_seen: Timestamp::from_secs(1_750_000_042),
        score: 0.934,
        summary: "203.0.113.5 probed 812 ports of 192.0.2.10 <tcp> & more".to_owned(),
        evidence: [("ports".to_owned(), json!(812)), ("failed_ratio".to_owned(), json!(0.9876))].into(),
    }
}

/// An event as the store keeps it, the `n`th of its incident.
pub fn kept(change: Change, n: u32, incident: Incident) -> Event {
    let at = incident.last_seen;
    Event { seq: i64::from(n), n, change, rose: false, told: n > 1, at, kept_at: at, incident }
}

/// What this thread logs, at every level, until the guard is dropped.
pub fn logs() -> (DefaultGuard, Arc<Mutex<Vec<u8>>>) {
    let buffer = Arc::new(Mutex::new(Vec::new()));
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer({
            let buffer = Arc::clone(&buffer);
            move || Shared(Arc::clone(&buffer))
        })
        .finish();
    (tracing::subscriber::set_default(subscriber), buffer)
}

struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
