//! Measures what a packet, a poll, a released flow and a score cost on this machine, and what a flow takes of memory.
#![expect(clippy::print_stdout, reason = "its report is what this program is for")]

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use aya::programs::{TestRun, TestRunOptions, TestRunResult};
use clap::Parser as _;
use leuko::source::kernel::{KernelSource, LoadOptions};
use ndarray::Array2;
use sensor_core::flow::{FlowTable, SlotId};
use sensor_ebpf::abi::FlowSlot;
use sensor_models::IsolationForestParams;
use serde::Serialize;

/// Measures speed and memory; each number is the median of several runs.
#[derive(clap::Parser)]
struct Args {
    /// Runs of each measurement
    #[arg(long, default_value_t = 9)]
    runs: usize,
    /// One JSON array instead of a table
    #[arg(long)]
    json: bool,
}

/// One line of the report.
#[derive(Serialize)]
struct Measured {
    what: String,
    /// Null when it is not available.
    value: Option<f64>,
    unit: &'static str,
    /// As a multiple of the empty XDP program.
    ratio: Option<f64>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let mut report = Vec::new();
    packets(args.runs, &mut report)?;
    table(args.runs, &mut report)?;
    report.push(score(args.runs)?);
    memory(&mut report);
    report.push(replay_packets_per_second());
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
        return Ok(());
    }
    for Measured { what, value, unit, ratio } in &report {
        let value = value.map_or_else(|| "not available".to_owned(), |value| format!("{value:.1} {unit}"));
        let ratio = ratio.map_or_else(String::new, |ratio| format!("{ratio:8.1} x empty"));
        println!("{what:<52} {value:>24} {ratio}");
    }
    Ok(())
}

/// What a packet costs in each program.
fn packets(runs: usize, report: &mut Vec<Measured>) -> Result<()> {
    const REPEAT: u32 = 500_000;
    let mut source = load(65_536)?;
    let tcp = ethernet(0, &ipv4(6, 0, 40_000));
    let empty = median(runs, || nanoseconds(source.xdp("leuko_xdp_generic")?, &tcp, REPEAT))?;
    let mut add = |what: &str, value: f64| report.push(ns(what, value, Some(value / empty)));
    add("empty XDP program", empty);
    let hot = [
        ("XDP, hot flow, IPv4 TCP", tcp.clone()),
        ("XDP, hot flow, IPv4 UDP", ethernet(0, &ipv4(17, 0, 40_000))),
        ("XDP, hot flow, IPv6 UDP", ethernet(0, &ipv6())),
        ("XDP, hot flow, IPv4 TCP in a VLAN", ethernet(1, &ipv4(6, 0, 40_001))),
        ("XDP, hot flow, IPv4 TCP in two VLANs", ethernet(2, &ipv4(6, 0, 40_002))),
    ];
    for (what, frame) in &hot {
        add(what, median(runs, || nanoseconds(source.xdp("leuko_xdp")?, frame, REPEAT))?);
    }
    for (what, program) in
        [("TC egress, hot flow, IPv4 TCP", "leuko_egress"), ("TC ingress, the same", "leuko_ingress")]
    {
        add(what, median(runs, || nanoseconds(source.classifier(program)?, &tcp, REPEAT))?);
    }
    let (new, random) = many_flows(runs)?;
    add("XDP, first packet of each of 64 k flows", new);
    add("XDP, 64 k flows in random order", random);
    Ok(())
}

/// Nanoseconds of a first and of a later packet of each of 65,536 flows, without what a single test run adds to each.
fn many_flows(runs: usize) -> Result<(f64, f64)> {
    const FLOWS: u32 = 65_536;
    let order = shuffled(FLOWS);
    let once = |source: &mut KernelSource, program: &str| -> Result<f64> {
        let program = source.xdp(program)?;
        let mut total = 0.0;
        for &flow in &order {
            total += nanoseconds(program, &ethernet(0, &ipv4(6, flow, 40_000)), 1)?;
        }
        Ok(total / f64::from(FLOWS))
    };
    let mut source = load(FLOWS * 2)?;
    let overhead = median(runs, || once(&mut source, "leuko_xdp_generic"))?;
    let new = median(runs.min(3), || once(&mut load(FLOWS * 2)?, "leuko_xdp"))?;
    once(&mut source, "leuko_xdp")?;
    let random = median(runs, || once(&mut source, "leuko_xdp"))?;
    Ok((new - overhead, random - overhead))
}

/// What userspace spends on the flow table.
fn table(runs: usize, report: &mut Vec<Measured>) -> Result<()> {
    const FLOWS: u32 = 100_000;
    const THOUSANDS: f64 = FLOWS as f64 / 1000.0;
    let mut source = load(1 << 18)?;
    let frames: Vec<Vec<u8>> = (0..FLOWS).map(|flow| ethernet(0, &ipv4(6, flow, 40_000))).collect();
    let mut live: Vec<SlotId> = Vec::new();
    let (mut changed, mut unchanged, mut released) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..runs {
        let program = source.xdp("leuko_xdp")?;
        for frame in &frames {
            nanoseconds(program, frame, 1)?;
        }
        live.clear();
        let mut packets = 0;
        let poll = time(|| {
            source.poll(|id, slot| {
                live.push(id);
                packets += slot.half[0].packets + slot.half[1].packets;
            });
        });
        ensure!(packets > u64::from(FLOWS) * 99 / 100, "{packets} packets of {FLOWS} flows");
        changed.push(microseconds(poll));
        unchanged.push(microseconds(time(|| source.poll(|_, _| ()))));
        let mut result = Ok(());
        released.push(microseconds(time(|| result = source.release(&live, |_, _| ()))));
        result?;
    }
    let rows = [
        ("poll, 1,000 of 100,000 live flows, all changed", changed),
        ("poll, 1,000 of 100,000 live flows, none changed", unchanged),
        ("release, 1,000 of 100,000 flows, with the wait", released),
    ];
    report.extend(rows.map(|(what, samples)| Measured {
        what: what.to_owned(),
        value: Some(middle(samples) / THOUSANDS),
        unit: "us",
        ratio: None,
    }));
    Ok(())
}

/// What a score of one vector costs.
fn score(runs: usize) -> Result<Measured> {
    const COLUMNS: usize = 19;
    const ROWS: usize = 4096;
    let mut random = Random(7);
    #[expect(clippy::cast_precision_loss, reason = "any number will do")]
    let rows = Array2::from_shape_fn((ROWS, COLUMNS), |_| (random.next() >> 40) as f32);
    let forest = IsolationForestParams::new().trees(100).seed(7).check()?.fit(rows.view())?;
    let mut sum = 0.0;
    let each = median(runs, || {
        let took = time(|| sum += forest.score_batch(rows.view()).sum());
        Ok(took.as_nanos() as f64 / ROWS as f64)
    })?;
    ensure!(sum.is_finite(), "scores are numbers");
    Ok(ns("score, 100 trees, 19 columns, one vector", each, None))
}

/// What a flow takes of memory, by size of what is kept.
fn memory(report: &mut Vec<Measured>) {
    const TAG: usize = size_of::<u64>();
    const POLL_INDEX: usize = size_of::<u64>();
    let rows = [
        ("memory, kernel, an entry of the flow table", TAG + size_of::<FlowSlot>()),
        ("memory, userspace, an entry of the flow table", POLL_INDEX + FlowTable::SLOT_OCTETS),
    ];
    report.extend(rows.map(|(what, octets)| Measured {
        what: what.to_owned(),
        value: u32::try_from(octets).ok().map(f64::from),
        unit: "B",
        ratio: None,
    }));
}

/// How fast `leuko replay` is; not available without LEUKO_BIN, or where it cannot replay.
fn replay_packets_per_second() -> Measured {
    Measured { what: "leuko replay".to_owned(), value: replay().ok(), unit: "packets/s", ratio: None }
}

fn replay() -> Result<f64> {
    const PACKETS: u32 = 1_000_000;
    let leuko = std::env::var_os("LEUKO_BIN").context("LEUKO_BIN is not set")?;
    let capture = tempfile::NamedTempFile::new()?;
    write_capture(capture.reopen()?, PACKETS)?;
    let mut command = Command::new(leuko);
    command.arg("replay").arg(capture.path()).stdin(Stdio::null());
    let mut ended = None;
    let took = time(|| ended = command.output().ok());
    let output = ended.context("start leuko")?;
    // Without a word of what it found it has not replayed anything, whatever its status.
    ensure!(output.status.success() && !output.stdout.is_empty(), "leuko replay did not succeed");
    Ok(f64::from(PACKETS) / took.as_secs_f64())
}

/// A classic capture of ordinary traffic: 1,000 flows, a packet each 10 us.
fn write_capture(file: File, packets: u32) -> Result<()> {
    let mut out = BufWriter::new(file);
    for word in [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 0xffff, 1] {
        out.write_all(&word.to_le_bytes())?;
    }
    for packet in 0..packets {
        let frame = ethernet(0, &ipv4(6, packet % 1000, 40_000));
        let length = u32::try_from(frame.len())?;
        for word in [1_700_000_000 + packet / 100_000, packet % 100_000 * 10, length, length] {
            out.write_all(&word.to_le_bytes())?;
        }
        out.write_all(&frame)?;
    }
    Ok(out.flush()?)
}

fn load(flows: u32) -> Result<KernelSource> {
    KernelSource::load(LoadOptions { flows, seed: 0x5eed, ..LoadOptions::default() })
}

fn nanoseconds<P>(program: &P, frame: &[u8], repeat: u32) -> Result<f64>
where
    for<'a> P: TestRun<Opts<'a> = TestRunOptions<'a>, Result = TestRunResult>,
{
    let mut options = TestRunOptions::new();
    options.data_in = Some(frame);
    options.repeat = repeat;
    let result = program.test_run(options).map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok(result.duration.as_nanos() as f64)
}

fn ns(what: &str, value: f64, ratio: Option<f64>) -> Measured {
    Measured { what: what.to_owned(), value: Some(value), unit: "ns", ratio }
}

fn median(runs: usize, mut run: impl FnMut() -> Result<f64>) -> Result<f64> {
    Ok(middle((0..runs).map(|_| run()).collect::<Result<_>>()?))
}

fn middle(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().unwrap_or(f64::NAN)
}

fn microseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock, and only here")]
fn time(act: impl FnOnce()) -> Duration {
    let start = Instant::now();
    act();
    start.elapsed()
}

/// The numbers below `count` in an order that no prefetcher guesses, the same each time.
fn shuffled(count: u32) -> Vec<u32> {
    let mut random = Random(1);
    let mut order: Vec<(u64, u32)> = (0..count).map(|number| (random.next(), number)).collect();
    order.sort_unstable();
    order.into_iter().map(|(_, number)| number).collect()
}

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// An IP packet in Ethernet, behind so many VLAN tags.
fn ethernet(tags: usize, packet: &[u8]) -> Vec<u8> {
    let mut frame = vec![2; 12];
    for _ in 0..tags {
        frame.extend([0x81, 0x00, 0, 5]);
    }
    frame.extend(if packet[0] >> 4 == 4 { [0x08, 0x00] } else { [0x86, 0xdd] });
    frame.extend(packet);
    frame
}

/// A packet of 50 octets from a host of 10.0.0.0/8 to 192.0.2.1:443; for TCP an ACK.
fn ipv4(proto: u8, host: u32, port: u16) -> Vec<u8> {
    let [_, a, b, c] = host.to_be_bytes();
    let [port_1, port_0] = port.to_be_bytes();
    let mut packet = vec![0x45, 0, 0, 50, 0, 0, 0x40, 0, 64, proto, 0, 0, 10, a, b, c, 192, 0, 2, 1];
    packet.extend([port_1, port_0, 0x01, 0xbb, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x10, 1, 0]);
    packet.resize(50, 0);
    packet
}

fn ipv6() -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0, 0, 20, 17, 64];
    for host in [1, 2] {
        packet.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host]);
    }
    packet.extend([0x9c, 0x40, 0, 53, 0, 20, 0, 0]);
    packet.resize(60, 0);
    packet
}
