//! Frames for the kernel program: whole ones, and ones that only look whole.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

/// The shortest frame: an Ethernet header.
const SHORTEST: usize = 14;

/// A TCP segment in IPv4 from 10.0.0.1:`port` to 10.0.0.2:443.
pub fn tcp(port: u16, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut segment = [port.to_be_bytes(), 443u16.to_be_bytes()].concat();
    segment.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 1, 0, 0, 0, 0, 0]);
    segment.extend(payload);
    ethernet(0x0800, &ipv4(6, &segment))
}

/// As [`tcp`], from `src` to `dst`, with sequence and acknowledgement numbers.
pub fn segment(src: ([u8; 4], u16), dst: ([u8; 4], u16), flags: u8, numbers: (u32, u32), payload: &[u8]) -> Vec<u8> {
    let mut segment = [src.1.to_be_bytes(), dst.1.to_be_bytes()].concat();
    segment.extend(numbers.0.to_be_bytes());
    segment.extend(numbers.1.to_be_bytes());
    segment.extend([0x50, flags, 1, 0, 0, 0, 0, 0]);
    segment.extend(payload);
    let mut packet = ipv4(6, &segment);
    packet[12..16].copy_from_slice(&src.0);
    packet[16..20].copy_from_slice(&dst.0);
    ethernet(0x0800, &packet)
}

/// A fragment of a UDP datagram in IPv4: `offset` in units of eight octets.
pub fn fragment(id: u16, offset: u16, more: bool, payload: &[u8]) -> Vec<u8> {
    let mut packet = ipv4(17, payload);
    packet[4..6].copy_from_slice(&id.to_be_bytes());
    packet[6..8].copy_from_slice(&(offset | u16::from(more) << 13).to_be_bytes());
    ethernet(0x0800, &packet)
}

/// An ICMP error of `kind` and code 1 that quotes the packet in `frame`.
pub fn icmp_about(kind: u8, frame: &[u8]) -> Vec<u8> {
    ethernet(0x0800, &ipv4(1, &[&[kind, 1, 0, 0, 0, 0, 0, 0], &frame[14..]].concat()))
}

/// Who has 10.0.0.`target`? tells 10.0.0.`sender`.
pub fn arp_request(sender: u8, target: u8) -> Vec<u8> {
    let body =
        [&[0, 1, 8, 0, 6, 4, 0, 1][..], &[2, 0, 0, 0, 0, sender], &[10, 0, 0, sender], &[0; 6], &[10, 0, 0, target]];
    ethernet(0x0806, &body.concat())
}

/// A UDP datagram in IPv4 with the source port and the low half of the source address in `flow`.
pub fn udp(flow: u32, payload: usize) -> Vec<u8> {
    let [a, b, c, d] = flow.to_be_bytes();
    let length = u16::try_from(8 + payload).unwrap().to_be_bytes();
    let mut datagram = [c, d, 0, 53, length[0], length[1], 0, 0].to_vec();
    datagram.resize(8 + payload, 7);
    let mut packet = ipv4(17, &datagram);
    packet[14..16].copy_from_slice(&[a, b]);
    ethernet(0x0800, &packet)
}

/// Frames of every protocol the sensor knows, some of them bent or cut short.
pub fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        1 => vec(any::<u8>(), SHORTEST..128),
        6 => structured(),
        2 => to_whom(structured()),
        3 => (structured(), vec((any::<Index>(), any::<u8>()), 0..4), any::<Index>()).prop_map(bend),
    ]
}

fn bend((mut frame, bends, end): (Vec<u8>, Vec<(Index, u8)>, Index)) -> Vec<u8> {
    for (at, octet) in bends {
        let at = at.index(frame.len());
        frame[at] = octet;
    }
    let end = end.index(frame.len()) + 1;
    frame.truncate(end.max(SHORTEST));
    frame
}

fn structured() -> impl Strategy<Value = Vec<u8>> {
    let tag = prop::sample::select(&[0x8100u16, 0x88a8, 0x9100]);
    let tags = prop_oneof![4 => Just(Vec::new()), 2 => vec(tag, 1..4)];
    (tags, network()).prop_map(|(tags, (kind, packet))| {
        let tagged = tags.iter().skip(1).copied().chain([kind]);
        let mut inside: Vec<u8> = Vec::new();
        if let Some(&first) = tags.first() {
            for next in tagged {
                inside.extend([0, 42]);
                inside.extend(next.to_be_bytes());
            }
            inside.extend(packet);
            return ethernet(first, &inside);
        }
        ethernet(kind, &packet)
    })
}

/// Frames for a group, or for everyone.
fn to_whom(frames: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let destination = prop::sample::select(&[[0xff; 6], [0x33, 0x33, 0, 0, 0, 1], [1, 0, 0x5e, 0, 0, 251]]);
    (frames, destination).prop_map(|(mut frame, destination)| {
        frame[..6].copy_from_slice(&destination);
        frame
    })
}

fn network() -> impl Strategy<Value = (u16, Vec<u8>)> {
    prop_oneof![
        6 => v4().prop_map(|packet| (0x0800, packet)),
        5 => v6().prop_map(|packet| (0x86dd, packet)),
        2 => icmp_error(),
        2 => tunnel(),
        1 => vec(any::<u8>(), 28..40).prop_map(|packet| (0x0806, packet)),
        1 => (1..4u8, any::<[u8; 20]>()).prop_map(|(operation, rest)| {
            (0x0806, [&[0, 1, 8, 0, 6, 4, 0, operation][..], &rest].concat())
        }),
        1 => (any::<u16>(), vec(any::<u8>(), 4..40)),
    ]
}

/// Errors about packets that may have been seen before.
fn icmp_error() -> impl Strategy<Value = (u16, Vec<u8>)> {
    let quote = |packet: Vec<u8>, length: usize| packet[..length.min(packet.len())].to_vec();
    let error = |kind: u8, quote: Vec<u8>| [&[kind, 1, 0, 0, 0, 0, 0, 0][..], &quote].concat();
    prop_oneof![
        (v4(), 3..13u8, 20..60usize)
            .prop_map(move |(packet, kind, length)| { (0x0800, ipv4(1, &error(kind, quote(packet, length)))) }),
        (v6(), 1..6u8, 40..90usize)
            .prop_map(move |(packet, kind, length)| { (0x86dd, ipv6(58, &error(kind, quote(packet, length)))) }),
    ]
}

/// Packets in packets, of every kind that can be looked into.
fn tunnel() -> impl Strategy<Value = (u16, Vec<u8>)> {
    let inner = prop_oneof![v4().prop_map(|packet| (0x0800, packet)), v6().prop_map(|packet| (0x86dd, packet))];
    (inner, 0..7u8, any::<bool>()).prop_map(|((kind, packet), tunnel, over_v6)| {
        let framed = ethernet(kind, &packet);
        let [kind_1, kind_0] = kind.to_be_bytes();
        let datagram = |port: u16, header: &[u8], payload: &[u8]| {
            let ports = [[0x30, 0x39], port.to_be_bytes()].concat();
            (17, [&ports, &[0; 4][..], header, payload].concat())
        };
        let (proto, payload) = match tunnel {
            0 => datagram(4789, &[8, 0, 0, 0, 0, 0, 1, 0], &framed),
            1 => datagram(8472, &[0, 0, 0, 0, 0, 0, 1, 0], &framed),
            2 => datagram(6081, &[2, 0, 0x65, 0x58, 0, 0, 1, 0, 1, 1, 1, 1, 2, 2, 2, 2], &framed),
            3 => datagram(6081, &[0, 0, kind_1, kind_0, 0, 0, 1, 0], &packet),
            4 => (47, [&[0x20, 0, kind_1, kind_0, 0, 0, 0, 9], &packet[..]].concat()),
            5 => (47, [&[0, 0, 0x65, 0x58], &framed[..]].concat()),
            _ => (if kind == 0x0800 { 4 } else { 41 }, packet),
        };
        if over_v6 { (0x86dd, ipv6(proto, &payload)) } else { (0x0800, ipv4(proto, &payload)) }
    })
}

fn v4() -> impl Strategy<Value = Vec<u8>> {
    let fragment = prop_oneof![6 => Just(0x4000u16), 1 => Just(0x2000), 1 => any::<u16>()];
    (transport(), 0..11u8, fragment, (0..3u8, 0..3u8), any::<u8>(), prop::bool::weighted(0.05)).prop_map(
        |((proto, payload), options, fragment, (src, dst), ttl, no_length)| {
            let header = 20 + usize::from(options) * 4;
            let mut packet = ipv4(proto, &payload);
            packet.splice(20..20, vec![1; header - 20]);
            packet[0] = 0x45 + options;
            let total = if no_length { 0 } else { u16::try_from(packet.len()).unwrap() };
            packet[2..4].copy_from_slice(&total.to_be_bytes());
            packet[6..8].copy_from_slice(&fragment.to_be_bytes());
            packet[8] = ttl;
            packet[15] = src;
            packet[19] = dst;
            packet
        },
    )
}

fn v6() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop::sample::select(&[0u8, 43, 44, 51, 60, 135, 139, 140]);
    let extension = (kind, 0..4u8, prop_oneof![3 => Just(0u16), 1 => any::<u16>()]);
    let extensions = prop_oneof![2 => Just(Vec::new()), 3 => vec(extension, 1..10)];
    (transport(), extensions, 0..3u8, 0..3u8, prop::bool::weighted(0.05)).prop_map(
        |((proto, transport), extensions, src, dst, no_length)| {
            let mut payload = Vec::new();
            let nexts = extensions.iter().skip(1).map(|&(kind, ..)| kind).chain([proto]);
            for (&(kind, length, fragment), next) in extensions.iter().zip(nexts) {
                let octets = match kind {
                    44 => 8,
                    51 => (usize::from(length) + 2) * 4,
                    _ => (usize::from(length) + 1) * 8,
                };
                let mut header = vec![next, length];
                header.extend(fragment.to_be_bytes());
                header.resize(octets, 0);
                payload.extend(header);
            }
            payload.extend(transport);
            let first = extensions.first().map_or(proto, |&(kind, ..)| kind);
            let length = if no_length { 0 } else { u16::try_from(payload.len()).unwrap() };
            let mut packet = vec![0x60, 0, 0, 0];
            packet.extend(length.to_be_bytes());
            packet.extend([first, 64]);
            for host in [src, dst] {
                packet.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host]);
            }
            packet.extend(payload);
            packet
        },
    )
}

fn transport() -> impl Strategy<Value = (u8, Vec<u8>)> {
    let ports = (0..3u8, 0..3u8);
    let tcp = (ports.clone(), 5..12u8, any::<u8>(), any::<[u8; 2]>(), 0..5000u32, 0..60usize).prop_map(
        |((src, dst), words, flags, window, seq, payload)| {
            let mut segment = vec![0, src, 0, dst];
            segment.extend(seq.to_be_bytes());
            segment.extend([0, 0, 0, 0, words << 4, flags, window[0], window[1]]);
            segment.resize(usize::from(words) * 4 + payload, 0);
            (6, segment)
        },
    );
    let others = prop::sample::select(&[1u8, 17, 17, 17, 41, 47, 50, 58, 59, 132, 136]);
    let other = (ports, others, 0..60usize).prop_map(|((src, dst), proto, payload)| {
        let mut datagram = vec![0, src, 0, dst];
        datagram.resize(12 + payload, 0);
        (proto, datagram)
    });
    prop_oneof![tcp, other]
}

fn ipv4(proto: u8, payload: &[u8]) -> Vec<u8> {
    let total = u16::try_from(20 + payload.len()).unwrap().to_be_bytes();
    let mut packet = vec![0x45, 0, total[0], total[1], 0, 0, 0x40, 0, 64, proto, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
    packet.extend(payload);
    packet
}

fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    let [length_1, length_0] = u16::try_from(payload.len()).unwrap().to_be_bytes();
    let mut packet = vec![0x60, 0, 0, 0, length_1, length_0, next, 64];
    for host in [1, 2] {
        packet.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host]);
    }
    packet.extend(payload);
    packet
}

fn ethernet(kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2; 12];
    frame.extend(kind.to_be_bytes());
    frame.extend(payload);
    frame
}
