//! The contract, letter by letter: other programs read these lines.

use serde_json::json;

use super::*;
use crate::flow::EndReason;
use crate::incident::{Class, Severity};
use crate::time::Timestamp;

fn at(secs: u64, micros: u64) -> Timestamp {
    Timestamp::from_nanos((secs * 1_000_000 + micros) * 1000)
}

fn port_scan() -> Incident {
    Incident {
        id: "5e0f6c2a91b3d487".to_owned(),
        class: Class::PortScan,
        severity: Severity::High,
        attackers: vec!["10.0.0.9".parse().unwrap()],
        victims: vec!["10.0.0.2".parse().unwrap(), "2001:db8::2".parse().unwrap()],
        ports: vec![22, 80, 65_535],
        first_seen: at(1_750_000_000, 123_456),
        detected_at: at(1_750_000_001, 0),
        last_seen: at(1_750_000_000, 999_999),
        score: 0.876_543_21,
        summary: "10.0.0.9 probed 3 ports of 2 hosts (10.0.0.2 and others) in less than a second".to_owned(),
        evidence: BTreeMap::from([
            ("refused".to_owned(), json!(2)),
            ("failed_contacts".to_owned(), json!(3)),
            ("protocols".to_owned(), json!(["tcp"])),
        ]),
    }
}

fn event(change: Change, incident: Incident) -> IncidentEvent {
    IncidentEvent { change, at: incident.detected_at, incident }
}

fn printed(line: &Line) -> String {
    serde_json::to_string(line).unwrap()
}

fn printed_incident(change: Change, incident: Incident) -> Option<String> {
    Some(printed(&Line::Incident(IncidentLine::of(&event(change, incident))?)))
}

#[test]
fn an_incident_is_printed_when_it_opens() {
    let expected = concat!(
        r#"{"type":"incident","id":"5e0f6c2a91b3d487","class":"port_scan","severity":"high","state":"open","#,
        r#""attackers":["10.0.0.9"],"victims":["10.0.0.2","2001:db8::2"],"ports":[22,80,65535],"#,
        r#""first_seen":1750000000.123456,"detected_at":1750000001.0,"last_seen":1750000000.999999,"score":0.8765,"#,
        r#""summary":"10.0.0.9 probed 3 ports of 2 hosts (10.0.0.2 and others) in less than a second","#,
        r#""evidence":{"failed_contacts":3,"protocols":["tcp"],"refused":2}}"#,
    );
    assert_eq!(printed_incident(Change::Opened, port_scan()).unwrap(), expected);
}

#[test]
fn an_incident_without_addresses_is_printed_when_it_closes() {
    let forged = Incident {
        class: Class::SynFlood,
        severity: Severity::Critical,
        attackers: Vec::new(),
        victims: vec!["::1".parse().unwrap()],
        ports: Vec::new(),
        summary: "flood".to_owned(),
        evidence: BTreeMap::new(),
        score: 1.0,
        ..port_scan()
    };
    let expected = concat!(
        r#"{"type":"incident","id":"5e0f6c2a91b3d487","class":"syn_flood","severity":"critical","state":"closed","#,
        r#""attackers":[],"victims":["::1"],"ports":[],"#,
        r#""first_seen":1750000000.123456,"detected_at":1750000001.0,"last_seen":1750000000.999999,"score":1.0,"#,
        r#""summary":"flood","evidence":{}}"#,
    );
    assert_eq!(printed_incident(Change::Closed, forged).unwrap(), expected);
}

#[test]
fn an_update_prints_nothing() {
    assert_eq!(printed_incident(Change::Updated, port_scan()), None);
}

#[test]
fn a_flow_is_printed_with_numbers_for_protocol_and_ports() {
    let flow = FlowLine {
        src_addr: "192.0.2.1".parse().unwrap(),
        src_port: 40_000,
        dst_addr: "192.0.2.2".parse().unwrap(),
        dst_port: 443,
        proto: 6,
        fwd_packets: 12,
        rev_packets: 9,
        fwd_ip_octets: 1480,
        rev_ip_octets: 9_007_199_254_740_993,
        first_seen: at(1_750_000_000, 1).epoch_seconds(),
        last_seen: at(1_750_000_060, 500_000).epoch_seconds(),
        end_reason: EndReason::TcpFin.as_str(),
    };
    let expected = concat!(
        r#"{"type":"flow","src_addr":"192.0.2.1","src_port":40000,"dst_addr":"192.0.2.2","dst_port":443,"proto":6,"#,
        r#""fwd_packets":12,"rev_packets":9,"fwd_ip_octets":1480,"rev_ip_octets":9007199254740993,"#,
        r#""first_seen":1750000000.000001,"last_seen":1750000060.5,"end_reason":"tcp_fin"}"#,
    );
    assert_eq!(printed(&Line::Flow(flow)), expected);
}

#[test]
fn a_beacon_is_printed_with_its_rank() {
    let candidate = BeaconCandidate {
        client: "10.0.0.9".parse().unwrap(),
        server: "2001:db8::2".parse().unwrap(),
        port: 443,
        proto: 6,
        score: 0.987_65,
        connections: 48,
        interval_s: 60.000_4,
        jitter: 0.299_96,
        span_s: 2820.0,
        reported: true,
    };
    let expected = concat!(
        r#"{"type":"beacon","rank":1,"src_addr":"10.0.0.9","dst_addr":"2001:db8::2","dst_port":443,"proto":6,"#,
        r#""score":0.9877,"connections":48,"interval_s":60.0,"jitter":0.3,"span_s":2820.0,"reported":true}"#,
    );
    assert_eq!(printed(&Line::Beacon(BeaconLine::of(1, &candidate))), expected);
}

#[test]
fn a_summary_names_what_was_lost() {
    let summary = SummaryLine {
        packets: 1000,
        flows: 42,
        incidents: 1,
        lost: BTreeMap::from([("non_ip".to_owned(), 7), ("late".to_owned(), 0)]),
        duration_s: 3600.25,
    };
    let expected = concat!(
        r#"{"type":"summary","packets":1000,"flows":42,"incidents":1,"lost":{"late":0,"non_ip":7},"#,
        r#""duration_s":3600.25}"#,
    );
    assert_eq!(printed(&Line::Summary(summary)), expected);
}

#[test]
fn names_of_classes_severities_and_end_reasons_stay() {
    let classes = [
        "port_scan",
        "host_scan",
        "syn_flood",
        "connection_flood",
        "udp_flood",
        "icmp_flood",
        "amplification",
        "brute_force",
        "slow_dos",
        "beacon",
        "dns_tunnel",
        "icmp_tunnel",
        "exfiltration",
        "lateral_movement",
        "arp_spoof",
        "anomaly",
    ];
    assert_eq!(Class::ALL.map(Class::as_str), classes);
    assert_eq!(Severity::ALL.map(Severity::as_str), ["low", "medium", "high", "critical"]);
    let reasons = ["idle_timeout", "active_timeout", "tcp_fin", "tcp_rst", "forced_end"];
    assert_eq!(EndReason::ALL.map(EndReason::as_str), reasons);
}

#[test]
fn a_score_has_four_decimals_between_zero_and_one() {
    for (score, text) in [
        (0.0, "0.0"),
        (0.000_04, "0.0"),
        (0.000_05, "0.0001"),
        (0.123_44, "0.1234"),
        (0.5, "0.5"),
        (2.0 / 3.0, "0.6667"),
        (0.999_96, "1.0"),
        (7.0, "1.0"),
        (-0.5, "0.0"),
        (f64::INFINITY, "1.0"),
    ] {
        let line = printed_incident(Change::Opened, Incident { score, ..port_scan() }).unwrap();
        assert!(line.contains(&format!(r#""score":{text},"#)), "{score}: {line}");
    }
}

#[test]
fn times_keep_every_microsecond() {
    for (secs, micros, text) in [
        (1_750_000_000, 123_456, "1750000000.123456"),
        (1_750_000_000, 1, "1750000000.000001"),
        (1_750_000_000, 100_000, "1750000000.1"),
        (1_750_000_000, 0, "1750000000.0"),
        (0, 0, "0.0"),
        (4_102_444_799, 999_999, "4102444799.999999"),
    ] {
        let line = printed_incident(Change::Opened, Incident { first_seen: at(secs, micros), ..port_scan() }).unwrap();
        assert!(line.contains(&format!(r#""first_seen":{text},"#)), "{text}: {line}");
    }
}
