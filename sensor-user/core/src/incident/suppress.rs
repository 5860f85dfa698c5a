//! What the user does not want to be told of, why, and until when.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::RangeInclusive;

use sensor_ebpf::abi::Addr;

use super::{Class, Incident};
use crate::detect::Finding;
use crate::net::Network;
use crate::time::Timestamp;

/// A rule. What is left empty does not matter; what is not must hold for everything in a finding, except that attackers
/// of whom the rule does not speak are reported without the others.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Names it in metrics and messages.
    pub name: String,
    /// Why nobody needs to be told.
    pub reason: String,
    /// When it stops to hold; nothing for never.
    pub expires: Option<Timestamp>,
    /// Classes of findings.
    pub classes: BTreeSet<Class>,
    /// Who attacks. A finding without known attackers is never suppressed by them.
    pub attackers: Vec<Network>,
    /// Who is attacked.
    pub victims: Vec<Network>,
    /// Ports of the victims. A finding without ports is never suppressed by them.
    pub ports: Vec<RangeInclusive<u16>>,
    /// When it holds; nothing for always.
    pub schedule: Option<Schedule>,
}

/// Hours of some days of the week, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Bit 0 is Monday.
    pub days: u8,
    /// Minute of the day from which it holds.
    pub from: u16,
    /// Minute of the day until which it holds; if that is not later, of the day after.
    pub until: u16,
}

impl Schedule {
    /// Every day of the week.
    pub const EVERY_DAY: u8 = 0x7f;

    /// Whether it holds at a time.
    #[must_use]
    pub fn holds(&self, at: Timestamp) -> bool {
        // The epoch began on a Thursday.
        let (day, minute) = ((at.secs() / 86_400 + 3) % 7, at.secs() / 60 % 1440);
        let on = |day: u64| self.days >> (day % 7) & 1 == 1;
        let (from, until) = (u64::from(self.from), u64::from(self.until));
        if from < until {
            on(day) && (from..until).contains(&minute)
        } else {
            (on(day) && minute >= from) || (on(day + 6) && minute < until)
        }
    }
}

/// The rules, and what they have withheld.
#[derive(Debug, Default)]
pub struct Suppressor {
    rules: Vec<Rule>,
    withheld: BTreeMap<String, u64>,
}

impl Suppressor {
    /// Replaces the rules. Counts go on for those whose name stays.
    pub fn set(&mut self, rules: Vec<Rule>) {
        self.withheld.retain(|name, _| rules.iter().any(|rule| rule.name == *name));
        self.rules = rules;
    }

    /// What is to be reported of a finding: all of it, less attackers, or nothing.
    pub fn pass(&mut self, mut finding: Finding, now: Timestamp) -> Option<Finding> {
        for rule in &self.rules {
            if !rule.holds(&finding, now) {
                continue;
            }
            if !rule.attackers.is_empty() {
                finding.attackers.retain(|addr| !covers(&rule.attackers, *addr));
                if !finding.attackers.is_empty() {
                    continue;
                }
            }
            *self.withheld.entry(rule.name.clone()).or_default() += 1;
            return None;
        }
        Some(finding)
    }

    /// The rules, expired ones too.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Findings withheld so far, by rule. One attack gives a finding at each tick.
    #[must_use]
    pub const fn withheld(&self) -> &BTreeMap<String, u64> {
        &self.withheld
    }
}

impl Rule {
    /// Whatever some networks do, always.
    #[must_use]
    pub fn of_attackers(name: &str, reason: &str, attackers: Vec<Network>) -> Self {
        Self {
            name: name.to_owned(),
            reason: reason.to_owned(),
            expires: None,
            classes: BTreeSet::new(),
            attackers,
            victims: Vec::new(),
            ports: Vec::new(),
            schedule: None,
        }
    }

    /// What the rule would have left of an incident, had it been there when that was found.
    #[must_use]
    pub fn backtest(&self, incident: &Incident) -> Backtest {
        let addrs = |hosts: &[IpAddr]| hosts.iter().map(|host| Addr::from(*host)).collect::<BTreeSet<_>>();
        let finding = Finding {
            class: incident.class,
            subject: Addr::default(),
            severity: incident.severity,
            attackers: addrs(&incident.attackers),
            victims: addrs(&incident.victims),
            ports: incident.ports.iter().copied().collect(),
            first_seen: incident.first_seen,
            last_seen: incident.last_seen,
            score: incident.score,
            chance: None,
            evidence: BTreeMap::new(),
        };
        let mut alone = Suppressor { rules: vec![self.clone()], withheld: BTreeMap::new() };
        match alone.pass(finding, incident.detected_at) {
            None => Backtest::Withheld,
            Some(left) if left.attackers.len() < incident.attackers.len() => Backtest::Partly,
            Some(_) => Backtest::Told,
        }
    }

    fn holds(&self, finding: &Finding, now: Timestamp) -> bool {
        let in_time = self.expires.is_none_or(|expires| now < expires);
        let ports = || finding.ports.iter().all(|port| self.ports.iter().any(|range| range.contains(port)));
        in_time
            && self.schedule.is_none_or(|schedule| schedule.holds(now))
            && (self.classes.is_empty() || self.classes.contains(&finding.class))
            && (self.attackers.is_empty() || finding.attackers.iter().any(|addr| covers(&self.attackers, *addr)))
            && (self.victims.is_empty() || finding.victims.iter().all(|addr| covers(&self.victims, *addr)))
            && (self.ports.is_empty() || (!finding.ports.is_empty() && ports()))
    }
}

/// What a rule would have left of an incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backtest {
    /// All of it.
    Told,
    /// Attackers of whom the rule does not speak.
    Partly,
    /// Nothing.
    Withheld,
}

fn covers(networks: &[Network], addr: Addr) -> bool {
    networks.iter().any(|network| network.contains(addr))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incident::Severity;

    fn addr(text: &str) -> Addr {
        text.parse::<IpAddr>().unwrap().into()
    }

    fn network(text: &str, prefix: u8) -> Vec<Network> {
        vec![Network::new(text.parse().unwrap(), prefix)]
    }

    fn finding(class: Class, attackers: &[&str], ports: &[u16]) -> Finding {
        Finding {
            class,
            subject: addr("10.0.0.1"),
            severity: Severity::High,
            attackers: attackers.iter().map(|text| addr(text)).collect(),
            victims: BTreeSet::from([addr("10.0.0.9")]),
            ports: ports.iter().copied().collect(),
            first_seen: Timestamp::EPOCH,
            last_seen: Timestamp::EPOCH,
            score: 0.5,
            chance: None,
            evidence: BTreeMap::new(),
        }
    }

    fn rule() -> Rule {
        Rule::of_attackers("scanner", "it is ours", Vec::new())
    }

    fn left(rule: Rule, finding: Finding, now: Timestamp) -> Option<usize> {
        let mut suppressor = Suppressor::default();
        suppressor.set(vec![rule]);
        let left = suppressor.pass(finding, now).map(|finding| finding.attackers.len());
        assert_eq!(suppressor.withheld().contains_key("scanner"), left.is_none());
        left
    }

    #[test]
    fn a_rule_is_tried_on_what_has_been() {
        let incident = |attackers: &[&str]| Incident {
            id: "a".to_owned(),
            class: Class::PortScan,
            severity: Severity::High,
            attackers: attackers.iter().map(|text| text.parse().unwrap()).collect(),
            victims: vec!["10.0.0.9".parse().unwrap()],
            ports: vec![22],
            first_seen: Timestamp::EPOCH,
            detected_at: Timestamp::from_secs(MONDAY),
            last_seen: Timestamp::EPOCH,
            score: 0.5,
            summary: String::new(),
            evidence: BTreeMap::new(),
        };
        let rule = Rule { attackers: network("10.0.0.0", 24), ..rule() };
        for (attackers, expected) in [
            (&["10.0.0.1"] as &[_], Backtest::Withheld),
            (&["10.0.0.1", "192.0.2.1"], Backtest::Partly),
            (&["192.0.2.1"], Backtest::Told),
            (&[], Backtest::Told),
        ] {
            assert_eq!(rule.backtest(&incident(attackers)), expected, "{attackers:?}");
        }
        let past = Rule { expires: Some(Timestamp::from_secs(MONDAY)), ..rule };
        assert_eq!(past.backtest(&incident(&["10.0.0.1"])), Backtest::Told);
    }

    /// Monday, 2023-11-13, 00:00.
    const MONDAY: u64 = 1_699_833_600;

    #[test]
    fn everything_a_rule_says_must_hold() {
        let now = Timestamp::from_secs(MONDAY);
        let scan = || finding(Class::PortScan, &["10.0.0.1"], &[22, 80]);
        let by = |attackers| Rule { attackers, ..rule() };
        for (name, rule, expected) in [
            ("nothing said", rule(), None),
            ("attacker", by(network("10.0.0.0", 24)), None),
            ("another attacker", by(network("10.9.0.0", 24)), Some(1)),
            ("pair", Rule { victims: network("10.0.0.9", 32), ..by(network("10.0.0.1", 32)) }, None),
            ("another pair", Rule { victims: network("10.0.0.8", 32), ..by(network("10.0.0.1", 32)) }, Some(1)),
            ("class", Rule { classes: BTreeSet::from([Class::PortScan]), ..rule() }, None),
            ("another class", Rule { classes: BTreeSet::from([Class::Beacon]), ..rule() }, Some(1)),
            ("ports", Rule { ports: vec![20..=30, 80..=80], ..rule() }, None),
            ("some ports", Rule { ports: vec![20..=30], ..rule() }, Some(1)),
            ("expired", Rule { expires: Some(now), ..rule() }, Some(1)),
            ("expires", Rule { expires: Some(Timestamp::from_secs(MONDAY + 1)), ..rule() }, None),
        ] {
            assert_eq!(left(rule, scan(), now), expected, "{name}");
        }
    }

    #[test]
    fn attackers_of_whom_a_rule_does_not_speak_are_still_reported() {
        let now = Timestamp::from_secs(MONDAY);
        let rule = || Rule { attackers: network("10.0.0.0", 24), ..rule() };
        let two = finding(Class::BruteForce, &["10.0.0.1", "192.0.2.1"], &[22]);
        assert_eq!(left(rule(), two, now), Some(1));
        let forged = finding(Class::SynFlood, &[], &[80]);
        assert_eq!(left(rule(), forged, now), Some(0));
        let no_port = finding(Class::IcmpFlood, &["192.0.2.1"], &[]);
        assert_eq!(left(Rule { ports: vec![0..=u16::MAX], ..rule() }, no_port, now), Some(1));
    }

    #[test]
    fn a_schedule_holds_past_midnight() {
        let nights = Schedule { days: 0b1, from: 23 * 60, until: 2 * 60 };
        let hours = |hour: u64| nights.holds(Timestamp::from_secs(MONDAY + hour * 3600));
        assert_eq!([1, 22, 23, 24, 25, 26, 47].map(hours), [false, false, true, true, true, false, false]);
        let days = Schedule { days: 0b110_0000, from: 9 * 60, until: 17 * 60 };
        let at = |day: u64, hour: u64| days.holds(Timestamp::from_secs(MONDAY + day * 86_400 + hour * 3600));
        assert!(at(5, 9) && at(6, 16) && !at(4, 12) && !at(6, 17) && !at(7, 12));
        let always = Schedule { days: Schedule::EVERY_DAY, from: 0, until: 0 };
        assert!((0..200).all(|hour| always.holds(Timestamp::from_secs(MONDAY + hour * 3600))));
    }

    #[test]
    fn counts_go_on_when_rules_are_read_again() {
        let mut suppressor = Suppressor::default();
        suppressor.set(vec![rule()]);
        suppressor.pass(finding(Class::PortScan, &["10.0.0.1"], &[22]), Timestamp::EPOCH);
        suppressor.set(vec![rule(), Rule { name: "other".to_owned(), ..rule() }]);
        assert_eq!(suppressor.withheld()["scanner"], 1);
        suppressor.set(Vec::new());
        assert!(suppressor.withheld().is_empty());
    }
}
