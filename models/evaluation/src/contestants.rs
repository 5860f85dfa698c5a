//! The models that are measured: one line each.

use anyhow::Result;
use ndarray::ArrayView2;
use sensor_models::classifier::{Classifier, ClassifierParams, Names};
use sensor_models::{Calibration, IsolationForestParams, OneClass};

/// Seed of every model in the table.
pub const SEED: u64 = 1;

/// A model fitted to normal rows.
#[derive(Clone, Copy)]
pub struct OneClassModel {
    /// Name in the card.
    pub name: &'static str,
    /// Fits it to rows with a seed.
    pub fit: fn(ArrayView2<'_, f32>, u64) -> Result<Box<dyn OneClass>>,
}

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

/// A rule that makes one score of the p-values of all one-class models.
#[derive(Clone, Copy)]
pub struct Combination {
    /// Name in the card.
    pub name: &'static str,
    /// Of p-values in (0, 1): higher is more anomalous.
    pub rule: fn(&[f64]) -> f64,
}

/// The one-class models.
pub const ONE_CLASS: &[OneClassModel] = &[OneClassModel { name: "isolation forest", fit: isolation_forest }];

/// The classifiers.
pub const SUPERVISED: &[SupervisedModel] = &[SupervisedModel { name: "boosted trees", fit: boosted_trees }];

/// The combinations; measured when there are at least two one-class models.
pub const COMBINATIONS: &[Combination] = &[Combination { name: "Cauchy combination of all", rule: cauchy }];

/// The forest of the table, with the parameters of Liu et al.
///
/// # Errors
/// Rows that no forest can be fitted to.
pub fn isolation_forest(rows: ArrayView2<'_, f32>, seed: u64) -> Result<Box<dyn OneClass>> {
    Ok(Box::new(IsolationForestParams::new().seed(seed).check()?.fit(rows)?))
}

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

/// `mean tan((1/2 - p) pi)`: Cauchy distributed if the p-values are uniform, and nearly so in its tail whatever their
/// dependence. Source: Liu, Xie, "Cauchy combination test", Journal of the American Statistical Association 115 (2020).
#[must_use]
pub fn cauchy(p_values: &[f64]) -> f64 {
    let sum: f64 = p_values.iter().map(|p| ((0.5 - p) * std::f64::consts::PI).tan()).sum();
    sum / p_values.len() as f64
}

/// Scores of `rows` by `rule`: `calibrations[m]` are the scores by which model `m` is calibrated, `scores[m]` what it says
/// of each row. A p-value of 1 would be minus infinity: it counts as half a rank less.
#[must_use]
pub fn combine(rule: fn(&[f64]) -> f64, calibrations: &[Calibration], scores: &[&[f64]]) -> Vec<f64> {
    let rows = scores.first().map_or(0, |scores| scores.len());
    let p_value = |model: usize, row: usize| {
        let most = 1.0 - 0.5 / (calibrations[model].len() + 1) as f64;
        calibrations[model].p_value(scores[model][row]).min(most)
    };
    (0..rows).map(|row| rule(&(0..scores.len()).map(|model| p_value(model, row)).collect::<Vec<_>>())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_combination_of_equal_p_values_is_their_own_quantile() {
        for p in [0.001_f64, 0.1, 0.5, 0.9] {
            let alone = ((0.5 - p) * std::f64::consts::PI).tan();
            assert!((cauchy(&[p; 3]) - alone).abs() <= 1e-9 * alone.abs().max(1.0));
        }
    }

    #[test]
    fn one_very_small_p_value_is_enough() {
        assert!(cauchy(&[0.001, 0.5, 0.5]) > cauchy(&[0.05, 0.05, 0.05]));
        assert!(cauchy(&[0.001, 0.999]).abs() < 1e-6);
    }

    #[test]
    fn combined_scores_are_numbers_even_for_the_most_ordinary_row() {
        let calibration = Calibration::new((0..99).map(f64::from).collect()).unwrap();
        let both = [calibration.clone(), calibration];
        let combined = combine(cauchy, &both, &[&[-1.0, 50.0, 200.0], &[-1.0, 50.0, 200.0]]);
        assert!(combined.iter().all(|score| score.is_finite()));
        assert!(combined[0] < combined[1] && combined[1] < combined[2]);
    }
}
