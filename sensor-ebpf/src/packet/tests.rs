//! Headers of every shape, whole, cut and bent.

use std::format;
use std::vec::Vec;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const SRC: u32 = 0x0a00_0001;
const DST: u32 = 0x0a00_0002;
const SRC6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const DST6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];

fn parse(frame: &[u8]) -> Result<Packet, Reason> {
    parse_ethernet(&SliceReader { data: frame, wire_len: u32::try_from(frame.len()).unwrap() })
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
    let later = |packet| Ok(Packet { later_fragment: true, ..packet });
    let table = [
        ("v4, do not fragment", v4_fragment(0x4000), Ok(expected(proto::UDP, (12345, 53), 28, 32))),
        ("v4, first", v4_fragment(0x2000), Ok(expected(proto::UDP, (12345, 53), 28, 32))),
        ("v4, later", v4_fragment(0x2001), later(expected(proto::UDP, (0, 0), 20, 32))),
        ("v4, last", v4_fragment(0x00ff), later(expected(proto::UDP, (0, 0), 20, 32))),
        ("v6, first", v6_fragment(0, 1), Ok(expected6(proto::UDP, (12345, 53), 64, 68))),
        // What follows is the middle of something: its header is not read.
        ("v6, later", v6_fragment(0, 9), later(expected6(60, (0, 0), 48, 68))),
    ];
    for (what, frame, result) in table {
        assert_eq!(parse(&frame), result, "{what}");
    }
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
        let _ = parse_ethernet(&SliceReader { data: &frame, wire_len });
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
        if let Ok(packet) = parse_ethernet(&SliceReader { data: &frame, wire_len }) {
            prop_assert!(packet.payload() <= packet.ip_octets);
            let portless = packet.later_fragment || !matches!(packet.proto, 6 | 17 | 132 | 136);
            prop_assert!(!portless || (packet.src_port, packet.dst_port) == (0, 0), "{}", format!("{packet:?}"));
        }
    }
}
