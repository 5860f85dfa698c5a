//! The ladder: who is blocked by whom, how, and for how long. It decides; others enforce what it says.
//!
//! An automatic block is of one host that an incident names and that has shown itself to be where it says: it has
//! completed a connection with us lately, so that nobody can have others blocked by forging their addresses. The first is
//! short, each further one longer. A flood of connection requests from anywhere is answered at the service instead: what
//! strangers may ask of it is limited. Whatever the sensor does is taken back where healthy traffic fares worse with it.
//! People go first: what they block or unblock is not changed by the sensor. The [`Guard`] goes before everyone.

mod automatic;
mod by_hand;
mod clock;
mod keep;
mod offences;
mod trial;

pub use by_hand::{Refusal, Selection, Wish};
pub use offences::Offence;
pub use trial::Health;

use std::collections::{BTreeMap, VecDeque};
use std::mem;

use self::clock::{Clock, Step};
use self::offences::Offences;
use self::trial::Trials;
use super::{Block, Change, Ending, Guard, Policy, Protection, Target};
use crate::incident::Class;
use crate::net::Network;
use crate::time::Timestamp;

/// Whoever was unblocked, remembered at once; those remembered for the longest give way.
const FORGIVEN: usize = 4096;

/// Blocks of people and of the sensor. Those of lists are elsewhere.
#[derive(Debug)]
pub struct Ladder {
    policy: Policy,
    guard: Guard,
    armed_since: Timestamp,
    clock: Clock,
    held: BTreeMap<Target, Held>,
    /// Automatic blocks put so far, to tell older ones from newer ones.
    serial: u64,
    offences: Offences,
    /// Who is left alone by the sensor, until when.
    forgiven: BTreeMap<Target, Timestamp>,
    /// When the automatic blocks of the last minute were put.
    pace: VecDeque<Timestamp>,
    trials: Trials,
    /// Whether the clock was set back, so that blocks are at other times than were said.
    moved: bool,
    stats: LadderStats,
}

/// How often something was not done, or undone, so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LadderStats {
    /// Attackers left alone because their addresses may be forged.
    pub unproven: u64,
    /// Attackers left alone because they are never blocked.
    pub guarded: u64,
    /// Blocks not put because there were too many, or too many in a minute.
    pub capped: u64,
    /// Blocks lifted because healthy traffic fared worse.
    pub rolled_back: u64,
    /// Networks for which the guard had no place.
    pub unguarded: u64,
}

#[derive(Clone, Debug)]
struct Held {
    block: Block,
    /// What was done, where an incident is behind it and that is known.
    class: Option<Class>,
    serial: u64,
}

impl Ladder {
    /// Nothing is blocked. `armed_since` is when the sensor was first started here: what it does by itself is not enforced
    /// before [`Policy::observe_first`] has passed since then.
    #[must_use]
    pub fn new(policy: Policy, guard: Guard, armed_since: Timestamp) -> Self {
        Self {
            policy,
            guard,
            armed_since,
            clock: Clock::default(),
            held: BTreeMap::new(),
            serial: 0,
            offences: Offences::default(),
            forgiven: BTreeMap::new(),
            pace: VecDeque::new(),
            trials: Trials::default(),
            moved: false,
            stats: LadderStats::default(),
        }
    }

    /// Replaces the networks that are never blocked for a reason, and lifts what overlaps them.
    pub fn protect(&mut self, kind: Protection, networks: Vec<Network>, now: Timestamp) -> Vec<Change> {
        self.advance(now);
        self.stats.unguarded += self.guard.set(kind, networks) as u64;
        let guard = mem::take(&mut self.guard);
        let changes = self.lift(|held| match held.block.target {
            Target::Peer { network, .. } => guard.protects(&network).map(Ending::Guarded),
            Target::Requests { .. } => None,
        });
        self.guard = guard;
        changes
    }

    /// Replaces the networks whose hosts are ours.
    pub fn set_local(&mut self, networks: Vec<Network>) {
        self.guard.set_local(networks);
    }

    /// To be called every second or so, with how established traffic fared since the last call: lifts blocks whose time is
    /// over, and automatic ones that did harm.
    pub fn tick(&mut self, health: Health, now: Timestamp) -> Vec<Change> {
        let now = self.advance(now);
        let mut changes = self.lift(|held| held.block.left(now).is_zero().then_some(Ending::Expired));
        self.forgiven.retain(|_, until| *until > now);
        self.offences.expire(self.policy.remembered, now);
        if let Some(serial) = self.trials.judge(health, now) {
            let since = |held: &Held| held.block.is_automatic() && held.block.enforced && held.serial >= serial;
            let harmful = self.lift(|held| since(held).then_some(Ending::RolledBack));
            self.stats.rolled_back += harmful.len() as u64;
            self.forgive_lifted(&harmful, now);
            changes.extend(harmful);
        }
        if mem::take(&mut self.moved) {
            changes.extend(self.blocks().cloned().map(Change::Put));
        }
        changes
    }

    /// Forgets a block that its enforcer does not take any more. The sensor does not leave the target alone for that.
    pub fn abandon(&mut self, target: &Target) -> Option<Block> {
        self.held.remove(target).map(|held| held.block)
    }

    /// [`Self::abandon`] of a block that its enforcer has never taken: it counts as no offence either.
    pub fn undo(&mut self, target: &Target) {
        let automatic = self.abandon(target).filter(Block::is_automatic);
        if let Some(network) = automatic.and_then(|block| block.target.network()) {
            self.offences.take_back(network);
        }
    }

    /// Every block, by target.
    pub fn blocks(&self) -> impl Iterator<Item = &Block> {
        self.held.values().map(|held| &held.block)
    }

    /// What is enforced for a target.
    #[must_use]
    pub fn enforced(&self, target: &Target) -> Option<&Block> {
        self.held.get(target).map(|held| &held.block).filter(|block| block.enforced)
    }

    /// The blocks whose addresses include all of a network.
    pub fn covering(&self, network: Network) -> impl Iterator<Item = &Block> {
        self.blocks().filter(move |block| block.target.network().is_some_and(|wide| wide.covers(&network)))
    }

    /// Who was blocked by the sensor lately, and how often, by network.
    pub fn offences(&self) -> impl Iterator<Item = Offence> {
        self.offences.iter()
    }

    /// What is done about which attacks.
    #[must_use]
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Who is never blocked.
    #[must_use]
    pub const fn guard(&self) -> &Guard {
        &self.guard
    }

    /// When the sensor was first started here. It moves with the clock: to be kept, and given to [`Ladder::new`] next time.
    #[must_use]
    pub const fn armed_since(&self) -> Timestamp {
        self.armed_since
    }

    /// Whether the first time, in which the sensor only counts, is over.
    #[must_use]
    pub fn is_armed(&self, now: Timestamp) -> bool {
        now.since(self.armed_since) >= self.policy.observe_first
    }

    /// How often something was not done, or undone, so far.
    #[must_use]
    pub const fn stats(&self) -> LadderStats {
        self.stats
    }

    /// The time to reckon with: it runs back only with all that is remembered of it.
    fn advance(&mut self, now: Timestamp) -> Timestamp {
        match self.clock.step(now) {
            Step::On => {}
            // A clock that is put right for the first time must not end the time in which the sensor only counts.
            Step::Leap(by) => self.armed_since = self.armed_since + by,
            Step::Back(by) => {
                let times = self.pace.iter_mut().chain(self.forgiven.values_mut()).chain([&mut self.armed_since]);
                let blocks = self.held.values_mut().flat_map(|held| [&mut held.block.since, &mut held.block.until]);
                times.chain(blocks).for_each(|time| *time = *time - by);
                self.offences.move_back(by);
                self.trials.move_back(by);
                self.moved = true;
            }
        }
        self.clock.latest(now)
    }

    fn lift(&mut self, over: impl Fn(&Held) -> Option<Ending>) -> Vec<Change> {
        let mut changes = Vec::new();
        self.held.retain(|_, held| match over(held) {
            Some(ending) => {
                changes.push(Change::Lift(held.block.clone(), ending));
                false
            }
            None => true,
        });
        changes
    }

    fn forgive(&mut self, target: Target, now: Timestamp) {
        if self.forgiven.len() >= FORGIVEN
            && !self.forgiven.contains_key(&target)
            && let Some((&soonest, _)) = self.forgiven.iter().min_by_key(|(_, until)| **until)
        {
            self.forgiven.remove(&soonest);
        }
        self.forgiven.insert(target, now + self.policy.forgiven);
    }

    fn forgive_lifted(&mut self, changes: &[Change], now: Timestamp) {
        for change in changes {
            match change {
                Change::Lift(block, _) if block.is_automatic() => self.forgive(block.target, now),
                Change::Lift(..) | Change::Put(_) => {}
            }
        }
    }

    fn count(&self, automatic: bool) -> usize {
        self.blocks().filter(|block| block.is_automatic() == automatic).count()
    }
}

impl Target {
    /// The addresses, of peers.
    #[must_use]
    pub const fn network(&self) -> Option<Network> {
        match self {
            Self::Peer { network, .. } => Some(*network),
            Self::Requests { .. } => None,
        }
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
