//! Password guessing: one client closes many short, alike conversations with a service at which the server speaks first
//! or which is known for log-ins.
//!
//! Log-in attempts are alike in size because only the password differs, and they are short because they fail
//! (Hellemans et al. 2012, SSHCure; Najafabadi et al. 2014). Health checks and mail clients have short, alike
//! conversations too, but evenly spaced with long pauses; they stay quiet at any rate that leaves pauses.
//!
//! Of a guess every minute little is known but its size, so that over an hour it takes more of them, at services by
//! which people log in, where no conversation of the pair ever was more than an attempt. Guesses of many clients at one
//! such service, each with a few, are one attack if the clients come from outside. Guesses at what is behind the endpoint
//! mapper of RPC (Zerologon needs 256 on average, CVE-2020-1472) ask the mapper before each.

mod attempts;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use sensor_ebpf::abi::Addr;
use sensor_ebpf::packet::proto;
use serde_json::json;

use self::attempts::{Attempt, alike, is_polling, mean, medians};
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
    /// Connections in the window that decide at the endpoint mapper of RPC.
    pub rpc_connections: usize,
    /// How long an attempt counts.
    pub window: Duration,
    /// Connections in the long window that decide, at a service by which people log in.
    pub slow_connections: usize,
    /// The long window.
    pub slow_window: Duration,
    /// Clients from outside, and attempts of each on average, that decide together.
    pub clients: usize,
    /// Such attempts of each, on average.
    pub attempts_each: usize,
    /// IP octets to the server beyond which a conversation is no mere attempt.
    pub octets: u64,
    /// Sizes are alike when they differ from their median by at most this share of it.
    pub tolerance: f64,
    /// Share of the conversations that must be alike.
    pub alike_share: f64,
    /// Client, server and port triples followed at once, at most 6 KiB each; the ones with the fewest attempts give way.
    pub pairs: usize,
    /// Services followed at once for guesses of many clients, at most 10 KiB each; likewise.
    pub services: usize,
}

impl Default for BruteForceParams {
    fn default() -> Self {
        Self {
            login_connections: 5,
            connections: 8,
            rpc_connections: 100,
            window: Duration::from_secs(60),
            slow_connections: 30,
            slow_window: Duration::from_secs(3600),
            clients: 10,
            attempts_each: 3,
            octets: 16_384,
            tolerance: 0.35,
            alike_share: 0.6,
            pairs: 4096,
            services: 256,
        }
    }
}

/// Services whose protocol begins with a log-in, whoever speaks first: Telnet, SMB, RDP, VNC, databases, WinRM.
/// FTP and SSH are among them for their lower threshold.
const LOGIN_PORTS: [u16; 12] = [21, 22, 23, 139, 445, 1433, 3306, 3389, 5432, 5900, 5985, 5986];
/// Services at which the client speaks first: where the server seems to, the beginning was not seen.
const WEB_PORTS: [u16; 4] = [80, 443, 8080, 8443];
/// Services by which people log in: programs hold few conversations with them.
const PEOPLE_PORTS: [u16; 5] = [21, 22, 23, 3389, 5900];
/// Services with which programs hold short, alike conversations as fast as they can.
const DATABASE_PORTS: [u16; 3] = [1433, 3306, 5432];
/// How many more it takes there.
const DATABASE: usize = 4;
/// The endpoint mapper of RPC, and the first of the ports that it maps to.
const MAPPER: u16 = 135;
const MAPPED: u16 = 49_152;
/// Ports listed beside that of the mapper.
const MAPPED_LISTED: usize = 8;
/// Share that must be alike when there is no other reason to take conversations for guesses than their number.
const NEARLY_ALL: f64 = 0.9;
/// Attempts remembered of one triple.
const REMEMBERED: usize = 256;
/// Between reports that belong together.
const TOGETHER: Duration = Duration::from_secs(60);

/// Password guessing by every client.
#[derive(Debug)]
pub struct BruteForce {
    params: BruteForceParams,
    pairs: HashMap<Pair, Guesses>,
    services: HashMap<(Addr, u16), VecDeque<(Addr, Attempt)>>,
    touched: BTreeSet<Pair>,
    next_sweep: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Pair {
    server: Addr,
    port: u16,
    client: Addr,
}

#[derive(Debug, Default)]
struct Guesses {
    attempts: VecDeque<Attempt>,
    /// The conversation that moved most.
    largest: Option<Attempt>,
    /// Where the mapper of RPC sent the client.
    mapped: BTreeSet<u16>,
    /// When slow guesses were last reported, and how many.
    reported: Option<(Timestamp, usize)>,
}

impl Detector for BruteForce {
    fn observe(&mut self, event: &FlowEvent) {
        if event.proto != proto::TCP || event.outcome != Outcome::Served {
            return;
        }
        let port = event.server.port;
        let pair = Pair { client: event.client.addr, server: event.server.addr, port };
        let begins = event.is_new || event.before != Outcome::Served;
        if port >= MAPPED
            && begins
            && let Some(guesses) = self.pairs.get_mut(&Pair { port: MAPPER, ..pair })
            && guesses.mapped.len() < MAPPED_LISTED
        {
            guesses.mapped.insert(port);
        }
        let greets = event.first_speaker == Some(Side::Server) && !WEB_PORTS.contains(&port);
        let is_login = greets || LOGIN_PORTS.contains(&port);
        if is_login && let Some(guesses) = self.pairs.get_mut(&pair) {
            let fresh = Attempt::of(event);
            if guesses.largest.is_none_or(|largest| fresh.received >= largest.received) {
                guesses.largest = Some(fresh);
                self.touched.insert(pair);
            }
        }
        let over = if port == MAPPER { begins } else { is_login && event.closing_is_new };
        if !over || event.sent_octets > self.params.octets {
            return;
        }
        self.make_room();
        let attempt = Attempt::of(event);
        let guesses = self.pairs.entry(pair).or_default();
        push(&mut guesses.attempts, attempt);
        if PEOPLE_PORTS.contains(&port) {
            push(self.services.entry((pair.server, port)).or_default(), (pair.client, attempt));
        }
        self.touched.insert(pair);
    }

    fn tick(&mut self, now: Timestamp, roles: &Roles) -> Vec<Finding> {
        if now >= self.next_sweep {
            self.next_sweep = now + self.params.window / 4;
            self.sweep(now);
        }
        let touched = std::mem::take(&mut self.touched);
        let mut findings = Vec::new();
        let mut judged = None;
        for pair in touched {
            findings.extend(self.judge(pair, now).or_else(|| self.judge_slow(pair, now)));
            let service = (pair.server, pair.port);
            if judged.replace(service) != Some(service) {
                findings.extend(self.judge_service(service, now, roles));
            }
        }
        findings
    }

    fn is_idle(&self) -> bool {
        self.touched.is_empty()
    }
}

impl BruteForce {
    /// A detector that has seen nothing.
    #[must_use]
    pub fn new(params: BruteForceParams) -> Self {
        Self {
            params,
            pairs: HashMap::new(),
            services: HashMap::new(),
            touched: BTreeSet::new(),
            next_sweep: Timestamp::EPOCH,
        }
    }

    fn make_room(&mut self) {
        const FEW: usize = 2;
        if self.pairs.len() >= self.params.pairs {
            self.pairs.retain(|_, guesses| guesses.attempts.len() > FEW);
            if self.pairs.len() > self.params.pairs / 2 {
                self.pairs.clear();
            }
        }
        if self.services.len() >= self.params.services {
            self.services.retain(|_, attempts| attempts.len() > FEW);
            if self.services.len() > self.params.services / 2 {
                self.services.clear();
            }
        }
    }

    fn sweep(&mut self, now: Timestamp) {
        let params = self.params;
        self.pairs.retain(|pair, guesses| {
            let window = if PEOPLE_PORTS.contains(&pair.port) { params.slow_window } else { params.window };
            let oldest = now - window;
            guesses.attempts.retain(|attempt| attempt.last_seen >= oldest);
            !guesses.attempts.is_empty()
        });
        let oldest = now - params.slow_window / 6;
        self.services.retain(|_, attempts| {
            attempts.retain(|(_, attempt)| attempt.last_seen >= oldest);
            !attempts.is_empty()
        });
    }

    fn judge(&self, pair: Pair, now: Timestamp) -> Option<Finding> {
        let guesses = self.pairs.get(&pair)?;
        let oldest = now - self.params.window;
        let attempts: Vec<Attempt> =
            guesses.attempts.iter().copied().filter(|attempt| attempt.last_seen >= oldest).collect();
        let (needed, share) = match pair.port {
            MAPPER => (self.params.rpc_connections, NEARLY_ALL),
            port if DATABASE_PORTS.contains(&port) => (DATABASE * self.params.login_connections, NEARLY_ALL),
            port if LOGIN_PORTS.contains(&port) => (self.params.login_connections, self.params.alike_share),
            _ => (self.params.connections, self.params.alike_share),
        };
        if attempts.len() < needed {
            return None;
        }
        let alike = alike(&attempts, self.params.tolerance);
        if alike.len() < needed || (alike.len() as f64) < share * attempts.len() as f64 || is_polling(&alike) {
            return None;
        }
        Some(self.finding(pair, guesses, &alike, needed))
    }

    fn judge_slow(&mut self, pair: Pair, now: Timestamp) -> Option<Finding> {
        let guesses = self.pairs.get(&pair)?;
        if !PEOPLE_PORTS.contains(&pair.port) || guesses.attempts.len() < self.params.slow_connections {
            return None;
        }
        let oldest = now - self.params.slow_window;
        let attempts: Vec<Attempt> =
            guesses.attempts.iter().copied().filter(|attempt| attempt.last_seen >= oldest).collect();
        let alike = alike(&attempts, self.params.tolerance);
        // Where something else is done than to fail, the rest may be work too.
        let works = guesses.largest.is_some_and(|largest| largest.exceeds(medians(&attempts)));
        if works
            || alike.len() < self.params.slow_connections
            || (alike.len() as f64) < NEARLY_ALL * attempts.len() as f64
            || is_polling(&alike)
        {
            return None;
        }
        let is_news = guesses.reported.is_none_or(|(at, told)| now.since(at) <= TOGETHER || alike.len() >= 2 * told);
        let finding = is_news.then(|| self.finding(pair, guesses, &alike, self.params.slow_connections))?;
        self.pairs.get_mut(&pair)?.reported = Some((now, alike.len()));
        Some(finding)
    }

    fn judge_service(&self, service: (Addr, u16), now: Timestamp, roles: &Roles) -> Option<Finding> {
        let oldest = now - self.params.slow_window / 6;
        let attempts = self.services.get(&service)?;
        let needed = self.params.clients * self.params.attempts_each;
        if attempts.len() < needed {
            return None;
        }
        let recent: Vec<(Addr, Attempt)> = attempts
            .iter()
            .copied()
            .filter(|(client, attempt)| attempt.last_seen >= oldest && !roles.is_local(*client))
            .collect();
        let clients: BTreeSet<Addr> = recent.iter().map(|&(client, _)| client).collect();
        let attempts: Vec<Attempt> = recent.into_iter().map(|(_, attempt)| attempt).collect();
        let alike = alike(&attempts, self.params.tolerance);
        if clients.len() < self.params.clients
            || alike.len() < self.params.attempts_each * clients.len()
            || (alike.len() as f64) < NEARLY_ALL * attempts.len() as f64
        {
            return None;
        }
        let pair = Pair { server: service.0, port: service.1, client: service.0 };
        let finding = self.finding(pair, &Guesses::default(), &alike, needed);
        Some(Finding { attackers: clients, ..finding })
    }

    fn finding(&self, pair: Pair, guesses: &Guesses, alike: &[Attempt], needed: usize) -> Finding {
        let first_seen = alike.iter().map(|attempt| attempt.first_seen).min().unwrap_or_default();
        let last_seen = alike.iter().map(|attempt| attempt.last_seen).max().unwrap_or_default();
        let mut evidence = BTreeMap::from([
            ("connections".to_owned(), json!(alike.len())),
            ("window_s".to_owned(), json!(last_seen.since(first_seen).as_secs_f64().round())),
            ("mean_sent_octets".to_owned(), json!(mean(alike.iter().map(|attempt| attempt.sent)))),
            ("mean_received_octets".to_owned(), json!(mean(alike.iter().map(|attempt| attempt.received)))),
        ]);
        let succeeded =
            guesses.largest.is_some_and(|largest| largest.first_seen > first_seen && largest.exceeds(medians(alike)));
        if succeeded {
            evidence.insert("login_succeeded".to_owned(), json!(true));
        }
        let mut ports = guesses.mapped.clone();
        ports.insert(pair.port);
        Finding {
            class: Class::BruteForce,
            subject: pair.client,
            severity: if succeeded { Severity::Critical } else { Severity::High },
            attackers: BTreeSet::from([pair.client]),
            victims: BTreeSet::from([pair.server]),
            ports,
            first_seen,
            last_seen,
            score: saturating_score(alike.len() as f64, needed as f64),
            chance: None,
            evidence,
        }
    }
}

/// Of too many the oldest gives way.
fn push<T>(attempts: &mut VecDeque<T>, attempt: T) {
    if attempts.len() == REMEMBERED {
        attempts.pop_front();
    }
    attempts.push_back(attempt);
}
