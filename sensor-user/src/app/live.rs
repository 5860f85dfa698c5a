//! `leuko run`.

use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::time::{ClockId, clock_gettime};
use prometheus::Registry;
use sensor_core::contract::SummaryLine;
use sensor_core::coverage;
use sensor_core::engine::{Engine, EngineConfig};
use sensor_core::net::Network;
use sensor_core::time::Timestamp;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};
use tracing::{info, warn};

use super::responding::Responding;
use super::{author, engine_config, suppressed, wall_clock};
use crate::canary::{Cage, Canaries, Outcome, Schedule};
use crate::cli::RunArgs;
use crate::config::Config;
use crate::config::datapath::Tunnel;
use crate::export::eve::Stats;
use crate::export::prometheus::Metrics;
use crate::live::{
    BaselineFile, BeaconFile, Clocks, Decider, Fitting, Live, Now, OwnTraffic, Telemetry, Tick, VOCABULARY,
};
use crate::memory;
use crate::notify::eve::EveFile;
use crate::notify::retry::Retry;
use crate::notify::{Notifier, Sinks, Wiring};
use crate::printer::Printer;
use crate::respond::Act;
use crate::source::kernel::attach::EgressChoice;
use crate::source::kernel::interface::own_addresses;
use crate::source::kernel::watch::{Watch, or_default_route};
use crate::source::kernel::{KernelSource, LoadOptions};
use crate::store::flows::{FlowRow, Retention};
use crate::store::keeper::{Keep, Keeper};
use crate::terminal::{Reader, Status};
use crate::web::{self, Health, WebState};

/// How long receivers get to take what is queued when the sensor stops.
const FLUSH: Duration = Duration::from_secs(5);

/// Watches until a signal, the end of `--duration`, or the loss of the reader of standard output.
///
/// # Errors
/// When the sensor cannot start, or can no longer read the kernel's tables.
pub async fn run(config: &Config, args: &RunArgs, quiet: bool) -> Result<ExitCode> {
    memory::return_large_buffers();
    let stop = Arc::new(Notify::new());
    let signals = signals()?;
    let specs = or_default_route(&config.interfaces)?;
    let metrics = Arc::new(Metrics::new(&Registry::new(), &VOCABULARY).context("register metrics")?);
    metrics.process_started(wall_clock());
    let health = Arc::new(Health::new(config.interval.get()));
    let listening = serve(config, &metrics, &health).await?;
    let store = Keeper::start(&config.state_dir, keep(config), Arc::clone(&metrics), Arc::new(wall_clock))?;
    let keeper = store.keeper();
    let shown = watch::Sender::new(None);
    let acting = watch::Sender::<Option<Arc<dyn Act>>>::new(None);
    let wiring = Wiring {
        author: author(config),
        metrics: Arc::clone(&metrics),
        clock: Arc::new(wall_clock),
        retry: Retry::default(),
        keeper: keeper.clone(),
        status: shown.subscribe(),
        response: acting.subscribe(),
    };
    let sinks = Sinks::build(&config.notify, &wiring)?;
    let (endpoints, eve) = (sinks.endpoints(), sinks.eve_files());
    keeper.begin(sinks.names());
    let notifier = Notifier::start(sinks, &keeper, &wiring);
    let own = own_addresses().context("list this host's addresses")?;
    let own_hosts: Vec<Network> = own.iter().map(|&addr| Network::new(addr, u8::MAX)).collect();
    let own = OwnTraffic::follow(endpoints, listening, own);
    let mut baselines = [BaselineFile::of_flows(&config.state_dir), BaselineFile::of_hosts(&config.state_dir)];
    let [saved, saved_hosts] = baselines.each_mut().map(|file| if args.fresh { None } else { file.load() });

    let seed = RandomState::new().hash_one(std::process::id());
    let mut source = KernelSource::load(LoadOptions {
        flows: config.kernel.flows.get(),
        seed,
        fixed_ns: None,
        blocks: config.respond.capacity.get(),
        sampling: config.kernel.sampling.get(),
        tunnels: Tunnel::bits(&config.kernel.tunnels),
        mirror: config.kernel.egress == EgressChoice::Off,
        pin: config.kernel.pin.clone(),
    })?;
    let kernel_log = kernel_log(&mut source)?;
    let programs = (config.kernel.xdp_mode, config.kernel.egress);
    let watch = Watch::start(&specs, programs, &mut source, SystemClocks.stopwatch())?;
    source.remove_stale_links().context("detach from what is not watched any more")?;
    let usual = engine_config(config);
    let mut engine = Engine::new(EngineConfig {
        baseline: saved,
        host_baseline: saved_hosts,
        own_endpoints: own.current(),
        keep_records: config.store.flows || eve.iter().any(EveFile::wants_flows),
        local: usual.local.iter().copied().chain(own_hosts).collect(),
        ..usual
    });
    let canary = canary(config, &mut source, &mut engine).context("prepare the canary; --canary 0s leaves it out")?;
    let mut live = Live {
        engine,
        source,
        watch,
        clocks: SystemClocks,
        interval: config.interval.get(),
        sampling: config.kernel.sampling.get(),
        own,
        baselines,
        beacons: BeaconFile::in_dir(&config.state_dir),
        fitting: Fitting::default(),
        decisions: Decider { keeper: keeper.clone(), fixed: suppressed(config) },
        canary,
    };
    if !args.fresh {
        live.beacons.load(&mut live.engine);
    }
    let responding = Responding::start(config, &mut live, &keeper, &metrics).await?;
    acting.send_replace(Some(Arc::new(responding.response().clone())));
    let mut front = Front {
        printer: Printer::stdout(args.json, quiet),
        telemetry: Telemetry::new(metrics),
        responding: &responding,
        keeper: &keeper,
        keeps_flows: config.store.flows,
        eve: &eve,
        shown,
        health,
        began: live.clocks.now().epoch,
        stop: Arc::clone(&stop),
        kernel_log,
    };
    live.engine.reserve_flows(live.source.capacity());
    info!(interval_ms = config.interval.get().as_millis(), flows = live.source.capacity(), "watching");
    let duration = args.duration;
    let stopping = async move {
        tokio::select! {
            () = signals => info!("stopping on a signal"),
            () = stop.notified() => {}
            () = after(duration) => info!("stopping at the end of --duration"),
        }
    };
    live.run(stopping, |engine, tick| front.show(engine, tick)).await?;
    responding.stop(live.source.is_pinned()).await;
    notifier.shutdown(FLUSH).await;
    eve.iter().for_each(|file| file.flush(FLUSH));
    store.stop();
    Ok(ExitCode::SUCCESS)
}

/// How long what is kept.
fn keep(config: &Config) -> Keep {
    let store = &config.store;
    Keep {
        incidents: store.keep.get(),
        flows: Retention {
            keep: store.keep_flows.get(),
            keep_summaries: store.keep_summaries.get(),
            max_octets: store.max_size.get(),
        },
    }
}

/// The self-test, if the configuration wants it.
fn canary(config: &Config, source: &mut KernelSource, engine: &mut Engine) -> Result<Option<Schedule>> {
    let every = config.canary.every.get();
    if every.is_zero() {
        return Ok(None);
    }
    let cage = Cage::make(source, RandomState::new().hash_one("marks"))?;
    let patience = patience(config.interval.get());
    let canaries = Canaries::new(cage, config.kernel.sampling.get(), patience, stopwatch, engine);
    Ok(Some(Schedule::new(canaries, every, RandomState::new().hash_one("delays"))))
}

/// How long a canary may take: a multiple of what it should.
pub(super) fn patience(interval: Duration) -> Duration {
    Duration::from_secs(5) + interval * 10
}

/// What a tick is told to: standard output, metrics, receivers.
struct Front<'a> {
    printer: Printer,
    telemetry: Telemetry,
    responding: &'a Responding,
    keeper: &'a Keeper,
    keeps_flows: bool,
    eve: &'a [EveFile],
    shown: watch::Sender<Option<Status>>,
    health: Arc<Health>,
    began: Timestamp,
    stop: Arc<Notify>,
    kernel_log: Box<dyn FnMut()>,
}

impl Front<'_> {
    /// Has flows that ended kept, and written for whoever reads EVE.
    fn keep_flows(&self, engine: &mut Engine, tick: &Tick) {
        let records = engine.take_records();
        if self.keeps_flows {
            self.keeper.flows(records.iter().map(FlowRow::of).collect());
        }
        for eve in self.eve {
            eve.flows(&records);
            eve.stats(tick.now, || Stats::of(tick, engine, tick.now.since(self.began)));
        }
    }

    fn show(&mut self, engine: &mut Engine, tick: &Tick) -> Result<()> {
        self.health.beat();
        (self.kernel_log)();
        self.telemetry.feed(engine, tick);
        if let Some(report) = &tick.canary {
            match report.outcome {
                Outcome::Found => info!(canary = report.line()),
                Outcome::Missed | Outcome::Failed => {
                    warn!(canary = report.line(), "the sensor does not find its own scan");
                }
            }
        }
        let mut reader = Reader::Listening;
        let events = self.responding.tick(tick);
        self.keeper.record(&events);
        self.keep_flows(engine, tick);
        for event in &events {
            reader = self.printer.incident(event).context("write to standard output")?;
        }
        let seconds = tick.elapsed.as_secs_f64().max(1e-3);
        let total = coverage::total(&tick.counters);
        let status = Status {
            flows: engine.live_flows() as u64,
            packets_per_s: tick.moved.packets as f64 / seconds,
            bits_per_s: tick.moved.octets as f64 * 8.0 / seconds,
            table_fill: engine.live_flows() as f64 / tick.capacity.max(1) as f64,
            coverage: tick.coverage,
            open_incidents: engine.open_incidents().len() as u64,
            warmup_left: engine.warmup_left(tick.now).unwrap_or_default(),
            overflow: total.overflowed,
            lost: coverage::missed(&total),
        };
        self.shown.send_replace(Some(status));
        if tick.last {
            reader = self.printer.summary(summary(engine, tick, self.began)).context("write to standard output")?;
        } else if reader == Reader::Listening {
            reader = self.printer.status(&status).context("write to standard output")?;
        }
        if reader == Reader::Gone {
            self.stop.notify_one();
        }
        Ok(())
    }
}

fn summary(engine: &Engine, tick: &Tick, began: Timestamp) -> SummaryLine {
    let total = coverage::total(&tick.counters);
    SummaryLine {
        packets: total.packets,
        flows: engine.ended().values().sum(),
        incidents: engine.opened_incidents(),
        lost: coverage::outside_flows(&total),
        duration_s: (tick.now.since(began).as_secs_f64() * 1e6).round() / 1e6,
    }
}

/// Serves the metrics in the background; says where.
async fn serve(config: &Config, metrics: &Arc<Metrics>, health: &Arc<Health>) -> Result<Option<SocketAddr>> {
    let Some(address) = config.metrics.listen.address() else {
        return Ok(None);
    };
    let listener = TcpListener::bind(address).await.with_context(|| {
        format!("listen on {address} for metrics; choose another address with --metrics-listen, or \"off\"")
    })?;
    let address = listener.local_addr().context("find out where metrics are served")?;
    info!(%address, "serving /metrics and /healthz");
    let state = WebState { metrics: Arc::clone(metrics), health: Arc::clone(health) };
    tokio::spawn(async move {
        if let Err(error) = web::serve(listener, state, std::future::pending()).await {
            warn!(%error, "metrics are no longer served");
        }
    });
    Ok(Some(address))
}

/// Passes on what the kernel program has logged since the last call: rare events only.
fn kernel_log(source: &mut KernelSource) -> Result<Box<dyn FnMut()>> {
    let mut logger = aya_log::EbpfLogger::init(source.ebpf()).context("open the log of the kernel program")?;
    Ok(Box::new(move || logger.flush()))
}

/// Ready at the first SIGINT, SIGTERM or SIGHUP.
fn signals() -> Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt()).context("wait for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("wait for SIGTERM")?;
    // Whoever starts it with nohup(1) wants it to outlive the terminal.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let hangup = if ignores_hangup(&status) { None } else { Some(signal(SignalKind::hangup())) };
    let mut hangup = hangup.transpose().context("wait for SIGHUP")?;
    let hung_up = async move {
        match &mut hangup {
            Some(hangup) => _ = hangup.recv().await,
            None => std::future::pending().await,
        }
    };
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            () = hung_up => {}
        }
    })
}

/// Whether `/proc/PID/status` says so; SIGHUP is the first bit.
fn ignores_hangup(status: &str) -> bool {
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).is_some_and(|bits| bits & 1 != 0)
}

async fn after(duration: Option<Duration>) {
    match duration {
        Some(duration) => tokio::time::sleep(duration).await,
        None => std::future::pending().await,
    }
}

/// The clocks of this host.
pub(super) struct SystemClocks;

impl Clocks for SystemClocks {
    fn now(&self) -> Now {
        let (epoch, monotonic) = (read(ClockId::CLOCK_REALTIME), read(ClockId::CLOCK_MONOTONIC));
        Now { epoch: Timestamp::from_nanos(epoch), epoch_ns: epoch.wrapping_sub(monotonic) }
    }

    fn stopwatch(&self) -> Duration {
        stopwatch()
    }
}

pub(super) fn stopwatch() -> Duration {
    Duration::from_nanos(read(ClockId::CLOCK_MONOTONIC))
}

/// Nanoseconds. Both clocks exist on every Linux, so a failure would be a broken kernel; zero then.
fn read(clock: ClockId) -> u64 {
    clock_gettime(clock).map_or(0, |time| {
        let nanos = i128::from(time.tv_sec()) * 1_000_000_000 + i128::from(time.tv_nsec());
        u64::try_from(nanos).unwrap_or(0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sensor_of_nohup_outlives_its_terminal() {
        for (status, ignores) in [
            ("SigBlk:\t0000000000000001\nSigIgn:\t0000000000001001\n", true),
            ("SigIgn:\t0000000000001000\nSigCgt:\t0000000000000001\n", false),
            ("", false),
        ] {
            assert_eq!(ignores_hangup(status), ignores, "{status}");
        }
    }
}
