//! Several models of normal rows as one: each calibrated, their p-values combined, the combination calibrated again.
//!
//! With `p_k` the p-value that model `k` gives to a row and `w_k` its weight, the weights summing to 1:
//!
//! ```text
//! score = 1 - product over k of p_k ^ w_k            in [0, 1): 1 - the weighted geometric mean of the p-values
//! ```
//!
//! It orders rows as `- sum of w_k ln p_k` does: evidence against "normal" adds up, a model that is sure counts for more
//! than several that hesitate, and none alone decides. If the models were independent, that sum would have a known
//! distribution; they look at the same row and are not, so what normal rows get is counted on calibration rows, and the
//! p-value of the ensemble is conformal again.
//!
//! Sources: Fisher, "Statistical methods for research workers" (1932), section 21.1; with weights, Good, "On the weighted
//! combination of significance tests", Journal of the Royal Statistical Society B 17 (1955).

use ndarray::{Array1, ArrayView2};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::calibrate::{Calibration, CalibrationError};
use crate::clusters::Profile;
use crate::isolation_forest::FitError;
use crate::model::{InvalidModel, Model, ModelKind, checked_serde};
use crate::one_class::OneClass;

/// Most models in an ensemble.
pub const MAX_MEMBERS: usize = 16;

/// The usual models and their weights, chosen on rows apart from those of the quality card, which has what each is worth
/// alone.
pub const USUAL: [(ModelKind, f64); 3] =
    [(ModelKind::OneClassSvm, 0.8), (ModelKind::Clusters, 0.1), (ModelKind::IsolationForest, 0.1)];

/// Models that were fitted to the same rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Ensemble {
    members: Vec<Member>,
    calibration: Calibration,
}

checked_serde!(Ensemble);

/// One model and what it says of normal rows it was not fitted to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// The model.
    pub model: Model,
    /// How much it counts, in (0, 1]; all together 1.
    pub weight: f64,
    /// Its scores of the calibration rows.
    pub calibration: Calibration,
}

/// Rows that no ensemble can be made of.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
pub enum EnsembleError {
    /// A model cannot be fitted to the rows.
    #[error(transparent)]
    Fit(#[from] FitError),
    /// The calibration rows are unusable.
    #[error(transparent)]
    Calibration(#[from] CalibrationError),
    /// No model, or more than [`MAX_MEMBERS`].
    #[error("{0} models: between 1 and {MAX_MEMBERS} are supported")]
    Members(usize),
    /// A weight that is not a positive number, or vanishes beside the others.
    #[error("a weight of {1} for {0}: weights are positive numbers, such as parts of 1")]
    Weight(ModelKind, f64),
}

impl Ensemble {
    /// Fits a model of each kind of `recipe` to the rows `fit`, calibrates it on the rows `held_out`, and weighs it in
    /// proportion to the number beside its kind. All rows are normal.
    ///
    /// # Errors
    /// A recipe without models or with weights that are not positive, rows that a kind cannot be fitted to, or no
    /// calibration rows.
    pub fn fit(
        recipe: &[(ModelKind, f64)],
        fit: ArrayView2<'_, f32>,
        held_out: ArrayView2<'_, f32>,
        seed: u64,
    ) -> Result<Self, EnsembleError> {
        check_recipe(recipe)?;
        let models = recipe.iter().map(|(kind, weight)| Ok((kind.fit(fit, seed)?, *weight)));
        Self::of(models.collect::<Result<_, FitError>>()?, held_out)
    }

    /// Calibrates `models` on the rows `held_out`, which are normal and to which none of them was fitted, and weighs each
    /// in proportion to the number beside it.
    ///
    /// # Errors
    /// No model or too many, weights that are not positive, or no calibration rows.
    ///
    /// # Panics
    /// If the models and the rows do not have the same columns.
    pub fn of(models: Vec<(Model, f64)>, held_out: ArrayView2<'_, f32>) -> Result<Self, EnsembleError> {
        check_recipe(&models.iter().map(|(model, weight)| (model.kind(), *weight)).collect::<Vec<_>>())?;
        let total: f64 = models.iter().map(|(_, weight)| weight).sum();
        let member = |(model, weight): (Model, f64)| {
            let calibration = Calibration::new(model.score_batch(held_out).to_vec())?;
            Ok::<_, CalibrationError>(Member { model, weight: weight / total, calibration })
        };
        let members = models.into_iter().map(member).collect::<Result<Vec<_>, _>>()?;
        let calibration = Calibration::new(combined(&members, held_out).to_vec())?;
        Ok(Self { members, calibration })
    }

    /// Probability that normal traffic scores at least as high as `row`, in (0, 1]; see
    /// [`calibrate`](crate::calibrate).
    ///
    /// # Panics
    /// If `row` does not have one value for each column.
    #[must_use]
    pub fn p_value(&self, row: &[f32]) -> f64 {
        self.calibration.p_value(self.score(row))
    }

    /// The models, with their weights and calibrations.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The combined scores of the calibration rows.
    #[must_use]
    pub fn calibration(&self) -> &Calibration {
        &self.calibration
    }

    /// The kind of normal traffic that `row` is nearest to, if a model of the ensemble knows kinds.
    ///
    /// # Panics
    /// As [`Self::p_value`].
    #[must_use]
    pub fn nearest_profile(&self, row: &[f32]) -> Option<Profile> {
        self.members.iter().find_map(|member| match &member.model {
            Model::Clusters(clusters) => Some(clusters.nearest_profile(row)),
            Model::IsolationForest(_)
            | Model::ExtendedForest(_)
            | Model::Residual(_)
            | Model::OneClassSvm(_)
            | Model::Autoencoder(_)
            | Model::HalfSpace(_) => None,
        })
    }

    fn validate(&self) -> Result<(), InvalidModel> {
        if !(1..=MAX_MEMBERS).contains(&self.members.len()) {
            return Err(InvalidModel("the number of models is out of range"));
        }
        let features = self.features();
        let fits = |member: &Member| {
            member.model.features() == features
                && member.calibration.len() == self.calibration.len()
                && member.weight > 0.0
                && member.weight <= 1.0
        };
        let total: f64 = self.members.iter().map(|member| member.weight).sum();
        if self.members.iter().all(fits) && (total - 1.0).abs() < 1e-9 {
            Ok(())
        } else {
            Err(InvalidModel("the models of the ensemble do not fit together"))
        }
    }
}

impl OneClass for Ensemble {
    fn features(&self) -> usize {
        self.members[0].model.features()
    }

    fn score(&self, row: &[f32]) -> f64 {
        combine(self.members.iter().map(|member| (member.weight, member.tail_p_value(member.model.score(row)))))
    }

    fn score_batch(&self, rows: ArrayView2<'_, f32>) -> Array1<f64> {
        combined(&self.members, rows)
    }

    /// The contributions to each model, as parts of all that speaks for an anomaly in it, weighted by the model's part
    /// of the evidence, `- w_k ln p_k`.
    fn contributions(&self, row: &[f32]) -> Vec<f64> {
        let mut all = vec![0.0; self.features()];
        for member in &self.members {
            let parts = member.model.contributions(row);
            let total: f64 = parts.iter().filter(|part| **part > 0.0).sum();
            if total > 0.0 {
                let evidence = -member.weight * member.tail_p_value(member.model.score(row)).ln();
                all.iter_mut().zip(parts).for_each(|(sum, part)| *sum += evidence * part / total);
            }
        }
        all
    }
}

impl Member {
    fn tail_p_value(&self, score: f64) -> f64 {
        self.calibration.tail_p_value(score)
    }
}

fn check_recipe(recipe: &[(ModelKind, f64)]) -> Result<(), EnsembleError> {
    if !(1..=MAX_MEMBERS).contains(&recipe.len()) {
        return Err(EnsembleError::Members(recipe.len()));
    }
    let total: f64 = recipe.iter().map(|(_, weight)| weight).sum();
    let unusable = recipe.iter().find(|(_, weight)| !(*weight > 0.0 && weight.is_finite()));
    let vanishing = || recipe.iter().find(|(_, weight)| *weight / total == 0.0);
    match unusable.or_else(vanishing) {
        Some((kind, weight)) => Err(EnsembleError::Weight(*kind, *weight)),
        None => Ok(()),
    }
}

fn combined(members: &[Member], rows: ArrayView2<'_, f32>) -> Array1<f64> {
    let mut evidence = Array1::<f64>::zeros(rows.nrows());
    for member in members {
        let scores = member.model.score_batch(rows);
        evidence
            .iter_mut()
            .zip(scores)
            .for_each(|(sum, score)| *sum += member.weight * member.tail_p_value(score).ln());
    }
    evidence.mapv_into(|evidence| -evidence.exp_m1())
}

/// The score of weights and p-values.
fn combine(weighted: impl Iterator<Item = (f64, f64)>) -> f64 {
    -weighted.map(|(weight, p)| weight * p.ln()).sum::<f64>().exp_m1()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, Axis};
    use proptest::prelude::*;
    use rand::{Rng as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    fn normal(rows: usize, seed: u64) -> Array2<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        Array2::from_shape_simple_fn((rows, 3), || (0..6).map(|_| rng.gen_range(0.0_f32..1.0)).sum())
    }

    fn ensemble() -> Ensemble {
        Ensemble::fit(&USUAL, normal(700, 1).view(), normal(400, 2).view(), 1).unwrap()
    }

    #[test]
    fn the_score_is_one_minus_the_weighted_geometric_mean_of_the_p_values() {
        let score = combine([(0.5, 0.01), (0.25, 0.1), (0.25, 1.0)].into_iter());
        assert!((score - (1.0 - 0.1 * 0.1_f64.powf(0.25))).abs() < 1e-12);
        assert_eq!(combine([(1.0, 1.0)].into_iter()), 0.0);
    }

    #[test]
    fn alarms_on_fresh_normal_rows_are_as_rare_as_the_p_value_says() {
        let ensemble = ensemble();
        let fresh = normal(4000, 3);
        let p_values: Vec<f64> = fresh.rows().into_iter().map(|row| ensemble.p_value(&row.to_vec())).collect();
        for alpha in [0.01, 0.05, 0.2] {
            let share = p_values.iter().filter(|p| **p <= alpha).count() as f64 / 4000.0;
            assert!((0.4 * alpha..=1.6 * alpha).contains(&share), "{share} of the p-values are at most {alpha}");
        }
    }

    #[test]
    fn beyond_all_that_is_known_farther_is_still_more_anomalous() {
        let ensemble = ensemble();
        let scores: Vec<f64> = [6.5, 8.0, 10.0].map(|x| ensemble.score(&[x, 3.0, 3.0])).into();
        assert!(scores.is_sorted_by(|a, b| a < b), "{scores:?}");
        assert!(ensemble.p_value(&[6.5, 3.0, 3.0]) < 0.01);
    }

    #[test]
    fn the_column_that_is_off_is_what_the_models_name() {
        let parts = ensemble().contributions(&[3.0, 30.0, 3.0]);
        assert!(parts[1] > 5.0 * parts[0].max(parts[2]), "{parts:?}");
    }

    #[test]
    fn the_nearest_kind_of_normal_traffic_is_known_with_clusters_only() {
        assert!(ensemble().nearest_profile(&[3.0; 3]).is_some());
        let alone =
            Ensemble::fit(&[(ModelKind::Residual, 1.0)], normal(100, 1).view(), normal(50, 2).view(), 1).unwrap();
        assert_eq!(alone.nearest_profile(&[3.0; 3]), None);
    }

    #[test]
    fn recipes_that_make_no_ensemble_are_rejected() {
        let rows = normal(100, 1);
        let (fit, held_out) = rows.view().split_at(Axis(0), 60);
        let with = |recipe: &[(ModelKind, f64)]| Ensemble::fit(recipe, fit, held_out, 1).unwrap_err();
        assert_eq!(with(&[]), EnsembleError::Members(0));
        assert_eq!(with(&[USUAL[0]; MAX_MEMBERS + 1]), EnsembleError::Members(MAX_MEMBERS + 1));
        for weight in [0.0, -1.0, f64::INFINITY] {
            assert_eq!(with(&[(ModelKind::Clusters, weight)]), EnsembleError::Weight(ModelKind::Clusters, weight));
        }
        for vanishing in [[f64::MAX, f64::MAX], [5e-324, 1e9]] {
            let recipe = [(ModelKind::Residual, vanishing[0]), (ModelKind::Clusters, vanishing[1])];
            assert_eq!(with(&recipe), EnsembleError::Weight(ModelKind::Residual, vanishing[0]));
        }
        let (none, _) = held_out.split_at(Axis(0), 0);
        assert_eq!(Ensemble::fit(&USUAL, fit, none, 1), Err(CalibrationError::Empty.into()));
    }

    #[test]
    fn plain_data_is_checked_when_read() {
        let text = serde_json::to_string(&ensemble()).unwrap();
        assert_eq!(serde_json::from_str::<Ensemble>(&text).unwrap(), ensemble());
        for (from, to) in [("\"weight\":0.8", "\"weight\":0.9"), ("\"weight\":0.8", "\"weight\":-0.8")] {
            assert!(text.contains(from));
            assert!(serde_json::from_str::<Ensemble>(&text.replace(from, to)).is_err());
        }
        assert!(serde_json::from_str::<Ensemble>(r#"{"members":[],"calibration":[1.0]}"#).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn batches_score_as_rows_do(seed in 0..u64::MAX) {
            let recipe = [(ModelKind::IsolationForest, 1.0), (ModelKind::Residual, 3.0)];
            let ensemble = Ensemble::fit(&recipe, normal(80, seed).view(), normal(40, !seed).view(), seed).unwrap();
            let rows = normal(30, seed ^ 7);
            let batch = ensemble.score_batch(rows.view());
            for (row, score) in rows.rows().into_iter().zip(batch) {
                let alone = ensemble.score(&row.to_vec());
                prop_assert!((alone - score).abs() < 1e-12 && (0.0..1.0).contains(&score));
            }
        }
    }
}
