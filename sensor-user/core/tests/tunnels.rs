//! Tunnels through DNS and through ICMP echoes, and questions and pings that are none.

#[path = "support/network.rs"]
mod network;

use std::net::IpAddr;

use network::{ACK, Network, PSH, START, host, network, served};
use sensor_core::detect::{Detector as _, DnsTunnel, DnsTunnelParams, IcmpTunnel, IcmpTunnelParams};
use sensor_core::incident::{Class, Incident, IncidentEvent};
use sensor_core::roles::Roles;
use sensor_core::time::Timestamp;
use sensor_ebpf::packet::proto;

/// A UDP question of so many octets, its header included, and its answer.
fn ask(net: &mut Network, port: u16, question: u32, answer: u32) {
    let (client, resolver) = ((host(9), port), (host(53), 53));
    net.packet(proto::UDP, client, resolver, 0, question - 40);
    net.packet(proto::UDP, resolver, client, 0, answer - 40);
}

fn browse(net: &mut Network, n: u32) {
    ask(net, 20_000 + (n % 40_000) as u16, 55 + n * 7 % 40, 90 + n * 13 % 300);
}

fn of(net: &Network, class: Class) -> Vec<&IncidentEvent> {
    net.opened().into_iter().filter(|event| event.incident.class == class).collect()
}

fn only(net: &Network, class: Class) -> &Incident {
    let found = of(net, class);
    assert_eq!((found.len(), net.opened().len()), (1, 1), "{:#?}", net.opened());
    &found[0].incident
}

#[test]
fn long_questions_of_one_socket_are_a_tunnel() {
    let mut net = network();
    for n in 0..200 {
        ask(&mut net, 5000, 180 + n % 90, 280);
        net.wait(250_000);
    }
    let incident = only(&net, Class::DnsTunnel);
    assert_eq!((incident.attackers.as_slice(), incident.victims.as_slice()), (&[host(9)][..], &[host(53)][..]));
    assert_eq!((incident.ports.as_slice(), &incident.evidence["one_socket"]), (&[53][..], &true.into()));
    let at = of(&net, Class::DnsTunnel)[0].at;
    assert!(at <= Timestamp::from_secs(START + 15), "{at}");
}

#[test]
fn a_tunnel_is_found_beside_the_ordinary_questions_of_its_host() {
    let mut net = network();
    for n in 0..600 {
        browse(&mut net, n);
        if n % 3 == 0 {
            ask(&mut net, 5000, if n % 9 == 0 { 240 } else { 85 }, 300);
        }
        net.wait(100_000);
    }
    only(&net, Class::DnsTunnel);
}

#[test]
fn long_questions_from_fresh_ports_are_a_tunnel() {
    let mut net = network();
    for n in 0..60 {
        ask(&mut net, 5000 + n, 230, 300);
        net.wait(500_000);
    }
    only(&net, Class::DnsTunnel);
}

#[test]
fn a_slow_leak_is_found_within_half_an_hour() {
    let mut net = network();
    for n in 0..170 {
        ask(&mut net, 5000 + n, 240, 300);
        net.seconds(10);
    }
    only(&net, Class::DnsTunnel);
}

#[test]
fn a_tunnel_through_dns_over_tcp_is_found() {
    let mut net = network();
    let (client, resolver) = ((host(9), 5000), (host(53), 53));
    net.handshake(client, resolver);
    for _ in 0..60 {
        net.tcp(client, resolver, PSH | ACK, 220);
        net.tcp(resolver, client, PSH | ACK, 400);
        net.tcp(client, resolver, ACK, 0);
        net.wait(300_000);
    }
    only(&net, Class::DnsTunnel);
}

/// Octets of the `n`-th question and of its answer, and its port.
type Questions = fn(u32) -> (u32, u32, u16);

#[test]
fn questions_that_are_none_of_a_tunnel() {
    let cases: [(&str, Questions); 6] = [
        ("a crawler", |n| (55 + n * 7 % 40, 90 + n * 13 % 300, 20_000 + (n % 40_000) as u16)),
        ("a forwarder with one socket", |n| (55 + n * 7 % 45, 90 + n * 13 % 1200, 53)),
        ("reverse lookups of IPv6 with EDNS and cookies", |n| (157, 220, 20_000 + (n % 40_000) as u16)),
        ("reverse lookups of IPv6 with one socket", |n| (118 + n % 2 * 11, 180, 5000)),
        ("one in ten is a long name of an antivirus", |n| {
            (if n % 10 == 0 { 190 } else { 60 + n % 30 }, 200, 20_000 + (n % 40_000) as u16)
        }),
        ("signed updates", |n| (230 + n % 40, 150, 5000)),
    ];
    for (name, questions) in cases {
        let mut net = network();
        for n in 0..6_000 {
            let (question, answer, port) = questions(n);
            ask(&mut net, port, question, answer);
            net.wait(20_000);
        }
        assert_eq!(of(&net, Class::DnsTunnel), Vec::<&IncidentEvent>::new(), "{name}");
    }
}

#[test]
fn long_datagrams_nobody_answers_are_no_tunnel() {
    let mut net = network();
    for n in 0..2_000 {
        net.packet(proto::UDP, (host(9), 1000 + n), (host(53), 53), 0, 400);
        net.wait(10_000);
    }
    assert_eq!(of(&net, Class::DnsTunnel), Vec::<&IncidentEvent>::new());
}

const A: u32 = 9;
const B: u32 = 1;

fn echo(net: &mut Network, sent: u32, received: Option<u32>) {
    let (a, b): (IpAddr, IpAddr) = (host(A), host(B));
    net.icmp(a, b, 8, sent);
    if let Some(received) = received {
        net.icmp(b, a, 0, received);
    }
}

#[test]
fn replies_that_say_something_else_are_a_tunnel() {
    let mut net = network();
    for n in 0..60_u32 {
        echo(&mut net, 20 + n * 37 % 900, Some(20 + n * 91 % 1200));
        net.wait(500_000);
    }
    let incident = only(&net, Class::IcmpTunnel);
    assert_eq!((incident.attackers.as_slice(), incident.victims.as_slice()), (&[host(A)][..], &[host(B)][..]));
    assert!(incident.ports.is_empty());
    let at = of(&net, Class::IcmpTunnel)[0].at;
    assert!(at <= Timestamp::from_secs(START + 20), "{at}");
}

#[test]
fn replies_beside_the_echo_are_a_tunnel() {
    let mut net = network();
    for _ in 0..30 {
        echo(&mut net, 60, Some(60));
        net.icmp(host(B), host(A), 0, 1000);
        net.seconds(1);
    }
    only(&net, Class::IcmpTunnel);
}

/// Octets of the `n`-th request, and of its reply.
type Pings = fn(u32) -> (u32, Option<u32>);

#[test]
fn an_error_before_the_first_echo_hides_no_tunnel() {
    let mut net = network();
    net.icmp(host(B), host(A), 3, 72);
    net.seconds(1);
    for _ in 0..30 {
        echo(&mut net, 60, Some(1200));
    }
    net.seconds(3);
    let incident = only(&net, Class::IcmpTunnel);
    assert_eq!((incident.attackers.as_slice(), incident.victims.as_slice()), (&[host(A)][..], &[host(B)][..]));
}

#[test]
fn short_replies_beside_mirrored_echoes_are_a_tunnel() {
    let mut net = network();
    for n in 0..300 {
        echo(&mut net, 1000, Some(1000));
        if n % 8 == 0 {
            net.icmp(host(B), host(A), 0, 28);
        }
    }
    net.seconds(3);
    assert_eq!(only(&net, Class::IcmpTunnel).attackers, [host(A)]);
}

#[test]
fn pings_are_no_tunnel() {
    let cases: [(&str, Pings, u64); 5] = [
        ("ping", |_| (64, Some(64)), 1_000_000),
        ("ping -s 1400 ten times a second", |_| (1400, Some(1400)), 100_000),
        ("of many sizes", |n| (n * 37 % 1400, Some(n * 37 % 1400)), 300_000),
        ("of many sizes, a third lost", |n| (n * 37 % 1400, (n % 3 > 0).then_some(n * 37 % 1400)), 300_000),
        ("a search for the MTU", |n| (n % 1500, (n % 1500 < 1300).then_some(n % 1500)), 50_000),
    ];
    for (name, pings, micros) in cases {
        let mut net = network();
        for n in 0..500 {
            let (sent, received) = pings(n);
            echo(&mut net, sent, received);
            net.wait(micros);
        }
        assert_eq!(of(&net, Class::IcmpTunnel), Vec::<&IncidentEvent>::new(), "{name}");
    }
}

#[test]
fn late_replies_are_no_tunnel() {
    let mut net = network();
    for _ in 0..200 {
        net.wait(900_000);
        net.icmp(host(A), host(B), 8, 1400);
        net.wait(200_000);
        net.icmp(host(B), host(A), 0, 1400);
        net.wait(400_000);
    }
    assert_eq!(of(&net, Class::IcmpTunnel), Vec::<&IncidentEvent>::new());
}

#[test]
fn a_host_that_forbids_pings_is_no_tunnel() {
    let mut net = network();
    for _ in 0..200 {
        net.icmp(host(A), host(B), 8, 44);
        net.icmp(host(B), host(A), 3, 72);
        net.seconds(1);
    }
    assert_eq!(of(&net, Class::IcmpTunnel), Vec::<&IncidentEvent>::new());
}

#[test]
fn neighbours_that_look_for_each_other_are_no_tunnel() {
    let mut net = network();
    let (a, b): (IpAddr, IpAddr) = ("fe80::1".parse().unwrap(), "fe80::2".parse().unwrap());
    for _ in 0..300 {
        for (from, to, kind, octets) in [(a, b, 135, 32), (b, a, 136, 24), (a, b, 128, 64), (b, a, 129, 64)] {
            net.icmp(from, to, kind, octets);
        }
        net.seconds(1);
    }
    assert_eq!(of(&net, Class::IcmpTunnel), Vec::<&IncidentEvent>::new());
}

#[test]
fn no_more_pairs_are_followed_than_said() {
    let now = Timestamp::from_secs(START);
    let mut dns = DnsTunnel::new(DnsTunnelParams { pairs: 100, ..DnsTunnelParams::default() });
    let mut icmp = IcmpTunnel::new(IcmpTunnelParams { pairs: 100, ..IcmpTunnelParams::default() });
    for n in 0..10_000 {
        dns.observe(&served(proto::UDP, (host(n), 4000), (host(53), 53), now));
        icmp.observe(&served(proto::ICMP, (host(n), 0), (host(1), 0), now));
    }
    assert!(dns.pairs() <= 100 && icmp.pairs() <= 100);
    let later = Timestamp::from_secs(START + 4000);
    assert!(dns.tick(later, &Roles::default()).is_empty() && icmp.tick(later, &Roles::default()).is_empty());
    assert_eq!((dns.pairs(), icmp.pairs()), (0, 0));
}
