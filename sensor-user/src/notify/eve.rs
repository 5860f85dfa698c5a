//! A file in Suricata's EVE format, one JSON object a line, for the programs that read Suricata's.
//!
//! See [`crate::export::eve`] for what the lines say.

mod log;
#[cfg(test)]
mod tests;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

pub use self::writer::EveFile;
use super::Wiring;
use super::sink::{Refusal, Sink};
use super::terms::{Terms, table};
use super::value::Period;
use crate::atomic;
use crate::export::eve;
use crate::store::Event;

/// `[[notify.eve]]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawConfig", into = "RawConfig")]
pub struct EveConfig {
    /// Where the lines go; its folder exists.
    pub file: PathBuf,
    /// Whether flows that ended are written, too.
    pub flows: bool,
    /// Whether counters are written, too.
    pub stats: bool,
    /// How often they are.
    pub stats_every: Period,
    /// A file that would grow beyond this is put aside as `eve.json.1`.
    pub rotate_size: Size,
    /// How many files that were put aside are kept.
    pub keep: u32,
    /// On which terms it is told.
    pub terms: Terms,
}

/// A number of octets: `"100MB"`, `"64KiB"`, `"1GB"` or a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "RawSize", into = "String")]
pub struct Size(u64);

#[derive(Deserialize)]
#[serde(untagged, expecting = "a size such as \"100MB\", or a number of octets")]
enum RawSize {
    Octets(u64),
    Text(String),
}

impl Size {
    /// In octets.
    #[must_use]
    pub const fn octets(self) -> u64 {
        self.0
    }
}

impl TryFrom<RawSize> for Size {
    type Error = String;

    fn try_from(raw: RawSize) -> Result<Self, String> {
        let octets = match raw {
            RawSize::Octets(octets) => Some(octets),
            RawSize::Text(text) => {
                let text = text.trim();
                let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len()));
                let factor: Option<u64> = match unit {
                    "B" => Some(1),
                    "KB" => Some(1000),
                    "MB" => Some(1_000_000),
                    "GB" => Some(1_000_000_000),
                    "KiB" => Some(1 << 10),
                    "MiB" => Some(1 << 20),
                    "GiB" => Some(1 << 30),
                    _ => None,
                };
                number.trim().parse::<u64>().ok().zip(factor).and_then(|(number, factor)| number.checked_mul(factor))
            }
        };
        let octets = octets.ok_or("not a size: write for instance \"100MB\" or \"1GB\"")?;
        if octets < 4096 {
            return Err("a file of less than 4 KiB holds next to nothing".to_owned());
        }
        Ok(Self(octets))
    }
}

impl From<Size> for String {
    fn from(size: Size) -> Self {
        match size.0 {
            octets if octets.is_multiple_of(1_000_000) => format!("{}MB", octets / 1_000_000),
            octets => format!("{octets}B"),
        }
    }
}

table! {
    RawConfig {
        file: PathBuf,
        #[serde(default)]
        flows: bool,
        #[serde(default = "yes")]
        stats: bool,
        #[serde(default = "default_stats_every")]
        stats_every: Period,
        #[serde(default = "default_rotate_size")]
        rotate_size: Size,
        #[serde(default = "default_keep")]
        keep: u32,
    }
}

const fn yes() -> bool {
    true
}

const fn default_stats_every() -> Period {
    Period::from_secs(10)
}

const fn default_rotate_size() -> Size {
    Size(100_000_000)
}

const fn default_keep() -> u32 {
    5
}

impl TryFrom<RawConfig> for EveConfig {
    type Error = String;

    fn try_from(raw: RawConfig) -> Result<Self, String> {
        let terms = raw.terms(Terms::usual());
        if raw.keep > 1000 {
            return Err("keep is at most 1000".to_owned());
        }
        let RawConfig { file, flows, stats, stats_every, rotate_size, keep, .. } = raw;
        Ok(Self { file, flows, stats, stats_every, rotate_size, keep, terms })
    }
}

impl From<EveConfig> for RawConfig {
    fn from(config: EveConfig) -> Self {
        let EveConfig { file, flows, stats, stats_every, rotate_size, keep, terms } = config;
        Self::of(terms, file, flows, stats, stats_every, rotate_size, keep)
    }
}

/// Writes incidents to a file.
pub struct Eve {
    file: EveFile,
    sensor: String,
    timeout: Duration,
}

impl Eve {
    /// The sink of a table, and the way for flows and counters into the same file.
    ///
    /// # Errors
    /// There is no such folder, or `file` is one.
    pub fn build(config: &EveConfig, wiring: &Wiring) -> Result<(Self, EveFile)> {
        atomic::check_place(&config.file)?;
        let sensor = wiring.author.sensor.clone();
        let file = EveFile::new(config, &sensor)?;
        Ok((Self { file: file.clone(), sensor, timeout: config.terms.timeout.get() }, file))
    }
}

impl Sink for Eve {
    const BATCH: usize = 64;

    async fn deliver(&mut self, events: &[Event]) -> Result<(), Refusal> {
        let lines: String = events.iter().map(|event| eve::alert(event, &self.sensor)).collect();
        let flows: Vec<u64> = events.iter().flat_map(eve::flow_ids).collect();
        let log = Arc::clone(self.file.log());
        let written = spawn_blocking(move || {
            let mut log = log::lock(&log);
            log.alerted(flows);
            log.append(lines.as_bytes())
        });
        match timeout(self.timeout, written).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(error))) => Err(Refusal::later(error.to_string())),
            Ok(Err(_)) => Err(Refusal::later("the sensor is stopping")),
            Err(_) => Err(Refusal::later("the disk does not answer in time")),
        }
    }

    async fn digest(&mut self, events: &[Event]) -> Result<usize, Refusal> {
        self.deliver(events).await.map(|()| events.len())
    }
}
