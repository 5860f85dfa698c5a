//! Who called whom: a bounded memory of series of calls.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use sensor_ebpf::abi::Addr;

use crate::flow::FlowEvent;
use crate::time::Timestamp;

/// Calls remembered of a series.
pub(super) const REMEMBERED: usize = 256;
/// Addresses remembered of a service.
pub(super) const SERVERS: usize = 16;
/// A request made again from the same port within this time is the same call.
const AGAIN: Duration = Duration::from_secs(30);

/// Who calls which service. Addresses of one network are one service: many are behind several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    pub client: Addr,
    /// The first address of the server's network: /24, or /64.
    pub network: Addr,
    pub port: u16,
    pub proto: u8,
    /// Calls within connections that last, as opposed to new connections.
    pub within: bool,
}

/// A call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Call {
    /// Since the call before; at most 49 days.
    pub gap_ms: u32,
    pub sent: u32,
    pub received: u32,
    pub lasted_ms: u32,
}

/// A series of calls: 120 octets, 16 for each call and 24 for each address of the service.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    pub calls: VecDeque<Call>,
    /// Calls so far, those no longer remembered included.
    pub total: u64,
    /// Beginning of the latest call.
    pub latest: Timestamp,
    /// Latest packet of any connection.
    pub active: Timestamp,
    /// Port of the client in the latest call.
    pub client_port: u16,
    /// Judged again at so many calls.
    pub due: u64,
    /// Addresses of the service with their calls.
    pub servers: Vec<(Addr, u64)>,
    pub reported: bool,
}

/// All series. When there is no room, the ones with the fewest calls give way, and of these the oldest.
#[derive(Debug)]
pub(super) struct Pairs {
    pairs: HashMap<Key, Pair>,
    /// How many services each network called, and by how many clients its services are called.
    degrees: HashMap<Addr, u32>,
    /// Clients of each service.
    services: HashMap<(Addr, u16, u8), u32>,
    most: usize,
    most_calls: usize,
    calls: usize,
}

impl Pairs {
    pub fn new(most: usize, most_calls: usize) -> Self {
        let (pairs, degrees, services) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { pairs, degrees, services, most, most_calls, calls: 0 }
    }

    pub fn get(&self, key: &Key) -> Option<&Pair> {
        self.pairs.get(key)
    }

    pub fn get_mut(&mut self, key: &Key) -> Option<&mut Pair> {
        self.pairs.get_mut(key)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Pair)> {
        self.pairs.iter()
    }

    #[cfg(test)]
    pub fn len(&self) -> (usize, usize) {
        (self.pairs.len(), self.calls)
    }

    /// Peers of the network of an address, services of either side counted.
    pub fn degree(&self, addr: Addr) -> u32 {
        self.degrees.get(&network(addr)).copied().unwrap_or(0)
    }

    /// Clients of the service of `key`.
    pub fn clients(&self, key: &Key) -> u32 {
        self.services.get(&(key.network, key.port, key.proto)).copied().unwrap_or(0)
    }

    /// Notes a call; it is the latest one again if it comes from the same port soon.
    pub fn call(&mut self, key: Key, event: &FlowEvent, at: Timestamp) {
        if self.pairs.len() >= self.most || self.calls >= self.most_calls {
            self.make_room(&key);
        }
        if !self.pairs.contains_key(&key) {
            self.insert(key, Pair::new(at));
        }
        let Some(pair) = self.pairs.get_mut(&key) else { return };
        let again = !key.within && pair.total > 0 && pair.client_port == event.client.port;
        if !again || at.since(pair.active.max(pair.latest)) > AGAIN {
            self.calls += usize::from(pair.push(at));
            pair.count(event.server.addr);
        }
        pair.client_port = event.client.port;
        pair.update(event);
    }

    pub fn insert(&mut self, key: Key, pair: Pair) {
        self.calls += pair.calls.len();
        if !key.within {
            for end in [key.client, key.network] {
                *self.degrees.entry(network(end)).or_default() += 1;
            }
            *self.services.entry((key.network, key.port, key.proto)).or_default() += 1;
        }
        self.pairs.insert(key, pair);
    }

    fn remove(&mut self, key: &Key) {
        let Some(pair) = self.pairs.remove(key) else { return };
        self.calls -= pair.calls.len().min(self.calls);
        if !key.within {
            for end in [key.client, key.network] {
                lessen(&mut self.degrees, network(end));
            }
            lessen(&mut self.services, (key.network, key.port, key.proto));
        }
    }

    /// Forgets a quarter: one sweep pays for as many insertions.
    fn make_room(&mut self, but: &Key) {
        const FEW: usize = 8;
        let rank = |(key, pair): (&Key, &Pair)| (pair.reported, pair.calls.len().min(FEW), pair.active, *key);
        let mut all: Vec<_> = self.pairs.iter().map(rank).collect();
        all.sort_unstable();
        let few = self.pairs.len() / 4 + 1;
        for (at, (.., key)) in all.into_iter().enumerate() {
            let is_enough = at >= few && self.calls <= self.most_calls / 4 * 3;
            if is_enough {
                break;
            }
            if key != *but {
                self.remove(&key);
            }
        }
    }
}

impl Pair {
    pub fn new(at: Timestamp) -> Self {
        Self {
            calls: VecDeque::new(),
            total: 0,
            latest: at,
            active: at,
            client_port: 0,
            due: 0,
            servers: Vec::new(),
            reported: false,
        }
    }

    /// Whether one more is remembered than before.
    fn push(&mut self, at: Timestamp) -> bool {
        let gap_ms = u32::try_from(at.since(self.latest).as_millis()).unwrap_or(u32::MAX);
        let is_full = self.calls.len() >= REMEMBERED;
        if is_full {
            self.calls.pop_front();
        }
        self.calls.push_back(Call { gap_ms, sent: 0, received: 0, lasted_ms: 0 });
        self.total += 1;
        self.latest = self.latest.max(at);
        !is_full
    }

    fn count(&mut self, server: Addr) {
        if let Some((_, calls)) = self.servers.iter_mut().find(|(addr, _)| *addr == server) {
            *calls += 1;
        } else if self.servers.len() < SERVERS {
            self.servers.push((server, 1));
        }
    }

    /// Takes in what a connection has come to, if it is that of the latest call.
    pub fn update(&mut self, event: &FlowEvent) {
        self.active = self.active.max(event.last_seen);
        if event.client.port == self.client_port
            && let Some(call) = self.calls.back_mut()
        {
            let narrow = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
            call.sent = narrow(event.sent_octets);
            call.received = narrow(event.received_octets);
            let lasted = event.last_seen.since(event.first_seen).as_millis();
            call.lasted_ms = u32::try_from(lasted).unwrap_or(u32::MAX);
        }
    }

    /// The address called most.
    pub fn server(&self) -> Option<Addr> {
        let most = self.servers.iter().max_by_key(|(addr, calls)| (*calls, std::cmp::Reverse(*addr)));
        most.map(|(addr, _)| *addr)
    }
}

/// The first address of the network of an address: /24, or /64.
pub(super) fn network(addr: Addr) -> Addr {
    match IpAddr::from(addr) {
        IpAddr::V4(v4) => IpAddr::V4((u32::from(v4) & 0xffff_ff00).into()).into(),
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) & (u128::MAX << 64)).into()).into(),
    }
}

fn lessen<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, u32>, key: K) {
    if let Some(count) = counts.get_mut(&key) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(&key);
        }
    }
}
