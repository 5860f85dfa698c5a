//! Tests of learning.

use sensor_models::Reason;

use super::*;
use crate::features::flow::{COLUMNS, FlowVector};

fn addr(host: u8) -> Addr {
    std::net::IpAddr::from([10, 0, 0, host]).into()
}

/// Ordinary rows, a little different from each other; `kind` makes them of another kind.
fn row(number: u32, kind: f32) -> FlowVector {
    std::array::from_fn(|column| {
        // SplitMix64.
        let word = (u64::from(number) * 64 + column as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        kind + column as f32 + (word >> 40) as f32 / (1 << 24) as f32
    })
}

struct Traffic {
    learner: Learner,
    now: Timestamp,
    rows: u32,
}

impl Traffic {
    fn new(params: LearnParams) -> Self {
        Self { learner: Learner::new(&COLUMNS, params, None), now: Timestamp::from_secs(1_700_000_000), rows: 0 }
    }

    /// Seconds of 20 rows each, and the fits that come due.
    fn seconds(&mut self, seconds: u32, kind: f32) -> Vec<Fitted> {
        let mut fitted = Vec::new();
        for _ in 0..seconds {
            for _ in 0..20 {
                let row = row(self.rows, kind);
                let score = self.learner.baseline().map(|baseline| baseline.score(&row));
                let p_value = score.and_then(|score| self.learner.p_value(&row, score));
                self.learner.observe(&row, [addr(1), addr(2)], self.now, p_value);
                self.rows += 1;
            }
            self.now = self.now + Duration::from_secs(1);
            self.learner.tick(self.now, |_| false);
            fitted.extend(self.learner.take_job().map(|job| job.run()));
        }
        fitted
    }

    fn first_baseline(&mut self) {
        let fitted = self.seconds(70, 0.0).pop().expect("the warm-up is over");
        self.learner.install(fitted);
        assert!(self.learner.baseline().is_some());
    }

    fn p_value(&self, row: &FlowVector) -> f64 {
        self.learner.p_value(row, self.learner.baseline().unwrap().score(row)).unwrap()
    }
}

#[test]
fn the_first_baseline_comes_after_the_warm_up_and_serves_at_once() {
    let mut traffic = Traffic::new(LearnParams::default());
    assert_eq!(traffic.seconds(60, 0.0).len(), 0);
    assert_eq!(traffic.learner.warmup_left(traffic.now), Some(Duration::from_secs(1)));
    let fitted = traffic.seconds(10, 0.0);
    assert_eq!(fitted.len(), 1, "one fit at a time");
    traffic.learner.install(fitted.into_iter().next().unwrap());
    assert_eq!(traffic.learner.warmup_left(traffic.now), None);
    assert!(traffic.p_value(&row(1_000_000, 9.0)) < 0.01 && traffic.p_value(&row(1_000_000, 0.0)) > 0.01);
}

#[test]
fn too_few_rows_wait_for_more() {
    let mut traffic = Traffic::new(LearnParams { min_rows: 2000, ..LearnParams::default() });
    assert_eq!(traffic.seconds(90, 0.0).len(), 0);
    assert_eq!(traffic.seconds(60, 0.0).len(), 1);
}

#[test]
fn without_a_warm_up_nothing_is_learned() {
    let mut traffic = Traffic::new(LearnParams { warmup: Duration::ZERO, ..LearnParams::default() });
    assert_eq!(traffic.seconds(700, 0.0).len(), 0);
    assert_eq!((traffic.learner.learned, traffic.learner.waiting.len()), (0, 0));
}

#[test]
fn what_turns_out_to_belong_to_an_incident_is_not_learned() {
    let mut traffic = Traffic::new(LearnParams::default());
    traffic.first_baseline();
    traffic.seconds(90, 0.0);
    let ordinary = traffic.learner.learned + traffic.learner.waiting.len() as u64;
    for number in 0..50 {
        traffic.learner.observe(&row(number, 5.0), [addr(66), addr(2)], traffic.now, Some(0.001));
    }
    for _ in 0..70 {
        traffic.now = traffic.now + Duration::from_secs(1);
        traffic.learner.tick(traffic.now, |host| host == addr(66));
    }
    assert_eq!(traffic.learner.learned, ordinary);
}

#[test]
fn rows_beyond_the_queue_are_counted() {
    let mut traffic = Traffic::new(LearnParams { waiting: 100, ..LearnParams::default() });
    traffic.first_baseline();
    traffic.seconds(10, 0.0);
    assert_eq!(traffic.learner.lost(), 100);
}

#[test]
fn traffic_that_changed_is_learned_before_the_next_fit_is_due() {
    let params = LearnParams { refit: Duration::from_secs(86_400), rows: [1200, 2400], ..LearnParams::default() };
    let mut traffic = Traffic::new(params);
    traffic.first_baseline();
    assert_eq!(traffic.seconds(300, 0.0).len(), 0, "nothing changed");
    let rare = |traffic: &Traffic| (0..100).filter(|n| traffic.p_value(&row(5_000_000 + n, 2.0)) < 0.01).count();
    assert_eq!(rare(&traffic), 100);
    let mut decisions = Vec::new();
    for _ in 0..60 {
        for fitted in traffic.seconds(10, 2.0) {
            decisions.extend(fitted.decision().copied());
            traffic.learner.install(fitted);
        }
    }
    assert!(traffic.learner.drifts() > 0);
    assert!(decisions.iter().any(|decision| decision.reason.promotes()), "{decisions:?}");
    assert!(rare(&traffic) < 10, "{} {decisions:?}", rare(&traffic));
}

#[test]
fn a_baseline_of_twice_as_many_rows_takes_over_and_another_like_it_does_not() {
    let mut traffic = Traffic::new(LearnParams { rows: [2000, 1000], ..LearnParams::default() });
    traffic.first_baseline();
    let mut reasons = Vec::new();
    for _ in 0..4 {
        for fitted in traffic.seconds(610, 0.0) {
            reasons.push(fitted.decision().unwrap().reason);
            traffic.learner.install(fitted);
        }
    }
    assert_eq!(reasons[0], Reason::Sharper);
    assert!(reasons[1..].iter().all(|reason| *reason == Reason::Tie), "{reasons:?}");
    assert_eq!(traffic.learner.drifts(), 0);
}

#[test]
fn the_users_word_counts_at_once() {
    let mut traffic = Traffic::new(LearnParams::default());
    traffic.first_baseline();
    let (odd, bad) = (row(7, 6.0), row(8, 0.0));
    traffic.learner.mark(Mark::Normal, &odd).unwrap();
    traffic.learner.mark(Mark::Attack, &bad).unwrap();
    assert_eq!(traffic.p_value(&odd), 1.0);
    assert!(traffic.p_value(&bad) < 0.01);
    assert!(traffic.learner.mark(Mark::Attack, &[f32::NAN; COLUMNS.len()]).is_err());
}
