//! Labels as they are written, and incidents held against them.

use super::super::testing::{addrs, at, attack, seen};
use super::*;

fn hosts(text: &str) -> (Vec<String>, Vec<String>, bool) {
    let hosts = Hosts::parse(text).unwrap();
    let networks = hosts.networks.iter().map(|(addr, length)| format!("{addr}/{length}")).collect();
    (networks, hosts.macs, hosts.unlisted)
}

#[test]
fn hosts_are_read_as_people_write_them() {
    for (text, networks, macs, unlisted) in [
        ("10.0.0.1,10.0.0.2,10.0.0.254", &["10.0.0.1/32", "10.0.0.2/32", "10.0.0.254/32"][..], &[][..], false),
        ("10.0.0.0/24", &["10.0.0.0/24"], &[], false),
        ("(4,276 reflectors)", &[], &[], true),
        ("(37,623 spoofed sources)", &[], &[], true),
        ("(DNS reflectors; RRSIG pizzaseo.com)", &[], &[], true),
        ("172.16.2.1 + 99.0.0.0/16 (500 replicated sources)", &["172.16.2.1/32", "99.0.0.0/16"], &[], false),
        ("141.193.213.20,141.193.213.21:443", &["141.193.213.20/32", "141.193.213.21/32"], &[], false),
        ("192.168.68.1:53 (recursive)", &["192.168.68.1/32"], &[], false),
        ("MAC 00:25:b3:BF:91:ee (claims 172.16.0.1)", &["172.16.0.1/32"], &["00:25:b3:bf:91:ee"], false),
        ("10.10.10.5 (C2)", &["10.10.10.5/32"], &[], false),
        (
            "2001:db8::1,[2001:db8::2]:443,2001:db8:1::/48",
            &["2001:db8::1/128", "2001:db8::2/128", "2001:db8:1::/48"],
            &[],
            false,
        ),
        ("", &[], &[], false),
    ] {
        let expected = (
            networks.iter().map(ToString::to_string).collect(),
            macs.iter().map(ToString::to_string).collect(),
            unlisted,
        );
        assert_eq!(hosts(text), expected, "{text:?}");
    }
    assert!(Hosts::parse("somebody").unwrap_err().to_string().contains("somebody"));
}

#[test]
fn networks_contain_their_hosts() {
    let hosts = Hosts::parse("10.0.0.0/24,192.168.1.7,2001:db8::/32,0.0.0.0/0 (all)").unwrap();
    let few = Hosts { networks: hosts.networks[..3].to_vec(), ..Hosts::default() };
    for (host, inside) in [
        ("10.0.0.255", true),
        ("10.0.1.0", false),
        ("192.168.1.7", true),
        ("192.168.1.6", false),
        ("2001:db8:ffff::1", true),
        ("2001:db9::1", false),
        ("::1", false),
    ] {
        let host: IpAddr = host.parse().unwrap();
        assert_eq!(few.contain(host), inside, "{host}");
        assert_eq!(hosts.contain(host), inside || host.is_ipv4(), "{host}");
    }
}

#[test]
fn labels_have_their_classes_the_best_first() {
    let classes = |label| attack(label, "10.0.0.1", "10.0.0.2", (1, 2)).classes();
    assert_eq!(classes("scan_tcp_syn"), ["port_scan", "host_scan"]);
    assert_eq!(classes("scan_host_icmp"), ["host_scan", "port_scan"]);
    assert_eq!(classes("exploit_zerologon"), ["brute_force", "lateral_movement"]);
    assert_eq!(classes("malware_c2"), ["beacon", "anomaly"]);
    assert_eq!(classes("ddos_amp_dns"), ["amplification"]);
    assert_eq!(classes("mitm_arp"), ["arp_spoof"]);
}

#[test]
fn attackers_in_words_are_right_if_nobody_or_only_ends_of_the_attack_are_named() {
    let flood = attack("ddos_syn_flood", "(37,623 spoofed sources)", "10.0.0.2:80", (1, 2));
    for (attackers, right) in
        [(&[][..], true), (&["10.0.0.1"], true), (&["10.0.0.1", "10.0.0.3"], false), (&["10.0.0.2"], false)]
    {
        let named = flood.named_by(&seen("syn_flood", attackers, &["10.0.0.2"], 2));
        assert_eq!(named, Named { attacker: right, victim: true }, "{attackers:?}");
    }
    assert!(!flood.involves(&seen("syn_flood", &["10.0.0.1"], &["10.0.0.9"], 2)), "the listed victim decides");
    let mining = attack("cryptomining", "(several)", "(pools)", (1, 2));
    assert!(mining.involves(&seen("beacon", &["10.0.0.1"], &["10.0.0.9"], 2)));
    assert!(!mining.involves(&seen("beacon", &["10.0.0.8"], &["10.0.0.9"], 2)));
}

#[test]
fn a_station_is_known_by_its_hardware_address_or_what_it_claims() {
    let spoof = attack("mitm_arp", "MAC 00:25:b3:bf:91:ee (claims 10.0.0.254)", "10.0.0.2", (1, 2));
    for (attackers, evidence, right) in [
        (&["10.0.0.254"][..], "{}", true),
        (&["10.0.0.5"], "{}", true),
        (&[], r#"{"mac":"00:25:b3:bf:91:ee"}"#, true),
        (&[], "{}", false),
        (&["10.0.0.9"], "{}", false),
    ] {
        let seen = Seen { evidence: evidence.to_owned(), ..seen("arp_spoof", attackers, &["10.0.0.2"], 2) };
        assert_eq!(spoof.named_by(&seen), Named { attacker: right, victim: true }, "{attackers:?} {evidence}");
        assert!(spoof.involves(&seen));
    }
}

#[test]
fn who_attacks_by_a_beacon_is_a_matter_of_view() {
    let right = Named { attacker: true, victim: true };
    let beacon = attack("c2_beacon", "10.0.0.1", "10.0.0.2", (1, 2));
    assert_eq!(beacon.named_by(&seen("beacon", &["10.0.0.2"], &["10.0.0.1"], 2)), right);
    assert_eq!(beacon.named_by(&seen("beacon", &["10.0.0.1"], &["10.0.0.2"], 2)), right);
    let scan = attack("scan_udp", "10.0.0.1", "10.0.0.2", (1, 2));
    assert_ne!(scan.named_by(&seen("port_scan", &["10.0.0.2"], &["10.0.0.1"], 2)), right);
}

#[test]
fn times_are_read_to_the_last_digit() {
    assert_eq!(time("1231009114.958375").unwrap().nanos(), 1_231_009_114_958_375_000);
    assert_eq!(time("7").unwrap(), at(7));
    assert_eq!(time("0.000000001").unwrap().nanos(), 1);
    for text in ["", "x", "1.0000000001", "-1.5", "99999999999999999999"] {
        assert!(time(text).is_err(), "{text:?}");
    }
}

const FLOWS: &str = "file,first_ts,last_ts,src,sport,dst,dport,proto,pkts_fwd,pkts_rev,malicious_frames,label\n\
    a,10.5,20,10.0.0.1,1,10.0.0.2,80,6,5,5,4,malicious\n\
    a,12.25,20,10.0.0.5,0,10.0.0.2,0,arp,2,1,3,malicious\n\
    a,1,20,10.0.0.8,1,10.0.0.9,80,6,5,5,0,benign\n\
    b,3,20,10.0.0.1,1,10.0.0.2,53,17,5,5,9,malicious\n";

#[test]
fn an_attack_begins_with_its_first_flow_that_is_all_malicious() {
    let flows = read_flows(FLOWS.as_bytes()).unwrap();
    let csv = "file,class,attackers,victims,rest_label\n\
        a,mitm_arp,MAC 00:00:00:00:00:01 (claims 10.0.0.5),10.0.0.2,benign\n\
        b,dns_tunnel,10.0.0.1,10.0.0.2:53,unknown\nc,benign,,,benign\n";
    let captures = read_captures(csv.as_bytes(), &flows).unwrap();
    let attack = |at: usize| captures[at].attack.as_ref().unwrap();
    assert_eq!(attack(0).first.nanos(), 12_250_000_000);
    assert_eq!(attack(0).arp_senders, addrs(&["10.0.0.5"]).into_iter().collect());
    assert_eq!(attack(0).ends, addrs(&["10.0.0.1", "10.0.0.2", "10.0.0.5"]).into_iter().collect());
    assert_eq!(attack(1).first, at(3), "the flow began before the attack used it");
    assert!(!captures[1].rest_is_benign && captures[2].attack.is_none());
}

#[test]
fn events_are_the_rows_with_malicious_frames() {
    let csv = "file,class_,start,end,first_malicious,last_malicious,attackers,victims\n\
        c,benign,1,9,,,,\na,scan_udp,10,20,11.5,19.5,10.0.0.1,10.0.0.2\n";
    let events = read_events(csv.as_bytes(), &read_flows(FLOWS.as_bytes()).unwrap()).unwrap();
    assert_eq!(events.len(), 1);
    assert_eq!((events[0].first.nanos(), events[0].last.unwrap().nanos()), (11_500_000_000, 19_500_000_000));
}
