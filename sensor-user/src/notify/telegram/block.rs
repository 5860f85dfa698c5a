//! Blocking and unblocking: by a command, after asking, and by the buttons below a message.
//!
//! Whoever acts is noted by the responder: nothing is audited here.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::PoisonError;
use std::time::Duration;

use sensor_core::net::Network;
use sensor_core::respond::{Block, Decider, Measure, Scope, Selection, Target, Wish};
use serde_json::Value;
use tokio::time::Instant;

use super::answer::Answer;
use super::command::{HOUR, Order};
use super::html::escape;
use super::keyboard;
use super::listener::Listener;
use super::page;
use super::press::{Outcome, Then};
use super::question::{Late, Place};
use super::standing::{Person, attackers, stops_all};
use crate::notify::text::clip;
use crate::respond::Listed;
use crate::store::{Kept, event_time};

/// The reason of a block that a button put, before the incident's identifier.
const INCIDENT: &str = "incident ";
/// Incidents whose messages are drawn anew when a command lifts their blocks.
const REDRAWN: usize = 8;

impl Listener {
    /// Asks whether an order is meant.
    pub(super) fn question(&self, order: Order) -> Answer {
        let words = self.bot.words();
        if self.bot.acting().is_none() {
            return words.cannot_act().to_owned().into();
        }
        Answer { html: words.question(&order), order: Some(order) }
    }

    /// Keeps what a message has asked.
    pub(super) fn asked(&self, place: Place, order: Order) {
        self.questions.lock().unwrap_or_else(PoisonError::into_inner).ask(place, order, Instant::now());
    }

    /// Does what a message has asked, if it is meant.
    pub(super) async fn consent(&self, place: Place, meant: bool, who: &Person) -> Outcome {
        let words = self.bot.words();
        let Some(act) = self.bot.acting() else { return Outcome::alert(words.cannot_act()) };
        let asked = self.questions.lock().unwrap_or_else(PoisonError::into_inner).take(place, Instant::now());
        match asked {
            None => Outcome::short(words.question_unknown(), Then::Offer(None)),
            Some(Err(Late)) => Outcome::short(words.question_late(), Then::Rewrite(escape(words.question_late()))),
            Some(Ok(_)) if !meant => Outcome::then(Then::Rewrite(escape(words.left()))),
            Some(Ok(Order::Block { network, seconds, reason })) => {
                match act.block(wish(network, seconds, who, reason)) {
                    Ok(listed) => {
                        let done = words.blocked(&listed.block, &who.name);
                        Outcome::short(words.blocked_short(), Then::Rewrite(done))
                    }
                    Err(refusal) => {
                        let (alert, done) = words.refused(network, &refusal);
                        Outcome::alert_then(alert, Then::Rewrite(done))
                    }
                }
            }
            Some(Ok(Order::Unblock { network, reason })) => {
                let lifted = act.unblock(Selection::Network(network), &who.actor, &reason);
                self.redraw_incidents(&lifted).await;
                let done = words.unblocked(network, lifted.len(), &act.within(network), &who.name);
                Outcome::short("", Then::Rewrite(done))
            }
        }
    }

    /// What is blocked, as HTML.
    pub(super) fn blocks(&self) -> String {
        let words = self.bot.words();
        let Some(act) = self.bot.acting() else { return words.cannot_act().to_owned() };
        let (listed, mode, now) = (act.blocks(), act.mode(), event_time((self.clock)()));
        self.bot.page("telegram.blocks.html", |most| page::Blocks::of(&listed, mode, (words, now), most))
    }

    pub(super) fn ask_to_block(&self, kept: &Kept) -> Outcome {
        let attackers = attackers(&kept.incident);
        let sure = |words| keyboard::sure_to_block(&kept.incident.id, attackers, words);
        self.ask_about(attackers, sure)
    }

    pub(super) fn ask_to_unblock(&self, kept: &Kept) -> Outcome {
        self.ask_about(attackers(&kept.incident), |words| keyboard::sure_to_unblock(&kept.incident.id, words))
    }

    fn ask_about(&self, attackers: &[IpAddr], sure: impl FnOnce(super::words::Words) -> Option<Value>) -> Outcome {
        let words = self.bot.words();
        match (self.bot.acting(), attackers) {
            (None, _) => Outcome::alert(words.cannot_act()),
            (Some(_), []) => Outcome::alert(words.nobody_to_block()),
            (Some(_), _) => Outcome::then(Then::Offer(sure(words))),
        }
    }

    /// Blocks the attackers of an incident whose packets pass.
    pub(super) fn block_attackers(&self, kept: Box<Kept>, who: &Person) -> Outcome {
        let words = self.bot.words();
        let Some(act) = self.bot.acting() else { return Outcome::alert(words.cannot_act()) };
        let (now, span) = (event_time((self.clock)()), Duration::from_secs(HOUR));
        let incident = &kept.incident;
        let (mut put, mut before, mut refused) = (0, 0, Vec::new());
        for &addr in attackers(incident) {
            let network = Network::of(addr.into());
            // A press does not make shorter what somebody has wanted, nor what the sensor does anyway.
            let lasts = |block: &Block| stops_all(block) && (!block.is_automatic() || block.left(now) >= span);
            if act.covering(network).iter().any(lasts) {
                before += 1;
                continue;
            }
            match act.block(wish(network, None, who, format!("{INCIDENT}{}", incident.id))) {
                Ok(_) => put += 1,
                Err(refusal) => refused.push(words.refused(network, &refusal).1),
            }
        }
        if put + before + refused.len() == 0 {
            return Outcome::alert(words.nobody_to_block());
        }
        let known = incident.evidence.get("attackers_total").and_then(Value::as_u64).unwrap_or(0);
        let all = known.max(incident.attackers.len() as u64);
        let told = words.attackers_blocked([put, before, refused.len()], all);
        if refused.is_empty() {
            return Outcome::short(told, Then::Redraw(kept));
        }
        let at_length = format!("{}\n{}", escape(&told), refused.join("\n"));
        Outcome::alert_then(told, Then::RedrawAndSay(kept, at_length))
    }

    /// Lifts what is blocked of the attackers of an incident.
    pub(super) fn unblock_attackers(&self, kept: Box<Kept>, who: &Person) -> Outcome {
        let words = self.bot.words();
        let Some(act) = self.bot.acting() else { return Outcome::alert(words.cannot_act()) };
        let reason = format!("{INCIDENT}{}", kept.incident.id);
        let (mut lifted, mut wider) = (0, BTreeSet::new());
        for &addr in attackers(&kept.incident) {
            let network = Network::of(addr.into());
            lifted += act.unblock(Selection::Network(network), &who.actor, &reason).len();
            wider.extend(act.within(network));
        }
        let told = words.attackers_unblocked(lifted, &wider.into_iter().collect::<Vec<_>>());
        Outcome::short(clip(&told, super::words::ANSWER_LIMIT), Then::Redraw(kept))
    }

    /// Has messages show that blocks are no more which were put because of their incidents.
    async fn redraw_incidents(&self, lifted: &[Listed]) {
        let id = |listed: &Listed| match &listed.block.by {
            Decider::Incident(id) => Some(id.clone()),
            Decider::Person(_) => listed.block.reason.strip_prefix(INCIDENT).map(str::to_owned),
            Decider::List(_) => None,
        };
        let ids: BTreeSet<String> = lifted.iter().filter_map(id).filter(|id| keyboard::is_identifier(id)).collect();
        for id in ids.into_iter().take(REDRAWN) {
            if let Some(kept) = self.kept(&id).await.ok().flatten().filter(|kept| kept.incident.id == id) {
                self.redraw(&kept, None).await;
            }
        }
    }
}

fn wish(network: Network, seconds: Option<u64>, who: &Person, reason: String) -> Wish {
    let (target, span) = (Target::Peer { network, scope: Scope::All }, seconds.map(Duration::from_secs));
    Wish { target, measure: Measure::Drop, span, actor: who.actor.clone(), reason }
}
