//! iperf3, for bulk traffic.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{Transport, ready};
use crate::netns::Namespace;
use crate::process::Guard;

/// An iperf3 server.
#[derive(Debug)]
pub struct Iperf {
    _server: Guard,
    port: u16,
}

impl Iperf {
    /// Serves on all addresses of a namespace.
    ///
    /// # Errors
    /// Without iperf3, or when the port is taken.
    pub fn start(namespace: &Namespace, port: u16) -> Result<Self> {
        let mut server = namespace.spawn("iperf3", &["--server", "--port", &port.to_string()])?;
        ready(&mut server, namespace, Transport::Tcp, port)?;
        Ok(Self { _server: server, port })
    }

    /// Sends for some seconds and returns iperf3's report; `options` are those of its client (`-u -b 10M`, `-R`).
    ///
    /// # Errors
    /// When the client does not succeed.
    pub fn send(&self, from: &Namespace, address: &str, seconds: u32, options: &[&str]) -> Result<Value> {
        let (port, time) = (self.port.to_string(), seconds.to_string());
        let args = [&["--client", address, "--port", &port, "--time", &time, "--json"], options].concat();
        let output = from.run("iperf3", &args, Duration::from_secs(u64::from(seconds) + 15))?;
        serde_json::from_str(&output.stdout).context("read the report of iperf3")
    }
}
