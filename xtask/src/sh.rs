//! Runs commands and says which.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

/// The folder of the workspace.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a folder of the workspace")
}

/// Cargo, as it was called for this task, in the folder of the workspace.
pub fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(workspace());
    command
}

/// The folder into which cargo builds, from `CARGO_TARGET_DIR` or cargo's configuration.
pub fn target_dir() -> Result<PathBuf> {
    let output = cargo(&["metadata", "--no-deps", "--offline", "--format-version=1"]).output().context("run cargo")?;
    let metadata = String::from_utf8_lossy(&output.stdout);
    json_string(&metadata, "target_directory").map(PathBuf::from).context("cargo metadata names no target directory")
}

/// Runs a command to its end; it must succeed.
pub fn run(command: &mut Command) -> Result<()> {
    eprintln!("+ {}", display(command));
    let status = command.status().with_context(|| format!("start {}", command.get_program().display()))?;
    ensure!(status.success(), "`{}` failed: {status}", display(command));
    Ok(())
}

/// Becomes a command: its signals, output and exit status are those of this process.
pub fn exec(mut command: Command) -> Result<()> {
    eprintln!("+ {}", display(&command));
    let error = command.exec();
    Err(error).with_context(|| format!("start {}", command.get_program().display()))
}

/// The command as root: itself when this is root, else through sudo, which may ask for a password.
pub fn as_root(command: Command) -> Result<Command> {
    if is_root() {
        return Ok(command);
    }
    if find_program("sudo").is_none() {
        bail!("root is needed and sudo is not installed; run as root: {}", display(&command));
    }
    let inherited = env::vars_os().map(|(name, _)| name);
    Ok(through_sudo(&command, inherited))
}

/// Whether this process is root.
pub fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// A program on the PATH or in a folder for administrators, which is not on every user's PATH.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let admin = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(admin).map(|dir| dir.join(name)).find(|path| path.is_file())
}

/// A command as one would type it.
pub fn display(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(quote).collect::<Vec<_>>().join(" ")
}

fn through_sudo(command: &Command, inherited: impl Iterator<Item = OsString>) -> Command {
    let own = command.get_envs().filter(|(_, value)| value.is_some()).map(|(name, _)| name.to_owned());
    let kept: Vec<String> = inherited.filter(|name| reaches_root(name)).chain(own).map(lossy).collect();
    let mut sudo = Command::new("sudo");
    if !kept.is_empty() {
        sudo.arg(format!("--preserve-env={}", kept.join(",")));
    }
    sudo.arg("--").arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => sudo.env(name, value),
            None => sudo.env_remove(name),
        };
    }
    if let Some(dir) = command.get_current_dir() {
        sudo.current_dir(dir);
    }
    sudo
}

/// Leuko's own settings and what decides how it talks; nothing else of a user's environment reaches root.
fn reaches_root(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with("LEUKO_") || ["CI", "NO_COLOR", "RUST_BACKTRACE", "RUST_LOG"].contains(&&*name)
}

fn lossy(name: OsString) -> String {
    name.to_string_lossy().into_owned()
}

fn quote(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.into_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// The value of a string member in JSON; paths with quotes or control characters in them are not supported.
fn json_string<'a>(json: &'a str, name: &str) -> Option<&'a str> {
    let start = json.find(&format!("\"{name}\":\""))? + name.len() + 4;
    json[start..].split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_directory_is_read_from_cargo_metadata() {
        let json = r#"{"packages":[],"target_directory":"/tmp/a target","version":1}"#;
        assert_eq!(json_string(json, "target_directory"), Some("/tmp/a target"));
        assert_eq!(json_string(json, "workspace_root"), None);
    }

    #[test]
    fn a_command_is_shown_as_it_would_be_typed() {
        let mut command = Command::new("leuko");
        command.args(["run", "--name", "it's", ""]);
        assert_eq!(display(&command), r"leuko run --name 'it'\''s' ''");
    }

    #[test]
    fn sudo_keeps_leukos_settings_and_nothing_else() {
        let mut command = Command::new("/t/leuko");
        command.arg("run").env("LEUKO_BIN", "/t/leuko").current_dir("/tmp");
        let inherited = ["HOME", "LEUKO_CONFIG", "SSH_AUTH_SOCK", "RUST_LOG"].map(OsString::from);
        let sudo = through_sudo(&command, inherited.into_iter());
        assert_eq!(display(&sudo), "sudo --preserve-env=LEUKO_CONFIG,RUST_LOG,LEUKO_BIN -- /t/leuko run");
        assert_eq!(sudo.get_current_dir(), Some(Path::new("/tmp")));
    }

    #[test]
    fn sudo_without_settings_has_no_option() {
        let sudo = through_sudo(&Command::new("ip"), std::iter::empty());
        assert_eq!(display(&sudo), "sudo -- ip");
    }

    #[test]
    fn programs_for_administrators_are_found() {
        assert!(find_program("sh").is_some());
        assert!(find_program("no-such-program-anywhere").is_none());
    }
}
