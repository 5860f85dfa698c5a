//! Tests of the baseline.

use super::*;
use crate::feedback::Mark;
use ndarray::Array2;
use rand::Rng as _;

const SCHEMA: [&str; 3] = ["rate", "ports", "size"];

fn normal(rows: usize, seed: u64) -> Array2<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    Array2::from_shape_simple_fn((rows, 3), || (0..12).map(|_| rng.gen_range(0.0_f32..1.0)).sum())
}

fn params() -> ValidBaselineParams {
    BaselineParams::new().seed(3).check().unwrap()
}

fn baseline() -> Baseline {
    params().fit(&SCHEMA, normal(2000, 1).view(), 1_700_000_000).unwrap()
}

#[test]
fn rows_are_split_70_to_30_and_none_is_in_both_parts() {
    for (count, held_out) in [(100, 30), (101, 30), (1000, 300)] {
        let (fit, calibrate) = split(count, 30, 5);
        assert_eq!(calibrate.len(), held_out);
        let mut all = [fit, calibrate].concat();
        all.sort_unstable();
        assert_eq!(all, (0..count as usize).collect::<Vec<_>>());
    }
    assert_ne!(split(100, 30, 5), split(100, 30, 6));
}

#[test]
fn training_is_remembered() {
    let expected = Training { rows: 2000, fit_rows: 1400, seed: 3, trained_at_s: 1_700_000_000 };
    assert_eq!(baseline().training(), &expected);
    assert_eq!(baseline().calibration().len(), 600);
    assert_eq!(baseline(), baseline());
}

#[test]
fn alarms_on_fresh_normal_rows_are_as_rare_as_the_p_value_says() {
    let baseline = baseline();
    let fresh = normal(5000, 2);
    let p_values: Vec<f64> = fresh.rows().into_iter().map(|row| baseline.p_value(&row.to_vec())).collect();
    for alpha in [0.01, 0.05, 0.2] {
        let share = p_values.iter().filter(|p| **p <= alpha).count() as f64 / 5000.0;
        assert!((0.5 * alpha..=1.5 * alpha).contains(&share), "{share} of the p-values are at most {alpha}");
    }
}

#[test]
fn the_column_that_is_off_comes_first_in_the_explanation() {
    let baseline = baseline();
    for (column, value) in [(0, 60.0), (1, -40.0), (2, 14.0)] {
        let mut row = [6.0, 6.0, 6.0];
        row[column] = value;
        let explanation = baseline.explain(&row, 2);
        let summary = baseline.reference().columns()[column];
        assert_eq!((explanation[0].feature, explanation[0].value), (column, value));
        assert_eq!(
            (explanation[0].p01, explanation[0].median, explanation[0].p99),
            (summary.p01, summary.median, summary.p99)
        );
        assert!(explanation[0].share > 0.5, "{explanation:?}");
        assert!(explanation.len() <= 2 && explanation.is_sorted_by(|a, b| a.share >= b.share));
        assert!(baseline.p_value(&row) < 0.05);
    }
}

#[test]
fn shares_of_all_features_add_up_to_one() {
    let shares: f64 = baseline().explain(&[30.0, -30.0, 6.0], 3).iter().map(|part| part.share).sum();
    assert!((shares - 1.0).abs() < 1e-12);
}

#[test]
fn the_smallest_change_moves_the_column_that_is_off() {
    let baseline = baseline();
    let found = baseline.smallest_change(&[6.0, 60.0, 6.0], 0.05);
    assert!(found.normal && found.changes.len() == 1, "{found:?}");
    assert_eq!((found.changes[0].feature, found.changes[0].from), (1, 60.0));
    assert!(baseline.p_value(&[6.0, found.changes[0].to, 6.0]) >= 0.05);
}

#[test]
fn contamination_is_left_out_of_what_is_normal() {
    let mut rows = normal(1000, 1);
    for row in 0..10 {
        rows[[row * 99, 1]] = 11.0 + 0.6 * row as f32;
    }
    let fit = |fraction: f64| {
        let params = BaselineParams::new().seed(3).contamination(fraction).check().unwrap();
        params.fit(&SCHEMA, rows.view(), 0).unwrap()
    };
    let (trusting, wary) = (fit(0.0), fit(0.02));
    assert_eq!((wary.training().rows, wary.training().fit_rows, wary.calibration().len()), (1000, 686, 294));
    let found = |baseline: &Baseline| {
        let bad = (0..10).map(|row| rows.row(row * 99).to_vec());
        bad.filter(|row| baseline.p_value(row) < 0.01).count()
    };
    assert!(found(&wary) > found(&trusting), "{} {}", found(&wary), found(&trusting));
    for fraction in [-0.1, 0.6, f64::NAN] {
        assert!(matches!(BaselineParams::new().contamination(fraction).check(), Err(BaselineError::Contamination(_))));
    }
}

#[test]
fn marked_rows_change_the_next_fit() {
    let mut rows = normal(1000, 1);
    for row in 0..40 {
        rows[[row * 25, 1]] = 14.0 + 0.001 * row as f32;
    }
    let (attack, rarity) = ([6.0, 14.02, 6.0], [6.0, 6.0, 11.5]);
    let mut marked = FeedbackSet::new(FeedbackParams::new().check().unwrap());
    for row in 0..40 {
        marked.mark(Mark::Attack, &rows.row(row * 25).to_vec()).unwrap();
    }
    marked.mark(Mark::Normal, &rarity).unwrap();
    let before = params().fit(&SCHEMA, rows.view(), 0).unwrap();
    let after = params().fit_marked(&SCHEMA, rows.view(), 0, &marked).unwrap();
    assert!(before.p_value(&attack) > 0.01 && after.p_value(&attack) < 0.01);
    assert!(before.p_value(&rarity) < 0.01 && after.score(&rarity) < before.score(&rarity));
    assert_eq!(marked.known(after.scaler(), &rarity), Some(Mark::Normal));
    assert!(params().fit_marked(&["a"], rows.column(0).insert_axis(Axis(1)), 0, &marked).is_err());
}

#[test]
fn metrics_without_a_number_or_a_printable_name_are_not_kept() {
    let metrics =
        [("auc", 0.9), ("ap", f64::NAN), ("", 0.5), ("\u{1b}[2J", 0.5)].map(|(name, value)| (name.to_owned(), value));
    assert_eq!(baseline().with_metrics(metrics.into()).metrics(), &Metrics::from([("auc".to_owned(), 0.9)]));
}

#[test]
fn unusable_training_data_is_rejected() {
    let mut holed = normal(200, 1);
    holed[[150, 2]] = f32::NAN;
    let long = "x".repeat(MAX_COLUMN_NAME + 1);
    let fit = |schema: &[&str], rows: &Array2<f32>| params().fit(schema, rows.view(), 0).unwrap_err();
    for (error, expected) in [
        (fit(&SCHEMA, &normal(99, 1)), FitError::TooFewRows { rows: 99, needed: 100 }.into()),
        (fit(&SCHEMA, &holed), FitError::NotFinite { row: 150, column: 2 }.into()),
        (fit(&["a", "b"], &normal(200, 1)), SchemaError::Width { expected: 2, found: 3 }.into()),
        (fit(&["a", "b", "a"], &normal(200, 1)), SchemaError::Name(2).into()),
        (fit(&["a", "", "c"], &normal(200, 1)), SchemaError::Name(1).into()),
        (fit(&["a", "b", "c\n"], &normal(200, 1)), SchemaError::Name(2).into()),
        (fit(&[&long, "b", "c"], &normal(200, 1)), BaselineError::Schema(SchemaError::Name(0))),
    ] {
        assert_eq!(error, expected);
    }
}

#[test]
fn another_schema_is_refused() {
    let baseline = baseline();
    assert_eq!(baseline.expect_schema(&SCHEMA), Ok(()));
    assert_eq!(baseline.expect_schema(&["rate"]), Err(SchemaError::Width { expected: 1, found: 3 }));
    let swapped = SchemaError::Column { at: 1, expected: "size".into(), found: "ports".into() };
    assert_eq!(baseline.expect_schema(&["rate", "size", "ports"]), Err(swapped));
}

/// More rows than a calibration holds are left in one half.
#[test]
fn contamination_is_left_out_of_millions_of_rows() {
    let rows = Array2::from_shape_fn((1_120_000, 1), |(at, _)| (at % 1000) as f32);
    let recipe = [(ModelKind::Residual, 1.0)];
    let params = BaselineParams::new().recipe(&recipe).contamination(0.01).check().unwrap();
    let baseline = params.fit(&["rate"], rows.view(), 0).unwrap();
    assert_eq!(baseline.training().fit_rows, 1_108_800 - 65_536);
}
