//! What a packet costs that is another flow's than the one before.
//!
//! A system call for each packet would cost more than the packet. So the programs here rewrite the packet's source
//! themselves before they account it (`sensor-ebpf/src/bench.rs`), and what the rewriting costs is taken off.

use anyhow::{Result, ensure};
use leuko::source::kernel::KernelSource;
use sensor_core::flow::SlotId;

use crate::Bench;
use crate::frames::{ethernet, ipv4};
use crate::report::Report;
use crate::turns::{Case, Program, Sample, nanoseconds, take_turns};

/// Entries of the product's flow table, unless configured otherwise.
pub const DEFAULT_FLOWS: u32 = 131_072;

const FLOWS_64K: u32 = 1 << 16;
const FLOWS_1M: u32 = 1 << 20;

const ACCOUNT_64K: Program = Program::Xdp("bench_account_64k");
/// Accounts 1,048,576 flows in turns.
pub const ACCOUNT_1M: Program = Program::Xdp("bench_account_1m");
const REWRITE: Program = Program::Xdp("bench_rewrite");

/// Adds the lines of many flows; `limit` is what a packet of 65,536 flows may cost.
pub fn measure(bench: &Bench, report: &mut Report, empty: f64, limit: f64) -> Result<()> {
    const TABLES: [u32; 3] = [DEFAULT_FLOWS, 2 * FLOWS_1M, DEFAULT_FLOWS];
    let [default, large, full] = TABLES.map(|flows| bench.baselines(flows));
    let mut sources = [default?, large?, full?];
    nanoseconds(&mut sources[0], ACCOUNT_64K, &any_flow(0), FLOWS_64K)?;
    nanoseconds(&mut sources[1], ACCOUNT_1M, &any_flow(0), FLOWS_1M)?;
    ensure!(sources[0].live() == u64::from(FLOWS_64K), "{} of 64 k flows are in the table", sources[0].live());
    ensure!(sources[1].live() == u64::from(FLOWS_1M), "{} of 1 M flows are in the table", sources[1].live());
    fill(&mut sources[2])?;
    let in_aggregates = 100.0 * (1.0 - sources[2].live() as f64 / f64::from(FLOWS_1M));
    let mut cases = [
        Case::new("rewriting", 0, REWRITE, any_flow, FLOWS_64K),
        Case::new("XDP, 64 k flows in random order", 0, ACCOUNT_64K, any_flow, FLOWS_64K * 4),
        Case::new("XDP, 1 M flows in random order", 1, ACCOUNT_1M, any_flow, FLOWS_1M),
        Case::new("XDP, 1 M flows, the default table full", 2, ACCOUNT_1M, any_flow, FLOWS_1M),
    ];
    take_turns(&mut sources, &mut cases, bench.few())?;
    let [rewriting, hot, million, overflow] = cases.each_ref().map(|case| &case.sample);
    let overhead = rewriting.median() - empty;
    report.add_sample(cases[1].what, &hot.less(overhead), "ns").relative(limit, "2.2 x budget").limit(1.0);
    report.add_sample(cases[2].what, &million.less(overhead), "ns").relative(empty, "empty");
    let what = format!("{}, {in_aggregates:.0} % in aggregates", cases[3].what);
    report.add_sample(what, &overflow.less(overhead), "ns").relative(empty, "empty");
    first_packets(bench, report, empty, overhead)
}

/// The first packet of each of 65,536 flows, and what it costs to release them.
fn first_packets(bench: &Bench, report: &mut Report, empty: f64, overhead: f64) -> Result<()> {
    let mut source = bench.baselines(FLOWS_64K * 4)?;
    let mut first = Sample::default();
    let mut released = Sample::default();
    for _ in 0..bench.few() {
        first.push(nanoseconds(&mut source, ACCOUNT_64K, &any_flow(0), FLOWS_64K)?);
        let mut live: Vec<SlotId> = Vec::new();
        source.poll(|id, _| live.push(id));
        ensure!(live.len() == FLOWS_64K as usize, "{} of 64 k flows were polled", live.len());
        let mut result = Ok(());
        let took = crate::turns::time(|| result = source.release(&live, |_, _| ()));
        result?;
        released.push(took.as_secs_f64() * 1e6 / f64::from(FLOWS_64K) * 1000.0);
    }
    report.add_sample("XDP, first packet of each of 64 k flows", &first.less(overhead), "ns").relative(empty, "empty");
    report.add_sample("release, 1,000 of 65,536 flows, with the wait", &released, "us");
    Ok(())
}

/// Fills a table until it is closed to strangers.
fn fill(source: &mut KernelSource) -> Result<()> {
    const ATTEMPTS: usize = 60;
    let mut before = 0;
    for _ in 0..ATTEMPTS {
        nanoseconds(source, ACCOUNT_1M, &any_flow(0), FLOWS_1M)?;
        if source.live() == before {
            return Ok(());
        }
        before = source.live();
    }
    anyhow::bail!("the table still takes flows in, {before} so far")
}

/// Where the programs begin.
pub fn any_flow(_: usize) -> Vec<u8> {
    ethernet(0, &ipv4(6, 0, 40_000))
}
