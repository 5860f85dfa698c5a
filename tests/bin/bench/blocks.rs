//! What it costs to drop a packet, what the list costs the packets that pass, and what the host is spared.

use std::net::{IpAddr, Ipv4Addr};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use leuko::source::kernel::KernelSource;
use leuko::source::kernel::attach::{EgressChoice, XdpChoice};
use leuko::source::kernel::blocklist::Rule;
use leuko::source::kernel::interface::Interface;
use sensor_ebpf::abi::{Addr, BlockKey};

use support::{Lab, Pattern, Traffic, syn_frame, udp_frame};

use crate::Bench;
use crate::frames::{ethernet, ipv4, ipv6};
use crate::report::Report;
use crate::turns::{Case, Program, Sample, take_turns};

/// Entries of the long list.
const MILLION: u32 = 1_000_000;
/// What the check may cost while nothing is blocked, in nanoseconds.
const EMPTY_LIST: f64 = 2.0;
/// Turns for that, for each of the others: it is little more than a test run can tell.
const LOOKS: usize = 4;
/// How many times cheaper a drop is to be than a closed port.
const CHEAPER: f64 = 10.0;
/// Packets that are sent to a host in a turn.
const SENT: u32 = 2_000_000;
const DROP: Rule = Rule { expires_ns: u64::MAX, limit: 0, observe: false, listed: false };

/// Sources of `bench`, by what they have on their lists.
const NOTHING: usize = 0;
const ONE: usize = 1;
const LONG: usize = 2;
const BASELINES: usize = 3;

pub fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let sources = [bench.product(65_536)?, bench.product(65_536)?, bench.product(65_536)?, bench.baselines(8)?];
    put(&sources[ONE], &[(blocked(0), 32), (net(172, 16), 16), (V6, 128)])?;
    // In every sixteenth of all networks of 16 bits, so that some are near and others are not.
    let long: Vec<(IpAddr, u8)> = (0..MILLION).map(|n| (far(n), 32)).chain([(blocked(0), 32), (V6, 128)]).collect();
    let mut took = Ok(());
    let time = crate::turns::time(|| took = put(&sources[LONG], &long));
    took?;
    let mut sources = sources;
    let xdp = |what, source, frame| Case::new(what, source, Program::Xdp("leuko_xdp"), frame, 100_000);
    let mut cases = [
        Case::new("empty XDP program", BASELINES, Program::Xdp("bench_empty"), passing, 100_000),
        xdp("XDP, hot flow, no list", NOTHING, passing),
        xdp("XDP, hot flow, 3 blocks", ONE, passing),
        xdp("XDP, hot flow, 1,000,000 blocks, none in its /16", LONG, passing),
        xdp("XDP, hot flow, 1,000,000 blocks, thousands in its /16", LONG, near),
        xdp("XDP, dropped, IPv4 address of 3 blocks", ONE, dropped),
        xdp("XDP, dropped, IPv4 /16", ONE, dropped_by_prefix),
        xdp("XDP, dropped, IPv6 address", ONE, dropped_v6),
        xdp("XDP, dropped, IPv4 address of 1,000,000 blocks", LONG, dropped),
        xdp("XDP, dropped, other addresses of 1,000,000 blocks", LONG, dropped_anywhere),
        Case::new("TC ingress, dropped, IPv4 address", ONE, Program::Classifier("leuko_ingress"), dropped, 100_000),
    ];
    take_turns(&mut sources, &mut cases, bench.runs)?;
    let looking = |what, name| Case::new(what, BASELINES, Program::Xdp(name), passing, 100_000);
    let mut gate = [looking("", "bench_empty"), looking("XDP, looking whether there is a list", "bench_gate")];
    take_turns(&mut sources, &mut gate, bench.runs * LOOKS)?;
    let empty = cases[0].sample.median();
    for case in cases.iter().chain(&gate[1..]) {
        report.add_sample(case.what, &case.sample, "ns").relative(empty, "empty");
    }
    report
        .add("what a list that is empty costs", gate[1].sample.midmean() - gate[0].sample.midmean(), "ns")
        .relative(EMPTY_LIST, "2 ns")
        .limit(1.0);
    report.add("1,000,000 blocks put, each", time.as_secs_f64() * 1e9 / f64::from(MILLION), "ns");
    spared(bench, report)
}

/// What a packet costs the host that receives it, all of the processor that both ends use counted.
fn spared(bench: &Bench, report: &mut Report) -> Result<()> {
    const CPU: usize = 1;
    let pair = Lab::new()?.pair()?;
    let traffic = Traffic::at(&pair.client)?;
    let to = pair.server.mac_octets("eth0")?;
    let address: IpAddr = support::Pair::CLIENT.parse().context("the client's address")?;
    let IpAddr::V4(from) = address else { anyhow::bail!("the pair is of IPv4") };
    let IpAddr::V4(host) = support::Pair::SERVER.parse().context("the server's address")? else {
        anyhow::bail!("the pair is of IPv4")
    };
    let (from, to_port) = ((from.octets(), 40_000), (host.octets(), 9));
    let kinds = [
        Refused { what: "a connection request", frame: syn_frame(to, from, to_port), counter: ("Tcp", "OutRsts") },
        Refused { what: "a datagram", frame: udp_frame(to, from, to_port, 18), counter: ("Udp", "NoPorts") },
    ];
    let mut source = bench.product(65_536)?;
    let interface = pair.server.inside(|| Interface::find("eth0"))??;
    source.attach(&interface, XdpChoice::Native, EgressChoice::Off)?;
    for (index, Refused { what, frame, counter }) in kinds.iter().enumerate() {
        let [mut made, mut dropped, mut refused] = [Sample::default(), Sample::default(), Sample::default()];
        for _ in 0..bench.few() {
            made.push(cost(CPU, || traffic.send(Pattern::None, frame, SENT, CPU))? / f64::from(SENT));
            put(&source, &[(address, 32)])?;
            let before = hits(&source, address);
            let busy = cost(CPU, || traffic.send(Pattern::Same, frame, SENT, CPU))?;
            dropped.push(busy / (hits(&source, address) - before).max(1) as f64);
            source.blocklist().lock().map_err(|_| anyhow::anyhow!("poisoned"))?.remove(&key(address, 32));
            let before = counted(&pair.server, *counter)?;
            let busy = cost(CPU, || traffic.send(Pattern::Same, frame, SENT, CPU))?;
            refused.push(busy / (counted(&pair.server, *counter)? - before).max(1) as f64);
        }
        let made = made.median();
        let (drop, refused) = (dropped.less(made), refused.less(made));
        report.add_sample(format!("host, {what} that is dropped at a veth"), &drop, "ns");
        report.add_sample(format!("host, {what} to a closed port"), &refused, "ns").relative(drop.median(), "dropped");
        if index == 0 {
            report
                .add("dropping is to be ten times as cheap", drop.median() * CHEAPER, "ns")
                .relative(refused.median(), "closed port")
                .limit(1.0);
        }
    }
    Ok(())
}

/// Packets for a port at which nobody listens.
struct Refused {
    what: &'static str,
    frame: Vec<u8>,
    /// Protocol and name of the host's counter of them (`/proc/net/snmp`).
    counter: (&'static str, &'static str),
}

/// Nanoseconds for which a processor was busy.
fn cost(cpu: usize, act: impl FnOnce() -> Result<()>) -> Result<f64> {
    // What is left in a queue is part of it.
    const AFTER: Duration = Duration::from_millis(100);
    let before = busy(cpu)?;
    act()?;
    sleep(AFTER);
    Ok((busy(cpu)? - before) * 1e7)
}

/// Hundredths of a second in which a processor was not idle (`/proc/stat`).
fn busy(cpu: usize) -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/stat").context("read /proc/stat")?;
    let name = format!("cpu{cpu}");
    let line = stat.lines().find(|line| line.split_whitespace().next() == Some(&name)).context("no such processor")?;
    // user nice system idle iowait irq softirq steal
    let numbers: Vec<f64> = line.split_whitespace().skip(1).filter_map(|number| number.parse().ok()).collect();
    ensure!(numbers.len() >= 7, "{line}");
    Ok(numbers[..3].iter().chain(&numbers[5..7]).sum())
}

fn hits(source: &KernelSource, addr: IpAddr) -> u64 {
    let list = source.blocklist();
    list.lock().ok().and_then(|list| list.entry(&key(addr, 32))).map_or(0, |entry| entry.packets)
}

fn counted(host: &support::Namespace, (proto, counter): (&str, &str)) -> Result<u64> {
    let snmp = host.inside(|| std::fs::read_to_string("/proc/thread-self/net/snmp"))??;
    let mut lines = snmp.lines().filter(|line| line.split(':').next() == Some(proto));
    let (names, values) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let found = names.split_whitespace().zip(values.split_whitespace()).find(|(name, _)| *name == counter);
    found.and_then(|(_, value)| value.parse().ok()).with_context(|| format!("no counter {counter} of {proto}"))
}

fn put(source: &KernelSource, networks: &[(IpAddr, u8)]) -> Result<()> {
    let list = source.blocklist();
    let mut list = list.lock().map_err(|_| anyhow::anyhow!("poisoned"))?;
    networks.iter().try_for_each(|&(addr, prefix)| list.put(key(addr, prefix), &DROP))
}

fn key(addr: IpAddr, prefix: u8) -> BlockKey {
    let mapped = if addr.is_ipv4() { 96 } else { 0 };
    BlockKey::network(Addr::from(addr), mapped + u32::from(prefix))
}

/// The hosts of the frames are of 10.0.0.0/8; the first is not blocked.
const BLOCKED: u32 = 0x0a80_0000;
const V6: IpAddr = IpAddr::V6(std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));

fn blocked(n: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(BLOCKED + n))
}

fn net(a: u8, b: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, 0, 0))
}

/// Entries of the long list: 244 networks of 16 bits of 10.0.0.0/8, from 10.12 on, with some 4,096 addresses each.
fn far(n: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(0x0a0c_0000 + (n % 244) * 0x1_0000 + 1 + n / 244 * 2))
}

fn from(host: u32) -> Vec<u8> {
    ethernet(0, &ipv4(6, host & 0xff_ffff, 40_000))
}

fn passing(_: usize) -> Vec<u8> {
    from(1)
}

fn near(turn: usize) -> Vec<u8> {
    // Even addresses are not on the list.
    from(0x0a0c_0000 + 2 + 2 * u32::try_from(turn % 1000).unwrap_or(0))
}

fn dropped(_: usize) -> Vec<u8> {
    from(BLOCKED)
}

fn dropped_anywhere(turn: usize) -> Vec<u8> {
    let IpAddr::V4(addr) = far(u32::try_from(turn * 7919).unwrap_or(0) % MILLION) else { return Vec::new() };
    from(addr.to_bits())
}

fn dropped_by_prefix(_: usize) -> Vec<u8> {
    let mut packet = ipv4(6, 1, 40_000);
    packet[12..16].copy_from_slice(&[172, 16, 9, 9]);
    ethernet(0, &packet)
}

fn dropped_v6(_: usize) -> Vec<u8> {
    ethernet(0, &ipv6(6, 40_000))
}
