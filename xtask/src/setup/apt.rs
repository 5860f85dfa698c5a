//! Debian's package manager, without side effects on services.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::sh;

/// Whether this is Debian or a relative.
pub fn present() -> bool {
    sh::find_program("apt-get").is_some()
}

/// Whether all packages can be installed here. Fetches the package lists when they do not know them.
pub fn has(packages: &[&str]) -> Result<bool> {
    if !present() {
        return Ok(false);
    }
    if known(packages) {
        return Ok(true);
    }
    if !sh::is_root() {
        bail!("package lists are missing or old; run: sudo apt-get update");
    }
    update()?;
    Ok(known(packages))
}

/// Installs packages. Without root it says what to run instead.
pub fn install(packages: &[&str]) -> Result<()> {
    let packages = without_repetition(packages);
    if !sh::is_root() {
        let shown = sh::display(&install_command(&packages));
        bail!("packages are missing; run this, then try again:\n\n    sudo apt-get update && sudo {shown}\n");
    }
    if !known(&packages) {
        update()?;
    }
    let _quiet = NoServices::begin()?;
    if sh::run(&mut install_command(&packages)).is_ok() {
        return Ok(());
    }
    // Lists from last month name versions that the archive no longer has.
    update()?;
    sh::run(&mut install_command(&packages))
}

fn known(packages: &[&str]) -> bool {
    packages.iter().all(|package| {
        let mut show = Command::new("apt-cache");
        show.args(["show", package]).stdout(Stdio::null()).stderr(Stdio::null());
        show.status().is_ok_and(|status| status.success())
    })
}

fn update() -> Result<()> {
    sh::run(Command::new("apt-get").arg("update"))
}

fn install_command(packages: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    // Never at the price of a package that the machine has.
    command.args(["install", "-y", "--no-install-recommends", "--no-remove", "-o", "DPkg::Lock::Timeout=300"]);
    command.args(packages).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
    command
}

fn without_repetition<'a>(packages: &[&'a str]) -> Vec<&'a str> {
    let mut packages = packages.to_vec();
    packages.sort_unstable();
    packages.dedup();
    packages
}

/// While this lives, packages do not start the services they bring.
struct NoServices {
    ours: Option<PathBuf>,
}

const POLICY: &str = "#!/bin/sh\n# By `cargo xtask setup`, while it installs packages.\nexit 101\n";

impl NoServices {
    fn begin() -> Result<Self> {
        Self::at(Path::new("/usr/sbin/policy-rc.d"))
    }

    fn at(policy: &Path) -> Result<Self> {
        match fs::read_to_string(policy) {
            // Left behind by a set-up that was killed.
            Ok(text) if text == POLICY => {}
            Ok(_) => return Ok(Self { ours: None }),
            Err(_) => write_executable(policy, POLICY).context("keep packages from starting services")?,
        }
        Ok(Self { ours: Some(policy.to_owned()) })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if let Some(policy) = &self.ours
            && let Err(error) = fs::remove_file(policy)
        {
            eprintln!("warning: remove {}: {error}", policy.display());
        }
    }
}

fn write_executable(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    fs::OpenOptions::new().write(true).create_new(true).mode(0o755).open(path)?.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_installed_once_and_remove_nothing() {
        let packages = without_repetition(&["nmap", "curl", "nmap"]);
        let shown = sh::display(&install_command(&packages));
        assert_eq!(
            shown,
            "apt-get install -y --no-install-recommends --no-remove -o DPkg::Lock::Timeout=300 curl nmap"
        );
    }

    #[test]
    fn the_policy_against_services_is_temporary() {
        let path = std::env::temp_dir().join(format!("leuko-policy-{}", std::process::id()));
        let policy = NoServices::at(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), POLICY);
        drop(policy);
        assert!(!path.exists());
    }

    #[test]
    fn a_policy_of_the_machine_is_kept() {
        let path = std::env::temp_dir().join(format!("leuko-own-policy-{}", std::process::id()));
        fs::write(&path, "#!/bin/sh\nexit 101\n").unwrap();
        drop(NoServices::at(&path).unwrap());
        assert!(path.exists());
        fs::remove_file(&path).unwrap();
    }
}
