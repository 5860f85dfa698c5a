//! What is not normal for a host: minutes unlike those that hosts of this network have, and unlike its own.
//!
//! The ensemble of models that scores flows scores what each host did in a minute ([`crate::features::host`]): how many
//! flows, peers, failures, packets and octets, both ways. A host is reported when two minutes in a row are rarer than the
//! alert budget allows. The p-value is the larger one of the two, so that nothing needs to be assumed about how the
//! minutes depend on each other. A host that always differs from the others is normal for itself: one that has a past must
//! also differ from that, by [`HostAnomalyParams::apart`] standard deviations in some column.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use sensor_ebpf::abi::Addr;
use sensor_models::{Baseline, Mark};
use serde_json::{Value, json};

use super::{Chance, Finding};
use crate::features::host::{COLUMNS, HostVector, HostWindow};
use crate::incident::{Class, Severity};
use crate::learn::{LearnParams, Learner};
use crate::roles::Roles;
use crate::time::Timestamp;

/// Length of the windows that are looked at.
pub const MINUTE: Duration = Duration::from_secs(60);

/// Ticks in a minute, at the usual interval.
const TICKS: usize = 60;

/// Parameters of learning and of the test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HostAnomalyParams {
    /// How normal minutes are learned.
    pub learn: LearnParams,
    /// The p-value up to which a minute is worth remembering.
    pub rare: f64,
    /// Minutes scored at a tick; the others wait, but not longer than a minute.
    pub scored: usize,
    /// Minutes that make a past.
    pub past: u32,
    /// Standard deviations from its own past by which a host must differ in some column.
    pub apart: f32,
    /// Hosts whose past is remembered, and hosts whose rare minute is until the next; later ones have none.
    pub hosts: usize,
}

impl Default for HostAnomalyParams {
    fn default() -> Self {
        Self { learn: LearnParams::default(), rare: 0.01, scored: 500, past: 10, apart: 4.0, hosts: 8192 }
    }
}

/// Learns what minutes are normal, then reports hosts that have others.
#[derive(Debug)]
pub struct HostAnomaly {
    params: HostAnomalyParams,
    learner: Learner,
    /// End, and logarithm of the p-value, of the latest rare minute.
    rare: HashMap<Addr, (Timestamp, f64)>,
    odd: Vec<Odd>,
    /// Minutes that have ended and are not scored yet.
    waiting: VecDeque<HostWindow>,
    passed_over: u64,
    pasts: HashMap<Addr, Past>,
    /// Hosts of the minute that ended last, and of the one that is ending.
    hosts: [u64; 2],
    end: Timestamp,
}

/// How long a host that is silent is remembered when room is needed.
const PAST: Duration = Duration::from_secs(86_400);
/// Smallest standard deviation of a logarithm: a factor of 1.3.
const LEAST_DEVIATION: f32 = 0.25;

/// What a host did in its earlier minutes, in logarithms.
#[derive(Clone, Copy, Debug, Default)]
struct Past {
    minutes: u32,
    mean: HostVector,
    variance: HostVector,
    latest: Timestamp,
}

/// A host with two rare minutes in a row.
#[derive(Debug)]
struct Odd {
    host: Addr,
    end: Timestamp,
    log_p: f64,
    score: f64,
    features: Vec<Value>,
}

impl HostAnomaly {
    /// A detector with a saved baseline, or one that learns first.
    #[must_use]
    pub fn new(params: HostAnomalyParams, baseline: Option<Baseline>) -> Self {
        Self {
            learner: Learner::new(&COLUMNS, params.learn, baseline),
            params,
            rare: HashMap::new(),
            odd: Vec::new(),
            waiting: VecDeque::new(),
            passed_over: 0,
            pasts: HashMap::new(),
            hosts: [0; 2],
            end: Timestamp::EPOCH,
        }
    }

    /// What is normal, and what is being learned.
    #[must_use]
    pub const fn learner(&self) -> &Learner {
        &self.learner
    }

    /// What is normal, and what is being learned.
    pub const fn learner_mut(&mut self) -> &mut Learner {
        &mut self.learner
    }

    /// Minutes so far that were not looked at, because too many were waiting.
    #[must_use]
    pub const fn passed_over(&self) -> u64 {
        self.passed_over
    }

    /// Whether nothing waits to be reported.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.odd.is_empty() && self.waiting.is_empty()
    }

    /// Takes in a window that has ended. What a `flagged` host did belongs to an incident and is neither learned nor
    /// judged.
    pub fn observe(&mut self, window: &HostWindow, flagged: bool) {
        if window.length != MINUTE {
            return;
        }
        if window.end != self.end {
            self.hosts = [self.hosts[1], 0];
            self.rare.retain(|_, (end, _)| *end + MINUTE >= window.end);
            self.end = window.end;
        }
        self.hosts[1] += 1;
        let room = self.params.scored * TICKS;
        if flagged {
            return;
        }
        if self.waiting.len() < room {
            self.waiting.push_back(*window);
        } else {
            self.passed_over += 1;
        }
    }

    /// Takes in a person's word about a minute of a host.
    pub fn mark(&mut self, mark: Mark, vector: &HostVector) -> bool {
        self.learner.mark(mark, &model_input(vector)).is_ok()
    }

    fn score(&mut self, window: &HostWindow) {
        let row = model_input(&window.vector);
        let p_value = self.learner.baseline().map(|baseline| {
            let score = baseline.score(&row);
            let known = self.learner.p_value(&row, score).unwrap_or(1.0);
            (score, if known < 1.0 { baseline.tail_p_value(score) } else { known })
        });
        let new = self.is_new(window, &row);
        if let Some((score, p_value)) = p_value
            && p_value <= self.params.rare
            && new
        {
            self.remember(window, score, p_value.ln());
        }
        self.learner.observe(&row, [window.host; 2], window.end, p_value.map(|(_, p_value)| p_value));
    }

    /// Reports hosts of ours with two rare minutes in a row. `involved` tells whether an address is part of an incident:
    /// what it did is not learned.
    pub fn tick(&mut self, now: Timestamp, roles: &Roles, involved: impl Fn(Addr) -> bool) -> Vec<Finding> {
        for _ in 0..self.params.scored {
            let Some(window) = self.waiting.pop_front() else { break };
            self.score(&window);
        }
        self.learner.tick(now, involved);
        let tests_per_day = self.hosts[0].max(self.hosts[1]) as f64 * 1440.0;
        let odd = self.odd.drain(..).filter(|odd| roles.is_local(odd.host));
        odd.map(|odd| odd.finding(tests_per_day)).collect()
    }

    /// Whether a minute differs from the past of its host, which it then is part of.
    fn is_new(&mut self, window: &HostWindow, row: &HostVector) -> bool {
        if self.pasts.len() >= self.params.hosts && !self.pasts.contains_key(&window.host) {
            let oldest = window.end - PAST;
            self.pasts.retain(|_, past| past.latest >= oldest);
            if self.pasts.len() >= self.params.hosts {
                return true;
            }
        }
        let past = self.pasts.entry(window.host).or_default();
        let new = past.minutes < self.params.past || past.distance(row) >= self.params.apart;
        past.add(row, window.end);
        new
    }

    /// What stands out of a minute, and what is usual; nothing while that is not known.
    #[must_use]
    pub fn unusual(&self, vector: &HostVector) -> Vec<Value> {
        let row = model_input(vector);
        let explained = self.learner.baseline().map(|baseline| baseline.explain(&row, 3)).unwrap_or_default();
        let features = explained.into_iter().map(|one| {
            let usual = f64::from(one.median.exp_m1()).round();
            json!({ "feature": COLUMNS[one.feature], "value": f64::from(vector[one.feature]), "usual": usual })
        });
        features.collect()
    }

    fn remember(&mut self, window: &HostWindow, score: f64, log_p: f64) {
        if self.rare.len() >= self.params.hosts && !self.rare.contains_key(&window.host) {
            return;
        }
        let before = self.rare.insert(window.host, (window.end, log_p));
        let Some((_, earlier)) = before.filter(|(end, _)| *end + MINUTE == window.end) else {
            return;
        };
        let features = self.unusual(&window.vector);
        self.odd.push(Odd { host: window.host, end: window.end, log_p: earlier.max(log_p), score, features });
    }
}

impl Past {
    /// The largest difference from the mean, in standard deviations.
    fn distance(&self, row: &HostVector) -> f32 {
        let columns = row.iter().zip(&self.mean).zip(&self.variance);
        let apart =
            columns.map(|((value, mean), variance)| (value - mean).abs() / variance.sqrt().max(LEAST_DEVIATION));
        apart.fold(0.0, f32::max)
    }

    /// As a mean and a variance that fade (West 1979).
    fn add(&mut self, row: &HostVector, at: Timestamp) {
        const MEMORY: u32 = 1440;
        self.latest = at;
        self.minutes = self.minutes.saturating_add(1);
        let share = 1.0 / self.minutes.min(MEMORY) as f32;
        for ((value, mean), variance) in row.iter().zip(&mut self.mean).zip(&mut self.variance) {
            let difference = value - *mean;
            *mean += share * difference;
            *variance = (1.0 - share) * (*variance + share * difference * difference);
        }
    }
}

impl Odd {
    fn finding(self, tests_per_day: f64) -> Finding {
        Finding {
            class: Class::Anomaly,
            subject: self.host,
            severity: Severity::Low,
            attackers: BTreeSet::from([self.host]),
            victims: BTreeSet::new(),
            ports: BTreeSet::new(),
            first_seen: self.end - MINUTE * 2,
            last_seen: self.end,
            score: self.score,
            chance: Some(Chance { log_p: self.log_p, tests_per_day }),
            evidence: BTreeMap::from([
                ("host_window".to_owned(), json!(true)),
                ("features".to_owned(), self.features.into()),
            ]),
        }
    }
}

/// What a model is given: the logarithm tames columns that span ten decades, and keeps their order.
fn model_input(vector: &HostVector) -> HostVector {
    vector.map(f32::ln_1p)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(last: u32) -> Addr {
        Addr::from_v4(0x0a00_0000 + last)
    }

    /// A minute of so many ordinary hosts; the columns depend on each other and vary, as they do.
    fn minute(detector: &mut HostAnomaly, end: Timestamp, odd: Option<HostVector>) -> Vec<Finding> {
        for host in 0..40_u32 {
            let noise = (u64::from(host) * 2_654_435_761 + end.secs() * 40_503) % 97;
            let flows = 2.0 + noise as f32 / 10.0;
            let mut vector = [0.0; COLUMNS.len()];
            for (column, share) in
                [(0, 1.0), (2, 0.7), (4, 0.8), (7, 12.0), (8, 15.0), (9, 900.0), (10, 9000.0), (11, 1.0)]
            {
                vector[column] = flows * share + (noise % 7) as f32 * share / 5.0;
            }
            detector.observe(&HostWindow { host: addr(host), end, length: MINUTE, vector }, false);
        }
        if let Some(vector) = odd {
            detector.observe(&HostWindow { host: addr(77), end, length: MINUTE, vector }, false);
        }
        let findings = detector.tick(end, &Roles::default(), |_| false);
        if let Some(job) = detector.learner_mut().take_job() {
            detector.learner_mut().install(job.run());
        }
        findings
    }

    #[test]
    fn two_odd_minutes_in_a_row_are_an_anomaly_and_one_is_not() {
        let mut detector = HostAnomaly::new(HostAnomalyParams::default(), None);
        let mut at = Timestamp::from_secs(1_700_000_040);
        let mut next = |detector: &mut HostAnomaly, odd| {
            at = at + MINUTE;
            minute(detector, at, odd)
        };
        for _ in 0..60 {
            assert_eq!(next(&mut detector, None), []);
        }
        assert!(detector.learner().baseline().is_some());
        let mut odd = [0.0; COLUMNS.len()];
        (odd[0], odd[2], odd[5], odd[7], odd[9]) = (900.0, 800.0, 850.0, 4000.0, 9e8);
        assert_eq!(next(&mut detector, Some(odd)), []);
        assert_eq!(next(&mut detector, None), []);
        assert_eq!(next(&mut detector, Some(odd)), [], "not in a row");
        let found = next(&mut detector, Some(odd));
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].class, found[0].subject), (Class::Anomaly, addr(77)));
        assert!(found[0].chance.unwrap().log_p < -7.0, "{found:?}");
        let names: Vec<&str> = found[0].evidence["features"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|f| f["feature"].as_str())
            .collect();
        assert!(
            names.iter().any(|name| ["flows_out", "peers_out", "failed_out", "octets_out"].contains(name)),
            "{names:?}"
        );
    }

    #[test]
    fn a_host_that_is_always_different_is_normal_for_itself() {
        let mut detector = HostAnomaly::new(HostAnomalyParams::default(), None);
        let mut crawler = [0.0; COLUMNS.len()];
        (crawler[0], crawler[2], crawler[7], crawler[9]) = (900.0, 800.0, 4000.0, 9e5);
        let mut found = 0;
        for round in 0..60_u32 {
            crawler[0] = 850.0 + (round * 7 % 13) as f32 * 8.0;
            let end = Timestamp::from_secs(1_700_000_040) + MINUTE * round;
            found += minute(&mut detector, end, (round >= 25).then_some(crawler)).len();
        }
        assert!(found <= 9, "{found} while it had no past");
    }

    #[test]
    fn rare_minutes_are_bounded() {
        let params = HostAnomalyParams { hosts: 8, rare: 1.0, ..HostAnomalyParams::default() };
        let mut detector = HostAnomaly::new(params, None);
        for round in 0..40 {
            minute(&mut detector, Timestamp::from_secs(1_700_000_040) + MINUTE * round, None);
            assert!(detector.rare.len() <= 8 && detector.pasts.len() <= 8);
        }
    }
}
