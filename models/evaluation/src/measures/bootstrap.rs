//! How much a measure would differ on other rows: a stratified bootstrap of groups.
//!
//! Source: Efron, Tibshirani, "An Introduction to the Bootstrap" (1993), percentile intervals. Rows that are copies of each
//! other are one observation, so groups of equal rows are drawn, not rows (Field, Welsh 2007); within each family, so
//! that every resample has all of them. The threshold stays as it was chosen: what varies is the validation part.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::thread;

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::Interval;

/// How often each row is in each resample. The same for every model, so that models can be compared.
#[derive(Clone, Debug)]
pub struct Resamples(Vec<Vec<u16>>);

const SEED: u64 = 20_150_122;

impl Resamples {
    /// Draws `amount` resamples of rows of these families and groups.
    #[must_use]
    pub fn new(family: &[u16], group: &[u64], amount: usize) -> Self {
        let mut strata: BTreeMap<u16, BTreeMap<u64, Vec<usize>>> = BTreeMap::new();
        for (row, (family, group)) in family.iter().zip(group).enumerate() {
            strata.entry(*family).or_default().entry(*group).or_default().push(row);
        }
        let strata: Vec<Vec<Vec<usize>>> = strata.into_values().map(|groups| groups.into_values().collect()).collect();
        let mut rng = ChaCha8Rng::seed_from_u64(SEED);
        let draw = |_| {
            let mut times = vec![0_u16; family.len()];
            for groups in &strata {
                let count = u32::try_from(groups.len()).expect("rows are counted in 32 bits");
                for _ in 0..count {
                    for &row in &groups[rng.gen_range(0..count) as usize] {
                        times[row] += 1;
                    }
                }
            }
            times
        };
        Self((0..amount).map(draw).collect())
    }

    /// The measures of rows weighted `weight`, each with its interval: the 2.5th and the 97.5th percentile of the
    /// resamples by nearest rank. A measure that is NaN in a resample is left out there.
    pub fn intervals(&self, weight: &[f64], measure: impl Fn(&[f64]) -> Vec<f64> + Sync) -> Vec<Interval> {
        let values = measure(weight);
        let resampled = self.map(|times| {
            let weight: Vec<f64> = weight.iter().zip(times).map(|(weight, times)| weight * f64::from(*times)).collect();
            measure(&weight)
        });
        let of = |(at, value): (usize, &f64)| {
            let mut values: Vec<f64> = resampled.iter().map(|all| all[at]).filter(|value| !value.is_nan()).collect();
            values.sort_by(f64::total_cmp);
            Interval {
                value: *value,
                low: percentile(&values, 25).unwrap_or(*value),
                high: percentile(&values, 975).unwrap_or(*value),
            }
        };
        values.iter().enumerate().map(of).collect()
    }

    /// The measures of each resample, in order, whatever the number of threads.
    fn map(&self, measure: impl Fn(&[u16]) -> Vec<f64> + Sync) -> Vec<Vec<f64>> {
        let threads = thread::available_parallelism().map_or(1, NonZero::get);
        let share = self.0.len().div_ceil(threads).max(1);
        thread::scope(|scope| {
            let measure = &measure;
            let workers: Vec<_> = self
                .0
                .chunks(share)
                .map(|chunk| scope.spawn(move || chunk.iter().map(|times| measure(times)).collect::<Vec<_>>()))
                .collect();
            workers.into_iter().flat_map(|worker| worker.join().expect("measures do not panic")).collect()
        })
    }
}

/// By nearest rank; `level` in thousandths.
fn percentile(sorted: &[f64], level: usize) -> Option<f64> {
    let rank = (sorted.len() * level).div_ceil(1000).max(1);
    sorted.get(rank - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_resample_has_as_many_groups_of_each_family() {
        let family = [0, 0, 0, 1, 1, 2];
        let resamples = Resamples::new(&family, &[1, 1, 2, 2, 3, 4], 100);
        for times in &resamples.0 {
            assert_eq!(times[0], times[1], "copies are drawn together");
            assert_eq!((times[0] + times[2], times[3] + times[4], times[5]), (2, 2, 1));
        }
        assert!(resamples.0.iter().any(|times| times[0] == 2));
    }

    #[test]
    fn percentiles_are_values_that_occurred() {
        let values: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!((percentile(&values, 25), percentile(&values, 975)), (Some(5.0), Some(195.0)));
        assert_eq!(percentile(&values[..1], 25), Some(1.0));
        assert_eq!(percentile(&[], 25), None);
    }

    #[test]
    fn the_interval_of_a_mean_is_about_two_standard_errors() {
        let groups: Vec<u64> = (0..400).collect();
        let resamples = Resamples::new(&[0; 400], &groups, 500);
        let mean = |weight: &[f64]| vec![weight.iter().take(100).sum::<f64>() / 400.0];
        let [interval] = resamples.intervals(&[1.0; 400], mean)[..] else { panic!("one measure") };
        assert_eq!(interval.value, 0.25);
        let standard_error = (0.25 * 0.75 / 400.0_f64).sqrt();
        assert!((interval.high - interval.low - 3.92 * standard_error).abs() < 0.01, "{interval:?}");
    }
}
