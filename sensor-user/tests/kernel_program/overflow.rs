//! What the program does with flows for which the table is closed.

use leuko::source::pcap::Capture;
use sensor_ebpf::abi::Hook;
use sensor_ebpf::overflow::distinct;

use super::frames::{segment, tcp, udp};
use super::sides::{At, Kernel};
use super::{ACK, data, packets, root};

const SYN: u8 = 0x02;
const CLIENT: ([u8; 4], u16) = ([203, 0, 113, 9], 40_000);
const SERVER: ([u8; 4], u16) = ([192, 0, 2, 1], 443);

/// A table that is closed to strangers.
fn closed_table() -> Kernel {
    let mut kernel = Kernel::load(64);
    for flow in 0..500 {
        kernel.observe(At::Xdp, &udp(flow, 10));
    }
    assert!((32..=40).contains(&kernel.source.live()), "the time of the test stands still: one tick, one newcomer");
    kernel
}

#[test]
fn strangers_are_counted_by_victim() {
    if !root() {
        return;
    }
    let mut kernel = Kernel::load(64);
    assert_eq!(kernel.source.capacity(), 64);
    for round in 0..3 {
        // From 500 sources; the test frames go to one host.
        for flow in 0..500_u32 {
            kernel.observe(At::Xdp, &udp(flow << 16 | flow, 10));
        }
        let counted = kernel.counted(Hook::Ingress);
        let in_flows: u64 = counted.flows.values().map(packets).sum();
        let [aggregate] = kernel.aggregates()[..] else { panic!("one victim") };
        assert_eq!(aggregate.packets, [counted.counters.overflowed, 0], "round {round}");
        assert_eq!(in_flows + counted.counters.overflowed, 500);
        assert_eq!(counted.counters.packets, 500);
        assert_eq!(aggregate.octets[0], counted.counters.overflowed * 38);
        assert_eq!((aggregate.proto, aggregate.main_port()), (17, Some(53)));
        let peers = distinct(&aggregate.peers) / counted.counters.overflowed as f64;
        assert!((0.85..1.15).contains(&peers), "{peers}");
        // Open to one half of it, then so many a tick: the time of the test stands still.
        assert!((32..=40).contains(&counted.flows.len()), "{}", counted.flows.len());
        assert_eq!(kernel.source.live(), 0, "released slots are free again");
    }
}

#[test]
fn an_established_flow_keeps_counting_when_the_table_is_closed() {
    if !root() {
        return;
    }
    let mut kernel = Kernel::load(64);
    kernel.observe(At::Xdp, &tcp(1000, ACK, b"x"));
    for flow in 0..500 {
        kernel.observe(At::Xdp, &udp(flow, 10));
    }
    kernel.observe(At::Xdp, &tcp(1000, ACK, b"x"));
    let counted = kernel.counted(Hook::Ingress);
    let established = counted.flows.values().find(|flow| flow.key.proto == 6).unwrap();
    assert_eq!(packets(established), 2);
}

#[test]
fn a_captured_flood_of_forged_sources_is_counted_to_its_victim() {
    if !root() {
        return;
    }
    let Some(data) = data("pcaps/attack/ddos_syn_flood/stopddos__pkt.TCP.synflood.spoofed.pcap") else {
        return;
    };
    // Far fewer slots than the 37,623 sources need.
    let mut kernel = Kernel::load(4096);
    let established: Vec<Vec<u8>> = (0..100).map(|flow| udp(flow << 16 | flow, 10)).collect();
    established.iter().for_each(|frame| kernel.observe(At::Xdp, frame));
    let mut capture = Capture::open(&data).unwrap();
    while let Some(frame) = capture.next_frame() {
        kernel.observe(At::Xdp, frame.data);
    }
    established.iter().for_each(|frame| kernel.observe(At::Xdp, frame));
    let counted = kernel.counted(Hook::Ingress);
    let (udp, tcp): (Vec<_>, Vec<_>) = counted.flows.values().partition(|flow| flow.key.proto == 17);
    assert_eq!(udp.iter().map(packets).collect::<Vec<_>>(), [2; 100], "established flows are exact");
    let [victim] = kernel.aggregates()[..] else { panic!("one victim") };
    let in_flows: u64 = tcp.iter().map(packets).sum();
    assert_eq!(in_flows + victim.packets[0], capture.packets());
    assert_eq!(core::net::IpAddr::from(victim.subject).to_string(), "10.10.10.10");
    assert_eq!(victim.main_port(), Some(25_565));
    let sources = distinct(&victim.peers) + tcp.len() as f64;
    assert!((sources / 37_623.0 - 1.0).abs() < 0.14, "{sources} sources");
}

#[test]
fn who_completes_a_handshake_gets_a_slot() {
    if !root() {
        return;
    }
    let mut kernel = closed_table();
    let before = kernel.source.live();
    let stranger = ([203, 0, 113, 66], 40_000);
    kernel.observe(At::Xdp, &segment(CLIENT, SERVER, SYN, (100, 0), b""));
    kernel.observe(At::Egress, &segment(SERVER, CLIENT, SYN | ACK, (u32::MAX, 101), b""));
    kernel.observe(At::Xdp, &segment(CLIENT, SERVER, ACK, (101, 9), b""));
    kernel.observe(At::Xdp, &segment(stranger, SERVER, ACK, (101, 0), b""));
    assert_eq!(kernel.source.live(), before, "nobody has acknowledged the answer yet");
    kernel.observe(At::Xdp, &segment(CLIENT, SERVER, ACK, (101, 0), b""));
    assert_eq!(kernel.source.live(), before + 1);
    kernel.observe(At::Xdp, &segment(CLIENT, SERVER, ACK, (101, 0), b"GET /"));
    let flows = kernel.counted(Hook::Ingress).flows;
    let flow = flows.values().find(|flow| flow.key.proto == 6).unwrap();
    assert_eq!((packets(flow), flow.key.lo_port), (2, 443));
    // Both directions of the handshake are in the aggregate of the server.
    let tcp: Vec<_> = kernel.aggregates().into_iter().filter(|aggregate| aggregate.proto == 6).collect();
    assert_eq!((tcp.len(), tcp[0].packets, tcp[0].requests), (1, [3, 1], [1, 0]));
    assert_eq!(core::net::IpAddr::from(tcp[0].subject).to_string(), "192.0.2.1");
}

#[test]
fn every_client_that_completes_a_handshake_gets_a_slot() {
    if !root() {
        return;
    }
    const CLIENTS: u16 = 1000;
    let mut kernel = Kernel::load(4096);
    for flow in 0..10_000 {
        kernel.observe(At::Xdp, &udp(flow, 10));
    }
    let strangers = kernel.source.live();
    assert!((2048..2200).contains(&strangers), "{strangers}");
    for port in 0..CLIENTS {
        let client = (CLIENT.0, 10_000 + port);
        let sequence = u32::from(port) << 16;
        kernel.observe(At::Xdp, &segment(client, SERVER, SYN, (1, 0), b""));
        kernel.observe(At::Egress, &segment(SERVER, client, SYN | ACK, (sequence, 2), b""));
        kernel.observe(At::Xdp, &segment(client, SERVER, ACK, (2, sequence + 1), b""));
    }
    assert_eq!(kernel.source.live(), strangers + u64::from(CLIENTS));
}

#[test]
fn a_forger_of_both_sides_proves_nothing() {
    if !root() {
        return;
    }
    let mut kernel = closed_table();
    let before = kernel.source.live();
    // Both come in at the same place.
    kernel.observe(At::Xdp, &segment(SERVER, CLIENT, SYN | ACK, (900, 101), b""));
    kernel.observe(At::Xdp, &segment(CLIENT, SERVER, ACK, (101, 901), b""));
    // Both go the same way.
    kernel.observe(At::Egress, &segment(CLIENT, SERVER, SYN | ACK, (900, 101), b""));
    kernel.observe(At::Xdp, &segment(CLIENT, SERVER, ACK, (101, 901), b""));
    // Forwarded data is not of this host.
    kernel.observe_forwarded(&segment(CLIENT, SERVER, ACK, (101, 901), b"data"), 77);
    assert_eq!(kernel.source.live(), before);
}

#[test]
fn a_connection_of_this_host_gets_a_slot_when_it_sends_data() {
    if !root() {
        return;
    }
    let mut kernel = closed_table();
    let before = kernel.source.live();
    kernel.observe(At::Egress, &segment(SERVER, CLIENT, ACK, (1, 1), b""));
    assert_eq!(kernel.source.live(), before);
    kernel.observe(At::Egress, &segment(SERVER, CLIENT, ACK, (1, 1), b"data"));
    assert_eq!(kernel.source.live(), before + 1);
}

#[test]
fn packets_of_more_hosts_than_there_are_aggregates_are_kept_together() {
    if !root() {
        return;
    }
    let mut kernel = closed_table();
    kernel.counted(Hook::Ingress);
    for flow in 0..500 {
        kernel.observe(At::Xdp, &udp(flow, 10));
    }
    let before: u64 = kernel.aggregates().iter().map(|aggregate| aggregate.packets[0]).sum();
    for victim in 0..2000_u32 {
        let [_, _, c, d] = victim.to_be_bytes();
        kernel.observe(At::Xdp, &segment(CLIENT, ([198, 18, c, d], 80), SYN, (1, 0), b""));
    }
    let aggregates = kernel.aggregates();
    let total: u64 = aggregates.iter().map(|aggregate| aggregate.packets[0]).sum();
    let rest = aggregates.iter().find(|aggregate| aggregate.proto == 0).unwrap();
    assert_eq!(total, 2000);
    assert!(aggregates.len() <= 512 && rest.packets[0] > 1400, "{} {:?}", aggregates.len(), rest.packets);
    assert_eq!(kernel.source.counters().unwrap()[0].overflowed, 2000 + before);
}
