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

fn network() -> impl Strategy<Value = (u16, Vec<u8>)> {
    prop_oneof![
        6 => v4().prop_map(|packet| (0x0800, packet)),
        5 => v6().prop_map(|packet| (0x86dd, packet)),
        1 => vec(any::<u8>(), 28..40).prop_map(|packet| (0x0806, packet)),
        1 => (any::<u16>(), vec(any::<u8>(), 4..40)),
    ]
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

fn ethernet(kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2; 12];
    frame.extend(kind.to_be_bytes());
    frame.extend(payload);
    frame
}
