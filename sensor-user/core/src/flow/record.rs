//! A flow that has ended.

use sensor_ebpf::abi::FlowSlot;

use super::FlowView;
use crate::contract::FlowLine;
use crate::time::Timestamp;

/// Why a flow ended (after IPFIX flowEndReason, RFC 5102).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EndReason {
    /// No packet for the idle timeout of its protocol.
    IdleTimeout,
    /// It lasted longer than the active timeout; what follows is a new flow.
    ActiveTimeout,
    /// TCP: both sides said FIN.
    TcpFin,
    /// TCP: reset.
    TcpRst,
    /// The sensor stopped, or the capture ended.
    ForcedEnd,
}

impl EndReason {
    /// Every reason.
    pub const ALL: [Self; 5] = [Self::IdleTimeout, Self::ActiveTimeout, Self::TcpFin, Self::TcpRst, Self::ForcedEnd];

    /// The stable identifier.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::IdleTimeout => "idle_timeout",
            Self::ActiveTimeout => "active_timeout",
            Self::TcpFin => "tcp_fin",
            Self::TcpRst => "tcp_rst",
            Self::ForcedEnd => "forced_end",
        }
    }
}

/// Final counters of a flow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FlowRecord {
    /// The counters as the source left them; their times are the source's.
    pub slot: FlowSlot,
    /// First packet.
    pub first_seen: Timestamp,
    /// Last packet.
    pub last_seen: Timestamp,
    /// Why it ended.
    pub end_reason: EndReason,
}

impl FlowRecord {
    /// Seen from the client.
    #[must_use]
    pub fn view(&self) -> FlowView<'_> {
        FlowView::new(&self.slot)
    }
}

impl From<&FlowRecord> for FlowLine {
    fn from(record: &FlowRecord) -> Self {
        let view = FlowView::from_initiator(&record.slot);
        let (src, dst) = (view.client(), view.server());
        Self {
            src_addr: src.ip(),
            src_port: src.port,
            dst_addr: dst.ip(),
            dst_port: dst.port,
            proto: view.proto(),
            fwd_packets: view.sent().packets,
            rev_packets: view.received().packets,
            fwd_ip_octets: view.sent().octets,
            rev_ip_octets: view.received().octets,
            first_seen: record.first_seen.epoch_seconds(),
            last_seen: record.last_seen.epoch_seconds(),
            end_reason: record.end_reason.as_str(),
        }
    }
}
