//! The mixed capture: attacks amid benign traffic, in one hour and a half of event time.
//!
//! An incident belongs to an event if it is of a class by which the event may be called, names one of its hosts, and
//! overlaps it in time within a minute. The first incident of an event finds it, others are duplicates; an incident of
//! no event is false.
//!
//! A host window is an address and a minute of the clock in which it sent or received. It is flagged falsely if no frame
//! of it is malicious and an incident that is open in that minute names the address.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use leuko::source::pcap::{Capture, Frame, NetworkLayer};
use sensor_core::time::Timestamp;
use sensor_ebpf::abi::Addr;
use sensor_ebpf::packet::{SliceReader, arp, ethertype, parse_network, skip_ethernet};
use serde::{Deserialize, Serialize};

use super::observe::{Observed, Seen};
use super::truth::{self, Attack, Named};

/// The capture, below the data folder.
pub const CAPTURE: &str = "pcaps/mixed/mixed_dev.pcap";
/// Labels of its frames, below the data folder.
pub const FRAMES: &str = "labels/mixed_dev_frames.csv.gz";
/// How far an incident may be from an event in time and still be about it.
const SLACK: Duration = Duration::from_secs(60);
/// Length of a host window.
const WINDOW: Duration = Duration::from_secs(60);

/// What was said of the mixed capture.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MixedReport {
    /// Event time, hours.
    pub hours: f64,
    /// Its attacks in order of time.
    pub events: Vec<EventReport>,
    /// Incidents of no event.
    pub false_incidents: Vec<FalseIncident>,
    /// Host windows with benign traffic only.
    pub benign_windows: usize,
    /// How many of them are flagged.
    pub flagged_windows: usize,
}

/// What was said of one event.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EventReport {
    /// Label of the attack.
    pub label: String,
    /// Seconds from its first malicious frame to the first incident about it; nothing if there is none.
    pub seconds: Option<f64>,
    /// Class of that incident.
    pub class: Option<String>,
    /// Whether its hosts are right.
    pub named: Option<Named>,
    /// More incidents about it.
    pub duplicates: usize,
}

/// An incident of no event.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FalseIncident {
    /// Its class.
    pub class: String,
    /// Seconds from the beginning of the capture to its detection.
    pub seconds: f64,
    /// Named attackers, at most three.
    pub attackers: Vec<IpAddr>,
    /// Named victims, at most three.
    pub victims: Vec<IpAddr>,
}

/// Which address was active in which window, and whether in an attack.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HostWindows {
    /// Whether any of its frames is malicious.
    malicious: BTreeMap<(IpAddr, Timestamp), bool>,
    begin: Timestamp,
}

impl MixedReport {
    /// Judges what was said.
    #[must_use]
    pub fn of(events: &[Attack], windows: &HostWindows, observed: &Observed) -> Self {
        let mut reports: Vec<EventReport> = events.iter().map(|event| EventReport::missed(&event.label)).collect();
        let mut false_incidents = Vec::new();
        for seen in &observed.incidents {
            let about = |at: &usize| is_about(seen, &events[*at]);
            let mut candidates = (0..events.len()).filter(about).peekable();
            let Some(&nearest) = candidates.peek() else {
                false_incidents.push(FalseIncident::of(seen, windows.begin));
                continue;
            };
            let at = candidates.find(|at| reports[*at].class.is_none()).unwrap_or(nearest);
            reports[at].add(seen, &events[at]);
        }
        let flagged = flagged(&observed.incidents);
        let benign = windows.malicious.iter().filter(|(_, malicious)| !**malicious);
        let (mut benign_windows, mut flagged_windows) = (0, 0);
        for (window, _) in benign {
            benign_windows += 1;
            flagged_windows += usize::from(flagged.contains(window));
        }
        let hours = (observed.seconds / 3.6).round() / 1000.0;
        Self { hours, events: reports, false_incidents, benign_windows, flagged_windows }
    }

    /// Events found.
    #[must_use]
    pub fn found(&self) -> usize {
        self.events.iter().filter(|event| event.class.is_some()).count()
    }

    /// Incidents beyond the first of an event.
    #[must_use]
    pub fn duplicates(&self) -> usize {
        self.events.iter().map(|event| event.duplicates).sum()
    }
}

impl EventReport {
    fn missed(label: &str) -> Self {
        Self { label: label.to_owned(), seconds: None, class: None, named: None, duplicates: 0 }
    }

    fn add(&mut self, seen: &Seen, event: &Attack) {
        if self.class.is_some() {
            self.duplicates += 1;
            return;
        }
        self.seconds = Some(seen.seconds_after(event.first));
        self.class = Some(seen.class.clone());
        self.named = Some(event.named_by(seen));
    }
}

impl FalseIncident {
    fn of(seen: &Seen, begin: Timestamp) -> Self {
        let few = |hosts: &[IpAddr]| hosts.iter().take(3).copied().collect();
        let (attackers, victims) = (few(&seen.attackers), few(&seen.victims));
        Self { class: seen.class.clone(), seconds: seen.seconds_after(begin), attackers, victims }
    }
}

fn is_about(seen: &Seen, event: &Attack) -> bool {
    let last = event.last.unwrap_or(event.first);
    let in_time = seen.first_seen <= last + SLACK && event.first <= seen.last_seen.max(seen.detected_at) + SLACK;
    in_time && event.is_class_of(seen) && event.involves(seen)
}

/// Host windows that an open incident names.
fn flagged(incidents: &[Seen]) -> BTreeSet<(IpAddr, Timestamp)> {
    let mut flagged = BTreeSet::new();
    for seen in incidents {
        let mut window = seen.detected_at.floor(WINDOW);
        while window <= seen.closed_at {
            flagged.extend(seen.hosts().map(|host| (host, window)));
            window = window + WINDOW;
        }
    }
    flagged
}

impl HostWindows {
    /// Reads the mixed capture and the labels of its frames.
    ///
    /// # Errors
    /// A file that is missing or damaged, or labels that are not those of the frames.
    pub fn read(data: &Path) -> Result<Self> {
        let malicious = truth::read(data, FRAMES, |file| read_frames(flate2::read::GzDecoder::new(file)))?;
        truth::read(data, CAPTURE, |file| Self::of(file, &malicious))
    }

    fn of(capture: File, malicious: &[bool]) -> Result<Self> {
        // In the order of the file, as the labels are.
        let mut capture = Capture::stream(capture)?;
        let mut windows = Self::default();
        for (at, malicious) in malicious.iter().enumerate() {
            let frame = capture.next_frame().with_context(|| format!("only {at} frames of those that are labelled"))?;
            if at == 0 {
                windows.begin = frame.at;
            }
            for host in ends(&frame).into_iter().flatten().map(IpAddr::from).filter(|host| is_host(*host)) {
                *windows.malicious.entry((host, frame.at.floor(WINDOW))).or_default() |= *malicious;
            }
        }
        ensure!(capture.next_frame().is_none(), "more frames than the {} that are labelled", malicious.len());
        Ok(windows)
    }
}

/// Sender and receiver.
fn ends(frame: &Frame<'_>) -> Option<[Addr; 2]> {
    let reader = SliceReader { data: frame.data, wire_len: frame.wire_len };
    let (kind, offset) = match frame.network_layer() {
        NetworkLayer::Ethernet => skip_ethernet(&reader, 0).ok()?,
        NetworkLayer::At { ethertype, offset } => (ethertype, offset),
        NetworkLayer::Unknown | NetworkLayer::Truncated => return None,
    };
    if kind == ethertype::ARP {
        let message = arp::parse(&reader, offset)?;
        return Some([message.sender_ip, message.target_ip].map(Addr::from_v4));
    }
    parse_network(&reader, kind, offset, 0).ok().map(|packet| [packet.src, packet.dst])
}

/// Not a group, everybody or nobody.
fn is_host(addr: IpAddr) -> bool {
    let everybody = matches!(addr, IpAddr::V4(v4) if v4.is_broadcast());
    !(addr.is_multicast() || addr.is_unspecified() || everybody)
}

#[derive(Deserialize)]
struct FrameRow {
    frame: usize,
    label: String,
}

/// Whether each frame is malicious.
fn read_frames(csv: impl Read) -> Result<Vec<bool>> {
    let mut malicious = Vec::new();
    for row in csv::Reader::from_reader(csv).deserialize() {
        let row: FrameRow = row?;
        ensure!(row.frame == malicious.len() + 1, "frame {} after frame {}", row.frame, malicious.len());
        malicious.push(row.label == "malicious");
    }
    Ok(malicious)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{at, attack, seen};
    use super::*;

    fn windows(of: &[(&str, u64, bool)]) -> HostWindows {
        let malicious = of.iter().map(|(host, s, malicious)| ((host.parse().unwrap(), at(*s)), *malicious)).collect();
        HostWindows { malicious, begin: at(0) }
    }

    fn judge(events: &[Attack], incidents: Vec<Seen>) -> MixedReport {
        MixedReport::of(events, &windows(&[]), &Observed { incidents, seconds: 7200.0, beacons: vec![] })
    }

    #[test]
    fn events_are_found_by_class_hosts_and_time() {
        let events = [attack("scan_tcp_syn", "10.0.0.1", "10.0.0.2", (600, 610))];
        let scan = |detected_at| seen("port_scan", &["10.0.0.1"], &["10.0.0.2"], detected_at);
        for (seen, found) in [
            (scan(601), 1),
            (scan(671), 1),
            (scan(672), 0),
            (scan(539), 0),
            (seen("udp_flood", &["10.0.0.1"], &["10.0.0.2"], 601), 0),
            (seen("port_scan", &["10.0.0.3"], &["10.0.0.4"], 601), 0),
        ] {
            let report = judge(&events, vec![seen]);
            assert_eq!((report.found(), report.false_incidents.len()), (found, 1 - found), "{report:?}");
        }
    }

    #[test]
    fn a_second_incident_of_an_event_is_a_duplicate_but_may_find_another() {
        let event = |from| attack("scan_tcp_syn", "10.0.0.1", "10.0.0.2", (from, from + 10));
        let scan = |detected_at| seen("port_scan", &["10.0.0.1"], &["10.0.0.2"], detected_at);
        let report = judge(&[event(600), event(620)], vec![scan(601), scan(622), scan(623)]);
        assert_eq!((report.found(), report.duplicates()), (2, 1));
        assert_eq!(report.events[1].seconds, Some(2.0));
        assert_eq!(report.hours, 2.0);
    }

    #[test]
    fn host_windows_count_if_benign_and_are_flagged_while_an_incident_is_open() {
        let of = [("10.0.0.1", 60, true), ("10.0.0.2", 60, false), ("10.0.0.2", 120, false), ("10.0.0.9", 60, false)];
        let incidents = vec![Seen { closed_at: at(119), ..seen("beacon", &["10.0.0.1"], &["10.0.0.2"], 61) }];
        let report = MixedReport::of(&[], &windows(&of), &Observed { incidents, seconds: 0.0, beacons: vec![] });
        assert_eq!((report.benign_windows, report.flagged_windows), (3, 1));
        assert_eq!(report.false_incidents[0].seconds, 61.0);
    }

    #[test]
    fn frames_are_labelled_one_after_the_other() {
        let csv = "frame,label\n1,benign\n2,malicious\n";
        assert_eq!(read_frames(csv.as_bytes()).unwrap(), [false, true]);
        assert!(read_frames("frame,label\n2,benign\n".as_bytes()).is_err());
    }
}
