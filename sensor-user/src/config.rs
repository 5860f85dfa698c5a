//! The configuration: defaults, then a TOML file, then the environment, then flags, checked as a whole.

pub mod datapath;
mod environment;
pub mod interface;
mod layers;
pub mod network;
mod print;
pub mod respond;
pub mod setting;
pub mod suppress;
pub mod value;
mod words;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use sensor_core::flow::Timeouts;
use sensor_core::incident::{Class, Language};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use self::datapath::{Sampling, Tunnel};
use self::interface::InterfaceSpec;
use self::layers::Layers;
pub use self::layers::{Origin, Override};
use self::network::Network;
use self::respond::RespondConfig;
use self::setting::Setting;
use self::suppress::Suppress;
use self::value::{
    AlertsPerDay, CanaryInterval, FlowCapacity, Interval, Keep, Listen, LogFilter, SensorName, Size, Timeout, Warmup,
};
use crate::harden::HardenConfig;
use crate::notify::NotifyConfig;
use crate::source::kernel::attach::{EgressChoice, XdpChoice};

/// Read when no other file is named and it exists.
pub const DEFAULT_FILE: &str = "/etc/leuko/leuko.toml";

/// Everything that can be configured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What to watch, without duplicates; empty for the interface of the default route.
    pub interfaces: Vec<InterfaceSpec>,
    /// Time between two polls of the flow table.
    pub interval: Interval,
    /// Time of learning before there is a baseline; zero for none.
    pub warmup: Warmup,
    /// Where the baseline is kept.
    pub state_dir: PathBuf,
    /// Where the log is written as well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_file: Option<PathBuf>,
    /// What is logged.
    pub log_level: LogFilter,
    /// Of the sentences about incidents.
    pub language: Language,
    /// Name of this sensor; see [`Config::sensor_name`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sensor: Option<SensorName>,
    /// `[kernel]`
    pub kernel: KernelConfig,
    /// `[timeouts]`
    pub timeouts: TimeoutsConfig,
    /// `[metrics]`
    pub metrics: MetricsConfig,
    /// `[canary]`
    pub canary: CanaryConfig,
    /// `[store]`
    pub store: StoreConfig,
    /// `[detect]`
    pub detect: DetectConfig,
    /// `[respond]`
    pub respond: RespondConfig,
    /// `[harden]`
    pub harden: HardenConfig,
    /// `[notify]`
    pub notify: NotifyConfig,
}

/// `[kernel]`: the programs and their table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KernelConfig {
    /// How XDP is attached.
    pub xdp_mode: XdpChoice,
    /// How packets that leave are seen.
    pub egress: EgressChoice,
    /// Entries of the flow table.
    pub flows: FlowCapacity,
    /// One packet of so many is looked at.
    pub sampling: Sampling,
    /// Tunnels whose inner packets are counted in place of the outer ones.
    pub tunnels: BTreeSet<Tunnel>,
    /// Folder in a BPF filesystem that keeps programs and maps while no sensor runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pin: Option<PathBuf>,
}

/// `[timeouts]`: when flows end, see [`Timeouts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are those of Timeouts")]
pub struct TimeoutsConfig {
    pub tcp_idle: Timeout,
    pub tcp_closed: Timeout,
    pub tcp_opening: Timeout,
    pub udp_idle: Timeout,
    pub dns_idle: Timeout,
    pub icmp_idle: Timeout,
    pub active: Timeout,
}

/// `[metrics]`: what Prometheus reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetricsConfig {
    /// Where.
    pub listen: Listen,
}

/// `[canary]`: the self-test of a sensor that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CanaryConfig {
    /// How often; zero for never.
    pub every: CanaryInterval,
}

impl Default for CanaryConfig {
    fn default() -> Self {
        Self { every: CanaryInterval::from_millis(0) }
    }
}

/// `[store]`: what is kept, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreConfig {
    /// Whether flows that ended are kept.
    pub flows: bool,
    /// How long incidents are, with what became of them, and the audit trail.
    pub keep: Keep,
    /// How long flows are; then their sums by the hour.
    pub keep_flows: Keep,
    /// How long sums are.
    pub keep_summaries: Keep,
    /// How much the file holds: the oldest flows go first.
    pub max_size: Size,
}

impl Default for StoreConfig {
    fn default() -> Self {
        let days = |days: u64| Keep::from_millis(days * 86_400_000);
        Self {
            flows: true,
            keep: days(365),
            keep_flows: days(7),
            keep_summaries: days(90),
            max_size: Size::from_megabytes(1000),
        }
    }
}

/// `[detect]`: how much is reported, and what is not.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DetectConfig {
    /// Alerts a day that are acceptable: the thresholds of what is a matter of chance follow.
    pub alerts_per_day: AlertsPerDay,
    /// Classes that are not reported.
    pub disable: Vec<Class>,
    /// Who is never reported as an attacker.
    pub allow: Vec<Network>,
    /// Networks that are ours, besides private ones and the addresses of this host.
    pub local: Vec<Network>,
    /// What is not reported, why and until when.
    pub suppress: Vec<Suppress>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            interfaces: Vec::new(),
            interval: Interval::from_millis(1000),
            warmup: Warmup::from_millis(60_000),
            state_dir: PathBuf::from("/var/lib/leuko"),
            log_file: None,
            log_level: LogFilter::default(),
            language: Language::default(),
            sensor: None,
            kernel: KernelConfig::default(),
            timeouts: TimeoutsConfig::default(),
            metrics: MetricsConfig::default(),
            canary: CanaryConfig::default(),
            store: StoreConfig::default(),
            detect: DetectConfig::default(),
            respond: RespondConfig::default(),
            harden: HardenConfig::default(),
            notify: NotifyConfig::default(),
        }
    }
}

impl Default for TimeoutsConfig {
    fn default() -> Self {
        let timeout =
            |span: std::time::Duration| Timeout::from_millis(u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
        let core = Timeouts::default();
        Self {
            tcp_idle: timeout(core.tcp_idle),
            tcp_closed: timeout(core.tcp_closed),
            tcp_opening: timeout(core.tcp_opening),
            udp_idle: timeout(core.udp_idle),
            dns_idle: timeout(core.dns_idle),
            icmp_idle: timeout(core.icmp_idle),
            active: timeout(core.active),
        }
    }
}

impl From<TimeoutsConfig> for Timeouts {
    fn from(config: TimeoutsConfig) -> Self {
        Self {
            tcp_idle: config.tcp_idle.get(),
            tcp_closed: config.tcp_closed.get(),
            tcp_opening: config.tcp_opening.get(),
            udp_idle: config.udp_idle.get(),
            dns_idle: config.dns_idle.get(),
            icmp_idle: config.icmp_idle.get(),
            active: config.active.get(),
        }
    }
}

impl DetectConfig {
    /// Whether `addr` may be reported as an attacker.
    #[must_use]
    pub fn is_allowed(&self, addr: IpAddr) -> bool {
        self.allow.iter().any(|network| network.contains(addr))
    }
}

/// What a configuration is made of. No `Debug`: the environment may hold secrets.
#[derive(Clone, Default)]
pub struct ConfigSources {
    /// The file, which has to exist.
    pub file: Option<PathBuf>,
    /// Environment variables; those that do not begin with `LEUKO_` are ignored.
    pub env: Vec<(String, String)>,
    /// Flags; they go before all else.
    pub overrides: Vec<Override>,
}

impl ConfigSources {
    /// The file that `--config` names, else `LEUKO_CONFIG`, else [`DEFAULT_FILE`] if it exists, and this process's
    /// environment.
    ///
    /// # Errors
    /// When a variable that begins with `LEUKO_` is not UTF-8.
    pub fn of_process(file: Option<PathBuf>, overrides: Vec<Override>) -> Result<Self, ConfigError> {
        let mut env = Vec::new();
        for (name, value) in std::env::vars_os() {
            let Some(name) = name.to_str().filter(|name| name.starts_with("LEUKO_")) else { continue };
            let value = value.into_string().map_err(|_| ConfigError::NotText { name: name.to_owned() })?;
            env.push((name.to_owned(), value));
        }
        let named = || env.iter().find(|(name, value)| name == "LEUKO_CONFIG" && !value.is_empty());
        let file = file.or_else(|| named().map(|(_, path)| PathBuf::from(path)));
        let file = file.or_else(|| Some(PathBuf::from(DEFAULT_FILE)).filter(|path| path.exists()));
        Ok(Self { file, env, overrides })
    }
}

impl Override {
    /// A setting given by `origin`, a flag such as `--interval`; none when there is no setting at `path`.
    #[must_use]
    pub fn new(origin: &str, path: &str, text: impl Into<String>) -> Option<Self> {
        Some(Self { origin: origin.to_owned(), setting: Setting::find(path)?, text: text.into() })
    }
}

impl Config {
    /// Reads, merges and checks the sources.
    ///
    /// # Errors
    /// The first mistake, with the line, variable or flag that made it and what is allowed there.
    pub fn load(sources: &ConfigSources) -> Result<Self, ConfigError> {
        let path = sources.file.as_deref();
        let text = match path {
            None => String::new(),
            Some(path) => {
                fs::read_to_string(path).map_err(|cause| ConfigError::Unreadable { path: path.to_owned(), cause })?
            }
        };
        let mut overrides =
            environment::overrides(sources.env.iter().map(|(name, value)| (name.as_str(), value.as_str())))?;
        overrides.extend(sources.overrides.iter().cloned());
        let mut layers = Layers::new(path.unwrap_or(Path::new(DEFAULT_FILE)), &text, &overrides)?;
        // What is wrong in the file is told even where something else goes before it.
        layers.check::<Self>()?;
        layers.overlay();
        let config: Self = layers.read()?;
        config.check().map_err(|(keys, message)| ConfigError::Invalid { origin: layers.origin_of(keys), message })?;
        Ok(config)
    }

    /// The configured name, else the name of this host.
    #[must_use]
    pub fn sensor_name(&self) -> String {
        let host =
            || fs::read_to_string("/proc/sys/kernel/hostname").ok().and_then(|name| SensorName::try_from(name).ok());
        self.sensor.clone().or_else(host).map_or_else(|| "leuko".to_owned(), String::from)
    }

    /// All settings as commented TOML. Secrets are `***`, which [`Config::load`] refuses.
    #[must_use]
    pub fn effective_toml(&self) -> String {
        print::toml(self)
    }

    /// Rules about more than one value: the keys concerned, and what is wrong.
    fn check(&self) -> Result<(), (&'static [&'static str], String)> {
        let mut specs: Vec<&InterfaceSpec> = self.interfaces.iter().collect();
        specs.sort_unstable();
        if let Some(twice) = specs.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err((&["interfaces"], format!("lists {} twice", twice[0])));
        }
        if !self.warmup.get().is_zero() && self.warmup.get() < self.interval.get() {
            let message = format!(
                "a warm-up of {} is shorter than the interval of {}: make it longer, or 0s for none",
                self.warmup, self.interval
            );
            return Err((&["warmup", "interval"], message));
        }
        let mut names = BTreeSet::new();
        if let Some(twice) = self.detect.suppress.iter().find(|rule| !names.insert(rule.name())) {
            return Err((&["detect.suppress"], format!("has two rules called {}", twice.name())));
        }
        for (keys, path) in [(&["state_dir"] as &[_], Some(&self.state_dir)), (&["log_file"], self.log_file.as_ref())] {
            if path.is_some_and(|path| path.as_os_str().is_empty()) {
                return Err((keys, "is empty: give a path".to_owned()));
            }
        }
        Ok(())
    }
}

/// Why there is no configuration. Never holds a secret.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file is missing, or may not be read.
    #[error("read the configuration file {}: {cause}", path.display())]
    Unreadable {
        /// As it was given.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// A value that is not allowed.
    #[error("{origin}: {message}")]
    Invalid {
        /// Who gave it.
        origin: Origin,
        /// What is wrong, and what is allowed.
        message: String,
    },
    /// A variable that sets nothing.
    #[error("{name}: there is no such setting{}", hint(near))]
    UnknownVariable {
        /// The variable.
        name: String,
        /// Variables that may have been meant.
        near: Vec<String>,
    },
    /// Two variables for one setting.
    #[error("{name}: the same setting is given by {other}: remove one of the two")]
    Twice {
        /// One variable.
        name: String,
        /// The other.
        other: String,
    },
    /// A variable with bytes that are no text.
    #[error("{name}: the value is not UTF-8")]
    NotText {
        /// The variable.
        name: String,
    },
}

fn hint(near: &[String]) -> String {
    if near.is_empty() {
        return " (`leuko config` lists them: LEUKO_ and the key in capitals, `.` as `_`)".to_owned();
    }
    format!("; did you mean {}?", near.join(" or "))
}
