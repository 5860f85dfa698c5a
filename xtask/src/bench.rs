//! `cargo xtask bench`: measures speed and memory.

use std::ffi::OsString;

use anyhow::Result;

use crate::lab;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask bench            every measurement
  cargo xtask bench -- --help  the options of the program behind it")]
pub struct Args {
    /// Options of the program behind it
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

pub fn run(args: &Args) -> Result<()> {
    lab::helper("bench", &args.args)
}
