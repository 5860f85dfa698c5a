//! Measures detection on labelled captures: attacks, benign traffic, and both together.
//!
//! - [`truth`]: what is known of the captures.
//! - [`observe`](mod@observe): what Leuko says of a capture.
//! - [`captures`]: one attack a capture, or none.
//! - [`mixed`]: attacks amid benign traffic.
//! - [`beacons`]: where true beacons are among regular calls.
//! - [`robustness`]: whether it hangs on the value of any one parameter.
//! - [`card`]: the result as Markdown.
//!
//! All of it is event time, so the same captures give the same card to the digit.

pub mod truth;

pub mod observe;

pub mod captures;
pub mod mixed;

pub mod beacons;

pub mod robustness;

pub mod card;

#[cfg(test)]
mod testing;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use sensor_core::engine::EngineConfig;
use serde::Serialize;

use beacons::{BeaconReport, CONTROLLED, UNCONTROLLED};
use captures::{AttackReport, BenignReport};
use mixed::{HostWindows, MixedReport};
use observe::{Observed, in_parallel, observe};
use truth::{Attack, Labelled};

use crate::captures::NEVER;

/// The labelled captures.
#[derive(Clone, Debug)]
pub struct Material {
    data: PathBuf,
    /// One attack each, or none.
    captures: Vec<Labelled>,
    /// Attacks of the mixed capture.
    events: Vec<Attack>,
    /// Activity in the mixed capture.
    windows: HostWindows,
}

/// What was said of all of them, and is in the card.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measured {
    /// The figures by which it is judged.
    pub summary: Summary,
    /// Captures with an attack.
    pub attacks: Vec<AttackReport>,
    /// Captures without one.
    pub benign: Vec<BenignReport>,
    /// The capture with many.
    pub mixed: MixedReport,
    /// Candidates for beacons.
    pub beacons: BeaconReport,
}

/// The figures by which detection is judged.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Attack captures that counters of flows can show.
    pub attacks: usize,
    /// How many of them are found.
    pub detected: usize,
    /// Attack captures that counters of flows cannot honestly show.
    pub apart: usize,
    /// How many of them are found.
    pub apart_detected: usize,
    /// Median seconds from the first malicious frame to detection, of the loud attacks that are found.
    pub median_s_loud: Option<f64>,
    /// The same of all attacks that are found.
    pub median_s: Option<f64>,
    /// Attack captures found with the right attacker, of those counted.
    pub attacker_right: usize,
    /// Attack captures found with the right victim, of those counted.
    pub victim_right: usize,
    /// Incidents of a wrong class, duplicates and false ones in attack captures.
    pub besides: usize,
    /// Benign captures.
    pub benign: usize,
    /// Their event time, hours.
    pub benign_hours: f64,
    /// Incidents in them.
    pub benign_false: usize,
    /// Events of the mixed capture.
    pub events: usize,
    /// How many of them are found.
    pub events_detected: usize,
    /// Incidents of no event in the mixed capture.
    pub mixed_false: usize,
}

impl Material {
    /// Reads the labels below `data`.
    ///
    /// # Errors
    /// Labels or a mixed capture that are missing or damaged.
    pub fn read(data: &Path) -> Result<Self> {
        Ok(Self {
            data: data.to_owned(),
            captures: truth::captures(data)?,
            events: truth::events(data)?,
            windows: HostWindows::read(data)?,
        })
    }

    /// Replays every capture and log on all cores and judges what is said.
    ///
    /// # Errors
    /// A file that cannot be opened.
    pub fn measure(&self, engine: &EngineConfig) -> Result<Measured> {
        let mut files = self.files();
        for log in CONTROLLED.iter().map(|truth| truth.file).chain(UNCONTROLLED) {
            if !files.contains(&log) {
                files.push(log);
            }
        }
        self.replay(&files, engine)
    }

    /// As [`Self::measure`], without the logs.
    ///
    /// # Errors
    /// A file that cannot be opened.
    pub fn measure_captures(&self, engine: &EngineConfig) -> Result<Measured> {
        self.replay(&self.files(), engine)
    }

    /// The longest first, so that no core waits for it at the end.
    fn files(&self) -> Vec<&str> {
        [mixed::CAPTURE].into_iter().chain(self.captures.iter().map(|capture| &*capture.file)).collect()
    }

    fn replay(&self, files: &[&str], engine: &EngineConfig) -> Result<Measured> {
        // Of logs only beacons are judged, and to learn what is normal in days takes minutes.
        let beacons_only = EngineConfig { warmup: NEVER, ..engine.clone() };
        let observed = in_parallel(files, |file| {
            let engine = if file.starts_with("flows/") { &beacons_only } else { engine };
            observe(&self.data.join(file), engine.clone()).with_context(|| format!("replay {file}"))
        })?;
        self.judge(&files.iter().copied().zip(observed).collect())
    }

    fn judge(&self, observed: &BTreeMap<&str, Observed>) -> Result<Measured> {
        let of = |file: &str| observed.get(file).with_context(|| format!("{file} was not replayed"));
        let (mut attacks, mut benign) = (Vec::new(), Vec::new());
        for capture in &self.captures {
            match &capture.attack {
                Some(attack) => attacks.push(AttackReport::of(capture, attack, of(&capture.file)?)),
                None => benign.push(BenignReport::of(capture, of(&capture.file)?)),
            }
        }
        let mixed = MixedReport::of(&self.events, &self.windows, of(mixed::CAPTURE)?);
        let honest = benign.iter().map(|capture| &*capture.file).chain(UNCONTROLLED);
        let beacons = BeaconReport::of(observed, honest);
        Ok(Measured { summary: Summary::of(&attacks, &benign, &mixed), attacks, benign, mixed, beacons })
    }
}

impl Summary {
    fn of(attacks: &[AttackReport], benign: &[BenignReport], mixed: &MixedReport) -> Self {
        let (counted, apart): (Vec<_>, Vec<_>) = attacks.iter().partition(|attack| attack.counts);
        let found = || counted.iter().filter_map(|attack| Some((attack, attack.found.as_ref()?)));
        let besides = |attack: &&AttackReport| {
            attack.duplicates + attack.misnamed.values().chain(attack.false_incidents.values()).sum::<usize>()
        };
        Self {
            attacks: counted.len(),
            detected: found().count(),
            apart: apart.len(),
            apart_detected: apart.iter().filter(|attack| attack.found.is_some()).count(),
            median_s_loud: median(found().filter(|(attack, _)| attack.loud).map(|(_, found)| found.seconds)),
            median_s: median(found().map(|(_, found)| found.seconds)),
            attacker_right: found().filter(|(_, found)| found.named.attacker).count(),
            victim_right: found().filter(|(_, found)| found.named.victim).count(),
            besides: counted.iter().map(besides).sum(),
            benign: benign.len(),
            benign_hours: (benign.iter().map(|capture| capture.seconds).sum::<f64>() / 36.0).round() / 100.0,
            benign_false: benign.iter().flat_map(|capture| capture.incidents.values()).sum(),
            events: mixed.events.len(),
            events_detected: mixed.found(),
            mixed_false: mixed.false_incidents.len(),
        }
    }
}

/// The mean of the middle two where there is no middle one.
fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let (low, high) = (values.len().checked_sub(1)? / 2, values.len() / 2);
    let middle = f64::midpoint(*values.get(low)?, *values.get(high)?);
    Some((middle * 1000.0).round() / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::testing::{attack, seen};
    use super::*;

    #[test]
    fn medians_of_even_and_odd_counts() {
        for (values, expected) in
            [(&[][..], None), (&[3.0][..], Some(3.0)), (&[9.0, 1.0], Some(5.0)), (&[9.0, 1.0, 2.0], Some(2.0))]
        {
            assert_eq!(median(values.iter().copied()), expected, "{values:?}");
        }
    }

    #[test]
    fn attacks_apart_are_not_among_those_counted() {
        let capture = |(file, attack): (&str, Option<Attack>)| Labelled {
            file: file.to_owned(),
            label: attack.as_ref().map_or("benign", |attack| &*attack.label).to_owned(),
            attack,
            rest_is_benign: true,
        };
        let from = |label| Some(attack(label, "10.0.0.1", "10.0.0.2", (100, 110)));
        let labelled = [("a", from("scan_udp")), ("b", from("web_sqli")), ("c", from("icmp_tunnel")), ("d", None)];
        let material = Material {
            data: PathBuf::new(),
            captures: labelled.map(capture).into(),
            events: vec![],
            windows: HostWindows::default(),
        };
        let scan = seen("port_scan", &["10.0.0.1"], &["10.0.0.2"], 101);
        let observed = Observed { incidents: vec![scan], seconds: 1800.0, beacons: vec![] };
        let all = ["a", "b", "c", "d", mixed::CAPTURE].map(|file| (file, observed.clone()));
        let summary = material.judge(&all.into()).unwrap().summary;
        assert_eq!((summary.attacks, summary.detected), (2, 1));
        assert_eq!((summary.apart, summary.apart_detected), (1, 0));
        assert_eq!((summary.median_s_loud, summary.median_s), (Some(1.0), Some(1.0)));
        assert_eq!((summary.besides, summary.benign_false, summary.mixed_false), (1, 1, 1));
        assert_eq!((summary.benign, summary.benign_hours), (1, 0.5));
    }
}
