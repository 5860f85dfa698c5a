//! A table of tags and slots in memory shared with the kernel program, read and emptied without a system call per slot.

use std::io;
use std::marker::PhantomData;
use std::os::fd::AsFd as _;

use anyhow::{Context as _, Result, anyhow};
use aya::Ebpf;
use aya::maps::Map;
use sensor_ebpf::abi::tag;

use super::shared::{GracePeriod, SharedWords, Slot};

/// Userspace's side of a table of `S`.
pub struct SharedTable<S> {
    tags: SharedWords,
    slots: SharedWords,
    /// Packets of each slot at the last poll, to skip slots in which nothing has moved.
    seen: Vec<u64>,
    slot: PhantomData<S>,
}

impl<S: Slot> SharedTable<S> {
    /// Maps the two arrays of a table of `capacity` slots. They stay with `ebpf`: the programs, not loaded yet, refer to
    /// them by file descriptor.
    pub fn map(ebpf: &Ebpf, tags: &str, slots: &str, capacity: usize) -> Result<Self> {
        let tags = map_words(ebpf, tags, capacity)?;
        let slots = map_words(ebpf, slots, capacity * S::WORDS)?;
        Ok(Self { tags, slots, seen: vec![0; capacity], slot: PhantomData })
    }

    /// How many slots there are.
    pub const fn capacity(&self) -> usize {
        self.seen.len()
    }

    /// Makes a slot live that the kernel program knows by its index alone.
    pub fn reserve(&mut self, index: usize) {
        self.tags.store(index, tag::LIVE);
    }

    /// Hands over every live slot in which a packet was counted since the last poll.
    pub fn poll(&mut self, mut each: impl FnMut(u32, &S)) {
        for (index, seen) in (0_u32..).zip(&mut self.seen) {
            if self.tags.load(index as usize) & tag::STATE != tag::LIVE {
                continue;
            }
            let base = index as usize * S::WORDS;
            let [one, other] = S::PACKETS.map(|word| self.slots.load(base + word));
            let packets = one.wrapping_add(other);
            if packets != *seen {
                *seen = packets;
                each(index, &self.slots.copy_slot(base));
            }
        }
    }

    /// Takes live slots out of the table and hands over their final counters. Waits until no running program can hold
    /// one, so nothing counted is lost; a packet that arrives meanwhile starts a new slot.
    ///
    /// # Errors
    /// When the kernel refuses the update that waits; the slots then stay out of use.
    pub fn release(
        &mut self,
        grace: &GracePeriod,
        indexes: impl Iterator<Item = u32> + Clone,
        mut each: impl FnMut(u32, &S),
    ) -> io::Result<()> {
        for index in indexes.clone() {
            let index = index as usize;
            self.tags.store(index, self.tags.load(index) | tag::DEAD);
        }
        grace.wait()?;
        for id in indexes {
            let index = id as usize;
            let base = index * S::WORDS;
            each(id, &self.slots.copy_slot(base));
            self.slots.zero(base, S::WORDS);
            self.seen[index] = 0;
            self.tags.store(index, tag::FREE);
        }
        Ok(())
    }

    /// Slots that are not free.
    pub fn used(&self) -> u64 {
        (0..self.capacity()).filter(|&index| self.tags.load(index) & tag::STATE != tag::FREE).count() as u64
    }

    /// Slots that an earlier process had taken out of the table when it ended.
    pub fn dead(&self) -> Vec<u32> {
        let is_dead = |&index: &u32| self.tags.load(index as usize) & tag::STATE == tag::DEAD;
        (0..).take(self.capacity()).filter(is_dead).collect()
    }
}

/// An mmapable array as words.
pub fn map_words(ebpf: &Ebpf, name: &str, words: usize) -> Result<SharedWords> {
    let Some(Map::Array(data)) = ebpf.map(name) else {
        return Err(anyhow!("the kernel object lacks array {name}"));
    };
    SharedWords::map(data.fd().as_fd(), words).with_context(|| format!("map {name} into memory"))
}
