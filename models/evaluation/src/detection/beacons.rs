//! Where the true one is among the candidates for beacons: in captures and connection logs of hosts that are controlled, and
//! among the candidates of all captures and logs without a controlled host.

use std::collections::BTreeMap;
use std::net::IpAddr;

use sensor_core::contract::BeaconLine;
use serde::Serialize;

use super::observe::Observed;

/// Whoever is controlled, and what they call.
pub struct Controlled {
    /// File below the data folder.
    pub file: &'static str,
    /// What it is, and how we know.
    pub about: &'static str,
    client: &'static str,
    servers: &'static [&'static str],
    port: u16,
}

/// Captures and logs with a controlled host.
pub const CONTROLLED: [Controlled; 4] = [
    Controlled {
        file: "pcaps/attack/c2_beacon/slips__test-cc-capture-1.pcap",
        about: "HTTPS every 2 s (label of the capture)",
        client: "147.32.80.37",
        servers: &["141.193.213.20", "141.193.213.21"],
        port: 443,
    },
    Controlled {
        file: super::mixed::CAPTURE,
        about: "the same amid other traffic (label of the event)",
        client: "147.32.80.37",
        servers: &["141.193.213.20", "141.193.213.21"],
        port: 443,
    },
    Controlled {
        file: "flows/stratosphere_zeek/001-zeek-scenario-malicious/labeled-conn.log.zst",
        about: "NjRAT (237 of the 244 connections labelled CC)",
        client: "192.168.1.115",
        servers: &["41.108.179.197"],
        port: 1177,
    },
    Controlled {
        file: "flows/stratosphere_zeek/005-zeek-scenario-malicious/conn.log.zst",
        about: "Simda (the log is labelled as a whole; the two servers it asks most by HTTP)",
        client: "192.168.1.116",
        servers: &["104.239.157.210", "23.253.126.58"],
        port: 80,
    },
];

/// Logs of hosts that are attacked from outside but controlled by nobody, besides the benign captures.
pub const UNCONTROLLED: [&str; 2] = [
    "flows/stratosphere_zeek/008-zeek-mixed/data/conn.log.labeled.zst",
    "flows/stratosphere_zeek/011-zeek-mixed/data/conn.log.labeled.zst",
];

/// What is said of beacons.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BeaconReport {
    /// Where somebody is controlled.
    pub controlled: Vec<Ranked>,
    /// Where nobody is, and there are candidates; those with the best score first.
    pub uncontrolled: Vec<Uncontrolled>,
}

/// The place of the true beacon.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ranked {
    /// File below the data folder.
    pub file: String,
    /// What it is, and how we know.
    pub about: &'static str,
    /// Candidates in the same file.
    pub candidates: usize,
    /// The true one; nothing if it is not among them.
    pub found: Option<Place>,
}

/// A candidate and its place.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Place {
    /// Among the candidates of its file, from one.
    pub rank: u64,
    /// Among itself and those of all files where nobody is controlled, from one.
    pub overall_rank: usize,
    /// In [0, 1].
    pub score: f64,
    /// Median time between calls, seconds.
    pub interval_s: f64,
    /// By which share of the interval the gaps vary.
    pub jitter: f64,
    /// Whether there was an incident about it.
    pub reported: bool,
}

/// A file where nobody is controlled.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Uncontrolled {
    /// File below the data folder.
    pub file: String,
    /// Candidates in it.
    pub candidates: usize,
    /// Score of the best.
    pub best_score: f64,
    /// How many were reported: all of them falsely.
    pub reported: usize,
}

impl BeaconReport {
    /// Judges the candidates of every file that was observed, `uncontrolled` being those in which nobody is controlled.
    #[must_use]
    pub fn of<'a>(observed: &BTreeMap<&str, Observed>, uncontrolled: impl Iterator<Item = &'a str>) -> Self {
        let mut others = Vec::new();
        let mut files = Vec::new();
        for file in uncontrolled {
            let Some(observed) = observed.get(file) else { continue };
            others.extend(observed.beacons.iter().map(|line| line.score));
            files.extend(Uncontrolled::of(file, &observed.beacons));
        }
        files.sort_by(|a, b| b.best_score.total_cmp(&a.best_score).then_with(|| a.file.cmp(&b.file)));
        let ranked = |truth: &Controlled| Some(truth.rank(&observed.get(truth.file)?.beacons, &others));
        Self { controlled: CONTROLLED.iter().filter_map(ranked).collect(), uncontrolled: files }
    }
}

impl Controlled {
    fn rank(&self, candidates: &[BeaconLine], others: &[f64]) -> Ranked {
        let found = candidates.iter().find(|line| self.is(line)).map(|line| Place {
            rank: line.rank,
            overall_rank: 1 + others.iter().filter(|score| **score > line.score).count(),
            score: line.score,
            interval_s: line.interval_s,
            jitter: line.jitter,
            reported: line.reported,
        });
        Ranked { file: self.file.to_owned(), about: self.about, candidates: candidates.len(), found }
    }

    fn is(&self, line: &BeaconLine) -> bool {
        let is = |addr: IpAddr, text: &str| text.parse() == Ok(addr);
        is(line.src_addr, self.client)
            && self.servers.iter().any(|server| is(line.dst_addr, server))
            && line.dst_port == self.port
    }
}

impl Uncontrolled {
    fn of(file: &str, candidates: &[BeaconLine]) -> Option<Self> {
        Some(Self {
            file: file.to_owned(),
            candidates: candidates.len(),
            best_score: candidates.first()?.score,
            reported: candidates.iter().filter(|line| line.reported).count(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed(lines: &[(&str, &str, u16, f64)]) -> Observed {
        let line = |(rank, (src, dst, dst_port, score)): (u64, &(&str, &str, u16, f64))| BeaconLine {
            rank,
            src_addr: src.parse().unwrap(),
            dst_addr: dst.parse().unwrap(),
            dst_port: *dst_port,
            proto: 6,
            score: *score,
            connections: 30,
            interval_s: 60.0,
            jitter: 0.1,
            span_s: 1800.0,
            reported: *score > 0.7,
        };
        Observed { incidents: vec![], seconds: 0.0, beacons: (1..).zip(lines).map(line).collect() }
    }

    #[test]
    fn the_true_beacon_is_ranked_in_its_file_and_among_all_honest_ones() {
        let busy = observed(&[
            ("147.32.80.37", "141.193.213.20", 80, 0.9),
            ("10.0.0.1", "141.193.213.20", 443, 0.85),
            ("147.32.80.37", "141.193.213.21", 443, 0.8),
        ]);
        let honest = observed(&[("10.0.0.1", "10.0.0.2", 443, 0.95), ("10.0.0.1", "10.0.0.3", 443, 0.5)]);
        let nothing = observed(&[]);
        let all = BTreeMap::from([
            (CONTROLLED[0].file, busy),
            (CONTROLLED[1].file, nothing.clone()),
            ("a.log", nothing),
            ("b.log", honest),
        ]);
        let report = BeaconReport::of(&all, ["a.log", "b.log", "c.log"].into_iter());
        let place = report.controlled[0].found.as_ref().unwrap();
        assert_eq!((place.rank, place.overall_rank, report.controlled[0].candidates), (3, 2, 3));
        assert_eq!(report.controlled[1].found, None);
        let b = Uncontrolled { file: "b.log".to_owned(), candidates: 2, best_score: 0.95, reported: 1 };
        assert_eq!(report.uncontrolled, [b]);
    }

    #[test]
    fn addresses_of_the_controlled_are_addresses() {
        for truth in &CONTROLLED {
            let mut all = [truth.client].into_iter().chain(truth.servers.iter().copied());
            assert!(all.all(|addr| addr.parse::<IpAddr>().is_ok()), "{}", truth.file);
        }
    }
}
