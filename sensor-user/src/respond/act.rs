//! What somebody who is not on this host can have the sensor do: a seam between a bot and the responder.

use std::time::Duration;

use sensor_core::net::Network;
use sensor_core::respond::{Block, Mode, Refusal, Selection, Target, Wish};

use super::{Listed, Response};

/// Acts at once; calls are short.
pub trait Act: Send + Sync {
    /// Blocks what somebody wishes.
    ///
    /// # Errors
    /// What nobody may do is refused.
    fn block(&self, wish: Wish) -> Result<Listed, Refusal>;

    /// Lifts what somebody selects, and gives what it was.
    fn unblock(&self, selection: Selection, actor: &str, reason: &str) -> Vec<Listed>;

    /// Every block of people and of the sensor, by target.
    fn blocks(&self) -> Vec<Listed>;

    /// The blocks whose addresses include all of a network.
    fn covering(&self, network: Network) -> Vec<Block>;

    /// What is enforced for a network as part of something wider: to unblock the network does not lift it.
    fn within(&self, network: Network) -> Vec<Target> {
        self.covering(network).into_iter().filter(|block| block.enforced).map(|block| block.target).collect()
    }

    /// How far the sensor goes by itself, and how long it goes on only counting because it is new here.
    fn mode(&self) -> (Mode, Duration);
}

impl Act for Response {
    fn block(&self, wish: Wish) -> Result<Listed, Refusal> {
        self.block(wish)
    }

    fn unblock(&self, selection: Selection, actor: &str, reason: &str) -> Vec<Listed> {
        self.unblock(selection, actor, reason)
    }

    fn blocks(&self) -> Vec<Listed> {
        self.blocks()
    }

    fn covering(&self, network: Network) -> Vec<Block> {
        self.with(|responder, _| responder.ladder().covering(network).cloned().collect())
    }

    fn mode(&self) -> (Mode, Duration) {
        self.with(|responder, at| {
            let ladder = responder.ladder();
            let since = at.now.since(ladder.armed_since());
            (ladder.policy().mode, ladder.policy().observe_first.saturating_sub(since))
        })
    }
}
