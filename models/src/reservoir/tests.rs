//! Tests of the reservoir.

use proptest::prelude::*;

use super::*;

/// Seconds since the epoch of a day in 2026.
const NOW: f64 = 1.78e9;

fn reservoir(capacity: usize, half_life: f64, seed: u64) -> Reservoir {
    Reservoir::new(ReservoirParams::new(1).capacity(capacity).half_life(half_life).seed(seed).check().unwrap())
}

fn kept(reservoir: &Reservoir) -> Vec<f32> {
    let mut kept: Vec<f32> = reservoir.rows().iter().copied().collect();
    kept.sort_by(f32::total_cmp);
    kept
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "these rows are small numbers")]
fn number(row: f32) -> usize {
    row as usize
}

#[test]
fn a_weight_halves_each_half_life() {
    // One slot, three rows one half-life apart: the chances are 1, 2 and 4 of 7.
    const RUNS: u32 = 14_000;
    let mut wins = [0_u32; 3];
    for seed in 0..u64::from(RUNS) {
        let mut one = reservoir(1, 3600.0, seed);
        for age in 0..3_u8 {
            one.offer(&[f32::from(age)], NOW + 3600.0 * f64::from(age));
        }
        wins[number(kept(&one)[0])] += 1;
    }
    for (wins, share) in wins.into_iter().zip([1.0 / 7.0, 2.0 / 7.0, 4.0 / 7.0]) {
        let deviation = (share * (1.0 - share) / f64::from(RUNS)).sqrt();
        assert!((f64::from(wins) / f64::from(RUNS) - share).abs() < 4.0 * deviation, "{wins} wins, {share} expected");
    }
}

#[test]
fn old_traffic_is_forgotten_at_the_stated_rate() {
    // 100 rows a second for ten half-lives of 1000 s: a present weight of 144 000 rows, of which 2000 are kept.
    let mut sample = reservoir(2000, 1000.0, 5);
    for second in 0..10_000_u32 {
        for _ in 0..100 {
            sample.offer(&[0.0], NOW + f64::from(second));
        }
    }
    assert_eq!((sample.len(), sample.offered()), (2000, 1_000_000));
    for half_lives in [1_i32, 2, 3] {
        let older = sample.ages(NOW + 10_000.0).filter(|age| *age > 1000.0 * f64::from(half_lives)).count();
        let (share, expected) = (older as f64 / 2000.0, 0.5_f64.powi(half_lives));
        let deviation = (expected * (1.0 - expected) / 2000.0).sqrt();
        assert!((share - expected).abs() < 4.0 * deviation, "{share} is older than {half_lives} half-lives");
    }
}

#[test]
fn at_one_time_each_row_has_the_same_chance() {
    const RUNS: usize = 4000;
    let mut counts = [0_usize; 20];
    for seed in 0..RUNS as u64 {
        let mut sample = reservoir(5, 60.0, seed);
        (0..20_u8).for_each(|row| {
            sample.offer(&[f32::from(row)], NOW);
        });
        kept(&sample).iter().for_each(|row| counts[number(*row)] += 1);
    }
    // 5 of 20 in each run; the deviation of a count is 27.
    assert!(counts.iter().all(|count| count.abs_diff(RUNS / 4) < 110), "{counts:?}");
}

#[test]
fn memory_is_taken_once() {
    let mut sample = reservoir(100, 60.0, 1);
    let capacities =
        |sample: &Reservoir| (sample.values.capacity(), sample.seen_at.capacity(), sample.order.capacity());
    let before = capacities(&sample);
    (0..10_000_u16).for_each(|row| {
        sample.offer(&[f32::from(row)], NOW + f64::from(row));
    });
    assert_eq!(capacities(&sample), before);
    assert_eq!(sample.rows().dim(), (100, 1));
    assert_eq!(size_of::<Rank>(), 16);
}

#[test]
fn a_clock_that_is_set_back_neither_stops_nor_speeds_up_forgetting() {
    let mut sample = reservoir(100, 60.0, 2);
    // An hour in a wrong year, then the right one, then back by a day twenty times.
    (0..3600_u16).for_each(|second| {
        sample.offer(&[0.0], NOW + 1e9 + f64::from(second));
    });
    for jump in 0..20_u8 {
        sample.offer(&[1.0], NOW - 86_400.0 * f64::from(jump));
    }
    let jumped = kept(&sample).iter().filter(|row| **row == 1.0).count();
    assert!((10..=20).contains(&jumped), "{jumped} of 20 rows were taken after the jumps");
    assert!(sample.ages(NOW - 19.0 * 86_400.0).all(|age| (0.0..=3600.0).contains(&age)));
    for second in 0..3600_u16 {
        sample.offer(&[2.0], NOW - 20.0 * 86_400.0 + f64::from(second));
    }
    assert!(kept(&sample).iter().all(|row| *row == 2.0), "the hour after the jumps has taken over");
}

#[test]
fn rows_a_little_late_do_not_make_time_run_faster() {
    let mut sample = reservoir(1000, 600.0, 3);
    for step in 0..6000_u32 {
        let late = if step % 2 == 0 { 0.0 } else { 500.0 };
        sample.offer(&[0.0], NOW + 0.01 * f64::from(step) - late);
    }
    assert_eq!(sample.clock.offset, 0.0);
    assert!(sample.ages(NOW + 60.0).all(|age| age <= 560.1));
}

#[test]
fn what_no_model_can_learn_is_not_taken() {
    let mut sample = reservoir(10, 60.0, 1);
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        assert!(!sample.offer(&[value], NOW));
    }
    assert_eq!((sample.len(), sample.is_empty(), sample.offered()), (0, true, 0));
    for at in [f64::NAN, f64::INFINITY, 1e300, NOW, f64::NEG_INFINITY, -1e300] {
        assert!(sample.offer(&[1.0], at));
    }
    assert_eq!(sample.clock.latest, Some(NOW));
}

#[test]
fn a_damaged_state_is_refused() {
    let mut sample = reservoir(3, 60.0, 1);
    (0..9_u8).for_each(|row| {
        sample.offer(&[f32::from(row)], NOW);
    });
    let text = serde_json::to_string(&sample).unwrap();
    for (from, to) in [
        ("\"capacity\":3", "\"capacity\":2"),
        ("\"capacity\":3", "\"capacity\":0"),
        ("\"width\":1", "\"width\":2"),
        ("\"offered\":9", "\"offered\":2"),
        ("\"half_life\":60.0", "\"half_life\":-1.0"),
        ("\"priorities\":[", "\"priorities\":[1.0,"),
        ("\"values\":[", "\"values\":[1e39,"),
    ] {
        let damaged = text.replace(from, to);
        assert!(damaged != text && serde_json::from_str::<Reservoir>(&damaged).is_err(), "{to}");
    }
}

proptest! {
    #[test]
    fn any_times_keep_the_sample_whole(
        offers in prop::collection::vec((any::<f64>(), any::<f32>()), 0..200), capacity in 1_usize..20, seed: u64,
    ) {
        let mut sample = reservoir(capacity, 60.0, seed);
        for (at, value) in &offers {
            sample.offer(&[*value], *at);
        }
        let finite = offers.iter().filter(|(_, value)| value.is_finite()).count();
        prop_assert_eq!((sample.len(), sample.offered()), (finite.min(capacity), finite as u64));
        prop_assert!(sample.ages(NOW).all(|age| age >= 0.0 && age.is_finite()));
        let distinct: std::collections::BTreeSet<u32> = sample.order.iter().map(|rank| rank.0.slot).collect();
        prop_assert_eq!(distinct.len(), sample.len());
    }

    #[test]
    fn a_restart_changes_nothing(times in prop::collection::vec(-1e5_f64..1e5, 1..120), cut in 0_usize..120, seed: u64) {
        let mut through = reservoir(10, 600.0, seed);
        let mut again = reservoir(10, 600.0, seed);
        for (row, at) in (0_u16..).zip(&times) {
            if usize::from(row) == cut {
                again = serde_json::from_str(&serde_json::to_string(&again).unwrap()).unwrap();
            }
            prop_assert_eq!(through.offer(&[f32::from(row)], NOW + at), again.offer(&[f32::from(row)], NOW + at));
        }
        prop_assert_eq!(Plain::from(through), Plain::from(again));
    }
}
