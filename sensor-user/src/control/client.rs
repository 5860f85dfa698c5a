//! The other end of the socket: `leuko block` and its like.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use axum::http::StatusCode;

use super::{Answer, LONGEST, Request};
use crate::notify::http::client_at;

/// How long a sensor may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A way to a running sensor.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    http: reqwest::Client,
}

impl Client {
    /// Through a socket.
    ///
    /// # Errors
    /// There is no sensor at the other end.
    pub fn connect(path: &Path) -> Result<Self> {
        std::os::unix::net::UnixStream::connect(path).with_context(|| {
            format!("no sensor takes orders at {}: is `leuko run` running, and may you write there?", path.display())
        })?;
        Ok(Self { path: path.to_owned(), http: client_at(path)? })
    }

    /// What is blocked.
    ///
    /// # Errors
    /// The sensor does not answer.
    pub async fn blocks(&self) -> Result<Answer> {
        self.send(self.http.get(url("blocks"))).await
    }

    /// Blocks something.
    ///
    /// # Errors
    /// The sensor refuses, with why.
    pub async fn block(&self, request: &Request) -> Result<Answer> {
        self.send(self.http.post(url("block")).json(request)).await
    }

    /// Lifts blocks.
    ///
    /// # Errors
    /// As [`Self::block`].
    pub async fn unblock(&self, request: &Request) -> Result<Answer> {
        self.send(self.http.post(url("unblock")).json(request)).await
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Answer> {
        let path = self.path.display();
        let sent = request.timeout(PATIENCE).send().await.with_context(|| format!("ask the sensor at {path}"))?;
        if sent.status() == StatusCode::PAYLOAD_TOO_LARGE {
            bail!("the order is longer than the {LONGEST} octets that a sensor takes: give a shorter --reason");
        }
        let answer: Answer = sent.json().await.with_context(|| format!("read what the sensor at {path} says"))?;
        match answer.error {
            Some(error) => bail!("{error}"),
            None => Ok(answer),
        }
    }
}

fn url(what: &str) -> String {
    format!("http://leuko/v1/{what}")
}
