//! Developer tasks of Leuko: `cargo xtask <TASK>`.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "what a task says is its output")]

mod build;
mod run;

mod test;

mod check;

mod bench;
mod eval;
mod lab;
mod train;
mod verify;

mod setup;

mod python;
mod sh;
mod toolchain;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Developer tasks of Leuko
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what is missing to compile (and, with --tests, to test) Leuko
    Setup(setup::Args),
    /// Build the release binary
    Build(build::Args),
    /// Build Leuko and run it on this machine, as root
    Run(run::Args),
    /// Run every test: units, kernel program, end to end
    Test(test::Args),
    /// Format, lints, documentation, dependencies, house rules
    Check(check::Args),
    /// Prove the claims of the README on this machine, as root
    Verify(verify::Args),
    /// Measure speed and memory, as root
    Bench(bench::Args),
    /// Measure models and detection on labelled data and write models/QUALITY.md and models/DETECTION.md
    Eval(eval::Args),
    /// Train the classifier that is shipped on labelled captures and write models/trained
    Train(train::Args),
    /// Play scenarios of real traffic in network namespaces, as root
    Lab(lab::Args),
}

fn main() -> ExitCode {
    let done = match Cli::parse().task {
        Task::Setup(args) => setup::run(&args),
        Task::Build(args) => build::run(&args),
        Task::Run(args) => run::run(&args),
        Task::Test(args) => test::run(&args),
        Task::Check(args) => check::run(&args),
        Task::Verify(args) => verify::run(&args),
        Task::Bench(args) => bench::run(&args),
        Task::Eval(args) => eval::run(&args),
        Task::Train(args) => train::run(&args),
        Task::Lab(args) => lab::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
