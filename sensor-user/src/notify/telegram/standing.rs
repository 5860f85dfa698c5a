//! What people have done about an incident, as its message shows it.

use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use sensor_core::incident::Incident;
use sensor_core::net::Network;
use sensor_core::respond::{Block, Measure, Scope, Target};
use sensor_core::time::Timestamp;

use super::keyboard::is_identifier;
use super::words::Words;
use crate::config::network;
use crate::config::suppress::{Expiry, RawSuppress, Suppress};
use crate::respond::Act;
use crate::store::keeper::Desk;
use crate::store::{Judgement, Kept, Verdict};

/// Longest reason of a rule, in octets.
const REASON_MAX: usize = 200;

/// Attackers that one press blocks.
const BLOCKED_MAX: usize = 8;

/// What has been done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// A line each: what, and who did it.
    pub lines: Vec<String>,
    /// Whether its rule holds.
    pub muted: bool,
    /// Whether somebody said what it was.
    pub judged: bool,
    /// The attackers that a button blocks: none where their addresses are forged.
    pub attackers: Vec<IpAddr>,
    /// Whether packets of one of them pass.
    pub can_block: bool,
    /// Whether something is done about one of them.
    pub can_unblock: bool,
}

impl Standing {
    /// As the store has it. Without a store nothing has been done.
    pub fn of(desk: &mut Desk, table: &str, id: &str) -> Self {
        let now = desk.now();
        let lines = [muted(id), judged(id)].into_iter().filter_map(|about| desk.recall(table, &about));
        let lines = lines.filter(|line| !line.is_empty()).collect();
        let Ok(store) = desk.store() else { return Self { lines, ..Self::default() } };
        let rules = store.mutes().unwrap_or_default();
        let kept = store.incident(id).ok().flatten().filter(|kept| kept.incident.id == id);
        let attackers = kept.as_ref().map(|kept| attackers(&kept.incident).to_vec()).unwrap_or_default();
        Self {
            lines,
            can_block: !attackers.is_empty(),
            can_unblock: false,
            attackers,
            muted: rules.iter().any(|rule| rule.name() == rule_name(id) && holds(rule, now)),
            judged: kept.is_some_and(|kept| kept.judgement.is_some()),
        }
    }

    /// With what is done about the attackers at the moment.
    #[must_use]
    pub fn with_blocks(mut self, act: &dyn Act, words: Words) -> Self {
        let covering = |addr: &IpAddr| -> Vec<Block> {
            act.covering(Network::of((*addr).into())).into_iter().filter(|block| block.enforced).collect()
        };
        let covered: Vec<(IpAddr, Vec<Block>)> = self.attackers.iter().map(|addr| (*addr, covering(addr))).collect();
        self.can_block = covered.iter().any(|(_, blocks)| !blocks.iter().any(stops_all));
        let held: Vec<IpAddr> =
            covered.iter().filter(|(_, blocks)| !blocks.is_empty()).map(|(addr, _)| *addr).collect();
        self.can_unblock = !held.is_empty();
        if let Some(last) = covered.iter().flat_map(|(_, blocks)| blocks).max_by_key(|block| block.until) {
            self.lines.push(words.held(&held, last));
        }
        self
    }
}

/// The attackers of an incident that a button blocks.
pub fn attackers(incident: &Incident) -> &[IpAddr] {
    let forged = incident.evidence.get("spoofed") == Some(&serde_json::Value::Bool(true));
    if forged { &[] } else { &incident.attackers[..incident.attackers.len().min(BLOCKED_MAX)] }
}

/// Whether no packet passes while this is in force.
pub fn stops_all(block: &Block) -> bool {
    let all = matches!(block.target, Target::Peer { scope: Scope::All, .. });
    block.enforced && all && block.measure == Measure::Drop
}

/// Who does something.
#[derive(Clone, Debug)]
pub struct Person {
    /// As the audit knows them.
    pub actor: String,
    /// As a message calls them.
    pub name: String,
}

/// What became of a wish to mute.
pub enum Muted {
    /// There was such a rule, until then.
    Before(String),
    /// There is now, until then.
    Now(Suppress),
}

/// The name of the rule about an incident.
pub fn rule_name(id: &str) -> String {
    format!("telegram-{id}")
}

/// Mutes the attackers of an incident in what they do, or what is done to its victims where they are not known.
pub fn mute(desk: &mut Desk, table: &str, kept: &Kept, who: &Person, wish: &Wish, words: Words) -> Result<Muted> {
    let now = desk.now();
    let incident = &kept.incident;
    let rule = rule(incident, now, wish, who, words)?;
    let store = desk.store()?;
    if !wish.replaces {
        let before = store.mutes()?.into_iter().find(|one| one.name() == rule.name() && holds(one, now));
        if let Some(before) = before {
            return Ok(Muted::Before(before.raw().expires.to_string()));
        }
    }
    store.add_mute(&rule, &who.actor, now).context("keep the rule")?;
    desk.remember(table, &muted(&incident.id), &words.muted(&rule.raw().expires.to_string(), &who.name));
    Ok(Muted::Now(rule))
}

/// Removes a rule; says whether there was one.
pub fn unmute(desk: &mut Desk, table: &str, name: &str, who: &Person) -> Result<bool> {
    let now = desk.now();
    let removed = desk.store()?.remove_mute(name, &who.actor, now).context("remove the rule")?;
    if let (true, Some(id)) = (removed, name.strip_prefix(&rule_name(""))) {
        desk.remember(table, &muted(id), "");
    }
    Ok(removed)
}

/// Keeps what somebody says of an incident; says whether that is new.
pub fn judge(desk: &mut Desk, table: &str, kept: &Kept, who: &Person, verdict: Verdict, words: Words) -> Result<bool> {
    if kept.judgement.as_ref().is_some_and(|judgement| judgement.verdict == verdict) {
        return Ok(false);
    }
    let (now, id) = (desk.now(), &kept.incident.id);
    let judgement = Judgement { verdict, reason: String::new() };
    ensure!(desk.store()?.judge(id, &judgement, &who.actor, now).context("keep it")?, "{}", words.no_incident());
    let line = match verdict {
        Verdict::Confirmed => words.found_true(&who.name),
        Verdict::FalsePositive => words.found_false(&who.name),
    };
    desk.remember(table, &judged(id), &line);
    Ok(true)
}

/// A wish to mute.
#[derive(Clone, Debug)]
pub struct Wish {
    /// For how long.
    pub seconds: u64,
    /// Why; may be empty.
    pub reason: String,
    /// Whether a rule that holds is replaced.
    pub replaces: bool,
}

fn rule(incident: &Incident, now: Timestamp, wish: &Wish, who: &Person, words: Words) -> Result<Suppress> {
    ensure!(is_identifier(&incident.id), "{}", words.no_incident());
    let network = |addr: &IpAddr| network::Network::try_from(addr.to_string()).map_err(anyhow::Error::msg);
    let all = incident.evidence.get("attackers_total").and_then(serde_json::Value::as_u64);
    // A rule on some of many attackers would let the others be reported.
    let known = all.is_none_or(|all| all <= incident.attackers.len() as u64);
    let (from, to) = match (incident.attackers.is_empty(), incident.victims.is_empty()) {
        (false, no_victims) if known || no_victims => (incident.attackers.as_slice(), [].as_slice()),
        (_, false) => ([].as_slice(), incident.victims.as_slice()),
        (_, true) => anyhow::bail!("{}", words.nothing_to_mute_by()),
    };
    let until = i64::try_from(now.secs().saturating_add(wish.seconds)).unwrap_or(i64::MAX);
    let reason = match wish.reason.is_empty() {
        true => format!("muted by {}", who.actor),
        false => wish.reason.clone(),
    };
    Suppress::try_from(RawSuppress {
        name: rule_name(&incident.id),
        reason: cut(&reason).to_owned(),
        expires: Expiry::At(until),
        class: [incident.class].into(),
        from: from.iter().map(network).collect::<Result<_>>()?,
        to: to.iter().map(network).collect::<Result<_>>()?,
        ..RawSuppress::default()
    })
    .map_err(anyhow::Error::msg)
}

/// As much of a reason as a rule takes.
fn cut(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(REASON_MAX)]
}

fn holds(rule: &Suppress, now: Timestamp) -> bool {
    rule.raw().expires.at().is_none_or(|end| end > now)
}

fn muted(id: &str) -> String {
    format!("muted:{id}")
}

fn judged(id: &str) -> String {
    format!("judged:{id}")
}
