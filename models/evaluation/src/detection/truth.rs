//! What is known of the captures: whose attack it is, on whom, from when, and by which names it may be called.
//!
//! The first malicious frame of a capture is the first packet of the earliest flow (or ARP conversation) all of whose
//! frames are malicious by `flow_labels.csv.gz`; where there is none, because a flow began before the attack used it, of
//! the earliest flow with any malicious frame.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use sensor_core::time::Timestamp;
use sensor_models::labels::class_of;
use serde::{Deserialize, Serialize};

use crate::captures::LABELS as FLOW_LABELS;
use crate::detection::observe::Seen;

/// Labels of captures, below the data folder.
pub const CAPTURE_LABELS: &str = "labels/pcap_labels.csv";
/// Events of the mixed capture, below the data folder.
pub const EVENTS: &str = "labels/mixed_dev_events.csv";

/// Labels whose attacks have several honest names, with all of them. Every other label has the one of
/// [`class_of`].
///
/// Probes of many ports of several hosts are either scan. Zerologon is one password guessed again and again, at the
/// administration of another host. A remote control that is used beacons. What the counters of flows cannot tell is only
/// ever an anomaly.
const NAMES: [(&str, &[&str]); 7] = [
    ("scan_", &["port_scan", "host_scan"]),
    ("exploit_zerologon", &["brute_force", "lateral_movement"]),
    ("lateral_c2", &["lateral_movement", "beacon", "anomaly"]),
    ("malware_c2", &["beacon", "anomaly"]),
    ("c2_rat", &["beacon", "anomaly"]),
    ("cryptomining", &["beacon", "anomaly"]),
    ("web_sqli", &["anomaly"]),
];

/// Labels of attacks that counters of flows cannot honestly show: a few ordinary connections whose content is the attack.
/// They are measured, and counted apart.
const APART: [&str; 5] = ["web_sqli", "lateral_c2", "malware_c2", "c2_rat", "cryptomining"];

/// Beginnings of the labels of attacks that make themselves known at once: scans, floods and guessed passwords.
const LOUD: [&str; 4] = ["scan_", "dos_", "ddos_", "bruteforce_"];

/// One capture of `pcap_labels.csv`.
#[derive(Clone, Debug, PartialEq)]
pub struct Labelled {
    /// File below the data folder.
    pub file: String,
    /// Label of the attack, or a kind of benign traffic.
    pub label: String,
    /// The attack, if there is one.
    pub attack: Option<Attack>,
    /// Whether what is not of the attack is known to be benign.
    pub rest_is_benign: bool,
}

/// An attack as it is labelled.
#[derive(Clone, Debug, PartialEq)]
pub struct Attack {
    /// Its label.
    pub label: String,
    /// Who attacks.
    pub attackers: Hosts,
    /// Who is attacked.
    pub victims: Hosts,
    /// Of its first malicious frame.
    pub first: Timestamp,
    /// Of its last malicious frame, if that is known.
    pub last: Option<Timestamp>,
    /// Addresses at either end of its flows.
    pub ends: BTreeSet<IpAddr>,
    /// Addresses that its ARP messages claim.
    pub arp_senders: BTreeSet<IpAddr>,
}

/// Hosts as people write them down.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hosts {
    /// Address and prefix length of each.
    pub networks: Vec<(IpAddr, u8)>,
    /// Hardware addresses, in lower case.
    pub macs: Vec<String>,
    /// Whether it only says in words who else there is.
    pub unlisted: bool,
}

/// Which of the labelled hosts an incident names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Named {
    /// An attacker as one.
    pub attacker: bool,
    /// A victim as one.
    pub victim: bool,
}

impl Attack {
    /// Classes by which the attack may be called, the best first.
    #[must_use]
    pub fn classes(&self) -> Vec<&'static str> {
        let best = class_of(&self.label);
        let Some((_, names)) = NAMES.iter().find(|(label, _)| self.label.starts_with(label)) else { return vec![best] };
        let mut names = names.to_vec();
        names.sort_by_key(|name| *name != best);
        names
    }

    /// Whether counters of flows can show it.
    #[must_use]
    pub fn counts(&self) -> bool {
        !APART.contains(&&*self.label)
    }

    /// Whether it should be found within moments.
    #[must_use]
    pub fn is_loud(&self) -> bool {
        LOUD.iter().any(|begin| self.label.starts_with(begin))
    }

    /// Whether an incident is of a class by which the attack may be called.
    #[must_use]
    pub fn is_class_of(&self, seen: &Seen) -> bool {
        self.classes().contains(&&*seen.class)
    }

    /// Whether an incident names a labelled host, in whichever role.
    #[must_use]
    pub fn involves(&self, seen: &Seen) -> bool {
        let all_in_words = self.attackers.is_in_words() && self.victims.is_in_words();
        seen.hosts().any(|host| {
            self.attackers.contain(host)
                || self.victims.contain(host)
                || (all_in_words && self.ends.contains(&host))
                || (!self.attackers.macs.is_empty() && self.arp_senders.contains(&host))
        })
    }

    /// Which hosts an incident names rightly. Whether an infected host attacks or is the victim of who controls it is a
    /// matter of view, and labels have it both ways: for beacons either will do.
    #[must_use]
    pub fn named_by(&self, seen: &Seen) -> Named {
        let (attackers, victims) = (&seen.attackers, &seen.victims);
        let attacker = |named: &[IpAddr]| self.names_attacker(named, seen);
        let victim = |named: &[IpAddr]| self.names(&self.victims, &self.attackers, named);
        let straight = Named { attacker: attacker(attackers), victim: victim(victims) };
        if seen.class != "beacon" || (straight.attacker && straight.victim) {
            return straight;
        }
        let turned = Named { attacker: attacker(victims), victim: victim(attackers) };
        if turned.attacker && turned.victim { turned } else { straight }
    }

    /// A station is known by its hardware address, or by an address it claims. Nobody is named rightly where sources are
    /// many and only told in words, since they are forged or mere reflectors.
    fn names_attacker(&self, named: &[IpAddr], seen: &Seen) -> bool {
        let by_mac = self.attackers.macs.iter().any(|mac| seen.evidence.contains(mac));
        let by_claim = !self.attackers.macs.is_empty() && named.iter().any(|host| self.arp_senders.contains(host));
        let nobody = named.is_empty() && self.attackers.unlisted;
        by_mac || by_claim || nobody || self.names(&self.attackers, &self.victims, named)
    }

    /// Whether `named` has one of `hosts`; of hosts that are told in words, whether all of them are ends of the attack.
    fn names(&self, hosts: &Hosts, others: &Hosts, named: &[IpAddr]) -> bool {
        named.iter().any(|host| hosts.contain(*host))
            || (hosts.unlisted
                && !named.is_empty()
                && named.iter().all(|host| self.ends.contains(host) && !others.contain(*host)))
    }
}

impl Hosts {
    /// Reads what people write: addresses, with ports or as networks, hardware addresses, and remarks in brackets, of
    /// which only an address that is claimed matters.
    ///
    /// # Errors
    /// A word that is none of these.
    pub fn parse(text: &str) -> Result<Self> {
        let mut hosts = Self::default();
        for (at, part) in text.split(['(', ')']).enumerate() {
            let remark = at % 2 == 1;
            if remark && let Some(claimed) = part.strip_prefix("claims ") {
                hosts.add(claimed)?;
            }
            if !remark {
                let mut words = part.split([',', '+']).map(str::trim).filter(|word| !word.is_empty());
                words.try_for_each(|word| hosts.add(word))?;
            }
        }
        hosts.unlisted = text.trim_start().starts_with('(');
        Ok(hosts)
    }

    fn add(&mut self, word: &str) -> Result<()> {
        if let Some(mac) = word.strip_prefix("MAC ") {
            self.macs.push(mac.trim().to_ascii_lowercase());
            return Ok(());
        }
        let network = word.split_once('/').and_then(|(addr, length)| Some((addr.parse().ok()?, length.parse().ok()?)));
        let alone = || word.parse().ok().or_else(|| Some(word.parse::<SocketAddr>().ok()?.ip()));
        let whole = |addr: IpAddr| (addr, if addr.is_ipv4() { 32 } else { 128 });
        self.networks.push(network.or_else(|| alone().map(whole)).with_context(|| format!("host {word:?}"))?);
        Ok(())
    }

    /// Whether `host` is one of those listed.
    #[must_use]
    pub fn contain(&self, host: IpAddr) -> bool {
        self.networks.iter().any(|(network, length)| match (network, host) {
            (IpAddr::V4(network), IpAddr::V4(host)) => {
                let apart = network.to_bits() ^ host.to_bits();
                apart.leading_zeros() >= u32::from(*length)
            }
            (IpAddr::V6(network), IpAddr::V6(host)) => {
                let apart = network.to_bits() ^ host.to_bits();
                apart.leading_zeros() >= u32::from(*length)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        })
    }

    fn is_in_words(&self) -> bool {
        self.unlisted && self.networks.is_empty()
    }
}

/// The labelled captures, in the order of the file.
///
/// # Errors
/// Labels that are missing or damaged.
pub fn captures(data: &Path) -> Result<Vec<Labelled>> {
    let flows = flow_truths(data)?;
    read(data, CAPTURE_LABELS, |csv| read_captures(csv, &flows))
}

/// The attacks of the mixed capture, in order of time.
///
/// # Errors
/// Labels that are missing or damaged.
pub fn events(data: &Path) -> Result<Vec<Attack>> {
    let flows = flow_truths(data)?;
    read(data, EVENTS, |csv| read_events(csv, &flows))
}

/// Reads a file below `data`; says where the data is to be.
pub(super) fn read<T>(data: &Path, file: &str, parse: impl FnOnce(File) -> Result<T>) -> Result<T> {
    let path = data.join(file);
    let open = File::open(&path)
        .with_context(|| format!("open {} (say where the data is by --data or LEUKO_DATA)", path.display()))?;
    parse(open).with_context(|| format!("read {}", path.display()))
}

/// A time in seconds since the epoch, to the last digit.
pub(super) fn time(text: &str) -> Result<Timestamp> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    ensure!(fraction.len() <= 9, "time {text:?}: more than nanoseconds");
    let parse = |digits: &str| digits.parse::<u64>().with_context(|| format!("time {text:?}"));
    let seconds = parse(seconds)?.checked_mul(1_000_000_000).with_context(|| format!("time {text:?}: too late"))?;
    Ok(Timestamp::from_nanos(seconds + parse(&format!("{fraction:0<9}"))?))
}

/// What the labelled flows of a capture tell of its attack.
#[derive(Clone, Debug, Default)]
struct FlowTruth {
    /// First packet of a flow that is all malicious, and of one that has a malicious frame.
    whole: Option<Timestamp>,
    part: Option<Timestamp>,
    ends: BTreeSet<IpAddr>,
    arp_senders: BTreeSet<IpAddr>,
}

#[derive(Deserialize)]
struct FlowRow {
    file: String,
    first_ts: String,
    src: String,
    dst: String,
    proto: String,
    pkts_fwd: u64,
    pkts_rev: u64,
    malicious_frames: u64,
    label: String,
}

fn flow_truths(data: &Path) -> Result<BTreeMap<String, FlowTruth>> {
    read(data, FLOW_LABELS, |file| read_flows(flate2::read::GzDecoder::new(file)))
}

fn read_flows(csv: impl Read) -> Result<BTreeMap<String, FlowTruth>> {
    let mut truths: BTreeMap<String, FlowTruth> = BTreeMap::new();
    for row in csv::Reader::from_reader(csv).deserialize() {
        let row: FlowRow = row?;
        if row.label != "malicious" {
            continue;
        }
        let first = Some(time(&row.first_ts)?);
        let truth = truths.entry(row.file).or_default();
        let earlier = |known: Option<Timestamp>| known.into_iter().chain(first).min();
        truth.part = earlier(truth.part);
        if row.malicious_frames == row.pkts_fwd + row.pkts_rev {
            truth.whole = earlier(truth.whole);
        }
        truth.ends.extend([&row.src, &row.dst].into_iter().filter_map(|end| end.parse::<IpAddr>().ok()));
        if row.proto == "arp" {
            truth.arp_senders.extend(row.src.parse::<IpAddr>().ok());
        }
    }
    Ok(truths)
}

#[derive(Deserialize)]
struct CaptureRow {
    file: String,
    class: String,
    attackers: String,
    victims: String,
    rest_label: String,
}

fn read_captures(csv: impl Read, flows: &BTreeMap<String, FlowTruth>) -> Result<Vec<Labelled>> {
    let mut captures = Vec::new();
    for row in csv::Reader::from_reader(csv).deserialize() {
        let row: CaptureRow = row?;
        let attack = match flows.get(&row.file) {
            Some(truth) if !row.attackers.is_empty() => {
                let first = truth.whole.or(truth.part).with_context(|| format!("{}: no malicious flow", row.file))?;
                Some(attack(&row.class, [&row.attackers, &row.victims], (first, None), truth)?)
            }
            _ => None,
        };
        let rest_is_benign = row.rest_label == "benign";
        captures.push(Labelled { file: row.file, label: row.class, attack, rest_is_benign });
    }
    Ok(captures)
}

#[derive(Deserialize)]
struct EventRow {
    file: String,
    class_: String,
    first_malicious: String,
    last_malicious: String,
    attackers: String,
    victims: String,
}

fn read_events(csv: impl Read, flows: &BTreeMap<String, FlowTruth>) -> Result<Vec<Attack>> {
    let mut events = Vec::new();
    for row in csv::Reader::from_reader(csv).deserialize() {
        let row: EventRow = row?;
        if row.first_malicious.is_empty() {
            continue;
        }
        let span = (time(&row.first_malicious)?, Some(time(&row.last_malicious)?));
        let truth = flows.get(&row.file).cloned().unwrap_or_default();
        events.push(attack(&row.class_, [&row.attackers, &row.victims], span, &truth)?);
    }
    Ok(events)
}

fn attack(
    label: &str,
    hosts: [&str; 2],
    (first, last): (Timestamp, Option<Timestamp>),
    truth: &FlowTruth,
) -> Result<Attack> {
    let [attackers, victims] = hosts.map(Hosts::parse);
    Ok(Attack {
        label: label.to_owned(),
        attackers: attackers?,
        victims: victims?,
        first,
        last,
        ends: truth.ends.clone(),
        arp_senders: truth.arp_senders.clone(),
    })
}

#[cfg(test)]
mod tests;
