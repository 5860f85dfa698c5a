//! `cargo xtask test`: every layer of tests, from units to real servers.

use std::ffi::OsString;
use std::process::Command;

use anyhow::Result;

use crate::{build, setup, sh};

/// The packages with tests that load the kernel program or make network namespaces.
const PRIVILEGED: [&str; 2] = ["sensor-user", "leuko-tests"];

#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask test                      every test
  cargo xtask test --quick              without the end-to-end tests and what they need
  cargo xtask test port_scan            the tests with this in their name
  cargo xtask test -- --nocapture       options of the test programs

The tests that need root are run as root: directly, or by sudo when you are not. With CI=true none of them may be skipped.")]
pub struct Args {
    /// Leave out the end-to-end tests
    #[arg(long)]
    quick: bool,
    /// Only tests with this in their name
    filter: Option<OsString>,
    /// Options of the test programs
    #[arg(last = true)]
    options: Vec<OsString>,
}

pub fn run(args: &Args) -> Result<()> {
    setup::toolchain()?;
    if args.quick {
        return sh::exec(cargo_test(args, &["--workspace", "--exclude", "leuko-tests"]));
    }
    setup::tests()?;
    let leuko = build::release()?;
    if sh::is_root() {
        let mut everything = cargo_test(args, &["--workspace"]);
        everything.env("LEUKO_BIN", leuko);
        return sh::exec(everything);
    }
    let [one, other] = PRIVILEGED;
    let unprivileged = sh::run(&mut cargo_test(args, &["--workspace", "--exclude", one, "--exclude", other]));
    // Cargo and the compiler stay unprivileged: only the test programs are run by sudo.
    let runner = "target.'cfg(unix)'.runner = ['sudo', '--preserve-env']";
    let mut privileged = cargo_test(args, &["-p", one, "-p", other, "--config", runner]);
    let privileged = sh::run(privileged.env("LEUKO_BIN", leuko));
    unprivileged.and(privileged)
}

fn cargo_test(args: &Args, packages: &[&str]) -> Command {
    let mut command = sh::cargo(&["test", "--locked", "--no-fail-fast"]);
    command.args(packages).args(&args.filter);
    if !args.options.is_empty() {
        command.arg("--").args(&args.options);
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(filter: Option<&str>, options: &[&str]) -> Args {
        let options = options.iter().map(OsString::from).collect();
        Args { quick: false, filter: filter.map(OsString::from), options }
    }

    #[track_caller]
    fn check(args: &Args, expected: &str) {
        let shown = sh::display(&cargo_test(args, &["--workspace"]));
        assert!(shown.ends_with(expected), "{shown}");
    }

    #[test]
    fn filter_and_options_reach_cargo_test() {
        check(&args(None, &[]), "test --locked --no-fail-fast --workspace");
        check(&args(Some("scan"), &[]), "--workspace scan");
        check(&args(Some("scan"), &["--nocapture"]), "--workspace scan -- --nocapture");
    }
}
