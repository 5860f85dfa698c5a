//! What the user is told: one incident per attack, from the tick that found it until it has been quiet.

mod admission;
mod book;
mod summary;
pub mod suppress;

pub use admission::Admission;
pub use book::{Book, COVERAGE, P_VALUE};
pub use summary::Language;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::time::Timestamp;

/// Attack classes. The names are stable identifiers: metrics, alerts and scripts rely on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Many ports of one host are probed.
    PortScan,
    /// Many hosts are probed for one service, or for being there at all.
    HostScan,
    /// TCP connections are begun by the thousand and never completed.
    SynFlood,
    /// TCP connections are completed by the thousand, by one client with one service.
    ConnectionFlood,
    /// UDP datagrams nobody asked for, faster than any service answers.
    UdpFlood,
    /// ICMP echo requests, more than anybody needs.
    IcmpFlood,
    /// Long answers of others to questions somebody asked in the victim's name.
    Amplification,
    /// One service is asked to log in again and again.
    BruteForce,
    /// Connections are held open by the hundred with next to nothing sent.
    SlowDos,
    /// A program calls home at regular intervals.
    Beacon,
    /// Data travels inside DNS questions and answers.
    DnsTunnel,
    /// Data travels inside echo requests and replies.
    IcmpTunnel,
    /// A host sends away far more than it ever has.
    Exfiltration,
    /// A host reaches for the administration of others it never dealt with.
    LateralMovement,
    /// A station answers for addresses that belong to others.
    ArpSpoof,
    /// Not normal for this network, and of no known class.
    Anomaly,
}

impl Class {
    /// Every class, in the order of declaration.
    pub const ALL: [Self; 16] = [
        Self::PortScan,
        Self::HostScan,
        Self::SynFlood,
        Self::ConnectionFlood,
        Self::UdpFlood,
        Self::IcmpFlood,
        Self::Amplification,
        Self::BruteForce,
        Self::SlowDos,
        Self::Beacon,
        Self::DnsTunnel,
        Self::IcmpTunnel,
        Self::Exfiltration,
        Self::LateralMovement,
        Self::ArpSpoof,
        Self::Anomaly,
    ];

    /// The class of an identifier.
    #[must_use]
    pub fn named(identifier: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.as_str() == identifier)
    }

    /// The stable identifier, e.g. `port_scan`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PortScan => "port_scan",
            Self::HostScan => "host_scan",
            Self::SynFlood => "syn_flood",
            Self::ConnectionFlood => "connection_flood",
            Self::UdpFlood => "udp_flood",
            Self::IcmpFlood => "icmp_flood",
            Self::Amplification => "amplification",
            Self::BruteForce => "brute_force",
            Self::SlowDos => "slow_dos",
            Self::Beacon => "beacon",
            Self::DnsTunnel => "dns_tunnel",
            Self::IcmpTunnel => "icmp_tunnel",
            Self::Exfiltration => "exfiltration",
            Self::LateralMovement => "lateral_movement",
            Self::ArpSpoof => "arp_spoof",
            Self::Anomaly => "anomaly",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How bad an incident is, from its impact and certainty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing.
    Low,
    /// Worth a look today.
    Medium,
    /// Worth a look now.
    High,
    /// Service or data are at stake.
    Critical,
}

impl Severity {
    /// Every severity, mildest first.
    pub const ALL: [Self; 4] = [Self::Low, Self::Medium, Self::High, Self::Critical];

    /// The stable identifier, e.g. `high`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One attack, as it is known at this moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Incident {
    /// Deterministic: the same capture gives the same identifiers.
    pub id: String,
    /// Never changes once the incident is open.
    pub class: Class,
    /// May rise while the incident is open, never falls.
    pub severity: Severity,
    /// Attacking addresses, sorted, at most [`Incident::LISTED`]; empty when the sources are spoofed.
    pub attackers: Vec<IpAddr>,
    /// Attacked addresses, sorted, at most [`Incident::LISTED`].
    pub victims: Vec<IpAddr>,
    /// Attacked ports of the victims, sorted, at most [`Incident::LISTED`].
    pub ports: Vec<u16>,
    /// First packet of the behaviour.
    pub first_seen: Timestamp,
    /// The tick that found it; never changes.
    pub detected_at: Timestamp,
    /// Latest packet of the behaviour.
    pub last_seen: Timestamp,
    /// Strength of the evidence in [0, 1].
    pub score: f64,
    /// One plain sentence.
    pub summary: String,
    /// Counts, rates and features behind the sentence, by name.
    pub evidence: BTreeMap<String, Value>,
}

impl Incident {
    /// How many addresses or ports an incident lists; full counts are in the evidence.
    pub const LISTED: usize = 64;
}

/// What has just happened to an incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Change {
    /// A new attack was found.
    Opened,
    /// More is known of an open incident: it grew in severity, attackers, victims or size.
    Updated,
    /// The attack has been quiet for long enough, or the input ended.
    Closed,
}

/// A change together with the incident as it is after it.
#[derive(Clone, Debug, PartialEq)]
pub struct IncidentEvent {
    /// What happened.
    pub change: Change,
    /// When it happened, in event time.
    pub at: Timestamp,
    /// The incident after the change.
    pub incident: Incident,
}
