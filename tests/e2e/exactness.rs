//! The programs on real interfaces: every packet counted once, offloads or not, and nothing left behind.

use std::collections::BTreeMap;
use std::fs;
use std::net::UdpSocket;
use std::sync::Barrier;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aya::programs::{SchedClassifier, TcAttachType, XdpMode};
use leuko::source::kernel::attach::{Attached, EgressChoice, XdpChoice};
use leuko::source::kernel::interface::Interface;
use leuko::source::kernel::{KernelSource, LoadOptions};
use nix::sys::signal::Signal;
use sensor_ebpf::abi::{Counters, FlowKey, FlowSlot};
use serde_json::Value;
use support::{Deadline, Guard, Iperf, Lab, Namespace, Need, Pair, Port, Traffic, Wire, require, until};

const SOON: Duration = Duration::from_secs(20);
const TCP: u8 = 6;
const UDP: u8 = 17;

#[test]
fn a_million_packets_are_counted_one_by_one() -> Result<()> {
    const PACKETS: u64 = 1_000_000;
    const SENDERS: u16 = 2;
    const FLOWS_EACH: u16 = 4;
    /// Fewer than the ring of a veth has slots: the wire itself drops nothing.
    const BATCH: u32 = 100;
    const ROUNDS: u64 = PACKETS / (SENDERS as u64 * BATCH as u64);
    if !require(&[Need::Root, Need::Tool("ip")]) {
        return Ok(());
    }
    let pair = Lab::new()?.pair()?;
    let mut sensor = Sensor::attach(&pair.server, XdpChoice::Native, EgressChoice::Off)?;
    let flows = |sender: u16| (0..FLOWS_EACH).map(move |flow| Generated::new(sender * FLOWS_EACH + flow));
    let all: Vec<Generated> = (0..SENDERS).flat_map(flows).collect();
    let _sinks = pair.server.inside(|| all.iter().map(Generated::sink).collect::<Result<Vec<_>>>())??;
    let sockets = pair.client.inside(|| all.iter().map(Generated::socket).collect::<Result<Vec<_>>>())??;
    // A first packet of each flow: addresses are resolved before the rounds begin.
    for (flow, socket) in all.iter().zip(&sockets) {
        socket.send(&vec![0; flow.payload])?;
    }
    let first = all.len() as u64;
    until("the first packets", SOON, || (sensor.udp_packets() >= first).then_some(()))?;

    let before = sensor.ingress()?.packets;
    let turn = Barrier::new(usize::from(SENDERS) + 1);
    std::thread::scope(|scope| -> Result<()> {
        for (flows, sockets) in all.chunks(FLOWS_EACH.into()).zip(sockets.chunks(FLOWS_EACH.into())) {
            let turn = &turn;
            scope.spawn(move || {
                let payloads: Vec<Vec<u8>> = flows.iter().map(|flow| vec![0; flow.payload]).collect();
                for _ in 0..ROUNDS {
                    for _ in 0..BATCH / u32::from(FLOWS_EACH) {
                        for (socket, payload) in sockets.iter().zip(&payloads) {
                            socket.send(payload).expect("a connected socket whose peer listens");
                        }
                    }
                    turn.wait();
                    turn.wait();
                }
            });
        }
        let mut lost = None;
        for round in 1..=ROUNDS {
            turn.wait();
            // Senders go on in any case, so that the scope ends.
            if lost.is_none() {
                let expected = before + round * u64::from(BATCH) * u64::from(SENDERS);
                lost = until("a batch", SOON, || (sensor.ingress().ok()?.packets >= expected).then_some(())).err();
            }
            turn.wait();
        }
        lost.map_or(Ok(()), Err)
    })?;

    let counted = sensor.flows();
    let per_flow = PACKETS / all.len() as u64 + 1;
    for flow in &all {
        let slot = counted.values().find(|slot| flow.is(&slot.key)).context("a flow is missing")?;
        let octets = per_flow * flow.ip_octets();
        let counts = (slot.half[0].packets + slot.half[1].packets, slot.half[0].octets + slot.half[1].octets);
        assert_eq!(counts, (per_flow, octets), "port {}", flow.port);
    }
    let in_flows: u64 = counted.values().map(packets).sum();
    let ingress = sensor.ingress()?;
    assert_eq!(ingress.packets, in_flows + ingress.unaccounted_total());
    sensor.detach(&pair.server)
}

#[test]
fn both_ends_of_an_offloaded_transfer_count_the_same() -> Result<()> {
    if !require(&[Need::Root, Need::Tool("ip"), Need::Tool("iperf3")]) {
        return Ok(());
    }
    let ways = [
        (XdpChoice::Native, EgressChoice::Tcx, XdpChoice::Off, EgressChoice::Clsact),
        (XdpChoice::Off, EgressChoice::Tcx, XdpChoice::Off, EgressChoice::Tcx),
    ];
    for (server_xdp, server_egress, client_xdp, client_egress) in ways {
        let pair = Lab::new()?.pair()?;
        // Frames that another's generic XDP has copied look otherwise at TC.
        let other = (server_xdp == XdpChoice::Off).then(|| Traffic::in_mode(&pair.server, XdpMode::Skb));
        let _other = other.transpose()?;
        let mut server = Sensor::attach(&pair.server, server_xdp, server_egress)?;
        let mut client = Sensor::attach(&pair.client, client_xdp, client_egress)?;
        let iperf = Iperf::start(&pair.server, 5201)?;
        for options in [&[][..], &["-R"]] {
            let report = send(&iperf, &pair.client, options)?;
            let moved = report["end"]["sum_received"]["bytes"].as_u64().context("octets received")?;
            ensure!(moved > 10_000_000, "a transfer of {moved} octets");
        }
        // The last packets of the connections.
        sleep(Duration::from_millis(500));
        let (at_server, at_client) = (transfer(&server.flows()), transfer(&client.flows()));
        assert_eq!(at_server.len(), at_client.len(), "the same connections");
        // Counted as sent at one end, then dropped where the wire was full, before the other end could count it.
        let (to_server, to_client) = (dropped(&pair.client)?, dropped(&pair.server)?);
        let mut missing = [Sum::default(); 2];
        for (key, server) in &at_server {
            let client = at_client.get(key).with_context(|| format!("{key:?} at the client"))?;
            let [up, down] = both_ways(key, server, client);
            missing[0].add_difference(up)?;
            missing[1].add_difference(down)?;
        }
        for (missing, dropped) in missing.iter().zip([to_server, to_client]) {
            // What was dropped may also be of others than the transfer.
            assert!(missing.packets <= dropped, "{missing:?} of {dropped}, {server_xdp:?} {client_egress:?}");
            assert!(missing.octets <= missing.packets * 1500, "{missing:?}");
            assert_eq!(missing.packets == 0, missing.octets == 0, "{missing:?}");
        }
        for sensor in [&server, &client] {
            let counters = sensor.source.counters()?;
            let unaccounted: u64 = counters.iter().map(Counters::unaccounted_total).sum();
            let total: u64 = counters.iter().map(|counters| counters.packets).sum();
            assert_eq!(total, sensor.total + unaccounted);
        }
        drop(iperf);
        server.detach(&pair.server)?;
        client.detach(&pair.client)?;
    }
    Ok(())
}

#[test]
fn headers_outside_the_linear_part_are_read() -> Result<()> {
    if !require(&[Need::Root, Need::Tool("ip"), Need::Tool("tcpreplay")]) {
        return Ok(());
    }
    let lab = Lab::new()?;
    let (one, other) = (lab.namespace("one")?, lab.namespace("other")?);
    let ports = [(&one, "10.77.0.1/24"), (&other, "10.77.0.2/24")];
    let [near, far] = ports.map(|(namespace, address)| (namespace, [address]));
    Wire { mtu: 9000, offloads: true }.connect(
        Port { namespace: near.0, interface: "eth0", addresses: &near.1 },
        Port { namespace: far.0, interface: "eth0", addresses: &far.1 },
    )?;
    let mut sensor = Sensor::attach(&one, XdpChoice::Off, EgressChoice::Tcx)?;
    // A raw frame above a page is sent with nothing but its Ethernet header in the linear part.
    let capture = tempfile::NamedTempFile::new()?;
    fs::write(capture.path(), pcap(&jumbo_frame()))?;
    one.run("tcpreplay", &["-q", "-i", "eth0", &capture.path().to_string_lossy()], SOON)?;
    let flows = sensor.flows();
    let flow = flows.values().find(|slot| slot.key.hi_port == 4242).context("the jumbo frame's flow")?;
    assert_eq!((packets(flow), flow.half[0].octets, flow.key.lo_port), (1, 8028, 4141));
    sensor.detach(&one)
}

#[test]
fn every_choice_attaches_and_leaves_nothing_behind() -> Result<()> {
    if !require(&[Need::Root, Need::Tool("ip"), Need::Tool("tc")]) {
        return Ok(());
    }
    let pair = Lab::new()?.pair()?;
    let table = [
        (XdpChoice::Auto, EgressChoice::Auto, "native", "tcx"),
        (XdpChoice::Native, EgressChoice::Tcx, "native", "tcx"),
        (XdpChoice::Native, EgressChoice::Clsact, "native", "clsact"),
        (XdpChoice::Native, EgressChoice::Off, "native", "off"),
        (XdpChoice::Off, EgressChoice::Tcx, "off", "tcx"),
        (XdpChoice::Off, EgressChoice::Clsact, "off", "clsact"),
        (XdpChoice::Off, EgressChoice::Off, "off", "off"),
    ];
    for (xdp, egress, xdp_name, egress_name) in table {
        let sensor = Sensor::attach(&pair.server, xdp, egress)?;
        let expected = Attached { interface: "eth0".to_owned(), xdp: xdp_name, egress: egress_name };
        assert_eq!(sensor.attached, expected);
        // 1: native (`IFLA_XDP_ATTACHED`).
        let mode = (xdp_name == "native").then_some(1);
        assert_eq!(xdp_mode(&pair.server)?, mode);
        let names = tc_programs(&pair.server)?;
        assert_eq!(names.iter().any(|name| name == "leuko_egress"), egress_name != "off", "{names:?}");
        assert_eq!(names.iter().any(|name| name == "leuko_ingress"), xdp_name == "off", "{names:?}");

        if xdp_name == "native" {
            let error = Sensor::attach(&pair.server, xdp, egress).err().context("a second sensor attached")?;
            let error = format!("{error:#}");
            assert!(error.contains("eth0 already has another XDP program"), "{error}");
        }
        assert_eq!(xdp_mode(&pair.server)?, mode, "the first sensor is still there");
        assert_eq!(tc_programs(&pair.server)?, names, "the first sensor's TC programs are still there");

        sensor.detach(&pair.server)?;
        assert_eq!(xdp_mode(&pair.server)?, None, "{xdp:?}");
        assert_eq!(tc_programs(&pair.server)?, [""; 0], "{egress:?}");
    }
    Ok(())
}

#[test]
fn a_filter_that_a_killed_sensor_left_is_replaced() -> Result<()> {
    if !require(&[Need::Root, Need::Tool("ip"), Need::Tool("tc")]) {
        return Ok(());
    }
    let pair = Lab::new()?.pair()?;
    let binary = env!("CARGO_BIN_EXE_doomed_sensor");
    let mut doomed: Guard = pair.server.spawn(binary, &["eth0"])?;
    until("the doomed sensor", SOON, || doomed.log().contains("attached").then_some(()))
        .with_context(|| doomed.log())?;
    doomed.signal(Signal::SIGKILL)?;
    doomed.wait(SOON)?;
    until("the end of its XDP link", SOON, || xdp_mode(&pair.server).ok()?.is_none().then_some(()))?;
    assert_eq!(tc_programs(&pair.server)?, ["leuko_ingress", "leuko_egress"], "clsact filters outlive the process");

    let mut sensor = Sensor::attach(&pair.server, XdpChoice::Off, EgressChoice::Clsact)?;
    assert_eq!(tc_programs(&pair.server)?, ["leuko_ingress", "leuko_egress"], "one of each");
    pair.client.inside(|| UdpSocket::bind("0.0.0.0:0")?.send_to(b"hello", (Pair::SERVER, 9)))??;
    until("the packet", SOON, || (sensor.udp_packets() == 1).then_some(()))?;
    sensor.detach(&pair.server)?;
    assert_eq!(tc_programs(&pair.server)?, [""; 0]);
    Ok(())
}

/// The kernel source on `eth0` of a namespace.
struct Sensor {
    source: KernelSource,
    attached: Attached,
    /// Packets in flows, as of the last call of `flows`.
    total: u64,
    latest: BTreeMap<u32, FlowSlot>,
}

impl Sensor {
    fn attach(namespace: &Namespace, xdp: XdpChoice, egress: EgressChoice) -> Result<Self> {
        namespace.inside(|| {
            let mut source = KernelSource::load(LoadOptions { flows: 4096, seed: 7, ..LoadOptions::default() })?;
            let attached = source.attach(&Interface::find("eth0")?, xdp, egress)?;
            Ok(Self { source, attached, total: 0, latest: BTreeMap::new() })
        })?
    }

    /// What is detached by netlink is found only inside.
    fn detach(self, namespace: &Namespace) -> Result<()> {
        namespace.inside(|| drop(self))
    }

    fn ingress(&self) -> Result<Counters> {
        Ok(self.source.counters()?[0])
    }

    /// Every flow, twins added up.
    fn flows(&mut self) -> BTreeMap<FlowKey, FlowSlot> {
        let latest = &mut self.latest;
        self.source.poll(|id, slot| {
            latest.insert(id.0, *slot);
        });
        let mut flows: BTreeMap<FlowKey, FlowSlot> = BTreeMap::new();
        for slot in self.latest.values() {
            let flow = flows.entry(slot.key).or_insert(FlowSlot { key: slot.key, ..FlowSlot::default() });
            for (sum, half) in flow.half.iter_mut().zip(slot.half) {
                sum.packets += half.packets;
                sum.octets += half.octets;
            }
        }
        self.total = flows.values().map(packets).sum();
        flows
    }

    fn udp_packets(&mut self) -> u64 {
        self.flows().values().filter(|slot| slot.key.proto == UDP).map(packets).sum()
    }
}

/// A UDP flow of the generator.
struct Generated {
    port: u16,
    payload: usize,
    v6: bool,
}

impl Generated {
    fn new(index: u16) -> Self {
        Self { port: 20_000 + index, payload: 18 + 150 * usize::from(index), v6: index % 2 == 1 }
    }

    fn hosts(&self) -> [&'static str; 2] {
        if self.v6 { [Pair::CLIENT_V6, Pair::SERVER_V6] } else { [Pair::CLIENT, Pair::SERVER] }
    }

    /// Nobody reads it, but its port is open: nothing is answered.
    fn sink(&self) -> Result<UdpSocket> {
        Ok(UdpSocket::bind((self.hosts()[1], self.port))?)
    }

    fn socket(&self) -> Result<UdpSocket> {
        let [client, server] = self.hosts();
        let socket = UdpSocket::bind((client, self.port))?;
        socket.connect((server, self.port))?;
        Ok(socket)
    }

    const fn ip_octets(&self) -> u64 {
        self.payload as u64 + if self.v6 { 48 } else { 28 }
    }

    const fn is(&self, key: &FlowKey) -> bool {
        key.proto == UDP && key.lo_port == self.port && key.hi_port == self.port
    }
}

/// What one end has counted and the other has not.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    packets: u64,
    octets: u64,
}

impl Sum {
    /// Adds what the sender counted, less what the receiver did.
    fn add_difference(&mut self, [sent, received]: [&sensor_ebpf::abi::Half; 2]) -> Result<()> {
        let less = || format!("received {received:?}, sent {sent:?}");
        self.packets += sent.packets.checked_sub(received.packets).with_context(less)?;
        self.octets += sent.octets.checked_sub(received.octets).with_context(less)?;
        Ok(())
    }
}

/// Client to server and server to client, each as sent and as received.
fn both_ways<'a>(key: &FlowKey, server: &'a FlowSlot, client: &'a FlowSlot) -> [[&'a sensor_ebpf::abi::Half; 2]; 2] {
    let server_is_low = key.lo_port == 5201;
    let (up, down) = if server_is_low { (1, 0) } else { (0, 1) };
    [[&client.half[up], &server.half[up]], [&server.half[down], &client.half[down]]]
}

fn transfer(flows: &BTreeMap<FlowKey, FlowSlot>) -> BTreeMap<FlowKey, FlowSlot> {
    let of_iperf = |key: &FlowKey| key.proto == TCP && (key.lo_port == 5201 || key.hi_port == 5201);
    flows.iter().filter(|(key, _)| of_iperf(key)).map(|(key, slot)| (*key, *slot)).collect()
}

/// iperf3 may still be busy with the test before.
fn send(iperf: &Iperf, client: &Namespace, options: &[&str]) -> Result<Value> {
    let deadline = Deadline::after(SOON);
    loop {
        match iperf.send(client, Pair::SERVER, 1, options) {
            Err(error) if deadline.passed() => return Err(error),
            Err(_) => sleep(Duration::from_millis(100)),
            report => return report,
        }
    }
}

fn packets(slot: &FlowSlot) -> u64 {
    slot.half[0].packets + slot.half[1].packets
}

/// Packets that were sent by `eth0` and did not fit into the ring of the other end.
fn dropped(namespace: &Namespace) -> Result<u64> {
    let text = namespace.run("cat", &["/sys/class/net/eth0/statistics/tx_dropped"], SOON)?.stdout;
    text.trim().parse().context("a number of packets")
}

/// How XDP is attached to `eth0`, as the kernel numbers it.
fn xdp_mode(namespace: &Namespace) -> Result<Option<u64>> {
    let links: Value = serde_json::from_str(&namespace.ip("-j link show dev eth0")?)?;
    Ok(links[0]["xdp"]["mode"].as_u64())
}

/// Names of the TC programs on `eth0`, ingress before egress, by TCX and by clsact.
fn tc_programs(namespace: &Namespace) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for (way, name) in [(TcAttachType::Ingress, "ingress"), (TcAttachType::Egress, "egress")] {
        let (_, by_tcx) = namespace.inside(|| SchedClassifier::query_tcx("eth0", way))??;
        names.extend(by_tcx.iter().filter_map(|program| program.name_as_str().map(str::to_owned)));
        let filters = namespace.run("tc", &["filter", "show", "dev", "eth0", name], SOON)?.stdout;
        let words: Vec<&str> = filters.split_whitespace().collect();
        let named = words.windows(2).filter(|pair| pair[1] == "direct-action");
        names.extend(named.map(|pair| pair[0].to_owned()));
    }
    Ok(names)
}

fn jumbo_frame() -> Vec<u8> {
    const PAYLOAD: u16 = 8000;
    let mut frame = vec![2; 12];
    frame.extend([0x08, 0x00, 0x45, 0]);
    frame.extend((28 + PAYLOAD).to_be_bytes());
    frame.extend([0, 0, 0x40, 0, 64, UDP, 0, 0, 10, 77, 0, 1, 10, 77, 0, 2]);
    frame.extend([4141u16, 4242, 8 + PAYLOAD, 0].map(u16::to_be_bytes).concat());
    frame.resize(frame.len() + usize::from(PAYLOAD), 0);
    frame
}

/// A classic capture of one Ethernet frame.
fn pcap(frame: &[u8]) -> Vec<u8> {
    let length = u32::try_from(frame.len()).expect("one frame");
    let header = [0xa1b2_c3d4, 0x0004_0002, 0, 0, 0xffff, 1];
    let record = [1, 0, length, length];
    let words = header.into_iter().chain(record).flat_map(u32::to_le_bytes);
    words.chain(frame.iter().copied()).collect()
}
