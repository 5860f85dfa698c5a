//! SYN, UDP and ICMP floods, and reflected ones: what a victim is sent without use, over ten seconds.
//!
//! A flood is known by the imbalance it makes (Wang, Zhang, Shin 2002: SYN against FIN and SYN-ACK): connections begun
//! and never used, datagrams never answered. A crowd of real clients has any rate and no imbalance. Where most of those
//! connections were completed, it is a flood of connections.
//!
//! Echo requests are answered by whoever is asked, so that there is no imbalance: more of them than anybody needs are a
//! flood. Answers that nobody asked for, from a service that gives long answers to short questions (Rossow, "Amplification
//! hell", NDSS 2014), are an amplification: someone asks in the victim's name. Long ones come to nobody by chance, so that
//! few of them from several hosts suffice, whatever else the victim is sent.
//!
//! What a victim is sent while the flow table is closed to strangers comes in sums (see [`OverflowEvent`]) and counts
//! alike, so that a flood is one finding whether its packets are in flows, in aggregates or in both.

mod victim;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use sensor_ebpf::abi::Addr;
use sensor_ebpf::packet::proto;
use serde_json::json;

use self::victim::{Arrival, Shares, Victim};
use super::{Detector, Finding, is_group, saturating_score};
use crate::flow::{FlowEvent, Outcome, OverflowEvent};
use crate::incident::{Class, Severity};
use crate::roles::Roles;
use crate::time::Timestamp;

/// What kind of flood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FloodKind {
    /// TCP connection requests.
    Syn,
    /// UDP datagrams.
    Udp,
    /// ICMP echo requests.
    Icmp,
}

/// Parameters of a flood detector.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FloodParams {
    /// Useless arrivals in the window that make a flood.
    pub arrivals: u64,
    /// Share of all arrivals that must be useless.
    pub useless_share: f64,
    /// Flows below which only ten times `arrivals` makes a flood: one busy sender is not many.
    pub flows: u64,
    /// Victims followed at once; the least hit give way.
    pub victims: usize,
}

impl FloodParams {
    /// Defaults of a kind.
    #[must_use]
    pub const fn of(kind: FloodKind) -> Self {
        match kind {
            FloodKind::Syn => Self { arrivals: 1000, useless_share: 0.8, flows: 100, victims: 4096 },
            FloodKind::Udp => Self { arrivals: 3000, useless_share: 0.8, flows: 100, victims: 4096 },
            FloodKind::Icmp => Self { arrivals: 1000, useless_share: 0.8, flows: 100, victims: 4096 },
        }
    }
}

/// Seconds in the window.
const WINDOW: u64 = 10;
/// Part of the datagrams one way that must come the other way, to be a conversation.
const RETURNED: u64 = 20;
/// How long hosts stay acquainted.
const ACQUAINTED: Duration = Duration::from_secs(60);
/// UDP flows between hosts that talk over TCP which are taken for wanted.
const STREAMS: u32 = 16;
/// From so many sources with hardly a flow each, the addresses are taken for forged.
const SPOOFED_SOURCES: u64 = 64;
/// Share of what arrives that must come unasked from such services.
const REFLECTED: f64 = 0.8;
/// Long unasked answers in the window that make an amplification, and how many hosts must give them.
const AMPLIFIED: u64 = 100;
const AMPLIFIERS: usize = 5;
/// More ports than a flood has reason to hit.
const MANY_PORTS: u64 = 100;

/// Floods of one kind, of every victim.
#[derive(Debug)]
pub struct Flood {
    kind: FloodKind,
    params: FloodParams,
    victims: HashMap<Addr, Victim>,
    touched: BTreeSet<Addr>,
    /// Whether the least hit victims have given way since the last tick.
    swept: bool,
    /// Pairs of hosts that talk over TCP: a few streams of datagrams between them are wanted (media, measurements).
    acquainted: HashMap<(Addr, Addr), Acquaintance>,
    /// Datagrams without an answer in their own flow, from the lower address to the higher and back, and the latest: where
    /// both ways are used, one answers the other, as in tunnels that choose ports by what they carry (RFC 7348).
    one_way: HashMap<(Addr, Addr), ([u64; 2], Timestamp)>,
    next_sweep: Timestamp,
}

#[derive(Clone, Copy, Debug)]
struct Acquaintance {
    /// Latest TCP packet.
    last_seen: Timestamp,
    /// UDP flows begun since the acquaintance.
    streams: u32,
}

impl Detector for Flood {
    fn observe(&mut self, event: &FlowEvent) {
        if self.kind == FloodKind::Udp {
            self.get_acquainted(event);
            self.note_one_way(event);
        }
        let Some(arrival) = self.arrival(event) else {
            return;
        };
        let Some(victim) = self.victim(arrival.victim) else {
            return;
        };
        victim.seconds.entry(event.last_seen.secs()).or_default().add(&arrival, event);
        victim.sources.insert(arrival.source.high, arrival.source.low);
        victim.ports.insert(0, u64::from(arrival.port));
        self.touched.insert(arrival.victim);
    }

    fn observe_overflow(&mut self, event: &OverflowEvent) {
        let (arrivals, useful) = match (self.kind, event.proto) {
            // Connections that are completed are in flows, and become useful there.
            (FloodKind::Syn, proto::TCP) => (event.received.requests, 0),
            // Datagrams that are answered, or are themselves answers, have their like the other way.
            (FloodKind::Udp, proto::UDP) => (event.received.packets, event.received.packets.min(event.sent.packets)),
            (FloodKind::Icmp, proto::ICMP | proto::ICMPV6) => (event.received.packets, 0),
            _ => return,
        };
        let Some(subject) = event.subject.filter(|_| arrivals > 0) else {
            return;
        };
        let Some(victim) = self.victim(subject) else {
            return;
        };
        // However long ago the tick before was, the rate is that of each second.
        let totals = [arrivals, useful, event.received.octets, event.received.packets];
        let shares = totals.map(|total| Shares { total, from: event.since, to: event.last_seen });
        for second in shares[0].seconds() {
            victim.seconds.entry(second).or_default().add_overflow(event, second, shares.map(|share| share.of(second)));
        }
        victim.overflow_sources = victim.overflow_sources.max(event.peers);
        victim.overflow_ports = victim.overflow_ports.max(event.ports);
        self.touched.insert(subject);
    }

    fn tick(&mut self, now: Timestamp, _: &Roles) -> Vec<Finding> {
        let oldest = now.secs().saturating_sub(WINDOW);
        self.swept = false;
        self.victims.retain(|_, victim| {
            victim.seconds.retain(|&second, _| second > oldest);
            !victim.seconds.is_empty()
        });
        if self.next_sweep <= now {
            self.next_sweep = now + ACQUAINTED / 4;
            let oldest = now - ACQUAINTED;
            self.acquainted.retain(|_, acquaintance| acquaintance.last_seen > oldest);
            self.one_way.retain(|_, (_, last_seen)| *last_seen > oldest);
        }
        let touched = std::mem::take(&mut self.touched);
        touched.into_iter().filter_map(|victim| self.judge(victim)).collect()
    }

    fn is_idle(&self) -> bool {
        self.victims.is_empty()
    }
}

impl Flood {
    /// A detector that has seen nothing.
    #[must_use]
    pub fn new(kind: FloodKind, params: FloodParams) -> Self {
        Self {
            kind,
            params,
            victims: HashMap::new(),
            touched: BTreeSet::new(),
            swept: false,
            acquainted: HashMap::new(),
            one_way: HashMap::new(),
            next_sweep: Timestamp::EPOCH,
        }
    }

    /// What is known of a victim; nothing for a group, and where there is no room.
    fn victim(&mut self, addr: Addr) -> Option<&mut Victim> {
        if is_group(addr) {
            return None;
        }
        if self.victims.len() >= self.params.victims && !self.victims.contains_key(&addr) {
            const FEW: u64 = 10;
            // Once a tick: it looks at every victim, and what it finds does not change from one event to the next.
            if !std::mem::replace(&mut self.swept, true) {
                self.victims.retain(|_, victim| victim.sum(|second| second.arrivals) > FEW);
            }
            if self.victims.len() >= self.params.victims {
                return None;
            }
        }
        Some(self.victims.entry(addr).or_default())
    }

    fn get_acquainted(&mut self, event: &FlowEvent) {
        let pair = pair(event.client.addr, event.server.addr);
        if event.proto == proto::UDP
            && event.is_new
            && let Some(acquaintance) = self.acquainted.get_mut(&pair)
        {
            acquaintance.streams += 1;
        }
        let room = self.acquainted.len() < self.params.victims || self.acquainted.contains_key(&pair);
        if event.proto == proto::TCP && event.outcome == Outcome::Served && room {
            let fresh = Acquaintance { last_seen: event.last_seen, streams: 0 };
            self.acquainted.entry(pair).or_insert(fresh).last_seen = event.last_seen;
        }
    }

    fn arrival(&self, event: &FlowEvent) -> Option<Arrival> {
        let wanted = match self.kind {
            FloodKind::Syn => event.proto == proto::TCP,
            FloodKind::Udp => event.proto == proto::UDP,
            FloodKind::Icmp => matches!(event.proto, proto::ICMP | proto::ICMPV6),
        };
        if !wanted {
            return None;
        }
        let served = event.outcome == Outcome::Served;
        let became_served = served && (event.is_new || event.before != Outcome::Served);
        // A port that is used again is a request of the conversation before it: served if more than SYN-ACKs came back.
        let answered = event.received.packets.saturating_sub(event.received.syns);
        match self.kind {
            FloodKind::Syn if event.sent.syns > 0 || became_served || event.completed_is_new => Some(Arrival {
                victim: event.server.addr,
                port: event.server.port,
                source: event.client.addr,
                arrivals: event.sent.syns,
                octets: event.sent.octets,
                useful: if served && !became_served { event.sent.syns.min(answered) } else { u64::from(became_served) },
                completed: i64::from(event.completed_is_new) - i64::from(event.completed && became_served),
                amplifier: None,
            }),
            FloodKind::Syn => None,
            // Errors and answers are unasked for: whoever has caused them is no victim of theirs.
            FloodKind::Icmp => (event.outcome != Outcome::Unasked && event.sent.packets > 0).then_some(Arrival {
                victim: event.server.addr,
                port: 0,
                source: event.client.addr,
                arrivals: event.sent.packets,
                octets: event.sent.octets,
                useful: 0,
                completed: 0,
                amplifier: None,
            }),
            FloodKind::Udp => {
                // Answers without a question arrive at the client.
                let (to, from, moved) = if event.outcome == Outcome::Unasked {
                    (event.client, event.server, event.received)
                } else {
                    (event.server, event.client, event.sent)
                };
                let wanted = served
                    || self.is_returned(to.addr, from.addr)
                    || self.streams_to(to.addr, from.addr).is_some_and(|streams| streams <= STREAMS);
                (moved.packets > 0).then_some(Arrival {
                    victim: to.addr,
                    port: to.port,
                    source: from.addr,
                    arrivals: moved.packets,
                    octets: moved.octets,
                    useful: if wanted { moved.packets } else { 0 },
                    completed: 0,
                    amplifier: (!wanted).then_some(from.port),
                })
            }
        }
    }

    /// Takes in datagrams that are not answered in their own flow.
    fn note_one_way(&mut self, event: &FlowEvent) {
        let (from, to, moved) = if event.outcome == Outcome::Unasked {
            (event.server.addr, event.client.addr, event.received.packets)
        } else {
            (event.client.addr, event.server.addr, event.sent.packets)
        };
        if event.proto != proto::UDP || event.outcome == Outcome::Served || moved == 0 {
            return;
        }
        let key = pair(from, to);
        if self.one_way.len() >= self.params.victims && !self.one_way.contains_key(&key) {
            self.one_way.retain(|_, (packets, _)| packets.iter().all(|&packets| packets > 0));
            if self.one_way.len() > self.params.victims / 2 {
                self.one_way.clear();
            }
        }
        let (packets, last_seen) = self.one_way.entry(key).or_default();
        packets[usize::from(from > to)] += moved;
        *last_seen = event.last_seen.max(*last_seen);
    }

    fn is_returned(&self, to: Addr, from: Addr) -> bool {
        self.one_way.get(&pair(from, to)).is_some_and(|(packets, _)| {
            let (there, back) = (packets[usize::from(from > to)], packets[usize::from(to > from)]);
            back > 0 && back * RETURNED >= there
        })
    }

    fn streams_to(&self, a: Addr, b: Addr) -> Option<u32> {
        self.acquainted.get(&pair(a, b)).map(|acquaintance| acquaintance.streams)
    }

    fn judge(&mut self, addr: Addr) -> Option<Finding> {
        let victim = self.victims.get(&addr)?;
        let (sources, ports) = (victim.sources(), victim.ports());
        let (arrivals, in_flows) = (victim.sum(|second| second.arrivals), victim.sum(|second| second.flows));
        let overflowed = victim.sum(|second| second.overflow_arrivals);
        let flows = in_flows
            + match self.kind {
                FloodKind::Syn => overflowed,
                // Of datagrams in aggregates only the sources are known to be in flows of their own.
                FloodKind::Udp | FloodKind::Icmp => overflowed.min(victim.overflow_sources),
            };
        let useless = arrivals.saturating_sub(victim.sum(|second| second.useful));
        if self.kind == FloodKind::Udp
            && victim.class != Some(Class::UdpFlood)
            && victim.heavy() >= AMPLIFIED
            && victim.reflectors().len() >= AMPLIFIERS
        {
            let reflected = victim.reflected().into_values().sum();
            let finding = self.finding(addr, victim, reflected, (Class::Amplification, false));
            self.victims.get_mut(&addr)?.class = Some(Class::Amplification);
            return Some(finding);
        }
        let needed = if flows >= self.params.flows { self.params.arrivals } else { 10 * self.params.arrivals };
        if useless < needed || (useless as f64) < self.params.useless_share * arrivals as f64 {
            return None;
        }
        // Few senders that knock at many ports alike are scanning, with retransmissions and however fast.
        if sources < SPOOFED_SOURCES && ports > MANY_PORTS && victim.most_on_a_port() * 20 < useless {
            return None;
        }
        let spoofed = sources > SPOOFED_SOURCES && in_flows + overflowed < 4 * sources;
        let class = victim.class.unwrap_or_else(|| self.class(victim, useless));
        // Whoever gives the answers is who they seem to be.
        let spoofed = spoofed && class != Class::Amplification;
        let finding = self.finding(addr, victim, useless, (class, spoofed));
        self.victims.get_mut(&addr)?.class = Some(class);
        Some(finding)
    }

    fn class(&self, victim: &Victim, useless: u64) -> Class {
        let reflected: u64 = victim.reflected().into_values().sum();
        match self.kind {
            FloodKind::Syn if 2 * victim.completed() > useless => Class::ConnectionFlood,
            FloodKind::Syn => Class::SynFlood,
            FloodKind::Icmp => Class::IcmpFlood,
            FloodKind::Udp if reflected as f64 >= REFLECTED * useless as f64 => Class::Amplification,
            FloodKind::Udp => Class::UdpFlood,
        }
    }

    fn finding(&self, addr: Addr, victim: &Victim, useless: u64, (class, spoofed): (Class, bool)) -> Finding {
        let unit = match self.kind {
            FloodKind::Syn => "unused_connection_requests",
            FloodKind::Udp => "unanswered_datagrams",
            FloodKind::Icmp => "echo_requests",
        };
        let peak = victim.seconds.values().map(|second| second.arrivals).max().unwrap_or(0);
        let overflowed = victim.sum(|second| second.overflow_packets);
        let mut evidence = BTreeMap::from([
            (unit.to_owned(), json!(useless)),
            ("peak_packets_per_s".to_owned(), json!(peak)),
            ("octets".to_owned(), json!(victim.sum(|second| second.octets))),
            ("distinct_sources".to_owned(), json!(victim.sources())),
            ("distinct_ports".to_owned(), json!(victim.ports())),
            ("spoofed".to_owned(), json!(spoofed)),
        ]);
        if class == Class::Amplification {
            evidence.insert("amplifier_ports".to_owned(), json!(victim.reflected().into_keys().collect::<Vec<_>>()));
        }
        if class == Class::ConnectionFlood {
            evidence.insert("connections".to_owned(), json!(victim.completed()));
            evidence.insert("window_s".to_owned(), json!(WINDOW));
        }
        if overflowed > 0 {
            evidence.insert("overflowed_packets".to_owned(), json!(overflowed));
        }
        let attackers = if spoofed {
            BTreeSet::new()
        } else if class == Class::Amplification {
            victim.reflectors()
        } else {
            victim.attackers()
        };
        let mut ports = victim.busiest_ports();
        let mut enough = self.params.arrivals;
        if class == Class::Amplification {
            // Later fragments of long answers have no port.
            ports.remove(&0);
            enough = AMPLIFIED;
        }
        Finding {
            class,
            subject: addr,
            severity: if peak >= 10 * self.params.arrivals { Severity::Critical } else { Severity::High },
            attackers,
            victims: BTreeSet::from([addr]),
            ports,
            // Seconds with few useless arrivals are ordinary traffic before the flood.
            first_seen: victim
                .seconds
                .values()
                .filter(|second| second.arrivals.saturating_sub(second.useful) * 10 >= peak)
                .filter_map(|second| second.first_seen)
                .min()
                .unwrap_or_default(),
            last_seen: victim.seconds.values().map(|second| second.last_seen).max().unwrap_or_default(),
            score: saturating_score(useless as f64, enough as f64),
            chance: None,
            evidence,
        }
    }
}

fn pair(a: Addr, b: Addr) -> (Addr, Addr) {
    (a.min(b), a.max(b))
}
