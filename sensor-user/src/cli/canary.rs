//! `leuko canary`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::duration;

/// `leuko canary`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:
  sudo leuko canary
  sudo leuko canary --count 10 --json
  sudo leuko canary --interval 250ms           as a sensor with this interval would do
  sudo leuko canary --metrics-textfile /var/lib/prometheus/node-exporter/leuko_canary.prom
  sudo leuko run --canary 1h                   the sensor that runs tests itself, and exports leuko_canary_seconds

A sensor of its own watches a network namespace of its own, in which one loopback address scans another: nothing
leaves this host, nothing is learned, nobody is told. It goes through the tables, the ticks and the test of `leuko run`,
and through its programs for TC, since a loopback has no XDP of its own; that a network card hands its packets over is
not tested. Nor is a sensor that runs already: `leuko run --canary` does that. Exits with 1 when a scan
is not found. Needs root, or the capabilities CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON and CAP_SYS_ADMIN.")]
pub struct CanaryArgs {
    /// How many scans, one after the other, 1 to 1000
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub count: u32,
    /// How long to wait for each [default: 5s and ten intervals]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub timeout: Option<Duration>,
    /// How often flows are looked at, 100ms to 60s [default: as `leuko run`]
    #[arg(long, value_name = "TIME")]
    pub interval: Option<String>,
    /// Print one JSON object a line in place of text
    #[arg(long)]
    pub json: bool,
    /// Write the histogram to this file, for the textfile collector of Prometheus' node_exporter
    #[arg(long, value_name = "FILE")]
    pub metrics_textfile: Option<PathBuf>,
}
