//! The engine while the kernel's flow table is closed to strangers: floods are named, and nothing else is.
#![expect(clippy::cast_possible_truncation, clippy::unwrap_used, reason = "made-up hosts and ports; a test may panic")]

#[path = "support/network.rs"]
mod network;

use network::{ACK, Network, START, SYN, host, network};
use sensor_core::flow::AggregateId;
use sensor_core::incident::{Class, Incident, IncidentEvent};
use sensor_core::time::Timestamp;
use sensor_ebpf::packet::proto;
use serde_json::json;

/// The first `in_flows` of `packets` find room in the flow table.
fn flood(net: &mut Network, protocol: u8, packets: u32, in_flows: u32) {
    for n in 0..packets {
        let (source, victim) = ((host(100_000 + n), 1000 + n as u16), (host(1), 80));
        if n < in_flows {
            net.packet(protocol, source, victim, SYN, 0);
        } else {
            net.stray(protocol, source, victim, SYN, false);
        }
        net.wait(150);
    }
}

fn only(net: &Network, class: Class) -> &Incident {
    let event = net.only();
    assert_eq!((event.at, event.incident.class), (Timestamp::from_secs(START + 1), class), "{event:#?}");
    &event.incident
}

fn within(value: &serde_json::Value, expected: u64, percent: u64) {
    let value = value.as_u64().unwrap();
    assert!(value.abs_diff(expected) * 100 <= expected * percent, "{value}, expected {expected}");
}

#[test]
fn a_forged_syn_flood_half_in_flows_is_one_incident_at_the_first_tick() {
    for in_flows in [0, 900, 3_000, 6_000] {
        let mut net = network();
        flood(&mut net, proto::TCP, 6_000, in_flows);
        net.seconds(3);
        let incident = only(&net, Class::SynFlood);
        assert!(incident.attackers.is_empty() && incident.victims == [host(1)], "{incident:#?}");
        assert_eq!((incident.ports.as_slice(), &incident.evidence["spoofed"]), (&[80][..], &json!(true)));
        assert!(incident.summary.contains("probably forged"), "{}", incident.summary);
        let closed = net.engine.open_incidents().next().unwrap();
        within(&closed.evidence["distinct_sources"], 6_000, 15);
        let overflowed = closed.evidence.get("overflowed_packets").and_then(serde_json::Value::as_u64);
        assert_eq!(overflowed.unwrap_or(0), u64::from(6_000 - in_flows));
        assert_eq!(net.engine.overflowed_packets(), u64::from(6_000 - in_flows));
        assert_eq!(net.engine.accounted_packets(), u64::from(in_flows));
    }
}

#[test]
fn a_flood_of_datagrams_half_in_flows_is_one_incident_at_the_first_tick() {
    for in_flows in [0, 1_500, 6_000] {
        let mut net = network();
        flood(&mut net, proto::UDP, 6_000, in_flows);
        net.seconds(3);
        let incident = only(&net, Class::UdpFlood);
        assert!(incident.attackers.is_empty() && incident.victims == [host(1)], "{incident:#?}");
        assert_eq!(incident.ports, [80]);
    }
}

#[test]
fn sources_of_an_aggregate_are_not_counted_again_at_each_tick() {
    let mut net = network();
    for _ in 0..8 {
        for n in 0..2_000 {
            net.stray(proto::TCP, (host(100_000 + n), 1000), (host(1), 80), SYN, false);
            net.wait(500);
        }
    }
    let incident = net.engine.open_incidents().next().unwrap();
    within(&incident.evidence["distinct_sources"], 2_000, 15);
}

#[test]
fn a_few_hosts_that_flood_are_not_taken_for_forged() {
    let mut net = network();
    for n in 0..6_000_u32 {
        net.stray(proto::TCP, (host(200 + n % 10), n as u16), (host(1), 80), SYN, false);
        net.wait(150);
    }
    net.seconds(2);
    let incident = only(&net, Class::SynFlood);
    assert_eq!(incident.evidence["spoofed"], json!(false));
    assert!(incident.summary.ends_with("from 10 sources"), "{}", incident.summary);
}

#[test]
fn quiet_aggregates_are_nothing() {
    let mut net = network();
    for n in 0..3_000_u32 {
        net.stray(proto::TCP, (host(100_000 + n), 1000), (host(n % 100), 80), SYN, false);
        net.stray(proto::UDP, (host(100_000 + n), 1000), (host(n % 100), 53), 0, false);
        net.wait(300);
    }
    net.seconds(3);
    assert_eq!(net.opened(), Vec::<&IncidentEvent>::new());
}

#[test]
fn a_crowd_that_is_answered_is_no_flood() {
    let mut net = network();
    for n in 0..6_000_u32 {
        let (client, server) = ((host(100_000 + n), 1000 + n as u16), (host(1), 53));
        net.stray(proto::UDP, client, server, 0, false);
        net.stray(proto::UDP, server, client, 0, true);
        net.wait(150);
    }
    net.seconds(3);
    assert_eq!(net.opened(), Vec::<&IncidentEvent>::new(), "datagrams");

    let mut net = network();
    for n in 0..6_000_u32 {
        let (client, server) = ((host(100_000 + n), 1000 + n as u16), (host(1), 443));
        net.stray(proto::TCP, client, server, SYN, false);
        net.stray(proto::TCP, server, client, SYN | ACK, true);
        // The acknowledgement proves the client, and the flow begins with it.
        net.tcp(client, server, ACK, 0);
        net.tcp(client, server, ACK, 300);
        net.tcp(server, client, ACK, 3_000);
        net.wait(150);
    }
    net.seconds(3);
    assert_eq!(net.opened(), Vec::<&IncidentEvent>::new(), "connections");
}

#[test]
fn what_a_host_sends_is_no_flood_of_that_host() {
    let mut net = network();
    for n in 0..6_000_u32 {
        net.stray(proto::TCP, (host(1), n as u16), (host(100_000 + n), 445), SYN, true);
        net.stray(proto::UDP, (host(1), n as u16), (host(100_000 + n), 161), 0, true);
        net.stray(proto::UDP, (host(100_000 + n), 161), (host(1), n as u16), 0, false);
        net.wait(150);
    }
    net.seconds(3);
    assert_eq!(net.opened(), Vec::<&IncidentEvent>::new());
    assert_eq!(net.engine.overflowed_packets(), 18_000);
}

#[test]
fn the_aggregate_of_nobody_is_counted_and_accuses_nobody() {
    let mut net = network();
    let common = sensor_ebpf::abi::Aggregate {
        proto: proto::TCP,
        packets: [50_000, 0],
        requests: [50_000, 0],
        first_ns: net.now.nanos(),
        last_ns: net.now.nanos(),
        ..sensor_ebpf::abi::Aggregate::EMPTY
    };
    net.engine.observe_aggregate(AggregateId(0), &common, 0);
    net.seconds(3);
    assert_eq!(net.opened(), Vec::<&IncidentEvent>::new());
    assert_eq!(net.engine.overflowed_packets(), 50_000);
}

#[test]
fn incidents_carry_the_lowest_coverage_of_their_time() {
    let mut net = network();
    for coverage in [0.9, 0.512_37, 1.0] {
        net.engine.note_coverage(coverage);
        flood(&mut net, proto::TCP, 6_000, 0);
        net.seconds(1);
    }
    assert_eq!(net.only().incident.evidence["coverage"], json!(0.9));
    assert_eq!(net.engine.open_incidents().next().unwrap().evidence["coverage"], json!(0.5123));
}
