//! Detectors that remember for hours keep to their bounds.

#[path = "support/network.rs"]
mod network;

use std::net::IpAddr;

use network::served;
use sensor_core::detect::{
    BruteForce, BruteForceParams, Detector, Finding, Reflector, ReflectorParams, Scan, ScanParams,
};
use sensor_core::flow::{FlowEvent, Outcome, Side};
use sensor_core::roles::Roles;
use sensor_core::time::Timestamp;
use sensor_ebpf::packet::proto;

fn event(n: u32, outcome: Outcome) -> FlowEvent {
    let end = |bits: u32, port| (IpAddr::from(bits.to_be_bytes()), port);
    let at = Timestamp::from_nanos((1_700_000_000 << 30) + u64::from(n) * 1_000_000);
    FlowEvent {
        before: outcome,
        outcome,
        sent_octets: 500,
        received_octets: 500,
        sent_packets: 5,
        received_packets: 5,
        first_speaker: Some(Side::Server),
        closing: true,
        closing_is_new: true,
        ..served(proto::TCP, end(0xcb00_0000 + n, 40_000), end(0x0a00_0000 + n * 7, 22), at)
    }
}

/// What is said of as many hosts as it takes to fill every table many times over.
fn found(detector: &mut dyn Detector, change: impl Fn(&mut FlowEvent)) -> Vec<Finding> {
    let mut findings = Vec::new();
    for n in 0..100_000 {
        let outcome = if n % 3 == 0 { Outcome::Served } else { Outcome::Unanswered };
        let mut event = event(n, outcome);
        change(&mut event);
        detector.observe(&event);
        if n % 1000 == 999 {
            findings.extend(detector.tick(event.last_seen, &Roles::default()));
        }
    }
    findings
}

#[test]
fn one_event_each_of_a_hundred_thousand_hosts_is_nothing() {
    assert_eq!(found(&mut Scan::new(ScanParams::default()), |_| {}), []);
    assert_eq!(found(&mut BruteForce::new(BruteForceParams::default()), |event| event.outcome = Outcome::Served), []);
    let as_datagram = |event: &mut FlowEvent| {
        event.proto = proto::UDP;
        event.server.port = 53;
        event.outcome = Outcome::Served;
    };
    assert_eq!(found(&mut Reflector::new(ReflectorParams::default()), as_datagram), []);
}
