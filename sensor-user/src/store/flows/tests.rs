//! The history as a whole: nothing is lost or counted twice, whatever is done in which order, and whenever it ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ipnet::IpNet;
use proptest::prelude::*;
use rusqlite::{Connection, TransactionBehavior};
use sensor_core::flow::{EndReason, FlowRecord};
use sensor_core::time::Timestamp;
use sensor_ebpf::abi::{Addr, FlowSlot};

use super::upkeep::upkeep_within;
use super::write::append_within;
use super::*;

/// Rows of a partition in these tests.
const SMALL: u32 = 16;
/// Flows that become sums in one step.
const SLICE: u32 = 7;
const START: i64 = 1_750_000_000_000_000;
const RETENTION: Retention = Retention {
    keep: Duration::from_secs(86_400),
    keep_summaries: Duration::from_secs(10 * 365 * 86_400),
    max_octets: u64::MAX,
};

/// Flows, packets, octets.
type Sums = [u64; 3];

fn open(path: &Path) -> Connection {
    let conn = Connection::open(path).unwrap();
    conn.pragma_update(None, "journal_mode", "wal").unwrap();
    conn
}

fn memory() -> Connection {
    let conn = Connection::open_in_memory().unwrap();
    conn.execute_batch(SCHEMA).unwrap();
    conn
}

fn append_small(conn: &mut Connection, rows: &[FlowRow]) {
    let transaction = conn.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    append_within(&transaction, rows, SMALL).unwrap();
    transaction.commit().unwrap();
}

/// A flow that ended so many seconds after [`START`] and lasted three, between hosts and at a port of these numbers.
fn flow(ended_s: i64, [src, dst]: [u8; 2], port: u16) -> FlowRow {
    let last_seen = START + ended_s * 1_000_000;
    let addr = |n: u8| {
        if n.is_multiple_of(4) { Addr { high: 1, low: n.into() } } else { Addr::from_v4(0x0a00_0000 + u32::from(n)) }
    };
    FlowRow {
        first_seen: last_seen - 3_000_000,
        last_seen,
        src: (addr(src), 40_000),
        dst: (addr(dst), port),
        proto: if port.is_multiple_of(2) { 6 } else { 17 },
        end_reason: EndReason::ALL[usize::from(src) % 5],
        packets: [i64::from(src) + 1, i64::from(dst)],
        octets: [i64::from(port) * 40, 7],
        features: vec![1, src, dst],
    }
}

fn rows(most: usize) -> impl Strategy<Value = Vec<FlowRow>> {
    let row = (0..20_000_i64, proptest::array::uniform2(0..12_u8), 20..26_u16);
    proptest::collection::vec(row.prop_map(|(ended, hosts, port)| flow(ended, hosts, port)), 0..most)
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_nanos(START.unsigned_abs() * 1000) + Duration::from_secs(seconds.unsigned_abs())
}

fn found(conn: &mut Connection, filter: &Filter) -> (Vec<FlowEntry>, Found) {
    let mut entries = Vec::new();
    let found = query(conn, filter, None, |entry| {
        entries.push(entry);
        Ok(())
    });
    (entries, found.unwrap())
}

fn sums(conn: &mut Connection) -> Sums {
    let add = |sums: Sums, more: Sums| [sums[0] + more[0], sums[1] + more[1], sums[2] + more[2]];
    let both = |[a, b]: [i64; 2]| (a + b).unsigned_abs();
    let (entries, _) = found(conn, &Filter::default());
    let mut all = entries.iter().fold([0; 3], |all, entry| add(all, sums_of(std::slice::from_ref(&entry.row), both)));
    hours(conn, &Filter::default(), |sum| {
        all = add(all, [sum.flows, sum.packets.iter().sum(), sum.octets.iter().sum()]);
        Ok(())
    })
    .unwrap();
    all
}

fn sums_of(rows: &[FlowRow], both: impl Fn([i64; 2]) -> u64) -> Sums {
    let total = |of: fn(&FlowRow) -> [i64; 2]| rows.iter().map(|row| both(of(row))).sum();
    [rows.len() as u64, total(|row| row.packets), total(|row| row.octets)]
}

fn appended(rows: &[FlowRow]) -> Sums {
    sums_of(rows, |[a, b]| (a + b).unsigned_abs())
}

fn all_upkeep(conn: &mut Connection, now: Timestamp, retention: &Retention) -> Vec<Upkeep> {
    let steps = std::iter::from_fn(|| Some(upkeep_within(conn, now, retention, SLICE).unwrap()));
    steps.take_while(|step| *step != Upkeep::Idle).collect()
}

#[derive(Clone, Debug)]
enum Act {
    Append(Vec<FlowRow>),
    /// As many seconds after the start.
    Upkeep(i64),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![rows(60).prop_map(Act::Append), (0..150_000_i64).prop_map(Act::Upkeep)];
    proptest::collection::vec(act, 1..20)
}

fn net(text: &str) -> Hosts {
    text.parse::<IpNet>().unwrap().into()
}

fn filter() -> impl Strategy<Value = Filter> {
    let moment = || proptest::option::of((0..20_000_i64).prop_map(at));
    let host = || {
        let nets = ["10.0.0.1/32", "10.0.0.0/29", "0.0.0.0/0", "::4/128", "::/0", "0:0:0:1::/64", "192.0.2.0/24"];
        proptest::sample::select(nets.to_vec()).prop_map(net)
    };
    let hosts = proptest::collection::vec(host(), 0..3);
    let ends = (proptest::option::of(host()), proptest::option::of(host()));
    let port = proptest::option::of((18..26_u16, 0..4_u16).prop_map(|(port, more)| port..=port + more));
    let rest = (proptest::option::of(prop_oneof![Just(6_u8), Just(17)]), proptest::option::of(0..40_u64));
    (moment(), moment(), hosts, ends, port, rest).prop_map(|(since, until, hosts, (src, dst), port, (proto, limit))| {
        Filter { since, until, hosts, src, dst, port, proto, limit }
    })
}

fn matches(filter: &Filter, row: &FlowRow) -> bool {
    let micros = |at: Timestamp| i64::try_from(at.nanos() / 1000).unwrap();
    let is = |hosts: &Hosts, end: (Addr, u16)| hosts.contains(end.0);
    filter.since.is_none_or(|since| row.last_seen >= micros(since))
        && filter.until.is_none_or(|until| row.first_seen <= micros(until))
        && (filter.hosts.is_empty() || filter.hosts.iter().any(|hosts| is(hosts, row.src) || is(hosts, row.dst)))
        && filter.src.is_none_or(|hosts| is(&hosts, row.src))
        && filter.dst.is_none_or(|hosts| is(&hosts, row.dst))
        && filter.port.as_ref().is_none_or(|ports| ports.contains(&row.dst.1))
        && filter.proto.is_none_or(|proto| proto == row.proto)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn flows_and_sums_together_are_what_was_appended(acts in acts()) {
        let mut conn = memory();
        let mut all = Vec::new();
        for act in acts {
            match act {
                Act::Append(rows) => {
                    append_small(&mut conn, &rows);
                    all.extend(rows);
                }
                Act::Upkeep(seconds) => {
                    all_upkeep(&mut conn, at(seconds), &RETENTION);
                }
            }
            prop_assert_eq!(sums(&mut conn), appended(&all));
            prop_assert_eq!(check(&conn).unwrap(), Vec::<String>::new());
            let held = history(&conn).unwrap();
            prop_assert_eq!(held.flows + held.summed_flows, all.len() as u64);
        }
    }

    #[test]
    fn a_query_finds_what_looking_at_every_flow_finds(rows in rows(200), seal: bool, filter in filter()) {
        let mut conn = memory();
        append_small(&mut conn, &rows);
        if seal {
            all_upkeep(&mut conn, at(30_000), &RETENTION);
        }
        let wanted: Vec<&FlowRow> = rows.iter().filter(|row| matches(&filter, row)).collect();
        let kept = filter.limit.map_or(wanted.len(), |limit| wanted.len().min(usize::try_from(limit).unwrap()));
        let mut expected = wanted[wanted.len() - kept..].to_vec();
        expected.sort_by_key(|row| row.last_seen);
        let (entries, found) = found(&mut conn, &filter);
        prop_assert_eq!(entries.iter().map(|entry| &entry.row).collect::<Vec<_>>(), expected);
        prop_assert_eq!(found, Found { flows: kept as u64, cut: kept < wanted.len(), gone: 0 });
        let mut same = Vec::new();
        query(&mut conn, &filter, Some(&|_| true), |entry| {
            same.push(entry);
            Ok(())
        }).unwrap();
        prop_assert_eq!(same, entries);
    }
}

#[test]
fn what_is_kept_of_a_flow_is_what_the_contract_says_of_it() {
    let record = FlowRecord {
        slot: FlowSlot { initiator: 1, ..FlowSlot::default() },
        first_seen: Timestamp::from_nanos(1_750_000_000_123_456_789),
        last_seen: Timestamp::from_nanos(1_750_000_009_999_999_999),
        end_reason: EndReason::TcpRst,
    };
    let mut conn = memory();
    append(&mut conn, &[FlowRow::of(&record)]).unwrap();
    let (entries, _) = found(&mut conn, &Filter::default());
    assert_eq!(entries[0].row.line(), sensor_core::contract::FlowLine::from(&record));
    assert_eq!(entries[0].row.features().unwrap(), Features::of(&record));
}

#[test]
fn ids_are_never_given_again() {
    let mut conn = memory();
    append_small(&mut conn, &[flow(0, [1, 2], 22)]);
    let before = found(&mut conn, &Filter::default()).0[0].id;
    assert_eq!(all_upkeep(&mut conn, at(100_000), &RETENTION), [Upkeep::RolledUp(1)]);
    append_small(&mut conn, &[flow(100_000, [1, 2], 22)]);
    assert!(found(&mut conn, &Filter::default()).0[0].id > before);
}

#[test]
fn sums_are_found_by_hour_host_and_port_and_forgotten_when_they_are_old() {
    let mut conn = memory();
    let hour = 3600;
    append_small(&mut conn, &[0, 1, 2, hour, 2 * hour].map(|ended| flow(ended, [1, 2], 22)));
    append_small(&mut conn, &[flow(2 * hour, [3, 2], 23)]);
    all_upkeep(&mut conn, at(100 * hour), &RETENTION);
    let flows = |filter: Filter| {
        let mut flows = Vec::new();
        let found = hours(&conn, &filter, |sum| {
            flows.push(sum.flows);
            Ok(())
        });
        let found = found.unwrap();
        (flows, found.cut)
    };
    assert_eq!(flows(Filter::default()), (vec![3, 1, 1, 1], false));
    assert_eq!(flows(Filter { limit: Some(2), ..Filter::default() }), (vec![1, 1], true));
    assert_eq!(flows(Filter { until: Some(at(hour)), ..Filter::default() }), (vec![3, 1], false));
    assert_eq!(flows(Filter { since: Some(at(2 * hour)), ..Filter::default() }), (vec![1, 1], false));
    assert_eq!(flows(Filter { port: Some(23..=23), ..Filter::default() }), (vec![1], false));
    assert_eq!(flows(Filter { hosts: vec![net("10.0.0.3/32")], ..Filter::default() }), (vec![1], false));
    let short = Retention { keep_summaries: Duration::from_secs(3600), ..RETENTION };
    assert_eq!(all_upkeep(&mut conn, at(3 * hour), &short), [Upkeep::Forgotten(4)]);
    assert_eq!(history(&conn).unwrap().summed_flows, 2);
}

#[test]
fn a_file_that_is_too_large_loses_the_oldest_first() {
    let mut conn = memory();
    let rows: Vec<_> = (0..4000).map(|n| flow(n, [(n % 12).try_into().unwrap(), 2], 22)).collect();
    append_small(&mut conn, &rows);
    let small = Retention { max_octets: 700_000, ..RETENTION };
    let steps = all_upkeep(&mut conn, at(4000), &small);
    assert!(steps.contains(&Upkeep::RolledUp(SLICE.into())), "{steps:?}");
    let held = history(&conn).unwrap();
    assert!(held.oldest > Some(at(100)) && held.newest == Some(at(3999)), "{held:?}");
    assert_eq!(held.flows + held.summed_flows, 4000);
    let pages: u64 = conn.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
    let free: u64 = conn.pragma_query_value(None, "freelist_count", |row| row.get(0)).unwrap();
    assert!((pages - free) * 4096 <= 700_000);
    let tiny = Retention { max_octets: 1, ..RETENTION };
    let steps = all_upkeep(&mut conn, at(4000), &tiny);
    assert!(matches!(steps.last(), Some(Upkeep::Forgotten(_))), "{steps:?}");
    assert!(history(&conn).unwrap().flows <= SMALL.into(), "the open partition stays");
}

#[test]
fn a_question_about_a_host_or_a_port_uses_the_indexes() {
    let mut conn = memory();
    append(&mut conn, &(0..2000).map(|n| flow(n, [(n % 12).try_into().unwrap(), 2], 22)).collect::<Vec<_>>()).unwrap();
    assert_eq!(all_upkeep(&mut conn, at(5000), &RETENTION), [Upkeep::Indexed, Upkeep::Indexed, Upkeep::Sealed(2000)]);
    let host = net("10.0.0.3/32");
    for (filter, wanted) in [
        (Filter { hosts: vec![host], ..Filter::default() }, &["flow_1_src", "flow_1_dst"][..]),
        (
            Filter { hosts: vec![host, net("10.0.0.9/32")], limit: Some(10), ..Filter::default() },
            &["flow_1_src", "flow_1_dst"],
        ),
        (Filter { src: Some(host), since: Some(at(0)), ..Filter::default() }, &["flow_1_src"]),
        (Filter { port: Some(22..=22), proto: Some(6), ..Filter::default() }, &["flow_1_dst_port"]),
    ] {
        let plan = query::plan(&conn, &filter, 1).unwrap();
        assert!(wanted.iter().all(|index| plan.contains(index)), "{filter:?}\n{plan}");
    }
}

/// What a process that is killed at some moment leaves behind.
struct Corpse {
    folder: PathBuf,
    /// What had been done for sure, and what was being done.
    sums: [Sums; 2],
}

#[test]
fn whenever_the_process_is_killed_all_or_nothing_of_a_step_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let living = dir.path().join("living");
    fs::create_dir(&living).unwrap();
    let mut conn = open(&living.join("leuko.db"));
    conn.execute_batch(SCHEMA).unwrap();
    // Pages go to the log before the end of a transaction, too.
    conn.pragma_update(None, "cache_size", 4).unwrap();
    let corpses = Arc::new(Mutex::new(Vec::<Corpse>::new()));
    let doing = Arc::new(Mutex::new([[0; 3]; 2]));
    let watch = {
        let (corpses, doing, living, dir) =
            (Arc::clone(&corpses), Arc::clone(&doing), living.clone(), dir.path().to_owned());
        move || {
            let mut corpses = corpses.lock().unwrap();
            let folder = dir.join(format!("corpse{}", corpses.len()));
            fs::create_dir(&folder).unwrap();
            for name in ["leuko.db", "leuko.db-wal"] {
                fs::copy(living.join(name), folder.join(name)).unwrap();
            }
            corpses.push(Corpse { folder, sums: *doing.lock().unwrap() });
            false
        }
    };
    conn.progress_handler(400, Some(watch)).unwrap();
    let mut all: Vec<FlowRow> = Vec::new();
    for round in 0..6 {
        let rows: Vec<_> = (0..40).map(|n| flow(round * 20_000 + n, [(n % 12).try_into().unwrap(), 2], 22)).collect();
        let before = appended(&all);
        all.extend(rows.clone());
        *doing.lock().unwrap() = [before, appended(&all)];
        append_small(&mut conn, &rows);
        *doing.lock().unwrap() = [appended(&all); 2];
        all_upkeep(&mut conn, at(round * 20_000 + 4000), &RETENTION);
    }
    conn.progress_handler(0, None::<fn() -> bool>).unwrap();
    assert!(history(&conn).unwrap().summaries > 0, "everything has been tried");
    let corpses = std::mem::take(&mut *corpses.lock().unwrap());
    assert!(corpses.len() > 20, "{} moments", corpses.len());
    for Corpse { folder, sums: expected } in corpses {
        let mut conn = open(&folder.join("leuko.db"));
        if conn.prepare("SELECT * FROM flow_partition").is_err() {
            continue;
        }
        assert_eq!(check(&conn).unwrap(), Vec::<String>::new());
        let left = sums(&mut conn);
        assert!(expected.contains(&left), "{left:?}, not {expected:?}");
        append_small(&mut conn, &[flow(200_000, [1, 2], 22)]);
        assert_eq!(check(&conn).unwrap(), Vec::<String>::new());
    }
}

#[test]
fn a_slow_reader_neither_blocks_the_writer_nor_sees_a_flow_twice() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = open(&dir.path().join("leuko.db"));
    writer.execute_batch(SCHEMA).unwrap();
    let rows: Vec<_> = (0..5000).map(|n| flow(n / 10, [1, 2], 22)).collect();
    append(&mut writer, &rows).unwrap();
    let mut reader = open(&dir.path().join("leuko.db"));
    let mut read = 0;
    let found = query(&mut reader, &Filter::default(), None, |_| {
        read += 1;
        if read == 1 {
            all_upkeep(&mut writer, at(100_000), &RETENTION);
            assert_eq!(history(&writer).unwrap().summed_flows, 5000);
        }
        Ok(())
    });
    assert_eq!(found.unwrap(), Found { flows: read, cut: false, gone: 5000 - read });
    assert!(0 < read && read < 5000);
}
