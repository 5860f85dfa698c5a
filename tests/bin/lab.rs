//! `cargo xtask lab`: real attacks on a server that Leuko watches, and what it makes of them.
//!
//! Each scenario has network namespaces, services and a Leuko of its own, which first learns ordinary traffic. Every tool
//! is bounded in packets and in time.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "what the lab says is its output")]

use std::fmt::Write as _;
use std::fs;
use std::net::IpAddr;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, ValueEnum};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use support::{Need, Pair, Scene, Sensor, require, run_timeout};

/// Real attacks in network namespaces, and what Leuko makes of them
#[derive(Parser)]
#[command(
    name = "lab",
    bin_name = "cargo xtask lab",
    after_help = "Exits with 1 when an attack is not found, is found wrongly, or something else is found."
)]
struct Cli {
    /// What to play
    #[arg(value_enum, default_values_t = [Scenario::All])]
    scenario: Vec<Scenario>,
    /// Print one JSON object a scenario in place of a table
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Scenario {
    /// Every scenario, one after the other
    All,
    /// Web pages, names, log-ins and transfers: nothing may be found
    Normal,
    /// nmap -sS, 1,000 ports
    PortScan,
    /// nmap -sT, 1,000 ports
    ConnectScan,
    /// nmap -sU, 150 ports
    UdpScan,
    /// nmap -sn -PS22 of 256 addresses behind the server
    HostScan,
    /// hping3 -S, 6,000 packets of one source
    SynFlood,
    /// hping3 -S --rand-source, 6,000 packets
    SpoofedSynFlood,
    /// hping3 --udp, 20,000 packets of one source
    UdpFlood,
    /// hydra, 15 passwords for one account of sshd
    BruteForce,
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
    let tools = Scene::TOOLS.into_iter().chain(["hping3", "hydra"]).map(Need::Tool);
    let needs: Vec<Need<'_>> = [Need::Root, Need::Leuko].into_iter().chain(tools).collect();
    if !require(&needs) {
        return Ok(ExitCode::FAILURE);
    }
    let mut right = true;
    if !cli.json {
        println!("{}", Verdict::HEAD);
    }
    for scenario in chosen(&cli.scenario) {
        let verdict = scenario.play().with_context(|| format!("play {}", scenario.name()))?;
        right &= verdict.is_right();
        println!("{}", if cli.json { verdict.json().to_string() } else { verdict.row() });
    }
    Ok(if right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn chosen(scenarios: &[Scenario]) -> Vec<Scenario> {
    let all = || Scenario::value_variants().iter().copied().filter(|scenario| *scenario != Scenario::All).collect();
    if scenarios.contains(&Scenario::All) { all() } else { scenarios.to_vec() }
}

const TIMEOUT: Duration = Duration::from_secs(90);
/// How long an incident may take after the attack is over, slow machines included.
const PATIENCE: Duration = Duration::from_secs(15);
/// Time for what else an attack is taken for.
const SETTLE: Duration = Duration::from_secs(4);
/// Addresses behind the server, none of which is there.
const SWEPT: &str = "10.78.0.0/24";

impl Scenario {
    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// The class of the incident, and its attackers.
    fn expected(self) -> Option<(&'static str, &'static [&'static str])> {
        match self {
            Self::All | Self::Normal => None,
            Self::PortScan | Self::ConnectScan | Self::UdpScan => Some(("port_scan", &[Pair::CLIENT])),
            Self::HostScan => Some(("host_scan", &[Pair::CLIENT])),
            Self::SynFlood => Some(("syn_flood", &[Pair::CLIENT])),
            Self::SpoofedSynFlood => Some(("syn_flood", &[])),
            Self::UdpFlood => Some(("udp_flood", &[Pair::CLIENT])),
            Self::BruteForce => Some(("brute_force", &[Pair::CLIENT])),
        }
    }

    fn play(self) -> Result<Verdict> {
        eprintln!("{}: ordinary traffic", self.name());
        let scene = Scene::start()?;
        // As any server; the client drops what is not for it.
        scene.pair.server.ip(&format!("route add default via {}", Pair::CLIENT))?;
        let mut sensor = scene.watch("warmup = \"10s\"\nsensor = \"lab\"\n[metrics]\nlisten = \"off\"\n")?;
        scene.ordinary_traffic(300)?;
        sensor.wait_for_log("saved the baseline")?;
        scene.ordinary_traffic(30)?;
        eprintln!("{}: the attack", self.name());
        let began = epoch_seconds();
        let said = self.attack(&scene)?;
        if let Some((class, _)) = self.expected()
            && sensor.opened(class, PATIENCE).is_err()
        {
            eprintln!("{}: no {class}; the tool said:\n{said}", self.name());
        }
        sleep(SETTLE);
        let ended = sensor.leuko.terminate(Signal::SIGTERM, TIMEOUT)?;
        ensure!(ended.success(), "leuko: {ended}: {}", sensor.leuko.stderr());
        Ok(Verdict::of(self, &sensor, began))
    }

    /// What the tool says. Its exit status means nothing: hping3 fails when nobody answers.
    fn attack(self, scene: &Scene) -> Result<String> {
        let words = match self {
            Self::All => return Ok(String::new()),
            Self::Normal => return scene.ordinary_traffic(100).map(|()| String::new()),
            Self::PortScan => format!("nmap -sS -n -Pn --max-retries 1 {}", Pair::SERVER),
            Self::ConnectScan => format!("nmap -sT -n -Pn --max-retries 1 {}", Pair::SERVER),
            Self::UdpScan => {
                format!("nmap -sU -n -Pn -p 1-150 --min-rate 50 --max-retries 1 --host-timeout 60s {}", Pair::SERVER)
            }
            Self::HostScan => {
                scene.pair.client.ip(&format!("route add {SWEPT} via {}", Pair::SERVER))?;
                format!("nmap -sn -n -PS22 --min-rate 50 --max-retries 1 {SWEPT}")
            }
            Self::SynFlood => format!("hping3 -q -S -p 80 -i u200 -c 6000 {}", Pair::SERVER),
            Self::SpoofedSynFlood => format!("hping3 -q -S --rand-source -p 80 -i u200 -c 6000 {}", Pair::SERVER),
            Self::UdpFlood => format!("hping3 -q --udp -d 64 -p 7777 -i u100 -c 20000 {}", Pair::SERVER),
            Self::BruteForce => {
                let passwords = tempfile::NamedTempFile::new().context("make a list of passwords")?;
                fs::write(passwords.path(), (0..15).map(|n| format!("guess-{n}\n")).collect::<String>())?;
                let list = passwords.path().display();
                return run_tool(scene, &format!("hydra -l root -P {list} -t 4 -I ssh://{}", Pair::SERVER));
            }
        };
        run_tool(scene, &words)
    }

    fn is_victim(self, address: &str) -> bool {
        if self == Self::HostScan {
            address.starts_with("10.78.0.") && address.parse::<IpAddr>().is_ok()
        } else {
            address == Pair::SERVER
        }
    }
}

fn run_tool(scene: &Scene, words: &str) -> Result<String> {
    let (program, args) = words.split_once(' ').context("a program and its arguments")?;
    let mut command = scene.pair.client.command(program);
    let output = run_timeout(command.args(args.split(' ')), TIMEOUT)?;
    Ok(format!("{}{}", output.stdout, output.stderr))
}

/// What Leuko made of a scenario.
struct Verdict {
    scenario: Scenario,
    /// When the tool was started, in seconds since the epoch.
    began: f64,
    /// The first incident of the expected class.
    found: Option<Value>,
    /// Every other incident.
    others: Vec<Value>,
}

impl Verdict {
    const HEAD: &str = "scenario           found        seconds  first_seen  attacker  victim  others";

    fn of(scenario: Scenario, sensor: &Sensor, began: f64) -> Self {
        let mut others = sensor.incidents();
        let expected = scenario.expected().map(|(class, _)| class);
        let place = others.iter().position(|incident| incident["class"].as_str() == expected);
        Self { scenario, began, found: place.map(|place| others.remove(place)), others }
    }

    fn is_right(&self) -> bool {
        let complete = self.scenario.expected().is_none() || self.attacker_right() && self.victim_right();
        complete && self.others.is_empty()
    }

    fn attacker_right(&self) -> bool {
        let expected = self.scenario.expected().map(|(_, attackers)| json!(attackers));
        self.found.as_ref().is_some_and(|found| Some(&found["attackers"]) == expected.as_ref())
    }

    fn victim_right(&self) -> bool {
        let victims = self.found.as_ref().and_then(|found| found["victims"].as_array());
        let is_victim = |address: &Value| address.as_str().is_some_and(|text| self.scenario.is_victim(text));
        victims.is_some_and(|victims| !victims.is_empty() && victims.iter().all(is_victim))
    }

    /// Event time from the first packet of the attack to the incident; from the start of the tool when the incident
    /// counts earlier packets in.
    fn seconds(&self) -> Option<f64> {
        let found = self.found.as_ref()?;
        Some(found["detected_at"].as_f64()? - found["first_seen"].as_f64()?.max(self.began))
    }

    /// From the start of the tool to what the incident takes for its first packet: negative when that is too early.
    fn first_seen(&self) -> Option<f64> {
        Some(self.found.as_ref()?["first_seen"].as_f64()? - self.began)
    }

    fn row(&self) -> String {
        let found = self.found.as_ref().and_then(|found| found["class"].as_str()).unwrap_or("-");
        let answer = |right: bool| match (self.scenario.expected(), right) {
            (None, _) => "-",
            (Some(_), true) => "right",
            (Some(_), false) => "WRONG",
        };
        let seconds = |time: Option<f64>| time.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.3}"));
        let mut row = format!(
            "{:<18} {found:<12} {:>7}  {:>10}  {:<8}  {:<6}  {}",
            self.scenario.name(),
            seconds(self.seconds()),
            seconds(self.first_seen()),
            answer(self.attacker_right()),
            answer(self.victim_right()),
            self.others.len(),
        );
        if !self.is_right() {
            for incident in self.found.iter().chain(&self.others) {
                // Writing to a string cannot fail.
                let _ = write!(row, "\n    {incident}");
            }
        }
        row
    }

    fn json(&self) -> Value {
        json!({
            "scenario": self.scenario.name(),
            "expected": self.scenario.expected().map(|(class, _)| class),
            "right": self.is_right(),
            "seconds": self.seconds(),
            "first_seen_after_start": self.first_seen(),
            "attacker_right": self.attacker_right(),
            "victim_right": self.victim_right(),
            "found": self.found,
            "others": self.others,
        })
    }
}

#[expect(clippy::disallowed_methods, reason = "event time of a live sensor is the wall clock")]
fn epoch_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
