//! `cargo xtask lab`: real attacks on a server that Leuko watches, and what it makes of them.
//!
//! Each scenario has network namespaces, services and a Leuko of its own, which first learns ordinary traffic. Every tool
//! is bounded in packets and in time.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "what the lab says is its output")]

mod generate;
mod scenario;
mod stage;
mod verdict;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum as _};
use support::{Need, Scene, require};

use scenario::Scenario;
use verdict::Verdict;

/// Real attacks in network namespaces, and what Leuko makes of them
#[derive(Parser)]
#[command(
    name = "lab",
    bin_name = "cargo xtask lab",
    after_help = "The server that Leuko watches is 10.77.0.2, its only neighbour and its way out 10.77.0.1; what is outside has addresses
of 198.51.100.0/24. First Leuko learns ordinary traffic for ten seconds or more; more of it goes on beside each attack.

  scenario     what was played
  found        the class of the incident, - for none
  seconds      event time from the first packet of the attack, as the incident has it, to the incident
  first_seen   from the start of the tool to that first packet
  attacker     whether the incident names the attackers, and nobody else
  victim       whether the incident names the victims, and nobody else
  others       further incidents, which are false

With --json, a line has these as scenario, expected, right, seconds, first_seen_after_start, attacker_right, victim_right,
found and others; the last two are incidents as `leuko run --json` prints them.

A scenario takes about a minute, exfiltration three: it needs a past. Not played: lateral_movement, which is learned for
ten minutes first; anomaly, which is no attack by itself.

Exits with 1 when an attack is not found, is found wrongly, or something else is found."
)]
struct Cli {
    /// What to play
    #[arg(value_enum, default_values_t = [Scenario::All])]
    scenario: Vec<Scenario>,
    /// Print one JSON object a scenario in place of a table
    #[arg(long)]
    json: bool,
    /// Record with tcpdump what the server receives and sends from just before each attack, as SCENARIO.pcap in this folder
    #[arg(long, value_name = "DIR")]
    capture: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<ExitCode> {
    let scenarios = chosen(&cli.scenario);
    let tools = Scene::TOOLS.into_iter().chain(scenarios.iter().flat_map(|scenario| scenario.tools()).copied());
    let tools = tools.chain(cli.capture.is_some().then_some("tcpdump"));
    let needs: Vec<Need<'_>> = [Need::Root, Need::Leuko].into_iter().chain(tools.map(Need::Tool)).collect();
    if !require(&needs) {
        return Ok(ExitCode::FAILURE);
    }
    let mut right = true;
    if !cli.json {
        println!("{}", Verdict::HEAD);
    }
    for scenario in scenarios {
        let verdict =
            stage::play(scenario, cli.capture.as_deref()).with_context(|| format!("play {}", scenario.name()))?;
        right &= verdict.is_right();
        println!("{}", if cli.json { verdict.json().to_string() } else { verdict.row() });
    }
    Ok(if right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn chosen(scenarios: &[Scenario]) -> Vec<Scenario> {
    let all = || Scenario::value_variants().iter().copied().filter(|scenario| *scenario != Scenario::All).collect();
    if scenarios.contains(&Scenario::All) { all() } else { scenarios.to_vec() }
}
