//! Tests of the decision between two baselines.

use ndarray::Array2;
use proptest::prelude::*;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::BaselineParams;

const NO_ATTACKS: [f32; 0] = [];

/// The first column is the p-value of the champion, the second that of the challenger.
fn decide(normal: &Array2<f32>, attacks: &[[f32; 2]]) -> Decision {
    let attacks = Array2::from_shape_fn((attacks.len(), 2), |(row, column)| attacks[row][column]);
    let params = ChallengeParams::new().check().unwrap();
    let (champion, challenger) = (|row: &[f32]| f64::from(row[0]), |row: &[f32]| f64::from(row[1]));
    params.decide(
        Contender { p_value: &champion, calibration: 3000 },
        Contender { p_value: &challenger, calibration: 3000 },
        &Evidence { normal: normal.view(), attacks: attacks.view() },
    )
}

/// Uniform values of each contender, changed by a function each.
fn rows(count: usize, champion: impl Fn(f32) -> f32, challenger: impl Fn(f32) -> f32) -> Array2<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    Array2::from_shape_fn((count, 2), |(_, column)| {
        let uniform = rng.gen_range(0.0..1.0);
        if column == 0 { champion(uniform) } else { challenger(uniform) }
    })
}

fn honest(p: f32) -> f32 {
    p
}

/// Too small in the middle, as promised below 0.02.
fn drifted(p: f32) -> f32 {
    if p < 0.02 { p } else { 0.02 + 0.98 * ((p - 0.02) / 0.98).powf(1.5) }
}

#[test]
fn each_reason_is_given_where_it_applies() {
    let alarming = |p: f32| if p < 0.03 { p / 3.0 } else { p };
    for (normal, attacks, expected) in [
        (rows(499, drifted, honest), &[][..], Reason::TooFewRows),
        (rows(3000, honest, alarming), &[], Reason::FalseAlarms),
        (rows(3000, drifted, |_| 1.0), &[], Reason::Silent),
        (rows(3000, drifted, honest), &[[0.001, 0.2], [0.5, 0.5]], Reason::LosesAttacks),
        (rows(3000, honest, honest), &[[0.2, 0.001]], Reason::FindsMore),
        (rows(3000, alarming, honest), &[[0.001, 0.001]], Reason::FewerFalseAlarms),
        (rows(3000, drifted, honest), &[], Reason::Drifted),
        (rows(3000, honest, honest), &[], Reason::Tie),
        (rows(3000, honest, drifted), &[], Reason::Tie),
        (rows(3000, drifted, drifted), &[[0.5, 0.5]], Reason::Tie),
    ] {
        let decision = decide(&normal, attacks);
        // Two drifted ones differ by chance only: either may be nearer to uniform.
        let by_chance =
            expected == Reason::Tie && decision.reason == Reason::Drifted && decision.challenger.drift < 0.01;
        assert!(decision.reason == expected || by_chance, "{expected:?}: {decision:?}");
        assert_eq!((decision.rows, decision.attacks), (normal.nrows(), attacks.len()));
    }
}

#[test]
fn equal_contenders_keep_the_champion_whatever_they_are() {
    for change in [honest, drifted, |_| 0.001, |_| 1.0] {
        let normal = rows(1000, change, honest);
        let both = Array2::from_shape_fn((1000, 2), |(row, _)| normal[[row, 0]]);
        assert!(!decide(&both, &[[0.001, 0.001]]).reason.promotes());
    }
}

#[test]
fn a_baseline_of_yesterday_gives_way_to_one_of_today() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut traffic = |shift: f32, count: usize| {
        Array2::from_shape_simple_fn((count, 4), || shift + (0..12).map(|_| rng.gen_range(-0.5_f32..0.5)).sum::<f32>())
    };
    let (yesterday, today, recent) = (traffic(0.0, 3000), traffic(0.7, 3000), traffic(0.7, 1000));
    let fit = |rows: &Array2<f32>| {
        BaselineParams::new().seed(1).check().unwrap().fit(&["a", "b", "c", "d"], rows.view(), 0).unwrap()
    };
    let (old, new) = (fit(&yesterday), fit(&today));
    let (old_p, new_p) = (|row: &[f32]| old.p_value(row), |row: &[f32]| new.p_value(row));
    let old = Contender { p_value: &old_p, calibration: old.calibration().len() };
    let new = Contender { p_value: &new_p, calibration: new.calibration().len() };
    let attacks = ArrayView2::from_shape((0, 4), &NO_ATTACKS).unwrap();
    let evidence = Evidence { normal: recent.view(), attacks };
    let params = ChallengeParams::new().check().unwrap();
    assert!(params.decide(old, new, &evidence).reason.promotes(), "{:?}", params.decide(old, new, &evidence));
    assert_eq!(params.decide(new, old, &evidence).reason, Reason::FalseAlarms);
}

#[test]
fn honest_challengers_are_rarely_accused() {
    // Calibration and rows drawn anew each time, as the tests assume.
    let params = ChallengeParams::new().alert_level(0.05).check().unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let mut accused = [0; 3];
    for _ in 0..1000 {
        let calibration = crate::Calibration::new((0..199).map(|_| rng.gen_range(0.0..1.0)).collect()).unwrap();
        let p_values: Vec<f64> = (0..500).map(|_| calibration.p_value(rng.gen_range(0.0..1.0))).collect();
        let alarms = p_values.iter().filter(|p| **p <= 0.05).count();
        let (too_many, too_few) = params.tails(alarms, 500, 199);
        let distance = above_uniform(p_values);
        let drift = (-2.0 * distance.powi(2) * 500.0 * 199.0 / 699.0).exp();
        for (count, chance) in accused.iter_mut().zip([too_many, too_few, drift]) {
            *count += usize::from(chance < 0.01);
        }
    }
    assert!(accused.iter().all(|count| *count <= 20), "{accused:?} of 1000, 10 expected at most");
}

#[test]
fn tails_are_those_of_the_distribution() {
    // With a = b = 1 each number of successes has the same chance.
    let close = |(a, b): (f64, f64), (c, d): (f64, f64)| (a - c).abs() < 1e-12 && (b - d).abs() < 1e-12;
    for k in 0..=9_u8 {
        let k_f = f64::from(k);
        assert!(close(beta_binomial_tails(k.into(), 9, 1.0, 1.0), ((10.0 - k_f) / 10.0, (k_f + 1.0) / 10.0)), "{k}");
    }
    // From sums of fractions.
    assert!(close(beta_binomial_tails(20, 1000, 6.0, 595.0), (0.04911677001087415, 0.9629576970396633)));
    assert!(close(beta_binomial_tails(3, 50, 2.0, 99.0), (0.10810810810810811, 0.9574902658473496)));
    assert!(close(beta_binomial_tails(0, 0, 6.0, 595.0), (1.0, 1.0)));
}

#[test]
fn a_calibration_too_small_for_the_level_never_alarms() {
    let params = ChallengeParams::new().check().unwrap();
    assert_eq!(params.tails(0, 900, 50), (1.0, 1.0));
    assert_eq!(params.tails(1, 900, 50), (0.0, 1.0));
}

#[test]
fn parameters_out_of_range_are_rejected() {
    let params = ChallengeParams::new;
    for (given, expected) in [
        (params().alert_level(0.0), ChallengeError::AlertLevel(0.0)),
        (params().alert_level(0.6), ChallengeError::AlertLevel(0.6)),
        (params().confidence(0.0), ChallengeError::Confidence(0.0)),
        (params().confidence(f64::INFINITY), ChallengeError::Confidence(f64::INFINITY)),
        (params().min_rows(0), ChallengeError::MinRows),
    ] {
        assert_eq!(given.check(), Err(expected));
    }
}

#[test]
fn a_decision_can_be_logged() {
    let text = serde_json::to_string(&decide(&rows(10, honest, honest), &[])).unwrap();
    assert!(
        text.starts_with(r#"{"reason":"too_few_rows","rows":10,"attacks":0,"champion":{"false_alarms":"#),
        "{text}"
    );
}

proptest! {
    #[test]
    fn tails_are_chances_that_meet(n in 0_usize..300, k in 0.0_f64..=1.0, a in 1_u8..50, b in 1_u16..900) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of n")]
        let k = (k * n as f64) as usize;
        let (at_least, at_most) = beta_binomial_tails(k, n, f64::from(a), f64::from(b));
        prop_assert!((0.0..=1.0).contains(&at_least) && (0.0..=1.0).contains(&at_most));
        prop_assert!(at_least + at_most >= 1.0 - 1e-9);
        if k > 0 {
            let (_, below) = beta_binomial_tails(k - 1, n, f64::from(a), f64::from(b));
            prop_assert!((below + at_least - 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn any_p_values_give_a_decision(
        values in prop::collection::vec((any::<f32>(), any::<f32>()), 0..50), attacks in 0_usize..3,
    ) {
        let normal = Array2::from_shape_fn((values.len(), 2), |(row, column)| [values[row].0, values[row].1][column]);
        let decision = decide(&normal, &vec![[f32::NAN, 0.0]; attacks]);
        prop_assert!(!decision.reason.promotes());
        prop_assert_eq!((decision.champion.found, decision.challenger.found), (0, attacks));
    }
}
