//! Scans that take hours, and what fails as slowly without being one.
#![expect(clippy::cast_possible_truncation, reason = "numbers of made-up hosts and ports")]

#[path = "support/network.rs"]
mod network;

use network::{ACK, RST, SYN, host, network};
use sensor_core::incident::{Class, IncidentEvent};

#[test]
fn a_port_every_fifteen_seconds_is_a_port_scan() {
    let mut net = network();
    for port in 1..=120 {
        net.tcp((host(9), 40_000), (host(1), port), SYN, 0);
        if port % 3 == 0 {
            net.tcp((host(1), port), (host(9), 40_000), RST | ACK, 0);
        }
        net.seconds(15);
    }
    let incident = &net.only().incident;
    assert_eq!((incident.class, incident.attackers.as_slice()), (Class::PortScan, &[host(9)][..]));
}

#[test]
fn a_port_every_five_minutes_is_told_of_within_three_hours_and_not_each_time() {
    let mut net = network();
    for port in 1..=60 {
        net.tcp((host(9), 40_000), (host(1), port), SYN, 0);
        net.seconds(300);
    }
    let opened = net.opened();
    assert!((1..=3).contains(&opened.len()), "{opened:#?}");
    assert!(opened[0].at.secs() < network::START + 3 * 3600);
}

#[test]
fn a_host_every_minute_is_a_host_scan() {
    let mut net = network();
    for last in 1..=50 {
        net.tcp((host(900), 40_000 + last as u16), (host(last), 445), SYN, 0);
        net.seconds(60);
    }
    let incident = &net.opened()[0].incident;
    assert_eq!((incident.class, incident.ports.as_slice()), (Class::HostScan, &[445][..]));
}

#[test]
fn a_client_whose_servers_are_down_is_no_scanner() {
    let mut net = network();
    for n in 0..2000_u32 {
        net.tcp((host(9), 20_000 + n as u16), (host(1 + n % 4), [80, 443, 445, 8080][n as usize / 4 % 4]), SYN, 0);
        net.seconds(10);
    }
    assert_eq!(net.opened(), Vec::<&IncidentEvent>::new());
}

#[test]
fn a_monitor_that_finds_some_hosts_dead_is_no_scanner() {
    let mut net = network();
    for n in 0..3000_u32 {
        let (client, server) = ((host(9), 20_000 + n as u16), (host(100 + n % 60), 443));
        if n % 60 < 15 {
            net.tcp(client, server, SYN, 0);
        } else {
            net.conversation(client, server, 100, 100);
        }
        net.seconds(5);
    }
    assert_eq!(net.opened(), Vec::<&IncidentEvent>::new());
}

#[test]
fn late_packets_to_clients_that_have_gone_are_no_scan() {
    let mut net = network();
    for n in 0..300_u32 {
        net.tcp((host(1), 8080), (host(9), 33_000 + (n * 17 % 30_000) as u16), ACK, 0);
        net.seconds(20);
    }
    assert_eq!(net.opened(), Vec::<&IncidentEvent>::new());
}
