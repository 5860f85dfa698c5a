//! The flow table: eight-way buckets with two choices, in two mmapable arrays that userspace reads without a system call.
//!
//! Each key has two possible buckets of eight slots. A lookup compares the 64-bit tags of a bucket (one cache line) and
//! then the whole key. A new flow claims a free slot of the emptier bucket by compare-and-swap, writes the key, and
//! publishes the tag. Two CPUs that see the first packets of one flow at the same instant may both claim; each twin
//! counts what it counts, so their sum is exact.

use super::atomic::{Shared, replace};
use super::handshakes;
use super::maps::{self, Bucket};
use crate::abi::{BUCKET_SLOTS, Direction, FlowKey, FlowSlot, Hook, TableState, tag};
use crate::account::{Adder as _, Wire};
use crate::hash::{Hash, MULTIPLIER};
use crate::overflow::{Limits, Proof, RESERVED, TICK_SHIFT};
use crate::packet::Packet;

/// A bucket that lacks this many free slots is not preferred any more.
const CROWDED: u64 = 2;

/// Where a key may be.
#[derive(Clone, Copy)]
pub struct Place {
    key: Words,
    hash: u64,
    first: u32,
    second: u32,
}

impl Place {
    /// Of a key.
    #[inline(always)]
    pub fn of(key: &FlowKey) -> Self {
        let key = words(key);
        let mut hash = Hash::new(maps::seed());
        for &word in &key {
            hash = hash.word(word);
        }
        let hash = hash.finish();
        let buckets = u64::from(maps::buckets());
        let first = (((hash >> 32) * buckets) >> 32) as u32;
        let second = (((hash.wrapping_mul(MULTIPLIER) >> 32) * buckets) >> 32) as u32;
        Self { key, hash, first, second }
    }

    /// The slot of the flow, if it has one.
    #[inline(always)]
    pub fn find(&self) -> Option<*mut FlowSlot> {
        // No closure: LLVM may make a function of it, whose call and return cost more than what it does.
        if let Some(slot) = find(self.first, self.live(), &self.key) {
            return Some(slot);
        }
        find(self.second, self.live(), &self.key)
    }

    /// Leaves what is known of a packet where the functions for new flows look for it.
    #[inline(always)]
    pub fn introduce(&self, packet: &Packet, wire: &Wire, seen: &Seen) {
        let Some(newcomer) = maps::newcomer() else {
            return;
        };
        let proof = Proof::of(packet, seen.hook, seen.is_forwarded);
        // SAFETY: this CPU's own element, and nothing preempts the program on this CPU.
        unsafe {
            *newcomer = Newcomer {
                key: self.key,
                hash: self.hash,
                now_ns: seen.now_ns,
                octets: wire.octets,
                first: self.first,
                second: self.second,
                ifindex: seen.ifindex,
                acknowledged: if matches!(proof, Proof::Answer) { packet.seq.wrapping_add(1) } else { packet.ack },
                packets: wire.packets,
                direction: seen.direction as u8,
                proof: proof as u8,
                hook: seen.hook as u8,
            };
        }
    }

    const fn live(&self) -> u64 {
        self.hash & !tag::STATE | tag::LIVE
    }
}

#[inline(always)]
fn find(index: u32, live: u64, key: &Words) -> Option<*mut FlowSlot> {
    let bucket = maps::flow_tags(index)?;
    let mut way = 0;
    while way < BUCKET_SLOTS {
        // SAFETY: the bucket is an array element of eight tags; reads are aligned and may race, which is harmless.
        let found = unsafe { bucket.cast::<u64>().add(way as usize).read_volatile() };
        if found == live {
            let slot = maps::flow_slot(index * BUCKET_SLOTS + way)?;
            // SAFETY: a live slot's key does not change until a grace period has passed.
            if unsafe { same_key(slot, key) } {
                return Some(slot);
            }
        }
        way += 1;
    }
    None
}

/// When and where a packet was seen, and which way it goes.
#[derive(Clone, Copy)]
pub struct Seen {
    pub hook: Hook,
    pub direction: Direction,
    pub ifindex: u32,
    pub is_forwarded: bool,
    pub now_ns: u64,
}

/// A packet of a flow that has no slot: the argument of the functions for those, too large for the stack.
#[repr(C)]
pub struct Newcomer {
    pub key: Words,
    pub hash: u64,
    pub now_ns: u64,
    pub octets: u64,
    pub first: u32,
    pub second: u32,
    pub ifindex: u32,
    /// The number that an answer asks to be acknowledged, or that an acknowledgement acknowledges.
    pub acknowledged: u32,
    pub packets: u32,
    /// [`Direction`].
    pub direction: u8,
    /// [`Proof`].
    pub proof: u8,
    /// [`Hook`].
    pub hook: u8,
}

/// A slot for the flow of the newcomer, named and published. `None` when the table is closed to it.
#[inline(always)]
pub fn claim() -> Option<*mut FlowSlot> {
    maps::flow_slot(leuko_claim())
}

/// The index of a claimed slot, or one past every table.
///
/// New flows are rare: a call of its own keeps the hot path short. Exported, so that its BTF linkage is global: the
/// verifier walks it once, and not once for each state in which it is called.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn leuko_claim() -> u32 {
    let (Some(newcomer), Some(state)) = (maps::newcomer(), maps::state()) else {
        return u32::MAX;
    };
    // SAFETY: this CPU's own element, which nobody writes meanwhile.
    let newcomer = unsafe { &*newcomer };
    let Some(spare) = admission(state, newcomer) else {
        return u32::MAX;
    };
    let (first, second) = (free_slots(newcomer.first), free_slots(newcomer.second));
    let (preferred, other) = if first <= CROWDED && second > first {
        ((newcomer.second, second), (newcomer.first, first))
    } else {
        ((newcomer.first, first), (newcomer.second, second))
    };
    let mut claimed = None;
    if preferred.1 > spare {
        claimed = claim_in(preferred.0, newcomer);
    }
    if claimed.is_none() && other.1 > spare {
        claimed = claim_in(other.0, newcomer);
    }
    match claimed {
        Some(index) => {
            // SAFETY: fields of the one element of the state map; nothing but additions writes `live`.
            unsafe { Shared::add64(&raw mut (*state).live, 1) };
            index
        }
        None => {
            if newcomer.proof == Proof::Answer as u8 {
                handshakes::remember(newcomer);
            }
            u32::MAX
        }
    }
}

/// How many slots of a bucket a new flow has to leave free, if it may have one at all: see [`Limits`].
#[inline(always)]
fn admission(state: *mut TableState, newcomer: &Newcomer) -> Option<u64> {
    const ANSWER: u8 = Proof::Answer as u8;
    const ACKNOWLEDGEMENT: u8 = Proof::Acknowledgement as u8;
    const ESTABLISHED: u8 = Proof::Established as u8;
    let limits = Limits::of(maps::buckets() * BUCKET_SLOTS);
    match newcomer.proof {
        ESTABLISHED => return Some(0),
        ACKNOWLEDGEMENT if handshakes::is_acknowledged(newcomer) => return Some(0),
        _ => {}
    }
    // SAFETY: fields of the one element of the state map. CPUs race for them: a few flows more or less are admitted.
    unsafe {
        let live = (&raw const (*state).live).read_volatile();
        if live < limits.open {
            return Some(0);
        }
        let tick = newcomer.now_ns >> TICK_SHIFT;
        if (&raw const (*state).tick).read_volatile() != tick {
            (&raw mut (*state).tick).write_volatile(tick);
            (&raw mut (*state).admitted).write_volatile(0);
        }
        if live < limits.closed && (&raw const (*state).admitted).read_volatile() < limits.rate {
            Shared::add64(&raw mut (*state).admitted, 1);
            return Some(RESERVED);
        }
    }
    if newcomer.proof == ANSWER {
        handshakes::remember(newcomer);
    }
    None
}

#[inline(always)]
fn free_slots(index: u32) -> u64 {
    let Some(bucket) = maps::flow_tags(index) else {
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
fn claim_in(bucket_index: u32, newcomer: &Newcomer) -> Option<u32> {
    let bucket: *mut Bucket = maps::flow_tags(bucket_index)?;
    let mut way = 0;
    while way < BUCKET_SLOTS {
        // SAFETY: an aligned element of the bucket.
        unsafe {
            let word = bucket.cast::<u64>().add(way as usize);
            if word.read_volatile() == tag::FREE && replace(word, tag::FREE, tag::CLAIMED) {
                let index = bucket_index * BUCKET_SLOTS + way;
                let slot = maps::flow_slot(index)?;
                write_key(slot, &newcomer.key);
                (*slot).initiator = newcomer.direction;
                (*slot).ifindex = newcomer.ifindex;
                // The exchange is a full barrier: whoever sees the tag sees the key.
                replace(word, tag::CLAIMED, newcomer.hash & !tag::STATE | tag::LIVE);
                return Some(index);
            }
        }
        way += 1;
    }
    None
}

/// A key as the words in memory that it is. The hot path keeps them in registers.
pub type Words = [u64; 5];

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
