//! What needs no kernel table: memory, instructions, a replay.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use leuko::source::kernel::PROGRAMS;
use sensor_core::flow::FlowTable;
use sensor_ebpf::abi::FlowSlot;

use crate::Bench;
use crate::frames::{ethernet, ipv4};
use crate::many_flows::DEFAULT_FLOWS;
use crate::report::Report;
use crate::turns::time;

pub fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    memory(report);
    instructions(bench, report)?;
    match replay() {
        Ok(rate) => {
            report.add("leuko replay, 1,000 flows", rate, "packets/s");
        }
        Err(error) => report.add_missing("leuko replay, 1,000 flows", "packets/s").because(error.to_string()),
    }
    Ok(())
}

/// What a flow takes of memory, by size of what is kept.
fn memory(report: &mut Report) {
    const TAG: usize = size_of::<u64>();
    const POLL_INDEX: usize = size_of::<u64>();
    report.add("memory, kernel, an entry of the flow table", (TAG + size_of::<FlowSlot>()) as f64, "B");
    report.add("memory, userspace, an entry of the flow table", (POLL_INDEX + FlowTable::SLOT_OCTETS) as f64, "B");
}

/// Bytecode after the kernel has rewritten it, and what the verifier walks of its million.
fn instructions(bench: &Bench, report: &mut Report) -> Result<()> {
    const LIMIT: f64 = 1e6;
    const INSTRUCTION_OCTETS: u32 = 8;
    let mut source = bench.product(DEFAULT_FLOWS)?;
    for name in PROGRAMS {
        let info = if name.contains("xdp") { source.xdp(name)?.info()? } else { source.classifier(name)?.info()? };
        if let Some(octets) = info.size_translated() {
            report.add(format!("instructions, {name}"), f64::from(octets / INSTRUCTION_OCTETS), "");
        }
        if let Some(verified) = info.verified_instruction_count() {
            let line = report.add(format!("instructions verified, {name}"), f64::from(verified), "");
            line.relative(LIMIT, "the limit");
        }
    }
    Ok(())
}

/// How fast `leuko replay` is; not available without LEUKO_BIN, or where it cannot replay.
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
