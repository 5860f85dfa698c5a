//! The HTTP server: metrics for Prometheus, health for whoever watches over the sensor.

mod guard;

use std::future::{Future, IntoFuture as _};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use self::guard::Guarded;
use crate::export::prometheus::{CONTENT_TYPE, Metrics};

/// How long open requests may take once the server is asked to stop.
const DRAIN: Duration = Duration::from_secs(3);
/// Ticks may be late by this many intervals before the sensor is called unhealthy.
const LATE_INTERVALS: u32 = 5;

const INDEX: &str = "leuko, a network anomaly sensor\n\n/metrics  Prometheus text format\n/healthz  200 while intervals are processed in time\n";

/// What the handlers read. Cheap to clone.
#[derive(Clone)]
pub struct WebState {
    /// Rendered at `/metrics`.
    pub metrics: Arc<Metrics>,
    /// Judged at `/healthz`.
    pub health: Arc<Health>,
}

/// The pulse of the pipeline: one beat per processed interval.
#[derive(Debug)]
pub struct Health {
    born: Instant,
    interval: Duration,
    /// Milliseconds from `born` to the latest beat, plus one; 0 before the first.
    beat: AtomicU64,
}

impl Health {
    /// A pulse that is due every `interval`.
    #[must_use]
    pub fn new(interval: Duration) -> Self {
        Self { born: Instant::now(), interval, beat: AtomicU64::new(0) }
    }

    /// An interval has been processed just now.
    pub fn beat(&self) {
        self.beat.store(self.age().saturating_add(1), Ordering::Relaxed);
    }

    /// Whether intervals are processed in time.
    ///
    /// # Errors
    /// The reason why not, for people.
    pub fn check(&self) -> Result<(), String> {
        let Some(beat) = self.beat.load(Ordering::Relaxed).checked_sub(1) else {
            return Err("starting: no interval has been processed yet".to_owned());
        };
        let silent = Duration::from_millis(self.age().saturating_sub(beat));
        if silent < self.interval * LATE_INTERVALS {
            return Ok(());
        }
        Err(format!("stalled: no interval of {:?} was processed for {silent:?}", self.interval))
    }

    fn age(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Serves until `shutdown` is ready, then lets open requests finish for at most three seconds.
///
/// At most 64 connections are open at a time, and one that is silent for 30 seconds is closed.
///
/// # Errors
/// When the listener breaks.
pub async fn serve(
    listener: TcpListener,
    state: WebState,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let (stopping, stopped) = oneshot::channel();
    let server = axum::serve(Guarded::new(listener), routes(state)).with_graceful_shutdown(async move {
        shutdown.await;
        // The receiver is gone only when the server is.
        let _ = stopping.send(());
    });
    let too_long = async {
        match stopped.await {
            Ok(()) => sleep(DRAIN).await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        served = server.into_future() => served,
        () = too_long => Ok(()),
    }
}

fn routes(state: WebState) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .fallback(elsewhere)
        .with_state(state)
}

async fn index() -> Response {
    text(StatusCode::OK, INDEX.to_owned())
}

async fn metrics(State(state): State<WebState>) -> Response {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], state.metrics.render()).into_response()
}

async fn healthz(State(state): State<WebState>) -> Response {
    match state.health.check() {
        Ok(()) => text(StatusCode::OK, "ok\n".to_owned()),
        Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

async fn elsewhere(method: Method) -> Response {
    match method {
        Method::GET | Method::HEAD => text(StatusCode::NOT_FOUND, "not found\n".to_owned()),
        _ => text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n".to_owned()),
    }
}

fn text(status: StatusCode, body: String) -> Response {
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
    (status, headers, body).into_response()
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;
    use reqwest::Client;
    use tokio::task::JoinHandle;
    use tokio::time::timeout;

    use super::*;
    use crate::export::prometheus::Vocabulary;
    use crate::notify::http::{Trust, client};

    struct Server {
        url: String,
        health: Arc<Health>,
        http: Client,
        stop: oneshot::Sender<()>,
        task: JoinHandle<io::Result<()>>,
    }

    impl Server {
        async fn start(interval: Duration) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            let metrics = Arc::new(Metrics::new(&Registry::new(), &Vocabulary::default()).unwrap());
            let health = Arc::new(Health::new(interval));
            let (stop, stopped) = oneshot::channel();
            let state = WebState { metrics, health: Arc::clone(&health) };
            let task = tokio::spawn(serve(listener, state, async { drop(stopped.await) }));
            Self { url, health, http: client(Trust::Nobody).unwrap(), stop, task }
        }

        async fn get(&self, path: &str) -> (u16, String, String) {
            let answer = self.http.get(format!("{}{path}", self.url)).send().await.unwrap();
            let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
            (answer.status().as_u16(), kind, answer.text().await.unwrap())
        }
    }

    #[tokio::test]
    async fn metrics_are_text_format_0_0_4() {
        let server = Server::start(Duration::from_secs(1)).await;
        let (status, kind, body) = server.get("/metrics").await;
        assert_eq!((status, kind.as_str()), (200, CONTENT_TYPE));
        assert!(body.contains("# TYPE leuko_packets_total counter"), "{body}");
    }

    #[tokio::test]
    async fn health_follows_the_ticks() {
        let server = Server::start(Duration::from_millis(100)).await;
        assert_eq!(server.get("/healthz").await.0, 503);
        server.health.beat();
        let (status, _, body) = server.get("/healthz").await;
        assert_eq!((status, body.as_str()), (200, "ok\n"));
        sleep(Duration::from_millis(600)).await;
        let (status, _, body) = server.get("/healthz").await;
        assert!(status == 503 && body.starts_with("stalled: no interval of 100ms"), "{status} {body}");
    }

    #[tokio::test]
    async fn what_is_not_there_is_refused() {
        let server = Server::start(Duration::from_secs(1)).await;
        assert_eq!(server.get("/").await.0, 200);
        assert_eq!(server.get("/etc/passwd").await.0, 404);
        for path in ["/metrics", "/elsewhere"] {
            let answer = server.http.post(format!("{}{path}", server.url)).body("x").send().await.unwrap();
            assert_eq!(answer.status().as_u16(), 405, "{path}");
        }
    }

    #[tokio::test]
    async fn shutdown_does_not_wait_for_silent_connections() {
        let server = Server::start(Duration::from_secs(1)).await;
        let silent = tokio::net::TcpStream::connect(server.url.trim_start_matches("http://")).await.unwrap();
        assert_eq!(server.get("/").await.0, 200);
        server.stop.send(()).unwrap();
        timeout(DRAIN + Duration::from_secs(1), server.task).await.unwrap().unwrap().unwrap();
        drop(silent);
    }
}
