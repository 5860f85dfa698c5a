//! Delays, and reports as they are printed.

use std::time::Duration;

use sensor_core::canary::Sighting;

use super::{Outcome, Report, Stages, random_part};

#[test]
fn delays_are_spread_over_the_whole_interval() {
    let interval = Duration::from_secs(1);
    let mut state = 7;
    let delays: Vec<Duration> = (0..1000).map(|_| random_part(&mut state, interval)).collect();
    assert!(delays.iter().all(|delay| *delay < interval));
    for part in 0..10 {
        let tenth = delays.iter().filter(|delay| delay.as_millis() / 100 == part).count();
        assert!((50..200).contains(&tenth), "{part}: {tenth}");
    }
}

#[test]
fn a_canary_that_is_read_but_is_no_incident_is_missed() {
    let read = Some(Duration::from_millis(300));
    let seen = Sighting { flows: 3, ..Sighting::default() };
    let report = Report::of(Stages { read, ..Stages::default() }, 32, &seen);
    assert_eq!(report.outcome, Outcome::Missed);
    assert!(report.line().starts_with("missed: 32 probes"), "{}", report.line());
    assert!(report.line().ends_with("read after 300.0ms (3 flows), incident never"), "{}", report.line());
    let json = report.json();
    assert_eq!((&json["result"], &json["incident_s"]), (&"missed".into(), &serde_json::Value::Null));
    assert_eq!(json["read_s"], 0.3);
}

#[test]
fn what_cannot_be_sent_says_why() {
    let report = Report::failed(&anyhow::anyhow!("no room"));
    assert_eq!((report.outcome, report.line().as_str()), (Outcome::Failed, "failed: no room"));
}
