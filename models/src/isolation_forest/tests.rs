//! Tests of the forest.

use ndarray::{Array2, Axis, array, concatenate};
use proptest::prelude::*;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::*;

/// Roughly normal, mean 0, standard deviation 1.
fn gaussian(rows: usize, columns: usize, seed: u64) -> Array2<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    Array2::from_shape_simple_fn((rows, columns), || (0..12).map(|_| rng.gen_range(-0.5_f32..0.5)).sum())
}

fn fit(rows: &Array2<f32>, seed: u64) -> IsolationForest {
    IsolationForestParams::new().seed(seed).check().unwrap().fit(rows.view()).unwrap()
}

/// `feature:threshold` is a split, `nL` a leaf of `n` samples, a line a tree.
fn forest_from_text(text: &str, features: u16, sample_size: u32) -> IsolationForest {
    let nodes: Vec<_> = text
        .split_whitespace()
        .map(|node| match node.split_once(':') {
            Some((feature, threshold)) => {
                RawNode::Split { feature: feature.parse().unwrap(), threshold: threshold.parse().unwrap() }
            }
            None => RawNode::Leaf { samples: node.trim_end_matches('L').parse().unwrap() },
        })
        .map(Ok::<_, TreeError>)
        .collect();
    IsolationForest::from_nodes(nodes.into_iter(), features, sample_size).unwrap()
}

#[test]
fn average_path_length_is_that_of_scikit_learn() {
    for (n, expected) in [
        (0, 0.0),
        (1, 0.0),
        (2, 1.0),
        (3, 1.207392357589623),
        (5, 2.327020052042847),
        (16, 4.695531732007486),
        (256, 10.244770920119917),
        (999, 12.967939884427995),
        (8192, 17.17625800945927),
    ] {
        assert!((average_path_length(n) - expected).abs() < 1e-12, "c({n}) = {}", average_path_length(n));
    }
}

#[test]
fn trees_stop_at_the_logarithm_of_the_sample() {
    for (sample_size, expected) in [(2, 1), (3, 2), (4, 2), (5, 3), (256, 8), (257, 9), (MAX_SAMPLE_SIZE, 13)] {
        assert_eq!(max_depth(sample_size), expected);
    }
}

/// Trees and scores of scikit-learn 1.9.1: `IsolationForest(n_estimators=10, max_samples=16, random_state=1)` on 200
/// normal rows, thresholds rounded down to `f32`, scores `-score_samples(rows)`.
#[test]
fn the_same_trees_score_as_in_scikit_learn() {
    let forest = forest_from_text(include_str!("scikit_learn.txt"), 3, 16);
    for (row, expected) in [
        ([0.0, 0.0, 0.0], 0.4385806024697563),
        ([1.0, -1.0, 0.5], 0.44532410685867235),
        ([4.0, 0.0, 0.0], 0.495324627845011),
        ([0.0, -5.0, 0.0], 0.5534928571034836),
        ([6.0, 6.0, 6.0], 0.6391073697862332),
        ([-0.25, 0.75, -1.5], 0.459841470478435),
    ] {
        assert!((forest.score(&row) - expected).abs() < 1e-12, "{row:?} scores {}", forest.score(&row));
    }
}

/// Changes when the random numbers or the order in which they are used change: models then have to be retrained to be
/// reproducible from their seed.
#[test]
fn a_seed_stands_for_the_same_forest_for_ever() {
    let rows = Array2::from_shape_fn((64, 2), |(i, j)| ((i * (13 + 6 * j)) % 31) as f32);
    let params = IsolationForestParams::new().trees(9).sample_size(16).seed(42).check().unwrap();
    let forest = params.fit(rows.view()).unwrap();
    for (row, expected) in
        [([15.0, 15.0], 0.5002356601343583), ([0.0, 30.0], 0.5300052792902578), ([31.0, -1.0], 0.6422000682079733)]
    {
        assert!((forest.score(&row) - expected).abs() < 1e-12, "{row:?} scores {}", forest.score(&row));
    }
}

#[test]
fn outliers_of_two_clusters_score_high_and_inliers_low() {
    let far = gaussian(500, 4, 1) * 0.5 + 10.0;
    let rows = concatenate![Axis(0), gaussian(500, 4, 2) * 0.5, far];
    let forest = fit(&rows, 1);
    for inlier in [[0.0; 4], [10.0; 4], [0.3, -0.2, 0.1, 0.0]] {
        assert!(forest.score(&inlier) < 0.55, "{inlier:?} scores {}", forest.score(&inlier));
    }
    for outlier in [[25.0; 4], [-15.0; 4], [25.0, -15.0, 25.0, -15.0]] {
        assert!(forest.score(&outlier) > 0.6, "{outlier:?} scores {}", forest.score(&outlier));
    }
    let mean = forest.score_batch(rows.view()).mean().unwrap();
    assert!(mean < 0.55, "the training rows score {mean} on average");
}

#[test]
fn seeds_are_reproducible_and_matter() {
    let rows = gaussian(600, 5, 3);
    assert_eq!(fit(&rows, 7), fit(&rows, 7));
    assert_ne!(fit(&rows, 7), fit(&rows, 8));
}

#[test]
fn the_memory_order_of_the_rows_does_not_matter() {
    let rows = gaussian(300, 5, 3);
    let transposed = rows.t().as_standard_layout().into_owned();
    let other = IsolationForestParams::new().seed(7).check().unwrap().fit(transposed.t()).unwrap();
    assert_eq!(other, fit(&rows, 7));
}

#[test]
fn constant_columns_never_split() {
    let mut rows = gaussian(300, 3, 4);
    rows.column_mut(1).fill(5.0);
    let forest = fit(&rows, 1);
    assert_eq!(forest.score(&[0.5, 5.0, -0.5]), forest.score(&[0.5, 1e9, -0.5]));
    assert_eq!(forest.contributions(&[9.0, 1e9, 9.0])[1], 0.0);
}

#[test]
fn rows_that_are_all_the_same_leave_every_score_at_one_half() {
    let forest = fit(&Array2::from_elem((300, 3), 4.0), 1);
    assert_eq!(forest.node_count(), 100);
    for row in [[4.0, 4.0, 4.0], [9.0, 9.0, 9.0]] {
        assert!((forest.score(&row) - 0.5).abs() < 1e-12);
    }
}

#[test]
fn duplicates_are_ordinary_and_the_one_other_row_is_not() {
    let mut rows = Array2::from_elem((200, 2), 1.0);
    rows.row_mut(77).fill(2.0);
    let forest = fit(&rows, 1);
    assert!(forest.score(&[1.0, 1.0]) < 0.51);
    assert!(forest.score(&[2.0, 2.0]) > 0.9);
}

#[test]
fn two_rows_are_enough() {
    let forest = fit(&array![[0.0], [1.0]], 1);
    assert_eq!((forest.sample_size(), forest.trees(), forest.features()), (2, 100, 1));
    assert_eq!(forest.score(&[0.0]), 0.5);
}

#[test]
fn both_sides_of_a_split_are_occupied_at_the_ends_of_the_number_line() {
    let next_up = 1.0_f32.next_up();
    for rows in [array![[f32::MIN], [f32::MAX]], array![[1.0], [next_up]], array![[-0.0_f32.next_up()], [0.0]]] {
        let forest = fit(&rows, 1);
        assert_eq!(forest.node_count(), 300, "{rows}");
    }
}

#[test]
fn values_that_are_not_finite_score_as_extremes() {
    let forest = fit(&gaussian(300, 2, 5), 1);
    assert_eq!(forest.score(&[f32::NAN, 0.0]), forest.score(&[f32::MAX, 0.0]));
    assert_eq!(forest.score(&[f32::INFINITY, 0.0]), forest.score(&[f32::MAX, 0.0]));
    assert_eq!(forest.score(&[f32::NEG_INFINITY, 0.0]), forest.score(&[f32::MIN, 0.0]));
}

#[test]
#[should_panic(expected = "one value for each feature")]
fn a_row_of_another_width_is_a_mistake_of_the_caller() {
    let _ = fit(&gaussian(300, 3, 5), 1).score(&[0.0, 0.0]);
}

#[test]
fn batches_score_as_single_rows_do() {
    let rows = gaussian(500, 6, 6);
    let forest = fit(&gaussian(300, 6, 6), 2);
    let expected: Vec<u64> = rows.rows().into_iter().map(|row| forest.score(&row.to_vec()).to_bits()).collect();
    let column_major = rows.t().as_standard_layout().into_owned();
    for batch in [rows.view(), column_major.t()] {
        assert_eq!(forest.score_batch(batch).map(|score| score.to_bits()).to_vec(), expected);
    }
}

/// Sizes around those at which the walk changes, values that no threshold knows, trees of any depth.
#[test]
fn large_batches_score_as_single_rows_do_bit_for_bit() {
    for (sample_size, count) in [(2, 300), (16, 255), (100, 256), (256, 257), (256, 1000), (257, 300), (1000, 300)] {
        let forest = IsolationForestParams::new().sample_size(sample_size).trees(19).check().unwrap();
        let forest = forest.fit(gaussian(1200, 5, 8).view()).unwrap();
        let mut rows = gaussian(count, 5, 9);
        for (row, value) in [(3, f32::NAN), (100, f32::INFINITY), (200, f32::NEG_INFINITY), (254, -0.0)] {
            rows[[row, row % 5]] = value;
        }
        let column_major = rows.t().as_standard_layout().into_owned();
        let expected: Vec<u64> = rows.rows().into_iter().map(|row| forest.score(&row.to_vec()).to_bits()).collect();
        for batch in [rows.view(), column_major.t()] {
            let scores = forest.score_batch(batch).map(|score| score.to_bits()).to_vec();
            assert_eq!(scores, expected, "{count} rows, sample size {sample_size}");
        }
    }
}

#[test]
fn the_extreme_column_gets_the_largest_contribution() {
    let forest = fit(&gaussian(1000, 8, 7), 3);
    for column in 0..8 {
        for value in [-8.0, 8.0] {
            let mut row = [0.1; 8];
            row[column] = value;
            let credits = forest.contributions(&row);
            let others = (0..8).filter(|other| *other != column).map(|other| credits[other]).fold(f64::MIN, f64::max);
            assert!(credits[column] > 2.0 * others.max(0.0), "column {column} at {value}: {credits:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn contributions_sum_to_the_path_saved(seed: u64, row in prop::array::uniform4(-6.0_f32..6.0)) {
        let forest = fit(&gaussian(100, 4, seed), seed);
        let expected = average_path_length(100) * (1.0 + forest.score(&row).log2());
        let total: f64 = forest.contributions(&row).iter().sum();
        prop_assert!((total - expected).abs() < 1e-9, "{total} is not {expected}");
    }

    #[test]
    fn scores_are_between_zero_and_one(
        seed: u64,
        values in prop::collection::vec(-1e30_f32..1e30, 6..120),
        row in prop::array::uniform3(prop::num::f32::ANY),
    ) {
        let rows = Array2::from_shape_vec((values.len() / 3, 3), values[..values.len() / 3 * 3].to_vec()).unwrap();
        let score = fit(&rows, seed).score(&row);
        prop_assert!(score > 0.0 && score < 1.0, "{score}");
    }
}
