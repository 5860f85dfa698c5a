//! The layout of the file, and how an older one becomes it.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use super::{StoreError, flows};

/// Marks the file as ours: "Leuk".
const APPLICATION: i64 = 0x4c65_756b;

/// Each brings the layout of its number, from 1, out of the one before. What is released never changes.
const MIGRATIONS: [&[&str]; 2] = [&[include_str!("schema/1.sql"), flows::SCHEMA], &[include_str!("schema/2.sql")]];

/// Makes an open file a store: sets it up if it is new, migrates it if it is old.
pub fn prepare(db: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let known = i64::try_from(MIGRATIONS.len()).expect("few migrations");
    let version: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let application: i64 = db.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let objects: i64 = db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if application != APPLICATION && (objects > 0 || version > 0) {
        return Err(StoreError::Foreign(path.to_owned()));
    }
    if version > known {
        return Err(StoreError::Newer { path: path.to_owned(), found: version, known });
    }
    // Readers and the writer do not wait for each other; a transaction is on the disk when it is done.
    db.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA trusted_schema = OFF;")?;
    if version == known {
        return Ok(());
    }
    let step = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Another process may have done it meanwhile.
    let version: i64 = step.pragma_query_value(None, "user_version", |row| row.get(0))?;
    for migration in MIGRATIONS.iter().skip(usize::try_from(version).unwrap_or(usize::MAX)) {
        for part in *migration {
            step.execute_batch(part)?;
        }
    }
    step.pragma_update(None, "application_id", APPLICATION)?;
    step.pragma_update(None, "user_version", known.max(version))?;
    step.commit()?;
    Ok(())
}
