//! What Leuko says of a capture: replayed as `leuko replay` does, with the shipped classifier and the usual settings.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::num::NonZero;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context as _, Result};
use leuko::config::Config;
use leuko::replay::{Output, ReplayOptions, replay, replay_connections};
use leuko::source::input::Input;
use sensor_core::contract::BeaconLine;
use sensor_core::engine::EngineConfig;
use sensor_core::incident::IncidentEvent;
use sensor_core::time::Timestamp;

/// An incident as it was when it closed.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// Identifier of its class.
    pub class: String,
    /// Named attackers.
    pub attackers: Vec<IpAddr>,
    /// Named victims.
    pub victims: Vec<IpAddr>,
    /// First packet of the behaviour.
    pub first_seen: Timestamp,
    /// The tick that found it.
    pub detected_at: Timestamp,
    /// Latest packet of the behaviour.
    pub last_seen: Timestamp,
    /// The tick that closed it.
    pub closed_at: Timestamp,
    /// Its evidence as JSON, in lower case.
    pub evidence: String,
}

/// What was said of a capture.
#[derive(Clone, Debug, PartialEq)]
pub struct Observed {
    /// Incidents in the order in which they were found.
    pub incidents: Vec<Seen>,
    /// Event time of the capture, seconds.
    pub seconds: f64,
    /// Candidates for beacons, most regular first.
    pub beacons: Vec<BeaconLine>,
}

impl Seen {
    /// Everyone who is named.
    pub fn hosts(&self) -> impl Iterator<Item = IpAddr> {
        self.attackers.iter().chain(&self.victims).copied()
    }

    /// Seconds from `first` to its detection, to the millisecond.
    #[must_use]
    pub fn seconds_after(&self, first: Timestamp) -> f64 {
        (self.detected_at.since(first).as_secs_f64() * 1000.0).round() / 1000.0
    }

    fn of(event: IncidentEvent) -> Self {
        let IncidentEvent { incident, at, .. } = event;
        Self {
            class: incident.class.as_str().to_owned(),
            attackers: incident.attackers,
            victims: incident.victims,
            first_seen: incident.first_seen,
            detected_at: incident.detected_at,
            last_seen: incident.last_seen,
            closed_at: at,
            evidence: serde_json::to_string(&incident.evidence).unwrap_or_default().to_ascii_lowercase(),
        }
    }
}

/// What `leuko replay` detects by without a configuration file.
#[must_use]
pub fn usual() -> EngineConfig {
    let config = Config::default();
    EngineConfig {
        warmup: config.warmup.get(),
        budget: config.detect.alerts_per_day.budget(),
        classifier: Some(Arc::new(sensor_models::trained::attack_classes())),
        timeouts: Some(config.timeouts.into()),
        ..EngineConfig::default()
    }
}

/// Replays a capture or a connection log.
///
/// # Errors
/// A file that cannot be opened. One that is damaged is observed up to there.
pub fn observe(path: &Path, engine: EngineConfig) -> Result<Observed> {
    let input = Input::open(path).with_context(|| format!("open {}", path.display()))?;
    let mut incidents: BTreeMap<(Timestamp, String), Seen> = BTreeMap::new();
    let (mut seconds, mut beacons) = (0.0, Vec::new());
    let emit = |output| {
        match output {
            Output::Incident(event) => {
                incidents.insert((event.incident.detected_at, event.incident.id.clone()), Seen::of(event));
            }
            Output::Flow(_) => {}
            Output::Beacon(beacon) => beacons.push(beacon),
            Output::Summary(summary) => seconds = summary.duration_s,
        }
        Ok::<(), Infallible>(())
    };
    let options = ReplayOptions { engine, beacons: usize::MAX, ..ReplayOptions::default() };
    let Ok(_) = match input {
        Input::Capture(mut capture) => replay(&mut capture, options, emit),
        Input::Log(log) => replay_connections(log.connections, options, emit),
    };
    Ok(Observed { incidents: incidents.into_values().collect(), seconds, beacons })
}

/// How often progress is told, in items.
const TOLD_EVERY: usize = 25;

/// Does `work` for every item on all cores; the results are in the order of the items. Tells on standard error how far it
/// is.
///
/// # Errors
/// The first failure, by the order of the items.
pub fn in_parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> Result<R> + Sync) -> Result<Vec<R>> {
    let next = AtomicUsize::new(0);
    let done: Mutex<BTreeMap<usize, Result<R>>> = Mutex::new(BTreeMap::new());
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        for _ in 0..threads.min(items.len()) {
            scope.spawn(|| {
                while let at = next.fetch_add(1, Ordering::Relaxed)
                    && let Some(item) = items.get(at)
                {
                    let result = work(item);
                    let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                    done.insert(at, result);
                    if done.len().is_multiple_of(TOLD_EVERY) || done.len() == items.len() {
                        eprintln!("{} of {} done", done.len(), items.len());
                    }
                }
            });
        }
    });
    done.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_on_all_cores_keeps_its_order_and_its_first_failure() {
        let items: Vec<u32> = (0..100).collect();
        assert_eq!(in_parallel(&items, |item| Ok(item * 2)).unwrap(), items.iter().map(|i| i * 2).collect::<Vec<_>>());
        let failed = in_parallel(&items, |item| if item % 30 == 29 { anyhow::bail!("{item}") } else { Ok(()) });
        assert_eq!(failed.unwrap_err().to_string(), "29");
        assert!(in_parallel(&[], |_: &u32| Ok(())).unwrap().is_empty());
    }
}
