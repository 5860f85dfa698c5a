//! Brings the events of the outbox to one sink: in order, again and again, and not more often than it may be told.
//!
//! The courier holds nothing that the outbox has not. What it was about to send when the process died is sent again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use sensor_core::incident::{Change, Severity};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::{error, info, warn};

use super::pace::{Pace, Permit};
use super::retry::Backoff;
use super::sink::{Outcome, Refusal, Sink};
use super::terms::Terms;
use super::{Clock, Wiring};
use crate::export::prometheus::Metrics;
use crate::store::keeper::{Keeper, News};
use crate::store::{Event, Fate, Settlement, event_time};

/// Events that are looked at together.
const FETCH: usize = 256;
/// Longest wait that a receiver may ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(600);
/// Longest wait for a permit before what waits is looked at again.
const LOOK: Duration = Duration::from_secs(1);
/// Wait after a receiver has refused who we are.
const REFUSED: Duration = Duration::from_secs(300);

/// Brings events to one sink.
pub struct Courier<S> {
    name: String,
    sink: S,
    terms: Terms,
    keeper: Keeper,
    metrics: Arc<Metrics>,
    clock: Clock,
    news: watch::Receiver<News>,
    others: u64,
    closing: watch::Receiver<bool>,
    /// The last event that is dealt with, whether or not that could be kept.
    done: i64,
    pace: Pace,
    backoff: Backoff,
    /// Why the last attempt failed, if it did.
    failing: Option<String>,
    /// Most events of one request: halved when a request of several is refused, to find the one that is.
    most: usize,
    refresh_at: Option<Instant>,
}

/// Whether to go on.
#[derive(PartialEq, Eq)]
enum Step {
    On,
    Stop,
}

impl<S: Sink> Courier<S> {
    /// A courier for the sink called `name`.
    pub fn new(
        name: String,
        sink: S,
        terms: Terms,
        keeper: Keeper,
        wiring: &Wiring,
        closing: watch::Receiver<bool>,
    ) -> Self {
        Self {
            pace: Pace::new(&terms, Instant::now()),
            news: keeper.news(),
            metrics: Arc::clone(&wiring.metrics),
            clock: Arc::clone(&wiring.clock),
            backoff: wiring.retry.backoff(),
            name,
            sink,
            terms,
            keeper,
            others: 0,
            closing,
            done: 0,
            failing: None,
            most: FETCH,
            refresh_at: Some(Instant::now()),
        }
    }

    /// Runs until the sensor stops and nothing waits that can be delivered at once.
    pub async fn run(mut self) {
        loop {
            let news = *self.news.borrow_and_update();
            if news.others != self.others {
                // What was given up may wait again.
                (self.others, self.done) = (news.others, 0);
            }
            self.refresh_when_due().await;
            let mut waiting = self.keeper.pending(&self.name, self.done, FETCH).await;
            self.foresee(&mut waiting);
            let step = if waiting.is_empty() { self.rest().await } else { self.work(&waiting).await };
            if step == Step::Stop {
                return;
            }
        }
    }

    async fn refresh_when_due(&mut self) {
        if self.refresh_at.is_some_and(|at| at <= Instant::now()) {
            self.refresh_at = self.sink.refresh().await.map(|span| Instant::now() + span);
        }
    }

    /// Of an incident whose earlier event is sent with it, the sink will have been told.
    fn foresee(&self, waiting: &mut [Event]) {
        let mut told = BTreeSet::new();
        for event in waiting {
            event.told |= told.contains(&event.incident.id);
            if self.terms.refuses(event).is_none() {
                told.insert(event.incident.id.clone());
            }
        }
    }

    /// Waits for something to happen.
    async fn rest(&mut self) -> Step {
        if *self.closing.borrow() {
            return Step::Stop;
        }
        let refresh_at = self.refresh_at;
        let refresh = async {
            match refresh_at {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = self.news.changed() => if changed.is_ok() { Step::On } else { Step::Stop },
            closed = self.closing.changed() => if closed.is_ok() { Step::On } else { Step::Stop },
            () = refresh => Step::On,
        }
    }

    /// Deals with the first of what waits: leaves out what is not wanted, and sends what is.
    async fn work(&mut self, waiting: &[Event]) -> Step {
        let unwanted = waiting.iter().map_while(|event| Some((event, self.terms.refuses(event)?)));
        let unwanted: Vec<_> = unwanted.map(|(event, why)| self.fate(event, Fate::Skipped, Some(why))).collect();
        let (skipped, rest) = waiting.split_at(unwanted.len());
        self.settle(unwanted, Outcome::Skipped);
        self.done = skipped.last().map_or(self.done, |event| event.seq);
        let wanted = rest.iter().position(|event| self.terms.refuses(event).is_some()).unwrap_or(rest.len());
        let wanted = &rest[..wanted];
        if wanted.is_empty() {
            return Step::On;
        }
        if S::BATCH > 1 {
            let most = wanted.len().min(S::BATCH).min(self.most);
            return self.send(&wanted[..most], false).await;
        }
        let urgent = wanted.iter().any(|event| {
            event.incident.severity == Severity::Critical
                && event.change != Change::Closed
                && (event.rose || !event.told)
        });
        match self.pace.permit(rest.len(), urgent, Instant::now()) {
            Permit::Message => self.send(&wanted[..1], false).await,
            Permit::Digest if wanted.len() > 1 && self.most > 1 => {
                self.send(&wanted[..wanted.len().min(self.most)], true).await
            }
            Permit::Digest => self.send(&wanted[..1], false).await,
            Permit::Wait(_) if *self.closing.borrow() => Step::Stop,
            // Something urgent may come meanwhile.
            Permit::Wait(until) => self.wait(until.min(Instant::now() + LOOK)).await,
        }
    }

    /// Waits until a time, or the end of the sensor.
    async fn wait(&mut self, until: Instant) -> Step {
        tokio::select! {
            () = sleep_until(until) => {}
            _ = self.closing.changed() => {}
        }
        Step::On
    }

    /// One request. `self.done` moves on if it was taken, or given up.
    async fn send(&mut self, events: &[Event], digest: bool) -> Step {
        let answer = if digest {
            self.sink.digest(events).await.map(|listed| listed.clamp(1, events.len()))
        } else {
            self.sink.deliver(events).await.map(|()| events.len())
        };
        match answer {
            Ok(taken) => {
                self.taken(&events[..taken], digest);
                Step::On
            }
            Err(Refusal::Never(_)) if events.len() > 1 => {
                self.most = events.len() / 2;
                Step::On
            }
            Err(Refusal::Never(why)) => {
                self.give_up(events, &why);
                self.most = FETCH;
                Step::On
            }
            Err(refusal @ (Refusal::Later { .. } | Refusal::Credentials(_))) => self.try_later(events, refusal).await,
        }
    }

    fn taken(&mut self, events: &[Event], digest: bool) {
        if self.failing.take().is_some() {
            info!(sink = self.name, "the sink takes events again");
        }
        self.backoff.reset();
        self.most = FETCH;
        self.pace.spend(Instant::now());
        let note = digest.then_some("in a digest");
        let settled = events.iter().map(|event| self.fate(event, Fate::Delivered, note)).collect();
        self.settle(settled, Outcome::Delivered);
        self.done = events.last().map_or(self.done, |event| event.seq);
    }

    /// Gives up what is too old, and waits before another attempt.
    async fn try_later(&mut self, events: &[Event], refusal: Refusal) -> Step {
        self.metrics.store().notified(&self.name, Outcome::Retried, 1);
        let now = event_time((self.clock)());
        let old = events.iter().take_while(|event| now.since(event.kept_at) >= self.terms.give_up_after.get()).count();
        self.give_up(&events[..old], refusal.why());
        if self.failing.as_deref() != Some(refusal.why()) {
            match &refusal {
                Refusal::Credentials(why) => {
                    error!(
                        sink = self.name,
                        why, "the sink refuses who we are: mend its table in [notify], and restart"
                    );
                }
                Refusal::Later { why, .. } | Refusal::Never(why) => {
                    warn!(sink = self.name, why, "the sink does not take events, trying again");
                }
            }
        }
        self.failing = Some(refusal.why().to_owned());
        if *self.closing.borrow() {
            return Step::Stop;
        }
        let wait = match refusal {
            Refusal::Later { after: Some(asked), .. } => asked.min(LONGEST_ASKED),
            Refusal::Credentials(_) => REFUSED,
            Refusal::Later { after: None, .. } | Refusal::Never(_) => self.backoff.wait(),
        };
        self.wait(Instant::now() + wait).await
    }

    fn give_up(&mut self, events: &[Event], why: &str) {
        let Some(last) = events.last() else { return };
        error!(
            sink = self.name,
            why,
            events = events.len(),
            first = events[0].key(),
            "events are given up; `leuko notify dead` shows them, `leuko notify resend` tries again"
        );
        let settled = events.iter().map(|event| self.fate(event, Fate::Dead, Some(why))).collect();
        self.settle(settled, Outcome::Dead);
        self.done = last.seq;
    }

    fn fate(&self, event: &Event, fate: Fate, note: Option<&str>) -> Settlement {
        Settlement { sink: self.name.clone(), seq: event.seq, fate, note: note.map(ToOwned::to_owned) }
    }

    fn settle(&self, settled: Vec<Settlement>, outcome: Outcome) {
        self.metrics.store().notified(&self.name, outcome, settled.len() as u64);
        self.keeper.settle(settled);
    }
}
