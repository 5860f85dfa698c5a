//! Who calls home, on made-up traffic: what is found, how soon, and what stays quiet.
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "made-up gaps and sizes are small")]

#[path = "support/network.rs"]
mod network;

use std::net::IpAddr;

use network::{ACK, End, Network, PSH, host, network};
use sensor_core::incident::{Change, Class};
use sensor_ebpf::packet::proto;

const HTTPS: u16 = 443;

fn outside(last: u8) -> IpAddr {
    IpAddr::from([198, 51, 100, last])
}

/// Numbers in [0, 1) that are nobody's pattern.
fn draws(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1_u64 << 53) as f64
    }
}

fn wait(network: &mut Network, seconds: f64) {
    network.wait((seconds * 1e6) as u64);
}

/// Calls of a client to one server, each from its own port.
fn calls(network: &mut Network, client: IpAddr, server: End, gaps: impl Iterator<Item = f64>) {
    for (port, gap) in (20_000..60_000).cycle().zip(gaps) {
        network.conversation((client, port), server, 300, 900);
        wait(network, gap);
    }
}

fn beacons(network: &Network) -> usize {
    network.opened().iter().filter(|event| event.incident.class == Class::Beacon).count()
}

#[test]
fn sleeps_with_and_without_jitter_are_found() {
    for (interval, jitter, count) in [(2.0, 0.0, 60), (60.0, 0.3, 60), (300.0, 0.2, 60), (60.0, 0.5, 80)] {
        let mut network = network();
        let mut draw = draws(7);
        let gaps = (0..count).map(|_| interval * (1.0 + jitter * (2.0 * draw() - 1.0)));
        calls(&mut network, host(5), (outside(7), HTTPS), gaps);
        let event = network.only();
        let incident = &event.incident;
        assert_eq!(incident.class, Class::Beacon, "{interval} {jitter}");
        assert_eq!(incident.attackers, [host(5)]);
        assert_eq!(incident.victims, [outside(7)]);
        assert_eq!(incident.ports, [HTTPS]);
        let took = incident.detected_at.since(incident.first_seen).as_secs_f64();
        assert!(took < interval * 50.0, "{interval} {jitter}: {took}");
        let beacon = network.engine.beacons().remove(0);
        assert!((beacon.interval_s / interval - 1.0).abs() < 0.25 && beacon.reported, "{beacon:?}");
        assert!((beacon.jitter - jitter).abs() < 0.2, "{beacon:?}");
    }
}

#[test]
fn an_hourly_call_is_found_within_two_days_and_is_one_incident() {
    let mut network = network();
    let mut draw = draws(3);
    calls(&mut network, host(5), (outside(7), HTTPS), (0..48).map(|_| 3600.0 + 40.0 * draw()));
    assert_eq!(network.only().incident.class, Class::Beacon);
}

#[test]
fn a_service_behind_several_addresses_is_one() {
    let mut network = network();
    for port in 20_000..20_120_u16 {
        network.conversation((host(5), port), (outside(20 + (port % 2) as u8), HTTPS), 300, 900);
        network.seconds(2);
    }
    assert_eq!(network.only().incident.class, Class::Beacon);
    network.seconds(1200);
    let closed = network.events.iter().find(|event| event.change == Change::Closed).expect("it is over");
    assert_eq!(closed.incident.victims, [outside(20), outside(21)]);
}

#[test]
fn calls_in_vain_are_found_by_their_first_attempts() {
    let mut network = network();
    for port in 20_000..20_040_u16 {
        for pause in [3, 6, 14] {
            network.tcp((host(5), port), (outside(7), 1177), network::SYN, 0);
            network.seconds(pause);
        }
    }
    let beacon = network.engine.beacons().remove(0);
    assert!((beacon.interval_s - 23.0).abs() < 0.1 && beacon.reported, "{beacon:?}");
}

#[test]
fn people_are_no_beacon() {
    let mut network = network();
    let mut draw = draws(11);
    for visit in 0..400_u16 {
        let pictures = 1 + (draw() * 6.0) as u16;
        for picture in 0..pictures {
            let client = (host(5), 20_000 + visit * 8 + picture);
            network.conversation(client, (outside(7), HTTPS), 400, (draw() * 40_000.0) as u32);
        }
        let gap = 20.0 * (-(1.0 - draw()).ln()).powf(1.5);
        wait(&mut network, gap.min(1800.0));
    }
    assert_eq!(beacons(&network), 0);
    let score = network.engine.beacons()[0].score;
    assert!(score < 0.5, "{score}");
}

#[test]
fn monitoring_names_time_and_keep_alives_are_no_beacon() {
    let mut network = network();
    let chat = ((host(5), 40_000), (outside(9), HTTPS));
    network.handshake(chat.0, chat.1);
    for round in 0..120_u16 {
        // A scraper of our own servers, and somebody outside who checks on one.
        network.conversation((host(1), 20_000 + round), (host(2), 9100), 200, 8000);
        network.conversation((outside(77), 20_000 + round), (host(3), HTTPS), 200, 800);
        // A name, the time, a message that keeps a connection open.
        for (port, server) in [(20_000 + round, (outside(53), 53)), (123, (outside(123), 123))] {
            network.packet(proto::UDP, (host(5), port), server, 0, 40);
            network.packet(proto::UDP, server, (host(5), port), 0, 80);
        }
        network.tcp(chat.0, chat.1, PSH | ACK, 30);
        network.tcp(chat.1, chat.0, PSH | ACK, 30);
        network.seconds(15);
    }
    assert_eq!(beacons(&network), 0, "{:#?}", network.opened());
}

#[test]
fn a_popular_service_and_a_watched_server_outside_private_networks_are_no_beacon() {
    let mut network = network();
    for round in 0..60_u16 {
        // Update checks of all our hosts.
        for client in 1..20 {
            network.conversation((host(client), 20_000 + round), (outside(7), HTTPS), 300, 900);
        }
        // Our server has a public address: it serves many, and one of them checks on it.
        let ours = (IpAddr::from([203, 0, 113, 5]), HTTPS);
        let visitor = IpAddr::from([192, 0, (round % 50) as u8, 9]);
        network.conversation((visitor, 20_000 + round), ours, 400, 9000);
        network.conversation((IpAddr::from([192, 88, 99, 1]), 20_000 + round), ours, 200, 800);
        network.seconds(30);
    }
    assert_eq!(beacons(&network), 0, "{:#?}", network.opened());
}

#[test]
fn a_connection_held_until_the_next_is_no_beacon() {
    let mut network = network();
    for port in 20_000..20_060_u16 {
        let (client, server) = ((host(5), port), (outside(7), HTTPS));
        network.handshake(client, server);
        network.tcp(client, server, PSH | ACK, 300);
        network.seconds(58);
        network.tcp(server, client, PSH | ACK, 100);
        network.goodbye(client, server);
        network.seconds(2);
    }
    assert_eq!(beacons(&network), 0);
}
