//! The objects of EVE lines, with the names and in the order that Suricata has.

use std::net::IpAddr;

use sensor_core::incident::Incident;
use sensor_core::time::Timestamp;
use sensor_ebpf::abi::FlowKey;
use sensor_ebpf::packet::{proto, tcp_flags};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One line.
#[derive(Default, Serialize)]
pub struct Line<'a> {
    timestamp: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow_id: Option<u64>,
    event_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub src_ip: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub src_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dest_ip: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dest_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proto: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icmp_type: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icmp_code: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub community_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alert: Option<Alert>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow: Option<Flow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp: Option<Tcp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stats: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leuko: Option<Value>,
    host: &'a str,
}

impl<'a> Line<'a> {
    /// What every line has.
    pub fn new(at: Timestamp, event_type: &'static str, host: &'a str) -> Self {
        Self { timestamp: moment(at), event_type, host, ..Self::default() }
    }

    /// Whose flow it is, and its `flow_id`.
    pub fn tuple(&mut self, src: IpAddr, src_port: u16, dst: IpAddr, dst_port: u16, number: u8) {
        let (key, _) = FlowKey::canonical(src.into(), src_port, dst.into(), dst_port, number);
        self.flow_id = Some(super::flow_id(&key));
        (self.src_ip, self.dest_ip) = (Some(src), Some(dst));
        if matches!(number, proto::TCP | proto::UDP | proto::SCTP) {
            (self.src_port, self.dest_port) = (Some(src_port), Some(dst_port));
        }
        self.proto = Some(name(number));
    }

    /// As text, with its line feed.
    pub fn finish(&self) -> String {
        let mut text = serde_json::to_string(self).unwrap_or_default();
        text.push('\n');
        text
    }
}

#[derive(Serialize)]
pub struct Alert {
    pub action: &'static str,
    pub gid: u32,
    pub signature_id: u32,
    pub rev: u32,
    pub signature: String,
    pub category: &'static str,
    pub severity: u8,
}

#[derive(Serialize)]
pub struct Flow {
    pub pkts_toserver: u64,
    pub pkts_toclient: u64,
    pub bytes_toserver: u64,
    pub bytes_toclient: u64,
    pub start: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alerted: Option<bool>,
}

/// Flags that were seen, as hexadecimal octets and one by one; those that were not are left out.
#[derive(Serialize)]
pub struct Tcp {
    tcp_flags: String,
    tcp_flags_ts: String,
    tcp_flags_tc: String,
    #[serde(skip_serializing_if = "is_false")]
    syn: bool,
    #[serde(skip_serializing_if = "is_false")]
    fin: bool,
    #[serde(skip_serializing_if = "is_false")]
    rst: bool,
    #[serde(skip_serializing_if = "is_false")]
    psh: bool,
    #[serde(skip_serializing_if = "is_false")]
    ack: bool,
    state: &'static str,
}

impl Tcp {
    /// Of the flags to the server and to the client.
    pub fn of(ts: u8, tc: u8, state: &'static str) -> Self {
        let all = ts | tc;
        let has = |flag: u8| all & flag != 0;
        Self {
            tcp_flags: format!("{all:02x}"),
            tcp_flags_ts: format!("{ts:02x}"),
            tcp_flags_tc: format!("{tc:02x}"),
            syn: has(tcp_flags::SYN),
            fin: has(tcp_flags::FIN),
            rst: has(tcp_flags::RST),
            psh: has(tcp_flags::PSH),
            ack: has(tcp_flags::ACK),
            state,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

/// A flow behind an incident, as its evidence lists it.
#[derive(Deserialize)]
pub struct Sample {
    pub src_addr: IpAddr,
    pub src_port: u16,
    pub dst_addr: IpAddr,
    pub dst_port: u16,
    pub proto: u8,
    sent_packets: u64,
    received_packets: u64,
    sent_octets: u64,
    received_octets: u64,
    first_seen: f64,
    #[serde(default)]
    pub community_id: Option<String>,
}

impl Sample {
    /// Those of an incident.
    pub fn all(incident: &Incident) -> impl Iterator<Item = Self> {
        let samples = incident.evidence.get("sample_flows").and_then(Value::as_array);
        samples.into_iter().flatten().filter_map(|sample| Self::deserialize(sample).ok())
    }

    pub fn flow_id(&self) -> u64 {
        let (src, dst) = (self.src_addr.into(), self.dst_addr.into());
        super::flow_id(&FlowKey::canonical(src, self.src_port, dst, self.dst_port, self.proto).0)
    }

    pub fn flow(&self) -> Flow {
        let start = std::time::Duration::try_from_secs_f64(self.first_seen).unwrap_or_default();
        Flow {
            pkts_toserver: self.sent_packets,
            pkts_toclient: self.received_packets,
            bytes_toserver: self.sent_octets,
            bytes_toclient: self.received_octets,
            start: moment(Timestamp::EPOCH + start),
            end: None,
            age: None,
            state: None,
            reason: None,
            alerted: None,
        }
    }
}

/// `2009-11-24T21:27:09.534255+0000`.
pub fn moment(at: Timestamp) -> String {
    let text = at.to_string();
    let seconds = text.split('.').next().unwrap_or(&text);
    format!("{seconds}.{:06}+0000", at.nanos() / 1000 % 1_000_000)
}

/// As Suricata calls it; three digits for what it has no name for.
fn name(number: u8) -> String {
    let name = match number {
        proto::ICMP => "ICMP",
        proto::TCP => "TCP",
        proto::UDP => "UDP",
        proto::GRE => "GRE",
        proto::ICMPV6 => "IPv6-ICMP",
        proto::SCTP => "SCTP",
        2 => "IGMP",
        50 => "ESP",
        51 => "AH",
        _ => return format!("{number:03}"),
    };
    name.to_owned()
}
