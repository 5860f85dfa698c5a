//! Connection logs of Zeek (`conn.log`): tab-separated with its header, or one JSON object a line.
//!
//! Zeek writes a connection when it ends, so a log is read to its end and sorted by the beginning of each connection, at
//! some 250 octets of memory a connection. What cannot be read ends the log with a [`Fault`] that names its line, after
//! every connection before it was taken in. Only the columns that are needed are looked at, wherever they are; labelled
//! variants have more of them.

mod conn;
mod line;
mod slots;
#[cfg(test)]
mod tests;

use std::io::{BufRead, Read as _};

pub use self::conn::Connection;
use self::line::{Columns, json};
pub use self::slots::LogSlots;

/// The longest line that is read, in octets.
const MAX_LINE: u64 = 1 << 20;

/// A log that was read.
#[derive(Debug, Default)]
pub struct ConnLog {
    /// By their beginning.
    pub connections: Vec<Connection>,
    /// What is wrong with the first line that could not be read.
    pub fault: Option<Fault>,
}

/// A line that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct Fault {
    /// Counted from one.
    pub line: u64,
    /// What is wrong, and what to do.
    pub what: String,
}

impl ConnLog {
    /// Whether something begins like a log of Zeek, whichever log.
    #[must_use]
    pub fn is_one(begin: &[u8]) -> bool {
        [&b"#separator"[..], b"#fields", b"#path", b"{"].iter().any(|start| begin.starts_with(start))
    }

    /// Reads a log to its end or its first fault.
    pub fn read(mut reader: impl BufRead) -> Self {
        let mut log = Self::default();
        let mut columns = None;
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            match reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line) {
                Ok(0) => break,
                Ok(read) if read as u64 == MAX_LINE => {
                    log.fault = Some(Fault { line: number, what: "it is longer than a mebioctet".to_owned() });
                    break;
                }
                Ok(_) => {}
                Err(error) => {
                    log.fault = Some(Fault { line: number, what: format!("cannot be read: {error}") });
                    break;
                }
            }
            match parse(&line, &mut columns) {
                Ok(connection) => log.connections.extend(connection),
                Err(what) => {
                    log.fault = Some(Fault { line: number, what });
                    break;
                }
            }
        }
        log.connections.sort_by_key(|connection| connection.began);
        log
    }
}

/// The connection in a line, if there is one in it.
fn parse(line: &[u8], columns: &mut Option<Columns>) -> Result<Option<Connection>, String> {
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end_matches(['\n', '\r']);
    if text.is_empty() {
        return Ok(None);
    }
    if text.starts_with('{') {
        return json(text).map(Some);
    }
    if let Some(directive) = text.strip_prefix('#') {
        columns.get_or_insert_default().directive(directive)?;
        return Ok(None);
    }
    let columns = columns.as_ref().filter(|columns| columns.are_known());
    columns.ok_or("there is no #fields line before it; give the log with its header")?.connection(text).map(Some)
}
