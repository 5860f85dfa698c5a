//! A file that lines are appended to: it is put aside when it is full, and made anew when somebody has moved it.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tracing::warn;

/// Flows of alerts that are remembered.
const ALERTED: usize = 4096;

/// The file, and what is known of it.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    rotate_size: u64,
    keep: u32,
    open: Option<File>,
    /// Whether the last attempt to put the file aside failed.
    stuck: bool,
    alerted: BTreeSet<u64>,
}

/// The log, whatever happened to the thread that had it before: what it writes is whole lines or nothing.
pub fn lock(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Log {
    /// Nothing is opened before there is something to write.
    pub fn new(path: &Path, rotate_size: u64, keep: u32) -> Self {
        Self { path: path.to_owned(), rotate_size, keep, open: None, stuck: false, alerted: BTreeSet::new() }
    }

    /// Appends whole lines, all of them or none.
    pub fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let mut size = self.reopened()?;
        if size > 0 && size + lines.len() as u64 > self.rotate_size && self.rotate() {
            size = self.reopened()?;
        }
        let Some(file) = &mut self.open else { return Err(io::Error::other("the file was not opened")) };
        let written = file.write_all(lines);
        if written.is_err() {
            // Half a line would be no line.
            let _ = file.set_len(size);
            self.open = None;
        }
        written
    }

    /// Notes flows that an alert was about.
    pub fn alerted(&mut self, flows: impl IntoIterator<Item = u64>) {
        if self.alerted.len() > ALERTED {
            self.alerted.clear();
        }
        self.alerted.extend(flows);
    }

    /// Whether an alert was about a flow.
    pub fn is_alerted(&self, flow: u64) -> bool {
        self.alerted.contains(&flow)
    }

    /// Makes sure that the open file is the one at `path`. Gives its size.
    fn reopened(&mut self) -> io::Result<u64> {
        let there = match fs::metadata(&self.path) {
            Ok(there) if !there.is_file() => {
                return Err(io::Error::other(format!("{} is no regular file", self.path.display())));
            }
            Ok(there) => Some(there),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        if let (Some(file), Some(there)) = (&self.open, &there) {
            let ours = file.metadata()?;
            if (ours.dev(), ours.ino()) == (there.dev(), there.ino()) {
                return Ok(there.len());
            }
        }
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o640).open(&self.path)?;
        let mut size = file.metadata()?.len();
        if size > 0 {
            let mut last = [0];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
                size += 1;
            }
        }
        self.open = Some(file);
        Ok(size)
    }

    /// Puts the file aside. Where that cannot be done, it goes on growing: better that than lines that are lost.
    fn rotate(&mut self) -> bool {
        let moved = self.shift();
        if let Err(error) = &moved
            && !self.stuck
        {
            warn!(path = %self.path.display(), %error, "cannot put the full file aside: it goes on growing");
        }
        self.stuck = moved.is_err();
        !self.stuck
    }

    fn shift(&mut self) -> io::Result<()> {
        if self.keep == 0 {
            return fs::remove_file(&self.path);
        }
        for number in (1..self.keep).rev() {
            match fs::rename(self.aside(number), self.aside(number + 1)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        fs::rename(&self.path, self.aside(1))
    }

    fn aside(&self, number: u32) -> PathBuf {
        let mut name = OsString::from(&self.path);
        name.push(format!(".{number}"));
        PathBuf::from(name)
    }
}
