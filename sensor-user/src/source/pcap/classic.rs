//! The pcap format, <https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-05.html>.

use sensor_core::time::Timestamp;

use super::MAX_RECORD;
use super::damage::{Damage, Fault};
use super::records::{Endian, Packet, at_end, need, need_words};
use super::window::Window;

const FILE_HEADER: usize = 24;
const RECORD_HEADER: usize = 16;

/// What the file header says about the records.
pub(super) struct FileHeader {
    dialect: Dialect,
    /// Until version 2.3 the length on the wire came before the captured length, in some files of 2.3 too.
    lengths: Lengths,
    link: u16,
}

/// Byte order, and nanoseconds in a unit of the second timestamp field.
#[derive(Clone, Copy)]
pub(super) struct Dialect {
    endian: Endian,
    unit: u64,
}

#[derive(Clone, Copy)]
enum Lengths {
    CapturedFirst,
    WireFirst,
    LesserIsCaptured,
}

impl FileHeader {
    /// What the magic number means, if it is one of this format.
    pub(super) fn dialect(magic: [u8; 4]) -> Option<Dialect> {
        let (endian, unit) = match magic {
            [0xd4, 0xc3, 0xb2, 0xa1] => (Endian::Little, 1000),
            [0xa1, 0xb2, 0xc3, 0xd4] => (Endian::Big, 1000),
            [0x4d, 0x3c, 0xb2, 0xa1] => (Endian::Little, 1),
            [0xa1, 0xb2, 0x3c, 0x4d] => (Endian::Big, 1),
            _ => return None,
        };
        Some(Dialect { endian, unit })
    }

    pub(super) fn read(window: &mut Window, dialect: Dialect) -> Result<Self, Damage> {
        let [_, version, _, _, _, network] = need_words(window, dialect.endian, "pcap file header")?;
        let lengths = match dialect.endian.halves(version) {
            (2, 0..=2) => Lengths::WireFirst,
            (2, 3) => Lengths::LesserIsCaptured,
            _ => Lengths::CapturedFirst,
        };
        window.consume(FILE_HEADER);
        // The upper half of the field tells about frame check sequences.
        let (_, link) = Endian::Big.halves(network);
        Ok(Self { dialect, lengths, link })
    }

    pub(super) fn next(&self, window: &mut Window) -> Result<Option<Packet>, Damage> {
        if at_end(window)? {
            return Ok(None);
        }
        let offset = window.offset();
        let [secs, fraction, first, second] = need_words(window, self.dialect.endian, "packet record header")?;
        let (len, wire_len) = self.lengths.order(first, second);
        if len > MAX_RECORD {
            let fault = Fault::TooLong { part: "packet record", announced: u64::from(len) };
            return Err(Damage { offset, fault });
        }
        let size = RECORD_HEADER + len as usize;
        need(window, size, "packet record").map_err(without_header)?;
        window.consume(size);
        // 2^32 seconds and 2^32 microseconds are below 2^63 nanoseconds.
        let at = Timestamp::from_nanos(u64::from(secs) * 1_000_000_000 + u64::from(fraction) * self.dialect.unit);
        Ok(Some(Packet { at, link: self.link, start: RECORD_HEADER, len, wire_len: wire_len.max(len), offset }))
    }
}

impl Lengths {
    /// Captured octets, octets on the wire.
    fn order(self, first: u32, second: u32) -> (u32, u32) {
        match self {
            Self::CapturedFirst => (first, second),
            Self::WireFirst => (second, first),
            Self::LesserIsCaptured => (first.min(second), first.max(second)),
        }
    }
}

/// A record announces its packet octets, not its own.
fn without_header(mut damage: Damage) -> Damage {
    if let Fault::Truncated { announced, left, .. } = &mut damage.fault {
        *announced -= RECORD_HEADER as u64;
        *left -= RECORD_HEADER as u64;
    }
    damage
}
