//! Every map: key, value, size, memory, who writes, what happens when full.
//!
//! | map | key -> value | entries | memory | written by | when full |
//! |---|---|---|---|---|---|
//! | `FLOW_TAGS` | bucket -> 8 tags | flows / 8 | 8 B a flow | kernel claims, userspace frees | the packet goes to an aggregate |
//! | `FLOW_SLOTS` | slot -> [`FlowSlot`] | flows | 256 B a flow | kernel counts, userspace zeroes | as above |
//! | `AGGREGATE_TAGS` | bucket -> 8 tags | 64 | 4 KiB | kernel claims, userspace frees | the first aggregate takes it |
//! | `AGGREGATES` | slot -> [`Aggregate`] | 512 | 592 KiB | kernel counts, userspace zeroes | as above |
//! | `STATE` | [`TableState`] | 1 | a page | both, by atomics | never |
//! | `COUNTERS` | [`Hook`] -> [`Counters`] | 2 | 320 B a CPU | kernel | never |
//! | `PACKETS` | two [`Packet`]s | 1 | 160 B a CPU | kernel | never |
//! | `NEWCOMER` | [`Newcomer`] | 1 | 88 B a CPU | kernel | never |
//! | `HANDSHAKES` | hash -> word | 65,536 | 512 KiB | kernel | an older entry is lost |
//! | `FRAGMENTS` | hash -> word | 8,192 | 64 KiB | kernel | an older entry is lost |
//! | `WATCHED` | ifindex -> 1 | 1,024 | 64 KiB | userspace | forwarded packets are counted twice, with a warning |
//! | `ARP` | ring of [`ArpMessage`] | | 256 KiB | kernel | counted as `arp_lost` |
//! | `.bss` | [`Gate`] | 1 | a page | userspace | never |
//! | `BLOCKS` | [`BlockKey`] -> [`BlockEntry`] | as set | 16 B an entry, 160 B one in use | userspace; kernel counts | userspace is told |
//! | `FILTER_V4` | first 16 bits -> lengths | 65,536 | 512 KiB | userspace | never |
//! | `FILTER_V6` | hash of 32 bits -> lengths | 65,536 | 1 MiB | userspace | never |
//! | `ALLOWED` | [`BlockKey`] -> 1 | 65,536 | 1 MiB, 64 B one in use | userspace | userspace is told |
//! | `PROVEN` | hash -> word | 65,536 | 512 KiB | userspace | an older entry is lost |
//! | `RETRIES` | hash -> two words | 524,288 | 4 MiB | kernel | an older entry is lost |
//! | `AYA_LOGS` | ring buffer | | 128 KiB | kernel | message lost |
//!
//! The entry counts of the two flow maps are set when the program is loaded. Nothing but `COUNTERS`, `PACKETS` and
//! `NEWCOMER` grows with the number of CPUs: at 64 CPUs they take 33 KiB.

use aya_ebpf::bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC, BPF_RB_NO_WAKEUP};
use aya_ebpf::btf_maps::{Array, HashMap, PerCpuArray, RingBuf};
use aya_ebpf::macros::btf_map;

use super::table::Newcomer;
use crate::abi::{
    AGGREGATES, ALLOWED_ENTRIES, ARP_RING_OCTETS, Aggregate, ArpMessage, BUCKET_SLOTS, BlockEntry, BlockKey, Counters,
    FILTER_ENTRIES, FRAGMENT_ENTRIES, FlowSlot, Gate, HANDSHAKE_ENTRIES, Hook, PROVEN_ENTRIES, RETRY_ENTRIES, Settings,
    TableState, WATCHED_INTERFACES,
};
use crate::packet::Packet;

/// Tags of one bucket: one cache line.
pub type Bucket = [u64; BUCKET_SLOTS as usize];

const MMAPABLE: usize = BPF_F_MMAPABLE as usize;

#[btf_map]
static FLOW_TAGS: Array<Bucket, 1, MMAPABLE> = Array::new();

#[btf_map]
static FLOW_SLOTS: Array<FlowSlot, { BUCKET_SLOTS as usize }, MMAPABLE> = Array::new();

#[btf_map]
static AGGREGATE_TAGS: Array<Bucket, { (AGGREGATES / BUCKET_SLOTS) as usize }, MMAPABLE> = Array::new();

#[btf_map(name = "AGGREGATES")]
static AGGREGATE_SLOTS: Array<Aggregate, { AGGREGATES as usize }, MMAPABLE> = Array::new();

#[btf_map]
static STATE: Array<TableState, 1, MMAPABLE> = Array::new();

#[btf_map]
static COUNTERS: PerCpuArray<Counters, 2> = PerCpuArray::new();

#[btf_map]
static PACKETS: PerCpuArray<[Packet; 2], 1> = PerCpuArray::new();

#[btf_map]
static NEWCOMER: PerCpuArray<Newcomer, 1> = PerCpuArray::new();

#[btf_map]
static HANDSHAKES: Array<u64, { HANDSHAKE_ENTRIES as usize }> = Array::new();

#[btf_map]
static FRAGMENTS: Array<u64, { FRAGMENT_ENTRIES as usize }> = Array::new();

#[btf_map]
static WATCHED: HashMap<u32, u32, { WATCHED_INTERFACES as usize }> = HashMap::new();

#[btf_map]
static ARP: RingBuf<ArpMessage, { ARP_RING_OCTETS as usize }> = RingBuf::new();

#[btf_map]
static BLOCKS: HashMap<BlockKey, BlockEntry, 1, { BPF_F_NO_PREALLOC as usize }> = HashMap::new();

#[btf_map]
static FILTER_V4: Array<u64, { FILTER_ENTRIES as usize }, MMAPABLE> = Array::new();

#[btf_map]
static FILTER_V6: Array<[u64; 2], { FILTER_ENTRIES as usize }, MMAPABLE> = Array::new();

#[btf_map]
static ALLOWED: HashMap<BlockKey, u32, { ALLOWED_ENTRIES as usize }, { BPF_F_NO_PREALLOC as usize }> = HashMap::new();

#[btf_map]
static PROVEN: Array<u64, { PROVEN_ENTRIES as usize }, MMAPABLE> = Array::new();

#[btf_map]
static RETRIES: Array<[u32; 2], { RETRY_ENTRIES as usize / 2 }> = Array::new();

#[unsafe(no_mangle)]
static SETTINGS: Settings = Settings { seed: 0, fixed_ns: 0, buckets: 1, sampling: 0, tunnels: 0, mirror: 0 };

/// Found by its address alone, where the element of an array is looked up: every packet asks it. Not pinned: it follows from
/// the lists.
#[unsafe(no_mangle)]
static mut GATE: Gate = Gate { has: 0, short_v6: 0, allowed_v6: [0; 2] };

#[inline(always)]
pub fn flow_tags(index: u32) -> Option<*mut Bucket> {
    FLOW_TAGS.get_ptr_mut(index)
}

#[inline(always)]
pub fn flow_slot(index: u32) -> Option<*mut FlowSlot> {
    FLOW_SLOTS.get_ptr_mut(index)
}

#[inline(always)]
pub fn aggregate_tags(index: u32) -> Option<*mut Bucket> {
    AGGREGATE_TAGS.get_ptr_mut(index)
}

#[inline(always)]
pub fn aggregate(index: u32) -> Option<*mut Aggregate> {
    AGGREGATE_SLOTS.get_ptr_mut(index)
}

#[inline(always)]
pub fn state() -> Option<*mut TableState> {
    STATE.get_ptr_mut(0)
}

#[inline(always)]
pub fn counters(hook: Hook) -> Option<*mut Counters> {
    COUNTERS.get_ptr_mut(hook as u32)
}

/// The packet that this CPU is looking at, and the one inside it.
#[inline(always)]
pub fn packets() -> Option<[*mut Packet; 2]> {
    let packets = PACKETS.get_ptr_mut(0)?.cast::<Packet>();
    Some([packets, packets.wrapping_add(1)])
}

#[inline(always)]
pub fn newcomer() -> Option<*mut Newcomer> {
    NEWCOMER.get_ptr_mut(0)
}

#[inline(always)]
pub fn handshake(index: u32) -> Option<*mut u64> {
    HANDSHAKES.get_ptr_mut(index)
}

#[inline(always)]
pub fn fragment(index: u32) -> Option<*mut u64> {
    FRAGMENTS.get_ptr_mut(index)
}

#[inline(always)]
pub fn is_watched(ifindex: u32) -> bool {
    // SAFETY: the value is not looked at, only whether there is one.
    unsafe { WATCHED.get(ifindex) }.is_some()
}

#[inline(always)]
pub fn gate() -> *const Gate {
    &raw const GATE
}

#[inline(always)]
pub fn block(key: &BlockKey) -> Option<*mut BlockEntry> {
    BLOCKS.get_ptr_mut(key)
}

#[inline(always)]
pub fn filter_v4(index: u32) -> Option<*mut u64> {
    FILTER_V4.get_ptr_mut(index)
}

#[inline(always)]
pub fn filter_v6(index: u32) -> Option<*mut [u64; 2]> {
    FILTER_V6.get_ptr_mut(index)
}

#[inline(always)]
pub fn is_allowed(network: &BlockKey) -> bool {
    // SAFETY: the value is not looked at, only whether there is one.
    unsafe { ALLOWED.get(network) }.is_some()
}

#[inline(always)]
pub fn proven(index: u32) -> Option<*mut u64> {
    PROVEN.get_ptr_mut(index)
}

#[inline(always)]
pub fn retry(index: u32) -> Option<*mut u32> {
    // An element takes up whole words.
    Some(RETRIES.get_ptr_mut(index >> 1)?.cast::<u32>().wrapping_add((index & 1) as usize))
}

/// Hands an ARP message to userspace, if there is room.
#[inline(always)]
pub fn report_arp(message: &ArpMessage) -> bool {
    ARP.output(*message, u64::from(BPF_RB_NO_WAKEUP)).is_ok()
}

#[inline(always)]
pub fn seed() -> u64 {
    // SAFETY: a valid static. Volatile, because the loader patches it.
    unsafe { (&raw const SETTINGS.seed).read_volatile() }
}

#[inline(always)]
pub fn buckets() -> u32 {
    // SAFETY: as above.
    unsafe { (&raw const SETTINGS.buckets).read_volatile() }
}

#[inline(always)]
pub fn fixed_ns() -> u64 {
    // SAFETY: as above.
    unsafe { (&raw const SETTINGS.fixed_ns).read_volatile() }
}

#[inline(always)]
pub fn sampling() -> u32 {
    // SAFETY: as above.
    unsafe { (&raw const SETTINGS.sampling).read_volatile() }
}

#[inline(always)]
pub fn tunnels() -> u32 {
    // SAFETY: as above.
    unsafe { (&raw const SETTINGS.tunnels).read_volatile() }
}

/// Whether packets that leave are not seen at egress.
#[inline(always)]
pub fn is_mirror() -> bool {
    // SAFETY: as above.
    unsafe { (&raw const SETTINGS.mirror).read_volatile() != 0 }
}
