//! The pipeline in one piece: slots in, incidents out, at ticks of event time.
//!
//! A source drives it, live or from a capture, in the same order at each tick: [`Engine::observe`] every slot in which
//! something moved, [`Engine::expire`] and [`Engine::retire`] what the source released, then [`Engine::tick`]. A source
//! whose table can overflow hands in its aggregates in the same way. ARP messages and the interval's coverage are handed
//! in at any time before the tick.

mod config;
mod report;

pub use config::EngineConfig;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use sensor_ebpf::abi::{Addr, Aggregate, ArpMessage, FlowSlot};
use sensor_models::{Baseline, Mark};

use crate::arp::ArpTable;
use crate::canary::Canary;
use crate::coverage::Held;
use crate::detect::{
    Anomaly, AnomalyParams, BeaconCandidate, BeaconState, Detector as _, Detectors, HostAnomaly, HostAnomalyParams,
};
use crate::features::flow::FlowVector;
use crate::features::host::HostWindows;
use crate::flow::{AggregateId, AggregateTable, FlowEvent, FlowRecord, FlowTable, Outcome, OverflowEvent, SlotId};
use crate::incident::suppress::{Rule, Suppressor};
use crate::incident::{Admission, Book, Class, Incident, IncidentEvent};
use crate::learn::{FitJob, Fitted, LearnParams};
use crate::roles::Roles;
use crate::service::{Attempt, Services};
use crate::time::Timestamp;

/// Flow table, features, detectors and incidents.
#[derive(Debug)]
pub struct Engine {
    table: FlowTable,
    aggregates: AggregateTable,
    arp: ArpTable,
    windows: HostWindows,
    roles: Roles,
    services: Services,
    detectors: Detectors,
    anomaly: Anomaly,
    host_anomaly: HostAnomaly,
    book: Book,
    admission: Admission,
    suppressor: Suppressor,
    disabled: BTreeSet<Class>,
    own: BTreeSet<(Addr, u16)>,
    canary: Option<Canary>,
    keep_records: bool,
    records: Vec<FlowRecord>,
    ended: BTreeMap<&'static str, u64>,
    /// Of the interval that ends with the next tick.
    coverage: f64,
    /// Incidents of this tick for which examples of flows were looked for.
    looked_for_samples: usize,
    /// Scratch of [`Self::tick`].
    overdue: Vec<FlowEvent>,
}

impl Engine {
    /// An engine that has seen nothing.
    #[must_use]
    pub fn new(config: EngineConfig) -> Self {
        let learn = LearnParams { warmup: config.warmup, ..LearnParams::default() };
        let anomaly = AnomalyParams { learn, classifier: config.classifier, ..AnomalyParams::default() };
        let mut suppressor = Suppressor::default();
        suppressor.set(config.suppressed);
        Self {
            table: FlowTable::new(config.timeouts),
            aggregates: AggregateTable::default(),
            arp: ArpTable::default(),
            windows: HostWindows::default(),
            roles: Roles::new(config.local),
            services: Services::default(),
            detectors: Detectors::new(config.detectors),
            anomaly: Anomaly::new(anomaly, config.baseline),
            host_anomaly: HostAnomaly::new(
                HostAnomalyParams { learn, ..HostAnomalyParams::default() },
                config.host_baseline,
            ),
            book: Book::new(config.language),
            admission: Admission::new(config.budget),
            suppressor,
            disabled: config.disabled,
            own: config.own_endpoints.into_iter().map(|(addr, port)| (addr.into(), port)).collect(),
            canary: None,
            keep_records: config.keep_records,
            records: Vec::new(),
            ended: BTreeMap::new(),
            coverage: 1.0,
            looked_for_samples: 0,
            overdue: Vec::new(),
        }
    }

    /// Makes room for all the slots a source has, so that nothing is moved later.
    pub fn reserve_flows(&mut self, slots: usize) {
        self.table.reserve(slots);
    }

    /// Takes in a slot in which something moved since the last tick. `epoch_ns` is what to add to the source's times
    /// to get event time.
    pub fn observe(&mut self, id: SlotId, slot: &FlowSlot, epoch_ns: u64, now: Timestamp) {
        let event = self.table.observe(id, slot, epoch_ns, now);
        self.feed(&event, Some(slot));
    }

    /// Takes in a slot of a flow that was there before this engine: what has happened to it so far is no news.
    pub fn adopt(&mut self, id: SlotId, slot: &FlowSlot, epoch_ns: u64, now: Timestamp) {
        self.table.observe(id, slot, epoch_ns, now);
    }

    /// Says whether the source has little room for new flows: those in use then keep theirs.
    pub const fn set_pressure(&mut self, under_pressure: bool) {
        self.table.set_pressure(under_pressure);
    }

    /// Slots of flows that have ended: the source releases them and hands their final counters to [`Self::retire`].
    pub fn expire(&mut self, now: Timestamp) -> Vec<SlotId> {
        self.table.expire(now)
    }

    /// All live slots, for the end of the input.
    pub fn drain(&mut self) -> Vec<SlotId> {
        self.table.drain()
    }

    /// Takes in the final counters of a released slot.
    pub fn retire(&mut self, id: SlotId, slot: &FlowSlot, epoch_ns: u64, now: Timestamp) {
        let (event, record) = self.table.retire(id, slot, epoch_ns, now);
        self.feed(&event, Some(slot));
        *self.ended.entry(record.end_reason.as_str()).or_default() += 1;
        if !self.is_own(&event) && !self.canary.as_ref().is_some_and(|canary| canary.owns(&event)) {
            let flagged = self.book.involves(event.client.addr) || self.book.involves(event.server.addr);
            self.anomaly.observe(&record, flagged);
        }
        if self.keep_records {
            self.records.push(record);
        }
    }

    /// Takes in an aggregate in which something moved since the last tick.
    pub fn observe_aggregate(&mut self, id: AggregateId, aggregate: &Aggregate, epoch_ns: u64) {
        let event = self.aggregates.observe(id, aggregate, epoch_ns);
        self.feed_overflow(&event);
    }

    /// As [`Self::adopt`], for an aggregate.
    pub fn adopt_aggregate(&mut self, id: AggregateId, aggregate: &Aggregate, epoch_ns: u64) {
        self.aggregates.observe(id, aggregate, epoch_ns);
    }

    /// Aggregates that are of no more use: the source releases them and hands their final counters to
    /// [`Self::retire_aggregate`].
    #[must_use]
    pub fn expire_aggregates(&self, now: Timestamp) -> Vec<AggregateId> {
        self.aggregates.expire(now)
    }

    /// All aggregates that can be released, for the end of the input.
    #[must_use]
    pub fn drain_aggregates(&self) -> Vec<AggregateId> {
        self.aggregates.drain()
    }

    /// Takes in the final counters of a released aggregate.
    pub fn retire_aggregate(&mut self, id: AggregateId, aggregate: &Aggregate, epoch_ns: u64) {
        let event = self.aggregates.retire(id, aggregate, epoch_ns);
        self.feed_overflow(&event);
    }

    /// Takes in an ARP message.
    pub fn observe_arp(&mut self, message: &ArpMessage, epoch_ns: u64) {
        let at = Timestamp::from_nanos(message.time_ns.wrapping_add(epoch_ns));
        self.arp.observe(message, at);
        self.detectors.observe_arp(message, at, &self.arp);
    }

    /// Notes which part of the interval's packets was accounted (see [`crate::coverage`]): incidents found at the next
    /// tick are stamped with it.
    pub const fn note_coverage(&mut self, ratio: f64) {
        self.coverage = ratio;
    }

    /// Ends a tick: decides what is overdue, asks every detector, and says what became of incidents.
    pub fn tick(&mut self, now: Timestamp) -> Vec<IncidentEvent> {
        self.looked_for_samples = 0;
        let mut overdue = std::mem::take(&mut self.overdue);
        self.table.overdue(now, |event| overdue.push(event));
        overdue.drain(..).for_each(|event| self.feed(&event, None));
        self.overdue = overdue;
        let mut events = Vec::new();
        let mut findings = self.detectors.tick(now, &self.roles);
        let book = &self.book;
        findings.extend(self.anomaly.tick(now, |addr| book.involves(addr)));
        findings.extend(self.host_anomaly.tick(now, &self.roles, |addr| book.involves(addr)));
        for finding in findings {
            events.extend(self.report(finding, now));
        }
        if let Some(canary) = &mut self.canary {
            canary.tick(now, &self.roles);
        }
        self.note_windows(now);
        events.extend(self.book.expire(now));
        events
    }

    /// Closes what is still open: the input has ended.
    pub fn finish(&mut self, now: Timestamp) -> Vec<IncidentEvent> {
        self.book.close_all(now)
    }

    /// Whether nothing would happen at a tick without packets, so that an idle gap can be skipped.
    #[must_use]
    pub fn is_quiescent(&self) -> bool {
        !self.table.is_waiting()
            && self.book.open().len() == 0
            && self.windows.is_empty()
            && self.anomaly.is_idle()
            && self.host_anomaly.is_idle()
            && self.detectors.is_idle()
    }

    /// Flows that ended since the last call, if the configuration keeps them.
    pub fn take_records(&mut self) -> Vec<FlowRecord> {
        std::mem::take(&mut self.records)
    }

    /// Scores of the flows that ended since the last call.
    pub fn take_scores(&mut self) -> Vec<f64> {
        self.anomaly.take_scores()
    }

    /// Flows that ended so far, by reason.
    #[must_use]
    pub const fn ended(&self) -> &BTreeMap<&'static str, u64> {
        &self.ended
    }

    /// Live flows.
    #[must_use]
    pub const fn live_flows(&self) -> usize {
        self.table.len()
    }

    /// Flows begun so far.
    #[must_use]
    pub const fn started_flows(&self) -> u64 {
        self.table.started()
    }

    /// Packets in flows so far.
    #[must_use]
    pub const fn accounted_packets(&self) -> u64 {
        self.table.accounted()
    }

    /// Packets in overflow aggregates so far.
    #[must_use]
    pub const fn overflowed_packets(&self) -> u64 {
        self.aggregates.packets()
    }

    /// What the source has handed over so far, for the equation of [`crate::coverage`].
    #[must_use]
    pub const fn held(&self) -> Held {
        Held { in_flows: self.table.accounted(), in_aggregates: self.aggregates.packets(), earlier: 0 }
    }

    /// ARP messages so far.
    #[must_use]
    pub const fn arp_messages(&self) -> u64 {
        self.arp.messages()
    }

    /// Claims of addresses in ARP messages so far.
    #[must_use]
    pub const fn arp_claims(&self) -> u64 {
        self.arp.claims()
    }

    /// Addresses claimed by another station than before, so far.
    #[must_use]
    pub const fn arp_conflicts(&self) -> u64 {
        self.arp.conflicts()
    }

    /// Replaces the endpoints of the sensor itself and of its receivers.
    pub fn set_own_endpoints(&mut self, endpoints: impl IntoIterator<Item = (IpAddr, u16)>) {
        self.own = endpoints.into_iter().map(|(addr, port)| (addr.into(), port)).collect();
    }

    /// Sets the traffic that is marked as the sensor's own, to be watched by itself.
    pub fn set_canary(&mut self, canary: Canary) {
        self.canary = Some(canary);
    }

    /// The marked traffic, and what was seen of it.
    pub const fn canary_mut(&mut self) -> Option<&mut Canary> {
        self.canary.as_mut()
    }

    /// Incidents that are open.
    pub fn open_incidents(&self) -> impl ExactSizeIterator<Item = &Incident> {
        self.book.open()
    }

    /// Findings so far that found no room for an incident.
    #[must_use]
    pub const fn not_opened_incidents(&self) -> u64 {
        self.book.not_opened()
    }

    /// Incidents opened so far.
    #[must_use]
    pub const fn opened_incidents(&self) -> u64 {
        self.book.opened()
    }

    /// The alert budget, and what it was spent on.
    #[must_use]
    pub const fn admission(&self) -> &Admission {
        &self.admission
    }

    /// What is not reported, and how often that was.
    #[must_use]
    pub const fn suppressor(&self) -> &Suppressor {
        &self.suppressor
    }

    /// Replaces the rules of what is not reported.
    pub fn suppress(&mut self, rules: Vec<Rule>) {
        self.suppressor.set(rules);
    }

    /// Series of calls to the same service, most regular first: those reported as `beacon`, and those that might be.
    #[must_use]
    pub fn beacons(&self) -> Vec<BeaconCandidate> {
        self.detectors.beacon().candidates(&self.roles)
    }

    /// What is remembered of calls, to be saved for [`Self::resume_beacons`].
    #[must_use]
    pub fn beacon_state(&self) -> BeaconState {
        self.detectors.beacon().state()
    }

    /// Goes on with the calls that an earlier process has seen.
    pub fn resume_beacons(&mut self, state: &BeaconState) {
        self.detectors.beacon_mut().resume(state);
    }

    /// Takes in what a person said of an incident, with flows that are part of it: at once, and in the next fit, the like of
    /// a false positive is normal and the like of an attack is not. Gives how many rows it is about.
    pub fn judge(&mut self, incident: &Incident, mark: Mark, flows: &[FlowVector]) -> usize {
        let flows = flows.iter().filter(|vector| self.anomaly.mark(mark, vector)).count();
        let minute = report::minute_of(incident).is_some_and(|vector| self.host_anomaly.mark(mark, &vector));
        flows + usize::from(minute)
    }

    /// What is normal, once it is known.
    #[must_use]
    pub fn baseline(&self) -> Option<&Baseline> {
        self.anomaly().learner().baseline()
    }

    /// The detector of hosts that are not normal.
    #[must_use]
    pub const fn host_anomaly(&self) -> &HostAnomaly {
        &self.host_anomaly
    }

    /// The detector of flows that are not normal.
    #[must_use]
    pub const fn anomaly(&self) -> &Anomaly {
        &self.anomaly
    }

    /// Time until `anomaly` can speak; nothing once it does.
    #[must_use]
    pub fn warmup_left(&self, now: Timestamp) -> Option<Duration> {
        self.anomaly().learner().warmup_left(now)
    }

    /// The fit of a new baseline, when one is due: [run](FitJob::run) it, on another thread or at once, and hand in what
    /// became of it.
    pub fn take_fit(&mut self) -> Option<FitJob> {
        self.anomaly.learner_mut().take_job().or_else(|| self.host_anomaly.learner_mut().take_job())
    }

    /// Takes in what became of a fit.
    pub fn install(&mut self, fitted: Fitted) {
        if fitted.schema() == self.anomaly.learner().schema() {
            self.anomaly.learner_mut().install(fitted);
        } else {
            self.host_anomaly.learner_mut().install(fitted);
        }
    }

    /// Fits when a fit is due, here and now.
    pub fn fit(&mut self) {
        while let Some(job) = self.take_fit() {
            self.install(job.run());
        }
    }

    /// What was asked of established services since the last call, and who has completed a connection.
    pub fn take_attempts(&mut self) -> (Vec<Attempt>, Vec<Addr>) {
        self.services.take()
    }

    fn feed(&mut self, event: &FlowEvent, slot: Option<&FlowSlot>) {
        if !event.is_news() || self.is_own(event) {
            return;
        }
        if let Some(canary) = self.canary.as_mut().filter(|canary| canary.owns(event)) {
            canary.observe(event);
            return;
        }
        self.windows.observe(event);
        self.roles.observe(event);
        self.services.observe(event, slot, self.roles.is_local(event.server.addr));
        self.detectors.observe(event);
    }

    fn feed_overflow(&mut self, event: &OverflowEvent) {
        if event.is_news() {
            self.windows.observe_overflow(event);
            self.detectors.observe_overflow(event);
        }
    }

    /// A served connection to the sensor or to one of its receivers. A flood of their ports is not served.
    fn is_own(&self, event: &FlowEvent) -> bool {
        event.outcome == Outcome::Served && self.own.contains(&(event.server.addr, event.server.port))
    }
}
