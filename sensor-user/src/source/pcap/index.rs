//! The packets of a file in order of time, when the file is not.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt as _;
use std::vec;

use sensor_core::time::Timestamp;

use super::damage::{Damage, Fault};
use super::frame::Frame;
use super::records::{Packet, Records};

/// Where the packets of a file are, earliest first.
pub(super) struct Index {
    order: vec::IntoIter<Entry>,
    end: u64,
    pages: Pages,
    data: Vec<u8>,
}

/// One packet in 24 octets.
#[derive(Clone, Copy)]
struct Entry {
    at: Timestamp,
    place: Place,
    len: u32,
    wire_len: u32,
}

/// Offset of the captured octets above 16 bits of link type; orders as the file does, up to 256 TiB.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place(u64);

const _: () = assert!(size_of::<Entry>() == 24);

impl Index {
    /// Reads the first `packets` of `records`, which are those of `file`.
    pub(super) fn build(mut records: Records, packets: u64, file: File) -> Self {
        let mut order = Vec::with_capacity(usize::try_from(packets).unwrap_or_default());
        while order.len() as u64 != packets
            && let Ok(Some(packet)) = records.next()
        {
            order.push(Entry::from(packet));
        }
        order.sort_unstable_by_key(|entry| (entry.at, entry.place));
        Self { order: order.into_iter(), end: records.offset(), pages: Pages::new(file), data: Vec::new() }
    }

    /// How far the file was read when the index was built.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// The next frame; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Frame<'_>>, Damage> {
        let Some(Entry { at, place, len, wire_len }) = self.order.next() else {
            return Ok(None);
        };
        if let Err(error) = self.pages.read(place.offset(), len as usize, &mut self.data) {
            let cut = error.kind() == ErrorKind::UnexpectedEof;
            let fault = if cut { Fault::Changed } else { Fault::Read(error.to_string()) };
            return Err(Damage { offset: place.offset(), fault });
        }
        Ok(Some(Frame { at, link: place.link().into(), data: &self.data, wire_len }))
    }
}

impl From<Packet> for Entry {
    fn from(packet: Packet) -> Self {
        let place = Place::new(packet.offset + packet.start as u64, packet.link);
        Self { at: packet.at, place, len: packet.len, wire_len: packet.wire_len }
    }
}

impl Place {
    fn new(offset: u64, link: u16) -> Self {
        Self(offset << 16 | u64::from(link))
    }

    fn offset(self) -> u64 {
        self.0 >> 16
    }

    fn link(self) -> u16 {
        let [.., high, low] = self.0.to_be_bytes();
        u16::from_be_bytes([high, low])
    }
}

const PAGE: usize = 16 << 10;
/// 4 MiB of pages: room for captures that were put together from some two hundred.
const PAGES: usize = 256;

/// A file behind a cache of the pages used last.
struct Pages {
    file: File,
    pages: Vec<Page>,
    /// The page of the previous read.
    current: usize,
    reads: u64,
}

struct Page {
    number: u64,
    octets: Vec<u8>,
    used: u64,
}

impl Pages {
    fn new(file: File) -> Self {
        Self { file, pages: Vec::new(), current: 0, reads: 0 }
    }

    /// Replaces `data` by the `len` octets at `offset`.
    fn read(&mut self, mut offset: u64, len: usize, data: &mut Vec<u8>) -> io::Result<()> {
        data.clear();
        while data.len() < len {
            let within = usize::try_from(offset % PAGE as u64).unwrap_or(PAGE);
            let page = self.page(offset / PAGE as u64)?;
            let rest = page.get(within..).unwrap_or_default();
            let piece = rest.get(..len - data.len()).unwrap_or(rest);
            if piece.is_empty() {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            data.extend_from_slice(piece);
            offset += piece.len() as u64;
        }
        Ok(())
    }

    fn page(&mut self, number: u64) -> io::Result<&[u8]> {
        if self.pages.get(self.current).is_none_or(|page| page.number != number) {
            self.current = match self.pages.iter().position(|page| page.number == number) {
                Some(cached) => cached,
                None => self.load(number)?,
            };
        }
        self.reads += 1;
        let page = &mut self.pages[self.current];
        page.used = self.reads;
        Ok(&page.octets)
    }

    /// Reads a page into the place of the one unused for longest.
    fn load(&mut self, number: u64) -> io::Result<usize> {
        let mut octets = if self.pages.len() < PAGES {
            Vec::new()
        } else {
            let oldest = self.pages.iter().enumerate().min_by_key(|(_, page)| page.used).map_or(0, |(slot, _)| slot);
            self.pages.swap_remove(oldest).octets
        };
        octets.resize(PAGE, 0);
        let read = read_at(&self.file, number * PAGE as u64, &mut octets)?;
        octets.truncate(read);
        self.pages.push(Page { number, octets, used: 0 });
        Ok(self.pages.len() - 1)
    }
}

/// Fills `octets` from `offset`, except at the end of the file, and says how many there were.
fn read_at(file: &File, offset: u64, octets: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < octets.len() {
        match file.read_at(&mut octets[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
