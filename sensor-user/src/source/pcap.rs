//! Frames of a capture: pcap and pcapng, from a file in order of time or from a stream in order of arrival.
//!
//! A file is read twice. The first reading finds where it is damaged and whether its timestamps ascend. If they do, the
//! second reading hands out the frames one after the other and nothing is held; otherwise an index of 24 bytes a packet
//! is sorted by time, packets of the same time in file order, and frames are read by offset.
//!
//! Nothing of what a capture says about itself is trusted: records and blocks above [`MAX_RECORD`] are damage, a buffer
//! grows only with the octets that did arrive, and the first inconsistency ends the capture with a [`Damage`] that names
//! its byte offset, after every frame before it was delivered. The snapshot length of a file is not enforced, because
//! writers exist that exceed what they announced.

mod classic;
mod damage;
#[cfg(test)]
mod damage_tests;
mod frame;
mod index;
mod ng;
mod records;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod window;

use std::fs::File;
use std::io::{self, Read, Seek as _};
use std::path::{Path, PathBuf};

use sensor_core::time::Timestamp;

pub use self::damage::{Damage, Fault};
pub use self::frame::{Frame, LinkType, NetworkLayer};
use self::index::Index;
use self::records::Records;

/// The largest packet record or block that is read, in octets: far above any snapshot length, far below all memory.
pub const MAX_RECORD: u32 = 16 << 20;

/// An opened capture, which lends its frames one at a time.
pub struct Capture {
    source: Source,
    /// Frames to come, of a file as the first reading found them; of a stream zero once it ended.
    left: Option<u64>,
    packets: u64,
    late: u64,
    latest: Timestamp,
    damage: Option<Damage>,
}

impl Capture {
    /// Opens the capture file at `path` and reads it once, so that its frames come in order of time.
    ///
    /// What is not a regular file (a named pipe, `/dev/stdin`) is read as a [`stream`](Self::stream).
    ///
    /// # Errors
    /// The file cannot be opened or read, or it is not a capture.
    pub fn open(path: &Path) -> Result<Self, CaptureError> {
        let open = || File::open(path).map_err(|source| CaptureError::Open { path: path.to_owned(), source });
        let file = open()?;
        if !file.metadata().map_err(CaptureError::Read)?.is_file() {
            return Self::stream(file);
        }
        let survey = Survey::take(Records::open(Box::new(reread(&file)?))?);
        let records = Records::open(Box::new(reread(&file)?))?;
        let source = if survey.in_order {
            Source::InOrder(records)
        } else {
            Source::ByTime(Index::build(records, survey.packets, file))
        };
        Ok(Self { left: Some(survey.packets), damage: survey.damage, ..Self::new(source) })
    }

    /// Reads a capture from standard input, in order of arrival.
    ///
    /// # Errors
    /// Standard input cannot be read, or it is not a capture.
    pub fn stdin() -> Result<Self, CaptureError> {
        Self::stream(io::stdin())
    }

    /// Reads a capture from `reader`, in order of arrival; waits for the file header.
    ///
    /// # Errors
    /// The reader fails, or what it gives is not a capture.
    pub fn stream(reader: impl Read + Send + 'static) -> Result<Self, CaptureError> {
        Ok(Self::new(Source::InOrder(Records::open(Box::new(reader))?)))
    }

    fn new(source: Source) -> Self {
        Self { source, left: None, packets: 0, late: 0, latest: Timestamp::EPOCH, damage: None }
    }

    /// The next frame; `None` at the end of the capture or where it is damaged, and ever after.
    pub fn next_frame(&mut self) -> Option<Frame<'_>> {
        if self.left == Some(0) {
            return None;
        }
        let end = self.source.offset();
        let frame = match self.source.next() {
            Ok(Some(frame)) => frame,
            Ok(None) => {
                if self.left.is_some() {
                    self.damage = Some(Damage { offset: end, fault: Fault::Changed });
                }
                self.left = Some(0);
                return None;
            }
            Err(damage) => {
                self.damage = Some(damage);
                self.left = Some(0);
                return None;
            }
        };
        self.left = self.left.map(|left| left - 1);
        self.packets += 1;
        self.late += u64::from(frame.at < self.latest);
        self.latest = self.latest.max(frame.at);
        Some(frame)
    }

    /// Where and how the capture is damaged: of a file known from the start, of a stream once it is reached.
    #[must_use]
    pub fn damage(&self) -> Option<&Damage> {
        self.damage.as_ref()
    }

    /// Frames handed out so far.
    #[must_use]
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// Frames handed out so far that were earlier than one before them; zero for a file, which is sorted.
    #[must_use]
    pub fn late(&self) -> u64 {
        self.late
    }
}

/// Why a capture could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// There is no such file, or it may not be read.
    #[error("open capture {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Reading failed before the first record.
    #[error("read capture")]
    Read(#[source] io::Error),
    /// Not one octet.
    #[error("the capture is empty; {SUPPORTED}")]
    Empty,
    /// A compressed file.
    #[error("{format} data, not a capture; decompress it first, e.g. {tool} FILE | leuko replay -")]
    Compressed {
        /// Name of the compression.
        format: &'static str,
        /// The command that prints the decompressed file.
        tool: &'static str,
    },
    /// Anything else.
    #[error("not a capture: it begins with {}; {SUPPORTED}", begin.escape_ascii())]
    Foreign {
        /// The first octets, at most four.
        begin: Vec<u8>,
    },
    /// It begins like a capture, but its file header cannot be used.
    #[error("{0}; {SUPPORTED}")]
    Header(Damage),
}

const SUPPORTED: &str = "supported are pcap, pcapng and conn.log of Zeek, each plain or compressed";

enum Source {
    /// One after the other.
    InOrder(Records),
    ByTime(Index),
}

impl Source {
    fn next(&mut self) -> Result<Option<Frame<'_>>, Damage> {
        match self {
            Self::InOrder(records) => Ok(records.next()?.map(|packet| packet.frame(records.data(&packet)))),
            Self::ByTime(index) => index.next(),
        }
    }

    /// How far the capture was read.
    fn offset(&self) -> u64 {
        match self {
            Self::InOrder(records) => records.offset(),
            Self::ByTime(index) => index.end(),
        }
    }
}

/// What the first reading of a file found.
struct Survey {
    packets: u64,
    in_order: bool,
    damage: Option<Damage>,
}

impl Survey {
    fn take(mut records: Records) -> Self {
        let mut survey = Self { packets: 0, in_order: true, damage: None };
        let mut latest = Timestamp::EPOCH;
        loop {
            match records.next() {
                Ok(Some(packet)) => {
                    survey.packets += 1;
                    survey.in_order &= packet.at >= latest;
                    latest = packet.at;
                }
                Ok(None) => return survey,
                Err(damage) => {
                    survey.damage = Some(damage);
                    return survey;
                }
            }
        }
    }
}

/// The same file from its first octet; the position is shared, so only the latest such handle may be read from.
fn reread(file: &File) -> Result<File, CaptureError> {
    let mut file = file.try_clone().map_err(CaptureError::Read)?;
    file.rewind().map_err(CaptureError::Read)?;
    Ok(file)
}
