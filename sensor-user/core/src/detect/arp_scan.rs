//! Sweeps of the local network by ARP: a station asks who has one address after another, and hardly anybody answers.
//!
//! It is the sequential test of [`super::Scan`] on questions: `failed - answered >= margin` over distinct addresses, where
//! an address fails that has not spoken within a second, or before it is asked for again. A sweep covers a block of addresses, whereas stale tables and
//! old log files name a few here and there: addresses that cover less than half of their range need four times as many.
//!
//! Gateways ask for whatever the outside looks for. Whoever many other stations ask for is one, and so is who asks under
//! several names: their questions are not their own. Where no answer to the station was ever seen, answers may go
//! unseen: then addresses count that it asked for again, as one does in vain.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use sensor_ebpf::abi::{Addr, ArpMessage, MacAddr};
use sensor_ebpf::packet::arp::{REPLY, REQUEST};
use serde_json::json;

use super::{Detector, Finding, saturating_score};
use crate::arp::{ArpTable, Place};
use crate::bounded::make_room;
use crate::flow::FlowEvent;
use crate::incident::{Class, Severity};
use crate::roles::Roles;
use crate::time::Timestamp;

/// Parameters of the test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ArpScanParams {
    /// Failed minus answered addresses that decide, when they cover most of their range.
    pub margin: usize,
    /// How long a question counts.
    pub window: Duration,
    /// Stations followed at once; when there are more, the half that asked least recently gives way.
    pub stations: usize,
    /// Addresses remembered of one station, 48 octets each; when there are more, the older half gives way.
    pub targets: usize,
}

impl Default for ArpScanParams {
    fn default() -> Self {
        Self { margin: 24, window: Duration::from_secs(3600), stations: 256, targets: 512 }
    }
}

/// How much more it takes when the addresses cover less than half of their range.
const SPARSE: usize = 4;
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(1);
/// Stations that ask for an address, from which it is that of a gateway.
const GATEWAY: usize = 2;
/// Addresses for which askers are counted.
const SOUGHT: usize = 4096;
/// Between reports that belong together.
const TOGETHER: Duration = Duration::from_secs(60);

/// Sweeps by ARP of every station.
#[derive(Debug)]
pub struct ArpScan {
    params: ArpScanParams,
    askers: HashMap<Port, Asker>,
    /// By whom an address is asked for.
    sought: HashMap<Place, [MacAddr; GATEWAY]>,
    touched: BTreeSet<Port>,
    next_sweep: Timestamp,
}

type Port = (u32, MacAddr);

#[derive(Debug)]
struct Asker {
    name: Ipv4Addr,
    names: bool,
    targets: HashMap<Ipv4Addr, Target>,
    answered: usize,
    last_seen: Timestamp,
    /// When it was last reported, and with how many addresses.
    reported: Option<(Timestamp, usize)>,
}

#[derive(Clone, Copy, Debug)]
struct Target {
    first_seen: Timestamp,
    last_seen: Timestamp,
    questions: u32,
    alive: bool,
}

impl Detector for ArpScan {
    fn observe(&mut self, _: &FlowEvent) {}

    fn observe_arp(&mut self, message: &ArpMessage, at: Timestamp, table: &ArpTable) {
        self.sweep(at);
        let [sender, target] = [message.sender_ip, message.target_ip].map(Ipv4Addr::from_bits);
        let interface = message.ifindex;
        match message.operation {
            REQUEST if sender != target && !sender.is_unspecified() => {
                let place = Place { ifindex: interface, ip: target };
                let holder = table.claimant(place).map(|claim| (interface, claim.mac));
                // Who was asked for first may only want to answer.
                let holder = holder.and_then(|port| self.askers.get(&port));
                if !holder.is_some_and(|asker| asker.targets.contains_key(&sender)) {
                    self.seek(place, message.sender_mac);
                }
                let alive = table.claimant(place).is_some_and(|claim| at.since(claim.last_seen) < self.params.window);
                self.ask((interface, message.sender_mac), (sender, target), at, alive);
            }
            REPLY => {
                if let Some(asker) = self.askers.get_mut(&(interface, message.target_mac)) {
                    asker.answer(sender);
                }
            }
            _ => {}
        }
    }

    fn tick(&mut self, now: Timestamp, _: &Roles) -> Vec<Finding> {
        let touched = std::mem::take(&mut self.touched);
        let mut findings = Vec::new();
        for port in touched {
            let Some(asker) = self.askers.get_mut(&port) else {
                continue;
            };
            if now.since(asker.last_seen) < ANSWER {
                self.touched.insert(port);
            }
            let sought = self.sought.get(&Place { ifindex: port.0, ip: asker.name });
            let is_gateway = asker.names || sought.is_some_and(|by| by.iter().all(|&mac| mac != MacAddr::default()));
            if !is_gateway {
                findings.extend(asker.judge(now, &self.params));
            }
        }
        findings
    }

    fn is_idle(&self) -> bool {
        self.touched.is_empty()
    }
}

impl ArpScan {
    /// A detector that has heard nothing.
    #[must_use]
    pub fn new(params: ArpScanParams) -> Self {
        Self {
            params,
            askers: HashMap::new(),
            sought: HashMap::new(),
            touched: BTreeSet::new(),
            next_sweep: Timestamp::EPOCH,
        }
    }

    fn sweep(&mut self, at: Timestamp) {
        if at < self.next_sweep {
            return;
        }
        self.next_sweep = at + self.params.window / 4;
        let oldest = at - self.params.window;
        self.askers.retain(|_, asker| {
            asker.keep(|target| target.last_seen >= oldest);
            asker.last_seen >= oldest
        });
    }

    fn seek(&mut self, place: Place, by: MacAddr) {
        if self.sought.len() >= SOUGHT && !self.sought.contains_key(&place) {
            // Gateways are asked for by several, the targets of a sweep by one.
            self.sought.retain(|_, by| by.iter().all(|&mac| mac != MacAddr::default()));
            if self.sought.len() >= SOUGHT {
                self.sought.clear();
            }
        }
        let known = self.sought.entry(place).or_default();
        if !known.contains(&by)
            && let Some(free) = known.iter_mut().find(|mac| **mac == MacAddr::default())
        {
            *free = by;
        }
    }

    fn ask(&mut self, port: Port, (name, target): (Ipv4Addr, Ipv4Addr), at: Timestamp, alive: bool) {
        make_room(&mut self.askers, self.params.stations, &port, |asker| asker.last_seen);
        let asker = self.askers.entry(port).or_insert_with(|| Asker::new(name, at));
        asker.names |= asker.name != name;
        asker.last_seen = asker.last_seen.max(at);
        make_room(&mut asker.targets, self.params.targets, &target, |target| target.last_seen);
        asker.forget_reported();
        let fresh = Target { first_seen: at, last_seen: at, questions: 0, alive: false };
        let known = asker.targets.entry(target).or_insert(fresh);
        known.last_seen = known.last_seen.max(at);
        known.questions = known.questions.saturating_add(1);
        known.alive |= alive;
        self.touched.insert(port);
    }
}

impl Asker {
    fn new(name: Ipv4Addr, at: Timestamp) -> Self {
        Self { name, names: false, targets: HashMap::new(), answered: 0, last_seen: at, reported: None }
    }

    fn answer(&mut self, by: Ipv4Addr) {
        if let Some(target) = self.targets.get_mut(&by) {
            self.answered += 1;
            target.alive = true;
        }
    }

    fn keep(&mut self, wanted: impl Fn(&Target) -> bool) {
        self.targets.retain(|_, target| wanted(target));
        self.forget_reported();
    }

    /// Addresses that are forgotten may be found again.
    fn forget_reported(&mut self) {
        self.reported = self.reported.map(|(at, failed)| (at, failed.min(self.targets.len())));
    }

    fn judge(&mut self, now: Timestamp, params: &ArpScanParams) -> Option<Finding> {
        if self.targets.len() < params.margin {
            return None;
        }
        let oldest = now - params.window;
        let recent = || self.targets.iter().filter(|(_, target)| target.last_seen >= oldest);
        let sees_answers = self.answered > 0;
        let failed: BTreeMap<Ipv4Addr, Target> = recent()
            .filter(|(_, target)| !target.alive)
            .filter(|(_, target)| target.questions > 1 || (sees_answers && now.since(target.first_seen) >= ANSWER))
            .map(|(&ip, &target)| (ip, target))
            .collect();
        let alive = recent().filter(|(_, target)| target.alive).count();
        let (first, last) = (*failed.first_key_value()?.0, *failed.last_key_value()?.0);
        let range = usize::try_from(last.to_bits() - first.to_bits()).unwrap_or(usize::MAX).saturating_add(1);
        let margin = if 2 * (failed.len() + alive) >= range { params.margin } else { SPARSE * params.margin };
        if failed.len() < margin + alive {
            return None;
        }
        // A slow sweep is told of again when it has doubled.
        if let Some((at, told)) = self.reported
            && (failed.len() <= told || (now.since(at) > TOGETHER && failed.len() < 2 * told))
        {
            return None;
        }
        self.reported = Some((now, failed.len()));
        Some(self.finding(&failed, alive, margin))
    }

    fn finding(&self, failed: &BTreeMap<Ipv4Addr, Target>, alive: usize, margin: usize) -> Finding {
        let addr = |ip: Ipv4Addr| Addr::from(IpAddr::V4(ip));
        Finding {
            class: Class::HostScan,
            subject: addr(self.name),
            severity: Severity::Medium,
            attackers: BTreeSet::from([addr(self.name)]),
            victims: failed.keys().map(|&ip| addr(ip)).collect(),
            ports: BTreeSet::new(),
            first_seen: failed.values().map(|target| target.first_seen).min().unwrap_or_default(),
            last_seen: failed.values().map(|target| target.last_seen).max().unwrap_or_default(),
            score: saturating_score(failed.len() as f64, margin as f64),
            chance: None,
            evidence: BTreeMap::from([
                ("failed_contacts".to_owned(), json!(failed.len())),
                ("served_contacts".to_owned(), json!(alive)),
                ("unanswered".to_owned(), json!(failed.len())),
                ("refused".to_owned(), json!(0)),
                ("protocols".to_owned(), json!(["arp"])),
            ]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stations_and_what_they_ask_for_are_bounded() {
        let mut detector = ArpScan::new(ArpScanParams::default());
        let table = ArpTable::default();
        for n in 0..40_000_u32 {
            let station = if n % 2 == 0 { 1 } else { n };
            let message = ArpMessage {
                operation: REQUEST,
                sender_mac: MacAddr(0x0200_0000_0000 | u64::from(station)),
                sender_ip: 0x0a00_0000 + station,
                target_ip: 0x0a10_0000 + n,
                ..ArpMessage::default()
            };
            detector.observe_arp(&message, Timestamp::from_nanos(1 << 40 | u64::from(n)), &table);
            assert!(detector.askers.len() <= detector.params.stations && detector.sought.len() <= SOUGHT);
        }
        assert!(detector.askers.values().all(|asker| asker.targets.len() <= detector.params.targets));
    }
}
