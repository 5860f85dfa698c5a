//! `leuko`: parse the command line, run, exit.

use std::process::ExitCode;

use clap::Parser as _;
use leuko::app;
use leuko::cli::Cli;

fn main() -> ExitCode {
    app::run(&Cli::parse()).unwrap_or_else(|error| app::complain(&error))
}
