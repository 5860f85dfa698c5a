//! Blocks as the kernel's list has them.

use std::time::Duration;

use sensor_core::net::Network;
use sensor_core::respond::{Block, Measure, Scope, Target};
use sensor_core::time::nanos;
use sensor_ebpf::abi::{Addr, BlockKey, kind};
use sensor_ebpf::packet::proto;

use crate::source::kernel::blocklist::Rule;

/// Length of the prefix of the mapped address.
pub fn prefix(network: &Network) -> u8 {
    network.prefix_len() + if network.is_ipv4() { 96 } else { 0 }
}

/// All packets of a network.
pub fn key_of_network(network: &Network) -> BlockKey {
    BlockKey::network(Addr::from(network.addr()), u32::from(prefix(network)))
}

/// Where a target is on the list.
pub fn key(target: &Target) -> BlockKey {
    match target {
        Target::Peer { network, scope } => {
            let (proto, port) = match *scope {
                Scope::All => (0, 0),
                Scope::Protocol(proto) => (proto, 0),
                Scope::Port { proto, port } => (proto, port),
            };
            BlockKey { proto, port, ..key_of_network(network) }
        }
        Target::Requests { host, port } => {
            let network = Network::new(host.to_canonical(), u8::MAX);
            BlockKey { kind: kind::REQUESTS, proto: proto::TCP, port: *port, ..key_of_network(&network) }
        }
    }
}

/// What becomes of the packets of a block that goes on for so long from now.
pub fn rule(block: &Block, left: Duration, monotonic_ns: u64) -> Rule {
    Rule {
        expires_ns: monotonic_ns.saturating_add(nanos(left)),
        limit: match block.measure {
            Measure::Drop => 0,
            Measure::Limit(limit) => limit,
        },
        observe: !block.enforced,
        listed: false,
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    #[test]
    fn targets_are_found_by_what_the_programs_look_for() {
        let v4: Network = "203.0.113.0/24".parse().unwrap();
        let v6: Network = "2001:db8::/64".parse().unwrap();
        let peer = |network, scope| Target::Peer { network, scope };
        let host: IpAddr = "192.0.2.1".parse().unwrap();
        for (target, expected) in [
            (peer(v4, Scope::All), (0, 120, 0, 0)),
            (peer(v6, Scope::All), (0, 64, 0, 0)),
            (peer(v4, Scope::Protocol(17)), (0, 120, 17, 0)),
            (peer(v4, Scope::Port { proto: 6, port: 22 }), (0, 120, 6, 22)),
            (Target::Requests { host, port: 443 }, (1, 128, 6, 443)),
        ] {
            let key = key(&target);
            assert_eq!((key.kind, key.prefix, key.proto, key.port), expected, "{target}");
        }
    }
}
