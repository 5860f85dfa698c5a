//! What an ICMP error about a request says of its fate.
#![expect(clippy::unwrap_used, reason = "what a test relies on and does not hold fails the test")]

#[path = "support/network.rs"]
mod network;

use std::net::IpAddr;

use network::{Network, START, host, network};
use sensor_core::flow::{FlowView, Outcome};
use sensor_core::incident::{Class, Incident};
use sensor_core::time::Timestamp;
use sensor_ebpf::abi::{Direction, FlowKey, FlowSlot};
use sensor_ebpf::packet::proto;
use serde_json::json;

const PORT_UNREACHABLE: u16 = 3 << 8 | 3;
const PORTS: u16 = 40;

fn key(protocol: u8, from: (IpAddr, u16), to: (IpAddr, u16)) -> FlowKey {
    FlowKey::canonical(from.0.into(), from.1, to.0.into(), to.1, protocol).0
}

fn probe(net: &mut Network) {
    (1..=PORTS).for_each(|port| net.packet(proto::UDP, (host(9), 40_000), (host(1), port), 0, 8));
}

fn refuse(net: &mut Network) {
    for port in 1..=PORTS {
        net.slots.observe_icmp_error(&key(proto::UDP, (host(9), 40_000), (host(1), port)), PORT_UNREACHABLE);
    }
}

fn scan(net: &Network) -> &Incident {
    net.engine.open_incidents().find(|incident| incident.class == Class::PortScan).unwrap()
}

#[test]
fn closed_ports_tell_of_a_scan_at_the_first_tick() {
    let mut net = network();
    probe(&mut net);
    refuse(&mut net);
    net.seconds(1);
    assert_eq!(net.only().at, Timestamp::from_secs(START + 1));
    assert_eq!(scan(&net).evidence["refused"], json!(PORTS));
    assert_eq!(scan(&net).evidence["unanswered"], json!(0));
}

#[test]
fn a_late_error_is_not_another_failure() {
    let mut net = network();
    probe(&mut net);
    net.seconds(3);
    assert_eq!(scan(&net).evidence["unanswered"], json!(PORTS));
    refuse(&mut net);
    // The flows are idle, their final counters are read, and the incident is over.
    net.seconds(120);
    assert_eq!(net.engine.live_flows(), 0);
    assert_eq!(net.only().incident.evidence["failed_contacts"], json!(PORTS));
    assert_eq!(net.engine.open_incidents().len(), 0);
}

/// A request, what was answered, and the latest ICMP error about it.
fn outcome(protocol: u8, server: &str, answered: bool, error: u16) -> Outcome {
    let client = if server.contains(':') { "2001:db8::9" } else { "192.0.2.9" };
    let end = |addr: &str, port: u16| -> (IpAddr, u16) { (addr.parse().unwrap(), port) };
    let (client, server) = (end(client, 40_000), end(server, 53));
    let way = FlowKey::canonical(client.0.into(), client.1, server.0.into(), server.1, protocol).1;
    let mut slot = FlowSlot { key: key(protocol, client, server), initiator: way as u8, ..FlowSlot::default() };
    slot.half[way.index()].packets = 1;
    slot.half[way.reverse().index()].packets = u64::from(answered);
    if protocol == proto::TCP {
        slot.rare[way.index()].syn = 1;
        slot.rare[way.index()].no_ack = 1;
        slot.rare[way.reverse().index()].syn = u32::from(answered);
    }
    slot.first_payload = u8::from(answered) * (1 + Direction::LoToHi as u8);
    slot.observe_icmp_error(error);
    FlowView::new(&slot).outcome(true)
}

#[test]
fn only_what_cannot_be_reached_is_refused() {
    const V4: &str = "192.0.2.1";
    const V6: &str = "2001:db8::1";
    for (protocol, server, answered, error, expected) in [
        (proto::UDP, V4, false, PORT_UNREACHABLE, Outcome::Refused),
        (proto::UDP, V4, false, 3 << 8 | 1, Outcome::Refused),
        (proto::UDP, V4, true, PORT_UNREACHABLE, Outcome::Served),
        (proto::UDP, V4, false, 3 << 8 | 4, Outcome::Unanswered),
        (proto::UDP, V4, false, 11 << 8, Outcome::Unanswered),
        (proto::UDP, V6, false, 1 << 8 | 4, Outcome::Refused),
        (proto::UDP, V6, false, 3 << 8, Outcome::Unanswered),
        (proto::UDP, V6, false, 2 << 8, Outcome::Unanswered),
        (proto::TCP, V4, false, 3 << 8 | 13, Outcome::Refused),
        (proto::TCP, V4, true, 3 << 8 | 13, Outcome::Served),
        (proto::TCP, V6, false, 1 << 8 | 1, Outcome::Refused),
        (proto::SCTP, V4, false, 3 << 8 | 2, Outcome::Refused),
    ] {
        assert_eq!(outcome(protocol, server, answered, error), expected, "{protocol} {server} {answered} {error:#x}");
    }
}
