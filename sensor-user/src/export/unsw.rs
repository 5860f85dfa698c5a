//! Flows of the history in the columns of UNSW-NB15 (Moustafa, Slay 2015): names and order of the official train and test
//! tables, with who and when before them as in the raw tables.
//!
//! `s` is the client and `d` the server, as [`FlowView`](sensor_core::flow::FlowView) tells them; units and formulas are
//! those of [`COLUMNS`]. Beside these:
//!
//! | column | |
//! |---|---|
//! | `stime`, `ltime` | seconds since the epoch, microseconds kept |
//! | `state` | of Argus: `REQ` `ACC` `CON` `FIN` `RST` for TCP, `INT` `CON` elsewhere, `ECO` `ECR` `URN` `URH` `URP` `TXD` for ICMP |
//! | `service` | by the server's port; `-` where the data set has no name for it |
//! | `rate` | packets per second after the first, `(spkts + dpkts - 1) / dur` |
//! | `sloss`, `dloss` | segments sent again |
//! | `sttl`, `dttl`, `swin`, `dwin` | the latest, windows unscaled |
//! | `ct_*` | flows alike among the last 100 by the time of their last packet, the flow itself included |
//!
//! Null is what needs payload or sequence numbers, and `ct_state_ttl`, whose ranges are those of the testbed.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::net::IpAddr;

use sensor_core::features::flow::COLUMNS;
use sensor_core::flow::EndReason;
use sensor_core::incident::Class;
use sensor_ebpf::abi::Addr;
use sensor_ebpf::packet::proto;

use super::parquet::{Cell, NamedCells};
use crate::store::flows::{End, Features, FlowRow};

/// Columns.
pub const WIDTH: usize = 51;

/// What is no attack, as the data set writes it.
const NORMAL: &str = "Normal";

/// Flows among which those alike are counted.
const WINDOW: usize = 100;

/// Rows in the order of the flows' last packets.
#[derive(Debug, Default)]
pub struct UnswRows {
    rows: i64,
    recent: VecDeque<Ends>,
}

/// Between whom a flow was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ends {
    client: (IpAddr, u16),
    server: (IpAddr, u16),
    service: &'static str,
}

impl UnswRows {
    /// A row with the kinds of the columns, of no flow.
    #[must_use]
    pub fn example() -> NamedCells<WIDTH> {
        let nobody = (Addr::default(), 0);
        let flow = FlowRow {
            first_seen: 0,
            last_seen: 0,
            src: nobody,
            dst: nobody,
            proto: 0,
            end_reason: EndReason::ForcedEnd,
            packets: [0; 2],
            octets: [0; 2],
            features: Vec::new(),
        };
        let features = Features { vector: [0.0; COLUMNS.len()], client_is_dst: false, ends: [End::default(); 2] };
        Self::default().row(&flow, &features, None)
    }

    /// The row of the next flow.
    pub fn row(&mut self, flow: &FlowRow, features: &Features, class: Option<Class>) -> NamedCells<WIDTH> {
        let ends = Ends::of(flow, features);
        if self.recent.len() == WINDOW {
            self.recent.pop_front();
        }
        self.recent.push_back(ends);
        self.rows += 1;
        let alike = |same: fn(&Ends, &Ends) -> bool| {
            let count = self.recent.iter().filter(|other| same(other, &ends)).count();
            Cell::Count(i64::try_from(count).expect("at most a hundred"))
        };
        let Ends { client, server, service } = ends;
        let text = |text: &'static str| Cell::Text(Cow::Borrowed(text));
        let address = |addr: IpAddr| Cell::Text(Cow::Owned(addr.to_string()));
        let seconds = |micros: i64| Cell::Time(micros as f64 / 1e6);
        let [s, d] = features.ends;
        let [packets, octets] = [flow.packets, flow.octets].map(|[fwd, rev]| {
            let [sent, received] = if features.client_is_dst { [rev, fwd] } else { [fwd, rev] };
            [Cell::Count(sent), Cell::Count(received)]
        });
        let ([spkts, dpkts], [sbytes, dbytes]) = (packets, octets);
        let [dur, _, _, _, _, smean, dmean, _, _, sload, dload, sinpkt, dinpkt, sjit, djit, tcprtt, synack, _, _] =
            features.vector;
        let window = |end: End| Cell::Count(if flow.proto == proto::TCP { end.window.into() } else { 0 });
        let to_itself = client == server;
        [
            ("srcip", address(client.0)),
            ("sport", Cell::Count(client.1.into())),
            ("dstip", address(server.0)),
            ("dsport", Cell::Count(server.1.into())),
            ("stime", seconds(flow.first_seen)),
            ("ltime", seconds(flow.last_seen)),
            ("id", Cell::Count(self.rows)),
            ("dur", Cell::Real(dur)),
            ("proto", Cell::Text(protocol(flow.proto))),
            ("service", text(service)),
            ("state", text(state(flow, features.ends, tcprtt > 0.0))),
            ("spkts", spkts),
            ("dpkts", dpkts),
            ("sbytes", sbytes),
            ("dbytes", dbytes),
            ("rate", Cell::Real(rate(flow))),
            ("sttl", Cell::Count(s.ttl.into())),
            ("dttl", Cell::Count(d.ttl.into())),
            ("sload", Cell::Real(sload)),
            ("dload", Cell::Real(dload)),
            ("sloss", Cell::Count(s.retransmits.into())),
            ("dloss", Cell::Count(d.retransmits.into())),
            ("sinpkt", Cell::Real(sinpkt)),
            ("dinpkt", Cell::Real(dinpkt)),
            ("sjit", Cell::Real(sjit)),
            ("djit", Cell::Real(djit)),
            ("swin", window(s)),
            ("stcpb", Cell::Unknown),
            ("dtcpb", Cell::Unknown),
            ("dwin", window(d)),
            ("tcprtt", Cell::Real(tcprtt)),
            ("synack", Cell::Real(synack)),
            ("ackdat", Cell::Real((tcprtt - synack).max(0.0))),
            ("smean", Cell::Real(smean)),
            ("dmean", Cell::Real(dmean)),
            ("trans_depth", Cell::Unknown),
            ("response_body_len", Cell::Unknown),
            ("ct_srv_src", alike(|a, b| (a.service, a.client.0) == (b.service, b.client.0))),
            ("ct_state_ttl", Cell::Unknown),
            ("ct_dst_ltm", alike(|a, b| a.server.0 == b.server.0)),
            ("ct_src_dport_ltm", alike(|a, b| (a.client.0, a.server.1) == (b.client.0, b.server.1))),
            ("ct_dst_sport_ltm", alike(|a, b| (a.server.0, a.client.1) == (b.server.0, b.client.1))),
            ("ct_dst_src_ltm", alike(|a, b| (a.client.0, a.server.0) == (b.client.0, b.server.0))),
            ("is_ftp_login", Cell::Unknown),
            ("ct_ftp_cmd", Cell::Unknown),
            ("ct_flw_http_mthd", Cell::Unknown),
            ("ct_src_ltm", alike(|a, b| a.client.0 == b.client.0)),
            ("ct_srv_dst", alike(|a, b| (a.service, a.server.0) == (b.service, b.server.0))),
            ("is_sm_ips_ports", Cell::Count(to_itself.into())),
            ("attack_cat", text(class.map_or(NORMAL, Class::as_str))),
            ("label", Cell::Count(class.is_some().into())),
        ]
    }
}

impl Ends {
    fn of(flow: &FlowRow, features: &Features) -> Self {
        let span = flow.span();
        let (client, server) = if features.client_is_dst { (span.dst, span.src) } else { (span.src, span.dst) };
        Self { client, server, service: service(flow.proto, server.1) }
    }
}

/// Names of the data set; another protocol is its number.
fn protocol(number: u8) -> Cow<'static, str> {
    Cow::Borrowed(match number {
        1 => "icmp",
        2 => "igmp",
        6 => "tcp",
        17 => "udp",
        41 => "ipv6",
        46 => "rsvp",
        47 => "gre",
        50 => "esp",
        58 => "ipv6-icmp",
        88 => "eigrp",
        89 => "ospf",
        103 => "pim",
        112 => "vrrp",
        132 => "sctp",
        _ => return Cow::Owned(number.to_string()),
    })
}

/// Names of the data set.
const fn service(number: u8, port: u16) -> &'static str {
    match (number, port) {
        (6, 20) => "ftp-data",
        (6, 21) => "ftp",
        (6, 22) => "ssh",
        (6, 25) => "smtp",
        (6 | 17, 53) => "dns",
        (17, 67 | 68) => "dhcp",
        (6, 80) => "http",
        (6, 110) => "pop3",
        (17, 161) => "snmp",
        (6, 194 | 6667) => "irc",
        (6, 443) => "ssl",
        (17, 1812 | 1813) => "radius",
        _ => "-",
    }
}

/// `shaken` says whether the handshake was completed.
fn state(flow: &FlowRow, [client, server]: [End; 2], shaken: bool) -> &'static str {
    let answered = flow.packets.iter().all(|packets| *packets > 0);
    let [kind, code] = client.window.to_be_bytes();
    match (flow.proto, kind, code) {
        (proto::TCP, ..) if client.rst || server.rst => "RST",
        (proto::TCP, ..) if client.fin || server.fin => "FIN",
        (proto::TCP, ..) if client.syn && !answered => "REQ",
        (proto::TCP, ..) if server.syn && !shaken => "ACC",
        (proto::ICMP, 8, _) | (proto::ICMPV6, 128, _) => "ECO",
        (proto::ICMP, 0, _) | (proto::ICMPV6, 129, _) => "ECR",
        (proto::ICMP, 3, 0) | (proto::ICMPV6, 1, 0) => "URN",
        (proto::ICMP, 3, 1) | (proto::ICMPV6, 1, 3) => "URH",
        (proto::ICMP, 3, 3) | (proto::ICMPV6, 1, 4) => "URP",
        (proto::ICMP, 11, _) | (proto::ICMPV6, 3, _) => "TXD",
        (proto::TCP, ..) => "CON",
        _ if answered => "CON",
        _ => "INT",
    }
}

#[expect(clippy::cast_possible_truncation, reason = "as precise as the other columns")]
fn rate(flow: &FlowRow) -> f32 {
    let seconds = (flow.last_seen - flow.first_seen) as f64 / 1e6;
    let packets: i64 = flow.packets.iter().sum();
    if seconds > 0.0 { ((packets - 1).max(0) as f64 / seconds) as f32 } else { 0.0 }
}

#[cfg(test)]
mod tests;
