//! Overflow aggregates: a table like that of the flows, of the hosts that strays have in common.

use super::atomic::{Shared, replace};
use super::maps;
use crate::abi::{AGGREGATES, Aggregate, BUCKET_SLOTS, Hook, tag};
use crate::account::Wire;
use crate::hash::Hash;
use crate::overflow::Stray;

/// Accounts the packet of the newcomer, whose flow has no slot.
#[inline(always)]
pub fn account() {
    leuko_overflow();
}

/// Adds a packet to the aggregate of its receiver or sender. Global for the verifier's sake, like `leuko_claim`.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn leuko_overflow() -> u32 {
    let (Some(newcomer), Some([packet, _])) = (maps::newcomer(), maps::packets()) else {
        return 0;
    };
    // SAFETY: this CPU's own elements, which nobody writes meanwhile.
    let (newcomer, packet) = unsafe { (&*newcomer, &*packet) };
    let wire = Wire { packets: newcomer.packets, octets: newcomer.octets, full_len: 0, last_len: 0 };
    let hook = if newcomer.hook == Hook::Ingress as u8 { Hook::Ingress } else { Hook::Egress };
    let sent = Stray::sender_is_subject(packet, hook);
    let class = Stray::class(packet.proto);
    let (preferred, other) = (Stray::new(packet, sent), Stray::new(packet, !sent));
    let (index, stray) = if let Some(index) = find(&preferred, class) {
        (index, preferred)
    } else if let Some(index) = find(&other, class) {
        (index, other)
    } else {
        (claim(&preferred, class), preferred)
    };
    if let Some(aggregate) = maps::aggregate(index) {
        // SAFETY: an element of a preallocated array; userspace recycles it only after a grace period.
        unsafe { stray.account::<Shared>(aggregate, packet, &wire, newcomer.now_ns, maps::seed()) };
    }
    0
}

#[inline(always)]
fn find(stray: &Stray, proto: u8) -> Option<u32> {
    let hash = hash(stray, proto);
    let [first, second] = buckets_of(hash);
    if let Some(index) = find_in(first, hash, stray, proto) {
        return Some(index);
    }
    find_in(second, hash, stray, proto)
}

#[inline(always)]
fn find_in(bucket_index: u32, hash: u64, stray: &Stray, proto: u8) -> Option<u32> {
    let bucket = maps::aggregate_tags(bucket_index)?;
    let mut way = 0;
    while way < BUCKET_SLOTS {
        // SAFETY: an aligned element of the bucket; reads may race, which is harmless.
        let found = unsafe { bucket.cast::<u64>().add(way as usize).read_volatile() };
        if found == hash & !tag::STATE | tag::LIVE {
            let index = bucket_index * BUCKET_SLOTS + way;
            let aggregate = maps::aggregate(index)?;
            // SAFETY: subject and protocol of a live aggregate do not change until a grace period has passed.
            let (subject, of) = unsafe { ((*aggregate).subject, (*aggregate).proto) };
            if subject.low == stray.subject.low && subject.high == stray.subject.high && of == proto {
                return Some(index);
            }
        }
        way += 1;
    }
    None
}

/// A new aggregate, or the first one, which takes what finds no other.
#[inline(always)]
fn claim(stray: &Stray, proto: u8) -> u32 {
    let hash = hash(stray, proto);
    let [first, second] = buckets_of(hash);
    if let Some(index) = claim_in(first, hash, stray, proto) {
        return index;
    }
    claim_in(second, hash, stray, proto).unwrap_or(0)
}

#[inline(always)]
fn claim_in(bucket_index: u32, hash: u64, stray: &Stray, proto: u8) -> Option<u32> {
    let bucket = maps::aggregate_tags(bucket_index)?;
    let mut way = 0;
    while way < BUCKET_SLOTS {
        let index = bucket_index * BUCKET_SLOTS + way;
        // SAFETY: an aligned element of the bucket.
        unsafe {
            let word = bucket.cast::<u64>().add(way as usize);
            if index != 0 && word.read_volatile() == tag::FREE && replace(word, tag::FREE, tag::CLAIMED) {
                let aggregate = maps::aggregate(index)?;
                (*aggregate).subject = stray.subject;
                (*aggregate).proto = proto;
                // The exchange is a full barrier: whoever sees the tag sees the subject.
                replace(word, tag::CLAIMED, hash & !tag::STATE | tag::LIVE);
                return Some(index);
            }
        }
        way += 1;
    }
    None
}

#[inline(always)]
fn hash(stray: &Stray, proto: u8) -> u64 {
    Hash::new(maps::seed()).word(stray.subject.high).word(stray.subject.low).word(u64::from(proto)).finish()
}

#[inline(always)]
const fn buckets_of(hash: u64) -> [u32; 2] {
    const MASK: u32 = AGGREGATES / BUCKET_SLOTS - 1;
    [(hash >> 32) as u32 & MASK, (hash >> 48) as u32 & MASK]
}

const _: () = assert!((AGGREGATES / BUCKET_SLOTS).is_power_of_two() && size_of::<Aggregate>().is_multiple_of(8));
