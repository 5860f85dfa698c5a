//! Read-modify-write atomics of BPF (instruction set v3, kernel 5.12), which `core` lacks for this target.

use core::intrinsics::{AtomicOrdering, atomic_cxchg, atomic_xadd};

use crate::account::Adder;

/// Counters that all CPUs add to.
pub struct Shared;

impl Adder for Shared {
    #[inline(always)]
    unsafe fn add64(counter: *mut u64, value: u64) {
        // SAFETY: valid and aligned by the trait's contract; the element outlives the program's run.
        unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(counter, value) };
    }

    #[inline(always)]
    unsafe fn add32(counter: *mut u32, value: u32) {
        // SAFETY: as above.
        unsafe { atomic_xadd::<u32, u32, { AtomicOrdering::Relaxed }>(counter, value) };
    }
}

/// Replaces `old` by `new`, and says whether `old` was there. A full barrier (Linux BPF memory model).
///
/// # Safety
/// `word` is valid and aligned.
#[inline(always)]
pub unsafe fn replace(word: *mut u64, old: u64, new: u64) -> bool {
    // SAFETY: by the caller's contract.
    unsafe { atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(word, old, new).1 }
}
