//! Tests of feedback.

use ndarray::{Axis, concatenate};
use proptest::prelude::*;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::{Calibration, IsolationForest, IsolationForestParams};

/// Roughly normal around `centre` from 20, where the scaling is nearly linear.
fn around(centre: [f32; 6], spread: f32, rows: usize, seed: u64) -> Array2<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    Array2::from_shape_fn((rows, 6), |(_, column)| {
        20.0 + centre[column] + spread * (0..12).map(|_| rng.gen_range(-0.5_f32..0.5)).sum::<f32>()
    })
}

/// A forest and its calibration, as a baseline has them: the copies are fitted, and do not calibrate.
struct Fitted(IsolationForest, Calibration);

impl Fitted {
    fn new(rows: &Array2<f32>, set: &FeedbackSet) -> Self {
        let cleaned = set.clean(rows.view()).unwrap().rows;
        let (held_out, fit) = cleaned.view().split_at(Axis(0), cleaned.nrows() * 3 / 10);
        let params = IsolationForestParams::new().seed(3).check().unwrap();
        let forest = params.fit(set.reinforce(fit).unwrap().view()).unwrap();
        let calibration = Calibration::new(forest.score_batch(held_out).to_vec()).unwrap();
        Self(forest, calibration)
    }

    fn p_value(&self, row: &[f32]) -> f64 {
        self.1.p_value(self.0.score(row))
    }
}

fn feedback(marks: &[(Mark, &[f32])]) -> FeedbackSet {
    let mut set = FeedbackSet::new(FeedbackParams::new().check().unwrap());
    marks.iter().for_each(|(mark, row)| set.mark(*mark, row).unwrap());
    set
}

#[test]
fn a_marked_false_positive_becomes_ordinary_and_attacks_elsewhere_are_still_found() {
    let rows = around([0.0; 6], 1.0, 4000, 1);
    let backup = [25.0, 25.0, 20.0, 25.0, 20.0, 20.0];
    let like_it = [25.1, 24.9, 20.1, 25.05, 19.9, 20.0];
    let marked = feedback(&[(Mark::Normal, &backup)]);
    let (before, after) = (Fitted::new(&rows, &feedback(&[])), Fitted::new(&rows, &marked));
    for row in [backup, like_it] {
        assert!(before.p_value(&row) < 0.002, "{}", before.p_value(&row));
        assert!(after.p_value(&row) > 0.02, "{}", after.p_value(&row));
        assert!(after.0.score(&row) < before.0.score(&row) - 0.05);
    }
    for attack in [[20.0, 14.0, 14.0, 20.0, 14.0, 26.0], [23.0, 17.5, 20.0, 20.0, 16.8, 20.0]] {
        assert!(before.p_value(&attack) < 0.003 && after.p_value(&attack) < 0.005, "{}", after.p_value(&attack));
    }
}

#[test]
fn unlike_false_positives_hide_nothing_and_are_known() {
    let rows = around([0.0; 6], 1.0, 4000, 1);
    let unlike = around([0.0; 6], 4.0, 20, 77);
    let marked: Vec<Vec<f32>> = unlike.rows().into_iter().map(|row| row.to_vec()).collect();
    let marks: Vec<(Mark, &[f32])> = marked.iter().map(|row| (Mark::Normal, row.as_slice())).collect();
    let set = feedback(&marks);
    let after = Fitted::new(&rows, &set);
    let attack = [20.0, 14.0, 14.0, 20.0, 14.0, 26.0];
    assert!(after.p_value(&attack) < 0.01, "{}", after.p_value(&attack));
    let scaler = Scaler::fit(rows.view()).unwrap();
    let shifted = |row: &[f32], by: f32| row.iter().map(|value| value + by).collect::<Vec<_>>();
    for row in &marked {
        assert_eq!(set.known(&scaler, &shifted(row, 0.05)), Some(Mark::Normal));
    }
    assert_eq!(set.known(&scaler, &attack), None);
    let excused = rows.rows().into_iter().filter(|row| set.known(&scaler, &row.to_vec()).is_some()).count();
    assert!(excused < 10, "{excused}");
}

#[test]
fn copies_that_calibrate_would_hide_moderate_anomalies() {
    let rows = around([0.0; 6], 1.0, 4000, 1);
    let unlike = around([0.0; 6], 4.0, 5, 77);
    let marked: Vec<Vec<f32>> = unlike.rows().into_iter().map(|row| row.to_vec()).collect();
    let marks: Vec<(Mark, &[f32])> = marked.iter().map(|row| (Mark::Normal, row.as_slice())).collect();
    let set = feedback(&marks);
    let moderate = [23.0, 17.5, 20.0, 20.0, 16.8, 20.0];
    let Fitted(forest, calibration) = Fitted::new(&rows, &set);
    let held_out = set.reinforce(rows.view().split_at(Axis(0), 1200).0).unwrap();
    let with_copies = Calibration::new(forest.score_batch(held_out.view()).to_vec()).unwrap();
    let (honest, hidden) = (calibration.p_value(forest.score(&moderate)), with_copies.p_value(forest.score(&moderate)));
    assert!(honest < 0.01 && hidden > 0.05, "{honest} {hidden}");
}

#[test]
fn the_nearest_mark_is_what_is_known() {
    let rows = around([0.0; 6], 1.0, 500, 1);
    let scaler = Scaler::fit(rows.view()).unwrap();
    let at = |value: f32| [value; 6];
    let set = feedback(&[(Mark::Normal, &at(22.0)), (Mark::Attack, &at(22.2))]);
    for (value, expected) in
        [(21.95, Some(Mark::Normal)), (22.05, Some(Mark::Normal)), (22.15, Some(Mark::Attack)), (20.0, None)]
    {
        assert_eq!(set.known(&scaler, &at(value)), expected, "{value}");
    }
}

#[test]
fn an_attack_that_was_learned_is_found_once_it_is_confirmed() {
    let centre = [5.0, 0.0, 5.0, 0.0, -5.0, 0.0];
    let attack = around(centre, 0.1, 400, 2);
    // Attacks first and last, so that some are fitted and some calibrate.
    let normal = around([0.0; 6], 1.0, 4000, 1);
    let (early, late) = attack.view().split_at(Axis(0), 120);
    let rows = concatenate![Axis(0), early, normal, late];
    let marked: Vec<Vec<f32>> = attack.rows().into_iter().take(5).map(|row| row.to_vec()).collect();
    let marks: Vec<(Mark, &[f32])> = marked.iter().map(|row| (Mark::Attack, row.as_slice())).collect();
    let set = feedback(&marks);
    let Cleaned { rows: kept, dropped, spared } = set.clean(rows.view()).unwrap();
    assert_eq!((kept == normal, dropped, spared), (true, 400, 0));
    let (polluted, cleaned) = (Fitted::new(&rows, &feedback(&[])), Fitted::new(&rows, &set));
    // The edge of a cluster that was learned may still stand out, its bulk does not.
    let again = around(centre, 0.1, 100, 9);
    let found = |fitted: &Fitted| again.rows().into_iter().filter(|row| fitted.p_value(&row.to_vec()) <= 0.01).count();
    assert!(found(&polluted) <= 25, "{} of 100 found before", found(&polluted));
    assert_eq!(found(&cleaned), 100);
}

#[test]
fn a_small_share_is_not_learned() {
    let rows = around([0.0; 6], 1.0, 4000, 1);
    let backup = [25.0, 25.0, 20.0, 25.0, 20.0, 20.0];
    let score = |share: f64| {
        let mut set = FeedbackSet::new(FeedbackParams::new().share(share).check().unwrap());
        set.mark(Mark::Normal, &backup).unwrap();
        Fitted::new(&rows, &set).0.score(&backup)
    };
    let unmarked = Fitted::new(&rows, &feedback(&[])).0.score(&backup);
    assert!(score(0.01) > unmarked - 0.03 && score(0.02) > unmarked - 0.03, "{unmarked}");
    assert!(score(0.1) < unmarked - 0.05);
}

#[test]
fn half_of_the_rows_are_never_dropped() {
    let rows = around([0.0; 6], 0.001, 100, 1);
    let params = FeedbackParams::new().radius(24.0).check().unwrap();
    let mut set = FeedbackSet::new(params);
    set.mark(Mark::Attack, &[20.0; 6]).unwrap();
    let cleaned = set.clean(rows.view()).unwrap();
    assert_eq!((cleaned.rows.nrows(), cleaned.dropped, cleaned.spared), (50, 50, 50));
}

#[test]
fn a_row_nearer_to_a_false_positive_than_to_an_attack_is_kept() {
    let rows = around([0.0; 6], 1.0, 500, 1);
    let (first, second) = (rows.row(0).to_vec(), rows.row(1).to_vec());
    let near: Vec<f32> = first.iter().map(|value| value + 0.01).collect();
    let only_attacks = feedback(&[(Mark::Attack, &near), (Mark::Attack, &second)]).clean(rows.view()).unwrap();
    assert_eq!(only_attacks.dropped, 2);
    let both = feedback(&[(Mark::Attack, &near), (Mark::Attack, &second), (Mark::Normal, &first)]);
    assert_eq!(both.clean(rows.view()).unwrap().dropped, 1);
}

#[test]
fn the_last_word_about_a_row_counts() {
    let mut set = feedback(&[(Mark::Normal, &[1.0]), (Mark::Normal, &[2.0]), (Mark::Attack, &[1.0])]);
    assert_eq!(set.rows(Mark::Normal).collect::<Vec<_>>(), [[2.0]]);
    assert_eq!(set.rows(Mark::Attack).collect::<Vec<_>>(), [[1.0]]);
    assert!(set.forget(&[1.0]) && !set.forget(&[1.0]));
    assert_eq!(set.rows(Mark::Attack).len(), 0);
}

#[test]
fn the_oldest_go_first_separately_by_kind() {
    let mut set = FeedbackSet::new(FeedbackParams::new().limit(2).check().unwrap());
    set.mark(Mark::Attack, &[9.0]).unwrap();
    (0..5_u8).for_each(|row| set.mark(Mark::Normal, &[f32::from(row)]).unwrap());
    assert_eq!(set.rows(Mark::Normal).collect::<Vec<_>>(), [[3.0], [4.0]]);
    assert_eq!(set.rows(Mark::Attack).len(), 1);
}

#[test]
fn rows_that_do_not_fit_are_refused() {
    let mut set = feedback(&[(Mark::Normal, &[1.0, 2.0])]);
    for (row, expected) in [
        (vec![1.0], FeedbackError::Width { expected: 2, found: 1 }),
        (vec![], FeedbackError::Columns(0)),
        (vec![0.0; 1025], FeedbackError::Columns(1025)),
        (vec![1.0, f32::NAN], FeedbackError::NotFinite(1)),
    ] {
        assert_eq!(set.mark(Mark::Attack, &row), Err(expected));
    }
    let wide = Array2::zeros((9, 3));
    assert_eq!(set.clean(wide.view()), Err(FeedbackError::Width { expected: 2, found: 3 }));
    assert_eq!(set.reinforce(wide.view()), Err(FeedbackError::Width { expected: 2, found: 3 }));
    let too_few = FitError::TooFewRows { rows: 1, needed: 2 };
    assert_eq!(set.clean(Array2::zeros((1, 2)).view()), Err(FeedbackError::Rows(too_few)));
}

#[test]
fn a_damaged_set_is_refused() {
    let set = feedback(&[(Mark::Normal, &[1.0, 2.0]), (Mark::Attack, &[3.0, 4.0])]);
    let text = serde_json::to_string(&set).unwrap();
    assert_eq!(serde_json::from_str::<FeedbackSet>(&text).unwrap(), set);
    for (from, to) in [
        ("[3.0,4.0]", "[3.0]"),
        ("[3.0,4.0]", "[3.0,1e39]"),
        ("[3.0,4.0]", "[]"),
        ("\"limit\":256", "\"limit\":0"),
        ("\"radius\":0.25", "\"radius\":-1.0"),
    ] {
        let damaged = text.replace(from, to);
        assert!(damaged != text && serde_json::from_str::<FeedbackSet>(&damaged).is_err(), "{to}");
    }
    let small = text.replace("\"limit\":256", "\"limit\":1").replace("[3.0,4.0]", "[3.0,4.0],[5.0,6.0]");
    assert!(serde_json::from_str::<FeedbackSet>(&small).is_err());
}

proptest! {
    #[test]
    fn copies_keep_to_the_share_and_rows_to_their_order(
        values in prop::collection::vec(-9_i8..9, 40..200),
        normal in prop::collection::vec(-9_i8..9, 0..20),
        attacks in prop::collection::vec(-9_i8..9, 0..20),
    ) {
        let rows = Array2::from_shape_vec((values.len(), 1), values.iter().map(|v| f32::from(*v)).collect()).unwrap();
        let mut set = FeedbackSet::new(FeedbackParams::new().check().unwrap());
        normal.iter().for_each(|row| set.mark(Mark::Normal, &[f32::from(*row)]).unwrap());
        attacks.iter().for_each(|row| set.mark(Mark::Attack, &[f32::from(*row)]).unwrap());
        let Cleaned { rows: kept, dropped, .. } = set.clean(rows.view()).unwrap();
        prop_assert!(kept.nrows() + dropped == rows.nrows() && dropped <= rows.nrows() / 2);
        let mut rest = rows.iter();
        prop_assert!(kept.iter().all(|row| rest.any(|original| original == row)));
        let all = set.reinforce(kept.view()).unwrap();
        let copies = all.nrows() - kept.nrows();
        prop_assert!(copies as f64 <= 0.1 * all.nrows() as f64);
        prop_assert!((copies > 0) == (set.rows(Mark::Normal).len() > 0));
        let marked: Vec<&[f32]> = set.rows(Mark::Normal).collect();
        prop_assert!(all.rows().into_iter().skip(kept.nrows()).all(|row| marked.contains(&row.as_slice().unwrap())));
    }
}
