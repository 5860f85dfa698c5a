//! The one place that speaks `bpf(2)` and `mmap(2)` by itself: memory shared with the kernel program, and the wait for
//! running programs.
#![expect(unsafe_code, reason = "shared memory and raw system calls; each use is argued")]

use std::ffi::{c_long, c_void};
use std::io;
use std::mem::{MaybeUninit, offset_of};
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use sensor_ebpf::abi::{Aggregate, ArpMessage, FlowSlot, Half};

/// What a table shared with the kernel program holds.
///
/// # Safety
/// Integers only, no padding, aligned like a word and whole words long: every bit pattern is a valid value.
pub unsafe trait Slot: Copy {
    /// Length in words.
    const WORDS: usize = size_of::<Self>() / 8;
    /// The two words that count packets.
    const PACKETS: [usize; 2];

    /// Packets counted.
    fn packets(&self) -> u64;
}

// SAFETY: integers and arrays of them; the layout asserts of the ABI leave no room for padding.
unsafe impl Slot for FlowSlot {
    const PACKETS: [usize; 2] = [offset_of!(Self, half) / 8, (offset_of!(Self, half) + size_of::<Half>()) / 8];

    fn packets(&self) -> u64 {
        self.half.iter().map(|half| half.packets).sum()
    }
}

// SAFETY: as above.
unsafe impl Slot for Aggregate {
    const PACKETS: [usize; 2] = [offset_of!(Self, packets) / 8, offset_of!(Self, packets) / 8 + 1];

    fn packets(&self) -> u64 {
        self.packets.iter().sum()
    }
}

const _: () = assert!(align_of::<FlowSlot>() == 8 && align_of::<Aggregate>() == 8);

/// A memory-mapped BPF array (`BPF_F_MMAPABLE`, Linux 5.5) as 64-bit words that the kernel program writes meanwhile.
pub struct SharedWords {
    start: NonNull<c_void>,
    words: usize,
}

// SAFETY: the mapping belongs to this value alone and every access goes through atomics.
unsafe impl Send for SharedWords {}

impl SharedWords {
    /// Maps the first `words` words of an array whose value size is a multiple of eight.
    pub fn map(fd: BorrowedFd<'_>, words: usize) -> io::Result<Self> {
        let length = NonZeroUsize::new(words * 8).ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: a new shared mapping chosen by the kernel aliases nothing of ours; its length is that of the array,
        // which the kernel checks.
        let start =
            unsafe { mmap(None, length, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED, fd, 0)? };
        Ok(Self { start, words })
    }

    fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is `words` words long, page-aligned, readable and writable until drop; the kernel program
        // writes it by aligned stores and atomics, which is what `AtomicU64` stands for.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast::<AtomicU64>(), self.words) }
    }

    /// The word at `index`, acquired: what was written before it was published is visible after it.
    pub fn load(&self, index: usize) -> u64 {
        self.words()[index].load(Ordering::Acquire)
    }

    /// Publishes a word.
    pub fn store(&self, index: usize, value: u64) {
        self.words()[index].store(value, Ordering::Release);
    }

    /// Sets bits of a word.
    pub fn set(&self, index: usize, bits: u64) {
        self.words()[index].fetch_or(bits, Ordering::Release);
    }

    /// Adds `count` to a word.
    pub fn add(&self, index: usize, count: u64) {
        self.words()[index].fetch_add(count, Ordering::Relaxed);
    }

    /// Takes `count` from a word to which the kernel adds.
    pub fn subtract(&self, index: usize, count: u64) {
        self.words()[index].fetch_sub(count, Ordering::Relaxed);
    }

    /// A copy of the slot that begins at word `base`. Counters are whole; the copy as such is not one instant.
    pub fn copy_slot<S: Slot>(&self, base: usize) -> S {
        let mut copy = MaybeUninit::<S>::uninit();
        let words = &self.words()[base..base + S::WORDS];
        for (index, from) in words.iter().enumerate() {
            // SAFETY: a slot is `WORDS` words long and aligned like one.
            unsafe { copy.as_mut_ptr().cast::<u64>().add(index).write(from.load(Ordering::Relaxed)) };
        }
        // SAFETY: every word has been written, and every bit pattern is a valid slot.
        unsafe { copy.assume_init() }
    }

    /// Zeroes `count` words from `base`.
    pub fn zero(&self, base: usize, count: usize) {
        for word in &self.words()[base..base + count] {
            word.store(0, Ordering::Relaxed);
        }
    }
}

/// A message as the ring carries it; nothing if it has another length.
pub fn arp_message(octets: &[u8]) -> Option<ArpMessage> {
    // SAFETY: integers only, no padding (layout asserts of the ABI): any octets of this length are a message.
    (octets.len() == size_of::<ArpMessage>()).then(|| unsafe { octets.as_ptr().cast::<ArpMessage>().read_unaligned() })
}

impl Drop for SharedWords {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping made in `map`, and no reference into it outlives this value.
        // An error would mean that the mapping is gone already; nothing is left to do then.
        let _ = unsafe { munmap(self.start, self.words * 8) };
    }
}

/// Waits until every program that runs now has ended.
///
/// An update of a map of maps returns only after a grace period: "wait for any running BPF programs to complete so that
/// userspace, when we return to it, knows that all programs that could be running use the new map value"
/// (kernel/bpf/syscall.c, `maybe_wait_bpf_programs`, since Linux 5.0).
pub struct GracePeriod {
    outer: OwnedFd,
    inner: OwnedFd,
}

impl GracePeriod {
    /// Creates the map of maps, with one element.
    pub fn new() -> io::Result<Self> {
        let inner = create_map(BPF_MAP_TYPE_ARRAY, 8, 0)?;
        let outer = create_map(BPF_MAP_TYPE_ARRAY_OF_MAPS, 4, inner.as_raw_fd())?;
        Ok(Self { outer, inner })
    }

    /// Returns after a grace period.
    pub fn wait(&self) -> io::Result<()> {
        let key = 0u32;
        let value = self.inner.as_raw_fd();
        let attributes = UpdateElement {
            map_fd: self.outer.as_raw_fd(),
            zero: 0,
            key: (&raw const key) as u64,
            value: (&raw const value) as u64,
            flags: 0,
        };
        // SAFETY: the attributes have the layout of the kernel's and point to live variables of the map's sizes.
        unsafe { bpf(BPF_MAP_UPDATE_ELEM, &attributes) }.map(|_| ())
    }
}

const BPF_MAP_CREATE: c_long = 0;
const BPF_MAP_UPDATE_ELEM: c_long = 2;
const BPF_MAP_TYPE_ARRAY: u32 = 2;
const BPF_MAP_TYPE_ARRAY_OF_MAPS: u32 = 12;

/// The beginning of `union bpf_attr` for `BPF_MAP_CREATE`; the kernel takes the rest as zero.
#[repr(C)]
struct CreateMap {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: RawFd,
}

/// The beginning of `union bpf_attr` for `BPF_MAP_UPDATE_ELEM`.
#[repr(C)]
struct UpdateElement {
    map_fd: RawFd,
    zero: u32,
    key: u64,
    value: u64,
    flags: u64,
}

fn create_map(map_type: u32, value_size: u32, inner_map_fd: RawFd) -> io::Result<OwnedFd> {
    let attributes = CreateMap { map_type, key_size: 4, value_size, max_entries: 1, map_flags: 0, inner_map_fd };
    // SAFETY: the attributes have the layout of the kernel's and hold no pointer.
    let fd = unsafe { bpf(BPF_MAP_CREATE, &attributes) }?;
    let fd = RawFd::try_from(fd).map_err(|_| io::ErrorKind::InvalidData)?;
    // SAFETY: the kernel has just returned this descriptor to us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `bpf(2)`.
///
/// # Safety
/// `attributes` has the layout that `command` expects, and its pointers are valid.
unsafe fn bpf<T>(command: c_long, attributes: &T) -> io::Result<c_long> {
    // SAFETY: by the caller's contract.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
