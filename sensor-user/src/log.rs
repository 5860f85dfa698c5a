//! The log: compact on standard error, and as JSON lines in a file when one is configured.
//!
//! Records of the `log` crate, by which aya-log speaks, arrive as well: `tracing-subscriber` bridges them.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt};

use crate::config::Config;
use crate::config::value::LogFilter;
use crate::terminal::{paint, take_status_line};

/// Readable by the group, for those who collect logs.
const FILE_MODE: u32 = 0o640;

/// Starts the log of this process. `quiet` leaves errors only on standard error; the file gets what is configured.
///
/// # Errors
/// When the file cannot be opened, or there is a log already.
pub fn init(config: &Config, quiet: bool) -> Result<()> {
    let filter = if quiet { LogFilter::errors() } else { config.log_level.clone() };
    let stderr = fmt::layer()
        .compact()
        .with_target(false)
        .with_ansi(paint::wants_colour(&io::stderr()))
        // What cannot be logged cannot be complained about: standard error may be closed.
        .log_internal_errors(false)
        .with_writer(stderr)
        .with_filter(filter.filter());
    let file = match &config.log_file {
        None => None,
        Some(path) => {
            let file = open(path).with_context(|| format!("open the log file {}", path.display()))?;
            let layer = fmt::layer().json().flatten_event(true).with_ansi(false).log_internal_errors(false);
            Some(layer.with_writer(Arc::new(file)).with_filter(config.log_level.filter()))
        }
    };
    tracing_subscriber::registry().with(stderr).with(file).try_init().context("start the log")
}

/// Opens for appending, which survives `logrotate` with `copytruncate`.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(FILE_MODE).open(path)
}

/// Standard error that does not write into the middle of the status line.
struct Stderr {
    clear: bool,
}

fn stderr() -> Stderr {
    Stderr { clear: io::stderr().is_terminal() }
}

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut stderr = io::stderr().lock();
        if self.clear {
            stderr.write_all(take_status_line().as_bytes())?;
        }
        stderr.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::Command;

    use super::*;

    /// The log is one per process, so the case runs in a child.
    #[test]
    fn levels_files_and_the_log_crate() {
        const NAME: &str = "log::tests::levels_files_and_the_log_crate";
        if let Some(path) = std::env::var_os("LEUKO_TEST_LOG") {
            let mut config = Config { log_file: Some(path.into()), ..Config::default() };
            config.log_level = LogFilter::try_from("debug".to_owned()).unwrap();
            init(&config, true).unwrap();
            init(&config, true).unwrap_err();
            tracing::error!(flow = 7, "an error");
            tracing::debug!("a detail");
            tracing::trace!("too much");
            tracing::info!(target: "hyper", "of a library");
            log::info!(target: "leuko_bpf", "of the kernel program");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("leuko.log");
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", NAME, "--nocapture"])
            .env("LEUKO_TEST_LOG", &path)
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&child.stderr);
        assert!(child.status.success(), "{stderr}");
        assert!(stderr.contains("an error flow=7") && !stderr.contains("a detail"), "{stderr}");
        assert!(!stderr.contains('\x1b'), "{stderr}");

        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let messages: Vec<_> = lines.iter().map(|line| line["message"].as_str().unwrap()).collect();
        assert_eq!(messages, ["an error", "a detail", "of the kernel program"], "{text}");
        assert_eq!(lines[2]["target"], "leuko_bpf");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777 & !FILE_MODE, 0);
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_named() {
        let config = Config { log_file: Some("/nonexistent/leuko.log".into()), ..Config::default() };
        let error = format!("{:#}", init(&config, false).unwrap_err());
        assert!(error.contains("open the log file /nonexistent/leuko.log: No such file"), "{error}");
    }
}
