//! Merging, stories, and what is remembered of an incident.

use std::collections::BTreeSet;

use super::*;
use crate::incident::Severity;

fn addr(last: u32) -> Addr {
    Addr::from_v4(0x0a00_0000 + last)
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_secs(1_700_000_000 + seconds)
}

fn finding(class: Class, attacker: u32, victims: &[u32], port: u16, seconds: u64) -> Finding {
    Finding {
        class,
        subject: addr(attacker),
        severity: Severity::Medium,
        attackers: BTreeSet::from([addr(attacker)]),
        victims: victims.iter().map(|&victim| addr(victim)).collect(),
        ports: BTreeSet::from([port]),
        first_seen: at(seconds),
        last_seen: at(seconds),
        score: 0.5,
        chance: None,
        evidence: BTreeMap::new(),
    }
}

fn report(book: &mut Book, finding: Finding) -> Vec<IncidentEvent> {
    let now = finding.last_seen;
    book.report(finding, now, |_| json!([]))
}

fn changes(events: &[IncidentEvent]) -> Vec<Change> {
    events.iter().map(|event| event.change).collect()
}

#[test]
fn the_third_guesser_at_a_service_makes_it_one_distributed_attack() {
    let mut book = Book::default();
    let first = report(&mut book, finding(Class::BruteForce, 1, &[99], 22, 0));
    report(&mut book, finding(Class::BruteForce, 2, &[99], 22, 1));
    assert_eq!(changes(&report(&mut book, finding(Class::BruteForce, 3, &[99], 3389, 1))), [Change::Opened]);
    assert_eq!(changes(&report(&mut book, finding(Class::BruteForce, 4, &[98], 22, 1))), [Change::Opened]);
    let merged = report(&mut book, finding(Class::BruteForce, 5, &[99], 22, 2));
    assert_eq!(changes(&merged), [Change::Updated, Change::Closed]);
    assert_eq!(merged[0].incident.id, first[0].incident.id, "the oldest goes on");
    assert_eq!(merged[0].incident.attackers.len(), 3);
    assert_eq!(merged[0].incident.evidence["distributed"], json!(true));
    assert_eq!(merged[1].incident.evidence["merged_into"], json!(first[0].incident.id));
    // Whoever comes next, and whoever goes on, is of the crowd.
    report(&mut book, finding(Class::BruteForce, 6, &[99], 22, 3));
    report(&mut book, finding(Class::BruteForce, 1, &[99], 22, 3));
    assert_eq!((book.open().len(), book.opened()), (3, 4));
    assert!(book.knows(&finding(Class::BruteForce, 7, &[99], 22, 4)));
}

#[test]
fn closing_forgets_who_was_involved() {
    let mut book = Book::default();
    for attacker in 1..=5 {
        report(&mut book, finding(Class::PortScan, attacker, &[99], 22, 0));
    }
    assert!(book.involves(addr(4)) && book.involves(addr(99)) && !book.involves(addr(6)));
    let closed = book.expire(at(61));
    assert_eq!(changes(&closed), [Change::Closed]);
    assert!((1..=99).all(|last| !book.involves(addr(last))));
    assert_eq!(book.index_len(), 0);
}

#[test]
fn a_scan_then_guesses_then_a_beacon_of_the_victim_are_one_story() {
    let mut book = Book::default();
    let scan = report(&mut book, finding(Class::PortScan, 1, &[99], 22, 0));
    let guesses = report(&mut book, finding(Class::BruteForce, 1, &[99], 22, 100));
    report(&mut book, finding(Class::PortScan, 7, &[8], 22, 150));
    let beacon = report(&mut book, finding(Class::Beacon, 99, &[55], 443, 4000));
    let id = json!(scan[0].incident.id);
    assert!(!scan[0].incident.evidence.contains_key("story"));
    assert_eq!(guesses[0].incident.evidence["story"], id);
    assert_eq!(beacon[0].incident.evidence["story"], id);
    let how: Vec<&str> = beacon[0].incident.evidence["related"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|related| related["how"].as_str())
        .collect();
    assert_eq!(how, ["victim_became_attacker"; 2]);
    let later = report(&mut book, finding(Class::PortScan, 99, &[3, 4], 22, 4000 + 90_000));
    assert!(!later[0].incident.evidence.contains_key("story"), "a day later nobody remembers");
}

#[test]
fn the_time_line_has_the_first_and_the_latest_moments() {
    let mut book = Book::default();
    let mut last = Vec::new();
    for step in 0..40_u32 {
        let victims: Vec<u32> = (100..100 + 2_u32.pow(step.min(14))).collect();
        let mut finding = finding(Class::HostScan, 1, &victims, 22, u64::from(step));
        finding.severity = if step == 39 { Severity::Critical } else { Severity::Medium };
        last = report(&mut book, finding);
    }
    let timeline = last[0].incident.evidence["timeline"].as_array().unwrap();
    assert!(timeline.len() <= 16, "{}", timeline.len());
    assert_eq!(timeline[0]["at"], json!(1_700_000_000.0));
    assert_eq!(timeline.last().unwrap()["severity"], json!("critical"));
}

#[test]
fn open_incidents_are_bounded_and_room_comes_back() {
    let mut book = Book::default();
    for attacker in 0..5000 {
        report(&mut book, finding(Class::HostScan, attacker, &[9000, 9001], 22, 0));
    }
    assert_eq!((book.open().len(), book.not_opened()), (Book::OPEN, 5000 - Book::OPEN as u64));
    book.expire(at(61));
    assert_eq!(changes(&report(&mut book, finding(Class::HostScan, 4999, &[9000, 9001], 22, 62))), [Change::Opened]);
}
