//! Thousands of odd, damaged and hostile captures: read without a panic, and decoded as an independent tool decodes them.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test may panic, and says what it skips")]

#[path = "support/data.rs"]
mod data;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Read as _};
use std::path::{Path, PathBuf};

use data::data;
use leuko::replay::{Output, ReplayOptions, replay};
use leuko::source::pcap::{Capture, NetworkLayer};
use sensor_core::engine::EngineConfig;
use sensor_ebpf::abi::Reason;
use sensor_ebpf::packet::{Packet, SliceReader, parse_ethernet, parse_network, proto};

fn members(archive: &Path) -> BTreeMap<String, Vec<u8>> {
    let decoder = zstd::Decoder::new(fs::File::open(archive).unwrap()).unwrap();
    let mut tar = tar::Archive::new(decoder);
    let mut members = BTreeMap::new();
    for entry in tar.entries().unwrap() {
        let mut entry = entry.unwrap();
        if entry.header().entry_type().is_file() {
            // The index names members without the archive's own folder.
            let name = entry.path().unwrap().iter().skip(1).collect::<PathBuf>().to_string_lossy().into_owned();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            members.insert(name, bytes);
        }
    }
    members
}

/// Frames by protocol, as the index has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Decoded {
    frames: u64,
    tcp: u64,
    udp: u64,
    icmp: u64,
    icmpv6: u64,
    sctp: u64,
}

impl Decoded {
    fn protocols(&self) -> [u64; 5] {
        [self.tcp, self.udp, self.icmp, self.icmpv6, self.sctp]
    }
}

/// Frames whose inside the index decodes and Leuko does not look at: link types it does not know, tunnels (GRE, IP in IP,
/// PPPoE, MPLS, MACsec, PIM, UDP encapsulations), packets quoted in ICMP errors, and later fragments put together.
fn is_opaque(parsed: Result<Packet, Reason>) -> bool {
    const ENCAPSULATIONS: [u16; 5] = [2152, 4789, 6081, 6343, 6635];
    match parsed {
        Err(reason) => reason != Reason::Arp,
        Ok(packet) if packet.is_later_fragment() => true,
        Ok(packet) => match packet.proto {
            proto::TCP | proto::SCTP => false,
            proto::UDP => [packet.src_port, packet.dst_port].iter().any(|port| ENCAPSULATIONS.contains(port)),
            // Type and code: echo and its reply quote nothing, whatever else may.
            proto::ICMP => !matches!(packet.window >> 8, 0 | 8),
            proto::ICMPV6 => packet.window >> 8 < 128,
            _ => true,
        },
    }
}

/// Differences that no rule explains, one by one.
const EXCEPTIONS: [(&str, &str); 3] = [
    ("tests/icmp6-rfc8335.pcap", "the other tool counts the interface object of an ICMPv6 extended echo as ICMP"),
    ("tests/LINKTYPE_IPV6_invalid.pcap", "raw IPv4 in a capture that says IPv6: decoded by its version here"),
    ("tests/of13_ericsson.pcapng", "UDP packets carried inside OpenFlow over TCP"),
];

fn index(path: &Path) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut rows = csv::ReaderBuilder::new().delimiter(b'\t').quoting(false).from_path(path).unwrap();
    let header = rows.headers().unwrap().clone();
    rows.records()
        .map(|row| {
            let row = row.unwrap();
            let named = header.iter().zip(row.iter()).map(|(name, value)| (name.to_owned(), value.to_owned()));
            (row[0].to_owned(), named.collect())
        })
        .collect()
}

/// What Leuko decodes, and how many frames are opaque to it.
fn decode(bytes: &[u8]) -> Option<(Decoded, u64)> {
    let mut capture = Capture::stream(Cursor::new(bytes.to_vec())).ok()?;
    let mut decoded = Decoded::default();
    let mut opaque = 0;
    while let Some(frame) = capture.next_frame() {
        decoded.frames += 1;
        let reader = SliceReader { data: frame.data, wire_len: frame.wire_len };
        let parsed = match frame.network_layer() {
            NetworkLayer::Ethernet => parse_ethernet(&reader, 0),
            NetworkLayer::At { ethertype, offset } => parse_network(&reader, ethertype, offset, 0),
            NetworkLayer::Unknown | NetworkLayer::Truncated => Err(Reason::LinkType),
        };
        opaque += u64::from(is_opaque(parsed));
        let Ok(packet) = parsed else {
            continue;
        };
        if packet.is_later_fragment() {
            continue;
        }
        match packet.proto {
            proto::TCP => decoded.tcp += 1,
            proto::UDP => decoded.udp += 1,
            proto::ICMP => decoded.icmp += 1,
            proto::ICMPV6 => decoded.icmpv6 += 1,
            proto::SCTP => decoded.sctp += 1,
            _ => {}
        }
    }
    Some((decoded, opaque))
}

#[test]
fn every_capture_is_replayed_without_a_panic() {
    let Some(data) = data() else {
        return;
    };
    let mut replayed = 0;
    for archive in ["arkime_pcaps", "esnet_tcp_flags_exhaustive", "tcpdump_tests"] {
        for (name, bytes) in members(&data.join(format!("robustness/{archive}.tar.zst"))) {
            let Ok(mut capture) = Capture::stream(Cursor::new(bytes)) else {
                continue;
            };
            let mut summary = None;
            let config = EngineConfig { keep_records: true, ..EngineConfig::default() };
            let counters =
                replay(&mut capture, ReplayOptions { engine: config, ..ReplayOptions::default() }, |output| {
                    if let Output::Summary(line) = output {
                        summary = Some(line);
                    }
                    Ok::<(), ()>(())
                })
                .unwrap();
            let summary = summary.expect("a replay ends with a summary");
            assert_eq!(summary.packets, capture.packets(), "{archive} {name}");
            assert_eq!(counters.packets, capture.packets(), "{archive} {name}");
            replayed += 1;
        }
    }
    assert!(replayed > 4_500, "only {replayed} captures replayed");
}

#[test]
fn protocol_counts_agree_with_the_index() {
    let Some(data) = data() else {
        return;
    };
    let mut compared = 0;
    let mut unexplained = Vec::new();
    for archive in ["arkime_pcaps", "tcpdump_tests"] {
        let index = index(&data.join(format!("robustness/{archive}.index.tsv")));
        for (name, bytes) in members(&data.join(format!("robustness/{archive}.tar.zst"))) {
            let (Some(row), Some((ours, opaque))) = (index.get(&name), decode(&bytes)) else {
                continue;
            };
            let number = |column: &str| row[column].parse::<u64>().unwrap_or(0);
            let theirs = Decoded {
                frames: number("frames"),
                tcp: number("tcp"),
                udp: number("udp"),
                icmp: number("icmp"),
                icmpv6: number("icmpv6"),
                sctp: number("sctp"),
            };
            compared += 1;
            // The other tool reads no frame of a link type it does not know.
            let refused = theirs.frames == 0 && ours.protocols() == [0; 5];
            let inside = ours.frames == theirs.frames
                && ours
                    .protocols()
                    .iter()
                    .zip(theirs.protocols())
                    .all(|(&ours, theirs)| ours == theirs || (ours < theirs && theirs - ours <= opaque));
            if !refused && !inside && !EXCEPTIONS.iter().any(|(exception, _)| *exception == name) {
                unexplained.push(format!("{archive} {name}: opaque {opaque}, ours {ours:?}, theirs {theirs:?}"));
            }
        }
    }
    assert!(compared > 500, "only {compared} captures compared");
    assert!(unexplained.is_empty(), "{} of {compared} differ:\n{}", unexplained.len(), unexplained.join("\n"));
}
