//! Flows that ended are added to the open partition.

use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};

use super::row::{COLUMNS, FlowRow};
use super::{PARTITION_ROWS, PARTITION_SPAN};

/// Columns of a partition.
const TABLE: &str = "(
    id INTEGER PRIMARY KEY,
    first_seen INTEGER NOT NULL,
    last_seen INTEGER NOT NULL,
    src BLOB NOT NULL,
    dst BLOB NOT NULL,
    src_port INTEGER NOT NULL,
    dst_port INTEGER NOT NULL,
    proto INTEGER NOT NULL,
    end_reason INTEGER NOT NULL,
    fwd_packets INTEGER NOT NULL,
    rev_packets INTEGER NOT NULL,
    fwd_octets INTEGER NOT NULL,
    rev_octets INTEGER NOT NULL,
    features BLOB NOT NULL
) STRICT";

/// Adds flows in one transaction.
///
/// # Errors
/// When the file cannot be written; then nothing has been added.
pub fn append(conn: &mut Connection, rows: &[FlowRow]) -> rusqlite::Result<()> {
    let transaction = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    append_to(&transaction, rows)?;
    transaction.commit()
}

/// Adds flows as part of a transaction.
///
/// # Errors
/// When the file cannot be written.
pub fn append_to(transaction: &Transaction<'_>, rows: &[FlowRow]) -> rusqlite::Result<()> {
    append_within(transaction, rows, PARTITION_ROWS)
}

/// As [`append_to`], with at most `most` rows a partition.
pub(super) fn append_within(transaction: &Transaction<'_>, rows: &[FlowRow], most: u32) -> rusqlite::Result<()> {
    let mut rest = rows;
    while let Some(first) = rest.first() {
        let partition = match open_partition(transaction)? {
            Some(open) if open.takes(first, most) => open,
            Some(open) => {
                close(transaction, open.id)?;
                begin(transaction, first.last_seen)?
            }
            None => begin(transaction, first.last_seen)?,
        };
        let room = usize::try_from(i64::from(most) - partition.rows).expect("it takes the first row");
        let (some, later) = rest.split_at(room.min(rest.len()));
        partition.fill(transaction, some)?;
        rest = later;
    }
    Ok(())
}

/// The open partition is closed: it waits for its indexes.
pub(super) fn close(transaction: &Transaction<'_>, partition: i64) -> rusqlite::Result<()> {
    transaction.execute("UPDATE flow_partition SET state = 'full' WHERE id = ?", [partition]).map(drop)
}

struct Partition {
    id: i64,
    /// When the first flow of it ended.
    begun: i64,
    rows: i64,
}

impl Partition {
    /// A clock that was set back an hour begins a new partition, too.
    fn takes(&self, row: &FlowRow, most: u32) -> bool {
        self.rows < i64::from(most) && row.last_seen.abs_diff(self.begun) < PARTITION_SPAN.unsigned_abs()
    }

    fn fill(&self, transaction: &Transaction<'_>, rows: &[FlowRow]) -> rusqlite::Result<()> {
        let id = self.id;
        let mut insert = transaction
            .prepare_cached(&format!("INSERT INTO flow_{id} ({COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)"))?;
        let first_id = id * i64::from(PARTITION_ROWS) + self.rows;
        let (mut first_seen, mut last_seen, mut octets) = (i64::MAX, i64::MIN, 0_i64);
        for (row, id) in rows.iter().zip(first_id..) {
            row.values(id, |values| insert.execute(values))?;
            first_seen = first_seen.min(row.first_seen);
            last_seen = last_seen.max(row.last_seen);
            octets = octets.saturating_add(row.octets[0] + row.octets[1]);
        }
        let rows = i64::try_from(rows.len()).expect("a partition has fewer rows");
        transaction
            .prepare_cached(
                "UPDATE flow_partition SET first_seen = min(first_seen, ?2), last_seen = max(last_seen, ?3), \
                 rows = rows + ?4, octets = octets + ?5 WHERE id = ?1",
            )?
            .execute(params![id, first_seen, last_seen, rows, octets])
            .map(drop)
    }
}

fn open_partition(transaction: &Transaction<'_>) -> rusqlite::Result<Option<Partition>> {
    transaction
        .prepare_cached("SELECT id, begun, rows FROM flow_partition WHERE state = 'open'")?
        .query_row([], |row| Ok(Partition { id: row.get(0)?, begun: row.get(1)?, rows: row.get(2)? }))
        .optional()
}

fn begin(transaction: &Transaction<'_>, begun: i64) -> rusqlite::Result<Partition> {
    transaction.execute(
        "INSERT INTO flow_partition (state, begun, first_seen, last_seen, rows, octets) VALUES ('open', ?1, ?2, ?3, 0, 0)",
        [begun, i64::MAX, i64::MIN],
    )?;
    let id = transaction.last_insert_rowid();
    transaction.execute_batch(&format!("CREATE TABLE flow_{id} {TABLE}"))?;
    Ok(Partition { id, begun, rows: 0 })
}
