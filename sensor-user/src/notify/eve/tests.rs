//! Against a file: rotation, files that are moved, disks that fail.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sensor_core::flow::{EndReason, FlowRecord};
use sensor_core::incident::Change;
use sensor_core::time::Timestamp;
use sensor_ebpf::abi::{Counters, FlowSlot};
use serde_json::Value;

use super::log::{self, Log};
use super::*;
use crate::export::eve::Stats;
use crate::notify::testing::{Rig, incident, until};
use crate::notify::{NotifyConfig, Outcome};

fn config(file: &Path, more: &str) -> EveConfig {
    let toml = format!("[[eve]]\nfile = \"{}\"\n{more}", file.display());
    toml::from_str::<NotifyConfig>(&toml).unwrap().eve.remove(0)
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
}

fn record() -> FlowRecord {
    let at = Timestamp::from_secs(1_750_000_000);
    FlowRecord { slot: FlowSlot::default(), first_seen: at, last_seen: at, end_reason: EndReason::IdleTimeout }
}

fn stats(at: Timestamp) -> Stats {
    Stats {
        at,
        uptime: Duration::from_secs(7),
        counters: Counters::default(),
        live_flows: 0,
        started_flows: 0,
        ended: [].into(),
        open_incidents: 0,
        opened_incidents: 0,
        coverage: 1.0,
    }
}

#[tokio::test]
async fn events_are_lines_that_nobody_else_may_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("eve.json");
    let rig = Rig::start(&format!("[[eve]]\nfile = \"{}\"\n", path.display()));
    for n in 0..100 {
        rig.send(Change::Opened, &incident(&format!("i{n}")));
    }
    rig.send(Change::Closed, &incident("i0"));
    until(|| rig.count("eve", Outcome::Delivered) == 101).await;
    let lines = lines(&path);
    let keys: Vec<String> = lines.iter().map(|line| line["leuko"]["key"].as_str().unwrap().to_owned()).collect();
    let wanted = (0..100).map(|n| format!("i{n}.1")).chain(["i0.2".to_owned()]);
    assert_eq!(keys, wanted.collect::<Vec<_>>());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o137, 0);
}

#[tokio::test]
async fn a_disk_that_fails_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("eve.json");
    let rig = Rig::start(&format!("[[eve]]\nfile = \"{}\"\n", path.display()));
    fs::create_dir(&path).unwrap();
    rig.send(Change::Opened, &incident("a"));
    until(|| rig.count("eve", Outcome::Retried) > 0).await;
    fs::remove_dir(&path).unwrap();
    until(|| rig.count("eve", Outcome::Delivered) == 1).await;
    assert_eq!(lines(&path).len(), 1);
}

#[test]
fn a_full_file_is_put_aside() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("eve.json");
    let mut log = Log::new(&path, 100, 2);
    for n in 0..8 {
        log.append(format!("{:049}\n", n).as_bytes()).unwrap();
    }
    let text = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap_or_default();
    for (name, numbers) in [("eve.json", [6, 7]), ("eve.json.1", [4, 5]), ("eve.json.2", [2, 3])] {
        assert_eq!(text(name), numbers.map(|n| format!("{n:049}\n")).concat());
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
}

#[test]
fn a_file_that_was_moved_or_emptied_is_let_go() {
    let dir = tempfile::tempdir().unwrap();
    let [path, moved] = ["eve.json", "eve.json-old"].map(|name| dir.path().join(name));
    let mut log = Log::new(&path, 1000, 2);
    log.append(b"1\n").unwrap();
    fs::rename(&path, &moved).unwrap();
    log.append(b"2\n").unwrap();
    fs::remove_file(&path).unwrap();
    log.append(b"3\n").unwrap();
    fs::File::create(&path).unwrap();
    log.append(b"4\n").unwrap();
    assert_eq!((fs::read(&moved).unwrap(), fs::read(&path).unwrap()), (b"1\n".to_vec(), b"4\n".to_vec()));
}

#[test]
fn a_line_that_a_crash_has_cut_is_ended() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("eve.json");
    fs::write(&path, "{\"timest").unwrap();
    Log::new(&path, 1000, 2).append(b"{}\n").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "{\"timest\n{}\n");
}

#[test]
fn a_file_that_cannot_be_put_aside_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("eve.json");
    // A folder that is not empty does not make room.
    fs::create_dir_all(dir.path().join("eve.json.1/x")).unwrap();
    let mut log = Log::new(&path, 4, 1);
    for _ in 0..3 {
        log.append(b"{}\n").unwrap();
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), "{}\n{}\n{}\n");
}

#[test]
fn flows_and_counters_are_written_when_they_are_wanted_and_due() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("eve.json");
    let file = EveFile::new(&config(&path, "flows = true"), "web-1").unwrap();
    let second = Timestamp::from_secs;
    file.flows(&[record(), record()]);
    for now in [100, 105, 109, 110, 119, 121] {
        file.stats(second(now), || stats(second(now)));
    }
    file.flush(Duration::from_secs(5));
    let kinds: Vec<String> = lines(&path).iter().map(|line| line["event_type"].as_str().unwrap().to_owned()).collect();
    assert_eq!(kinds, ["flow", "flow", "stats", "stats", "stats"]);

    let path = dir.path().join("none.json");
    let file = EveFile::new(&config(&path, "stats = false"), "web-1").unwrap();
    file.flows(&[record()]);
    file.stats(second(100), || unreachable!("nobody asks"));
    file.flush(Duration::from_secs(5));
    assert!(!path.exists() && file.lost() == 0);
}

#[test]
fn what_finds_no_room_is_counted_and_nobody_waits() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("eve.json");
    let file = EveFile::new(&config(&path, "flows = true"), "web-1").unwrap();
    let many = vec![record(); 50_000];
    {
        let log = Arc::clone(file.log());
        let _slow_disk = log::lock(&log);
        file.flows(&many);
        file.flows(&many);
    }
    file.flush(Duration::from_secs(30));
    assert_eq!((lines(&path).len() as u64, file.lost()), (65_536, 34_464));
}

#[test]
fn settings_survive_a_round_trip_and_bad_ones_are_refused() {
    let config = config(Path::new("/var/log/eve.json"), "rotate_size = \"64MiB\"\nstats_every = \"1m\"");
    assert_eq!((config.rotate_size.octets(), config.keep, config.flows, config.stats), (64 << 20, 5, false, true));
    let printed = toml::to_string(&config).unwrap();
    assert_eq!(toml::from_str::<EveConfig>(&printed).unwrap(), config, "{printed}");
    for more in
        ["rotate_size = \"1KB\"", "rotate_size = \"much\"", "rotate_size = \"99999999999GB\"", "keep = -1", "x = 1"]
    {
        assert!(toml::from_str::<EveConfig>(&format!("file = \"f\"\n{more}")).is_err(), "{more}");
    }
}
