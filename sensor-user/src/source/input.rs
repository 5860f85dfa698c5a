//! A file or a stream that is told by its content: a capture or a connection log of Zeek, plain or compressed.

use std::fs::File;
use std::io::{self, BufReader, Chain, Cursor, ErrorKind, Read};
use std::path::Path;

use super::pcap::{Capture, CaptureError};
use super::zeek::ConnLog;

/// What can be replayed.
pub enum Input {
    /// Packets.
    Capture(Box<Capture>),
    /// Connections.
    Log(ConnLog),
}

/// Octets that tell what an input is.
const BEGIN: usize = 16;
const GZIP: &[u8] = b"\x1f\x8b";
const ZSTD: &[u8] = b"\x28\xb5\x2f\xfd";

impl Input {
    /// Opens the file at `path`. A plain capture is read in order of time, everything else as a [`stream`](Self::stream).
    ///
    /// # Errors
    /// The file cannot be opened or read, or it is neither a capture nor a log.
    pub fn open(path: &Path) -> Result<Self, CaptureError> {
        let open = || File::open(path).map_err(|source| CaptureError::Open { path: path.to_owned(), source });
        let mut file = open()?;
        if !file.metadata().map_err(CaptureError::Read)?.is_file() {
            return Self::stream(file);
        }
        let begin = begin_of(&mut file).map_err(CaptureError::Read)?;
        let is_plain = !begin.starts_with(GZIP) && !begin.starts_with(ZSTD);
        if is_plain && !ConnLog::is_one(&begin) {
            return Ok(Self::Capture(Box::new(Capture::open(path)?)));
        }
        Self::stream(open()?)
    }

    /// Reads from standard input.
    ///
    /// # Errors
    /// See [`Self::open`].
    pub fn stdin() -> Result<Self, CaptureError> {
        Self::stream(io::stdin())
    }

    /// Reads from `reader`: a capture in order of arrival, a log to its end.
    ///
    /// # Errors
    /// See [`Self::open`].
    pub fn stream(reader: impl Read + Send + 'static) -> Result<Self, CaptureError> {
        let (begin, reader) = peeked(reader)?;
        let (begin, reader) = if begin.starts_with(GZIP) {
            peeked(flate2::bufread::MultiGzDecoder::new(BufReader::new(reader)))?
        } else if begin.starts_with(ZSTD) {
            peeked(zstd::Decoder::new(reader).map_err(CaptureError::Read)?)?
        } else {
            (begin, reader)
        };
        if ConnLog::is_one(&begin) {
            return Ok(Self::Log(ConnLog::read(BufReader::new(reader))));
        }
        Ok(Self::Capture(Box::new(Capture::stream(reader)?)))
    }
}

type Peeked = Box<dyn Read + Send>;

/// The first octets, and a reader that still has them.
fn peeked(mut reader: impl Read + Send + 'static) -> Result<(Vec<u8>, Peeked), CaptureError> {
    let begin = begin_of(&mut reader).map_err(CaptureError::Read)?;
    let whole: Chain<Cursor<Vec<u8>>, _> = Cursor::new(begin.clone()).chain(reader);
    Ok((begin, Box::new(whole)))
}

fn begin_of(reader: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut begin = vec![0; BEGIN];
    let mut filled = 0;
    while let Some(free) = begin.get_mut(filled..).filter(|free| !free.is_empty()) {
        match reader.read(free) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    begin.truncate(filled);
    Ok(begin)
}
