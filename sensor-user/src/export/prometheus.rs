//! The sensor's metrics, in a registry that is handed in.
//!
//! Labels are closed sets, or names that the user chose: never an address, a port or anything else that traffic chooses.
//! Every combination exists from
//! the start with the value 0, so that `rate()` sees the first event. Totals of the kernel are fed as deltas.

mod canary;
mod decisions;
mod respond;
mod store;
mod telegram;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus::core::Collector;
use prometheus::{
    CounterVec, Gauge, GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, Result, TextEncoder,
};
use sensor_core::engine::Engine;
use sensor_core::incident::{Change, Class, IncidentEvent, Severity};
use sensor_ebpf::abi::Hook;

pub use self::canary::CanaryMetrics;
use self::decisions::Decisions;
pub use self::respond::RespondMetrics;
pub use self::store::{StoreLoss, StoreMetrics};
pub use self::telegram::{TelegramMetrics, UpdateResult};
use crate::canary::Report;

/// Content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Bounds of the score's buckets. Isolation Forest scores of normal traffic lie below 0.5.
const SCORES: [f64; 13] = [0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9];

/// Label values that other modules define; their series exist from the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Vocabulary {
    /// Reasons for which a packet belongs to no flow.
    pub unaccounted: &'static [&'static str],
    /// Reasons for which a flow ends.
    pub ended: &'static [&'static str],
    /// Names of the kernel programs.
    pub programs: &'static [&'static str],
}

/// Every metric of the sensor.
pub struct Metrics {
    registry: Registry,
    packets: IntCounterVec,
    octets: IntCounterVec,
    unaccounted: IntCounterVec,
    overflow: IntCounterVec,
    fragments: IntCounter,
    orphan_fragments: IntCounter,
    multicast: IntCounter,
    broadcast: IntCounter,
    arp_messages: IntCounter,
    arp_conflicts: IntCounter,
    arp_lost: IntCounter,
    flows_active: IntGauge,
    flows_started: IntCounter,
    flows_ended: IntCounterVec,
    table_fill: Gauge,
    coverage: Gauge,
    gap: IntGauge,
    poll: Histogram,
    tick: Histogram,
    program_seconds: CounterVec,
    program_runs: IntCounterVec,
    score: Histogram,
    incidents: IntCounterVec,
    incidents_open: IntGaugeVec,
    not_scored: IntCounter,
    not_learned: IntCounter,
    drifts: IntCounter,
    decisions: Decisions,
    canary: CanaryMetrics,
    store: StoreMetrics,
    telegram: TelegramMetrics,
    respond: RespondMetrics,
    model_trained: Gauge,
    warmup: Gauge,
    started: Gauge,
    resident: IntGauge,
}

/// What learning did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Learning {
    /// Flows that were not scored.
    pub not_scored: u64,
    /// Flows that were not learned.
    pub not_learned: u64,
    /// Drifts.
    pub drifts: u64,
}

impl Metrics {
    /// Registers every metric. A registry takes them once.
    ///
    /// # Errors
    /// When the registry holds one of the names already.
    pub fn new(registry: &Registry, words: &Vocabulary) -> Result<Self> {
        let r = registry;
        let seconds = || prometheus::exponential_buckets(0.000_25, 2.0, 15);
        build_info(r)?;
        let this = Self {
            registry: registry.clone(),
            packets: counters(r, "leuko_packets_total", "Packets seen at the hooks.", &["direction"])?,
            octets: counters(r, "leuko_octets_total", "IP octets seen at the hooks.", &["direction"])?,
            unaccounted: counters(r, "leuko_unaccounted_packets_total", "Packets in no flow.", &["reason"])?,
            overflow: counters(r, "leuko_overflow_packets_total", "Packets in overflow aggregates.", &["direction"])?,
            fragments: counter(r, "leuko_fragments_total", "Fragments without a transport header.")?,
            orphan_fragments: counter(r, "leuko_orphan_fragments_total", "Those whose first fragment was not seen.")?,
            multicast: counter(r, "leuko_multicast_packets_total", "Packets to a link-layer group.")?,
            broadcast: counter(r, "leuko_broadcast_packets_total", "Packets to every station of the link.")?,
            arp_messages: counter(r, "leuko_arp_messages_total", "ARP messages looked at.")?,
            arp_conflicts: counter(
                r,
                "leuko_arp_conflicts_total",
                "Addresses claimed by another station than before.",
            )?,
            arp_lost: counter(
                r,
                "leuko_arp_lost_total",
                "ARP messages that found no room on the way to be looked at.",
            )?,
            flows_active: gauge(r, "leuko_flows_active", "Flows in the table.")?,
            flows_started: counter(r, "leuko_flows_started_total", "Flows first seen.")?,
            flows_ended: counters(r, "leuko_flows_ended_total", "Flows that ended.", &["reason"])?,
            table_fill: real(r, "leuko_flow_table_fill_ratio", "Used part of the kernel's flow table.")?,
            coverage: real(r, "leuko_coverage_ratio", "Part of the interval's packets that is accounted.")?,
            gap: gauge(r, "leuko_conservation_gap_packets", "Packets at the hooks less packets in any counter.")?,
            poll: histogram(r, "leuko_poll_duration_seconds", "Time to read the kernel's maps.", seconds()?)?,
            tick: histogram(r, "leuko_tick_duration_seconds", "Time to process an interval.", seconds()?)?,
            program_seconds: add(
                r,
                CounterVec::new(
                    Opts::new("leuko_program_run_seconds_total", "Time spent in a kernel program."),
                    &["program"],
                )?,
            )?,
            program_runs: counters(r, "leuko_program_runs_total", "Runs of a kernel program.", &["program"])?,
            score: histogram(r, "leuko_anomaly_score", "Scores of ended flows.", SCORES.to_vec())?,
            not_scored: counter(
                r,
                "leuko_anomaly_flows_not_scored_total",
                "Flows that were not scored because too many ended at once.",
            )?,
            not_learned: counter(
                r,
                "leuko_learning_flows_lost_total",
                "Flows, and minutes of hosts, that were not learned because too many were waiting.",
            )?,
            drifts: counter(r, "leuko_drifts_total", "Times that normal traffic was no longer what was learned.")?,
            decisions: Decisions::new(r)?,
            canary: CanaryMetrics::new(r)?,
            incidents: counters(
                r,
                "leuko_incidents_total",
                "Incidents opened, by severity at opening.",
                &["class", "severity"],
            )?,
            incidents_open: gauges(r, "leuko_incidents_open", "Incidents going on.", "class")?,
            store: StoreMetrics::new(r)?,
            telegram: TelegramMetrics::new(r)?,
            respond: RespondMetrics::new(r)?,
            model_trained: real(r, "leuko_model_trained_timestamp_seconds", "When the model in use was trained.")?,
            warmup: real(r, "leuko_warmup_remaining_seconds", "Time until detection by the local model begins.")?,
            started: real(r, "leuko_process_start_time_seconds", "When the sensor was started.")?,
            resident: gauge(r, "process_resident_memory_bytes", "Resident memory size in bytes.")?,
        };
        this.initialise(words);
        Ok(this)
    }

    /// Counts packets and their IP octets at a hook, as seen since the last call.
    pub fn traffic(&self, hook: Hook, packets: u64, octets: u64) {
        self.packets.with_label_values(&[hook.as_str()]).inc_by(packets);
        self.octets.with_label_values(&[hook.as_str()]).inc_by(octets);
    }

    /// Counts packets that belong to no flow, since the last call.
    pub fn unaccounted(&self, reason: &'static str, packets: u64) {
        self.unaccounted.with_label_values(&[reason]).inc_by(packets);
    }

    /// Counts packets in overflow aggregates, since the last call.
    pub fn overflowed(&self, hook: Hook, packets: u64) {
        self.overflow.with_label_values(&[hook.as_str()]).inc_by(packets);
    }

    /// Counts fragments without a transport header since the last call, and those of them whose first was not seen.
    pub fn fragments(&self, all: u64, orphans: u64) {
        self.fragments.inc_by(all);
        self.orphan_fragments.inc_by(orphans);
    }

    /// Counts packets to link-layer groups and to every station, since the last call.
    pub fn groups(&self, multicast: u64, broadcast: u64) {
        self.multicast.inc_by(multicast);
        self.broadcast.inc_by(broadcast);
    }

    /// Counts ARP messages and addresses that changed their owner, since the last call.
    pub fn arp(&self, messages: u64, conflicts: u64) {
        self.arp_messages.inc_by(messages);
        self.arp_conflicts.inc_by(conflicts);
    }

    /// Counts ARP messages that were not looked at, since the last call.
    pub fn arp_lost(&self, messages: u64) {
        self.arp_lost.inc_by(messages);
    }

    /// Flows in the table, and the used part of the kernel's table in [0, 1].
    pub fn flow_table(&self, active: u64, fill: f64) {
        self.flows_active.set(clamped(active));
        self.table_fill.set(fill);
    }

    /// Counts flows that were first seen since the last call.
    pub fn flows_started(&self, flows: u64) {
        self.flows_started.inc_by(flows);
    }

    /// Counts flows that ended for `reason` since the last call.
    pub fn flows_ended(&self, reason: &'static str, flows: u64) {
        self.flows_ended.with_label_values(&[reason]).inc_by(flows);
    }

    /// Part of the interval's packets that is accounted in [0, 1], and the packets in no counter at all (0 unless there is
    /// a bug).
    pub fn conservation(&self, coverage: f64, gap_packets: i64) {
        self.coverage.set(coverage);
        self.gap.set(gap_packets);
    }

    /// How long one reading of the kernel's maps took.
    pub fn polled(&self, took: Duration) {
        self.poll.observe(took.as_secs_f64());
    }

    /// How long one interval took from the snapshot to its incidents.
    pub fn ticked(&self, took: Duration) {
        self.tick.observe(took.as_secs_f64());
    }

    /// Adds runs of a kernel program and the time they took, since the last call.
    pub fn program_ran(&self, program: &'static str, runs: u64, took: Duration) {
        self.program_runs.with_label_values(&[program]).inc_by(runs);
        self.program_seconds.with_label_values(&[program]).inc_by(took.as_secs_f64());
    }

    /// Records the Isolation Forest score of a window.
    pub fn scored(&self, score: f64) {
        self.score.observe(score);
    }

    /// Counts an incident that opened; follows how many are open.
    pub fn incident(&self, event: &IncidentEvent) {
        let class = event.incident.class.as_str();
        match event.change {
            Change::Opened => {
                self.incidents.with_label_values(&[class, event.incident.severity.as_str()]).inc();
                self.incidents_open.with_label_values(&[class]).inc();
            }
            Change::Updated => {}
            Change::Closed => self.incidents_open.with_label_values(&[class]).dec(),
        }
    }

    /// What is kept, and who was told.
    #[must_use]
    pub const fn store(&self) -> &StoreMetrics {
        &self.store
    }

    /// What is done about attackers.
    #[must_use]
    pub const fn respond(&self) -> &RespondMetrics {
        &self.respond
    }

    /// What comes from Telegram.
    #[must_use]
    pub const fn telegram(&self) -> &TelegramMetrics {
        &self.telegram
    }

    /// Follows what the alert budget and the rules of the user have decided.
    pub fn decided(&self, engine: &Engine) {
        self.decisions.feed(engine);
    }

    /// Records what became of a canary.
    pub fn canary(&self, report: &Report) {
        self.canary.feed(report);
    }

    /// Counts what learning did since the last call.
    pub fn anomaly(&self, since: Learning) {
        self.not_scored.inc_by(since.not_scored);
        self.not_learned.inc_by(since.not_learned);
        self.drifts.inc_by(since.drifts);
    }

    /// When the model in use was trained.
    pub fn model_trained(&self, at: SystemTime) {
        self.model_trained.set(unix_seconds(at));
    }

    /// How long until the local model is used; zero when it is.
    pub fn warmup_remaining(&self, remaining: Duration) {
        self.warmup.set(remaining.as_secs_f64());
    }

    /// When the sensor was started.
    pub fn process_started(&self, at: SystemTime) {
        self.started.set(unix_seconds(at));
    }

    /// Every metric in the Prometheus text format 0.0.4, see [`CONTENT_TYPE`].
    #[must_use]
    pub fn render(&self) -> String {
        if let Some(bytes) = resident_bytes() {
            self.resident.set(bytes);
        }
        let mut text = String::new();
        if let Err(error) = TextEncoder::new().encode_utf8(&self.registry.gather(), &mut text) {
            tracing::warn!(%error, "metrics cannot be rendered");
        }
        text
    }

    fn initialise(&self, words: &Vocabulary) {
        for direction in Hook::ALL {
            self.traffic(direction, 0, 0);
            self.overflowed(direction, 0);
        }
        for reason in words.unaccounted {
            self.unaccounted(reason, 0);
        }
        for reason in words.ended {
            self.flows_ended(reason, 0);
        }
        for program in words.programs {
            self.program_ran(program, 0, Duration::ZERO);
        }
        for class in Class::ALL {
            self.incidents_open.with_label_values(&[class.as_str()]).set(0);
            for severity in Severity::ALL {
                self.incidents.with_label_values(&[class.as_str(), severity.as_str()]).inc_by(0);
            }
        }
    }
}

fn build_info(registry: &Registry) -> Result<()> {
    let info = GaugeVec::new(Opts::new("leuko_build_info", "The running version; always 1."), &["version"])?;
    info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1.0);
    registry.register(Box::new(info))
}

fn add<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> Result<C> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

fn counter(registry: &Registry, name: &str, help: &str) -> Result<IntCounter> {
    add(registry, IntCounter::new(name, help)?)
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec> {
    add(registry, IntCounterVec::new(Opts::new(name, help), labels)?)
}

fn gauge(registry: &Registry, name: &str, help: &str) -> Result<IntGauge> {
    add(registry, IntGauge::new(name, help)?)
}

fn gauges(registry: &Registry, name: &str, help: &str, label: &str) -> Result<IntGaugeVec> {
    add(registry, IntGaugeVec::new(Opts::new(name, help), &[label])?)
}

/// A gauge with fractions.
fn real(registry: &Registry, name: &str, help: &str) -> Result<Gauge> {
    add(registry, Gauge::new(name, help)?)
}

fn histogram(registry: &Registry, name: &str, help: &str, buckets: Vec<f64>) -> Result<Histogram> {
    add(registry, Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets))?)
}

fn clamped(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn unix_seconds(at: SystemTime) -> f64 {
    at.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// Resident memory by `/proc/self/status`, which gives kB where `statm` gives pages of unknown size.
fn resident_bytes() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<i64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;

    fn metrics() -> Metrics {
        let words = Vocabulary { unaccounted: &["non_ip"], ended: &["idle"], programs: &["ingress"] };
        Metrics::new(&Registry::new(), &words).unwrap()
    }

    #[test]
    fn every_series_exists_before_the_first_event() {
        let metrics = metrics();
        metrics.store().expect(["mail"]);
        let text = metrics.render();
        for line in [
            r#"leuko_packets_total{direction="egress"} 0"#,
            r#"leuko_unaccounted_packets_total{reason="non_ip"} 0"#,
            r#"leuko_overflow_packets_total{direction="ingress"} 0"#,
            "leuko_orphan_fragments_total 0",
            "leuko_multicast_packets_total 0",
            "leuko_arp_conflicts_total 0",
            r#"leuko_flows_ended_total{reason="idle"} 0"#,
            r#"leuko_program_run_seconds_total{program="ingress"} 0"#,
            r#"leuko_incidents_total{class="udp_flood",severity="critical"} 0"#,
            r#"leuko_incidents_open{class="anomaly"} 0"#,
            r#"leuko_canaries_total{result="missed"} 0"#,
            "leuko_canary_seconds_count 0",
            r#"leuko_notifications_total{result="dead",sink="mail"} 0"#,
            r#"leuko_outbox_events{sink="mail"} 0"#,
            r#"leuko_store_lost_total{what="events"} 0"#,
            r#"leuko_anomaly_score_bucket{le="0.9"} 0"#,
            concat!(r#"leuko_build_info{version=""#, env!("CARGO_PKG_VERSION"), r#""} 1"#),
        ] {
            assert!(text.lines().any(|have| have == line), "{line}\n{text}");
        }
        assert!(!text.lines().any(|line| line == "process_resident_memory_bytes 0"));
    }

    #[test]
    fn deltas_add_up() {
        let metrics = metrics();
        metrics.traffic(Hook::Ingress, 2, 100);
        metrics.traffic(Hook::Ingress, 3, 200);
        metrics.program_ran("ingress", 5, Duration::from_millis(500));
        metrics.scored(0.62);
        let text = metrics.render();
        for line in [
            r#"leuko_packets_total{direction="ingress"} 5"#,
            r#"leuko_octets_total{direction="ingress"} 300"#,
            r#"leuko_program_run_seconds_total{program="ingress"} 0.5"#,
            "leuko_anomaly_score_count 1",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }

    #[test]
    fn a_registry_takes_them_once() {
        let registry = Registry::new();
        Metrics::new(&registry, &Vocabulary::default()).unwrap();
        assert!(Metrics::new(&registry, &Vocabulary::default()).is_err());
    }

    #[test]
    #[expect(clippy::print_stderr, reason = "a skipped test says why")]
    fn promtool_has_nothing_to_say() {
        let mut promtool = Command::new("promtool");
        promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let Ok(mut child) = promtool.spawn() else {
            assert!(std::env::var("CI").is_err(), "promtool is missing");
            eprintln!("skipped: promtool is missing (apt-get install prometheus)");
            return;
        };
        child.stdin.take().unwrap().write_all(metrics().render().as_bytes()).unwrap();
        let said = child.wait_with_output().unwrap();
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    }
}
