//! The calls that beacons are found in, between two runs: a file in the state directory, replaced atomically. Beacons that
//! call by the hour are found in spite of restarts.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Error, Result};
use sensor_core::detect::BeaconState;
use sensor_core::engine::Engine;
use sensor_core::time::Timestamp;
use tracing::{debug, info, warn};

use crate::atomic;

/// Where the calls are kept, if anywhere.
#[derive(Debug)]
pub struct BeaconFile {
    path: PathBuf,
    /// When they are saved next.
    due: Option<Timestamp>,
}

impl BeaconFile {
    /// Name of the file in the state directory.
    pub const NAME: &str = "beacons.json";
    /// Time between two savings.
    const EVERY: Duration = Duration::from_secs(300);

    /// In a state directory.
    #[must_use]
    pub fn in_dir(state_dir: &Path) -> Self {
        Self { path: state_dir.join(Self::NAME), due: None }
    }

    /// Hands what the last run has saved to `engine`. A file that cannot be used is set aside with a warning: the calls
    /// are counted anew.
    pub fn load(&self, engine: &mut Engine) {
        if !self.path.exists() {
            return;
        }
        match read(&self.path) {
            Ok(state) => {
                engine.resume_beacons(&state);
                info!(path = %self.path.display(), series = state.len(), "loaded the calls of earlier runs");
            }
            Err(error) => {
                let aside = self.path.with_extension("unusable");
                warn!(error = format!("{error:#}"), aside = %aside.display(), "counting calls anew");
                if let Err(error) = fs::rename(&self.path, &aside) {
                    warn!(%error, "cannot set the calls aside");
                }
            }
        }
    }

    /// Saves the calls every few minutes, and at the end. A failure is a warning: detection goes on, and it is tried again.
    pub fn save_when_due(&mut self, engine: &Engine, now: Timestamp, last: bool) {
        let due = *self.due.get_or_insert(now + Self::EVERY);
        if now < due && !last {
            return;
        }
        self.due = Some(now + Self::EVERY);
        let state = engine.beacon_state();
        match state.to_bytes().map_err(Error::from).and_then(|bytes| write(&self.path, &bytes)) {
            Ok(()) => debug!(path = %self.path.display(), series = state.len(), "saved the calls"),
            Err(error) => warn!(error = format!("{error:#}"), "cannot save the calls"),
        }
    }
}

fn read(path: &Path) -> Result<BeaconState> {
    let context = || format!("read the calls in {}", path.display());
    BeaconState::from_bytes(&fs::read(path).with_context(context)?).with_context(context)
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let dir = path.parent().context("the calls have no directory")?;
    fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    atomic::write(path, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sensor_core::engine::EngineConfig;

    #[test]
    fn calls_are_saved_every_few_minutes_and_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("made/when/needed");
        let engine = Engine::new(EngineConfig::default());
        let mut file = BeaconFile::in_dir(&state);
        let begun = Timestamp::from_secs(1_700_000_000);
        let path = state.join(BeaconFile::NAME);
        file.save_when_due(&engine, begun, false);
        assert!(!path.exists());
        file.save_when_due(&engine, begun + BeaconFile::EVERY, false);
        assert_eq!(read(&path).unwrap(), engine.beacon_state());
        fs::remove_file(&path).unwrap();
        file.save_when_due(&engine, begun + BeaconFile::EVERY, false);
        assert!(!path.exists());
        file.save_when_due(&engine, begun + BeaconFile::EVERY, true);
        let mut next = Engine::new(EngineConfig::default());
        BeaconFile::in_dir(&state).load(&mut next);
        assert_eq!(next.beacon_state(), engine.beacon_state());
    }

    #[test]
    fn damaged_calls_are_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(BeaconFile::NAME);
        fs::write(&path, b"{\"version\":").unwrap();
        BeaconFile::in_dir(dir.path()).load(&mut Engine::new(EngineConfig::default()));
        assert!(!path.exists());
        assert_eq!(fs::read(path.with_extension("unusable")).unwrap(), b"{\"version\":");
    }
}
