//! Sums of flows by the hour: what is left of flows that are no longer kept one by one.

use anyhow::{Context as _, Result};
use rusqlite::types::Value;
use rusqlite::{Connection, Row, params_from_iter};
use sensor_core::time::Timestamp;
use sensor_ebpf::abi::Addr;

use super::Filter;
use super::query::Found;
use super::row::addr;

const COLUMNS: &str =
    "hour, src, dst, dst_port, proto, flows, fwd_packets, rev_packets, fwd_octets, rev_octets FROM flow_hour";

/// Sums that are read at once.
const CHUNK: usize = 4096;

/// What flows of an hour between the same hosts to the same port have in common, and their sums.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowHour {
    /// Beginning of the hour in which the flows ended.
    pub hour: Timestamp,
    /// Sender of the first packets.
    pub src: Addr,
    /// Receiver of the first packets.
    pub dst: Addr,
    /// The receiver's port, 0 for protocols without ports.
    pub dst_port: u16,
    /// IANA protocol number.
    pub proto: u8,
    /// Flows.
    pub flows: u64,
    /// Packets, forward and reverse.
    pub packets: [u64; 2],
    /// IP octets, forward and reverse.
    pub octets: [u64; 2],
}

/// Hands over the sums that match, by hour, those of a limit being the latest ones.
///
/// # Errors
/// When the file cannot be read, or what `each` says.
pub fn hours(conn: &Connection, filter: &Filter, mut each: impl FnMut(FlowHour) -> Result<()>) -> Result<Found> {
    let (conditions, values) = filter.conditions_of_hours();
    let Some(limit) = filter.limit.and_then(|limit| usize::try_from(limit).ok()) else {
        return all(conn, (&conditions, &values), each);
    };
    let sql = format!(
        "SELECT {COLUMNS} WHERE {conditions} ORDER BY hour DESC, src DESC, dst DESC, dst_port DESC, proto DESC LIMIT {}",
        limit.saturating_add(1)
    );
    let mut sums = read(conn, &sql, &values).context("read sums of flows")?;
    let cut = sums.len() > limit;
    sums.truncate(limit);
    let flows = sums.len() as u64;
    sums.into_iter().rev().try_for_each(&mut each)?;
    Ok(Found { flows, cut, gone: 0 })
}

/// In chunks: however slowly they are taken, the log of the database can be folded back.
fn all(
    conn: &Connection,
    (conditions, values): (&str, &[Value]),
    mut each: impl FnMut(FlowHour) -> Result<()>,
) -> Result<Found> {
    let sql = format!(
        "SELECT {COLUMNS} WHERE {conditions} AND (hour, src, dst, dst_port, proto) > (?, ?, ?, ?, ?) \
         ORDER BY hour, src, dst, dst_port, proto LIMIT {CHUNK}"
    );
    let mut found = Found::default();
    let mut after: [Value; 5] =
        [Value::Integer(i64::MIN), blob(Addr::default()), blob(Addr::default()), 0.into(), 0.into()];
    loop {
        let values: Vec<Value> = values.iter().chain(&after).cloned().collect();
        let sums = read(conn, &sql, &values).context("read sums of flows")?;
        let Some(last) = sums.last() else { return Ok(found) };
        let hour = i64::try_from(last.hour.secs()).context("read an hour")?;
        after = [hour.into(), blob(last.src), blob(last.dst), last.dst_port.into(), last.proto.into()];
        found.flows += sums.len() as u64;
        sums.into_iter().try_for_each(&mut each)?;
    }
}

fn read(conn: &Connection, sql: &str, values: &[Value]) -> rusqlite::Result<Vec<FlowHour>> {
    conn.prepare_cached(sql)?.query_map(params_from_iter(values), of)?.collect()
}

fn of(row: &Row<'_>) -> rusqlite::Result<FlowHour> {
    Ok(FlowHour {
        hour: Timestamp::from_secs(row.get(0)?),
        src: addr(row, 1)?,
        dst: addr(row, 2)?,
        dst_port: row.get(3)?,
        proto: row.get(4)?,
        flows: row.get(5)?,
        packets: [row.get(6)?, row.get(7)?],
        octets: [row.get(8)?, row.get(9)?],
    })
}

fn blob(addr: Addr) -> Value {
    Value::Blob(addr.octets().to_vec())
}
