//! Lines of Suricata's EVE format: incidents as `alert`, ended flows as `flow`, counters as `stats`.
//!
//! Everything that reads Suricata's `eve.json` reads these. What differs: octets are IP total lengths, `flow_id` is a hash of
//! the five-tuple, and an `alert` has the whole incident under `leuko`, with `leuko.change` telling an incident's first line
//! (`opened`) from later ones.
//!
//! | `signature_id` | class | `category` |
//! |---|---|---|
//! | 1985001 | `port_scan` | Detection of a Network Scan |
//! | 1985002 | `host_scan` | Detection of a Network Scan |
//! | 1985003 | `syn_flood` | Detection of a Denial of Service Attack |
//! | 1985004 | `udp_flood` | Detection of a Denial of Service Attack |
//! | 1985005 | `icmp_flood` | Detection of a Denial of Service Attack |
//! | 1985006 | `amplification` | Detection of a Denial of Service Attack |
//! | 1985007 | `brute_force` | Attempted User Privilege Gain |
//! | 1985008 | `slow_dos` | Attempted Denial of Service |
//! | 1985009 | `beacon` | Malware Command and Control Activity Detected |
//! | 1985010 | `dns_tunnel` | Detection of a non-standard protocol or event |
//! | 1985011 | `icmp_tunnel` | Detection of a non-standard protocol or event |
//! | 1985012 | `exfiltration` | Large Scale Information Leak |
//! | 1985013 | `lateral_movement` | Targeted Malicious Activity was Detected |
//! | 1985014 | `arp_spoof` | Misc Attack |
//! | 1985015 | `anomaly` | Potentially Bad Traffic |
//!
//! `severity` counts as Suricata does: 1 critical, 2 high, 3 medium, 4 low.

mod lines;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ring::digest::{Context, SHA256};
use sensor_core::contract::IncidentLine;
use sensor_core::coverage;
use sensor_core::engine::Engine;
use sensor_core::flow::{EndReason, FlowRecord, Outcome, community_id};
use sensor_core::incident::{Change, Class, IncidentEvent, Language, Severity};
use sensor_core::time::Timestamp;
use sensor_ebpf::abi::{Counters, FlowKey, Half, HalfRare};
use sensor_ebpf::packet::{proto, tcp_flags};
use serde_json::{Value, json};

use self::lines::{Alert, Flow, Line, Sample, Tcp};
use crate::live::Tick;
use crate::notify::text;
use crate::store::Event;

/// Rules of one's own have numbers from one to two million.
const FIRST_SIGNATURE: u32 = 1_985_001;
/// Readers in JavaScript are exact to 53 bits; Suricata itself leaves it at 51.
const FLOW_ID: u64 = 0x7_ffff_ffff_ffff;

/// Counters of the sensor at a moment, since its start.
#[derive(Clone, Debug, PartialEq)]
pub struct Stats {
    /// When.
    pub at: Timestamp,
    /// Since the sensor started.
    pub uptime: Duration,
    /// All hooks together.
    pub counters: Counters,
    /// Live flows.
    pub live_flows: usize,
    /// Flows begun.
    pub started_flows: u64,
    /// Flows ended, by reason.
    pub ended: BTreeMap<&'static str, u64>,
    /// Incidents that are going on.
    pub open_incidents: usize,
    /// Incidents opened.
    pub opened_incidents: u64,
    /// Part of the packets of the last interval that was accounted, in [0, 1].
    pub coverage: f64,
}

impl Stats {
    /// What a tick shows.
    #[must_use]
    pub fn of(tick: &Tick, engine: &Engine, uptime: Duration) -> Self {
        Self {
            at: tick.now,
            uptime,
            counters: coverage::total(&tick.counters),
            live_flows: engine.live_flows(),
            started_flows: engine.started_flows(),
            ended: engine.ended().clone(),
            open_incidents: engine.open_incidents().len(),
            opened_incidents: engine.opened_incidents(),
            coverage: tick.coverage,
        }
    }
}

/// The line of an event, with its line feed. Its tuple is that of the first flow behind the incident, or, without one, of the
/// first attacker and victim; unknown addresses are unspecified ones.
#[must_use]
pub fn alert(event: &Event, sensor: &str) -> String {
    let incident = &event.incident;
    let sample = Sample::all(incident).next();
    let mut line = Line::new(event.at, "alert", sensor);
    match &sample {
        Some(sample) => {
            line.tuple(sample.src_addr, sample.src_port, sample.dst_addr, sample.dst_port, sample.proto);
            line.community_id = sample.community_id.clone();
            line.flow = Some(sample.flow());
        }
        None => {
            let (src, dst) = (incident.attackers.first().copied(), incident.victims.first().copied());
            line.src_ip = Some(src.unwrap_or_else(|| unspecified(dst)));
            line.dest_ip = Some(dst.unwrap_or_else(|| unspecified(src)));
            line.dest_port = incident.ports.first().copied();
            line.proto = Some(usual_proto(incident.class).to_owned());
        }
    }
    let class = incident.class;
    line.alert = Some(Alert {
        action: "allowed",
        gid: 1,
        signature_id: signature_id(class),
        rev: 1,
        signature: format!("LEUKO {}", text::title(class, Language::En)),
        category: category(class),
        severity: match incident.severity {
            Severity::Critical => 1,
            Severity::High => 2,
            Severity::Medium => 3,
            Severity::Low => 4,
        },
    });
    line.leuko = Some(whole(event));
    line.finish()
}

/// The `flow_id` of each flow that is an example of the incident.
pub fn flow_ids(event: &Event) -> impl Iterator<Item = u64> {
    Sample::all(&event.incident).map(|sample| sample.flow_id())
}

/// The line of a flow that ended, with its line feed.
#[must_use]
pub fn flow(record: &FlowRecord, sensor: &str, alerted: impl Fn(u64) -> bool) -> String {
    let view = record.view();
    let (client, server, number) = (view.client(), view.server(), view.proto());
    let mut line = Line::new(record.last_seen, "flow", sensor);
    line.tuple(client.ip(), client.port, server.ip(), server.port, number);
    let asked = view.outcome(true) != Outcome::Unasked;
    if matches!(number, proto::ICMP | proto::ICMPV6) {
        let [kind, code] = view.sent().window.to_be_bytes();
        (line.icmp_type, line.icmp_code) = (Some(kind), Some(code));
    }
    let kind = if number == proto::ICMP { 8 } else { 128 };
    line.community_id = community_id(&record.slot.key, asked.then_some((view.direction(), kind, 0)));
    let (sent, received) = (view.sent(), view.received());
    let state = if view.closed().is_some() {
        "closed"
    } else if sent.packets > 0 && received.packets > 0 {
        "established"
    } else {
        "new"
    };
    line.flow = Some(Flow {
        pkts_toserver: sent.packets,
        pkts_toclient: received.packets,
        bytes_toserver: sent.octets,
        bytes_toclient: received.octets,
        start: lines::moment(record.first_seen),
        end: Some(lines::moment(record.last_seen)),
        age: Some(record.last_seen.secs().saturating_sub(record.first_seen.secs())),
        state: Some(state),
        reason: Some(reason(record.end_reason)),
        alerted: Some(line.flow_id.is_some_and(alerted)),
    });
    if number == proto::TCP {
        line.tcp = Some(Tcp::of(flags(sent, view.sent_rare()), flags(received, view.received_rare()), state));
    }
    line.finish()
}

/// The line of counters, with its line feed. `not_written` is how many lines this file has lost so far.
#[must_use]
pub fn stats(stats: &Stats, sensor: &str, not_written: u64) -> String {
    let counters = &stats.counters;
    let mut line = Line::new(stats.at, "stats", sensor);
    line.stats = Some(json!({
        "uptime": stats.uptime.as_secs(),
        "capture": {"kernel_packets": counters.packets, "kernel_drops": coverage::missed(counters)},
        "decoder": {"pkts": counters.packets, "bytes": counters.octets},
        "flow": {"total": stats.started_flows, "active": stats.live_flows},
        "detect": {"alert": stats.opened_incidents},
        "leuko": {
            "coverage": (stats.coverage * 1e4).round() / 1e4,
            "overflowed": counters.overflowed,
            "ended": stats.ended,
            "open_incidents": stats.open_incidents,
            "lines_not_written": not_written,
        },
    }));
    line.finish()
}

/// The same for both directions.
fn flow_id(key: &FlowKey) -> u64 {
    let mut hash = Context::new(&SHA256);
    hash.update(&key.lo_addr.octets());
    hash.update(&key.hi_addr.octets());
    hash.update(&key.lo_port.to_be_bytes());
    hash.update(&key.hi_port.to_be_bytes());
    hash.update(&[key.proto]);
    let digest = hash.finish();
    let first = digest.as_ref().first_chunk().expect("a digest has 32 octets");
    u64::from_be_bytes(*first) & FLOW_ID
}

/// The incident as `leuko run --json` prints it, and what the event is.
fn whole(event: &Event) -> Value {
    // The contract prints no updates; an incident that grew is one that is open.
    let (change, name) = match event.change {
        Change::Opened => (Change::Opened, "opened"),
        Change::Updated => (Change::Opened, "updated"),
        Change::Closed => (Change::Closed, "closed"),
    };
    let line = IncidentLine::of(&IncidentEvent { change, at: event.at, incident: event.incident.clone() });
    let mut whole = serde_json::to_value(line).unwrap_or_default();
    whole["key"] = event.key().into();
    whole["change"] = name.into();
    whole
}

fn unspecified(other: Option<IpAddr>) -> IpAddr {
    match other {
        Some(IpAddr::V6(_)) => Ipv6Addr::UNSPECIFIED.into(),
        Some(IpAddr::V4(_)) | None => Ipv4Addr::UNSPECIFIED.into(),
    }
}

/// As Suricata's rules call what a class is about; `IP` where it may be anything.
const fn usual_proto(class: Class) -> &'static str {
    match class {
        Class::SynFlood | Class::ConnectionFlood | Class::BruteForce | Class::SlowDos => "TCP",
        Class::UdpFlood | Class::Amplification | Class::DnsTunnel => "UDP",
        Class::IcmpFlood | Class::IcmpTunnel => "ICMP",
        Class::ArpSpoof => "ARP",
        Class::PortScan
        | Class::HostScan
        | Class::Beacon
        | Class::Exfiltration
        | Class::LateralMovement
        | Class::Anomaly => "IP",
    }
}

/// Never changes for a class, whatever classes are added.
const fn signature_id(class: Class) -> u32 {
    FIRST_SIGNATURE
        + match class {
            Class::PortScan => 0,
            Class::HostScan => 1,
            Class::SynFlood => 2,
            Class::UdpFlood => 3,
            Class::IcmpFlood => 4,
            Class::Amplification => 5,
            Class::BruteForce => 6,
            Class::SlowDos => 7,
            Class::Beacon => 8,
            Class::DnsTunnel => 9,
            Class::IcmpTunnel => 10,
            Class::Exfiltration => 11,
            Class::LateralMovement => 12,
            Class::ArpSpoof => 13,
            Class::Anomaly => 14,
            Class::ConnectionFlood => 15,
        }
}

/// As Suricata's `classification.config` has it.
const fn category(class: Class) -> &'static str {
    match class {
        Class::PortScan | Class::HostScan => "Detection of a Network Scan",
        Class::SynFlood | Class::ConnectionFlood | Class::UdpFlood | Class::IcmpFlood | Class::Amplification => {
            "Detection of a Denial of Service Attack"
        }
        Class::BruteForce => "Attempted User Privilege Gain",
        Class::SlowDos => "Attempted Denial of Service",
        Class::Beacon => "Malware Command and Control Activity Detected",
        Class::DnsTunnel | Class::IcmpTunnel => "Detection of a non-standard protocol or event",
        Class::Exfiltration => "Large Scale Information Leak",
        Class::LateralMovement => "Targeted Malicious Activity was Detected",
        Class::ArpSpoof => "Misc Attack",
        Class::Anomaly => "Potentially Bad Traffic",
    }
}

const fn reason(reason: EndReason) -> &'static str {
    match reason {
        EndReason::IdleTimeout | EndReason::TcpFin | EndReason::TcpRst => "timeout",
        EndReason::ActiveTimeout => "forced",
        EndReason::ForcedEnd => "shutdown",
    }
}

fn flags(half: &Half, rare: &HalfRare) -> u8 {
    let seen = |count: u32, flag: u8| if count > 0 { flag } else { 0 };
    let ack = if half.packets > u64::from(rare.no_ack) { tcp_flags::ACK } else { 0 };
    seen(rare.fin, tcp_flags::FIN)
        | seen(rare.syn, tcp_flags::SYN)
        | seen(rare.rst, tcp_flags::RST)
        | seen(half.psh, tcp_flags::PSH)
        | ack
        | seen(rare.urg, tcp_flags::URG)
        | seen(rare.ece, tcp_flags::ECE)
        | seen(rare.cwr, tcp_flags::CWR)
}
