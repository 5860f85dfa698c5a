//! `leuko mute`.

use clap::{ArgGroup, Args, Subcommand};
use sensor_core::incident::Class;

use super::moment::{Moment, since};
use crate::config::suppress::{Day, Expiry, Hours, Ports};

/// `leuko mute`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:
  leuko mute add scanner --class port_scan,host_scan --from 10.0.0.5 --for 30d --reason ours
  leuko mute add backup --to 10.0.9.0/24 --port ssh --hours 01:00-04:00 --until 2027-06-30 --reason rsync
  leuko mute add lab --from 10.7.0.0/16 --for 7d --reason tests --dry-run      what it would have hidden
  leuko mute list
  leuko mute remove backup

A running sensor takes it up within a second. Attackers of whom a rule does not speak are still
reported. Rules that are there for good belong to [[detect.suppress]] in the configuration. Hours and
days are UTC.")]
pub struct MuteArgs {
    /// What to do.
    #[command(subcommand)]
    pub action: MuteAction,
    /// Where the rules are kept [default: /var/lib/leuko]
    #[arg(long, global = true, value_name = "DIR")]
    pub state_dir: Option<std::path::PathBuf>,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum MuteAction {
    /// Report something no longer; a rule of the same name is replaced
    Add(Box<AddArgs>),
    /// Show the rules
    List {
        /// Print one JSON object a line in place of a table
        #[arg(long)]
        json: bool,
    },
    /// Report it again
    Remove {
        /// The rule
        name: String,
    },
}

/// `leuko mute add`.
#[derive(Args, Clone, Debug)]
#[command(group(ArgGroup::new("end").required(true)))]
#[command(group(ArgGroup::new("what").required(true).multiple(true).args(["class", "from", "to", "port"])))]
pub struct AddArgs {
    /// Names the rule: letters, digits, - and _
    pub name: String,
    /// Why nobody needs to be told
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// How long, such as 90m, 12h or 30d
    #[arg(long = "for", value_name = "TIME", group = "end", value_parser = span)]
    pub span: Option<std::time::Duration>,
    /// Until when, such as 2027-06-30 (that day included), 2027-06-30T18:00:00Z or never
    #[arg(long, value_name = "DATE", group = "end", value_parser = |text: &str| Expiry::try_from(text.to_owned()))]
    pub until: Option<Expiry>,
    /// Classes of incidents
    #[arg(long, value_name = "CLASS", value_delimiter = ',', value_parser = class)]
    pub class: Vec<Class>,
    /// Attackers: addresses or networks
    #[arg(long, value_name = "NET", value_delimiter = ',')]
    pub from: Vec<String>,
    /// Victims: addresses or networks
    #[arg(long, value_name = "NET", value_delimiter = ',')]
    pub to: Vec<String>,
    /// Ports of the victims: 22, 8000-8100 or ssh
    #[arg(long, value_name = "PORT", value_delimiter = ',')]
    pub port: Vec<Ports>,
    /// Days of the week
    #[arg(long, value_name = "DAY", value_delimiter = ',')]
    pub days: Vec<Day>,
    /// Hours of the day, such as 22:00-06:00
    #[arg(long, value_name = "HOURS")]
    pub hours: Option<Hours>,
    /// Only say what the rule would have kept from being told of the incidents so far
    #[arg(long)]
    pub dry_run: bool,
    /// Look back so far: 24h, 30d, 2026-11-20 [default: all there is]
    #[arg(long, value_name = "TIME", value_parser = since)]
    pub since: Option<Moment>,
    /// Also apply it to the incidents that it would have kept from being told: lists leave them out from then on
    #[arg(long, conflicts_with = "dry_run")]
    pub apply_to_past: bool,
    /// Print what the rule would have done as one JSON object
    #[arg(long)]
    pub json: bool,
}

pub(super) fn class(text: &str) -> Result<Class, String> {
    let known = || Class::ALL.map(Class::as_str).join(", ");
    Class::named(text).ok_or_else(|| format!("there is no such class; there are {}", known()))
}

fn span(text: &str) -> Result<std::time::Duration, String> {
    super::moment::span(text.trim()).ok_or_else(|| "write for instance 90m, 12h or 30d".to_owned())
}
