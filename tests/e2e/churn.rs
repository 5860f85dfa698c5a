//! Many short connections a second through the whole pipeline, on one processor. `LEUKO_STRESS=N` makes it N times as
//! long as its ten seconds.
#![expect(clippy::print_stderr, reason = "a long test says what it has measured")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use support::{Lab, Leuko, Need, Pattern, Traffic, require, run_timeout, stress_factor, tcp_frame, tool, until};

const SOON: Duration = Duration::from_secs(30);
const FLOWS_PER_S: u32 = 50_000;
const PACKETS_PER_FLOW: u32 = 8;
const METRICS: &str = "127.0.0.1:9101";

#[test]
fn fifty_thousand_short_connections_a_second_are_followed_on_one_processor() -> Result<()> {
    if !require(&[Need::Root, Need::Leuko, Need::Tool("ip"), Need::Tool("taskset"), Need::Tool("curl")]) {
        return Ok(());
    }
    let seconds = 10 * stress_factor();
    let pair = Lab::new()?.pair()?;
    let state = tempfile::tempdir()?;
    let leuko = Leuko::binary()?;
    let args = [
        "-c",
        "1",
        leuko.to_str().context("a path")?,
        "run",
        "--json",
        "--interface=eth0",
        "--flows=1000000",
        "--egress=off",
        "--state-dir",
        state.path().to_str().context("a path")?,
        "--metrics-listen",
        METRICS,
    ];
    let mut sensor = Leuko::start_program(&tool("taskset")?, &pair.server, &args)?;
    until("watching", SOON, || sensor.stderr().contains("watching").then_some(())).with_context(|| sensor.stderr())?;
    let traffic = Traffic::at(&pair.client)?;
    let client_side = tcp_frame(pair.server.mac_octets("eth0")?, ([11, 0, 0, 0], 1024), ([10, 77, 0, 2], 443), 2, 60);
    let before = processor_time(sensor.id())?;
    for _ in 0..seconds {
        traffic.send_paced(Pattern::Conversations, &client_side, FLOWS_PER_S * PACKETS_PER_FLOW, 0)?;
    }
    let busy = processor_time(sensor.id())? - before;
    let metrics = |name: &str| -> Result<f64> {
        let text = pair.server.http_get(&format!("http://{METRICS}/metrics"))?;
        let line =
            text.lines().find(|line| line.starts_with(name)).with_context(|| format!("no {name} in:\n{text}"))?;
        Ok(line.rsplit(' ').next().context("a value")?.parse()?)
    };
    let flows = f64::from(FLOWS_PER_S * seconds);
    until("the last flows", SOON, || {
        let ended = metrics("leuko_flows_ended_total{reason=\"tcp_fin\"}").ok()?;
        (ended >= flows * 0.99).then_some(())
    })
    .with_context(|| sensor.stderr())?;
    let packets = metrics("leuko_packets_total{direction=\"ingress\"}")?;
    let overflowed = metrics("leuko_overflow_packets_total{direction=\"ingress\"}")?;
    let gap = metrics("leuko_conservation_gap_packets")?;
    eprintln!(
        "{flows} flows in {seconds} s, {packets} packets; the sensor took {busy:?} of processor time, {} MiB",
        resident_mib(sensor.id())?
    );
    assert!(packets >= flows * f64::from(PACKETS_PER_FLOW) * 0.99, "{packets} packets of {flows} flows");
    assert_eq!((overflowed, gap), (0.0, 0.0));
    assert!(!sensor.stderr().contains("longer than the interval"), "{}", sensor.stderr());
    let ended = sensor.terminate(Signal::SIGTERM, SOON)?;
    ensure!(ended.success(), "{}", sensor.stderr());
    Ok(())
}

/// User and system time of a process so far (proc_pid_stat(5), fields 14 and 15).
fn processor_time(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 = [11, 12].iter().filter_map(|&field| fields.get(field)?.parse::<u64>().ok()).sum();
    let output = run_timeout(std::process::Command::new(tool("getconf")?).arg("CLK_TCK"), SOON)?;
    let per_second: u64 = output.stdout.trim().parse().context("ticks a second")?;
    Ok(Duration::from_millis(ticks * 1000 / per_second))
}

fn resident_mib(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib / 1024)
}
