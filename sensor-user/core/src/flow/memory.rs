//! The flow table of a capture: what the kernel's maps are to a live source, filled by the same accounting code.

use std::collections::HashMap;

use sensor_ebpf::abi::{ArpMessage, Counters, FRAGMENT_ENTRIES, FlowKey, FlowSlot, Reason};
use sensor_ebpf::account::Wire;
use sensor_ebpf::fragment::Place;
use sensor_ebpf::packet::arp::{self, Cast};
use sensor_ebpf::packet::{Fragment, Packet, Reader, ethertype, parse_network, quoted, skip_ethernet};

use super::SlotId;

/// The hook of a capture: does to each frame what the kernel program does, but has room for every flow.
#[derive(Debug)]
pub struct MemoryHook {
    /// The flows.
    pub slots: MemorySlots,
    /// What was counted so far.
    pub counters: Counters,
    /// ARP messages since they were last taken out.
    pub arp: Vec<ArpMessage>,
    tunnels: u32,
    fragments: Vec<u64>,
}

impl MemoryHook {
    /// A hook that has seen nothing and looks into `tunnels` (see [`sensor_ebpf::packet::tunnel`]).
    #[must_use]
    pub fn new(tunnels: u32) -> Self {
        Self {
            slots: MemorySlots::default(),
            counters: Counters::default(),
            arp: Vec::new(),
            tunnels,
            fragments: vec![0; FRAGMENT_ENTRIES as usize],
        }
    }

    /// Accounts an Ethernet frame, `now_ns` being the time since the epoch and not zero.
    pub fn observe_ethernet<R: Reader>(&mut self, frame: &R, now_ns: u64) {
        match Cast::of(frame) {
            Cast::Unicast => {}
            Cast::Multicast => self.counters.multicast += 1,
            Cast::Broadcast => self.counters.broadcast += 1,
        }
        let network = skip_ethernet(frame, 0);
        if let Ok((ethertype::ARP, offset)) = network
            && let Some(message) = arp::parse(frame, offset)
        {
            self.arp.push(ArpMessage { time_ns: now_ns, ..message });
        }
        self.observe_network(frame, network, now_ns);
    }

    /// Accounts a frame whose network layer, an EtherType and where it begins, is known, or the reason why not.
    pub fn observe_network<R: Reader>(&mut self, frame: &R, network: Result<(u16, usize), Reason>, now_ns: u64) {
        self.counters.packets += 1;
        match network.and_then(|(kind, offset)| parse_network(frame, kind, offset, self.tunnels)) {
            Ok(packet) => self.observe_packet(frame, packet, now_ns),
            Err(reason) => self.counters.unaccounted[reason as usize] += 1,
        }
    }

    fn observe_packet<R: Reader>(&mut self, frame: &R, mut packet: Packet, now_ns: u64) {
        self.counters.octets += u64::from(packet.ip_octets);
        if packet.fragment != Fragment::Whole {
            self.resolve_fragment(&mut packet, now_ns);
        }
        if packet.is_icmp_error()
            && let Some(key) = quoted(frame, &packet)
        {
            self.slots.observe_icmp_error(&key, packet.window);
        }
        self.slots.observe(&packet, now_ns);
    }

    fn resolve_fragment(&mut self, packet: &mut Packet, now_ns: u64) {
        let place = Place::of(packet, 0);
        let entry = &mut self.fragments[place.index as usize];
        if packet.fragment == Fragment::First {
            *entry = place.word(packet, now_ns);
            return;
        }
        self.counters.fragments += 1;
        match place.ports(*entry, now_ns) {
            Some(ports) => (packet.src_port, packet.dst_port) = ports,
            None => self.counters.orphan_fragments += 1,
        }
    }
}

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
        self.mark(id);
    }

    /// Notes an ICMP error that quotes a packet of a flow, if the flow is known. As in the kernel's table, that alone is
    /// no reason to hand the slot over at the next poll.
    pub fn observe_icmp_error(&mut self, key: &FlowKey, kind: u16) {
        if let Some(&id) = self.index.get(key) {
            self.slots[id as usize].observe_icmp_error(kind);
        }
    }

    fn mark(&mut self, id: u32) {
        let is_dirty = &mut self.is_dirty[id as usize];
        if !*is_dirty {
            *is_dirty = true;
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
