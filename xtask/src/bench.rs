//! `cargo xtask bench`: measures speed and memory.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::Result;

use crate::{lab, python, setup, sh, toolchain};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask bench            every measurement
  cargo xtask bench scores     what a score costs, beside scikit-learn
  cargo xtask bench -- --help  the options of the program behind it

scikit-learn is measured in a Python environment made in the target folder; without it, those rows say why.")]
pub struct Args {
    /// Options of the program behind it
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

pub fn run(args: &Args) -> Result<()> {
    let object = baselines()?;
    let python = match python::with_scikit_learn() {
        Ok(python) => ("LEUKO_BENCH_PYTHON", python.into_os_string()),
        Err(error) => ("LEUKO_BENCH_NO_PYTHON", error.to_string().into()),
    };
    lab::helper_with("bench", &args.args, &[("LEUKO_BENCH_OBJECT", object.into_os_string()), python])
}

/// Compiles the kernel programs that the product's are compared with.
fn baselines() -> Result<PathBuf> {
    setup::toolchain()?;
    let target_dir = sh::target_dir()?.join("bpf-bench");
    let manifest_dir = sh::workspace().join("sensor-ebpf");
    sh::run(&mut toolchain::find()?.build_command(&manifest_dir, &target_dir, toolchain::BPF_BENCH))?;
    Ok(toolchain::object_path(&target_dir, toolchain::BPF_BENCH))
}
