//! Tests of fitting and judging.

use ndarray::{Array2, ArrayView1, Axis, array};
use proptest::prelude::*;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::isolation_forest::FitError;

const NAMES: Names<'_> = Names { columns: &["a", "b", "c"], classes: &["normal", "scan", "never", "flood"] };

/// Three clouds that overlap a little: normal around 0, scan high in the first column, flood high in the second.
fn rows(count: usize, seed: u64) -> (Array2<f32>, Vec<u16>) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let classes: Vec<u16> = (0..count).map(|row| [0, 0, 0, 1, 3][row % 5]).collect();
    let mut rows = Array2::from_shape_simple_fn((count, 3), || rng.gen_range(0.0_f32..10.0));
    for (mut row, class) in rows.rows_mut().into_iter().zip(&classes) {
        row[0] += if *class == 1 { 9.0 } else { 0.0 };
        row[1] += if *class == 3 { 9.0 } else { 0.0 };
    }
    (rows, classes)
}

fn params() -> ClassifierParams {
    ClassifierParams::new().rounds(10).leaves(8).column_share(0.7).seed(3)
}

fn fit(params: ClassifierParams) -> Classifier {
    let (rows, classes) = rows(500, 1);
    params.check().unwrap().fit(rows.view(), &classes, NAMES, 1_700_000_000).unwrap()
}

#[test]
fn classes_are_told_apart() {
    let classifier = fit(params().rounds(40));
    let (rows, classes) = rows(500, 2);
    let decided = |row: ArrayView1<'_, f32>| classifier.verdict(&row.to_vec()).decision;
    let hits = rows.rows().into_iter().zip(&classes).filter(|(row, class)| match decided(*row) {
        Decision::Normal => **class == 0,
        Decision::Attack(named) => **class == named,
        Decision::Unknown => false,
    });
    let hits = hits.count();
    assert!(hits > 430, "{hits} of 500");
}

#[test]
fn a_fit_repeats_to_the_digit() {
    assert_eq!(fit(params()), fit(params()));
    assert_ne!(fit(params()), fit(params().seed(4)));
    let classifier = fit(params());
    for (row, expected) in GOLDEN {
        for (found, expected) in classifier.probabilities(&row).into_iter().zip(expected) {
            assert!((found - expected).abs() < 1e-12, "{row:?}: {found:?}, not {expected:?}");
        }
    }
}

/// Probabilities when this was first written.
const GOLDEN: [([f32; 3], [f64; 4]); 3] = [
    ([5.0, 5.0, 5.0], [0.9230854588760923, 0.038552765751602505, 0.0, 0.03836177537230519]),
    ([16.0, 5.0, 5.0], [0.13047840014285447, 0.8145007335339712, 0.0, 0.05502086632317431]),
    ([9.5, 9.5, 1.0], [0.5491016970940932, 0.1496898907833943, 0.0, 0.30120841212251254]),
];

#[test]
fn a_batch_says_what_each_row_says() {
    let classifier = fit(params());
    let (rows, _) = rows(2 * BLOCK + 17, 5);
    let transposed = rows.t().as_standard_layout().into_owned();
    for rows in [rows.view(), transposed.t(), rows.select(Axis(0), &[]).view()] {
        let batch = classifier.probabilities_batch(rows);
        assert_eq!(batch.dim(), (rows.nrows(), 4));
        for (row, probabilities) in rows.rows().into_iter().zip(batch.rows()) {
            assert_eq!(classifier.probabilities(&row.to_vec()), probabilities.to_vec());
        }
    }
}

#[test]
fn a_class_without_rows_is_never_probable() {
    let classifier = fit(params());
    let row = [5.0, 5.0, 5.0];
    assert_eq!(classifier.probabilities(&row)[2], 0.0);
    assert_eq!((classifier.margin(&row, 2), classifier.bias(2)), (f64::NEG_INFINITY, f64::NEG_INFINITY));
    assert_eq!(classifier.contributions(&row, 2), [0.0; 3]);
}

#[test]
fn the_column_that_matters_contributes_most() {
    let classifier = fit(params());
    let scan = classifier.contributions(&[17.0, 5.0, 5.0], 1);
    assert!(scan[0] > 1.0 && scan[0] > 3.0 * scan[1].abs().max(scan[2].abs()), "{scan:?}");
}

#[test]
fn verdicts_keep_to_their_thresholds() {
    let classifier = fit(params());
    for (probabilities, expected) in [
        ([0.85, 0.15, 0.0, 0.0], Decision::Normal),
        ([0.84, 0.16, 0.0, 0.0], Decision::Attack(1)),
        ([0.6, 0.2, 0.0, 0.2], Decision::Attack(1)),
        ([0.1, 0.4, 0.0, 0.5], Decision::Attack(3)),
        ([0.1, 0.3, 0.3, 0.3], Decision::Unknown),
        ([0.84, 0.05, 0.06, 0.05], Decision::Unknown),
    ] {
        let verdict = classifier.judge(probabilities.to_vec());
        assert_eq!((verdict.decision, verdict.probabilities.as_slice()), (expected, &probabilities[..]));
    }
    let strict = fit(params().pass_at(0.99).name_at(0.9));
    assert_eq!(strict.judge(vec![0.9, 0.08, 0.0, 0.02]).decision, Decision::Unknown);
    assert_eq!(strict.judge(vec![0.9, 0.095, 0.0, 0.005]).decision, Decision::Attack(1));
}

#[test]
fn the_prior_of_the_training_rows_changes_nothing() {
    let classifier = fit(params());
    assert_eq!(classifier.normal_share(), 0.6);
    assert_eq!(classifier.clone().with_prior(0.6), Ok(classifier));
}

#[test]
fn priors_that_leave_no_room_are_rejected() {
    for share in [0.0, 1.0, -0.5, 2.0, f64::INFINITY, f64::MIN_POSITIVE / 2.0] {
        assert_eq!(fit(params().rounds(1)).with_prior(share), Err(PriorError(share)));
    }
    assert!(fit(params().rounds(1)).with_prior(f64::NAN).is_err());
}

#[test]
fn balance_does_not_move_probabilities_of_what_cannot_be_told_apart() {
    let rows = Array2::zeros((1000, 3));
    let classes: Vec<u16> = (0..1000).map(|row| if row % 10 == 0 { 1 } else { 0 }).collect();
    for balance in [0.0, 0.5, 1.0] {
        let params = params().balance(balance).check().unwrap();
        let classifier = params.fit(rows.view(), &classes, NAMES, 0).unwrap();
        assert!((classifier.probabilities(&[0.0; 3])[1] - 0.1).abs() < 1e-6);
    }
}

#[test]
fn metrics_are_kept() {
    let figures = |name: &str, value: f64| [(name.to_owned(), value)].into();
    let classifier = fit(params().rounds(1)).with_metrics(figures("auc", 0.99)).unwrap();
    assert_eq!(classifier.metrics()["auc"], 0.99);
    for bad in [figures("", 1.0), figures("auc", f64::NAN), figures("a\nb", 1.0)] {
        assert_eq!(classifier.clone().with_metrics(bad), Err(MetricsError));
    }
    let many = (0..=MAX_METRICS).map(|at| (at.to_string(), 0.0)).collect();
    assert_eq!(classifier.with_metrics(many), Err(MetricsError));
}

#[test]
fn the_schema_is_compared() {
    let classifier = fit(params().rounds(1));
    assert_eq!(classifier.expect_schema(&["a", "b", "c"]), Ok(()));
    assert!(matches!(classifier.expect_schema(&["a", "b"]), Err(SchemaError::Width { expected: 2, found: 3 })));
    assert!(matches!(classifier.expect_schema(&["a", "x", "c"]), Err(SchemaError::Column { at: 1, .. })));
}

#[test]
fn what_cannot_be_fitted_is_rejected() {
    use FitClassifierError as E;
    let good = array![[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]];
    let nan = array![[0.0, f32::NAN, 2.0], [3.0, 4.0, 5.0]];
    let columns = |columns| Names { columns, ..NAMES };
    let named = |classes| Names { classes, ..NAMES };
    let many: Vec<String> = (0..=MAX_CLASSES).map(|class| class.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for (rows, classes, names, expected) in [
        (&Array2::zeros((1, 3)), &[0][..], NAMES, E::Rows(FitError::TooFewRows { rows: 1, needed: 2 })),
        (&Array2::zeros((2, 0)), &[0, 1], NAMES, E::Rows(FitError::Columns(0))),
        (&nan, &[0, 1], NAMES, E::Rows(FitError::NotFinite { row: 0, column: 1 })),
        (&good, &[0, 1], columns(&["a", "b"]), E::Schema(SchemaError::Width { expected: 2, found: 3 })),
        (&good, &[0, 1], columns(&["a", "b", "a"]), E::Schema(SchemaError::Name(2))),
        (&good, &[0, 0], named(&["normal"]), E::ClassNames),
        (&good, &[0, 1], named(&["normal", "normal"]), E::ClassNames),
        (&good, &[0, 1], named(&many), E::ClassNames),
        (&good, &[0], NAMES, E::Lengths { rows: 2, classes: 1 }),
        (&good, &[0, 4], NAMES, E::Class { row: 1, class: 4 }),
        (&good, &[1, 3], NAMES, E::NoNormal),
        (&good, &[0, 0], NAMES, E::NoAttack),
    ] {
        let params = params().check().unwrap();
        assert_eq!(params.fit(rows.view(), classes, names, 0), Err(expected));
    }
}

fn any_row() -> impl Strategy<Value = [f32; 3]> {
    let value = || prop_oneof![4 => -5.0_f32..25.0, 1 => any::<f32>()];
    [value(), value(), value()]
}

thread_local! {
    static FITTED: Classifier = fit(params().balance(0.5));
}

proptest! {
    #[test]
    fn probabilities_are_numbers_that_sum_to_one(row in any_row(), share in 1e-9..0.999_f64) {
        let classifier = FITTED.with(Clone::clone);
        for classifier in [classifier.clone(), classifier.with_prior(share).unwrap()] {
            let probabilities = classifier.probabilities(&row);
            prop_assert!(probabilities.iter().all(|p| (0.0..=1.0).contains(p)));
            prop_assert!((probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        }
    }

    #[test]
    fn contributions_sum_to_the_margin(row in any_row(), share in 1e-9..0.999_f64) {
        let classifier = FITTED.with(Clone::clone).with_prior(share).unwrap();
        let probabilities = classifier.probabilities(&row);
        for class in [0, 1, 3] {
            let sum: f64 = classifier.contributions(&row, class).iter().sum();
            let margin = classifier.margin(&row, class);
            prop_assert!((classifier.bias(class) + sum - margin).abs() < 1e-9);
            let odds = (probabilities[usize::from(class)] / probabilities[0]).ln();
            prop_assert!((margin - classifier.margin(&row, 0) - odds).abs() < 1e-9);
        }
    }

    #[test]
    fn a_prior_multiplies_odds_by_the_ratio_of_odds(row in any_row(), share in 1e-9..0.999_f64) {
        let trained = FITTED.with(Clone::clone);
        let corrected = trained.clone().with_prior(share).unwrap();
        let odds = |of: &Classifier| { let p = of.probabilities(&row)[0]; p / (1.0 - p) };
        let ratio = share / (1.0 - share) / (0.6 / 0.4);
        let expected = odds(&trained) * ratio;
        prop_assert!((odds(&corrected) / expected - 1.0).abs() < 1e-6);
        let attacks = |of: &Classifier| { let p = of.probabilities(&row); p[1] / (p[1] + p[3]) };
        prop_assert!((attacks(&trained) - attacks(&corrected)).abs() < 1e-9);
    }

    #[test]
    fn verdicts_follow_from_probabilities(row in any_row()) {
        let verdict = FITTED.with(|classifier| classifier.verdict(&row));
        let p = &verdict.probabilities;
        match verdict.decision {
            Decision::Normal => prop_assert!(p[0] >= 0.85),
            Decision::Attack(class) => {
                let named = p[usize::from(class)];
                prop_assert!(p[0] < 0.85 && p[1..].iter().all(|other| *other <= named) && named >= 0.5 * (p[1] + p[2] + p[3]));
            }
            Decision::Unknown => prop_assert!(p[0] < 0.85 && p[1..].iter().all(|other| *other < 0.5 * (p[1] + p[2] + p[3]))),
        }
    }
}
