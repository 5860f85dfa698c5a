//! `leuko incidents`, `leuko feedback` and `leuko audit`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use sensor_core::incident::{Class, Severity};

use super::moment::{Moment, since, until};
use super::mute::class;
use crate::config::network::Network;
use crate::store::Verdict;

/// `leuko incidents`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:
  leuko incidents list --since 7d --severity high
  leuko incidents list --host 192.0.2.0/24 --class brute_force,port_scan --json
  leuko incidents show 3f0c                    the beginning of an identifier is enough
  leuko incidents tail                         what happens from now on, until Ctrl-C")]
pub struct IncidentsArgs {
    /// What to do.
    #[command(subcommand)]
    pub action: IncidentsAction,
    /// Where the sensor keeps them [default: /var/lib/leuko]
    #[arg(long, global = true, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum IncidentsAction {
    /// List incidents, the latest last
    List(ListArgs),
    /// Show all that is known of one
    Show {
        /// Its identifier, or the beginning of it
        id: String,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Show what happens, as it happens
    Tail {
        /// Begin with so many events that have been
        #[arg(short = 'n', long, default_value_t = 10)]
        lines: u32,
        /// Print JSON lines, as `leuko run --json`
        #[arg(long)]
        json: bool,
    },
}

/// `leuko incidents list`.
#[derive(Args, Clone, Debug)]
pub struct ListArgs {
    /// Found since: 24h, 7d, 2026-11-20 or 2026-11-20T18:00:00Z
    #[arg(long, value_name = "TIME", value_parser = since)]
    pub since: Option<Moment>,
    /// Found until
    #[arg(long, value_name = "TIME", value_parser = until)]
    pub until: Option<Moment>,
    /// Of these classes
    #[arg(long, value_name = "CLASS", value_delimiter = ',', value_parser = class)]
    pub class: Vec<Class>,
    /// At least so severe: low, medium, high or critical
    #[arg(long, value_name = "SEVERITY", value_parser = severity)]
    pub severity: Option<Severity>,
    /// About this address or a host of this network
    #[arg(long, value_name = "NET", value_parser = |text: &str| Network::try_from(text.to_owned()))]
    pub host: Option<Network>,
    /// Only those that are going on
    #[arg(long)]
    pub open: bool,
    /// Only those of which this was said
    #[arg(long, value_name = "VERDICT")]
    pub feedback: Option<VerdictArg>,
    /// Also those that a rule was applied to afterwards
    #[arg(long)]
    pub muted: bool,
    /// At most so many, the latest
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: u32,
    /// Print one JSON object a line in place of a table
    #[arg(long)]
    pub json: bool,
}

/// `leuko feedback`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:
  leuko feedback 3f0c false-positive --reason backup
  leuko feedback 3f0c9a1b2c3d4e5f confirmed

A running sensor takes it up within a second: traffic of a false positive counts as normal from then on, and the next
model is fitted with it; traffic of a confirmed attack is remembered as one. `leuko mute add --dry-run` says what a
rule would have kept from being told.")]
pub struct FeedbackArgs {
    /// The incident, or the beginning of its identifier
    pub id: String,
    /// What it was
    pub verdict: VerdictArg,
    /// Why
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
    /// Where the sensor keeps incidents [default: /var/lib/leuko]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
}

/// What a person says of an incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum VerdictArg {
    /// It was an attack
    Confirmed,
    /// It was none
    FalsePositive,
}

impl From<VerdictArg> for Verdict {
    fn from(verdict: VerdictArg) -> Self {
        match verdict {
            VerdictArg::Confirmed => Self::Confirmed,
            VerdictArg::FalsePositive => Self::FalsePositive,
        }
    }
}

/// `leuko audit`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:
  leuko audit --since 30d
  leuko audit --json")]
pub struct AuditArgs {
    /// Done since: 24h, 7d, 2026-11-20 or 2026-11-20T18:00:00Z
    #[arg(long, value_name = "TIME", value_parser = since)]
    pub since: Option<Moment>,
    /// At most so many, the latest
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub limit: u32,
    /// Print one JSON object a line in place of a table
    #[arg(long)]
    pub json: bool,
    /// Where the sensor keeps it [default: /var/lib/leuko]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
}

fn severity(text: &str) -> Result<Severity, String> {
    let known = || Severity::ALL.map(Severity::as_str).join(", ");
    Severity::ALL.into_iter().find(|one| one.as_str() == text).ok_or_else(|| format!("there are {}", known()))
}
