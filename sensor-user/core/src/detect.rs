//! Detectors: each reads flow events and names behaviours it recognises. One detector a file.

mod all;
mod anomaly;
mod arp_scan;
mod arp_spoof;
mod beacon;
mod brute_force;
mod connection_flood;
mod dns_tunnel;
mod exfiltration;
mod flood;
mod host_anomaly;
mod icmp_tunnel;
mod lateral_movement;
mod reflector;
mod scan;
mod slow_dos;

pub use all::{DetectorParams, Detectors};
pub use anomaly::{Anomaly, AnomalyParams};
pub use arp_scan::{ArpScan, ArpScanParams};
pub use arp_spoof::{ArpSpoof, ArpSpoofParams};
pub use beacon::{Beacon, BeaconCandidate, BeaconParams, BeaconState, BeaconStateError};
pub use brute_force::{BruteForce, BruteForceParams};
pub use connection_flood::{ConnectionFlood, ConnectionFloodParams};
pub use dns_tunnel::{DnsTunnel, DnsTunnelParams};
pub use exfiltration::{Exfiltration, ExfiltrationParams};
pub use flood::{Flood, FloodKind, FloodParams};
pub use host_anomaly::{HostAnomaly, HostAnomalyParams, MINUTE};
pub use icmp_tunnel::{IcmpTunnel, IcmpTunnelParams};
pub use lateral_movement::{LateralMovement, LateralMovementParams};
pub use reflector::{Reflector, ReflectorParams};
pub use scan::{Scan, ScanParams, SlowScanParams};
pub use slow_dos::{SlowDos, SlowDosParams};

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use sensor_ebpf::abi::{Addr, ArpMessage};
use serde_json::Value;

use crate::arp::ArpTable;
use crate::flow::{FlowEvent, OverflowEvent};
use crate::incident::{Class, Severity};
use crate::roles::Roles;
use crate::time::Timestamp;

/// Recognises one behaviour in what the ticks bring. What it remembers is bounded, and so is what it reports.
pub trait Detector: Debug + Send {
    /// Takes in what a tick learned of a flow.
    fn observe(&mut self, event: &FlowEvent);

    /// Takes in what a tick learned of an aggregate.
    fn observe_overflow(&mut self, _event: &OverflowEvent) {}

    /// Takes in an ARP message, after the table has.
    fn observe_arp(&mut self, _message: &ArpMessage, _at: Timestamp, _table: &ArpTable) {}

    /// Ends a tick: reports the behaviours that it brought more of. `roles` is what hosts are known for.
    fn tick(&mut self, now: Timestamp, roles: &Roles) -> Vec<Finding>;

    /// Whether ticks without news would report nothing and forget nothing that matters, so that they can be left out.
    fn is_idle(&self) -> bool;
}

/// What a detector reports while a behaviour goes on: it is repeated at every tick that brings more of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// What it is.
    pub class: Class,
    /// The address that makes it one attack: the source of a scan, the victim of a flood.
    pub subject: Addr,
    /// How bad.
    pub severity: Severity,
    /// Attacking addresses; empty when they are spoofed.
    pub attackers: BTreeSet<Addr>,
    /// Attacked addresses.
    pub victims: BTreeSet<Addr>,
    /// Attacked ports of the victims.
    pub ports: BTreeSet<u16>,
    /// First packet of the behaviour in the detector's window.
    pub first_seen: Timestamp,
    /// Latest packet of the behaviour.
    pub last_seen: Timestamp,
    /// Strength of the evidence in [0, 1].
    pub score: f64,
    /// How likely chance alone is to bring this, where that is known: the alert budget decides.
    pub chance: Option<Chance>,
    /// Counts behind it, over the detector's window.
    pub evidence: BTreeMap<String, Value>,
}

/// A test of chance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chance {
    /// Natural logarithm of the p-value, or of a bound on it.
    pub log_p: f64,
    /// Such tests made a day, those that found nothing included.
    pub tests_per_day: f64,
}

/// How far `value` is above what suffices, as a score: 0.5 at the threshold, 0.75 at twice, towards 1.
fn saturating_score(value: f64, threshold: f64) -> f64 {
    1.0 - (-value / threshold).exp2()
}

/// A group address, or the limited broadcast: nobody is expected to answer for it alone.
fn is_group(addr: Addr) -> bool {
    match std::net::IpAddr::from(addr) {
        std::net::IpAddr::V4(v4) => v4.is_multicast() || v4.is_broadcast(),
        std::net::IpAddr::V6(v6) => v6.is_multicast(),
    }
}
