//! The same trees give the same scores as in scikit-learn.

use ndarray::Array2;
use sensor_evaluation::parity;

/// The rows of `export_isolation_forest.py --fixture`: a Weyl sequence in whole numbers, skewed as flow features are.
fn rows() -> Array2<f32> {
    let values = (0..10_000 * 5_u64).map(|index| {
        let unit = (index * 2_654_435_769 % (1 << 32)) as f64 / (1_u64 << 32) as f64;
        #[expect(clippy::cast_possible_truncation, reason = "rounded to the nearest f32, as numpy does")]
        let value = (unit.powi(3) * 1000.0) as f32;
        value
    });
    Array2::from_shape_vec((10_000, 5), values.collect()).expect("as many values as the shape has")
}

/// Forest and scores of scikit-learn 1.9.1: 20 trees on 64 of the first 2,000 rows each, scores as `f32`.
#[test]
fn ten_thousand_rows_score_as_in_scikit_learn() {
    let forest = parity::import(include_str!("isolation_forest/forest.json")).unwrap();
    assert_eq!((forest.trees(), forest.sample_size(), forest.features()), (20, 64, 5));
    let (expected, rest) = include_bytes!("isolation_forest/scores.f32").as_chunks::<4>();
    assert_eq!((expected.len(), rest.len()), (10_000, 0));
    let scores = forest.score_batch(rows().view());
    for (row, (score, expected)) in scores.iter().zip(expected).enumerate() {
        let expected = f64::from(f32::from_le_bytes(*expected));
        assert!((score - expected).abs() < 1e-6, "row {row} scores {score}, in scikit-learn {expected}");
    }
}

#[test]
fn what_is_no_forest_is_an_error() {
    for json in ["", "{}", r#"{"features":5,"max_samples":64,"trees":[]}"#] {
        assert!(parity::import(json).is_err(), "{json}");
    }
}
