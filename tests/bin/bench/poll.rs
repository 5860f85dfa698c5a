//! What userspace spends on the flow table, beside what it would spend on a hash map.

use anyhow::{Result, ensure};

use crate::Bench;
use crate::frames::{ethernet, ipv4};
use crate::hash_map::HashMap;
use crate::many_flows::{ACCOUNT_1M, DEFAULT_FLOWS, any_flow};
use crate::report::Report;
use crate::turns::{Program, Sample, nanoseconds, time};

pub fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    million(bench, report)?;
    idle(bench, report)
}

/// A million live flows, against a million entries of a hash map.
fn million(bench: &Bench, report: &mut Report) -> Result<()> {
    const FLOWS: u32 = 1 << 20;
    let mut source = bench.baselines(FLOWS * 2)?;
    let mut map = HashMap::full(FLOWS)?;
    let (mut changed, mut unchanged, mut batches) = (Sample::default(), Sample::default(), Sample::default());
    // The first turn finds memory that nobody has touched.
    for turn in 0..=bench.few() {
        nanoseconds(&mut source, ACCOUNT_1M, &any_flow(0), FLOWS)?;
        let (mut flows, mut packets) = (0, 0);
        let all = time(|| {
            source.poll(|_, slot| {
                flows += 1;
                packets += slot.half[0].packets + slot.half[1].packets;
            });
        });
        ensure!(
            (flows, packets) == (FLOWS, u64::from(FLOWS) * (turn as u64 + 1)),
            "{packets} packets of {flows} flows"
        );
        let none = time(|| source.poll(|_, _| ()));
        let mut read = Ok(0);
        let batch = time(|| read = map.read());
        ensure!(read? == FLOWS, "the map has lost entries");
        if turn > 0 {
            changed.push(all.as_secs_f64() * 1e3);
            unchanged.push(none.as_secs_f64() * 1e3);
            batches.push(batch.as_secs_f64() * 1e3);
        }
    }
    let lookup = batches.median();
    report.add_sample("BPF_MAP_LOOKUP_BATCH, hash of 2^20 entries, 40 + 256 B", &batches, "ms");
    report.add_sample("poll, 2^20 live flows, all changed", &changed, "ms").relative(lookup, "LOOKUP_BATCH");
    report.add_sample("poll, 2^20 live flows, none changed", &unchanged, "ms").relative(lookup, "LOOKUP_BATCH");
    Ok(())
}

/// The default table: empty, and with 50,000 flows in it in which nothing moves.
fn idle(bench: &Bench, report: &mut Report) -> Result<()> {
    const FLOWS: u32 = 50_000;
    let mut source = bench.product(DEFAULT_FLOWS)?;
    let (mut empty, mut quiet) = (Sample::default(), Sample::default());
    for _ in 0..bench.runs {
        empty.push(time(|| source.poll(|_, _| ())).as_secs_f64() * 1e6);
    }
    for flow in 0..FLOWS {
        nanoseconds(&mut source, Program::Xdp("leuko_xdp"), &ethernet(0, &ipv4(6, flow, 40_000)), 1)?;
    }
    source.poll(|_, _| ());
    for _ in 0..bench.runs {
        quiet.push(time(|| source.poll(|_, _| ())).as_secs_f64() * 1e6);
    }
    report.add_sample("poll of the default table, no flows", &empty, "us");
    report.add_sample("poll of the default table, 50,000 flows, none changed", &quiet, "us");
    Ok(())
}
