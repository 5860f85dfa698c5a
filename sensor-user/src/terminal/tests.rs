//! What people see, to the letter.

use std::collections::BTreeMap;
use std::sync::Mutex;

use sensor_core::contract::IncidentLine;
use sensor_core::incident::{Class, Severity};
use serde_json::json;

use super::*;

/// The status line is state of the process: tests that draw one take turns.
static TURN: Mutex<()> = Mutex::new(());

fn event(change: Change) -> IncidentEvent {
    let start = Timestamp::from_secs(1_750_000_000);
    IncidentEvent {
        change,
        at: start + Duration::from_secs(12),
        incident: Incident {
            id: "port_scan-1".into(),
            class: Class::PortScan,
            severity: Severity::High,
            attackers: vec!["192.0.2.7".parse().unwrap()],
            victims: vec!["10.0.0.5".parse().unwrap()],
            ports: (1..=64).collect(),
            first_seen: start,
            detected_at: start + Duration::from_secs(12),
            last_seen: start + Duration::from_secs(130),
            score: 0.98,
            summary: "192.0.2.7 probed 1,000 ports\x1b[31m of 10.0.0.5".into(),
            evidence: BTreeMap::from([("ports".into(), json!(1000)), ("failed_ratio".into(), json!(0.995))]),
        },
    }
}

fn printed(colour: bool, print: impl FnOnce(&mut Terminal<&mut Vec<u8>>) -> io::Result<Reader>) -> String {
    let mut bytes = Vec::new();
    let reader = print(&mut Terminal::new(&mut bytes, colour)).unwrap();
    assert_eq!(reader, Reader::Listening);
    String::from_utf8(bytes).unwrap()
}

#[test]
fn an_incident_is_explained() {
    let text = printed(false, |terminal| terminal.incident(&event(Change::Opened)));
    assert_eq!(
        text,
        "2025-06-15 15:06:52Z  high      port_scan    192.0.2.7 probed 1,000 ports [31m of 10.0.0.5
    from      192.0.2.7
    to        10.0.0.5
    ports     1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 54 more
    since     2025-06-15 15:06:40Z, 12 s before it was found
    score     0.98
    evidence  failed_ratio  0.995
              ports         1000
    id        port_scan-1
"
    );
}

#[test]
fn its_end_is_one_line() {
    let text = printed(false, |terminal| terminal.incident(&event(Change::Closed)));
    assert_eq!(
        text,
        "2025-06-15 15:06:52Z  over      port_scan    192.0.2.7 > 10.0.0.5, lasted 2 min 10 s (port_scan-1)\n"
    );
}

#[test]
fn colour_is_added_only_where_it_is_wanted() {
    let text = printed(true, |terminal| terminal.incident(&event(Change::Updated)));
    assert!(text.contains("\x1b[1;31mhigh    \x1b[0m"), "{text:?}");
    let text = printed(false, |terminal| terminal.incident(&event(Change::Updated)));
    assert!(!text.contains('\x1b') && text.ends_with("(more of port_scan-1)\n"), "{text:?}");
}

#[test]
fn the_summary_says_what_was_not_seen() {
    let lost = BTreeMap::from([("non_ip".to_owned(), 3), ("truncated".to_owned(), 0)]);
    let summary = SummaryLine { packets: 12_345, flows: 67, incidents: 1, lost, duration_s: 61.5 };
    let text = printed(false, |terminal| terminal.summary(&summary));
    assert_eq!(
        text,
        "1 incident  12,345 packets in 67 flows over 1 min 1 s\nnot accounted to a flow: 3 packets (non_ip 3)\n"
    );
}

#[test]
fn the_status_line_makes_way() {
    let _turn = TURN.lock();
    let status = Status {
        flows: 1234,
        packets_per_s: 5678.0,
        bits_per_s: 9.1e6,
        table_fill: 0.01,
        coverage: 1.0,
        open_incidents: 2,
        warmup_left: Duration::from_secs(42),
        overflow: 1500,
        lost: 3,
    };
    let mut bytes = Vec::new();
    let mut terminal = Terminal::new(&mut bytes, false).with_status_line(true);
    assert_eq!(terminal.status(&status).unwrap(), Reader::Listening);
    assert_eq!(terminal.incident(&event(Change::Closed)).unwrap(), Reader::Listening);
    assert_eq!(terminal.finish().unwrap(), Reader::Listening);
    let text = String::from_utf8(bytes).unwrap();
    let line = "learning, 42 s left  1,234 flows  5.68 kpkt/s  9.10 Mbit/s  table 1 %  coverage 100 %  \
         1,500 overflow  3 lost  2 incidents open";
    assert!(text.starts_with(&format!("{CLEAR}{WRAP_OFF}{line}{WRAP_ON}{CLEAR}2025")), "{text:?}");
    assert_eq!(take_status_line(), "");
    assert_eq!(printed(false, |terminal| terminal.status(&status)), "");
}

struct Broken(io::ErrorKind);

impl Write for Broken {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(self.0.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_reader_that_has_gone_is_no_error_and_a_full_disk_is() {
    let line = Line::Incident(IncidentLine::of(&event(Change::Opened)).unwrap());
    assert_eq!(JsonLines::new(Broken(io::ErrorKind::BrokenPipe)).line(&line).unwrap(), Reader::Gone);
    JsonLines::new(Broken(io::ErrorKind::StorageFull)).line(&line).unwrap_err();
    assert_eq!(
        Terminal::new(Broken(io::ErrorKind::BrokenPipe), false).incident(&event(Change::Opened)).unwrap(),
        Reader::Gone
    );
}

#[test]
fn a_json_line_is_written_at_once() {
    let line = Line::Incident(IncidentLine::of(&event(Change::Opened)).unwrap());
    let mut bytes = Vec::new();
    assert_eq!(JsonLines::new(&mut bytes).line(&line).unwrap(), Reader::Listening);
    let text = String::from_utf8(bytes).unwrap();
    let json: serde_json::Value = serde_json::from_str(text.strip_suffix('\n').unwrap()).unwrap();
    assert_eq!(json["type"], "incident");
    assert_eq!(json["state"], "open");
}
