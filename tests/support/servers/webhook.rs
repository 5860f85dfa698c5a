//! A receiver of webhooks that takes anything and keeps it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle, sleep};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::netns::Namespace;
use crate::wait::{PAUSE, until};

/// Longest body that is read, in octets.
const BODY_MAX: usize = 1 << 20;
/// How long a peer may be silent in the middle of a request.
const PATIENCE: Duration = Duration::from_secs(5);

/// A web server that answers 204 to every request.
#[derive(Debug)]
pub struct Webhook {
    bodies: Arc<Mutex<Vec<Value>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    url: String,
}

impl Webhook {
    /// Serves at an address of a namespace.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn start(namespace: &Namespace, listen: &str) -> Result<Self> {
        let listener =
            namespace.inside(|| TcpListener::bind(listen))?.with_context(|| format!("listen on {listen}"))?;
        listener.set_nonblocking(true)?;
        let (bodies, stop) = (Arc::default(), Arc::default());
        let (kept, asked) = (Arc::clone(&bodies), Arc::clone(&stop));
        let thread = Some(thread::spawn(move || serve(&listener, &kept, &asked)));
        Ok(Self { bodies, stop, thread, url: format!("http://{listen}") })
    }

    /// `http://` and the address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The bodies so far.
    pub fn bodies(&self) -> Vec<Value> {
        self.bodies.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for the first body that fits.
    ///
    /// # Errors
    /// When there is none in time.
    pub fn wait_for(&self, what: &str, timeout: Duration, fits: impl Fn(&Value) -> bool) -> Result<Value> {
        until(what, timeout, || self.bodies().into_iter().find(&fits)).with_context(|| format!("{:?}", self.bodies()))
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // A drop has nobody to tell of a panic.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn serve(listener: &TcpListener, bodies: &Mutex<Vec<Value>>, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let Ok((stream, _)) = listener.accept() else {
            sleep(PAUSE);
            continue;
        };
        // A peer that breaks off does not end the service.
        if let Ok(body) = take(&stream) {
            bodies.lock().unwrap_or_else(PoisonError::into_inner).push(body);
        }
    }
}

/// Reads the one request of a connection, and thanks for it.
fn take(mut stream: &TcpStream) -> Result<Value> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        ensure!(reader.read_line(&mut line)? > 0, "a request without an end");
        match line.trim_end().split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.trim().parse()?,
            None if line.trim_end().is_empty() => break,
            _ => {}
        }
    }
    ensure!(length <= BODY_MAX, "a body of {length} octets");
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")?;
    serde_json::from_slice(&body).context("parse the body")
}
