//! The live sensor: polls the kernel once an interval, and hands on what the engine finds.

mod baseline_file;
mod beacon_file;
mod cadence;
mod conditions;
mod decider;
mod fitting;
mod own_traffic;
mod telemetry;

pub use baseline_file::{BaselineFile, read as read_baseline};
pub use beacon_file::BeaconFile;
pub use decider::Decider;
pub use fitting::Fitting;
pub use own_traffic::OwnTraffic;
pub use telemetry::{Telemetry, VOCABULARY};

use std::io;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use sensor_core::coverage::{self, Held};
use sensor_core::engine::Engine;
use sensor_core::incident::IncidentEvent;
use sensor_core::service::Attempt;
use sensor_core::time::Timestamp;
use sensor_ebpf::abi::{Addr, Counters};
use tracing::{info, warn};

use cadence::{Pressure, pause};

use crate::canary::{Report, Schedule};
use crate::source::kernel::KernelSource;
use crate::source::kernel::watch::{Host, Watch};

/// How often it is looked who is never to be blocked.
const LOOK: Duration = Duration::from_secs(5);
/// Part of the time that may go into it: a full routing table of the Internet takes a while.
const LOOKING: u32 = 100;

/// The two clocks that event time is made of.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Wall clock: event time.
    pub epoch: Timestamp,
    /// What to add to the kernel's monotonic clock to get the wall clock.
    pub epoch_ns: u64,
}

/// Reads both clocks and a stopwatch; only `app.rs` has real ones.
pub trait Clocks {
    /// Both clocks at this instant.
    fn now(&self) -> Now;
    /// Time since an arbitrary point, to measure durations.
    fn stopwatch(&self) -> Duration;
}

/// A source, an engine and what they need to go on.
pub struct Live<C> {
    /// The kernel program.
    pub source: KernelSource,
    /// The interfaces it is attached to.
    pub watch: Watch,
    /// Flows to incidents.
    pub engine: Engine,
    /// Time.
    pub clocks: C,
    /// Time between polls of a table that is at ease.
    pub interval: Duration,
    /// The source looks at one packet of so many, and multiplies what it counts; 0 or 1 for every one.
    pub sampling: u32,
    /// Endpoints that are the sensor's own.
    pub own: OwnTraffic,
    /// Where the baselines of flows and of hosts are kept.
    pub baselines: [BaselineFile; 2],
    /// Where the calls are kept that beacons are found in.
    pub beacons: BeaconFile,
    /// Where new ones are fitted.
    pub fitting: Fitting,
    /// What people decide meanwhile.
    pub decisions: Decider,
    /// The self-test, if it is wanted.
    pub canary: Option<Schedule>,
}

impl<C: Clocks> Live<C> {
    /// Polls until `stop` is ready, then detaches, takes in what is left, and closes every incident. What is pinned stays
    /// attached, with its live flows, for the next process. `each` is called at every tick, the last one included.
    ///
    /// # Errors
    /// When the kernel's tables cannot be read.
    pub async fn run(
        &mut self,
        stop: impl Future<Output = ()>,
        mut each: impl FnMut(&mut Engine, &Tick) -> Result<()>,
    ) -> Result<()> {
        self.adopt();
        let at = self.clocks.stopwatch();
        let mut then = Then { at, look_at: at + LOOK, counters: self.source.counters()? };
        let (mut due, mut step) = (then.at, self.interval);
        tokio::pin!(stop);
        loop {
            let now = self.clocks.stopwatch();
            due = (due + step).max(now);
            tokio::select! {
                () = &mut stop => break,
                () = tokio::time::sleep(due - now) => {}
            }
            let tick = self.tick(&mut then, false)?;
            each(&mut self.engine, &tick)?;
            let pressure = self.pressure(&tick);
            self.engine.set_pressure(pressure.is_high());
            step = pause(self.interval, pressure);
        }
        if let Some(schedule) = &self.canary {
            schedule.canaries.cage().leave(&mut self.source);
        }
        if self.source.is_pinned() {
            info!("leaving the programs attached");
        } else {
            info!("detaching");
            self.source.detach();
        }
        let tick = self.tick(&mut then, true)?;
        each(&mut self.engine, &tick)
    }

    /// Takes in the flows that an earlier process has left in the tables, without taking them for news.
    fn adopt(&mut self) {
        if self.source.resumed().is_none() {
            return;
        }
        let Now { epoch: now, epoch_ns } = self.clocks.now();
        let engine = &mut self.engine;
        self.source.poll(|id, slot| engine.adopt(id, slot, epoch_ns, now));
        self.source.poll_aggregates(|id, aggregate| engine.adopt_aggregate(id, aggregate, epoch_ns));
        info!(flows = engine.live_flows(), "going on with what an earlier process has left");
    }

    fn pressure(&self, tick: &Tick) -> Pressure {
        let overflowed = tick.moved.overflowed != [0; 2];
        Pressure { live: self.source.live(), capacity: self.source.capacity() as u64, overflowed }
    }

    fn tick(&mut self, then: &mut Then, last: bool) -> Result<Tick> {
        let begun = self.clocks.stopwatch();
        let Now { epoch: now, epoch_ns } = self.clocks.now();
        if let Some(endpoints) = self.own.changed() {
            self.engine.set_own_endpoints(endpoints);
        }
        self.decisions.apply(&mut self.engine);
        if !last {
            self.watch.reconcile(&mut self.source, begun);
        }
        let interval = self.interval;
        let engine = &mut self.engine;
        let mut canary =
            (self.canary.as_mut().filter(|_| !last)).and_then(|schedule| schedule.before_tick(interval, now, engine));
        let before = coverage::total(&self.source.counters()?);
        let engine = &mut self.engine;
        self.source.poll(|id, slot| engine.observe(id, slot, epoch_ns, now));
        self.source.poll_aggregates(|id, aggregate| engine.observe_aggregate(id, aggregate, epoch_ns));
        self.source.take_arp(|message| engine.observe_arp(message, epoch_ns));
        let polled = self.clocks.stopwatch().saturating_sub(begun);
        self.release(epoch_ns, now, last).context("wait for running programs before reusing slots")?;
        let counters = self.source.counters()?;
        let after = coverage::total(&counters);
        let coverage = coverage::ratio_between(&coverage::total(&then.counters), &after);
        let held = Held { earlier: self.source.resumed().unwrap_or(0), ..self.engine.held().looked_at(self.sampling) };
        let gap = coverage::gap(&before, held, &after);
        let engine = &mut self.engine;
        engine.note_coverage(coverage);
        let mut events = engine.tick(now);
        if last {
            events.extend(engine.finish(now));
        }
        canary = canary.or_else(|| self.canary.as_mut()?.canaries.look(engine, epoch_ns));
        self.fitting.tick(engine);
        let [flows, hosts] = &mut self.baselines;
        flows.save_if_newer(engine.baseline());
        hosts.save_if_newer(engine.host_anomaly().learner().baseline());
        self.beacons.save_when_due(engine, now, last);
        let took = self.clocks.stopwatch().saturating_sub(begun);
        if took > self.interval {
            warn!(took_ms = took.as_millis(), "a tick took longer than the interval");
        }
        let (attempts, proven) = engine.take_attempts();
        let moved = Moved::between(&then.counters, &counters);
        let elapsed = begun.saturating_sub(then.at);
        let looks_at = self.clocks.stopwatch();
        let hosts = (looks_at >= then.look_at).then(|| self.watch.hosts());
        let looked = self.clocks.stopwatch().saturating_sub(looks_at);
        let look_at = if hosts.is_some() { looks_at + LOOK.max(looked * LOOKING) } else { then.look_at };
        *then = Then { at: begun, look_at, counters };
        Ok(Tick {
            now,
            elapsed,
            events: events.into_iter().map(Arc::new).collect(),
            counters,
            moved,
            coverage,
            gap,
            capacity: self.source.capacity(),
            program_runs: self.source.run_stats(),
            polled,
            took,
            canary,
            attempts,
            proven,
            hosts,
            last,
        })
    }

    /// Takes what has ended out of the kernel's tables; at the end, everything that is not left to the next process.
    fn release(&mut self, epoch_ns: u64, now: Timestamp, last: bool) -> io::Result<()> {
        let last = last && !self.source.is_pinned();
        let engine = &mut self.engine;
        let ended = if last { engine.drain() } else { engine.expire(now) };
        self.source.release(&ended, |id, slot| engine.retire(id, slot, epoch_ns, now))?;
        let idle = if last { engine.drain_aggregates() } else { engine.expire_aggregates(now) };
        self.source.release_aggregates(&idle, |id, aggregate| engine.retire_aggregate(id, aggregate, epoch_ns))
    }
}

/// The tick before, or the start.
struct Then {
    at: Duration,
    look_at: Duration,
    counters: [Counters; 2],
}

/// What moved between two ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Wire packets.
    pub packets: u64,
    /// IP octets.
    pub octets: u64,
    /// Packets in overflow aggregates, by hook.
    pub overflowed: [u64; 2],
}

impl Moved {
    fn between(then: &[Counters; 2], now: &[Counters; 2]) -> Self {
        let (before, after) = (coverage::total(then), coverage::total(now));
        Self {
            packets: after.packets.saturating_sub(before.packets),
            octets: after.octets.saturating_sub(before.octets),
            overflowed: [0, 1].map(|hook: usize| now[hook].overflowed.saturating_sub(then[hook].overflowed)),
        }
    }
}

/// What a tick gave, for whoever shows or counts it.
#[derive(Debug)]
pub struct Tick {
    /// Event time of the tick.
    pub now: Timestamp,
    /// Time since the tick before.
    pub elapsed: Duration,
    /// What happened to incidents.
    pub events: Vec<Arc<IncidentEvent>>,
    /// Conservation counters by hook, since the start.
    pub counters: [Counters; 2],
    /// What moved since the tick before.
    pub moved: Moved,
    /// Part of the packets since the tick before that was accounted (see [`coverage::ratio`]).
    pub coverage: f64,
    /// Packets in no counter, or, below zero, in two (see [`coverage::gap`]).
    pub gap: i64,
    /// Entries of the kernel's flow table.
    pub capacity: usize,
    /// Runs and run time of each program so far, where the kernel keeps them.
    pub program_runs: Vec<(&'static str, u64, Duration)>,
    /// Time it took to read the kernel's tables.
    pub polled: Duration,
    /// Time the whole tick took.
    pub took: Duration,
    /// What became of a canary.
    pub canary: Option<Report>,
    /// What was asked of established services,
    pub attempts: Vec<Attempt>,
    /// and who has completed a connection.
    pub proven: Vec<Addr>,
    /// The hosts in whose namespaces is watched, when they were read anew.
    pub hosts: Option<Vec<Host>>,
    /// The sensor is stopping.
    pub last: bool,
}
