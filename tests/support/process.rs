//! Processes that always end: by themselves, by a timeout or with the test.

use std::borrow::BorrowMut;
use std::env;
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle, sleep};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tempfile::NamedTempFile;

use crate::wait::{Deadline, PAUSE, now};

/// What a command that ended left.
#[derive(Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
    /// How long it ran.
    pub took: Duration,
}

impl Output {
    /// The output of a command that succeeded.
    ///
    /// # Errors
    /// When it did not.
    pub fn success(self) -> Result<Self> {
        ensure!(self.status.success(), "{}: {}{}", self.status, self.stdout, self.stderr);
        Ok(self)
    }
}

/// Runs a command to its end.
///
/// # Errors
/// When it cannot be started, or did not end in time; then it was killed.
pub fn run_timeout(mut command: impl BorrowMut<Command>, timeout: Duration) -> Result<Output> {
    let command = command.borrow_mut();
    let name = display(command);
    let start = now();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn().with_context(|| format!("start {name}"))?;
    let (stdout, stderr) = (child.stdout.take().map(collect), child.stderr.take().map(collect));
    let mut guard = Guard { child, name, log: None };
    let ended = guard.wait(timeout);
    let took = start.elapsed();
    // Also what it left behind, which would keep the pipes open.
    guard.signal(Signal::SIGKILL)?;
    let (stdout, stderr) = (join(stdout), join(stderr));
    let status = ended.with_context(|| format!("{stdout}{stderr}"))?;
    Ok(Output { status, stdout, stderr, took })
}

/// A process in the background, ended when this is dropped.
#[derive(Debug)]
pub struct Guard {
    child: Child,
    name: String,
    log: Option<NamedTempFile>,
}

impl Guard {
    /// Starts a command in a process group of its own; what it prints is in [`Guard::log`].
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(mut command: impl BorrowMut<Command>) -> Result<Self> {
        let command = command.borrow_mut();
        let log = NamedTempFile::new().context("make a log file")?;
        command.stdout(log.reopen()?);
        let child = start(command, &log)?;
        Ok(Self { child, name: display(command), log: Some(log) })
    }

    /// As [`Guard::spawn`], with standard output for the caller.
    pub(crate) fn spawn_piped(command: &mut Command) -> Result<(Self, ChildStdout)> {
        let log = NamedTempFile::new().context("make a log file")?;
        command.stdout(Stdio::piped());
        let mut child = start(command, &log)?;
        let stdout = child.stdout.take().context("standard output was just asked for")?;
        Ok((Self { child, name: display(command), log: Some(log) }, stdout))
    }

    /// The process identifier.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What the process has printed so far.
    pub fn log(&self) -> String {
        let text = self.log.as_ref().and_then(|log| fs::read(log.path()).ok());
        String::from_utf8_lossy(&text.unwrap_or_default()).into_owned()
    }

    /// How the process ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits for the process to end by itself.
    ///
    /// # Errors
    /// When it does not in time; it keeps running.
    pub fn wait(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let deadline = Deadline::after(timeout);
        loop {
            if let Some(status) = self.ended() {
                return Ok(status);
            }
            if deadline.passed() {
                bail!("`{}` did not end in {timeout:?}", self.name);
            }
            sleep(PAUSE);
        }
    }

    /// Sends a signal to the process and its children.
    ///
    /// # Errors
    /// When the signal is not permitted. A process that has ended is no error.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let group = Pid::from_raw(self.id().try_into().context("a process identifier is positive")?);
        match killpg(group, signal) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(errno) => Err(errno).with_context(|| format!("send {signal} to `{}`", self.name)),
        }
    }

    /// SIGTERM, then SIGKILL when that has not ended the process in time.
    ///
    /// # Errors
    /// When even SIGKILL does not end it.
    pub fn terminate(&mut self, grace: Duration) -> Result<ExitStatus> {
        if let Some(status) = self.ended() {
            return Ok(status);
        }
        self.signal(Signal::SIGTERM)?;
        if let Ok(status) = self.wait(grace) {
            return Ok(status);
        }
        self.signal(Signal::SIGKILL)?;
        self.wait(grace.max(Duration::from_secs(1)))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // A drop has nobody to tell; the namespace kills what is left.
        let _ = self.terminate(Duration::from_secs(2));
    }
}

/// Finds a program on the PATH or in a folder for administrators.
///
/// # Errors
/// When it is not installed.
pub fn tool(name: &str) -> Result<PathBuf> {
    if name.contains('/') {
        return Ok(PathBuf::from(name));
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let admin = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    let found = env::split_paths(&path).chain(admin).map(|dir| dir.join(name)).find(|path| path.is_file());
    found.with_context(|| format!("needs the program {name}; `cargo xtask setup --tests` installs it"))
}

pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

fn start(command: &mut Command, log: &NamedTempFile) -> Result<Child> {
    command.stdin(Stdio::null()).stderr(fs::OpenOptions::new().append(true).open(log.path())?).process_group(0);
    command.spawn().with_context(|| format!("start {}", display(command)))
}

fn display(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

fn collect(mut pipe: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read before an error is still worth showing.
        let _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn join(reader: Option<JoinHandle<String>>) -> String {
    reader.and_then(|reader| reader.join().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn output_and_status_are_collected() {
        let output = run_timeout(sh("echo out; echo err >&2; exit 3"), Duration::from_secs(5)).unwrap();
        assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("out\n", "err\n"));
        assert_eq!(output.status.code(), Some(3));
        assert!(output.success().is_err());
    }

    #[test]
    fn a_command_that_hangs_is_killed_with_its_children() {
        let error = run_timeout(sh("echo before; sleep 60 & sleep 60"), Duration::from_millis(200)).unwrap_err();
        assert!(format!("{error:?}").contains("before"), "{error:?}");
    }

    #[test]
    fn a_child_left_behind_does_not_hold_the_output() {
        let output = run_timeout(sh("sleep 60 & echo done"), Duration::from_secs(5)).unwrap();
        assert_eq!(output.stdout, "done\n");
        assert!(output.took < Duration::from_secs(5));
    }

    #[test]
    fn a_guard_terminates_and_then_kills() {
        let mut polite = Guard::spawn(sh("sleep 60")).unwrap();
        assert_eq!(exit_signal(polite.terminate(Duration::from_secs(5)).unwrap()), Some(15));
        let mut stubborn = Guard::spawn(sh("trap '' TERM; echo ready; while :; do sleep 0.1; done")).unwrap();
        crate::until("the trap", Duration::from_secs(5), || stubborn.log().contains("ready").then_some(())).unwrap();
        assert_eq!(exit_signal(stubborn.terminate(Duration::from_millis(200)).unwrap()), Some(9));
    }

    #[test]
    fn a_dropped_guard_leaves_no_process() {
        let guard = Guard::spawn(sh("sleep 60")).unwrap();
        let entry = PathBuf::from(format!("/proc/{}", guard.id()));
        assert!(entry.exists());
        drop(guard);
        assert!(!entry.exists());
    }

    fn exit_signal(status: ExitStatus) -> Option<i32> {
        std::os::unix::process::ExitStatusExt::signal(&status)
    }
}
