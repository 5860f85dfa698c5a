//! Real servers, and two fake ones, that run in a network namespace for the time of a test.

mod alertmanager;
mod dns;
mod http;
mod iperf;
mod prometheus;
mod ssh;
mod telegram;
mod webhook;

use std::env;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

pub use alertmanager::Alertmanager;
pub use dns::Dns;
pub use http::Http;
pub use iperf::Iperf;
pub use prometheus::Prometheus;
pub use ssh::Sshd;
pub use telegram::FakeTelegram;
pub use webhook::Webhook;

use crate::netns::Namespace;
use crate::process::Guard;
use crate::wait::until;

/// How long a server may take to start.
const START: Duration = Duration::from_secs(20);

#[derive(Clone, Copy)]
enum Transport {
    Tcp,
    Udp,
}

/// Waits until the server listens on the port.
fn ready(server: &mut Guard, namespace: &Namespace, transport: Transport, port: u16) -> Result<()> {
    let process = server.id();
    let answer = until("the server to listen", START, || {
        if let Some(status) = server.ended() {
            return Some(Err(status));
        }
        (namespace.holds(process) && listens(process, transport, port)).then_some(Ok(()))
    });
    match answer {
        Ok(Ok(())) => Ok(()),
        Ok(Err(status)) => bail!("the server ended at once, {status}: {}", server.log()),
        Err(error) => Err(error.context(server.log())),
    }
}

/// Waits until an HTTP server answers with a status that means it is ready.
fn answers(server: &Guard, namespace: &Namespace, url: &str) -> Result<()> {
    let ask = || {
        let args = ["-sS", "--noproxy", "*", "--fail", "--max-time", "5", "-o", "/dev/null", url];
        namespace.run("curl", &args, START).ok()
    };
    until("the server to be ready", START, ask).map(drop).with_context(|| server.log())
}

fn listens(process: u32, transport: Transport, port: u16) -> bool {
    let files = match transport {
        Transport::Tcp => ["tcp", "tcp6"],
        Transport::Udp => ["udp", "udp6"],
    };
    files.iter().any(|file| {
        let table = fs::read_to_string(format!("/proc/{process}/net/{file}")).unwrap_or_default();
        has_listener(&table, transport, port)
    })
}

/// Whether a table of sockets (proc(5)) has one that waits for peers on the port.
fn has_listener(table: &str, transport: Transport, port: u16) -> bool {
    let state = match transport {
        Transport::Tcp => "0A",
        Transport::Udp => "07",
    };
    let port = format!(":{port:04X}");
    table.lines().skip(1).any(|line| {
        let mut words = line.split_whitespace().skip(1);
        words.next().is_some_and(|local| local.ends_with(&port)) && words.nth(1) == Some(state)
    })
}

/// A program of this package, beside the one that runs or, for a test, one folder up.
fn own_program(name: &str) -> Result<PathBuf> {
    let running = env::current_exe().context("find the program that runs")?;
    let beside = running.ancestors().skip(1).take(2).map(|folder| folder.join(name)).find(|path| path.is_file());
    beside.with_context(|| format!("{name} is not built; `cargo build -p leuko-tests --bins` does"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_read_from_the_table_of_sockets() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue\n\
             0: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000\n\
             1: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000\n";
        assert!(has_listener(table, Transport::Tcp, 80));
        assert!(!has_listener(table, Transport::Tcp, 8080), "a connection is not a listener");
        assert!(!has_listener(table, Transport::Udp, 80));
    }
}
