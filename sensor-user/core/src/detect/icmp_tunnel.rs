//! Tunnels through ICMP echoes, by answers that are no echo.
//!
//! An echo reply returns the data of its request (RFC 792, RFC 4443). So the replies of a time are as long together as their
//! requests, whatever sizes are asked: of `s` requests with `S` octets and `r` replies with `R` octets
//! - `S = R` when `s = r`;
//! - `0 <= S - R <= (s - r) * longest` when some are not answered;
//! - `r > s` only for requests of earlier, and for ICMP errors, which have no more than 576 octets (RFC 1812).
//!
//! Ticks that end with another message from who is asked, an error say, are left out. What a tick has beyond these bounds is
//! unmirrored: each side has said something of its own. Pings have none of it. Replies that nobody asked for tell as
//! well, however short they are: a tunnel whose requests the kernel mirrors, too, answers with its own.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use sensor_ebpf::abi::Addr;
use sensor_ebpf::packet::proto;
use serde_json::json;

use super::{Detector, Finding, is_group, saturating_score};
use crate::flow::{FlowEvent, Outcome};
use crate::incident::{Class, Severity};
use crate::roles::Roles;
use crate::time::Timestamp;

/// Parameters of the detector.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct IcmpTunnelParams {
    /// Unmirrored octets in the window that decide.
    pub octets: u64,
    /// Share of all octets that must be unmirrored.
    pub share: f64,
    /// Echoes, requests and replies, before anything is decided.
    pub echoes: u64,
    /// How long an echo counts, at most.
    pub window: Duration,
    /// Pairs of hosts followed at once, 200 octets each; the ones with the fewest echoes give way.
    pub pairs: usize,
}

impl Default for IcmpTunnelParams {
    fn default() -> Self {
        Self { octets: 512, share: 0.03, echoes: 20, window: Duration::from_secs(300), pairs: 8192 }
    }
}

/// The longest ICMP error, as routers and hosts are to make them.
const LONGEST_ERROR: u64 = 576;
/// ICMPv6: what a neighbour solicitation has more than its answer: an option of eight octets (RFC 4861). They are among the
/// echoes of two neighbours.
const NEIGHBOUR: u64 = 8;

/// Tunnels through echoes of every pair of hosts.
#[derive(Debug)]
pub struct IcmpTunnel {
    params: IcmpTunnelParams,
    pairs: HashMap<(Addr, Addr), Echoes>,
    touched: BTreeSet<(Addr, Addr)>,
    /// Whether the least of the pairs have given way since the last tick.
    swept: bool,
    next_sweep: Timestamp,
}

/// Echoes from one host to another in a window.
#[derive(Clone, Copy, Debug, Default)]
struct Echoes {
    since: Timestamp,
    last_seen: Timestamp,
    sent: Sum,
    received: Sum,
    /// Requests that may still be answered.
    owed: u64,
    /// Octets that replies have other than their requests.
    unequal: u64,
    /// Octets of replies that nobody asked for.
    unasked: u64,
    /// Replies that nobody asked for.
    surplus: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    packets: u64,
    octets: u64,
}

impl Detector for IcmpTunnel {
    fn observe(&mut self, event: &FlowEvent) {
        let moved = event.sent.packets + event.received.packets > 0;
        let echo = matches!(event.proto, proto::ICMP | proto::ICMPV6)
            && event.outcome == Outcome::Served
            && moved
            && is_echo(event.proto, event.received_kind)
            && !is_group(event.server.addr);
        if !echo {
            return;
        }
        let pair = (event.client.addr, event.server.addr);
        if self.pairs.len() >= self.params.pairs && !self.pairs.contains_key(&pair) && !self.make_room() {
            return;
        }
        let echoes = self.pairs.entry(pair).or_default();
        echoes.add(event, self.params.window);
        if echoes.unmirrored() >= self.params.octets || echoes.surplus >= self.params.echoes {
            self.touched.insert(pair);
        }
    }

    fn tick(&mut self, now: Timestamp, _: &Roles) -> Vec<Finding> {
        self.swept = false;
        if now >= self.next_sweep {
            self.next_sweep = now + self.params.window / 4;
            let oldest = now - self.params.window;
            self.pairs.retain(|_, echoes| echoes.last_seen >= oldest);
        }
        let touched = std::mem::take(&mut self.touched);
        touched.into_iter().filter_map(|pair| self.pairs.get(&pair)?.judge(pair, &self.params)).collect()
    }

    fn is_idle(&self) -> bool {
        // Windows begin anew by the time of what is in them.
        self.touched.is_empty()
    }
}

impl IcmpTunnel {
    /// A detector that has seen nothing.
    #[must_use]
    pub fn new(params: IcmpTunnelParams) -> Self {
        Self { params, pairs: HashMap::new(), touched: BTreeSet::new(), swept: false, next_sweep: Timestamp::EPOCH }
    }

    /// Pairs followed.
    #[must_use]
    pub fn pairs(&self) -> usize {
        self.pairs.len()
    }

    /// Once a tick, since it looks at every pair.
    fn make_room(&mut self) -> bool {
        if !std::mem::replace(&mut self.swept, true) {
            let few = self.params.echoes / 2;
            self.pairs.retain(|_, echoes| echoes.sent.packets + echoes.received.packets > few);
        }
        self.pairs.len() < self.params.pairs
    }
}

impl Echoes {
    fn add(&mut self, event: &FlowEvent, window: Duration) {
        if event.last_seen.since(self.since) >= window {
            let since = if event.is_new { event.first_seen } else { event.last_seen };
            *self = Self { since, ..Self::default() };
        }
        self.last_seen = self.last_seen.max(event.last_seen);
        let (sent, received) = (&event.sent, &event.received);
        self.sent.add(sent.packets, sent.octets);
        self.received.add(received.packets, received.octets);
        if event.before != Outcome::Served {
            self.owed += event.sent_packets - sent.packets.min(event.sent_packets);
        }
        let longest = u64::from(event.sent_lengths.max.max(event.received_lengths.max));
        let more_received = received.octets.saturating_sub(sent.octets);
        if sent.packets >= received.packets {
            let unanswered = sent.packets - received.packets;
            self.owed += unanswered;
            let more_sent = sent.octets.saturating_sub(received.octets);
            let neighbours = if event.proto == proto::ICMPV6 { NEIGHBOUR * sent.packets } else { 0 };
            let unequal = more_received + more_sent.saturating_sub(unanswered * longest);
            self.unequal += unequal.saturating_sub(neighbours);
        } else {
            let more = received.packets - sent.packets;
            let late = more.min(self.owed);
            self.owed -= late;
            self.surplus += more - late;
            self.unasked += more_received.saturating_sub(late * longest + (more - late) * LONGEST_ERROR);
        }
    }

    const fn unmirrored(&self) -> u64 {
        self.unequal + self.unasked
    }

    fn judge(&self, (client, server): (Addr, Addr), params: &IcmpTunnelParams) -> Option<Finding> {
        let echoes = self.sent.packets + self.received.packets;
        let octets = self.sent.octets + self.received.octets;
        let unmirrored = self.unmirrored();
        let some = |part: u64, all: u64| part as f64 >= params.share * all as f64;
        let unlike = unmirrored >= params.octets && some(unmirrored, octets);
        let unasked = self.surplus >= params.echoes && some(self.surplus, self.received.packets);
        if echoes < params.echoes || !(unlike || unasked) {
            return None;
        }
        Some(Finding {
            class: Class::IcmpTunnel,
            subject: client,
            severity: Severity::High,
            attackers: BTreeSet::from([client]),
            victims: BTreeSet::from([server]),
            ports: BTreeSet::new(),
            first_seen: self.since,
            last_seen: self.last_seen,
            score: saturating_score(
                unmirrored.max(self.surplus * params.octets / params.echoes.max(1)) as f64,
                params.octets as f64,
            ),
            chance: None,
            evidence: BTreeMap::from([
                ("echoes".to_owned(), json!(echoes)),
                ("octets".to_owned(), json!(octets)),
                ("mean_sent_octets".to_owned(), json!(self.sent.mean())),
                ("mean_received_octets".to_owned(), json!(self.received.mean())),
                ("unequal_octets".to_owned(), json!(self.unequal)),
                ("unasked_octets".to_owned(), json!(self.unasked)),
                ("unasked_replies".to_owned(), json!(self.surplus)),
            ]),
        })
    }
}

impl Sum {
    const fn add(&mut self, packets: u64, octets: u64) {
        self.packets += packets;
        self.octets += octets;
    }

    fn mean(self) -> u64 {
        self.octets / self.packets.max(1)
    }
}

/// Whether a message of a type is an echo request or reply. So is what was not received.
const fn is_echo(protocol: u8, kind: u8) -> bool {
    match protocol {
        proto::ICMP => matches!(kind, 0 | 8),
        _ => matches!(kind, 0 | 128 | 129),
    }
}
