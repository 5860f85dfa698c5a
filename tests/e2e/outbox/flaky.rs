//! Receivers that fail half of the time, each in its own way: trouble, too much, a broken connection, no answer.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

/// Longest body that is read, in octets.
const BODY_MAX: usize = 4 << 20;

/// Something that a receiver took.
#[derive(Clone, Debug)]
pub struct Taken {
    /// Which of them: the first part of the path.
    pub sink: String,
    /// The events that it is about.
    pub keys: BTreeSet<String>,
    /// The incidents that it names.
    pub incidents: BTreeSet<String>,
}

impl Taken {
    /// Something with a key in its head, and others, or incidents, in its body.
    pub fn of(sink: &str, key: &str, body: &str) -> Self {
        let words = || body.split(|c: char| !c.is_ascii_alphanumeric() && c != '.').map(|word| word.trim_matches('.'));
        let is_id = |text: &str| text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let is_key = |word: &&str| {
            word.split_once('.')
                .is_some_and(|(id, n)| is_id(id) && !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
        };
        Self {
            sink: sink.to_owned(),
            keys: words().chain([key]).filter(is_key).map(str::to_owned).collect(),
            incidents: words().filter(|word| is_id(word)).map(str::to_owned).collect(),
        }
    }
}

/// A web server that is all of them.
pub struct Flaky {
    port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    taken: Mutex<Vec<Taken>>,
    refused: AtomicU64,
    requests: AtomicU64,
}

impl Flaky {
    /// Serves on loopback until the test ends.
    pub fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let this = Self { port: listener.local_addr()?.port(), state: Arc::default() };
        let state = Arc::clone(&this.state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&state);
                // A sensor that was killed in the middle is no failure of the test.
                thread::spawn(move || drop(state.serve(&stream)));
            }
        });
        Ok(this)
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn taken(&self) -> Vec<Taken> {
        self.state.taken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn refused(&self) -> u64 {
        self.state.refused.load(Ordering::Relaxed)
    }
}

impl State {
    fn serve(&self, mut stream: &TcpStream) -> Result<()> {
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let Request { path, key, body } = Request::read(stream)?;
        let sink = path.trim_start_matches('/').split('/').next().unwrap_or_default();
        if path.ends_with("/getUpdates") {
            thread::sleep(Duration::from_millis(200));
            return answer(stream, "200 OK", r#"{"ok":true,"result":[]}"#);
        }
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let mut random = Random::new(number);
        if random.below(2) == 0 {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return match random.below(4) {
                0 => answer(stream, "500 Internal Server Error", "oops"),
                1 => answer(
                    stream,
                    "429 Too Many Requests",
                    r#"{"ok":false,"error_code":429,"description":"wait","parameters":{"retry_after":0},"retry_after":0}"#,
                ),
                // Half an answer: whether it was taken is not said.
                2 => Ok(stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-le")?),
                _ => {
                    thread::sleep(Duration::from_millis(400));
                    Ok(())
                }
            };
        }
        // Under the lock, so that what is kept first was answered first.
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        answer(
            stream,
            "200 OK",
            &format!(r#"{{"ok":true,"id":"{number}","result":{{"message_id":{number},"date":0}}}}"#),
        )?;
        taken.push(Taken::of(sink, &key, &String::from_utf8_lossy(&body)));
        Ok(())
    }
}

struct Request {
    path: String,
    key: String,
    body: Vec<u8>,
}

impl Request {
    fn read(stream: &TcpStream) -> Result<Self> {
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let target = line.split(' ').nth(1).context("a request line")?;
        let path = target.split('?').next().unwrap_or_default().to_owned();
        let (mut length, mut key) = (0, String::new());
        loop {
            let mut line = String::new();
            ensure!(reader.read_line(&mut line)? > 0, "a request without an end");
            match line.trim_end().split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.trim().parse()?,
                Some((name, value)) if name.eq_ignore_ascii_case("idempotency-key") => key = value.trim().to_owned(),
                None if line.trim_end().is_empty() => break,
                _ => {}
            }
        }
        ensure!(length <= BODY_MAX, "a body of {length} octets");
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        Ok(Self { path, key, body })
    }
}

fn answer(mut stream: &TcpStream, status: &str, body: &str) -> Result<()> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
    );
    Ok(stream.write_all((head + body).as_bytes())?)
}

/// Numbers that look random (splitmix64).
pub struct Random(u64);

impl Random {
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Below a bound.
    pub const fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}
