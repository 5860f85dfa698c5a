//! `leuko train` and `leuko replay --export` as they are typed: the built binary on tables and captures made here.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test may panic, and says what it skips")]

#[path = "support/capture.rs"]
mod capture;
#[path = "support/data.rs"]
mod data;

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sensor_core::features::flow::COLUMNS;
use sensor_models::{Baseline, Classifier};
use serde_json::{Value, json};
use tempfile::TempDir;

use capture::{Packet, conversation, pcap, scan};

/// 2025-06-15, in microseconds.
const START: u64 = 1_750_000_000_000_000;
const SECOND: u64 = 1_000_000;

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);
const ATTACKER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
const CONVERSATIONS: u16 = 200;
const SCANNED: u16 = 120;

/// Questions of many sizes, each answered, among conversations, and a scan.
fn ordinary_and_scan() -> Vec<Packet> {
    let mut packets = Vec::new();
    for n in 0..CONVERSATIONS {
        let at = START + u64::from(n) * SECOND / 2;
        let (client, server) = ((CLIENT, 20_000 + n), (SERVER, 53));
        packets.push(Packet::udp(at, client, server, 30 + usize::from(n) % 90));
        packets.push(Packet::udp(at + 700 + u64::from(n), server, client, 60 + usize::from(n) % 70));
    }
    packets.extend(scan(START + 40 * SECOND + 250_000, ATTACKER, SERVER, SCANNED));
    packets.extend(conversation(START + 60 * SECOND + 300_000, (CLIENT, 50_100), (SERVER, 80)));
    packets.sort_by_key(|packet| packet.at);
    packets
}

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        fs::write(self.path(name), bytes).unwrap();
        self.path(name)
    }

    /// What is in it, sorted.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

#[derive(Debug)]
struct Done {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Done {
    #[track_caller]
    fn succeeded(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    #[track_caller]
    fn refused(&self, words: &[&str]) {
        assert!(self.code.is_some_and(|code| code > 0) && self.stdout.is_empty(), "{self:?}");
        for word in words {
            assert!(self.stderr.contains(word), "{word}: {self:?}");
        }
    }
}

fn leuko(args: &[&str], files: &[&Path]) -> Done {
    let mut command = Command::new(env!("CARGO_BIN_EXE_leuko"));
    let output = command.args(args).args(files).stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    Done { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

/// `leuko train` into model.leuko of the folder.
fn train(folder: &Folder, args: &[&str], inputs: &[&Path]) -> Done {
    let model = folder.path("model.leuko");
    leuko(&[&["-q", "train", "--output", model.to_str().unwrap()], args].concat(), inputs)
}

/// A table of flows with one row for each number: normal ones alike, attacks elsewhere.
fn table(rows: u16, attacks: u16, attack_cat: &str) -> String {
    let mut text = format!("{},label,attack_cat\n", COLUMNS.join(","));
    for n in 0..rows + attacks {
        let attack = n >= rows;
        let value = |column: usize| f32::from(n % 97 + 3 * n % 31) + column as f32 + if attack { 5000.0 } else { 0.5 };
        let row: Vec<String> = (0..COLUMNS.len()).map(|column| value(column).to_string()).collect();
        let label = if attack { format!("1,{attack_cat}") } else { "0,normal".to_owned() };
        text += &format!("{},{label}\n", row.join(","));
    }
    text
}

const UNSW_HEADER: &str = "id,dur,proto,service,state,spkts,dpkts,sbytes,dbytes,rate,sttl,dttl,sload,dload,sloss,dloss,\
    sinpkt,dinpkt,sjit,djit,swin,stcpb,dtcpb,dwin,tcprtt,synack,ackdat,smean,dmean,trans_depth,response_body_len,\
    ct_srv_src,ct_state_ttl,ct_dst_ltm,ct_src_dport_ltm,ct_dst_sport_ltm,ct_dst_src_ltm,is_ftp_login,ct_ftp_cmd,\
    ct_flw_http_mthd,ct_src_ltm,ct_srv_dst,is_sm_ips_ports,attack_cat,label";

fn unsw_table(rows: u32) -> String {
    let mut text = format!("\u{feff}{UNSW_HEADER}\n");
    for n in 0..rows {
        let attack = n % 4 == 3;
        let row: Vec<String> = UNSW_HEADER
            .split(',')
            .map(|name| match name {
                "proto" => "tcp".to_owned(),
                "service" | "state" => "-".to_owned(),
                "attack_cat" => if attack { "Reconnaissance" } else { "Normal" }.to_owned(),
                "label" => u8::from(attack).to_string(),
                _ => (f64::from(n * 7 % 89) / 3.0 + if attack { 900.0 } else { 0.0 }).to_string(),
            })
            .collect();
        text += &format!("{}\n", row.join(","));
    }
    text
}

fn read_csv(path: &Path) -> (csv::StringRecord, Vec<csv::StringRecord>) {
    let mut reader = csv::Reader::from_path(path).unwrap();
    let header = reader.headers().unwrap().clone();
    (header, reader.records().map(Result::unwrap).collect())
}

#[test]
fn an_export_has_every_flow_and_says_which_were_part_of_an_incident() {
    let folder = Folder::new();
    let packets = ordinary_and_scan();
    let capture = folder.file("capture.pcap", pcap(&packets));
    let table = folder.path("flows.csv");
    let args = ["-q", "replay", "--json", "--export", table.to_str().unwrap()];
    let replayed = leuko(&args, &[&capture]).succeeded();
    let plain = leuko(&["-q", "replay", "--json"], &[&capture]).succeeded();
    assert_eq!(replayed.stdout, plain.stdout, "an export changes nothing that is printed");
    let (header, rows) = read_csv(&table);
    let columns: Vec<&str> = header.iter().collect();
    assert_eq!(columns[..3], ["src_addr", "src_port", "dst_addr"]);
    assert_eq!(columns[8..27], COLUMNS);
    assert_eq!(columns[27..], ["label", "attack_cat"]);
    assert_eq!(rows.len(), usize::from(CONVERSATIONS + SCANNED) + 1);
    for row in &rows {
        let scanned = row[0] == *ATTACKER.to_string();
        assert_eq!((&row[27], &row[28]), if scanned { ("1", "port_scan") } else { ("0", "normal") }, "{row:?}");
    }
    let octets = rows.iter().flat_map(|row| [11, 12].map(|at| row[at].parse::<u64>().unwrap())).sum::<u64>();
    assert_eq!(octets, packets.iter().map(Packet::ip_octets).sum::<u64>());
    let asked = rows.iter().find(|row| row[1] == *"20000").unwrap();
    assert_eq!(&asked[5], "1750000000");
    assert_eq!((&asked[9], &asked[11]), ("1", "58"), "packets and octets there");
    assert_eq!(folder.names(), ["capture.pcap", "flows.csv"], "nothing is left behind");
}

#[test]
fn an_export_that_cannot_be_written_is_refused_before_anything_is_read() {
    let folder = Folder::new();
    let capture = folder.file("capture.pcap", pcap(&ordinary_and_scan()));
    let nowhere = folder.path("no/flows.csv");
    let args = ["-q", "replay", "--export", nowhere.to_str().unwrap()];
    leuko(&args, &[&capture]).refused(&["export the flows", "there is no folder", "make it"]);
}

#[test]
fn a_capture_and_its_export_teach_the_same() {
    let folder = Folder::new();
    let capture = folder.file("capture.pcap", pcap(&ordinary_and_scan()));
    let table = folder.path("flows.csv");
    leuko(&["-q", "replay", "--export", table.to_str().unwrap()], &[&capture]).succeeded();
    let trained = train(&folder, &["--json", "--models", "isolation_forest=1"], &[&capture]).succeeded();
    let of_capture = fs::read(folder.path("model.leuko")).unwrap();
    train(&folder, &["--json", "--models", "isolation_forest=1"], &[&table]).succeeded();
    assert_eq!(fs::read(folder.path("model.leuko")).unwrap(), of_capture);

    let said: Value = serde_json::from_str(&trained.stdout).unwrap();
    assert_eq!(said["type"], "trained");
    assert_eq!(said["usable_by_run"], json!(true));
    assert_eq!(said["normal_rows"], usize::from(CONVERSATIONS) + 1);
    assert_eq!(said["attack_rows"], SCANNED, "flows of incidents are not learned");
    let baseline = Baseline::from_bytes(&of_capture).unwrap();
    baseline.expect_schema(&COLUMNS).unwrap();
    assert_eq!(baseline.training().trained_at_s, 1_750_000_099, "of the latest flow");
    assert!(baseline.metrics()["auc"] > 0.9, "{:?}", baseline.metrics());
    let model = folder.path("model.leuko");
    let args = ["-q", "replay", "--warmup", "0s", "--baseline", model.to_str().unwrap()];
    leuko(&args, &[&capture]).succeeded();
}

#[test]
fn the_card_says_what_a_reader_must_know() {
    let folder = Folder::new();
    let flows = folder.file("flows.csv", table(300, 40, "port_scan"));
    let trained = train(&folder, &["--seed", "7", "--contamination", "0.01"], &[&flows]).succeeded();
    assert!(trained.stdout.contains("300 rows of normal traffic, 40 of attacks"), "{trained:?}");
    let card = fs::read_to_string(folder.path("model.leuko.md")).unwrap();
    for words in [
        "| flows.csv | flows of this sensor | 340 |",
        "seed 7",
        "contamination 0.01",
        "one_class_svm=0.8,clusters=0.1,isolation_forest=0.1",
        "| `sload` | bit/s |",
        "| `auc` |",
        "leuko replay --baseline model.leuko",
        "## Limits",
    ] {
        assert!(card.contains(words), "{words}\n{card}");
    }
    let again = train(&folder, &["--seed", "7", "--contamination", "0.01"], &[&flows]).succeeded();
    assert_eq!(again.stdout, trained.stdout);
}

#[test]
fn classes_are_named_by_a_classifier_beside_the_baseline() {
    let folder = Folder::new();
    let flows = folder.file("flows.csv", table(300, 80, "scan_tcp_syn"));
    train(&folder, &["--classes", "--prior", "0.99", "--models", "clusters"], &[&flows]).succeeded();
    assert_eq!(
        folder.names(),
        ["flows.csv", "model.classes.leuko", "model.leuko", "model.leuko.md"],
        "nothing but what is said to be written"
    );
    let classifier = Classifier::from_bytes(&fs::read(folder.path("model.classes.leuko")).unwrap()).unwrap();
    assert_eq!(classifier.classes(), ["normal", "port_scan"]);
    assert!((classifier.normal_share() - 0.99).abs() < 1e-12);
    assert!(classifier.metrics()["recall_normal"] > 0.9, "{:?}", classifier.metrics());
    let normal = folder.file("normal.csv", table(300, 0, ""));
    train(&folder, &["--classes", "--models", "clusters"], &[&normal]).refused(&["--classes needs rows of attacks"]);
}

#[test]
fn a_public_table_gives_a_benchmark_that_says_so() {
    let folder = Folder::new();
    let unsw = folder.file("UNSW_NB15_training-set.csv", unsw_table(600));
    let trained = train(&folder, &["--models", "isolation_forest"], &[&unsw]).succeeded();
    assert!(trained.stdout.contains("`leuko run` cannot use it"), "{trained:?}");
    let card = fs::read_to_string(folder.path("model.leuko.md")).unwrap();
    assert!(card.contains("A benchmark only"), "{card}");
    let baseline = Baseline::from_bytes(&fs::read(folder.path("model.leuko")).unwrap()).unwrap();
    for forbidden in ["id", "sttl", "dttl", "ct_state_ttl", "stcpb", "dtcpb", "is_sm_ips_ports", "label"] {
        assert!(!baseline.schema().iter().any(|name| name == forbidden), "{forbidden}");
    }
    assert_eq!(baseline.training().trained_at_s, 0);
    let capture = folder.file("capture.pcap", pcap(&ordinary_and_scan()));
    let model = folder.path("model.leuko");
    let refused = leuko(&["-q", "replay", "--baseline", model.to_str().unwrap()], &[&capture]);
    refused.refused(&["feature columns"]);
}

#[test]
fn bad_input_is_named_and_what_was_there_stays() {
    let folder = Folder::new();
    let model = folder.file("model.leuko", "an earlier model");
    let good = table(150, 0, "");
    let lines: Vec<&str> = good.lines().collect();
    let without = |name: &str| good.replacen(&format!("{name},"), "", 1);
    let with_line = |at: usize, line: &str| [&lines[..at], &[line][..], &lines[at + 1..]].concat().join("\n");
    let replaced = |from: &str, to: &str| lines[3].replacen(from, to, 1);
    let first = lines[3].split(',').next().unwrap();
    let unsw = folder.file("unsw.csv", unsw_table(200));
    let capture = pcap(&ordinary_and_scan());
    for (name, bytes, words) in [
        ("a.csv", without("sload").into_bytes(), &["sload is missing", "there are dur, spkts"][..]),
        (
            "a.csv",
            with_line(3, &replaced(first, "many")).into_bytes(),
            &["line 4", "\"dur\"", "\"many\" is not a number"],
        ),
        ("a.csv", with_line(3, &replaced(first, "-1")).into_bytes(), &["line 4", "\"-1\" is not a number from 0"]),
        ("a.csv", with_line(3, &replaced(first, "inf")).into_bytes(), &["line 4", "\"inf\" is not a number"]),
        ("a.csv", with_line(3, "1,2").into_bytes(), &["line: 4", "2 fields"]),
        ("a.csv", good.replacen(",0,normal", ",perhaps,normal", 1).into_bytes(), &["line 2", "neither 0 nor 1"]),
        ("a.csv", format!("{}\n", lines[0]).into_bytes(), &["there are no rows"]),
        ("a.csv", table(99, 50, "port_scan").into_bytes(), &["99 rows of normal traffic", "100 are needed"]),
        ("a.csv", b"date,price\n1,2\n".to_vec(), &["neither a capture nor a table", "date, price"]),
        ("a.csv", Vec::new(), &["is empty"]),
        ("a.csv.gz", vec![0x1f, 0x8b, 8, 0, 0], &["gunzip"]),
        ("a.csv.zst", vec![0x28, 0xb5, 0x2f, 0xfd, 0], &["unzstd"]),
        ("a.pcap", capture[..10].to_vec(), &["a.pcap"]),
    ] {
        let path = folder.file(name, bytes);
        let refused = train(&folder, &[], &[&path]);
        refused.refused(words);
        refused.refused(&[name]);
    }
    let good = folder.file("good.csv", good);
    train(&folder, &[], &[&good, &unsw]).refused(&["good.csv has flows", "unsw.csv has columns of UNSW-NB15"]);
    train(&folder, &[], &[&folder.path("absent.csv")]).refused(&["absent.csv", "No such file"]);
    train(&folder, &["--contamination", "0.9"], &[&good]).refused(&["contamination 0.9"]);
    assert_eq!(fs::read(&model).unwrap(), b"an earlier model");
    assert!(!folder.names().iter().any(|name| name.ends_with(".new") || name.ends_with(".md")), "{:?}", folder.names());
}

#[test]
fn a_place_that_cannot_be_is_refused_before_anything_is_read() {
    let folder = Folder::new();
    let good = folder.file("good.csv", table(150, 0, ""));
    let nowhere = folder.path("no/model.leuko");
    let args = ["train", "--output", nowhere.to_str().unwrap()];
    leuko(&args, &[&good]).refused(&["--output", "there is no folder", "make it"]);
    leuko(&["train", "--output", good.to_str().unwrap()], &[&good]).refused(&["is an input"]);
    assert!(fs::read_to_string(&good).unwrap().starts_with("dur,"));
}

#[test]
fn a_damaged_capture_teaches_what_comes_before_the_damage() {
    let folder = Folder::new();
    let mut bytes = pcap(&ordinary_and_scan());
    bytes.truncate(bytes.len() - 5);
    let capture = folder.file("cut.pcap", bytes);
    let trained = train(&folder, &["--models", "isolation_forest"], &[&capture]);
    assert_eq!(trained.code, Some(1), "{trained:?}");
    assert!(trained.stderr.contains("cut.pcap") && trained.stderr.contains("everything before it"), "{trained:?}");
    Baseline::from_bytes(&fs::read(folder.path("model.leuko")).unwrap()).unwrap();
    let card = fs::read_to_string(folder.path("model.leuko.md")).unwrap();
    assert!(card.contains("damaged, up to the damage"), "{card}");
}

#[test]
fn what_belongs_to_another_command_is_refused_with_where_it_belongs() {
    let folder = Folder::new();
    let good = folder.file("good.csv", table(150, 0, ""));
    train(&folder, &["--alerts-per-day", "3"], &[&good]).refused(&["belongs to `leuko run`", "--contamination"]);
    leuko(&["run", "--contamination", "0.1"], &[]).refused(&["belongs to `leuko train`", "detect.alerts_per_day"]);
    let config = folder.file("leuko.toml", "[detect]\ncontamination = 0.1\n");
    let args = ["--config", config.to_str().unwrap(), "config"];
    leuko(&args, &[]).refused(&["leuko.toml:2", "detect.contamination", "belongs to `leuko train`", "alerts_per_day"]);
}

#[test]
fn a_labelled_capture_gives_a_baseline_that_tells_its_attacks() {
    let Some(data) = data::data() else {
        return;
    };
    let folder = Folder::new();
    let capture = data.join("pcaps/benign/dnstun__normal_00000_20230805150331.pcap");
    let scanned = data.join("pcaps/attack/scan_tcp_syn/evilfingers__TCP_SYN_SCAN.pcap");
    let trained = train(&folder, &["--json"], &[&capture, &scanned]).succeeded();
    let said: Value = serde_json::from_str(&trained.stdout).unwrap();
    assert!(said["attack_rows"].as_u64().unwrap() > 900, "{said}");
    assert!(said["metrics"]["auc"].as_f64().unwrap() > 0.9, "{said}");
    assert!(said["metrics"]["fpr_at_p_0_01"].as_f64().unwrap() < 0.05, "{said}");
}
