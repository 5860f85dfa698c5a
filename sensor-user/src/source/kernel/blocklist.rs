//! The list of blocks in the kernel: written here, read by the programs.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail};
use aya::Ebpf;
use aya::maps::{Array, HashMap, Map, MapData};
use sensor_ebpf::abi::{Addr, BlockEntry, BlockKey, FILTER_ENTRIES, Gate, PROVEN_ENTRIES, filter, gate, kind};
use sensor_ebpf::block::{Proof, place_v4, place_v6};
use tracing::warn;

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
    capacity: usize,
    allowed: HashMap<MapData, BlockKey, u32>,
    gate: Array<MapData, Gate>,
    filter_v4: SharedWords,
    filter_v6: SharedWords,
    proven: SharedWords,
    /// What the gate and the filters are made of: blocks, and networks that are never dropped.
    keys: BTreeSet<BlockKey>,
    spared: BTreeSet<BlockKey>,
    seed: u64,
}

impl Blocklist {
    pub(super) fn open(ebpf: &mut Ebpf, seed: u64) -> Result<Self> {
        let gate = Array::try_from(take_map(ebpf, ".bss")?).context("open the map of the gate")?;
        let filter_v4 = map_words(ebpf, "FILTER_V4", FILTER_ENTRIES as usize)?;
        let filter_v6 = map_words(ebpf, "FILTER_V6", FILTER_ENTRIES as usize * 2)?;
        let proven = map_words(ebpf, "PROVEN", PROVEN_ENTRIES as usize)?;
        let blocks = take_map(ebpf, "BLOCKS")?;
        let capacity = capacity(&blocks).context("read how many blocks there is room for")?;
        let blocks = HashMap::try_from(blocks).context("open map BLOCKS")?;
        let allowed = HashMap::try_from(take_map(ebpf, "ALLOWED")?).context("open map ALLOWED")?;
        let [keys, spared] = [BTreeSet::new(), BTreeSet::new()];
        let mut list = Self { blocks, capacity, allowed, gate, filter_v4, filter_v6, proven, keys, spared, seed };
        list.keys = list.blocks.keys().filter_map(Result::ok).collect();
        list.spared = list.allowed.keys().filter_map(Result::ok).collect();
        list.tidy();
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

    /// How many there is room for.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.capacity
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
        self.mention(&Mark::blocked(&key))
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
        let mut gate = Gate::default();
        let marks = self.keys.iter().map(Mark::blocked).chain(self.spared.iter().map(Mark::allowed));
        for mark in marks {
            add(&mut gate, &mark.gate);
            mark.each_v4(|index, bits| v4[index] |= bits);
            mark.each_v6(|index, bits| v6[index] |= bits);
        }
        for (words, fresh) in [(&self.filter_v4, v4), (&self.filter_v6, v6)] {
            fresh.into_iter().enumerate().for_each(|(index, word)| words.store(index, word));
        }
        if let Err(error) = self.set_gate(&gate) {
            warn!(error = format!("{error:#}"), "packets are still compared with blocks that are gone");
        }
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
        let mut outcome = Ok(());
        let new: Vec<BlockKey> = wanted.difference(&self.spared).copied().collect();
        for key in new {
            let noted = self.allowed.insert(key, 1, 0);
            let noted = noted.context("note a network that is never dropped; there is room for 65536");
            // One for which there is no room is no reason to forget the others.
            if let Err(error) = noted.and_then(|()| self.mention(&Mark::allowed(&key))) {
                outcome = Err(error);
            } else {
                self.spared.insert(key);
            }
        }
        let forgotten: Vec<BlockKey> = self.spared.difference(&wanted).copied().collect();
        for key in &forgotten {
            self.allowed.remove(key).context("forget a network that was never dropped")?;
            self.spared.remove(key);
        }
        if !forgotten.is_empty() {
            self.tidy();
        }
        outcome
    }

    /// Notes that a source has completed a connection just now.
    pub fn note_proven(&self, source: Addr, now_ns: u64) {
        let proof = Proof::of(source, self.seed);
        self.proven.store(proof.index as usize, proof.word(now_ns));
    }

    fn mention(&mut self, mark: &Mark) -> Result<()> {
        mark.each_v4(|index, bits| self.filter_v4.set(index, bits));
        mark.each_v6(|index, bits| self.filter_v6.set(index, bits));
        let known = self.gate.get(&0, 0).context("read the gate")?;
        let mut gate = known;
        add(&mut gate, &mark.gate);
        if gate == known { Ok(()) } else { self.set_gate(&gate) }
    }

    fn set_gate(&mut self, gate: &Gate) -> Result<()> {
        self.gate.set(0, gate, 0).context("tell the kernel what there is to look for")
    }
}

/// Of the map itself: one that is pinned may be of another sensor's configuration.
fn capacity(map: &Map) -> Result<usize> {
    let Map::HashMap(map) = map else { bail!("it is no map of entries by key") };
    Ok(map.info()?.max_entries() as usize)
}

/// What a limit may save up: a quarter of a second, so that the kernel's coarse clock does not matter.
const BURST_NS: u32 = 250_000_000;

fn gap_ns(limit: u32) -> u32 {
    1_000_000_000_u32.checked_div(limit).map_or(0, |gap| gap.max(1))
}

fn add(gate: &mut Gate, bits: &Gate) {
    gate.has |= bits.has;
    gate.short_v6 |= bits.short_v6;
    gate.allowed_v6.iter_mut().zip(bits.allowed_v6).for_each(|(word, bits)| *word |= bits);
}

/// Where filters and gate speak of a network.
struct Mark {
    gate: Gate,
    key: BlockKey,
    /// Whether it is never dropped.
    is_allowed: bool,
}

impl Mark {
    fn blocked(key: &BlockKey) -> Self {
        let has = match (key.kind, key.proto, key.port) {
            (kind::REQUESTS, ..) => gate::REQUESTS,
            (_, 0, _) => gate::PEERS,
            (_, _, 0) => gate::PROTOCOLS,
            _ => gate::PORTS,
        };
        let is_short = key.kind == kind::PEER && key.addr.v4().is_none() && bit(key) < SHORT_V6;
        let short_v6 = if is_short { 1 << bit(key) } else { 0 };
        Self { gate: Gate { has, short_v6, ..Gate::default() }, key: *key, is_allowed: false }
    }

    fn allowed(key: &BlockKey) -> Self {
        let mut gate = Gate::default();
        if key.addr.v4().is_none() {
            gate.allowed_v6[bit(key) as usize / 64] = 1 << (bit(key) % 64);
        }
        Self { gate, key: *key, is_allowed: true }
    }

    /// Words of the filter for IPv4, and the bits in them.
    fn each_v4(&self, mut each: impl FnMut(usize, u64)) {
        let Some(first) = self.key.addr.v4().filter(|_| self.key.kind == kind::PEER) else { return };
        let Some(prefix) = u32::from(self.key.prefix).checked_sub(96).filter(|prefix| *prefix > 0) else { return };
        let last = first | u32::MAX.checked_shr(prefix).unwrap_or(0);
        let shift = if self.is_allowed { 32 } else { 0 };
        for index in place_v4(first)..=place_v4(last) {
            each(index as usize, 1 << (shift + prefix - 1));
        }
    }

    /// Words of the filter for IPv6.
    fn each_v6(&self, mut each: impl FnMut(usize, u64)) {
        let bit = bit(&self.key);
        if self.key.kind == kind::PEER && self.key.addr.v4().is_none() && bit >= SHORT_V6 {
            let index = place_v6(self.key.addr.high) as usize * 2;
            if self.is_allowed {
                each(index, filter::ALLOWED_V6);
            } else {
                each(index + bit as usize / 64, 1 << (bit % 64));
            }
        }
    }
}

/// Prefixes of IPv6 up to this are not in the filter.
const SHORT_V6: u32 = 32;

fn bit(key: &BlockKey) -> u32 {
    u32::from(key.prefix).saturating_sub(1)
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
            Mark::blocked(key).each_v4(|index, bits| words.push((index, bits)));
            words
        };
        assert_eq!(words_v4(&key("203.0.113.7", 128)), [(0xcb00, 1 << 31)]);
        assert_eq!(words_v4(&key("203.0.0.0", 96 + 15)), [(0xcb00, 1 << 14), (0xcb01, 1 << 14)]);
        assert_eq!(words_v4(&key("10.0.0.0", 96 + 8)).len(), 256);
        assert!(words_v4(&key("2001:db8::", 32)).is_empty());
        let words_v6 = |key: &BlockKey| {
            let mut words = Vec::new();
            Mark::blocked(key).each_v6(|index, bits| words.push((index % 2, bits)));
            words
        };
        assert_eq!(words_v6(&key("2001:db8::1", 128)), [(1, 1 << 63)]);
        assert_eq!(words_v6(&key("2001:db8::", 64)), [(0, 1 << 63)]);
        assert!(words_v6(&key("2001:db8::", 32)).is_empty() && words_v6(&key("203.0.113.7", 128)).is_empty());
        let short = Gate { has: gate::PEERS, short_v6: 1 << 31, ..Gate::default() };
        assert_eq!(Mark::blocked(&key("2001:db8::", 32)).gate, short);
    }

    #[test]
    fn what_is_allowed_has_bits_of_its_own() {
        let mut words = Vec::new();
        Mark::allowed(&key("203.0.0.0", 96 + 15)).each_v4(|index, bits| words.push((index, bits)));
        assert_eq!(words, [(0xcb00, 1 << 46), (0xcb01, 1 << 46)]);
        let network = Mark::allowed(&key("2001:db8::", 64));
        network.each_v6(|index, bits| words.push((index % 2, bits)));
        assert_eq!((words.last(), network.gate.allowed_v6), (Some(&(0, filter::ALLOWED_V6)), [1 << 63, 0]));
        let short = Mark::allowed(&key("2001:db8::", 32));
        short.each_v6(|_, _| panic!("short prefixes are in the gate alone"));
        assert_eq!(short.gate.allowed_v6, [1 << 31, 0]);
        assert_eq!(Mark::allowed(&key("2001:db8::1", 128)).gate.allowed_v6, [0, 1 << 63]);
    }

    #[test]
    fn the_gate_says_what_packets_are_needed_for() {
        let of = |proto, port| Mark::blocked(&BlockKey { proto, port, ..key("203.0.113.7", 128) }).gate.has;
        assert_eq!([of(0, 0), of(17, 0), of(6, 22)], [gate::PEERS, gate::PROTOCOLS, gate::PORTS]);
        let requests = BlockKey { kind: kind::REQUESTS, proto: 6, port: 443, ..key("192.0.2.1", 128) };
        assert_eq!(Mark::blocked(&requests).gate.has, gate::REQUESTS);
        Mark::blocked(&requests).each_v4(|_, _| panic!("requests are found by their key alone"));
        assert_eq!((gap_ns(0), gap_ns(100), gap_ns(u32::MAX)), (0, 10_000_000, 1));
    }
}
