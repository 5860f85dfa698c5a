//! OpenSSH: any password is wrong, one key is right.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use super::{Transport, ready};
use crate::netns::Namespace;
use crate::process::{Guard, Output, run_timeout, tool};

/// An SSH server. Passwords can be guessed, in vain; [`Sshd::login`] logs in by key. No account is made.
#[derive(Debug)]
pub struct Sshd {
    server: Guard,
    folder: TempDir,
    port: u16,
}

impl Sshd {
    /// Serves on all addresses of a namespace.
    ///
    /// # Errors
    /// Without OpenSSH, or when the port is taken.
    pub fn start(namespace: &Namespace, port: u16) -> Result<Self> {
        let folder = TempDir::with_prefix("leuko-sshd-").context("make a folder")?;
        make_key(&folder.path().join("host_key"))?;
        make_key(&folder.path().join("user_key"))?;
        fs::rename(folder.path().join("user_key.pub"), folder.path().join("authorized_keys"))?;
        let config = folder.path().join("sshd_config");
        fs::write(&config, sshd_config(folder.path(), port))?;
        // Where sshd separates its privileges; the service makes it on boot.
        fs::create_dir_all("/run/sshd").context("make /run/sshd")?;
        let mut server = namespace.spawn("sshd", &["-D", "-e", "-f", &config.to_string_lossy()])?;
        ready(&mut server, namespace, Transport::Tcp, port)?;
        Ok(Self { server, folder, port })
    }

    /// Logs in as root with the right key and runs a command.
    ///
    /// # Errors
    /// When ssh does not end in time. A refused login is an output with status 255.
    pub fn login(&self, from: &Namespace, address: &str, command: &str) -> Result<Output> {
        let key = self.folder.path().join("user_key");
        let mut ssh = from.command("ssh");
        ssh.args(["-F", "/dev/null", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", "LogLevel=ERROR"]);
        ssh.args(["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "ConnectTimeout=10"]);
        ssh.arg("-i").arg(key).args(["-p", &self.port.to_string(), "-l", "root", address, command]);
        run_timeout(ssh, Duration::from_secs(30))
    }

    /// What the server has logged, one line an attempt.
    pub fn log(&self) -> String {
        self.server.log()
    }

    /// The process.
    pub fn process(&mut self) -> &mut Guard {
        &mut self.server
    }
}

fn make_key(path: &Path) -> Result<()> {
    let mut keygen = Command::new(tool("ssh-keygen")?);
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "leuko lab", "-f"]).arg(path);
    run_timeout(keygen, Duration::from_secs(10))?.success().map(drop)
}

fn sshd_config(folder: &Path, port: u16) -> String {
    let folder = folder.display();
    format!(
        "Port {port}
HostKey {folder}/host_key
PidFile none
AuthorizedKeysFile {folder}/authorized_keys
StrictModes no
UsePAM no
UseDNS no
PasswordAuthentication yes
PermitRootLogin prohibit-password
MaxAuthTries 6
MaxStartups 200
LogLevel VERBOSE
"
    )
}
