//! What packets leave in a slot.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::abi::Addr;
use crate::packet::Fragment;

const ACK: u8 = tcp_flags::ACK;
const SYN: u8 = tcp_flags::SYN;
const RST: u8 = tcp_flags::RST;
const PSH: u8 = tcp_flags::PSH;
use Direction::{HiToLo, LoToHi};

/// A packet seen: which way, what, when.
type Seen = (Direction, Packet, u64);

fn tcp(flags: u8, seq: u32, payload: u32) -> Packet {
    Packet {
        src: Addr::from_v4(1),
        dst: Addr::from_v4(2),
        src_port: 40_000,
        dst_port: 443,
        proto: proto::TCP,
        ttl: 64,
        tcp_flags: flags,
        window: 512,
        seq,
        ip_octets: 40 + payload,
        header_octets: 40,
        ..Packet::default()
    }
}

fn udp(payload: u32) -> Packet {
    Packet { proto: proto::UDP, ip_octets: 28 + payload, header_octets: 28, window: 0, ..tcp(0, 0, 0) }
}

#[track_caller]
fn flow(packets: &[Seen]) -> FlowSlot {
    let mut slot = FlowSlot::default();
    for (direction, packet, now_ns) in packets {
        slot.observe(packet, &Wire::single(packet), *direction, *now_ns);
    }
    slot
}

#[test]
fn super_packets_are_counted_as_the_wire_has_them() {
    // (header, payload, gso_size) -> (packets, octets, every but the last, the last)
    let table = [
        ((40, 1000, 0), (1, 1040, 1040, 1040)),
        ((40, 1000, 1460), (1, 1040, 1040, 1040)),
        ((40, 1460, 1460), (1, 1500, 1500, 1500)),
        ((40, 1461, 1460), (2, 1541, 1500, 41)),
        ((40, 2920, 1460), (2, 3000, 1500, 1500)),
        ((60, 65_000, 1000), (65, 68_900, 1060, 1060)),
        ((28, 3, 1), (3, 87, 29, 29)),
        ((40, 0, 1460), (1, 40, 40, 40)),
        // BIG TCP: above 64 KiB.
        ((60, 500_000, 1440), (348, 520_880, 1500, 380)),
    ];
    for ((header_octets, payload, gso_size), (packets, octets, full_len, last_len)) in table {
        let packet = Packet { header_octets, ip_octets: header_octets + payload, ..Packet::default() };
        let wire = Wire { packets, octets, full_len, last_len };
        assert_eq!(Wire::segmented(&packet, gso_size, 0), wire, "{header_octets} + {payload} by {gso_size}");
    }
}

#[test]
fn a_super_packet_counts_as_its_segments_one_by_one() {
    let merged = tcp(ACK | PSH, 1000, 3500);
    let mut whole = FlowSlot::default();
    whole.observe(&merged, &Wire::segmented(&merged, 1460, 0), LoToHi, 5000);

    let segments = [(ACK, 1000, 1460), (ACK, 2460, 1460), (ACK | PSH, 3920, 580)];
    let parts = segments.map(|(flags, seq, payload)| (LoToHi, tcp(flags, seq, payload), 5000));
    assert_eq!(whole, flow(&parts));
}

#[test]
fn directions_are_counted_apart() {
    let slot = flow(&[(LoToHi, udp(10), 1000), (HiToLo, udp(500), 2000), (HiToLo, udp(20), 4_000_000)]);
    let [lo, hi] = slot.half;
    assert_eq!((lo.packets, lo.octets, lo.first_ns, lo.last_ns), (1, 38, 1000, 1000));
    assert_eq!((hi.packets, hi.octets, hi.first_ns, hi.last_ns), (2, 576, 2000, 4_000_000));
    assert_eq!((hi.len_min, hi.len_max, hi.len_sq), (48, 528, 48 * 48 + 528 * 528));
    let gap = (4_000_000 - 2000) >> 10;
    assert_eq!((lo.iat_sq, hi.iat_sq), (0, gap * gap));
    assert_eq!(slot.ttl, [64, 64]);
}

#[test]
fn lengths_above_64_kib_saturate() {
    let slot = flow(&[(LoToHi, udp(500_000), 1)]);
    assert_eq!((slot.half[0].len_min, slot.half[0].len_max, slot.half[0].octets), (0xffff, 0xffff, 500_028));
}

#[test]
fn a_clock_that_goes_back_changes_no_time() {
    let slot = flow(&[(LoToHi, udp(1), 9_000_000), (LoToHi, udp(1), 1_000_000)]);
    assert_eq!((slot.half[0].first_ns, slot.half[0].last_ns, slot.half[0].iat_sq), (9_000_000, 9_000_000, 0));
}

#[test]
fn acks_are_packets_without_those_that_lack_it() {
    let flags = [SYN, ACK, ACK | PSH, RST, 0, RST | ACK, 0xff];
    let packets = flags.map(|flags| (LoToHi, tcp(flags, 1, 0), 1));
    let slot = flow(&packets);
    let acks = slot.half[0].packets - u64::from(slot.rare[0].no_ack);
    assert_eq!(acks, 4);
    assert_eq!(slot.half[0].psh, 2);
    let HalfRare { fin, syn, rst, urg, ece, cwr, no_ack, .. } = slot.rare[0];
    assert_eq!((fin, syn, rst, urg, ece, cwr, no_ack), (1, 2, 3, 1, 1, 1, 3));
    assert_eq!(slot.rare[1], HalfRare::default());
}

#[test]
fn flags_of_a_super_packet_are_on_one_segment_and_ack_on_all() {
    let mut slot = FlowSlot::default();
    let push = tcp(ACK | PSH | tcp_flags::FIN, 1, 4000);
    slot.observe(&push, &Wire::segmented(&push, 1000, 0), LoToHi, 1);
    assert_eq!((slot.half[0].packets, slot.half[0].psh, slot.rare[0].fin, slot.rare[0].no_ack), (4, 1, 1, 0));
    let bare = tcp(0, 4001, 4000);
    slot.observe(&bare, &Wire::segmented(&bare, 1000, 0), LoToHi, 2);
    assert_eq!((slot.half[0].packets, slot.rare[0].no_ack), (8, 4));
}

#[test]
fn later_fragments_of_tcp_have_no_ack_and_no_other_flag() {
    let fragment = Packet { fragment: Fragment::Later, src_port: 0, dst_port: 0, header_octets: 20, ..tcp(0, 0, 800) };
    let slot = flow(&[(LoToHi, fragment, 7)]);
    assert_eq!((slot.half[0].packets, slot.rare[0].no_ack, slot.first_payload), (1, 1, 0));
    let slot = flow(&[(LoToHi, Packet { proto: proto::UDP, ..fragment }, 7)]);
    assert_eq!(slot.rare[0].no_ack, 0);
}

#[test]
fn handshake_delays_are_measured_from_the_syn() {
    const MS: u64 = 1_000_000;
    let units = |ms: u64| u32::try_from((ms * MS) >> 10).unwrap();
    let between = |from: u64, to: u64| units(to) - units(from);
    let syn = (LoToHi, tcp(SYN, 100, 0), 10 * MS);
    let syn_ack = (HiToLo, tcp(SYN | ACK, 900, 0), 30 * MS);
    let ack_of = |ack, payload, ms| (LoToHi, Packet { ack, ..tcp(ACK, 101, payload) }, ms * MS);
    let ack = ack_of(901, 0, 35);
    let table: [(&str, &[Seen], _); 12] = [
        ("whole", &[syn, syn_ack, ack], (units(10), between(10, 30), between(10, 35))),
        (
            "later packets change nothing",
            &[syn, syn_ack, ack, ack_of(901, 9, 99)],
            (units(10), between(10, 30), between(10, 35)),
        ),
        ("of what was never sent", &[syn, syn_ack, ack_of(1100, 0, 35)], (units(10), between(10, 30), 0)),
        ("forged", &[syn, syn_ack, ack_of(0x8000_0000, 9, 35)], (units(10), between(10, 30), 0)),
        (
            "of data, where an ACK was missed",
            &[syn, syn_ack, (HiToLo, tcp(ACK, 901, 500), 33 * MS), ack_of(1401, 0, 35)],
            (units(10), between(10, 30), between(10, 35)),
        ),
        (
            "a repeated SYN keeps the first time",
            &[syn, (LoToHi, tcp(SYN, 100, 0), 20 * MS), syn_ack],
            (units(10), between(10, 30), 0),
        ),
        (
            "a repeated SYN-ACK keeps the first delay",
            &[syn, syn_ack, (HiToLo, tcp(SYN | ACK, 900, 0), 60 * MS)],
            (units(10), between(10, 30), 0),
        ),
        (
            "the server's ACK does not complete it",
            &[syn, syn_ack, (HiToLo, tcp(ACK, 901, 5), 33 * MS)],
            (units(10), between(10, 30), 0),
        ),
        ("no SYN seen", &[syn_ack, ack], (0, 0, 0)),
        ("refused", &[syn, (HiToLo, tcp(RST | ACK, 0, 0), 30 * MS), ack], (units(10), 0, 0)),
        (
            "reset by the client",
            &[syn, syn_ack, (LoToHi, tcp(RST | ACK, 101, 0), 35 * MS)],
            (units(10), between(10, 30), 0),
        ),
        ("faster than the unit counts as one", &[syn, (HiToLo, tcp(SYN | ACK, 900, 0), 10 * MS)], (units(10), 1, 0)),
    ];
    for (what, packets, delays) in table {
        let slot = flow(packets);
        assert_eq!((slot.syn_time, slot.syn_ack_delay, slot.ack_delay), delays, "{what}");
    }
}

#[test]
fn retransmissions_are_segments_that_bring_nothing_new() {
    let segment = |seq, payload| (LoToHi, tcp(ACK, seq, payload), 1);
    let table: [(&str, &[Seen], _); 8] = [
        ("in order", &[segment(100, 50), segment(150, 50), segment(200, 50)], 0),
        ("the same again", &[segment(100, 50), segment(100, 50)], 1),
        ("an older one again", &[segment(100, 50), segment(150, 50), segment(100, 50)], 1),
        ("partly new", &[segment(100, 50), segment(120, 50)], 0),
        ("a keep-alive", &[segment(100, 50), segment(149, 1)], 1),
        ("pure ACKs", &[segment(100, 50), segment(150, 0), segment(150, 0)], 0),
        ("across the wrap", &[segment(u32::MAX - 9, 50), segment(40, 50), segment(u32::MAX - 9, 50)], 1),
        ("the other direction counts apart", &[segment(100, 50), (HiToLo, tcp(ACK, 100, 50), 1)], 0),
    ];
    for (what, packets, retransmits) in table {
        assert_eq!(flow(packets).rare[0].retransmits, retransmits, "{what}");
    }
}

#[test]
fn the_first_payload_tells_who_speaks_first() {
    let icmp = Packet { proto: proto::ICMP, header_octets: 20, ..udp(50) };
    let table: [(&str, &[Seen], _); 5] = [
        ("the client", &[(LoToHi, tcp(SYN, 1, 0), 1), (LoToHi, tcp(ACK, 2, 5), 2), (HiToLo, tcp(ACK, 2, 5), 3)], 1),
        ("the server", &[(LoToHi, tcp(SYN, 1, 0), 1), (HiToLo, tcp(ACK, 2, 5), 3), (LoToHi, tcp(ACK, 2, 5), 4)], 2),
        ("nobody", &[(LoToHi, tcp(SYN, 1, 0), 1), (LoToHi, udp(0), 1)], 0),
        ("UDP", &[(HiToLo, udp(1), 1)], 2),
        ("ICMP has no order", &[(LoToHi, icmp, 1)], 0),
    ];
    for (what, packets, first) in table {
        assert_eq!(flow(packets).first_payload, first, "{what}");
    }
}

#[test]
fn zero_windows_are_counted_without_syn_and_rst() {
    let closed = |flags| (LoToHi, Packet { window: 0, ..tcp(flags, 1, 0) }, 1);
    let slot = flow(&[closed(ACK), closed(RST), closed(SYN), (LoToHi, tcp(ACK, 1, 0), 1), closed(ACK | PSH)]);
    assert_eq!((slot.half[0].zero_windows, slot.half[0].window), (2, 0));
}

proptest! {
    #[test]
    fn segments_add_up(header in 0u32..200, payload in 0u32..600_000, gso_size in 0u32..70_000) {
        let packet = Packet { header_octets: header, ip_octets: header + payload, ..Packet::default() };
        let wire = Wire::segmented(&packet, gso_size, 0);
        let last = u64::from(wire.last_len);
        prop_assert_eq!(wire.octets, u64::from(wire.packets - 1) * u64::from(wire.full_len) + last);
        prop_assert_eq!(wire.octets, u64::from(payload) + u64::from(wire.packets) * u64::from(header));
        prop_assert!(wire.last_len <= wire.full_len);
        prop_assert!(payload == 0 || wire.last_len > header);
    }

    #[test]
    fn no_packet_makes_the_accounting_panic(
        packets in vec((any::<bool>(), any::<[u32; 4]>(), any::<[u8; 4]>(), any::<bool>(), any::<u64>()), 0..20),
    ) {
        let mut slot = FlowSlot::default();
        let mut total = 0u64;
        for (up, [ip_octets, header_octets, seq, gso_size], [proto, flags, ttl, window], later, now) in packets {
            let proto = if proto & 1 == 0 { proto::TCP } else { proto };
            let window = u16::from(window);
            let fragment = if later { Fragment::Later } else { Fragment::Whole };
            let packet = Packet {
                proto, ttl, tcp_flags: flags, fragment, window, seq, ip_octets, header_octets, ..Packet::default()
            };
            let wire = Wire::segmented(&packet, gso_size, 0);
            total += u64::from(wire.packets);
            slot.observe(&packet, &wire, if up { LoToHi } else { HiToLo }, now);
        }
        prop_assert_eq!(slot.half[0].packets + slot.half[1].packets, total);
    }
}
