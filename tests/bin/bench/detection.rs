//! What a flow costs from the slot to the incident, and what all of detection costs at a rate.
#![expect(clippy::cast_possible_truncation, reason = "numbers of made-up hosts")]

use std::time::Duration;

use sensor_core::engine::{Engine, EngineConfig};
use sensor_core::flow::SlotId;
use sensor_core::time::Timestamp;
use sensor_ebpf::abi::{Addr, Direction, FlowKey, FlowSlot};
use sensor_ebpf::account::Wire;
use sensor_ebpf::packet::{Packet, proto, tcp_flags};

use crate::report::Report;

const SECOND: u64 = 1_000_000_000;
const START: u64 = 1_700_000_000 * SECOND;

/// Who talks to whom.
#[derive(Clone, Copy)]
struct Scene {
    name: &'static str,
    clients: u64,
    servers: u64,
    /// Flows begun in a second.
    rate: u64,
    flows: u64,
    /// Event time of learning.
    warmup: Duration,
}

/// Time spent in each call, over all flows.
#[derive(Default)]
struct Spent {
    begun: Duration,
    served: Duration,
    expired: Duration,
    retired: Duration,
    ticked: Duration,
    longest: Duration,
}

fn slot(scene: Scene, n: u64) -> FlowSlot {
    let client = Addr::from_v4(0x0a00_0000 + (n % scene.clients) as u32);
    let server = Addr::from_v4(0xc0a8_0000 + (n % scene.servers) as u32);
    let (key, direction) =
        FlowKey::canonical(client, 1024 + (n / scene.clients % 60_000) as u16, server, 443, proto::TCP);
    FlowSlot { key, initiator: direction as u8, ..FlowSlot::default() }
}

fn packet(slot: &mut FlowSlot, from_client: bool, tcp_flags: u8, payload: u32, now_ns: u64) {
    let packet =
        Packet { proto: proto::TCP, tcp_flags, ip_octets: 40 + payload, header_octets: 40, ..Packet::default() };
    let client = if slot.initiator == 0 { Direction::LoToHi } else { Direction::HiToLo };
    let way = if from_client { client } else { client.reverse() };
    slot.observe(&packet, &Wire::single(&packet), way, now_ns);
}

fn conversation(slot: &mut FlowSlot, now_ns: u64) {
    const ACK: u8 = tcp_flags::ACK;
    packet(slot, false, tcp_flags::SYN | ACK, 0, now_ns);
    packet(slot, true, ACK, 0, now_ns + 1000);
    packet(slot, true, ACK | tcp_flags::PSH, 300 + (now_ns % 97) as u32, now_ns + 2000);
    packet(slot, false, ACK | tcp_flags::PSH, 5000, now_ns + 3000);
    packet(slot, true, ACK | tcp_flags::FIN, 0, now_ns + 4000);
    packet(slot, false, ACK | tcp_flags::FIN, 0, now_ns + 5000);
}

/// Each second, flows of the second before are served and closed, and new ones begin: each is seen twice, and retired.
fn run(scene: Scene) -> (Spent, Engine) {
    let mut engine = Engine::new(EngineConfig { warmup: scene.warmup, ..EngineConfig::default() });
    let mut spent = Spent::default();
    let mut slots: Vec<FlowSlot> = Vec::new();
    let mut free: Vec<u32> = Vec::new();
    let mut young: Vec<u32> = Vec::new();
    let timed = |total: &mut Duration, work: &mut dyn FnMut()| {
        let begun = processor_time();
        work();
        *total += processor_time().saturating_sub(begun);
    };
    for second in 0..scene.flows / scene.rate + 8 {
        let now_ns = START + second * SECOND;
        let now = Timestamp::from_nanos(now_ns + SECOND);
        let closing = std::mem::take(&mut young);
        closing.iter().for_each(|&id| conversation(&mut slots[id as usize], now_ns + 1));
        if second < scene.flows / scene.rate {
            for n in 0..scene.rate {
                let mut fresh = slot(scene, second * scene.rate + n);
                packet(&mut fresh, true, tcp_flags::SYN, 0, now_ns + n * (SECOND / scene.rate) + 1);
                let id = free.pop().unwrap_or_else(|| {
                    slots.push(FlowSlot::default());
                    slots.len() as u32 - 1
                });
                slots[id as usize] = fresh;
                young.push(id);
            }
        }
        let see = |engine: &mut Engine, ids: &[u32], total: &mut Duration| {
            timed(total, &mut || ids.iter().for_each(|&id| engine.observe(SlotId(id), &slots[id as usize], 0, now)));
        };
        see(&mut engine, &closing, &mut spent.served);
        see(&mut engine, &young, &mut spent.begun);
        let mut ended = Vec::new();
        timed(&mut spent.expired, &mut || ended = engine.expire(now));
        timed(&mut spent.retired, &mut || {
            for &id in &ended {
                engine.retire(id, &slots[id.0 as usize], 0, now);
            }
        });
        free.extend(ended.iter().map(|id| id.0));
        let before = spent.ticked;
        timed(&mut spent.ticked, &mut || drop(engine.tick(now)));
        spent.longest = spent.longest.max(spent.ticked - before);
        engine.fit();
        engine.take_scores();
    }
    (spent, engine)
}

/// Of one core, what detection may cost at 1,000 new flows a second and 10,000 hosts.
const LIMIT: f64 = 0.05;

/// Adds a line for each scene.
pub fn measure(report: &mut Report) {
    let learning = Duration::from_secs(5);
    let scene =
        |name, clients, servers| Scene { name, clients, servers, rate: 50_000, flows: 500_000, warmup: Duration::ZERO };
    let office = Scene { rate: 1000, flows: 200_000, warmup: learning, ..scene("", 9_000, 1_000) };
    let before = resident_kib();
    let (spent, engine) = run(office);
    let resident = resident_kib().saturating_sub(before);
    let seconds = office.flows as f64 / office.rate as f64;
    let line =
        report.add("detection: 1,000 new flows/s, 10,000 hosts", spent.total().as_secs_f64() * 1e3 / seconds, "ms/s");
    line.relative(1e3, "one core").limit(LIMIT);
    let parts =
        [("flows", spent.begun + spent.served), ("ends", spent.expired + spent.retired), ("ticks", spent.ticked)];
    for (part, spent) in parts {
        report.add(format!("detection: {part} of it"), spent.as_secs_f64() * 1e3 / seconds, "ms/s");
    }
    report.add("detection: the longest tick of it", spent.longest.as_secs_f64() * 1e3, "ms");
    report.add("detection: memory of it, with the baselines", resident as f64 / 1024.0, "MiB");
    drop(engine);
    for scene in [
        Scene { warmup: learning, ..scene("a flow, 2,000 clients, 400 servers, some scored", 2_000, 400) },
        scene("a flow, 2,000 clients, 400 servers", 2_000, 400),
        scene("a flow, 50,000 clients, 1 server", 50_000, 1),
        scene("a flow, 1 client, 1 server", 1, 1),
    ] {
        let (spent, _) = run(scene);
        report.add(format!("detection: {}", scene.name), spent.total().as_secs_f64() * 1e9 / scene.flows as f64, "ns");
    }
}

impl Spent {
    fn total(&self) -> Duration {
        self.begun + self.served + self.expired + self.retired + self.ticked
    }
}

/// Of this thread: what else the machine does is not counted.
fn processor_time() -> Duration {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
