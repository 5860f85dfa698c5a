//! `cargo xtask check`: everything that is judged without running Leuko.

mod kernel;
mod tidy;

use anyhow::{Result, bail};

use crate::{setup, sh};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask check          every check; all failures are listed at the end
  cargo xtask check --only tidy

The dependency policy needs cargo-deny (`cargo install cargo-deny --locked`); without it that check is left out.")]
pub struct Args {
    /// One check by name
    #[arg(long, value_name = "CHECK", value_parser = names())]
    only: Option<String>,
}

pub fn run(args: &Args) -> Result<()> {
    let chosen = |name: &str| args.only.as_deref().is_none_or(|only| only == name);
    let mut failures = Vec::new();
    for (name, check) in CHECKS.iter().filter(|(name, _)| chosen(name)) {
        eprintln!("== {name}");
        if let Err(error) = check() {
            eprintln!("{error:#}");
            failures.push(*name);
        }
    }
    if !failures.is_empty() {
        bail!("checks failed: {}", failures.join(", "));
    }
    println!("all checks passed");
    Ok(())
}

type Check = fn() -> Result<()>;

/// Quick ones first.
const CHECKS: [(&str, Check); 6] = [
    ("format", format),
    ("tidy", tidy::check),
    ("dependencies", dependencies),
    ("kernel", kernel::check),
    ("lints", lints),
    ("documentation", documentation),
];

fn names() -> Vec<&'static str> {
    CHECKS.iter().map(|(name, _)| *name).collect()
}

fn format() -> Result<()> {
    sh::run(&mut sh::cargo(&["fmt", "--all", "--check"]))
}

fn lints() -> Result<()> {
    setup::toolchain()?;
    let clippy = ["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
    sh::run(&mut sh::cargo(&clippy))
}

fn documentation() -> Result<()> {
    setup::toolchain()?;
    let mut doc = sh::cargo(&["doc", "--workspace", "--no-deps", "--locked"]);
    sh::run(doc.env("RUSTDOCFLAGS", "-D warnings"))
}

fn dependencies() -> Result<()> {
    if sh::find_program("cargo-deny").is_none() {
        eprintln!("left out: cargo-deny is not installed; to have it: cargo install cargo-deny --locked");
        return Ok(());
    }
    sh::run(&mut sh::cargo(&["deny", "--locked", "check", "bans", "licenses", "sources"]))
}
