//! A capture or a log of connections through the same pipeline as live traffic, in event time: the same file gives the same output.

use std::time::Duration;

use sensor_core::contract::{BeaconLine, FlowLine, IncidentLine, Line, SummaryLine};
use sensor_core::coverage;
use sensor_core::engine::{Engine, EngineConfig};
use sensor_core::flow::{FlowRecord, MemoryHook, SlotId};
use sensor_core::incident::IncidentEvent;
use sensor_core::time::Timestamp;
use sensor_ebpf::abi::{Counters, FlowSlot, Reason};
use sensor_ebpf::packet::SliceReader;

use crate::source::pcap::{Capture, Frame, NetworkLayer};
use crate::source::zeek::{Connection, LogSlots};

/// What a replay gives, in order of event time.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Something happened to an incident.
    Incident(IncidentEvent),
    /// A flow ended (if the engine keeps records).
    Flow(Box<FlowRecord>),
    /// Somebody calls a service, more or less regularly; most regular first, before the last output.
    Beacon(BeaconLine),
    /// The last output.
    Summary(SummaryLine),
}

impl Output {
    /// The line of the JSON contract, if it has one.
    #[must_use]
    pub fn line(&self) -> Option<Line> {
        match self {
            Self::Incident(event) => IncidentLine::of(event).map(Line::Incident),
            Self::Flow(record) => Some(Line::Flow(FlowLine::from(record.as_ref()))),
            Self::Beacon(beacon) => Some(Line::Beacon(beacon.clone())),
            Self::Summary(summary) => Some(Line::Summary(summary.clone())),
        }
    }
}

/// How a capture is replayed.
#[derive(Clone, Debug)]
pub struct ReplayOptions {
    /// What is detected.
    pub engine: EngineConfig,
    /// Time between two looks at the flows, in the capture's time.
    pub interval: Duration,
    /// Tunnels whose inner packets are counted: bits of [`sensor_ebpf::packet::tunnel`].
    pub tunnels: u32,
    /// Candidates for beacons that are given, at most.
    pub beacons: usize,
}

impl Default for ReplayOptions {
    fn default() -> Self {
        Self { engine: EngineConfig::default(), interval: Duration::from_secs(1), tunnels: 0, beacons: 0 }
    }
}

/// Reads `capture` to its end or its damage, and hands every output to `emit`.
///
/// # Errors
/// Only those of `emit`, at the first of which it stops.
pub fn replay<E>(
    capture: &mut Capture,
    options: ReplayOptions,
    mut emit: impl FnMut(Output) -> Result<(), E>,
) -> Result<Counters, E> {
    let mut run = Run::new(options);
    while let Some(frame) = capture.next_frame() {
        run.advance_to(frame.at, &mut emit)?;
        run.account(&frame);
    }
    run.finish(capture.late(), &mut emit)?;
    Ok(run.hook.counters)
}

/// Takes `connections`, in order of their beginning, for what a source would have counted, and hands every output to
/// `emit`.
///
/// # Errors
/// Only those of `emit`, at the first of which it stops.
pub fn replay_connections<E>(
    connections: impl IntoIterator<Item = Connection>,
    options: ReplayOptions,
    mut emit: impl FnMut(Output) -> Result<(), E>,
) -> Result<Counters, E> {
    let mut run = Run { is_log: true, ..Run::new(options) };
    let mut latest = Timestamp::EPOCH;
    for connection in connections {
        run.advance_to(connection.began, &mut emit)?;
        latest = latest.max(connection.ended);
        for end in 0..2 {
            run.hook.counters.packets += connection.packets_of(end);
            run.hook.counters.octets += connection.octets_of(end);
        }
        run.log.begin(connection);
    }
    run.advance_to(latest, &mut emit)?;
    run.finish(0, &mut emit)?;
    Ok(run.hook.counters)
}

struct Run {
    engine: Engine,
    hook: MemoryHook,
    /// In place of the hook's flows, for a log.
    log: LogSlots,
    is_log: bool,
    beacons: usize,
    /// The counters at the last tick.
    ticked: Counters,
    interval: Duration,
    /// First and latest packet.
    span: Option<(Timestamp, Timestamp)>,
    next_tick: Timestamp,
    flows: u64,
}

impl Run {
    fn new(options: ReplayOptions) -> Self {
        Self {
            engine: Engine::new(options.engine),
            hook: MemoryHook::new(options.tunnels),
            log: LogSlots::default(),
            is_log: false,
            beacons: options.beacons,
            ticked: Counters::default(),
            interval: options.interval,
            span: None,
            next_tick: Timestamp::EPOCH,
            flows: 0,
        }
    }

    /// Ticks as often as a live sensor would have before a packet at `at`, but not through gaps in which nothing waits.
    fn advance_to<E>(&mut self, at: Timestamp, emit: &mut impl FnMut(Output) -> Result<(), E>) -> Result<(), E> {
        let Some((first, latest)) = self.span else {
            self.span = Some((at, at));
            self.next_tick = at + self.interval;
            return Ok(());
        };
        while at >= self.next_tick {
            self.tick(self.next_tick, emit)?;
            self.next_tick = self.next_tick + self.interval;
            let quiet_until = self.log.next_due().map_or(at, |due| due.min(at));
            if self.engine.is_quiescent() && quiet_until >= self.next_tick {
                let skipped = (quiet_until - Duration::from_nanos(self.next_tick.nanos())).floor(self.interval);
                self.next_tick = self.next_tick + Duration::from_nanos(skipped.nanos()) + self.interval;
            }
        }
        self.span = Some((first, latest.max(at)));
        Ok(())
    }

    fn account(&mut self, frame: &Frame<'_>) {
        let reader = SliceReader { data: frame.data, wire_len: frame.wire_len };
        // Zero means "no packet yet" to the counters.
        let now_ns = frame.at.nanos().max(1);
        let network = match frame.network_layer() {
            NetworkLayer::Ethernet => return self.hook.observe_ethernet(&reader, now_ns),
            NetworkLayer::At { ethertype, offset } => Ok((ethertype, offset)),
            NetworkLayer::Unknown => Err(Reason::LinkType),
            NetworkLayer::Truncated => Err(Reason::Truncated),
        };
        self.hook.observe_network(&reader, network, now_ns);
    }

    fn tick<E>(&mut self, now: Timestamp, emit: &mut impl FnMut(Output) -> Result<(), E>) -> Result<(), E> {
        self.poll(now);
        let ended = self.engine.expire(now);
        self.release(&ended, now);
        self.conclude(now, emit)
    }

    /// Takes flows out of the source's table.
    fn release(&mut self, ended: &[SlotId], now: Timestamp) {
        let engine = &mut self.engine;
        let mut retire = |id: SlotId, slot: &FlowSlot| engine.retire(id, slot, 0, now);
        if self.is_log {
            self.log.release(ended, now, |id, slot| retire(id, slot));
        } else {
            self.hook.slots.release(ended, |id, slot| retire(id, slot));
        }
    }

    /// As the live sensor does; a capture has no overflow aggregates, because there is room for every flow.
    fn poll(&mut self, now: Timestamp) {
        let engine = &mut self.engine;
        engine.note_coverage(coverage::ratio_between(&self.ticked, &self.hook.counters));
        self.ticked = self.hook.counters;
        self.hook.slots.poll(|id, slot| engine.observe(id, slot, 0, now));
        self.log.poll(now, |id, slot| engine.observe(id, slot, 0, now));
        self.hook.arp.drain(..).for_each(|message| engine.observe_arp(&message, 0));
    }

    fn finish<E>(&mut self, late: u64, emit: &mut impl FnMut(Output) -> Result<(), E>) -> Result<(), E> {
        let (first, latest) = self.span.unwrap_or_default();
        self.poll(latest);
        let live = self.engine.drain();
        self.release(&live, latest);
        self.conclude(latest, emit)?;
        for event in self.engine.finish(latest) {
            emit(Output::Incident(event))?;
        }
        for beacon in beacon_lines(&self.engine, self.beacons) {
            emit(Output::Beacon(beacon))?;
        }
        let mut lost = coverage::outside_flows(&self.hook.counters);
        lost.insert("late".to_owned(), late);
        emit(Output::Summary(SummaryLine {
            packets: self.hook.counters.packets,
            flows: self.flows,
            incidents: self.engine.opened_incidents(),
            lost,
            duration_s: (Timestamp::EPOCH + latest.since(first)).epoch_seconds(),
        }))
    }

    fn conclude<E>(&mut self, now: Timestamp, emit: &mut impl FnMut(Output) -> Result<(), E>) -> Result<(), E> {
        let events = self.engine.tick(now);
        self.engine.fit();
        self.flows = self.engine.ended().values().sum();
        for record in self.engine.take_records() {
            emit(Output::Flow(Box::new(record)))?;
        }
        self.engine.take_scores();
        for event in events {
            emit(Output::Incident(event))?;
        }
        Ok(())
    }
}

/// The first candidates for beacons, ranked from one.
fn beacon_lines(engine: &Engine, most: usize) -> impl Iterator<Item = BeaconLine> {
    let candidates = if most == 0 { Vec::new() } else { engine.beacons() };
    (1..).zip(candidates).take(most).map(|(rank, candidate)| BeaconLine::of(rank, &candidate))
}
