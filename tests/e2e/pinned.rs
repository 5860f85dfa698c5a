//! Programs and maps that outlive the sensor: a restart goes on counting, and nobody's flows are taken for another's.

use std::collections::BTreeMap;
use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aya::maps::{Array, Map, MapData};
use leuko::source::kernel::attach::{EgressChoice, XdpChoice};
use leuko::source::kernel::interface::Interface;
use leuko::source::kernel::pin::unpin;
use leuko::source::kernel::{KernelSource, LoadOptions};
use nix::sys::signal::Signal;
use sensor_core::flow::SlotId;
use sensor_ebpf::abi::{ABI_VERSION, TableState};
use support::{BpfFolder, Lab, Leuko, Namespace, Need, Pair, require, until};

const SOON: Duration = Duration::from_secs(20);
/// Where the packets go.
const PORT: u16 = 9;

#[test]
fn a_restart_goes_on_counting() -> Result<()> {
    if !require(&[Need::Root, Need::Tool("ip")]) {
        return Ok(());
    }
    let pair = Lab::new()?.pair()?;
    let folder = BpfFolder::mount()?;
    let (_sink, socket) = (sink(&pair)?, sender(&pair)?);
    let mut sensor = Sensor::start(&pair.server, &folder.pins(), 4096)?;
    assert_eq!(sensor.source.resumed(), None);
    socket.send(b"one")?;
    until("the first packet", SOON, || (sensor.packets() == 1).then_some(()))?;
    drop(sensor);

    socket.send(b"two")?;
    let mut sensor = Sensor::start(&pair.server, &folder.pins(), 65_536)?;
    assert_eq!(sensor.source.capacity(), 4096, "the table that is there keeps its size");
    assert_eq!(sensor.source.resumed(), Some(0));
    socket.send(b"three")?;
    until("all three packets", SOON, || (sensor.packets() == 3).then_some(()))?;
    let slots: Vec<SlotId> = sensor.seen.keys().copied().collect();
    let mut released = 0;
    sensor.source.release(&slots, |_, slot| released += slot.half[0].packets + slot.half[1].packets)?;
    drop(sensor);
    let sensor = Sensor::start(&pair.server, &folder.pins(), 4096)?;
    assert_eq!(sensor.source.resumed(), Some(released));
    drop(sensor);

    let pins = fs::read_dir(folder.pins())?.count();
    assert_eq!(unpin(&folder.pins())?, pins);
    assert!(!folder.pins().exists());
    assert_eq!(unpin(&folder.pins())?, 0, "twice is no mistake");
    until("the end of the programs", SOON, || {
        let links = pair.server.ip("-j link show dev eth0").ok()?;
        (!links.contains("\"xdp\"")).then_some(())
    })
}

#[test]
fn a_killed_sensor_leaves_nothing_half_done() -> Result<()> {
    if !require(&[Need::Root, Need::Tool("ip"), Need::Leuko]) {
        return Ok(());
    }
    let pair = Lab::new()?.pair()?;
    let folder = BpfFolder::mount()?;
    let pin = format!("--pin={}", folder.pins().display());
    let state = tempfile::tempdir()?;
    let args = ["run", "--json", "--interface", "eth0", "--metrics-listen", "off", "--state-dir"];
    let args: Vec<&str> = args.into_iter().chain([state.path().to_str().context("a path")?, &pin]).collect();
    let (_sink, socket) = (sink(&pair)?, sender(&pair)?);
    let watching = |leuko: &Leuko| {
        until("watching", SOON, || leuko.stderr().contains("watching").then_some(())).with_context(|| leuko.stderr())
    };
    let mut first = Leuko::start(&pair.server, &args)?;
    watching(&first)?;
    for _ in 0..10 {
        socket.send(b"while it watches")?;
    }
    let second = Leuko::start(&pair.server, &args)?;
    until("its refusal", SOON, || second.stderr().contains("another sensor uses").then_some(()))
        .with_context(|| second.stderr())?;
    first.terminate(Signal::SIGKILL, SOON)?;
    for _ in 0..10 {
        socket.send(b"while nobody watches")?;
    }
    let mut third = Leuko::start(&pair.server, &args)?;
    watching(&third)?;
    socket.send(b"and again")?;
    // A gap is told when it has lasted three polls.
    std::thread::sleep(Duration::from_secs(5));
    let ended = third.terminate(Signal::SIGTERM, SOON)?;
    ensure!(ended.success(), "{}", third.stderr());
    let lines = third.lines();
    let summary = lines.iter().find(|line| line.json["type"] == "summary").context("a summary")?;
    let packets = summary.json["packets"].as_u64().unwrap_or(0);
    assert!(packets >= 21, "{packets} packets since the first sensor: {}", summary.json);
    assert!(!third.stderr().contains("cannot be relied on"), "{}", third.stderr());
    assert!(unpin(&folder.pins())? > 10);
    Ok(())
}

#[test]
fn what_another_version_has_pinned_is_refused() -> Result<()> {
    if !require(&[Need::Root, Need::Tool("ip")]) {
        return Ok(());
    }
    let pair = Lab::new()?.pair()?;
    let folder = BpfFolder::mount()?;
    drop(Sensor::start(&pair.server, &folder.pins(), 4096)?);
    let data = MapData::from_pin(folder.pins().join("STATE"))?;
    let mut map: Array<_, TableState> = Array::try_from(Map::Array(data))?;
    let state = map.get(&0, 0)?;
    map.set(0, TableState { abi_version: ABI_VERSION + 1, ..state }, 0)?;
    let error = Sensor::start(&pair.server, &folder.pins(), 4096).err().context("another version was accepted")?;
    let error = format!("{error:#}");
    assert!(error.contains(&format!("layout version {}", ABI_VERSION + 1)), "{error}");
    assert!(error.contains("leuko unpin"), "{error}");
    assert!(unpin(&folder.pins())? > 10);

    let elsewhere = tempfile::tempdir()?;
    let error =
        Sensor::start(&pair.server, &elsewhere.path().join("pins"), 4096).err().context("pinned outside of bpffs")?;
    assert!(format!("{error:#}").contains("mount -t bpf bpf"), "{error:#}");
    assert!(!elsewhere.path().join("pins").exists());
    Ok(())
}

/// The kernel's tables, pinned.
struct Sensor {
    source: KernelSource,
    /// Packets of the flow to port 9, by slot; of every other, none.
    seen: BTreeMap<SlotId, u64>,
}

impl Sensor {
    fn start(namespace: &Namespace, pins: &Path, flows: u32) -> Result<Self> {
        namespace.inside(|| {
            let options = LoadOptions { flows, seed: 7, pin: Some(pins.to_owned()), ..LoadOptions::default() };
            let mut source = KernelSource::load(options)?;
            source.attach(&Interface::find("eth0")?, XdpChoice::Native, EgressChoice::Auto)?;
            source.remove_stale_links()?;
            Ok(Self { source, seen: BTreeMap::new() })
        })?
    }

    fn packets(&mut self) -> u64 {
        let seen = &mut self.seen;
        self.source.poll(|id, slot| {
            let is_ours = slot.key.proto == 17 && [slot.key.lo_port, slot.key.hi_port].contains(&PORT);
            seen.insert(id, if is_ours { slot.half[0].packets + slot.half[1].packets } else { 0 });
        });
        seen.values().sum()
    }
}

fn sink(pair: &Pair) -> Result<UdpSocket> {
    pair.server.inside(|| Ok(UdpSocket::bind((Pair::SERVER, PORT))?))?
}

fn sender(pair: &Pair) -> Result<UdpSocket> {
    pair.client.inside(|| {
        let socket = UdpSocket::bind((Pair::CLIENT, 0))?;
        socket.connect((Pair::SERVER, PORT))?;
        Ok(socket)
    })?
}
