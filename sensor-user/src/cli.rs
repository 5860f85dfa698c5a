//! The command line: what can be asked for, and which configuration it stands for.

pub mod block;
pub mod canary;
pub mod flows;
pub mod incidents;
pub mod moment;
pub mod mute;
pub mod notify;
pub mod store;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, CommandFactory as _, Parser, Subcommand};
use sensor_core::respond::Mode;
use sensor_models::ModelKind;

use self::block::{BlockArgs, BlocksArgs, UnblockArgs};
use self::canary::CanaryArgs;
use self::flows::FlowsArgs;
use self::incidents::{AuditArgs, FeedbackArgs, IncidentsArgs};
use self::mute::MuteArgs;
use self::notify::NotifyArgs;
use self::store::StoreArgs;
use crate::config::{Config, ConfigError, ConfigSources, Override};
use crate::notify::NotifyConfig;
use crate::notify::value::seconds;
use crate::source::kernel::attach::{EgressChoice, XdpChoice};

/// `leuko`.
#[derive(Debug, Parser)]
#[command(
    name = "leuko",
    version,
    about = "Network anomaly sensor: sees every flow of this server in XDP, tells you of attacks",
    after_help = "Examples:
  leuko run                                    watch the interface of the default route
  leuko replay capture.pcap                    find attacks in a capture
  leuko train capture.pcap --output my.leuko   learn what is normal from a capture
  leuko doctor                                 whether everything is in place, and what to do if not
  leuko config                                 the configuration in effect, with explanations

Configuration: flags go before LEUKO_* variables (LEUKO_INTERVAL, LEUKO_KERNEL_XDP_MODE,
LEUKO_TELEGRAM_TOKEN, ...), these before the file, and that before the defaults."
)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Args, Clone, Debug, Default)]
pub struct GlobalArgs {
    /// Configuration file [default: LEUKO_CONFIG, else /etc/leuko/leuko.toml if it exists]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What is logged: error, warn, info, debug, trace, off or a filter [default: info]
    #[arg(long, global = true, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// Log errors only, and show no status line
    #[arg(short, long, global = true, conflicts_with = "log_level")]
    pub quiet: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Watch this server until it is told to stop
    Run(RunArgs),
    /// Find attacks in a capture (pcap, pcapng) or a conn.log of Zeek, as they would have been found live
    Replay(ReplayArgs),
    /// Learn what is normal from flows or captures, and say what that is worth
    Train(TrainArgs),
    /// Have the running sensor drop or limit what comes from an address or a network
    Block(BlockArgs),
    /// Have it do so no longer
    Unblock(UnblockArgs),
    /// Show what is blocked
    Blocks(BlocksArgs),
    /// Show the incidents that were found
    Incidents(IncidentsArgs),
    /// Say of an incident whether it was one
    Feedback(FeedbackArgs),
    /// Show flows that ended, or write them to a file
    Flows(FlowsArgs),
    /// Say what is not to be reported, for a time
    Mute(MuteArgs),
    /// Show, try and mend who is told of incidents
    Notify(NotifyArgs),
    /// Show who did what
    Audit(AuditArgs),
    /// Check, compact or copy what is kept
    Store(StoreArgs),
    /// Check this host and the configuration, and say what to do
    Doctor(DoctorArgs),
    /// Find out whether a scan is found, and how soon, with a harmless one
    Canary(CanaryArgs),
    /// Print the configuration in effect, without its secrets
    Config(ConfigArgs),
    /// Detach and remove what `leuko run --pin` has kept
    Unpin(UnpinArgs),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
}

/// Where `--pin` keeps programs and maps unless it says where.
pub const DEFAULT_PIN: &str = "/sys/fs/bpf/leuko";

/// `leuko run`.
#[derive(Args, Clone, Debug, Default)]
#[command(after_help = "Examples:
  sudo leuko run
  sudo leuko run --interface eth0,eth1 --xdp-mode native
  sudo leuko run --interface 'veth*,blue:eth0'   what appears later, and what is in the namespace blue
  leuko run --json --duration 5m               incidents as JSON lines, for five minutes
  sudo leuko run --pin                         go on counting across restarts and upgrades
  leuko run --fresh --warmup 0s                no learning, and no baseline of an earlier run
  LEUKO_TELEGRAM_CHAT_IDS=42 leuko run --metrics-listen off

Needs root, or the capabilities CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON. SIGINT and SIGTERM stop it.")]
pub struct RunArgs {
    /// Interface to watch: eth0, a pattern such as 'eth*', or either in a network namespace, blue:eth0; repeat it or use
    /// commas for several [default: that of the default route]
    #[arg(short, long, value_name = "IF", value_delimiter = ',')]
    pub interface: Vec<String>,
    /// How often flows are looked at, 100ms to 60s [default: 1s]
    #[arg(long, value_name = "TIME")]
    pub interval: Option<String>,
    /// How long normal traffic is learned, 0s to 24h [default: 60s]
    #[arg(long, value_name = "TIME")]
    pub warmup: Option<String>,
    /// How XDP is attached [default: auto]
    #[arg(long, value_name = "MODE")]
    pub xdp_mode: Option<XdpChoice>,
    /// How outgoing packets are seen [default: auto]
    #[arg(long, value_name = "HOOK")]
    pub egress: Option<EgressChoice>,
    /// Flows that are tracked at once, 1024 to 16777216 [default: 131072]
    #[arg(long, value_name = "N")]
    pub flows: Option<u32>,
    /// Look at one packet of N only, and multiply what it counts [default: 1]
    #[arg(long, value_name = "N")]
    pub sampling: Option<u32>,
    /// Keep programs and maps in this folder of a BPF filesystem so that a restart goes on counting
    #[arg(long, value_name = "DIR", num_args = 0..=1, require_equals = true, default_missing_value = DEFAULT_PIN)]
    pub pin: Option<PathBuf>,
    /// Print one JSON object a line in place of text
    #[arg(long)]
    pub json: bool,
    /// Where Prometheus fetches /metrics, or "off" [default: 127.0.0.1:9101]
    #[arg(long, value_name = "ADDR:PORT")]
    pub metrics_listen: Option<String>,
    /// Where the learned baseline is kept [default: /var/lib/leuko]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Tell nobody: neither Alertmanager nor Telegram
    #[arg(long)]
    pub no_notify: bool,
    /// Begin without the baseline and the calls that an earlier run has saved
    #[arg(long)]
    pub fresh: bool,
    /// Refused: it belongs to `leuko train`
    #[arg(long, hide = true, value_name = "F", value_parser = belongs_to_train)]
    pub contamination: Option<String>,
    /// How often the sensor tests itself with a marked scan, as `leuko canary` does, up to 24h [default: 0s, never]
    #[arg(long, value_name = "TIME")]
    pub canary: Option<String>,
    /// How far the sensor goes by itself about attackers: off, observe (count what would be dropped), rate-limit or
    /// drop [default: observe]
    #[arg(long, value_name = "MODE", value_parser = mode)]
    pub respond: Option<Mode>,
    /// Stop after this time, such as 90s, 15m or 2h
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub duration: Option<Duration>,
}

/// `leuko replay`.
#[derive(Args, Clone, Debug, Default)]
#[command(after_help = "Examples:
  leuko replay capture.pcap
  leuko replay --json --flows capture.pcapng
  leuko replay --export flows.csv capture.pcap   its flows as a table, to train on or to look at
  leuko replay --baseline /var/lib/leuko/baseline.leuko --warmup 0s attack.pcap
  tcpdump -i eth0 -w - | leuko replay -
  leuko replay --beacons 20 conn.log             a log of Zeek, and who calls home most regularly
  zcat conn.*.log.gz | leuko replay --json -

A file is told by its content: a capture (pcap, pcapng), or Zeek's log of connections, conn.log, tab-separated or JSON;
either may be compressed with gzip or zstd. The result depends on the capture, --config, --baseline and the flags alone: neither LEUKO_* variables nor
/etc/leuko/leuko.toml are read, and nobody is notified.")]
pub struct ReplayArgs {
    /// The capture or the log, or - for standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Print one JSON object a line in place of text
    #[arg(long)]
    pub json: bool,
    /// Print flows, too, when they end
    #[arg(long)]
    pub flows: bool,
    /// Write each flow that ends to this CSV file: who and when, what a model sees, and whether it is part of an incident
    #[arg(long, value_name = "FILE")]
    pub export: Option<PathBuf>,
    /// Print so many services that are called most regularly [default: 50 with --json, else 0]
    #[arg(long, value_name = "N")]
    pub beacons: Option<usize>,
    /// End no flow before the capture ends
    #[arg(long)]
    pub no_timeouts: bool,
    /// A baseline saved by `leuko run`, in place of learning from the beginning of the capture
    #[arg(long, value_name = "FILE")]
    pub baseline: Option<PathBuf>,
    /// How often flows are looked at, 100ms to 60s of the capture's time [default: 1s]
    #[arg(long, value_name = "TIME")]
    pub interval: Option<String>,
    /// How long normal traffic is learned, 0s to 24h of the capture's time [default: 60s]
    #[arg(long, value_name = "TIME")]
    pub warmup: Option<String>,
}

impl ReplayArgs {
    /// How many candidates for beacons are printed.
    #[must_use]
    pub fn beacons(&self) -> usize {
        self.beacons.unwrap_or(if self.json { 50 } else { 0 })
    }

    /// Whether the capture comes from standard input.
    #[must_use]
    pub fn is_stdin(&self) -> bool {
        self.file.as_os_str() == "-"
    }
}

/// `leuko train`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:
  leuko train monday.pcap tuesday.pcapng --output office.leuko
  leuko train flows.csv --output office.leuko --contamination 0.01
  leuko train flows.csv --output office.leuko --classes --prior 0.999   name the attacks of its labels, too
  leuko train UNSW_NB15_training-set.csv --output unsw.leuko            a benchmark: `leuko run` cannot use it
  leuko train flows.csv --output try.leuko --models isolation_forest=1 --json

Inputs are told by their content: flows of `leuko replay --export`, tables of UNSW-NB15 with their header, and captures
(pcap, pcapng). A capture is replayed, and flows of the incidents found in it are not learned. Labelled attacks (label 1,
class in attack_cat) are not learned either, but measured; one row in five is held out to measure. Beside the model, with
.md at the end of its name, is written what it is worth.")]
pub struct TrainArgs {
    /// Tables of flows or captures, all with the same columns
    #[arg(required = true, value_name = "INPUT")]
    pub inputs: Vec<PathBuf>,
    /// Where the model goes; its card and its classifier go beside it
    #[arg(short, long, value_name = "MODEL")]
    pub output: PathBuf,
    /// Fraction of the normal rows that are not normal, nobody knows which: so many are left out, 0 to 0.5
    #[arg(long, value_name = "F", default_value_t = 0.0)]
    pub contamination: f64,
    /// The only source of randomness: the same inputs and the same seed give the same model
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Models with their weights, such as isolation_forest=0.5,clusters=0.5 [default: the usual ones]
    #[arg(long, value_name = "NAME=WEIGHT", value_delimiter = ',', value_parser = weighted_model)]
    pub models: Vec<(ModelKind, f64)>,
    /// Also train a classifier that names the classes of the labelled attacks
    #[arg(long)]
    pub classes: bool,
    /// Share of normal flows to expect where the classifier will run, such as 0.999 [default: that of the rows]
    #[arg(long, value_name = "F", requires = "classes")]
    pub prior: Option<f64>,
    /// Print one JSON object in place of text
    #[arg(long)]
    pub json: bool,
    /// Refused: it belongs to `leuko run`
    #[arg(long, hide = true, value_name = "N", value_parser = belongs_to_run)]
    pub alerts_per_day: Option<String>,
}

/// `leuko doctor`.
#[derive(Args, Clone, Debug, Default)]
#[command(after_help = "Examples:
  sudo leuko doctor
  sudo leuko doctor --interface eth0 --try-attach
  leuko doctor --json

Exits with 1 when a check fails. Nothing is changed, and no message is sent to anybody; receivers are asked
whether they are there. --try-attach attaches the programs for a moment, which may interrupt the link on some
network cards.")]
pub struct DoctorArgs {
    /// Interface to check, as for `leuko run`; repeat it or use commas for several [default: as `leuko run`]
    #[arg(short, long, value_name = "IF", value_delimiter = ',')]
    pub interface: Vec<String>,
    /// Print one JSON object in place of a table
    #[arg(long)]
    pub json: bool,
    /// Attach the programs to the interfaces, and detach them again
    #[arg(long)]
    pub try_attach: bool,
}

/// `leuko config`.
#[derive(Args, Clone, Debug, Default)]
#[command(after_help = "Examples:
  leuko config
  leuko config --json
  leuko config --config leuko.toml             whether this file is right
  leuko config > leuko.toml                    a file to begin with

Secrets are printed as \"***\", which is refused when it is read again.")]
pub struct ConfigArgs {
    /// Print one JSON object in place of TOML
    #[arg(long)]
    pub json: bool,
}

/// `leuko unpin`.
#[derive(Args, Clone, Debug, Default)]
#[command(after_help = "Examples:
  sudo leuko unpin
  sudo leuko unpin /sys/fs/bpf/edge

Programs are detached and their counts are gone. Stop the sensor first.")]
pub struct UnpinArgs {
    /// The folder [default: that of kernel.pin, or /sys/fs/bpf/leuko]
    #[arg(value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// `leuko completions`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:
  leuko completions bash > /etc/bash_completion.d/leuko
  leuko completions zsh > /usr/local/share/zsh/site-functions/_leuko
  leuko completions fish > /etc/fish/completions/leuko.fish")]
pub struct CompletionsArgs {
    /// The shell
    pub shell: clap_complete::Shell,
}

impl CompletionsArgs {
    /// The script.
    #[must_use]
    pub fn script(&self) -> Vec<u8> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "leuko", &mut script);
        script
    }
}

impl Cli {
    /// The configuration of this invocation. `replay` and `train` read the file of `--config` and nothing
    /// else.
    ///
    /// # Errors
    /// See [`Config::load`].
    pub fn load_config(&self) -> Result<Config, ConfigError> {
        let mut config = Config::load(&self.sources()?)?;
        let tells_nobody = match &self.command {
            Command::Run(run) => run.no_notify,
            Command::Replay(_) | Command::Train(_) => true,
            Command::Block(_)
            | Command::Unblock(_)
            | Command::Blocks(_)
            | Command::Incidents(_)
            | Command::Feedback(_)
            | Command::Flows(_)
            | Command::Mute(_)
            | Command::Notify(_)
            | Command::Audit(_)
            | Command::Store(_)
            | Command::Doctor(_)
            | Command::Canary(_)
            | Command::Config(_)
            | Command::Unpin(_)
            | Command::Completions(_) => false,
        };
        if tells_nobody {
            config.notify = NotifyConfig::default();
        }
        Ok(config)
    }

    fn sources(&self) -> Result<ConfigSources, ConfigError> {
        let file = self.global.config.clone();
        let overrides = self.overrides();
        match &self.command {
            Command::Replay(_) | Command::Train(_) => Ok(ConfigSources { file, env: Vec::new(), overrides }),
            Command::Run(_)
            | Command::Block(_)
            | Command::Unblock(_)
            | Command::Blocks(_)
            | Command::Incidents(_)
            | Command::Feedback(_)
            | Command::Flows(_)
            | Command::Mute(_)
            | Command::Notify(_)
            | Command::Audit(_)
            | Command::Store(_)
            | Command::Doctor(_)
            | Command::Canary(_)
            | Command::Config(_)
            | Command::Unpin(_)
            | Command::Completions(_) => ConfigSources::of_process(file, overrides),
        }
    }

    /// Every flag that is a setting.
    #[must_use]
    pub fn overrides(&self) -> Vec<Override> {
        let mut flags = vec![("--log-level", "log_level", self.global.log_level.clone())];
        let joined = |names: &[String]| (!names.is_empty()).then(|| names.join(","));
        match &self.command {
            Command::Run(run) => flags.extend([
                ("--interface", "interfaces", joined(&run.interface)),
                ("--interval", "interval", run.interval.clone()),
                ("--warmup", "warmup", run.warmup.clone()),
                ("--xdp-mode", "kernel.xdp_mode", run.xdp_mode.and_then(name_of)),
                ("--egress", "kernel.egress", run.egress.and_then(name_of)),
                ("--flows", "kernel.flows", run.flows.map(|flows| flows.to_string())),
                ("--sampling", "kernel.sampling", run.sampling.map(|sampling| sampling.to_string())),
                ("--pin", "kernel.pin", run.pin.as_ref().map(|dir| dir.to_string_lossy().into_owned())),
                ("--metrics-listen", "metrics.listen", run.metrics_listen.clone()),
                ("--canary", "canary.every", run.canary.clone()),
                ("--respond", "respond.mode", run.respond.map(|mode| mode.to_string())),
                ("--state-dir", "state_dir", run.state_dir.as_ref().map(|dir| dir.to_string_lossy().into_owned())),
            ]),
            Command::Replay(replay) => flags.extend([
                ("--interval", "interval", replay.interval.clone()),
                ("--warmup", "warmup", replay.warmup.clone()),
            ]),
            Command::Incidents(IncidentsArgs { state_dir, .. })
            | Command::Feedback(FeedbackArgs { state_dir, .. })
            | Command::Flows(FlowsArgs { state_dir, .. })
            | Command::Mute(MuteArgs { state_dir, .. })
            | Command::Notify(NotifyArgs { state_dir, .. })
            | Command::Audit(AuditArgs { state_dir, .. })
            | Command::Block(BlockArgs { state_dir, .. })
            | Command::Unblock(UnblockArgs { state_dir, .. })
            | Command::Blocks(BlocksArgs { state_dir, .. })
            | Command::Store(StoreArgs { state_dir, .. }) => {
                let dir = state_dir.as_ref().map(|dir| dir.to_string_lossy().into_owned());
                flags.push(("--state-dir", "state_dir", dir));
            }
            Command::Canary(canary) => flags.push(("--interval", "interval", canary.interval.clone())),
            Command::Doctor(doctor) => flags.push(("--interface", "interfaces", joined(&doctor.interface))),
            Command::Train(_) | Command::Config(_) | Command::Unpin(_) | Command::Completions(_) => {}
        }
        flags.into_iter().filter_map(|(flag, path, text)| Override::new(flag, path, text?)).collect()
    }
}

fn name_of(choice: impl clap::ValueEnum) -> Option<String> {
    Some(choice.to_possible_value()?.get_name().to_owned())
}

pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let secs = seconds(text.trim()).filter(|secs| *secs > 0.0).and_then(|secs| Duration::try_from_secs_f64(secs).ok());
    secs.ok_or_else(|| "write for instance 90s, 15m or 2h".to_owned())
}

fn weighted_model(text: &str) -> Result<(ModelKind, f64), String> {
    let (name, weight) = text.split_once('=').unwrap_or((text, "1"));
    let kind = name.trim().parse::<ModelKind>().map_err(|error| error.to_string())?;
    let weight = weight.trim().parse().ok().filter(|weight: &f64| weight.is_finite() && *weight > 0.0);
    Ok((kind, weight.ok_or_else(|| format!("write {kind}=0.5: a weight is a number above 0"))?))
}

fn mode(text: &str) -> Result<Mode, String> {
    Mode::named(text).ok_or_else(|| format!("there are {}", Mode::ALL.map(Mode::as_str).join(", ")))
}

fn belongs_to_run(_: &str) -> Result<String, String> {
    Err("how many alerts a day you want belongs to `leuko run`, where it moves the threshold (detect.alerts_per_day); \
         here, --contamination says which fraction of the rows is not normal"
        .to_owned())
}

fn belongs_to_train(_: &str) -> Result<String, String> {
    Err("the fraction of rows that is not normal belongs to `leuko train`, where it is left out of the fit; \
         here, detect.alerts_per_day says how many alerts you want"
        .to_owned())
}
