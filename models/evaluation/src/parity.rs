//! Whether our Isolation Forest is scikit-learn's: the same scores from the same trees, as good when fitted here.

use anyhow::{Context as _, Result, ensure};
use ndarray::Axis;
use sensor_models::isolation_forest::{IsolationForest, TreeParts};
use sensor_models::{ModelKind, OneClass as _};
use serde::{Deserialize, Serialize};

use crate::contestants::SEED;
use crate::floors::{Floors, SEEDS};
use crate::measures::Scores;
use crate::measures::ranking::Ranking;
use crate::{Prepared, PreparedSet};

/// Rows the scores of the same trees are compared on.
pub const ROWS: usize = 10_000;

/// A fitted scikit-learn forest, as `python/export_isolation_forest.py` writes it.
#[derive(Debug, Deserialize)]
struct Exported {
    features: u16,
    max_samples: u32,
    trees: Vec<ExportedTree>,
}

#[derive(Debug, Deserialize)]
struct ExportedTree {
    feature: Vec<i64>,
    threshold: Vec<f64>,
    left: Vec<i64>,
    right: Vec<i64>,
    n_node_samples: Vec<i64>,
}

/// What the comparison gave.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Parity {
    /// Validation rows scored by the same trees on both sides.
    pub rows: usize,
    /// Largest difference of two scores.
    pub largest_difference: f64,
    /// AUC over forests of [`SEEDS`] seeds fitted here.
    pub here: Spread,
    /// AUC over forests of as many seeds fitted by scikit-learn.
    pub scikit_learn: Spread,
}

/// A measure over several seeds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// Mean.
    pub mean: f64,
    /// Standard deviation, with n - 1.
    pub deviation: f64,
}

/// Reads a forest that was exported from scikit-learn.
///
/// # Errors
/// Text that is not such a forest, or trees that are not those of an Isolation Forest.
pub fn import(json: &str) -> Result<IsolationForest> {
    let exported: Exported = serde_json::from_str(json).context("read the exported forest")?;
    let trees: Vec<TreeParts<'_>> = exported.trees.iter().map(ExportedTree::parts).collect();
    Ok(IsolationForest::from_parts(&trees, exported.features, exported.max_samples)?)
}

impl ExportedTree {
    fn parts(&self) -> TreeParts<'_> {
        TreeParts {
            feature: &self.feature,
            threshold: &self.threshold,
            left: &self.left,
            right: &self.right,
            samples: &self.n_node_samples,
        }
    }
}

impl Parity {
    /// Compares on the validation rows of `set`.
    ///
    /// # Errors
    /// What scikit-learn left cannot be read, or the forest cannot be fitted.
    pub fn measure(floors: &Floors, data: &Prepared, set: &PreparedSet) -> Result<Self> {
        let forest = import(&floors.forest(data, set)?)?;
        let rows = set.rows.select(Axis(0), &data.validation[..data.validation.len().min(ROWS)]);
        let theirs = floors.scores(data, set, "isolation_forest")?.validation;
        let difference = |(ours, theirs): (&f64, &f64)| (ours - theirs).abs();
        let largest_difference =
            forest.score_batch(rows.view()).iter().zip(&theirs).map(difference).fold(0.0, f64::max);
        let normal = set.rows.select(Axis(0), &data.fit_normal);
        let validation = set.rows.select(Axis(0), &data.validation);
        let (mut here, mut scikit_learn) = (Vec::new(), Vec::new());
        for seed in 0..SEEDS {
            let ours = ModelKind::IsolationForest.fit(normal.view(), SEED + u64::from(seed))?;
            here.push(auc(data, &ours.score_batch(validation.view()).to_vec()));
            let Scores { validation: theirs, .. } =
                floors.scores(data, set, &format!("isolation_forest.seed_{seed}"))?;
            scikit_learn.push(auc(data, &theirs));
        }
        ensure!(largest_difference.is_finite(), "scores that are no numbers cannot be compared");
        let (here, scikit_learn) = (Spread::of(&here), Spread::of(&scikit_learn));
        Ok(Self { rows: rows.nrows(), largest_difference, here, scikit_learn })
    }

    /// How far the means are apart, and the standard error of that.
    #[must_use]
    pub fn difference(&self) -> (f64, f64) {
        let variance = self.here.deviation.powi(2) + self.scikit_learn.deviation.powi(2);
        (self.here.mean - self.scikit_learn.mean, (variance / f64::from(SEEDS)).sqrt())
    }
}

impl Spread {
    fn of(values: &[f64]) -> Self {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        Self { mean, deviation: (squares / (count - 1.0)).sqrt() }
    }
}

fn auc(data: &Prepared, scores: &[f64]) -> f64 {
    let attacks: Vec<bool> = data.validation.iter().map(|row| data.data.family[*row] > 0).collect();
    Ranking::new(scores).measure(&attacks, &vec![1.0; scores.len()], [0.01, 0.001])[0]
}
