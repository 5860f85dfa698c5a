//! The flow table: eight-way buckets with two choices, in two mmapable arrays that userspace reads without a system call.
//!
//! Each key has two possible buckets of eight slots. A lookup compares the 64-bit tags of a bucket (one cache line) and
//! then the whole key. A new flow claims a free slot of the emptier bucket by compare-and-swap, writes the key, and
//! publishes the tag. Two CPUs that see the first packets of one flow at the same instant may both claim; userspace
//! adds such twins up, so counts stay exact.

use sensor_ebpf::abi::{BUCKET_SLOTS, Direction, FlowKey, FlowSlot, tag};

use crate::atomic::replace;
use crate::maps::{self, Bucket};

/// A bucket that lacks this many free slots is not preferred any more.
const CROWDED: u32 = 2;

/// What a slot is claimed for.
struct Claim<'a> {
    key: &'a FlowKey,
    live: u64,
    direction: Direction,
    ifindex: u32,
}

/// The slot of a key, claimed and named if it is new. `None` when both buckets are full.
#[inline(always)]
pub fn find_or_claim(key: &FlowKey, direction: Direction, ifindex: u32) -> Option<*mut FlowSlot> {
    let hash = hash(key);
    let live = hash & !tag::STATE | tag::LIVE;
    let buckets = u64::from(maps::buckets());
    let first = ((hash >> 32) * buckets >> 32) as u32;
    if let Some(slot) = find(first, live, key) {
        return Some(slot);
    }
    let second = ((hash.wrapping_mul(MULTIPLIER) >> 32) * buckets >> 32) as u32;
    if let Some(slot) = find(second, live, key) {
        return Some(slot);
    }
    maps::slot(claim(first, second, &Claim { key, live, direction, ifindex }))
}

#[inline(always)]
fn find(index: u32, live: u64, key: &FlowKey) -> Option<*mut FlowSlot> {
    let bucket = maps::bucket(index)?;
    let mut way = 0;
    while way < BUCKET_SLOTS {
        // SAFETY: the bucket is an array element of eight tags; reads are aligned and may race, which is harmless.
        let found = unsafe { bucket.cast::<u64>().add(way as usize).read_volatile() };
        if found == live {
            let slot = maps::slot(index * BUCKET_SLOTS + way)?;
            // SAFETY: a live slot's key does not change until a grace period has passed.
            if unsafe { same_key(&(*slot).key, key) } {
                return Some(slot);
            }
        }
        way += 1;
    }
    None
}

/// The index of a claimed slot, or one past every table. New flows are rare: a call of its own keeps the hot path short.
#[inline(never)]
fn claim(first: u32, second: u32, claim: &Claim<'_>) -> u32 {
    let free = free_slots(first);
    let (preferred, other) =
        if free <= CROWDED && free_slots(second) > free { (second, first) } else { (first, second) };
    claim_in(preferred, claim).or_else(|| claim_in(other, claim)).unwrap_or(u32::MAX)
}

#[inline(always)]
fn free_slots(index: u32) -> u32 {
    let Some(bucket) = maps::bucket(index) else {
        return 0;
    };
    let mut free = 0;
    let mut way = 0;
    while way < BUCKET_SLOTS {
        // SAFETY: as in `find`.
        let found = unsafe { bucket.cast::<u64>().add(way as usize).read_volatile() };
        free += u32::from(found == tag::FREE);
        way += 1;
    }
    free
}

#[inline(always)]
fn claim_in(bucket_index: u32, claim: &Claim<'_>) -> Option<u32> {
    let bucket: *mut Bucket = maps::bucket(bucket_index)?;
    let mut way = 0;
    while way < BUCKET_SLOTS {
        // SAFETY: an aligned element of the bucket.
        unsafe {
            let word = bucket.cast::<u64>().add(way as usize);
            if word.read_volatile() == tag::FREE && replace(word, tag::FREE, tag::CLAIMED) {
                let index = bucket_index * BUCKET_SLOTS + way;
                let slot = maps::slot(index)?;
                (*slot).key = *claim.key;
                (*slot).initiator = claim.direction as u8;
                (*slot).ifindex = claim.ifindex;
                // The exchange is a full barrier: whoever sees the tag sees the key.
                replace(word, tag::CLAIMED, claim.live);
                return Some(index);
            }
        }
        way += 1;
    }
    None
}

#[inline(always)]
fn same_key(a: &FlowKey, b: &FlowKey) -> bool {
    a.lo_addr.low == b.lo_addr.low
        && a.hi_addr.low == b.hi_addr.low
        && ports_word(a) == ports_word(b)
        && a.lo_addr.high == b.lo_addr.high
        && a.hi_addr.high == b.hi_addr.high
}

#[inline(always)]
fn ports_word(key: &FlowKey) -> u64 {
    // SAFETY: ports, protocol and zeroes are the last eight bytes of the key, aligned to eight (layout asserts in abi).
    unsafe { (&raw const key.lo_port).cast::<u64>().read() }
}

const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// Multiply and fold each word, seeded by a secret drawn at load time.
#[inline(always)]
fn hash(key: &FlowKey) -> u64 {
    let mut hash = maps::seed();
    for word in [key.lo_addr.high, key.lo_addr.low, key.hi_addr.high, key.hi_addr.low, ports_word(key)] {
        hash = (hash ^ word).wrapping_mul(MULTIPLIER);
        hash ^= hash >> 32;
    }
    hash
}
