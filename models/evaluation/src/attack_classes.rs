//! The classifier that is shipped: fitted to our own flow vectors of the labelled captures, measured on captures it has
//! not seen.
//!
//! Captures are dealt to [`FOLDS`] folds, those of one class to different ones; the flows of a fold are judged by a
//! classifier that was fitted to the flows of all others. A second deal keeps all captures of one source together, which
//! is harder: the network and the tools are unseen, too.

pub mod card;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use ndarray::Array2;
use sensor_core::features::flow::COLUMNS;
use sensor_models::Classifier;
use sensor_models::classifier::{ClassifierParams, Decision, Names};
use sensor_models::labels::CLASSES;

use crate::captures::Flows;

/// Parts that are judged by classifiers that have not seen them.
pub const FOLDS: usize = 5;
/// Most flows of one class of one capture.
pub const MOST_FLOWS: usize = 500;
/// Of flows of benign captures that were not seen, at most this share may be called an attack by name.
pub const FALSE_ALARMS: f64 = 0.001;
/// Shares of normal flows that are tried, in this order; the first that keeps [`FALSE_ALARMS`] is taken, else the last.
pub const PRIORS: [f64; 6] = [0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999];
const SEED: u64 = 1;

/// The classifier, and what was measured of those like it.
#[derive(Clone, Debug)]
pub struct Trained {
    /// Fitted to all flows.
    pub classifier: Classifier,
    /// Flows it was fitted to.
    pub flows: Flows,
    /// Folds of captures, for each of [`PRIORS`].
    pub by_capture: Vec<Judged>,
    /// Folds of sources, for each of [`PRIORS`].
    pub by_source: Vec<Judged>,
    /// Which of [`PRIORS`] was taken.
    pub chosen: usize,
}

/// What became of each flow, judged by a classifier that has not seen its capture.
#[derive(Clone, Debug)]
pub struct Judged {
    /// Share of normal flows the classifiers expect.
    pub prior: f64,
    /// The decisions.
    pub decisions: Vec<Decision>,
    /// Probabilities of being normal.
    pub normal: Vec<f64>,
    /// The likeliest classes of attacks, whether or not they were named.
    pub likeliest: Vec<u16>,
}

/// Decisions about the flows of one class.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Its flows.
    pub rows: usize,
    /// Named as what they are; of normal flows: passed.
    pub right: usize,
    /// Attacks that were passed as normal.
    pub passed: usize,
    /// Not normal, and not sure enough to be named.
    pub unknown: usize,
    /// The likeliest class of attacks is the right one, named or not: what a hint is worth for a flow that is known to be one.
    pub likeliest_right: usize,
    /// Named as another class.
    pub misnamed: BTreeMap<u16, usize>,
}

/// Fits the classifier to `flows` and judges them in folds.
///
/// # Errors
/// No normal flows, or no attacks.
pub fn train(flows: Flows) -> Result<Trained> {
    let by_capture = judge(&flows, &folds(&flows, |capture| flows.captures[capture].clone()))?;
    let by_source = judge(&flows, &folds(&flows, |capture| flows.source_of(capture).to_owned()))?;
    let good =
        |judged: &Judged| judged.false_alarms(&flows).0 as f64 <= FALSE_ALARMS * judged.false_alarms(&flows).1 as f64;
    let chosen = by_capture.iter().zip(&by_source).position(|(capture, source)| good(capture) && good(source));
    let chosen = chosen.unwrap_or(PRIORS.len() - 1);
    let all: Vec<usize> = (0..flows.rows.len()).collect();
    let classifier = fit(&flows, &all)?.with_prior(PRIORS[chosen])?;
    let metrics = metrics(&flows, &by_capture[chosen], &by_source[chosen]);
    let classifier = classifier.with_metrics(metrics)?;
    Ok(Trained { classifier, flows, by_capture, by_source, chosen })
}

impl Judged {
    /// Flows of benign captures that were named an attack, of how many.
    #[must_use]
    pub fn false_alarms(&self, flows: &Flows) -> (usize, usize) {
        let benign = benign_captures(flows);
        let of_benign = (0..flows.rows.len()).filter(|row| benign.contains(&flows.capture[*row]));
        let (mut named, mut all) = (0, 0);
        for row in of_benign {
            all += 1;
            named += usize::from(matches!(self.decisions[row], Decision::Attack(_)));
        }
        (named, all)
    }

    /// Benign captures with a flow that was named an attack.
    #[must_use]
    pub fn alarmed_captures(&self, flows: &Flows) -> BTreeSet<usize> {
        let benign = benign_captures(flows);
        let named = |row: &usize| matches!(self.decisions[*row], Decision::Attack(_));
        let alarmed = (0..flows.rows.len()).filter(named).map(|row| flows.capture[row]);
        alarmed.filter(|capture| benign.contains(capture)).collect()
    }

    /// What became of the flows of a class.
    #[must_use]
    pub fn outcome(&self, flows: &Flows, class: u16) -> Outcome {
        let mut outcome = Outcome::default();
        for row in (0..flows.class.len()).filter(|row| flows.class[*row] == class) {
            outcome.rows += 1;
            outcome.likeliest_right += usize::from(self.likeliest[row] == class);
            match &self.decisions[row] {
                Decision::Normal if class == 0 => outcome.right += 1,
                Decision::Normal => outcome.passed += 1,
                Decision::Attack(named) if *named == class => outcome.right += 1,
                Decision::Attack(named) => *outcome.misnamed.entry(*named).or_default() += 1,
                Decision::Unknown => outcome.unknown += 1,
            }
        }
        outcome
    }

    /// Of the flows named as a class, the share that are of it; nothing if none is named so.
    #[must_use]
    pub fn precision(&self, flows: &Flows, class: u16) -> Option<f64> {
        let named =
            self.decisions.iter().zip(&flows.class).filter(|(decision, _)| **decision == Decision::Attack(class));
        let (mut right, mut all) = (0_u32, 0_u32);
        for (_, truth) in named {
            all += 1;
            right += u32::from(*truth == class);
        }
        (all > 0).then(|| f64::from(right) / f64::from(all))
    }
}

/// Captures without a flow of an attack.
#[must_use]
pub fn benign_captures(flows: &Flows) -> BTreeSet<usize> {
    let mut benign: BTreeSet<usize> = flows.capture.iter().copied().collect();
    flows.class.iter().zip(&flows.capture).filter(|(class, _)| **class > 0).for_each(|(_, capture)| {
        benign.remove(capture);
    });
    benign
}

/// Of each capture: its fold. Captures of one group share it, and groups with the same rarest class are dealt in turn.
fn folds(flows: &Flows, group: impl Fn(usize) -> String) -> Vec<usize> {
    let mut rarest: BTreeMap<String, (usize, u16)> = BTreeMap::new();
    for (class, capture) in flows.class.iter().zip(&flows.capture) {
        let rank = (flows.captures_of(*class).len(), *class);
        rarest.entry(group(*capture)).and_modify(|least| *least = (*least).min(rank)).or_insert(rank);
    }
    let mut order: Vec<(&(usize, u16), &String)> = rarest.iter().map(|(group, rank)| (rank, group)).collect();
    order.sort_unstable();
    let fold: BTreeMap<&String, usize> =
        order.iter().enumerate().map(|(at, (_, group))| (*group, at % FOLDS)).collect();
    (0..flows.captures.len()).map(|capture| fold.get(&group(capture)).copied().unwrap_or(0)).collect()
}

fn judge(flows: &Flows, fold: &[usize]) -> Result<Vec<Judged>> {
    let count = flows.rows.len();
    let empty = |prior| Judged {
        prior,
        decisions: vec![Decision::Unknown; count],
        normal: vec![0.0; count],
        likeliest: vec![0; count],
    };
    let mut all: Vec<Judged> = PRIORS.into_iter().map(empty).collect();
    for judged_fold in 0..FOLDS {
        let (judged, learned): (Vec<usize>, Vec<usize>) =
            (0..count).partition(|row| fold[flows.capture[*row]] == judged_fold);
        if judged.is_empty() {
            continue;
        }
        let mut classifier = fit(flows, &learned).with_context(|| format!("fit without fold {judged_fold}"))?;
        for out in &mut all {
            classifier = classifier.with_prior(out.prior)?;
            let probabilities = classifier.probabilities_batch(rows(flows, &judged).view());
            for (row, probabilities) in judged.iter().zip(probabilities.rows()) {
                let verdict = classifier.judge(probabilities.to_vec());
                out.decisions[*row] = verdict.decision;
                out.normal[*row] = verdict.probabilities[0];
                let attacks = (1_u16..).zip(&verdict.probabilities[1..]);
                let best = attacks.fold((0, 0.0), |best, (class, p)| if *p > best.1 { (class, *p) } else { best });
                out.likeliest[*row] = best.0;
            }
        }
    }
    Ok(all)
}

fn fit(flows: &Flows, learned: &[usize]) -> Result<Classifier> {
    let params = ClassifierParams::new().seed(SEED).check()?;
    let classes: Vec<u16> = learned.iter().map(|row| flows.class[*row]).collect();
    let names = Names { columns: &COLUMNS, classes: &CLASSES };
    Ok(params.fit(rows(flows, learned).view(), &classes, names, flows.latest_s)?)
}

fn rows(flows: &Flows, chosen: &[usize]) -> Array2<f32> {
    Array2::from_shape_fn((chosen.len(), COLUMNS.len()), |(row, column)| flows.rows[chosen[row]][column])
}

fn metrics(flows: &Flows, by_capture: &Judged, by_source: &Judged) -> BTreeMap<String, f64> {
    let mut metrics = BTreeMap::new();
    for (deal, judged) in [("capture", by_capture), ("source", by_source)] {
        let (named, all) = judged.false_alarms(flows);
        metrics.insert(format!("false_alarm_ratio_unseen_{deal}"), named as f64 / all as f64);
        for (class, name) in (1_u16..).zip(&CLASSES[1..]) {
            let outcome = judged.outcome(flows, class);
            if flows.captures_of(class).len() > 1 {
                metrics.insert(format!("recall_{name}_unseen_{deal}"), outcome.right as f64 / outcome.rows as f64);
            }
        }
    }
    metrics
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three captures of normal flows, three of each of two attacks.
    fn flows() -> Flows {
        let mut flows = Flows::default();
        for capture in 0..9_u16 {
            flows.captures.push(format!("pcaps/{}__{capture}.pcap", ["a", "b", "c"][usize::from(capture) % 3]));
            for at in 0..40_u16 {
                let class = capture / 3;
                let value = f32::from(class) * 5.0 + f32::from(at % 7) / 10.0;
                flows.rows.push([value; COLUMNS.len()]);
                flows.class.push(class);
                flows.capture.push(capture.into());
            }
        }
        flows
    }

    #[test]
    fn what_can_be_told_apart_is_named_in_captures_that_were_not_seen() {
        let trained = train(flows()).unwrap();
        let judged = &trained.by_capture[trained.chosen];
        assert_eq!(judged.false_alarms(&trained.flows), (0, 120));
        for class in [1, 2] {
            assert_eq!(trained.by_capture[0].outcome(&trained.flows, class).right, 120);
        }
        assert_eq!(trained.classifier.normal_share(), PRIORS[trained.chosen]);
    }

    #[test]
    fn captures_of_a_class_and_all_of_a_source_are_dealt_as_promised() {
        let flows = flows();
        let by_capture = folds(&flows, |capture| flows.captures[capture].clone());
        for class in 0..3 {
            let of_class: BTreeSet<usize> = flows.captures_of(class).iter().map(|at| by_capture[*at]).collect();
            assert_eq!(of_class.len(), 3);
        }
        let by_source = folds(&flows, |capture| flows.source_of(capture).to_owned());
        assert!((0..9).all(|capture| by_source[capture] == by_source[capture % 3]));
    }

    #[test]
    fn the_same_flows_give_the_same_bytes() {
        let bytes = || train(flows()).unwrap().classifier.to_bytes();
        assert_eq!(bytes(), bytes());
    }

    #[test]
    fn what_is_shipped_is_what_the_sensor_can_use() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../trained");
        let bytes = std::fs::read(format!("{folder}/attack_classes.leuko")).unwrap();
        let classifier = Classifier::from_bytes(&bytes).unwrap();
        assert_eq!(classifier.columns(), COLUMNS);
        assert_eq!(classifier.classes(), CLASSES);
        assert!(classifier.metrics()["false_alarm_ratio_unseen_capture"] <= FALSE_ALARMS);
        let size: u64 = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum();
        assert!(size < 5_000_000, "{size} bytes");
    }
}
