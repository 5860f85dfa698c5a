//! The flow table of a capture: what the kernel's maps are to a live source, filled by the same accounting code.

use std::collections::HashMap;

use sensor_ebpf::abi::{FlowKey, FlowSlot};
use sensor_ebpf::account::Wire;
use sensor_ebpf::packet::Packet;

use super::SlotId;

/// Slots in memory. Grows with the live flows of the capture.
#[derive(Debug, Default)]
pub struct MemorySlots {
    index: HashMap<FlowKey, u32>,
    slots: Vec<FlowSlot>,
    free: Vec<u32>,
    /// Slots touched since the last poll, in the order in which they were first touched.
    dirty: Vec<u32>,
    is_dirty: Vec<bool>,
}

impl MemorySlots {
    /// Accounts a packet, `now_ns` being the time since the epoch and not zero.
    pub fn observe(&mut self, packet: &Packet, now_ns: u64) {
        let (key, direction) =
            FlowKey::canonical(packet.src, packet.src_port, packet.dst, packet.dst_port, packet.proto);
        let id = match self.index.get(&key) {
            Some(&id) => id,
            None => {
                let id = self.claim(FlowSlot { key, initiator: direction as u8, ..FlowSlot::default() });
                self.index.insert(key, id);
                id
            }
        };
        let index = id as usize;
        self.slots[index].observe(packet, &Wire::single(packet), direction, now_ns);
        if !self.is_dirty[index] {
            self.is_dirty[index] = true;
            self.dirty.push(id);
        }
    }

    /// Live flows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there is no live flow.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Hands over every slot touched since the last poll.
    pub fn poll(&mut self, mut each: impl FnMut(SlotId, &FlowSlot)) {
        for id in self.dirty.drain(..) {
            self.is_dirty[id as usize] = false;
            each(SlotId(id), &self.slots[id as usize]);
        }
    }

    /// Takes slots out of the table and hands over their final counters.
    pub fn release(&mut self, slots: &[SlotId], mut each: impl FnMut(SlotId, &FlowSlot)) {
        for &SlotId(id) in slots {
            let slot = std::mem::take(&mut self.slots[id as usize]);
            self.index.remove(&slot.key);
            self.free.push(id);
            each(SlotId(id), &slot);
        }
    }

    fn claim(&mut self, slot: FlowSlot) -> u32 {
        if let Some(id) = self.free.pop() {
            self.slots[id as usize] = slot;
            return id;
        }
        let id = u32::try_from(self.slots.len()).expect("a capture has fewer than 2^32 live flows");
        self.slots.push(slot);
        self.is_dirty.push(false);
        id
    }
}
