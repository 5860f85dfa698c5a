//! What is done about attackers: what a block is. Who decides on one, and who is never blocked, are modules of this one.

mod guard;
mod ladder;
mod policy;
mod proven;
mod words;

pub use guard::Guard;
pub use ladder::{Health, Ladder, LadderStats, Offence, Refusal, Selection, Wish};
pub use policy::{Mode, Policy};
pub use proven::Proven;

use std::net::IpAddr;
use std::time::Duration;

use crate::net::Network;
use crate::time::Timestamp;

/// Which packets are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// What comes from these addresses, and what is sent to them.
    Peer {
        /// The addresses.
        network: Network,
        /// Which of their packets.
        scope: Scope,
    },
    /// Connection requests (SYN) of strangers to a service: a flood of them may come from anywhere, so that there is nobody
    /// to block. Strangers are those who have not completed a connection lately.
    Requests {
        /// The host that is asked.
        host: IpAddr,
        /// Its port.
        port: u16,
    },
}

/// Which packets of a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// All of them.
    #[default]
    All,
    /// Those of an IANA protocol.
    Protocol(u8),
    /// Those of a protocol to a port at our side.
    Port {
        /// TCP, UDP, UDP-Lite or SCTP, by number.
        proto: u8,
        /// The port.
        port: u16,
    },
}

/// What becomes of the packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Measure {
    /// None passes.
    Drop,
    /// So many packets a second pass, from the whole network together.
    Limit(u32),
}

/// Who decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decider {
    /// Somebody: `local:alice`, `telegram:42`.
    Person(String),
    /// The sensor, because of an incident.
    Incident(String),
    /// A list that was imported, by its name.
    List(String),
}

/// A block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Which packets.
    pub target: Target,
    /// What becomes of them,
    pub measure: Measure,
    /// or would become of them: they are only counted where this is false.
    pub enforced: bool,
    /// When it began.
    pub since: Timestamp,
    /// When it ends, whatever becomes of the sensor.
    pub until: Timestamp,
    /// Who decided.
    pub by: Decider,
    /// Why, in a few words.
    pub reason: String,
}

impl Block {
    /// How long it is in force. However the clock was set, it is never in force for longer from now on.
    #[must_use]
    pub const fn span(&self) -> Duration {
        self.until.since(self.since)
    }

    /// How long it goes on, never longer than its span: that it began later than now is a matter of clocks.
    #[must_use]
    pub fn left(&self, now: Timestamp) -> Duration {
        self.until.since(now).min(self.span())
    }

    /// Whether the sensor decided on it because of an incident.
    #[must_use]
    pub const fn is_automatic(&self) -> bool {
        matches!(self.by, Decider::Incident(_))
    }
}

/// What is to be done to the tables of whoever enforces blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Block this, in place of what was there for the target.
    Put(Block),
    /// Block it no longer.
    Lift(Block, Ending),
}

/// Why a block is no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Its time was over.
    Expired,
    /// Somebody said so.
    Unblocked {
        /// Who.
        actor: String,
        /// Why; may be empty.
        reason: String,
    },
    /// Healthy traffic fared worse with it than without.
    RolledBack,
    /// It has turned out to be of somebody who is never blocked.
    Guarded(Protection),
    /// It is not on its list any more.
    Delisted,
}

/// Why an address is never blocked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protection {
    /// It is an address of this host.
    Own,
    /// The way to everywhere else leads through it.
    Gateway,
    /// Names are asked of it.
    Resolver,
    /// The configuration says so (`respond.never`, `detect.allow`).
    Configured,
    /// Somebody works on this host from there.
    Session,
    /// The sensor tells it of incidents.
    Receiver,
    /// It is of no single host: loopback, link-local, multicast, unspecified.
    Special,
}
