//! Vectors of one host over a window of 1 second to 1 hour: what it did, and what was done to it.

use std::collections::HashMap;
use std::time::Duration;

use sensor_ebpf::abi::Addr;

use crate::flow::{FlowEvent, Outcome, OverflowEvent};
use crate::sketch::Distinct;
use crate::time::Timestamp;

/// Columns in order, each over one window of one host.
///
/// | column | unit | meaning |
/// |---|---|---|
/// | `flows_out`, `flows_in` | flows | begun by the host, begun towards it |
/// | `peers_out`, `peers_in` | hosts | distinct servers asked, distinct clients served |
/// | `services_out` | (host, port) pairs | distinct services asked |
/// | `failed_out`, `failed_in` | flows | requests that failed |
/// | `packets_out`, `packets_in` | packets | sent, received |
/// | `octets_out`, `octets_in` | IP octets | sent, received |
/// | `syns_out`, `syns_in` | segments | SYN sent as client, received as server |
///
/// Packets, octets and SYN of overflow aggregates are included for their subject; flows and peers are those of flows.
pub const COLUMNS: [&str; 13] = [
    "flows_out",
    "flows_in",
    "peers_out",
    "peers_in",
    "services_out",
    "failed_out",
    "failed_in",
    "packets_out",
    "packets_in",
    "octets_out",
    "octets_in",
    "syns_out",
    "syns_in",
];

/// A vector in the order of [`COLUMNS`].
pub type HostVector = [f32; COLUMNS.len()];

/// Window lengths.
pub const LENGTHS: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(10), Duration::from_secs(60), Duration::from_secs(3600)];

/// The vector of one host in one window that has ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HostWindow {
    /// The host.
    pub host: Addr,
    /// End of the window, a multiple of its length.
    pub end: Timestamp,
    /// Length of the window.
    pub length: Duration,
    /// Values in the order of [`COLUMNS`].
    pub vector: HostVector,
}

/// Tumbling windows of each of [`LENGTHS`], aligned to multiples of it in event time.
///
/// At most [`HostWindows::HOSTS`] hosts a window are followed; later ones are counted in [`HostWindows::lost`]. Events
/// are counted in the shortest windows, and each window that ends is added to the one of the next length: every length
/// is a multiple of the one before.
#[derive(Debug)]
pub struct HostWindows {
    levels: [Level; LENGTHS.len()],
}

#[derive(Debug)]
struct Level {
    length: Duration,
    end: Timestamp,
    hosts: HashMap<Addr, Activity>,
    /// Those of the last window, cleared, to be used again.
    spare: Vec<(Addr, Activity)>,
    lost: u64,
}

#[derive(Debug, Default)]
struct Activity {
    sums: [u64; COLUMNS.len()],
    servers: Distinct,
    clients: Distinct,
    services: Distinct,
}

impl Default for HostWindows {
    fn default() -> Self {
        Self { levels: LENGTHS.map(Level::new) }
    }
}

impl HostWindows {
    /// Hosts followed in one window.
    pub const HOSTS: usize = 65_536;

    /// Hosts that did not fit a window, counted once for each length.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.levels.iter().map(|level| level.lost).sum()
    }

    /// Whether the current windows have seen nothing, but for the longest, which may end late.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.levels[..LENGTHS.len() - 1].iter().all(|level| level.hosts.is_empty())
    }

    /// Takes in what a tick learned of a flow.
    pub fn observe(&mut self, event: &FlowEvent) {
        let failed = u64::from(event.outcome.is_failure() && (event.is_new || event.before == Outcome::Pending));
        let begun = u64::from(event.is_new);
        if let Some(client) = self.host(event.client.addr) {
            client.add([
                begun,
                0,
                0,
                0,
                0,
                failed,
                0,
                event.sent.packets,
                event.received.packets,
                event.sent.octets,
                event.received.octets,
                event.sent.syns,
                0,
            ]);
            client.servers.insert(event.server.addr.high, event.server.addr.low);
            client.services.insert(event.server.addr.high ^ u64::from(event.server.port) << 48, event.server.addr.low);
        }
        if let Some(server) = self.host(event.server.addr) {
            server.add([
                0,
                begun,
                0,
                0,
                0,
                0,
                failed,
                event.received.packets,
                event.sent.packets,
                event.received.octets,
                event.sent.octets,
                0,
                event.sent.syns,
            ]);
            server.clients.insert(event.client.addr.high, event.client.addr.low);
        }
    }

    /// Takes in what a tick learned of an aggregate.
    pub fn observe_overflow(&mut self, event: &OverflowEvent) {
        let (sent, received) = (event.sent, event.received);
        if let Some(subject) = event.subject.and_then(|subject| self.host(subject)) {
            subject.add([
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                sent.packets,
                received.packets,
                sent.octets,
                received.octets,
                sent.requests,
                received.requests,
            ]);
        }
    }

    /// Ends the windows whose time has come, the shortest first, and hands over their vectors, sorted by host.
    pub fn tick(&mut self, now: Timestamp, mut each: impl FnMut(&HostWindow)) {
        for index in 0..self.levels.len() {
            let (ending, longer) = self.levels.split_at_mut(index + 1);
            ending[index].end_if_due(now, longer.first_mut(), &mut each);
        }
    }

    fn host(&mut self, addr: Addr) -> Option<&mut Activity> {
        self.levels[0].host(addr)
    }
}

impl Level {
    fn new(length: Duration) -> Self {
        Self { length, end: Timestamp::EPOCH, hosts: HashMap::new(), spare: Vec::new(), lost: 0 }
    }

    fn end_if_due(&mut self, now: Timestamp, mut longer: Option<&mut Self>, each: &mut impl FnMut(&HostWindow)) {
        if self.end == Timestamp::EPOCH {
            self.end = now.floor(self.length) + self.length;
        }
        if now < self.end {
            return;
        }
        let (end, length) = (self.end, self.length);
        self.end = now.floor(length) + length;
        self.spare.clear();
        self.spare.extend(self.hosts.drain());
        self.spare.sort_unstable_by_key(|&(host, _)| host);
        for (host, activity) in &mut self.spare {
            each(&HostWindow { host: *host, end, length, vector: activity.vector() });
            if let Some(sum) = longer.as_mut().and_then(|longer| longer.host(*host)) {
                sum.merge(activity);
            }
            activity.clear();
        }
    }

    fn host(&mut self, addr: Addr) -> Option<&mut Activity> {
        if self.hosts.len() >= HostWindows::HOSTS && !self.hosts.contains_key(&addr) {
            self.lost += 1;
            return None;
        }
        let spare = &mut self.spare;
        Some(self.hosts.entry(addr).or_insert_with(|| spare.pop().map(|(_, activity)| activity).unwrap_or_default()))
    }
}

impl Activity {
    fn add(&mut self, values: [u64; COLUMNS.len()]) {
        for (sum, value) in self.sums.iter_mut().zip(values) {
            *sum += value;
        }
    }

    fn merge(&mut self, other: &Self) {
        self.add(other.sums);
        self.servers.merge(&other.servers);
        self.clients.merge(&other.clients);
        self.services.merge(&other.services);
    }

    fn clear(&mut self) {
        self.sums = [0; COLUMNS.len()];
        self.servers.clear();
        self.clients.clear();
        self.services.clear();
    }

    fn vector(&self) -> HostVector {
        let mut sums = self.sums;
        sums[2] = self.servers.count();
        sums[3] = self.clients.count();
        sums[4] = self.services.count();
        sums.map(|sum| sum as f32)
    }
}
