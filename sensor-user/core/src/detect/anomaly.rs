//! What is not normal for this network: hosts with more rare flows than chance explains.
//!
//! An ensemble of models scores every flow that ends, and its calibration turns the score into a p-value. Under normal
//! traffic a share `rare` of flows has a p-value of at most `rare`; a host whose flows are rare far more often than that
//! is anomalous (the higher criticism of Donoho, Jin 2004, at one level). Chernoff's bound on the binomial tail,
//! exp(-n KL(k/n || rare)), bounds the false alarms of one host and window.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use sensor_ebpf::abi::Addr;
use sensor_models::classifier::{Classifier, Decision};
use sensor_models::{Baseline, Change, Mark};
use serde_json::{Value, json};

use super::{Chance, Finding};
use crate::features::flow::{COLUMNS, FlowVector, model_input, vector};
use crate::flow::{FlowRecord, Outcome};
use crate::incident::{Class, Severity};
use crate::learn::{LearnParams, Learner};
use crate::time::Timestamp;

/// Parameters of learning and of the test.
#[derive(Clone, Debug, PartialEq)]
pub struct AnomalyParams {
    /// How normal traffic is learned.
    pub learn: LearnParams,
    /// Names what is not normal.
    pub classifier: Option<Arc<Classifier>>,
    /// The p-value up to which a flow is rare.
    pub rare: f64,
    /// Rare flows of one host in the window below which nothing is said.
    pub min_rare: u32,
    /// Share of a host's flows that must be rare.
    pub min_share: f64,
    /// How long flows of a host are counted together.
    pub window: Duration,
    /// Hosts followed at once.
    pub hosts: usize,
    /// Mean probability from which the classifier's word for most of the rare flows is taken.
    pub sure: f64,
    /// Flows scored at a tick; of more, an even selection is.
    pub scored: usize,
}

impl Default for AnomalyParams {
    fn default() -> Self {
        Self {
            learn: LearnParams::default(),
            classifier: None,
            rare: 0.01,
            min_rare: 30,
            min_share: 0.5,
            window: Duration::from_secs(60),
            hosts: 65_536,
            sure: 0.9,
            scored: 500,
        }
    }
}

/// Learns what is normal, then reports hosts that are not.
#[derive(Debug)]
pub struct Anomaly {
    params: AnomalyParams,
    learner: Learner,
    selection: Selection,
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
    /// Rare flows that look like a class of attack, and the sum of their probabilities.
    classes: BTreeMap<u16, (u32, f64)>,
    /// Score and model input of the rarest flow.
    rarest: (f64, FlowVector),
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

/// Every so many-th of the flows of a tick, as many as may be looked at, guessed from the tick before.
#[derive(Debug, Default)]
struct Selection {
    step: u64,
    seen: u64,
    taken: usize,
    passed_over: u64,
}

impl Selection {
    fn takes(&mut self, limit: usize) -> bool {
        let taken = self.seen.is_multiple_of(self.step.max(1)) && self.taken < 2 * limit;
        self.seen += 1;
        self.taken += usize::from(taken);
        self.passed_over += u64::from(!taken);
        taken
    }

    fn tick(&mut self, limit: usize) {
        self.step = self.seen.div_ceil(limit.max(1) as u64);
        (self.seen, self.taken) = (0, 0);
    }
}

impl Anomaly {
    /// A detector with a saved baseline, or one that learns first.
    #[must_use]
    pub fn new(params: AnomalyParams, baseline: Option<Baseline>) -> Self {
        Self {
            learner: Learner::new(&COLUMNS, params.learn, baseline),
            params,
            selection: Selection::default(),
            hosts: HashMap::new(),
            touched: BTreeSet::new(),
            window_end: Timestamp::EPOCH,
            scores: Vec::new(),
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

    /// Flows so far that were not looked at, because too many ended at once.
    #[must_use]
    pub const fn passed_over(&self) -> u64 {
        self.selection.passed_over
    }

    /// Whether no host is being counted.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.hosts.is_empty()
    }

    /// Scores of the flows since the last call, in [0, 1).
    pub fn take_scores(&mut self) -> Vec<f64> {
        std::mem::take(&mut self.scores)
    }

    /// Takes in a flow that ended. `flagged` flows belong to an incident and are never learned.
    pub fn observe(&mut self, record: &FlowRecord, flagged: bool) {
        if !self.selection.takes(self.params.scored) {
            return;
        }
        let vector = vector(record);
        let row = model_input(&vector);
        let score = self.learner.baseline().map(|baseline| baseline.score(&row));
        self.scores.extend(score);
        if flagged {
            return;
        }
        let p_value = score.and_then(|score| self.learner.p_value(&row, score));
        if let Some((p_value, score)) = p_value.zip(score) {
            self.count(record, &vector, p_value, score);
        }
        let view = record.view();
        self.learner.observe(&row, [view.client().addr, view.server().addr], record.last_seen, p_value);
    }

    /// Takes in a person's word about a flow, if it is rare and nothing like it is known already. Gives whether it is.
    pub fn mark(&mut self, mark: Mark, vector: &FlowVector) -> bool {
        let row = model_input(vector);
        let p_value = self.learner.baseline().and_then(|baseline| self.learner.p_value(&row, baseline.score(&row)));
        p_value.is_none_or(|p_value| p_value <= self.params.rare) && self.learner.mark(mark, &row).is_ok()
    }

    /// Reports hosts whose rare flows exceed chance. `involved` tells whether an address is part of an incident: what it
    /// did is not learned.
    pub fn tick(&mut self, now: Timestamp, involved: impl Fn(Addr) -> bool) -> Vec<Finding> {
        self.selection.tick(self.params.scored);
        self.learner.tick(now, involved);
        let touched = std::mem::take(&mut self.touched);
        let findings = touched.into_iter().filter_map(|host| self.judge(host)).collect();
        if now >= self.window_end {
            self.window_end = now.floor(self.params.window) + self.params.window;
            self.hosts.clear();
        }
        findings
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
        let row = model_input(vector);
        if score > host.rarest.0 {
            host.rarest = (score, row);
        }
        host.first_seen.get_or_insert(record.first_seen);
        host.last_seen = host.last_seen.max(record.last_seen);
        if host.servers.len() < 4096 {
            host.servers.insert(server.addr);
        }
        if server.port != 0 {
            host.ports.insert(server.port);
        }
        if let Some(classifier) = &self.params.classifier {
            let verdict = classifier.verdict(&row);
            if let Decision::Attack(class) = verdict.decision {
                let (flows, sum) = host.classes.entry(class).or_default();
                *flows += 1;
                *sum += verdict.probabilities[usize::from(class)];
            }
        }
        if let Some(baseline) = self.learner.baseline() {
            for explanation in baseline.explain(&row, 3) {
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
        if host.rare < self.params.min_rare || f64::from(host.rare) < self.params.min_share * f64::from(host.flows) {
            return None;
        }
        let windows_a_day = 86_400.0 / self.params.window.as_secs_f64();
        let chance = Chance { log_p: log_bound, tests_per_day: self.hosts.len() as f64 * windows_a_day };
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
        let mut evidence = BTreeMap::from([
            ("rare_flows".to_owned(), json!(host.rare)),
            ("flows".to_owned(), json!(host.flows)),
            ("expected_rare_flows".to_owned(), json!(rounded(f64::from(host.flows) * self.params.rare))),
            ("features".to_owned(), json!(features)),
        ]);
        evidence
            .extend(self.would_be_normal_if(&host.rarest.1).map(|changes| ("would_be_normal_if".to_owned(), changes)));
        let resembles = self.resembles(host);
        let class = resembles.as_ref().and_then(|((class, sure), _)| class.filter(|_| *sure));
        evidence.extend(resembles.map(|(_, value)| ("resembles".to_owned(), value)));
        Some(Finding {
            class: class.unwrap_or(Class::Anomaly),
            subject: addr,
            severity: Severity::Low,
            attackers: BTreeSet::from([addr]),
            victims: host.servers.clone(),
            ports: host.ports.clone(),
            first_seen: host.first_seen.unwrap_or(host.last_seen),
            last_seen: host.last_seen,
            score: host.rarest.0,
            chance: Some(chance),
            evidence,
        })
    }

    /// The smallest change that would make a row ordinary, if there is a small one.
    fn would_be_normal_if(&self, row: &FlowVector) -> Option<Value> {
        let found = self.learner.baseline()?.smallest_change(row, self.params.rare);
        let described = |change: &Change| {
            let in_unit = |value: f32| rounded(f64::from(value.exp_m1()));
            json!({ "feature": COLUMNS[change.feature], "from": in_unit(change.from), "to": in_unit(change.to) })
        };
        found.normal.then(|| found.changes.iter().map(described).collect())
    }

    /// The class of attack that most of the rare flows look like, and whether the classifier is sure of it.
    fn resembles(&self, host: &Host) -> Option<((Option<Class>, bool), Value)> {
        let classifier = self.params.classifier.as_ref()?;
        let (class, (flows, sum)) = host.classes.iter().max_by_key(|(_, (flows, _))| *flows)?;
        let name = &classifier.classes()[usize::from(*class)];
        let probability = sum / f64::from(*flows);
        let sure = probability >= self.params.sure && f64::from(*flows) >= self.params.sure * f64::from(host.rare);
        (2 * flows > host.rare).then(|| {
            let value = json!({ "class": name, "flows": flows, "probability": rounded(probability) });
            ((Class::named(name), sure), value)
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
