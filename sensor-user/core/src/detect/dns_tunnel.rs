//! Tunnels through DNS, by what the questions of a client to a resolver weigh.
//!
//! Ordinary questions are short and alike (Born and Gustafson 2010: names of 10 to 30 octets). A tunnel packs what it sends
//! into names of up to 255 octets, so that its questions are long, or long between short ones that ask for more (Nadler,
//! Aminov, Shabtai 2019; Das et al. 2017). A question of `l` octets weighs `((l - 75) / 100)^2`, so that an ordinary one
//! weighs next to nothing and one of 175 octets weighs one. The sums of the lengths and of their squares give the weight
//! of all questions together, whatever the tick.
//!
//! A pair of client and resolver is a tunnel when its questions weigh enough in a window, and enough on average: the
//! questions of sockets that ask again and again by themselves, and all together. Ordinary clients take a fresh port for
//! each question (RFC 5452) and tunnels mostly keep one, so that a tunnel is found beside the ordinary questions of its
//! host. Reverse questions for IPv6 addresses are long, but never of 180 octets. Each answer to a question repeats it: what
//! is answered in less, as signed updates are (RFC 2136, RFC 8945), was none.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use sensor_ebpf::abi::Addr;
use sensor_ebpf::packet::proto;
use serde_json::json;

use super::{Detector, Finding, saturating_score};
use crate::flow::{FlowEvent, Outcome};
use crate::incident::{Class, Severity};
use crate::roles::{Role, Roles};
use crate::time::Timestamp;

/// Parameters of the detector.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DnsTunnelParams {
    /// What questions weigh together in the short window, to decide.
    pub weight: f64,
    /// What a question weighs on average, where all of a pair are looked at. On a socket that asks again and again, 0.4 of
    /// it suffices.
    pub mean_weight: f64,
    /// The short window. The long one is thirty times that and decides at four times the weight.
    pub window: Duration,
    /// Pairs of client and resolver followed at once, 300 octets each; the ones that have asked least give way.
    pub pairs: usize,
}

impl Default for DnsTunnelParams {
    fn default() -> Self {
        Self { weight: 50.0, mean_weight: 0.5, window: Duration::from_secs(60), pairs: 16_384 }
    }
}

const DNS: u16 = 53;
/// IP octets of an ordinary question over IPv4.
const ORDINARY: u64 = 75;
/// What an IPv6 header has more.
const IPV6_MORE: u16 = 20;
/// IP octets over IPv4 that no question for an address takes: 118 for a name under ip6.arpa, up to 51 for EDNS with a cookie.
const LONG: u16 = 180;
/// Squared octets of a weight of one.
const UNIT: f64 = 10_000.0;
/// Questions after which a socket is one that asks again and again.
const KEPT: u64 = 16;
/// Share of the average weight that suffices on such sockets.
const KEPT_SHARE: f64 = 0.4;
/// Share of the questions that must be answered.
const ANSWERED: f64 = 0.25;
/// An answer has the question in it; compression and lost answers are allowed for.
const REPEATED: f64 = 0.9;
/// How many short windows the long one has, and how much more must weigh in it.
const LONG_WINDOW: (u32, f64) = (30, 4.0);
/// What goes on after it was found needs less to be found again: of the weight, and on average.
const GOES_ON: (f64, f64) = (0.1, 0.3);

/// Tunnels through DNS of every client.
#[derive(Debug)]
pub struct DnsTunnel {
    params: DnsTunnelParams,
    pairs: HashMap<Pair, State>,
    touched: BTreeSet<Pair>,
    /// Whether the least of the pairs have given way since the last tick.
    swept: bool,
    next_sweep: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Pair {
    client: Addr,
    server: Addr,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    short: Window,
    long: Window,
    last_seen: Timestamp,
    found: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Window {
    since: Timestamp,
    /// All questions.
    all: Questions,
    /// Those of sockets that ask again and again.
    kept: Questions,
    answers: u64,
    answer_octets: u64,
    sockets: u64,
    /// IP octets of the longest question, as over IPv4.
    longest: u16,
    /// When the first of the long ones was asked.
    long_since: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Questions {
    count: u64,
    octets: u64,
    /// Squared octets away from an ordinary question.
    squares: u64,
}

impl Detector for DnsTunnel {
    fn observe(&mut self, event: &FlowEvent) {
        let is_dns = matches!(event.proto, proto::UDP | proto::TCP) && event.server.port == DNS;
        if !is_dns || event.sent.packets + event.received.packets == 0 || event.outcome == Outcome::Unasked {
            return;
        }
        let pair = Pair { client: event.client.addr, server: event.server.addr };
        if self.pairs.len() >= self.params.pairs && !self.pairs.contains_key(&pair) && !self.make_room() {
            return;
        }
        let state = self.pairs.entry(pair).or_default();
        state.last_seen = state.last_seen.max(event.last_seen);
        state.short.add(event, self.params.window);
        state.long.add(event, self.params.window * LONG_WINDOW.0);
        if state.short.longest >= LONG || state.long.longest >= LONG {
            self.touched.insert(pair);
        }
    }

    fn tick(&mut self, now: Timestamp, roles: &Roles) -> Vec<Finding> {
        self.swept = false;
        if now >= self.next_sweep {
            self.next_sweep = now + self.params.window;
            let oldest = now - self.params.window * LONG_WINDOW.0;
            self.pairs.retain(|_, state| state.last_seen >= oldest);
        }
        let touched = std::mem::take(&mut self.touched);
        let findings = touched.into_iter().filter_map(|pair| self.judge(pair));
        // A resolver asks for others: the tunnel is theirs, and found between them and the resolver.
        findings.filter(|finding| !roles.has(finding.subject, Role::Resolver)).collect()
    }

    fn is_idle(&self) -> bool {
        // Windows begin anew by the time of what is in them.
        self.touched.is_empty()
    }
}

impl DnsTunnel {
    /// A detector that has seen nothing.
    #[must_use]
    pub fn new(params: DnsTunnelParams) -> Self {
        Self { params, pairs: HashMap::new(), touched: BTreeSet::new(), swept: false, next_sweep: Timestamp::EPOCH }
    }

    /// Pairs followed.
    #[must_use]
    pub fn pairs(&self) -> usize {
        self.pairs.len()
    }

    /// Once a tick, since it looks at every pair.
    fn make_room(&mut self) -> bool {
        const FEW: u64 = 4;
        if !std::mem::replace(&mut self.swept, true) {
            self.pairs.retain(|_, state| state.long.all.count > FEW);
        }
        self.pairs.len() < self.params.pairs
    }

    fn judge(&mut self, pair: Pair) -> Option<Finding> {
        let params = self.params;
        let state = self.pairs.get_mut(&pair)?;
        let goes_on = state.found.is_some_and(|found| state.last_seen.since(found) < 10 * params.window);
        let (less, lighter) = if goes_on { GOES_ON } else { (1.0, 1.0) };
        let (weight, mean) = (params.weight * less, params.mean_weight * lighter);
        let windows = [(&state.short, weight), (&state.long, weight * LONG_WINDOW.1)];
        let (window, questions, needed) = windows.into_iter().find_map(|(window, needed)| {
            window.tunnelled(needed, mean).map(|questions| (*window, questions, needed))
        })?;
        state.found = Some(state.last_seen);
        Some(window.finding(pair, state.last_seen, &questions, needed))
    }
}

impl Window {
    fn add(&mut self, event: &FlowEvent, length: Duration) {
        if event.last_seen.since(self.since) >= length {
            *self = Self { since: event.last_seen.floor(Duration::from_secs(1)), ..Self::default() };
            self.since = if event.is_new { event.first_seen.max(event.last_seen - length) } else { self.since };
        }
        let more = if is_ipv6(event.server.addr) { IPV6_MORE } else { 0 };
        let asked = Questions::of(event, ORDINARY + u64::from(more));
        self.all.add(&asked);
        if event.sent_packets > KEPT {
            self.kept.add(&asked);
        }
        self.answers += event.received.packets;
        self.answer_octets += event.received.octets;
        self.sockets += u64::from(event.is_new);
        if asked.count > 0 {
            let longest = event.sent_lengths.max.saturating_sub(more);
            self.longest = self.longest.max(longest);
            if longest >= LONG && self.long_since.is_none() {
                let asked = if event.is_new { event.first_seen } else { event.last_seen };
                self.long_since = Some(asked.max(self.since));
            }
        }
    }

    /// The questions that are a tunnel's, if any are.
    fn tunnelled(&self, weight: f64, mean: f64) -> Option<Questions> {
        let answered = self.answers as f64 >= ANSWERED * self.all.count as f64;
        let repeated = ratio(self.answer_octets, self.answers) >= REPEATED * ratio(self.all.octets, self.all.count);
        if self.longest < LONG || !answered || !repeated {
            return None;
        }
        let heavy = |questions: &Questions, mean: f64| {
            questions.weight() >= weight && questions.weight() >= mean * questions.count as f64
        };
        let kept = heavy(&self.kept, KEPT_SHARE * mean).then_some(self.kept);
        kept.or_else(|| heavy(&self.all, mean).then_some(self.all))
    }

    fn finding(&self, pair: Pair, last_seen: Timestamp, questions: &Questions, needed: f64) -> Finding {
        let one_socket = self.all.count > KEPT * self.sockets.max(1);
        Finding {
            class: Class::DnsTunnel,
            subject: pair.client,
            severity: Severity::High,
            attackers: BTreeSet::from([pair.client]),
            victims: BTreeSet::from([pair.server]),
            ports: BTreeSet::from([DNS]),
            first_seen: self.long_since.unwrap_or(self.since),
            last_seen,
            score: saturating_score(questions.weight(), needed),
            chance: None,
            evidence: BTreeMap::from([
                ("questions".to_owned(), json!(questions.count)),
                ("mean_question_octets".to_owned(), json!(questions.octets / questions.count.max(1))),
                ("longest_question_octets".to_owned(), json!(self.longest)),
                ("mean_answer_octets".to_owned(), json!(self.answer_octets / self.answers.max(1))),
                (
                    "mean_weight".to_owned(),
                    json!((questions.weight() / questions.count.max(1) as f64 * 100.0).round() / 100.0),
                ),
                ("sent_octets".to_owned(), json!(questions.octets)),
                ("received_octets".to_owned(), json!(self.answer_octets)),
                ("one_socket".to_owned(), json!(one_socket)),
                ("window_s".to_owned(), json!(last_seen.since(self.since).as_secs())),
            ]),
        }
    }
}

impl Questions {
    /// What the event brought, where `ordinary` octets weigh nothing.
    const fn of(event: &FlowEvent, ordinary: u64) -> Self {
        let sent = &event.sent;
        let square = sent.len_sq.saturating_add(sent.packets.saturating_mul(ordinary * ordinary));
        Self {
            count: sent.packets,
            octets: sent.octets,
            squares: square.saturating_sub(sent.octets.saturating_mul(2 * ordinary)),
        }
    }

    const fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.octets += other.octets;
        self.squares = self.squares.saturating_add(other.squares);
    }

    fn weight(&self) -> f64 {
        self.squares as f64 / UNIT
    }
}

fn ratio(sum: u64, count: u64) -> f64 {
    sum as f64 / count.max(1) as f64
}

fn is_ipv6(addr: Addr) -> bool {
    std::net::IpAddr::from(addr).is_ipv6()
}
