//! bpf-linker, built once into the cache folder against an LLVM of this machine.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use super::apt;
use crate::sh;
use crate::toolchain::{BPF_LINKER_VERSION, linker_root};

/// What bpf-linker is linked with on Debian. Its LLVM reads what rustc 1.96 and older write.
pub const PACKAGES: [&str; 4] = ["llvm-22-dev", "libpolly-22-dev", "zlib1g-dev", "libzstd-dev"];

/// The versions of LLVM that this bpf-linker can be built with; older ones cannot read what rustc writes.
const LLVM_VERSIONS: [u32; 2] = [23, 22];

pub fn install() -> Result<()> {
    if find_llvm().is_none() && apt::has(&PACKAGES)? {
        apt::install(&PACKAGES)?;
    }
    let Some(llvm) = find_llvm() else {
        bail!(
            "no LLVM {LLVM_VERSIONS:?} with headers is here to build bpf-linker; \
             install one, or put a bpf-linker {BPF_LINKER_VERSION} from its releases on the PATH"
        );
    };
    sh::run(&mut install_command(&llvm))
}

/// An installation of LLVM.
#[derive(Debug, PartialEq)]
struct Llvm {
    major: u32,
    prefix: PathBuf,
}

fn find_llvm() -> Option<Llvm> {
    let of_debian = LLVM_VERSIONS.iter().map(|version| format!("/usr/lib/llvm-{version}/bin/llvm-config"));
    let on_path = LLVM_VERSIONS.iter().map(|version| format!("llvm-config-{version}"));
    of_debian.chain(on_path).chain(["llvm-config".to_owned()]).find_map(|config| ask(&config))
}

fn ask(llvm_config: &str) -> Option<Llvm> {
    let output = Command::new(llvm_config).args(["--version", "--prefix", "--includedir"]).output().ok()?;
    let llvm = parse(&String::from_utf8(output.stdout).ok()?)?;
    LLVM_VERSIONS.contains(&llvm.major).then_some(llvm)
}

/// Version, prefix and include folder, one a line, of an LLVM that has its headers.
fn parse(answer: &str) -> Option<Llvm> {
    let mut lines = answer.lines();
    let major = lines.next()?.split('.').next()?.parse().ok()?;
    let prefix = PathBuf::from(lines.next()?);
    let headers = Path::new(lines.next()?).join("llvm-c");
    headers.is_dir().then_some(Llvm { major, prefix })
}

fn install_command(llvm: &Llvm) -> Command {
    let feature = format!("llvm-{}", llvm.major);
    let mut path = vec![llvm.prefix.join("bin")];
    path.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    let mut command = sh::cargo(&["install", "bpf-linker", "--version", BPF_LINKER_VERSION, "--locked"]);
    command.args(["--no-default-features", "--features", &feature, "--root"]).arg(linker_root());
    command.env("LLVM_PREFIX", &llvm.prefix).env_remove("CARGO_TARGET_DIR").env_remove("RUSTFLAGS");
    // A folder with a colon in its name cannot be on the PATH that was split above.
    command.env("PATH", env::join_paths(path).expect("folders of a PATH, and one of LLVM"));
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_llvm_without_headers_is_none() {
        assert_eq!(parse("22.1.8\n/usr/lib/llvm-22\n/nowhere/include\n"), None);
        assert_eq!(parse(""), None);
        assert_eq!(parse("not a version\n/usr\n/usr/include\n"), None);
    }

    #[test]
    fn the_linker_is_built_with_the_llvm_that_was_found() {
        let llvm = Llvm { major: 22, prefix: PathBuf::from("/opt/llvm") };
        let command = install_command(&llvm);
        let shown = sh::display(&command);
        assert!(shown.contains("bpf-linker --version 0.13.0 --locked --no-default-features --features llvm-22"));
        let prefix = command.get_envs().find(|(name, _)| *name == "LLVM_PREFIX").unwrap().1;
        assert_eq!(prefix.unwrap(), "/opt/llvm");
    }
}
