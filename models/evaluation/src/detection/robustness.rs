//! Whether detection hangs on the value of any one parameter: each is halved and doubled, everything else as usual.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use leuko::config::Config;
use sensor_core::engine::EngineConfig;
use sensor_models::AlertBudget;
use serde::Serialize;

use super::observe::usual;
use super::{Material, Measured, Summary};

/// Parameters that [`scaled`] knows.
pub const PARAMETERS: [&str; 2] = ["warmup", "alerts_per_day"];
/// What each is multiplied with.
pub const FACTORS: [f64; 2] = [0.5, 2.0];

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

/// The usual settings with one parameter multiplied.
#[must_use]
pub fn scaled(parameter: &str, factor: f64) -> EngineConfig {
    let mut config = usual();
    match parameter {
        "warmup" => config.warmup = config.warmup.mul_f64(factor),
        "alerts_per_day" => {
            let usual = f64::from(Config::default().detect.alerts_per_day);
            config.budget = AlertBudget::new(usual * factor).unwrap_or(config.budget);
        }
        _ => {}
    }
    config
}

/// Measures with every parameter multiplied with every one of [`FACTORS`] and compares with `usual`.
///
/// # Errors
/// A capture that cannot be opened.
pub fn measure(
    material: &Material,
    usual: &Measured,
    parameters: &[&str],
    config: impl Fn(&str, f64) -> EngineConfig,
) -> Result<Vec<Change>> {
    let mut changes = Vec::new();
    for parameter in parameters {
        for factor in FACTORS {
            eprintln!("{parameter} times {factor}");
            let measured = material.measure(&config(parameter, factor))?;
            changes.push(Change::between(parameter, factor, usual, &measured));
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
    fn every_parameter_is_known() {
        let as_text = |config: EngineConfig| format!("{:?}", EngineConfig { classifier: None, ..config });
        for parameter in PARAMETERS {
            for factor in FACTORS {
                assert_ne!(as_text(scaled(parameter, factor)), as_text(usual()), "{parameter} times {factor}");
            }
            assert_eq!(as_text(scaled(parameter, 1.0)), as_text(usual()), "{parameter}");
        }
    }
}
