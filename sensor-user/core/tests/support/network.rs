//! An engine with one-second ticks, and the made-up network it watches.
#![allow(dead_code, clippy::cast_possible_truncation, reason = "each test uses its part, with made-up hosts and ports")]

use std::net::IpAddr;
use std::time::Duration;

use sensor_core::engine::{Engine, EngineConfig};
use sensor_core::flow::{AggregateId, Delta, Endpoint, FlowEvent, FlowRecord, Lengths, MemorySlots, Outcome, Side};
use sensor_core::incident::{Change, IncidentEvent};
use sensor_core::time::Timestamp;
use sensor_ebpf::abi::Aggregate;
use sensor_ebpf::account::{Plain, Wire};
use sensor_ebpf::overflow::Stray;
use sensor_ebpf::packet::{Packet, proto, tcp_flags};

pub const SYN: u8 = tcp_flags::SYN;
pub const ACK: u8 = tcp_flags::ACK;
pub const RST: u8 = tcp_flags::RST;
pub const FIN: u8 = tcp_flags::FIN;
pub const PSH: u8 = tcp_flags::PSH;

pub const START: u64 = 1_700_000_000;

pub type End = (IpAddr, u16);

pub fn host(last: u32) -> IpAddr {
    IpAddr::from([10, (last >> 16) as u8, (last >> 8) as u8, last as u8])
}

/// An engine with one-second ticks, and the network it watches.
pub struct Network {
    pub engine: Engine,
    pub slots: MemorySlots,
    /// What the kernel program would sum up while its flow table is closed to strangers; the first is nobody's.
    pub aggregates: Vec<Aggregate>,
    pub now: Timestamp,
    pub next_tick: Timestamp,
    pub events: Vec<IncidentEvent>,
    pub records: Vec<FlowRecord>,
}

impl Network {
    pub fn new(config: EngineConfig) -> Self {
        let now = Timestamp::from_secs(START);
        let config = EngineConfig { keep_records: true, ..config };
        Self {
            engine: Engine::new(config),
            slots: MemorySlots::default(),
            aggregates: vec![Aggregate::EMPTY],
            now,
            next_tick: now + Duration::from_secs(1),
            events: Vec::new(),
            records: Vec::new(),
        }
    }

    pub fn packet(&mut self, proto: u8, from: End, to: End, flags: u8, payload: u32) {
        let packet = packet(proto, from, to, flags, payload);
        self.slots.observe(&packet, self.now.nanos());
    }

    /// An echo request, and its answer.
    pub fn ping(&mut self, from: IpAddr, to: IpAddr) {
        for (from, to, kind) in [(from, to, 8), (to, from, 0)] {
            let echo = Packet { window: kind << 8, ..packet(proto::ICMP, (from, 0), (to, 0), 0, 64) };
            self.slots.observe(&echo, self.now.nanos());
        }
    }

    /// An ICMP or ICMPv6 message of a type, with so many octets beyond a header of 40.
    pub fn icmp(&mut self, from: IpAddr, to: IpAddr, kind: u16, payload: u32) {
        let protocol = if from.is_ipv4() { proto::ICMP } else { proto::ICMPV6 };
        let message = Packet { window: kind << 8, ..packet(protocol, (from, 0), (to, 0), 0, payload) };
        self.slots.observe(&message, self.now.nanos());
    }

    /// An announcement of a window of zero.
    pub fn zero_window(&mut self, from: End, to: End) {
        let segment = Packet { window: 0, ..packet(proto::TCP, from, to, ACK, 0) };
        self.slots.observe(&segment, self.now.nanos());
    }

    /// A packet that finds no room in the flow table and whose receiver is the subject, or whose sender is.
    pub fn stray(&mut self, proto: u8, from: End, to: End, flags: u8, sent: bool) {
        let packet = packet(proto, from, to, flags, 0);
        let stray = Stray::new(&packet, sent);
        let known = self.aggregates.iter().position(|known| (known.subject, known.proto) == (stray.subject, proto));
        let index = known.unwrap_or_else(|| {
            self.aggregates.push(Aggregate { subject: stray.subject, proto, ..Aggregate::EMPTY });
            self.aggregates.len() - 1
        });
        // SAFETY: an exclusive reference is valid, aligned and owned.
        unsafe {
            stray.account::<Plain>(&mut self.aggregates[index], &packet, &Wire::single(&packet), self.now.nanos(), 7);
        }
    }

    pub fn tcp(&mut self, from: End, to: End, flags: u8, payload: u32) {
        self.packet(proto::TCP, from, to, flags, payload);
    }

    pub fn wait(&mut self, micros: u64) {
        self.now = self.now + Duration::from_micros(micros);
        while self.now >= self.next_tick {
            self.tick();
        }
    }

    pub fn tick(&mut self) {
        let now = self.next_tick;
        let engine = &mut self.engine;
        self.slots.poll(|id, slot| engine.observe(id, slot, 0, now));
        let ended = engine.expire(now);
        self.slots.release(&ended, |id, slot| engine.retire(id, slot, 0, now));
        for (id, aggregate) in (0..).map(AggregateId).zip(&self.aggregates).skip(1) {
            engine.observe_aggregate(id, aggregate, 0);
        }
        self.events.extend(engine.tick(now));
        engine.fit();
        self.records.extend(engine.take_records());
        self.next_tick = self.next_tick + Duration::from_secs(1);
    }

    pub fn seconds(&mut self, seconds: u64) {
        self.wait(seconds * 1_000_000);
    }

    /// A whole conversation: handshake, request, answer, FIN from both.
    pub fn conversation(&mut self, client: End, server: End, request: u32, answer: u32) {
        self.handshake(client, server);
        self.tcp(client, server, PSH | ACK, request);
        self.tcp(server, client, PSH | ACK, answer);
        self.goodbye(client, server);
    }

    pub fn handshake(&mut self, client: End, server: End) {
        self.tcp(client, server, SYN, 0);
        self.tcp(server, client, SYN | ACK, 0);
        self.tcp(client, server, ACK, 0);
    }

    pub fn goodbye(&mut self, client: End, server: End) {
        self.tcp(client, server, FIN | ACK, 0);
        self.tcp(server, client, FIN | ACK, 0);
    }

    /// A failed log-in at a service that greets first.
    pub fn attempt(&mut self, client: End, server: End, answer: u32) {
        self.handshake(client, server);
        self.tcp(server, client, PSH | ACK, 40);
        self.tcp(client, server, PSH | ACK, 120);
        self.tcp(server, client, PSH | ACK, answer);
        self.goodbye(client, server);
    }

    pub fn opened(&self) -> Vec<&IncidentEvent> {
        self.events.iter().filter(|event| event.change == Change::Opened).collect()
    }

    pub fn only(&self) -> &IncidentEvent {
        let opened = self.opened();
        assert_eq!(opened.len(), 1, "{opened:#?}");
        opened[0]
    }
}

pub fn network() -> Network {
    Network::new(EngineConfig::default())
}

/// The first event of a flow that was served, with a few short packets.
pub fn served(proto: u8, client: End, server: End, at: Timestamp) -> FlowEvent {
    let syns = u64::from(proto == proto::TCP);
    FlowEvent {
        client: Endpoint { addr: client.0.into(), port: client.1 },
        server: Endpoint { addr: server.0.into(), port: server.1 },
        proto,
        is_new: true,
        before: Outcome::Served,
        outcome: Outcome::Served,
        first_seen: at,
        last_seen: at,
        sent: Delta { packets: 3, octets: 150, len_sq: 7500, syns },
        received: Delta { packets: 1, octets: 60, len_sq: 3600, syns },
        sent_packets: 3,
        received_packets: 1,
        sent_octets: 150,
        received_octets: 60,
        sent_lengths: Lengths { min: 40, max: 60 },
        received_lengths: Lengths { min: 60, max: 60 },
        zero_windows: 0,
        client_ttl: 64,
        sent_pushes: u32::from(proto == proto::TCP),
        received_pushes: 0,
        received_kind: 0,
        first_speaker: Some(Side::Client),
        closing: false,
        closing_is_new: false,
        completed: proto == proto::TCP,
        completed_is_new: proto == proto::TCP,
    }
}

fn packet(proto: u8, from: End, to: End, flags: u8, payload: u32) -> Packet {
    Packet {
        src: from.0.into(),
        dst: to.0.into(),
        src_port: from.1,
        dst_port: to.1,
        proto,
        ttl: 64,
        tcp_flags: flags,
        window: if proto == proto::TCP { 64_240 } else { 0 },
        ip_octets: 40 + payload,
        header_octets: 40,
        ..Packet::default()
    }
}
