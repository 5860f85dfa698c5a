//! Password guessing: one client closes many short, alike conversations with a service at which the server speaks first
//! or which is known for log-ins.
//!
//! Log-in attempts are alike in size because only the password differs, and they are short because they fail
//! (Hellemans et al. 2012, SSHCure; Najafabadi et al. 2014).

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use sensor_ebpf::abi::Addr;
use sensor_ebpf::packet::proto;
use serde_json::json;

use super::{Detector, Finding, saturating_score};
use crate::flow::{FlowEvent, Outcome, Side};
use crate::incident::{Class, Severity};
use crate::roles::Roles;
use crate::time::Timestamp;

/// Parameters of the detector.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BruteForceParams {
    /// Connections in the window that decide, at a service known for log-ins. Each may hold several attempts: sshd takes
    /// six before it hangs up.
    pub login_connections: usize,
    /// Connections in the window that decide, at any other service at which the server speaks first.
    pub connections: usize,
    /// How long an attempt counts.
    pub window: Duration,
    /// IP octets to the server beyond which a conversation is no mere attempt.
    pub octets: u64,
    /// Sizes are alike when they differ from their median by at most this share of it.
    pub tolerance: f64,
    /// Share of the conversations that must be alike.
    pub alike_share: f64,
    /// Client, server and port triples followed at once; the ones with the fewest attempts give way.
    pub pairs: usize,
}

impl Default for BruteForceParams {
    fn default() -> Self {
        Self {
            login_connections: 5,
            connections: 8,
            window: Duration::from_secs(60),
            octets: 16_384,
            tolerance: 0.35,
            alike_share: 0.6,
            pairs: 16_384,
        }
    }
}

/// Services whose protocol begins with a log-in, whoever speaks first: Telnet, SMB, RDP, VNC, databases, WinRM.
/// FTP and SSH are among them for their lower threshold.
const LOGIN_PORTS: [u16; 12] = [21, 22, 23, 139, 445, 1433, 3306, 3389, 5432, 5900, 5985, 5986];
/// Attempts remembered of one triple.
const REMEMBERED: usize = 256;

/// Password guessing by every client.
#[derive(Debug)]
pub struct BruteForce {
    params: BruteForceParams,
    pairs: HashMap<Pair, VecDeque<Attempt>>,
    touched: BTreeSet<Pair>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Pair {
    client: Addr,
    server: Addr,
    port: u16,
}

#[derive(Clone, Copy, Debug)]
struct Attempt {
    first_seen: Timestamp,
    last_seen: Timestamp,
    sent: u64,
    received: u64,
}

impl Detector for BruteForce {
    fn observe(&mut self, event: &FlowEvent) {
        let attempt = event.proto == proto::TCP
            && event.closing_is_new
            && event.outcome == Outcome::Served
            && event.sent_octets <= self.params.octets
            && (event.first_speaker == Some(Side::Server) || LOGIN_PORTS.contains(&event.server.port));
        if !attempt {
            return;
        }
        if self.pairs.len() >= self.params.pairs {
            self.pairs.retain(|_, attempts| attempts.len() > 2);
            if self.pairs.len() >= self.params.pairs {
                self.pairs.clear();
            }
        }
        let pair = Pair { client: event.client.addr, server: event.server.addr, port: event.server.port };
        let attempts = self.pairs.entry(pair).or_default();
        if attempts.len() == REMEMBERED {
            attempts.pop_front();
        }
        attempts.push_back(Attempt {
            first_seen: event.first_seen,
            last_seen: event.last_seen,
            sent: event.sent_octets,
            received: event.received_octets,
        });
        self.touched.insert(pair);
    }

    fn tick(&mut self, now: Timestamp, _: &Roles) -> Vec<Finding> {
        let oldest = now - self.params.window;
        self.pairs.retain(|_, attempts| {
            attempts.retain(|attempt| attempt.last_seen >= oldest);
            !attempts.is_empty()
        });
        let touched = std::mem::take(&mut self.touched);
        touched.into_iter().filter_map(|pair| self.judge(pair)).collect()
    }

    fn is_idle(&self) -> bool {
        self.pairs.is_empty()
    }
}

impl BruteForce {
    /// A detector that has seen nothing.
    #[must_use]
    pub fn new(params: BruteForceParams) -> Self {
        Self { params, pairs: HashMap::new(), touched: BTreeSet::new() }
    }

    fn judge(&self, pair: Pair) -> Option<Finding> {
        let attempts = self.pairs.get(&pair)?;
        let known = LOGIN_PORTS.contains(&pair.port);
        let needed = if known { self.params.login_connections } else { self.params.connections };
        let alike = self.alike(attempts);
        if alike.len() < needed || (alike.len() as f64) < self.params.alike_share * attempts.len() as f64 {
            return None;
        }
        let first_seen = alike.iter().map(|attempt| attempt.first_seen).min()?;
        let last_seen = alike.iter().map(|attempt| attempt.last_seen).max()?;
        Some(Finding {
            class: Class::BruteForce,
            subject: pair.client,
            severity: Severity::High,
            attackers: BTreeSet::from([pair.client]),
            victims: BTreeSet::from([pair.server]),
            ports: BTreeSet::from([pair.port]),
            first_seen,
            last_seen,
            score: saturating_score(alike.len() as f64, needed as f64),
            chance: None,
            evidence: BTreeMap::from([
                ("connections".to_owned(), json!(alike.len())),
                ("window_s".to_owned(), json!(last_seen.since(first_seen).as_secs_f64().round())),
                ("mean_sent_octets".to_owned(), json!(mean(alike.iter().map(|attempt| attempt.sent)))),
                ("mean_received_octets".to_owned(), json!(mean(alike.iter().map(|attempt| attempt.received)))),
            ]),
        })
    }

    /// The conversations near the median in both sizes: guesses stand out among other visits of the same client.
    fn alike<'a>(&self, attempts: &'a VecDeque<Attempt>) -> Vec<&'a Attempt> {
        let near = |size: u64, median: u64| size.abs_diff(median) as f64 <= self.params.tolerance * median as f64;
        let sent = median(attempts.iter().map(|attempt| attempt.sent));
        let received = median(attempts.iter().map(|attempt| attempt.received));
        attempts.iter().filter(|attempt| near(attempt.sent, sent) && near(attempt.received, received)).collect()
    }
}

/// The upper median; 0 of nothing.
fn median(sizes: impl Iterator<Item = u64>) -> u64 {
    let mut sizes: Vec<u64> = sizes.collect();
    sizes.sort_unstable();
    sizes.get(sizes.len() / 2).copied().unwrap_or(0)
}

fn mean(sizes: impl ExactSizeIterator<Item = u64>) -> u64 {
    let count = sizes.len().max(1) as u64;
    sizes.sum::<u64>() / count
}
