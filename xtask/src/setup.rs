//! `cargo xtask setup`: installs what is missing to compile and to test Leuko.

mod apt;
mod linker;

use std::env;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use crate::sh;
use crate::toolchain::{self, BpfCompiler};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask setup            a Rust compiler for BPF, and bpf-linker
  cargo xtask setup --tests    also the clients and servers of the end-to-end tests, and a linter for the kernel program

What is there is used: rustup's nightly with rust-src, or a rustc with a core library for BPF. Otherwise packages are
installed on Debian and Ubuntu, as root; on other systems, and without root, it says what to run.")]
pub struct Args {
    /// Also what tests and checks need
    #[arg(long)]
    tests: bool,
}

pub fn run(args: &Args) -> Result<()> {
    toolchain()?;
    if args.tests {
        tests()?;
        linters();
    }
    if let Ok(toolchain) = toolchain::find() {
        let compiler = match toolchain.compiler {
            BpfCompiler::Nightly => "rustup's nightly".to_owned(),
            BpfCompiler::Prebuilt { rustc, .. } => rustc.display().to_string(),
        };
        println!("ready: {compiler}, {}", toolchain.linker.display());
    }
    Ok(())
}

/// Makes sure that the kernel program can be compiled.
pub fn toolchain() -> Result<()> {
    if toolchain::find().is_ok() {
        return Ok(());
    }
    if toolchain::find_compiler().is_none() {
        install_compiler()?;
    }
    if toolchain::find_linker().is_none() {
        linker::install()?;
    }
    toolchain::find()?;
    Ok(())
}

/// Makes sure that the clients and servers of the end-to-end tests are there.
pub fn tests() -> Result<()> {
    let missing: Vec<_> = TOOLS.iter().filter(|tool| !tool.present()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !apt::present() {
        let programs: Vec<_> = missing.iter().map(|tool| tool.programs[0]).collect();
        bail!("the end-to-end tests need these programs; install them: {}", programs.join(" "));
    }
    let packages: Vec<_> = missing.iter().map(|tool| tool.package).collect();
    apt::install(&packages)
}

/// Debian's rustc for web browsers is the one that comes with a core library for BPF.
const COMPILER_PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "libstd-rust-web-dev-bpf"];

const NIGHTLY: &str = "rustup toolchain install nightly --profile minimal --component rust-src";

/// A program that the tests use, and the Debian package that has it.
struct Tool {
    /// Any of these names will do.
    programs: &'static [&'static str],
    package: &'static str,
}

impl Tool {
    fn present(&self) -> bool {
        self.programs.iter().any(|program| sh::find_program(program).is_some())
    }
}

const TOOLS: [Tool; 24] = [
    Tool { programs: &["ip"], package: "iproute2" },
    Tool { programs: &["ethtool"], package: "ethtool" },
    Tool { programs: &["bpftool"], package: "bpftool" },
    Tool { programs: &["nmap"], package: "nmap" },
    Tool { programs: &["hping3"], package: "hping3" },
    Tool { programs: &["hydra"], package: "hydra" },
    Tool { programs: &["slowhttptest"], package: "slowhttptest" },
    Tool { programs: &["iodine"], package: "iodine" },
    Tool { programs: &["ptunnel"], package: "ptunnel" },
    Tool { programs: &["arpspoof"], package: "dsniff" },
    Tool { programs: &["sshd"], package: "openssh-server" },
    Tool { programs: &["ssh"], package: "openssh-client" },
    Tool { programs: &["sshpass"], package: "sshpass" },
    Tool { programs: &["nginx"], package: "nginx-light" },
    Tool { programs: &["iperf3"], package: "iperf3" },
    Tool { programs: &["tcpreplay"], package: "tcpreplay" },
    Tool { programs: &["tcpdump"], package: "tcpdump" },
    Tool { programs: &["curl"], package: "curl" },
    Tool { programs: &["prometheus"], package: "prometheus" },
    Tool { programs: &["prometheus-alertmanager", "alertmanager"], package: "prometheus-alertmanager" },
    Tool { programs: &["amtool"], package: "prometheus-alertmanager" },
    // With the Python of the system, which has the library.
    Tool { programs: &["aiosmtpd"], package: "python3-aiosmtpd" },
    Tool { programs: &["rsyslogd"], package: "rsyslog" },
    Tool { programs: &["nft"], package: "nftables" },
];

fn install_compiler() -> Result<()> {
    if !apt::has(&COMPILER_PACKAGES)? {
        bail!("no Rust compiler for BPF is here; install one, then run this again: {NIGHTLY}");
    }
    apt::install(&[&COMPILER_PACKAGES[..], &linker::PACKAGES].concat())
}

/// What `check` uses beside compilers. It is no error when some cannot be had: `check` says what it misses.
fn linters() {
    if let Err(error) = host_linters().and_then(|()| kernel_linter()) {
        eprintln!("warning: checks will be incomplete: {error:#}");
    }
}

/// rustfmt and clippy, which rustup's minimal profile does not have.
fn host_linters() -> Result<()> {
    let cargo = env::var_os("CARGO").map(PathBuf::from).unwrap_or_default();
    let present = ["cargo-fmt", "cargo-clippy"].iter().all(|program| cargo.with_file_name(program).is_file());
    if present || sh::find_program("rustup").is_none() {
        return Ok(());
    }
    sh::run(Command::new("rustup").args(["component", "add", "rustfmt", "clippy"]))
}

/// Clippy of the packaged compiler; nightly has its own.
fn kernel_linter() -> Result<()> {
    let Some(BpfCompiler::Prebuilt { cargo, .. }) = toolchain::find_compiler() else { return Ok(()) };
    if cargo.with_file_name("clippy-driver").is_file() || !apt::present() {
        return Ok(());
    }
    apt::install(&["rust-web-clippy"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_is_present_when_any_of_its_programs_is() {
        let tool = |programs| Tool { programs, package: "none" };
        assert!(tool(&["no-such-program", "sh"]).present());
        assert!(!tool(&["no-such-program"]).present());
    }
}
