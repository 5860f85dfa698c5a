//! Brings the kernel's list in line with the lists that are to be blocked, apart from what people and the sensor block.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sensor_core::net::Network;
use sensor_core::respond::{Block, Guard};
use sensor_core::time::{Timestamp, nanos};
use sensor_ebpf::abi::BlockKey;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::sleep;
use tracing::{error, info};

use super::kernel::{key, key_of_network};
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
            let mut changes = lists.changes();
            loop {
                let wanted = Wanted::of(&lists, &response);
                let now_ns = monotonic_ns(&response);
                if done.is_old(now_ns) || wanted.differs(&done.of) {
                    let (list, clock) = (Arc::clone(&kernel), response.clone());
                    // A million entries take a second or two.
                    let Ok(next) = spawn_blocking(move || bring(&list, &clock, wanted, done)).await else { return };
                    done = Done { at_ns: Some(now_ns), ..next };
                }
                tokio::select! {
                    () = sleep(LOOK) => {}
                    Ok(()) = changes.changed() => {}
                }
            }
        }))
    }

    /// Lifts what lists have blocked that are no longer in the configuration.
    pub fn lift_all(kernel: &Mutex<Blocklist>) {
        let mut list = kernel.lock().unwrap_or_else(PoisonError::into_inner);
        let listed = listed(&list);
        for key in &listed {
            list.remove(key);
        }
        if !listed.is_empty() {
            list.tidy();
            info!(entries = listed.len(), "lifted what imported lists had blocked: there are none any more");
        }
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
    /// Whether every list was read.
    complete: bool,
    guard: Guard,
    /// What people and the sensor enforce: theirs goes before.
    taken: BTreeSet<BlockKey>,
    /// What they block that is on a list, too, whether that is enforced, and until when: it has to be put again when they have
    /// put or lifted theirs.
    contested: Vec<(BlockKey, bool, Timestamp)>,
}

impl Wanted {
    fn of(lists: &Lists, response: &Response) -> Self {
        let blocking = lists.status().iter().filter(|list| list.action == Action::Block).count();
        let sets = lists.snapshot().into_iter().filter(|(_, action, _)| *action == Action::Block);
        let sets: Vec<Arc<ListSet>> = sets.map(|(_, _, set)| set).collect();
        response.with(|responder, _| {
            let ladder = responder.ladder();
            let taken = ladder.blocks().filter(|block| block.enforced).map(|block| key(&block.target)).collect();
            let is_listed = |block: &&Block| {
                let first = block.target.network().map(|network| network.bounds().0);
                first.is_some_and(|first| sets.iter().any(|set| set.find(first).is_some()))
            };
            let contested = ladder.blocks().filter(is_listed);
            let contested = contested.map(|block| (key(&block.target), block.enforced, block.until)).collect();
            Self { complete: sets.len() == blocking, guard: ladder.guard().clone(), taken, contested, sets }
        })
    }

    fn differs(&self, other: &Self) -> bool {
        let same_sets = self.sets.len() == other.sets.len()
            && self.sets.iter().zip(&other.sets).all(|(one, other)| Arc::ptr_eq(one, other));
        !same_sets || self.contested != other.contested || !self.guard.networks().eq(other.guard.networks())
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
    keys: Vec<BlockKey>,
    /// Of a process before this one, where maps are pinned: what is blocked because of a list that was not read yet is still
    /// meant.
    inherited: Option<Vec<BlockKey>>,
    at_ns: Option<u64>,
}

impl Done {
    fn is_old(&self, now_ns: u64) -> bool {
        self.at_ns.is_none_or(|at| now_ns.saturating_sub(at) >= nanos(RENEWAL))
    }
}

fn monotonic_ns(response: &Response) -> u64 {
    response.with(|_, at| at.monotonic_ns)
}

/// What lists have put, in order.
fn listed(list: &Blocklist) -> Vec<BlockKey> {
    list.entries().filter(|(_, entry)| entry.listed != 0).map(|(key, _)| key).collect()
}

fn bring(kernel: &Mutex<Blocklist>, response: &Response, wanted: Wanted, done: Done) -> Done {
    let lock = || kernel.lock().unwrap_or_else(PoisonError::into_inner);
    let mut inherited = done.inherited.unwrap_or_else(|| listed(&lock()));
    let mut before = done.keys;
    if wanted.complete {
        before.append(&mut inherited);
        before.sort_unstable();
        before.dedup();
    }
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
        let expires_ns = monotonic_ns(response) + nanos(LIFETIME);
        let rule = Rule { expires_ns, limit: 0, observe: false, listed: true };
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
    Done { of: wanted, keys, inherited: Some(inherited), at_ns: None }
}
