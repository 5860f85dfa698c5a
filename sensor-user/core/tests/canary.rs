//! The marked traffic of a self-test: found like any scan, and otherwise without a trace.

#[path = "support/network.rs"]
mod network;

use std::net::IpAddr;

use network::{ACK, Network, RST, SYN, host, network};
use sensor_core::canary::{CANARY, Canary, Sighting};
use sensor_core::incident::{Class, IncidentEvent};

const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 201, 3, 4));
const SERVER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 77, 8, 9));

fn marked() -> Network {
    let mut net = network();
    net.engine.set_canary(Canary::new(CLIENT, SERVER));
    net
}

fn let_go(net: &mut Network, probes: u16) {
    net.engine.canary_mut().expect("it was set").begin(net.now);
    for port in 20_000..20_000 + probes {
        net.tcp((CLIENT, 40_000), (SERVER, port), SYN, 0);
        net.tcp((SERVER, port), (CLIENT, 40_000), RST | ACK, 0);
        net.wait(10);
    }
}

fn seen(net: &mut Network) -> Sighting {
    net.engine.canary_mut().expect("it was set").seen().clone()
}

#[test]
fn it_is_found_at_the_next_tick_and_told_to_nobody() {
    let mut net = marked();
    let sent = net.now;
    let_go(&mut net, 32);
    net.seconds(1);
    let sighting = seen(&mut net);
    let incident = sighting.incident.unwrap();
    assert_eq!((incident.class, incident.attackers, incident.victims), (Class::PortScan, vec![CLIENT], vec![SERVER]));
    assert_eq!(incident.evidence[CANARY], true);
    assert_eq!((sighting.flows, sighting.first_packet), (32, Some(sent)));
    net.seconds(600);
    assert_eq!(net.events, Vec::<IncidentEvent>::new());
    assert_eq!((net.engine.opened_incidents(), net.engine.open_incidents().len()), (0, 0));
}

#[test]
fn each_is_found_anew() {
    let mut net = marked();
    let_go(&mut net, 32);
    net.seconds(2);
    net.engine.canary_mut().expect("it was set").begin(net.now);
    net.seconds(120);
    assert!(seen(&mut net).incident.is_none(), "nothing was sent since");
    let_go(&mut net, 32);
    net.seconds(1);
    assert!(seen(&mut net).incident.is_some());
}

#[test]
fn too_few_probes_are_no_scan() {
    let mut net = marked();
    let_go(&mut net, 10);
    net.seconds(30);
    let sighting = seen(&mut net);
    assert_eq!((sighting.flows, sighting.incident), (10, None));
}

#[test]
fn one_marked_address_alone_hides_nobody() {
    let mut net = marked();
    for (from, to) in [(CLIENT, host(1)), (host(9), SERVER)] {
        for port in 1..=40 {
            net.tcp((from, 40_000), (to, port), SYN, 0);
        }
    }
    net.seconds(5);
    assert_eq!(net.opened().len(), 2);
    assert_eq!(seen(&mut net).flows, 0);
}
