//! The kernel program, compiled and linted for BPF with warnings as errors.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::toolchain::{self, BPF_BENCH, BPF_PRODUCT, BPF_TRAFFIC, BpfCompiler, BpfToolchain};
use crate::{setup, sh};

pub fn check() -> Result<()> {
    setup::toolchain()?;
    let toolchain = toolchain::find()?;
    let manifest_dir = sh::workspace().join("sensor-ebpf");
    let target_dir = sh::target_dir()?.join("bpf-check");
    let clippy = clippy_of(&toolchain);
    if clippy.is_none() {
        eprintln!("no clippy for the BPF compiler is here (Debian: rust-web-clippy); compiling only");
    }
    for bin in [BPF_PRODUCT, BPF_BENCH, BPF_TRAFFIC] {
        let mut build = toolchain.build_command(&manifest_dir, &target_dir, bin);
        if let Some(clippy) = &clippy {
            sh::run(&mut lint_command(&build, clippy))?;
        }
        sh::run(&mut build)?;
    }
    Ok(())
}

/// How the linter of the BPF compiler is called.
#[derive(Debug)]
enum Clippy<'a> {
    /// As a subcommand of the cargo that compiles.
    Subcommand,
    /// As a program beside that cargo: the cargo would find rustup's.
    Program { path: PathBuf, cargo: &'a Path },
}

fn clippy_of(toolchain: &BpfToolchain) -> Option<Clippy<'_>> {
    match &toolchain.compiler {
        BpfCompiler::Nightly => {
            let mut version = Command::new("rustup");
            version.args(["run", "nightly", "cargo", "clippy", "--version"]);
            version.output().is_ok_and(|output| output.status.success()).then_some(Clippy::Subcommand)
        }
        BpfCompiler::Prebuilt { cargo, .. } => {
            let path = cargo.with_file_name("cargo-clippy");
            let driver = cargo.with_file_name("clippy-driver");
            (path.is_file() && driver.is_file()).then_some(Clippy::Program { path, cargo })
        }
    }
}

/// The command that compiles, with `build` replaced by clippy.
fn lint_command(build: &Command, clippy: &Clippy<'_>) -> Command {
    let mut lint = match clippy {
        Clippy::Subcommand => Command::new(build.get_program()),
        Clippy::Program { path, .. } => Command::new(path),
    };
    lint.args(build.get_args().map(|arg| if arg == "build" { "clippy".as_ref() } else { arg }));
    for (name, value) in build.get_envs() {
        match value {
            Some(value) => lint.env(name, value),
            None => lint.env_remove(name),
        };
    }
    if let Clippy::Program { cargo, .. } = clippy {
        lint.env("CARGO", cargo);
    }
    if let Some(dir) = build.get_current_dir() {
        lint.current_dir(dir);
    }
    lint
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prebuilt() -> BpfToolchain {
        let compiler = BpfCompiler::Prebuilt { rustc: "/o/bin/rustc".into(), cargo: "/o/bin/cargo".into() };
        BpfToolchain { compiler, linker: "/o/bpf-linker".into() }
    }

    #[test]
    fn nightly_is_linted_by_its_subcommand() {
        let toolchain = BpfToolchain { compiler: BpfCompiler::Nightly, linker: "/o/bpf-linker".into() };
        let build = toolchain.build_command(Path::new("/src"), Path::new("/out"), BPF_PRODUCT);
        let shown = sh::display(&lint_command(&build, &Clippy::Subcommand));
        assert!(shown.starts_with("rustup run nightly cargo clippy -Z build-std=core --release --locked"), "{shown}");
        assert!(build.get_envs().any(|variable| variable == ("RUSTC".as_ref(), None)), "nightly's own compiler");
    }

    #[test]
    fn a_packaged_compiler_is_linted_by_the_clippy_beside_it() {
        let toolchain = prebuilt();
        let build = toolchain.build_command(Path::new("/src"), Path::new("/out"), BPF_PRODUCT);
        let path = PathBuf::from("/o/bin/cargo-clippy");
        let lint = lint_command(&build, &Clippy::Program { path, cargo: Path::new("/o/bin/cargo") });
        let shown = sh::display(&lint);
        assert!(shown.starts_with("/o/bin/cargo-clippy clippy --release --locked --target bpfel"), "{shown}");
        let cargo = lint.get_envs().find(|(name, _)| *name == "CARGO").unwrap().1;
        assert_eq!(cargo.unwrap(), "/o/bin/cargo");
        assert_eq!(lint.get_current_dir(), Some(Path::new("/src")));
    }

    #[test]
    fn a_packaged_compiler_without_clippy_is_not_linted() {
        assert!(clippy_of(&prebuilt()).is_none());
    }
}
