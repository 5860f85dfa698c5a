//! Detectors: each reads flow events and names behaviours it recognises. One detector a file.

mod anomaly;
mod brute_force;
mod flood;
mod scan;

pub use anomaly::{Anomaly, AnomalyParams};
pub use brute_force::{BruteForce, BruteForceParams};
pub use flood::{Flood, FloodKind, FloodParams};
pub use scan::{Scan, ScanParams};

use std::collections::{BTreeMap, BTreeSet};

use sensor_ebpf::abi::Addr;
use serde_json::Value;

use crate::incident::{Class, Severity};
use crate::time::Timestamp;

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
    /// Counts behind it, over the detector's window.
    pub evidence: BTreeMap<String, Value>,
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
