//! Brings the kernel's list in line with the lists that are to be blocked, apart from what people and the sensor block.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sensor_core::net::Network;
use sensor_core::respond::Guard;
use sensor_core::time::nanos;
use sensor_ebpf::abi::BlockKey;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::sleep;
use tracing::{error, info};

use super::kernel::key_of_network;
use super::lists::{Action, ListSet, Lists};
use super::responder::Response;
use crate::source::kernel::blocklist::{Blocklist, Rule};

/// How long an entry is there, unless it is put again: a sensor that dies leaves nobody blocked for good.
const LIFETIME: Duration = Duration::from_secs(2 * 3600);
/// How often entries are put again.
const RENEWAL: Duration = Duration::from_secs(1800);
/// How often it is looked whether lists, guards or blocks have changed.
const LOOK: Duration = Duration::from_secs(5);
/// Entries that are changed before others get their turn at the list.
const CHUNK: usize = 2048;

/// Keeps the kernel's list up to date until it is dropped.
#[derive(Debug)]
pub struct Importer(JoinHandle<()>);

impl Importer {
    /// Begins. Needs a tokio runtime.
    #[must_use]
    pub fn start(lists: Arc<Lists>, response: Response, kernel: Arc<Mutex<Blocklist>>) -> Self {
        Self(tokio::spawn(async move {
            let mut done = Done::default();
            let mut since = Duration::MAX;
            loop {
                let wanted = Wanted::of(&lists, &response);
                if since >= RENEWAL || wanted.differs(&done.of) {
                    let (list, clock) = (Arc::clone(&kernel), response.clone());
                    // A million entries take a second or two.
                    let Ok(next) = spawn_blocking(move || bring(&list, &clock, wanted, done)).await else { return };
                    (done, since) = (next, Duration::ZERO);
                }
                sleep(LOOK).await;
                since = since.saturating_add(LOOK);
            }
        }))
    }
}

impl Drop for Importer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What is to be on the kernel's list.
#[derive(Default)]
struct Wanted {
    sets: Vec<Arc<ListSet>>,
    guard: Guard,
    /// Keys of others: theirs go before.
    taken: BTreeSet<BlockKey>,
}

impl Wanted {
    fn of(lists: &Lists, response: &Response) -> Self {
        let sets = lists.snapshot().into_iter().filter(|(_, action, _)| *action == Action::Block);
        let sets = sets.map(|(_, _, set)| set).collect();
        response.with(|responder, _| {
            let ladder = responder.ladder();
            let taken = ladder.blocks().filter_map(|block| Some(key_of_network(&block.target.network()?)));
            Self { sets, guard: ladder.guard().clone(), taken: taken.collect() }
        })
    }

    fn differs(&self, other: &Self) -> bool {
        let same_sets = self.sets.len() == other.sets.len()
            && self.sets.iter().zip(&other.sets).all(|(one, other)| Arc::ptr_eq(one, other));
        !same_sets || self.taken != other.taken || !self.guard.networks().eq(other.guard.networks())
    }

    /// The keys, in order.
    fn keys(&self) -> Vec<BlockKey> {
        let networks = self.sets.iter().flat_map(|set| set.networks());
        let allowed = networks.filter(|network: &Network| self.guard.protects(network).is_none());
        let mut keys: Vec<BlockKey> =
            allowed.map(|network| key_of_network(&network)).filter(|key| !self.taken.contains(key)).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }
}

/// What is there.
#[derive(Default)]
struct Done {
    of: Wanted,
    keys: Option<Vec<BlockKey>>,
}

fn bring(kernel: &Mutex<Blocklist>, response: &Response, wanted: Wanted, done: Done) -> Done {
    let lock = || kernel.lock().unwrap_or_else(PoisonError::into_inner);
    // Of a process before this one, where maps are pinned.
    let before = done
        .keys
        .unwrap_or_else(|| lock().entries().filter(|(_, entry)| entry.listed != 0).map(|(key, _)| key).collect());
    let keys = wanted.keys();
    let mut gone = 0;
    for chunk in before.chunks(CHUNK) {
        let mut list = lock();
        for key in chunk.iter().filter(|key| keys.binary_search(key).is_err() && !wanted.taken.contains(key)) {
            list.remove(key);
            gone += 1;
        }
    }
    let mut left = keys.as_slice();
    while let (chunk, false) = (&left[..left.len().min(CHUNK)], left.is_empty()) {
        let monotonic_ns = response.with(|_, at| at.monotonic_ns);
        let rule = Rule { expires_ns: monotonic_ns + nanos(LIFETIME), limit: 0, observe: false, listed: true };
        let mut list = lock();
        if let Err(error) = chunk.iter().try_for_each(|key| list.put(*key, &rule)) {
            error!(missing = left.len(), error = format!("{error:#}"), "not all of the imported lists is blocked");
            break;
        }
        left = &left[chunk.len()..];
    }
    if gone > 0 {
        lock().tidy();
    }
    if before != keys {
        info!(entries = keys.len() - left.len(), gone, "imported lists are blocked");
    }
    Done { of: wanted, keys: Some(keys) }
}
