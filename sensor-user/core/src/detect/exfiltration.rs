//! Data that leaves: a host sends far more than it ever has, mostly to one other that it never sent much to.
//!
//! What a host sends in 10 seconds, in a minute and in an hour is compared with its own past. The logarithm of traffic
//! volumes is close to normal (Alasmar, Clegg, Zakhleniuk, Parisis, "Internet traffic volumes are not Gaussian, they are
//! log-normal", IEEE/ACM Transactions on Networking 2021), so the p-value is that of a normal tail whose deviation is
//! never below a factor of two, and whose mean is never below [`ExfiltrationParams::usual`]. A past that is too short says
//! nothing. The receivers are followed by space-saving (Metwally, Agrawal, El Abbadi 2005); one to whom the host has sent
//! a quarter as much in one window before, such as a backup, is no news.

mod past;
mod receivers;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use sensor_ebpf::abi::Addr;
use serde_json::json;

use self::past::Past;
use self::receivers::Receivers;
use super::{Chance, Detector, Finding, is_group, saturating_score};
use crate::bounded::make_room;
use crate::flow::FlowEvent;
use crate::incident::{Class, Severity};
use crate::roles::Roles;
use crate::time::Timestamp;

/// Parameters of the test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExfiltrationParams {
    /// IP octets in ten seconds below which nothing is said; six times as many in a minute, sixty times in an hour.
    pub octets: u64,
    /// IP octets in ten seconds that are usual for any host, whatever its past; likewise.
    pub usual: u64,
    /// Windows of a length, in which the host sent anything, that make a past.
    pub past: u32,
    /// How many times more the host must send to the receiver than it gets back from there.
    pub asymmetry: f64,
    /// Share of what is sent that must go to one receiver.
    pub share: f64,
    /// Hosts followed at once; the least recently seen give way.
    pub hosts: usize,
}

impl Default for ExfiltrationParams {
    fn default() -> Self {
        Self { octets: 5_000_000, usual: 250_000, past: 10, asymmetry: 4.0, share: 0.5, hosts: 8192 }
    }
}

/// Lengths of the windows, each a multiple of the one before.
const LENGTHS: [Duration; 3] = [Duration::from_secs(10), Duration::from_secs(60), Duration::from_secs(3600)];
/// How volumes grow with the length: less than in proportion, because bursts end.
const GROWTH: [u64; LENGTHS.len()] = [1, 6, 60];

/// Unusual uploads of every host.
#[derive(Debug)]
pub struct Exfiltration {
    params: ExfiltrationParams,
    levels: [Level; LENGTHS.len()],
    hosts: HashMap<Addr, Host>,
}

/// Windows of one length that are open.
#[derive(Debug, Default)]
struct Level {
    end: Timestamp,
    open: HashMap<Addr, Window>,
}

/// What a host has moved in an open window.
#[derive(Clone, Debug, Default)]
struct Window {
    sent: u64,
    receivers: Receivers,
}

/// What a host has moved before.
#[derive(Debug, Default)]
struct Host {
    past: [Past; LENGTHS.len()],
    /// Those to whom it has sent most in one window of each length.
    known: [Receivers; LENGTHS.len()],
    last_seen: Timestamp,
}

impl Exfiltration {
    /// A detector that has seen nothing.
    #[must_use]
    pub fn new(params: ExfiltrationParams) -> Self {
        Self { params, levels: Default::default(), hosts: HashMap::new() }
    }

    fn send(&mut self, from: Addr, to: Addr, port: u16, octets: u64) {
        let open = &mut self.levels[0].open;
        for (host, sends) in [(from, true), (to, false)] {
            if open.len() >= self.params.hosts && !open.contains_key(&host) {
                continue;
            }
            let window = open.entry(host).or_default();
            // What comes back from a receiver counts once something was sent there.
            if sends {
                window.sent += octets;
                window.receivers.add(to, port, octets);
            } else {
                window.receivers.add_back(from, octets);
            }
        }
    }

    /// Ends the windows of a length, and adds them to those of the next.
    fn end(&mut self, scale: usize, now: Timestamp, roles: &Roles) -> Vec<Finding> {
        let level = &mut self.levels[scale];
        let begun = level.end - LENGTHS[scale];
        level.end = now.floor(LENGTHS[scale]) + LENGTHS[scale];
        let ended: BTreeMap<Addr, Window> = level.open.drain().collect();
        let tests_per_day = ended.len() as f64 * 86_400.0 / LENGTHS[scale].as_secs_f64();
        let mut findings = Vec::new();
        for (addr, window) in ended {
            if let Some(longer) = self.levels.get_mut(scale + 1) {
                longer.open.entry(addr).or_default().merge(&window);
            }
            if window.sent == 0 || !roles.is_local(addr) {
                continue;
            }
            make_room(&mut self.hosts, self.params.hosts, &addr, |host| host.last_seen);
            let host = self.hosts.entry(addr).or_default();
            host.last_seen = now;
            let found = judge(&self.params, scale, host, &window);
            findings.extend(found.map(|found| found.finding(addr, (begun, LENGTHS[scale]), tests_per_day, roles)));
            host.past[scale].add(window.sent);
            host.known[scale].keep_largest(&window.receivers);
        }
        findings
    }
}

impl Detector for Exfiltration {
    fn observe(&mut self, event: &FlowEvent) {
        let (client, server) = (event.client.addr, event.server.addr);
        if is_group(server) {
            return;
        }
        if event.sent.octets > 0 {
            self.send(client, server, event.server.port, event.sent.octets);
        }
        if event.received.octets > 0 {
            self.send(server, client, event.server.port, event.received.octets);
        }
    }

    fn tick(&mut self, now: Timestamp, roles: &Roles) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (scale, length) in LENGTHS.into_iter().enumerate() {
            let end = &mut self.levels[scale].end;
            if *end == Timestamp::EPOCH {
                *end = now.floor(length) + length;
            }
            if now >= *end {
                findings.extend(self.end(scale, now, roles));
            }
        }
        findings
    }

    fn is_idle(&self) -> bool {
        self.levels[..LENGTHS.len() - 1].iter().all(|level| level.open.is_empty())
    }
}

impl Window {
    fn merge(&mut self, other: &Self) {
        self.sent += other.sent;
        self.receivers.merge(&other.receivers);
    }
}

/// What is unusual about a window.
#[derive(Clone, Copy, Debug)]
struct Unusual {
    to: Addr,
    port: u16,
    octets: u64,
    before: u64,
    back: u64,
    sent: u64,
    usual: f64,
    log_p: f64,
}

fn judge(params: &ExfiltrationParams, scale: usize, host: &Host, window: &Window) -> Option<Unusual> {
    let past = &host.past[scale];
    let (to, receiver) = window.receivers.largest()?;
    let known = host.known[scale].octets_to(to);
    let (least, usual) = (params.octets * GROWTH[scale], (params.usual * GROWTH[scale]) as f64);
    let unusual = past.windows() >= params.past
        && receiver.octets >= least
        && receiver.octets as f64 >= params.asymmetry * receiver.back as f64
        && receiver.octets as f64 >= params.share * window.sent as f64
        && known.saturating_mul(4) < receiver.octets;
    unusual.then(|| Unusual {
        to,
        port: receiver.port,
        octets: receiver.octets,
        before: known,
        back: receiver.back,
        sent: window.sent,
        usual: past.usual().max(usual),
        log_p: past.log_p(window.sent, usual),
    })
}

impl Unusual {
    fn finding(
        &self,
        host: Addr,
        (begun, length): (Timestamp, Duration),
        tests_per_day: f64,
        roles: &Roles,
    ) -> Finding {
        Finding {
            class: Class::Exfiltration,
            subject: host,
            severity: if roles.is_local(self.to) { Severity::Medium } else { Severity::High },
            attackers: BTreeSet::from([host]),
            victims: BTreeSet::from([self.to]),
            ports: BTreeSet::from([self.port]),
            first_seen: begun,
            last_seen: begun + length,
            score: saturating_score((self.octets as f64).log2() - self.usual.log2(), 4.0),
            chance: Some(Chance { log_p: self.log_p, tests_per_day }),
            evidence: BTreeMap::from([
                ("sent_octets".to_owned(), json!(self.octets)),
                ("usual_octets".to_owned(), json!(self.usual.round())),
                ("window_s".to_owned(), json!(length.as_secs())),
                ("received_back_octets".to_owned(), json!(self.back)),
                ("all_sent_octets".to_owned(), json!(self.sent)),
                ("sent_before_octets".to_owned(), json!(self.before)),
            ]),
        }
    }
}
