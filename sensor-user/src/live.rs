//! The live sensor: polls the kernel once an interval, and hands on what the engine finds.

mod baseline_file;
mod own_traffic;
mod telemetry;

pub use baseline_file::{BaselineFile, read as read_baseline};
pub use own_traffic::OwnTraffic;
pub use telemetry::{Balance, Telemetry, VOCABULARY};

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use sensor_core::engine::Engine;
use sensor_core::incident::IncidentEvent;
use sensor_core::time::Timestamp;
use sensor_ebpf::abi::Counters;
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use crate::source::kernel::KernelSource;
use crate::source::kernel::watch::Watch;

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
    /// Time between polls.
    pub interval: Duration,
    /// Endpoints that are the sensor's own.
    pub own: OwnTraffic,
    /// Where the baseline is kept.
    pub baseline: BaselineFile,
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
        let mut ticker = tokio::time::interval(self.interval);
        ticker.set_missed_tick_behavior(MissedTickBehavior::Skip);
        ticker.tick().await;
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                _ = ticker.tick() => {}
            }
            let tick = self.tick(false)?;
            each(&mut self.engine, &tick)?;
        }
        if self.source.is_pinned() {
            info!("leaving the programs attached");
        } else {
            info!("detaching");
            self.source.detach();
        }
        let tick = self.tick(true)?;
        each(&mut self.engine, &tick)
    }

    fn tick(&mut self, last: bool) -> Result<Tick> {
        let begun = self.clocks.stopwatch();
        let Now { epoch: now, epoch_ns } = self.clocks.now();
        if let Some(endpoints) = self.own.changed() {
            self.engine.set_own_endpoints(endpoints);
        }
        if !last {
            self.watch.reconcile(&mut self.source, begun);
        }
        let counters = self.source.counters()?;
        let engine = &mut self.engine;
        self.source.poll(|id, slot| engine.observe(id, slot, epoch_ns, now));
        let polled = self.clocks.stopwatch().saturating_sub(begun);
        let ended = if last && !self.source.is_pinned() { engine.drain() } else { engine.expire(now) };
        self.source
            .release(&ended, |id, slot| engine.retire(id, slot, epoch_ns, now))
            .context("wait for running programs before reusing flow slots")?;
        // Counters are read after the release at the end, when nothing moves any more: then the equation is exact.
        let counters = if last { self.source.counters()? } else { counters };
        let mut events = engine.tick(now);
        if last {
            events.extend(engine.finish(now));
        }
        self.baseline.save_if_newer(engine.baseline());
        let took = self.clocks.stopwatch().saturating_sub(begun);
        if took > self.interval {
            warn!(took_ms = took.as_millis(), "a tick took longer than the interval");
        }
        Ok(Tick {
            now,
            events: events.into_iter().map(Arc::new).collect(),
            counters,
            capacity: self.source.capacity(),
            program_runs: self.source.run_stats(),
            polled,
            took,
            last,
        })
    }
}

/// What a tick gave, for whoever shows or counts it.
#[derive(Debug)]
pub struct Tick {
    /// Event time of the tick.
    pub now: Timestamp,
    /// What happened to incidents.
    pub events: Vec<Arc<IncidentEvent>>,
    /// Conservation counters by hook, since the start.
    pub counters: [Counters; 2],
    /// Entries of the kernel's flow table.
    pub capacity: usize,
    /// Runs and run time of each program so far, where the kernel keeps them.
    pub program_runs: Vec<(&'static str, u64, Duration)>,
    /// Time it took to read the kernel's tables.
    pub polled: Duration,
    /// Time the whole tick took.
    pub took: Duration,
    /// The sensor is stopping.
    pub last: bool,
}
