//! Captures with labels, through the pipeline: flows as an independent tool counted them, incidents as they happened.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test may panic, and says what it skips")]

#[path = "support/data.rs"]
mod data;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::net::IpAddr;
use std::path::Path;

use data::data;
use leuko::replay::{Output, ReplayOptions, replay};
use leuko::source::pcap::Capture;
use sensor_core::contract::{FlowLine, IncidentLine, Line, State};
use sensor_core::engine::EngineConfig;
use sensor_ebpf::packet::{SliceReader, parse_ethernet};

fn outputs(path: &Path, config: EngineConfig) -> Vec<Output> {
    let mut capture = Capture::open(path).unwrap();
    let mut outputs = Vec::new();
    let done: Result<_, ()> =
        replay(&mut capture, ReplayOptions { engine: config, ..ReplayOptions::default() }, |output| {
            outputs.push(output);
            Ok(())
        });
    done.unwrap();
    assert_eq!(capture.damage().map(ToString::to_string), None, "{}", path.display());
    outputs
}

/// Both directions of a 5-tuple, without who began: (lower endpoint, higher endpoint, protocol).
type Pair = ((IpAddr, u16), (IpAddr, u16), u8);
/// Packets and octets, from the lower endpoint and from the higher.
type Volume = [(u64, u64); 2];

fn undirected(src: (IpAddr, u16), dst: (IpAddr, u16), proto: u8, sent: (u64, u64), back: (u64, u64)) -> (Pair, Volume) {
    if src <= dst { ((src, dst, proto), [sent, back]) } else { ((dst, src, proto), [back, sent]) }
}

fn labelled_flows(data: &Path) -> BTreeMap<String, BTreeMap<Pair, Volume>> {
    let mut text = String::new();
    let file = std::fs::File::open(data.join("labels/flow_labels.csv.gz")).unwrap();
    flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap();
    let mut rows = csv::Reader::from_reader(text.as_bytes());
    let mut flows: BTreeMap<String, BTreeMap<Pair, Volume>> = BTreeMap::new();
    for row in rows.records().map(Result::unwrap) {
        let number = |index: usize| row[index].parse::<u64>().unwrap();
        let (Ok(src), Ok(dst), Ok(proto)) = (row[3].parse(), row[5].parse(), row[7].parse::<u8>()) else {
            continue;
        };
        if !matches!(proto, 6 | 17) {
            continue;
        }
        let port = |index: usize| u16::try_from(number(index)).unwrap();
        let (pair, volume) =
            undirected((src, port(4)), (dst, port(6)), proto, (number(8), number(10)), (number(9), number(11)));
        flows.entry(row[0].to_owned()).or_default().insert(pair, volume);
    }
    flows
}

/// Two hosts and a protocol.
fn hosts(pair: &Pair) -> (IpAddr, IpAddr, u8) {
    (pair.0.0.min(pair.1.0), pair.0.0.max(pair.1.0), pair.2)
}

/// Later fragments have no ports: labelled by the hosts, counted to the flow of the first. Between hosts of which there
/// are such, flows are added up.
fn add_up_fragmented(
    flows: BTreeMap<Pair, Volume>,
    fragmented: &BTreeSet<(IpAddr, IpAddr, u8)>,
) -> BTreeMap<Pair, Volume> {
    let mut sums: BTreeMap<Pair, Volume> = BTreeMap::new();
    for (pair, volume) in flows {
        let ((lo, _), (hi, _), proto) = pair;
        let pair = if fragmented.contains(&hosts(&pair)) { ((lo, 0), (hi, 0), proto) } else { pair };
        for (sum, part) in sums.entry(pair).or_default().iter_mut().zip(volume) {
            *sum = (sum.0 + part.0, sum.1 + part.1);
        }
    }
    sums
}

/// Octets of Ethernet frames whose IPv4 total length is zero: the sender's card was to cut them up (TSO), and the labels
/// count the header's zero where Leuko counts the frame.
fn octets_of_unlabelled_length(path: &Path) -> BTreeMap<Pair, [u64; 2]> {
    let mut capture = Capture::open(path).unwrap();
    let mut octets: BTreeMap<Pair, [u64; 2]> = BTreeMap::new();
    while let Some(frame) = capture.next_frame() {
        let reader = SliceReader { data: frame.data, wire_len: frame.wire_len };
        if frame.data.get(12..14) != Some(&[8, 0]) || frame.data.get(16..18) != Some(&[0, 0]) {
            continue;
        }
        if let Ok(packet) = parse_ethernet(&reader, 0) {
            let (src, dst) = ((packet.src.into(), packet.src_port), (packet.dst.into(), packet.dst_port));
            let (pair, volume) = undirected(src, dst, packet.proto, (1, packet.ip_octets.into()), (0, 0));
            let sums = octets.entry(pair).or_default();
            sums[0] += volume[0].1;
            sums[1] += volume[1].1;
        }
    }
    octets
}

#[test]
fn flows_equal_the_labels() {
    let Some(data) = data() else {
        return;
    };
    let mut compared = 0;
    let mut unequal = Vec::new();
    for (file, mut labelled) in labelled_flows(&data) {
        for (pair, missing) in octets_of_unlabelled_length(&data.join(&file)) {
            for (volume, missing) in labelled.get_mut(&pair).unwrap().iter_mut().zip(missing) {
                volume.1 += missing;
            }
        }
        let config = EngineConfig { timeouts: None, keep_records: true, ..EngineConfig::default() };
        let lines: Vec<FlowLine> = outputs(&data.join(&file), config)
            .iter()
            .filter_map(|output| match output.line() {
                Some(Line::Flow(flow)) => Some(flow),
                _ => None,
            })
            .collect();
        let counted: BTreeMap<Pair, Volume> = lines
            .iter()
            .filter(|line| matches!(line.proto, 6 | 17))
            .map(|line| {
                undirected(
                    (line.src_addr, line.src_port),
                    (line.dst_addr, line.dst_port),
                    line.proto,
                    (line.fwd_packets, line.fwd_ip_octets),
                    (line.rev_packets, line.rev_ip_octets),
                )
            })
            .collect();
        let portless = labelled.keys().chain(counted.keys()).filter(|pair| pair.0.1 == 0 && pair.1.1 == 0);
        let fragmented = portless.map(hosts).collect();
        let (labelled, counted) = (add_up_fragmented(labelled, &fragmented), add_up_fragmented(counted, &fragmented));
        for pair in labelled.keys().chain(counted.keys()).collect::<BTreeSet<_>>() {
            compared += 1;
            if labelled.get(pair) != counted.get(pair) {
                unequal.push(format!(
                    "{file} {pair:?}: label {:?}, counted {:?}",
                    labelled.get(pair),
                    counted.get(pair)
                ));
            }
        }
    }
    eprintln!("{compared} flows compared");
    assert!(compared > 100_000, "only {compared} flows compared");
    assert!(unequal.is_empty(), "{} unequal:\n{}", unequal.len(), unequal[..unequal.len().min(40)].join("\n"));
}

#[test]
fn the_attacks_of_the_mixed_capture_are_found_and_hardly_anything_else() {
    let Some(data) = data() else {
        return;
    };
    let opened: Vec<IncidentLine> = outputs(&data.join("pcaps/mixed/mixed_dev.pcap"), EngineConfig::default())
        .iter()
        .filter_map(|output| match output.line() {
            Some(Line::Incident(incident)) if incident.state == State::Open => Some(incident),
            _ => None,
        })
        .collect();
    // Class, attacker ("" for forged sources, "many" for real ones), victim, beginning and latest acceptable detection, from the event list.
    let attacks = [
        ("port_scan", "192.168.1.10", "192.168.1.25", 1_750_000_600.0, 1_750_000_604.0),
        ("host_scan", "10.0.0.128", "10.0.0.9", 1_750_000_850.0, 1_750_000_853.0),
        ("brute_force", "147.32.80.40", "147.32.80.37", 1_750_001_000.0, 1_750_001_015.0),
        ("beacon", "147.32.80.37", "141.193.213.21", 1_750_001_250.0, 1_750_001_350.0),
        ("dns_tunnel", "192.168.68.62", "192.168.68.1", 1_750_001_400.0, 1_750_001_460.0),
        ("syn_flood", "", "10.10.10.10", 1_750_002_000.0, 1_750_002_003.0),
        ("port_scan", "10.0.0.135", "10.0.0.1", 1_750_002_300.0, 1_750_002_304.0),
        ("amplification", "many", "10.10.10.10", 1_750_002_600.0, 1_750_002_603.0),
        ("syn_flood", "192.168.1.52", "192.168.1.34", 1_750_002_800.0, 1_750_002_803.0),
        ("brute_force", "10.234.125.254", "10.121.70.151", 1_750_003_000.0, 1_750_003_003.0),
        ("slow_dos", "many", "172.16.1.2", 1_750_003_300.0, 1_750_003_315.0),
        ("arp_spoof", "172.16.0.105", "172.16.0.107", 1_750_003_504.0, 1_750_003_516.0),
    ];
    for (class, attacker, victim, from, to) in attacks {
        let found = opened.iter().any(|incident| {
            let listed: Vec<String> = incident.attackers.iter().map(ToString::to_string).collect();
            incident.class == class
                && (from..=to).contains(&incident.detected_at)
                && incident.victims.contains(&victim.parse().unwrap())
                && match attacker {
                    "" => listed.is_empty(),
                    "many" => listed.len() > 1,
                    one => listed == [one],
                }
        });
        assert!(found, "{class} of {victim} by {attacker:?} between {from} and {to} not found in {opened:#?}");
    }
    assert!(opened.len() <= attacks.len() + 2, "{} incidents: {opened:#?}", opened.len());
}

#[test]
fn the_same_file_gives_the_same_lines() {
    let Some(data) = data() else {
        return;
    };
    let lines = || -> Vec<String> {
        let config = EngineConfig { keep_records: true, ..EngineConfig::default() };
        let outputs = outputs(&data.join("pcaps/mixed/mixed_dev.pcap"), config);
        outputs.iter().filter_map(|output| serde_json::to_string(&output.line()?).ok()).collect()
    };
    assert_eq!(lines(), lines());
}
