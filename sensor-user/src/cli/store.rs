//! `leuko store`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `leuko store`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:
  leuko store check                            whether the file is whole, and what it holds
  leuko store compact                          give room back to the file system
  leuko store backup /var/backups/leuko.db     while the sensor runs")]
pub struct StoreArgs {
    /// What to do.
    #[command(subcommand)]
    pub action: StoreAction,
    /// Where the store is [default: /var/lib/leuko]
    #[arg(long, global = true, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum StoreAction {
    /// Look whether the file is whole, and what it holds; exits with 1 if it is damaged
    Check {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Write the file anew without the room that is not used
    Compact,
    /// Copy the file as it is at one moment
    Backup {
        /// The copy, which must not be there yet
        file: PathBuf,
    },
}
