//! `eval`: measures models and detection and writes the cards. `cargo xtask eval` runs it.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its report is what this program is for")]

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser as _;
use sensor_evaluation::datasets::{Dataset, SOURCES};
use sensor_evaluation::detection::{self, Material, observe, robustness};
use sensor_evaluation::evaluate::{self, Options};
use sensor_evaluation::floors::Floors;
use sensor_evaluation::{Prepared, card};
use serde_json::{Map, Value};

/// Measures every model on public labelled data, beside scikit-learn on the same rows, and detection on labelled captures
#[derive(clap::Parser)]
struct Args {
    /// What is measured; default: both
    #[arg(value_name = "PART")]
    part: Option<Part>,
    /// Folder of the labelled data
    #[arg(long, env = "LEUKO_DATA", value_name = "DIR", default_value = "../shared/data")]
    data: PathBuf,
    /// Models: UNSW-NB15 only, fewer resamples, no family left out
    #[arg(long)]
    quick: bool,
    /// Captures: also with every parameter halved and doubled
    #[arg(long)]
    robustness: bool,
    /// Captures: compare with the card in --out instead of writing it
    #[arg(long, requires = "out")]
    check: bool,
    /// JSON instead of Markdown on standard output
    #[arg(long)]
    json: bool,
    /// Folder the cards are written to
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Python interpreter that has scikit-learn
    #[arg(long, value_name = "FILE")]
    python: Option<PathBuf>,
    /// Why there is no such interpreter, for the card
    #[arg(long, value_name = "WHY", conflicts_with = "python", default_value = "no Python interpreter was given")]
    no_python: String,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// The models, on tables and captures
    Models,
    /// Detection, on captures
    Captures,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let mut reports = Map::new();
    if args.part != Some(Part::Models) {
        reports.insert("captures".to_owned(), captures(&args)?);
    }
    if args.part != Some(Part::Captures) {
        reports.insert("models".to_owned(), models(&args)?);
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&reports)?);
    }
    Ok(())
}

fn captures(args: &Args) -> Result<Value> {
    eprintln!("replaying the captures in {}", args.data.display());
    let material = Material::read(&args.data)?;
    let measured = material.measure(&observe::usual())?;
    let card = detection::card::markdown(&measured);
    publish(args, "DETECTION.md", &card)?;
    publish(args, "DETECTION.json", &(serde_json::to_string_pretty(&measured)? + "\n"))?;
    if !args.json {
        print!("{card}");
    }
    let mut report = Map::from_iter([("detection".to_owned(), serde_json::to_value(&measured)?)]);
    if args.robustness {
        let changes = robustness::measure(&material)?;
        let card = detection::card::robustness(&changes);
        publish(args, "ROBUSTNESS.md", &card)?;
        if !args.json {
            print!("\n{card}");
        }
        report.insert("robustness".to_owned(), serde_json::to_value(&changes)?);
    }
    Ok(Value::Object(report))
}

fn models(args: &Args) -> Result<Value> {
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
        None => Err(args.no_python.clone()),
    };
    if let Err(why) = &floors {
        eprintln!("scikit-learn is not measured: {why}");
    }
    let report = evaluate::run(&prepared, floors.as_ref().map_err(Clone::clone), options)?;
    let markdown = card::markdown(&report);
    if !args.quick {
        publish(args, "QUALITY.md", &markdown)?;
    }
    if !args.json {
        print!("{markdown}");
    }
    Ok(serde_json::to_value(&report)?)
}

/// Writes a file of a card, or compares with it.
fn publish(args: &Args, name: &str, text: &str) -> Result<()> {
    let Some(folder) = &args.out else { return Ok(()) };
    let path = folder.join(name);
    if args.check {
        return compare(&path, text);
    }
    fs::create_dir_all(folder).with_context(|| format!("make the folder {}", folder.display()))?;
    fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    eprintln!("wrote {}", path.display());
    Ok(())
}

fn compare(path: &Path, text: &str) -> Result<()> {
    let kept = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let Some((at, (old, new))) = kept.lines().zip(text.lines()).enumerate().find(|(_, (old, new))| old != new) else {
        ensure!(kept == text, "{} is stale: its length differs; run cargo xtask eval captures", path.display());
        return Ok(());
    };
    bail!(
        "{} is stale from line {}; run cargo xtask eval captures\n  kept: {old}\n  now:  {new}",
        path.display(),
        at + 1
    );
}
