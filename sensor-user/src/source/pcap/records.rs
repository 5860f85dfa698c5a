//! The packets of a capture in file order, whichever its format.

use std::io::{self, Read};

use sensor_core::time::Timestamp;

use super::CaptureError;
use super::classic::FileHeader;
use super::damage::{Damage, Fault};
use super::frame::{Frame, LinkType};
use super::ng::{self, Section};
use super::window::Window;

/// A capture that is read once, from its beginning to its end.
pub(super) struct Records {
    window: Window,
    format: Format,
}

enum Format {
    Classic(FileHeader),
    Ng(Section),
}

/// A packet that was just read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet {
    pub at: Timestamp,
    /// Number of the link type.
    pub link: u16,
    /// Octets of the record or block before the captured ones.
    pub start: usize,
    /// Captured octets.
    pub len: u32,
    pub wire_len: u32,
    /// Offset of the record or block in the capture.
    pub offset: u64,
}

impl Packet {
    pub(super) fn frame<'a>(&self, data: &'a [u8]) -> Frame<'a> {
        Frame { at: self.at, link: LinkType::from(self.link), data, wire_len: self.wire_len }
    }
}

impl Records {
    /// Recognises the format and reads the file header.
    pub(super) fn open(reader: Box<dyn Read + Send>) -> Result<Self, CaptureError> {
        let mut window = Window::new(reader);
        let begin = window.fill(4).map_err(CaptureError::Read)?;
        let Some(magic) = begin.first_chunk::<4>() else {
            return Err(foreign(begin));
        };
        let format = if let Some(dialect) = FileHeader::dialect(*magic) {
            Format::Classic(FileHeader::read(&mut window, dialect).map_err(CaptureError::Header)?)
        } else if *magic == ng::SECTION_HEADER.to_be_bytes() {
            Format::Ng(Section::read(&mut window).map_err(CaptureError::Header)?)
        } else {
            return Err(foreign(begin));
        };
        Ok(Self { window, format })
    }

    /// The next packet; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Packet>, Damage> {
        match &mut self.format {
            Format::Classic(header) => header.next(&mut self.window),
            Format::Ng(section) => section.next(&mut self.window),
        }
    }

    /// The captured octets of the packet that `next` returned last.
    pub(super) fn data(&self, packet: &Packet) -> &[u8] {
        let record = self.window.consumed();
        record.get(packet.start..).and_then(|data| data.get(..packet.len as usize)).unwrap_or_default()
    }

    /// Octets read so far.
    pub(super) fn offset(&self) -> u64 {
        self.window.offset()
    }
}

/// At least `wanted` octets of `part`, or the damage that they are not there.
pub(super) fn need<'a>(window: &'a mut Window, wanted: usize, part: &'static str) -> Result<&'a [u8], Damage> {
    let offset = window.offset();
    let octets = window.fill(wanted).map_err(|error| unreadable(offset, &error))?;
    if octets.len() < wanted { Err(truncated(offset, part, wanted, octets.len())) } else { Ok(octets) }
}

/// The `N` words that `part` begins with, without consuming them.
pub(super) fn need_words<const N: usize>(
    window: &mut Window,
    endian: Endian,
    part: &'static str,
) -> Result<[u32; N], Damage> {
    let offset = window.offset();
    let octets = window.fill(4 * N).map_err(|error| unreadable(offset, &error))?;
    endian.words(octets).ok_or_else(|| truncated(offset, part, 4 * N, octets.len()))
}

/// Whether the input has ended.
pub(super) fn at_end(window: &mut Window) -> Result<bool, Damage> {
    let offset = window.offset();
    Ok(window.fill(1).map_err(|error| unreadable(offset, &error))?.is_empty())
}

/// The byte order of a file or section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endian {
    Little,
    Big,
}

impl Endian {
    pub(super) fn u32(self, octets: [u8; 4]) -> u32 {
        match self {
            Self::Little => u32::from_le_bytes(octets),
            Self::Big => u32::from_be_bytes(octets),
        }
    }

    pub(super) fn i64(self, octets: [u8; 8]) -> i64 {
        match self {
            Self::Little => i64::from_le_bytes(octets),
            Self::Big => i64::from_be_bytes(octets),
        }
    }

    /// The first `N` words of `octets`; `None` if there are fewer.
    #[inline]
    pub(super) fn words<const N: usize>(self, octets: &[u8]) -> Option<[u32; N]> {
        let (words, _) = octets.as_chunks::<4>();
        Some(words.first_chunk::<N>()?.map(|word| self.u32(word)))
    }

    /// The two 16-bit fields that were read as one word, in their order in the capture.
    pub(super) fn halves(self, word: u32) -> (u16, u16) {
        let [a, b, c, d] = word.to_be_bytes();
        let (upper, lower) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        match self {
            Self::Little => (lower, upper),
            Self::Big => (upper, lower),
        }
    }
}

fn truncated(offset: u64, part: &'static str, announced: usize, left: usize) -> Damage {
    Damage { offset, fault: Fault::Truncated { part, announced: announced as u64, left: left as u64 } }
}

fn unreadable(offset: u64, error: &io::Error) -> Damage {
    Damage { offset, fault: Fault::Read(error.to_string()) }
}

fn foreign(begin: &[u8]) -> CaptureError {
    const COMPRESSIONS: [(&[u8], &str, &str); 6] = [
        (b"\x1f\x8b", "gzip", "zcat"),
        (b"\x28\xb5\x2f\xfd", "zstd", "zstdcat"),
        (b"\xfd7zX", "xz", "xzcat"),
        (b"BZh", "bzip2", "bzcat"),
        (b"\x04\x22\x4d\x18", "lz4", "lz4cat"),
        (b"PK\x03\x04", "zip", "unzip -p"),
    ];
    if begin.is_empty() {
        return CaptureError::Empty;
    }
    COMPRESSIONS.iter().find(|(magic, ..)| begin.starts_with(magic)).map_or_else(
        || CaptureError::Foreign { begin: begin.iter().copied().take(4).collect() },
        |&(_, format, tool)| CaptureError::Compressed { format, tool },
    )
}
