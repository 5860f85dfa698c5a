//! The kernel's tables under fire: every processor, live frames, slots recycled meanwhile, floods of new flows.
//!
//! `LEUKO_STRESS=N` sends N times as many packets.
#![expect(clippy::print_stderr, reason = "a long test says what it has measured")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions};
use leuko::source::kernel::attach::{EgressChoice, XdpChoice};
use leuko::source::kernel::interface::Interface;
use leuko::source::kernel::{KernelSource, LoadOptions};
use sensor_core::flow::{AggregateId, SlotId};
use sensor_ebpf::abi::{Aggregate, Counters, FlowSlot};
use sensor_ebpf::overflow::distinct;
use support::{Lab, Namespace, Need, Pair, Pattern, Traffic, require, stress_factor, tcp_frame, udp_frame};

const PSH: u8 = 0x08;
const ACK: u8 = 0x10;
const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const SERVER: ([u8; 4], u16) = ([10, 77, 0, 2], 443);

#[test]
fn one_flow_of_every_processor_is_exact_while_its_slot_is_recycled() -> Result<()> {
    if !require(&[Need::Root, Need::Tool("ip")]) {
        return Ok(());
    }
    let each = times(2_000_000);
    let pair = Lab::new()?.pair()?;
    let mut table = Table::watch(&pair.server, 4096)?;
    let traffic = Traffic::at(&pair.client)?;
    let server = pair.server.mac_octets("eth0")?;
    // Both directions of one flow, each of its own length and flags.
    let frames = [
        tcp_frame(server, ([10, 77, 0, 1], 40_000), SERVER, PSH | ACK, 100),
        tcp_frame(server, SERVER, ([10, 77, 0, 1], 40_000), FIN | ACK, 7),
    ];
    let running = AtomicBool::new(true);
    let released = thread::scope(|scope| -> Result<u64> {
        let senders: Vec<_> = (0..processors())
            .map(|cpu| {
                let (traffic, frame) = (&traffic, &frames[cpu % 2]);
                scope.spawn(move || traffic.send(Pattern::Same, frame, each, cpu))
            })
            .collect();
        let running = &running;
        scope.spawn(move || {
            let results: Vec<_> = senders.into_iter().map(thread::ScopedJoinHandle::join).collect();
            running.store(false, Ordering::Relaxed);
            results
        });
        let mut released = 0;
        while running.load(Ordering::Relaxed) {
            table.poll();
            released += table.release_everything()?;
        }
        Ok(released)
    })?;
    table.release_everything()?;
    let [ingress, egress] = table.source.counters()?;
    let flow = table.sum(|slot| slot.key.proto == 6);
    let (up, down) = if flow.packets[0] * 140 == flow.octets[0] { (0, 1) } else { (1, 0) };
    eprintln!("{} packets of one flow, {released} slots recycled meanwhile", ingress.packets);
    assert!(released > 10, "only {released} slots were recycled while packets came");
    assert!(flow.packets.iter().all(|&packets| packets > 10_000), "{flow:?}");
    assert_eq!([flow.octets[up], flow.octets[down]], [flow.packets[up] * 140, flow.packets[down] * 47]);
    assert_eq!([flow.psh[up], flow.psh[down]], [flow.packets[up], 0]);
    assert_eq!([flow.fin[up], flow.fin[down]], [0, flow.packets[down]]);
    assert_eq!(flow.no_ack, [0, 0]);
    assert_eq!(ingress.octets + egress.octets, table.sum(|_| true).octets.iter().sum::<u64>());
    table.assert_conserved()
}

#[test]
fn established_flows_and_new_clients_survive_a_flood() -> Result<()> {
    const ESTABLISHED: u16 = 64;
    const ROUNDS: u32 = 500;
    const CLIENTS: usize = 40;
    if !require(&[Need::Root, Need::Tool("ip")]) {
        return Ok(());
    }
    let flood = times(2_000_000);
    let pair = Lab::new()?.pair()?;
    // Answers to the flood leave, and go nowhere.
    pair.server.ip(&format!("route add default via {}", Pair::CLIENT))?;
    let mut table = Table::watch(&pair.server, 131_072)?;
    let traffic = Traffic::at(&pair.client)?;
    let server = pair.server.mac_octets("eth0")?;
    let established: Vec<Vec<u8>> =
        (0..ESTABLISHED).map(|flow| udp_frame(server, ([10, 77, 0, 1], 20_000 + flow), SERVER, 30)).collect();
    let by_test_run = table.second_handle()?;
    let send_established = |rounds: u32| -> Result<()> {
        for frame in &established {
            let mut options = TestRunOptions::new();
            options.data_in = Some(frame);
            options.repeat = rounds;
            by_test_run.test_run(options).context("a test run")?;
        }
        Ok(())
    };
    send_established(1)?;
    let syn = tcp_frame(server, ([11, 0, 0, 1], 1), SERVER, SYN, 0);
    let running = AtomicBool::new(true);
    let web = pair.server.inside(|| TcpListener::bind((Pair::SERVER, 8080)))??;
    let ports = thread::scope(|scope| -> Result<BTreeSet<u16>> {
        let attacker = scope.spawn(|| -> Result<()> {
            // In bursts, so that the clients get a word in.
            for _ in 0..flood / 20_000 {
                traffic.send(Pattern::RandomSources, &syn, 20_000, 0)?;
                sleep(Duration::from_millis(10));
            }
            Ok(())
        });
        let friend = scope.spawn(|| (0..ROUNDS / 10).try_for_each(|_| send_established(10)));
        let host = scope.spawn(|| serve(&web, CLIENTS));
        let clients = scope.spawn(|| pair.client.inside(|| visit(CLIENTS)));
        scope.spawn(|| {
            while running.load(Ordering::Relaxed) {
                table.poll();
                sleep(Duration::from_millis(50));
            }
        });
        let done = (attacker.join(), friend.join(), host.join(), clients.join());
        running.store(false, Ordering::Relaxed);
        let joined = |_| anyhow::anyhow!("a thread panicked");
        done.0.map_err(joined)??;
        done.1.map_err(joined)??;
        done.2.map_err(joined)??;
        done.3.map_err(joined)??
    })?;
    table.poll();
    let live = table.source.live();
    table.release_everything()?;
    let [ingress, _] = table.source.counters()?;
    eprintln!(
        "{} packets came in, {} in aggregates; {live} flows of {} in use",
        ingress.packets,
        ingress.overflowed,
        table.source.capacity()
    );
    assert!(ingress.packets > u64::from(flood) / 2, "most of the flood arrived: {}", ingress.packets);
    assert!(ingress.overflowed > ingress.packets / 2, "{ingress:?}");
    assert!(live < 131_072 * 29 / 32, "the last slots are kept for those who have proven themselves: {live}");
    for (flow, port) in established.iter().zip(20_000..) {
        let counted = table.sum(|slot| slot.key.proto == 17 && slot.key.hi_port.max(slot.key.lo_port) == port);
        let packets: u64 = counted.packets.iter().sum();
        assert_eq!(packets, 1 + u64::from(ROUNDS), "{port}");
        assert_eq!(counted.octets.iter().sum::<u64>(), packets * (flow.len() as u64 - 14));
    }
    for port in ports {
        let of_client = |slot: &FlowSlot| slot.key.proto == 6 && [slot.key.lo_port, slot.key.hi_port] == [port, 8080];
        let swapped = |slot: &FlowSlot| slot.key.proto == 6 && [slot.key.hi_port, slot.key.lo_port] == [port, 8080];
        let packets: u64 = table.sum(|slot| of_client(slot) || swapped(slot)).packets.iter().sum();
        assert!(packets >= 3, "the client at port {port} has {packets} packets in the table");
    }
    let victim = table.aggregates.values().find(|one| one.proto == 6 && one.packets[0] > 1000).context("a victim")?;
    assert_eq!(Ipv4Addr::from(SERVER.0), core::net::IpAddr::from(victim.subject));
    assert_eq!((victim.main_port(), victim.requests[0]), (Some(443), victim.packets[0]));
    let sources = distinct(&victim.peers) / victim.packets[0] as f64;
    assert!((0.8..1.2).contains(&sources), "{sources} sources a packet");
    table.assert_conserved()
}

/// How many packets a test of `count` sends.
fn times(count: u32) -> u32 {
    count.saturating_mul(stress_factor())
}

fn processors() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Accepts so many clients, one after the other, and answers each.
fn serve(listener: &TcpListener, clients: usize) -> Result<()> {
    for _ in 0..clients {
        let (mut client, _) = listener.accept()?;
        let mut question = [0; 5];
        client.read_exact(&mut question)?;
        client.write_all(b"answer")?;
    }
    Ok(())
}

/// So many visits, one after the other; says from which ports.
fn visit(clients: usize) -> Result<BTreeSet<u16>> {
    let mut ports = BTreeSet::new();
    for _ in 0..clients {
        let mut stream = TcpStream::connect((Pair::SERVER, 8080)).context("connect during the flood")?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        ports.insert(stream.local_addr()?.port());
        stream.write_all(b"hello")?;
        stream.read_to_end(&mut Vec::new())?;
    }
    ensure!(ports.len() == clients, "{} ports", ports.len());
    Ok(ports)
}

/// What the exact counters of flows come to, by direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    packets: [u64; 2],
    octets: [u64; 2],
    psh: [u64; 2],
    fin: [u64; 2],
    no_ack: [u64; 2],
}

impl Sum {
    fn add(&mut self, slot: &FlowSlot) {
        for way in 0..2 {
            let (half, rare) = (&slot.half[way], &slot.rare[way]);
            self.packets[way] += half.packets;
            self.octets[way] += half.octets;
            self.psh[way] += u64::from(half.psh);
            self.fin[way] += u64::from(rare.fin);
            self.no_ack[way] += u64::from(rare.no_ack);
        }
    }
}

/// The kernel's tables, watching `eth0`.
struct Table {
    source: KernelSource,
    live: BTreeSet<SlotId>,
    released: Vec<FlowSlot>,
    aggregates: BTreeMap<AggregateId, Aggregate>,
}

impl Table {
    fn watch(namespace: &Namespace, flows: u32) -> Result<Self> {
        let mut source = KernelSource::load(LoadOptions { flows, seed: 0x5eed, ..LoadOptions::default() })?;
        namespace.inside(|| source.attach(&Interface::find("eth0")?, XdpChoice::Native, EgressChoice::Tcx))??;
        Ok(Self { source, live: BTreeSet::new(), released: Vec::new(), aggregates: BTreeMap::new() })
    }

    /// A handle of its own on the ingress program, for another thread.
    fn second_handle(&mut self) -> Result<SchedClassifier> {
        let program = self.source.classifier("leuko_ingress")?;
        Ok(SchedClassifier::from_program_info(program.info()?, "leuko_ingress".into())?)
    }

    fn poll(&mut self) {
        let (live, aggregates) = (&mut self.live, &mut self.aggregates);
        self.source.poll(|id, _| {
            live.insert(id);
        });
        self.source.poll_aggregates(|id, aggregate| {
            aggregates.insert(id, *aggregate);
        });
    }

    /// Says how many slots there were.
    fn release_everything(&mut self) -> Result<u64> {
        self.poll();
        let live: Vec<SlotId> = std::mem::take(&mut self.live).into_iter().collect();
        let released = &mut self.released;
        self.source.release(&live, |_, slot| released.push(*slot))?;
        Ok(live.len() as u64)
    }

    fn sum(&self, of: impl Fn(&FlowSlot) -> bool) -> Sum {
        let mut sum = Sum::default();
        self.released.iter().filter(|slot| of(slot)).for_each(|slot| sum.add(slot));
        sum
    }

    /// Packets at the hooks = packets in flows + packets in aggregates + packets counted by reason.
    fn assert_conserved(&mut self) -> Result<()> {
        sleep(Duration::from_millis(100));
        self.release_everything()?;
        let mut total = Counters::default();
        self.source.counters()?.iter().for_each(|counters| total.merge(counters));
        let in_flows: u64 = self.sum(|_| true).packets.iter().sum();
        let in_aggregates: u64 = self.aggregates.values().flat_map(|one| one.packets).sum();
        assert_eq!(in_aggregates, total.overflowed);
        assert_eq!(total.packets, in_flows + in_aggregates + total.unaccounted_total(), "{total:?}");
        Ok(())
    }
}
