//! `cargo xtask build`: the `leuko` binary, with the kernel program in it.

use std::path::PathBuf;

use anyhow::Result;

use crate::{setup, sh};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask build            target/release/leuko
  cargo xtask build --debug    target/debug/leuko, quicker to compile")]
pub struct Args {
    /// Without optimisation
    #[arg(long)]
    debug: bool,
}

pub fn run(args: &Args) -> Result<()> {
    setup::toolchain()?;
    let binary = if args.debug {
        cargo_build(&[])?;
        sh::target_dir()?.join("debug/leuko")
    } else {
        release()?
    };
    println!("{}", binary.display());
    Ok(())
}

/// Builds the release binary and returns its path. The toolchain must be there.
pub fn release() -> Result<PathBuf> {
    cargo_build(&["--release"])?;
    Ok(sh::target_dir()?.join("release/leuko"))
}

fn cargo_build(profile: &[&str]) -> Result<()> {
    sh::run(sh::cargo(&["build", "--locked", "-p", "sensor-user", "--bin", "leuko"]).args(profile))
}
