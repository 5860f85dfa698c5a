//! The flow table: eight-way buckets with two choices, in two mmapable arrays that userspace reads without a system call.
//!
//! Each key has two possible buckets of eight slots. A lookup compares the 64-bit tags of a bucket (one cache line) and
//! then the whole key. A new flow claims a free slot of the emptier bucket by compare-and-swap, writes the key, and
//! publishes the tag. Two CPUs that see the first packets of one flow at the same instant may both claim; userspace
//! adds such twins up, so counts stay exact.
#![expect(
    clippy::cast_possible_truncation,
    reason = "each value is known to fit, and a checked conversion costs instructions"
)]

use sensor_ebpf::abi::{BUCKET_SLOTS, Direction, FlowKey, FlowSlot, tag};

use crate::atomic::replace;
use crate::maps::{self, Bucket};

/// A bucket that lacks this many free slots is not preferred any more.
const CROWDED: u64 = 2;

/// What a slot is claimed for. Without padding: kernels before 6.3 let no uninitialised octet be passed.
#[repr(C)]
struct Claim {
    key: Words,
    live: u64,
    initiator: u32,
    ifindex: u32,
}

/// The slot of a key, claimed and named if it is new. `None` when both buckets are full.
#[inline(always)]
pub fn find_or_claim(key: &FlowKey, direction: Direction, ifindex: u32) -> Option<*mut FlowSlot> {
    let key = words(key);
    let hash = hash(&key);
    let live = hash & !tag::STATE | tag::LIVE;
    let buckets = u64::from(maps::buckets());
    let first = (((hash >> 32) * buckets) >> 32) as u32;
    if let Some(slot) = find(first, live, &key) {
        return Some(slot);
    }
    let second = (((hash.wrapping_mul(MULTIPLIER) >> 32) * buckets) >> 32) as u32;
    if let Some(slot) = find(second, live, &key) {
        return Some(slot);
    }
    maps::slot(leuko_claim(first, second, &Claim { key, live, initiator: direction as u32, ifindex }))
}

#[inline(always)]
fn find(index: u32, live: u64, key: &Words) -> Option<*mut FlowSlot> {
    let bucket = maps::bucket(index)?;
    let mut way = 0;
    while way < BUCKET_SLOTS {
        // SAFETY: the bucket is an array element of eight tags; reads are aligned and may race, which is harmless.
        let found = unsafe { bucket.cast::<u64>().add(way as usize).read_volatile() };
        if found == live {
            let slot = maps::slot(index * BUCKET_SLOTS + way)?;
            // SAFETY: a live slot's key does not change until a grace period has passed.
            if unsafe { same_key(slot, key) } {
                return Some(slot);
            }
        }
        way += 1;
    }
    None
}

/// The index of a claimed slot, or one past every table.
///
/// New flows are rare: a call of its own keeps the hot path short. Exported, so that its BTF linkage is global: the
/// verifier walks it once, and not once for each state in which it is called. It may therefore not trust its arguments.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn leuko_claim(first: u32, second: u32, claim: *const Claim) -> u32 {
    // SAFETY: null is checked for; the verifier proves of every other pointer that a whole `Claim` is behind it.
    let Some(claim) = (unsafe { claim.as_ref() }) else {
        return u32::MAX;
    };
    let free = free_slots(first);
    let (preferred, other) =
        if free <= CROWDED && free_slots(second) > free { (second, first) } else { (first, second) };
    claim_in(preferred, claim).or_else(|| claim_in(other, claim)).unwrap_or(u32::MAX)
}

#[inline(always)]
fn free_slots(index: u32) -> u64 {
    let Some(bucket) = maps::bucket(index) else {
        return 0;
    };
    let mut free = u64::from(BUCKET_SLOTS);
    let mut way = 0;
    while way < BUCKET_SLOTS {
        // SAFETY: as in `find`.
        let found = unsafe { bucket.cast::<u64>().add(way as usize).read_volatile() };
        // Without a branch: eight of them would be 256 paths for the verifier.
        free -= (found | found.wrapping_neg()) >> 63;
        way += 1;
    }
    free
}

#[inline(always)]
fn claim_in(bucket_index: u32, claim: &Claim) -> Option<u32> {
    let bucket: *mut Bucket = maps::bucket(bucket_index)?;
    let mut way = 0;
    while way < BUCKET_SLOTS {
        // SAFETY: an aligned element of the bucket.
        unsafe {
            let word = bucket.cast::<u64>().add(way as usize);
            if word.read_volatile() == tag::FREE && replace(word, tag::FREE, tag::CLAIMED) {
                let index = bucket_index * BUCKET_SLOTS + way;
                let slot = maps::slot(index)?;
                write_key(slot, &claim.key);
                (*slot).initiator = claim.initiator as u8;
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

/// A key as the words in memory that it is. The hot path keeps them in registers.
type Words = [u64; 5];

const _: () = assert!(size_of::<Words>() == size_of::<FlowKey>());

#[inline(always)]
fn words(key: &FlowKey) -> Words {
    let ports = u64::from(key.lo_port) | u64::from(key.hi_port) << 16 | u64::from(key.proto) << 32;
    [key.lo_addr.high, key.lo_addr.low, key.hi_addr.high, key.hi_addr.low, ports]
}

/// # Safety
/// `slot` is valid and aligned.
#[inline(always)]
unsafe fn same_key(slot: *const FlowSlot, key: &Words) -> bool {
    // SAFETY: the key is the first five words of the slot (layout asserts in abi).
    let word = |index| unsafe { slot.cast::<u64>().add(index).read() };
    // The words that differ most, first.
    word(1) == key[1] && word(3) == key[3] && word(4) == key[4] && word(0) == key[0] && word(2) == key[2]
}

/// # Safety
/// As for [`same_key`]; nobody else writes the key.
#[inline(always)]
unsafe fn write_key(slot: *mut FlowSlot, key: &Words) {
    let mut index = 0;
    while index < key.len() {
        // SAFETY: as above. Volatile, lest the loop become a call of `memcpy`.
        unsafe { slot.cast::<u64>().add(index).write_volatile(key[index]) };
        index += 1;
    }
}

const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// Multiply and fold each word, seeded by a secret drawn at load time.
#[inline(always)]
fn hash(key: &Words) -> u64 {
    let mut hash = maps::seed();
    for &word in key {
        hash = (hash ^ word).wrapping_mul(MULTIPLIER);
        hash ^= hash >> 32;
    }
    hash
}
