//! Fragments, ICMP errors, ARP, copies of one packet, sampling.

use leuko::source::kernel::LoadOptions;
use sensor_ebpf::abi::{ARP_RING_OCTETS, Hook, Reason};

use super::frames::{arp_request, fragment, icmp_about, tcp, udp};
use super::sides::{At, Kernel};
use super::{ACK, packets, root};

#[test]
fn fragments_are_counted_to_the_flow_of_the_first() {
    if !root() {
        return;
    }
    let mut kernel = Kernel::load(4096);
    let datagram = &udp(0x0001_0007, 24)[34..];
    for at in At::ALL {
        kernel.observe(at, &fragment(7, 0, true, datagram));
        kernel.observe(at, &fragment(7, 4, true, &[0; 32]));
        kernel.observe(at, &fragment(7, 8, false, &[0; 5]));
        kernel.observe(at, &fragment(8, 4, false, &[0; 32]));
        let counted = kernel.counted(at.hook());
        let of_port = |port| counted.flows.values().find(|flow| flow.key.lo_port == port).map(packets);
        assert_eq!((of_port(7), of_port(0)), (Some(3), Some(1)), "{at:?}: {:?}", counted.flows.keys());
        assert_eq!((counted.counters.fragments, counted.counters.orphan_fragments), (3, 1));
        kernel.forget_fragments();
    }
}

#[test]
fn icmp_errors_are_noted_at_the_flow_they_quote() {
    if !root() {
        return;
    }
    let mut kernel = Kernel::load(4096);
    let (question, other) = (udp(0x0001_0007, 24), udp(0x0001_0008, 24));
    for at in At::ALL {
        kernel.observe(At::Egress, &question);
        kernel.observe(At::Egress, &other);
        kernel.observe(at, &icmp_about(3, &question));
        kernel.observe(at, &icmp_about(3, &udp(0x0009_0009, 24)));
        let counted = kernel.counted(at.hook());
        let noted = |port| {
            let flow = counted.flows.values().find(|flow| flow.key.lo_port == port).unwrap();
            (packets(flow), flow.icmp_errors, flow.icmp_error)
        };
        assert_eq!(noted(7), (1, 1, 0x0301), "{at:?}");
        assert_eq!(noted(8), (1, 0, 0));
        assert_eq!(counted.flows.len(), 3, "nothing is claimed for a quote; the errors have a flow of their own");
    }
}

#[test]
fn arp_messages_arrive_or_are_counted_as_lost() {
    if !root() {
        return;
    }
    // A record of the ring has a header of eight octets.
    const ROOM: u32 = ARP_RING_OCTETS / (48 + 8);
    let mut kernel = Kernel::load(64);
    for at in At::ALL {
        kernel.observe(at, &arp_request(1, 2));
        let counted = kernel.counted(at.hook());
        let [message] = counted.arp[..] else { panic!("{at:?}: {:?}", counted.arp) };
        assert_eq!((message.sender_ip, message.target_ip, message.operation), (0x0a00_0001, 0x0a00_0002, 1));
        assert_eq!((message.sender_mac.0, message.frame_mac.0), (0x0200_0000_0001, 0x0202_0202_0202));
        assert_eq!(counted.counters.unaccounted[Reason::Arp as usize], 1);
    }
    kernel.repeat(At::Xdp, &arp_request(1, 2), ROOM + 100);
    let counted = kernel.counted(Hook::Ingress);
    assert_eq!(counted.arp.len() as u64 + counted.counters.arp_lost, u64::from(ROOM) + 100);
    assert!(counted.counters.arp_lost >= 100, "{}", counted.counters.arp_lost);
}

#[test]
fn a_forwarded_packet_is_counted_where_it_came_in() {
    if !root() {
        return;
    }
    let mut kernel = Kernel::load(64);
    kernel.source.set_watched(&[7, 8].into()).unwrap();
    kernel.source.set_watched(&[8, 9].into()).unwrap();
    let frame = udp(1, 10);
    kernel.observe(At::Xdp, &frame);
    for came_in_at in [0, 7, 8, 9] {
        kernel.observe_forwarded(&frame, came_in_at);
    }
    let counted = kernel.counted(Hook::Egress);
    assert_eq!((counted.counters.packets, counted.counters.unaccounted[Reason::Forwarded as usize]), (4, 2));
    assert_eq!(counted.flows.values().map(packets).sum::<u64>(), 1 + 2, "ingress, of this host, from elsewhere");
}

#[test]
fn sampling_leaves_out_what_it_says() {
    if !root() {
        return;
    }
    const PACKETS: u32 = 100_000;
    let mut kernel = Kernel::with(LoadOptions { flows: 64, sampling: 10, ..LoadOptions::default() });
    for at in At::ALL {
        kernel.repeat(at, &tcp(1, ACK, b""), PACKETS);
        let counted = kernel.counted(at.hook());
        let estimate: u64 = counted.flows.values().map(packets).sum();
        let left_out = counted.counters.unaccounted[Reason::Sampled as usize];
        assert_eq!(counted.counters.packets, u64::from(PACKETS));
        assert_eq!(estimate / 10 + left_out, u64::from(PACKETS), "one of ten is seen, and stands for ten");
        // 100,000 +- 950; a run in a billion is further off than six of these.
        assert!((94_300..=105_700).contains(&estimate), "{at:?} {estimate}");
    }
}
