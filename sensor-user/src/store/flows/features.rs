//! What models and exports need of a flow, as the octets that are stored with it.

use sensor_core::features::flow::{COLUMNS, FlowVector, vector};
use sensor_core::flow::{FlowRecord, FlowView};
use sensor_ebpf::abi::{Half, HalfRare};

/// The layout that is written: its first octet.
const LAYOUT: u8 = 1;
/// Octets of [`End`].
const END: usize = 8;
/// Octets of this layout: version, vector, who the client is, both ends.
const OCTETS: usize = 1 + 4 * COLUMNS.len() + 1 + 2 * END;

/// What is stored of a flow beside who, when and how much.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Features {
    /// In the order of [`COLUMNS`], bit for bit as [`vector`] gave it.
    pub vector: FlowVector,
    /// Whether the receiver of the first packet is who asked.
    pub client_is_dst: bool,
    /// The client, then the server.
    pub ends: [End; 2],
}

/// What one end sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct End {
    /// Latest TTL or hop limit.
    pub ttl: u8,
    /// TCP: latest window, unscaled. ICMP and ICMPv6: latest type (high octet) and code.
    pub window: u16,
    /// TCP: segments sent again.
    pub retransmits: u32,
    /// TCP: a SYN was sent.
    pub syn: bool,
    /// TCP: a FIN was sent.
    pub fin: bool,
    /// TCP: an RST was sent.
    pub rst: bool,
}

/// A later version has written this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a flow was stored in layout {0}, and this version reads layout {LAYOUT}: use the version that stored it")]
pub struct UnknownLayout(u8);

impl Features {
    /// Of a flow that ended.
    #[must_use]
    pub fn of(record: &FlowRecord) -> Self {
        let view = record.view();
        let (way, ttl) = (view.direction(), record.slot.ttl);
        Self {
            vector: vector(record),
            client_is_dst: way != FlowView::from_initiator(&record.slot).direction(),
            ends: [
                End::of(ttl[way.index()], view.sent(), view.sent_rare()),
                End::of(ttl[way.reverse().index()], view.received(), view.received_rare()),
            ],
        }
    }

    /// The octets.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut octets = Vec::with_capacity(OCTETS);
        octets.push(LAYOUT);
        octets.extend(self.vector.iter().flat_map(|value| value.to_le_bytes()));
        octets.push(u8::from(self.client_is_dst));
        octets.extend(self.ends.iter().flat_map(End::encode));
        octets
    }

    /// What [`encode`](Self::encode) has written.
    ///
    /// # Errors
    /// Octets of another layout.
    pub fn decode(octets: &[u8]) -> Result<Self, UnknownLayout> {
        let refused = UnknownLayout(octets.first().copied().unwrap_or(0));
        let known: &[u8; OCTETS] = octets.try_into().map_err(|_| refused)?;
        let (values, rest) = known[1..].split_at(4 * COLUMNS.len());
        if known[0] != LAYOUT {
            return Err(refused);
        }
        let mut vector = [0.0; COLUMNS.len()];
        for (value, octets) in vector.iter_mut().zip(values.as_chunks().0) {
            *value = f32::from_le_bytes(*octets);
        }
        let mut ends = [End::default(); 2];
        for (end, octets) in ends.iter_mut().zip(rest[1..].as_chunks().0) {
            *end = End::decode(*octets);
        }
        Ok(Self { vector, client_is_dst: rest[0] != 0, ends })
    }
}

impl End {
    fn of(ttl: u8, half: &Half, rare: &HalfRare) -> Self {
        Self {
            ttl,
            window: half.window,
            retransmits: rare.retransmits,
            syn: rare.syn > 0,
            fin: rare.fin > 0,
            rst: rare.rst > 0,
        }
    }

    fn encode(&self) -> [u8; END] {
        let [w0, w1] = self.window.to_le_bytes();
        let [r0, r1, r2, r3] = self.retransmits.to_le_bytes();
        let flags = u8::from(self.syn) | u8::from(self.fin) << 1 | u8::from(self.rst) << 2;
        [self.ttl, flags, w0, w1, r0, r1, r2, r3]
    }

    const fn decode([ttl, flags, w0, w1, r0, r1, r2, r3]: [u8; END]) -> Self {
        Self {
            ttl,
            window: u16::from_le_bytes([w0, w1]),
            retransmits: u32::from_le_bytes([r0, r1, r2, r3]),
            syn: flags & 1 != 0,
            fin: flags & 2 != 0,
            rst: flags & 4 != 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn octets_are_read_back_bit_for_bit(
            values in proptest::array::uniform19(any::<u32>()),
            client_is_dst: bool,
            ends in proptest::array::uniform2(any::<(u8, u16, u32, bool, bool, bool)>()),
        ) {
            let ends = ends.map(|(ttl, window, retransmits, syn, fin, rst)| End { ttl, window, retransmits, syn, fin, rst });
            let features = Features { vector: values.map(f32::from_bits), client_is_dst, ends };
            let read = Features::decode(&features.encode()).unwrap();
            prop_assert_eq!(read.vector.map(f32::to_bits), values);
            prop_assert_eq!((read.client_is_dst, read.ends), (client_is_dst, ends));
        }

        #[test]
        fn other_octets_are_refused(octets in proptest::collection::vec(any::<u8>(), 0..200)) {
            let known = octets.len() == OCTETS && octets[0] == LAYOUT;
            prop_assert_eq!(Features::decode(&octets).is_ok(), known);
        }
    }
}
