//! What is written is there again, whatever happens between.

use std::sync::Arc;

use proptest::prelude::*;
use sensor_core::incident::{Change, Incident, IncidentEvent, Severity};
use sensor_core::net::Network;
use sensor_core::time::Timestamp;
use tempfile::TempDir;

use super::*;
use crate::notify::testing::{event, incident};

fn sinks() -> Vec<String> {
    vec!["a".to_owned(), "b".to_owned()]
}

fn at(secs: u64) -> Timestamp {
    Timestamp::from_secs(1_750_000_000 + secs)
}

fn store() -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    (dir, store)
}

fn record(store: &mut Store, change: Change, incident: &Incident) {
    store.record(&[event(change, incident)], &sinks(), at(50)).unwrap();
}

fn settle(store: &mut Store, sink: &str, seq: i64, fate: Fate) {
    let note = Some("why".to_owned());
    store.settle(&[Settlement { sink: sink.to_owned(), seq, fate, note }], at(60)).unwrap();
}

#[test]
fn an_incident_is_read_back_as_it_was_written() {
    let (dir, mut store) = store();
    let mut a = incident("a");
    record(&mut store, Change::Opened, &a);
    a.severity = Severity::Critical;
    a.evidence.insert("label".to_owned(), serde_json::json!("'); DROP TABLE incident; --"));
    record(&mut store, Change::Updated, &a);
    record(&mut store, Change::Closed, &a);
    drop(store);

    let store = Store::open_existing(dir.path()).unwrap();
    let kept = store.incident("a").unwrap().unwrap();
    assert_eq!((&kept.incident, kept.events), (&a, 3));
    assert_eq!(kept.closed_at, Some(a.last_seen));
    let events = store.pending("b", 0, 9).unwrap();
    assert_eq!(events.iter().map(Event::key).collect::<Vec<_>>(), ["a.1", "a.2", "a.3"]);
    assert_eq!(events.iter().map(|event| event.rose).collect::<Vec<_>>(), [false, true, false]);
    assert_eq!(events[0].incident.severity, Severity::Medium, "as it was then");
}

proptest! {
    /// Whatever an attacker or a user chooses to be called: it is text, and stays what it is.
    #[test]
    fn no_text_is_more_than_text(text in any::<String>(), name in "\\PC{1,40}") {
        let mut store = Store::in_memory().unwrap();
        let mut odd = incident("a");
        odd.summary.clone_from(&text);
        odd.evidence.insert(name.clone(), serde_json::json!({ "host": text }));
        store.record(&[event(Change::Opened, &odd)], &[name.clone(), "b".to_owned()], at(1)).unwrap();
        let judgement = Judgement { verdict: Verdict::Confirmed, reason: text.clone() };
        prop_assert!(store.judge("a", &judgement, &name, at(2)).unwrap());
        let injected = "a' OR '1'='1".to_owned() + &text;
        let judged = store.judge(&injected, &judgement, &name, at(2)).unwrap();
        prop_assert!(!judged);
        store.remember(&name, &text, &text).unwrap();
        prop_assert_eq!(&store.incident("a").unwrap().unwrap().incident, &odd);
        prop_assert_eq!(store.incident("a").unwrap().unwrap().judgement, Some(judgement));
        prop_assert_eq!(store.pending(&name, 0, 9).unwrap().len(), 1);
        prop_assert_eq!(store.recall(&name, &text).unwrap(), Some(text));
        prop_assert_eq!(&store.audit(Timestamp::EPOCH, 9).unwrap()[0].actor, &name);
        prop_assert!(store.holdings().unwrap().damage.is_empty());
    }
}

#[test]
fn an_event_waits_until_each_sink_has_settled_it() {
    let (_dir, mut store) = store();
    record(&mut store, Change::Opened, &incident("a"));
    record(&mut store, Change::Closed, &incident("a"));
    settle(&mut store, "a", 1, Fate::Delivered);
    let waiting = store.pending("a", 0, 9).unwrap();
    assert_eq!((waiting.len(), waiting[0].seq, waiting[0].told), (1, 2, true));
    assert!(!store.pending("b", 0, 9).unwrap()[1].told);
    assert_eq!(store.pending("b", 1, 9).unwrap().len(), 1, "beyond what is dealt with");

    settle(&mut store, "b", 1, Fate::Dead);
    let queues = store.queues().unwrap();
    assert_eq!(queues.iter().map(|queue| (queue.pending, queue.dead)).collect::<Vec<_>>(), [(1, 0), (1, 1)]);
    assert_eq!(queues[0].oldest, Some(at(50)));
    let dead = store.undelivered(None, 9).unwrap();
    assert_eq!((dead.len(), dead[0].sink.as_str(), dead[0].why.as_str()), (1, "b", "why"));
    assert_eq!(store.resend(Some("a"), None).unwrap(), 0);
    assert_eq!(store.resend(None, Some("a")).unwrap(), 1);
    assert_eq!(store.pending("b", 0, 9).unwrap().len(), 2);
    let only = ["a".to_owned()];
    assert_eq!(store.give_up_others(&only, at(70)).unwrap(), 0, "it may be back tomorrow");
    assert_eq!(store.give_up_others(&only, at(70 + 86_400)).unwrap(), 2);
}

#[test]
fn what_an_earlier_process_left_open_is_closed_and_told() {
    let (_dir, mut store) = store();
    record(&mut store, Change::Opened, &incident("a"));
    assert_eq!(store.close_abandoned(&sinks(), at(99)).unwrap(), 1);
    assert_eq!(store.close_abandoned(&sinks(), at(99)).unwrap(), 0);
    let kept = store.incident("a").unwrap().unwrap();
    assert_eq!(kept.closed_at, Some(at(99)));
    assert_eq!(kept.incident.evidence["closed_because"], "the sensor was restarted");
    assert_eq!(store.pending("a", 0, 9).unwrap().last().unwrap().change, Change::Closed);
}

#[test]
fn incidents_are_found_by_what_is_known_of_them() {
    let (_dir, mut store) = store();
    for (id, secs, severity) in [("aa1", 0, Severity::Low), ("aa2", 10, Severity::High), ("b", 20, Severity::High)] {
        let mut one = incident(id);
        (one.detected_at, one.severity) = (at(secs), severity);
        if id == "b" {
            one.attackers = vec!["2001:db8::1".parse().unwrap()];
        }
        record(&mut store, if id == "b" { Change::Opened } else { Change::Closed }, &one);
    }
    let reason = String::new();
    store.judge("aa2", &Judgement { verdict: Verdict::FalsePositive, reason }, "me", at(60)).unwrap();
    let network = |text: &str, prefix| Some(Network::new(text.parse().unwrap(), prefix));
    let all = Incidents::default;
    for (name, which, expected) in [
        ("all", all(), "aa1 aa2 b"),
        ("the latest", Incidents { limit: Some(2), ..all() }, "aa2 b"),
        ("since", Incidents { since: Some(at(10)), ..all() }, "aa2 b"),
        ("until", Incidents { until: Some(at(10)), ..all() }, "aa1"),
        ("severe", Incidents { min_severity: Some(Severity::High), ..all() }, "aa2 b"),
        ("open", Incidents { open: Some(true), ..all() }, "b"),
        ("network", Incidents { host: network("203.0.113.0", 24), ..all() }, "aa1 aa2"),
        ("address", Incidents { host: network("2001:db8::1", 128), ..all() }, "b"),
        ("nobody", Incidents { host: network("198.51.100.1", 32), ..all() }, ""),
        ("false", Incidents { verdict: Some(Verdict::FalsePositive), ..all() }, "aa2"),
        ("class", Incidents { classes: [sensor_core::incident::Class::Beacon].into(), ..all() }, ""),
    ] {
        let found: Vec<String> = store.incidents(&which).unwrap().into_iter().map(|kept| kept.incident.id).collect();
        assert_eq!(found.join(" "), expected, "{name}");
    }
    assert!(store.incident("b").unwrap().is_some() && store.incident("aa").unwrap().is_none(), "two begin so");
    assert_eq!(store.audit(Timestamp::EPOCH, 9).unwrap()[0].action, "false_positive");
}

#[test]
fn another_file_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(NAME);
    assert!(matches!(Store::open_existing(dir.path()), Err(StoreError::Missing(_))));
    std::fs::write(&path, "a letter to my aunt, long enough to be no database").unwrap();
    assert!(matches!(Store::open(dir.path()), Err(StoreError::Foreign(_))));
    std::fs::remove_file(&path).unwrap();
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE aunt (name TEXT)").unwrap();
    assert!(matches!(Store::open(dir.path()), Err(StoreError::Foreign(_))));
    std::fs::remove_file(&path).unwrap();
    drop(Store::open(dir.path()).unwrap());
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 1000).unwrap();
    assert!(matches!(Store::open(dir.path()), Err(StoreError::Newer { found: 1000, .. })));
}

#[test]
fn memory_stands_in_for_a_disk_and_gives_back_what_it_has() {
    let (_dir, mut disk) = store();
    record(&mut disk, Change::Opened, &incident("a"));
    let mut spare = Store::in_memory().unwrap();
    spare.begin_after(disk.last_event().unwrap()).unwrap();
    spare.adopt(&disk.incident("a").unwrap().unwrap()).unwrap();
    let mut worse = incident("a");
    worse.severity = Severity::High;
    let events: Vec<Arc<IncidentEvent>> = vec![event(Change::Updated, &worse), event(Change::Opened, &incident("b"))];
    spare.record(&events, &sinks(), at(55)).unwrap();
    settle(&mut spare, "a", 2, Fate::Delivered);
    spare.remember("a", "b", "42").unwrap();
    let done = Settlement { sink: "a".to_owned(), seq: 1, fate: Fate::Delivered, note: None };
    disk.take_over(&spare, &[done], at(60)).unwrap();

    let keys = |sink: &str| disk.pending(sink, 0, 9).unwrap().iter().map(Event::key).collect::<Vec<_>>();
    assert_eq!((keys("a"), keys("b")), (vec!["b.1".to_owned()], vec!["a.1".into(), "a.2".into(), "b.1".into()]));
    assert!(disk.pending("b", 0, 9).unwrap()[1].rose);
    assert_eq!(disk.incident("a").unwrap().unwrap().incident, worse);
    assert_eq!(disk.recall("a", "b").unwrap().as_deref(), Some("42"));
    record(&mut disk, Change::Closed, &worse);
    assert_eq!(disk.last_event().unwrap(), 4);
}

#[test]
fn what_is_old_is_forgotten_but_not_what_somebody_waits_for() {
    let (_dir, mut store) = store();
    for id in ["0000000000000001", "0000000000000002", "0000000000000003"] {
        record(&mut store, Change::Opened, &incident(id));
    }
    record(&mut store, Change::Closed, &incident("0000000000000001"));
    record(&mut store, Change::Closed, &incident("0000000000000002"));
    // The first is told to all, the second waits for b, the third is open.
    for (sink, seq) in [("a", 1), ("b", 1), ("a", 4), ("b", 4), ("a", 2), ("a", 5)] {
        settle(&mut store, sink, seq, Fate::Delivered);
    }
    store.remember("a", "message:0000000000000001", "7").unwrap();
    store.remember("a", "message:0000000000000002", "8").unwrap();
    store.remember("a", "offset:123456789012", "9").unwrap();
    let day = Duration::from_secs(86_400);
    assert!(!store.forget_older(day, at(60)).unwrap());
    assert_eq!(store.incidents(&Incidents::default()).unwrap().len(), 3, "nothing is old");
    assert!(!store.forget_older(day, at(60) + day * 2).unwrap());
    let left: Vec<_> =
        store.incidents(&Incidents::default()).unwrap().into_iter().map(|kept| kept.incident.id).collect();
    assert_eq!(left, ["0000000000000002", "0000000000000003"]);
    let recall = |about: &str| store.recall("a", about).unwrap().is_some();
    assert_eq!(
        ["message:0000000000000001", "message:0000000000000002", "offset:123456789012"].map(recall),
        [false, true, true]
    );
    let holdings = store.holdings().unwrap();
    assert_eq!((holdings.pending, holdings.damage.len()), (4, 0));
}

#[test]
fn a_copy_is_a_store_and_a_damaged_file_is_told() {
    let (dir, mut store) = store();
    for n in 0..200 {
        record(&mut store, Change::Opened, &incident(&format!("{n:016x}")));
    }
    let copy = dir.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    store.copy_to(&copy.join(NAME)).unwrap();
    store.compact().unwrap();
    let copied = Store::open_existing(&copy).unwrap();
    assert_eq!(copied.incidents(&Incidents::default()).unwrap().len(), 200);
    drop(copied);
    let path = copy.join(NAME);
    let mut octets = std::fs::read(&path).unwrap();
    let page = octets.len() / 8192 * 4096;
    octets[page..page + 4096].fill(0xa5);
    std::fs::write(&path, octets).unwrap();
    assert!(damage(&path).map_or(true, |found| !found.is_empty()));
}
