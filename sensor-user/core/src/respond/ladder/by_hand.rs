//! What people block and unblock.

use std::net::IpAddr;
use std::time::Duration;

use sensor_ebpf::packet::{has_ports, proto};

use super::{Held, Ladder};
use crate::net::Network;
use crate::respond::words::{protocol, span};
use crate::respond::{Block, Change, Decider, Ending, Measure, Protection, Scope, Target};
use crate::text::plain;
use crate::time::Timestamp;

/// How long a block is when nobody says for how long.
const USUAL: Duration = Duration::from_secs(3600);
/// Characters of a name or a reason that are kept.
const TEXT: usize = 256;

/// A block that somebody asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Which packets.
    pub target: Target,
    /// What is to become of them.
    pub measure: Measure,
    /// For how long. Nothing for an hour, and not for less than what is enforced already.
    pub span: Option<Duration>,
    /// Who asks: `local:alice`, `telegram:42`.
    pub actor: String,
    /// Why; may be empty.
    pub reason: String,
}

/// Which blocks somebody wants lifted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// Those of a network or of a part of it, of automatic ones all that overlap it, and those of requests to its hosts.
    Network(Network),
    /// That of a target.
    Target(Target),
}

/// Why a wish is not granted, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nobody may block this.
    #[error(
        "{network} is or holds {protection}, which is never blocked: choose a network without it{}",
        if matches!(.protection, Protection::Configured) { ", or change the configuration" } else { "" }
    )]
    Guarded {
        /// What was to be blocked.
        network: Network,
        /// Why it is not.
        protection: Protection,
    },
    /// Too many addresses at once.
    #[error("{network} is too wide: block a /{widest} or narrower")]
    TooWide {
        /// What was to be blocked.
        network: Network,
        /// The least prefix.
        widest: u8,
    },
    /// Requests to somebody else.
    #[error("{host} is no host of this network: only requests to one of them can be limited; block the peer instead")]
    NotOurs {
        /// The host.
        host: IpAddr,
    },
    /// The number of nothing.
    #[error("there is no port 0 and no protocol 0: name another, or leave it out to mean all of them")]
    Zero,
    /// A port of what has none.
    #[error("{} has no ports: leave the port out, or choose tcp, udp, udplite or sctp", protocol(*.proto))]
    NoPorts {
        /// The protocol.
        proto: u8,
    },
    /// A protocol of the other kind of addresses.
    #[error("{network} speaks no {}: choose {}", protocol(*.proto), protocol(icmp(network)))]
    OtherFamily {
        /// What was to be blocked.
        network: Network,
        /// The protocol.
        proto: u8,
    },
    /// No time at all.
    #[error("a block needs some time, such as 1 h")]
    NoTime,
    /// Too much time.
    #[error("{} is too long: block for {} at most, and again when that is over", span(*.wished), span(*.longest))]
    TooLong {
        /// What was wished.
        wished: Duration,
        /// The longest.
        longest: Duration,
    },
    /// Whoever enforces blocks has no room.
    #[error("the kernel's list of blocks is full: raise respond.capacity, and restart the sensor")]
    NoRoom,
    /// Too many blocks.
    #[error("there are {most} blocks by people already: unblock some, or block a network instead of its hosts")]
    Full {
        /// How many there can be.
        most: usize,
    },
}

impl Ladder {
    /// Blocks what somebody wishes, in place of what there was for the same target, in any mode.
    ///
    /// # Errors
    /// What nobody may do is refused.
    pub fn block(&mut self, mut wish: Wish, now: Timestamp) -> Result<Vec<Change>, Refusal> {
        let now = self.advance(now);
        if let Target::Requests { host, .. } = &mut wish.target {
            *host = host.to_canonical();
        }
        self.check(&wish)?;
        let block = Block {
            target: wish.target,
            measure: wish.measure,
            enforced: true,
            since: now,
            until: self.end(&wish, now),
            by: Decider::Person(short(&wish.actor)),
            reason: short(&wish.reason),
        };
        self.held.insert(block.target, Held { block: block.clone(), class: None, serial: 0 });
        Ok(vec![Change::Put(block)])
    }

    /// Lifts blocks because somebody wants it. The sensor leaves alone for a while what was selected, blocked or not, and
    /// forgets its offences.
    pub fn unblock(&mut self, selection: Selection, actor: &str, reason: &str, now: Timestamp) -> Vec<Change> {
        let now = self.advance(now);
        let (actor, reason) = (short(actor), short(reason));
        let ending = || Ending::Unblocked { actor: actor.clone(), reason: reason.clone() };
        let changes = self.lift(|held| selection.selects(&held.block).then(ending));
        let selected = match selection {
            Selection::Network(network) => Target::Peer { network, scope: Scope::All },
            Selection::Target(target) => target,
        };
        self.forgive_lifted(&changes, now);
        self.forgive(selected, now);
        if let Some(network) = selected.network() {
            self.offences.forget(&network);
        }
        changes
    }

    fn end(&self, wish: &Wish, now: Timestamp) -> Timestamp {
        if let Some(span) = wish.span {
            return now + span;
        }
        let before = self.enforced(&wish.target).map(|block| block.until);
        before.map_or(now + USUAL, |before| before.max(now + USUAL))
    }

    fn check(&self, wish: &Wish) -> Result<(), Refusal> {
        check_kind(&wish.target)?;
        match wish.target {
            Target::Peer { network, .. } => {
                if let Some(protection) = self.guard.protects(&network) {
                    return Err(Refusal::Guarded { network, protection });
                }
                let widest = self.policy.widest(network.is_ipv4());
                if network.prefix_len() < widest {
                    return Err(Refusal::TooWide { network, widest });
                }
            }
            Target::Requests { host, .. } if !self.guard.is_ours(host) => return Err(Refusal::NotOurs { host }),
            Target::Requests { .. } => {}
        }
        let (wished, longest) = (wish.span.unwrap_or(USUAL), self.policy.longest_by_person);
        if wished.is_zero() {
            return Err(Refusal::NoTime);
        }
        if wished > longest {
            return Err(Refusal::TooLong { wished, longest });
        }
        let is_new = self.held.get(&wish.target).is_none_or(|held| held.block.is_automatic());
        let most = self.policy.entries_by_person;
        if is_new && self.count(false) >= most {
            return Err(Refusal::Full { most });
        }
        Ok(())
    }
}

/// Whether there can be packets of this kind. To the kernel a zero means all.
fn check_kind(target: &Target) -> Result<(), Refusal> {
    let (network, proto, port) = match *target {
        Target::Requests { port: 0, .. } => return Err(Refusal::Zero),
        Target::Requests { .. } | Target::Peer { scope: Scope::All, .. } => return Ok(()),
        Target::Peer { network, scope: Scope::Protocol(proto) } => (network, proto, None),
        Target::Peer { network, scope: Scope::Port { proto, port } } => (network, proto, Some(port)),
    };
    if proto == 0 || port == Some(0) {
        return Err(Refusal::Zero);
    }
    if port.is_some() && !has_ports(proto) {
        return Err(Refusal::NoPorts { proto });
    }
    if matches!(proto, proto::ICMP | proto::ICMPV6) && proto != icmp(&network) {
        return Err(Refusal::OtherFamily { network, proto });
    }
    Ok(())
}

/// The ICMP of these addresses.
fn icmp(network: &Network) -> u8 {
    if network.is_ipv4() { proto::ICMP } else { proto::ICMPV6 }
}

impl Selection {
    fn selects(&self, block: &Block) -> bool {
        match (self, block.target) {
            // Of IPv6 the sensor blocks more than the address that somebody has seen.
            (Self::Network(network), Target::Peer { network: blocked, .. }) => {
                network.covers(&blocked) || (block.is_automatic() && network.overlaps(&blocked))
            }
            (Self::Network(network), Target::Requests { host, .. }) => network.contains(host.into()),
            (Self::Target(target), blocked) => *target == blocked,
        }
    }
}

/// One line, and not a long one.
fn short(text: &str) -> String {
    plain(text).trim().chars().take(TEXT).collect()
}
