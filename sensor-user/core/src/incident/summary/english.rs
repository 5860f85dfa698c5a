//! In English.

use super::{duration, features, found, hosts, is_true, list, number, octets, percent, ports, spanned, total};
use crate::incident::{Class, Incident};

pub(super) fn summary(incident: &Incident) -> String {
    let several = |total: u64, first: &std::net::IpAddr| format!("{total} hosts ({first} and others)");
    let who = hosts(&incident.attackers, total(incident, "attackers_total"), "unknown sources", several);
    let whom = hosts(&incident.victims, total(incident, "victims_total"), "unknown hosts", several);
    let service = ports(incident, "no port", "port", "ports");
    let took = duration(incident, "less than a second");
    let n = |name: &str| number(incident, name);
    match incident.class {
        Class::PortScan => {
            let answered = found(incident);
            let answered = if answered == 0 { String::new() } else { format!("; {answered} answered") };
            format!("{who} probed {} ports of {whom} in {took}{answered}", n("ports_total"))
        }
        Class::HostScan => {
            let sought = if incident.ports.is_empty() { "live hosts" } else { &service };
            format!("{who} looked for {sought} at {whom} in {took}; hardly any answered")
        }
        Class::SynFlood => format!(
            "{whom} was sent {} TCP connection requests in vain at {service}, at most {} a second, from {}",
            n("unused_connection_requests"),
            n("peak_packets_per_s"),
            sources(incident, &who),
        ),
        Class::UdpFlood => format!(
            "{whom} was sent {} UDP datagrams nobody answered at {service}, at most {} a second, from {}",
            n("unanswered_datagrams"),
            n("peak_packets_per_s"),
            sources(incident, &who),
        ),
        Class::IcmpFlood => format!(
            "{whom} was sent {} ICMP echo requests, at most {} a second, from {}",
            n("echo_requests"),
            n("peak_packets_per_s"),
            sources(incident, &who),
        ),
        Class::Amplification if is_true(incident, "reflector") => format!(
            "{who} gives {} for {} asked at {service}, to {whom}: someone asks in the victim's name",
            octets(incident, "sent_octets"),
            octets(incident, "received_octets"),
        ),
        Class::Amplification => format!(
            "{whom} was sent {} answers to questions it did not ask, at most {} a second, by {} hosts from port {}",
            n("unanswered_datagrams"),
            n("peak_packets_per_s"),
            n("distinct_sources"),
            list(incident, "amplifier_ports"),
        ),
        Class::BruteForce => {
            let success = if is_true(incident, "login_succeeded") { "; one seems to have succeeded" } else { "" };
            format!(
                "{who} guessed passwords at {whom}, {service}: {} short connections alike{success}",
                n("connections")
            )
        }
        Class::ConnectionFlood => {
            let (connections, window) = (n("connections"), n("window_s"));
            let rest = match incident.evidence.get("usual_connections") {
                Some(usual) => format!(" ({usual} would be usual)"),
                None => " and used hardly any".to_owned(),
            };
            format!("{who} opened {connections} connections with {whom}, {service}, in {window} seconds{rest}")
        }
        Class::SlowDos => format!(
            "{who} held {} connections to {whom}, {service}, open for {} with next to nothing sent",
            n("held_connections"),
            spanned(incident, "held_s", "less than a second"),
        ),
        Class::Beacon => format!(
            "{who} called {whom}, {service}, {} times, every {}, {} % regular",
            n("connections"),
            spanned(incident, "interval_s", "less than a second"),
            percent(incident, "regularity"),
        ),
        Class::DnsTunnel => format!(
            "{who} moved {} out and {} in through DNS at {whom}: {} questions of {} octets on average",
            octets(incident, "sent_octets"),
            octets(incident, "received_octets"),
            n("questions"),
            n("mean_question_octets"),
        ),
        Class::IcmpTunnel => format!(
            "{who} and {whom} moved {} in {} ICMP echoes that are no ping",
            octets(incident, "octets"),
            n("echoes"),
        ),
        Class::Exfiltration => format!(
            "{who} sent {} to {whom} in {took}; {} is usual",
            octets(incident, "sent_octets"),
            octets(incident, "usual_octets"),
        ),
        Class::LateralMovement => {
            format!("{who} reached for the administration of {whom}, {service}, for the first time, in {took}")
        }
        Class::ArpSpoof => format!("{} answers for {}, which belongs to others", n("mac"), list(incident, "claimed")),
        Class::Anomaly if is_true(incident, "host_window") => {
            format!("{who} did what is not normal here for a minute; what stood out: {}", features(incident),)
        }
        Class::Anomaly => format!(
            "{who} had {} flows unlike what is normal here, of {} ({} would be usual); what stood out: {}",
            n("rare_flows"),
            n("flows"),
            n("expected_rare_flows"),
            features(incident),
        ),
    }
}

fn sources(incident: &Incident, who: &str) -> String {
    let forged = if is_true(incident, "spoofed") { ", probably forged" } else { "" };
    if incident.attackers.is_empty() {
        format!("{} sources{forged}", number(incident, "distinct_sources"))
    } else {
        who.to_owned()
    }
}
