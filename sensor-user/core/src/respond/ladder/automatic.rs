//! What the sensor does by itself about an incident.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use sensor_ebpf::abi::Addr;
use serde_json::Value;

use super::{Held, Ladder};
use crate::incident::{Change as Stage, Class, Incident, IncidentEvent};
use crate::net::Network;
use crate::respond::{Block, Change, Decider, Measure, Mode, Scope, Target};
use crate::time::Timestamp;

const MINUTE: Duration = Duration::from_secs(60);
/// Services shielded because of one incident.
const SHIELDED: usize = 8;

/// An incident, as far as it matters for what is done.
struct Cause {
    class: Class,
    id: String,
    reason: String,
    measure: Measure,
    enforced: bool,
}

impl Ladder {
    /// What is to be done about an incident that was opened or has grown. `proven` says whether a host has completed a
    /// connection with us lately, so that it is not forged.
    pub fn incident(
        &mut self,
        event: &IncidentEvent,
        proven: &dyn Fn(&Network) -> bool,
        now: Timestamp,
    ) -> Vec<Change> {
        let now = self.advance(now);
        let incident = &event.incident;
        let mode = match event.change {
            Stage::Opened | Stage::Updated => self.policy.mode_for(incident.class, incident.severity),
            Stage::Closed => Mode::Off,
        };
        let measure = match mode {
            Mode::Off => return Vec::new(),
            Mode::RateLimit => Measure::Limit(self.policy.limit),
            Mode::Observe | Mode::Drop => Measure::Drop,
        };
        let cause = Cause {
            class: incident.class,
            id: incident.id.clone(),
            reason: reason(incident),
            measure,
            enforced: mode >= Mode::RateLimit && self.is_armed(now),
        };
        let forged = incident.evidence.get("spoofed") == Some(&Value::Bool(true));
        let mut strangers = forged || incident.attackers.is_empty();
        let mut changes = Vec::new();
        let hosts: BTreeSet<Network> =
            incident.attackers.iter().take(Incident::LISTED).map(|&attacker| self.host(attacker.into())).collect();
        for network in hosts {
            if self.guard.protects(&network).is_some() {
                self.stats.guarded += 1;
            } else if forged || !proven(&network) {
                self.stats.unproven += 1;
                strangers = true;
            } else {
                changes.extend(self.act(Target::Peer { network, scope: Scope::All }, &cause, now));
            }
        }
        if strangers && incident.class == Class::SynFlood {
            let cause = Cause { measure: Measure::Limit(self.policy.requests), ..cause };
            for target in self.services(incident) {
                changes.extend(self.act(target, &cause, now));
            }
        }
        changes
    }

    /// The host behind an address, as the sensor blocks it: of IPv6 all that its provider gives to one customer.
    #[must_use]
    pub fn host(&self, addr: Addr) -> Network {
        let alone = Network::of(addr);
        if alone.is_ipv4() {
            return alone;
        }
        let host = Network::new(addr.into(), self.policy.host_v6.max(self.policy.widest(false)));
        // Who shares a /64 with us or with somebody never blocked is told from them by the whole address.
        if self.guard.protects(&host).is_some() { alone } else { host }
    }

    /// The services of ours that are flooded with requests.
    fn services(&self, incident: &Incident) -> Vec<Target> {
        let ours = || incident.victims.iter().map(IpAddr::to_canonical).filter(|host| self.guard.is_ours(*host));
        let all = incident.ports.iter().flat_map(|&port| ours().map(move |host| Target::Requests { host, port }));
        all.take(SHIELDED).collect()
    }

    fn act(&mut self, target: Target, cause: &Cause, now: Timestamp) -> Option<Change> {
        if self.is_forgiven(&target, now) || self.is_left_to_people(&target) {
            return None;
        }
        // A block whose time is over is not gone before the next tick, but is no more.
        if let Some(held) = self.held.get(&target).filter(|held| !held.block.left(now).is_zero()).cloned() {
            return if is_further(cause, &held.block) {
                self.go_further(target, cause, now)
            } else {
                self.prolong(held, now)
            };
        }
        let is_full = !self.held.contains_key(&target) && self.count(true) >= self.policy.entries;
        if is_full || !self.keeps_pace(now) {
            self.stats.capped += 1;
            return None;
        }
        if let Some(network) = target.network() {
            self.offences.add(network, now);
        }
        Some(self.put(target, cause, now))
    }

    /// Does more about a target than is done: that counts as a new block, but not as an offence.
    fn go_further(&mut self, target: Target, cause: &Cause, now: Timestamp) -> Option<Change> {
        if self.keeps_pace(now) {
            return Some(self.put(target, cause, now));
        }
        self.stats.capped += 1;
        None
    }

    /// Prolongs a block of which most has passed. From its beginning to its end it is never longer than the longest.
    fn prolong(&mut self, mut held: Held, now: Timestamp) -> Option<Change> {
        let block = &mut held.block;
        let until = (now + self.span(&block.target)).min(block.since + self.policy.longest);
        if block.left(now) >= block.span() / 2 || until <= block.until {
            return None;
        }
        block.until = until;
        if let Some(network) = block.target.network() {
            self.offences.touch(network, now);
        }
        let change = Change::Put(block.clone());
        self.held.insert(block.target, held);
        Some(change)
    }

    fn put(&mut self, target: Target, cause: &Cause, now: Timestamp) -> Change {
        self.serial += 1;
        self.pace.push_back(now);
        if cause.enforced {
            self.trials.begin(self.serial, now);
        }
        let block = Block {
            target,
            measure: cause.measure,
            enforced: cause.enforced,
            since: now,
            until: now + self.span(&target),
            by: Decider::Incident(cause.id.clone()),
            reason: cause.reason.clone(),
        };
        let held = Held { block: block.clone(), class: Some(cause.class), serial: self.serial };
        self.held.insert(target, held);
        Change::Put(block)
    }

    /// How long a target is blocked, for its offences so far.
    fn span(&self, target: &Target) -> Duration {
        self.policy.span(target.network().map_or(1, |network| self.offences.count(network)))
    }

    fn keeps_pace(&mut self, now: Timestamp) -> bool {
        while self.pace.front().is_some_and(|at| now.since(*at) >= MINUTE) {
            self.pace.pop_front();
        }
        self.pace.len() < self.policy.per_minute
    }

    fn is_forgiven(&self, target: &Target, now: Timestamp) -> bool {
        let is_meant = |forgiven: &Target| match (forgiven.network(), target.network()) {
            (Some(forgiven), Some(network)) => forgiven.overlaps(&network),
            _ => forgiven == target,
        };
        self.forgiven.iter().any(|(forgiven, until)| *until > now && is_meant(forgiven))
    }

    /// Whether somebody has decided on all of a target.
    fn is_left_to_people(&self, target: &Target) -> bool {
        let is_decided = |block: &Block| match (block.target, target.network()) {
            (Target::Peer { network, scope: Scope::All }, Some(narrow)) => network.covers(&narrow),
            _ => block.target == *target,
        };
        self.blocks().any(|block| !block.is_automatic() && is_decided(block))
    }
}

fn is_further(cause: &Cause, block: &Block) -> bool {
    (cause.enforced, cause.measure == Measure::Drop) > (block.enforced, block.measure == Measure::Drop)
}

/// Begins with the class, by which a block is known when it is taken from a store.
fn reason(incident: &Incident) -> String {
    format!("{}, {}", incident.class, incident.severity)
}
