//! What is kept when the policy changes, and across a restart.

use super::{Held, Ladder, Offence};
use crate::incident::Class;
use crate::respond::{Block, Change, Decider, Ending, Measure, Mode, Policy, Target};
use crate::time::Timestamp;

impl Ladder {
    /// Replaces the policy. Where it allows less than was done, less is done at once; where it allows more, more is done
    /// from the next incident on.
    pub fn set_policy(&mut self, policy: Policy, now: Timestamp) -> Vec<Change> {
        let now = self.advance(now);
        self.policy = policy;
        let mut changes = Vec::new();
        for (target, mut held) in std::mem::take(&mut self.held) {
            match self.conform(&held, now) {
                Ok(block) => {
                    if block != held.block {
                        changes.push(Change::Put(block.clone()));
                        held.block = block;
                    }
                    self.held.insert(target, held);
                }
                Err(ending) => changes.push(Change::Lift(held.block, ending)),
            }
        }
        changes.extend(self.trim());
        changes
    }

    /// Goes on with what a store has kept: the blocks of people and of the sensor, and offences. What is over by now, or is
    /// not allowed any more, is lifted; the rest is to be put where it is not.
    pub fn resume(&mut self, mut blocks: Vec<Block>, offences: Vec<Offence>, now: Timestamp) -> Vec<Change> {
        let now = self.advance(now);
        for offence in offences {
            self.offences.restore(Offence { last: offence.last.min(now), ..offence });
        }
        // Of two for the same target that of a person is kept, or the one that ends later.
        blocks.sort_by_key(|block| (block.is_automatic(), std::cmp::Reverse(block.until)));
        let mut changes = Vec::new();
        for mut block in blocks {
            if matches!(block.by, Decider::List(_)) || self.held.contains_key(&block.target) {
                continue;
            }
            // The clock was set back meanwhile.
            let ahead = block.since.since(now);
            (block.since, block.until) = (block.since - ahead, block.until - ahead);
            let class = block.reason.split(',').next().filter(|_| block.is_automatic()).and_then(Class::named);
            let mut held = Held { block, class, serial: 0 };
            match self.conform(&held, now) {
                Ok(block) => {
                    held.block = block;
                    self.held.insert(held.block.target, held);
                }
                Err(ending) => changes.push(Change::Lift(held.block, ending)),
            }
        }
        changes.extend(self.trim());
        changes.extend(self.blocks().cloned().map(Change::Put));
        let mut put: Vec<Timestamp> =
            self.blocks().filter(|block| block.is_automatic()).map(|block| block.since).collect();
        put.sort_unstable();
        self.pace = put.into();
        changes
    }

    /// What is left of a block when guard and policy are asked again.
    fn conform(&self, held: &Held, now: Timestamp) -> Result<Block, Ending> {
        let mut block = held.block.clone();
        if let Target::Peer { network, .. } = block.target {
            if let Some(protection) = self.guard.protects(&network) {
                return Err(Ending::Guarded(protection));
            }
            if network.prefix_len() < self.policy.widest(network.is_ipv4()) {
                return Err(by_policy("it is too wide"));
            }
        }
        let longest = if block.is_automatic() { self.policy.longest } else { self.policy.longest_by_person };
        block.until = block.until.min(block.since + longest);
        if block.left(now).is_zero() {
            return Err(Ending::Expired);
        }
        if !block.is_automatic() {
            return Ok(block);
        }
        match held.class.map_or(self.policy.mode, |class| self.policy.mode_of(class)) {
            Mode::Off => return Err(by_policy("the mode is off")),
            Mode::Observe => block.enforced = false,
            Mode::RateLimit if block.measure == Measure::Drop => block.measure = Measure::Limit(self.policy.limit),
            Mode::RateLimit | Mode::Drop => {}
        }
        block.enforced &= self.is_armed(now);
        Ok(block)
    }

    /// Lifts those that end soonest where there are more than allowed.
    fn trim(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        for (automatic, most) in [(true, self.policy.entries), (false, self.policy.entries_by_person)] {
            let of_kind = self.blocks().filter(|block| block.is_automatic() == automatic);
            let mut ends: Vec<(Timestamp, Target)> = of_kind.map(|block| (block.until, block.target)).collect();
            ends.sort_unstable();
            let excess = ends.len().saturating_sub(most);
            let lifted = ends.iter().take(excess).filter_map(|(_, target)| self.held.remove(target));
            changes.extend(lifted.map(|held| Change::Lift(held.block, by_policy("there are too many"))));
        }
        changes
    }
}

fn by_policy(reason: &str) -> Ending {
    Ending::Unblocked { actor: "policy".to_owned(), reason: reason.to_owned() }
}
