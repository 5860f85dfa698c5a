//! `[respond]`: what is done about attackers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sensor_core::incident::{Class, Severity};
use sensor_core::respond::{Mode, Policy};
use serde::{Deserialize, Serialize};

use super::network::Network;
use super::value::{Count, Span};
use crate::respond::hook::HookConfig;
use crate::respond::lists::ListConfig;

/// How long a block is.
pub type BlockSpan = Span<{ 10 * SECOND_MS }, { 30 * DAY_MS }>;
/// How long the sensor only counts after it was started for the first time.
pub type ObserveFirst = Span<0, { 30 * DAY_MS }>;

const SECOND_MS: u64 = 1000;
const DAY_MS: u64 = 86_400_000;

/// The socket in the state directory by which people act.
pub const SOCKET: &str = "leuko.sock";

/// `[respond]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RespondConfig {
    /// How far the sensor goes by itself.
    pub mode: Mode,
    /// Who is never blocked, besides whom `detect.allow` names.
    pub never: Vec<Network>,
    /// How long the sensor only counts after it was started for the first time.
    pub observe_first: ObserveFirst,
    /// How long the first automatic block of somebody is; each further one is four times as long.
    pub first: BlockSpan,
    /// How long an automatic block is at most.
    pub longest: BlockSpan,
    /// Automatic blocks at once.
    pub entries: Count<1, 100_000>,
    /// New automatic blocks in any minute.
    pub per_minute: Count<1, 10_000>,
    /// Packets a second that pass of an attacker where it is limited.
    pub limit: Count<1, 1_000_000>,
    /// Connection requests of strangers a second that pass to a service that is flooded with them.
    pub requests: Count<1, 1_000_000>,
    /// Blocks that the kernel has room for, those of lists included.
    pub capacity: Count<1024, 4_194_304>,
    /// The socket by which `leuko block` acts; see [`Self::socket`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket: Option<PathBuf>,
    /// Whether nftables enforces what is blocked, too.
    pub nftables: bool,
    /// A file with what is blocked, for firewalls that read it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// `[respond.classes]`: what is done about which attacks, where that is not the usual.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub classes: BTreeMap<Class, ClassConfig>,
    /// `[respond.webhook]`: who is told of blocks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<HookConfig>,
    /// `[[respond.lists]]`: lists of addresses from elsewhere.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lists: Vec<ListConfig>,
}

/// What is done about a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassConfig {
    /// How far the sensor goes, at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// The least severity that is acted upon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
}

impl Default for RespondConfig {
    fn default() -> Self {
        let Policy { mode, first, longest, entries, per_minute, limit, requests, observe_first, .. } =
            Policy::default();
        let millis = |span: std::time::Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Self {
            mode,
            never: Vec::new(),
            observe_first: Span::from_millis(millis(observe_first)),
            first: Span::from_millis(millis(first)),
            longest: Span::from_millis(millis(longest)),
            entries: Count::new(count(entries)),
            per_minute: Count::new(count(per_minute)),
            limit: Count::new(limit),
            requests: Count::new(requests),
            capacity: Count::new(65_536),
            socket: None,
            nftables: false,
            file: None,
            classes: BTreeMap::new(),
            webhook: None,
            lists: Vec::new(),
        }
    }
}

impl RespondConfig {
    /// The policy of the ladder.
    #[must_use]
    pub fn policy(&self) -> Policy {
        let mut policy = Policy {
            mode: self.mode,
            first: self.first.get(),
            longest: self.longest.get().max(self.first.get()),
            entries: self.entries.get() as usize,
            per_minute: self.per_minute.get() as usize,
            limit: self.limit.get(),
            requests: self.requests.get(),
            observe_first: self.observe_first.get(),
            ..Policy::default()
        };
        for (&class, wanted) in &self.classes {
            let floor = wanted.severity.or(policy.floor.get(&class).copied());
            // To name a class with a mode and nothing else is to want something done about it.
            policy.floor.insert(class, floor.unwrap_or(Severity::Medium));
            policy.max_mode.extend(wanted.mode.map(|mode| (class, mode)));
        }
        policy
    }

    /// The socket by which people act on a sensor with this state directory.
    #[must_use]
    pub fn socket(&self, state_dir: &Path) -> PathBuf {
        self.socket.clone().unwrap_or_else(|| state_dir.join(SOCKET))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Result<RespondConfig, toml::de::Error> {
        toml::from_str(text)
    }

    #[test]
    fn the_defaults_are_those_of_the_ladder() {
        assert_eq!(RespondConfig::default().policy(), Policy::default());
        assert_eq!(config("").unwrap(), RespondConfig::default());
    }

    #[test]
    fn classes_have_a_policy_of_their_own() {
        let text = "mode = \"drop\"\n[classes]\nport_scan = { mode = \"observe\" }\nbrute_force = { severity = \"high\" }\n\
                    syn_flood = { mode = \"off\" }\nexfiltration = { mode = \"drop\", severity = \"critical\" }";
        let policy = config(text).unwrap().policy();
        for (class, severity, mode) in [
            (Class::PortScan, Severity::High, Mode::Observe),
            (Class::BruteForce, Severity::Medium, Mode::Off),
            (Class::BruteForce, Severity::High, Mode::Drop),
            (Class::SynFlood, Severity::Critical, Mode::Off),
            (Class::Exfiltration, Severity::High, Mode::Off),
            (Class::Exfiltration, Severity::Critical, Mode::Drop),
            (Class::Beacon, Severity::Critical, Mode::Off),
        ] {
            assert_eq!(policy.mode_for(class, severity), mode, "{class} {severity}");
        }
    }

    #[test]
    fn mistakes_say_what_is_allowed() {
        for (text, expected) in [
            ("mode = \"block\"", "expected one of `off`, `observe`, `rate-limit`, `drop`"),
            ("entries = 0", "must be from 1 to 100000"),
            ("first = \"1s\"", "must be from 10s to 30d"),
            ("[classes]\nport_scan = { modus = \"off\" }", "unknown field `modus`"),
            ("never = [\"0.0.0.0/0\"]", "0.0.0.0/0"),
        ] {
            let error = config(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
