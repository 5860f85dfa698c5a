//! Which flows are part of an incident, once it is known how the incidents of a replay ended.
//!
//! A flow is part of an incident if both hold:
//!
//! - **time**: its span meets that of the incident, from the first packet of the behaviour to the latest;
//! - **pair**: one of its hosts is a victim and the other an attacker, in either role. A list of hosts that is full
//!   ([`Incident::LISTED`]) stands for any host. An incident without attackers has forged sources: then any host may be
//!   the other, and the victim's port has to be one of the attacked ports, if these are all listed.
//!
//! Of several incidents the class that says most is taken: a known one before [`Class::Anomaly`], then the one that was
//! found first.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use sensor_core::contract::FlowLine;
use sensor_core::incident::{Class, Incident, IncidentEvent};

/// What a replay said of its incidents, each as it was last.
#[derive(Debug, Default)]
pub struct IncidentLog {
    latest: BTreeMap<String, Incident>,
}

/// The incidents of a whole replay, by host.
#[derive(Debug)]
pub struct Attribution {
    /// The one that says most first.
    incidents: Vec<Incident>,
    by_host: HashMap<IpAddr, Vec<usize>>,
}

/// Where and when a flow was. Times are seconds since the epoch with microseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FlowSpan {
    /// Either end.
    pub src: (IpAddr, u16),
    /// The other end.
    pub dst: (IpAddr, u16),
    /// First packet.
    pub first_seen: f64,
    /// Last packet.
    pub last_seen: f64,
}

impl IncidentLog {
    /// Notes what became of an incident.
    pub fn note(&mut self, event: &IncidentEvent) {
        self.note_last(event.incident.clone());
    }

    /// Notes an incident as it was last.
    pub fn note_last(&mut self, incident: Incident) {
        self.latest.insert(incident.id.clone(), incident);
    }

    /// What can be said once the replay has ended.
    #[must_use]
    pub fn attribution(self) -> Attribution {
        let mut incidents: Vec<Incident> = self.latest.into_values().collect();
        incidents.sort_by_key(|incident| (incident.class == Class::Anomaly, incident.detected_at));
        let mut by_host: HashMap<IpAddr, Vec<usize>> = HashMap::new();
        for (at, incident) in incidents.iter().enumerate() {
            for host in incident.attackers.iter().chain(&incident.victims) {
                by_host.entry(*host).or_default().push(at);
            }
        }
        Attribution { incidents, by_host }
    }
}

impl Attribution {
    /// The class of the incident that a flow is part of.
    #[must_use]
    pub fn class_of(&self, flow: &FlowSpan) -> Option<Class> {
        let of = |host: IpAddr| self.by_host.get(&host).into_iter().flatten().copied();
        let first = of(flow.src.0).chain(of(flow.dst.0)).filter(|at| is_part(flow, &self.incidents[*at])).min();
        first.map(|at| self.incidents[at].class)
    }
}

impl From<&FlowLine> for FlowSpan {
    fn from(line: &FlowLine) -> Self {
        Self {
            src: (line.src_addr, line.src_port),
            dst: (line.dst_addr, line.dst_port),
            first_seen: line.first_seen,
            last_seen: line.last_seen,
        }
    }
}

fn is_part(flow: &FlowSpan, incident: &Incident) -> bool {
    let meets =
        flow.first_seen <= incident.last_seen.epoch_seconds() && flow.last_seen >= incident.first_seen.epoch_seconds();
    let pair = |attacker: (IpAddr, u16), victim: (IpAddr, u16)| {
        if !lists(&incident.victims, &victim.0) {
            false
        } else if incident.attackers.is_empty() {
            incident.ports.is_empty() || lists(&incident.ports, &victim.1)
        } else {
            lists(&incident.attackers, &attacker.0)
        }
    };
    meets && (pair(flow.src, flow.dst) || pair(flow.dst, flow.src))
}

fn lists<T: PartialEq>(listed: &[T], wanted: &T) -> bool {
    listed.len() >= Incident::LISTED || listed.contains(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sensor_core::incident::{Change, Severity};
    use sensor_core::time::Timestamp;

    const A: &str = "10.0.0.9";
    const B: &str = "10.0.0.2";
    const C: &str = "10.0.0.5";

    fn hosts(names: &[&str]) -> Vec<IpAddr> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    /// An incident from second 100 to second 110.
    fn incident(class: Class, attackers: &[&str], victims: &[&str], ports: &[u16]) -> IncidentEvent {
        let incident = Incident {
            id: format!("{class}{attackers:?}{victims:?}"),
            class,
            severity: Severity::Low,
            attackers: hosts(attackers),
            victims: hosts(victims),
            ports: ports.to_vec(),
            first_seen: Timestamp::from_secs(100),
            detected_at: Timestamp::from_secs(101),
            last_seen: Timestamp::from_secs(110),
            score: 1.0,
            summary: String::new(),
            evidence: BTreeMap::new(),
        };
        IncidentEvent { change: Change::Closed, at: Timestamp::from_secs(170), incident }
    }

    #[track_caller]
    fn check(events: &[IncidentEvent], (src, dst, port): (&str, &str, u16), span: (f64, f64), expected: Option<Class>) {
        let mut log = IncidentLog::default();
        events.iter().for_each(|event| log.note(event));
        let flow = FlowSpan {
            src: (src.parse().unwrap(), 40_000),
            dst: (dst.parse().unwrap(), port),
            first_seen: span.0,
            last_seen: span.1,
        };
        assert_eq!(log.attribution().class_of(&flow), expected);
    }

    #[test]
    fn a_flow_between_attacker_and_victim_is_part_whoever_began() {
        let scan = [incident(Class::PortScan, &[A], &[B], &[1, 2, 3])];
        check(&scan, (A, B, 9), (101.0, 102.0), Some(Class::PortScan));
        check(&scan, (B, A, 9), (101.0, 102.0), Some(Class::PortScan));
        check(&scan, (C, B, 1), (101.0, 102.0), None);
        check(&scan, (A, C, 1), (101.0, 102.0), None);
    }

    #[test]
    fn the_spans_have_to_meet() {
        let scan = [incident(Class::PortScan, &[A], &[B], &[])];
        for (span, expected) in [
            ((90.0, 99.999_999), None),
            ((90.0, 100.0), Some(Class::PortScan)),
            ((50.0, 500.0), Some(Class::PortScan)),
            ((110.0, 111.0), Some(Class::PortScan)),
            ((110.000_001, 111.0), None),
        ] {
            check(&scan, (A, B, 1), span, expected);
        }
    }

    #[test]
    fn forged_sources_are_told_by_the_port_of_the_victim() {
        let flood = [incident(Class::SynFlood, &[], &[B], &[80])];
        check(&flood, (C, B, 80), (101.0, 102.0), Some(Class::SynFlood));
        check(&flood, (C, B, 22), (101.0, 102.0), None);
        check(&flood, (B, C, 80), (101.0, 102.0), None);
        let everywhere = [incident(Class::UdpFlood, &[], &[B], &(0..64).collect::<Vec<u16>>())];
        check(&everywhere, (C, B, 900), (101.0, 102.0), Some(Class::UdpFlood));
    }

    #[test]
    fn a_full_list_of_victims_stands_for_any() {
        let many: Vec<String> = (0..64).map(|n| format!("10.1.0.{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let scan = [incident(Class::HostScan, &[A], &many, &[22])];
        check(&scan, (A, C, 22), (101.0, 102.0), Some(Class::HostScan));
        check(&scan, (B, C, 22), (101.0, 102.0), None);
    }

    #[test]
    fn a_known_class_says_more_than_an_anomaly() {
        let both = [incident(Class::Anomaly, &[A], &[B], &[]), incident(Class::BruteForce, &[A], &[B], &[])];
        check(&both, (A, B, 22), (101.0, 102.0), Some(Class::BruteForce));
    }
}
