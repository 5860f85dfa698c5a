//! The alert budget: which of the findings that chance can bring become incidents.
//!
//! What is certain always does. What is a matter of chance shares one budget ([`AlertBudget`]); a class that is more than
//! odd ([`Class::Anomaly`] is not) keeps one alert a day of its own, which a noisy neighbour cannot spend.

use std::collections::BTreeMap;
use std::time::Duration;

use sensor_ebpf::abi::Addr;
use sensor_models::{AlertBudget, Weighed};

use super::Class;
use crate::detect::Finding;
use crate::time::Timestamp;

/// What was reported is not a new alert for so long.
const MEMORY: Duration = Duration::from_secs(600);
/// Of every class but anomalies, one alert in this time needs no budget.
const FLOOR: Duration = Duration::from_secs(86_400);
/// Alerts remembered; the oldest give way.
const REMEMBERED: usize = 4096;

/// The budget, and what it was spent on.
#[derive(Debug)]
pub struct Admission {
    budget: AlertBudget,
    /// When something was last reported, by what and about whom.
    reported: BTreeMap<(Class, Addr), Timestamp>,
    floors: BTreeMap<Class, Timestamp>,
    alerts: BTreeMap<Class, u64>,
    held_back: BTreeMap<Class, u64>,
}

impl Admission {
    /// Nothing of the budget is spent.
    #[must_use]
    pub const fn new(budget: AlertBudget) -> Self {
        Self {
            budget,
            reported: BTreeMap::new(),
            floors: BTreeMap::new(),
            alerts: BTreeMap::new(),
            held_back: BTreeMap::new(),
        }
    }

    /// Whether a finding that belongs to no open incident may become one.
    pub fn admits(&mut self, finding: &Finding, now: Timestamp) -> bool {
        let Some(chance) = finding.chance else {
            return true;
        };
        let key = (finding.class, finding.subject);
        let known = self.reported.get(&key).is_some_and(|&at| now.since(at) < MEMORY);
        if !known {
            let weighed = self.budget.weigh(-chance.log_p, chance.tests_per_day, now.epoch_seconds());
            let admitted = match weighed {
                Weighed::Admitted => true,
                Weighed::HeldBack => self.takes_floor(finding.class, now),
                Weighed::Weak => false,
            };
            if !admitted {
                let count = self.held_back.entry(finding.class).or_default();
                *count += u64::from(weighed == Weighed::HeldBack);
                return false;
            }
            *self.alerts.entry(finding.class).or_default() += 1;
        }
        self.remember(key, now);
        true
    }

    /// Threshold, for a number of tests a day.
    #[must_use]
    pub const fn budget(&self) -> &AlertBudget {
        &self.budget
    }

    /// Alerts that were let through so far, by class.
    #[must_use]
    pub const fn alerts(&self) -> &BTreeMap<Class, u64> {
        &self.alerts
    }

    /// How often something was held back so far that the p-value alone would have let through, by class.
    #[must_use]
    pub const fn held_back(&self) -> &BTreeMap<Class, u64> {
        &self.held_back
    }

    fn takes_floor(&mut self, class: Class, now: Timestamp) -> bool {
        let free = class != Class::Anomaly && self.floors.get(&class).is_none_or(|&at| now.since(at) >= FLOOR);
        if free {
            self.floors.insert(class, now);
        }
        free
    }

    fn remember(&mut self, key: (Class, Addr), now: Timestamp) {
        if self.reported.len() >= REMEMBERED && !self.reported.contains_key(&key) {
            self.reported.retain(|_, at| now.since(*at) < MEMORY);
            if self.reported.len() >= REMEMBERED {
                self.reported.clear();
            }
        }
        self.reported.insert(key, now);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::detect::Chance;
    use crate::incident::Severity;

    fn finding(class: Class, subject: u32, nats: f64) -> Finding {
        let subject = Addr::from_v4(subject);
        Finding {
            class,
            subject,
            severity: Severity::Low,
            attackers: BTreeSet::from([subject]),
            victims: BTreeSet::new(),
            ports: BTreeSet::new(),
            first_seen: Timestamp::EPOCH,
            last_seen: Timestamp::EPOCH,
            score: 0.5,
            chance: Some(Chance { log_p: -nats, tests_per_day: 1000.0 }),
            evidence: BTreeMap::new(),
        }
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_secs(1_700_000_000 + seconds)
    }

    #[test]
    fn a_noisy_class_cannot_spend_what_another_keeps() {
        let mut admission = Admission::new(AlertBudget::new(1.0).unwrap());
        let noisy = (0..50).filter(|&host| admission.admits(&finding(Class::Anomaly, host, 12.0), at(u64::from(host))));
        assert!(noisy.count() <= 4);
        assert!(admission.admits(&finding(Class::Exfiltration, 90, 12.0), at(100)), "its own one");
        assert!(!admission.admits(&finding(Class::Exfiltration, 91, 12.0), at(101)));
        assert!(admission.admits(&finding(Class::Exfiltration, 90, 12.0), at(200)), "known already");
        assert!(!admission.admits(&finding(Class::Exfiltration, 92, 2.0), at(201)), "chance");
        assert_eq!(admission.alerts()[&Class::Exfiltration], 1);
        assert_eq!(admission.held_back()[&Class::Exfiltration], 1);
        assert!(admission.held_back()[&Class::Anomaly] >= 46);
    }

    #[test]
    fn what_is_certain_costs_nothing() {
        let mut admission = Admission::new(AlertBudget::new(1.0).unwrap());
        for host in 0..100 {
            let certain = Finding { chance: None, ..finding(Class::PortScan, host, 0.0) };
            assert!(admission.admits(&certain, at(0)));
        }
        assert_eq!((admission.alerts().len(), admission.budget().alerts()), (0, 0));
    }

    #[test]
    fn what_was_reported_is_bounded() {
        let mut admission = Admission::new(AlertBudget::new(100_000.0).unwrap());
        for host in 0..10_000 {
            admission.admits(&finding(Class::Anomaly, host, 1e6), at(0));
            assert!(admission.reported.len() <= REMEMBERED);
        }
    }
}
