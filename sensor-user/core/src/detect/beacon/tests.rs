//! What is remembered, and how much of it.

use super::*;
use crate::flow::Endpoint;

fn call(client: u32, server: u32, port: u16, at_s: u64) -> FlowEvent {
    let addr = |bits: u32| IpAddr::V4(bits.into()).into();
    let at = Timestamp::from_secs(1_700_000_000 + at_s);
    FlowEvent {
        client: Endpoint { addr: addr(client), port: u16::try_from(20_000 + at_s % 40_000).unwrap_or(1) },
        server: Endpoint { addr: addr(server), port },
        ..FlowEvent::example(at)
    }
}

const CLIENT: u32 = 0x0a00_0001;
const SERVER: u32 = 0xc633_6407;

#[test]
fn memory_is_bounded_and_what_called_often_stays() {
    let params = BeaconParams { pairs: 512, remembered: 4096, ..BeaconParams::default() };
    let mut beacon = Beacon::new(params);
    for n in 0..20 {
        beacon.observe(&call(CLIENT, SERVER, 443, 60 * n));
    }
    for n in 0..10_000 {
        beacon.observe(&call(CLIENT + n, 0x0100_0000 + (n << 8), 80, 1200));
        let (pairs, calls) = beacon.pairs.len();
        assert!(pairs <= params.pairs && calls <= params.remembered);
    }
    let found = beacon.candidates(&Roles::default());
    assert_eq!((found.len(), found[0].connections, found[0].port), (1, 20, 443));
    for n in 0..20_000_u32 {
        beacon.observe(&call(CLIENT, SERVER + ((n % 64) << 8), 443, u64::from(n)));
        assert!(beacon.pairs.len().1 <= params.remembered);
    }
}

#[test]
fn what_was_remembered_goes_on_after_a_restart() {
    let roles = Roles::default();
    let mut first = Beacon::new(BeaconParams::default());
    for n in 0..15 {
        first.observe(&call(CLIENT, SERVER + n % 2, 443, 60 * u64::from(n)));
        assert!(first.tick(Timestamp::from_secs(1_700_000_000 + 60 * u64::from(n) + 1), &roles).is_empty());
    }
    let bytes = first.state().to_bytes().unwrap();
    let state = BeaconState::from_bytes(&bytes).unwrap();
    let mut second = Beacon::new(BeaconParams::default());
    second.resume(&state);
    assert_eq!(second.state(), first.state());
    assert_eq!(second.candidates(&roles), first.candidates(&roles));
    let mut findings = Vec::new();
    for n in 15..30 {
        second.observe(&call(CLIENT, SERVER + n % 2, 443, 60 * u64::from(n)));
        findings.extend(second.tick(Timestamp::from_secs(1_700_000_000 + 60 * u64::from(n) + 1), &roles));
    }
    assert_eq!(findings.first().map(|finding| finding.victims.len()), Some(2));
    assert_eq!(findings.first().map(|finding| finding.evidence["connections"].clone()), Some(json!(24)));
}

#[test]
fn a_damaged_or_foreign_state_is_refused() {
    let damaged = BeaconState::from_bytes(b"{").unwrap_err();
    assert_eq!(damaged.to_string(), "it is damaged");
    let newer = BeaconState::from_bytes(br#"{"version":9,"began_ns":null,"series":[]}"#).unwrap_err();
    assert_eq!(newer.to_string(), "it has version 9, and this sensor knows version 1");
}
