//! The `leuko` binary in a network namespace, and the lines it prints.

use std::env;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, ExitStatus};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::netns::Namespace;
use crate::process::Guard;
use crate::wait::{Deadline, now};

/// A line of standard output.
#[derive(Debug, Clone)]
pub struct Line {
    /// When it arrived, since Leuko was started.
    pub at: Duration,
    /// The line as it was.
    pub text: String,
    /// The line as JSON; null when it is not.
    pub json: Value,
}

/// A running Leuko, ended when this is dropped.
#[derive(Debug)]
pub struct Leuko {
    process: Guard,
    started: Instant,
    printed: Arc<Printed>,
}

impl Leuko {
    /// The binary: `LEUKO_BIN`, else the one beside the program that runs.
    ///
    /// # Errors
    /// When there is none.
    pub fn binary() -> Result<PathBuf> {
        if let Some(binary) = env::var_os("LEUKO_BIN").map(PathBuf::from) {
            return Some(binary).filter(|path| path.is_file()).context("LEUKO_BIN is not a file");
        }
        let running = env::current_exe().context("find the program that runs")?;
        let folders = running.ancestors().skip(1).take(3);
        let mut found = folders.flat_map(|folder| [folder.join("release/leuko"), folder.join("leuko")]);
        found.find(|path| path.is_file()).context("needs the leuko binary; `cargo xtask build` makes it")
    }

    /// Starts `leuko ARGS` in a namespace.
    ///
    /// # Errors
    /// When there is no binary or it cannot be started.
    pub fn start(namespace: &Namespace, args: &[&str]) -> Result<Self> {
        Self::start_program(&Self::binary()?, namespace, args)
    }

    /// As [`Leuko::start`], with another program in its place.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_program(program: &Path, namespace: &Namespace, args: &[&str]) -> Result<Self> {
        let started = now();
        let mut command = namespace.command(&program.to_string_lossy());
        let (process, stdout) = Guard::spawn_piped(command.args(args))?;
        let printed = Arc::new(Printed::default());
        let reader = Arc::clone(&printed);
        thread::spawn(move || reader.collect(stdout, started));
        Ok(Self { process, started, printed })
    }

    /// The first line that fits, of those printed so far and those to come.
    ///
    /// # Errors
    /// When there is none in time, or Leuko ends before; the error shows what it printed.
    pub fn wait_for(&self, what: &str, timeout: Duration, fits: impl Fn(&Line) -> bool) -> Result<Line> {
        let deadline = Deadline::after(timeout);
        let mut state = self.printed.lock();
        let mut looked_at = 0;
        loop {
            if let Some(line) = state.lines[looked_at..].iter().find(|line| fits(line)) {
                return Ok(line.clone());
            }
            looked_at = state.lines.len();
            if state.ended || deadline.passed() {
                let end = if state.ended { "leuko ended" } else { "timeout" };
                let printed: Vec<_> = state.lines.iter().map(|line| line.text.as_str()).collect();
                bail!("{end} before {what}; it printed:\n{}\n{}", printed.join("\n"), self.stderr());
            }
            let waited = self.printed.more.wait_timeout(state, deadline.left());
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Every line so far.
    pub fn lines(&self) -> Vec<Line> {
        self.printed.lock().lines.clone()
    }

    /// Standard error so far.
    pub fn stderr(&self) -> String {
        self.process.log()
    }

    /// Time since it was started, on the clock of [`Line::at`].
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// The process identifier.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Sends a signal, such as SIGHUP.
    ///
    /// # Errors
    /// When it is not permitted.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// Asks it to end by SIGINT or SIGTERM; all it prints until then is in [`Leuko::lines`].
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn terminate(&mut self, signal: Signal, timeout: Duration) -> Result<ExitStatus> {
        self.process.signal(signal)?;
        self.wait(timeout)
    }

    /// Waits for it to end by itself.
    ///
    /// # Errors
    /// When it does not in time.
    pub fn wait(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let status = self.process.wait(timeout)?;
        let state = self.printed.lock();
        let read = self.printed.more.wait_timeout_while(state, Duration::from_secs(1), |state| !state.ended);
        drop(read);
        Ok(status)
    }
}

/// What the reader thread has read.
#[derive(Debug, Default)]
struct Printed {
    state: Mutex<State>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<Line>,
    ended: bool,
}

impl Printed {
    fn collect(&self, stdout: ChildStdout, started: Instant) {
        for text in BufReader::new(stdout).lines().map_while(Result::ok) {
            let json = serde_json::from_str(&text).unwrap_or_default();
            let line = Line { at: started.elapsed(), text, json };
            self.lock().lines.push(line);
            self.more.notify_all();
        }
        self.lock().ended = true;
        self.more.notify_all();
    }

    /// Each change is one statement, so that a panic elsewhere leaves nothing half done.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
