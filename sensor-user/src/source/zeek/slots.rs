//! The flow table of a connection log: every connection has a slot from its first packet until its flow has ended.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use sensor_core::flow::SlotId;
use sensor_core::time::Timestamp;
use sensor_ebpf::abi::FlowSlot;

use super::Connection;

/// Slots of connections that have begun.
///
/// A log says when a connection began and ended and what it moved in all, not when. Its first packet is told at its
/// beginning and the rest at its end, but that of a connection of a packet a second and more is told little by little,
/// so that much does not seem to have moved in an instant.
#[derive(Debug, Default)]
pub struct LogSlots {
    slots: Vec<Option<Connection>>,
    free: Vec<u32>,
    /// When which slot has news.
    due: BinaryHeap<Reverse<(Timestamp, u32)>>,
    /// Slots to be looked at in the next poll, with the share of their time that is over.
    news: BTreeMap<u32, f64>,
}

/// Packets a second from which a connection is told little by little.
const STEADY: f64 = 1.0;
/// How often then.
const STEP: Duration = Duration::from_secs(1);

impl LogSlots {
    /// Takes in a connection that begins.
    pub fn begin(&mut self, connection: Connection) {
        let id = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        self.news.insert(id, 0.0);
        self.due.push(Reverse((next(&connection, connection.began), id)));
        if let Some(slot) = self.slots.get_mut(id as usize) {
            *slot = Some(connection);
        }
    }

    /// When there is news next.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        self.due.peek().map(|Reverse((at, _))| *at)
    }

    /// Hands over every slot of which there is news up to `now`.
    pub fn poll(&mut self, now: Timestamp, mut each: impl FnMut(SlotId, &FlowSlot)) {
        while let Some(Reverse((at, id))) = self.due.peek().copied() {
            if at > now {
                break;
            }
            self.due.pop();
            let Some(Some(connection)) = self.slots.get(id as usize) else { continue };
            self.news.insert(id, share(connection, at));
            if at < connection.ended {
                self.due.push(Reverse((next(connection, at), id)));
            }
        }
        for (id, share) in std::mem::take(&mut self.news) {
            if let Some(Some(connection)) = self.slots.get(id as usize) {
                each(SlotId(id), &connection.slot(share));
            }
        }
    }

    /// Of slots whose flows have ended, hands over the final counters of those whose connections have, too. A connection
    /// that was silent for long goes on.
    pub fn release(&mut self, slots: &[SlotId], now: Timestamp, mut each: impl FnMut(SlotId, &FlowSlot)) {
        for &SlotId(id) in slots {
            let Some(place) = self.slots.get_mut(id as usize) else { continue };
            if let Some(connection) = place.take_if(|connection| connection.ended <= now) {
                self.free.push(id);
                each(SlotId(id), &connection.slot(1.0));
            }
        }
    }
}

fn next(connection: &Connection, at: Timestamp) -> Timestamp {
    let packets = connection.packets_of(0) + connection.packets_of(1);
    let lasts = connection.ended.since(connection.began).as_secs_f64();
    if packets as f64 >= STEADY * lasts { connection.ended.min(at + STEP) } else { connection.ended }
}

fn share(connection: &Connection, at: Timestamp) -> f64 {
    let lasts = connection.ended.since(connection.began).as_secs_f64();
    if at >= connection.ended || lasts <= 0.0 { 1.0 } else { at.since(connection.began).as_secs_f64() / lasts }
}
