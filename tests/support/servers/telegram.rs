//! A server that speaks Telegram's Bot API and keeps what it was sent.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;
use tempfile::NamedTempFile;

use super::{Transport, own_program, ready};
use crate::netns::Namespace;
use crate::process::Guard;
use crate::wait::until;

/// A stand-in for `api.telegram.org`.
#[derive(Debug)]
pub struct FakeTelegram {
    server: Guard,
    record: NamedTempFile,
    url: String,
}

impl FakeTelegram {
    /// Serves at an address of a namespace. The first requests are refused with these statuses (`429`, `500`).
    ///
    /// # Errors
    /// When the port is taken.
    pub fn start(namespace: &Namespace, listen: &str, refusals: &[u16]) -> Result<Self> {
        let port = listen.parse::<SocketAddr>().with_context(|| format!("parse {listen}"))?.port();
        let record = NamedTempFile::with_prefix("leuko-telegram-").context("make a record")?;
        let program = own_program("fake_telegram")?;
        let refusals: Vec<_> = refusals.iter().map(ToString::to_string).collect();
        let mut command = namespace.command(&program.to_string_lossy());
        let mut server = Guard::spawn(command.arg(listen).arg(record.path()).args(refusals))?;
        ready(&mut server, namespace, Transport::Tcp, port)?;
        Ok(Self { server, record, url: format!("http://{listen}") })
    }

    /// What to use in place of the address of the real API.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The requests so far: `method`, `path`, `headers` (names in lower case), `body`, and `status` of the answer.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub fn requests(&self) -> Result<Vec<Value>> {
        let record = fs::read_to_string(self.record.path()).context("read the record")?;
        // A line that is being written has no end yet.
        let whole = &record[..record.rfind('\n').map_or(0, |end| end + 1)];
        whole.lines().map(|line| serde_json::from_str(line).with_context(|| format!("read {line}"))).collect()
    }

    /// Waits for the first request that fits.
    ///
    /// # Errors
    /// When there is none in time.
    pub fn wait_for(&self, what: &str, timeout: Duration, fits: impl Fn(&Value) -> bool) -> Result<Value> {
        until(what, timeout, || self.requests().ok()?.into_iter().find(&fits))
            .with_context(|| format!("{:?}", self.requests()))
    }

    /// The process.
    pub fn process(&mut self) -> &mut Guard {
        &mut self.server
    }
}
