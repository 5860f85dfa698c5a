//! Measures what a packet, a poll, a released flow and a score cost on this machine, what a flow takes of memory, and
//! whether the hot path keeps its budget.
//!
//! A shared machine is noisy, and what it can do differs from one to the next. So the costs that make up the budget are
//! measured in the same run, in turns with what is held against them, and each number is a median over the turns.
#![expect(clippy::print_stdout, reason = "its report is what this program is for")]

mod blocks;
mod detection;
mod frames;
mod hash_map;
mod many_flows;
mod packets;
mod poll;
mod product;
mod scores;
mod store;

mod report;
mod turns;

use anyhow::{Context as _, Result, ensure};
use clap::{Parser as _, ValueEnum as _};
use leuko::source::kernel::{KernelSource, LoadOptions};

use report::Report;

/// Measures speed and memory; each number is the median of several runs.
#[derive(clap::Parser)]
struct Args {
    /// Only these measurements
    parts: Vec<Part>,
    /// Runs of each measurement; a sixth as many of those that take a second
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    runs: u16,
    /// Compares the kernel programs of this object instead of those of the product
    #[arg(long, value_name = "FILE")]
    object: Option<std::path::PathBuf>,
    /// One JSON array instead of a table
    #[arg(long)]
    json: bool,
}

/// What is measured together.
#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum Part {
    /// A packet at the hooks
    Packets,
    /// A packet that is blocked, and what the list costs others
    Blocks,
    /// A poll of the flow table
    Poll,
    /// Flows, from the slot to the incident
    Detection,
    /// Memory, instructions, a replay
    Product,
    /// A score, beside scikit-learn
    Scores,
    /// The history of flows: what is written, what is asked
    Store,
}

/// How often, and of which objects.
struct Bench {
    runs: usize,
    /// The product's programs, when they are not those of this build.
    object: Option<Vec<u8>>,
    /// The programs of `sensor-ebpf/src/bench.rs`.
    baselines: Vec<u8>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let baselines =
        std::env::var_os("LEUKO_BENCH_OBJECT").context("LEUKO_BENCH_OBJECT is not set; run `cargo xtask bench`")?;
    let bench = Bench {
        runs: usize::from(args.runs),
        object: args
            .object
            .map(|path| std::fs::read(&path).with_context(|| format!("read {}", path.display())))
            .transpose()?,
        baselines: std::fs::read(&baselines).with_context(|| format!("read {}", baselines.display()))?,
    };
    ensure!(!bench.baselines.is_empty(), "{} is empty", baselines.display());
    let mut report = Report::default();
    for part in Part::value_variants() {
        if !args.parts.is_empty() && !args.parts.contains(part) {
            continue;
        }
        match part {
            Part::Packets => packets::measure(&bench, &mut report)?,
            Part::Blocks => blocks::measure(&bench, &mut report)?,
            Part::Poll => poll::measure(&bench, &mut report)?,
            Part::Detection => detection::measure(&mut report),
            Part::Product => product::measure(&bench, &mut report)?,
            Part::Scores => scores::measure(&mut report)?,
            Part::Store => store::measure(&mut report)?,
        }
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{report}");
    }
    Ok(())
}

impl Bench {
    /// Runs of what takes long.
    const fn few(&self) -> usize {
        self.runs.div_ceil(6)
    }

    /// The product's programs with a flow table of this size.
    fn product(&self, flows: u32) -> Result<KernelSource> {
        match &self.object {
            Some(object) => KernelSource::load_object(object, options(flows)),
            None => KernelSource::load(options(flows)),
        }
    }

    /// The programs to compare with, over a flow table of this size.
    fn baselines(&self, flows: u32) -> Result<KernelSource> {
        KernelSource::load_object(&self.baselines, options(flows)).context("load the programs to compare with")
    }
}

fn options(flows: u32) -> LoadOptions {
    LoadOptions { flows, seed: 0x5eed, blocks: 1_048_576, ..LoadOptions::default() }
}
