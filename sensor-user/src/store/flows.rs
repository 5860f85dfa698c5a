//! The history of flows: every flow that ended, for a time, and after that their sums by the hour.
//!
//! New flows go into the open partition, a table without indexes, because an index on hosts that come in any order costs
//! more with every row. A partition that is full, or older than an hour, gets its indexes at once, each by one sort, and a
//! new one begins. A partition that is old enough becomes rows of `flow_hour`, slice by slice, so that no step takes long,
//! and is dropped. A query looks at the partitions whose time it asks for, newest first.
//!
//! Every change of a partition and of the catalogue `flow_partition` is one transaction: whenever the process ends,
//! the next one finds either all of it or nothing. There is one writer, and any number of readers in other processes.

mod features;
mod hours;
mod incident;
mod query;
mod row;
#[cfg(test)]
mod tests;
mod upkeep;
mod write;

pub use features::{End, Features, UnknownLayout};
pub use hours::{FlowHour, hours};
pub use incident::vectors;
pub use query::{Filter, Found, Hosts, query};
pub use row::{FlowEntry, FlowRow};
pub use upkeep::{History, Retention, Upkeep, check, history, upkeep};
pub use write::{append, append_to};

/// Rows of a partition, at most. Row ids of partition `k` begin at `k` times this.
pub const PARTITION_ROWS: u32 = 131_072;

/// Microseconds of event time that a partition takes flows for.
const PARTITION_SPAN: i64 = 3_600_000_000;

/// The tables that are always there; each partition `k` is a table `flow_<k>` of its own.
///
/// Times are microseconds since the epoch, except `hour`: seconds since the epoch at which the hour begins, in which the
/// flows ended. Addresses are 16 octets, IPv4 mapped into `::ffff:0:0/96`.
pub const SCHEMA: &str = "
CREATE TABLE flow_partition (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    state TEXT NOT NULL CHECK (state IN ('open', 'full', 'sealed', 'leaving')),
    begun INTEGER NOT NULL,
    first_seen INTEGER NOT NULL,
    last_seen INTEGER NOT NULL,
    rows INTEGER NOT NULL,
    octets INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX flow_partition_open ON flow_partition (state) WHERE state = 'open';
CREATE TABLE flow_hour (
    hour INTEGER NOT NULL,
    src BLOB NOT NULL,
    dst BLOB NOT NULL,
    dst_port INTEGER NOT NULL,
    proto INTEGER NOT NULL,
    flows INTEGER NOT NULL,
    fwd_packets INTEGER NOT NULL,
    rev_packets INTEGER NOT NULL,
    fwd_octets INTEGER NOT NULL,
    rev_octets INTEGER NOT NULL,
    PRIMARY KEY (hour, src, dst, dst_port, proto)
) STRICT, WITHOUT ROWID;
";
