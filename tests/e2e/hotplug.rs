//! Interfaces that come, go, are renamed, stand on each other, or are in other namespaces: what is watched follows.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, Result};
use aya::programs::{SchedClassifier, TcAttachType};
use leuko::source::kernel::attach::{EgressChoice, XdpChoice};
use leuko::source::kernel::interface::Interface;
use leuko::source::kernel::watch::{Change, Watch};
use leuko::source::kernel::{KernelSource, LoadOptions};
use nix::sys::signal::Signal;
use sensor_ebpf::abi::FlowSlot;
use support::{Lab, Leuko, Namespace, Need, Pair, Port, Wire, require, until};

const SOON: Duration = Duration::from_secs(20);
const UDP: u8 = 17;

#[test]
fn a_pattern_follows_an_interface_through_its_lives() -> Result<()> {
    if !require(&[Need::Root, Need::Tool("ip")]) {
        return Ok(());
    }
    let lab = Lab::new()?;
    let pair = Pair { client: lab.namespace("client")?, server: lab.namespace("server")? };
    let mut sensor = pair.server.inside(|| Sensor::start(&["eth*"], XdpChoice::Auto, EgressChoice::Auto))??;
    assert!(sensor.watch.is_idle());
    assert_eq!(sensor.reconcile(), [""; 0], "a loopback is no match");

    connect(&pair)?;
    assert_eq!(sensor.reconcile(), ["attached eth0 native tcx"]);
    assert_eq!(sensor.reconcile(), [""; 0]);
    sensor.expect_udp(&pair, 1001, 10)?;

    pair.server.ip("link delete eth0")?;
    assert_eq!(sensor.reconcile(), ["gone eth0"]);
    connect(&pair)?;
    assert_eq!(sensor.reconcile(), ["attached eth0 native tcx"]);
    sensor.expect_udp(&pair, 1002, 20)?;

    // Gone and back between two looks at it: first by another index, then by the same.
    pair.server.ip("link delete eth0")?;
    connect(&pair)?;
    assert_eq!(sensor.reconcile(), ["gone eth0", "attached eth0 native tcx"]);
    sensor.expect_udp(&pair, 1003, 30)?;
    for _ in 0..2 {
        pair.server.ip("link add eth7 index 777 type veth peer name other7")?;
        assert!(sensor.reconcile().contains(&"attached eth7 native tcx".to_owned()));
        pair.server.ip("link delete eth7")?;
    }
    assert_eq!(sensor.reconcile(), ["gone eth7"]);

    for command in ["link set eth0 down", "link set eth0 name wan0", "link set wan0 up"] {
        pair.server.ip(command)?;
    }
    assert_eq!(sensor.reconcile(), ["renamed eth0 wan0"]);
    assert_eq!(sensor.reconcile(), [""; 0]);
    sensor.expect_udp(&pair, 1004, 40)?;
    // Everything that was counted before is still there.
    assert_eq!([1001, 1002, 1003].map(|port| sensor.udp(port)), [10, 20, 30]);
    Ok(())
}

#[test]
fn an_interface_that_is_taken_is_waited_for() -> Result<()> {
    if !require(&[Need::Root, Need::Tool("ip")]) {
        return Ok(());
    }
    let lab = Lab::new()?;
    let pair = Pair { client: lab.namespace("client")?, server: lab.namespace("server")? };
    pair.server.ip("link add first type veth peer name second")?;
    let mut sensor =
        pair.server.inside(|| Sensor::start(&["first", "eth*"], XdpChoice::Native, EgressChoice::Auto))??;
    connect(&pair)?;
    let start = |spec: &str| pair.server.inside(|| Sensor::start(&[spec], XdpChoice::Auto, EgressChoice::Auto));
    let other = start("eth0")??;
    let told = sensor.reconcile();
    assert!(told[0].starts_with("refused eth0") && told[0].contains("already has another XDP program"), "{told:?}");
    assert_eq!(sensor.reconcile(), [""; 0], "told once");
    drop(other);
    until_free(&pair.server, "eth0")?;
    assert_eq!(sensor.reconcile(), ["attached eth0 native tcx"], "it has changed");

    for spec in ["eth0", "eth*"] {
        let error = start(spec)?.err().context("two sensors on one interface")?;
        assert!(format!("{error:#}").contains("already has another XDP program"), "{error:#}");
    }
    let error = start("nosuch0")?.err().context("an interface that does not exist")?.to_string();
    assert!(error.contains("nosuch0") && error.contains("eth0, first, lo, second"), "{error}");
    Ok(())
}

#[test]
fn a_name_that_was_given_to_another_interface_attaches_to_neither() -> Result<()> {
    if !require(&[Need::Root, Need::Tool("ip"), Need::Tool("tc")]) {
        return Ok(());
    }
    let server = Lab::new()?.namespace("server")?;
    server.ip("link add eth0 type veth peer name eth1")?;
    let mut listed = server.inside(|| Interface::find("eth1"))??;
    listed.link.name = "eth0".to_owned();
    for (xdp, egress) in [(XdpChoice::Auto, EgressChoice::Auto), (XdpChoice::Off, EgressChoice::Clsact)] {
        let mut source = KernelSource::load(LoadOptions { flows: 4096, seed: 7, ..LoadOptions::default() })?;
        let error = source.attach(&listed, xdp, egress).err().context("attached to two interfaces")?;
        assert!(error.to_string().contains("eth0 was renamed or removed"), "{error:#}");
        until_free(&server, "eth1")?;
        let by_tcx = || server.inside(|| SchedClassifier::query_tcx("eth0", TcAttachType::Egress)).ok()?.ok();
        until("the end of a TCX link", SOON, || by_tcx()?.1.is_empty().then_some(()))?;
        assert!(!filters(&server)?.contains("leuko"));
    }
    Ok(())
}

#[test]
fn of_a_bridge_and_its_ports_the_ports_are_watched() -> Result<()> {
    if !require(&[Need::Root, Need::Tool("ip")]) {
        return Ok(());
    }
    let lab = Lab::new()?;
    let bridge = lab.namespace("bridge")?;
    let pair = Pair { client: lab.namespace("client")?, server: lab.namespace("server")? };
    let ends = [(&pair.client, Pair::CLIENT, "port1"), (&pair.server, Pair::SERVER, "port2")];
    bridge.ip("link add br0 type bridge")?;
    for (namespace, address, port) in ends {
        Wire::default().connect(
            Port { namespace, interface: "eth0", addresses: &[&format!("{address}/24")] },
            Port { namespace: &bridge, interface: port, addresses: &[] },
        )?;
        bridge.ip(&format!("link set {port} master br0"))?;
    }
    bridge.ip("link set br0 up")?;

    for (egress, port) in [(EgressChoice::Off, 1001), (EgressChoice::Auto, 1002)] {
        let mut sensor = bridge.inside(|| Sensor::start(&["*"], XdpChoice::Native, egress))??;
        sensor.expect_udp(&pair, port, 25)?;
        assert_eq!(sensor.reconcile(), [""; 0]);
        drop(sensor);
        until_free(&bridge, "port1")?;
        until_free(&bridge, "port2")?;
    }

    let mut sensor = bridge.inside(|| Sensor::start(&["br0", "port1"], XdpChoice::Auto, EgressChoice::Auto))??;
    assert_eq!(sensor.reconcile(), [""; 0]);
    bridge.ip("link set port1 nomaster")?;
    let told = sensor.reconcile();
    assert!(matches!(&told[..], [one] if one.starts_with("attached br0")), "{told:?}");
    bridge.ip("link set port1 master br0")?;
    assert_eq!(sensor.reconcile(), ["skipped br0: its packets are counted on port1"]);
    Ok(())
}

#[test]
fn other_namespaces_are_watched_from_outside() -> Result<()> {
    if !require(&[Need::Root, Need::Tool("ip"), Need::Tool("tc")]) {
        return Ok(());
    }
    let lab = Lab::new()?;
    let pair = lab.pair()?;
    let (client, server) = (pair.client.name().to_owned(), pair.server.name().to_owned());
    let specs = [format!("{server}:eth0"), format!("{client}:veth?")];
    let specs = specs.each_ref().map(String::as_str);
    let ways = [(XdpChoice::Auto, EgressChoice::Auto, 1001), (XdpChoice::Off, EgressChoice::Clsact, 1002)];
    for (xdp, egress, port) in ways {
        let mut sensor = Sensor::start(&specs, xdp, egress)?;
        sensor.expect_udp(&pair, port, 10)?;
        let by_clsact = filters(&pair.server)?;
        assert_eq!(by_clsact.contains("leuko_egress"), egress == EgressChoice::Clsact, "{by_clsact}");
        drop(sensor);
        until_free(&pair.server, "eth0")?;
        assert!(!filters(&pair.server)?.contains("leuko"));
    }

    let mut sensor = Sensor::start(&specs, XdpChoice::Auto, EgressChoice::Auto)?;
    knows_hosts(&mut sensor, &pair)?;
    pair.client.ip("link add veth1 type veth peer name veth22")?;
    assert_eq!(sensor.reconcile(), [format!("attached {client}:veth1 native tcx")]);
    // The sensor does not keep the namespace alive: the other end of its wire goes with it.
    let Pair { client, server: gone } = pair;
    drop(gone);
    assert_eq!(sensor.reconcile(), [format!("gone {server}:eth0")]);
    until("the end of the namespace", SOON, || client.ip("link show dev eth0").is_err().then_some(()))?;
    let told = sensor.reconcile();
    assert!(told[0].contains("there is no network namespace") && told[0].contains(client.name()), "{told:?}");
    assert_eq!(sensor.reconcile(), [""; 0], "told once");
    let pair = Pair { client, server: lab.namespace("server")? };
    connect(&pair)?;
    assert_eq!(sensor.reconcile(), [format!("attached {server}:eth0 native tcx")]);
    sensor.expect_udp(&pair, 1003, 10)
}

/// Addresses of each host, and gateways of its routes, as they are now.
fn knows_hosts(sensor: &mut Sensor, pair: &Pair) -> Result<()> {
    let hosts = sensor.watch.hosts();
    assert_eq!(hosts.len(), 3, "those watched, and this one: {hosts:?}");
    assert_eq!(hosts[0].namespace, None);
    assert!(hosts[0].addresses.contains(&Ipv4Addr::LOCALHOST.into()), "{hosts:?}");
    let gateways = [("", "10.77.0.5"), ("-6 ", "fd77::5")];
    for (family, gateway) in gateways {
        pair.server.ip(&format!("{family}route add default via {gateway}"))?;
    }
    pair.server.ip("route add 192.0.2.0/24 nexthop via 10.77.0.6 nexthop via 10.77.0.7")?;
    pair.server.ip("route add 198.51.100.0/24 via inet6 fd77::8 dev eth0")?;
    pair.server.ip("route add 203.0.113.0/24 via 10.77.0.9 table 77")?;
    let hosts = sensor.watch.hosts();
    let server =
        hosts.iter().find(|host| host.namespace.as_ref().is_some_and(|name| name.as_str() == pair.server.name()));
    let server = server.context("the server's host")?;
    let parsed = |texts: &[&str]| texts.iter().map(|text| text.parse()).collect::<Result<BTreeSet<IpAddr>, _>>();
    assert!(server.addresses.is_superset(&parsed(&[Pair::SERVER, Pair::SERVER_V6, "127.0.0.1"])?), "{server:?}");
    assert!(!server.addresses.contains(&Pair::CLIENT.parse()?), "{server:?}");
    let expected = ["10.77.0.5", "10.77.0.6", "10.77.0.7", "10.77.0.9", "fd77::5", "fd77::8"];
    assert_eq!(server.gateways, parsed(&expected)?);
    pair.server.ip("route del default")?;
    let gone: IpAddr = "10.77.0.5".parse()?;
    assert!(sensor.watch.hosts().iter().all(|host| !host.gateways.contains(&gone)));
    Ok(())
}

#[test]
fn the_command_waits_for_an_interface_and_survives_its_end() -> Result<()> {
    if !require(&[Need::Root, Need::Leuko, Need::Tool("ip")]) {
        return Ok(());
    }
    let lab = Lab::new()?;
    let pair = Pair { client: lab.namespace("client")?, server: lab.namespace("server")? };
    let state = tempfile::tempdir()?;
    let state = state.path().to_string_lossy();
    let settings = ["--interval", "100ms", "--metrics-listen", "off", "--state-dir", &state, "--fresh"];
    let mut leuko = Leuko::start(&pair.server, &[&["run", "--json", "--interface", "eth*"], &settings[..]].concat())?;
    let told = |words: &str| {
        until(words, SOON, || leuko.stderr().contains(words).then_some(())).with_context(|| leuko.stderr())
    };
    told("no interface matches yet")?;
    told("watching")?;
    connect(&pair)?;
    told("attached")?;
    send(&pair, 1001, 50)?;
    pair.server.ip("link delete eth0")?;
    told("gone, no longer watched")?;
    leuko.terminate(Signal::SIGINT, SOON)?;
    let summary = leuko.lines().pop().context("a summary")?.json;
    assert!(summary["packets"].as_u64().is_some_and(|packets| packets >= 50), "{summary}");
    Ok(())
}

/// The kernel source and what it watches, looked at when the test says so.
struct Sensor {
    source: KernelSource,
    watch: Watch,
    seconds: u64,
    latest: BTreeMap<u32, FlowSlot>,
}

impl Sensor {
    fn start(specs: &[&str], xdp: XdpChoice, egress: EgressChoice) -> Result<Self> {
        let specs = specs.iter().map(|text| (*text).to_owned().try_into().map_err(anyhow::Error::msg));
        let specs = specs.collect::<Result<Vec<_>>>()?;
        let mut source = KernelSource::load(LoadOptions { flows: 4096, seed: 7, ..LoadOptions::default() })?;
        let watch = Watch::start(&specs, (xdp, egress), &mut source, Duration::ZERO)?;
        Ok(Self { source, watch, seconds: 0, latest: BTreeMap::new() })
    }

    /// What has changed, in words; a tenth of a second after the last time.
    fn reconcile(&mut self) -> Vec<String> {
        self.seconds += 1;
        let at = Duration::from_millis(100 * self.seconds);
        self.watch.reconcile(&mut self.source, at).iter().map(words).collect()
    }

    /// Packets of UDP flows from this port.
    fn udp(&mut self, port: u16) -> u64 {
        let latest = &mut self.latest;
        self.source.poll(|id, slot| {
            latest.insert(id.0, *slot);
        });
        let of_port = |slot: &&FlowSlot| slot.key.proto == UDP && [slot.key.lo_port, slot.key.hi_port].contains(&port);
        latest.values().filter(of_port).map(|slot| slot.half[0].packets + slot.half[1].packets).sum()
    }

    /// Sends from the client's port, and waits until each packet was counted; once, as the next look tells.
    fn expect_udp(&mut self, pair: &Pair, port: u16, packets: u64) -> Result<()> {
        send(pair, port, packets)?;
        until("the packets", SOON, || (self.udp(port) >= packets).then_some(()))?;
        // What comes after them has been counted, so would have been any copy of them.
        let last = port + 1000;
        send(pair, last, 1)?;
        until("the packet after them", SOON, || (self.udp(last) >= 1).then_some(()))?;
        assert_eq!(self.udp(port), packets);
        Ok(())
    }
}

fn words(change: &Change) -> String {
    match change {
        Change::Attached(to) => format!("attached {} {} {}", to.interface, to.xdp, to.egress),
        Change::Gone { interface } => format!("gone {interface}"),
        Change::Renamed { from, to } => format!("renamed {from} {to}"),
        Change::Skipped { interface, why, .. } => format!("skipped {interface}: {why}"),
        Change::Refused { interface, error, .. } => format!("refused {interface}: {error:#}"),
        Change::Lost { error, .. } => format!("lost: {error:#}"),
    }
}

/// As [`Lab::pair`] does, with IPv4 only.
fn connect(pair: &Pair) -> Result<()> {
    Wire::default().connect(
        Port { namespace: &pair.client, interface: "eth0", addresses: &[&format!("{}/24", Pair::CLIENT)] },
        Port { namespace: &pair.server, interface: "eth0", addresses: &[&format!("{}/24", Pair::SERVER)] },
    )
}

/// Datagrams from a port of the client to the same port of the server, which is open and nobody reads. A port is for one
/// call: a process that another test has just forked may hold it a moment longer.
fn send(pair: &Pair, port: u16, packets: u64) -> Result<()> {
    let _sink = pair.server.inside(|| UdpSocket::bind((Pair::SERVER, port)))??;
    let socket = pair.client.inside(|| UdpSocket::bind((Pair::CLIENT, port)))??;
    socket.connect((Pair::SERVER, port))?;
    for _ in 0..packets {
        socket.send(b"hello")?;
    }
    Ok(())
}

/// A process that another test has just forked may hold a link a moment longer, until it runs its program.
fn until_free(namespace: &Namespace, interface: &str) -> Result<()> {
    let show = format!("link show dev {interface}");
    until("the end of an XDP link", SOON, || (!namespace.ip(&show).ok()?.contains("xdp")).then_some(()))
}

/// The clsact filters of `eth0`.
fn filters(namespace: &Namespace) -> Result<String> {
    let [ingress, egress] = ["ingress", "egress"]
        .map(|way| Ok::<_, anyhow::Error>(namespace.run("tc", &["filter", "show", "dev", "eth0", way], SOON)?.stdout));
    Ok(ingress? + &egress?)
}
