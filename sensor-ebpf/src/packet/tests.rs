//! Headers of every shape, whole, cut and bent.

use std::format;
use std::vec::Vec;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::abi::FlowKey;

const SRC: u32 = 0x0a00_0001;
const DST: u32 = 0x0a00_0002;
const SRC6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const DST6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];

fn reader(frame: &[u8]) -> SliceReader<'_> {
    SliceReader { data: frame, wire_len: u32::try_from(frame.len()).unwrap() }
}

/// Where the transport header begins has a test of its own.
fn parse(frame: &[u8]) -> Result<Packet, Reason> {
    parse_ethernet(&reader(frame), 0).map(|packet| Packet { transport_offset: 0, ..packet })
}

fn ethernet(kinds: &[u16], network: &[u8]) -> Vec<u8> {
    let mut frame = [2u8; 12].to_vec();
    let (last, tags) = kinds.split_last().unwrap();
    for tag in tags {
        frame.extend(tag.to_be_bytes());
        frame.extend([0x00, 0x2a]);
    }
    frame.extend(last.to_be_bytes());
    frame.extend(network);
    frame
}

/// An IPv4 packet with `options` octets of options; `fragment` is the flags and offset word.
fn v4(proto: u8, options: usize, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let header = 20 + options;
    let total = u16::try_from(header + payload.len()).unwrap();
    let mut packet = [0u8; 20].to_vec();
    packet[0] = 0x40 | u8::try_from(header / 4).unwrap();
    packet[2..4].copy_from_slice(&total.to_be_bytes());
    packet[4..6].copy_from_slice(b"AB");
    packet[6..8].copy_from_slice(&fragment.to_be_bytes());
    packet[8..10].copy_from_slice(&[64, proto]);
    packet[12..16].copy_from_slice(&SRC.to_be_bytes());
    packet[16..20].copy_from_slice(&DST.to_be_bytes());
    packet.resize(header, 1);
    packet.extend(payload);
    packet
}

fn v6(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = [0x60, 0, 0, 0, 0, 0, next, 63].to_vec();
    packet[4..6].copy_from_slice(&u16::try_from(payload.len()).unwrap().to_be_bytes());
    packet.extend(SRC6);
    packet.extend(DST6);
    packet.extend(payload);
    packet
}

/// `headers` of eight octets each, then UDP.
fn v6_with(headers: &[(u8, [u8; 8])]) -> Vec<u8> {
    let nexts = headers.iter().map(|&(kind, _)| kind).chain([proto::UDP]);
    let mut nexts = nexts.skip(1);
    let mut payload = Vec::new();
    for &(_, mut header) in headers {
        header[0] = nexts.next().unwrap();
        payload.extend(header);
    }
    payload.extend(udp());
    v6(headers.first().map_or(proto::UDP, |&(kind, _)| kind), &payload)
}

fn udp() -> [u8; 12] {
    [0x30, 0x39, 0, 53, 0, 12, 0, 0, 1, 2, 3, 4]
}

fn tcp(data_offset: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut segment = [0u8; 20].to_vec();
    segment[..8].copy_from_slice(&[0x30, 0x39, 0x01, 0xbb, 0xde, 0xad, 0xbe, 0xef]);
    segment[12..16].copy_from_slice(&[data_offset << 4, flags, 0x12, 0x34]);
    segment.resize(usize::from(data_offset.max(5)) * 4, 1);
    segment.extend(payload);
    segment
}

fn expected(proto: u8, ports: (u16, u16), header_octets: u32, ip_octets: u32) -> Packet {
    Packet {
        src: Addr::from_v4(SRC),
        dst: Addr::from_v4(DST),
        src_port: ports.0,
        dst_port: ports.1,
        proto,
        ttl: 64,
        header_octets,
        ip_octets,
        ..Packet::default()
    }
}

fn expected6(proto: u8, ports: (u16, u16), header_octets: u32, ip_octets: u32) -> Packet {
    let addr = |octets: [u8; 16]| Addr::from(core::net::IpAddr::from(octets));
    Packet { src: addr(SRC6), dst: addr(DST6), ttl: 63, ..expected(proto, ports, header_octets, ip_octets) }
}

#[test]
fn link_layers_lead_to_the_network_layer_or_a_reason() {
    let ip = v4(proto::UDP, 0, 0, &udp());
    let flow = Ok(expected(proto::UDP, (12345, 53), 28, 32));
    let table: &[(&[u16], Result<Packet, Reason>)] = &[
        (&[ethertype::IPV4], flow),
        (&[ethertype::VLAN, ethertype::IPV4], flow),
        (&[ethertype::QINQ, ethertype::VLAN, ethertype::IPV4], flow),
        (&[ethertype::QINQ_OLD, ethertype::VLAN, ethertype::IPV4], flow),
        (&[ethertype::VLAN, ethertype::VLAN, ethertype::VLAN, ethertype::IPV4], Err(Reason::VlanDepth)),
        (&[ethertype::ARP], Err(Reason::Arp)),
        (&[ethertype::VLAN, ethertype::ARP], Err(Reason::Arp)),
        (&[0x88cc], Err(Reason::NonIp)),
        (&[0x0026], Err(Reason::NonIp)),
        (&[ethertype::IPV6], Err(Reason::Malformed)),
    ];
    for (kinds, result) in table {
        assert_eq!(parse(&ethernet(kinds, &ip)), *result, "{kinds:x?}");
    }
}

#[test]
fn ipv4_headers_are_measured() {
    let udp = udp();
    let short_ihl = {
        let mut packet = v4(proto::UDP, 0, 0, &udp);
        packet[0] = 0x44;
        packet
    };
    let no_total = {
        let mut packet = v4(proto::UDP, 0, 0, &udp);
        packet[2..4].fill(0);
        packet
    };
    let total_below_header = {
        let mut packet = v4(proto::UDP, 0, 0, &udp);
        packet[3] = 19;
        packet
    };
    let padded = {
        let mut packet = v4(proto::UDP, 0, 0, &udp);
        packet.resize(46, 0);
        packet
    };
    let flow = |options: u32| Ok(expected(proto::UDP, (12345, 53), 28 + options, 32 + options));
    let table = [
        ("no options", v4(proto::UDP, 0, 0, &udp), flow(0)),
        ("4 octets of options", v4(proto::UDP, 4, 0, &udp), flow(4)),
        ("40 octets of options", v4(proto::UDP, 40, 0, &udp), flow(40)),
        ("total length 0: what is left of the frame", no_total, flow(0)),
        ("padding is not counted", padded, flow(0)),
        ("IHL 4", short_ihl, Err(Reason::Malformed)),
        ("total length below the header", total_below_header, Err(Reason::Malformed)),
    ];
    for (what, packet, result) in table {
        assert_eq!(parse(&ethernet(&[ethertype::IPV4], &packet)), result, "{what}");
    }
}

#[test]
fn transports_give_ports_and_header_lengths() {
    let syn = Packet { tcp_flags: tcp_flags::SYN, window: 0x1234, seq: 0xdead_beef, ..Packet::default() };
    let tcp_packet = |header, total| Packet {
        tcp_flags: syn.tcp_flags,
        window: syn.window,
        seq: syn.seq,
        ..expected(proto::TCP, (12345, 443), header, total)
    };
    let table = [
        ("TCP", proto::TCP, tcp(5, tcp_flags::SYN, b"abc"), tcp_packet(40, 43)),
        ("TCP with options", proto::TCP, tcp(10, tcp_flags::SYN, b""), tcp_packet(60, 60)),
        ("TCP with an impossible data offset", proto::TCP, tcp(2, tcp_flags::SYN, b""), tcp_packet(40, 40)),
        ("UDP", proto::UDP, udp().to_vec(), expected(proto::UDP, (12345, 53), 28, 32)),
        ("UDP-Lite", proto::UDPLITE, udp().to_vec(), expected(proto::UDPLITE, (12345, 53), 28, 32)),
        ("SCTP", proto::SCTP, udp().to_vec(), expected(proto::SCTP, (12345, 53), 32, 32)),
        ("GRE", 47, udp().to_vec(), expected(47, (0, 0), 20, 32)),
        ("ESP", 50, udp().to_vec(), expected(50, (0, 0), 20, 32)),
        (
            "ICMP echo",
            proto::ICMP,
            [8, 7, 0, 0, 0, 0, 0, 0].to_vec(),
            Packet { window: 0x0807, ..expected(proto::ICMP, (0, 0), 20, 28) },
        ),
        ("ICMP without a type", proto::ICMP, Vec::new(), expected(proto::ICMP, (0, 0), 20, 20)),
    ];
    for (what, protocol, transport, packet) in table {
        assert_eq!(parse(&ethernet(&[ethertype::IPV4], &v4(protocol, 0, 0, &transport))), Ok(packet), "{what}");
    }
}

#[test]
fn payload_is_what_is_behind_all_headers() {
    let payload = |network: &[u8]| parse(&ethernet(&[ethertype::IPV4], network)).unwrap().payload();
    assert_eq!(payload(&v4(proto::TCP, 8, 0, &tcp(8, tcp_flags::ACK, b"hello"))), 5);
    assert_eq!(payload(&v4(proto::UDP, 0, 0, &udp())), 4);
    assert_eq!(payload(&v4(proto::SCTP, 0, 0, &udp()[..4])), 0, "shorter than its own header");
}

#[test]
fn a_tcp_header_cut_behind_its_ports_still_names_its_flow() {
    let whole = ethernet(&[ethertype::IPV4], &v4(proto::TCP, 0, 0, &tcp(8, tcp_flags::SYN, b"")));
    assert_eq!(parse(&whole[..14 + 20 + 4]), Ok(expected(proto::TCP, (12345, 443), 40, 52)));
    assert_eq!(parse(&whole[..14 + 20 + 3]), Err(Reason::Truncated));
}

#[test]
fn ipv6_extension_headers_are_followed() {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const DESTINATION: u8 = 60;
    let eight = |kind| (kind, [0; 8]);
    let flow = |extensions: u32| Ok(expected6(proto::UDP, (12345, 53), 48 + extensions, 52 + extensions));
    let two_units = {
        let mut payload = [proto::UDP, 1].to_vec();
        payload.resize(16, 0);
        payload.extend(udp());
        v6(DESTINATION, &payload)
    };
    let authentication = {
        let mut payload = [proto::UDP, 4].to_vec();
        payload.resize(24, 0);
        payload.extend(udp());
        v6(AUTHENTICATION, &payload)
    };
    let no_next = v6(NO_NEXT_HEADER, &[]);
    let jumbo = {
        let mut packet = v6_with(&[]);
        packet[4..6].fill(0);
        packet
    };
    let mut table = [
        ("none", v6_with(&[]), flow(0)),
        ("three", v6_with(&[HOP_BY_HOP, ROUTING, DESTINATION].map(eight)), flow(24)),
        ("eight", v6_with(&[DESTINATION; 8].map(eight)), flow(64)),
        ("nine", v6_with(&[DESTINATION; 9].map(eight)), Err(Reason::ExtensionDepth)),
        ("length in units of eight", two_units, flow(16)),
        ("authentication counts in units of four", authentication, flow(24)),
        ("no next header", no_next, Ok(expected6(NO_NEXT_HEADER, (0, 0), 40, 40))),
        ("payload length 0: what is left of the frame", jumbo, flow(0)),
    ]
    .to_vec();
    for kind in [HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION, 135, 139, 140] {
        table.push(("one of each kind", v6_with(&[eight(kind)]), flow(8)));
    }
    for (what, packet, result) in table {
        assert_eq!(parse(&ethernet(&[ethertype::IPV6], &packet)), result, "{what}");
    }
}

#[test]
fn only_first_fragments_have_ports() {
    let v4_fragment = |word| ethernet(&[ethertype::IPV4], &v4(proto::UDP, 0, word, &udp()));
    let v6_fragment =
        |high, low| ethernet(&[ethertype::IPV6], &v6_with(&[(FRAGMENT, [0, 0, high, low, 0, 0, 0, 1]), (60, [0; 8])]));
    let part = |fragment, fragment_id, packet| Ok(Packet { fragment, fragment_id, ..packet });
    let first = |id, packet| part(Fragment::First, id, packet);
    let later = |id, packet| part(Fragment::Later, id, packet);
    let table = [
        ("v4, do not fragment", v4_fragment(0x4000), Ok(expected(proto::UDP, (12345, 53), 28, 32))),
        ("v4, first", v4_fragment(0x2000), first(0x4142, expected(proto::UDP, (12345, 53), 28, 32))),
        ("v4, later", v4_fragment(0x2001), later(0x4142, expected(proto::UDP, (0, 0), 20, 32))),
        ("v4, last", v4_fragment(0x00ff), later(0x4142, expected(proto::UDP, (0, 0), 20, 32))),
        ("v6, first", v6_fragment(0, 1), first(1, expected6(proto::UDP, (12345, 53), 64, 68))),
        // What follows is the middle of something: its header is not read.
        ("v6, later", v6_fragment(0, 9), later(1, expected6(60, (0, 0), 48, 68))),
    ];
    for (what, frame, result) in table {
        assert_eq!(parse(&frame), result, "{what}");
    }
}

#[test]
fn the_transport_header_is_found() {
    let offset = |frame: &[u8]| parse_ethernet(&reader(frame), 0).unwrap().transport_offset;
    assert_eq!(offset(&ethernet(&[ethertype::VLAN, ethertype::IPV4], &v4(proto::UDP, 8, 0, &udp()))), 18 + 28);
    assert_eq!(offset(&ethernet(&[ethertype::IPV6], &v6_with(&[(0, [0; 8])]))), 14 + 48);
}

/// An ICMP error that quotes `quote`.
fn icmp_error(kind: u8, quote: &[u8]) -> Vec<u8> {
    [&[kind, 3, 0, 0, 0, 0, 0, 0], quote].concat()
}

#[test]
fn icmp_errors_name_the_flow_they_quote() {
    let flow = |src: u32, dst: u32, proto, ports: (u16, u16)| {
        Some(FlowKey::canonical(Addr::from_v4(src), ports.0, Addr::from_v4(dst), ports.1, proto).0)
    };
    let flow6 = |proto, ports: (u16, u16)| {
        let addr = |octets: [u8; 16]| Addr::from(core::net::IpAddr::from(octets));
        Some(FlowKey::canonical(addr(SRC6), ports.0, addr(DST6), ports.1, proto).0)
    };
    let v4_error = |kind, quote: &[u8]| ethernet(&[ethertype::IPV4], &v4(proto::ICMP, 0, 0, &icmp_error(kind, quote)));
    let v6_error = |kind, quote: &[u8]| ethernet(&[ethertype::IPV6], &v6(proto::ICMPV6, &icmp_error(kind, quote)));
    let (udp4, udp6) = (v4(proto::UDP, 8, 0, &udp()), v6(proto::UDP, &udp()));
    let table = [
        ("port unreachable", v4_error(3, &udp4), flow(SRC, DST, proto::UDP, (12345, 53))),
        ("time exceeded", v4_error(11, &udp4[..36]), flow(SRC, DST, proto::UDP, (12345, 53))),
        ("of a ping", v4_error(3, &v4(proto::ICMP, 0, 0, &[8; 8])), flow(SRC, DST, proto::ICMP, (0, 0))),
        ("cut short", v4_error(3, &udp4[..29]), None),
        ("not IPv4 inside", v4_error(3, &udp6), None),
        ("v6, packet too big", v6_error(2, &udp6), flow6(proto::UDP, (12345, 53))),
        ("v6, not IPv6 inside", v6_error(1, &udp4), None),
    ];
    for (what, frame, key) in table {
        let packet = parse_ethernet(&reader(&frame), 0).unwrap();
        assert!(packet.is_icmp_error(), "{what}");
        assert_eq!(quoted(&reader(&frame), &packet), key, "{what}");
    }
    for (frame, what) in [(v4_error(0, &udp4), "echo reply"), (v6_error(128, &udp6), "echo request")] {
        assert!(!parse(&frame).unwrap().is_icmp_error(), "{what}");
    }
}

#[test]
fn packets_in_tunnels_are_counted_by_what_is_inside() {
    let inner = v4(proto::TCP, 0, 0, &tcp(0, tcp_flags::SYN, b""));
    let inside = parse(&ethernet(&[ethertype::IPV4], &inner)).unwrap();
    let framed = ethernet(&[ethertype::IPV4], &inner);
    let to_port = |port: u16, payload: &[u8]| {
        let datagram = [&[0x12, 0x34], &port.to_be_bytes()[..], &[0; 4], payload].concat();
        ethernet(&[ethertype::IPV4], &v4(proto::UDP, 0, 0, &datagram))
    };
    let in_ip = |proto, payload: &[u8]| ethernet(&[ethertype::IPV4], &v4(proto, 0, 0, payload));
    let all = tunnel::VXLAN | tunnel::GENEVE | tunnel::GRE | tunnel::IPIP;
    let table = [
        ("VXLAN", tunnel::VXLAN, to_port(4789, &[&[8, 0, 0, 0, 0, 0, 1, 0][..], &framed].concat())),
        ("VXLAN, old port", tunnel::VXLAN, to_port(8472, &[&[8, 0, 0, 0, 0, 0, 1, 0][..], &framed].concat())),
        (
            "Geneve, options",
            tunnel::GENEVE,
            to_port(6081, &[&[1, 0, 0x65, 0x58, 0, 0, 1, 0, 9, 9, 9, 9], &framed[..]].concat()),
        ),
        ("Geneve, IP", tunnel::GENEVE, to_port(6081, &[&[0, 0, 0x08, 0x00, 0, 0, 1, 0], &inner[..]].concat())),
        ("GRE", tunnel::GRE, in_ip(proto::GRE, &[&[0, 0, 0x08, 0x00], &inner[..]].concat())),
        (
            "GRE, key and sequence",
            tunnel::GRE,
            in_ip(proto::GRE, &[&[0x30, 0, 8, 0, 0, 0, 0, 7, 0, 0, 0, 1], &inner[..]].concat()),
        ),
        ("GRE, Ethernet", tunnel::GRE, in_ip(proto::GRE, &[&[0, 0, 0x65, 0x58], &framed[..]].concat())),
        ("IP in IP", tunnel::IPIP, in_ip(proto::IPIP, &inner)),
    ];
    for (what, tunnels, frame) in table {
        let parse = |tunnels| parse_ethernet(&reader(&frame), tunnels).map(|p| Packet { transport_offset: 0, ..p });
        assert_eq!(parse(tunnels), Ok(inside), "{what}");
        assert_eq!(parse(all), Ok(inside), "{what}");
        assert_eq!(parse(all & !tunnels), parse(0), "{what}, others only");
        assert_ne!(parse(0), Ok(inside), "{what}, none");
    }
    let damaged = in_ip(proto::IPIP, &inner[..10]);
    assert_eq!(parse_ethernet(&reader(&damaged), all), parse_ethernet(&reader(&damaged), 0), "the outer packet counts");
}

#[test]
fn arp_messages_say_who_claims_what() {
    let octets =
        [&[0, 1, 8, 0, 6, 4, 0, 2][..], &[1, 2, 3, 4, 5, 6], &[10, 0, 0, 1], &[7, 8, 9, 10, 11, 12], &[10, 0, 0, 2]]
            .concat();
    let frame = ethernet(&[ethertype::VLAN, ethertype::ARP], &octets);
    let message = arp::parse(&reader(&frame), 18).unwrap();
    assert_eq!((message.operation, message.sender_ip, message.target_ip), (arp::REPLY, SRC, DST));
    let macs = [message.sender_mac, message.target_mac, message.frame_mac].map(|mac| mac.0);
    assert_eq!(macs, [0x0102_0304_0506, 0x0708_090a_0b0c, 0x0202_0202_0202]);
    assert_eq!(arp::parse(&reader(&frame[..40]), 18), None, "cut short");
    assert_eq!(arp::parse(&reader(&ethernet(&[ethertype::ARP], &[0; 28])), 14), None, "not for IPv4 over Ethernet");
}

#[test]
fn frames_are_for_one_for_some_or_for_all() {
    use arp::Cast;
    let to = |destination: [u8; 6]| Cast::of(&reader(&[&destination[..], &[2; 20]].concat()));
    assert_eq!(to([0xff; 6]), Cast::Broadcast);
    assert_eq!(to([0x33, 0x33, 0, 0, 0, 1]), Cast::Multicast);
    assert_eq!(to([0xfe, 0xff, 0xff, 0xff, 0xff, 0xff]), Cast::Unicast);
}

/// Whole frames of every shape, for tests that cut and bend them.
fn frames() -> Vec<Vec<u8>> {
    let v6_long = v6_with(&[(0, [0; 8]), (FRAGMENT, [0, 0, 0, 1, 0, 0, 0, 1]), (60, [0; 8])]);
    [
        ethernet(&[ethertype::IPV4], &v4(proto::TCP, 12, 0, &tcp(8, tcp_flags::SYN, b"abc"))),
        ethernet(&[ethertype::VLAN, ethertype::IPV4], &v4(proto::UDP, 0, 0, &udp())),
        ethernet(&[ethertype::QINQ, ethertype::VLAN, ethertype::IPV6], &v6_long),
        ethernet(&[ethertype::IPV6], &v6(proto::ICMPV6, &[128, 0, 0, 0])),
        ethernet(&[ethertype::IPV4], &v4(proto::SCTP, 0, 0, &udp())),
        ethernet(&[ethertype::IPV4], &v4(47, 0, 0, &udp())),
        ethernet(&[ethertype::IPV4], &v4(proto::UDP, 0, 0x00ff, &udp())),
        ethernet(&[ethertype::ARP], &[0; 28]),
    ]
    .to_vec()
}

#[test]
fn a_frame_cut_anywhere_is_truncated_or_the_same_flow() {
    for frame in frames() {
        let whole = parse(&frame);
        for length in 0..frame.len() {
            match (parse(&frame[..length]), whole) {
                (Err(Reason::Truncated), _) => {}
                (Err(reason), _) => assert_eq!(Err(reason), whole, "{length} of {frame:x?}"),
                (Ok(cut), whole) => {
                    let whole = whole.unwrap();
                    let name = |p: Packet| (p.src, p.dst, p.src_port, p.dst_port, p.proto, p.ttl, p.ip_octets);
                    assert_eq!(name(cut), name(whole), "{length} of {frame:x?}");
                }
            }
        }
    }
}

#[test]
fn a_longer_frame_never_loses_what_a_shorter_one_had() {
    for frame in frames() {
        let mut named = false;
        for length in 0..=frame.len() {
            let parsed = parse(&frame[..length]) != Err(Reason::Truncated);
            assert!(parsed || !named, "{length} of {frame:x?}");
            named |= parsed;
        }
        assert!(named);
    }
}

proptest! {
    #[test]
    fn no_octets_make_the_parser_panic(frame in vec(any::<u8>(), 0..200), wire_len in any::<u32>()) {
        let _ = parse_ethernet(&SliceReader { data: &frame, wire_len }, 0);
    }

    #[test]
    fn no_bent_header_makes_the_parser_panic(
        shape in 0..8usize,
        bends in vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        wire_len in any::<u32>(),
    ) {
        let mut frame = frames().swap_remove(shape);
        for (at, octet) in bends {
            let at = at.index(frame.len());
            frame[at] = octet;
        }
        if let Ok(packet) = parse_ethernet(&SliceReader { data: &frame, wire_len }, 0) {
            prop_assert!(packet.payload() <= packet.ip_octets);
            let portless = packet.is_later_fragment() || !matches!(packet.proto, 6 | 17 | 132 | 136);
            prop_assert!(!portless || (packet.src_port, packet.dst_port) == (0, 0), "{}", format!("{packet:?}"));
        }
    }
}
