//! `cargo xtask lab`: scenarios of real traffic in network namespaces.

use std::ffi::OsString;
use std::process::Command;

use anyhow::Result;

use crate::{build, setup, sh};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask lab              every scenario, one after the other
  cargo xtask lab port_scan    nmap against a server that Leuko watches
  cargo xtask lab -- --help    the scenarios

Traffic stays in network namespaces that the lab makes and removes.")]
pub struct Args {
    /// Names of scenarios, and options of the lab
    #[arg(value_name = "SCENARIO", trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

pub fn run(args: &Args) -> Result<()> {
    helper("lab", &args.args)
}

/// Becomes a program of the package `leuko-tests`, as root, that finds the release binary in `LEUKO_BIN`.
pub fn helper(program: &str, args: &[OsString]) -> Result<()> {
    helper_with(program, args, &[])
}

/// As [`helper`], told more by environment variables.
pub fn helper_with(program: &str, args: &[OsString], more: &[(&str, OsString)]) -> Result<()> {
    setup::toolchain()?;
    setup::tests()?;
    let leuko = build::release()?;
    // All of them: a scenario may start the small servers that are programs of the same package.
    sh::run(&mut sh::cargo(&["build", "--release", "--locked", "-p", "leuko-tests", "--bins"]))?;
    let mut helper = Command::new(sh::target_dir()?.join("release").join(program));
    helper.args(args).env("LEUKO_BIN", leuko).envs(more.iter().map(|(name, value)| (name, value)));
    sh::exec(sh::as_root(helper)?)
}
