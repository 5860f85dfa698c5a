//! A flow as an example of what an incident is about.

use std::net::IpAddr;

use sensor_ebpf::abi::{Direction, FlowKey};
use sensor_ebpf::packet::proto;
use serde::Serialize;

use super::{FlowEvent, Outcome, community_id};

/// What other tools need to find the flow, and what it has moved so far.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FlowSample {
    /// Who asked.
    pub src_addr: IpAddr,
    /// 0 for protocols without ports.
    pub src_port: u16,
    /// Who was asked.
    pub dst_addr: IpAddr,
    /// 0 for protocols without ports.
    pub dst_port: u16,
    /// IANA protocol number.
    pub proto: u8,
    /// Packets from `src` to `dst`.
    pub sent_packets: u64,
    /// Packets from `dst` to `src`.
    pub received_packets: u64,
    /// IP octets from `src` to `dst`.
    pub sent_octets: u64,
    /// IP octets from `dst` to `src`.
    pub received_octets: u64,
    /// Seconds since the epoch.
    pub first_seen: f64,
    /// See [`community_id`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub community_id: Option<String>,
}

impl FlowSample {
    pub(super) fn of(key: &FlowKey, client: Direction, event: &FlowEvent) -> Self {
        // Whoever asks by ICMP sends echo requests.
        let kind = if key.proto == proto::ICMP { 8 } else { 128 };
        let icmp = (event.outcome != Outcome::Unasked).then_some((client, kind, 0));
        Self {
            src_addr: event.client.ip(),
            src_port: event.client.port,
            dst_addr: event.server.ip(),
            dst_port: event.server.port,
            proto: event.proto,
            sent_packets: event.sent_packets,
            received_packets: event.received_packets,
            sent_octets: event.sent_octets,
            received_octets: event.received_octets,
            first_seen: event.first_seen.epoch_seconds(),
            community_id: community_id(key, icmp),
        }
    }
}
