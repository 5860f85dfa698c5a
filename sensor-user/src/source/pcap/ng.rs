//! The pcapng format, <https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-03.html>.

use sensor_core::time::Timestamp;

use super::MAX_RECORD;
use super::damage::{Damage, Fault};
use super::records::{Endian, Packet, at_end, need, need_words};
use super::window::Window;

/// Type of the block that begins a section, the same in both byte orders.
pub(super) const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
/// Type and length.
const BLOCK_HEADER: usize = 8;
/// The length again.
const BLOCK_TRAILER: usize = 4;
/// Interfaces of a section, 1.5 MiB of memory: more than any host has.
const MAX_INTERFACES: usize = 1 << 16;

/// The section that is being read.
pub(super) struct Section {
    endian: Endian,
    interfaces: Vec<Interface>,
    /// The latest timestamp, of this or an earlier section: simple packet blocks have none of their own.
    last: Timestamp,
}

impl Section {
    /// Reads the section header that a capture begins with.
    pub(super) fn read(window: &mut Window) -> Result<Self, Damage> {
        let mut section = Self { endian: Endian::Little, interfaces: Vec::new(), last: Timestamp::EPOCH };
        let block = section.block(window)?;
        window.consume(block.padded);
        Ok(section)
    }

    pub(super) fn next(&mut self, window: &mut Window) -> Result<Option<Packet>, Damage> {
        while !at_end(window)? {
            let offset = window.offset();
            let block = self.block(window)?;
            let octets = need(window, block.padded, "block")?;
            let body = octets.get(BLOCK_HEADER..block.padded - BLOCK_TRAILER).unwrap_or_default();
            let found = match block.kind {
                INTERFACE => self.describe(body).map(|()| None),
                PACKET => self.packet(body).map(Some),
                SIMPLE_PACKET => self.simple_packet(body).map(Some),
                ENHANCED_PACKET => self.enhanced_packet(body).map(Some),
                _ => Ok(None),
            };
            let packet = found.map_err(|fault| Damage { offset, fault })?;
            window.consume(block.padded);
            if let Some(packet) = packet {
                self.last = packet.at;
                return Ok(Some(Packet { offset, start: BLOCK_HEADER + packet.start, ..packet }));
            }
        }
        Ok(None)
    }

    /// Reads a whole block into the window; a section header changes the byte order and forgets the interfaces.
    fn block(&mut self, window: &mut Window) -> Result<Block, Damage> {
        let offset = window.offset();
        let damage = |fault| Damage { offset, fault };
        let begin = need(window, BLOCK_HEADER, "block header")?;
        let is_section = begin.starts_with(&SECTION_HEADER.to_be_bytes());
        if is_section {
            let begin = need(window, BLOCK_HEADER + 8, "section header")?;
            self.endian = byte_order(begin).ok_or(damage(Fault::Section))?;
            self.interfaces.clear();
        }
        let [kind, length] = need_words(window, self.endian, "block header")?;
        if length > MAX_RECORD {
            return Err(damage(Fault::TooLong { part: "block", announced: u64::from(length) }));
        }
        let fixed = if is_section { 28 } else { BLOCK_HEADER + BLOCK_TRAILER };
        if (length as usize) < fixed {
            return Err(damage(Fault::TooShort { announced: u64::from(length) }));
        }
        // Some writers do not count the octets that align a block.
        let padded = (length as usize).next_multiple_of(4);
        let octets = need(window, padded, "block")?;
        let trailer = octets.get(padded - BLOCK_TRAILER..).unwrap_or_default();
        let [last] = self.endian.words(trailer).unwrap_or_default();
        if last != length {
            return Err(damage(Fault::Trailer { first: length, last }));
        }
        Ok(Block { kind, padded })
    }

    fn describe(&mut self, body: &[u8]) -> Result<(), Fault> {
        let [link, snap_len] = self.words(body)?;
        if self.interfaces.len() == MAX_INTERFACES {
            return Err(Fault::Interfaces);
        }
        let (link, _reserved) = self.endian.halves(link);
        let clock = Clock::from_options(self.endian, body.get(8..).unwrap_or_default());
        self.interfaces.push(Interface { link, snap_len, clock });
        Ok(())
    }

    fn enhanced_packet(&self, body: &[u8]) -> Result<Packet, Fault> {
        let [id] = self.words(body)?;
        self.stamped_packet(id, body)
    }

    /// The obsolete form, whose interface number shares a word with a counter of drops.
    fn packet(&self, body: &[u8]) -> Result<Packet, Fault> {
        let [id_and_drops] = self.words(body)?;
        let (id, _drops) = self.endian.halves(id_and_drops);
        self.stamped_packet(u32::from(id), body)
    }

    fn stamped_packet(&self, id: u32, body: &[u8]) -> Result<Packet, Fault> {
        const START: usize = 20;
        let [_, high, low, len, wire_len] = self.words(body)?;
        let interface = self.interface(id)?;
        let room = room(body, START);
        if len > room {
            return Err(Fault::Overrun { announced: len, room });
        }
        let at = interface.clock.at(u64::from(high) << 32 | u64::from(low));
        Ok(Packet { at, link: interface.link, start: START, len, wire_len: wire_len.max(len), offset: 0 })
    }

    /// Octets that are not announced: as many as the frame had, the interface takes and the block holds.
    fn simple_packet(&self, body: &[u8]) -> Result<Packet, Fault> {
        const START: usize = 4;
        let [wire_len] = self.words(body)?;
        let interface = self.interface(0)?;
        let taken = if interface.snap_len == 0 { wire_len } else { wire_len.min(interface.snap_len) };
        let len = taken.min(room(body, START));
        Ok(Packet { at: self.last, link: interface.link, start: START, len, wire_len, offset: 0 })
    }

    fn interface(&self, id: u32) -> Result<&Interface, Fault> {
        self.interfaces.get(id as usize).ok_or(Fault::Interface { id })
    }

    fn words<const N: usize>(&self, body: &[u8]) -> Result<[u32; N], Fault> {
        let announced = (BLOCK_HEADER + body.len() + BLOCK_TRAILER) as u64;
        self.endian.words(body).ok_or(Fault::TooShort { announced })
    }
}

struct Block {
    kind: u32,
    /// Octets of the whole block.
    padded: usize,
}

#[derive(Clone, Copy)]
struct Interface {
    link: u16,
    /// Zero for no limit.
    snap_len: u32,
    clock: Clock,
}

/// How an interface writes times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Clock {
    unit: Unit,
    /// Seconds to add.
    offset: i64,
}

/// The fraction of a second that a timestamp counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    /// This many decimal places.
    Decimal(u8),
    /// This many binary places.
    Binary(u8),
}

impl Clock {
    /// What the options of an interface say, up to the first that does not fit, over microseconds since the epoch.
    fn from_options(endian: Endian, mut options: &[u8]) -> Self {
        const END: u16 = 0;
        const TSRESOL: u16 = 9;
        const TSOFFSET: u16 = 14;
        let mut clock = Self { unit: Unit::Decimal(6), offset: 0 };
        while let Some([header]) = endian.words(options) {
            let (code, len) = endian.halves(header);
            let value = options.get(4..4 + usize::from(len));
            match (code, value) {
                (END, _) | (_, None) => break,
                (TSRESOL, Some(&[places])) => clock.unit = Unit::from(places),
                (TSOFFSET, Some(value)) => clock.offset = value.try_into().map_or(clock.offset, |o| endian.i64(o)),
                _ => {}
            }
            options = options.get(4 + usize::from(len).next_multiple_of(4)..).unwrap_or_default();
        }
        clock
    }

    /// The nearest time that a `Timestamp` can hold.
    fn at(self, units: u64) -> Timestamp {
        let nanos = self.unit.nanos(units) + i128::from(self.offset) * 1_000_000_000;
        Timestamp::from_nanos(u64::try_from(nanos.max(0)).unwrap_or(u64::MAX))
    }
}

impl From<u8> for Unit {
    fn from(tsresol: u8) -> Self {
        if tsresol & 0x80 == 0 { Self::Decimal(tsresol) } else { Self::Binary(tsresol & 0x7f) }
    }
}

impl Unit {
    /// Whole nanoseconds of `units`; at most 2^64 seconds, so that no sum with an offset overflows.
    fn nanos(self, units: u64) -> i128 {
        match self {
            Self::Decimal(places @ 0..=9) => i128::from(units) * 10_i128.pow(u32::from(9 - places)),
            Self::Decimal(places) => {
                i128::from(units) / 10_i128.checked_pow(u32::from(places - 9)).unwrap_or(i128::MAX)
            }
            Self::Binary(places) => (i128::from(units) * 1_000_000_000) >> places,
        }
    }
}

/// Octets that can follow the fixed part of a packet block.
fn room(body: &[u8], start: usize) -> u32 {
    u32::try_from(body.len().saturating_sub(start)).unwrap_or(u32::MAX)
}

/// The byte order of the section whose header begins like this, if its major version is 1.
fn byte_order(begin: &[u8]) -> Option<Endian> {
    [Endian::Little, Endian::Big].into_iter().find(|endian| {
        endian.words(begin).is_some_and(|[_, _, magic, version]: [u32; 4]| {
            let (major, _minor) = endian.halves(version);
            magic == BYTE_ORDER_MAGIC && major == 1
        })
    })
}
