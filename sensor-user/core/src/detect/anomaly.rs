//! What is not normal for this network: hosts with more rare flows than chance explains.
//!
//! An ensemble of models scores every flow that ends, and its calibration turns the score into a p-value. Under normal
//! traffic a share `rare` of flows has a p-value of at most `rare`; a host whose flows are rare far more often than that
//! is anomalous (the higher criticism of Donoho, Jin 2004, at one level). Chernoff's bound on the binomial tail,
//! exp(-n KL(k/n || rare)), bounds the false alarms of one host and window.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use ndarray::{Array2, ArrayView2};
use sensor_ebpf::abi::Addr;
use sensor_models::{Baseline, BaselineParams};
use serde_json::{Value, json};

use super::Finding;
use crate::features::flow::{COLUMNS, FlowVector, model_input, vector};
use crate::flow::{FlowRecord, Outcome};
use crate::incident::{Class, Severity};
use crate::time::Timestamp;

/// Parameters of learning and of the test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AnomalyParams {
    /// Event time of learning before the first baseline; also the step of the retries while flows are few. Zero: nothing
    /// is learned, and only a saved baseline speaks.
    pub warmup: Duration,
    /// Event time between refits.
    pub refit: Duration,
    /// Flows needed for a first baseline.
    pub min_rows: usize,
    /// Flows kept for learning, a uniform sample of all (reservoir, Vitter 1985).
    pub reservoir: usize,
    /// The p-value up to which a flow is rare.
    pub rare: f64,
    /// Rare flows of one host in the window below which nothing is said.
    pub min_rare: u32,
    /// Share of a host's flows that must be rare.
    pub min_share: f64,
    /// Natural logarithm of the largest acceptable false-alarm bound of one host and window.
    pub log_bound: f64,
    /// How long flows of a host are counted together.
    pub window: Duration,
    /// Hosts followed at once.
    pub hosts: usize,
    /// Seed of the forest and of the reservoir.
    pub seed: u64,
}

impl Default for AnomalyParams {
    fn default() -> Self {
        Self {
            warmup: Duration::from_secs(60),
            refit: Duration::from_secs(600),
            min_rows: 500,
            reservoir: 8192,
            rare: 0.01,
            min_rare: 30,
            min_share: 0.5,
            log_bound: -46.0,
            window: Duration::from_secs(60),
            hosts: 65_536,
            seed: 1,
        }
    }
}

/// Learns what is normal, then reports hosts that are not.
#[derive(Debug)]
pub struct Anomaly {
    params: AnomalyParams,
    baseline: Option<Baseline>,
    reservoir: Vec<FlowVector>,
    offered: u64,
    next_fit: Option<Timestamp>,
    hosts: HashMap<Addr, Host>,
    touched: BTreeSet<Addr>,
    window_end: Timestamp,
    scores: Vec<f64>,
}

#[derive(Debug, Default)]
struct Host {
    flows: u32,
    rare: u32,
    servers: BTreeSet<Addr>,
    ports: BTreeSet<u16>,
    features: BTreeMap<usize, Share>,
    best: f64,
    first_seen: Option<Timestamp>,
    last_seen: Timestamp,
}

/// How much one feature contributed to the rare flows of a host.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    share: f64,
    value: f64,
    median: f32,
}

impl Anomaly {
    /// A detector with a saved baseline, or one that learns first.
    #[must_use]
    pub fn new(params: AnomalyParams, baseline: Option<Baseline>) -> Self {
        Self {
            params,
            baseline,
            reservoir: Vec::new(),
            offered: 0,
            next_fit: None,
            hosts: HashMap::new(),
            touched: BTreeSet::new(),
            window_end: Timestamp::EPOCH,
            scores: Vec::new(),
        }
    }

    /// What is normal, once it is known.
    #[must_use]
    pub const fn baseline(&self) -> Option<&Baseline> {
        self.baseline.as_ref()
    }

    /// Time until the first baseline can be there; nothing once there is one.
    #[must_use]
    pub fn warmup_left(&self, now: Timestamp) -> Option<Duration> {
        match (&self.baseline, self.next_fit) {
            (Some(_), _) => None,
            (None, _) if self.params.warmup.is_zero() => None,
            (None, Some(at)) => Some(at.since(now)),
            (None, None) => Some(self.params.warmup),
        }
    }

    /// Whether no host is being counted.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.hosts.is_empty()
    }

    /// Scores of the flows since the last call, in [0, 1].
    pub fn take_scores(&mut self) -> Vec<f64> {
        std::mem::take(&mut self.scores)
    }

    /// Takes in a flow that ended. `flagged` flows belong to an incident and are never learned.
    pub fn observe(&mut self, record: &FlowRecord, flagged: bool) {
        let vector = vector(record);
        if let Some(baseline) = &self.baseline {
            let input = model_input(&vector);
            let score = baseline.score(&input);
            self.scores.push(score);
            if !flagged {
                self.count(record, &vector, baseline.calibration().p_value(score), score);
            }
        }
        if !flagged && !self.params.warmup.is_zero() {
            self.learn(vector);
        }
    }

    /// Fits when a fixed point of event time has come, and reports hosts whose rare flows exceed chance.
    pub fn tick(&mut self, now: Timestamp) -> Vec<Finding> {
        self.fit_when_due(now);
        let touched = std::mem::take(&mut self.touched);
        let findings = touched.into_iter().filter_map(|host| self.judge(host)).collect();
        if now >= self.window_end {
            self.window_end = now.floor(self.params.window) + self.params.window;
            self.hosts.clear();
        }
        findings
    }

    fn learn(&mut self, vector: FlowVector) {
        self.offered += 1;
        if self.reservoir.len() < self.params.reservoir {
            self.reservoir.push(vector);
            return;
        }
        let index = scramble(self.params.seed ^ self.offered) % self.offered;
        if let Some(kept) = usize::try_from(index).ok().and_then(|index| self.reservoir.get_mut(index)) {
            *kept = vector;
        }
    }

    fn fit_when_due(&mut self, now: Timestamp) {
        if self.params.warmup.is_zero() {
            return;
        }
        let due = *self.next_fit.get_or_insert(now + self.params.warmup);
        if now < due {
            return;
        }
        if self.reservoir.len() >= self.params.min_rows {
            self.fit(now);
        }
        let step = if self.baseline.is_some() { self.params.refit } else { self.params.warmup };
        let mut next = due;
        while next <= now {
            next = next + step;
        }
        self.next_fit = Some(next);
    }

    fn fit(&mut self, now: Timestamp) {
        let inputs: Vec<f32> = self.reservoir.iter().flat_map(model_input).collect();
        let rows: Result<Array2<f32>, _> =
            ArrayView2::from_shape((self.reservoir.len(), COLUMNS.len()), &inputs).map(|view| view.to_owned());
        let (Ok(rows), Ok(params)) = (rows, BaselineParams::new().seed(self.params.seed).check()) else {
            return;
        };
        // Rows that cannot be fitted leave the previous baseline in place.
        if let Ok(baseline) = params.fit(&COLUMNS, rows.view(), now.secs()) {
            self.baseline = Some(baseline);
        }
    }

    fn count(&mut self, record: &FlowRecord, vector: &FlowVector, p_value: f64, score: f64) {
        let view = record.view();
        let (client, server) = (view.client(), view.server());
        if view.outcome(true) == Outcome::Unasked
            || (self.hosts.len() >= self.params.hosts && !self.hosts.contains_key(&client.addr))
        {
            return;
        }
        let host = self.hosts.entry(client.addr).or_default();
        host.flows += 1;
        if p_value > self.params.rare {
            return;
        }
        host.rare += 1;
        host.best = host.best.max(score);
        host.first_seen.get_or_insert(record.first_seen);
        host.last_seen = host.last_seen.max(record.last_seen);
        if host.servers.len() < 4096 {
            host.servers.insert(server.addr);
        }
        if server.port != 0 {
            host.ports.insert(server.port);
        }
        if let Some(baseline) = &self.baseline {
            for explanation in baseline.explain(&model_input(vector), 3) {
                let share = host.features.entry(explanation.feature).or_default();
                share.share += explanation.share;
                share.value += f64::from(vector[explanation.feature]);
                share.median = explanation.median.exp_m1();
            }
        }
        self.touched.insert(client.addr);
    }

    fn judge(&self, addr: Addr) -> Option<Finding> {
        let host = self.hosts.get(&addr)?;
        let log_bound = log_tail_bound(host.rare, host.flows, self.params.rare);
        if host.rare < self.params.min_rare
            || f64::from(host.rare) < self.params.min_share * f64::from(host.flows)
            || log_bound > self.params.log_bound
        {
            return None;
        }
        let mut features: Vec<(usize, Share)> = host.features.iter().map(|(&index, &share)| (index, share)).collect();
        features.sort_by(|a, b| b.1.share.total_cmp(&a.1.share).then(a.0.cmp(&b.0)));
        let features: Vec<Value> = features
            .into_iter()
            .take(3)
            .map(|(index, share)| {
                json!({
                    "feature": COLUMNS[index],
                    "mean": rounded(share.value / f64::from(host.rare)),
                    "usual": rounded(f64::from(share.median)),
                })
            })
            .collect();
        Some(Finding {
            class: Class::Anomaly,
            subject: addr,
            severity: Severity::Low,
            attackers: BTreeSet::from([addr]),
            victims: host.servers.clone(),
            ports: host.ports.clone(),
            first_seen: host.first_seen.unwrap_or(host.last_seen),
            last_seen: host.last_seen,
            score: host.best,
            evidence: BTreeMap::from([
                ("rare_flows".to_owned(), json!(host.rare)),
                ("flows".to_owned(), json!(host.flows)),
                ("expected_rare_flows".to_owned(), json!(rounded(f64::from(host.flows) * self.params.rare))),
                ("log10_p_value".to_owned(), json!(rounded(log_bound / std::f64::consts::LN_10))),
                ("features".to_owned(), json!(features)),
            ]),
        })
    }
}

/// Natural logarithm of Chernoff's bound on P(X >= k) for X binomial(n, p); 0 when k is not above the mean.
fn log_tail_bound(k: u32, n: u32, p: f64) -> f64 {
    let share = f64::from(k) / f64::from(n.max(1));
    if share <= p {
        return 0.0;
    }
    let hit = share * (share / p).ln();
    let miss = if share < 1.0 { (1.0 - share) * ((1.0 - share) / (1.0 - p)).ln() } else { 0.0 };
    -f64::from(n) * (hit + miss)
}

/// Three significant decimals are enough for a person.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// A pseudo-random word from a counter (SplitMix64).
const fn scramble(word: u64) -> u64 {
    let word = word.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chance_explains_what_is_expected() {
        assert_eq!(log_tail_bound(1, 100, 0.01), 0.0);
        assert!(log_tail_bound(3, 100, 0.01) > -3.0);
        assert!(log_tail_bound(50, 100, 0.01) < -150.0);
        assert!(log_tail_bound(12, 12, 0.01) < -50.0);
    }
}
