//! Exports of the history against those of a replay, and files that are read back.

use std::fs;

use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::RowAccessor as _;
use sensor_core::flow::{EndReason, FlowRecord};
use sensor_core::incident::{Change, Incident, IncidentEvent, Severity};
use sensor_core::time::Timestamp;
use sensor_ebpf::abi::{Addr, FlowKey, FlowSlot, Half};

use super::*;
use crate::export::flows::FlowExport;

/// Flows of 10.0.0.1 to ports of 10.0.0.2, a second apart.
fn records(number: u16) -> Vec<FlowRecord> {
    let record = |n: u16| {
        let (client, server) = (Addr::from_v4(0x0a00_0001), Addr::from_v4(0x0a00_0002));
        let (key, way) = FlowKey::canonical(client, 40_000 + n, server, 20 + n % 5, 6);
        let half = Half { packets: 3, octets: 200 + u64::from(n), first_ns: 5, last_ns: 700_000, ..Half::default() };
        let first_seen = Timestamp::from_nanos(1_750_000_000_123_456_789_u64 + u64::from(n) * 1_000_000_000);
        FlowRecord {
            slot: FlowSlot { key, initiator: way as u8, ttl: [64, 57], half: [half; 2], ..FlowSlot::default() },
            first_seen,
            last_seen: first_seen + Duration::from_micros(700),
            end_reason: EndReason::TcpFin,
        }
    };
    (0..number).map(record).collect()
}

/// A scan of the first three seconds of [`records`].
fn scan() -> IncidentEvent {
    let at = |seconds: u64| Timestamp::from_secs(1_750_000_000 + seconds);
    let incident = Incident {
        id: "scan".to_owned(),
        class: Class::PortScan,
        severity: Severity::Low,
        attackers: vec!["10.0.0.1".parse().unwrap()],
        victims: vec!["10.0.0.2".parse().unwrap()],
        ports: Vec::new(),
        first_seen: at(0),
        detected_at: at(1),
        last_seen: at(3),
        score: 1.0,
        summary: String::new(),
        evidence: std::collections::BTreeMap::new(),
    };
    IncidentEvent { change: Change::Closed, at: at(60), incident }
}

fn history(records: &[FlowRecord]) -> Connection {
    let mut conn = Connection::open_in_memory().unwrap();
    conn.execute_batch(flows::SCHEMA).unwrap();
    flows::append(&mut conn, &records.iter().map(FlowRow::of).collect::<Vec<_>>()).unwrap();
    conn
}

fn incidents() -> Attribution {
    let mut log = IncidentLog::default();
    log.note(&scan());
    log.attribution()
}

#[test]
fn a_table_of_the_history_is_that_of_the_replay() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("flows.csv");
    let records = records(7);
    let mut export = FlowExport::create(&path).unwrap();
    records.iter().for_each(|record| export.flow(record).unwrap());
    export.incident(&scan());
    export.finish().unwrap();
    let mut conn = history(&records);
    let mut question =
        Question { conn: &mut conn, filter: Filter::default(), incidents: incidents(), class: None, only: None };
    let mut out = csv::Writer::from_writer(Vec::new());
    out.write_record(csv_header()).unwrap();
    question.each(|entry, class| Ok(out.write_record(csv_row(&entry.row, &features(&entry)?, class))?)).unwrap();
    assert_eq!(String::from_utf8(out.into_inner().unwrap()).unwrap(), fs::read_to_string(&path).unwrap());
}

#[test]
fn flows_of_a_class_are_found_and_exported_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("flows.parquet");
    let mut conn = history(&records(7));
    let class = Some(Class::PortScan);
    let mut question =
        Question { conn: &mut conn, filter: Filter::default(), incidents: incidents(), class, only: None };
    assert_eq!(parquet(&mut question, &path).unwrap(), 3);
    let reader = SerializedFileReader::try_from(path.as_path()).unwrap();
    let column = |name: &str| UnswRows::example().iter().position(|(other, _)| *other == name).unwrap();
    let rows: Vec<_> = reader.get_row_iter(None).unwrap().map(Result::unwrap).collect();
    let text = |name: &str| rows.iter().map(|row| row.get_string(column(name)).unwrap().clone()).collect::<Vec<_>>();
    let long = |name: &str| rows.iter().map(|row| row.get_long(column(name)).unwrap()).collect::<Vec<_>>();
    assert_eq!(text("attack_cat"), ["port_scan"; 3]);
    assert_eq!(text("service"), ["ftp-data", "ftp", "ssh"]);
    assert_eq!(text("srcip"), ["10.0.0.1"; 3]);
    assert_eq!((long("label"), long("id"), long("ct_src_ltm")), (vec![1; 3], vec![1, 2, 3], vec![1, 2, 3]));
    assert_eq!(rows[0].get_double(column("stime")).unwrap(), 1_750_000_000.123_456);
    assert!(rows[0].get_long(column("stcpb")).is_err(), "null");
}

#[test]
fn a_table_for_people_lines_up_and_says_what_is_left_out() {
    let mut conn = history(&records(3));
    let filter = Filter { limit: Some(2), ..Filter::default() };
    let mut table = table::Table::new(&table::FLOWS);
    let mut question = Question { conn: &mut conn, filter, incidents: incidents(), class: None, only: None };
    let found = question.each(|entry, class| {
        table.push(table::flow(&entry.row.line(), class));
        Ok(())
    });
    let expected = "\
began (UTC)               lasted  from            to           proto  packets   octets  ended by  incident
2025-06-15 15:06:41.123  0.001 s  10.0.0.1:40001  10.0.0.2:21  tcp        3+3  201+201  tcp_fin   port_scan
2025-06-15 15:06:42.123  0.001 s  10.0.0.1:40002  10.0.0.2:22  tcp        3+3  202+202  tcp_fin   port_scan
2 flows, the latest; --limit shows more
";
    assert_eq!(table.with_end("flow", found.unwrap()), expected);
}
