//! Lists from files and from servers that behave in many ways.

use std::fs;
use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, Response};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::notify::retry::Retry;
use crate::notify::testing::until;

/// A server that answers as told, and records what it is asked.
struct Server {
    url: String,
    asked: Arc<Mutex<Vec<(String, HeaderMap)>>>,
}

impl Server {
    /// `answer` is given the number of the request, from 0.
    async fn start(answer: impl Fn(usize, &Request) -> Response<Body> + Clone + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/list.txt", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&asked);
        let handler = move |request: Request| async move {
            let number = {
                let mut asked = record.lock().unwrap();
                asked.push((request.uri().path().to_owned(), request.headers().clone()));
                asked.len() - 1
            };
            answer(number, &request)
        };
        tokio::spawn(axum::serve(listener, Router::new().fallback(handler)).into_future());
        Self { url, asked }
    }

    fn asked(&self) -> Vec<(String, HeaderMap)> {
        self.asked.lock().unwrap().clone()
    }
}

fn answer(status: u16, headers: &[(&str, &str)], body: impl Into<Body>) -> Response<Body> {
    let builder =
        headers.iter().fold(Response::builder().status(status), |builder, (name, value)| builder.header(*name, *value));
    builder.body(body.into()).unwrap()
}

/// Lists with a folder and a clock of their own.
struct Rig {
    dir: TempDir,
    clock: Arc<AtomicU64>,
}

impl Rig {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), clock: Arc::new(AtomicU64::new(1_750_000_000)) }
    }

    fn start(&self, toml: &str) -> Lists {
        #[derive(serde::Deserialize)]
        struct Tables {
            lists: Vec<ListConfig>,
        }
        let pace = Pace {
            retry: Retry { first: Duration::from_millis(10), longest: Duration::from_millis(20) },
            timeout: Duration::from_millis(500),
            look: Duration::from_millis(10),
        };
        let clock = Arc::clone(&self.clock);
        let clock = Arc::new(move || UNIX_EPOCH + Duration::from_secs(clock.load(Ordering::Relaxed)));
        let tables: Tables = toml::from_str(toml).unwrap();
        Lists::start_at(tables.lists, self.dir.path(), clock, pace).unwrap()
    }

    fn url(&self, url: &str) -> Lists {
        self.start(&format!("[[lists]]\nname = \"drop\"\nurl = \"{url}\"\naction = \"block\""))
    }

    fn pass(&self, span: Duration) {
        self.clock.fetch_add(span.as_secs(), Ordering::Relaxed);
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_secs(self.clock.load(Ordering::Relaxed))
    }
}

fn entries(lists: &Lists) -> Option<usize> {
    lists.status()[0].entries
}

fn error(lists: &Lists) -> String {
    lists.status()[0].error.clone().unwrap_or_default()
}

fn found(lists: &Lists, text: &str) -> Vec<String> {
    lists.find(text.parse::<IpAddr>().unwrap().into()).map(ToOwned::to_owned).collect()
}

const DAY: Duration = Duration::from_secs(86_400);

#[tokio::test]
async fn a_server_is_asked_again_when_it_is_time_and_sends_only_what_is_new() {
    let server = Server::start(|number, request| {
        let (etag, date) = (("etag", "\"v1\""), ("last-modified", "Sun, 15 Jun 2025 15:06:40 GMT"));
        match (number, request.headers().get("if-none-match").map(|etag| etag.to_str().unwrap())) {
            (0, None) => answer(200, &[etag, date], "192.0.2.0/24 ; SBL1\n"),
            (1, Some("\"v1\"")) => answer(304, &[], ""),
            (2, Some("\"v1\"")) => answer(200, &[("etag", "\"v2\"")], "198.51.100.0/24\n"),
            _ => answer(400, &[], ""),
        }
    })
    .await;
    let rig = Rig::new();
    {
        let lists = rig.url(&server.url);
        assert!(lists.snapshot().is_empty(), "not read yet");
        let mut changes = lists.changes();
        changes.changed().await.unwrap();
        assert_eq!(entries(&lists), Some(1));
        assert_eq!(found(&lists, "192.0.2.7"), ["drop"]);
        assert_eq!(found(&lists, "192.0.3.7"), [""; 0]);
        let (name, action, set) = lists.snapshot().remove(0);
        assert_eq!((name.as_str(), action, set.len()), ("drop", Action::Block, 1));
    }
    // It is good for a day, also for the next start.
    rig.pass(DAY / 2);
    {
        let lists = rig.url(&server.url);
        until(|| entries(&lists) == Some(1)).await;
        assert_eq!(lists.status()[0].age(rig.now()), Some(DAY / 2));
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(server.asked().len(), 1);
    }
    rig.pass(DAY);
    {
        let lists = rig.url(&server.url);
        until(|| lists.status()[0].age(rig.now()) == Some(Duration::ZERO)).await;
        assert_eq!((entries(&lists), error(&lists)), (Some(1), String::new()));
        assert_eq!(*lists.changes().borrow(), 1, "the same list is no change");
        let (_, headers) = server.asked().pop().unwrap();
        assert_eq!(headers["if-modified-since"], "Sun, 15 Jun 2025 15:06:40 GMT");
        assert!(!headers.contains_key("accept-encoding"));
    }
    rig.pass(DAY);
    let lists = rig.url(&server.url);
    until(|| found(&lists, "198.51.100.7") == ["drop"]).await;
    assert_eq!(found(&lists, "192.0.2.7"), [""; 0]);
    assert_eq!(server.asked().len(), 3);
}

#[tokio::test]
async fn trouble_leaves_the_list_of_before_and_passes() {
    let server = Server::start(|number, _| match number {
        0 => answer(200, &[], "192.0.2.1\n"),
        1 => answer(500, &[], "hunter2"),
        2 => answer(200, &[], "<html>\nsorry\n"),
        3 => answer(200, &[], ""),
        4 => answer(304, &[], ""),
        _ => answer(200, &[], "192.0.2.1\n192.0.2.9\n"),
    })
    .await;
    let url = server.url.replace("//", "//me:hunter3@") + "?key=hunter4";
    let rig = Rig::new();
    let lists = rig.url(&url);
    until(|| entries(&lists) == Some(1)).await;
    drop(lists);
    rig.pass(2 * DAY);
    let lists = rig.url(&url);
    let mut errors = vec![String::new()];
    let begun = tokio::time::Instant::now();
    while entries(&lists) != Some(2) {
        assert!(begun.elapsed() < Duration::from_secs(5), "{errors:?}");
        assert!(entries(&lists).is_none_or(|entries| entries == 1));
        let error = error(&lists);
        if errors.last() != Some(&error) {
            errors.push(error);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for words in ["500 Internal Server Error", "no address and no network: line 1 \"<html>\""] {
        assert!(errors.iter().any(|error| error.contains(words)), "{words}: {errors:?}");
    }
    assert_eq!(error(&lists), "");
    let said = format!("{errors:?} {:?}", lists.status());
    assert!(!said.contains("hunter"), "{said}");
    assert!(server.asked()[0].1.contains_key("authorization"), "the user of the address is sent");
}

/// What a server does after the beginning of its answer.
#[derive(Clone, Copy)]
enum Then {
    Close,
    Silence,
    Forever,
}

/// A server that gives everybody the same answer, which may be none of HTTP.
async fn rude(answer: &'static str, then: Then) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/list.txt", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _request = stream.read(&mut [0; 4096]).await;
                stream.write_all(format!("HTTP/1.1 {answer}").as_bytes()).await.unwrap();
                match then {
                    Then::Close => {}
                    Then::Silence => std::future::pending().await,
                    Then::Forever => while stream.write_all(b"192.0.2.1\n").await.is_ok() {},
                }
            });
        }
    });
    url
}

#[tokio::test]
async fn what_is_too_much_too_slow_or_compressed_is_refused() {
    for (answer, then, words) in [
        ("200 OK\r\ncontent-length: 128000001\r\n\r\n", Then::Silence, "larger than 128 MB"),
        ("200 OK\r\n\r\n", Then::Forever, "takes longer than 0.5 s"),
        ("200 OK\r\n\r\n192.0.2.1\n", Then::Silence, "takes longer than 0.5 s"),
        ("200 OK\r\n", Then::Silence, "takes longer than 0.5 s"),
        ("200 OK\r\ncontent-encoding: gzip\r\n\r\n192.0.2.1\n", Then::Close, "compressed (gzip)"),
        ("404 Not Found\r\ncontent-length: 0\r\n\r\n", Then::Close, "404 Not Found"),
        ("304 Not Modified\r\n\r\n", Then::Close, "304 Not Modified"),
        (
            "302 Found\r\nlocation: /round\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            Then::Close,
            "more than 5 redirects",
        ),
        ("200 OK\r\n\r\n\0\u{9f}\u{96}\n\u{92}", Then::Close, "the list is refused: it has no address"),
        ("200 OK\r\ncontent-length: 1000\r\n\r\n192.0.2.1\n", Then::Close, "error decoding response body"),
        ("hello", Then::Close, "error sending request"),
    ] {
        let rig = Rig::new();
        let lists = rig.url(&rude(answer, then).await);
        until(|| !error(&lists).is_empty()).await;
        assert!(error(&lists).contains(words), "{answer}: {}", error(&lists));
        assert!(entries(&lists).is_none() && lists.snapshot().is_empty());
        drop(lists);
        let folder = rig.dir.path().join("lists");
        until(|| fs::read_dir(&folder).unwrap().next().is_none()).await;
    }
}

#[tokio::test]
async fn a_redirect_is_followed_and_a_start_without_a_server_uses_the_copy() {
    let server = Server::start(|_, request| match request.uri().path() {
        "/list.txt" => answer(301, &[("location", "/there")], ""),
        _ => answer(200, &[], "date,ip\n1,192.0.2.1\n"),
    })
    .await;
    let toml = |url: &str| format!("[[lists]]\nname = \"c2\"\nurl = \"{url}\"\nformat = \"csv\"\ncolumn = \"ip\"");
    let rig = Rig::new();
    let lists = rig.start(&toml(&server.url));
    until(|| entries(&lists) == Some(1)).await;
    drop(lists);
    rig.pass(2 * DAY);
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let copy = rig.dir.path().join("lists/c2");
    let there = format!("http://{gone}/list.txt");
    // A copy of another address is none.
    let lists = rig.start(&toml(&there));
    until(|| !error(&lists).is_empty()).await;
    assert_eq!(entries(&lists), None);
    drop(lists);
    let cache = cache::Cache::new(copy, &ListUrl::try_from(there.clone()).unwrap());
    let mut draft = cache.begin(None, None).unwrap();
    draft.write(b"ip\n192.0.2.5\n").unwrap();
    draft.keep(UNIX_EPOCH).unwrap();
    let lists = rig.start(&toml(&there));
    until(|| !error(&lists).is_empty()).await;
    assert_eq!(found(&lists, "192.0.2.5"), ["c2"]);
    assert!(
        error(&lists).contains("error sending request") && !error(&lists).contains(&gone.to_string()),
        "{}",
        error(&lists)
    );
    assert_eq!(lists.status()[0].confirmed, Some(Timestamp::EPOCH));
}

#[tokio::test]
async fn a_file_is_read_again_when_it_changes() {
    let rig = Rig::new();
    let [one, two] = ["one", "two"].map(|name| rig.dir.path().join(name));
    fs::write(&two, "192.0.2.0/24\n").unwrap();
    let table =
        |name: &str| format!("[[lists]]\nname = \"{name}\"\nfile = \"{}\"\n", rig.dir.path().join(name).display());
    let lists = rig.start(&(table("one") + &table("two")));
    until(|| found(&lists, "192.0.2.1") == ["two"]).await;
    until(|| error(&lists).contains("No such file")).await;
    fs::write(&one, "192.0.2.1\n").unwrap();
    until(|| found(&lists, "192.0.2.1") == ["one", "two"]).await;
    assert_eq!(error(&lists), "");
    fs::write(&one, "nonsense\n").unwrap();
    until(|| error(&lists).contains("line 1 \"nonsense\"")).await;
    assert_eq!(found(&lists, "192.0.2.1"), ["one", "two"], "what was read before stays");
    fs::write(&one, "192.0.2.1\n192.0.2.2\nx\n").unwrap();
    until(|| entries(&lists) == Some(2)).await;
    assert_eq!(lists.status()[0].report.bad, 1);
    let mut changes = lists.changes();
    changes.borrow_and_update();
    fs::remove_file(&one).unwrap();
    until(|| error(&lists).contains("No such file")).await;
    assert_eq!((entries(&lists), changes.has_changed().unwrap()), (Some(2), false));
}

#[tokio::test]
async fn two_lists_of_one_name_are_refused() {
    let rig = Rig::new();
    let config: ListConfig = toml::from_str("name = \"a\"\nfile = \"f\"").unwrap();
    let error = Lists::start(vec![config.clone(), config], rig.dir.path(), Arc::new(|| UNIX_EPOCH)).err().unwrap();
    assert!(error.to_string().contains("two lists are called a"), "{error}");
}
