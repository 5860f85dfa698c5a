//! The one plain sentence of an incident.

use std::net::IpAddr;

use serde_json::Value;

use super::{Class, Incident};

/// Says who does what to whom, with the numbers that matter.
#[must_use]
pub fn summary(incident: &Incident) -> String {
    let who = hosts(&incident.attackers, total(incident, "attackers_total"));
    let whom = hosts(&incident.victims, total(incident, "victims_total"));
    let ports = total(incident, "ports_total");
    let took = duration(incident.last_seen.since(incident.first_seen).as_secs_f64());
    match incident.class {
        Class::PortScan => {
            let found = incident.evidence.get("open_ports_found").and_then(Value::as_array).map_or(0, Vec::len);
            let found = if found == 0 { String::new() } else { format!("; {found} answered") };
            format!("{who} probed {ports} ports of {whom} in {took}{found}")
        }
        Class::HostScan => {
            format!("{who} looked for {} at {whom} in {took}; hardly any answered", sought(incident))
        }
        Class::SynFlood => format!(
            "{whom} was sent {} TCP connection requests in vain at {}, at most {} a second, from {}",
            number(incident, "unused_connection_requests"),
            service(incident),
            number(incident, "peak_packets_per_s"),
            sources(incident, &who),
        ),
        Class::UdpFlood => format!(
            "{whom} was sent {} UDP datagrams nobody answered at {}, at most {} a second, from {}",
            number(incident, "unanswered_datagrams"),
            service(incident),
            number(incident, "peak_packets_per_s"),
            sources(incident, &who),
        ),
        Class::IcmpFlood => format!(
            "{whom} was sent {} ICMP echo requests, at most {} a second, from {}",
            number(incident, "echo_requests"),
            number(incident, "peak_packets_per_s"),
            sources(incident, &who),
        ),
        Class::Amplification => format!(
            "{whom} was sent {} answers to questions it did not ask, at most {} a second, by {} hosts from port {}",
            number(incident, "unanswered_datagrams"),
            number(incident, "peak_packets_per_s"),
            number(incident, "distinct_sources"),
            list(incident, "amplifier_ports"),
        ),
        Class::BruteForce => format!(
            "{who} guessed passwords at {whom}, {}: {} short connections of the same size within a minute",
            service(incident),
            number(incident, "connections"),
        ),
        Class::Anomaly => {
            let features = incident.evidence.get("features").and_then(Value::as_array);
            let names: Vec<&str> =
                features.into_iter().flatten().filter_map(|feature| feature.get("feature")?.as_str()).collect();
            format!(
                "{who} had {} flows unlike what is normal here, of {} ({} would be usual); what stood out: {}",
                number(incident, "rare_flows"),
                number(incident, "flows"),
                number(incident, "expected_rare_flows"),
                names.join(", "),
            )
        }
    }
}

fn total(incident: &Incident, name: &str) -> u64 {
    incident.evidence.get(name).and_then(Value::as_u64).unwrap_or(0)
}

fn number(incident: &Incident, name: &str) -> String {
    incident.evidence.get(name).map_or_else(|| "?".to_owned(), Value::to_string)
}

fn list(incident: &Incident, name: &str) -> String {
    let values = incident.evidence.get(name).and_then(Value::as_array);
    values.into_iter().flatten().map(Value::to_string).collect::<Vec<_>>().join(", ")
}

fn hosts(listed: &[IpAddr], total: u64) -> String {
    match listed {
        [] => "unknown sources".to_owned(),
        [only] => only.to_string(),
        [first, ..] => format!("{total} hosts ({first} and others)"),
    }
}

fn sources(incident: &Incident, who: &str) -> String {
    let forged = incident.evidence.get("spoofed") == Some(&Value::Bool(true));
    match (incident.attackers.is_empty(), forged) {
        (true, true) => format!("{} sources, probably forged", number(incident, "distinct_sources")),
        (true, false) => format!("{} sources", number(incident, "distinct_sources")),
        (false, _) => who.to_owned(),
    }
}

fn sought(incident: &Incident) -> String {
    if incident.ports.is_empty() { "live hosts by ping".to_owned() } else { service(incident) }
}

fn service(incident: &Incident) -> String {
    match incident.ports.as_slice() {
        [] => "no port".to_owned(),
        [port] => format!("port {port}"),
        ports => format!("{} ports", total(incident, "ports_total").max(ports.len() as u64)),
    }
}

fn duration(seconds: f64) -> String {
    if seconds < 1.0 {
        "less than a second".to_owned()
    } else if seconds < 120.0 {
        format!("{seconds:.0} s")
    } else {
        format!("{:.0} min", seconds / 60.0)
    }
}
