//! Flows of the labelled captures in the sensor's own columns: replayed as `leuko replay` does, labelled by 5-tuple.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use leuko::replay::{Output, ReplayOptions, replay};
use leuko::source::pcap::Capture;
use sensor_core::contract::FlowLine;
use sensor_core::engine::EngineConfig;
use sensor_core::features::flow::{FlowVector, model_input, vector};
use sensor_core::flow::FlowRecord;
use sensor_core::incident::Class;
use sensor_models::labels::{CLASSES, class_of};

/// Which flows of which capture are what, below the data folder.
pub const LABELS: &str = "labels/flow_labels.csv.gz";
/// No capture is as long, so no baseline is learned in passing.
pub(crate) const NEVER: Duration = Duration::from_secs(u32::MAX as u64);

/// Flows of all captures, those of one capture together.
#[derive(Clone, Debug, Default)]
pub struct Flows {
    /// Files below the data folder, in alphabetical order.
    pub captures: Vec<String>,
    /// Of each flow: its capture.
    pub capture: Vec<usize>,
    /// Of each flow: its class, a position in [`CLASSES`].
    pub class: Vec<u16>,
    /// Of each flow: what a model is given.
    pub rows: Vec<FlowVector>,
    /// Flows nobody knows the truth of, or without a label; they are left out.
    pub unknown: usize,
    /// Flows left out because their capture has enough of the class.
    pub surplus: usize,
    /// Event time of the latest flow, seconds since the epoch.
    pub latest_s: u64,
}

impl Flows {
    /// Replays every labelled capture below `data` and keeps at most `most` flows of a class of a capture, spread evenly
    /// over its flows.
    ///
    /// # Errors
    /// Labels or a capture that are missing or damaged.
    pub fn read(data: &Path, most: usize) -> Result<Self> {
        let path = data.join(LABELS);
        let file = File::open(&path)
            .with_context(|| format!("open {} (say where the data is by --data or LEUKO_DATA)", path.display()))?;
        let labels =
            read_labels(flate2::read::GzDecoder::new(file)).with_context(|| format!("read {}", path.display()))?;
        let mut flows = Self::default();
        for (capture, labels) in labels {
            let records = records(&data.join(&capture)).with_context(|| format!("replay {capture}"))?;
            flows.add(capture, &records, &labels, most);
        }
        Ok(flows)
    }

    fn add(&mut self, capture: String, records: &[FlowRecord], labels: &Labels, most: usize) {
        let mut by_class: BTreeMap<u16, Vec<FlowVector>> = BTreeMap::new();
        for record in records {
            match labels.get(&Key::of(&FlowLine::from(record))).copied().flatten() {
                None => self.unknown += 1,
                Some(class) => {
                    self.latest_s = self.latest_s.max(record.last_seen.secs());
                    by_class.entry(class).or_default().push(model_input(&vector(record)));
                }
            }
        }
        for (class, rows) in by_class {
            let kept = rows.len().min(most);
            self.surplus += rows.len() - kept;
            for at in 0..kept {
                self.rows.push(rows[at * rows.len() / kept]);
                self.class.push(class);
                self.capture.push(self.captures.len());
            }
        }
        self.captures.push(capture);
    }

    /// Captures with flows of a class.
    #[must_use]
    pub fn captures_of(&self, class: u16) -> BTreeSet<usize> {
        self.class.iter().zip(&self.capture).filter(|(other, _)| **other == class).map(|(_, at)| *at).collect()
    }

    /// The name of a capture's source: what its file name begins with.
    #[must_use]
    pub fn source_of(&self, capture: usize) -> &str {
        let file = self.captures[capture].rsplit('/').next().unwrap_or_default();
        file.split("__").next().unwrap_or_default()
    }
}

/// Of each 5-tuple: its class, or nothing if nobody knows.
type Labels = HashMap<Key, Option<u16>>;

/// A 5-tuple without who began; hosts and protocol only where there are no ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    ends: [(IpAddr, u16); 2],
    proto: u8,
}

impl Key {
    fn new(src: (IpAddr, u16), dst: (IpAddr, u16), proto: u8) -> Self {
        let port = |port: u16| if matches!(proto, 6 | 17) { port } else { 0 };
        let (src, dst) = ((src.0, port(src.1)), (dst.0, port(dst.1)));
        Self { ends: [src.min(dst), src.max(dst)], proto }
    }

    fn of(line: &FlowLine) -> Self {
        Self::new((line.src_addr, line.src_port), (line.dst_addr, line.dst_port), line.proto)
    }
}

fn read_labels(csv: impl Read) -> Result<BTreeMap<String, Labels>> {
    let mut reader = csv::Reader::from_reader(csv);
    let headers = reader.headers()?.clone();
    let names = ["file", "src", "sport", "dst", "dport", "proto", "label", "class"];
    let mut at = [0; 8];
    for (at, name) in at.iter_mut().zip(names) {
        *at = headers.iter().position(|header| header == name).with_context(|| format!("no column {name:?}"))?;
    }
    let mut all: BTreeMap<String, Labels> = BTreeMap::new();
    for row in reader.records() {
        let row = row?;
        let [file, src, sport, dst, dport, proto, label, class] = at.map(|at| row[at].trim());
        let labels = all.entry(file.to_owned()).or_default();
        // What has no IP address or protocol number is no flow: ARP.
        let (Ok(src), Ok(dst), Ok(proto)) = (src.parse(), dst.parse(), proto.parse()) else { continue };
        let class = match label {
            "malicious" => Some(class_number(class)),
            "benign" => Some(0),
            "unknown" => None,
            other => bail!("line {}: label {other:?}", row.position().map_or(0, csv::Position::line)),
        };
        let key = Key::new((src, sport.parse().unwrap_or(0)), (dst, dport.parse().unwrap_or(0)), proto);
        // Flows without ports that are one here and several to the labels: known only if they agree.
        labels.entry(key).and_modify(|known| *known = known.filter(|known| Some(*known) == class)).or_insert(class);
    }
    Ok(all)
}

fn class_number(label: &str) -> u16 {
    let at = CLASSES.iter().position(|class| *class == class_of(label)).expect("labels stand for classes");
    u16::try_from(at).expect("there are a few classes")
}

fn records(path: &Path) -> Result<Vec<FlowRecord>> {
    let engine = EngineConfig {
        keep_records: true,
        warmup: NEVER,
        disabled: Class::ALL.into_iter().collect(),
        ..EngineConfig::default()
    };
    let mut capture = Capture::open(path)?;
    let mut records = Vec::new();
    replay(&mut capture, ReplayOptions { engine, ..ReplayOptions::default() }, |output| {
        if let Output::Flow(record) = output {
            records.push(*record);
        }
        Ok::<(), std::convert::Infallible>(())
    })
    .expect("collecting does not fail");
    match capture.damage() {
        None => Ok(records),
        Some(damage) => bail!("{damage}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "file,src,sport,dst,dport,proto,label,class\n";

    #[test]
    fn labels_are_found_from_either_side() {
        let csv = format!("{HEADER}a.pcap,10.0.0.1,40000,10.0.0.2,22,6,malicious,bruteforce_ssh\n");
        let labels = read_labels(csv.as_bytes()).unwrap();
        let (one, other) = (("10.0.0.2".parse().unwrap(), 22), ("10.0.0.1".parse().unwrap(), 40000));
        let class = labels["a.pcap"][&Key::new(one, other, 6)].unwrap();
        assert_eq!(CLASSES[usize::from(class)], "brute_force");
    }

    #[test]
    fn unknown_and_contradicting_labels_are_no_truth_and_arp_is_no_flow() {
        let csv = format!(
            "{HEADER}a,10.0.0.1,1,10.0.0.2,2,17,unknown,unknown\n\
             a,10.0.0.1,0,10.0.0.2,0,1,benign,benign\na,10.0.0.2,0,10.0.0.1,0,1,malicious,icmp_tunnel\n\
             a,10.0.0.1,0,10.0.0.3,0,arp,malicious,mitm_arp\n"
        );
        let labels = read_labels(csv.as_bytes()).unwrap();
        assert_eq!(labels["a"].len(), 2);
        assert!(labels["a"].values().all(Option::is_none));
    }

    #[test]
    fn a_label_that_is_none_is_damage() {
        let csv = format!("{HEADER}a,10.0.0.1,1,10.0.0.2,2,17,perhaps,x\n");
        assert!(format!("{:#}", read_labels(csv.as_bytes()).unwrap_err()).contains("line 2: label \"perhaps\""));
    }
}
