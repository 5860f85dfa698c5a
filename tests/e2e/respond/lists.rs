//! Lists of addresses from elsewhere.

use std::fs;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use serde_json::Value;
use support::{BpfFolder, Load, Pace, until};
use tempfile::TempDir;

use super::{ATTACKER, CUSTOMER, LONG, PAUSE, SOON, Sensor, Street, dropped, possible, reached, reaches, service};

/// On every list, so that none is empty.
const ELSEWHERE: &str = "198.51.100.7";
/// A network of the server's owner.
const LOCAL: &str = "192.0.2.0/24";
const READ: Duration = Duration::from_secs(10);

#[test]
fn an_imported_list_blocks_and_is_lifted_when_it_changes() -> Result<()> {
    if !possible() {
        return Ok(());
    }
    let street = Street::new()?;
    let list = List::new()?;
    list.write(&[ATTACKER, CUSTOMER, ELSEWHERE, "172.16.0.0/12", LOCAL])?;
    let settings =
        format!("[detect]\nlocal = [\"{LOCAL}\"]\n{}", list.settings(&format!("never = [\"{CUSTOMER}\"]\n")));
    let sensor = street.watch(list.folder.path(), &settings, &[])?;
    blocked(&street, &sensor)?;
    assert!(reaches(&street.customer, service(), SOON)?, "who is protected");
    let entries = |wanted: f64| {
        until("the metric", LONG, || (sensor.metric("leuko_block_entries").ok()? == wanted).then_some(()))
    };
    entries(2.0)?;
    sensor.told("protected or local networks")?;
    let table = sensor.granted("blocks")?;
    assert!(table.contains("5 networks, 2 of them blocked"), "{table}");
    let refused = sensor.order(&format!("unblock {ATTACKER}"))?;
    assert!(!refused.status.success() && refused.stderr.contains("respond.never"), "{}", refused.stderr);
    // They are no decision about one of them.
    assert_eq!(sensor.blocks()?, Vec::<Value>::new());

    list.write(&[ELSEWHERE])?;
    reached(&street.attacker, Duration::from_secs(15)).with_context(|| sensor.leuko.stderr())?;
    entries(1.0)
}

#[test]
fn a_list_is_blocked_through_a_restart_and_goes_with_its_configuration() -> Result<()> {
    if !possible() {
        return Ok(());
    }
    let street = Street::new()?;
    let bpf = BpfFolder::mount()?;
    let pin = format!("--pin={}", bpf.pins().display());
    let list = List::new()?;
    let settings = list.settings("");
    let mut sensor = street.watch(list.folder.path(), &settings, &[&pin])?;
    // What is done about one port leaves the others to the list.
    sensor.granted(&format!("block {ATTACKER} --port 9"))?;
    list.write(&[ATTACKER, ELSEWHERE])?;
    blocked(&street, &sensor)?;
    sensor.granted(&format!("block {ATTACKER}"))?;
    sensor.granted(&format!("unblock {ATTACKER}"))?;
    blocked(&street, &sensor)?;
    sensor.leuko.terminate(Signal::SIGKILL, LONG)?;

    let pace = Pace { per_second: 20, threads: 8, patience: Duration::from_millis(300), asks: false };
    let attempts = Load::start(&street.attacker, service(), pace)?;
    let mut sensor = street.watch(list.folder.path(), &settings, &[&pin])?;
    sensor.told("a list was read")?;
    sleep(Duration::from_secs(2));
    let attempts = attempts.stop();
    assert!(attempts.served == 0 && attempts.failed > 20, "{attempts:?}\n{}", sensor.leuko.stderr());
    assert!(sensor.leuko.terminate(Signal::SIGTERM, LONG)?.success(), "{}", sensor.leuko.stderr());
    dropped(&street.attacker)?;

    let sensor = street.watch(list.folder.path(), "", &[&pin])?;
    reached(&street.attacker, SOON).with_context(|| sensor.leuko.stderr())
}

/// A list in a file, in a folder that has room for a sensor's files, too.
pub(super) struct List {
    pub(super) folder: TempDir,
}

impl List {
    pub(super) fn new() -> Result<Self> {
        let list = Self { folder: TempDir::with_prefix("leuko-list-")? };
        list.write(&[ELSEWHERE])?;
        Ok(list)
    }

    pub(super) fn write(&self, lines: &[&str]) -> Result<()> {
        fs::write(self.path(), lines.join("\n")).context("write the list")
    }

    /// A configuration with settings of `respond`, and the list.
    pub(super) fn settings(&self, respond: &str) -> String {
        let file = self.path();
        format!(
            "[respond]\n{respond}[[respond.lists]]\nname = \"bad\"\nfile = \"{}\"\naction = \"block\"\n",
            file.display()
        )
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("list.txt")
    }
}

#[test]
fn a_list_without_room_leaves_some_to_people_and_says_so() -> Result<()> {
    if !possible() {
        return Ok(());
    }
    // Of 4096, the sensor and people have 1024 each.
    const ROOM: usize = 2048;
    let street = Street::new()?;
    let list = List::new()?;
    // No two of them make a network.
    let many: Vec<String> = (0..ROOM + 100).map(|n| format!("198.18.{}.{}", n / 100, n % 100 * 2)).collect();
    list.write(&many.iter().map(String::as_str).collect::<Vec<_>>())?;
    let sensor = street.watch(list.folder.path(), &list.settings("capacity = 4096\n"), &[])?;
    until("a full list", LONG, || (sensor.metric("leuko_block_entries").ok()? == ROOM as f64).then_some(()))
        .with_context(|| sensor.leuko.stderr())?;
    sensor.told("raise respond.capacity")?;
    let table = sensor.granted("blocks")?;
    assert!(table.contains(&format!("{} networks, {ROOM} of them blocked", ROOM + 100)), "{table}");
    sensor.granted(&format!("block {ATTACKER}"))?;
    dropped(&street.attacker)
}

/// Waits until the list is blocked.
pub(super) fn blocked(street: &Street, sensor: &Sensor<'_>) -> Result<()> {
    let is_dropped = || {
        // Not so often that it is a flood.
        sleep(PAUSE);
        (!reaches(&street.attacker, service(), SOON).ok()?).then_some(())
    };
    until("the list to be blocked", READ, is_dropped).with_context(|| sensor.leuko.stderr())
}
