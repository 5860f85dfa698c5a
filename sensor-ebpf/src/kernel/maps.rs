//! Every map: key, value, size, memory, who writes, what happens when full.
//!
//! | map | key -> value | entries | memory | written by | when full |
//! |---|---|---|---|---|---|
//! | `FLOW_TAGS` | bucket -> 8 tags | flows / 8 | 8 B a flow | kernel claims, userspace frees | the packet goes to an aggregate |
//! | `FLOW_SLOTS` | slot -> [`FlowSlot`] | flows | 256 B a flow | kernel counts, userspace zeroes | as above |
//! | `AGGREGATE_TAGS` | bucket -> 8 tags | 64 | 4 KiB | kernel claims, userspace frees | the first aggregate takes it |
//! | `AGGREGATES` | slot -> [`Aggregate`] | 512 | 592 KiB | kernel counts, userspace zeroes | as above |
//! | `STATE` | [`TableState`] | 1 | a page | both, by atomics | never |
//! | `COUNTERS` | [`Hook`] -> [`Counters`] | 2 | 272 B a CPU | kernel | never |
//! | `PACKETS` | two [`Packet`]s | 1 | 160 B a CPU | kernel | never |
//! | `NEWCOMER` | [`Newcomer`] | 1 | 88 B a CPU | kernel | never |
//! | `HANDSHAKES` | hash -> word | 65,536 | 512 KiB | kernel | an older entry is lost |
//! | `FRAGMENTS` | hash -> word | 8,192 | 64 KiB | kernel | an older entry is lost |
//! | `WATCHED` | ifindex -> 1 | 1,024 | 64 KiB | userspace | forwarded packets are counted twice, with a warning |
//! | `ARP` | ring of [`ArpMessage`] | | 256 KiB | kernel | counted as `arp_lost` |
//! | `AYA_LOGS` | ring buffer | | 128 KiB | kernel | message lost |
//!
//! The entry counts of the two flow maps are set when the program is loaded. Nothing but `COUNTERS`, `PACKETS` and
//! `NEWCOMER` grows with the number of CPUs: at 64 CPUs they take 33 KiB.

use aya_ebpf::bindings::{BPF_F_MMAPABLE, BPF_RB_NO_WAKEUP};
use aya_ebpf::btf_maps::{Array, HashMap, PerCpuArray, RingBuf};
use aya_ebpf::macros::btf_map;

use super::table::Newcomer;
use crate::abi::{
    AGGREGATES, ARP_RING_OCTETS, Aggregate, ArpMessage, BUCKET_SLOTS, Counters, FRAGMENT_ENTRIES, FlowSlot,
    HANDSHAKE_ENTRIES, Hook, Settings, TableState, WATCHED_INTERFACES,
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

#[unsafe(no_mangle)]
static SETTINGS: Settings = Settings { seed: 0, fixed_ns: 0, buckets: 1, sampling: 0, tunnels: 0, mirror: 0 };

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
