//! Between the ladder, which decides, and those who enforce: the kernel's list, nftables and others, and the store.
//!
//! What people wish is done at once, what the sensor wants at its ticks. Everything that is done is told to the log, the
//! audit trail and the metrics from here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sensor_core::incident::IncidentEvent;
use sensor_core::net::Network;
use sensor_core::respond::{
    Block, Change, Decider, Ending, Health, Ladder, LadderStats, Offence, Protection, Proven, Refusal, Selection,
    Target, Wish,
};
use sensor_core::service::Attempt;
use sensor_core::time::Timestamp;
use sensor_ebpf::abi::{Addr, BlockEntry, BlockKey};
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::kernel::{key, prefix, rule};
use super::line::BlockLine;
use crate::export::prometheus::Metrics;
use crate::source::kernel::blocklist::Blocklist;
use crate::store::keeper::Keeper;

/// How long the place from which somebody has acted is never blocked, and how many such places are remembered.
const SESSION: Duration = Duration::from_secs(12 * 3600);
const SESSIONS: usize = 1024;
/// Who lifts what the kernel does not take any more, and why.
const SENSOR: &str = "sensor";
const NO_ROOM: &str = "the kernel's list of blocks is full";
/// How often offences are written to the store.
const REMEMBER: Duration = Duration::from_secs(60);
/// How often the kernel's filters are made anew.
const TIDY: Duration = Duration::from_secs(60);

/// A moment by the two clocks that blocks are about.
#[derive(Clone, Copy, Debug)]
pub struct Instant {
    /// Event time.
    pub now: Timestamp,
    /// CLOCK_MONOTONIC, which the kernel goes by.
    pub monotonic_ns: u64,
}

/// What an earlier process has left in the store.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// Blocks.
    pub blocks: Vec<Block>,
    /// Who was blocked, and how often.
    pub offences: Vec<Offence>,
}

/// A block, and what came of it.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The block.
    pub block: Block,
    /// What the kernel has counted.
    pub hits: BlockEntry,
    /// When its latest packet came.
    pub last_seen: Option<Timestamp>,
}

impl From<&Listed> for BlockLine {
    fn from(listed: &Listed) -> Self {
        Self {
            packets: Some(listed.hits.packets),
            octets: Some(listed.hits.octets),
            last_seen: listed.last_seen.map(Timestamp::epoch_seconds),
            ..Self::from(&listed.block)
        }
    }
}

/// Decides and acts.
pub struct Responder {
    ladder: Ladder,
    kernel: Arc<Mutex<Blocklist>>,
    keeper: Keeper,
    metrics: Arc<Metrics>,
    enforced: watch::Sender<Arc<Vec<Block>>>,
    /// From where people act, and since when that was so last.
    sessions: BTreeMap<Network, Timestamp>,
    proven: Proven,
    remembered: Timestamp,
    tidied: Timestamp,
    told: LadderStats,
}

impl Responder {
    /// Goes on with what an earlier process has left: the store says what is meant, the kernel's list is made to agree.
    #[must_use]
    pub fn new(
        ladder: Ladder,
        kernel: Arc<Mutex<Blocklist>>,
        keeper: Keeper,
        metrics: Arc<Metrics>,
        memory: Memory,
        at: Instant,
    ) -> Self {
        let mut responder = Self {
            ladder,
            kernel,
            keeper,
            metrics,
            enforced: watch::Sender::new(Arc::default()),
            sessions: BTreeMap::new(),
            proven: Proven::default(),
            remembered: at.now,
            tidied: at.now,
            told: LadderStats::default(),
        };
        let changes = responder.ladder.resume(memory.blocks, memory.offences, at.now);
        let meant: BTreeSet<BlockKey> = responder.ladder.blocks().map(|block| key(&block.target)).collect();
        let mut list = lock(&responder.kernel);
        let strays: Vec<BlockKey> = (list.entries())
            .filter(|(key, entry)| entry.listed == 0 && !meant.contains(key))
            .map(|(key, _)| key)
            .collect();
        for stray in &strays {
            list.remove(stray);
        }
        drop(list);
        if !strays.is_empty() {
            info!(blocks = strays.len(), "lifted what the kernel had blocked and the store does not know");
        }
        responder.put_all(changes, at, true);
        responder.allow();
        responder
    }

    /// What is enforced, as it is now and whenever it changes.
    #[must_use]
    pub fn enforced(&self) -> watch::Receiver<Arc<Vec<Block>>> {
        self.enforced.subscribe()
    }

    /// Replaces the networks that are never blocked.
    pub fn protect(&mut self, guards: Vec<(Protection, Vec<Network>)>, at: Instant) {
        let known: BTreeSet<(Protection, Network)> = self.ladder.guard().networks().collect();
        let mut changes = Vec::new();
        self.sessions.retain(|_, seen| at.now.since(*seen) < SESSION);
        for (kind, mut networks) in guards {
            if kind == Protection::Session {
                networks.extend(self.sessions.keys());
            }
            changes.extend(self.ladder.protect(kind, networks, at.now));
        }
        self.apply(changes, at);
        let now: BTreeSet<(Protection, Network)> = self.ladder.guard().networks().collect();
        if now != known {
            self.allow();
        }
    }

    /// Has the kernel let pass whom the guard protects, whatever its list says.
    fn allow(&self) {
        let networks: BTreeSet<(Addr, u8)> =
            self.ladder.guard().networks().map(|(_, network)| (network.addr().into(), prefix(&network))).collect();
        let networks: Vec<(Addr, u8)> = networks.into_iter().collect();
        if let Err(error) = lock(&self.kernel).allow(&networks) {
            error!(error = format!("{error:#}"), "the kernel does not know everybody who is never blocked");
        }
    }

    /// A tick: what happened to incidents, how services fared, and who has completed a connection.
    pub fn tick(&mut self, events: &[Arc<IncidentEvent>], attempts: &[Attempt], proven: &[Addr], at: Instant) {
        let health = self.health(attempts, at.now);
        self.note_proven(proven, at);
        let known = &self.proven;
        let is_proven = |host: &Network| known.holds(host, at.now);
        let mut changes = Vec::new();
        for event in events {
            changes.extend(self.ladder.incident(event, &is_proven, at.now));
        }
        changes.extend(self.ladder.tick(health, at.now));
        self.apply(changes, at);
        if at.now.since(self.remembered) >= REMEMBER {
            self.remembered = at.now;
            self.keeper.keep_offences(self.ladder.offences().collect(), self.ladder.armed_since());
        }
        if at.now.since(self.tidied) >= TIDY {
            self.tidied = at.now;
            lock(&self.kernel).tidy();
        }
        self.tell_metrics();
    }

    /// Blocks what somebody wishes.
    ///
    /// # Errors
    /// What nobody may do is refused.
    pub fn block(&mut self, wish: Wish, at: Instant) -> Result<Listed, Refusal> {
        let target = wish.target;
        let changes = self.ladder.block(wish, at.now)?;
        if self.apply(changes, at).contains(&target) {
            return Err(Refusal::NoRoom);
        }
        let block = self.ladder.blocks().find(|block| block.target == target).cloned();
        Ok(self.listed(block.expect("a wish that is granted is a block"), at))
    }

    /// Lifts what somebody selects, and gives what it was.
    pub fn unblock(&mut self, selection: Selection, actor: &str, reason: &str, at: Instant) -> Vec<Listed> {
        let changes = self.ladder.unblock(selection, actor, reason, at.now);
        let lifted = changes.iter().filter_map(|change| match change {
            Change::Lift(block, _) => Some(self.listed(block.clone(), at)),
            Change::Put(_) => None,
        });
        let lifted = lifted.collect();
        self.apply(changes, at);
        lifted
    }

    /// Every block of people and of the sensor, by target.
    #[must_use]
    pub fn blocks(&self, at: Instant) -> Vec<Listed> {
        self.ladder.blocks().map(|block| self.listed(block.clone(), at)).collect()
    }

    /// The ladder, to look at.
    #[must_use]
    pub const fn ladder(&self) -> &Ladder {
        &self.ladder
    }

    fn listed(&self, block: Block, at: Instant) -> Listed {
        let hits = lock(&self.kernel).entry(&key(&block.target)).unwrap_or_default();
        let ago = Duration::from_nanos(at.monotonic_ns.saturating_sub(hits.last_ns));
        let last_seen = (hits.last_ns > 0).then(|| at.now - ago);
        Listed { block, hits, last_seen }
    }

    fn note_proven(&mut self, proven: &[Addr], at: Instant) {
        if proven.is_empty() {
            return;
        }
        let list = lock(&self.kernel);
        for &addr in proven {
            self.proven.note(self.ladder.host(addr), at.now);
            list.note_proven(addr, at.monotonic_ns);
        }
    }

    /// How services fared for those who were known before, and are not blocked.
    fn health(&self, attempts: &[Attempt], now: Timestamp) -> Health {
        let blocked: Vec<Network> =
            self.ladder.blocks().filter(|block| block.enforced).filter_map(|block| block.target.network()).collect();
        let healthy = attempts.iter().filter(|one| !blocked.iter().any(|network| network.contains(one.client)));
        self.proven.health(healthy.map(|one| (self.ladder.host(one.client), one)), now)
    }

    fn apply(&mut self, changes: Vec<Change>, at: Instant) -> BTreeSet<Target> {
        self.put_all(changes, at, false)
    }

    /// `again` for what was there before this process: it is put, and nobody is told. Gives what the kernel has not taken,
    /// which is no block then: if it never was one, nobody is told that it is over.
    fn put_all(&mut self, mut changes: Vec<Change>, at: Instant, again: bool) -> BTreeSet<Target> {
        let mut refused = BTreeSet::new();
        if changes.is_empty() {
            return refused;
        }
        let mut ended = Vec::new();
        for change in &changes {
            match change {
                Change::Put(block) => {
                    let was = again || self.is_put(&block.target);
                    if self.put(block, at, again) {
                        continue;
                    }
                    refused.insert(block.target);
                    lock(&self.kernel).remove(&key(&block.target));
                    if was {
                        ended.extend(self.ladder.abandon(&block.target));
                    } else {
                        self.ladder.undo(&block.target);
                    }
                }
                Change::Lift(block, ending) => {
                    lock(&self.kernel).remove(&key(&block.target));
                    self.metrics.respond().lifted(ending);
                    info!(target = %block.target, by = %block.by, why = %ending, "no longer blocked");
                }
            }
        }
        changes.retain(|change| match change {
            Change::Put(block) => !again && !refused.contains(&block.target),
            Change::Lift(..) => true,
        });
        let ending = Ending::Unblocked { actor: SENSOR.to_owned(), reason: NO_ROOM.to_owned() };
        changes.extend(ended.into_iter().map(|block| Change::Lift(block, ending.clone())));
        self.keeper.keep_blocks(changes);
        self.enforced.send_replace(Arc::new(self.ladder.blocks().filter(|block| block.enforced).cloned().collect()));
        refused
    }

    /// Whether people or the sensor block it in the kernel.
    fn is_put(&self, target: &Target) -> bool {
        lock(&self.kernel).entry(&key(target)).is_some_and(|entry| entry.listed == 0)
    }

    /// Whether the kernel has taken it.
    fn put(&self, block: &Block, at: Instant, again: bool) -> bool {
        let rule = rule(block, block.left(at.now), at.monotonic_ns);
        if let Err(error) = lock(&self.kernel).put(key(&block.target), &rule) {
            error!(target = %block.target, error = format!("{error:#}"), "cannot be blocked in the kernel");
            self.metrics.respond().failed();
            return false;
        }
        if again {
            return true;
        }
        self.metrics.respond().put(block);
        let (target, until) = (block.target, block.until);
        let Block { measure, by, reason, .. } = block;
        match (block.enforced, by) {
            (true, Decider::Incident(_)) => warn!(%target, %measure, %by, %until, reason, "blocked"),
            (true, Decider::Person(_) | Decider::List(_)) => info!(%target, %measure, %by, %until, reason, "blocked"),
            (false, _) => info!(%target, %measure, %by, %until, reason, "would be blocked: packets are only counted"),
        }
        true
    }

    fn tell_metrics(&mut self) {
        let stats = self.ladder.stats();
        let count = |enforced| self.ladder.blocks().filter(|block| block.enforced == enforced).count();
        self.metrics.respond().feed(&self.told, &stats, [count(true), count(false)], lock(&self.kernel).len());
        let LadderStats { unproven, guarded, capped, .. } = self.told;
        let [unproven, protected, over_caps] =
            [stats.unproven - unproven, stats.guarded - guarded, stats.capped - capped];
        if unproven + protected + over_caps > 0 {
            info!(unproven, protected, over_caps, "attackers are left alone, by why");
        }
        self.told = stats;
    }
}

fn lock(list: &Mutex<Blocklist>) -> MutexGuard<'_, Blocklist> {
    list.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A way to the responder for whoever acts: the socket, a bot. Clones lead to the same one.
#[derive(Clone)]
pub struct Response {
    responder: Arc<Mutex<Responder>>,
    clock: Arc<dyn Fn() -> Instant + Send + Sync>,
}

impl Response {
    /// Shares a responder.
    #[must_use]
    pub fn new(responder: Responder, clock: Arc<dyn Fn() -> Instant + Send + Sync>) -> Self {
        Self { responder: Arc::new(Mutex::new(responder)), clock }
    }

    /// Does something with the responder, now.
    pub fn with<R>(&self, act: impl FnOnce(&mut Responder, Instant) -> R) -> R {
        let at = (self.clock)();
        act(&mut self.responder.lock().unwrap_or_else(PoisonError::into_inner), at)
    }

    /// [`Responder::block`], now.
    ///
    /// # Errors
    /// As there.
    pub fn block(&self, wish: Wish) -> Result<Listed, Refusal> {
        self.with(|responder, at| responder.block(wish, at))
    }

    /// [`Responder::unblock`], now.
    #[must_use]
    pub fn unblock(&self, selection: Selection, actor: &str, reason: &str) -> Vec<Listed> {
        self.with(|responder, at| responder.unblock(selection, actor, reason, at))
    }

    /// [`Responder::blocks`], now.
    #[must_use]
    pub fn blocks(&self) -> Vec<Listed> {
        self.with(|responder, at| responder.blocks(at))
    }

    /// Keeps the session from which somebody acts from being blocked.
    pub fn protect_session(&self, addr: IpAddr) {
        let network = Network::new(addr.to_canonical(), u8::MAX);
        self.with(|responder, at| {
            if responder.sessions.len() < SESSIONS {
                responder.sessions.insert(network, at.now);
            }
            let known = responder.ladder.guard().networks();
            let sessions = known.filter(|(kind, _)| *kind == Protection::Session).map(|(_, network)| network).collect();
            responder.protect(vec![(Protection::Session, sessions)], at);
        });
    }
}
