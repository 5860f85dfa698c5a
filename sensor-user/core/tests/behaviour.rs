//! The engine on made-up traffic: what it reports, and what it leaves alone.
#![expect(clippy::cast_possible_truncation, reason = "numbers of made-up hosts and ports")]

#[path = "support/network.rs"]
mod network;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use network::{ACK, FIN, Network, PSH, RST, START, SYN, host, network};
use sensor_core::engine::EngineConfig;
use sensor_core::features::flow::vector;
use sensor_core::flow::{EndReason, FlowRecord, Timeouts};
use sensor_core::incident::suppress::Rule;
use sensor_core::incident::{Change, Class, IncidentEvent};
use sensor_core::net;
use sensor_core::time::Timestamp;
use sensor_ebpf::packet::{proto, tcp_flags};
use sensor_models::Mark;

fn scan(net: &mut Network, attacker: IpAddr, victim: IpAddr, ports: u16) {
    for port in 1..=ports {
        net.tcp((attacker, 40_000), (victim, port), SYN, 0);
        if port == 22 {
            net.tcp((victim, port), (attacker, 40_000), SYN | ACK, 0);
            net.tcp((attacker, 40_000), (victim, port), RST, 0);
        } else {
            net.tcp((victim, port), (attacker, 40_000), RST | ACK, 0);
        }
        net.wait(1_000);
    }
}

#[test]
fn a_syn_scan_is_one_port_scan_with_the_ports_it_found() {
    let mut net = network();
    scan(&mut net, host(9), host(1), 500);
    net.seconds(2);
    let event = net.only();
    assert_eq!(event.incident.class, Class::PortScan);
    assert_eq!(
        (event.incident.attackers.as_slice(), event.incident.victims.as_slice()),
        (&[host(9)][..], &[host(1)][..])
    );
    assert!(event.at <= Timestamp::from_secs(START + 2), "{}", event.at);
    assert_eq!(event.incident.evidence["open_ports_found"], serde_json::json!([22]));
}

#[test]
fn a_scan_beside_a_busy_service_is_a_scan_and_no_flood() {
    let mut net = network();
    for port in 1..=1200_u16 {
        net.tcp((host(9), 40_000), (host(1), port), SYN, 0);
        net.tcp((host(1), port), (host(9), 40_000), RST | ACK, 0);
        if port % 10 == 0 {
            net.conversation((host(20 + u32::from(port) % 7), 30_000 + port), (host(1), 80), 300, 5000);
        }
        net.wait(1_000);
    }
    net.seconds(3);
    assert_eq!(net.only().incident.class, Class::PortScan);
}

#[test]
fn a_scan_that_is_never_answered_is_found_too() {
    let mut net = network();
    for port in 1..=100 {
        net.tcp((host(9), 40_000), (host(1), port), SYN, 0);
        net.wait(1_000);
    }
    net.seconds(3);
    assert_eq!(net.only().incident.class, Class::PortScan);
}

#[test]
fn stealth_scans_are_port_scans() {
    for flags in [FIN, 0, FIN | PSH | tcp_flags::URG, ACK] {
        let mut net = network();
        for port in 1..=100 {
            net.tcp((host(9), 40_000), (host(1), port), flags, 0);
            net.tcp((host(1), port), (host(9), 40_000), RST, 0);
        }
        net.seconds(2);
        assert_eq!(net.only().incident.class, Class::PortScan, "flags {flags:#x}");
    }
}

#[test]
fn asking_many_hosts_for_one_service_is_a_host_scan() {
    let mut net = network();
    for last in 1..=100 {
        net.tcp((host(900), 40_000), (host(last), 445), SYN, 0);
    }
    net.seconds(3);
    let incident = &net.only().incident;
    assert_eq!((incident.class, incident.ports.as_slice()), (Class::HostScan, &[445][..]));
    assert_eq!(incident.victims.len(), 64);
    assert_eq!(incident.evidence["victims_total"], serde_json::json!(100));
}

#[test]
fn an_incident_closes_once_it_has_been_quiet_for_a_minute() {
    let mut net = network();
    scan(&mut net, host(9), host(1), 100);
    net.seconds(120);
    let closed: Vec<_> = net.events.iter().filter(|event| event.change == Change::Closed).collect();
    assert_eq!(closed.len(), 1);
    let quiet = closed[0].at.since(closed[0].incident.last_seen);
    assert!(quiet >= Duration::from_secs(60) && quiet < Duration::from_secs(64), "{quiet:?}");
    assert_eq!(closed[0].incident.id, net.only().incident.id);
}

#[test]
fn browsing_forty_servers_is_no_scan() {
    let mut net = network();
    for last in 1..=40 {
        for port in [80, 443] {
            net.conversation((host(900), 40_000 + last as u16), (host(last), port), 500, 9000);
            net.wait(20_000);
        }
    }
    net.seconds(90);
    assert_eq!(net.opened(), Vec::<&IncidentEvent>::new());
}

#[test]
fn a_monitor_whose_hosts_are_down_is_news_once() {
    let mut net = network();
    for round in 0..60_u16 {
        for last in 1..=20 {
            net.tcp((host(900), 40_000 + round), (host(last), 9100), SYN, 0);
        }
        net.seconds(60);
    }
    assert_eq!(net.only().incident.class, Class::HostScan);
    let closed = net.events.iter().find(|event| event.change == Change::Closed).unwrap();
    assert!(closed.at < Timestamp::from_secs(START + 600), "{}", closed.at);
}

#[test]
fn traceroute_is_no_scan() {
    let mut net = network();
    for port in 33_434..33_500 {
        net.packet(proto::UDP, (host(9), 40_000), (host(1), port), 0, 32);
    }
    net.seconds(5);
    assert_eq!(net.opened(), Vec::<&IncidentEvent>::new());
}

#[test]
fn a_forged_syn_flood_names_the_victim_and_no_attacker() {
    let mut net = network();
    for n in 0..5_000 {
        net.tcp((host(100_000 + n), 1000 + n as u16), (host(1), 80), SYN, 0);
        net.wait(100);
    }
    net.seconds(3);
    let incident = &net.only().incident;
    assert_eq!((incident.class, incident.ports.as_slice()), (Class::SynFlood, &[80][..]));
    assert!(incident.attackers.is_empty() && incident.victims == [host(1)]);
    let sources = incident.evidence["distinct_sources"].as_u64().unwrap();
    assert!((1_000..=5_500).contains(&sources), "{sources}");
}

#[test]
fn a_syn_flood_from_one_host_names_it() {
    let mut net = network();
    for n in 0..5_000 {
        net.tcp((host(9), 1000 + n), (host(1), 80), SYN, 0);
        net.wait(100);
    }
    net.seconds(3);
    assert_eq!(
        (net.only().incident.class, net.only().incident.attackers.as_slice()),
        (Class::SynFlood, &[host(9)][..])
    );
}

#[test]
fn connections_that_are_completed_and_never_used_are_a_flood_of_connections() {
    for (reset, expected) in [(false, Class::ConnectionFlood), (true, Class::SynFlood)] {
        let mut net = network();
        for n in 0..5_000 {
            let (client, server) = ((host(100_000 + u32::from(n % 50)), 1000 + n), (host(1), 80));
            if reset {
                // What a host does that sends requests past its own stack.
                net.tcp(client, server, SYN, 0);
                net.tcp(server, client, SYN | ACK, 0);
                net.tcp(client, server, RST, 0);
            } else {
                net.handshake(client, server);
                net.goodbye(client, server);
            }
            net.wait(500);
        }
        net.seconds(3);
        let incident = &net.only().incident;
        assert_eq!((incident.class, incident.attackers.len()), (expected, 50), "{incident:#?}");
    }
}

#[test]
fn a_crowd_that_is_served_is_no_flood() {
    let mut net = network();
    for n in 0..5_000 {
        net.conversation((host(100_000 + n), 1000 + n as u16), (host(1), 80), 300, 2000);
        net.wait(200);
    }
    net.seconds(3);
    assert_eq!(net.opened(), Vec::<&IncidentEvent>::new());
}

#[test]
fn datagrams_nobody_answers_are_a_flood_and_a_wanted_stream_is_not() {
    let mut net = network();
    for n in 0..5_000 {
        net.packet(proto::UDP, (host(9), 1000 + n), (host(1), 9999), 0, 100);
        net.wait(100);
    }
    net.seconds(3);
    assert_eq!(net.only().incident.class, Class::UdpFlood);

    let mut net = network();
    net.handshake((host(9), 5000), (host(1), 5201));
    net.tcp((host(9), 5000), (host(1), 5201), PSH | ACK, 37);
    net.seconds(1);
    for _ in 0..50_000 {
        net.packet(proto::UDP, (host(9), 1000), (host(1), 5201), 0, 1400);
        net.wait(20);
    }
    net.seconds(3);
    assert_eq!(net.opened(), Vec::<&IncidentEvent>::new());
}

#[test]
fn answers_of_amplifiers_to_questions_nobody_asked_are_an_amplification() {
    for service in [53, 1900] {
        let mut net = network();
        for n in 0..400_u32 {
            for _ in 0..10 {
                net.packet(proto::UDP, (host(1000 + n), service), (host(1), 40_000), 0, 1400);
            }
            net.wait(1000);
        }
        net.seconds(3);
        let incident = &net.only().incident;
        assert_eq!(incident.class, Class::Amplification);
        assert_eq!(incident.evidence["amplifier_ports"], serde_json::json!([service]));
        assert_eq!((incident.victims.as_slice(), incident.attackers.is_empty()), (&[host(1)][..], false));
    }
}

#[test]
fn a_resolver_that_answers_what_it_is_asked_is_no_amplifier() {
    let mut net = network();
    for n in 0..4_000_u16 {
        net.packet(proto::UDP, (host(1), 20_000 + n), (host(53), 53), 0, 60);
        net.packet(proto::UDP, (host(53), 53), (host(1), 20_000 + n), 0, 1400);
        net.wait(500);
    }
    net.seconds(3);
    assert_eq!(net.opened(), Vec::<&IncidentEvent>::new());
}

#[test]
fn more_echo_requests_than_anybody_needs_are_a_flood_and_a_monitor_is_not() {
    let mut net = network();
    for _ in 0..20_000 {
        net.ping(host(9), host(1));
        net.wait(200);
    }
    net.seconds(3);
    let incident = &net.only().incident;
    assert_eq!((incident.class, incident.attackers.as_slice()), (Class::IcmpFlood, &[host(9)][..]));

    let mut net = network();
    for n in 0..600_u32 {
        net.ping(host(100 + n % 50), host(1));
        net.wait(50_000);
    }
    assert_eq!(net.opened(), Vec::<&IncidentEvent>::new());
}

#[test]
fn a_visit_of_the_web_page_does_not_excuse_a_flood_of_datagrams() {
    let mut net = network();
    net.conversation((host(9), 999), (host(1), 80), 300, 2000);
    net.seconds(2);
    for n in 0..5_000 {
        net.packet(proto::UDP, (host(9), 1000 + n), (host(1), 9999), 0, 100);
        net.wait(100);
    }
    net.seconds(3);
    assert_eq!(net.only().incident.class, Class::UdpFlood);
}

#[test]
fn clients_that_are_served_are_no_attackers_of_a_flood() {
    let mut net = network();
    for n in 0..5_000 {
        net.tcp((host(9), 1000 + n), (host(1), 80), SYN, 0);
        if n % 100 == 0 {
            net.conversation((host(20 + u32::from(n % 8)), 10_000 + n), (host(1), 80), 300, 2000);
        }
        net.wait(100);
    }
    net.seconds(3);
    assert_eq!(net.only().incident.attackers, [host(9)]);
}

#[test]
fn ten_alike_log_ins_a_minute_are_password_guessing() {
    let mut net = network();
    for n in 0..10 {
        net.attempt((host(9), 40_000 + n), (host(1), 2222), 80);
        net.seconds(1);
    }
    let incident = &net.only().incident;
    assert_eq!((incident.class, incident.ports.as_slice()), (Class::BruteForce, &[2222][..]));
}

#[test]
fn short_queries_of_changing_size_are_no_password_guessing() {
    let mut net = network();
    for n in 0..60_u32 {
        net.attempt((host(9), 40_000 + n as u16), (host(1), 3306), 100 + n * n % 17 * 300);
        net.wait(200_000);
    }
    net.seconds(3);
    assert_eq!(net.opened(), Vec::<&IncidentEvent>::new());
}

#[test]
fn connections_to_the_sensors_receivers_are_never_an_incident() {
    let own = BTreeSet::from([(host(1), 2222)]);
    let mut net = Network::new(EngineConfig { own_endpoints: own, ..EngineConfig::default() });
    for n in 0..30 {
        net.attempt((host(9), 40_000 + n), (host(1), 2222), 80);
        net.seconds(1);
    }
    assert_eq!(net.opened(), Vec::<&IncidentEvent>::new());
}

#[test]
fn allowed_networks_and_disabled_classes_are_not_reported() {
    let allowed = |host: IpAddr, prefix: u8| EngineConfig {
        suppressed: vec![Rule::of_attackers("allowed", "ours", vec![net::Network::new(host, prefix)])],
        ..EngineConfig::default()
    };
    for config in [
        allowed(host(0), 24),
        allowed(host(9), 32),
        EngineConfig { disabled: BTreeSet::from([Class::PortScan]), ..EngineConfig::default() },
    ] {
        let mut net = Network::new(config);
        scan(&mut net, host(9), host(1), 100);
        net.seconds(3);
        assert_eq!(net.opened(), Vec::<&IncidentEvent>::new());
    }
    let mut net = Network::new(allowed(host(8), 32));
    scan(&mut net, host(9), host(1), 100);
    net.seconds(3);
    assert_eq!(net.only().incident.class, Class::PortScan);
}

fn normal(net: &mut Network, n: u32) {
    let client = (host(100 + n % 7), 30_000 + (n % 20_000) as u16);
    net.conversation(client, (host(1), 443), 400 + n % 90, 5_000 + n % 700);
    net.wait(60_000);
}

/// Uploads to hosts that nobody else uploads to, among normal traffic.
fn unlike_all_others(net: &mut Network, last: u32) {
    for n in 0..60_u32 {
        normal(net, 2_000 + n);
        let client = (host(last), 30_000 + n as u16);
        net.handshake(client, (host(200 + n), 8443));
        for _ in 0..80 {
            net.tcp(client, (host(200 + n), 8443), PSH | ACK, 1400);
        }
        net.tcp((host(200 + n), 8443), client, PSH | ACK, 10);
        net.goodbye(client, (host(200 + n), 8443));
    }
    net.seconds(30);
}

#[test]
fn a_host_whose_flows_are_unlike_all_others_is_an_anomaly_after_the_warm_up() {
    let mut net = network();
    (0..2_000).for_each(|n| normal(&mut net, n));
    assert_eq!(net.opened(), Vec::<&IncidentEvent>::new(), "normal traffic");
    unlike_all_others(&mut net, 50);
    let incident = &net.only().incident;
    assert_eq!((incident.class, incident.attackers.as_slice()), (Class::Anomaly, &[host(50)][..]));
    let features = incident.evidence["features"].as_array().unwrap();
    assert!(!features.is_empty(), "an anomaly says what stood out");
    let changes = incident.evidence["would_be_normal_if"].as_array().unwrap();
    assert!(changes.iter().all(|change| change["from"] != change["to"]) && !changes.is_empty(), "{changes:?}");
}

#[test]
fn the_like_of_a_false_positive_is_not_reported_again() {
    for (judged, incidents) in [(false, 2), (true, 1)] {
        let mut net = network();
        (0..2_000).for_each(|n| normal(&mut net, n));
        unlike_all_others(&mut net, 50);
        let incident = net.only().incident.clone();
        if judged {
            let is_part = |record: &&FlowRecord| IpAddr::from(record.view().client().addr) == host(50);
            let flows: Vec<_> = net.records.iter().filter(is_part).map(vector).collect();
            assert_eq!(flows.len(), 60);
            let rows = net.engine.judge(&incident, Mark::Normal, &flows);
            assert!((1..60).contains(&rows), "{rows}: what is like another is known by it");
        }
        net.seconds(600);
        unlike_all_others(&mut net, 51);
        assert_eq!(net.opened().len(), incidents, "judged: {judged}");
    }
}

#[test]
fn without_a_warm_up_nothing_is_learned() {
    let mut net = Network::new(EngineConfig { warmup: Duration::ZERO, ..EngineConfig::default() });
    for n in 0..1_000 {
        net.conversation((host(100), 30_000 + n), (host(1), 443), 400, 5_000);
        net.wait(60_000);
    }
    assert!(net.engine.baseline().is_none());
    assert_eq!(net.engine.warmup_left(net.now), None);
}

#[test]
fn flows_end_once_each_with_their_reason() {
    let mut net = network();
    net.conversation((host(9), 1), (host(1), 80), 10, 10);
    net.tcp((host(9), 2), (host(1), 80), SYN, 0);
    net.tcp((host(1), 80), (host(9), 2), RST | ACK, 0);
    net.packet(proto::UDP, (host(9), 3), (host(1), 53), 0, 30);
    net.seconds(200);
    let mut ends: Vec<(u16, EndReason, u64)> = net
        .records
        .iter()
        .map(|record| {
            let view = record.view();
            (view.client().port, record.end_reason, view.sent().packets + view.received().packets)
        })
        .collect();
    ends.sort_unstable();
    assert_eq!(ends, [(1, EndReason::TcpFin, 7), (2, EndReason::TcpRst, 2), (3, EndReason::IdleTimeout, 1)]);
    assert_eq!(net.engine.live_flows(), 0);
    assert!(net.engine.is_quiescent());
}

#[test]
fn a_long_flow_is_recorded_at_the_active_timeout_and_goes_on() {
    let timeouts = Timeouts { active: Duration::from_secs(10), ..Timeouts::default() };
    let mut net = Network::new(EngineConfig { timeouts: Some(timeouts), ..EngineConfig::default() });
    for _ in 0..25 {
        net.packet(proto::UDP, (host(9), 5000), (host(1), 5001), 0, 100);
        net.packet(proto::UDP, (host(1), 5001), (host(9), 5000), 0, 100);
        net.seconds(1);
    }
    net.seconds(100);
    let reasons: Vec<EndReason> = net.records.iter().map(|record| record.end_reason).collect();
    assert_eq!(reasons.first(), Some(&EndReason::ActiveTimeout));
    let packets: u64 =
        net.records.iter().map(|record| record.slot.half.iter().map(|half| half.packets).sum::<u64>()).sum();
    assert_eq!(packets, 50);
}

#[test]
fn an_answer_whose_question_was_not_seen_makes_nobody_a_scanner() {
    let mut net = network();
    for n in 0..200 {
        net.tcp((host(1), 443), (host(9), 30_000 + n), RST | ACK, 0);
        net.packet(proto::UDP, (host(2), 53), (host(9), 30_000 + n), 0, 100);
        net.wait(10_000);
    }
    net.seconds(3);
    assert_eq!(net.opened(), Vec::<&IncidentEvent>::new());
}
