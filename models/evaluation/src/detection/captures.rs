//! One attack a capture, or none: what was found, how soon, and what was said besides.

use std::collections::BTreeMap;

use serde::Serialize;

use super::observe::{Observed, Seen};
use super::truth::{Attack, Labelled, Named};

/// What was said of the capture of an attack.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AttackReport {
    /// File below the data folder.
    pub file: String,
    /// Label of the attack.
    pub label: String,
    /// Whether counters of flows can show it: the others are counted apart.
    pub counts: bool,
    /// Whether it should be found within moments.
    pub loud: bool,
    /// Classes by which it may be called.
    pub accepted: Vec<&'static str>,
    /// The first incident that names it: of an accepted class and with a labelled host.
    pub found: Option<Found>,
    /// More incidents like that one.
    pub duplicates: usize,
    /// Incidents about labelled hosts that are of another class, by class.
    pub misnamed: BTreeMap<String, usize>,
    /// Incidents about other hosts only, in captures whose rest is benign, by class.
    pub false_incidents: BTreeMap<String, usize>,
    /// The same in captures of whose rest nobody knows.
    pub unknown_incidents: BTreeMap<String, usize>,
}

/// How an attack was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Found {
    /// Class of the incident.
    pub class: String,
    /// From the first malicious frame to the tick that found it, in event time.
    pub seconds: f64,
    /// Whether the hosts are right.
    #[serde(flatten)]
    pub named: Named,
}

/// What was said of a capture of benign traffic.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BenignReport {
    /// File below the data folder.
    pub file: String,
    /// Event time, seconds.
    pub seconds: f64,
    /// Incidents by class: all of them are false.
    pub incidents: BTreeMap<String, usize>,
}

impl AttackReport {
    /// Judges what was said of an attack.
    #[must_use]
    pub fn of(capture: &Labelled, attack: &Attack, observed: &Observed) -> Self {
        let mut found: Option<Found> = None;
        let mut duplicates = 0;
        let (mut misnamed, mut elsewhere) = (BTreeMap::new(), BTreeMap::new());
        for seen in &observed.incidents {
            if !attack.involves(seen) {
                count(&mut elsewhere, seen);
            } else if !attack.is_class_of(seen) || seen.detected_at < attack.first {
                count(&mut misnamed, seen);
            } else if found.is_some() {
                duplicates += 1;
            } else {
                let seconds = seen.seconds_after(attack.first);
                found = Some(Found { class: seen.class.clone(), seconds, named: attack.named_by(seen) });
            }
        }
        let (false_incidents, unknown_incidents) =
            if capture.rest_is_benign { (elsewhere, BTreeMap::new()) } else { (BTreeMap::new(), elsewhere) };
        Self {
            file: capture.file.clone(),
            label: attack.label.clone(),
            counts: attack.counts(),
            loud: attack.is_loud(),
            accepted: attack.classes(),
            found,
            duplicates,
            misnamed,
            false_incidents,
            unknown_incidents,
        }
    }
}

impl BenignReport {
    /// Judges what was said of benign traffic.
    #[must_use]
    pub fn of(capture: &Labelled, observed: &Observed) -> Self {
        let mut incidents = BTreeMap::new();
        observed.incidents.iter().for_each(|seen| count(&mut incidents, seen));
        Self { file: capture.file.clone(), seconds: (observed.seconds * 1000.0).round() / 1000.0, incidents }
    }
}

fn count(by_class: &mut BTreeMap<String, usize>, seen: &Seen) {
    *by_class.entry(seen.class.clone()).or_default() += 1;
}

#[cfg(test)]
mod tests {
    use super::super::testing::{attack, seen};
    use super::*;

    fn judge(attack: &Attack, rest_is_benign: bool, incidents: Vec<Seen>) -> AttackReport {
        let file = "a.pcap".to_owned();
        let label = attack.label.clone();
        let capture = Labelled { file, label, attack: Some(attack.clone()), rest_is_benign };
        AttackReport::of(&capture, attack, &Observed { incidents, seconds: 60.0, beacons: vec![] })
    }

    #[test]
    fn the_first_incident_of_class_and_hosts_finds_an_attack_and_the_rest_is_sorted() {
        let attack = attack("scan_tcp_syn", "10.0.0.1", "10.0.0.2", (100, 110));
        let report = judge(
            &attack,
            true,
            vec![
                seen("port_scan", &["10.0.0.8"], &["10.0.0.9"], 101),
                seen("syn_flood", &["10.0.0.1"], &["10.0.0.2"], 101),
                seen("host_scan", &["10.0.0.1"], &["10.0.0.3"], 102),
                seen("port_scan", &["10.0.0.1"], &["10.0.0.2"], 103),
            ],
        );
        let named = Named { attacker: true, victim: false };
        assert_eq!(report.found, Some(Found { class: "host_scan".to_owned(), seconds: 2.0, named }));
        assert_eq!(report.duplicates, 1);
        assert_eq!(report.misnamed, BTreeMap::from([("syn_flood".to_owned(), 1)]));
        assert_eq!(report.false_incidents, BTreeMap::from([("port_scan".to_owned(), 1)]));
        assert!(report.counts && report.loud && report.unknown_incidents.is_empty());
    }

    #[test]
    fn what_was_said_before_the_attack_does_not_find_it() {
        let attack = attack("c2_rat", "10.0.0.1 (infected)", "10.0.0.2", (100, 110));
        let report = judge(&attack, false, vec![seen("beacon", &["10.0.0.1"], &["10.0.0.2"], 99)]);
        assert_eq!((report.found, report.counts), (None, false));
        assert_eq!(report.misnamed, BTreeMap::from([("beacon".to_owned(), 1)]));
    }

    #[test]
    fn nobody_knows_whether_incidents_are_false_where_the_rest_is_unknown() {
        let attack = attack("dns_tunnel", "10.0.0.1", "10.0.0.2:53", (100, 110));
        let report = judge(&attack, false, vec![seen("port_scan", &["10.0.0.8"], &[], 101)]);
        assert!(report.false_incidents.is_empty());
        assert_eq!(report.unknown_incidents.len(), 1);
    }
}
