//! What the ladder does, one rule at a time.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::incident::{Change as Stage, Incident, IncidentEvent, Severity};
use crate::respond::{Decider, Measure, Mode, Scope};

const DAY: u64 = 86_400;
const START: u64 = 1_750_000_000;
const HEALTHY: Health = Health { attempts: 10, served: 10, rtt: None };

fn at(secs: u64) -> Timestamp {
    Timestamp::from_secs(START + secs)
}

fn network(text: &str) -> Network {
    text.parse().unwrap()
}

pub(super) fn peer(text: &str) -> Target {
    Target::Peer { network: network(text), scope: Scope::All }
}

fn scoped(text: &str, scope: Scope) -> Target {
    Target::Peer { network: network(text), scope }
}

fn requests(host: &str, port: u16) -> Target {
    Target::Requests { host: host.parse().unwrap(), port }
}

pub(super) fn event(class: Class, attackers: &[&str]) -> IncidentEvent {
    let addrs = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpAddr>>();
    let incident = Incident {
        id: "3f0c".to_owned(),
        class,
        severity: Severity::High,
        attackers: addrs(attackers),
        victims: addrs(&["192.0.2.1"]),
        ports: vec![443],
        first_seen: Timestamp::EPOCH,
        detected_at: Timestamp::EPOCH,
        last_seen: Timestamp::EPOCH,
        score: 0.9,
        summary: String::new(),
        evidence: BTreeMap::new(),
    };
    IncidentEvent { change: Stage::Opened, at: Timestamp::EPOCH, incident }
}

/// A ladder that is armed, of a host with the address 192.0.2.1.
fn armed(mode: Mode) -> Ladder {
    let mut guard = Guard::default();
    guard.set(Protection::Own, vec![network("192.0.2.1")]);
    guard.set(Protection::Configured, vec![network("198.51.100.0/24"), network("2001:db8:9::1/128")]);
    Ladder::new(Policy { mode, ..Policy::default() }, guard, Timestamp::EPOCH)
}

fn wish(target: Target, hours: u64) -> Wish {
    let span = Some(Duration::from_secs(hours * 3600));
    Wish { target, measure: Measure::Drop, span, actor: "local:alice".to_owned(), reason: "told so".to_owned() }
}

fn guessed(ladder: &mut Ladder, attackers: &[&str], secs: u64) -> Vec<Change> {
    ladder.incident(&event(Class::BruteForce, attackers), &|_| true, at(secs))
}

/// Changes, a line each: what, how, for how many minutes, by whom.
fn told(changes: &[Change]) -> Vec<String> {
    let told = |change: &Change| match change {
        Change::Put(block) => {
            let would = if block.enforced { "" } else { "would " };
            let minutes = block.span().as_secs() / 60;
            format!("{} {would}{} {minutes} min {}", block.target, block.measure, block.by)
        }
        Change::Lift(block, ending) => format!("{} {}", block.target, ending.as_str()),
    };
    changes.iter().map(told).collect()
}

#[track_caller]
fn check(changes: &[Change], expected: &[&str]) {
    assert_eq!(told(changes), expected);
}

#[test]
fn each_mode_does_what_it_says() {
    let by_mode = [
        (Mode::Off, &[] as &[_], &[] as &[_]),
        (
            Mode::Observe,
            &["203.0.113.7 would drop 10 min incident 3f0c"],
            &["requests to 192.0.2.1 port 443 would limit 200/s 10 min incident 3f0c"],
        ),
        (
            Mode::RateLimit,
            &["203.0.113.7 limit 100/s 10 min incident 3f0c"],
            &["requests to 192.0.2.1 port 443 limit 200/s 10 min incident 3f0c"],
        ),
        (
            Mode::Drop,
            &["203.0.113.7 drop 10 min incident 3f0c"],
            &["requests to 192.0.2.1 port 443 limit 200/s 10 min incident 3f0c"],
        ),
    ];
    for (mode, guesser, flood) in by_mode {
        check(&guessed(&mut armed(mode), &["203.0.113.7"], 0), guesser);
        let forged = event(Class::SynFlood, &[]);
        check(&armed(mode).incident(&forged, &|_| true, at(0)), flood);
        check(
            &armed(mode).block(wish(peer("203.0.113.7"), 1), at(0)).unwrap(),
            &["203.0.113.7 drop 60 min local:alice"],
        );
    }
}

#[test]
fn only_attackers_that_are_who_they_seem_are_blocked() {
    let shielded = "requests to 192.0.2.1 port 443 limit 200/s 10 min incident 3f0c";
    let mut spoofed = event(Class::SynFlood, &["203.0.113.7"]);
    spoofed.incident.evidence.insert("spoofed".to_owned(), json!(true));
    let mut portless = event(Class::SynFlood, &[]);
    portless.incident.ports.clear();
    let mut elsewhere = event(Class::SynFlood, &[]);
    elsewhere.incident.victims = vec!["203.0.113.80".parse().unwrap()];
    let mut many = event(Class::SynFlood, &[]);
    many.incident.ports = (1..=64).collect();
    let closed = IncidentEvent { change: Stage::Closed, ..event(Class::BruteForce, &["203.0.113.7"]) };
    for (name, event, proven, expected, [unproven, guarded]) in [
        ("a stranger", event(Class::BruteForce, &["203.0.113.7"]), false, &[] as &[_], [1, 0]),
        ("a stranger's flood", event(Class::SynFlood, &["203.0.113.7"]), false, &[shielded], [1, 0]),
        (
            "a flood of a peer",
            event(Class::SynFlood, &["203.0.113.7"]),
            true,
            &["203.0.113.7 drop 10 min incident 3f0c"],
            [0, 0],
        ),
        ("forged", spoofed, true, &[shielded], [1, 0]),
        ("no port", portless, true, &[], [0, 0]),
        ("the flood of another", elsewhere, true, &[], [0, 0]),
        ("a datagram flood from anywhere", event(Class::UdpFlood, &[]), true, &[], [0, 0]),
        ("never blocked", event(Class::BruteForce, &["198.51.100.9", "192.0.2.1"]), true, &[], [0, 2]),
        ("a flood of one never blocked", event(Class::SynFlood, &["198.51.100.9"]), false, &[], [0, 1]),
        ("not to be acted upon", event(Class::Exfiltration, &["203.0.113.7"]), true, &[], [0, 0]),
        ("over", closed, true, &[], [0, 0]),
        (
            "one host",
            event(Class::BruteForce, &["2001:db8::1", "2001:db8::2"]),
            true,
            &["2001:db8::/64 drop 10 min incident 3f0c"],
            [0, 0],
        ),
        (
            "a neighbour of one never blocked",
            event(Class::BruteForce, &["2001:db8:9::1", "2001:db8:9::2"]),
            true,
            &["2001:db8:9::2 drop 10 min incident 3f0c"],
            [0, 1],
        ),
        (
            "mapped",
            event(Class::BruteForce, &["::ffff:203.0.113.7"]),
            true,
            &["203.0.113.7 drop 10 min incident 3f0c"],
            [0, 0],
        ),
    ] {
        let mut ladder = armed(Mode::Drop);
        assert_eq!(told(&ladder.incident(&event, &|_| proven, at(0))), expected, "{name}");
        assert_eq!((ladder.stats().unproven, ladder.stats().guarded), (unproven, guarded), "{name}");
    }
    assert_eq!(armed(Mode::Drop).incident(&many, &|_| true, at(0)).len(), 8);
    let proven = |host: &Network| *host == network("203.0.113.8");
    let two = event(Class::SynFlood, &["203.0.113.7", "203.0.113.8"]);
    check(&armed(Mode::Drop).incident(&two, &proven, at(0)), &["203.0.113.8 drop 10 min incident 3f0c", shielded]);
}

#[test]
fn what_was_not_taken_is_tried_again_and_is_no_offence() {
    let mut ladder = armed(Mode::Drop);
    for secs in 0..5 {
        check(&guessed(&mut ladder, &["203.0.113.7"], secs), &["203.0.113.7 drop 10 min incident 3f0c"]);
        ladder.undo(&peer("203.0.113.7"));
        assert_eq!((ladder.blocks().count(), ladder.offences().count()), (0, 0));
    }
    guessed(&mut ladder, &["203.0.113.7"], 5);
    assert_eq!(ladder.abandon(&peer("203.0.113.7")).unwrap().since, at(5));
    assert_eq!(ladder.abandon(&peer("203.0.113.7")), None);
    check(&guessed(&mut ladder, &["203.0.113.7"], 6), &["203.0.113.7 drop 40 min incident 3f0c"]);
    ladder.undo(&peer("203.0.113.7"));
    assert_eq!(ladder.offences().map(|offence| offence.count).collect::<Vec<_>>(), [1]);
}

#[test]
fn a_host_is_what_would_be_blocked_of_it() {
    let ladder = armed(Mode::Drop);
    for (addr, expected) in [
        ("203.0.113.7", "203.0.113.7"),
        ("198.51.100.7", "198.51.100.7"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8:9::1", "2001:db8:9::1"),
        ("2001:db8:9::2", "2001:db8:9::2"),
    ] {
        assert_eq!(ladder.host(addr.parse::<IpAddr>().unwrap().into()), network(expected), "{addr}");
    }
}

#[test]
fn a_first_day_is_only_watched_even_if_the_clock_leaps() {
    let mut ladder = Ladder::new(Policy { mode: Mode::Drop, ..Policy::default() }, Guard::default(), at(0));
    check(&guessed(&mut ladder, &["203.0.113.1"], 0), &["203.0.113.1 would drop 10 min incident 3f0c"]);
    ladder.tick(HEALTHY, at(300 * DAY));
    check(&guessed(&mut ladder, &["203.0.113.2"], 300 * DAY), &["203.0.113.2 would drop 10 min incident 3f0c"]);
    assert!(!ladder.is_armed(at(301 * DAY - 1)) && ladder.is_armed(at(301 * DAY)));
    (0..=24).for_each(|hour| drop(ladder.tick(HEALTHY, at(300 * DAY + hour * 3600))));
    check(&guessed(&mut ladder, &["203.0.113.3"], 301 * DAY), &["203.0.113.3 drop 10 min incident 3f0c"]);
}

#[test]
fn what_was_only_counted_is_enforced_when_it_goes_on() {
    let mut ladder = armed(Mode::Observe);
    guessed(&mut ladder, &["203.0.113.7"], 0);
    assert!(ladder.set_policy(Policy { mode: Mode::Drop, ..Policy::default() }, at(60)).is_empty());
    check(&guessed(&mut ladder, &["203.0.113.7"], 120), &["203.0.113.7 drop 10 min incident 3f0c"]);
    assert_eq!(ladder.blocks().next().unwrap().since, at(120));
}

#[test]
fn repeaters_are_blocked_for_longer() {
    let mut ladder = armed(Mode::Drop);
    let mut now = 0;
    for minutes in [10, 40, 160, 640, 1440, 1440] {
        let expected = format!("203.0.113.7 drop {minutes} min incident 3f0c");
        check(&guessed(&mut ladder, &["203.0.113.7"], now), &[&expected]);
        assert!(guessed(&mut ladder, &["203.0.113.7"], now + 60).is_empty(), "it is blocked");
        now += minutes * 60;
        check(&ladder.tick(HEALTHY, at(now)), &["203.0.113.7 expired"]);
    }
    now += 8 * DAY;
    ladder.tick(HEALTHY, at(now));
    check(&guessed(&mut ladder, &["203.0.113.7"], now), &["203.0.113.7 drop 10 min incident 3f0c"]);
}

#[test]
fn a_block_goes_on_while_its_incident_does_but_not_for_ever() {
    let mut ladder = armed(Mode::RateLimit);
    guessed(&mut ladder, &["203.0.113.7"], 0);
    assert!(guessed(&mut ladder, &["203.0.113.7"], 300).is_empty(), "half of the time is left");
    check(&guessed(&mut ladder, &["203.0.113.7"], 301), &["203.0.113.7 limit 100/s 15 min incident 3f0c"]);
    let mut lasted = 0;
    for now in (302..3 * DAY).step_by(100) {
        guessed(&mut ladder, &["203.0.113.7"], now);
        lasted = ladder.blocks().map(|block| block.span().as_secs()).max().unwrap().max(lasted);
        ladder.tick(HEALTHY, at(now));
    }
    assert_eq!(lasted, DAY);
}

#[test]
fn people_go_first() {
    let mut ladder = armed(Mode::Drop);
    guessed(&mut ladder, &["203.0.113.7"], 0);
    let limit = Wish { measure: Measure::Limit(5), ..wish(peer("203.0.113.7"), 1) };
    check(&ladder.block(limit, at(1)).unwrap(), &["203.0.113.7 limit 5/s 60 min local:alice"]);
    ladder.block(wish(peer("203.0.113.128/25"), 2), at(1)).unwrap();
    assert!(guessed(&mut ladder, &["203.0.113.7", "203.0.113.200"], 3500).is_empty());
    let port = Target::Peer { network: network("203.0.113.9"), scope: Scope::Port { proto: 6, port: 22 } };
    ladder.block(wish(port, 1), at(1)).unwrap();
    check(&guessed(&mut ladder, &["203.0.113.9"], 2), &["203.0.113.9 drop 10 min incident 3f0c"]);
    assert!(ladder.set_policy(Policy { mode: Mode::Off, ..Policy::default() }, at(3)).len() == 1, "the sensor's own");
    assert_eq!(ladder.count(false), 3);
    let wide: Vec<&Block> = ladder.covering(network("203.0.113.200")).collect();
    assert_eq!(wide[0].target, peer("203.0.113.128/25"));
}

#[test]
fn a_block_ends_no_earlier_unless_somebody_says_so() {
    let mut ladder = armed(Mode::Observe);
    let (target, hour) = (peer("203.0.113.7"), Some(Duration::from_secs(3600)));
    guessed(&mut ladder, &["203.0.113.7"], 0);
    for (span, now, minutes) in [
        (None, 0, 60),
        (Some(Duration::from_secs(86_400)), 0, 1440),
        (None, 3600, 1380),
        (hour, 3600, 60),
        (None, 5400, 60),
    ] {
        let wish = Wish { span, ..wish(target, 0) };
        check(&ladder.block(wish, at(now)).unwrap(), &[&format!("203.0.113.7 drop {minutes} min local:alice")]);
    }
}

#[test]
fn what_nobody_may_do_is_refused_with_advice() {
    let mut ladder = armed(Mode::Observe);
    ladder.policy.entries_by_person = 1;
    ladder.block(wish(peer("203.0.113.1"), 1), at(0)).unwrap();
    for (wish, expected) in [
        (
            wish(peer("192.0.2.0/24"), 1),
            "192.0.2.0/24 is or holds an address of this host, which is never blocked: choose a network without it",
        ),
        (wish(peer("198.51.100.7"), 1), "without it, or change the configuration"),
        (wish(peer("203.0.112.0/23"), 1), "203.0.112.0/23 is too wide: block a /24 or narrower"),
        (wish(peer("2001:db8::/48"), 1), "block a /64 or narrower"),
        (wish(requests("203.0.113.1", 80), 1), "203.0.113.1 is no host of this network"),
        (wish(scoped("203.0.113.7", Scope::Port { proto: 1, port: 22 }), 1), "icmp has no ports"),
        (wish(scoped("203.0.113.7", Scope::Port { proto: 6, port: 0 }), 1), "there is no port 0"),
        (wish(scoped("203.0.113.7", Scope::Protocol(0)), 1), "no protocol 0"),
        (wish(requests("192.0.2.1", 0), 1), "there is no port 0"),
        (wish(scoped("203.0.113.7", Scope::Protocol(58)), 1), "203.0.113.7 speaks no icmpv6: choose icmp"),
        (wish(scoped("2001:db8::/64", Scope::Protocol(1)), 1), "2001:db8::/64 speaks no icmp: choose icmpv6"),
        (wish(peer("203.0.113.7"), 0), "needs some time"),
        (wish(peer("203.0.113.7"), 31 * 24), "31 d is too long: block for 30 d at most"),
        (wish(peer("203.0.113.7"), 1), "there are 1 blocks by people already"),
    ] {
        let refusal = ladder.block(wish, at(0)).unwrap_err().to_string();
        assert!(refusal.contains(expected), "{refusal}");
    }
    check(&ladder.block(wish(peer("203.0.113.1"), 2), at(0)).unwrap(), &["203.0.113.1 drop 120 min local:alice"]);
    let long = Wish { reason: "a\nb\u{202e}".repeat(1000), ..wish(peer("203.0.113.1"), 2) };
    ladder.block(long, at(0)).unwrap();
    let reason = &ladder.blocks().next().unwrap().reason;
    assert!(reason.starts_with("a ba b") && reason.len() == 256);
    ladder.policy.entries_by_person = 2;
    assert!(ladder.block(wish(requests("192.0.2.1", 443), 1), at(0)).is_ok());
}

#[test]
fn whoever_was_unblocked_is_left_alone_for_an_hour() {
    let mut ladder = armed(Mode::Drop);
    let flood = event(Class::SynFlood, &[]);
    guessed(&mut ladder, &["203.0.113.7", "2001:db8::7"], 0);
    ladder.incident(&flood, &|_| true, at(0));
    ladder.block(wish(peer("203.0.113.0/24"), 4), at(0)).unwrap();
    for (selection, expected) in [
        (Selection::Network(network("203.0.113.7")), &["203.0.113.7 unblocked"] as &[_]),
        (Selection::Network(network("203.0.113.7")), &[]),
        (Selection::Network(network("2001:db8::99")), &["2001:db8::/64 unblocked"]),
        (Selection::Network(network("203.0.112.0/22")), &["203.0.113.0/24 unblocked"]),
        (Selection::Target(requests("192.0.2.1", 443)), &["requests to 192.0.2.1 port 443 unblocked"]),
        (Selection::Network(network("198.18.0.1")), &[]),
    ] {
        check(&ladder.unblock(selection, "telegram:42", "a mistake", at(10)), expected);
    }
    assert!(guessed(&mut ladder, &["203.0.113.7", "2001:db8::7", "198.18.0.1"], 3609).is_empty());
    assert!(ladder.incident(&flood, &|_| true, at(3609)).is_empty());
    let again = ["198.18.0.1 drop 10 min incident 3f0c", "203.0.113.7 drop 10 min incident 3f0c"];
    check(&guessed(&mut ladder, &["203.0.113.7", "198.18.0.1"], 3610), &again);
    assert_eq!(ladder.incident(&flood, &|_| true, at(3610)).len(), 1);
}

#[test]
fn there_are_never_too_many() {
    let many = |from: u32, count: u32| -> Vec<String> {
        (from..from + count).map(|n| std::net::Ipv4Addr::from_bits(0x2d00_0000 + n).to_string()).collect()
    };
    let block = |ladder: &mut Ladder, hosts: &[String], secs| {
        let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
        guessed(ladder, &hosts, secs).len()
    };
    let mut ladder = armed(Mode::Drop);
    ladder.policy.entries = 50;
    assert_eq!(block(&mut ladder, &many(0, 64), 0), 30, "a minute");
    assert_eq!(block(&mut ladder, &many(30, 30), 59), 0);
    assert_eq!(block(&mut ladder, &many(30, 30), 60), 20, "in all");
    assert_eq!(ladder.stats().capped, 34 + 30 + 10);
    let fewer = Policy { entries: 10, ..ladder.policy().clone() };
    assert_eq!(ladder.set_policy(fewer, at(61)).len(), 40);
    assert_eq!(ladder.blocks().count(), 10);
}

#[test]
fn who_turns_out_to_be_protected_is_let_in() {
    let mut ladder = armed(Mode::Drop);
    guessed(&mut ladder, &["203.0.113.7", "203.0.114.7"], 0);
    ladder.block(wish(peer("203.0.113.0/24"), 1), at(0)).unwrap();
    let session = vec![network("203.0.113.7")];
    let lifted = ["203.0.113.0/24 guarded", "203.0.113.7 guarded"];
    check(&ladder.protect(Protection::Session, session, at(1)), &lifted);
    assert_eq!(ladder.blocks().count(), 1);
}

#[test]
fn less_is_done_at_once_where_less_is_allowed() {
    for (policy, expected) in [
        (Policy { mode: Mode::Off, ..Policy::default() }, "203.0.113.7 unblocked"),
        (Policy { mode: Mode::Observe, ..Policy::default() }, "203.0.113.7 would drop 10 min incident 3f0c"),
        (Policy { mode: Mode::RateLimit, ..Policy::default() }, "203.0.113.7 limit 100/s 10 min incident 3f0c"),
        (Policy { mode: Mode::Drop, floor: BTreeMap::new(), ..Policy::default() }, "203.0.113.7 unblocked"),
        (
            Policy { mode: Mode::Drop, longest: Duration::from_secs(300), ..Policy::default() },
            "203.0.113.7 drop 5 min incident 3f0c",
        ),
    ] {
        let mut ladder = armed(Mode::Drop);
        guessed(&mut ladder, &["203.0.113.7"], 0);
        let kept: Vec<Block> = ladder.blocks().cloned().collect();
        check(&ladder.set_policy(policy.clone(), at(1)), &[expected]);
        let mut next = Ladder::new(policy, Guard::default(), Timestamp::EPOCH);
        check(&next.resume(kept, Vec::new(), at(1)), &[expected]);
    }
}

#[test]
fn blocks_and_offences_survive_a_restart() {
    let mut before = armed(Mode::Drop);
    guessed(&mut before, &["203.0.113.7", "203.0.113.8"], 0);
    before.block(wish(peer("203.0.113.9"), 1), at(0)).unwrap();
    let mut blocks: Vec<Block> = before.blocks().cloned().collect();
    let wide = Block { target: peer("203.0.112.0/22"), ..blocks[2].clone() };
    let listed = Block { target: peer("203.0.115.1"), by: Decider::List("drop".to_owned()), ..blocks[2].clone() };
    let shadowed = Block { by: Decider::Incident("5e".to_owned()), until: at(9000), ..blocks[2].clone() };
    blocks.extend([wide, listed, shadowed]);
    let offences: Vec<Offence> = before.offences().collect();
    let resumed = |secs: u64| {
        let mut after = armed(Mode::Drop);
        after.protect(Protection::Gateway, vec![network("203.0.113.8")], at(secs));
        let changes = after.resume(blocks.clone(), offences.clone(), at(secs));
        (after, changes)
    };
    let (mut after, changes) = resumed(59);
    let expected = [
        "203.0.112.0/22 guarded",
        "203.0.113.8 guarded",
        "203.0.113.7 drop 10 min incident 3f0c",
        "203.0.113.9 drop 60 min local:alice",
    ];
    check(&changes, &expected);
    let in_pace = Policy { per_minute: 1, ..after.policy().clone() };
    after.set_policy(in_pace, at(59));
    assert!(guessed(&mut after, &["203.0.113.20"], 59).is_empty(), "one was put within the minute");
    after.tick(HEALTHY, at(600));
    check(&guessed(&mut after, &["203.0.113.7"], 600), &["203.0.113.7 drop 40 min incident 3f0c"]);
    assert_eq!(resumed(601).1.len(), 4, "one is over");
    check(&resumed(601).1[1..2], &["203.0.113.7 expired"]);
}

#[test]
fn blocks_last_no_longer_when_the_clock_is_set_back() {
    let mut ladder = armed(Mode::Drop);
    guessed(&mut ladder, &["203.0.113.7"], 10 * DAY);
    let kept: Vec<Block> = ladder.blocks().cloned().collect();
    assert_eq!(kept[0].left(at(0)).as_secs(), 600, "never longer than its span");
    assert_eq!(kept[0].left(at(10 * DAY + 599)).as_secs(), 1);
    ladder.tick(HEALTHY, at(10 * DAY + 60));
    check(&ladder.tick(HEALTHY, at(0)), &["203.0.113.7 drop 10 min incident 3f0c"]);
    assert_eq!(ladder.blocks().next().unwrap().until, at(540));
    assert!(ladder.tick(HEALTHY, at(539)).is_empty());
    check(&ladder.tick(HEALTHY, at(540)), &["203.0.113.7 expired"]);
    check(&guessed(&mut ladder, &["203.0.113.7"], 541), &["203.0.113.7 drop 40 min incident 3f0c"]);
    let mut after = armed(Mode::Drop);
    after.resume(kept, Vec::new(), at(0));
    check(&after.tick(HEALTHY, at(600)), &["203.0.113.7 expired"]);
}

#[test]
fn what_harms_healthy_traffic_is_taken_back() {
    let mut ladder = armed(Mode::Drop);
    (0..20).for_each(|secs| drop(ladder.tick(HEALTHY, at(secs))));
    guessed(&mut ladder, &["203.0.113.1"], 20);
    (20..60).for_each(|secs| assert!(ladder.tick(HEALTHY, at(secs)).is_empty()));
    ladder.block(wish(peer("203.0.113.9"), 1), at(60)).unwrap();
    guessed(&mut ladder, &["203.0.113.7"], 60);
    let sick = Health { served: 5, ..HEALTHY };
    (61..65).for_each(|secs| assert!(ladder.tick(sick, at(secs)).is_empty()));
    check(&ladder.tick(sick, at(65)), &["203.0.113.7 rolled_back"]);
    assert_eq!(ladder.stats().rolled_back, 1);
    assert!(guessed(&mut ladder, &["203.0.113.7"], 70).is_empty(), "left alone for a while");
    let left: Vec<Target> = ladder.blocks().map(|block| block.target).collect();
    assert_eq!(left, [peer("203.0.113.1"), peer("203.0.113.9")], "an earlier one, and that of a person");
}
