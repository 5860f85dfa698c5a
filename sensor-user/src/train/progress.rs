//! How far training has come: a bar on a terminal, lines in the log elsewhere.

use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tracing::info;

/// How often a bar is drawn while nothing is counted.
const TICK: Duration = Duration::from_millis(200);

/// Where progress is shown.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    quiet: bool,
}

impl Progress {
    /// On standard error: a bar if that is a terminal, else the log. Nowhere if `quiet`.
    #[must_use]
    pub fn on_stderr(quiet: bool) -> Self {
        let bar = (!quiet && io::stderr().is_terminal())
            .then(|| ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()));
        Self { bar, quiet }
    }

    /// Nowhere.
    #[must_use]
    pub const fn silent() -> Self {
        Self { bar: None, quiet: true }
    }

    /// A file of `length` octets is read.
    pub fn begin_bytes(&self, what: &'static str, path: &Path, length: u64) {
        self.begin(
            what,
            &path.display().to_string(),
            "{msg} [{bar:30}] {bytes}/{total_bytes}, {eta} left",
            Some(length),
        );
    }

    /// Flows of a file are counted; nobody knows how many there are.
    pub fn begin_count(&self, what: &'static str, path: &Path) {
        self.begin(what, &path.display().to_string(), "{msg} {spinner} {pos} flows, {elapsed}", None);
    }

    /// A step of which only the beginning and the end are known.
    pub fn begin_step(&self, what: &'static str, of: &str) {
        self.begin(what, of, "{msg} {spinner} {elapsed}", None);
    }

    /// So much is done.
    pub fn at(&self, position: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(position);
        }
    }

    /// Takes the bar away.
    pub fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn begin(&self, what: &'static str, of: &str, template: &str, length: Option<u64>) {
        let Some(bar) = &self.bar else {
            if !self.quiet {
                info!(of, "{what}");
            }
            return;
        };
        bar.reset();
        bar.set_style(ProgressStyle::with_template(template).expect("the templates are checked by a test"));
        bar.set_message(format!("{what} {of}"));
        match length {
            Some(length) => bar.set_length(length),
            None => bar.unset_length(),
        }
        bar.enable_steady_tick(TICK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_phase_can_be_drawn() {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        let progress = Progress { bar: Some(bar), quiet: false };
        progress.begin_bytes("reading", Path::new("flows.csv"), 10);
        progress.at(5);
        progress.begin_count("replaying", Path::new("a.pcap"));
        progress.at(3);
        progress.begin_step("fitting", "3 models to 100 rows");
        progress.end();
    }
}
