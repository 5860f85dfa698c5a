//! Fits, scores and measures every model on every column set.

use std::collections::HashSet;

use anyhow::{Context as _, Result};
use ndarray::Axis;
use serde::Serialize;

use crate::contestants::{self, SEED, SupervisedModel};
use crate::floors::{self, Floors};
use crate::measures::bootstrap::Resamples;
use crate::measures::{Interval, Measures, Scores, Truth};
use crate::parity::Parity;
use crate::speed::{self, Cost};
use crate::split::Part;
use crate::{Prepared, PreparedSet};

/// How thorough an evaluation is.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Bootstrap resamples.
    pub resamples: usize,
    /// Whether classifiers are also fitted without each family.
    pub leave_out: bool,
}

/// Everything that is in the card.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Bootstrap resamples behind each interval.
    pub resamples: usize,
    /// Why scikit-learn was not measured, if it was not.
    pub floors_missing: Option<String>,
    /// One for each data set.
    pub datasets: Vec<DatasetReport>,
    /// Our Isolation Forest beside scikit-learn's.
    pub parity: Option<Parity>,
    /// Differs from run to run and from machine to machine.
    pub costs: Vec<Cost>,
}

/// One data set.
#[derive(Debug, Serialize)]
pub struct DatasetReport {
    /// Name of the data set.
    pub name: &'static str,
    /// What a reader must know of it.
    pub about: &'static str,
    /// Rows of each family, normal first.
    pub families: Vec<FamilyRows>,
    /// Results by column set.
    pub sets: Vec<SetReport>,
}

/// Rows of one family.
#[derive(Debug, Serialize)]
pub struct FamilyRows {
    /// Name of the family.
    pub name: &'static str,
    /// Rows in the parts fit, calibration and validation.
    pub rows: [usize; 3],
    /// Groups of equal rows in the validation part.
    pub groups: usize,
    /// Rows of the full data set a row stands for, on average.
    pub weight: Option<f64>,
}

/// One column set of one data set.
#[derive(Debug, Serialize)]
pub struct SetReport {
    /// Name of the set.
    pub name: &'static str,
    /// Its number columns.
    pub numbers: Vec<&'static str>,
    /// Its word columns.
    pub words: &'static [&'static str],
    /// How many columns models see.
    pub columns: usize,
    /// Whether it is only shown for what it leaks.
    pub leaks: bool,
    /// Results by model.
    pub models: Vec<ModelReport>,
}

/// One model on one column set.
#[derive(Debug, Serialize)]
pub struct ModelReport {
    /// Name of the model.
    pub model: String,
    /// Whether it is a floor.
    pub floor: bool,
    /// Whether it was fitted to attacks.
    pub supervised: bool,
    /// Measures of the rows as they are.
    pub measures: Measures,
    /// Measures of the rows weighted to the prevalence of the full data set.
    pub by_prevalence: Option<Measures>,
    /// For each family: recall by the model that was fitted without it. Empty if that was not measured; one-class models
    /// have seen no family.
    pub unseen: Vec<Option<Interval>>,
}

/// Measures everything on `prepared`; the first data set has the set in which speed and parity are measured.
///
/// # Errors
/// A model that cannot be fitted, or what scikit-learn left cannot be read.
pub fn run(prepared: &[Prepared], floors: Result<&Floors, String>, options: Options) -> Result<Report> {
    let scikit_learn = floors.as_ref().ok().copied();
    let mut datasets = Vec::new();
    for data in prepared {
        datasets.push(dataset(data, scikit_learn, options)?);
    }
    let (mut parity, mut costs) = (None, Vec::new());
    for data in prepared {
        for set in data.sets.iter().filter(|set| floors::compares_seeds(data, set)) {
            eprintln!("parity and speed: {}, {}", data.data.source.name, set.set.name);
            parity = scikit_learn.map(|floors| Parity::measure(floors, data, set)).transpose()?;
            costs = speed::measure(data, set, scikit_learn)?;
        }
    }
    let resamples = options.resamples;
    Ok(Report { resamples, floors_missing: floors.err(), datasets, parity, costs })
}

fn dataset(data: &Prepared, floors: Option<&Floors>, options: Options) -> Result<DatasetReport> {
    let groups: Vec<u64> = data.validation.iter().map(|row| data.split.group[*row]).collect();
    let jury = Jury {
        data,
        resamples: Resamples::new(data.truth(&[]).family, &groups, options.resamples),
        alike: vec![1.0; data.validation.len()],
        weight: data.data.weight.as_ref().map(|weight| data.validation.iter().map(|row| weight[*row]).collect()),
    };
    let mut sets = Vec::new();
    for set in &data.sets {
        eprintln!("{}: {}", data.data.source.name, set.set.name);
        let mut models = Vec::new();
        one_class(&jury, set, floors, &mut models)?;
        let left_out: Vec<u16> =
            if options.leave_out && floors::leaves_out(set) { data.data.source.attacks().collect() } else { vec![] };
        supervised(&jury, set, &left_out, &mut models)?;
        if let Some(floors) = floors {
            let scores = |model: &str| floors.scores(data, set, model);
            let unseen = |family| scores(&format!("random_forest.without_{family}"));
            let unseen = left_out.iter().map(|family| jury.recall(&unseen(family)?, *family)).collect::<Result<_>>()?;
            let report = jury.judge("scikit-learn random forest", true, &scores("random_forest")?)?;
            models.push(ModelReport { floor: true, unseen, ..report });
        }
        sets.push(SetReport {
            name: set.set.name,
            numbers: set.set.number_names().collect(),
            words: set.set.words,
            columns: set.names.len(),
            leaks: set.set.leaks,
            models,
        });
    }
    let source = data.data.source;
    let families = [0].into_iter().chain(source.attacks()).map(|family| family_rows(data, family)).collect();
    Ok(DatasetReport { name: source.name, about: source.about, families, sets })
}

fn one_class(jury: &Jury<'_>, set: &PreparedSet, floors: Option<&Floors>, models: &mut Vec<ModelReport>) -> Result<()> {
    let data = jury.data;
    let normal = set.rows.select(Axis(0), &data.fit_normal);
    let calibration = set.rows.select(Axis(0), &data.calibration);
    for (name, fitted) in contestants::one_class(normal.view(), calibration.view())? {
        let scores = |rows: &[usize]| fitted.score_batch(set.rows.select(Axis(0), rows).view()).to_vec();
        let scores = Scores { calibration: scores(&data.calibration), validation: scores(&data.validation) };
        models.push(jury.judge(name, false, &scores)?);
    }
    if let Some(floors) = floors {
        let scores = floors.scores(data, set, "isolation_forest")?;
        models.push(ModelReport { floor: true, ..jury.judge("scikit-learn isolation forest", false, &scores)? });
    }
    Ok(())
}

fn supervised(jury: &Jury<'_>, set: &PreparedSet, left_out: &[u16], models: &mut Vec<ModelReport>) -> Result<()> {
    for model in contestants::SUPERVISED {
        let scores = |without| fit_without(jury.data, set, model, without);
        let unseen = left_out.iter().map(|family| jury.recall(&scores(Some(*family))?, *family));
        let unseen = unseen.collect::<Result<_>>()?;
        models.push(ModelReport { unseen, ..jury.judge(model.name, true, &scores(None)?)? });
    }
    Ok(())
}

fn fit_without(data: &Prepared, set: &PreparedSet, model: &SupervisedModel, without: Option<u16>) -> Result<Scores> {
    let seen = |row: &usize| Some(data.data.family[*row]) != without;
    let fit: Vec<usize> = data.fit.iter().copied().filter(seen).collect();
    let families: Vec<u16> = fit.iter().map(|row| data.data.family[*row]).collect();
    let fitted = (model.fit)(set.rows.select(Axis(0), &fit).view(), &families, data.truth(&[]).families + 1, SEED)
        .with_context(|| format!("fit {}", model.name))?;
    let scores = |rows: &[usize]| fitted.score_batch(set.rows.select(Axis(0), rows).view());
    Ok(Scores { calibration: scores(&data.calibration), validation: scores(&data.validation) })
}

/// Measures the models of one data set.
struct Jury<'a> {
    data: &'a Prepared,
    resamples: Resamples,
    /// Every row the same.
    alike: Vec<f64>,
    /// Every row as many as it stands for.
    weight: Option<Vec<f64>>,
}

impl Jury<'_> {
    fn judge(&self, model: &str, supervised: bool, scores: &Scores) -> Result<ModelReport> {
        let measure = |weight| Measures::of(scores, self.data.truth(weight), &self.resamples);
        Ok(ModelReport {
            model: model.to_owned(),
            floor: false,
            supervised,
            measures: measure(&self.alike)?,
            by_prevalence: self.weight.as_deref().map(measure).transpose()?,
            unseen: Vec::new(),
        })
    }

    fn recall(&self, scores: &Scores, family: u16) -> Result<Option<Interval>> {
        let flagged = scores.flagged()?;
        let Truth { family: families, .. } = self.data.truth(&self.alike);
        let intervals = self.resamples.intervals(&self.alike, |weight| {
            let of = |wanted: bool| {
                let rows = families.iter().zip(&flagged).zip(weight);
                rows.filter(|((of, flag), _)| **of == family && (**flag || !wanted))
                    .map(|(_, weight)| weight)
                    .fold(0.0, |sum, weight| sum + weight)
            };
            vec![of(true) / of(false)]
        });
        Ok(intervals.first().copied().filter(|recall| recall.value.is_finite()))
    }
}

fn family_rows(data: &Prepared, family: u16) -> FamilyRows {
    let of = |row: &usize| data.data.family[*row] == family;
    let rows = |part| data.split.rows(part, |row| of(&row)).len();
    let groups: HashSet<u64> = data.validation.iter().filter(|row| of(row)).map(|row| data.split.group[*row]).collect();
    let all: Vec<usize> = (0..data.data.len()).filter(of).collect();
    let weight = data.data.weight.as_ref();
    FamilyRows {
        name: data.data.source.family_name(family),
        rows: [rows(Part::Fit), rows(Part::Calibration), rows(Part::Validation)],
        groups: groups.len(),
        weight: weight.map(|weight| all.iter().map(|row| weight[*row]).sum::<f64>() / all.len() as f64),
    }
}
