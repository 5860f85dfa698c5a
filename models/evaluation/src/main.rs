//! `eval`: measures every model and writes the quality card. `cargo xtask eval` runs it.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its report is what this program is for")]

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Parser as _;
use sensor_evaluation::Prepared;
use sensor_evaluation::card;
use sensor_evaluation::datasets::{Dataset, SOURCES};
use sensor_evaluation::evaluate::{self, Options};
use sensor_evaluation::floors::Floors;

/// Measures every model on public labelled data, beside scikit-learn on the same rows
#[derive(clap::Parser)]
struct Args {
    /// Folder of the labelled data
    #[arg(long, env = "LEUKO_DATA", value_name = "DIR", default_value = "../shared/data")]
    data: PathBuf,
    /// UNSW-NB15 only, fewer resamples, no family left out
    #[arg(long)]
    quick: bool,
    /// JSON instead of Markdown on standard output
    #[arg(long)]
    json: bool,
    /// Also write the card, as Markdown, to this file
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Python interpreter that has scikit-learn
    #[arg(long, value_name = "FILE")]
    python: Option<PathBuf>,
    /// Why there is no such interpreter, for the card
    #[arg(long, value_name = "WHY", conflicts_with = "python", default_value = "no Python interpreter was given")]
    no_python: String,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let sources = if args.quick { &SOURCES[..1] } else { &SOURCES[..] };
    let options = if args.quick {
        Options { resamples: 50, leave_out: false }
    } else {
        Options { resamples: 200, leave_out: true }
    };
    let mut prepared = Vec::new();
    for source in sources {
        eprintln!("reading {}", source.name);
        prepared.push(Prepared::new(Dataset::read(source, &args.data)?));
    }
    let floors = match &args.python {
        Some(python) => Ok(Floors::measure(python, &prepared, options.leave_out)?),
        None => Err(args.no_python),
    };
    if let Err(why) = &floors {
        eprintln!("scikit-learn is not measured: {why}");
    }
    let report = evaluate::run(&prepared, floors.as_ref().map_err(Clone::clone), options)?;
    let markdown = card::markdown(&report);
    if let Some(out) = &args.out {
        fs::write(out, &markdown).with_context(|| format!("write {}", out.display()))?;
        eprintln!("wrote {}", out.display());
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{markdown}");
    }
    Ok(())
}
