//! A BPF hash map read in batches: the way to read flows that the product does not take. aya has no batch operations, so
//! this file speaks `bpf(2)`.

use std::ffi::c_long;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};

use nix::libc;

/// As long as a flow key.
type Key = [u64; 5];
/// As long as a flow entry.
type Value = [u64; 32];

/// Entries of a batch: keys and values stay in the second-level cache.
const BATCH: usize = 1024;

/// A hash map full of entries.
pub struct HashMap {
    map: OwnedFd,
    keys: Vec<Key>,
    values: Vec<Value>,
}

impl HashMap {
    /// A map with so many entries.
    pub fn full(entries: u32) -> io::Result<Self> {
        let mut attributes = CreateMap {
            map_type: BPF_MAP_TYPE_HASH,
            key_size: octets(size_of::<Key>()),
            value_size: octets(size_of::<Value>()),
            max_entries: entries,
        };
        // SAFETY: the attributes have the layout of the kernel's and hold no pointer.
        let fd = unsafe { bpf(BPF_MAP_CREATE, &raw mut attributes) }?;
        let fd = RawFd::try_from(fd).map_err(|_| io::ErrorKind::InvalidData)?;
        // SAFETY: the kernel has just returned this descriptor to us.
        let map = unsafe { OwnedFd::from_raw_fd(fd) };
        let mut filled = Self { map, keys: vec![[0; 5]; BATCH], values: vec![[1; 32]; BATCH] };
        let mut next = 0;
        while next < entries {
            let count = (entries - next).min(octets(BATCH));
            for (key, entry) in filled.keys.iter_mut().zip(next..next + count) {
                key[1] = u64::from(entry);
            }
            filled.batch(BPF_MAP_UPDATE_BATCH, None, &mut 0, count)?;
            next += count;
        }
        Ok(filled)
    }

    /// Reads every entry once, and says how many there were.
    pub fn read(&mut self) -> io::Result<u32> {
        let (mut at, mut cursor, mut entries) = (None, 0, 0);
        loop {
            let (count, ended) = self.batch(BPF_MAP_LOOKUP_BATCH, at, &mut cursor, octets(BATCH))?;
            entries += count;
            if ended {
                return Ok(entries);
            }
            at = Some(cursor);
        }
    }

    /// One batch operation on the first `count` keys and values, from the bucket `at` to the one that `next` is set to.
    /// Says how many entries were dealt with, and whether they were the last.
    fn batch(&mut self, command: c_long, at: Option<u32>, next: &mut u32, count: u32) -> io::Result<(u32, bool)> {
        let mut attributes = Batch {
            in_batch: at.as_ref().map_or(0, |at| std::ptr::from_ref(at) as u64),
            out_batch: std::ptr::from_mut(next) as u64,
            keys: self.keys.as_mut_ptr() as u64,
            values: self.values.as_mut_ptr() as u64,
            count,
            map_fd: self.map.as_raw_fd(),
            elem_flags: 0,
            flags: 0,
        };
        // SAFETY: the attributes have the layout of the kernel's; `at` and `next` outlive the call and are words, as a
        // hash map wants them; keys and values have room for a batch, and `count` is no more.
        match unsafe { bpf(command, &raw mut attributes) } {
            Ok(_) => Ok((attributes.count, false)),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok((attributes.count, true)),
            Err(error) => Err(error),
        }
    }
}

const BPF_MAP_CREATE: c_long = 0;
const BPF_MAP_LOOKUP_BATCH: c_long = 24;
const BPF_MAP_UPDATE_BATCH: c_long = 26;
const BPF_MAP_TYPE_HASH: u32 = 1;

/// The beginning of `union bpf_attr` for `BPF_MAP_CREATE`; the kernel takes the rest as zero.
#[repr(C)]
struct CreateMap {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
}

/// The beginning of `union bpf_attr` for batch operations.
#[repr(C)]
struct Batch {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: RawFd,
    elem_flags: u64,
    flags: u64,
}

/// `bpf(2)`.
///
/// # Safety
/// `attributes` has the layout that `command` expects, and its pointers are valid.
unsafe fn bpf<T>(command: c_long, attributes: *mut T) -> io::Result<c_long> {
    // SAFETY: by the caller's contract.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// A size of this file, all of which are small.
fn octets(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}
