//! Reflected floods, from the victim's side and from the reflector's, and what only looks like them.
#![expect(clippy::cast_possible_truncation, reason = "numbers of made-up hosts and ports")]

#[path = "support/network.rs"]
mod network;

use network::{End, Network, host, network};
use sensor_core::incident::{Class, IncidentEvent};
use sensor_ebpf::packet::proto;

fn udp(net: &mut Network, from: End, to: End, payload: u32) {
    net.packet(proto::UDP, from, to, 0, payload);
}

fn quiet(net: &mut Network) {
    net.seconds(5);
    assert_eq!(net.opened(), Vec::<&IncidentEvent>::new());
}

#[test]
fn a_few_long_answers_a_second_that_nobody_asked_for_are_found_among_other_traffic() {
    let mut net = network();
    for n in 0..60_u32 {
        for last in 1..=6 {
            net.conversation((host(last), 30_000 + n as u16), (host(1000), 443), 300, 900);
            (0..5).for_each(|_| udp(&mut net, (host(2000 + n * 6 + last), 53), (host(1000), 22), 1400));
        }
        net.wait(500_000);
    }
    net.seconds(1);
    assert!(net.only().at.secs() <= network::START + 4, "{}", net.only().at);
    let incident = net.engine.open_incidents().next().unwrap();
    assert_eq!((incident.class, incident.victims.as_slice()), (Class::Amplification, &[host(1000)][..]));
    assert_eq!(incident.ports, [22]);
    assert!(incident.attackers.len() >= 50 && incident.attackers.iter().all(|addr| *addr >= host(2000)));
}

#[test]
fn every_reflector_is_listed_however_much_one_sends() {
    let mut net = network();
    for n in 0..20_u32 {
        let packets = if n == 0 { 2000 } else { 10 };
        (0..packets).for_each(|_| udp(&mut net, (host(2000 + n), 123), (host(1), 80), 468));
    }
    net.seconds(3);
    assert_eq!(net.only().incident.attackers.len(), 20);
}

#[test]
fn long_answers_to_a_resolver_whose_questions_are_not_seen_are_none() {
    let mut net = network();
    for n in 0..3000_u32 {
        let port = 1024 + (n * 7919 % 60_000) as u16;
        udp(&mut net, (host(2000 + n % 300), 53), (host(1), port), 1200);
        net.wait(10_000);
    }
    quiet(&mut net);
}

#[test]
fn a_stream_from_one_server_is_no_amplification() {
    let mut net = network();
    for _ in 0..5000 {
        udp(&mut net, (host(9), 3478), (host(1), 50_000), 1200);
        net.wait(5_000);
    }
    quiet(&mut net);
}

#[test]
fn a_service_that_is_asked_in_the_name_of_others_is_a_reflector() {
    for (service, question, answers) in [(53, 64, 3), (123, 8, 10), (389, 52, 2), (11_211, 15, 100)] {
        let mut net = network();
        for n in 0..2000_u32 {
            let victim = (host(9), 1024 + (n * 7919 % 60_000) as u16);
            udp(&mut net, victim, (host(1), service), question);
            (0..answers).for_each(|_| udp(&mut net, (host(1), service), victim, 1400));
            net.wait(2_000);
        }
        net.seconds(1);
        let incident = &net.only().incident;
        assert_eq!((incident.class, incident.ports.as_slice()), (Class::Amplification, &[service][..]));
        assert_eq!((incident.attackers.as_slice(), incident.victims.as_slice()), (&[host(1)][..], &[host(9)][..]));
        assert!(incident.summary.starts_with("10.0.0.1 gives "), "{}", incident.summary);
    }
}

#[test]
fn a_busy_resolver_and_a_poller_are_no_reflectors() {
    let mut net = network();
    for n in 0..20_000_u32 {
        let client = (host(9), 1024 + (n * 7919 % 60_000) as u16);
        udp(&mut net, client, (host(1), 53), 30 + n * n % 37);
        udp(&mut net, (host(1), 53), client, 100 + n * n % 1300);
        let poller = (host(8), 40_000);
        udp(&mut net, poller, (host(100 + n % 50), 161), 50 + n % 23);
        udp(&mut net, (host(100 + n % 50), 161), poller, 1300);
        net.wait(1_000);
    }
    quiet(&mut net);
}

#[test]
fn a_tunnel_that_takes_another_port_each_way_is_no_flood() {
    let mut net = network();
    for n in 0..40_000_u32 {
        let port = 49_152 + (n * 7919 % 400) as u16;
        udp(&mut net, (host(1), port), (host(2), 4789), 1300);
        udp(&mut net, (host(2), port ^ 1), (host(1), 4789), 100);
        net.wait(200);
    }
    quiet(&mut net);
}

#[test]
fn one_sided_streams_and_downloads_are_no_floods() {
    let mut net = network();
    for n in 0..60_000_u32 {
        // A camera and a log that nobody answers, and a download over QUIC.
        udp(&mut net, (host(1), 40_000), (host(2), 5004), 1300);
        if n % 2 == 0 {
            udp(&mut net, (host(30 + n % 40), 514), (host(3), 514), 300);
        }
        udp(&mut net, (host(5), 443), (host(6), 50_000), 1200);
        if n % 10 == 0 {
            udp(&mut net, (host(6), 50_000), (host(5), 443), 40);
        }
        net.wait(500);
    }
    quiet(&mut net);
}
