//! The list of blocks in the kernel: written here, read by the programs.

use std::collections::BTreeSet;
use std::mem::offset_of;

use anyhow::{Context as _, Result};
use aya::Ebpf;
use aya::maps::{HashMap, MapData};
use sensor_ebpf::abi::{Addr, BlockEntry, BlockKey, FILTER_ENTRIES, Gate, PROVEN_ENTRIES, gate, kind};
use sensor_ebpf::block::{Proof, place_v4, place_v6};

use super::shared::SharedWords;
use super::table::map_words;
use super::take_map;

/// What becomes of the packets that a block is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// When it ends, in nanoseconds of CLOCK_MONOTONIC.
    pub expires_ns: u64,
    /// Packets a second that pass; 0 for none.
    pub limit: u32,
    /// Packets are only counted.
    pub observe: bool,
    /// A list that was imported has it.
    pub listed: bool,
}

/// The list. It outlives this process where maps are pinned, and its entries end by themselves.
pub struct Blocklist {
    blocks: HashMap<MapData, BlockKey, BlockEntry>,
    allowed: HashMap<MapData, BlockKey, u32>,
    gate: SharedWords,
    filter_v4: SharedWords,
    filter_v6: SharedWords,
    proven: SharedWords,
    /// What the gate and the filters are made of.
    keys: BTreeSet<BlockKey>,
    seed: u64,
}

impl Blocklist {
    pub(super) fn open(ebpf: &mut Ebpf, seed: u64) -> Result<Self> {
        let gate = map_words(ebpf, "GATE", size_of::<Gate>() / 8)?;
        let filter_v4 = map_words(ebpf, "FILTER_V4", FILTER_ENTRIES as usize)?;
        let filter_v6 = map_words(ebpf, "FILTER_V6", FILTER_ENTRIES as usize * 2)?;
        let proven = map_words(ebpf, "PROVEN", PROVEN_ENTRIES as usize)?;
        let blocks = HashMap::try_from(take_map(ebpf, "BLOCKS")?).context("open map BLOCKS")?;
        let allowed = HashMap::try_from(take_map(ebpf, "ALLOWED")?).context("open map ALLOWED")?;
        let mut list = Self { blocks, allowed, gate, filter_v4, filter_v6, proven, keys: BTreeSet::new(), seed };
        list.keys = list.blocks.keys().filter_map(Result::ok).collect();
        Ok(list)
    }

    /// What is on the list, with what came of it.
    pub fn entries(&self) -> impl Iterator<Item = (BlockKey, BlockEntry)> + '_ {
        self.keys.iter().filter_map(|key| Some((*key, self.blocks.get(key, 0).ok()?)))
    }

    /// One of them.
    #[must_use]
    pub fn entry(&self, key: &BlockKey) -> Option<BlockEntry> {
        self.blocks.get(key, 0).ok()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Puts a block on the list, in place of the one with this key, whose counts it takes over.
    ///
    /// # Errors
    /// The list is full.
    pub fn put(&mut self, key: BlockKey, rule: &Rule) -> Result<()> {
        let earlier = self.keys.contains(&key).then(|| self.entry(&key)).flatten().unwrap_or_default();
        let gap_ns = gap_ns(rule.limit);
        let entry = BlockEntry {
            expires_ns: rule.expires_ns,
            gap_ns,
            burst_ns: if rule.limit == 0 { 0 } else { BURST_NS.max(gap_ns) },
            observe: u32::from(rule.observe),
            listed: u32::from(rule.listed),
            ..earlier
        };
        self.blocks
            .insert(key, entry, 0)
            .context("put a block into the kernel's list: is respond.capacity too small?")?;
        // The entry is there before anybody is told to look for it.
        self.keys.insert(key);
        self.mention(&key);
        Ok(())
    }

    /// Takes a block off the list, and gives what came of it.
    pub fn remove(&mut self, key: &BlockKey) -> Option<BlockEntry> {
        if !self.keys.remove(key) {
            return None;
        }
        let entry = self.entry(key);
        // It may have gone with another process's list; then there is nothing to remove.
        let _ = self.blocks.remove(key);
        if self.keys.is_empty() {
            self.tidy();
        }
        entry
    }

    /// Makes the filters and the gate speak of what is on the list and of nothing else: what was removed still costs packets
    /// a look-up until then.
    pub fn tidy(&mut self) {
        let [mut v4, mut v6] = [FILTER_ENTRIES, FILTER_ENTRIES * 2].map(|words| vec![0_u64; words as usize]);
        let mut gate = 0;
        for key in &self.keys {
            let mark = Mark::of(key);
            gate |= mark.gate;
            mark.each_v4(|index, bits| v4[index] |= bits);
            mark.each_v6(|index, bits| v6[index] |= bits);
        }
        for (words, fresh) in [(&self.filter_v4, v4), (&self.filter_v6, v6)] {
            fresh.into_iter().enumerate().for_each(|(index, word)| words.store(index, word));
        }
        self.gate.store(offset_of!(Gate, has) / 8, gate);
    }

    /// Says which networks are never dropped.
    ///
    /// # Errors
    /// There are more than the map holds.
    pub fn allow(&mut self, networks: &[(Addr, u8)]) -> Result<()> {
        let wanted: BTreeSet<BlockKey> = networks
            .iter()
            .filter(|(_, prefix)| *prefix > 0)
            .map(|&(addr, prefix)| BlockKey::network(addr, u32::from(prefix)))
            .collect();
        let known: Vec<BlockKey> = self.allowed.keys().filter_map(Result::ok).collect();
        for key in wanted.iter().filter(|key| !known.contains(key)) {
            self.allowed.insert(key, 1, 0).context("note a network that is never dropped; there is room for 4096")?;
        }
        let mut gate = [0_u64; 3];
        for key in &wanted {
            let bit = u32::from(key.prefix) - 1;
            match key.addr.v4() {
                Some(_) if bit >= 96 => gate[0] |= 1 << (bit - 96),
                _ => gate[1 + bit as usize / 64] |= 1 << (bit % 64),
            }
        }
        let first = offset_of!(Gate, allowed_v4) / 8;
        gate.into_iter().enumerate().for_each(|(index, word)| self.gate.store(first + index, word));
        for key in known.iter().filter(|key| !wanted.contains(key)) {
            self.allowed.remove(key).context("forget a network that was never dropped")?;
        }
        Ok(())
    }

    /// Notes that a source has completed a connection just now.
    pub fn note_proven(&self, source: Addr, now_ns: u64) {
        let proof = Proof::of(source, self.seed);
        self.proven.store(proof.index as usize, proof.word(now_ns));
    }

    fn mention(&self, key: &BlockKey) {
        let mark = Mark::of(key);
        mark.each_v4(|index, bits| self.filter_v4.set(index, bits));
        mark.each_v6(|index, bits| self.filter_v6.set(index, bits));
        self.gate.set(offset_of!(Gate, has) / 8, mark.gate);
    }
}

/// What a limit may save up: a quarter of a second, so that the kernel's coarse clock does not matter.
const BURST_NS: u32 = 250_000_000;

fn gap_ns(limit: u32) -> u32 {
    1_000_000_000_u32.checked_div(limit).map_or(0, |gap| gap.max(1))
}

/// Where filters and gate speak of a key.
struct Mark {
    /// The word of [`Gate::has`] and [`Gate::short_v6`].
    gate: u64,
    key: BlockKey,
}

impl Mark {
    fn of(key: &BlockKey) -> Self {
        let has = match (key.kind, key.proto, key.port) {
            (kind::REQUESTS, ..) => gate::REQUESTS,
            (_, 0, _) => gate::PEERS,
            (_, _, 0) => gate::PROTOCOLS,
            _ => gate::PORTS,
        };
        let bit = u32::from(key.prefix).saturating_sub(1);
        let is_short = key.kind == kind::PEER && key.addr.v4().is_none() && bit < 32;
        let short = if is_short { 1 << (32 + bit) } else { 0 };
        Self { gate: u64::from(has) | short, key: *key }
    }

    /// Words of the filter for IPv4, and the bits in them.
    fn each_v4(&self, mut each: impl FnMut(usize, u64)) {
        let Some(first) = self.key.addr.v4().filter(|_| self.key.kind == kind::PEER) else { return };
        let Some(prefix) = u32::from(self.key.prefix).checked_sub(96).filter(|prefix| *prefix > 0) else { return };
        let last = first | u32::MAX.checked_shr(prefix).unwrap_or(0);
        for index in place_v4(first)..=place_v4(last) {
            each(index as usize, 1 << (prefix - 1));
        }
    }

    /// Words of the filter for IPv6.
    fn each_v6(&self, mut each: impl FnMut(usize, u64)) {
        let bit = u32::from(self.key.prefix).saturating_sub(1);
        if self.key.kind == kind::PEER && self.key.addr.v4().is_none() && bit >= 32 {
            let index = place_v6(self.key.addr.high) * 2 + bit / 64;
            each(index as usize, 1 << (bit % 64));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn key(text: &str, prefix: u32) -> BlockKey {
        BlockKey::network(text.parse::<IpAddr>().unwrap().into(), prefix)
    }

    #[test]
    fn filters_speak_of_every_address_of_a_network() {
        let words_v4 = |key: &BlockKey| {
            let mut words = Vec::new();
            Mark::of(key).each_v4(|index, bits| words.push((index, bits)));
            words
        };
        assert_eq!(words_v4(&key("203.0.113.7", 128)), [(0xcb00, 1 << 31)]);
        assert_eq!(words_v4(&key("203.0.0.0", 96 + 15)), [(0xcb00, 1 << 14), (0xcb01, 1 << 14)]);
        assert_eq!(words_v4(&key("10.0.0.0", 96 + 8)).len(), 256);
        assert!(words_v4(&key("2001:db8::", 32)).is_empty());
        let words_v6 = |key: &BlockKey| {
            let mut words = Vec::new();
            Mark::of(key).each_v6(|index, bits| words.push((index % 2, bits)));
            words
        };
        assert_eq!(words_v6(&key("2001:db8::1", 128)), [(1, 1 << 63)]);
        assert_eq!(words_v6(&key("2001:db8::", 64)), [(0, 1 << 63)]);
        assert!(words_v6(&key("2001:db8::", 32)).is_empty() && words_v6(&key("203.0.113.7", 128)).is_empty());
        assert_eq!(Mark::of(&key("2001:db8::", 32)).gate, u64::from(gate::PEERS) | 1 << 63);
    }

    #[test]
    fn the_gate_says_what_packets_are_needed_for() {
        let of = |proto, port| Mark::of(&BlockKey { proto, port, ..key("203.0.113.7", 128) }).gate;
        assert_eq!([of(0, 0), of(17, 0), of(6, 22)], [gate::PEERS, gate::PROTOCOLS, gate::PORTS].map(u64::from));
        let requests = BlockKey { kind: kind::REQUESTS, proto: 6, port: 443, ..key("192.0.2.1", 128) };
        assert_eq!(Mark::of(&requests).gate, u64::from(gate::REQUESTS));
        Mark::of(&requests).each_v4(|_, _| panic!("requests are found by their key alone"));
        assert_eq!((gap_ns(0), gap_ns(100), gap_ns(u32::MAX)), (0, 10_000_000, 1));
    }
}
