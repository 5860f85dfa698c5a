//! Beacons: a program calls a server outside at regular intervals, as implants ask for orders.
//!
//! Calls are new connections of a client to a service, which is a port of a network (/24 or /64: many services are behind
//! several addresses). How regular they are is measured in `rhythm`, by the spread of the gaps between calls: that of
//! sleeps is bounded, that of people's clicks is not. Timing decides, and sizes that are alike and a rhythm that has gone on
//! for all that was observed add to the score, in a product so that none makes up for another:
//!
//! `score = (0.05 + 0.95 regularity)^0.6 * (0.2 + 0.8 size regularity)^0.25 * (0.2 + 0.8 span / observed)^0.1 *
//! (calls / (calls + 8))^0.3`
//!
//! Timers are everywhere, so most of what is regular is no implant. Only a candidate, with half the score, is what happens
//! within a connection that lasts (keep-alives, polling), what is asked of a server of ours (monitoring), a protocol that
//! repeats itself by nature (time, names, calls and the like over UDP), and a caller with fewer peers than the service it
//! calls: then it is the service that is being watched over, or the service is popular. A service that many of our hosts
//! call, or a connection that is held until the next call (long polling), is a candidate of full score. All else is
//! reported.
//!
//! A p-value would say nothing here: what is reported is certainly no chance, and the rival explanation is an honest timer.

mod pairs;
mod rhythm;
mod state;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use sensor_ebpf::packet::proto;
use serde_json::json;

use self::pairs::{Key, Pair, Pairs, network};
use self::rhythm::Rhythm;
pub use self::state::{BeaconState, BeaconStateError};
use super::{Detector, Finding, is_group};
use crate::flow::{FlowEvent, Outcome};
use crate::incident::{Class, Severity};
use crate::roles::Roles;
use crate::time::Timestamp;

/// Parameters of the detector.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BeaconParams {
    /// Calls that decide.
    pub calls: usize,
    /// Regularity of timing that decides, in [0, 1].
    pub regularity: f64,
    /// Regularity of sizes that decides, in [0, 1].
    pub size_regularity: f64,
    /// Shortest time between calls that is reported: what is faster waits for nothing.
    pub interval: Duration,
    /// Shortest time from the first call to the last that is reported.
    pub span: Duration,
    /// Clients beyond which a service is taken for what it says it is.
    pub clients: u32,
    /// Share of the time between calls that connections last, beyond which they are one that is renewed.
    pub held: f64,
    /// Silence within a connection after which packets of the client are another call.
    pub silence: Duration,
    /// Series of calls followed at once.
    pub pairs: usize,
    /// Calls remembered in all.
    pub remembered: usize,
}

impl Default for BeaconParams {
    fn default() -> Self {
        Self {
            calls: 24,
            regularity: 0.6,
            size_regularity: 0.8,
            interval: Duration::from_secs(1),
            span: Duration::from_secs(45),
            clients: 4,
            held: 0.7,
            silence: Duration::from_secs(5),
            pairs: 16_384,
            remembered: 524_288,
        }
    }
}

/// Calls of which a candidate is made.
const CANDIDATE_CALLS: usize = 4;
/// Beacons followed at once after they were reported.
const ALIVE: usize = 1024;
/// Time between two findings of a beacon that goes on: shorter than incidents stay open in silence.
const REPEAT: Duration = Duration::from_secs(20);
/// How many intervals without a call end a beacon, and how long it may take at least and at most.
const MISSED: u32 = 8;
const LINGER: [Duration; 2] = [Duration::from_secs(600), Duration::from_secs(86_400)];
/// Share of the score of what would not be reported.
const UNLIKELY: f64 = 0.5;
/// Services over UDP above 1023 that repeat themselves by nature: RADIUS, SSDP, STUN, WS-Discovery, IPsec through NAT, RTP,
/// SIP, NAT-PMP, mDNS, LLMNR.
const RECURRENT: [u16; 16] =
    [1812, 1813, 1900, 3478, 3479, 3480, 3481, 3702, 4500, 5004, 5060, 5061, 5350, 5351, 5353, 5355];

/// Regular calls of every client.
#[derive(Debug)]
pub struct Beacon {
    params: BeaconParams,
    pairs: Pairs,
    touched: BTreeSet<Key>,
    alive: BTreeMap<Key, Alive>,
    /// First call.
    began: Option<Timestamp>,
}

/// A beacon that was reported and goes on.
#[derive(Debug)]
struct Alive {
    finding: Finding,
    /// When it was reported last; nothing if what is known now was not.
    told: Option<Timestamp>,
    until: Timestamp,
}

/// A series of calls with what is regular about it.
#[derive(Clone, Debug, PartialEq)]
pub struct BeaconCandidate {
    /// Who calls.
    pub client: IpAddr,
    /// The address called most.
    pub server: IpAddr,
    /// Port of the service.
    pub port: u16,
    /// IANA protocol number.
    pub proto: u8,
    /// In [0, 1].
    pub score: f64,
    /// Calls, connections of one burst taken together.
    pub connections: usize,
    /// Median time between calls, in seconds.
    pub interval_s: f64,
    /// By which share of the interval the gaps vary either way.
    pub jitter: f64,
    /// From the first call remembered to the last, in seconds.
    pub span_s: f64,
    /// Whether it was reported.
    pub reported: bool,
}

impl Detector for Beacon {
    fn observe(&mut self, event: &FlowEvent) {
        if event.outcome == Outcome::Unasked
            || matches!(event.proto, proto::ICMP | proto::ICMPV6)
            || is_group(event.server.addr)
        {
            return;
        }
        self.began.get_or_insert(event.first_seen);
        let key = Key {
            client: event.client.addr,
            network: network(event.server.addr),
            port: event.server.port,
            proto: event.proto,
            within: false,
        };
        if event.is_new && self.is_fresh(&key, event) {
            self.pairs.call(key, event, event.first_seen);
            self.touched.insert(key);
        } else {
            self.resumed(key, event);
        }
    }

    fn tick(&mut self, now: Timestamp, roles: &Roles) -> Vec<Finding> {
        for key in std::mem::take(&mut self.touched) {
            self.judge(&key, now, roles);
        }
        let mut findings = Vec::new();
        let (pairs, calls) = (&mut self.pairs, self.params.calls as u64);
        self.alive.retain(|key, alive| {
            if alive.told.is_none_or(|told| now.since(told) >= REPEAT) {
                alive.told = Some(now);
                findings.push(alive.finding.clone());
            }
            let goes_on = now < alive.until;
            if let Some(pair) = pairs.get_mut(key).filter(|_| !goes_on) {
                // Begun again, it has to show itself again.
                pair.due = pair.total + calls;
            }
            goes_on
        });
        findings
    }

    fn is_idle(&self) -> bool {
        self.touched.is_empty() && self.alive.is_empty()
    }
}

impl Beacon {
    /// A detector that has seen nothing.
    #[must_use]
    pub fn new(params: BeaconParams) -> Self {
        Self {
            params,
            pairs: Pairs::new(params.pairs, params.remembered),
            touched: BTreeSet::new(),
            alive: BTreeMap::new(),
            began: None,
        }
    }

    /// Series of calls to the same service, most regular first.
    #[must_use]
    pub fn candidates(&self, roles: &Roles) -> Vec<BeaconCandidate> {
        let mut candidates: Vec<BeaconCandidate> =
            self.pairs.iter().filter_map(|(key, pair)| self.candidate(key, pair, roles)).collect();
        candidates.sort_by(|a, b| {
            let ends =
                |candidate: &BeaconCandidate| (candidate.client, candidate.server, candidate.port, candidate.proto);
            b.score.total_cmp(&a.score).then_with(|| ends(a).cmp(&ends(b)))
        });
        // New connections and what happens within them may both be regular: the pair is named once.
        let mut named = BTreeSet::new();
        candidates.retain(|one| named.insert((one.client, one.server, one.port, one.proto)));
        candidates
    }

    /// What is remembered, to be resumed after a restart.
    #[must_use]
    pub fn state(&self) -> BeaconState {
        BeaconState::of(&self.pairs, self.began)
    }

    /// Goes on with what an earlier process has remembered.
    pub fn resume(&mut self, state: &BeaconState) {
        self.began = state.began().or(self.began);
        state.fill(&mut self.pairs, self.params.pairs, self.params.remembered);
    }

    /// Whether a flow that the table has not had before is a new connection. A flow that was forgotten in silence goes on
    /// without a SYN, or, where there is none, from the same port.
    fn is_fresh(&self, key: &Key, event: &FlowEvent) -> bool {
        if event.proto == proto::TCP {
            return event.sent.syns > 0;
        }
        let within = Key { within: true, ..*key };
        let same = |pair: &Pair| pair.client_port == event.client.port;
        !self.pairs.get(key).is_some_and(same) && !self.pairs.get(&within).is_some_and(same)
    }

    /// Takes in packets of a connection that is not new: after a silence they are a call of their own kind.
    fn resumed(&mut self, key: Key, event: &FlowEvent) {
        let within = Key { within: true, ..key };
        let mut active = None;
        if let Some(pair) = self.pairs.get_mut(&key) {
            active = Some(pair.active);
            pair.update(event);
        }
        if event.sent.packets == 0 || event.closing {
            return;
        }
        if let Some(pair) = self.pairs.get_mut(&within) {
            active = active.max(Some(pair.active));
            pair.active = pair.active.max(event.last_seen);
        }
        if active.is_none_or(|active| event.last_seen.since(active) >= self.params.silence) {
            self.pairs.call(within, event, event.last_seen);
        }
    }

    fn judge(&mut self, key: &Key, now: Timestamp, roles: &Roles) {
        let least = self.params.calls;
        let Some(pair) = self.pairs.get_mut(key) else { return };
        if pair.calls.len() < least || pair.total < pair.due {
            return;
        }
        pair.due = pair.total + (pair.calls.len() as u64 / 16).max(1);
        let Some(finding) = self.finding(key, roles) else { return };
        let Some(pair) = self.pairs.get_mut(key) else { return };
        let interval = finding.evidence.get("interval_s").and_then(serde_json::Value::as_f64).unwrap_or(0.0);
        let patience = Duration::try_from_secs_f64(interval * f64::from(MISSED)).unwrap_or(LINGER[1]);
        let until = pair.latest + patience.clamp(LINGER[0], LINGER[1]);
        if self.alive.len() < ALIVE || self.alive.contains_key(key) {
            pair.reported = true;
            let told = self.alive.get(key).and_then(|alive| alive.told);
            // A beacon known since an earlier run may have ended meanwhile.
            if now < until {
                self.alive.insert(*key, Alive { finding, told, until });
            }
        }
    }

    fn finding(&self, key: &Key, roles: &Roles) -> Option<Finding> {
        let pair = self.pairs.get(key)?;
        let (rhythm, score) = self.measure(key, pair, roles)?;
        let params = &self.params;
        let is_beacon = rhythm.calls >= params.calls
            && rhythm.regularity >= params.regularity
            && rhythm.size_regularity >= params.size_regularity
            && rhythm.interval_s >= params.interval.as_secs_f64()
            && rhythm.span_s >= params.span.as_secs_f64()
            && rhythm.held <= params.held
            && self.pairs.clients(key) <= params.clients
            && self.is_likely(key, pair, roles);
        if !is_beacon {
            return None;
        }
        let first_seen = pair.latest - Duration::try_from_secs_f64(rhythm.span_s).unwrap_or_default();
        let rounded = |value: f64| (value * 1e3).round() / 1e3;
        Some(Finding {
            class: Class::Beacon,
            subject: key.client,
            severity: Severity::High,
            attackers: BTreeSet::from([key.client]),
            victims: pair.servers.iter().map(|(addr, _)| *addr).collect(),
            ports: BTreeSet::from([key.port]),
            first_seen,
            last_seen: pair.active.max(pair.latest),
            score,
            chance: None,
            evidence: BTreeMap::from([
                ("connections".to_owned(), json!(rhythm.calls)),
                ("interval_s".to_owned(), json!(rounded(rhythm.interval_s))),
                ("jitter".to_owned(), json!(rounded(rhythm.jitter))),
                ("regularity".to_owned(), json!(rounded(rhythm.regularity))),
                ("size_regularity".to_owned(), json!(rounded(rhythm.size_regularity))),
                ("span_s".to_owned(), json!(rounded(rhythm.span_s))),
                ("mean_sent_octets".to_owned(), json!(rhythm.mean_sent)),
                ("mean_received_octets".to_owned(), json!(rhythm.mean_received)),
            ]),
        })
    }

    fn measure(&self, key: &Key, pair: &Pair, roles: &Roles) -> Option<(Rhythm, f64)> {
        let calls: Vec<_> = pair.calls.iter().copied().collect();
        let rhythm = Rhythm::of(&calls)?;
        let observed = pair.latest.since(self.began?).as_secs_f64();
        let lasting = if observed > 0.0 { (rhythm.span_s / observed).min(1.0) } else { 0.0 };
        let calls = rhythm.calls as f64;
        let score = (0.05 + 0.95 * rhythm.regularity).powf(0.6)
            * (0.2 + 0.8 * rhythm.size_regularity).powf(0.25)
            * (0.2 + 0.8 * lasting).powf(0.1)
            * (calls / (calls + 8.0)).powf(0.3);
        let likely = if self.is_likely(key, pair, roles) { 1.0 } else { UNLIKELY };
        Some((rhythm, score * likely))
    }

    /// Whether it is of the kind that is reported.
    fn is_likely(&self, key: &Key, pair: &Pair, roles: &Roles) -> bool {
        let is_unusual = match key.proto {
            proto::TCP => key.port != 53,
            _ => key.port > 1023 && !RECURRENT.contains(&key.port),
        };
        let is_ours = pair.servers.iter().any(|(addr, _)| roles.is_local(*addr));
        let is_caller_nearer = self.pairs.degree(key.client) >= self.pairs.degree(key.network);
        is_unusual && !key.within && !is_ours && is_caller_nearer
    }

    fn candidate(&self, key: &Key, pair: &Pair, roles: &Roles) -> Option<BeaconCandidate> {
        if pair.calls.len() < CANDIDATE_CALLS {
            return None;
        }
        let (rhythm, score) = self.measure(key, pair, roles)?;
        Some(BeaconCandidate {
            client: key.client.into(),
            server: pair.server().unwrap_or(key.network).into(),
            port: key.port,
            proto: key.proto,
            score,
            connections: rhythm.calls,
            interval_s: rhythm.interval_s,
            jitter: rhythm.jitter,
            span_s: rhythm.span_s,
            reported: pair.reported,
        })
    }
}
