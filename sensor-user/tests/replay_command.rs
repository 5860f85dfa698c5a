//! `leuko replay` as it is typed: the built binary on captures made here.

#![expect(clippy::unwrap_used, reason = "what a test relies on and does not hold fails the test")]

#[path = "support/capture.rs"]
mod capture;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use capture::{Packet, conversation, pcap, scan};

/// 2025-06-15, in microseconds.
const START: u64 = 1_750_000_000_000_000;
const SECOND: u64 = 1_000_000;
const HOUR: u64 = 3600 * SECOND;
const YEAR: u64 = 365 * 24 * HOUR;

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);
const ATTACKER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
const SCANNED: u16 = 200;
const SENTENCE: &str = "10.0.0.9 probed 200 ports of 10.0.0.2 in less than a second";

/// Eight conversations, a name asked for, and among them a scan.
fn ordinary_and_scan() -> Vec<Packet> {
    let mut packets: Vec<Packet> =
        (0..8).flat_map(|n| conversation(START + u64::from(n) * SECOND, (CLIENT, 50_000 + n), (SERVER, 80))).collect();
    packets.push(Packet::udp(START + 9 * SECOND, (CLIENT, 5353), (SERVER, 53), 30));
    packets.push(Packet::udp(START + 9 * SECOND + 500, (SERVER, 53), (CLIENT, 5353), 90));
    packets.extend(scan(START + 20 * SECOND, ATTACKER, SERVER, SCANNED));
    packets.extend(conversation(START + 30 * SECOND, (CLIENT, 50_100), (SERVER, 80)));
    packets
}

/// A folder for the files of a test, and `leuko replay` on them.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }
}

fn leuko(args: &[&str], files: &[&Path]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_leuko"));
    command.args(args).args(files).stdin(Stdio::null());
    command
}

fn replay(args: &[&str], packets: &[Packet]) -> Replayed {
    let folder = Folder::new();
    let file = folder.file("capture.pcap", pcap(packets));
    Replayed::of(&leuko(&[&["replay"], args].concat(), &[&file]).output().unwrap())
}

fn replay_stdin(args: &[&str], capture: &[u8]) -> Replayed {
    let mut command = leuko(&[&["replay"], args, &["-"]].concat(), &[]);
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    child.stdin.take().unwrap().write_all(capture).unwrap();
    Replayed::of(&child.wait_with_output().unwrap())
}

/// What the command left.
#[derive(Debug)]
struct Replayed {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Replayed {
    fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Self { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    fn lines(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn of_type(&self, kind: &str) -> Vec<Value> {
        self.lines().into_iter().filter(|line| line["type"] == kind).collect()
    }

    /// The last line, which is the only one of its kind.
    fn summary(&self) -> Value {
        assert_eq!(self.of_type("summary").len(), 1, "{self:?}");
        self.lines().pop().filter(|line| line["type"] == "summary").unwrap_or_else(|| panic!("{self:?}"))
    }

    #[track_caller]
    fn succeeded(self) -> Self {
        assert_eq!((self.code, self.stderr.as_str()), (Some(0), ""), "{self:?}");
        self
    }

    /// Nothing on standard output, and every word in the complaint.
    #[track_caller]
    fn refused(&self, words: &[&str]) {
        assert_eq!((self.code, self.stdout.as_str()), (Some(1), ""), "{self:?}");
        for word in words {
            assert!(self.stderr.starts_with("leuko: ") && self.stderr.contains(word), "{word}: {self:?}");
        }
    }
}

fn sum(lines: &[Value], names: [&str; 2]) -> u64 {
    lines.iter().flat_map(|line| names.map(|name| line[name].as_u64().unwrap())).sum()
}

fn five_tuple(flow: &Value) -> String {
    ["src_addr", "src_port", "dst_addr", "dst_port", "proto"].map(|name| flow[name].to_string()).join(" ")
}

#[test]
fn a_scan_opens_and_closes_and_the_summary_is_last() {
    let packets = ordinary_and_scan();
    let replayed = replay(&["--json"], &packets).succeeded();
    let incidents = replayed.of_type("incident");
    let states: Vec<_> = incidents.iter().map(|incident| incident["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["open", "closed"], "{replayed:?}");
    for incident in &incidents {
        assert_eq!(incident["class"], "port_scan");
        assert_eq!(incident["attackers"], json!([ATTACKER]));
        assert_eq!(incident["victims"], json!([SERVER]));
        assert_eq!(incident["ports"].as_array().unwrap().len(), 64, "listed are at most 64");
        assert_eq!(incident["evidence"]["ports_total"], SCANNED);
        assert_eq!(incident["summary"], SENTENCE);
        assert_eq!(incident["first_seen"].to_string(), "1750000020.002");
        assert_eq!(incident["detected_at"].to_string(), "1750000021.0");
    }
    assert_eq!(incidents[0]["id"], incidents[1]["id"]);
    let summary = replayed.summary();
    assert_eq!(summary["packets"], packets.len());
    assert_eq!(summary["incidents"], 1);
    assert_eq!(summary["duration_s"].to_string(), "30.009");
    assert!(replayed.of_type("flow").is_empty(), "flows are printed when asked for");
}

#[test]
fn flows_hold_every_packet_and_octet() {
    let packets = ordinary_and_scan();
    let replayed = replay(&["--json", "--flows"], &packets).succeeded();
    let (flows, summary) = (replayed.of_type("flow"), replayed.summary());
    assert_eq!(summary["flows"], flows.len());
    assert_eq!(flows.len(), 8 + 1 + usize::from(SCANNED) + 1);
    assert_eq!(sum(&flows, ["fwd_packets", "rev_packets"]), packets.len() as u64);
    let octets: u64 = packets.iter().map(Packet::ip_octets).sum();
    assert_eq!(sum(&flows, ["fwd_ip_octets", "rev_ip_octets"]), octets);
    assert!(summary["lost"].as_object().unwrap().values().all(|lost| lost == 0), "{summary}");
    let first = flows.iter().find(|flow| flow["src_port"] == 50_000).unwrap();
    let expected = json!({
        "type": "flow", "src_addr": CLIENT, "src_port": 50_000, "dst_addr": SERVER, "dst_port": 80, "proto": 6,
        "fwd_packets": 6, "rev_packets": 4, "fwd_ip_octets": 6 * 40 + 300, "rev_ip_octets": 4 * 40 + 1900,
        "first_seen": 1_750_000_000.0, "last_seen": 1_750_000_000.009, "end_reason": "tcp_fin",
    });
    assert_eq!(*first, expected);
}

#[test]
fn without_timeouts_a_five_tuple_is_one_flow() {
    let packets: Vec<Packet> = (0..5)
        .flat_map(|n| {
            let at = START + n * 7 * HOUR;
            let udp = Packet::udp(at, (CLIENT, 4000), (SERVER, 4000), 100);
            let tcp = conversation(at + SECOND, (CLIENT, 50_000), (SERVER, 80));
            std::iter::once(udp).chain(tcp)
        })
        .collect();
    let flows = |args: &[&str]| replay(args, &packets).succeeded().of_type("flow");
    let whole = flows(&["--json", "--flows", "--no-timeouts"]);
    assert_eq!(whole.len(), 2, "{whole:#?}");
    assert_eq!(sum(&whole, ["fwd_packets", "rev_packets"]), packets.len() as u64);
    let cut = flows(&["--json", "--flows"]);
    assert_eq!(cut.len(), 10, "{cut:#?}");
    let tuples = |flows: &[Value]| flows.iter().map(five_tuple).collect::<BTreeSet<_>>();
    assert_eq!(tuples(&cut), tuples(&whole));
}

#[test]
fn the_same_bytes_give_the_same_lines() {
    let packets = ordinary_and_scan();
    let run = || replay(&["--json", "--flows"], &packets).succeeded().stdout;
    assert_eq!(run(), run());
}

#[test]
fn a_file_out_of_order_gives_the_same_lines_as_the_sorted_one() {
    let sorted = ordinary_and_scan();
    let mut reversed = sorted.clone();
    reversed.reverse();
    let args = ["--json", "--flows"];
    assert_eq!(replay(&args, &reversed).succeeded().stdout, replay(&args, &sorted).succeeded().stdout);
}

#[test]
fn a_stream_is_read_as_it_arrives_and_late_packets_are_counted() {
    let mut packets = ordinary_and_scan();
    let in_order = replay_stdin(&["--json"], &pcap(&packets)).succeeded();
    assert_eq!(in_order.stdout, replay(&["--json"], &packets).stdout);
    assert_eq!(in_order.summary()["lost"]["late"], 0);
    for late in [10, 30, 50] {
        packets.swap(late, late + 1);
    }
    let summary = replay_stdin(&["--json"], &pcap(&packets)).succeeded().summary();
    assert_eq!(summary["lost"]["late"], 3, "{summary}");
    assert_eq!(summary["packets"], packets.len());
}

#[test]
fn a_truncated_file_is_processed_up_to_the_damage() {
    let folder = Folder::new();
    let packets = ordinary_and_scan();
    let mut bytes = pcap(&packets);
    let last_record = pcap(&packets[..packets.len() - 1]).len();
    bytes.truncate(bytes.len() - 7);
    let file = folder.file("cut.pcap", &bytes);
    let replayed = Replayed::of(&leuko(&["replay", "--json"], &[&file]).output().unwrap());
    assert_eq!(replayed.code, Some(1), "{replayed:?}");
    assert_eq!(replayed.summary()["packets"], packets.len() - 1);
    assert_eq!(replayed.summary()["incidents"], 1);
    for words in ["cut.pcap", &format!("at byte {last_record}"), "everything before it was processed"] {
        assert!(replayed.stderr.contains(words), "{words}: {replayed:?}");
    }
}

#[test]
fn what_is_no_capture_is_refused_with_a_reason() {
    let folder = Folder::new();
    let on = |path: &Path| Replayed::of(&leuko(&["replay", "--json"], &[path]).output().unwrap());
    on(&folder.file("empty.pcap", "")).refused(&["empty.pcap", "is empty", "supported are pcap"]);
    on(&folder.file("notes.txt", "Dear diary")).refused(&["notes.txt", "not a capture", "supported are pcap"]);
    on(&folder.0.path().join("nowhere.pcap")).refused(&["nowhere.pcap", "No such file"]);
    on(&folder.file("small.pcap.gz", b"\x1f\x8b\x08\0\0\0\0\0")).refused(&["small.pcap.gz", "read capture"]);
    on(&folder.file("small.pcap.xz", b"\xfd7zXZ\0\0\0")).refused(&["decompress it first"]);
    replay_stdin(&["--json"], b"").refused(&["standard input", "is empty"]);
}

#[test]
fn a_compressed_capture_is_the_same() {
    let folder = Folder::new();
    let bytes = pcap(&ordinary_and_scan());
    let on = |path: &Path| Replayed::of(&leuko(&["replay", "--json"], &[path]).output().unwrap()).succeeded();
    let plain = on(&folder.file("plain.pcap", &bytes)).stdout;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &bytes).unwrap();
    assert_eq!(on(&folder.file("small.pcap.gz", gzip.finish().unwrap())).stdout, plain);
    assert_eq!(on(&folder.file("misnamed", zstd::encode_all(&bytes[..], 1).unwrap())).stdout, plain);
}

fn regular_calls() -> String {
    let mut log = "#separator \\x09\n#path\tconn\n#fields\tts\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\t\
                   duration\torig_bytes\tresp_bytes\tconn_state\thistory\torig_pkts\torig_ip_bytes\tresp_pkts\tresp_ip_bytes\n"
        .to_owned();
    for call in 0..40 {
        let (at, port) = (1_700_000_000 + 60 * call, 40_000 + call);
        log += &format!(
            "{at}.25\t10.0.0.5\t{port}\t198.51.100.7\t443\ttcp\t0.5\t300\t900\tSF\tShADadFf\t6\t552\t5\t1112\n"
        );
    }
    log
}

#[test]
fn a_connection_log_is_replayed_and_its_beacon_ranked() {
    let folder = Folder::new();
    let file = folder.file("conn.log", regular_calls());
    let replayed = Replayed::of(&leuko(&["replay", "--json"], &[&file]).output().unwrap()).succeeded();
    let summary = replayed.summary();
    assert_eq!((&summary["packets"], &summary["flows"], &summary["incidents"]), (&440.into(), &40.into(), &1.into()));
    let lines: Vec<Value> = replayed.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let beacon = &lines[lines.len() - 2];
    assert_eq!((&beacon["type"], &beacon["rank"], &beacon["reported"]), (&"beacon".into(), &1.into(), &true.into()));
    assert_eq!((&beacon["dst_addr"], &beacon["interval_s"]), (&"198.51.100.7".into(), &60.0.into()));
    let stdin = replay_stdin(&["--json"], &zstd::encode_all(regular_calls().as_bytes(), 1).unwrap()).succeeded();
    assert_eq!(stdin.stdout, replayed.stdout);
    let none = Replayed::of(&leuko(&["replay", "--json", "--beacons", "0"], &[&file]).output().unwrap()).succeeded();
    assert!(!none.stdout.contains("\"beacon\",\"rank"));
    let text = Replayed::of(&leuko(&["replay", "--beacons", "3"], &[&file]).output().unwrap()).succeeded();
    assert!(text.stdout.contains("10.0.0.5 > 198.51.100.7 port 443"), "{text:?}");
}

#[test]
fn a_damaged_connection_log_is_processed_up_to_the_damage() {
    let folder = Folder::new();
    let file = folder.file("conn.log", regular_calls() + "cut");
    let replayed = Replayed::of(&leuko(&["replay", "--json"], &[&file]).output().unwrap());
    assert_eq!(replayed.code, Some(1), "{replayed:?}");
    assert_eq!(replayed.summary()["flows"], 40);
    for words in ["conn.log", "line 44", "everything before it was processed"] {
        assert!(replayed.stderr.contains(words), "{words}: {replayed:?}");
    }
}

#[test]
fn the_environment_changes_nothing() {
    let folder = Folder::new();
    let file = folder.file("capture.pcap", pcap(&ordinary_and_scan()));
    let plain = Replayed::of(&leuko(&["replay", "--json"], &[&file]).output().unwrap()).succeeded();
    let mut command = leuko(&["replay", "--json"], &[&file]);
    command
        .env("LEUKO_WARMUP", "nonsense")
        .env("LEUKO_CONFIG", "/nonexistent")
        .env("LEUKO_DETECT_DISABLE", "port_scan");
    let replayed = Replayed::of(&command.output().unwrap()).succeeded();
    assert_eq!(replayed.stdout, plain.stdout);
}

#[test]
fn a_damaged_baseline_is_named() {
    let folder = Folder::new();
    let capture = folder.file("capture.pcap", pcap(&ordinary_and_scan()));
    let baseline = folder.file("baseline.leuko", "no baseline at all");
    let replayed = |baseline: &Path| {
        let files = [Path::new("--baseline"), baseline, &capture];
        Replayed::of(&leuko(&["replay", "--json"], &files).output().unwrap())
    };
    replayed(&baseline).refused(&["baseline.leuko"]);
    replayed(&folder.0.path().join("gone.leuko")).refused(&["gone.leuko", "No such file"]);
}

#[test]
fn years_of_silence_are_not_ticked_through() {
    let mut packets = ordinary_and_scan();
    for years in 1..5 {
        packets.extend(conversation(START + years * YEAR, (CLIENT, 50_000), (SERVER, 80)));
        packets.extend(scan(START + years * YEAR + HOUR, ATTACKER, SERVER, SCANNED));
    }
    for args in [&["--json"][..], &["--json", "--no-timeouts"]] {
        let begun = now();
        let replayed = replay(args, &packets).succeeded();
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(1), "{args:?} took {took:?}");
        assert_eq!(replayed.summary()["packets"], packets.len());
        assert!(replayed.summary()["duration_s"].as_f64().unwrap() > 4.0 * 365.0 * 86_400.0);
        if args.len() == 1 {
            assert_eq!(replayed.summary()["incidents"], 5);
        }
    }
}

#[test]
fn a_reader_that_has_enough_ends_it_quietly() {
    let folder = Folder::new();
    // More than a pipe holds.
    let packets: Vec<Packet> = (0..2000)
        .flat_map(|n| conversation(START + u64::from(n) * 20_000, (CLIENT, 20_000 + n), (SERVER, 80)))
        .collect();
    let file = folder.file("capture.pcap", pcap(&packets));
    for args in [&["replay", "--json", "--flows"][..], &["replay", "--flows"]] {
        let mut command = leuko(args, &[&file]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(!line.is_empty());
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        assert_eq!((child.wait().unwrap().code(), stderr.as_str()), (Some(0), ""));
    }
}

#[test]
fn people_read_a_sentence() {
    let replayed = replay(&[], &ordinary_and_scan()).succeeded();
    assert!(replayed.stdout.contains(SENTENCE), "{replayed:?}");
    assert!(!replayed.stdout.contains('\u{1b}'), "no colours for a pipe: {replayed:?}");
}

#[test]
fn a_class_can_be_disabled_and_a_scanner_allowed() {
    let folder = Folder::new();
    let capture = folder.file("capture.pcap", pcap(&ordinary_and_scan()));
    let incidents = |config: &str| {
        let config = folder.file("leuko.toml", config);
        let files = [Path::new("--config"), &config, &capture];
        Replayed::of(&leuko(&["replay", "--json"], &files).output().unwrap()).succeeded().summary()["incidents"].clone()
    };
    assert_eq!(incidents(""), 1);
    assert_eq!(incidents("[detect]\ndisable = [\"port_scan\"]"), 0);
    assert_eq!(incidents("[detect]\ndisable = [\"syn_flood\"]"), 1);
    assert_eq!(incidents("[detect]\nallow = [\"10.0.0.9\"]"), 0);
    assert_eq!(incidents("[detect]\nallow = [\"10.0.0.8/31\"]"), 0);
    assert_eq!(incidents("[detect]\nallow = [\"10.0.0.5\"]"), 1);
}

#[expect(clippy::disallowed_methods, reason = "measures how long a replay takes")]
fn now() -> Instant {
    Instant::now()
}
