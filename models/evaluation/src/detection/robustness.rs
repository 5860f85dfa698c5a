//! Whether detection hangs on the value of any one parameter: each is halved and doubled, everything else as usual.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Result;
use sensor_core::detect::DetectorParams;
use sensor_core::engine::EngineConfig;
use serde::Serialize;

use super::observe::usual;
use super::{Material, Measured, Summary};
use crate::captures::NEVER;

/// How one parameter is multiplied.
type Scale = fn(&mut DetectorParams, f64);

/// Every parameter that decides; bounds of memory do not.
pub const PARAMETERS: [(&str, Scale); 60] = [
    ("syn_flood.arrivals", |p, f| scale_count(&mut p.syn_flood.arrivals, f)),
    ("syn_flood.flows", |p, f| scale_count(&mut p.syn_flood.flows, f)),
    ("syn_flood.useless_share", |p, f| scale_share(&mut p.syn_flood.useless_share, f)),
    ("connection_flood.connections", |p, f| scale_count(&mut p.connection_flood.connections, f)),
    ("connection_flood.growth", |p, f| scale_real(&mut p.connection_flood.growth, f)),
    ("connection_flood.local_factor", |p, f| scale_count(&mut p.connection_flood.local_factor, f)),
    ("udp_flood.arrivals", |p, f| scale_count(&mut p.udp_flood.arrivals, f)),
    ("udp_flood.flows", |p, f| scale_count(&mut p.udp_flood.flows, f)),
    ("udp_flood.useless_share", |p, f| scale_share(&mut p.udp_flood.useless_share, f)),
    ("icmp_flood.arrivals", |p, f| scale_count(&mut p.icmp_flood.arrivals, f)),
    ("icmp_flood.flows", |p, f| scale_count(&mut p.icmp_flood.flows, f)),
    ("icmp_flood.useless_share", |p, f| scale_share(&mut p.icmp_flood.useless_share, f)),
    ("reflector.factor", |p, f| scale_count(&mut p.reflector.factor, f)),
    ("reflector.questions", |p, f| scale_count(&mut p.reflector.questions, f)),
    ("reflector.octets", |p, f| scale_count(&mut p.reflector.octets, f)),
    ("scan.margin", |p, f| scale_count(&mut p.scan.margin, f)),
    ("scan.slow.margin", |p, f| scale_count(&mut p.scan.slow.margin, f)),
    ("scan.window", |p, f| scale_span(&mut p.scan.window, f)),
    ("scan.slow.window", |p, f| scale_span(&mut p.scan.slow.window, f)),
    ("arp_scan.margin", |p, f| scale_count(&mut p.arp_scan.margin, f)),
    ("arp_scan.window", |p, f| scale_span(&mut p.arp_scan.window, f)),
    ("arp_spoof.repeated", |p, f| scale_count(&mut p.arp_spoof.repeated, f)),
    ("arp_spoof.answered", |p, f| scale_span(&mut p.arp_spoof.answered, f)),
    ("arp_spoof.memory", |p, f| scale_span(&mut p.arp_spoof.memory, f)),
    ("brute_force.login_connections", |p, f| scale_count(&mut p.brute_force.login_connections, f)),
    ("brute_force.connections", |p, f| scale_count(&mut p.brute_force.connections, f)),
    ("brute_force.rpc_connections", |p, f| scale_count(&mut p.brute_force.rpc_connections, f)),
    ("brute_force.slow_connections", |p, f| scale_count(&mut p.brute_force.slow_connections, f)),
    ("brute_force.clients", |p, f| scale_count(&mut p.brute_force.clients, f)),
    ("brute_force.attempts_each", |p, f| scale_count(&mut p.brute_force.attempts_each, f)),
    ("brute_force.octets", |p, f| scale_count(&mut p.brute_force.octets, f)),
    ("brute_force.window", |p, f| scale_span(&mut p.brute_force.window, f)),
    ("brute_force.slow_window", |p, f| scale_span(&mut p.brute_force.slow_window, f)),
    ("brute_force.tolerance", |p, f| scale_share(&mut p.brute_force.tolerance, f)),
    ("brute_force.alike_share", |p, f| scale_share(&mut p.brute_force.alike_share, f)),
    ("slow_dos.held", |p, f| scale_count(&mut p.slow_dos.held, f)),
    ("slow_dos.share", |p, f| scale_share(&mut p.slow_dos.share, f)),
    ("beacon.calls", |p, f| scale_count(&mut p.beacon.calls, f)),
    ("beacon.clients", |p, f| scale_count(&mut p.beacon.clients, f)),
    ("beacon.interval", |p, f| scale_span(&mut p.beacon.interval, f)),
    ("beacon.span", |p, f| scale_span(&mut p.beacon.span, f)),
    ("beacon.silence", |p, f| scale_span(&mut p.beacon.silence, f)),
    ("beacon.held", |p, f| scale_real(&mut p.beacon.held, f)),
    ("beacon.regularity", |p, f| scale_share(&mut p.beacon.regularity, f)),
    ("beacon.size_regularity", |p, f| scale_share(&mut p.beacon.size_regularity, f)),
    ("dns_tunnel.window", |p, f| scale_span(&mut p.dns_tunnel.window, f)),
    ("dns_tunnel.weight", |p, f| scale_real(&mut p.dns_tunnel.weight, f)),
    ("dns_tunnel.mean_weight", |p, f| scale_real(&mut p.dns_tunnel.mean_weight, f)),
    ("icmp_tunnel.octets", |p, f| scale_count(&mut p.icmp_tunnel.octets, f)),
    ("icmp_tunnel.echoes", |p, f| scale_count(&mut p.icmp_tunnel.echoes, f)),
    ("icmp_tunnel.window", |p, f| scale_span(&mut p.icmp_tunnel.window, f)),
    ("icmp_tunnel.share", |p, f| scale_share(&mut p.icmp_tunnel.share, f)),
    ("exfiltration.octets", |p, f| scale_count(&mut p.exfiltration.octets, f)),
    ("exfiltration.usual", |p, f| scale_count(&mut p.exfiltration.usual, f)),
    ("exfiltration.past", |p, f| scale_count(&mut p.exfiltration.past, f)),
    ("exfiltration.asymmetry", |p, f| scale_real(&mut p.exfiltration.asymmetry, f)),
    ("exfiltration.share", |p, f| scale_share(&mut p.exfiltration.share, f)),
    ("lateral_movement.hosts", |p, f| scale_count(&mut p.lateral_movement.hosts, f)),
    ("lateral_movement.window", |p, f| scale_span(&mut p.lateral_movement.window, f)),
    ("lateral_movement.learning", |p, f| scale_span(&mut p.lateral_movement.learning, f)),
];
/// What each is multiplied with. A share is multiplied by its odds, so that twice four fifths is eight ninths.
pub const FACTORS: [f64; 2] = [0.5, 2.0];

/// A number of things, at least one.
trait Count: Copy {
    fn scaled(self, factor: f64) -> Self;
}

macro_rules! count {
    ($($of:ty),*) => {$(impl Count for $of {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small positive number")]
        fn scaled(self, factor: f64) -> Self {
            ((self as f64 * factor).round() as Self).max(1)
        }
    })*};
}
count!(u32, u64, usize);

fn scale_count(count: &mut impl Count, factor: f64) {
    *count = count.scaled(factor);
}

fn scale_span(span: &mut Duration, factor: f64) {
    *span = span.mul_f64(factor);
}

fn scale_real(value: &mut f64, factor: f64) {
    *value *= factor;
}

fn scale_share(share: &mut f64, factor: f64) {
    let odds = *share / (1.0 - *share) * factor;
    *share = odds / (1.0 + odds);
}

/// What another value of a parameter changes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// The parameter.
    pub parameter: String,
    /// What it was multiplied with.
    pub factor: f64,
    /// The figures with it.
    pub summary: Summary,
    /// Attacks that are no longer found, by file or by label in the mixed capture.
    pub lost: Vec<String>,
    /// Attacks that are found only so.
    pub gained: Vec<String>,
    /// Benign captures with another number of incidents, with the difference.
    pub benign: BTreeMap<String, i64>,
}

/// The usual settings, but nothing is learned: rules are what is looked at.
#[must_use]
pub fn rules() -> EngineConfig {
    EngineConfig { warmup: NEVER, ..usual() }
}

/// Measures with every parameter multiplied with every one of [`FACTORS`], and compares with what the rules find as they
/// are.
///
/// # Errors
/// A capture that cannot be opened.
pub fn measure(material: &Material) -> Result<Vec<Change>> {
    let usual = material.measure_captures(&rules())?;
    let mut changes = Vec::new();
    for (parameter, scale) in PARAMETERS {
        for factor in FACTORS {
            eprintln!("{parameter} times {factor}");
            let mut config = rules();
            scale(&mut config.detectors, factor);
            changes.push(Change::between(parameter, factor, &usual, &material.measure_captures(&config)?));
        }
    }
    Ok(changes)
}

impl Change {
    /// Whether nothing changes but times.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.lost.is_empty() && self.gained.is_empty() && self.benign.is_empty()
    }

    fn between(parameter: &str, factor: f64, usual: &Measured, other: &Measured) -> Self {
        let (before, after) = (found(usual), found(other));
        let count = |incidents: &BTreeMap<String, usize>| i64::try_from(incidents.values().sum::<usize>());
        let benign = usual.benign.iter().zip(&other.benign).filter_map(|(usual, other)| {
            let more = count(&other.incidents).ok()? - count(&usual.incidents).ok()?;
            (more != 0).then(|| (usual.file.clone(), more))
        });
        Self {
            parameter: parameter.to_owned(),
            factor,
            summary: other.summary,
            lost: before.difference(&after).cloned().collect(),
            gained: after.difference(&before).cloned().collect(),
            benign: benign.collect(),
        }
    }
}

/// The attacks that are found.
fn found(measured: &Measured) -> BTreeSet<String> {
    let captures = measured.attacks.iter().filter(|attack| attack.found.is_some());
    let events = measured.mixed.events.iter().enumerate().filter(|(_, event)| event.class.is_some());
    let events = events.map(|(at, event)| format!("event {} of the mixed capture, {}", at + 1, event.label));
    captures.map(|attack| attack.file.clone()).chain(events).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{attack, seen};
    use super::super::truth::Labelled;
    use super::*;
    use crate::detection::mixed::{self, HostWindows};
    use crate::detection::observe::{Observed, Seen};

    fn measured(incidents: Vec<Seen>) -> Measured {
        let attack = attack("scan_udp", "10.0.0.1", "10.0.0.2", (100, 110));
        let capture =
            |file: &str, attack| Labelled { file: file.to_owned(), label: String::new(), attack, rest_is_benign: true };
        let material = Material {
            data: "/none".into(),
            captures: vec![capture("attack.pcap", Some(attack.clone())), capture("benign.pcap", None)],
            events: vec![attack],
            windows: HostWindows::default(),
        };
        let observed = Observed { incidents, seconds: 60.0, beacons: vec![] };
        let all = ["attack.pcap", "benign.pcap", mixed::CAPTURE].map(|file| (file, observed.clone()));
        material.judge(&all.into()).unwrap()
    }

    #[test]
    fn what_is_lost_and_what_is_said_besides_is_told() {
        let scan = || seen("port_scan", &["10.0.0.1"], &["10.0.0.2"], 101);
        let (usual, none) = (measured(vec![scan()]), measured(vec![]));
        let change = Change::between("ports", 2.0, &usual, &none);
        assert_eq!(change.lost, ["attack.pcap", "event 1 of the mixed capture, scan_udp"]);
        assert_eq!((change.gained.len(), change.benign["benign.pcap"]), (0, -1));
        assert_eq!(Change::between("ports", 0.5, &none, &usual).gained, change.lost);
        assert!(Change::between("ports", 0.5, &usual, &usual).is_none());
    }

    #[test]
    fn every_parameter_changes_something_and_a_share_stays_one() {
        for (parameter, scale) in PARAMETERS {
            for factor in FACTORS {
                let mut params = DetectorParams::default();
                scale(&mut params, factor);
                assert_ne!(params, DetectorParams::default(), "{parameter} times {factor}");
            }
        }
        let mut share = 0.8;
        scale_share(&mut share, 2.0);
        assert!((share - 8.0 / 9.0).abs() < 1e-12);
    }
}
