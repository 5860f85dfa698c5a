//! `cargo xtask verify`: proves on this machine what the README claims.

use std::ffi::OsString;

use anyhow::Result;

use crate::lab;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask verify            every claim
  cargo xtask verify -- --help  the options of the program behind it")]
pub struct Args {
    /// Options of the program behind it
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

pub fn run(args: &Args) -> Result<()> {
    lab::helper("verify", &args.args)
}
