//! Finds what compiles the kernel program: a rustc with a `core` for BPF, and bpf-linker.
//!
//! Standard library only: the build script of `sensor-user` includes this file, so that set-up and build agree.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The version of bpf-linker that `cargo xtask setup` builds.
pub const BPF_LINKER_VERSION: &str = "0.13.0";

/// The target of the kernel program.
pub const BPF_TARGET: &str = "bpfel-unknown-none";

/// The kernel program that the product embeds.
pub const BPF_PRODUCT: &str = "leuko-bpf";

/// The kernel programs that `cargo xtask bench` compares it with.
pub const BPF_BENCH: &str = "leuko-bench-bpf";

/// The generators of traffic for the tests.
pub const BPF_TRAFFIC: &str = "leuko-traffic-bpf";

/// Header fields are read in one load instead of one per octet (a sixth of the time of a packet). Needs LLVM 22, older
/// ones ignore it, and a kernel that allows unaligned loads: x86-64 and arm64 do.
const WIDE_LOADS: &str = "link-arg=--cpu-features=+allows-misaligned-mem-access";

/// A compiler and a linker that together build the kernel program.
#[derive(Debug)]
pub struct BpfToolchain {
    /// The compiler to use.
    pub compiler: BpfCompiler,
    /// Path of bpf-linker.
    pub linker: PathBuf,
}

/// A rustc that can compile for BPF.
#[derive(Debug)]
pub enum BpfCompiler {
    /// rustup's nightly with the `rust-src` component: `core` is built from source.
    Nightly,
    /// A rustc whose sysroot holds a ready-made `core` for BPF (Debian's rustc-web with libstd-rust-web-dev-bpf).
    Prebuilt {
        /// Path of the compiler.
        rustc: PathBuf,
        /// Path of the cargo of the same release.
        cargo: PathBuf,
    },
}

/// What is missing to compile the kernel program.
#[derive(Debug)]
pub enum Missing {
    /// No compiler with a `core` for BPF.
    Compiler,
    /// No bpf-linker in the cache folder or on the PATH.
    Linker,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Compiler => f.write_str("no Rust compiler with a core library for BPF was found"),
            Self::Linker => f.write_str("bpf-linker was not found"),
        }?;
        f.write_str("; run `cargo xtask setup`")
    }
}

impl std::error::Error for Missing {}

/// Looks for a BPF toolchain on this machine.
pub fn find() -> Result<BpfToolchain, Missing> {
    let compiler = find_compiler().ok_or(Missing::Compiler)?;
    let linker = find_linker().ok_or(Missing::Linker)?;
    Ok(BpfToolchain { compiler, linker })
}

/// A nightly with rust-src if there is one, else a rustc with a ready-made `core` for BPF.
pub fn find_compiler() -> Option<BpfCompiler> {
    let nightly = sysroot(Command::new("rustup").args(["run", "nightly", "rustc"]));
    if nightly.is_some_and(|root| root.join("lib/rustlib/src/rust/library/core").is_dir()) {
        return Some(BpfCompiler::Nightly);
    }
    let rustc = PathBuf::from("/usr/bin/rustc");
    let cargo = PathBuf::from("/usr/bin/cargo");
    let root = sysroot(&mut Command::new(&rustc))?;
    let usable = root.join("lib/rustlib").join(BPF_TARGET).join("lib").is_dir() && cargo.is_file();
    usable.then_some(BpfCompiler::Prebuilt { rustc, cargo })
}

/// bpf-linker in the cache folder, else on the PATH.
pub fn find_linker() -> Option<PathBuf> {
    let cached = linker_root().join("bin/bpf-linker");
    if cached.is_file() {
        return Some(cached);
    }
    env::split_paths(&env::var_os("PATH")?).map(|dir| dir.join("bpf-linker")).find(|path| path.is_file())
}

/// The folder into which `cargo xtask setup` installs bpf-linker.
pub fn linker_root() -> PathBuf {
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cache")));
    cache.unwrap_or_else(env::temp_dir).join(format!("leuko/bpf-linker-{BPF_LINKER_VERSION}"))
}

impl BpfToolchain {
    /// The command that compiles a BPF binary of the package in `manifest_dir` into `target_dir`.
    ///
    /// The object is then at [`object_path`].
    pub fn build_command(&self, manifest_dir: &Path, target_dir: &Path, bin: &str) -> Command {
        let mut command = match &self.compiler {
            BpfCompiler::Nightly => {
                let mut command = Command::new("rustup");
                // A build script inherits the host's compiler, which would be taken for nightly's.
                command.args(["run", "nightly", "cargo", "build", "-Z", "build-std=core"]).env_remove("RUSTC");
                command
            }
            BpfCompiler::Prebuilt { rustc, cargo } => {
                let mut command = Command::new(cargo);
                command.arg("build").env("RUSTC", rustc).env("RUSTC_BOOTSTRAP", "1");
                command
            }
        };
        let mut linker = OsString::from("linker=");
        linker.push(&self.linker);
        let linker = linker.to_string_lossy();
        let flags = ["-C", &linker, "-C", "link-arg=--btf", "-C", WIDE_LOADS, "-C", "debuginfo=2", "-D", "warnings"];
        command
            .args(["--release", "--locked", "--target", BPF_TARGET, "--bin", bin, "--target-dir"])
            .arg(target_dir)
            .current_dir(manifest_dir)
            .env_remove("RUSTFLAGS")
            .env_remove("RUSTDOC")
            .env_remove("RUSTUP_TOOLCHAIN")
            .env_remove("RUSTC_WRAPPER")
            .env_remove("RUSTC_WORKSPACE_WRAPPER")
            .env_remove("CARGO")
            // A build script inherits these for the host target.
            .env_remove("TARGET")
            .env_remove("HOST")
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
        command
    }
}

/// Where the object of a BPF binary is once it is built.
pub fn object_path(target_dir: &Path, bin: &str) -> PathBuf {
    target_dir.join(BPF_TARGET).join("release").join(bin)
}

fn sysroot(rustc: &mut Command) -> Option<PathBuf> {
    let output = rustc.args(["--print", "sysroot"]).env_remove("RUSTUP_TOOLCHAIN").output().ok()?;
    let path = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| PathBuf::from(path.trim()))
}
