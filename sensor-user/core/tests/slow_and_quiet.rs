//! Exfiltration and lateral movement: what a host has never done before.
#![expect(clippy::cast_possible_truncation, reason = "numbers of made-up hosts and ports")]

#[path = "support/network.rs"]
mod network;

use std::net::IpAddr;

use network::{ACK, Network, PSH, host, network};
use sensor_core::engine::EngineConfig;
use sensor_core::incident::{Class, IncidentEvent};
use sensor_core::net::Network as Ours;

fn outside(last: u8) -> IpAddr {
    IpAddr::from([198, 51, 100, last])
}

/// Moves `octets` over an open connection, in packets as large as they can be.
fn push(net: &mut Network, from: (IpAddr, u16), to: (IpAddr, u16), octets: u32) {
    for _ in 0..octets.div_ceil(60_000) {
        net.tcp(from, to, PSH | ACK, 60_000);
    }
    net.tcp(to, from, ACK, 0);
}

/// Minutes of a host whose user reads web pages here and there.
fn browsing(net: &mut Network, minutes: u64, port: &mut u16) {
    let end = net.now.secs() + minutes * 60;
    while net.now.secs() < end {
        *port += 1;
        let chance = u64::from(*port).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        let site = IpAddr::from([198, 18, (chance % 40) as u8, 1]);
        let page = (chance % 60_000) as u32;
        net.conversation((host(5), *port), (site, 443), 400 + page / 20, 6000 + page);
        net.seconds(2 + chance % 17);
    }
}

#[test]
fn a_host_that_sends_a_hundred_times_what_it_ever_has_is_exfiltrating() {
    let mut net = network();
    let mut port = 20_000;
    browsing(&mut net, 5, &mut port);
    let (client, server) = ((host(5), 50_000), (outside(200), 443));
    net.handshake(client, server);
    for _ in 0..20 {
        push(&mut net, client, server, 3_000_000);
        net.seconds(1);
    }
    net.goodbye(client, server);
    browsing(&mut net, 1, &mut port);
    let incident = &net.only().incident;
    assert_eq!((incident.class, incident.ports.as_slice()), (Class::Exfiltration, &[443][..]));
    assert_eq!((incident.attackers.as_slice(), incident.victims.as_slice()), (&[host(5)][..], &[outside(200)][..]));
    assert!(incident.evidence["log10_p_value"].as_f64().unwrap() < -5.0);
    assert!(incident.summary.contains("usual"), "{}", incident.summary);
}

#[test]
fn a_public_host_is_watched_over_once_it_is_ours() {
    let ours = outside(9);
    for (local, found) in [(vec![Ours::new(ours, 32)], 1), (vec![], 0)] {
        let mut net = Network::new(EngineConfig { local, ..EngineConfig::default() });
        for n in 0..40_u16 {
            let site = IpAddr::from([198, 18, n as u8, 1]);
            net.conversation((ours, 20_000 + n), (site, 443), 400 + u32::from(n % 7) * 90, 6000);
            net.seconds(5 + u64::from(n * 7 % 11));
        }
        let (client, server) = ((ours, 50_000), (IpAddr::from([198, 19, 0, 1]), 443));
        net.handshake(client, server);
        for _ in 0..20 {
            push(&mut net, client, server, 3_000_000);
            net.seconds(1);
        }
        net.seconds(15);
        assert_eq!(net.opened().len(), found, "{:#?}", net.opened());
    }
}

#[test]
fn a_download_from_another_hides_no_upload() {
    let mut net = network();
    let mut port = 20_000;
    browsing(&mut net, 5, &mut port);
    let (away, news) = (((host(5), 50_000), (outside(200), 443)), ((host(5), 50_001), (outside(100), 443)));
    net.handshake(away.0, away.1);
    net.handshake(news.0, news.1);
    for _ in 0..20 {
        push(&mut net, away.0, away.1, 3_000_000);
        push(&mut net, news.1, news.0, 3_000_000);
        net.seconds(1);
    }
    net.seconds(15);
    let incident = &net.only().incident;
    assert_eq!((incident.class, incident.victims.as_slice()), (Class::Exfiltration, &[outside(200)][..]));
}

#[test]
fn a_nightly_backup_is_news_once() {
    let mut net = network();
    let mut port = 20_000;
    for night in 0..3 {
        browsing(&mut net, 20, &mut port);
        let (client, server) = ((host(5), 50_000 + night), (host(900), 22));
        net.handshake(client, server);
        for _ in 0..20 {
            push(&mut net, client, server, 3_000_000);
            net.seconds(1);
        }
        net.goodbye(client, server);
    }
    browsing(&mut net, 2, &mut port);
    assert_eq!(net.only().incident.class, Class::Exfiltration);
}

#[test]
fn downloads_and_busy_servers_are_quiet() {
    let mut net = network();
    let mut port = 20_000;
    browsing(&mut net, 5, &mut port);
    let (client, server) = ((host(5), 50_000), (outside(200), 443));
    net.handshake(client, server);
    for _ in 0..30 {
        push(&mut net, server, client, 6_000_000);
        net.seconds(1);
    }
    // A server of ours that has sent files to many all the time sends a large one.
    for round in 0..60_u16 {
        let visitor = (outside((round % 200) as u8), 40_000 + round);
        net.handshake(visitor, (host(6), 443));
        push(&mut net, (host(6), 443), visitor, if round == 59 { 20_000_000 } else { 3_000_000 });
        net.seconds(5);
    }
    net.seconds(90);
    assert_eq!(net.opened(), Vec::<&IncidentEvent>::new());
}

fn administer(net: &mut Network, from: IpAddr, to: IpAddr, port: u16) {
    let (client, server) = ((from, 30_000 + (net.now.secs() % 20_000) as u16), (to, port));
    net.handshake(client, server);
    for _ in 0..6 {
        net.tcp(client, server, PSH | ACK, 600);
        net.tcp(server, client, PSH | ACK, 900);
    }
    net.goodbye(client, server);
    net.seconds(20);
}

#[test]
fn a_host_that_logs_in_at_hosts_it_never_knew_moves_laterally() {
    let mut net = network();
    for _ in 0..40 {
        administer(&mut net, host(1), host(2), 22);
        administer(&mut net, host(1), host(3), 22);
    }
    administer(&mut net, host(9), host(20), 3389);
    for next in 21..25 {
        administer(&mut net, host(20), host(next), 445);
    }
    net.seconds(5);
    let incident = &net.only().incident;
    assert_eq!((incident.class, incident.attackers.as_slice()), (Class::LateralMovement, &[host(20)][..]));
    assert!(incident.victims.len() >= 3 && incident.ports == [445], "{incident:?}");
    assert_eq!(incident.evidence["came_from"], serde_json::json!(host(9).to_string()));
}

#[test]
fn known_administrators_and_single_first_contacts_are_quiet() {
    let mut net = network();
    for round in 0..100 {
        administer(&mut net, host(1), host(2 + round % 30), 22);
    }
    administer(&mut net, host(1), host(50), 22);
    administer(&mut net, host(7), host(8), 3389);
    // Log-ins that fail are short, and to others outside there is no administration of ours.
    for next in 60..80 {
        net.attempt((host(7), 40_000 + next as u16), (host(next), 22), 60);
        administer(&mut net, host(7), outside(next as u8), 22);
    }
    net.seconds(100);
    let lateral = net.opened().iter().filter(|event| event.incident.class == Class::LateralMovement).count();
    assert_eq!(lateral, 0);
}
