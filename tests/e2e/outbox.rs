//! Nothing is lost: a sensor that is killed again and again while incidents pour in and receivers fail half of the time has
//! told every sink of every incident in the end, in order.
#![expect(clippy::print_stderr, reason = "a long test says what it has measured")]

#[path = "outbox/flaky.rs"]
mod flaky;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use leuko::store::Store;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::Signal;
use support::{Guard, Need, require, run_timeout, until};

use self::flaky::{Flaky, Random, Taken};

/// How often the sensor is killed.
const KILLS: u64 = 50;
/// The sinks, with the address of a receiver in place of `URL`. Limits are those of a busy day in a second.
const SINKS: &str = include_str!("outbox/sinks.toml");

#[test]
fn every_incident_reaches_every_sink_whatever_is_killed_and_fails() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let receiver = Flaky::start()?;
    let config = dir.path().join("sinks.toml");
    let eve = dir.path().join("eve.json");
    fs::write(&config, SINKS.replace("URL", &receiver.url()).replace("EVE", &eve.display().to_string()))?;
    let mut random = Random::new(7);
    for kill in 0..KILLS {
        let mut sensor = Guard::spawn(storm(&config, dir.path(), kill))?;
        sleep(Duration::from_millis(100 + random.below(400)));
        ensure!(sensor.ended().is_none(), "the sensor has ended by itself: {}", sensor.log());
        sensor.signal(Signal::SIGKILL)?;
    }
    let killed = receiver.taken().len();
    let drained = run_timeout(storm(&config, dir.path(), KILLS).arg("drain"), Duration::from_secs(200))?.success()?;

    let store = Store::open_existing(dir.path())?;
    let events = store.events(Some(0), u32::MAX)?;
    let queues = store.queues()?;
    ensure!(queues.is_empty(), "{queues:?} {}", drained.stderr);
    let kept = Events::of(&events);
    let mut taken = receiver.taken();
    taken.extend(lines(&eve)?);
    let mut sinks: BTreeMap<String, Vec<&Taken>> = BTreeMap::new();
    for one in &taken {
        sinks.entry(one.sink.clone()).or_default().push(one);
    }
    eprintln!(
        "{} incidents, {} events; {killed} requests taken between kills, {} in all, {} refused; the rest took {:?}",
        kept.incidents,
        kept.keys.len(),
        receiver.taken().len(),
        receiver.refused(),
        drained.took
    );
    ensure!(kept.incidents > 500, "only {} incidents", kept.incidents);
    let expected = fs::read_to_string(&config)?.matches("name = ").count();
    ensure!(sinks.len() == expected, "{:?} were told", sinks.keys());

    for (sink, taken) in sinks {
        kept.check(&sink, &taken).with_context(|| format!("sink {sink}"))?;
    }
    Ok(())
}

/// While nothing can be written, everybody is told all the same; what was told is in the store when there is room again.
#[test]
fn a_full_disk_keeps_nobody_from_being_told() -> Result<()> {
    if !require(&[Need::Root]) {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let disk = Disk::mount(dir.path().join("disk"), "16m")?;
    let receiver = Flaky::start()?;
    let config = dir.path().join("sinks.toml");
    let eve = dir.path().join("eve.json");
    fs::write(&config, SINKS.replace("URL", &receiver.url()).replace("EVE", &eve.display().to_string()))?;
    let sensor = Guard::spawn(storm(&config, &disk.path, 1))?;
    sleep(Duration::from_millis(500));
    let filler = disk.fill()?;
    sleep(Duration::from_millis(500));
    let (before, kept) = (receiver.taken().len(), Store::open_existing(&disk.path)?.last_event()?);
    sleep(Duration::from_secs(2));
    let (after, still) = (receiver.taken().len(), Store::open_existing(&disk.path)?.last_event()?);
    ensure!(after > before + 5, "nobody was told while the disk was full: {before}, then {after}");
    ensure!(still == kept, "the disk was not full: {kept} events, then {still}");
    fs::remove_file(filler)?;
    let more = until("what was kept in memory is written", Duration::from_secs(20), || {
        let events = Store::open_existing(&disk.path).and_then(|store| Ok(store.last_event()?)).ok()?;
        (events > still + 300).then_some(events)
    })?;
    drop(sensor);
    eprintln!("{kept} events before the disk was full, {more} after it was not");
    let store = Store::open_existing(&disk.path)?;
    ensure!(store.holdings()?.damage.is_empty(), "the store is damaged");
    let numbers: Vec<i64> = store.events(Some(0), u32::MAX)?.iter().map(|(seq, _)| *seq).collect();
    ensure!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "events are missing");
    Ok(())
}

/// A file system in memory, gone when dropped.
struct Disk {
    path: PathBuf,
}

impl Disk {
    fn mount(path: PathBuf, size: &str) -> Result<Self> {
        fs::create_dir(&path)?;
        let options = format!("size={size}");
        mount(Some("tmpfs"), &path, Some("tmpfs"), MsFlags::empty(), Some(options.as_str()))
            .context("mount a tmpfs")?;
        Ok(Self { path })
    }

    /// Writes a file until nothing more fits.
    fn fill(&self) -> Result<PathBuf> {
        let path = self.path.join("filler");
        let mut file = fs::File::create(&path)?;
        while file.write_all(&[0; 1024]).is_ok() {}
        Ok(path)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A drop has nobody to tell.
        let _ = umount2(&self.path, MntFlags::MNT_DETACH);
    }
}

fn storm(config: &Path, state_dir: &Path, seed: u64) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_storm"));
    command.arg(config).arg(state_dir).arg(format!("{seed:08x}"));
    command
}

/// What the store has.
struct Events {
    incidents: usize,
    keys: BTreeSet<String>,
}

impl Events {
    fn of(events: &[(i64, sensor_core::incident::IncidentEvent)]) -> Self {
        let mut count: BTreeMap<&str, u32> = BTreeMap::new();
        let mut keys = BTreeSet::new();
        for (_, event) in events {
            let n = count.entry(&event.incident.id).or_default();
            *n += 1;
            keys.insert(format!("{}.{n}", event.incident.id));
        }
        Self { incidents: count.len(), keys }
    }

    /// Every event was taken, in the order of its incident, and what was taken twice is the same event.
    fn check(&self, sink: &str, taken: &[&Taken]) -> Result<()> {
        if sink == "alertmanager" {
            return self.check_state(taken);
        }
        let mut first: BTreeMap<&str, usize> = BTreeMap::new();
        for (at, one) in taken.iter().enumerate() {
            for key in &one.keys {
                ensure!(self.keys.contains(key), "told of {key}, which is not in the store");
                first.entry(key).or_insert(at);
            }
        }
        let missing: Vec<_> = self.keys.iter().filter(|key| !first.contains_key(key.as_str())).take(5).collect();
        ensure!(missing.is_empty(), "was not told of {missing:?}");
        for key in &self.keys {
            let (id, n) = key.split_once('.').context("a key has a number")?;
            let next = format!("{id}.{}", n.parse::<u32>()? + 1);
            if let Some(later) = first.get(next.as_str()) {
                ensure!(first[key.as_str()] <= *later, "{next} came before {key}");
            }
        }
        Ok(())
    }

    /// Alertmanager is told of states: each incident has fired, and is over in the end.
    fn check_state(&self, taken: &[&Taken]) -> Result<()> {
        let told: BTreeSet<&str> = taken.iter().flat_map(|one| &one.incidents).map(String::as_str).collect();
        let missing = self.keys.iter().filter_map(|key| key.split('.').next()).find(|id| !told.contains(id));
        ensure!(missing.is_none(), "was not told of {missing:?}");
        Ok(())
    }
}

/// What is in the file of the sink that writes one.
fn lines(eve: &Path) -> Result<Vec<Taken>> {
    if !eve.exists() {
        return Ok(Vec::new());
    }
    let text = fs::read_to_string(eve)?;
    let whole = text.lines().filter(|line| serde_json::from_str::<serde_json::Value>(line).is_ok());
    Ok(whole.map(|line| Taken::of("eve", "", line)).collect())
}
