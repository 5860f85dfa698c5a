//! The policy: what is done about which attacks, for how long, and how much of it at most.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::incident::{Class, Severity};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// How far the sensor goes by itself. What people decide is done in every mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// It does nothing.
    Off,
    /// It counts what it would drop.
    #[default]
    Observe,
    /// It lets few packets of an attacker pass.
    RateLimit,
    /// It lets none pass.
    Drop,
}

impl Mode {
    /// Every mode, mildest first.
    pub const ALL: [Self; 4] = [Self::Off, Self::Observe, Self::RateLimit, Self::Drop];

    /// The mode of an identifier.
    #[must_use]
    pub fn named(identifier: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == identifier)
    }

    /// The stable identifier, e.g. `rate-limit`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Observe => "observe",
            Self::RateLimit => "rate-limit",
            Self::Drop => "drop",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What is done about which attacks. Any values are safe; contradictions are settled in favour of whoever would be blocked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How far the sensor goes by itself.
    pub mode: Mode,
    /// The least severity of a class that is acted upon; nothing is ever done about a class that is not here.
    pub floor: BTreeMap<Class, Severity>,
    /// How far the sensor goes about a class, where that is less far than in general.
    pub max_mode: BTreeMap<Class, Mode>,
    /// How long an automatic block is, the first time.
    pub first: Duration,
    /// How many times longer it is with each further time.
    pub factor: u32,
    /// How long it is at most.
    pub longest: Duration,
    /// How long an offence makes the next block longer.
    pub remembered: Duration,
    /// Automatic blocks at once.
    pub entries: usize,
    /// New automatic blocks in any minute.
    pub per_minute: usize,
    /// Leading bits of the IPv6 addresses that are taken for one host: providers give a /64 to each customer and more (RFC
    /// 6177), and any host can use all of one.
    pub host_v6: u8,
    /// Leading bits of IPv4 that a block has at least.
    pub widest_v4: u8,
    /// The same of IPv6.
    pub widest_v6: u8,
    /// How long a person can block at most.
    pub longest_by_person: Duration,
    /// Blocks by people at once.
    pub entries_by_person: usize,
    /// Packets a second that pass of an attacker in [`Mode::RateLimit`].
    pub limit: u32,
    /// Connection requests of strangers a second that pass to a service that is flooded with them.
    pub requests: u32,
    /// How long after its first start the sensor only counts, in all modes.
    pub observe_first: Duration,
    /// How long whoever was unblocked is left alone by the sensor.
    pub forgiven: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        // Of classes that are not here the attacker is often a host of one's own, or an innocent reflector.
        let floor = [
            (Class::PortScan, Severity::Medium),
            (Class::HostScan, Severity::Medium),
            (Class::BruteForce, Severity::Medium),
            (Class::SlowDos, Severity::High),
            (Class::SynFlood, Severity::High),
            (Class::ConnectionFlood, Severity::High),
            (Class::UdpFlood, Severity::High),
            (Class::IcmpFlood, Severity::High),
        ];
        Self {
            mode: Mode::Observe,
            floor: BTreeMap::from(floor),
            max_mode: BTreeMap::new(),
            first: 10 * MINUTE,
            factor: 4,
            longest: DAY,
            remembered: 7 * DAY,
            entries: 1024,
            per_minute: 30,
            host_v6: 64,
            widest_v4: 24,
            widest_v6: 64,
            longest_by_person: 30 * DAY,
            entries_by_person: 1024,
            limit: 100,
            requests: 200,
            observe_first: DAY,
            forgiven: HOUR,
        }
    }
}

impl Policy {
    /// How far the sensor goes about an attack.
    #[must_use]
    pub fn mode_for(&self, class: Class, severity: Severity) -> Mode {
        match self.floor.get(&class) {
            Some(&floor) if severity >= floor => self.mode_of(class),
            _ => Mode::Off,
        }
    }

    /// How far it goes about a class at its worst.
    #[must_use]
    pub fn mode_of(&self, class: Class) -> Mode {
        if !self.floor.contains_key(&class) {
            return Mode::Off;
        }
        self.max_mode.get(&class).map_or(self.mode, |&most| self.mode.min(most))
    }

    /// How long the automatic block is that follows an offence, of which this is the `count`th.
    #[must_use]
    pub fn span(&self, count: u32) -> Duration {
        let times = self.factor.max(1).saturating_pow(count.saturating_sub(1));
        self.first.checked_mul(times).unwrap_or(self.longest).min(self.longest)
    }

    /// The least prefix of a block.
    #[must_use]
    pub fn widest(&self, ipv4: bool) -> u8 {
        if ipv4 { self.widest_v4.min(32) } else { self.widest_v6.min(128) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_has_the_name_it_is_read_by() {
        for mode in Mode::ALL {
            assert_eq!(serde_json::to_string(&mode).unwrap(), format!("\"{mode}\""));
            assert_eq!(Mode::named(mode.as_str()), Some(mode));
        }
    }

    #[test]
    fn repeaters_are_blocked_for_longer_up_to_a_day() {
        let policy = Policy::default();
        let minutes = |count| policy.span(count).as_secs() / 60;
        assert_eq!([0, 1, 2, 3, 4, 5, u32::MAX].map(minutes), [10, 10, 40, 160, 640, 1440, 1440]);
        let odd = Policy { factor: 0, first: 2 * DAY, ..Policy::default() };
        assert_eq!(odd.span(3), DAY);
    }

    #[test]
    fn the_sensor_goes_as_far_as_mode_class_and_severity_allow() {
        let mut policy = Policy { mode: Mode::Drop, ..Policy::default() };
        policy.max_mode = BTreeMap::from([(Class::PortScan, Mode::Observe), (Class::SynFlood, Mode::Drop)]);
        for (class, severity, expected) in [
            (Class::BruteForce, Severity::High, Mode::Drop),
            (Class::BruteForce, Severity::Low, Mode::Off),
            (Class::PortScan, Severity::Critical, Mode::Observe),
            (Class::Exfiltration, Severity::Critical, Mode::Off),
            (Class::Amplification, Severity::Critical, Mode::Off),
        ] {
            assert_eq!(policy.mode_for(class, severity), expected, "{class}");
        }
        policy.mode = Mode::RateLimit;
        assert_eq!(policy.mode_for(Class::SynFlood, Severity::High), Mode::RateLimit, "a class goes no further");
    }
}
