//! Lines as readers of Suricata's files want them.

use std::collections::BTreeSet;

use sensor_core::flow::FlowSample;
use sensor_core::incident::Incident;
use sensor_ebpf::abi::FlowSlot;

use super::*;
use crate::notify::testing::incident;

fn event(incident: Incident, change: Change) -> Event {
    let at = Timestamp::from_nanos(1_750_000_042_123_456_789);
    Event { seq: 1, n: 1, change, rose: false, told: false, at, kept_at: at, incident }
}

fn sample() -> FlowSample {
    FlowSample {
        src_addr: "203.0.113.5".parse().unwrap(),
        src_port: 40_000,
        dst_addr: "192.0.2.10".parse().unwrap(),
        dst_port: 22,
        proto: 6,
        sent_packets: 3,
        received_packets: 2,
        sent_octets: 180,
        received_octets: 80,
        first_seen: 1_750_000_000.5,
        community_id: Some("1:LQU9qZlK+B5F3KDmev6m5PMibrg=".to_owned()),
    }
}

/// The flow of [`sample`], as the kernel counted it.
fn record(proto: u8) -> FlowRecord {
    let addr = |text: &str| text.parse::<IpAddr>().unwrap().into();
    let ports = if proto == proto::ICMP { [0, 0] } else { [40_000, 22] };
    let (key, way) = FlowKey::canonical(addr("203.0.113.5"), ports[0], addr("192.0.2.10"), ports[1], proto);
    let mut record = FlowRecord {
        slot: FlowSlot { key, initiator: way as u8, ..FlowSlot::default() },
        first_seen: Timestamp::from_nanos(1_750_000_000_500_000_000),
        last_seen: Timestamp::from_nanos(1_750_000_003_250_000_000),
        end_reason: EndReason::TcpFin,
    };
    for (side, packets, octets) in [(way, 3, 180), (way.reverse(), 2, 80)] {
        let half = &mut record.slot.half[side.index()];
        (half.packets, half.octets, half.first_ns) = (packets, octets, 1 + u64::from(side != way));
        let flags = HalfRare { syn: 1, fin: 1, no_ack: u32::from(side == way), ..HalfRare::default() };
        record.slot.rare[side.index()] = if proto == proto::TCP { flags } else { HalfRare::default() };
    }
    if proto == proto::ICMP {
        record.slot.half[way.index()].window = 0x0800;
    }
    record
}

fn parse(line: &str) -> Value {
    assert!(line.ends_with('\n') && line.matches('\n').count() == 1, "{line:?}");
    serde_json::from_str(line).unwrap()
}

/// What Suricata writes in every event of a kind, and readers rely on.
fn has(line: &Value, keys: &[&str]) {
    for key in keys {
        assert!(line.pointer(&format!("/{}", key.replace('.', "/"))).is_some(), "{key} is missing: {line}");
    }
    let timestamp = line["timestamp"].as_str().unwrap();
    assert!(timestamp.len() == 31 && timestamp.ends_with("+0000") && timestamp.as_bytes()[19] == b'.', "{timestamp}");
}

const TUPLE: [&str; 5] = ["timestamp", "event_type", "src_ip", "dest_ip", "proto"];
const ALERT: [&str; 7] = [
    "alert.action",
    "alert.gid",
    "alert.signature_id",
    "alert.rev",
    "alert.signature",
    "alert.category",
    "alert.severity",
];

#[test]
fn an_alert_is_about_the_first_flow_behind_it() {
    let mut incident = incident("a");
    incident.evidence.insert("sample_flows".to_owned(), json!([sample()]));
    let line = parse(&alert(&event(incident, Change::Opened), "web-1"));
    has(&line, &[&TUPLE[..], &ALERT, &["flow_id", "src_port", "dest_port", "community_id", "flow.start"]].concat());
    assert_eq!(line["timestamp"], "2025-06-15T15:07:22.123456+0000");
    assert_eq!((&line["src_ip"], &line["dest_ip"]), (&json!("203.0.113.5"), &json!("192.0.2.10")));
    assert_eq!((&line["src_port"], &line["dest_port"], &line["proto"]), (&json!(40_000), &json!(22), &json!("TCP")));
    let wanted = json!({"action": "allowed", "gid": 1, "signature_id": 1_985_001, "rev": 1,
        "signature": "LEUKO Port scan", "category": "Detection of a Network Scan", "severity": 3});
    assert_eq!(line["alert"], wanted);
    assert_eq!((&line["leuko"]["id"], &line["leuko"]["state"]), (&json!("a"), &json!("open")));
    assert_eq!((&line["leuko"]["key"], &line["leuko"]["change"]), (&json!("a.1"), &json!("opened")));
    assert_eq!(line["flow"]["start"], "2025-06-15T15:06:40.500000+0000");
    // The line of the flow is found by that of the alert.
    assert_eq!(parse(&flow(&record(6), "web-1", |_| true))["flow_id"], line["flow_id"]);
}

#[test]
fn an_alert_without_flows_is_about_attackers_and_victims() {
    let line = parse(&alert(&event(incident("a"), Change::Closed), "web-1"));
    has(&line, &[&TUPLE[..], &ALERT].concat());
    assert_eq!((&line["dest_port"], &line["leuko"]["state"]), (&json!(22), &json!("closed")));
    let spoofed = Incident { attackers: Vec::new(), class: Class::SynFlood, ..incident("a") };
    let line = parse(&alert(&event(spoofed, Change::Updated), "web-1"));
    assert_eq!((&line["src_ip"], &line["proto"]), (&json!("0.0.0.0"), &json!("TCP")));
    assert_eq!((&line["leuko"]["change"], &line["leuko"]["state"]), (&json!("updated"), &json!("open")));
}

#[test]
fn evidence_that_is_hostile_stays_in_its_string() {
    let mut incident = incident("a\"}\n{\"event_type\":\"alert\"");
    incident.summary = "\u{0}\u{1b}[31m\"},\n".to_owned();
    incident.evidence.insert("sample_flows".to_owned(), json!([{"src_addr": "x"}, 7]));
    let line = parse(&alert(&event(incident.clone(), Change::Opened), "web\n-1"));
    assert_eq!(line["leuko"]["summary"], incident.summary);
    has(&line, &TUPLE);
}

#[test]
fn every_class_has_a_number_of_its_own() {
    let numbers: BTreeSet<u32> = Class::ALL.into_iter().map(signature_id).collect();
    assert_eq!(numbers, (1_985_001..=1_985_016).collect());
}

#[test]
fn a_flow_has_what_it_moved_and_how_it_ended() {
    let line = parse(&flow(&record(6), "web-1", |_| true));
    has(&line, &[&TUPLE[..], &["flow_id", "src_port", "dest_port", "community_id", "tcp.tcp_flags"]].concat());
    let wanted = json!({"pkts_toserver": 3, "pkts_toclient": 2, "bytes_toserver": 180, "bytes_toclient": 80,
        "start": "2025-06-15T15:06:40.500000+0000", "end": "2025-06-15T15:06:43.250000+0000", "age": 3,
        "state": "closed", "reason": "timeout", "alerted": true});
    assert_eq!(line["flow"], wanted);
    assert_eq!((&line["tcp"]["tcp_flags"], &line["tcp"]["syn"]), (&json!("13"), &json!(true)));
    assert!(line["tcp"].get("rst").is_none() && line["flow_id"].as_u64().unwrap() <= FLOW_ID);

    let line = parse(&flow(&record(1), "web-1", |_| false));
    assert_eq!((&line["proto"], &line["icmp_type"], &line["icmp_code"]), (&json!("ICMP"), &json!(8), &json!(0)));
    assert!(line.get("src_port").is_none() && line.get("tcp").is_none());
    assert_eq!((&line["flow"]["state"], &line["flow"]["alerted"]), (&json!("established"), &json!(false)));
}

#[test]
fn counters_are_where_suricata_has_them() {
    let line = parse(&stats(
        &Stats {
            at: Timestamp::from_secs(1_750_000_000),
            uptime: Duration::from_secs(61),
            counters: Counters { packets: 10, octets: 900, ..Counters::default() },
            live_flows: 4,
            started_flows: 9,
            ended: [("tcp_fin", 5)].into(),
            open_incidents: 1,
            opened_incidents: 2,
            coverage: 0.999_96,
        },
        "web-1",
        3,
    ));
    has(&line, &["timestamp", "event_type", "stats.capture.kernel_drops", "stats.flow.active", "stats.decoder.bytes"]);
    assert_eq!((&line["stats"]["uptime"], &line["stats"]["capture"]["kernel_packets"]), (&json!(61), &json!(10)));
    assert_eq!(
        (&line["stats"]["leuko"]["coverage"], &line["stats"]["leuko"]["lines_not_written"]),
        (&json!(1.0), &json!(3))
    );
}
