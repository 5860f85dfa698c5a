//! Values that are right by construction, so that whoever holds a configuration needs no further checks.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use sensor_models::AlertBudget;
use serde::{Deserialize, Serialize};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

use crate::notify::value::seconds;

/// A time span from `MIN_MS` to `MAX_MS` milliseconds: `"500ms"`, `"60s"`, `"5m"`, `"1h30m"` or a number of seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "RawSpan", into = "String")]
pub struct Span<const MIN_MS: u64, const MAX_MS: u64>(Duration);

/// Time between two polls of the flow table.
pub type Interval = Span<100, 60_000>;
/// Time of learning before there is a baseline; zero for none.
pub type Warmup = Span<0, DAY_MS>;
/// Time between two canaries; zero for none.
pub type CanaryInterval = Span<0, DAY_MS>;
/// Time until a flow ends.
pub type Timeout = Span<1, DAY_MS>;

/// How long something is kept.
pub type Keep = Span<3_600_000, { 3650 * DAY_MS }>;

const DAY_MS: u64 = 86_400_000;

#[derive(Deserialize)]
#[serde(untagged, expecting = "a time span such as \"60s\", \"500ms\", \"5m\", \"1h30m\", or a number of seconds")]
enum RawSpan {
    Seconds(f64),
    Text(String),
}

impl<const MIN_MS: u64, const MAX_MS: u64> Span<MIN_MS, MAX_MS> {
    /// The span nearest to `millis` milliseconds.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        let millis = if millis < MIN_MS { MIN_MS } else { millis };
        Self(Duration::from_millis(if millis > MAX_MS { MAX_MS } else { millis }))
    }

    /// The span.
    #[must_use]
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl<const MIN_MS: u64, const MAX_MS: u64> TryFrom<RawSpan> for Span<MIN_MS, MAX_MS> {
    type Error = String;

    fn try_from(raw: RawSpan) -> Result<Self, String> {
        let secs = match raw {
            RawSpan::Seconds(secs) => Some(secs),
            RawSpan::Text(text) => seconds(text.trim()),
        };
        let secs = secs.ok_or("not a time span: write for instance \"60s\", \"500ms\", \"5m\" or \"1h30m\"")?;
        let span = Duration::try_from_secs_f64(secs).unwrap_or(Duration::MAX);
        let (min, max) = (Duration::from_millis(MIN_MS), Duration::from_millis(MAX_MS));
        if secs.is_sign_negative() || !(min..=max).contains(&span) {
            return Err(format!("must be from {} to {}", span_text(min), span_text(max)));
        }
        Ok(Self(span))
    }
}

impl<const MIN_MS: u64, const MAX_MS: u64> From<Span<MIN_MS, MAX_MS>> for String {
    fn from(span: Span<MIN_MS, MAX_MS>) -> Self {
        span_text(span.0)
    }
}

impl<const MIN_MS: u64, const MAX_MS: u64> fmt::Display for Span<MIN_MS, MAX_MS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&span_text(self.0))
    }
}

fn span_text(span: Duration) -> String {
    match span.as_millis() {
        0 => "0s".to_owned(),
        millis if millis > u128::from(DAY_MS) && millis.is_multiple_of(u128::from(DAY_MS)) => {
            format!("{}d", millis / u128::from(DAY_MS))
        }
        millis if millis.is_multiple_of(3_600_000) => format!("{}h", millis / 3_600_000),
        millis if millis.is_multiple_of(1000) => format!("{}s", millis / 1000),
        millis => format!("{millis}ms"),
    }
}

/// Octets, 16 MB to 64 TB: `"500MB"`, `"1GB"`, or a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawSize", into = "String")]
pub struct Size(u64);

#[derive(Deserialize)]
#[serde(untagged, expecting = "a size such as \"500MB\" or \"1GB\", or a number of octets")]
enum RawSize {
    Octets(u64),
    Text(String),
}

impl Size {
    const MIN: u64 = 16_000_000;
    const MAX: u64 = 64_000_000_000_000;

    /// So many million octets.
    #[must_use]
    pub const fn from_megabytes(megabytes: u32) -> Self {
        let octets = megabytes as u64 * 1_000_000;
        Self(if octets < Self::MIN { Self::MIN } else { octets })
    }

    /// Octets.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl TryFrom<RawSize> for Size {
    type Error = String;

    fn try_from(raw: RawSize) -> Result<Self, String> {
        let octets = match raw {
            RawSize::Octets(octets) => Some(octets),
            RawSize::Text(text) => octets(text.trim()),
        };
        let octets = octets.ok_or("not a size: write for instance \"500MB\" or \"1GB\"")?;
        if !(Self::MIN..=Self::MAX).contains(&octets) {
            return Err("must be from 16MB to 64TB".to_owned());
        }
        Ok(Self(octets))
    }
}

impl From<Size> for String {
    fn from(size: Size) -> Self {
        let units = [(1_000_000_000, "GB"), (1_000_000, "MB")];
        let exact = units.into_iter().find(|(unit, _)| size.0.is_multiple_of(*unit));
        exact.map_or_else(|| size.0.to_string(), |(unit, name)| format!("{}{name}", size.0 / unit))
    }
}

fn octets(text: &str) -> Option<u64> {
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let factor = match unit.to_ascii_uppercase().as_str() {
        "" | "B" => 1,
        "KB" => 1_000,
        "MB" | "M" => 1_000_000,
        "GB" | "G" => 1_000_000_000,
        "TB" | "T" => 1_000_000_000_000,
        "MIB" => 1 << 20,
        "GIB" => 1 << 30,
        _ => return None,
    };
    number.trim().parse::<u64>().ok()?.checked_mul(factor)
}

/// Entries of the flow table, 1,024 to 16,777,216.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "u32")]
pub struct FlowCapacity(u32);

impl FlowCapacity {
    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl Default for FlowCapacity {
    fn default() -> Self {
        Self(131_072)
    }
}

impl TryFrom<i64> for FlowCapacity {
    type Error = &'static str;

    fn try_from(flows: i64) -> Result<Self, Self::Error> {
        match u32::try_from(flows) {
            Ok(flows @ 1_024..=16_777_216) => Ok(Self(flows)),
            Ok(_) | Err(_) => Err("must be from 1024 to 16777216"),
        }
    }
}

impl From<FlowCapacity> for u32 {
    fn from(flows: FlowCapacity) -> Self {
        flows.0
    }
}

/// A whole number within bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "u32")]
pub struct Count<const MIN: u32, const MAX: u32>(u32);

impl<const MIN: u32, const MAX: u32> Count<MIN, MAX> {
    /// The number nearest to `number`.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        let number = if number < MIN { MIN } else { number };
        Self(if number > MAX { MAX } else { number })
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl<const MIN: u32, const MAX: u32> TryFrom<i64> for Count<MIN, MAX> {
    type Error = String;

    fn try_from(number: i64) -> Result<Self, String> {
        let within = u32::try_from(number).ok().filter(|number| (MIN..=MAX).contains(number));
        within.map(Self).ok_or_else(|| format!("must be from {MIN} to {MAX}"))
    }
}

impl<const MIN: u32, const MAX: u32> From<Count<MIN, MAX>> for u32 {
    fn from(count: Count<MIN, MAX>) -> Self {
        count.0
    }
}

/// Alerts a day that are acceptable, of those that are a matter of chance.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct AlertsPerDay(f64);

impl AlertsPerDay {
    /// The budget, with nothing spent.
    #[must_use]
    pub fn budget(self) -> AlertBudget {
        AlertBudget::new(self.0).expect("checked when it was made")
    }
}

impl Default for AlertsPerDay {
    fn default() -> Self {
        Self(10.0)
    }
}

impl TryFrom<f64> for AlertsPerDay {
    type Error = &'static str;

    fn try_from(alerts: f64) -> Result<Self, Self::Error> {
        AlertBudget::new(alerts).map(|_| Self(alerts)).map_err(|_| "must be more than 0 and at most 100000")
    }
}

impl From<AlertsPerDay> for f64 {
    fn from(alerts: AlertsPerDay) -> Self {
        alerts.0
    }
}

/// What the sensor is called in alerts and messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SensorName(String);

impl SensorName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for SensorName {
    type Error = &'static str;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        let name = name.trim();
        if name.is_empty() || name.len() > 255 || name.chars().any(char::is_control) {
            return Err("not a name: 1 to 255 printable characters such as \"web-1.example.org\"");
        }
        Ok(Self(name.to_owned()))
    }
}

impl From<SensorName> for String {
    fn from(name: SensorName) -> Self {
        name.0
    }
}

/// Where the metrics are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Listen {
    /// Nowhere.
    Off,
    /// At this address; port 0 for any free one.
    At(SocketAddr),
}

impl Listen {
    /// The address, when there is one.
    #[must_use]
    pub const fn address(self) -> Option<SocketAddr> {
        match self {
            Self::Off => None,
            Self::At(address) => Some(address),
        }
    }
}

impl Default for Listen {
    fn default() -> Self {
        Self::At(SocketAddr::from(([127, 0, 0, 1], 9101)))
    }
}

impl TryFrom<String> for Listen {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let address = text.parse().map(Self::At);
        address.map_err(|_| "must be an address with a port such as \"127.0.0.1:9101\" or \"[::1]:9101\", or \"off\"")
    }
}

impl From<Listen> for String {
    fn from(listen: Listen) -> Self {
        match listen {
            Listen::Off => "off".to_owned(),
            Listen::At(address) => address.to_string(),
        }
    }
}

/// What is logged: a level, or a list of directives such as `info,leuko::source=debug`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LogFilter(String);

impl LogFilter {
    /// Only what stops the sensor.
    #[must_use]
    pub fn errors() -> Self {
        Self("error".to_owned())
    }

    /// What was configured.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As `tracing` understands it. A plain level is meant for this program: of libraries, warnings are enough, and
    /// what they say at lower levels may hold what they were given, secrets included.
    #[must_use]
    pub fn filter(&self) -> EnvFilter {
        match self.0.parse::<LevelFilter>() {
            Ok(LevelFilter::OFF) => EnvFilter::new("off"),
            Ok(level) => {
                let others = level.min(LevelFilter::WARN);
                EnvFilter::new(format!("{others},leuko={level},sensor_core={level},sensor_models={level}"))
            }
            Err(_) => EnvFilter::new(&self.0),
        }
    }
}

impl Default for LogFilter {
    fn default() -> Self {
        Self("info".to_owned())
    }
}

impl TryFrom<String> for LogFilter {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];
        let text = text.trim();
        // A bare word that is no level would be taken for the name of a module, and everything else be silenced.
        let is_filter = text.contains(['=', ',']) && EnvFilter::try_new(text).is_ok();
        if LEVELS.contains(&text) || is_filter {
            return Ok(Self(text.to_owned()));
        }
        Err("must be one of error, warn, info, debug, trace, off, or a filter such as \"info,leuko::source=debug\""
            .into())
    }
}

impl From<LogFilter> for String {
    fn from(filter: LogFilter) -> Self {
        filter.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_print_as_they_are_read() {
        for (secs, text) in [(0.0, "0s"), (0.25, "250ms"), (90.0, "90s"), (7200.0, "2h")] {
            let span = Warmup::try_from(RawSpan::Seconds(secs)).unwrap();
            assert_eq!(span.to_string(), text);
            assert_eq!(Warmup::try_from(RawSpan::Text(text.to_owned())).unwrap(), span);
        }
    }

    #[test]
    fn a_plain_level_is_not_for_libraries() {
        let filter = |text: &str| LogFilter::try_from(text.to_owned()).unwrap().filter().to_string();
        assert!(filter("trace").contains("leuko=trace"));
        assert!(filter("trace").ends_with(",warn") || filter("trace").starts_with("warn,"), "{}", filter("trace"));
        assert!(filter("error").contains("leuko=error") && !filter("error").contains("warn"));
        assert_eq!(filter("off"), "off");
        assert!(filter("info,hyper=trace").contains("hyper=trace"));
    }
}
