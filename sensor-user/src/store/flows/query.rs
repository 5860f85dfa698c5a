//! Flows of the history that somebody asks for.
//!
//! What matches is picked first, by id, in one short transaction; then it is read in chunks, each in a transaction of its
//! own. However slowly a reader takes the flows, the log of the database can be folded back in the meantime, and memory
//! does not grow. A flow that became part of a sum in between is left out, and counted.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use anyhow::{Context as _, Result};
use ipnet::IpNet;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, Transaction, params_from_iter};
use sensor_core::time::Timestamp;
use sensor_ebpf::abi::Addr;

use super::PARTITION_ROWS;
use super::row::{COLUMNS, FlowEntry, addr, micros, span};
use crate::attribution::FlowSpan;

/// Flows that are read at once.
const CHUNK: i64 = 4096;

/// Last packet and id of a flow that was picked.
type Place = (i64, i64);

/// Which flows; what is left out does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Flows that went on at this time or later.
    pub since: Option<Timestamp>,
    /// Flows that began at this time or earlier.
    pub until: Option<Timestamp>,
    /// Either end is one of these; any host if there are none.
    pub hosts: Vec<Hosts>,
    /// The sender of the first packet.
    pub src: Option<Hosts>,
    /// The receiver of the first packet.
    pub dst: Option<Hosts>,
    /// The port of the receiver of the first packet.
    pub port: Option<RangeInclusive<u16>>,
    /// IANA protocol number.
    pub proto: Option<u8>,
    /// So many flows at most, those that were stored last.
    pub limit: Option<u64>,
}

/// Addresses that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hosts {
    first: Addr,
    last: Addr,
}

/// What became of a query.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Flows that were handed over.
    pub flows: u64,
    /// There are more than the limit.
    pub cut: bool,
    /// Flows that became part of a sum while the others were read.
    pub gone: u64,
}

/// Hands over the flows that match and of which `keep` says so, by the time of their last packet.
///
/// # Errors
/// When the file cannot be read, or what `each` says.
pub fn query(
    conn: &mut Connection,
    filter: &Filter,
    keep: Option<&dyn Fn(&FlowSpan) -> bool>,
    mut each: impl FnMut(FlowEntry) -> Result<()>,
) -> Result<Found> {
    conn.set_prepared_statement_cache_capacity(128);
    let cut = pick(conn, filter, keep).context("look for flows")?;
    let mut found = Found { cut, ..Found::default() };
    let mut after = (i64::MIN, i64::MIN);
    loop {
        let (entries, picked) = read(conn, after).context("read flows")?;
        let Some(last) = picked.last() else { return Ok(found) };
        after = *last;
        found.gone += picked.len().saturating_sub(entries.len()) as u64;
        found.flows += entries.len() as u64;
        entries.into_iter().try_for_each(&mut each)?;
    }
}

/// Notes in a table of this connection what matches. Says whether there is more than the limit.
fn pick(conn: &mut Connection, filter: &Filter, keep: Option<&dyn Fn(&FlowSpan) -> bool>) -> rusqlite::Result<bool> {
    conn.execute_batch(
        "CREATE TEMP TABLE IF NOT EXISTS flow_picked (last_seen INTEGER, id INTEGER, PRIMARY KEY (last_seen, id)) \
         WITHOUT ROWID; DELETE FROM temp.flow_picked",
    )?;
    let transaction = conn.transaction()?;
    let most = filter.limit.and_then(|limit| i64::try_from(limit).ok()?.checked_add(1));
    let mut room = most.unwrap_or(i64::MAX);
    let (conditions, values) = filter.conditions();
    for partition in partitions(&transaction, filter)? {
        let from = format!("FROM flow_{partition} WHERE {conditions} ORDER BY id DESC");
        room -= match keep {
            None => pick_all(&transaction, &from, &values, room)?,
            Some(keep) => pick_some(&transaction, &from, &values, (room, keep))?,
        };
        if room == 0 {
            break;
        }
    }
    let cut = room == 0 && most.is_some();
    if cut {
        transaction.execute("DELETE FROM temp.flow_picked WHERE id = (SELECT min(id) FROM temp.flow_picked)", [])?;
    }
    transaction.commit()?;
    Ok(cut)
}

fn pick_all(transaction: &Transaction<'_>, from: &str, values: &[Value], room: i64) -> rusqlite::Result<i64> {
    let sql = format!("INSERT INTO temp.flow_picked SELECT last_seen, id {from} LIMIT {room}");
    let picked = transaction.execute(&sql, params_from_iter(values))?;
    Ok(i64::try_from(picked).expect("a partition has fewer rows"))
}

fn pick_some(
    transaction: &Transaction<'_>,
    from: &str,
    values: &[Value],
    (room, keep): (i64, &dyn Fn(&FlowSpan) -> bool),
) -> rusqlite::Result<i64> {
    let mut insert = transaction.prepare_cached("INSERT INTO temp.flow_picked VALUES (?, ?)")?;
    let mut select =
        transaction.prepare(&format!("SELECT id, first_seen, last_seen, src, src_port, dst, dst_port {from}"))?;
    let mut rows = select.query(params_from_iter(values))?;
    let mut picked = 0;
    while picked < room
        && let Some(row) = rows.next()?
    {
        let (id, first_seen, last_seen): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let (src, dst) = ((addr(row, 3)?, row.get(4)?), (addr(row, 5)?, row.get(6)?));
        if keep(&span(src, dst, [first_seen, last_seen])) {
            insert.execute([last_seen, id])?;
            picked += 1;
        }
    }
    Ok(picked)
}

/// Those that may hold what is asked for, the newest first.
fn partitions(transaction: &Transaction<'_>, filter: &Filter) -> rusqlite::Result<Vec<i64>> {
    let mut select = transaction
        .prepare("SELECT id FROM flow_partition WHERE last_seen >= ?1 AND first_seen <= ?2 ORDER BY id DESC")?;
    let since = filter.since.map_or(i64::MIN, micros);
    let until = filter.until.map_or(i64::MAX, micros);
    select.query_map([since, until], |row| row.get(0))?.collect()
}

/// The next flows that were picked and are still there, and all that were picked, by last packet and id.
fn read(conn: &mut Connection, after: Place) -> rusqlite::Result<(Vec<FlowEntry>, Vec<Place>)> {
    let transaction = conn.transaction()?;
    let picked = transaction
        .prepare_cached(
            "SELECT last_seen, id FROM temp.flow_picked WHERE (last_seen, id) > (?, ?) ORDER BY last_seen, id LIMIT ?",
        )?
        .query_map([after.0, after.1, CHUNK], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<Vec<Place>>>()?;
    let there = transaction
        .prepare_cached("SELECT id FROM flow_partition")?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<BTreeSet<i64>>>()?;
    let mut entries = Vec::with_capacity(picked.len());
    for (_, id) in &picked {
        let partition = id / i64::from(PARTITION_ROWS);
        if there.contains(&partition) {
            let sql = format!("SELECT {COLUMNS} FROM flow_{partition} WHERE id = ?");
            entries.extend(transaction.prepare_cached(&sql)?.query_row([id], FlowEntry::read).optional()?);
        }
    }
    Ok((entries, picked))
}

impl Filter {
    /// For a WHERE clause over a partition.
    fn conditions(&self) -> (String, Vec<Value>) {
        let mut all = Conditions { sql: vec!["true".to_owned()], values: Vec::new() };
        all.add_if("last_seen >= ?", self.since.map(|at| [micros(at).into()]));
        all.add_if("first_seen <= ?", self.until.map(|at| [micros(at).into()]));
        if !self.hosts.is_empty() {
            let either = "src BETWEEN ? AND ? OR dst BETWEEN ? AND ?";
            let any = vec![either; self.hosts.len()].join(" OR ");
            let values = self.hosts.iter().flat_map(|hosts| hosts.bounds().into_iter().chain(hosts.bounds()));
            all.add(format!("({any})"), values);
        }
        all.add_if("src BETWEEN ? AND ?", self.src.map(Hosts::bounds));
        all.add_if("dst BETWEEN ? AND ?", self.dst.map(Hosts::bounds));
        let ports = self.port.as_ref().map(|port| [i64::from(*port.start()).into(), i64::from(*port.end()).into()]);
        all.add_if("dst_port BETWEEN ? AND ?", ports);
        all.add_if("proto = ?", self.proto.map(|proto| [i64::from(proto).into()]));
        (all.sql.join(" AND "), all.values)
    }

    /// For a WHERE clause over the sums: of hours that meet the time asked for.
    pub(super) fn conditions_of_hours(&self) -> (String, Vec<Value>) {
        let hours = |at: Timestamp| i64::try_from(at.secs()).expect("seconds of 64-bit nanoseconds fit");
        let timeless = Self { since: None, until: None, ..self.clone() };
        let (sql, values) = timeless.conditions();
        let mut all = Conditions { sql: vec![sql], values };
        all.add_if("hour > ?", self.since.map(|at| [(hours(at) - 3600).into()]));
        all.add_if("hour <= ?", self.until.map(|at| [hours(at).into()]));
        (all.sql.join(" AND "), all.values)
    }
}

/// What has to be true, all of it.
struct Conditions {
    sql: Vec<String>,
    values: Vec<Value>,
}

impl Conditions {
    fn add(&mut self, sql: String, values: impl IntoIterator<Item = Value>) {
        self.sql.push(sql);
        self.values.extend(values);
    }

    fn add_if<const N: usize>(&mut self, sql: &str, values: Option<[Value; N]>) {
        if let Some(values) = values {
            self.add(sql.to_owned(), values);
        }
    }
}

impl Hosts {
    /// Whether this is one of them.
    #[must_use]
    pub fn contains(&self, addr: Addr) -> bool {
        (self.first..=self.last).contains(&addr)
    }

    fn bounds(self) -> [Value; 2] {
        [self.first, self.last].map(|addr| Value::Blob(addr.octets().to_vec()))
    }
}

impl From<Addr> for Hosts {
    fn from(addr: Addr) -> Self {
        Self { first: addr, last: addr }
    }
}

impl From<IpNet> for Hosts {
    fn from(net: IpNet) -> Self {
        Self { first: net.network().into(), last: net.broadcast().into() }
    }
}

/// How the engine looks for this in a partition.
#[cfg(test)]
pub(super) fn plan(conn: &Connection, filter: &Filter, partition: i64) -> rusqlite::Result<String> {
    let (conditions, values) = filter.conditions();
    let sql =
        format!("EXPLAIN QUERY PLAN SELECT id FROM flow_{partition} WHERE {conditions} ORDER BY id DESC LIMIT 10");
    let steps =
        conn.prepare(&sql)?.query_map(params_from_iter(values), |row| row.get(3))?.collect::<Result<Vec<String>, _>>();
    steps.map(|steps| steps.join("\n"))
}
