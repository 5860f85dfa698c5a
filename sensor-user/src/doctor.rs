//! Looks whether everything is in place for the sensor, and says what to do where it is not.

mod hardening;
mod host;
mod kernel;
mod network;
mod receivers;
mod report;

use std::time::SystemTime;

pub use self::report::{Check, Report, Verdict};
use crate::config::Config;

/// What doctor is told besides the configuration.
#[derive(Clone, Copy, Debug)]
pub struct DoctorOptions {
    /// The time of day.
    pub now: SystemTime,
    /// Whether to attach the programs for a moment.
    pub try_attach: bool,
}

/// Checks this host and what the configuration names. Takes about five seconds when receivers do not answer.
pub async fn run(config: &Config, options: DoctorOptions) -> Report {
    let mut checks = kernel::checks(config);
    checks.extend(network::checks(config, options.try_attach));
    checks.extend(host::checks(config, options.now).await);
    checks.extend(hardening::checks(config));
    checks.extend(receivers::checks(&config.notify).await);
    Report { checks }
}
