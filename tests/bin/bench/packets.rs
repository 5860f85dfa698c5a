//! What a packet costs in each program, and the budget that is made of what nobody can do without.

use anyhow::Result;

use crate::frames::{ethernet, ipv4, ipv6};
use crate::report::Report;
use crate::turns::{Case, Program};
use crate::{Bench, many_flows};

/// Additions of `bench_atomics`.
const ATOMICS: f64 = 32.0;
/// Counters of a packet of a hot flow that must be exact: packets and octets.
const ATOMICS_OF_A_PACKET: f64 = 2.0;
/// What the hot path may cost, as a multiple of its parts.
const MARGIN: f64 = 1.3;
/// What a packet of one of 65,536 flows may cost, as a multiple of the budget.
const MANY_FLOWS: f64 = 2.2;

const PRODUCT: usize = 0;
const BASELINES: usize = 1;

pub fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let mut sources = [bench.product(65_536)?, bench.baselines(8)?];
    let mut baselines = baselines();
    let mut hot = hot();
    for turn in 0..bench.runs {
        for case in baselines.iter_mut().chain(&mut hot) {
            case.run(&mut sources, turn)?;
        }
    }
    let [empty, clock, hash, per_cpu, lru, atomics] = baselines.each_ref().map(|case| case.sample.median());
    for case in &baselines[..5] {
        report.add_sample(case.what, &case.sample, "ns").relative(empty, "empty");
    }
    let best_hash = hash.min(per_cpu).min(lru);
    let atomic = (atomics - empty) / ATOMICS;
    report.add("an atomic addition", atomic, "ns");
    let budget = MARGIN * (empty + (clock - empty) + (best_hash - empty) + ATOMICS_OF_A_PACKET * atomic);
    report.add("budget, hot flow: 1.3 x (empty + clock + hash + 2 atomics)", budget, "ns").relative(empty, "empty");
    for case in &hot {
        report.add_sample(case.what, &case.sample, "ns").relative(budget, "budget").limit(1.0);
    }
    many_flows::measure(bench, report, empty, budget * MANY_FLOWS)?;
    Ok(())
}

/// Programs that do one thing each.
fn baselines() -> [Case; 6] {
    let case = |what, name| Case::new(what, BASELINES, Program::Xdp(name), tcp, 100_000);
    [
        case("empty XDP program", "bench_empty"),
        case("clock read", "bench_clock"),
        case("hash map: look a hot entry up and add to it", "bench_hash"),
        case("per-CPU hash map: the same", "bench_hash_per_cpu"),
        case("LRU hash map: the same", "bench_hash_lru"),
        case("32 atomic additions to one cache line", "bench_atomics"),
    ]
}

/// Programs of the product over one flow. Each turn takes another flow, so that the place of a slot is no luck.
fn hot() -> [Case; 12] {
    const XDP: Program = Program::Xdp("leuko_xdp");
    const INGRESS: Program = Program::Classifier("leuko_ingress");
    const EGRESS: Program = Program::Classifier("leuko_egress");
    let case = |what, program, frame| Case::new(what, PRODUCT, program, frame, 100_000);
    [
        case("XDP, hot flow, IPv4 TCP", XDP, tcp),
        case("XDP, hot flow, IPv4 UDP", XDP, |turn| ethernet(0, &ipv4(17, 0, port(turn)))),
        case("XDP, hot flow, IPv6 TCP", XDP, |turn| ethernet(0, &ipv6(6, port(turn)))),
        case("XDP, hot flow, IPv6 UDP", XDP, |turn| ethernet(0, &ipv6(17, port(turn)))),
        case("XDP, hot flow, IPv4 TCP in a VLAN", XDP, |turn| ethernet(1, &ipv4(6, 1, port(turn)))),
        case("XDP, hot flow, IPv4 TCP in two VLANs", XDP, |turn| ethernet(2, &ipv4(6, 2, port(turn)))),
        case("XDP without multi-buffer frames, hot flow, IPv4 TCP", Program::Xdp("leuko_xdp_linear"), tcp),
        case("TC ingress, hot flow, IPv4 TCP", INGRESS, tcp),
        case("TC ingress, hot flow, IPv6 UDP", INGRESS, |turn| ethernet(0, &ipv6(17, port(turn)))),
        case("TC egress, hot flow, IPv4 TCP", EGRESS, tcp),
        case("TC egress, hot flow, IPv4 UDP", EGRESS, |turn| ethernet(0, &ipv4(17, 0, port(turn)))),
        case("TC egress, hot flow, IPv6 TCP", EGRESS, |turn| ethernet(0, &ipv6(6, port(turn)))),
    ]
}

fn tcp(turn: usize) -> Vec<u8> {
    ethernet(0, &ipv4(6, 0, port(turn)))
}

/// A client's port.
fn port(turn: usize) -> u16 {
    u16::try_from(turn % 10_000).map_or(0, |turn| 40_000 + turn)
}
