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
use tracing::{error, info, warn};

use super::kernel::{key, key_of_network};
use super::lists::{Action, ListName, ListSet, Lists};
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
/// Entries that are left out because of whom they are, and named to people.
const EXAMPLES: usize = 2;

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
                    for ((name, _), blocked) in done.of.sets.iter().zip(&done.blocked) {
                        lists.note_blocked(name, *blocked);
                    }
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
    sets: Vec<(ListName, Arc<ListSet>)>,
    /// Whether every list was read.
    complete: bool,
    guard: Guard,
    /// Entries that people and the sensor may need.
    reserved: usize,
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
        let sets: Vec<(ListName, Arc<ListSet>)> = sets.map(|(name, _, set)| (name, set)).collect();
        response.with(|responder, _| {
            let ladder = responder.ladder();
            let taken = ladder.blocks().filter(|block| block.enforced).map(|block| key(&block.target)).collect();
            let is_listed = |block: &&Block| {
                let first = block.target.network().map(|network| network.bounds().0);
                first.is_some_and(|first| sets.iter().any(|(_, set)| set.find(first).is_some()))
            };
            let contested = ladder.blocks().filter(is_listed);
            let contested = contested.map(|block| (key(&block.target), block.enforced, block.until)).collect();
            let policy = ladder.policy();
            let reserved = policy.entries + policy.entries_by_person;
            Self { complete: sets.len() == blocking, guard: ladder.guard().clone(), reserved, taken, contested, sets }
        })
    }

    fn differs(&self, other: &Self) -> bool {
        let same_sets = self.sets.len() == other.sets.len()
            && self.sets.iter().zip(&other.sets).all(|((_, one), (_, other))| Arc::ptr_eq(one, other));
        !same_sets || self.contested != other.contested || !self.guard.networks().eq(other.guard.networks())
    }

    /// What of it finds room, the lists in the order of the configuration; what is `inherited` has room already.
    fn choose(&self, room: usize, inherited: &[BlockKey]) -> Chosen {
        let mut chosen = Chosen::default();
        let mut left = room.saturating_sub(inherited.len());
        for (_, set) in &self.sets {
            let mut fresh = Vec::new();
            for network in set.networks() {
                let key = key_of_network(&network);
                if self.guard.spares(&network) {
                    chosen.left_out.spare(network);
                } else if self.taken.contains(&key) || chosen.keys.binary_search(&key).is_ok() {
                    // It is blocked anyway.
                } else if inherited.binary_search(&key).is_ok() {
                    fresh.push(key);
                } else if left > 0 {
                    left -= 1;
                    fresh.push(key);
                } else {
                    chosen.left_out.no_room += 1;
                }
            }
            chosen.keys.append(&mut fresh);
            chosen.keys.sort_unstable();
        }
        chosen
    }

    /// How many networks of each list are blocked when these keys are.
    fn blocked(&self, keys: &[BlockKey]) -> Vec<usize> {
        let is_blocked = |key: &BlockKey| self.taken.contains(key) || keys.binary_search(key).is_ok();
        let keys_of = |set: &ListSet| set.networks().map(|network| key_of_network(&network)).filter(is_blocked).count();
        self.sets.iter().map(|(_, set)| keys_of(set)).collect()
    }
}

/// What is to be blocked.
#[derive(Default)]
struct Chosen {
    /// In order.
    keys: Vec<BlockKey>,
    left_out: LeftOut,
}

/// What is on lists and is not blocked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct LeftOut {
    /// Entries for which there is no room.
    no_room: usize,
    /// Entries with somebody whom lists must not block, and some of them.
    spared: usize,
    examples: Vec<Network>,
}

impl LeftOut {
    fn spare(&mut self, network: Network) {
        self.spared += 1;
        if self.examples.len() < EXAMPLES {
            self.examples.push(network);
        }
    }

    /// `capacity` is what would be enough.
    fn tell(&self, capacity: usize) {
        let Self { no_room, spared, examples } = self;
        if *no_room > 0 {
            error!(
                left_out = no_room,
                capacity,
                "not all of the imported lists is blocked: raise respond.capacity to this, and restart the sensor"
            );
        }
        if *spared > 0 {
            let such_as = examples.iter().map(Network::to_string).collect::<Vec<_>>().join(", ");
            warn!(left_out = spared, such_as, "what imported lists hold of protected or local networks is not blocked");
        }
    }
}

/// What is there.
#[derive(Default)]
struct Done {
    of: Wanted,
    keys: Vec<BlockKey>,
    /// How many networks of each list are blocked.
    blocked: Vec<usize>,
    left_out: LeftOut,
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
    let capacity = lock().capacity();
    let Chosen { keys, left_out } = wanted.choose(capacity.saturating_sub(wanted.reserved), &inherited);
    if left_out != done.left_out {
        left_out.tell(capacity.max(wanted.reserved) + left_out.no_room);
    }
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
    let blocked = wanted.blocked(&keys[..keys.len() - left.len()]);
    Done { of: wanted, blocked, left_out, inherited: Some(inherited), at_ns: None, keys }
}

#[cfg(test)]
mod tests {
    use sensor_core::respond::Protection;

    use super::*;
    use crate::respond::lists::{Format, MaxEntries, parse};

    fn wanted(lists: &[&str]) -> Wanted {
        let set = |text: &&str| parse(text.as_bytes(), &Format::Plain, MaxEntries::new(1000)).unwrap().set;
        let name = || ListName::try_from("bad".to_owned()).unwrap();
        let sets = lists.iter().map(|text| (name(), Arc::new(set(text)))).collect();
        let mut guard = Guard::default();
        guard.set(Protection::Gateway, vec!["203.0.113.1".parse().unwrap()]);
        guard.set_local(vec!["198.51.100.0/24".parse().unwrap()]);
        Wanted { sets, guard, ..Wanted::default() }
    }

    fn keys(networks: &[&str]) -> Vec<BlockKey> {
        let mut keys: Vec<BlockKey> = networks.iter().map(|text| key_of_network(&text.parse().unwrap())).collect();
        keys.sort_unstable();
        keys
    }

    #[test]
    fn lists_leave_out_who_is_protected_or_local() {
        let wanted = wanted(&["10.0.0.0/8\n203.0.113.0/24\n198.51.100.7\n192.0.2.1\n", "192.0.2.1\n203.0.113.1\n"]);
        let Chosen { keys: chosen, left_out } = wanted.choose(1000, &[]);
        assert_eq!(chosen, keys(&["192.0.2.1"]));
        assert_eq!((left_out.no_room, left_out.spared), (0, 4));
        assert_eq!(
            left_out.examples.iter().map(Network::to_string).collect::<Vec<_>>(),
            ["10.0.0.0/8", "198.51.100.7"]
        );
        assert_eq!(wanted.blocked(&chosen), [1, 1]);
    }

    #[test]
    fn lists_are_blocked_as_far_as_there_is_room_the_first_one_first() {
        let (first, second) = ("192.0.2.5\n192.0.2.7\n", "192.0.2.1\n192.0.2.3\n192.0.2.7\n192.0.2.9\n");
        for (room, inherited, expected, no_room) in [
            (0, &[] as &[_], &[] as &[_], 6),
            (1, &[], &["192.0.2.5"], 5),
            (3, &[], &["192.0.2.1", "192.0.2.5", "192.0.2.7"], 2),
            (5, &[], &["192.0.2.1", "192.0.2.3", "192.0.2.5", "192.0.2.7", "192.0.2.9"], 0),
            (3, &["192.0.2.3", "192.0.2.200"], &["192.0.2.3", "192.0.2.5"], 4),
            (0, &["192.0.2.3", "192.0.2.200"], &["192.0.2.3"], 5),
        ] {
            let chosen = wanted(&[first, second]).choose(room, &keys(inherited));
            assert_eq!((chosen.keys, chosen.left_out.no_room), (keys(expected), no_room), "{room} {inherited:?}");
        }
        let mut wanted = wanted(&[first, second]);
        wanted.taken.extend(keys(&["192.0.2.5"]));
        let chosen = wanted.choose(2, &[]);
        assert_eq!(chosen.keys, keys(&["192.0.2.1", "192.0.2.7"]));
        assert_eq!(wanted.blocked(&chosen.keys), [2, 2]);
    }
}
