//! The JSON objects that other programs rely on, one object a line.
//!
//! They are types of their own, apart from the domain's, so that the domain can change without the contract. Times are
//! seconds since the epoch with microseconds, `proto` is the IANA number, octets are IP total lengths, `src` is the
//! sender of the first packet seen.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;
use serde_json::Value;

use crate::detect::BeaconCandidate;
use crate::incident::{Change, Incident, IncidentEvent};

/// One line of `leuko replay --json` or `leuko run --json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Line {
    /// An incident that opened or closed.
    Incident(IncidentLine),
    /// A flow that ended (with `--flows`).
    Flow(FlowLine),
    /// Somebody calls a service more or less regularly (`leuko replay`), most regular first.
    Beacon(BeaconLine),
    /// The last line.
    Summary(SummaryLine),
}

/// State of the incident in an [`IncidentLine`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Going on.
    Open,
    /// Over.
    Closed,
}

/// `{"type":"incident",...}`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct IncidentLine {
    /// Deterministic identifier.
    pub id: String,
    /// Attack class, see [`crate::incident::Class`].
    pub class: &'static str,
    /// `low`, `medium`, `high` or `critical`.
    pub severity: &'static str,
    /// Open or closed.
    pub state: State,
    /// Sorted, at most 64; empty for spoofed floods.
    pub attackers: Vec<IpAddr>,
    /// Sorted, at most 64.
    pub victims: Vec<IpAddr>,
    /// The victims' ports, sorted, at most 64.
    pub ports: Vec<u16>,
    /// Seconds since the epoch, microseconds kept.
    pub first_seen: f64,
    /// The interval tick that found it.
    pub detected_at: f64,
    /// Seconds since the epoch, microseconds kept.
    pub last_seen: f64,
    /// In [0, 1], four decimals.
    pub score: f64,
    /// One plain sentence.
    pub summary: String,
    /// Counts, rates and features.
    pub evidence: BTreeMap<String, Value>,
}

/// `{"type":"flow",...}`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FlowLine {
    /// Sender of the first packet seen.
    pub src_addr: IpAddr,
    /// 0 for protocols without ports.
    pub src_port: u16,
    /// Receiver of the first packet seen.
    pub dst_addr: IpAddr,
    /// 0 for protocols without ports.
    pub dst_port: u16,
    /// IANA protocol number.
    pub proto: u8,
    /// Packets from `src` to `dst`.
    pub fwd_packets: u64,
    /// Packets from `dst` to `src`.
    pub rev_packets: u64,
    /// IP octets from `src` to `dst`.
    pub fwd_ip_octets: u64,
    /// IP octets from `dst` to `src`.
    pub rev_ip_octets: u64,
    /// Seconds since the epoch, microseconds kept.
    pub first_seen: f64,
    /// Seconds since the epoch, microseconds kept.
    pub last_seen: f64,
    /// Why the flow ended.
    pub end_reason: &'static str,
}

/// `{"type":"beacon",...}`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BeaconLine {
    /// From one.
    pub rank: u64,
    /// Who calls.
    pub src_addr: IpAddr,
    /// The address called most.
    pub dst_addr: IpAddr,
    /// Port of the service.
    pub dst_port: u16,
    /// IANA protocol number.
    pub proto: u8,
    /// In [0, 1], four decimals.
    pub score: f64,
    /// Calls that are remembered; connections of one burst are one.
    pub connections: u64,
    /// Median time between calls in seconds, milliseconds kept.
    pub interval_s: f64,
    /// By which share of the interval the gaps vary either way, four decimals.
    pub jitter: f64,
    /// From the first of them to the last in seconds, milliseconds kept.
    pub span_s: f64,
    /// Whether there was an incident about it.
    pub reported: bool,
}

/// `{"type":"summary",...}`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SummaryLine {
    /// Packets read from the source.
    pub packets: u64,
    /// Flows that ended, those ended by the end of the input included.
    pub flows: u64,
    /// Incidents opened.
    pub incidents: u64,
    /// What could not be accounted to a flow, by reason.
    pub lost: BTreeMap<String, u64>,
    /// Event time from the first packet to the last, in seconds.
    pub duration_s: f64,
}

impl IncidentLine {
    /// The line of an event, or nothing for an update: the contract prints an incident when it opens and when it closes.
    #[must_use]
    pub fn of(event: &IncidentEvent) -> Option<Self> {
        match event.change {
            Change::Opened => Some(Self::with_state(&event.incident, State::Open)),
            Change::Closed => Some(Self::with_state(&event.incident, State::Closed)),
            Change::Updated => None,
        }
    }

    /// The line of an incident that is in a state.
    #[must_use]
    pub fn with_state(incident: &Incident, state: State) -> Self {
        Self {
            id: incident.id.clone(),
            class: incident.class.as_str(),
            severity: incident.severity.as_str(),
            state,
            attackers: incident.attackers.clone(),
            victims: incident.victims.clone(),
            ports: incident.ports.clone(),
            first_seen: incident.first_seen.epoch_seconds(),
            detected_at: incident.detected_at.epoch_seconds(),
            last_seen: incident.last_seen.epoch_seconds(),
            score: four_decimals(incident.score),
            summary: incident.summary.clone(),
            evidence: incident.evidence.clone(),
        }
    }
}

impl BeaconLine {
    /// The line of a candidate.
    #[must_use]
    pub fn of(rank: u64, candidate: &BeaconCandidate) -> Self {
        let milliseconds = |seconds: f64| (seconds * 1e3).round() / 1e3;
        Self {
            rank,
            src_addr: candidate.client,
            dst_addr: candidate.server,
            dst_port: candidate.port,
            proto: candidate.proto,
            score: four_decimals(candidate.score),
            connections: candidate.connections as u64,
            interval_s: milliseconds(candidate.interval_s),
            jitter: (candidate.jitter * 1e4).round() / 1e4,
            span_s: milliseconds(candidate.span_s),
            reported: candidate.reported,
        }
    }
}

fn four_decimals(score: f64) -> f64 {
    (score.clamp(0.0, 1.0) * 1e4).round() / 1e4
}

#[cfg(test)]
mod tests;
