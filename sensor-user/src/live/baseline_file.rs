//! The baselines between two runs: each a file in the state directory, replaced atomically.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Error, Result};
use sensor_core::features::{flow, host};
use sensor_core::learn::Schema;
use sensor_models::Baseline;
use tracing::{info, warn};

use crate::atomic;

/// Where a baseline is kept.
#[derive(Debug)]
pub struct BaselineFile {
    path: PathBuf,
    schema: Schema,
    /// What it is a baseline of, in messages.
    of: &'static str,
    saved_at_s: u64,
}

impl BaselineFile {
    /// Name of the baseline of flows in the state directory.
    pub const FLOWS: &str = "baseline.leuko";
    /// Name of the baseline of hosts in the state directory.
    pub const HOSTS: &str = "hosts.leuko";

    /// The baseline of flows, in a state directory.
    #[must_use]
    pub fn of_flows(state_dir: &Path) -> Self {
        Self { path: state_dir.join(Self::FLOWS), schema: &flow::COLUMNS, of: "flows", saved_at_s: 0 }
    }

    /// The baseline of what hosts do in a minute, in a state directory.
    #[must_use]
    pub fn of_hosts(state_dir: &Path) -> Self {
        Self { path: state_dir.join(Self::HOSTS), schema: &host::COLUMNS, of: "hosts", saved_at_s: 0 }
    }

    /// The baseline of the last run; nothing when there is none yet. One that cannot be used is set aside with a
    /// warning: the sensor learns anew.
    pub fn load(&mut self) -> Option<Baseline> {
        let path = &self.path;
        if !path.exists() {
            return None;
        }
        match read_as(path, self.schema) {
            Ok(baseline) => {
                self.saved_at_s = baseline.training().trained_at_s;
                info!(path = %path.display(), of = self.of, rows = baseline.training().rows, "loaded the baseline");
                Some(baseline)
            }
            Err(error) => {
                let aside = path.with_extension("unusable");
                warn!(error = format!("{error:#}"), aside = %aside.display(), "learning anew");
                if let Err(error) = fs::rename(path, &aside) {
                    warn!(%error, "cannot set the baseline aside");
                }
                None
            }
        }
    }

    /// Saves a baseline that is newer than the file.
    pub fn save_if_newer(&mut self, baseline: Option<&Baseline>) {
        if baseline.is_some_and(|baseline| baseline.training().trained_at_s > self.saved_at_s) {
            self.save(baseline);
        }
    }

    /// Saves a baseline. A failure is a warning: detection goes on, and the next fit is tried again.
    pub fn save(&mut self, baseline: Option<&Baseline>) {
        let (path, Some(baseline)) = (&self.path, baseline) else {
            return;
        };
        match baseline.to_bytes().map_err(Error::from).and_then(|bytes| write(path, &bytes)) {
            Ok(()) => {
                self.saved_at_s = baseline.training().trained_at_s;
                info!(path = %path.display(), of = self.of, rows = baseline.training().rows, "saved the baseline");
            }
            Err(error) => warn!(error = format!("{error:#}"), "cannot save the baseline"),
        }
    }
}

/// Reads a baseline of flows that fits this build's features.
///
/// # Errors
/// When the file cannot be read, is damaged, or was made for other features.
pub fn read(path: &Path) -> Result<Baseline> {
    read_as(path, &flow::COLUMNS)
}

fn read_as(path: &Path, schema: Schema) -> Result<Baseline> {
    let context = || format!("read the baseline {}", path.display());
    let baseline = Baseline::from_bytes(&fs::read(path).with_context(context)?).with_context(context)?;
    baseline.expect_schema(schema).with_context(context)?;
    Ok(baseline)
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let dir = path.parent().context("the baseline has no directory")?;
    fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    atomic::write(path, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sensor_core::features::flow::COLUMNS;
    use sensor_models::BaselineParams;

    fn baseline(trained_at_s: u64) -> Baseline {
        let rows: Vec<f32> = (0..200 * COLUMNS.len()).map(|n| (n * 7919 % 101) as f32).collect();
        let rows = ndarray::Array2::from_shape_vec((200, COLUMNS.len()), rows).unwrap();
        BaselineParams::new().check().unwrap().fit(&COLUMNS, rows.view(), trained_at_s).unwrap()
    }

    #[test]
    fn the_next_run_finds_what_the_last_one_learned() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("made/when/needed");
        let mut file = BaselineFile::of_flows(&state);
        assert!(file.load().is_none());
        file.save_if_newer(Some(&baseline(100)));
        assert_eq!(BaselineFile::of_flows(&state).load(), Some(baseline(100)));
    }

    #[test]
    fn only_a_newer_baseline_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = BaselineFile::of_flows(dir.path());
        file.save_if_newer(Some(&baseline(100)));
        fs::remove_file(dir.path().join(BaselineFile::FLOWS)).unwrap();
        file.save_if_newer(Some(&baseline(100)));
        assert!(file.load().is_none());
        file.save_if_newer(Some(&baseline(101)));
        assert!(file.load().is_some());
    }

    #[test]
    fn a_damaged_baseline_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(BaselineFile::FLOWS);
        fs::write(&path, b"not a baseline").unwrap();
        assert!(BaselineFile::of_flows(dir.path()).load().is_none());
        assert!(!path.exists());
        assert_eq!(fs::read(path.with_extension("unusable")).unwrap(), b"not a baseline");
    }

    #[test]
    fn a_baseline_for_other_features_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("other");
        let rows = ndarray::Array2::from_shape_fn((200, 1), |(row, _)| (row % 17) as f32);
        let other = BaselineParams::new().check().unwrap().fit(&["other"], rows.view(), 1).unwrap();
        fs::write(&path, other.to_bytes().unwrap()).unwrap();
        let error = format!("{:#}", read(&path).unwrap_err());
        assert!(error.contains(&path.display().to_string()), "{error}");
    }
}
