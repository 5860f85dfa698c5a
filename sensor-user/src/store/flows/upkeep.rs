//! What is done to the history from time to time: indexes for what is full, sums of what is old, nothing of what is
//! older still.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};
use sensor_core::time::Timestamp;

use super::row::micros;
use super::{PARTITION_SPAN, write};

/// Columns with an index of their own in a sealed partition.
const INDEXED: [&str; 3] = ["src", "dst", "dst_port"];

/// Flows that become sums in one step, at most.
const SLICE: u32 = 16_384;

/// Sums that are forgotten in one step, at most.
const STEP: u32 = 131_072;

/// Octets that a row of `flow_hour` takes, about, with the free space of its pages.
const HOUR_OCTETS: u64 = 90;

/// How long the history goes back, and how large it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Flows are kept this long.
    pub keep: Duration,
    /// Their sums by the hour are kept this long.
    pub keep_summaries: Duration,
    /// Octets in use in the file, at most: what is oldest goes first. Sums have a quarter of it for sure. The file
    /// itself does not shrink; what is free in it is used again.
    pub max_octets: u64,
}

/// One step of upkeep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Upkeep {
    /// There is nothing to do.
    Idle,
    /// A partition got one of its indexes.
    Indexed,
    /// A partition of so many flows got the last of them.
    Sealed(u64),
    /// So many flows became sums of their hours.
    RolledUp(u64),
    /// So many flows are no longer counted in any sum.
    Forgotten(u64),
}

/// What the history holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Flows.
    pub flows: u64,
    /// Tables they are in.
    pub partitions: u64,
    /// IP octets of these flows.
    pub octets: u64,
    /// First packet of any of them.
    pub oldest: Option<Timestamp>,
    /// Last packet of any of them.
    pub newest: Option<Timestamp>,
    /// Rows of sums by the hour.
    pub summaries: u64,
    /// Flows in these sums.
    pub summed_flows: u64,
    /// Beginning of the oldest hour there is a sum of.
    pub oldest_hour: Option<Timestamp>,
}

/// Does the next step that is due: an index, or a slice of a partition. To be called again until it is [`Upkeep::Idle`].
///
/// # Errors
/// When the file cannot be written; the step is then not done at all.
pub fn upkeep(conn: &mut Connection, now: Timestamp, retention: &Retention) -> rusqlite::Result<Upkeep> {
    upkeep_within(conn, now, retention, SLICE)
}

/// As [`upkeep`], with at most `slice` flows that become sums.
pub(super) fn upkeep_within(
    conn: &mut Connection,
    now: Timestamp,
    retention: &Retention,
    slice: u32,
) -> rusqlite::Result<Upkeep> {
    let transaction = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let done = match step(&transaction, now, retention)? {
        Step::Done(done) => done,
        Step::RollUp(partition) => roll_up(&transaction, partition, slice)?,
    };
    transaction.commit()?;
    Ok(done)
}

/// What the history holds, by its catalogue.
///
/// # Errors
/// When the file cannot be read.
pub fn history(conn: &Connection) -> rusqlite::Result<History> {
    let at = |micros: Option<i64>| Some(Timestamp::from_nanos(u64::try_from(micros?).ok()?.saturating_mul(1000)));
    let flows = conn.query_row(
        "SELECT coalesce(sum(rows), 0), count(*), coalesce(sum(octets), 0), min(first_seen), max(last_seen) \
         FROM flow_partition",
        [],
        |row| {
            Ok(History {
                flows: row.get(0)?,
                partitions: row.get(1)?,
                octets: row.get(2)?,
                oldest: at(row.get(3)?),
                newest: at(row.get(4)?),
                ..History::default()
            })
        },
    )?;
    conn.query_row("SELECT count(*), coalesce(sum(flows), 0), min(hour) FROM flow_hour", [], |row| {
        let hour: Option<u64> = row.get(2)?;
        let oldest_hour = hour.map(Timestamp::from_secs);
        Ok(History { summaries: row.get(0)?, summed_flows: row.get(1)?, oldest_hour, ..flows })
    })
}

/// Where catalogue and tables say different things; nothing if all is well. Reads every partition.
///
/// # Errors
/// When the file cannot be read.
pub fn check(conn: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut complaints = Vec::new();
    let mut catalogue = conn.prepare("SELECT id, rows, state FROM flow_partition ORDER BY id")?;
    let entries = catalogue.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let entries = entries.collect::<rusqlite::Result<Vec<(i64, i64, String)>>>()?;
    let tables = names(conn, "table")?;
    let indexes = names(conn, "index")?;
    for (id, rows, state) in &entries {
        let table = format!("flow_{id}");
        if !tables.contains(&table) {
            complaints.push(format!("the partition {table} is in the catalogue and is not there"));
            continue;
        }
        let found: i64 = conn.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))?;
        if found != *rows {
            complaints.push(format!("the partition {table} has {found} flows, and the catalogue says {rows}"));
        }
        let indexed = INDEXED.iter().filter(|column| indexes.contains(&index_name(*id, column))).count();
        let wanted = match state.as_str() {
            "open" | "leaving" => 0..=0,
            "full" => 0..=INDEXED.len() - 1,
            _ => INDEXED.len()..=INDEXED.len(),
        };
        if !wanted.contains(&indexed) {
            complaints.push(format!("the partition {table} is {state} and has {indexed} indexes"));
        }
    }
    let unknown = tables.iter().filter(|table| {
        let id = table.strip_prefix("flow_").and_then(|id| id.parse::<i64>().ok());
        id.is_some_and(|id| entries.iter().all(|(known, ..)| *known != id))
    });
    complaints.extend(unknown.map(|table| format!("the partition {table} is not in the catalogue")));
    Ok(complaints)
}

fn names(conn: &Connection, kind: &str) -> rusqlite::Result<Vec<String>> {
    let mut names = conn.prepare("SELECT name FROM sqlite_schema WHERE type = ? ORDER BY name")?;
    names.query_map([kind], |row| row.get(0))?.collect()
}

/// What is due.
enum Step {
    /// It is done.
    Done(Upkeep),
    /// The next slice of this partition.
    RollUp(i64),
}

fn step(transaction: &Transaction<'_>, now: Timestamp, retention: &Retention) -> rusqlite::Result<Step> {
    let oldest_summary = hour_of(now - retention.keep_summaries);
    let forgotten = forget(transaction, "hour < ?", oldest_summary)?;
    if forgotten != Upkeep::Idle {
        return Ok(Step::Done(forgotten));
    }
    // What has lost its indexes goes to the end, whatever the clock and the size say by now.
    let leaving = partition(transaction, "state = 'leaving' AND id > ?", 0)?;
    let keep_from = micros(now - retention.keep);
    let due = match leaving {
        None => partition(transaction, "last_seen < ?", keep_from)?,
        Some(_) => leaving,
    };
    if let Some(due) = due {
        return Ok(Step::RollUp(due));
    }
    if in_use(transaction)? > retention.max_octets {
        let shrunk = shrink(transaction, retention.max_octets)?;
        if !matches!(shrunk, Step::Done(Upkeep::Idle)) {
            return Ok(shrunk);
        }
    }
    if let Some(open) = partition(transaction, "state = 'open' AND begun <= ?", micros(now) - PARTITION_SPAN)? {
        write::close(transaction, open)?;
    }
    match partition(transaction, "state = 'full' AND id > ?", 0)? {
        Some(full) => seal(transaction, full).map(Step::Done),
        None => Ok(Step::Done(Upkeep::Idle)),
    }
}

/// The oldest partition of which this is true.
fn partition(transaction: &Transaction<'_>, is: &str, value: i64) -> rusqlite::Result<Option<i64>> {
    let sql = format!("SELECT id FROM flow_partition WHERE {is} ORDER BY id LIMIT 1");
    transaction.prepare_cached(&sql)?.query_row([value], |row| row.get(0)).optional()
}

/// Makes the next index, one sort.
fn seal(transaction: &Transaction<'_>, partition: i64) -> rusqlite::Result<Upkeep> {
    let there = names(transaction, "index")?;
    let mut missing = INDEXED.iter().filter(|column| !there.contains(&index_name(partition, column)));
    if let Some(column) = missing.next() {
        let name = index_name(partition, column);
        transaction.execute_batch(&format!("CREATE INDEX {name} ON flow_{partition} ({column})"))?;
    }
    if missing.next().is_some() {
        return Ok(Upkeep::Indexed);
    }
    let sql = "UPDATE flow_partition SET state = 'sealed' WHERE id = ? RETURNING rows";
    transaction.query_row(sql, [partition], |row| row.get(0)).map(Upkeep::Sealed)
}

fn index_name(partition: i64, column: &str) -> String {
    format!("flow_{partition}_{column}")
}

/// The first so many flows of a partition become sums. Without flows, the partition is dropped.
fn roll_up(transaction: &Transaction<'_>, partition: i64, slice: u32) -> rusqlite::Result<Upkeep> {
    for column in INDEXED {
        transaction.execute_batch(&format!("DROP INDEX IF EXISTS {}", index_name(partition, column)))?;
    }
    let sql = format!("SELECT max(id) FROM (SELECT id FROM flow_{partition} ORDER BY id LIMIT {slice})");
    let last: Option<i64> = transaction.query_row(&sql, [], |row| row.get(0))?;
    let sums = format!(
        "INSERT INTO flow_hour SELECT last_seen / 3600000000 * 3600, src, dst, dst_port, proto, count(*), \
         sum(fwd_packets), sum(rev_packets), sum(fwd_octets), sum(rev_octets) \
         FROM flow_{partition} WHERE id <= ? GROUP BY 1, 2, 3, 4, 5 \
         ON CONFLICT (hour, src, dst, dst_port, proto) DO UPDATE SET flows = flows + excluded.flows, \
         fwd_packets = fwd_packets + excluded.fwd_packets, rev_packets = rev_packets + excluded.rev_packets, \
         fwd_octets = fwd_octets + excluded.fwd_octets, rev_octets = rev_octets + excluded.rev_octets"
    );
    transaction.execute(&sums, [last])?;
    let delete = format!("DELETE FROM flow_{partition} WHERE id <= ? RETURNING fwd_octets + rev_octets");
    let (mut flows, mut octets) = (0_u64, 0_i64);
    let mut delete = transaction.prepare(&delete)?;
    for moved in delete.query_map([last], |row| row.get::<_, i64>(0))? {
        flows += 1;
        octets = octets.saturating_add(moved?);
    }
    let update = "UPDATE flow_partition SET state = 'leaving', rows = rows - ?2, octets = octets - ?3 WHERE id = ?1 \
                  RETURNING rows";
    let left: i64 = transaction.query_row(update, params![partition, flows, octets], |row| row.get(0))?;
    if left == 0 {
        transaction.execute_batch(&format!("DROP TABLE flow_{partition}"))?;
        transaction.execute("DELETE FROM flow_partition WHERE id = ?", [partition])?;
    }
    Ok(Upkeep::RolledUp(flows))
}

/// Forgets sums of hours of which `is` is true, the oldest first.
fn forget(transaction: &Transaction<'_>, is: &str, value: i64) -> rusqlite::Result<Upkeep> {
    let sql = format!(
        "DELETE FROM flow_hour WHERE (hour, src, dst, dst_port, proto) IN \
         (SELECT hour, src, dst, dst_port, proto FROM flow_hour WHERE {is} \
         ORDER BY hour, src, dst, dst_port, proto LIMIT {STEP}) RETURNING flows"
    );
    let mut delete = transaction.prepare_cached(&sql)?;
    let flows = delete.query_map([value], |row| row.get::<_, u64>(0))?;
    let flows = flows.sum::<rusqlite::Result<u64>>()?;
    Ok(if flows == 0 { Upkeep::Idle } else { Upkeep::Forgotten(flows) })
}

/// The oldest goes, but neither flows nor sums push the other out: sums may take a quarter.
fn shrink(transaction: &Transaction<'_>, max_octets: u64) -> rusqlite::Result<Step> {
    let summaries: u64 = transaction.query_row("SELECT count(*) FROM flow_hour", [], |row| row.get(0))?;
    let oldest = partition(transaction, "state <> 'open' AND id > ?", 0)?;
    match oldest {
        Some(oldest) if summaries.saturating_mul(HOUR_OCTETS) <= max_octets / 4 => Ok(Step::RollUp(oldest)),
        Some(_) | None => forget(transaction, "hour >= ?", i64::MIN).map(Step::Done),
    }
}

/// Octets of the pages that hold something.
fn in_use(transaction: &Transaction<'_>) -> rusqlite::Result<u64> {
    let pragma = |name| transaction.pragma_query_value(None, name, |row| row.get::<_, u64>(0));
    let pages = pragma("page_count")?.saturating_sub(pragma("freelist_count")?);
    Ok(pages.saturating_mul(pragma("page_size")?))
}

/// Seconds since the epoch at which the hour begins.
fn hour_of(at: Timestamp) -> i64 {
    i64::try_from(at.floor(Duration::from_secs(3600)).secs()).expect("seconds of 64-bit nanoseconds fit")
}
