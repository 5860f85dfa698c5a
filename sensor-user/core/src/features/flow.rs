//! The vector of one ended flow. Names and formulas are those of UNSW-NB15 (Moustafa, Slay 2015).

use sensor_ebpf::abi::Half;

use crate::flow::{FlowRecord, FlowView};

/// Columns in order. No address, port, TTL or absolute time: they identify the network, not the behaviour.
///
/// | column | unit | formula |
/// |---|---|---|
/// | `dur` | s | last - first packet |
/// | `spkts`, `dpkts` | packets | client to server, server to client |
/// | `sbytes`, `dbytes` | IP octets | |
/// | `smean`, `dmean` | octets | mean IP length |
/// | `sdev`, `ddev` | octets | standard deviation of the IP length |
/// | `sload`, `dload` | bit/s | octets x 8 / `dur` |
/// | `sinpkt`, `dinpkt` | ms | mean inter-arrival time |
/// | `sjit`, `djit` | ms | standard deviation of the inter-arrival time |
/// | `tcprtt` | s | SYN to the ACK of the SYN-ACK |
/// | `synack` | s | SYN to SYN-ACK |
/// | `sflags`, `dflags` | ratio | SYN, FIN and RST segments among all segments |
pub const COLUMNS: [&str; 19] = [
    "dur", "spkts", "dpkts", "sbytes", "dbytes", "smean", "dmean", "sdev", "ddev", "sload", "dload", "sinpkt",
    "dinpkt", "sjit", "djit", "tcprtt", "synack", "sflags", "dflags",
];

/// A vector in the order of [`COLUMNS`], in their units.
pub type FlowVector = [f32; COLUMNS.len()];

/// The vector of a flow.
#[must_use]
pub fn vector(record: &FlowRecord) -> FlowVector {
    let view = record.view();
    let (sent, received) = (view.sent(), view.received());
    let dur = record.last_seen.since(record.first_seen).as_secs_f64();
    let (s, d) = (Moments::of(sent), Moments::of(received));
    let values = [
        dur,
        sent.packets as f64,
        received.packets as f64,
        sent.octets as f64,
        received.octets as f64,
        s.mean_len,
        d.mean_len,
        s.dev_len,
        d.dev_len,
        rate(sent.octets, dur),
        rate(received.octets, dur),
        s.mean_gap_ms,
        d.mean_gap_ms,
        s.dev_gap_ms,
        d.dev_gap_ms,
        delay_s(view.slot().ack_delay),
        delay_s(view.slot().syn_ack_delay),
        control_share(&view, true),
        control_share(&view, false),
    ];
    values.map(narrow)
}

/// What a model is given: the logarithm tames columns that span ten decades, and keeps their order.
#[must_use]
pub fn model_input(vector: &FlowVector) -> FlowVector {
    vector.map(f32::ln_1p)
}

struct Moments {
    mean_len: f64,
    dev_len: f64,
    mean_gap_ms: f64,
    dev_gap_ms: f64,
}

impl Moments {
    fn of(half: &Half) -> Self {
        let packets = half.packets as f64;
        let gaps = packets - 1.0;
        let mean_len = divide(half.octets as f64, packets);
        let mean_gap_ms = divide(half.last_ns.saturating_sub(half.first_ns) as f64 / 1e6, gaps);
        // The sum of squares is in units of (1.024 us)^2.
        let gap_sq_ms = divide(half.iat_sq as f64 * 1.024e-3 * 1.024e-3, gaps);
        Self {
            mean_len,
            dev_len: (divide(half.len_sq as f64, packets) - mean_len * mean_len).max(0.0).sqrt(),
            mean_gap_ms,
            dev_gap_ms: (gap_sq_ms - mean_gap_ms * mean_gap_ms).max(0.0).sqrt(),
        }
    }
}

fn divide(numerator: f64, denominator: f64) -> f64 {
    if denominator > 0.0 { numerator / denominator } else { 0.0 }
}

fn rate(octets: u64, seconds: f64) -> f64 {
    divide(octets as f64 * 8.0, seconds)
}

fn delay_s(delay: u32) -> f64 {
    f64::from(delay) * 1.024e-6
}

fn control_share(view: &FlowView<'_>, client: bool) -> f64 {
    let (half, rare) = if client { (view.sent(), view.sent_rare()) } else { (view.received(), view.received_rare()) };
    divide(f64::from(rare.syn) + f64::from(rare.fin) + f64::from(rare.rst), half.packets as f64)
}

#[expect(clippy::cast_possible_truncation, reason = "models take single precision")]
fn narrow(value: f64) -> f32 {
    value.min(f64::from(f32::MAX)) as f32
}
