//! `leuko notify`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `leuko notify`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:
  leuko notify list                            the sinks of the configuration, and what waits for them
  leuko notify test discord                    a sample incident, opened and closed
  leuko notify dead --json                     what was given up, and why
  leuko notify resend telegram:42              try it again
  leuko notify templates --write /etc/leuko/templates

A sink is called by the name of its table, else by its kind, telegram by its chat: telegram:42.")]
pub struct NotifyArgs {
    /// What to do.
    #[command(subcommand)]
    pub action: NotifyAction,
    /// Where the sensor keeps its outbox [default: /var/lib/leuko]
    #[arg(long, global = true, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum NotifyAction {
    /// Show the sinks of the configuration, and what waits for them
    List {
        /// Print one JSON object a line in place of a table
        #[arg(long)]
        json: bool,
    },
    /// Send a sample incident to a sink, whatever its limits
    Test {
        /// The sink
        sink: String,
    },
    /// Show what was given up
    Dead {
        /// Of this sink only
        sink: Option<String>,
        /// Print one JSON object a line in place of a table
        #[arg(long)]
        json: bool,
    },
    /// Have what was given up tried again by the running sensor
    Resend {
        /// Of this sink only
        sink: Option<String>,
        /// Of this incident only
        #[arg(long, value_name = "ID")]
        incident: Option<String>,
    },
    /// Print the templates of messages
    Templates {
        /// Write them to this folder in place, for notify.templates; files that are there are left alone
        #[arg(long, value_name = "DIR")]
        write: Option<PathBuf>,
        /// Only this one
        name: Option<String>,
    },
}
