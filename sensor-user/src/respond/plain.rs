//! Blocked networks as a plain list, for firewalls that read one from time to time.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Result;
use ipnet::IpNet;
use sensor_core::net::Network;
use sensor_core::respond::{Block, Measure, Scope, Target};
use sensor_core::time::Timestamp;

use super::reconcile::{Blocks, Enforce, Enforcer};
use crate::atomic;
use crate::notify::Clock;

/// Keeps the file at `path` up to date. At the end it is empty: whoever reads it has no other way to learn that a block is over.
///
/// # Errors
/// There can be no file.
pub fn start(path: PathBuf, blocks: Blocks, clock: Clock) -> Result<Enforcer> {
    atomic::check_place(&path)?;
    Ok(Enforcer::start(Plain { path }, blocks, clock))
}

/// One network a line in CIDR notation, sorted: those of whom no packet passes. A block of a port or a limit is not among
/// them, for a reader would take it for more than it is.
#[must_use]
pub fn list(blocks: &[Block], now: Timestamp) -> String {
    let nets: BTreeSet<IpNet> =
        blocks.iter().filter(|block| block.enforced && block.until > now).filter_map(whole).collect();
    nets.into_iter().fold(String::new(), |mut text, net| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{net}");
        text
    })
}

/// The network as everybody writes it.
pub(super) fn cidr(network: Network) -> IpNet {
    IpNet::new(network.addr(), network.prefix_len()).expect("a prefix of its own family")
}

fn whole(block: &Block) -> Option<IpNet> {
    match (block.target, block.measure) {
        (Target::Peer { network, scope: Scope::All }, Measure::Drop) => Some(cidr(network)),
        (Target::Peer { .. } | Target::Requests { .. }, Measure::Drop | Measure::Limit(_)) => None,
    }
}

struct Plain {
    path: PathBuf,
}

impl Enforce for Plain {
    const NAME: &str = "plain";

    async fn apply(&mut self, blocks: &[Block], now: Timestamp) -> Result<()> {
        atomic::write(&self.path, list(blocks, now).as_bytes())
    }

    async fn clear(&mut self) -> Result<()> {
        atomic::write(&self.path, b"")
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;
    use std::time::UNIX_EPOCH;

    use tokio::sync::watch;

    use super::*;
    use crate::notify::testing::until;
    use crate::respond::testing::{limited, observed, peer, requests, scoped};

    #[test]
    fn networks_are_written_as_everybody_does() {
        for (addr, prefix, text) in [
            ("192.0.2.7", 32, "192.0.2.7/32"),
            ("192.0.2.7", 24, "192.0.2.0/24"),
            ("0.0.0.0", 0, "0.0.0.0/0"),
            ("2001:db8::7", 64, "2001:db8::/64"),
            ("2001:db8::7", 128, "2001:db8::7/128"),
            ("::", 0, "::/0"),
        ] {
            assert_eq!(cidr(Network::new(addr.parse().unwrap(), prefix)).to_string(), text);
        }
    }

    #[tokio::test]
    async fn the_file_has_who_is_blocked_as_a_whole_and_is_empty_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("blocked.txt");
        let scope = Scope::Port { proto: 6, port: 22 };
        let blocks = vec![
            peer("203.0.113.9/32", 60),
            peer("2001:db8::/64", 60),
            peer("198.51.100.0/24", 60),
            peer("198.51.100.0/24", 30),
            peer("192.0.2.1/32", 0),
            scoped("192.0.2.2/32", scope, 60),
            limited("192.0.2.3/32", 10, 60),
            requests("192.0.2.4", 80, 10, 60),
            observed("192.0.2.5/32", 60),
        ];
        let (sender, receiver) = watch::channel(Arc::new(blocks));
        let enforcer = start(path.clone(), receiver, Arc::new(|| UNIX_EPOCH)).unwrap();
        let holds = |text: &str| fs::read_to_string(&path).is_ok_and(|held| held == text);
        until(|| holds("198.51.100.0/24\n203.0.113.9/32\n2001:db8::/64\n")).await;
        until(|| enforcer.health().applied.is_some()).await;
        sender.send_replace(Arc::new(vec![peer("192.0.2.5/32", 60)]));
        until(|| holds("192.0.2.5/32\n")).await;
        enforcer.stop().await;
        assert!(holds(""));
        assert!(start(dir.path().join("no/file"), sender.subscribe(), Arc::new(|| UNIX_EPOCH)).is_err());
    }
}
