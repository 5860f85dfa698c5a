//! Marked traffic of the sensor's own, by which it finds out that it still finds attacks.
//!
//! What goes between two marked addresses is kept from detectors, learning, roles and receivers. It meets a scan detector
//! of its own, with the parameters of all others, and an incident book of its own.

use std::net::IpAddr;

use sensor_ebpf::abi::Addr;
use serde_json::{Value, json};

use crate::detect::{Detector as _, Finding, Scan, ScanParams};
use crate::flow::FlowEvent;
use crate::incident::{Book, Change, Incident, Language};
use crate::roles::Roles;
use crate::time::Timestamp;

/// Evidence: this incident is of a canary.
pub const CANARY: &str = "canary";

/// What became of the marked traffic since [`Canary::begin`].
#[derive(Clone, Debug, Default)]
pub struct Sighting {
    /// Marked flows that reached the engine.
    pub flows: u64,
    /// When the hooks saw the first packet of the first of them.
    pub first_packet: Option<Timestamp>,
    /// The incident, marked with [`CANARY`].
    pub incident: Option<Incident>,
}

/// The marked traffic, and what watches it.
#[derive(Debug)]
pub struct Canary {
    client: Addr,
    server: Addr,
    since: Timestamp,
    scan: Scan,
    book: Book,
    seen: Sighting,
}

impl Canary {
    /// Watches what `client` sends to `server`, once it has [begun](Self::begin).
    #[must_use]
    pub fn new(client: IpAddr, server: IpAddr) -> Self {
        Self {
            client: client.into(),
            server: server.into(),
            since: Timestamp::EPOCH,
            scan: Scan::new(ScanParams::default()),
            book: Book::default(),
            seen: Sighting::default(),
        }
    }

    /// Forgets what was seen, and watches flows that begin from now on.
    pub fn begin(&mut self, now: Timestamp) {
        self.since = now;
        self.scan = Scan::new(ScanParams::default());
        self.book = Book::new(Language::default());
        self.seen = Sighting::default();
    }

    /// What was seen.
    #[must_use]
    pub const fn seen(&self) -> &Sighting {
        &self.seen
    }

    /// Whether a flow is between the marked addresses.
    pub(crate) fn owns(&self, event: &FlowEvent) -> bool {
        let ends = (event.client.addr, event.server.addr);
        ends == (self.client, self.server) || ends == (self.server, self.client)
    }

    pub(crate) fn observe(&mut self, event: &FlowEvent) {
        if event.first_seen < self.since || event.client.addr != self.client {
            return;
        }
        self.seen.flows += u64::from(event.is_new);
        let first = self.seen.first_packet.map_or(event.first_seen, |first| first.min(event.first_seen));
        self.seen.first_packet = Some(first);
        self.scan.observe(event);
    }

    pub(crate) fn tick(&mut self, now: Timestamp, roles: &Roles) {
        for mut finding in self.scan.tick(now, roles) {
            finding.evidence.insert(CANARY.to_owned(), json!(true));
            let events = self.book.report(finding, now, |_: &Finding| Value::Null);
            let opened = events.into_iter().find(|event| event.change == Change::Opened);
            self.seen.incident = self.seen.incident.take().or_else(|| opened.map(|event| event.incident));
        }
    }
}
