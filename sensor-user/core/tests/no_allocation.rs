//! Watching flows that are known allocates nothing for each of them.
#![expect(clippy::cast_possible_truncation, reason = "numbers of made-up hosts and ports")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use sensor_core::engine::{Engine, EngineConfig};
use sensor_core::flow::{FlowTable, SlotId, Timeouts};
use sensor_core::time::Timestamp;
use sensor_ebpf::abi::{Addr, Direction, FlowKey, FlowSlot};
use sensor_ebpf::account::Wire;
use sensor_ebpf::packet::{Packet, proto, tcp_flags};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is passed on as it is; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // A thread that ends has no counter any more.
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: by the caller's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: by the caller's contract.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

const START: u64 = 1_700_000_000;
const WARM_UP: u64 = 130;
const TICKS: u64 = 120;

/// Connections and streams of datagrams between a hundred clients and ten servers.
struct Flows(Vec<FlowSlot>);

impl Flows {
    fn new(count: u32) -> Self {
        let slot = |n: u32| {
            let (client, server) = (Addr::from_v4(0x0a00_0000 + n % 100), Addr::from_v4(0xc0a8_0000 + n % 10));
            let protocol = if n.is_multiple_of(4) { proto::UDP } else { proto::TCP };
            let (key, way) = FlowKey::canonical(client, 1024 + (n / 100) as u16, server, 443, protocol);
            FlowSlot { key, initiator: way as u8, ..FlowSlot::default() }
        };
        Self((0..count).map(slot).collect())
    }

    /// A packet each way in every flow.
    fn change(&mut self, now: Timestamp) {
        for slot in &mut self.0 {
            let packet = Packet {
                proto: slot.key.proto,
                tcp_flags: tcp_flags::ACK,
                ip_octets: 140,
                header_octets: 40,
                ..Packet::default()
            };
            for way in [Direction::LoToHi, Direction::HiToLo] {
                slot.observe(&packet, &Wire::single(&packet), way, now.nanos());
            }
        }
    }

    fn ids(&self) -> impl Iterator<Item = (SlotId, &FlowSlot)> {
        (0..).map(SlotId).zip(&self.0)
    }
}

/// Allocations of 120 ticks, after what is needed for the first time is there.
fn of_the_table(count: u32) -> u64 {
    let mut table = FlowTable::new(Some(Timeouts::default()));
    let mut flows = Flows::new(count);
    let mut run = |seconds: std::ops::Range<u64>| {
        for second in seconds {
            let now = Timestamp::from_secs(START + second);
            flows.change(now - Duration::from_millis(1));
            for (id, slot) in flows.ids() {
                table.observe(id, slot, 0, now);
            }
            assert!(table.expire(now).is_empty());
            table.overdue(now, |_| ());
        }
    };
    run(0..WARM_UP);
    allocations(|| run(WARM_UP..WARM_UP + TICKS))
}

fn of_the_engine(count: u32) -> u64 {
    let mut engine = Engine::new(EngineConfig::default());
    let mut flows = Flows::new(count);
    let mut run = |seconds: std::ops::Range<u64>| {
        for second in seconds {
            let now = Timestamp::from_secs(START + second);
            flows.change(now - Duration::from_millis(1));
            for (id, slot) in flows.ids() {
                engine.observe(id, slot, 0, now);
            }
            assert!(engine.expire(now).is_empty());
            assert!(engine.tick(now).is_empty());
        }
    };
    run(0..WARM_UP);
    allocations(|| run(WARM_UP..WARM_UP + TICKS))
}

#[test]
fn the_flow_table_allocates_nothing_for_flows_it_knows() {
    let (few, many) = (of_the_table(100), of_the_table(10_000));
    assert!(many <= few + 100, "{few} allocations for 100 flows, {many} for 10,000, in {TICKS} ticks");
}

#[test]
fn the_engine_allocates_nothing_for_flows_it_knows() {
    let (few, many) = (of_the_engine(1_000), of_the_engine(10_000));
    assert!(many <= few + few / 4 + 100, "{few} allocations for 1,000 flows, {many} for 10,000, in {TICKS} ticks");
    assert!(many < 100 * TICKS, "{many} allocations in {TICKS} ticks");
}

#[test]
fn a_flow_takes_at_most_two_hundred_octets() {
    // Two mentions in the wheel, one among the pending, and the packets that the source remembers.
    assert!(FlowTable::SLOT_OCTETS + 3 * size_of::<SlotId>() + 8 <= 200);
}
