//! `cargo xtask run`: the sensor on this machine.

use std::ffi::OsString;
use std::process::Command;

use anyhow::Result;

use crate::{build, setup, sh};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask run                      watch this machine
  cargo xtask run --interface eth0     any option of `leuko run`
  cargo xtask run -- --help            what those are
  LEUKO_CONFIG=leuko.toml cargo xtask run")]
pub struct Args {
    /// Options of `leuko run`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
    args: Vec<OsString>,
}

pub fn run(args: &Args) -> Result<()> {
    setup::toolchain()?;
    let mut leuko = Command::new(build::release()?);
    leuko.arg("run").args(&args.args);
    sh::exec(sh::as_root(leuko)?)
}
