//! Password guessing of several kinds, and what only looks like it.
#![expect(clippy::cast_possible_truncation, reason = "numbers of made-up ports")]

#[path = "support/network.rs"]
mod network;

use std::net::IpAddr;

use network::{ACK, End, Network, PSH, host, network};
use sensor_core::incident::{Class, IncidentEvent, Severity};

/// A conversation at a service that greets first, of so many seconds.
fn session(net: &mut Network, client: End, server: End, (sent, received, seconds): (u32, u32, u64)) {
    net.handshake(client, server);
    net.tcp(server, client, PSH | ACK, 40);
    net.tcp(client, server, PSH | ACK, sent);
    net.seconds(seconds);
    net.tcp(server, client, PSH | ACK, received);
    net.goodbye(client, server);
}

fn quiet(net: &mut Network) {
    net.seconds(5);
    assert_eq!(net.opened(), Vec::<&IncidentEvent>::new());
}

/// Spacing without order.
fn uneven(n: u32) -> u64 {
    u64::from(n * n * 7 % 41)
}

#[test]
fn a_log_in_that_succeeds_after_guesses_is_critical() {
    let mut net = network();
    for n in 0..10 {
        session(&mut net, (host(9), 40_000 + n), (host(1), 22), (1200, 1500, 2));
    }
    assert_eq!(net.only().incident.severity, Severity::High);
    let client = (host(9), 41_000);
    net.handshake(client, (host(1), 22));
    net.tcp((host(1), 22), client, PSH | ACK, 40);
    for _ in 0..20 {
        net.tcp(client, (host(1), 22), PSH | ACK, 200);
        net.tcp((host(1), 22), client, PSH | ACK, 600);
        net.seconds(1);
    }
    let incident = net.engine.open_incidents().next().unwrap();
    assert_eq!((incident.class, incident.severity), (Class::BruteForce, Severity::Critical));
    assert_eq!(incident.evidence["login_succeeded"], serde_json::json!(true));
}

#[test]
fn a_guess_a_minute_for_an_hour_is_found_once() {
    let mut net = network();
    for n in 0..90 {
        session(&mut net, (host(9), 40_000 + n as u16), (host(1), 22), (1200 + n % 5, 1500, 2));
        net.seconds(20 + uneven(n));
    }
    let opened = net.opened();
    assert!((1..=2).contains(&opened.len()), "{opened:#?}");
    assert_eq!((opened[0].incident.class, opened[0].incident.ports.as_slice()), (Class::BruteForce, &[22][..]));
}

#[test]
fn guesses_from_many_hosts_outside_are_one_attack_on_the_victim() {
    let mut net = network();
    for n in 0..60_u32 {
        let client = IpAddr::from([203, 0, 113, (n % 20) as u8]);
        session(&mut net, (client, 40_000 + n as u16), (host(1), 22), (1200, 1500, 2));
        net.seconds(5);
    }
    let incident = &net.only().incident;
    assert_eq!((incident.class, incident.victims.as_slice()), (Class::BruteForce, &[host(1)][..]));
    assert!(incident.attackers.len() >= 10, "{:?}", incident.attackers);
}

#[test]
fn hundreds_of_alike_requests_to_what_the_mapper_names_are_guesses() {
    let mut net = network();
    for n in 0..200 {
        net.conversation((host(9), 40_000 + n), (host(1), 135), 150, 120);
        net.conversation((host(9), 50_000 + n), (host(1), 49_668), 300, 90);
        net.wait(20_000);
    }
    net.seconds(2);
    let incident = &net.only().incident;
    assert_eq!((incident.class, incident.ports.as_slice()), (Class::BruteForce, &[135, 49_668][..]));
}

#[test]
fn a_monitor_that_asks_the_mapper_now_and_then_is_none() {
    let mut net = network();
    for n in 0..300 {
        net.conversation((host(9), 40_000 + n), (host(1), 135), 150, 120);
        net.conversation((host(9), 50_000 + n), (host(1), 49_668), 300, 90);
        net.seconds(2);
    }
    quiet(&mut net);
}

#[test]
fn web_clients_at_any_rate_guess_nothing() {
    let mut net = network();
    for n in 0..2000 {
        net.conversation((host(9), 20_000 + n), (host(1), if n % 2 == 0 { 443 } else { 8080 }), 300, 900);
        net.wait(10_000);
    }
    quiet(&mut net);
}

#[test]
fn a_mail_client_that_polls_each_minute_guesses_nothing() {
    for port in [110, 143] {
        let mut net = network();
        for n in 0..180 {
            session(&mut net, (host(9), 40_000 + n), (host(1), port), (120, 200, 0));
            net.seconds(60);
        }
        quiet(&mut net);
    }
}

#[test]
fn a_health_check_every_few_seconds_guesses_nothing() {
    for (port, seconds) in [(22, 2), (25, 5), (3306, 2), (21, 60)] {
        let mut net = network();
        for n in 0..400 {
            session(&mut net, (host(9), 20_000 + n), (host(1), port), (10, 10, 0));
            net.seconds(seconds);
        }
        quiet(&mut net);
    }
}

#[test]
fn a_build_server_that_works_over_ssh_guesses_nothing() {
    let mut net = network();
    for n in 0..200_u32 {
        let work = if n % 8 == 0 { 60_000 } else { 1500 };
        session(&mut net, (host(9), 20_000 + n as u16), (host(1), 22), (1200, work.min(1400), 1));
        if work > 1500 {
            let client = (host(9), 30_000 + n as u16);
            net.handshake(client, (host(1), 22));
            for _ in 0..40 {
                net.tcp((host(1), 22), client, PSH | ACK, 1400);
                net.tcp(client, (host(1), 22), PSH | ACK, 200);
            }
            net.goodbye(client, (host(1), 22));
        }
        net.seconds(20 + uneven(n));
    }
    quiet(&mut net);
}

#[test]
fn many_users_of_one_server_guess_nothing() {
    let mut net = network();
    for n in 0..300_u32 {
        let client = IpAddr::from([203, 0, 113, (n % 40) as u8]);
        session(
            &mut net,
            (client, 20_000 + n as u16),
            (host(1), 22),
            (800 + n * n % 13 * 300, 500 + n * 7 % 11 * 400, 1),
        );
        net.seconds(3);
    }
    quiet(&mut net);
}
