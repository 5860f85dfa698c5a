//! Landlock: which files this process can still open, whoever it is.
//!
//! A rule is about a folder that is there now. One that is replaced while the sensor runs is another folder.

use std::env;
use std::path::PathBuf;

use landlock::{
    ABI, Access as _, AccessFs, BitFlags, LandlockStatus, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _,
    RulesetError, RulesetStatus, path_beneath_rules,
};
use nix::unistd::{AccessFlags, eaccess};

use super::Plan;
use super::places::folder_of;

/// What is said about; what later versions would add is not.
const VERSION: ABI = ABI::V5;

/// Names, addresses, certificates, libraries, time zones, what the kernel tells. `/nix/store` is where they are on NixOS.
const SYSTEM: [&str; 11] = [
    "/bin",
    "/etc",
    "/lib",
    "/lib64",
    "/nix/store",
    "/proc",
    "/run",
    "/sbin",
    "/sys",
    "/usr",
    "/var/lib/ca-certificates",
];

const DEVICES: [&str; 3] = ["/dev/null", "/dev/random", "/dev/urandom"];

/// Keeps this thread, and those it starts, from all files but those of the plan and of the system, and from
/// writing to any but those of the plan and in `spill`. Says by which version.
///
/// # Errors
/// Why the kernel does not.
pub fn restrict(plan: &Plan, spill: Option<PathBuf>) -> Result<String, String> {
    let status = enforce(plan, spill).map_err(|error| error.to_string())?;
    match status {
        (RulesetStatus::NotEnforced, LandlockStatus::NotEnabled) => {
            Err("the kernel has it, but not in use: add landlock to lsm= of its command line".to_owned())
        }
        (RulesetStatus::NotEnforced, _) => Err("the kernel does not have it".to_owned()),
        (_, LandlockStatus::Available { effective_abi, kernel_abi }) => {
            Ok(kernel_abi.map_or_else(|| effective_abi.to_string(), |version| version.to_string()))
        }
        (_, LandlockStatus::NotEnabled | LandlockStatus::NotImplemented) => Err("not told".to_owned()),
    }
}

fn enforce(plan: &Plan, spill: Option<PathBuf>) -> Result<(RulesetStatus, LandlockStatus), RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let of_system = if plan.programs { read | AccessFs::Execute } else { read };
    let all = AccessFs::from_all(VERSION);
    let special: BitFlags<AccessFs> = AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev;
    let written = plan.own.iter().chain(&plan.pins).cloned();
    let written = written.chain(plan.written.iter().map(|file| folder_of(file).to_owned())).chain(spill);
    let status = Ruleset::default()
        .handle_access(all)?
        .create()?
        .add_rules(path_beneath_rules(SYSTEM, of_system))?
        .add_rules(path_beneath_rules(DEVICES, AccessFs::ReadFile | AccessFs::WriteFile))?
        .add_rules(path_beneath_rules(plan.read.iter().cloned().chain(of_environment()), read))?
        .add_rules(path_beneath_rules(written, all & !special))?
        .restrict_self()?;
    Ok((status.ruleset, status.landlock))
}

/// Where certificates are, if the environment says so, and this program, which a backtrace is made of.
fn of_environment() -> impl Iterator<Item = PathBuf> {
    let certificates = ["SSL_CERT_FILE", "SSL_CERT_DIR"].into_iter().filter_map(env::var_os);
    let certificates = certificates.flat_map(|paths| env::split_paths(&paths).collect::<Vec<_>>());
    certificates.chain(env::current_exe().ok())
}

/// Where SQLite puts what it does not hold in memory (<https://www.sqlite.org/tempfiles.html>).
pub fn spill() -> Option<PathBuf> {
    let named = ["SQLITE_TMPDIR", "TMPDIR"].into_iter().filter_map(env::var_os).map(PathBuf::from);
    let usual = ["/var/tmp", "/usr/tmp", "/tmp"].into_iter().map(PathBuf::from);
    let is_usable = |dir: &PathBuf| dir.is_dir() && eaccess(dir, AccessFlags::W_OK | AccessFlags::X_OK).is_ok();
    named.chain(usual).find(is_usable)
}
