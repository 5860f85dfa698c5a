//! Tests of the drift test, and the measurement that chose it.

use proptest::prelude::*;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::*;

const SEEDS: u64 = 20;

fn adwin() -> impl FnMut(f64) -> bool {
    let mut drift = DriftParams::new().check().unwrap();
    move |value| drift.observe(value)
}

/// Two-sided Page-Hinkley (Page 1954) around the running mean, with the slack and the limit that come closest to the
/// delays of ADWIN at no more than a few alarms.
fn page_hinkley() -> impl FnMut(f64) -> bool {
    let (mut count, mut sum, mut up, mut down) = (0.0, 0.0, 0.0_f64, 0.0_f64);
    move |value| {
        count += 1.0;
        sum += value;
        let deviation = value - sum / count;
        up = (up + deviation - 0.01).max(0.0);
        down = (down - deviation - 0.01).max(0.0);
        let changed = up.max(down) > 40.0;
        if changed {
            (count, sum, up, down) = (0.0, 0.0, 0.0, 0.0);
        }
        changed
    }
}

/// Alarms in ten million uniform values that come in bursts of equal ones.
fn alarms<T: FnMut(f64) -> bool>(make: impl Fn() -> T, burst: u32) -> usize {
    let alarms = |seed| {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut test = make();
        let mut alarms = 0;
        for _ in 0..500_000 / burst {
            let value = rng.gen_range(0.0..1.0);
            alarms += (0..burst).filter(|_| test(value)).count();
        }
        alarms
    };
    (0..SEEDS).map(alarms).sum()
}

/// Median and largest number of values until a share of the p-values, uniform before, is at most 0.01.
fn delays<T: FnMut(f64) -> bool>(make: impl Fn() -> T, share: f64) -> (u32, u32) {
    let delay = |seed| {
        let mut rng = ChaCha8Rng::seed_from_u64(1000 + seed);
        let mut test = make();
        (0..20_000).for_each(|_| {
            test(rng.gen_range(0.0..1.0));
        });
        let mut changed = |_: &u32| {
            let rare = rng.gen_bool(share);
            test(rng.gen_range(0.0..if rare { 0.01 } else { 1.0 }))
        };
        (1..100_000).find(|at| changed(at)).unwrap_or(100_000)
    };
    let mut delays: Vec<u32> = (0..SEEDS).map(delay).collect();
    delays.sort_unstable();
    (delays[delays.len() / 2], delays[delays.len() - 1])
}

#[test]
fn the_documented_table_is_what_is_measured() {
    let mut table = String::new();
    for burst in [1, 2, 8, 16] {
        table += &format!("alarms, bursts of {burst}: {} {}\n", alarms(adwin, burst), alarms(page_hinkley, burst));
    }
    for share in [0.02, 0.05, 0.1, 0.2, 0.5] {
        let ((median, most), (other, other_most)) = (delays(adwin, share), delays(page_hinkley, share));
        table += &format!("delay, share {share}: {median} {most} {other} {other_most}\n");
    }
    assert_eq!(
        table,
        "\
alarms, bursts of 1: 1 4
alarms, bursts of 2: 2 190
alarms, bursts of 8: 2 4527
alarms, bursts of 16: 0 10210
delay, share 0.02: 62048 100000 100000 100000
delay, share 0.05: 2784 6816 1919 5453
delay, share 0.1: 864 1728 871 1546
delay, share 0.2: 288 736 398 681
delay, share 0.5: 64 128 147 217
"
    );
}

#[test]
fn the_window_begins_after_the_change() {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let mut drift = DriftParams::new().check().unwrap();
    assert_eq!((drift.mean(), drift.window()), (0.5, 0));
    assert!(!(0..50_000).any(|_| drift.observe(rng.gen_range(0.0..1.0))));
    assert!((drift.mean() - 0.5).abs() < 0.005 && drift.window() == 50_000);
    (0..3000).for_each(|_| {
        drift.observe(rng.gen_range(0.0..0.6));
    });
    assert!((drift.mean() - 0.3).abs() < 0.02, "{}", drift.mean());
    assert!((2500..=3500).contains(&drift.window()), "{}", drift.window());
    assert_eq!((drift.observed(), drift.changes() > 0), (53_000, true));
}

#[test]
fn memory_is_bounded_and_what_is_too_old_falls_out() {
    let mut drift = DriftParams::new().check().unwrap();
    drift.sizes = vec![vec![Block { sum: 0.0, squares: 0.0 }; BLOCKS]; SIZES];
    let before = drift.window();
    drift.push(0.5);
    assert!(drift.sizes.len() == SIZES && drift.sizes.iter().all(|blocks| blocks.len() <= BLOCKS));
    assert!(drift.window() < before && drift.window() > 1 << (SIZES - 1));
    assert!(SIZES * (BLOCKS + 1) * size_of::<Block>() + SIZES * size_of::<Vec<Block>>() < 5 << 10);
}

#[test]
fn a_level_that_never_varies_is_no_drift_and_a_step_of_it_is() {
    let mut drift = DriftParams::new().check().unwrap();
    assert!(!(0..10_000).any(|_| drift.observe(1.0)));
    assert!((0..1000).any(|_| drift.observe(0.0)));
    (0..2000).for_each(|_| {
        drift.observe(0.0);
    });
    assert!(drift.mean() < 0.01, "{}", drift.mean());
}

#[test]
fn what_is_out_of_range_is_rejected() {
    for delta in [0.0, -1.0, 0.6, f64::INFINITY] {
        assert_eq!(DriftParams::new().delta(delta).check(), Err(DriftError::Delta(delta)));
    }
    assert!(DriftParams::new().delta(f64::NAN).check().is_err());
    let mut drift = DriftParams::new().delta(0.5).check().unwrap();
    [f64::NAN, f64::INFINITY, -1.0, 5.0].into_iter().for_each(|value| {
        drift.observe(value);
    });
    assert_eq!((drift.observed(), drift.mean()), (3, 2.0 / 3.0));
    let text = serde_json::to_string(&drift).unwrap();
    for (from, to) in [
        ("\"delta\":0.5", "\"delta\":0.0"),
        ("\"sum\":1.0", "\"sum\":-1.0"),
        ("\"sum\":1.0", "\"sum\":9.0"),
        ("\"squares\":1.0", "\"squares\":2.0"),
        ("\"observed\":3", "\"observed\":2"),
        ("\"changes\":0", "\"changes\":4"),
        ("\"runs\":0", "\"runs\":1000"),
    ] {
        let damaged = text.replace(from, to);
        assert!(damaged != text && serde_json::from_str::<Drift>(&damaged).is_err(), "{to}");
    }
}

proptest! {
    #[test]
    fn the_blocks_hold_the_window(values in prop::collection::vec(0.0_f64..1.0, 0..800)) {
        let mut drift = DriftParams::new().check().unwrap();
        values.iter().for_each(|value| {
            drift.observe(*value);
        });
        let window = usize::try_from(drift.window()).unwrap();
        let mean = if window == 0 { 0.5 } else { values[values.len() - window..].iter().sum::<f64>() / window as f64 };
        prop_assert!((drift.mean() - mean).abs() < 1e-9);
        prop_assert!(drift.blocks().count() <= BLOCKS * 9);
    }

    #[test]
    fn a_restart_changes_nothing(low in 0.0_f64..0.9, cut in 0_u32..4000, seed: u64) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut through = DriftParams::new().check().unwrap();
        let mut again = through.clone();
        for step in 0..4000 {
            if step == cut {
                again = serde_json::from_str(&serde_json::to_string(&again).unwrap()).unwrap();
            }
            let value = rng.gen_range(if step < 3000 { 0.0 } else { low }..1.0);
            prop_assert_eq!(through.observe(value), again.observe(value));
        }
        prop_assert_eq!(through, again);
    }
}
