//! The models that are measured: one line each.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use ndarray::ArrayView2;
use sensor_models::classifier::{Classifier, ClassifierParams, Names};
use sensor_models::ensemble::USUAL;
use sensor_models::{Ensemble, ModelKind, OneClass};

/// Seed of every model in the table.
pub const SEED: u64 = 1;

/// A model fitted to normal rows, or several of them as one.
#[derive(Clone, Copy, Debug)]
pub struct OneClassModel {
    /// Name in the card.
    pub name: &'static str,
    /// Kinds of models and their weights.
    pub recipe: &'static [(ModelKind, f64)],
}

/// Fits all one-class models to `rows` of normal traffic, each kind once, and calibrates ensembles on the rows
/// `held_out`, all normal.
///
/// # Errors
/// Rows that a model cannot be fitted to.
pub fn one_class(rows: ArrayView2<'_, f32>, held_out: ArrayView2<'_, f32>) -> Result<Vec<(&'static str, OneClassFit)>> {
    let mut kinds = BTreeMap::new();
    for (kind, _) in ONE_CLASS.iter().flat_map(|model| model.recipe) {
        if !kinds.contains_key(kind) {
            kinds.insert(*kind, kind.fit(rows, SEED).with_context(|| format!("fit {kind}"))?);
        }
    }
    let fitted = |model: &OneClassModel| {
        let parts: Vec<_> = model.recipe.iter().map(|(kind, weight)| (kinds[kind].clone(), *weight)).collect();
        let fitted: OneClassFit = match &parts[..] {
            [(alone, _)] => Box::new(alone.clone()),
            _ => Box::new(Ensemble::of(parts, held_out)?),
        };
        Ok((model.name, fitted))
    };
    ONE_CLASS.iter().map(fitted).collect()
}

/// A fitted one-class model.
pub type OneClassFit = Box<dyn OneClass>;

/// A model fitted to rows of known classes.
#[derive(Clone, Copy)]
pub struct SupervisedModel {
    /// Name in the card.
    pub name: &'static str,
    /// Fits it to rows, their classes (0 is normal; not every class need occur), the number of classes, a seed.
    pub fit: FitSupervised,
}

/// Fits a classifier.
pub type FitSupervised = fn(ArrayView2<'_, f32>, &[u16], u16, u64) -> Result<Box<dyn Supervised>>;

/// What a classifier can do.
pub trait Supervised: Send + Sync {
    /// Probability of each class, normal first; they sum to 1.
    fn probabilities(&self, row: &[f32]) -> Vec<f64>;

    /// How little the row looks normal, `1 - p(normal)`: what is measured.
    fn score(&self, row: &[f32]) -> f64 {
        1.0 - self.probabilities(row)[0]
    }

    /// [`Self::score`] of each row.
    fn score_batch(&self, rows: ArrayView2<'_, f32>) -> Vec<f64> {
        rows.rows().into_iter().map(|row| self.score(&row.to_vec())).collect()
    }
}

impl Supervised for Classifier {
    fn probabilities(&self, row: &[f32]) -> Vec<f64> {
        self.probabilities(row)
    }

    fn score_batch(&self, rows: ArrayView2<'_, f32>) -> Vec<f64> {
        self.probabilities_batch(rows).column(0).iter().map(|normal| 1.0 - normal).collect()
    }
}

/// The one-class models.
pub const ONE_CLASS: &[OneClassModel] = &[
    OneClassModel { name: "isolation forest", recipe: &[(ModelKind::IsolationForest, 1.0)] },
    OneClassModel { name: "extended forest", recipe: &[(ModelKind::ExtendedForest, 1.0)] },
    OneClassModel { name: "residual", recipe: &[(ModelKind::Residual, 1.0)] },
    OneClassModel { name: "clusters", recipe: &[(ModelKind::Clusters, 1.0)] },
    OneClassModel { name: "one-class SVM", recipe: &[(ModelKind::OneClassSvm, 1.0)] },
    OneClassModel { name: "autoencoder", recipe: &[(ModelKind::Autoencoder, 1.0)] },
    OneClassModel { name: "half-space trees", recipe: &[(ModelKind::HalfSpace, 1.0)] },
    OneClassModel { name: "all, weighed alike", recipe: &ALIKE },
    OneClassModel { name: "ensemble", recipe: &USUAL },
];

/// Every kind, none more than another.
const ALIKE: [(ModelKind, f64); ModelKind::ALL.len()] = {
    let mut recipe = [(ModelKind::IsolationForest, 1.0); ModelKind::ALL.len()];
    let mut at = 0;
    while at < recipe.len() {
        recipe[at].0 = ModelKind::ALL[at];
        at += 1;
    }
    recipe
};

/// The classifiers.
pub const SUPERVISED: &[SupervisedModel] = &[SupervisedModel { name: "boosted trees", fit: boosted_trees }];

/// The classifier of the table, with its usual parameters.
///
/// # Errors
/// Rows that no classifier can be fitted to.
pub fn boosted_trees(
    rows: ArrayView2<'_, f32>,
    families: &[u16],
    count: u16,
    seed: u64,
) -> Result<Box<dyn Supervised>> {
    let numbered = |count: usize| (0..count).map(|at| at.to_string()).collect::<Vec<_>>();
    let (columns, classes) = (numbered(rows.ncols()), numbered(usize::from(count)));
    let (columns, classes): (Vec<&str>, Vec<&str>) =
        (columns.iter().map(String::as_str).collect(), classes.iter().map(String::as_str).collect());
    let names = Names { columns: &columns, classes: &classes };
    Ok(Box::new(ClassifierParams::new().seed(seed).check()?.fit(rows, families, names, 0)?))
}
