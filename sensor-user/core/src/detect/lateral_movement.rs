//! Moving through a network: a host reaches for the administration of others that it never dealt with.
//!
//! Who administers whom hardly ever changes, so that the first log-in of one host at another is rare, and several of
//! them within an hour are rarer still (new edges of the log-in graph: Bowman et al., "Detecting lateral movement in
//! enterprise computer networks with unsupervised graph AI", RAID 2020; King, Huang, "Euler", NDSS 2022). First contacts
//! are counted per host against a Poisson process with the rate that the whole network has shown; a host that was itself
//! reached for the first time within the hour goes on with a chain, and the step before counts too.
//!
//! Nothing is new while the network is being learned, and a host that administers many from the beginning is known for it.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use sensor_ebpf::abi::Addr;
use sensor_ebpf::packet::proto;
use serde_json::json;

use super::{Chance, Detector, Finding, saturating_score};
use crate::bounded::make_room;
use crate::flow::{FlowEvent, Outcome};
use crate::incident::{Class, Severity};
use crate::roles::Roles;
use crate::time::Timestamp;

/// Parameters of the test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LateralMovementParams {
    /// Hosts administered for the first time within the window that decide.
    pub hosts: usize,
    /// How long a first contact counts.
    pub window: Duration,
    /// How long the network is learned before anything is new.
    pub learning: Duration,
    /// Pairs of hosts remembered; the least recently seen give way.
    pub pairs: usize,
}

impl Default for LateralMovementParams {
    fn default() -> Self {
        Self { hosts: 4, window: Duration::from_secs(3600), learning: Duration::from_secs(600), pairs: 65_536 }
    }
}

/// Ports of administration: SSH, Telnet, RPC, NetBIOS, SMB, RDP, VNC, WinRM.
const ADMINISTRATION: [u16; 9] = [22, 23, 135, 139, 445, 3389, 5900, 5985, 5986];
/// IP octets to the server beyond which a conversation was more than a knock or a failed log-in.
const USED: u64 = 1500;

/// First contacts between hosts of ours.
#[derive(Debug)]
pub struct LateralMovement {
    params: LateralMovementParams,
    began: Option<Timestamp>,
    /// Who administers whom, and when that was last seen.
    pairs: HashMap<(Addr, Addr), Timestamp>,
    /// First contacts of the window, oldest first.
    recent: VecDeque<Step>,
    /// First contacts since the network is known.
    first_contacts: u64,
    touched: BTreeSet<Addr>,
}

#[derive(Clone, Copy, Debug)]
struct Step {
    from: Addr,
    to: Addr,
    port: u16,
    first_seen: Timestamp,
    at: Timestamp,
}

impl LateralMovement {
    /// A detector that has seen nothing.
    #[must_use]
    pub fn new(params: LateralMovementParams) -> Self {
        Self {
            params,
            began: None,
            pairs: HashMap::new(),
            recent: VecDeque::new(),
            first_contacts: 0,
            touched: BTreeSet::new(),
        }
    }

    fn is_learning(&self, at: Timestamp) -> bool {
        self.began.is_none_or(|began| at.since(began) < self.params.learning)
    }

    fn judge(&self, from: Addr, now: Timestamp, roles: &Roles) -> Option<Finding> {
        let inside = |step: &&Step| roles.is_local(step.from) && roles.is_local(step.to);
        let own: Vec<&Step> = self.recent.iter().filter(inside).filter(|step| step.from == from).collect();
        // The step by which the host was reached itself, before its own first one.
        let first = own.iter().map(|step| step.first_seen).min()?;
        let before = self.recent.iter().filter(inside).find(|step| step.to == from && step.first_seen < first);
        let reached: BTreeSet<Addr> = own.iter().map(|step| step.to).collect();
        let steps = reached.len() + usize::from(before.is_some());
        if steps < self.params.hosts {
            return None;
        }
        let log_p = self.log_p(steps, now);
        let mut evidence = BTreeMap::from([
            ("new_hosts".to_owned(), json!(reached.len())),
            ("first_contacts_before".to_owned(), json!(self.first_contacts)),
        ]);
        if let Some(before) = before {
            evidence.insert("came_from".to_owned(), json!(std::net::IpAddr::from(before.from)));
        }
        Some(Finding {
            class: Class::LateralMovement,
            subject: from,
            severity: Severity::High,
            attackers: BTreeSet::from([from]),
            victims: reached,
            ports: own.iter().map(|step| step.port).collect(),
            first_seen: first,
            last_seen: own.iter().map(|step| step.at).max()?,
            score: saturating_score(steps as f64, self.params.hosts as f64),
            chance: Some(Chance { log_p, tests_per_day: self.tests_per_day() }),
            evidence,
        })
    }

    /// Logarithm of Chernoff's bound on so many first contacts of one host in a window, if they came as they have come
    /// so far: those of all hosts together, one more than were seen.
    fn log_p(&self, steps: usize, now: Timestamp) -> f64 {
        let windows = (now.since(self.began.unwrap_or(now)).as_secs_f64() / self.params.window.as_secs_f64()).max(1.0);
        let others = self.first_contacts.saturating_sub(steps as u64);
        let mean = (others as f64 + 1.0) / windows / self.administrators();
        let steps = steps as f64;
        if steps <= mean { 0.0 } else { steps - mean - steps * (steps / mean).ln() }
    }

    fn administrators(&self) -> f64 {
        let hosts: BTreeSet<Addr> = self.recent.iter().map(|step| step.from).collect();
        hosts.len().max(1) as f64
    }

    fn tests_per_day(&self) -> f64 {
        self.administrators() * 86_400.0 / self.params.window.as_secs_f64()
    }
}

impl Detector for LateralMovement {
    fn observe(&mut self, event: &FlowEvent) {
        self.began.get_or_insert(event.last_seen);
        let contact = event.proto == proto::TCP
            && ADMINISTRATION.contains(&event.server.port)
            && event.outcome == Outcome::Served
            && event.sent_octets >= USED
            && event.received_octets >= USED;
        let (from, to) = (event.client.addr, event.server.addr);
        if !contact || from == to {
            return;
        }
        make_room(&mut self.pairs, self.params.pairs, &(from, to), |at| *at);
        let known = self.pairs.insert((from, to), event.last_seen);
        if known.is_some() || self.is_learning(event.last_seen) {
            return;
        }
        // The oldest give way: a worm is found long before.
        if self.recent.len() >= self.params.pairs / 16 {
            self.recent.pop_front();
        }
        let step = Step { from, to, port: event.server.port, first_seen: event.first_seen, at: event.last_seen };
        self.recent.push_back(step);
        self.first_contacts += 1;
        self.touched.insert(from);
    }

    fn tick(&mut self, now: Timestamp, roles: &Roles) -> Vec<Finding> {
        while self.recent.front().is_some_and(|step| now.since(step.at) >= self.params.window) {
            self.recent.pop_front();
        }
        let touched = std::mem::take(&mut self.touched);
        touched.into_iter().filter_map(|from| self.judge(from, now, roles)).collect()
    }

    fn is_idle(&self) -> bool {
        self.touched.is_empty()
    }
}
