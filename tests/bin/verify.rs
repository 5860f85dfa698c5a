//! Loads each kernel program and shows what the verifier and the compiler in the kernel made of it, and what the maps take.
#![expect(clippy::print_stdout, reason = "its report is what this program is for")]
#![expect(clippy::print_stderr, reason = "warnings are not part of the report")]

use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _};

use anyhow::{Context as _, Result};
use aya::maps::MapInfo;
use aya::programs::ProgramInfo;
use clap::Parser as _;
use leuko::source::kernel::{KernelSource, LoadOptions};
use serde::Serialize;

/// Loads each kernel program and shows what the kernel made of it.
#[derive(clap::Parser)]
struct Args {
    /// Entries of the flow table
    #[arg(long, default_value_t = 262_144)]
    flows: u32,
    /// One JSON object instead of tables
    #[arg(long)]
    json: bool,
}

/// What the verifier walks at most (`BPF_COMPLEXITY_LIMIT_INSNS`).
const VERIFIER_LIMIT: u32 = 1_000_000;

#[derive(Serialize)]
struct Report {
    programs: Vec<Program>,
    maps: Vec<Map>,
    verifier_limit: u32,
}

#[derive(Serialize)]
struct Program {
    name: String,
    /// Bytecode after the kernel has rewritten it.
    instructions: Option<u32>,
    verified: Option<u32>,
    jited_octets: u32,
    memory_octets: u32,
}

#[derive(Serialize)]
struct Map {
    name: String,
    entries: u32,
    key_octets: u32,
    value_octets: u32,
    memory_octets: Option<u64>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let report = Report::take(args.flows)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        report.print();
    }
    for program in &report.programs {
        let verified = program.verified.unwrap_or(0);
        if verified > VERIFIER_LIMIT / 5 * 4 {
            eprintln!("warning: {} takes {verified} of the verifier's {VERIFIER_LIMIT} instructions", program.name);
        }
    }
    Ok(())
}

impl Report {
    fn take(flows: u32) -> Result<Self> {
        let mut source = KernelSource::load(LoadOptions { flows, seed: 1, ..LoadOptions::default() })?;
        let infos = [
            ("leuko_xdp", source.xdp("leuko_xdp")?.info()?),
            ("leuko_xdp_linear", source.xdp("leuko_xdp_linear")?.info()?),
            ("leuko_ingress", source.classifier("leuko_ingress")?.info()?),
            ("leuko_egress", source.classifier("leuko_egress")?.info()?),
        ];
        let mut maps = Vec::new();
        for id in infos.iter().map(|(_, info)| info.map_ids()).collect::<Result<Vec<_>, _>>()?.into_iter().flatten() {
            maps.extend(id);
        }
        maps.sort_unstable();
        maps.dedup();
        Ok(Self {
            programs: infos.iter().map(|(name, info)| Program::new(name, info)).collect::<Result<_>>()?,
            maps: maps.into_iter().map(Map::new).collect::<Result<_>>()?,
            verifier_limit: VERIFIER_LIMIT,
        })
    }

    fn print(&self) {
        println!("{:<20} {:>12} {:>10} {:>8} {:>8}", "program", "instructions", "verified", "of limit", "jited B");
        for Program { name, instructions, verified, jited_octets, .. } in &self.programs {
            let share = verified.map(|verified| f64::from(verified) / f64::from(VERIFIER_LIMIT) * 100.0);
            let share = share.map_or_else(unknown, |share| format!("{share:.1} %"));
            let (instructions, verified) = (shown(*instructions), shown(*verified));
            println!("{name:<20} {instructions:>12} {verified:>10} {share:>8} {jited_octets:>8}");
        }
        println!("\n{:<20} {:>12} {:>10} {:>8} {:>12}", "map", "entries", "key B", "value B", "memory KiB");
        for Map { name, entries, key_octets, value_octets, memory_octets } in &self.maps {
            let memory = shown(memory_octets.map(|octets| octets.div_ceil(1024)));
            println!("{name:<20} {entries:>12} {key_octets:>10} {value_octets:>8} {memory:>12}");
        }
    }
}

impl Program {
    fn new(name: &str, info: &ProgramInfo) -> Result<Self> {
        const INSTRUCTION_OCTETS: u32 = 8;
        Ok(Self {
            name: name.to_owned(),
            instructions: info.size_translated().map(|octets| octets / INSTRUCTION_OCTETS),
            verified: info.verified_instruction_count(),
            jited_octets: info.size_jitted(),
            memory_octets: info.memory_locked()?,
        })
    }
}

impl Map {
    fn new(id: u32) -> Result<Self> {
        let info = MapInfo::from_id(id).context("look at a map")?;
        let name = info.name_as_str().unwrap_or("?").to_owned();
        let fd = info.fd().with_context(|| format!("open map {name}"))?;
        let about = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd()))?;
        Ok(Self {
            entries: info.max_entries(),
            key_octets: info.key_size(),
            value_octets: info.value_size(),
            memory_octets: about.lines().find_map(|line| line.strip_prefix("memlock:")?.trim().parse().ok()),
            name,
        })
    }
}

fn shown<T: ToString>(value: Option<T>) -> String {
    value.as_ref().map_or_else(unknown, T::to_string)
}

fn unknown() -> String {
    "?".to_owned()
}
