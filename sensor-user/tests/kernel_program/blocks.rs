//! What the program drops, limits or only counts.

use std::net::IpAddr;

use leuko::source::kernel::LoadOptions;
use leuko::source::kernel::blocklist::{Blocklist, Rule};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use sensor_ebpf::abi::{Addr, BlockKey, Counters, Reason, kind};
use sensor_ebpf::packet::tunnel;

use super::frames::{segment, tcp, udp};
use super::sides::{At, Kernel, NOW_NS};
use super::{ACK, packets, root};

const SYN: u8 = 0x02;
const DROP: Rule = Rule { expires_ns: NOW_NS + 1, limit: 0, observe: false, listed: false };

fn kernel() -> Kernel {
    Kernel::with(LoadOptions { flows: 4096, blocks: 4096, ..LoadOptions::default() })
}

fn key(network: &str) -> BlockKey {
    let (addr, prefix) = network.split_once('/').unwrap();
    let addr: IpAddr = addr.parse().unwrap();
    let mapped = if addr.is_ipv4() { 96 } else { 0 };
    BlockKey::network(addr.into(), mapped + prefix.parse::<u32>().unwrap())
}

fn edit<R>(kernel: &Kernel, edit: impl FnOnce(&mut Blocklist) -> R) -> R {
    edit(&mut kernel.source.blocklist().lock().unwrap())
}

/// UDP from port 4000 to port 53.
fn datagram(src: &str, dst: &str) -> Vec<u8> {
    let [src, dst]: [IpAddr; 2] = [src.parse().unwrap(), dst.parse().unwrap()];
    let udp = [0x0f, 0xa0, 0, 53, 0, 12, 0, 0, 1, 2, 3, 4];
    let (kind, ip) = match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let mut ip = vec![0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0];
            ip.extend(src.octets().iter().chain(&dst.octets()));
            ([0x08, 0x00], ip)
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let mut ip = vec![0x60, 0, 0, 0, 0, 12, 17, 64];
            ip.extend(src.octets().iter().chain(&dst.octets()));
            ([0x86, 0xdd], ip)
        }
        _ => panic!("one family"),
    };
    [&[0; 12][..], &kind, &ip, &udp].concat()
}

#[test]
fn what_is_blocked_is_dropped_and_counted_and_nothing_else() {
    if !root() {
        return;
    }
    const US: [&str; 2] = ["192.0.2.1", "2001:db8::1"];
    for (network, inside, outside) in [
        ("203.0.113.7/32", "203.0.113.7", "203.0.113.6"),
        ("203.0.113.0/24", "203.0.113.255", "203.0.112.255"),
        ("203.0.0.0/15", "203.1.9.9", "203.2.0.0"),
        ("128.0.0.0/1", "203.0.113.7", "127.255.255.255"),
        ("2001:db8:1::5/128", "2001:db8:1::5", "2001:db8:1::4"),
        ("2001:db8:1::/64", "2001:db8:1::9", "2001:db8:1:1::9"),
        ("2001:db8:1::/48", "2001:db8:1:ff::9", "2001:db8:2::9"),
        ("3000::/5", "3001:db8::9", "2001:db8::9"),
    ] {
        let mut kernel = kernel();
        let us = US[usize::from(inside.contains(':'))];
        let (hit, missed) = (datagram(inside, us), datagram(outside, us));
        let (sent, sent_elsewhere) = (datagram(us, inside), datagram(us, outside));
        kernel.observe(At::Xdp, &hit);
        edit(&kernel, |list| list.put(key(network), &DROP)).unwrap();
        for at in [At::Xdp, At::Ingress] {
            kernel.refuse(at, &hit);
            kernel.observe(at, &missed);
        }
        kernel.refuse(At::Egress, &sent);
        kernel.observe(At::Egress, &sent_elsewhere);
        let ingress = kernel.counted(At::Xdp.hook());
        let in_flows: u64 = ingress.flows.values().map(packets).sum();
        assert_eq!((in_flows, ingress.counters.packets, blocked(&ingress.counters)), (4, 5, 2), "{network}");
        let entry = edit(&kernel, |list| list.entry(&key(network))).unwrap();
        let octets = u32::try_from(hit.len() - 14).unwrap();
        assert_eq!((entry.packets, entry.octets, entry.last_ns), (3, u64::from(octets) * 3, NOW_NS), "{network}");

        edit(&kernel, |list| list.remove(&key(network))).unwrap();
        kernel.observe(At::Xdp, &hit);
        assert!(edit(&kernel, |list| list.is_empty()));
    }
}

#[test]
fn a_block_ends_by_itself_and_the_allowlist_wins() {
    if !root() {
        return;
    }
    let mut kernel = kernel();
    let hit = datagram("203.0.113.7", "192.0.2.1");
    edit(&kernel, |list| list.put(key("203.0.113.7/32"), &Rule { expires_ns: NOW_NS, ..DROP })).unwrap();
    kernel.observe(At::Xdp, &hit);
    edit(&kernel, |list| list.put(key("203.0.0.0/16"), &DROP)).unwrap();
    kernel.refuse(At::Xdp, &hit);

    let allow = |kernel: &Kernel, networks: &[(&str, u8)]| {
        let networks: Vec<(Addr, u8)> =
            networks.iter().map(|(addr, prefix)| (addr.parse::<IpAddr>().unwrap().into(), *prefix)).collect();
        edit(kernel, |list| list.allow(&networks)).unwrap();
    };
    for (networks, wins) in [
        (&[("203.0.113.0", 96 + 24)][..], true),
        (&[("203.0.112.0", 96 + 24), ("2001:db8::", 32)], false),
        (&[("203.0.113.7", 128), ("10.0.0.0", 96 + 8)], true),
        (&[], false),
    ] {
        allow(&kernel, networks);
        if wins {
            kernel.observe(At::Xdp, &hit);
        } else {
            kernel.refuse(At::Xdp, &hit);
        }
    }
}

#[test]
fn what_is_only_counted_passes_and_is_in_flows() {
    if !root() {
        return;
    }
    let mut kernel = kernel();
    edit(&kernel, |list| list.put(key("203.0.113.0/24"), &Rule { observe: true, ..DROP })).unwrap();
    kernel.repeat(At::Xdp, &datagram("203.0.113.7", "192.0.2.1"), 5);
    let counted = kernel.counted(At::Xdp.hook());
    assert_eq!((counted.flows.values().map(packets).sum::<u64>(), counted.counters.packets), (5, 5));
    assert_eq!((counted.counters.would_drop, blocked(&counted.counters)), (5, 0));
    assert_eq!(edit(&kernel, |list| list.entry(&key("203.0.113.0/24"))).unwrap().packets, 5);
    // Counts go on when it is enforced.
    edit(&kernel, |list| list.put(key("203.0.113.0/24"), &DROP)).unwrap();
    kernel.refuse(At::Xdp, &datagram("203.0.113.7", "192.0.2.1"));
    assert_eq!(edit(&kernel, |list| list.entry(&key("203.0.113.0/24"))).unwrap().packets, 6);
}

#[test]
fn the_strictest_of_the_networks_that_hold_an_address_counts() {
    if !root() {
        return;
    }
    let (observed, limited) = (Rule { observe: true, ..DROP }, Rule { limit: 100, ..DROP });
    let (narrow, wide, wider) = (key("203.0.113.7/32"), key("203.0.113.0/24"), key("203.0.0.0/16"));
    for (rules, reason) in [
        ([Some(observed), Some(DROP), None], Some(Reason::Blocked)),
        ([Some(limited), None, Some(DROP)], Some(Reason::Blocked)),
        ([Some(observed), Some(observed), None], None),
        ([Some(limited), Some(observed), None], None),
    ] {
        let mut kernel = kernel();
        for (key, rule) in [narrow, wide, wider].into_iter().zip(rules) {
            rule.into_iter().for_each(|rule| edit(&kernel, |list| list.put(key, &rule)).unwrap());
        }
        let dropped = kernel.drops(At::Xdp, &datagram("203.0.113.7", "192.0.2.1"));
        assert_eq!(dropped, reason.is_some(), "{rules:?}");
        let counters = kernel.counted(At::Xdp.hook()).counters;
        assert_eq!(blocked(&counters), u64::from(dropped));
        assert_eq!(counters.would_drop, u64::from(!dropped), "once, however many count it");
        let packets = |key| edit(&kernel, |list| list.entry(&key)).map(|entry| entry.packets);
        assert_eq!(packets(narrow), Some(u64::from(rules[0] == Some(observed))));
    }
}

#[test]
fn a_scope_is_a_protocol_or_a_port_at_our_side() {
    if !root() {
        return;
    }
    let mut kernel = kernel();
    let ([datagram, segment], source) = ([udp(7, 10), tcp(4000, ACK, b"")], "10.0.0.0/8");
    for (proto, port, drops) in
        [(17, 0, [true, false]), (6, 0, [false, true]), (17, 53, [true, false]), (17, 54, [false; 2])]
    {
        let scoped = BlockKey { proto, port, ..key(source) };
        edit(&kernel, |list| list.put(scoped, &DROP)).unwrap();
        for (frame, drops) in [&datagram, &segment].into_iter().zip(drops) {
            for at in [At::Xdp, At::Ingress] {
                if drops {
                    kernel.refuse(at, frame);
                } else {
                    kernel.observe(at, frame);
                }
            }
        }
        edit(&kernel, |list| list.remove(&scoped)).unwrap();
    }
}

#[test]
fn a_limit_lets_a_quarter_of_a_second_pass_at_once() {
    if !root() {
        return;
    }
    let mut kernel = kernel();
    edit(&kernel, |list| list.put(key("203.0.113.7/32"), &Rule { limit: 100, ..DROP })).unwrap();
    let frame = datagram("203.0.113.7", "192.0.2.1");
    kernel.repeat(At::Xdp, &frame, 26);
    for _ in 0..10 {
        kernel.refuse(At::Xdp, &frame);
    }
    let counted = kernel.counted(At::Xdp.hook());
    assert_eq!(counted.counters.unaccounted[Reason::Limited as usize], 10);
    assert_eq!((counted.counters.packets, counted.flows.values().map(packets).sum::<u64>()), (36, 26));
}

#[test]
fn strangers_ask_only_so_often_and_acquaintances_as_they_like() {
    if !root() {
        return;
    }
    const SERVER: ([u8; 4], u16) = ([192, 0, 2, 1], 443);
    let mut kernel = kernel();
    let shield = BlockKey { kind: kind::REQUESTS, proto: 6, port: 443, ..key("192.0.2.1/32") };
    edit(&kernel, |list| list.put(shield, &Rule { limit: 100, ..DROP })).unwrap();
    let acquaintance = [198, 51, 100, 1];
    edit(&kernel, |list| list.note_proven(IpAddr::from(acquaintance).into(), NOW_NS));
    let friend = [203, 0, 113, 200];
    edit(&kernel, |list| list.allow(&[(IpAddr::from(friend).into(), 128)])).unwrap();
    let syn = |source: [u8; 4], port| segment((source, port), SERVER, SYN, (1, 0), b"");
    for n in 0..26 {
        kernel.observe(At::Xdp, &syn([203, 0, 113, n], 4000));
    }
    for n in 26..50 {
        kernel.refuse(At::Xdp, &syn([203, 0, 113, n], 4000));
        kernel.observe(At::Xdp, &syn(acquaintance, 4000 + u16::from(n)));
        kernel.observe(At::Xdp, &syn(friend, 4000 + u16::from(n)));
        kernel.observe(At::Xdp, &segment(([203, 0, 113, n], 4000), SERVER, ACK, (1, 1), b"x"));
        kernel.observe(At::Xdp, &segment(([203, 0, 113, n], 4000), (SERVER.0, 80), SYN, (1, 0), b""));
    }
    // A request in two fragments, of which the first is too short for its flags.
    let mut cut = syn([203, 0, 113, 60], 4000);
    cut[14 + 6] |= 0x20;
    cut[14 + 3] = 28;
    cut.truncate(14 + 28);
    kernel.refuse(At::Xdp, &cut);
    assert_eq!(edit(&kernel, |list| list.entry(&shield)).unwrap().packets, 25);
}

#[test]
fn scopes_are_not_evaded() {
    if !root() {
        return;
    }
    let scoped = |network: &str, proto, port| BlockKey { proto, port, ..key(network) };
    // Nine destination options before the datagram.
    let mut deep = datagram("2001:db8::7", "2001:db8::1");
    for n in 0..9 {
        let next = if n == 0 { 17 } else { 60 };
        deep.splice(54..54, [next, 0, 1, 4, 0, 0, 0, 0]);
    }
    (deep[14 + 6], deep[14 + 5]) = (60, 12 + 72);
    let mut kernel = kernel();
    kernel.observe(At::Xdp, &deep);
    edit(&kernel, |list| list.put(scoped("203.0.113.7/32", 17, 53), &DROP)).unwrap();
    for at in [At::Xdp, At::Ingress, At::Egress] {
        kernel.refuse(at, &deep);
    }

    // Packets that are left out of what is counted are not left out of what is judged.
    let options = LoadOptions { flows: 64, blocks: 64, sampling: 1 << 30, ..LoadOptions::default() };
    let mut sampled = Kernel::with(options);
    edit(&sampled, |list| list.put(scoped("203.0.113.7/32", 17, 53), &DROP)).unwrap();
    for _ in 0..20 {
        sampled.refuse(At::Xdp, &datagram("203.0.113.7", "192.0.2.1"));
        sampled.observe(At::Xdp, &datagram("203.0.113.8", "192.0.2.1"));
    }
    let counters = sampled.counted(At::Xdp.hook()).counters;
    assert_eq!((blocked(&counters), counters.unaccounted[Reason::Sampled as usize], counters.packets), (20, 20, 40));
}

#[test]
fn both_packets_of_a_tunnel_are_judged() {
    if !root() {
        return;
    }
    // VXLAN from 198.51.100.1: a datagram of 203.0.113.7 inside.
    let inner = datagram("203.0.113.7", "192.0.2.1");
    let length = u16::try_from(16 + inner.len()).unwrap().to_be_bytes();
    let mut outer = [&[0x11, 0x22, 0x12, 0xb5][..], &length, &[0, 0], &[8, 0, 0, 0, 0, 0, 1, 0], &inner].concat();
    let total = u16::try_from(20 + outer.len()).unwrap().to_be_bytes();
    let ip = [&[0x45, 0][..], &total, &[0, 0, 0, 0, 64, 17, 0, 0], &[198, 51, 100, 1], &[192, 0, 2, 9]].concat();
    outer.splice(0..0, [&[0; 12][..], &[8, 0], &ip].concat());
    let options = LoadOptions { flows: 64, blocks: 64, tunnels: tunnel::VXLAN, ..LoadOptions::default() };
    let mut kernel = Kernel::with(options);
    for (network, proto, port, drops) in [
        ("203.0.113.7/32", 0, 0, true),
        ("203.0.113.7/32", 17, 53, true),
        ("198.51.100.1/32", 0, 0, true),
        ("198.51.100.1/32", 17, 4789, true),
        ("198.51.100.1/32", 17, 53, false),
    ] {
        let scoped = BlockKey { proto, port, ..key(network) };
        edit(&kernel, |list| list.put(scoped, &DROP)).unwrap();
        assert_eq!(kernel.drops(At::Xdp, &outer), drops, "{network} {proto} {port}");
        edit(&kernel, |list| list.remove(&scoped)).unwrap();
    }
    kernel.observe(At::Xdp, &outer);
}

#[test]
fn the_kernel_agrees_with_a_linear_search() {
    if !root() {
        return;
    }
    // Few bits differ, so that networks nest and neighbours meet.
    let v4 =
        || (0_u32..16, 0_u32..4).prop_map(|(high, low)| IpAddr::from((0xcb00_0000 | high << 15 | low).to_be_bytes()));
    let v6 = || {
        (0_u128..16, 0_u128..4).prop_map(|(high, low)| IpAddr::from((0x2001 << 112 | high << 62 | low).to_be_bytes()))
    };
    let addr = || prop_oneof![v4(), v6()];
    let block = (addr(), 1_u8..=128, 0_u64..3, any::<bool>());
    let case = (
        prop::collection::vec(block, 1..24),
        prop::collection::vec((addr(), 1_u8..=128), 0..3),
        prop::collection::vec(addr(), 1..40),
    );
    let kernel = std::cell::RefCell::new(kernel());
    let config = Config { cases: 128, failure_persistence: None, ..Config::default() };
    let outcome = TestRunner::new(config).run(&case, |(blocks, allowed, sources)| {
        let mut kernel = kernel.borrow_mut();
        let mut expected = Vec::new();
        let mapped = |addr: IpAddr, prefix: u8| if addr.is_ipv4() { 96 + (prefix - 1) % 32 + 1 } else { prefix };
        let allowed: Vec<(Addr, u8)> =
            allowed.iter().map(|&(addr, prefix)| (addr.into(), mapped(addr, prefix))).collect();
        edit(&kernel, |list| {
            let left: Vec<BlockKey> = list.entries().map(|(key, _)| key).collect();
            for key in &left {
                list.remove(key);
            }
            list.allow(&allowed).unwrap();
            for &(addr, prefix, ends, observe) in &blocks {
                let key = BlockKey::network(addr.into(), u32::from(mapped(addr, prefix)));
                let rule = Rule { expires_ns: NOW_NS + ends, limit: 0, observe, listed: false };
                list.put(key, &rule).unwrap();
                expected.retain(|(other, _): &(BlockKey, Rule)| *other != key);
                expected.push((key, rule));
            }
        });
        for source in &sources {
            // No network of IPv6 holds an address of IPv4.
            let within = |key: &BlockKey| {
                let addr = Addr::from(*source);
                addr.network(u32::from(key.prefix)) == key.addr && addr.v4().is_some() == key.addr.v4().is_some()
            };
            let live = expected.iter().filter(|(key, rule)| rule.expires_ns > NOW_NS && within(key));
            let strictest = live.min_by_key(|(_, rule)| rule.observe);
            let allowed = allowed.iter().any(|&(addr, prefix)| within(&BlockKey::network(addr, u32::from(prefix))));
            let drops = strictest.is_some_and(|(_, rule)| !rule.observe) && !allowed;
            let us = if source.is_ipv4() { "192.0.2.1" } else { "2001:db8::1" };
            let dropped = kernel.drops(At::Xdp, &datagram(&source.to_string(), us));
            prop_assert_eq!(dropped, drops, "{} {:?}", source, strictest);
        }
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}

fn blocked(counters: &Counters) -> u64 {
    counters.unaccounted[Reason::Blocked as usize]
}
