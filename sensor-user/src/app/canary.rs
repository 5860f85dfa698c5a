//! `leuko canary`.

use std::hash::{BuildHasher as _, RandomState};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use prometheus::{Registry, TextEncoder};
use sensor_core::engine::Engine;
use serde_json::json;

use super::live::{SystemClocks, patience, stopwatch};
use super::{engine_config, print};
use crate::atomic;
use crate::canary::{Cage, Canaries, Outcome, Report, random_part};
use crate::cli::canary::CanaryArgs;
use crate::config::Config;
use crate::config::datapath::Tunnel;
use crate::export::prometheus::CanaryMetrics;
use crate::live::{Clocks as _, Now};
use crate::source::kernel::{KernelSource, LoadOptions};

/// Entries of its flow table: far more than it has flows.
const FLOWS: u32 = 16_384;

/// Lets canaries go, one after the other, and says what became of them.
///
/// # Errors
/// When the sensor cannot start, its tables cannot be read, or a canary cannot be sent.
pub fn run(config: &Config, args: &CanaryArgs) -> Result<ExitCode> {
    if let Some(path) = &args.metrics_textfile {
        atomic::check_place(path)?;
    }
    let registry = Registry::new();
    let metrics = CanaryMetrics::new(&registry).context("register metrics")?;
    let mut rig = Rig::new(config, args)?;
    let mut taken = Vec::new();
    let mut all_found = true;
    for _ in 0..args.count {
        let report = rig.fly()?;
        metrics.feed(&report);
        all_found &= report.outcome == Outcome::Found;
        taken.extend(report.stages.incident);
        let line = if args.json { report.json().to_string() } else { report.line() };
        print(format!("{line}\n").as_bytes())?;
    }
    if args.count > 1 {
        print(summary(args, &mut taken).as_bytes())?;
    }
    if let Some(path) = &args.metrics_textfile {
        let text = TextEncoder::new().encode_to_string(&registry.gather()).context("render the metrics")?;
        atomic::write(path, text.as_bytes())?;
    }
    Ok(if all_found { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn summary(args: &CanaryArgs, taken: &mut [Duration]) -> String {
    taken.sort_unstable();
    let (least, median, most) = (taken.first(), taken.get(taken.len() / 2), taken.last());
    let seconds = |time: Option<&Duration>| time.map(Duration::as_secs_f64);
    if args.json {
        let (least, median, most) = (seconds(least), seconds(median), seconds(most));
        let line = json!({
            "type": "summary", "canaries": args.count, "found": taken.len(),
            "min_s": least, "median_s": median, "max_s": most,
        });
        return format!("{line}\n");
    }
    let time = |time: Option<&Duration>| time.map_or_else(|| "-".to_owned(), |time| format!("{time:.1?}"));
    format!(
        "{} of {} found; packet to incident: min {}, median {}, max {}\n",
        taken.len(),
        args.count,
        time(least),
        time(median),
        time(most),
    )
}

/// A sensor that watches nothing but canaries.
struct Rig {
    source: KernelSource,
    engine: Engine,
    canaries: Canaries,
    interval: Duration,
    random: u64,
}

impl Rig {
    fn new(config: &Config, args: &CanaryArgs) -> Result<Self> {
        let mut source = KernelSource::load(LoadOptions {
            flows: FLOWS,
            seed: RandomState::new().hash_one(std::process::id()),
            sampling: config.kernel.sampling.get(),
            tunnels: Tunnel::bits(&config.kernel.tunnels),
            ..LoadOptions::default()
        })?;
        let mut engine = Engine::new(engine_config(config));
        engine.reserve_flows(source.capacity());
        let cage = Cage::make(&mut source, RandomState::new().hash_one("marks"))?;
        let interval = config.interval.get();
        let patience = args.timeout.unwrap_or_else(|| patience(interval));
        let canaries = Canaries::new(cage, config.kernel.sampling.get(), patience, stopwatch, &mut engine);
        Ok(Self { source, engine, canaries, interval, random: RandomState::new().hash_one("delays") })
    }

    /// One canary, from its first packet to what became of it.
    fn fly(&mut self) -> Result<Report> {
        let delay = random_part(&mut self.random, self.interval);
        self.canaries.let_go(delay, SystemClocks.now().epoch, &mut self.engine)?;
        loop {
            thread::sleep(self.interval);
            if let Some(report) = self.tick()? {
                return Ok(report);
            }
        }
    }

    /// As a tick of `leuko run`.
    fn tick(&mut self) -> Result<Option<Report>> {
        let Now { epoch: now, epoch_ns } = SystemClocks.now();
        let engine = &mut self.engine;
        self.source.poll(|id, slot| engine.observe(id, slot, epoch_ns, now));
        self.source.poll_aggregates(|id, aggregate| engine.observe_aggregate(id, aggregate, epoch_ns));
        let ended = engine.expire(now);
        self.source.release(&ended, |id, slot| engine.retire(id, slot, epoch_ns, now)).context("release flows")?;
        engine.tick(now);
        Ok(self.canaries.look(engine, epoch_ns))
    }
}
