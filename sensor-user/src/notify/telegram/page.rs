//! What the longer answers of the bot see: each is a template and a view of its own.

mod blocks;

use std::collections::BTreeMap;
use std::net::IpAddr;

use sensor_core::incident::{Incident, Severity};
use sensor_core::time::Timestamp;
use serde::Serialize;
use serde_json::Value;

pub use self::blocks::Blocks;
use super::html;
use super::room::{Bot, event_of};
use super::standing::Standing;
use super::words::Words;
use crate::config::suppress::Suppress;
use crate::notify::template::Templates;
use crate::notify::text::{self, clip, plain};
use crate::notify::view::{Author, View, moment};
use crate::store::{Kept, Queue, Verdict};
use crate::terminal::Status;

/// Hosts that a line names.
const LISTED: usize = 2;
/// Longest name of a host's role, a rule or a sink, in characters.
const NAME_LIMIT: usize = 64;
/// Hosts that `/top` ranks.
const RANKED: usize = 10;

impl Bot {
    /// The text of a template about as much of a view as fits into a message.
    pub fn page<V: Serialize>(&self, template: &str, view: impl Fn(usize) -> V) -> String {
        render(&self.templates, self.words(), template, view)
    }
}

/// The text of a template about as much of a view as fits into a message.
pub fn render<V: Serialize>(templates: &Templates, words: Words, template: &str, view: impl Fn(usize) -> V) -> String {
    for most in [50, 24, 12, 6, 3, 1, 0] {
        match templates.render(template, view(most)) {
            Ok(page) if html::fits(&page) => return page,
            Ok(_) => {}
            Err(error) => return html::escape(&words.failed(&error)),
        }
    }
    words.too_long().to_owned()
}

/// `/help`.
#[derive(Serialize)]
pub struct Help {
    sensor: String,
    commands: Vec<(&'static str, &'static str)>,
}

impl Help {
    /// All commands.
    pub fn of(sensor: &str, words: Words) -> Self {
        Self { sensor: name(sensor), commands: words.commands().to_vec() }
    }
}

/// `/status`.
#[derive(Serialize)]
pub struct StatusPage {
    sensor: String,
    /// Nothing before the first second.
    now: Option<Now>,
    queues: Vec<QueueLine>,
    /// Why the store cannot be read; empty if it can.
    trouble: String,
}

#[derive(Serialize)]
struct Now {
    coverage: String,
    packets_per_s: String,
    bits_per_s: String,
    flows: u64,
    table_fill: String,
    open_incidents: u64,
    /// Empty once there is a baseline.
    learning: String,
    lost: u64,
}

#[derive(Serialize)]
struct QueueLine {
    sink: String,
    pending: u64,
    dead: u64,
}

impl StatusPage {
    /// How the sensor fares, and what waits in the outbox.
    pub fn of(author: &Author, status: Option<Status>, queues: &anyhow::Result<Vec<Queue>>) -> Self {
        let now = status.map(|status| Now {
            coverage: percent(status.coverage),
            packets_per_s: scaled(status.packets_per_s),
            bits_per_s: scaled(status.bits_per_s),
            flows: status.flows,
            table_fill: percent(status.table_fill),
            open_incidents: status.open_incidents,
            learning: match status.warmup_left.is_zero() {
                true => String::new(),
                false => text::span(status.warmup_left),
            },
            lost: status.lost,
        });
        let line = |queue: &Queue| QueueLine { sink: name(&queue.sink), pending: queue.pending, dead: queue.dead };
        let (queues, trouble) = match queues {
            Ok(queues) => (queues.iter().map(line).collect(), String::new()),
            Err(error) => (Vec::new(), clip(&plain(&format!("{error:#}")), 200)),
        };
        Self { sensor: name(&author.sensor), now, queues, trouble }
    }
}

/// `/top`.
#[derive(Serialize)]
pub struct Top {
    sensor: String,
    incidents: usize,
    attackers: Vec<Rank>,
    victims: Vec<Rank>,
}

#[derive(Serialize)]
struct Rank {
    host: String,
    incidents: usize,
    emoji: &'static str,
}

impl Top {
    /// Who is in the most incidents, and the worst severity of these.
    pub fn of(sensor: &str, found: &[Kept], most: usize) -> Self {
        let rank = |hosts: fn(&Incident) -> &[IpAddr]| {
            let mut counts: BTreeMap<IpAddr, (usize, Severity)> = BTreeMap::new();
            for incident in found.iter().map(|kept| &kept.incident) {
                for host in hosts(incident) {
                    let (count, worst) = counts.entry(*host).or_insert((0, incident.severity));
                    (*count, *worst) = (*count + 1, incident.severity.max(*worst));
                }
            }
            let mut ranked: Vec<_> = counts.into_iter().collect();
            ranked.sort_by_key(|(host, (count, worst))| (std::cmp::Reverse((*count, *worst)), *host));
            let ranked = ranked.into_iter().take(most.min(RANKED));
            let line = |(host, (incidents, worst)): (IpAddr, _)| Rank {
                host: host.to_string(),
                incidents,
                emoji: dot(worst, false),
            };
            ranked.map(line).collect()
        };
        Self {
            sensor: name(sensor),
            incidents: found.len(),
            attackers: rank(|incident| &incident.attackers),
            victims: rank(|incident| &incident.victims),
        }
    }
}

/// `/incidents`.
#[derive(Serialize)]
pub struct List {
    sensor: String,
    incidents: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    emoji: &'static str,
    title: &'static str,
    attackers: String,
    victims: String,
    at: String,
    id: String,
    open: bool,
    verdict: &'static str,
}

impl List {
    /// The latest first.
    pub fn of(author: &Author, found: &[Kept], most: usize) -> Self {
        let line = |kept: &Kept| {
            let incident = &kept.incident;
            Line {
                emoji: dot(incident.severity, kept.closed_at.is_some()),
                title: text::title(incident.class, author.language),
                attackers: text::attackers(incident, LISTED, author.language),
                victims: text::list(&incident.victims, LISTED, author.language),
                at: moment(incident.detected_at),
                id: name(&incident.id),
                open: kept.closed_at.is_none(),
                verdict: verdict(kept, Words(author.language)),
            }
        };
        Self { sensor: name(&author.sensor), incidents: found.iter().rev().take(most).map(line).collect() }
    }
}

/// `/mutes`.
#[derive(Serialize)]
pub struct Mutes {
    total: usize,
    rules: Vec<RuleLine>,
}

#[derive(Serialize)]
struct RuleLine {
    name: String,
    what: String,
    until: String,
    reason: String,
}

impl Mutes {
    /// The rules of the store, by name.
    pub fn of(rules: &[Suppress], words: Words, most: usize) -> Self {
        let line = |rule: &Suppress| RuleLine {
            name: name(rule.name()),
            what: what(rule, words),
            until: rule.raw().expires.to_string(),
            reason: plain(&rule.raw().reason),
        };
        Self { total: rules.len(), rules: rules.iter().take(most).map(line).collect() }
    }
}

/// What a rule is about, in short.
pub fn what(rule: &Suppress, words: Words) -> String {
    let raw = rule.raw();
    let mut parts: Vec<String> = raw.class.iter().map(|class| text::title(*class, words.0).to_owned()).collect();
    let texts = |hosts: &[crate::config::network::Network]| hosts.iter().map(ToString::to_string).collect::<Vec<_>>();
    let hosts = words.hosts(&texts(&raw.from), &texts(&raw.to));
    parts.extend(raw.port.iter().map(ToString::to_string));
    plain(format!("{}{hosts}", parts.join(", ")).trim())
}

/// All that is known of an incident.
#[derive(Serialize)]
pub struct Details {
    #[serde(flatten)]
    view: View,
    open: bool,
    events: u32,
    verdict: &'static str,
    /// What people did.
    done: Vec<String>,
    moments: Vec<Moment>,
    flows: Vec<Flow>,
    roles: Vec<(String, String)>,
}

#[derive(Serialize)]
struct Moment {
    at: String,
    emoji: &'static str,
    attackers: u64,
    victims: u64,
    ports: u64,
}

#[derive(Serialize)]
struct Flow {
    from: String,
    to: String,
    proto: String,
    sent_packets: u64,
    sent_octets: u64,
    received_packets: u64,
    received_octets: u64,
    community_id: String,
}

impl Details {
    /// With at most so many lines of each kind; the time line keeps its latest.
    pub fn of(kept: &Kept, standing: &Standing, author: &Author, most: usize) -> Self {
        let mut view = View::of(&event_of(kept), author);
        view.evidence.retain(|one| one.name != "roles");
        let evidence = &kept.incident.evidence;
        let mut moments: Vec<_> = array(evidence.get("timeline")).filter_map(Moment::of).collect();
        moments.drain(..moments.len().saturating_sub(most));
        let roles = evidence.get("roles").and_then(Value::as_object).into_iter().flatten();
        let role = |(host, roles): (&String, &Value)| {
            let roles: Vec<&str> = array(Some(roles)).filter_map(Value::as_str).collect();
            (name(host), name(&roles.join(", ")))
        };
        Self {
            view: view.with_evidence(most),
            open: kept.closed_at.is_none(),
            events: kept.events,
            verdict: verdict(kept, Words(author.language)),
            done: standing.lines.clone(),
            moments,
            flows: array(evidence.get("sample_flows")).take(most).filter_map(Flow::of).collect(),
            roles: roles.take(most).map(role).collect(),
        }
    }
}

impl Moment {
    fn of(value: &Value) -> Option<Self> {
        let at = std::time::Duration::try_from_secs_f64(value.get("at")?.as_f64()?).ok()?;
        let severity = value.get("severity")?.as_str()?;
        let count = |name: &str| value.get(name).and_then(Value::as_u64).unwrap_or(0);
        Some(Self {
            at: moment(Timestamp::EPOCH + at),
            emoji: dot(Severity::ALL.into_iter().find(|one| one.as_str() == severity)?, false),
            attackers: count("attackers"),
            victims: count("victims"),
            ports: count("ports"),
        })
    }
}

impl Flow {
    fn of(value: &Value) -> Option<Self> {
        let number = |name: &str| value.get(name).and_then(Value::as_u64).unwrap_or(0);
        let end = |addr: &str, port: &str| {
            let addr = value.get(addr)?.as_str()?.parse::<IpAddr>().ok()?;
            Some(match (u16::try_from(number(port)).ok()?, addr) {
                (0, addr) => addr.to_string(),
                (port, addr) => std::net::SocketAddr::new(addr, port).to_string(),
            })
        };
        Some(Self {
            from: end("src_addr", "src_port")?,
            to: end("dst_addr", "dst_port")?,
            proto: match number("proto") {
                1 => "icmp".to_owned(),
                6 => "tcp".to_owned(),
                17 => "udp".to_owned(),
                58 => "icmpv6".to_owned(),
                other => other.to_string(),
            },
            sent_packets: number("sent_packets"),
            sent_octets: number("sent_octets"),
            received_packets: number("received_packets"),
            received_octets: number("received_octets"),
            community_id: name(value.get("community_id").and_then(Value::as_str).unwrap_or_default()),
        })
    }
}

fn verdict(kept: &Kept, words: Words) -> &'static str {
    match kept.judgement.as_ref().map(|judgement| judgement.verdict) {
        None => "",
        Some(Verdict::Confirmed) => words.was_confirmed(),
        Some(Verdict::FalsePositive) => words.was_false_positive(),
    }
}

fn array(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    value.and_then(Value::as_array).into_iter().flatten()
}

fn name(text: &str) -> String {
    clip(&plain(text), NAME_LIMIT)
}

const fn dot(severity: Severity, over: bool) -> &'static str {
    match severity {
        _ if over => "🟢",
        Severity::Low => "🔵",
        Severity::Medium => "🟡",
        Severity::High => "🟠",
        Severity::Critical => "🔴",
    }
}

fn percent(part: f64) -> String {
    // Rounded down: what is not all is never said to be.
    format!("{:.1} %", (part * 1000.0).floor() / 10.0)
}

/// With a prefix of the SI: `12.3 M`.
fn scaled(number: f64) -> String {
    for (unit, prefix) in [(1e9, "G"), (1e6, "M"), (1e3, "k")] {
        if number >= unit {
            return format!("{:.1} {prefix}", number / unit);
        }
    }
    format!("{number:.0} ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_short() {
        for (number, text) in [(0.0, "0 "), (999.0, "999 "), (12_340.0, "12.3 k"), (2.5e9, "2.5 G")] {
            assert_eq!(scaled(number), text);
        }
        assert_eq!((percent(0.9999).as_str(), percent(1.0).as_str()), ("99.9 %", "100.0 %"));
    }

    #[test]
    fn evidence_of_another_shape_is_left_out() {
        for value in
            [json!(5), json!({}), json!({"at": -1, "severity": "low"}), json!({"at": 1e300, "severity": "low"})]
        {
            assert!(Moment::of(&value).is_none() && Flow::of(&value).is_none(), "{value}");
        }
        assert!(Flow::of(&json!({"src_addr": "<b>", "dst_addr": "192.0.2.1"})).is_none());
        let flow = json!({"src_addr": "2001:db8::1", "src_port": 53, "dst_addr": "192.0.2.1", "proto": 17});
        let flow = Flow::of(&flow).unwrap();
        assert_eq!(
            (flow.from.as_str(), flow.to.as_str(), flow.proto.as_str()),
            ("[2001:db8::1]:53", "192.0.2.1", "udp")
        );
    }

    #[test]
    fn hosts_are_ranked_by_incidents_then_severity() {
        let kept = |victim: &str, severity| {
            let mut incident = crate::notify::testing::incident("a");
            (incident.severity, incident.victims) = (severity, vec![victim.parse().unwrap()]);
            Kept { incident, closed_at: None, events: 1, judgement: None, muted_by: None }
        };
        let found = [
            kept("192.0.2.9", Severity::Low),
            kept("192.0.2.9", Severity::Low),
            kept("192.0.2.1", Severity::Low),
            kept("192.0.2.2", Severity::High),
        ];
        let top = Top::of("s", &found, 50);
        let hosts: Vec<_> = top.victims.iter().map(|rank| (rank.host.as_str(), rank.incidents, rank.emoji)).collect();
        assert_eq!(hosts, [("192.0.2.9", 2, "🔵"), ("192.0.2.2", 1, "🟠"), ("192.0.2.1", 1, "🔵")]);
        assert_eq!((top.attackers.len(), top.attackers[0].incidents), (1, 4));
    }
}
