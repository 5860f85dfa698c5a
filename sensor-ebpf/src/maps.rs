//! Every map: key, value, size, memory, who writes, what happens when full.
//!
//! | map | key -> value | entries | memory | written by | when full |
//! |---|---|---|---|---|---|
//! | `FLOW_TAGS` | bucket -> 8 tags | flows / 8 | 8 B a flow | kernel claims, userspace frees | packet counted as `table_full` |
//! | `FLOW_SLOTS` | slot -> [`FlowSlot`] | flows | 256 B a flow | kernel counts, userspace zeroes | as above |
//! | `COUNTERS` | [`Hook`] -> [`Counters`] | 2 | 176 B a CPU | kernel | never |
//! | `AYA_LOGS` | ring buffer | | 128 KiB | kernel | message lost |
//!
//! The entry counts of the two flow maps are set when the program is loaded.

use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::btf_maps::{Array, PerCpuArray};
use aya_ebpf::macros::btf_map;
use sensor_ebpf::abi::{BUCKET_SLOTS, Counters, FlowSlot, Hook, Settings};

/// Tags of one bucket: one cache line.
pub type Bucket = [u64; BUCKET_SLOTS as usize];

#[btf_map]
static FLOW_TAGS: Array<Bucket, 1, { BPF_F_MMAPABLE as usize }> = Array::new();

#[btf_map]
static FLOW_SLOTS: Array<FlowSlot, { BUCKET_SLOTS as usize }, { BPF_F_MMAPABLE as usize }> = Array::new();

#[btf_map]
static COUNTERS: PerCpuArray<Counters, 2> = PerCpuArray::new();

#[unsafe(no_mangle)]
static SETTINGS: Settings = Settings { seed: 0, fixed_ns: 0, buckets: 1, zero: 0 };

#[inline(always)]
pub fn bucket(index: u32) -> Option<*mut Bucket> {
    FLOW_TAGS.get_ptr_mut(index)
}

#[inline(always)]
pub fn slot(index: u32) -> Option<*mut FlowSlot> {
    FLOW_SLOTS.get_ptr_mut(index)
}

#[inline(always)]
pub fn counters(hook: Hook) -> Option<*mut Counters> {
    COUNTERS.get_ptr_mut(hook as u32)
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
