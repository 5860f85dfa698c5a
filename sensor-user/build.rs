//! Compiles the kernel program and hands its object to the crate as `LEUKO_BPF_OBJECT`.

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[allow(dead_code, reason = "shared with xtask, which uses the rest")]
#[path = "../xtask/src/toolchain.rs"]
mod toolchain;

fn main() -> ExitCode {
    match build() {
        Ok(object) => {
            println!("cargo::rustc-env=LEUKO_BPF_OBJECT={}", object.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("cargo::error={error}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<PathBuf, Box<dyn std::error::Error>> {
    let manifest_dir = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let ebpf_dir = manifest_dir.join("../sensor-ebpf");
    for watched in [ebpf_dir.join("src"), ebpf_dir.join("Cargo.toml"), manifest_dir.join("../xtask/src/toolchain.rs")] {
        println!("cargo::rerun-if-changed={}", watched.display());
    }
    println!("cargo::rerun-if-env-changed=LEUKO_BPF_OBJECT");
    if let Some(given) = env::var_os("LEUKO_BPF_OBJECT") {
        return Ok(PathBuf::from(given));
    }
    let target_dir = Path::new(&env::var("OUT_DIR")?).join("bpf");
    let status = toolchain::find()?.build_command(&ebpf_dir, &target_dir, toolchain::BPF_PRODUCT).status()?;
    if !status.success() {
        return Err(format!("compiling the kernel program failed: {status}").into());
    }
    Ok(toolchain::object_path(&target_dir, toolchain::BPF_PRODUCT))
}
