//! What is told of ARP messages: lies and sweeps, and what only looks like them.

#[path = "support/network.rs"]
mod network;

use std::net::{IpAddr, Ipv4Addr};

use network::{Network, network};
use sensor_core::incident::{Class, IncidentEvent};
use sensor_ebpf::abi::{ArpMessage, MacAddr};
use sensor_ebpf::packet::arp::{REPLY, REQUEST};

const NOBODY: MacAddr = MacAddr(0);
const GATEWAY: (MacAddr, u32) = (MacAddr(0x0200_0000_0001), 0x0a00_0001);
const VICTIM: (MacAddr, u32) = (MacAddr(0x0200_0000_0002), 0x0a00_0002);
const ATTACKER: (MacAddr, u32) = (MacAddr(0x0200_0000_0009), 0x0a00_0009);
const BACKUP: (MacAddr, u32) = (MacAddr(0x0200_0000_000b), 0x0a00_000b);

fn say(net: &mut Network, operation: u16, sender: (MacAddr, u32), target: (MacAddr, u32)) {
    let message = ArpMessage {
        time_ns: net.now.nanos(),
        operation,
        sender_mac: sender.0,
        sender_ip: sender.1,
        target_mac: target.0,
        target_ip: target.1,
        frame_mac: sender.0,
        ..ArpMessage::default()
    };
    net.engine.observe_arp(&message, 0);
    net.wait(1_000);
}

/// A question and its answer.
fn resolve(net: &mut Network, asker: (MacAddr, u32), holder: (MacAddr, u32)) {
    say(net, REQUEST, asker, (NOBODY, holder.1));
    say(net, REPLY, holder, asker);
}

fn announce(net: &mut Network, mac: MacAddr, ip: u32) {
    say(net, REQUEST, (mac, ip), (NOBODY, ip));
}

/// Everyone has spoken with everyone.
fn busy() -> Network {
    let mut net = network();
    for (asker, holder) in
        [(VICTIM, GATEWAY), (GATEWAY, VICTIM), (ATTACKER, GATEWAY), (ATTACKER, VICTIM), (VICTIM, BACKUP)]
    {
        resolve(&mut net, asker, holder);
    }
    net.seconds(60);
    net
}

fn ip(bits: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(bits))
}

fn assert_lie(net: &Network) {
    let incident = &net.only().incident;
    assert_eq!((incident.class, incident.attackers.as_slice()), (Class::ArpSpoof, &[ip(ATTACKER.1)][..]));
    assert_eq!(incident.evidence["mac"], "02:00:00:00:00:09");
    assert!(incident.victims.contains(&ip(VICTIM.1)), "{:?}", incident.victims);
    assert!(incident.summary.starts_with("02:00:00:00:00:09 answers for 10.0.0."), "{}", incident.summary);
}

#[test]
fn who_tells_both_sides_to_be_the_other_is_in_between() {
    let mut net = busy();
    say(&mut net, REPLY, (ATTACKER.0, GATEWAY.1), VICTIM);
    say(&mut net, REPLY, (ATTACKER.0, VICTIM.1), GATEWAY);
    net.seconds(1);
    assert_lie(&net);
}

#[test]
fn who_keeps_telling_one_host_to_be_its_gateway_lies() {
    let mut net = busy();
    for _ in 0..5 {
        say(&mut net, REPLY, (ATTACKER.0, GATEWAY.1), VICTIM);
        net.seconds(2);
    }
    assert_lie(&net);
    assert_eq!(net.only().incident.evidence["previous_mac"], "02:00:00:00:00:01");
}

#[test]
fn who_claims_an_address_and_asks_for_it_lies() {
    let mut net = busy();
    say(&mut net, REPLY, (ATTACKER.0, GATEWAY.1), VICTIM);
    net.seconds(3);
    say(&mut net, REQUEST, ATTACKER, (NOBODY, GATEWAY.1));
    net.seconds(1);
    assert_lie(&net);
}

#[test]
fn a_lie_told_to_everyone_against_the_owner_is_found() {
    let mut net = busy();
    for _ in 0..10 {
        announce(&mut net, ATTACKER.0, GATEWAY.1);
        net.seconds(5);
        resolve(&mut net, GATEWAY, VICTIM);
        say(&mut net, REQUEST, ATTACKER, (NOBODY, GATEWAY.1));
        net.seconds(5);
    }
    let incident = &net.only().incident;
    assert_eq!((incident.class, incident.attackers.as_slice()), (Class::ArpSpoof, &[ip(ATTACKER.1)][..]));
}

#[test]
fn a_lie_told_again_and_again_after_a_question_was_answered_is_found() {
    let mut net = busy();
    say(&mut net, REQUEST, ATTACKER, (NOBODY, GATEWAY.1));
    for _ in 0..10 {
        resolve(&mut net, VICTIM, GATEWAY);
        net.seconds(1);
        for _ in 0..3 {
            say(&mut net, REPLY, (ATTACKER.0, GATEWAY.1), VICTIM);
            net.seconds(2);
        }
    }
    let incident = &net.only().incident;
    assert_eq!((incident.class, incident.attackers.as_slice()), (Class::ArpSpoof, &[ip(ATTACKER.1)][..]));
}

#[test]
fn two_interfaces_that_both_answer_at_once_are_no_lie() {
    let mut net = busy();
    let second = MacAddr(0x0200_0000_000c);
    resolve(&mut net, VICTIM, (second, 0x0a00_000c));
    for _ in 0..20 {
        resolve(&mut net, VICTIM, GATEWAY);
        say(&mut net, REPLY, (second, GATEWAY.1), VICTIM);
        net.seconds(20);
    }
    quiet(&mut net);
}

fn quiet(net: &mut Network) {
    net.seconds(5);
    assert_eq!(net.opened(), Vec::<&IncidentEvent>::new());
}

#[test]
fn failover_with_announcements_and_back_is_no_lie() {
    let mut net = busy();
    for (mac, other) in [(BACKUP.0, GATEWAY), (GATEWAY.0, BACKUP), (BACKUP.0, GATEWAY)] {
        for _ in 0..5 {
            announce(&mut net, mac, 0x0a00_0064);
            net.seconds(1);
        }
        resolve(&mut net, VICTIM, (mac, 0x0a00_0064));
        // Whoever stands by looks after the one in charge.
        resolve(&mut net, other, (mac, 0x0a00_0064));
        net.seconds(120);
    }
    quiet(&mut net);
}

#[test]
fn a_lease_used_again_is_no_lie() {
    let mut net = busy();
    say(&mut net, REQUEST, (BACKUP.0, 0), (NOBODY, VICTIM.1));
    announce(&mut net, BACKUP.0, VICTIM.1);
    resolve(&mut net, GATEWAY, (BACKUP.0, VICTIM.1));
    quiet(&mut net);
}

#[test]
fn a_proxy_that_answers_for_all_when_asked_is_no_liar() {
    let mut net = busy();
    for n in 20..120 {
        resolve(&mut net, VICTIM, (GATEWAY.0, 0x0a00_0000 + n));
        resolve(&mut net, ATTACKER, (GATEWAY.0, 0x0a00_0000 + n));
    }
    quiet(&mut net);
}

#[test]
fn two_interfaces_of_one_host_that_take_turns_are_no_lie() {
    let mut net = busy();
    for n in 0..20 {
        let mac = if n % 2 == 0 { GATEWAY.0 } else { MacAddr(0x0200_0000_000c) };
        // A bond that spreads its load tells each client where to send, unasked.
        say(&mut net, REPLY, (mac, GATEWAY.1), VICTIM);
        resolve(&mut net, (mac, GATEWAY.1), VICTIM);
        net.seconds(10);
    }
    quiet(&mut net);
}

#[test]
fn answers_whose_questions_cannot_be_seen_are_no_lies() {
    let mut net = network();
    for n in 0..50 {
        for host in 0..20 {
            say(
                &mut net,
                REPLY,
                (GATEWAY.0, GATEWAY.1 + (n & 1) * 0x100),
                (MacAddr(0x0200_0000_1000 + host), 0x0a00_1000),
            );
        }
        net.seconds(1);
    }
    quiet(&mut net);
}

#[test]
fn asking_for_every_address_is_a_host_scan() {
    let mut net = busy();
    for _ in 0..2 {
        for n in 100..200 {
            say(&mut net, REQUEST, ATTACKER, (NOBODY, 0x0a00_0000 + n));
        }
    }
    net.seconds(2);
    let incident = &net.only().incident;
    assert_eq!((incident.class, incident.attackers.as_slice()), (Class::HostScan, &[ip(ATTACKER.1)][..]));
    assert_eq!(incident.evidence["protocols"], serde_json::json!(["arp"]));
    assert!(incident.ports.is_empty());
}

#[test]
fn a_slow_sweep_is_a_host_scan_and_is_not_told_again_and_again() {
    let mut net = busy();
    for n in 100..200 {
        say(&mut net, REQUEST, ATTACKER, (NOBODY, 0x0a00_0000 + n));
        net.seconds(20);
    }
    let opened = net.opened();
    assert!((1..=3).contains(&opened.len()) && opened[0].incident.class == Class::HostScan, "{opened:#?}");

    let mut net = busy();
    for n in 100..200 {
        say(&mut net, REQUEST, ATTACKER, (NOBODY, 0x0a00_0000 + n));
        net.seconds(90);
    }
    assert!((1..=3).contains(&net.opened().len()), "{:#?}", net.opened());
}

#[test]
fn a_gateway_that_passes_on_the_questions_of_the_internet_is_no_scanner() {
    let mut net = busy();
    for host in 0..5 {
        resolve(&mut net, (MacAddr(0x0200_0000_1000 + host), 0x0a00_0040 + u32::try_from(host).unwrap()), GATEWAY);
    }
    for n in 100..250 {
        (0..3).for_each(|_| say(&mut net, REQUEST, GATEWAY, (NOBODY, 0x0a00_0000 + n)));
    }
    quiet(&mut net);
}

#[test]
fn a_server_whose_clients_have_left_is_no_scanner() {
    let mut net = busy();
    for n in 0..2000_u32 {
        say(&mut net, REQUEST, VICTIM, (NOBODY, 0x0a00_0100 + n % 20 * 11));
        net.seconds(3);
    }
    quiet(&mut net);
}

#[test]
fn asking_for_hosts_that_are_there_is_no_scan() {
    let mut net = busy();
    for n in 100..200 {
        resolve(&mut net, VICTIM, (MacAddr(0x0200_0000_1000 + u64::from(n)), 0x0a00_0000 + n));
    }
    quiet(&mut net);
}
