//! No sequence of incidents, commands and clock jumps does what must never be done.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::RngSeed;
use sensor_ebpf::abi::Addr;
use serde_json::json;

use super::tests::event;
use super::*;
use crate::incident::{Change as Stage, Severity};
use crate::respond::{Measure, Mode, Scope};

const MINUTE: Duration = Duration::from_secs(60);

#[derive(Clone, Debug)]
enum Step {
    Incident { class: Class, stage: Stage, attackers: Vec<IpAddr>, spoofed: bool },
    Block { target: Target, secs: u64 },
    Unblock(Network),
    Protect(Protection, Vec<Network>),
    Mode(Mode),
    Restart,
    Tick { served: u64 },
    Jump { back: bool, nanos: u64 },
}

fn policy(mode: Mode) -> Policy {
    Policy {
        mode,
        entries: 5,
        per_minute: 4,
        entries_by_person: 8,
        longest: Duration::from_secs(720),
        observe_first: Duration::from_secs(30),
        max_mode: [(Class::PortScan, Mode::Observe)].into(),
        ..Policy::default()
    }
}

/// Few hosts, so that they meet: some special, some of ours.
fn addrs() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        8 => (0_u32..12).prop_map(|n| Ipv4Addr::from_bits(0xcb00_7100 + n).into()),
        2 => (0_u16..4, 0_u16..2).prop_map(|(net, n)| Ipv6Addr::new(0x2001, 0xdb8, 0, net, 0, 0, 0, n).into()),
        1 => (0_u32..4).prop_map(|n| Ipv4Addr::from_bits(0x7f00_0000 + n).into()),
        1 => (0_u32..4).prop_map(|n| Ipv4Addr::from_bits(0xcb00_7100 + n).to_ipv6_mapped().into()),
    ]
}

fn networks() -> impl Strategy<Value = Network> {
    (addrs(), 0_u8..=128)
        .prop_map(|(addr, prefix)| Network::new(addr, prefix.max(if addr.is_ipv4() { 20 } else { 48 })))
}

fn targets() -> impl Strategy<Value = Target> {
    let scopes = prop_oneof![
        Just(Scope::All),
        any::<u8>().prop_map(Scope::Protocol),
        any::<u16>().prop_map(|port| Scope::Port { proto: 6, port }),
    ];
    prop_oneof![
        6 => (networks(), scopes).prop_map(|(network, scope)| Target::Peer { network, scope }),
        1 => (addrs(), 0_u16..4).prop_map(|(host, port)| Target::Requests { host, port }),
    ]
}

fn steps() -> impl Strategy<Value = Step> {
    let stages = prop::sample::select(vec![Stage::Opened, Stage::Updated, Stage::Closed]);
    let jumps = prop_oneof![
        8 => 0_u64..20_000_000_000,
        4 => 0_u64..900_000_000_000,
        1 => any::<u64>(),
    ];
    prop_oneof![
        8 => (prop::sample::select(Class::ALL.to_vec()), stages, prop::collection::vec(addrs(), 0..8), prop::bool::weighted(0.2))
            .prop_map(|(class, stage, attackers, spoofed)| Step::Incident { class, stage, attackers, spoofed }),
        3 => (targets(), 0_u64..4_000_000).prop_map(|(target, secs)| Step::Block { target, secs }),
        1 => networks().prop_map(Step::Unblock),
        1 => (prop::sample::select(Protection::ALL.to_vec()), prop::collection::vec(networks(), 0..4))
            .prop_map(|(kind, networks)| Step::Protect(kind, networks)),
        1 => prop::sample::select(Mode::ALL.to_vec()).prop_map(Step::Mode),
        1 => Just(Step::Restart),
        6 => (0_u64..=20).prop_map(|served| Step::Tick { served }),
        6 => (prop::bool::weighted(0.2), jumps).prop_map(|(back, nanos)| Step::Jump { back, nanos }),
    ]
}

/// An attacker is proven or not for good.
fn is_proven(host: &Network) -> bool {
    let Addr { high, low } = host.bounds().0;
    (high ^ low).is_multiple_of(2)
}

/// The ladder, what it said is to be enforced, and what it may do.
struct World {
    ladder: Ladder,
    told: BTreeMap<Target, Block>,
    now: Timestamp,
    /// Time that has gone by at most: the clock's steps forward.
    gone: Duration,
    new: VecDeque<Duration>,
}

impl World {
    fn new() -> Self {
        let now = Timestamp::from_secs(1_750_000_000);
        let mut guard = Guard::default();
        guard.set(Protection::Own, vec![Network::new(Ipv4Addr::from_bits(0xcb00_7101).into(), 32)]);
        let ladder = Ladder::new(policy(Mode::Drop), guard, now);
        Self { ladder, told: BTreeMap::new(), now, gone: Duration::ZERO, new: VecDeque::new() }
    }

    fn go(&mut self, step: Step) {
        let now = self.now;
        let changes = match step {
            Step::Incident { class, stage, attackers, spoofed } => {
                let mut event = event(class, &[]);
                event.change = stage;
                event.incident.severity = Severity::Critical;
                event.incident.victims = attackers.iter().rev().copied().collect();
                event.incident.attackers = attackers;
                event.incident.evidence.insert("spoofed".to_owned(), json!(spoofed));
                self.ladder.advance(now);
                let before = self.ladder.blocks().map(|block| (block.target, block.clone())).collect();
                let changes = self.ladder.incident(&event, &is_proven, now);
                self.judge_pace(&before, &changes);
                changes
            }
            Step::Block { target, secs } => {
                let (span, actor) = (Some(Duration::from_secs(secs)), "local:alice".to_owned());
                let wish = Wish { target, measure: Measure::Drop, span, actor, reason: String::new() };
                self.ladder.block(wish, now).unwrap_or_default()
            }
            Step::Unblock(network) => self.ladder.unblock(Selection::Network(network), "local:alice", "", now),
            Step::Protect(kind, networks) => self.ladder.protect(kind, networks, now),
            Step::Mode(mode) => self.ladder.set_policy(policy(mode), now),
            Step::Restart => {
                let guard = self.ladder.guard().clone();
                let mut next = Ladder::new(self.ladder.policy().clone(), guard, self.ladder.armed_since());
                let blocks = mem::take(&mut self.told).into_values().collect();
                let changes = next.resume(blocks, self.ladder.offences().collect(), now);
                self.ladder = next;
                // Another process does not know of those that were lifted within the minute before.
                self.new.clear();
                changes.into_iter().filter(|change| matches!(change, Change::Put(_))).collect()
            }
            Step::Tick { served } => {
                let health = Health { attempts: 20, served, rtt: Some(Duration::from_millis(400 - 20 * served)) };
                self.ladder.tick(health, now)
            }
            Step::Jump { back, nanos } => {
                let by = Duration::from_nanos(nanos);
                self.now = if back { now - by } else { now + by };
                self.gone += self.now.since(now);
                Vec::new()
            }
        };
        for change in changes {
            match change {
                Change::Put(block) => drop(self.told.insert(block.target, block)),
                Change::Lift(block, _) => assert!(self.told.remove(&block.target).is_some(), "lifted once: {block:?}"),
            }
        }
    }

    /// What an incident has brought is new, unless it only lasts longer than before.
    fn judge_pace(&mut self, before: &BTreeMap<Target, Block>, changes: &[Change]) {
        for change in changes {
            let Change::Put(block) = change else { panic!("an incident lifts nothing") };
            let lasts = |before: &Block| Block { until: block.until, ..before.clone() } == *block;
            if !before.get(&block.target).is_some_and(lasts) {
                self.new.push_back(self.gone);
            }
        }
        self.new.retain(|at| self.gone - *at < MINUTE);
        assert!(self.new.len() <= 4, "{} in a minute", self.new.len());
    }

    fn check(&self) {
        let ladder = &self.ladder;
        let policy = ladder.policy();
        assert_eq!(
            self.told.keys().collect::<Vec<_>>(),
            ladder.blocks().map(|block| &block.target).collect::<Vec<_>>()
        );
        assert!(ladder.count(true) <= policy.entries && ladder.count(false) <= policy.entries_by_person);
        for block in ladder.blocks() {
            let longest = if block.is_automatic() { policy.longest } else { policy.longest_by_person };
            assert!(block.span() <= longest && block.left(self.now) <= longest, "{block:?}");
            assert!(block.enforced || block.is_automatic(), "what people decide is done: {block:?}");
            if let Some(network) = block.target.network() {
                assert_eq!(ladder.guard().protects(&network), None, "{block:?}");
                assert!(network.prefix_len() >= policy.widest(network.is_ipv4()), "{block:?}");
            }
            if block.is_automatic() {
                assert!(policy.mode > Mode::Off && (policy.mode > Mode::Observe || !block.enforced), "{block:?}");
                assert!(!block.enforced || !block.reason.starts_with("port_scan"), "{block:?}");
                self.check_automatic(block);
            }
        }
    }

    fn check_automatic(&self, block: &Block) {
        match block.target {
            Target::Peer { network, scope } => {
                assert_eq!(scope, Scope::All);
                assert!(is_proven(&network), "{block:?}");
                assert_eq!(network.prefix_len(), if network.is_ipv4() { 32 } else { 64 });
            }
            Target::Requests { .. } => assert!(matches!(block.measure, Measure::Limit(200)), "{block:?}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        rng_seed: RngSeed::Fixed(7),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn nothing_does_what_must_never_be_done(steps in prop::collection::vec(steps(), 1..150)) {
        let mut world = World::new();
        for step in steps {
            world.go(step);
            world.check();
        }
    }
}

/// The property would hold of a ladder that does nothing.
#[test]
fn the_sequences_reach_what_they_are_about() {
    let config = ProptestConfig { rng_seed: RngSeed::Fixed(7), ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let (mut stats, mut enforced, mut shielded, mut by_person) = (LadderStats::default(), 0, 0, 0);
    for _ in 0..200 {
        let steps = prop::collection::vec(steps(), 150).new_tree(&mut runner).unwrap().current();
        let mut world = World::new();
        for step in steps {
            world.go(step);
            let now = world.ladder.stats();
            stats.capped = stats.capped.max(now.capped);
            stats.rolled_back = stats.rolled_back.max(now.rolled_back);
            stats.guarded = stats.guarded.max(now.guarded);
            stats.unproven = stats.unproven.max(now.unproven);
            enforced += world.ladder.blocks().filter(|block| block.is_automatic() && block.enforced).count();
            shielded += world.ladder.blocks().filter(|block| block.target.network().is_none()).count();
            by_person += world.ladder.count(false);
        }
    }
    assert!(stats.capped > 0 && stats.rolled_back > 0 && stats.guarded > 0 && stats.unproven > 0, "{stats:?}");
    assert!(enforced > 1000 && shielded > 100 && by_person > 1000, "{enforced} {shielded} {by_person}");
}
