//! Fits what was asked for to the rows, and measures it on those that were held out.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail};
use sensor_models::baseline::MIN_ROWS;
use sensor_models::classifier::{ClassifierParams, Decision, Names};
use sensor_models::labels::CLASSES;
use sensor_models::{Baseline, BaselineParams, Classifier, Metrics};

use super::{Progress, Rows, TrainOptions, Trained, measure};

/// Fits a baseline to normal rows and, if asked for, a classifier to all.
///
/// # Errors
/// Options out of range, or too few rows.
pub fn fit(rows: Rows, options: &TrainOptions, progress: &Progress) -> Result<Trained> {
    let parts = Parts::of(&rows)?;
    let baseline = fit_baseline(&rows, &parts, options, progress)?;
    let classifier = options.classes.then(|| fit_classifier(&rows, &parts, options, progress)).transpose()?;
    progress.end();
    Ok(Trained { baseline, classifier, rows })
}

/// Numbers of rows.
struct Parts {
    normal: Vec<usize>,
    held_out_normal: Vec<usize>,
    attacks: Vec<usize>,
}

impl Parts {
    /// Nothing is held out of rows that are just enough to fit.
    fn of(rows: &Rows) -> Result<Self> {
        let of_class =
            |wanted: fn(u16) -> bool| (0..rows.len()).filter(move |row| rows.class(*row).is_some_and(wanted));
        let (held_out, learned): (Vec<usize>, Vec<usize>) =
            of_class(|class| class == 0).partition(|row| measure::is_held_out(rows.values(*row)));
        let attacks = of_class(|class| class > 0).collect();
        let all = held_out.len() + learned.len();
        if all < MIN_ROWS {
            bail!(
                "{all} rows of normal traffic in {} are not enough, {MIN_ROWS} are needed: add inputs with more of it",
                rows.inputs()
            );
        }
        if learned.len() < MIN_ROWS {
            let normal = of_class(|class| class == 0).collect();
            return Ok(Self { normal, held_out_normal: Vec::new(), attacks });
        }
        Ok(Self { normal: learned, held_out_normal: held_out, attacks })
    }
}

fn fit_baseline(rows: &Rows, parts: &Parts, options: &TrainOptions, progress: &Progress) -> Result<Baseline> {
    let params = BaselineParams::new().recipe(&options.recipe).contamination(options.contamination).seed(options.seed);
    let params = params.check()?;
    progress.begin_step("fitting", &format!("{} models to {} rows", options.recipe.len(), parts.normal.len()));
    let learned = rows.select(&parts.normal);
    let baseline = params.fit(rows.schema.columns(), learned.view(), rows.latest_s()).context("fit what is normal")?;
    let measured = parts.held_out_normal.len() + parts.attacks.len();
    progress.begin_step("measuring", &format!("{measured} rows"));
    let metrics = measure::baseline(&baseline, rows, &parts.held_out_normal, &parts.attacks);
    Ok(baseline.with_metrics(metrics))
}

fn fit_classifier(rows: &Rows, parts: &Parts, options: &TrainOptions, progress: &Progress) -> Result<Classifier> {
    if parts.attacks.is_empty() {
        bail!("--classes needs rows of attacks, and there are none: add inputs with a label of 1, or leave it out");
    }
    let (held_out, learned): (Vec<usize>, Vec<usize>) =
        parts.attacks.iter().partition(|row| measure::is_held_out(rows.values(**row)));
    // As for normal rows: what is too little to be divided is learned.
    let (held_out, learned) = if learned.is_empty() { (Vec::new(), held_out) } else { (held_out, learned) };
    let learned = [parts.normal.as_slice(), &learned].concat();
    let occurring: BTreeSet<u16> = (0..rows.len()).filter_map(|row| rows.class(row)).chain([0]).collect();
    let names: Vec<&str> = occurring.iter().map(|class| CLASSES[usize::from(*class)]).collect();
    let place = |row: usize| -> u16 {
        let class = rows.class(row).expect("rows without a class are in no part");
        let at = occurring.iter().position(|other| *other == class).expect("every class was collected");
        u16::try_from(at).expect("there are a few classes")
    };
    progress.begin_step("fitting", &format!("{} classes to {} rows", names.len(), learned.len()));
    let classes: Vec<u16> = learned.iter().map(|row| place(*row)).collect();
    let params = ClassifierParams::new().seed(options.seed).check()?;
    let called = Names { columns: rows.schema.columns(), classes: &names };
    let mut classifier = params.fit(rows.select(&learned).view(), &classes, called, rows.latest_s())?;
    if let Some(prior) = options.prior {
        classifier = classifier.with_prior(prior).context("--prior")?;
    }
    let held_out = [parts.held_out_normal.as_slice(), &held_out].concat();
    progress.begin_step("measuring", &format!("{} rows", held_out.len()));
    let metrics = judged(&classifier, rows, &held_out, place);
    Ok(classifier.with_metrics(metrics)?)
}

/// The share of each class that is named right, and of normal rows named an attack.
fn judged(classifier: &Classifier, rows: &Rows, held_out: &[usize], place: impl Fn(usize) -> u16) -> Metrics {
    let count = classifier.classes().len();
    let (mut right, mut all, mut alarms) = (vec![0_u32; count], vec![0_u32; count], 0_u32);
    for row in held_out {
        let truth = place(*row);
        let decision = classifier.verdict(rows.values(*row)).decision;
        all[usize::from(truth)] += 1;
        right[usize::from(truth)] += u32::from(match decision {
            Decision::Normal => truth == 0,
            Decision::Attack(class) => class == truth,
            Decision::Unknown => false,
        });
        alarms += u32::from(truth == 0 && matches!(decision, Decision::Attack(_)));
    }
    let mut metrics = Metrics::new();
    for (at, name) in classifier.classes().iter().enumerate().filter(|(at, _)| all[*at] > 0) {
        metrics.insert(format!("recall_{name}"), f64::from(right[at]) / f64::from(all[at]));
        metrics.insert(format!("held_out_rows_{name}"), f64::from(all[at]));
    }
    if all[0] > 0 {
        metrics.insert("false_alarm_ratio".to_owned(), f64::from(alarms) / f64::from(all[0]));
    }
    metrics
}
