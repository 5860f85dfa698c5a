//! Blocks for tests, which begin at the epoch.

use sensor_core::net::Network;
use sensor_core::respond::{Block, Decider, Measure, Scope, Target};
use sensor_core::time::Timestamp;

/// Everything of a network is dropped for so many seconds.
pub fn peer(net: &str, secs: u64) -> Block {
    scoped(net, Scope::All, secs)
}

/// Some of it is.
pub fn scoped(net: &str, scope: Scope, secs: u64) -> Block {
    let net: ipnet::IpNet = net.parse().unwrap();
    block(Target::Peer { network: Network::new(net.addr(), net.prefix_len()), scope }, Measure::Drop, secs)
}

/// It would be.
pub fn observed(net: &str, secs: u64) -> Block {
    Block { enforced: false, ..peer(net, secs) }
}

/// So many packets a second pass.
pub fn limited(net: &str, rate: u32, secs: u64) -> Block {
    Block { measure: Measure::Limit(rate), ..peer(net, secs) }
}

/// So many connection requests a second pass.
pub fn requests(host: &str, port: u16, rate: u32, secs: u64) -> Block {
    block(Target::Requests { host: host.parse().unwrap(), port }, Measure::Limit(rate), secs)
}

fn block(target: Target, measure: Measure, secs: u64) -> Block {
    Block {
        target,
        measure,
        enforced: true,
        since: Timestamp::EPOCH,
        until: Timestamp::from_secs(secs),
        by: Decider::Incident("inc-1".to_owned()),
        reason: "brute force".to_owned(),
    }
}
