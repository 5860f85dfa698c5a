//! Connections that are held open and hardly used, and those that are quiet for good reasons.

#[path = "support/network.rs"]
mod network;

use network::{ACK, End, Network, PSH, START, host, network, served};
use sensor_core::detect::{Detector as _, SlowDos, SlowDosParams};
use sensor_core::incident::{Class, IncidentEvent, Severity};
use sensor_core::roles::Roles;
use sensor_core::time::Timestamp;
use sensor_ebpf::packet::proto;

const WEB: u16 = 80;

fn server() -> End {
    (host(1), WEB)
}

/// The `n`-th connection, of one of `sources` hosts.
fn client(n: u16, sources: u32) -> End {
    (host(900 + u32::from(n) % sources), 20_000 + n)
}

fn open(net: &mut Network, clients: &[End], request: u32) {
    for &client in clients {
        net.handshake(client, server());
        if request > 0 {
            net.tcp(client, server(), PSH | ACK, request);
            net.tcp(server(), client, ACK, 0);
        }
        net.wait(10_000);
    }
}

fn trickle(net: &mut Network, clients: &[End], rounds: u64, interval: u64, octets: u32) {
    for _ in 0..rounds {
        net.seconds(interval);
        for &client in clients {
            net.tcp(client, server(), PSH | ACK, octets);
            net.tcp(server(), client, ACK, 0);
        }
    }
    net.seconds(1);
}

fn visit(net: &mut Network) {
    net.conversation((host(77), 5000), server(), 300, 4000);
}

fn slow(net: &Network) -> Vec<&IncidentEvent> {
    net.opened().into_iter().filter(|event| event.incident.class == Class::SlowDos).collect()
}

#[test]
fn requests_that_never_end_are_found_after_the_second_line() {
    let mut net = network();
    let clients: Vec<End> = (0..200).map(|n| client(n, 1)).collect();
    open(&mut net, &clients, 230);
    trickle(&mut net, &clients, 1, 10, 20);
    let found = slow(&net);
    assert_eq!(found.len(), 1, "{:#?}", net.opened());
    let incident = &found[0].incident;
    assert_eq!((incident.attackers.as_slice(), incident.victims.as_slice()), (&[host(900)][..], &[host(1)][..]));
    assert_eq!((incident.ports.as_slice(), incident.severity), (&[WEB][..], Severity::High));
    assert_eq!(incident.evidence["held_connections"], 200);
    assert_eq!(incident.evidence["kind"], "slow_request");
    assert!(found[0].at <= Timestamp::from_secs(START + 15), "{}", found[0].at);
}

#[test]
fn a_tick_may_fall_into_the_handshake() {
    let mut net = network();
    let clients: Vec<End> = (0..200).map(|n| client(n, 1)).collect();
    net.wait(990_000);
    for &client in &clients {
        net.tcp(client, server(), network::SYN, 0);
    }
    net.wait(20_000);
    for &client in &clients {
        net.tcp(server(), client, network::SYN | ACK, 0);
        net.tcp(client, server(), ACK, 0);
        net.tcp(client, server(), PSH | ACK, 200);
        net.tcp(server(), client, ACK, 0);
    }
    trickle(&mut net, &clients, 1, 10, 20);
    assert_eq!(slow(&net).len(), 1);
}

#[test]
fn a_slow_body_of_many_sources_is_found_at_a_service_that_answers_others() {
    let mut net = network();
    visit(&mut net);
    let clients: Vec<End> = (0..120).map(|n| client(n, 120)).collect();
    open(&mut net, &clients, 400);
    trickle(&mut net, &clients, 20, 1, 1);
    let incident = &slow(&net)[0].incident;
    assert_eq!(incident.evidence["distinct_sources"], 120);
    assert_eq!(incident.attackers.len(), 64);
}

#[test]
fn where_only_clients_are_seen_what_they_acknowledge_tells_who_is_answered() {
    for answered in [false, true] {
        let mut net = network();
        let clients: Vec<End> = (0..150).map(|n| client(n, 1)).collect();
        for round in 0..3 {
            for &client in &clients {
                if round == 0 {
                    net.tcp(client, server(), network::SYN, 0);
                    net.tcp(client, server(), ACK, 0);
                }
                net.tcp(client, server(), PSH | ACK, 30);
                if answered {
                    net.tcp(client, server(), ACK, 0);
                }
            }
            net.seconds(5);
        }
        assert_eq!(slow(&net).len(), usize::from(!answered));
    }
}

#[test]
fn answers_that_are_not_taken_are_a_slow_read() {
    let mut net = network();
    let clients: Vec<End> = (0..100).map(|n| client(n, 2)).collect();
    open(&mut net, &clients, 300);
    for &client in &clients {
        net.tcp(server(), client, PSH | ACK, 1200);
    }
    for _ in 0..8 {
        for &client in &clients {
            net.tcp(server(), client, ACK, 1);
            net.zero_window(client, server());
        }
        net.seconds(1);
    }
    let incident = &slow(&net)[0].incident;
    assert_eq!(incident.evidence["kind"], "slow_read");
    assert_eq!(incident.attackers, [host(900), host(901)]);
}

#[test]
fn connections_that_ask_nothing_are_found_when_they_are_many() {
    for (count, found) in [(60, 0), (400, 1)] {
        let mut net = network();
        visit(&mut net);
        let clients: Vec<End> = (0..count).map(|n| client(n, 1)).collect();
        open(&mut net, &clients, 0);
        net.seconds(20);
        assert_eq!(slow(&net).len(), found, "{count} connections");
    }
}

#[test]
fn connections_that_were_answered_may_stay_quiet() {
    let mut net = network();
    let clients: Vec<End> = (0..300).map(|n| client(n, 100)).collect();
    open(&mut net, &clients, 230);
    for &client in &clients {
        net.tcp(server(), client, PSH | ACK, 150);
    }
    trickle(&mut net, &clients, 5, 10, 6);
    assert_eq!(slow(&net), Vec::<&IncidentEvent>::new());
}

#[test]
fn a_server_that_takes_its_time_is_no_attack() {
    let mut net = network();
    visit(&mut net);
    let clients: Vec<End> = (0..300).map(|n| client(n, 300)).collect();
    open(&mut net, &clients, 700);
    net.seconds(40);
    assert_eq!(slow(&net), Vec::<&IncidentEvent>::new());
}

#[test]
fn a_broker_and_its_clients_may_be_brief() {
    let mut net = network();
    let clients: Vec<End> = (0..300).map(|n| client(n, 300)).collect();
    open(&mut net, &clients, 40);
    for _ in 0..10 {
        for &client in &clients {
            net.tcp(client, server(), PSH | ACK, 2);
            net.tcp(server(), client, PSH | ACK, 2);
        }
        net.seconds(20);
    }
    assert_eq!(slow(&net), Vec::<&IncidentEvent>::new());
}

#[test]
fn probes_of_quiet_connections_are_no_attack() {
    let mut net = network();
    visit(&mut net);
    let clients: Vec<End> = (0..300).map(|n| client(n, 3)).collect();
    // Half of them wait for an answer, and of the others the beginning was not seen.
    open(&mut net, &clients[..150], 300);
    for _ in 0..20 {
        for &client in &clients {
            net.tcp(client, server(), ACK, 0);
            net.tcp(server(), client, ACK, 0);
        }
        net.seconds(15);
    }
    assert_eq!(slow(&net), Vec::<&IncidentEvent>::new());
}

#[test]
fn a_few_slow_clients_are_no_attack() {
    let mut net = network();
    visit(&mut net);
    let clients: Vec<End> = (0..10).map(|n| client(n, 10)).collect();
    open(&mut net, &clients, 230);
    trickle(&mut net, &clients, 10, 5, 20);
    assert_eq!(slow(&net), Vec::<&IncidentEvent>::new());
}

#[test]
fn logs_of_many_hosts_over_tcp_are_no_attack() {
    let mut net = network();
    let clients: Vec<End> = (0..300).map(|n| client(n, 300)).collect();
    open(&mut net, &clients, 120);
    trickle(&mut net, &clients, 10, 7, 90);
    assert_eq!(slow(&net), Vec::<&IncidentEvent>::new());
}

#[test]
fn an_upload_that_is_not_answered_yet_is_no_attack() {
    let mut net = network();
    visit(&mut net);
    let clients: Vec<End> = (0..100).map(|n| client(n, 20)).collect();
    open(&mut net, &clients, 1400);
    trickle(&mut net, &clients, 10, 1, 1400);
    assert_eq!(slow(&net), Vec::<&IncidentEvent>::new());
}

#[test]
fn connections_that_are_over_do_not_count() {
    let mut net = network();
    visit(&mut net);
    for n in 0..300 {
        let client = client(n, 10);
        open(&mut net, &[client], 230);
        trickle(&mut net, &[client], 1, 4, 20);
        net.goodbye(client, server());
    }
    assert_eq!(slow(&net), Vec::<&IncidentEvent>::new());
}

#[test]
fn no_more_connections_and_services_are_followed_than_said() {
    let mut detector = SlowDos::new(SlowDosParams { connections: 100, services: 10, ..SlowDosParams::default() });
    let now = Timestamp::from_secs(START);
    for n in 0..10_000_u32 {
        detector.observe(&served(proto::TCP, (host(n), 4000), (host(1), (n % 1000) as u16), now));
    }
    assert_eq!((detector.connections(), detector.services()), (100, 10));
    detector.tick(Timestamp::from_secs(START + 4000), &Roles::default());
    assert_eq!((detector.connections(), detector.services()), (0, 0));
    assert!(detector.is_idle());
}
