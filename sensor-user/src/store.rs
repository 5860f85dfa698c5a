//! What is kept: incidents, who was told of them, what people said and did, in one SQLite file.
//!
//! `leuko run` is the one writer of incidents ([`keeper`]); the commands read and write beside it, each with a connection of
//! its own. Everything that belongs together is one transaction, so that a process that is killed leaves a file that is whole.

mod audit;
mod blocks;
pub mod flows;
mod incidents;
pub mod keeper;
mod memo;
mod mutes;
mod outbox;
mod record;
mod schema;
mod spare;
mod upkeep;

pub use audit::{Action, Audited};
pub use incidents::{Incidents, Judgement, Kept, Verdict};
pub use outbox::{Event, Fate, Queue, Settlement, Undelivered};
pub use upkeep::{Holdings, damage};

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, ErrorCode, OpenFlags};
use sensor_core::time::{Timestamp, nanos};
use thiserror::Error;

/// Name of the file in the state directory.
pub const NAME: &str = "leuko.db";
/// How long one process waits for another's transaction.
const PATIENCE: Duration = Duration::from_secs(10);

/// An open store.
#[derive(Debug)]
pub struct Store {
    db: Connection,
}

/// Why there is no store, or nothing can be kept.
#[derive(Debug, Error)]
pub enum StoreError {
    /// There is no such file.
    #[error("there is no store at {}: `leuko run` makes one; --state-dir says where it is", .0.display())]
    Missing(PathBuf),
    /// The file is there, and may not be opened.
    #[error("open {}: {cause}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// It belongs to somebody else.
    #[error("{} may not be opened: run this as root, or as the user that `leuko run` runs as", .0.display())]
    Denied(PathBuf),
    /// Another program's database.
    #[error("{} is not a store of leuko: move it away", .0.display())]
    Foreign(PathBuf),
    /// A later version has changed it.
    #[error("{} was made by a newer leuko (layout {found}, this one knows {known}): update leuko", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its layout.
        found: i64,
        /// The latest layout known.
        known: i64,
    },
    /// The file is damaged.
    #[error(
        "{} is damaged ({cause}): `leuko store check` says how badly; restore a backup, or move it away to begin anew",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        cause: rusqlite::Error,
    },
    /// Anything else.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}

impl StoreError {
    /// Whether it is the medium that fails, full or not writable: it may be mended while the sensor runs.
    #[must_use]
    pub fn is_of_medium(&self) -> bool {
        match self {
            Self::Unreadable { .. } => true,
            Self::Sqlite(error) => is_of_medium(error),
            Self::Missing(_) | Self::Denied(_) | Self::Foreign(_) | Self::Newer { .. } | Self::Damaged { .. } => false,
        }
    }
}

/// Whether a failure is one of the medium: no room, no permission, no such folder any more, or somebody else's lock.
#[must_use]
pub fn is_of_medium(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code().is_some_and(|code| {
        matches!(
            code,
            ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure
                | ErrorCode::ReadOnly
                | ErrorCode::CannotOpen
                | ErrorCode::PermissionDenied
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
        )
    })
}

impl Store {
    /// The store of a state directory, made if it is not there. Only its owner may read it.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn open(state_dir: &Path) -> Result<Self, StoreError> {
        let path = state_dir.join(NAME);
        let unreadable = |cause| StoreError::Unreadable { path: path.clone(), cause };
        std::fs::create_dir_all(state_dir).map_err(unreadable)?;
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        drop(options.map_err(unreadable)?);
        Self::open_file(&path)
    }

    /// The store of a state directory, which has to be there.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn open_existing(state_dir: &Path) -> Result<Self, StoreError> {
        let path = state_dir.join(NAME);
        match path.try_exists() {
            Ok(true) => match OpenOptions::new().read(true).write(true).open(&path) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(StoreError::Denied(path)),
                Ok(_) | Err(_) => Self::open_file(&path),
            },
            Ok(false) => Err(StoreError::Missing(path)),
            Err(cause) => Err(StoreError::Unreadable { path, cause }),
        }
    }

    /// A store that ends with the process.
    ///
    /// # Errors
    /// There is no memory.
    pub fn in_memory() -> Result<Self, StoreError> {
        let mut db = Connection::open_in_memory()?;
        schema::prepare(&mut db, Path::new(":memory:"))?;
        Ok(Self { db })
    }

    fn open_file(path: &Path) -> Result<Self, StoreError> {
        let damaged = |source: rusqlite::Error| match source.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => StoreError::Foreign(path.to_owned()),
            Some(ErrorCode::DatabaseCorrupt) => StoreError::Damaged { path: path.to_owned(), cause: source },
            Some(_) | None => StoreError::Sqlite(source),
        };
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut db = Connection::open_with_flags(path, flags).map_err(damaged)?;
        db.busy_timeout(PATIENCE)?;
        schema::prepare(&mut db, path).map_err(|error| match error {
            StoreError::Sqlite(source) => damaged(source),
            StoreError::Missing(_)
            | StoreError::Unreadable { .. }
            | StoreError::Denied(_)
            | StoreError::Foreign(_)
            | StoreError::Newer { .. }
            | StoreError::Damaged { .. } => error,
        })?;
        Ok(Self { db })
    }

    /// The database, for the history of [`flows`].
    pub const fn database(&mut self) -> &mut Connection {
        &mut self.db
    }

    /// Grows whenever another process has changed the file.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn data_version(&self) -> Result<i64, rusqlite::Error> {
        self.db.pragma_query_value(None, "data_version", |row| row.get(0))
    }
}

/// A time as the store keeps it: microseconds since the epoch.
fn micros(at: Timestamp) -> i64 {
    i64::try_from(at.nanos() / 1000).unwrap_or(i64::MAX)
}

fn timestamp(micros: i64) -> Timestamp {
    Timestamp::from_nanos(u64::try_from(micros).unwrap_or(0).saturating_mul(1000))
}

/// The wall clock's time as event time.
#[must_use]
pub fn event_time(at: SystemTime) -> Timestamp {
    Timestamp::from_nanos(at.duration_since(UNIX_EPOCH).map_or(0, nanos))
}

#[cfg(test)]
mod tests;
