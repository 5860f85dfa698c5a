//! One calibration from those of several sensors that serve the same model.

use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use super::{Calibration, CalibrationError, MAX_SCORES};
use crate::isolation_forest::draw;

impl Calibration {
    /// The scores of all of `parts`, each sensor weighing as much as it has scores; of more than [`MAX_SCORES`], as many,
    /// drawn with `seed` without replacement.
    ///
    /// Scores can only be merged if the same model gave them. Traffic of one of the sensors then gets p-values that are
    /// honest on average over the sensors, not for each.
    ///
    /// # Errors
    /// No parts, or more than four billion scores.
    pub fn merge(parts: &[&Self], seed: u64) -> Result<Self, CalibrationError> {
        merge_up_to(parts, MAX_SCORES, seed)
    }
}

fn merge_up_to(parts: &[&Calibration], limit: usize, seed: u64) -> Result<Calibration, CalibrationError> {
    let total = parts.iter().map(|part| part.len()).sum();
    let all = || parts.iter().flat_map(|part| part.scores().iter().copied());
    if total <= limit {
        return Calibration::new(all().collect());
    }
    let count = u32::try_from(total).map_err(|_| CalibrationError::TooMany(total))?;
    let limit = u32::try_from(limit).map_err(|_| CalibrationError::TooMany(limit))?;
    let mut order: Vec<u32> = (0..count).collect();
    draw(&mut order, limit, &mut ChaCha8Rng::seed_from_u64(seed));
    order.truncate(limit as usize);
    order.sort_unstable();
    let mut chosen = order.into_iter().peekable();
    let kept = (0_u32..).zip(all()).filter(|(at, _)| chosen.next_if_eq(at).is_some());
    Calibration::new(kept.map(|(_, score)| score).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn calibration(scores: &[f64]) -> Calibration {
        Calibration::new(scores.to_vec()).unwrap()
    }

    #[test]
    fn the_merge_is_the_union() {
        let merged = Calibration::merge(&[&calibration(&[0.3, 0.1]), &calibration(&[0.2]), &calibration(&[0.1])], 1);
        assert_eq!(merged, Ok(calibration(&[0.1, 0.1, 0.2, 0.3])));
        assert_eq!(Calibration::merge(&[], 1), Err(CalibrationError::Empty));
    }

    #[test]
    fn too_many_are_sampled_in_proportion() {
        let (low, high) = (calibration(&vec![0.0; 6000]), calibration(&vec![1.0; 2000]));
        let merged = merge_up_to(&[&low, &high], 1000, 1).unwrap();
        assert_eq!(merged.len(), 1000);
        let of_high = merged.scores().iter().filter(|score| **score == 1.0).count();
        // 250 expected, with a deviation of 13.
        assert!(of_high.abs_diff(250) < 52, "{of_high}");
    }

    #[test]
    fn the_limit_holds_and_the_seed_decides() {
        let part = calibration(&(0..MAX_SCORES).map(|score| score as f64).collect::<Vec<_>>());
        let merged = |seed| Calibration::merge(&[&part, &calibration(&[-1.0])], seed).unwrap();
        assert_eq!(merged(1).len(), MAX_SCORES);
        let (a, b) = (calibration(&[1.0, 2.0, 3.0]), calibration(&[4.0, 5.0, 6.0]));
        let small = |seed| merge_up_to(&[&a, &b], 3, seed).unwrap();
        assert_eq!(small(1), small(1));
        assert!((0..9).any(|seed| small(seed) != small(1)));
    }

    proptest! {
        #[test]
        fn p_values_are_those_of_all_scores_together(
            parts in prop::collection::vec(prop::collection::vec(0_u8..20, 1..30), 1..5), score in 0_u8..20,
        ) {
            let parts: Vec<Calibration> =
                parts.iter().map(|scores| calibration(&scores.iter().copied().map(f64::from).collect::<Vec<_>>())).collect();
            let merged = Calibration::merge(&parts.iter().collect::<Vec<_>>(), 0).unwrap();
            let at_least: usize =
                parts.iter().map(|part| part.scores().iter().filter(|normal| **normal >= f64::from(score)).count()).sum();
            prop_assert_eq!(merged.p_value(f64::from(score)), (1 + at_least) as f64 / (1 + merged.len()) as f64);
        }
    }
}
