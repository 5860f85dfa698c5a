//! A flow as it is stored, apart from the domain's types.

use std::net::IpAddr;

use rusqlite::types::Type;
use rusqlite::{Row, ToSql};
use sensor_core::contract::FlowLine;
use sensor_core::flow::{EndReason, FlowRecord, FlowView};
use sensor_core::time::Timestamp;
use sensor_ebpf::abi::Addr;

use super::features::{Features, UnknownLayout};
use crate::attribution::FlowSpan;

/// Columns in the order in which rows are written and read.
pub(super) const COLUMNS: &str = "id, first_seen, last_seen, src, dst, src_port, dst_port, proto, end_reason, \
                                  fwd_packets, rev_packets, fwd_octets, rev_octets, features";

/// The most that is stored of a counter: the sums over a partition have to fit into 63 bits.
const MOST: u64 = 1 << 45;

/// A flow that ended. `src` is the sender of the first packet, forward is from `src` to `dst`.
#[derive(Clone, Debug, PartialEq)]
pub struct FlowRow {
    /// First packet, microseconds since the epoch.
    pub first_seen: i64,
    /// Last packet, microseconds since the epoch.
    pub last_seen: i64,
    /// Address and port.
    pub src: (Addr, u16),
    /// Address and port.
    pub dst: (Addr, u16),
    /// IANA protocol number.
    pub proto: u8,
    /// Why it ended.
    pub end_reason: EndReason,
    /// Packets, forward and reverse, at most 2^45.
    pub packets: [i64; 2],
    /// IP octets, forward and reverse, at most 2^45.
    pub octets: [i64; 2],
    /// [`Features`], encoded.
    pub features: Vec<u8>,
}

/// A flow of the history.
#[derive(Clone, Debug, PartialEq)]
pub struct FlowEntry {
    /// Grows with every flow that is stored, and is never given again.
    pub id: i64,
    /// The flow.
    pub row: FlowRow,
}

impl FlowRow {
    /// Of a flow that ended.
    #[must_use]
    pub fn of(record: &FlowRecord) -> Self {
        let view = FlowView::from_initiator(&record.slot);
        let (src, dst) = (view.client(), view.server());
        let (fwd, rev) = (view.sent(), view.received());
        Self {
            first_seen: micros(record.first_seen),
            last_seen: micros(record.last_seen),
            src: (src.addr, src.port),
            dst: (dst.addr, dst.port),
            proto: view.proto(),
            end_reason: record.end_reason,
            packets: [fwd.packets, rev.packets].map(bounded),
            octets: [fwd.octets, rev.octets].map(bounded),
            features: Features::of(record).encode(),
        }
    }

    /// The flow in the JSON contract.
    #[must_use]
    pub fn line(&self) -> FlowLine {
        let FlowSpan { src, dst, first_seen, last_seen } = self.span();
        let [fwd_packets, rev_packets] = self.packets.map(i64::unsigned_abs);
        let [fwd_ip_octets, rev_ip_octets] = self.octets.map(i64::unsigned_abs);
        FlowLine {
            src_addr: src.0,
            src_port: src.1,
            dst_addr: dst.0,
            dst_port: dst.1,
            proto: self.proto,
            fwd_packets,
            rev_packets,
            fwd_ip_octets,
            rev_ip_octets,
            first_seen,
            last_seen,
            end_reason: self.end_reason.as_str(),
        }
    }

    /// Where and when it was.
    #[must_use]
    pub fn span(&self) -> FlowSpan {
        span(self.src, self.dst, [self.first_seen, self.last_seen])
    }

    /// What models and exports need.
    ///
    /// # Errors
    /// A later version has written them.
    pub fn features(&self) -> Result<Features, UnknownLayout> {
        Features::decode(&self.features)
    }

    /// Values in the order of [`COLUMNS`], less the id, handed to `insert`.
    pub(super) fn values<T>(&self, id: i64, insert: impl FnOnce(&[&dyn ToSql]) -> T) -> T {
        let ends = [self.src.0.octets(), self.dst.0.octets()];
        insert(&[
            &id,
            &self.first_seen,
            &self.last_seen,
            &ends[0],
            &ends[1],
            &self.src.1,
            &self.dst.1,
            &self.proto,
            &code(self.end_reason),
            &self.packets[0],
            &self.packets[1],
            &self.octets[0],
            &self.octets[1],
            &self.features,
        ])
    }
}

impl FlowEntry {
    /// Of a row with [`COLUMNS`].
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            row: FlowRow {
                first_seen: row.get(1)?,
                last_seen: row.get(2)?,
                src: (addr(row, 3)?, row.get(5)?),
                dst: (addr(row, 4)?, row.get(6)?),
                proto: row.get(7)?,
                end_reason: reason(row, 8)?,
                packets: [row.get(9)?, row.get(10)?],
                octets: [row.get(11)?, row.get(12)?],
                features: row.get(13)?,
            },
        })
    }
}

/// Times are microseconds since the epoch.
pub(super) fn span(src: (Addr, u16), dst: (Addr, u16), seen: [i64; 2]) -> FlowSpan {
    let [first_seen, last_seen] = seen.map(|micros| micros as f64 / 1e6);
    let end = |(addr, port): (Addr, u16)| (IpAddr::from(addr), port);
    FlowSpan { src: end(src), dst: end(dst), first_seen, last_seen }
}

/// An address of a column.
pub(super) fn addr(row: &Row<'_>, at: usize) -> rusqlite::Result<Addr> {
    let octets: [u8; 16] = row.get(at)?;
    let bits = u128::from_be_bytes(octets);
    Ok(Addr { high: u64::try_from(bits >> 64).expect("64 bits are left"), low: low(bits) })
}

#[expect(clippy::cast_possible_truncation, reason = "the lower half is what is wanted")]
const fn low(bits: u128) -> u64 {
    bits as u64
}

/// Microseconds since the epoch.
pub(super) fn micros(at: Timestamp) -> i64 {
    i64::try_from(at.nanos() / 1000).expect("a 64-bit count of nanoseconds is fewer microseconds than 2^63")
}

fn bounded(count: u64) -> i64 {
    i64::try_from(count.min(MOST)).expect("2^45 is less than 2^63")
}

/// In the file, a reason is its place in [`EndReason::ALL`].
fn code(reason: EndReason) -> u8 {
    match reason {
        EndReason::IdleTimeout => 0,
        EndReason::ActiveTimeout => 1,
        EndReason::TcpFin => 2,
        EndReason::TcpRst => 3,
        EndReason::ForcedEnd => 4,
    }
}

fn reason(row: &Row<'_>, at: usize) -> rusqlite::Result<EndReason> {
    let code: u8 = row.get(at)?;
    let reason = EndReason::ALL.into_iter().find(|reason| self::code(*reason) == code);
    reason.ok_or_else(|| {
        let why = format!("{code} is no reason for which a flow ends: a later version has stored it");
        rusqlite::Error::FromSqlConversionFailure(at, Type::Integer, why.into())
    })
}
