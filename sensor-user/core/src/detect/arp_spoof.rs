//! ARP spoofing: a station answers for addresses that belong to others, so that their packets come to it.
//!
//! ARP believes whoever speaks last (RFC 826), so liars speak unasked, to the one they lie to, and again and again, lest
//! the truth be heard (arpwatch's flip-flops and Snort's arpspoof preprocessor look for parts of this). An unasked answer,
//! an address that moves, or a station with several addresses is by itself nothing: failover (VRRP, keepalived), re-used
//! leases, routers, aliases, bonded interfaces and proxies all do that. So a lie needs two tells that exclude them:
//!
//! - unasked, directed answers for X, and the station itself asks who has X, under another name: it must know whom it
//!   pretends to be, in order to pass the packets on, whereas who has an address does not ask for it;
//! - unasked, directed answers that tell X it is T and tell T it is X: the man in the middle;
//! - `repeated` unasked, directed answers for X by a station that has another address and has never answered for X when
//!   asked; or for an X that its owner keeps claiming and takes back, while the owner does not claim the liar's address;
//! - `repeated` announcements of an X that its owner takes back as often, and which the station itself asks for.
//!
//! An answer is unasked when nobody else has asked for X within `answered`, or when that question had its answer before;
//! and the one who was told has been seen answering others: so his own questions would have been seen too. What comes at
//! once answers, even if it is the second: two interfaces of one host both do (`arp_ignore` of Linux).

mod station;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use sensor_ebpf::abi::{Addr, ArpMessage, MacAddr};
use sensor_ebpf::packet::arp::{REPLY, REQUEST};
use serde_json::json;

use self::station::{Claim, Station};
use super::{Detector, Finding, saturating_score};
use crate::arp::{ArpTable, Place};
use crate::bounded::make_room;
use crate::incident::{Class, Severity};
use crate::roles::Roles;
use crate::time::Timestamp;

/// Parameters of the detector.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ArpSpoofParams {
    /// Unasked claims of one address that count as repeated.
    pub repeated: u32,
    /// How long after a question an answer is an answer to it.
    pub answered: Duration,
    /// How long what a station said is remembered.
    pub memory: Duration,
    /// Stations followed at once, at most 3 KiB each; when there are more, the least recently heard half give way.
    pub stations: usize,
    /// Addresses asked for within `answered`; while there are more, no answer counts as unasked.
    pub questions: usize,
}

impl Default for ArpSpoofParams {
    fn default() -> Self {
        Self {
            repeated: 3,
            answered: Duration::from_secs(10),
            memory: Duration::from_secs(1800),
            stations: 1024,
            questions: 4096,
        }
    }
}

/// Stations that answer for others.
#[derive(Debug)]
pub struct ArpSpoof {
    params: ArpSpoofParams,
    stations: HashMap<Port, Station>,
    questions: HashMap<Place, Question>,
    /// Until when an answer may be one to a question that found no room.
    blind_until: Timestamp,
    /// Stations that lied since the last tick.
    touched: BTreeSet<Port>,
    next_sweep: Timestamp,
}

/// A station on the network behind an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Port {
    ifindex: u32,
    mac: MacAddr,
}

/// Who asked for an address last, and when somebody else did.
#[derive(Clone, Copy, Debug)]
struct Question {
    asker: MacAddr,
    at: Timestamp,
    /// When somebody else asked, and whether that was answered.
    others: Option<(Timestamp, bool)>,
    /// Whether anybody has answered since.
    answered: bool,
}

/// How soon after a question an answer is one for sure.
const PROMPT: Duration = Duration::from_millis(200);

impl Detector for ArpSpoof {
    fn observe(&mut self, _: &crate::flow::FlowEvent) {}

    fn observe_arp(&mut self, message: &ArpMessage, at: Timestamp, table: &ArpTable) {
        let port = Port { ifindex: message.ifindex, mac: message.sender_mac };
        let [sender, target] = [message.sender_ip, message.target_ip].map(Ipv4Addr::from_bits);
        self.sweep(at);
        let place = Place { ifindex: message.ifindex, ip: sender };
        if sender.is_unspecified() && message.operation == REQUEST {
            self.ask(Place { ip: target, ..place }, port.mac, at);
        }
        if sender.is_unspecified() || sender.is_multicast() || sender.is_broadcast() || port.mac.is_group() {
            return;
        }
        // An announcement says something to everyone, and is meant to be unasked (RFC 5227).
        let announces = sender == target || message.target_mac.is_group();
        match message.operation {
            REQUEST if !announces => {
                self.ask(Place { ip: target, ..place }, port.mac, at);
                let station = self.station(port, at);
                station.claim(sender, at).questions += 1;
                station.wonder(target, at);
            }
            REQUEST | REPLY if announces => {
                let changes = changes(table, place);
                self.station(port, at).claim(sender, at).announced(changes);
            }
            REPLY => {
                let asked = self.is_asked(place, port.mac, at);
                if let Some(question) = self.questions.get_mut(&place) {
                    question.answered = true;
                    question.others = question.others.map(|(at, _)| (at, true));
                }
                let seen = self.answers(Place { ip: target, ..place }, message.target_mac);
                let claim = self.station(port, at).claim(sender, at);
                if asked {
                    claim.answers += 1;
                } else if seen {
                    claim.unasked(target, changes(table, place));
                }
            }
            _ => return,
        }
        self.judge(port, sender, table);
        if message.operation == REQUEST {
            self.judge(port, target, table);
        }
    }

    fn tick(&mut self, _: Timestamp, _: &Roles) -> Vec<Finding> {
        let touched = std::mem::take(&mut self.touched);
        touched.into_iter().filter_map(|port| self.finding(port)).collect()
    }

    fn is_idle(&self) -> bool {
        self.touched.is_empty()
    }
}

impl ArpSpoof {
    /// A detector that has heard nothing.
    #[must_use]
    pub fn new(params: ArpSpoofParams) -> Self {
        Self {
            params,
            stations: HashMap::new(),
            questions: HashMap::new(),
            blind_until: Timestamp::EPOCH,
            touched: BTreeSet::new(),
            next_sweep: Timestamp::EPOCH,
        }
    }

    fn sweep(&mut self, at: Timestamp) {
        if at < self.next_sweep {
            return;
        }
        self.next_sweep = at + self.params.memory / 4;
        let oldest = at - self.params.memory;
        self.stations.retain(|_, station| {
            station.forget(oldest);
            station.last_seen >= oldest
        });
        let oldest = at - self.params.answered;
        self.questions.retain(|_, question| question.at >= oldest);
    }

    fn ask(&mut self, place: Place, asker: MacAddr, at: Timestamp) {
        if self.questions.len() >= self.params.questions && !self.questions.contains_key(&place) {
            if at < self.blind_until {
                return;
            }
            let oldest = at - self.params.answered;
            self.questions.retain(|_, question| question.at >= oldest);
            if self.questions.len() >= self.params.questions {
                self.questions.clear();
                self.blind_until = at + self.params.answered;
            }
        }
        let question = self.questions.entry(place).or_insert(Question { asker, at, others: None, answered: false });
        if question.asker != asker {
            question.others = Some((question.at, question.answered));
            question.asker = asker;
        }
        question.at = at;
        question.answered = false;
    }

    /// Whether somebody else than the one who answers has asked for an address.
    fn is_asked(&self, place: Place, by: MacAddr, at: Timestamp) -> bool {
        at < self.blind_until
            || self.questions.get(&place).is_some_and(|question| {
                let recent = |(asked, answered): (Timestamp, bool)| {
                    at.since(asked) <= if answered { PROMPT } else { self.params.answered }
                };
                if question.asker == by {
                    question.others.is_some_and(recent)
                } else {
                    recent((question.at, question.answered))
                }
            })
    }

    /// Whether a station has been seen answering for its address: an answer goes to one station, as a question may.
    fn answers(&self, place: Place, mac: MacAddr) -> bool {
        let station = self.stations.get(&Port { ifindex: place.ifindex, mac });
        station.and_then(|station| station.said(place.ip)).is_some_and(|claim| claim.answers > 0)
    }

    fn station(&mut self, port: Port, at: Timestamp) -> &mut Station {
        make_room(&mut self.stations, self.params.stations, &port, |station| station.last_seen);
        let station = self.stations.entry(port).or_default();
        station.last_seen = station.last_seen.max(at);
        station
    }

    fn judge(&mut self, port: Port, ip: Ipv4Addr, table: &ArpTable) {
        let Some(station) = self.stations.get(&port) else {
            return;
        };
        let Some(claim) = station.said(ip) else {
            return;
        };
        let place = Place { ifindex: port.ifindex, ip };
        let owner = owner(table, place, port.mac);
        if !claim.lie && !self.is_lie(port, station, claim, owner) {
            return;
        }
        if let Some(claim) = self.stations.get_mut(&port).and_then(|station| station.said_mut(ip)) {
            claim.lie = true;
            claim.owner = claim.owner.or(owner);
            self.touched.insert(port);
        }
    }

    fn is_lie(&self, port: Port, station: &Station, claim: &Claim, owner: Option<MacAddr>) -> bool {
        let repeated = self.params.repeated;
        if claim.unasked > 0 && ((claim.asked_itself && claim.answers == 0) || station.is_between(claim)) {
            return true;
        }
        let own = station.own();
        let contested = claim.changes() >= 2;
        // Announcements of one that takes over and gives back change the owner less often.
        let fought = claim.changes() >= 2 * u64::from(repeated);
        // Two interfaces of one host answer for all of its addresses.
        let shares = |own: Ipv4Addr| {
            let other = owner.and_then(|mac| self.stations.get(&Port { mac, ..port }));
            other.is_none_or(|other| other.said(own).is_some())
        };
        let stranger = own.is_some_and(|own| own != claim.ip && (claim.answers == 0 || (contested && !shares(own))));
        (claim.unasked >= repeated && stranger)
            || (claim.unasked + claim.announced >= repeated && fought && claim.asked_itself)
    }

    fn finding(&self, port: Port) -> Option<Finding> {
        let station = self.stations.get(&port)?;
        let lies: Vec<&Claim> = station.claims().filter(|claim| claim.lie).collect();
        let claimed: BTreeSet<Ipv4Addr> = lies.iter().map(|claim| claim.ip).collect();
        let told: BTreeSet<Ipv4Addr> = lies.iter().flat_map(|claim| claim.told.iter().copied()).collect();
        let first = lies.first()?;
        // Whose name it has besides those of others; it may have none.
        let own = station.own().unwrap_or(first.ip);
        let unasked: u32 = lies.iter().map(|claim| claim.unasked + claim.announced).sum();
        let mut evidence = BTreeMap::from([
            ("mac".to_owned(), json!(port.mac.to_string())),
            ("claimed".to_owned(), json!(claimed)),
            ("unasked_claims".to_owned(), json!(unasked)),
            ("changes".to_owned(), json!(lies.iter().map(|claim| claim.changes()).max().unwrap_or(0))),
        ]);
        if let Some(mac) = lies.iter().find_map(|claim| claim.owner) {
            evidence.insert("previous_mac".to_owned(), json!(mac.to_string()));
        }
        let addr = |ip: Ipv4Addr| Addr::from(IpAddr::V4(ip));
        Some(Finding {
            class: Class::ArpSpoof,
            subject: addr(own),
            severity: Severity::High,
            attackers: BTreeSet::from([addr(own)]),
            victims: claimed.union(&told).filter(|&&ip| ip != own).map(|&ip| addr(ip)).collect(),
            ports: BTreeSet::new(),
            first_seen: lies.iter().map(|claim| claim.first_seen).min().unwrap_or_default(),
            last_seen: lies.iter().map(|claim| claim.last_seen).max().unwrap_or_default(),
            score: saturating_score(f64::from(unasked.max(self.params.repeated)), f64::from(self.params.repeated)),
            chance: None,
            evidence,
        })
    }
}

fn changes(table: &ArpTable, place: Place) -> u64 {
    table.claimant(place).map_or(0, |claim| claim.changes)
}

/// Who else claimed an address last.
fn owner(table: &ArpTable, place: Place, but: MacAddr) -> Option<MacAddr> {
    let claim = table.claimant(place)?;
    if claim.mac == but { claim.previous.filter(|&mac| mac != but) } else { Some(claim.mac) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forged_stations_and_questions_are_bounded() {
        let mut detector = ArpSpoof::new(ArpSpoofParams::default());
        let mut table = ArpTable::default();
        for n in 0..20_000_u32 {
            let message = ArpMessage {
                operation: if n % 2 == 0 { REQUEST } else { REPLY },
                sender_mac: MacAddr(0x0200_0000_0000 | u64::from(n)),
                sender_ip: 0x0a00_0000 + n,
                target_ip: 0x0a10_0000 + n,
                ..ArpMessage::default()
            };
            let at = Timestamp::from_secs(1_000 + u64::from(n / 5000));
            table.observe(&message, at);
            detector.observe_arp(&message, at, &table);
            assert!(detector.stations.len() <= detector.params.stations);
            assert!(detector.questions.len() <= detector.params.questions);
        }
        assert!(detector.tick(Timestamp::from_secs(1_004), &Roles::default()).is_empty());
    }
}
