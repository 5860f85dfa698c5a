//! Captures built in memory, octet by octet.

use std::io::Cursor;

use super::*;

/// Byte order of what is built.
#[derive(Clone, Copy, Debug)]
pub(super) enum Order {
    Little,
    Big,
}

impl Order {
    pub(super) fn u16(self, value: u16) -> [u8; 2] {
        match self {
            Self::Little => value.to_le_bytes(),
            Self::Big => value.to_be_bytes(),
        }
    }

    pub(super) fn u32(self, value: u32) -> [u8; 4] {
        match self {
            Self::Little => value.to_le_bytes(),
            Self::Big => value.to_be_bytes(),
        }
    }

    pub(super) fn u64(self, value: u64) -> [u8; 8] {
        match self {
            Self::Little => value.to_le_bytes(),
            Self::Big => value.to_be_bytes(),
        }
    }

    fn words(self, values: &[u32]) -> Vec<u8> {
        values.iter().flat_map(|value| self.u32(*value)).collect()
    }
}

/// A pcap file under construction.
#[derive(Clone)]
pub(super) struct Classic {
    order: Order,
    pub octets: Vec<u8>,
}

pub(super) const MICROS: u32 = 0xa1b2_c3d4;
pub(super) const NANOS: u32 = 0xa1b2_3c4d;

impl Classic {
    pub(super) fn new(order: Order, magic: u32, version: (u16, u16), link: u32) -> Self {
        let mut octets = order.u32(magic).to_vec();
        octets.extend(order.u16(version.0));
        octets.extend(order.u16(version.1));
        octets.extend(order.words(&[0, 0, 64, link]));
        Self { order, octets }
    }

    /// Little endian, microseconds, Ethernet.
    pub(super) fn plain() -> Self {
        Self::new(Order::Little, MICROS, (2, 4), 1)
    }

    pub(super) fn packet(self, secs: u32, fraction: u32, data: &[u8]) -> Self {
        let len = data.len().try_into().unwrap();
        self.record([secs, fraction, len, len], data)
    }

    pub(super) fn record(mut self, header: [u32; 4], data: &[u8]) -> Self {
        self.octets.extend(self.order.words(&header));
        self.octets.extend(data);
        self
    }
}

/// A pcapng file under construction.
#[derive(Clone)]
pub(super) struct Ng {
    order: Order,
    pub octets: Vec<u8>,
}

impl Ng {
    pub(super) fn new(order: Order) -> Self {
        Self { order, octets: Vec::new() }.section(order)
    }

    pub(super) fn section(mut self, order: Order) -> Self {
        self.order = order;
        let mut body = order.u32(0x1a2b_3c4d).to_vec();
        body.extend(order.u16(1));
        body.extend(order.u16(0));
        body.extend(order.u64(u64::MAX));
        self.block(0x0a0d_0d0a, &body)
    }

    pub(super) fn interface(self, link: u16, snap_len: u32, options: &[(u16, &[u8])]) -> Self {
        let mut body = self.order.u16(link).to_vec();
        body.extend([0; 2]);
        body.extend(self.order.u32(snap_len));
        for (code, value) in options {
            body.extend(self.order.u16(*code));
            body.extend(self.order.u16(value.len().try_into().unwrap()));
            body.extend(padded(value));
        }
        if !options.is_empty() {
            body.extend([0; 4]);
        }
        self.block(1, &body)
    }

    /// An enhanced packet block with options behind the packet.
    pub(super) fn enhanced(self, interface: u32, units: u64, data: &[u8]) -> Self {
        let words = self.stamped(units, data);
        let body = [&self.order.u32(interface)[..], &words, &padded(data), &[0; 4]].concat();
        self.block(6, &body)
    }

    /// An obsolete packet block that tells of 7 drops.
    pub(super) fn obsolete(self, interface: u16, units: u64, data: &[u8]) -> Self {
        let words = self.stamped(units, data);
        let body = [&self.order.u16(interface)[..], &self.order.u16(7), &words, &padded(data)].concat();
        self.block(2, &body)
    }

    pub(super) fn simple(self, wire_len: u32, data: &[u8]) -> Self {
        let body = [&self.order.u32(wire_len)[..], &padded(data)].concat();
        self.block(3, &body)
    }

    pub(super) fn block(mut self, kind: u32, body: &[u8]) -> Self {
        let length = self.order.u32((body.len() + 12).try_into().unwrap());
        self.octets.extend([&self.order.u32(kind)[..], &length, body, &length].concat());
        self
    }

    fn stamped(&self, units: u64, data: &[u8]) -> Vec<u8> {
        let len = data.len().try_into().unwrap();
        let high = (units >> 32).try_into().unwrap();
        let low = (units & u64::from(u32::MAX)).try_into().unwrap();
        self.order.words(&[high, low, len, len + 10])
    }
}

fn padded(data: &[u8]) -> Vec<u8> {
    let mut data = data.to_vec();
    data.resize(data.len().next_multiple_of(4), 0);
    data
}

/// A frame that outlives its capture: nanoseconds, link type, octets, octets on the wire.
pub(super) type Owned = (u64, LinkType, Vec<u8>, u32);

pub(super) fn drain(capture: &mut Capture) -> Vec<Owned> {
    let mut frames = Vec::new();
    while let Some(frame) = capture.next_frame() {
        frames.push((frame.at.nanos(), frame.link, frame.data.to_vec(), frame.wire_len));
    }
    assert_eq!(capture.packets(), frames.len() as u64);
    assert!(capture.next_frame().is_none(), "the end stays the end");
    frames
}

pub(super) fn stream(octets: &[u8]) -> Result<Capture, CaptureError> {
    Capture::stream(Cursor::new(octets.to_vec()))
}

/// What a stream of these octets gives.
pub(super) fn streamed(octets: &[u8]) -> (Vec<Owned>, Option<Damage>) {
    let mut capture = stream(octets).unwrap();
    (drain(&mut capture), capture.damage().cloned())
}

pub(super) fn file(octets: &[u8]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), octets).unwrap();
    file
}

/// What a file of these octets gives.
pub(super) fn filed(octets: &[u8]) -> (Vec<Owned>, Option<Damage>) {
    let mut capture = Capture::open(file(octets).path()).unwrap();
    (drain(&mut capture), capture.damage().cloned())
}

/// Six packets out of order, with ties.
pub(super) fn disordered() -> Vec<u8> {
    [(5, "a"), (3, "b"), (5, "c"), (4, "d"), (3, "e"), (6, "f")]
        .iter()
        .fold(Classic::plain(), |capture, (secs, data)| capture.packet(*secs, 0, data.as_bytes()))
        .octets
}
