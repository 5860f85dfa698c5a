//! Flows and sums for people: columns that line up, and what a sum is in JSON and CSV.

use std::net::IpAddr;

use sensor_core::contract::FlowLine;
use sensor_core::incident::Class;
use sensor_core::time::Timestamp;
use serde::Serialize;

use crate::store::flows::{FlowHour, Found};

/// Columns of flows; those of numbers begin with `>`.
pub const FLOWS: [&str; 9] =
    ["began (UTC)", ">lasted", "from", "to", "proto", ">packets", ">octets", "ended by", "incident"];
/// Columns of sums.
pub const HOURS: [&str; 8] = ["hour (UTC)", ">flows", "from", "to", ">port", "proto", ">packets", ">octets"];
/// Columns of sums in CSV.
pub const HOUR_COLUMNS: [&str; 10] = [
    "hour",
    "src_addr",
    "dst_addr",
    "dst_port",
    "proto",
    "flows",
    "fwd_packets",
    "rev_packets",
    "fwd_ip_octets",
    "rev_ip_octets",
];

/// Rows that wait until the widths are known.
pub struct Table<const N: usize> {
    heads: &'static [&'static str; N],
    rows: Vec<[String; N]>,
}

/// A sum as a JSON line.
#[derive(Serialize)]
#[serde(tag = "type", rename = "flow_hour")]
pub struct HourLine {
    /// Seconds since the epoch at which the hour begins.
    hour: u64,
    src_addr: IpAddr,
    dst_addr: IpAddr,
    dst_port: u16,
    proto: u8,
    flows: u64,
    fwd_packets: u64,
    rev_packets: u64,
    fwd_ip_octets: u64,
    rev_ip_octets: u64,
}

impl<const N: usize> Table<N> {
    /// An empty table.
    pub const fn new(heads: &'static [&'static str; N]) -> Self {
        Self { heads, rows: Vec::new() }
    }

    /// Adds a row.
    pub fn push(&mut self, row: [String; N]) {
        self.rows.push(row);
    }

    /// The text, with how much there is as its last line.
    pub fn with_end(&self, noun: &str, found: Found) -> String {
        let mut text = if self.rows.is_empty() { String::new() } else { self.text() };
        let plural = if found.flows == 1 { "" } else { "s" };
        let more = if found.cut { ", the latest; --limit shows more" } else { "" };
        text.push_str(&format!("{} {noun}{plural}{more}\n", found.flows));
        text
    }

    fn text(&self) -> String {
        let widths: Vec<usize> = (0..N).map(|at| self.width(at)).collect();
        let heads = self.heads.map(|head| head.trim_start_matches('>').to_owned());
        let mut text = String::new();
        for row in std::iter::once(&heads).chain(&self.rows) {
            let mut line = String::new();
            for ((cell, head), width) in row.iter().zip(self.heads).zip(&widths) {
                let cell =
                    if head.starts_with('>') { format!("{cell:>width$}  ") } else { format!("{cell:<width$}  ") };
                line.push_str(&cell);
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    fn width(&self, at: usize) -> usize {
        let head = self.heads[at].trim_start_matches('>').len();
        self.rows.iter().map(|row| row[at].len()).fold(head, usize::max)
    }
}

/// A row of [`FLOWS`].
pub fn flow(line: &FlowLine, class: Option<Class>) -> [String; 9] {
    let end = |addr: IpAddr, port: u16| match (port, addr.is_ipv6()) {
        (0, _) => addr.to_string(),
        (_, true) => format!("[{addr}]:{port}"),
        (_, false) => format!("{addr}:{port}"),
    };
    [
        clock(line.first_seen),
        format!("{:.3} s", line.last_seen - line.first_seen),
        end(line.src_addr, line.src_port),
        end(line.dst_addr, line.dst_port),
        proto(line.proto),
        format!("{}+{}", line.fwd_packets, line.rev_packets),
        format!("{}+{}", line.fwd_ip_octets, line.rev_ip_octets),
        line.end_reason.to_owned(),
        class.map_or("", Class::as_str).to_owned(),
    ]
}

/// A row of [`HOURS`].
pub fn hour(sum: &FlowHour) -> [String; 8] {
    [
        sum.hour.to_string()[..16].replace('T', " "),
        sum.flows.to_string(),
        IpAddr::from(sum.src).to_string(),
        IpAddr::from(sum.dst).to_string(),
        sum.dst_port.to_string(),
        proto(sum.proto),
        format!("{}+{}", sum.packets[0], sum.packets[1]),
        format!("{}+{}", sum.octets[0], sum.octets[1]),
    ]
}

/// A row of [`HOUR_COLUMNS`].
pub fn hour_cells(sum: &FlowHour) -> [String; 10] {
    let HourLine { hour, src_addr, dst_addr, dst_port, proto, flows, .. } = sum.into();
    let counts = [sum.packets[0], sum.packets[1], sum.octets[0], sum.octets[1]];
    let [fwd_packets, rev_packets, fwd_ip_octets, rev_ip_octets] = counts.map(|count| count.to_string());
    [
        hour.to_string(),
        src_addr.to_string(),
        dst_addr.to_string(),
        dst_port.to_string(),
        proto.to_string(),
        flows.to_string(),
        fwd_packets,
        rev_packets,
        fwd_ip_octets,
        rev_ip_octets,
    ]
}

impl From<&FlowHour> for HourLine {
    fn from(sum: &FlowHour) -> Self {
        Self {
            hour: sum.hour.secs(),
            src_addr: sum.src.into(),
            dst_addr: sum.dst.into(),
            dst_port: sum.dst_port,
            proto: sum.proto,
            flows: sum.flows,
            fwd_packets: sum.packets[0],
            rev_packets: sum.packets[1],
            fwd_ip_octets: sum.octets[0],
            rev_ip_octets: sum.octets[1],
        }
    }
}

/// `2025-06-15 15:06:40.123`.
fn clock(seconds: f64) -> String {
    let at = Timestamp::EPOCH + std::time::Duration::try_from_secs_f64(seconds).unwrap_or_default();
    at.to_string().trim_end_matches('Z').replace('T', " ")
}

fn proto(number: u8) -> String {
    match number {
        1 => "icmp".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        58 => "icmpv6".to_owned(),
        132 => "sctp".to_owned(),
        _ => number.to_string(),
    }
}
