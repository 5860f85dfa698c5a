//! A BPF filesystem for what a sensor pins.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tempfile::TempDir;

/// A BPF filesystem of its own, unmounted when it is dropped.
#[derive(Debug)]
pub struct BpfFolder(TempDir);

impl BpfFolder {
    /// Mounts one.
    ///
    /// # Errors
    /// Without root.
    pub fn mount() -> Result<Self> {
        let folder = TempDir::with_prefix("leuko-bpffs-")?;
        mount(Some("bpf"), folder.path(), Some("bpf"), MsFlags::empty(), None::<&str>).context("mount a bpffs")?;
        Ok(Self(folder))
    }

    /// Where the pins go.
    pub fn pins(&self) -> PathBuf {
        self.0.path().join("leuko")
    }
}

impl Drop for BpfFolder {
    fn drop(&mut self) {
        // What is left then is the folder's own business.
        let _ = umount2(self.0.path(), MntFlags::MNT_DETACH);
    }
}
