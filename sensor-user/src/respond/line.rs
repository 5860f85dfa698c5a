//! A block as JSON: for scripts, for the socket, for the webhook, and in the store.

use std::net::IpAddr;

use sensor_core::net::Network;
use sensor_core::respond::{Block, Decider, Measure, Scope, Target};
use sensor_core::time::Timestamp;
use serde::{Deserialize, Serialize};

/// `{"type":"block",...}`: what `leuko blocks --json` prints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "block")]
pub struct BlockLine {
    /// Whose packets; nothing where requests to `host` are limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// The host that strangers may ask only so often.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<IpAddr>,
    /// IANA protocol number, where not all of them are meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<u8>,
    /// Port at this side, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Packets a second that pass; 0 for none.
    pub limit: u32,
    /// Whether packets are dropped, or only counted.
    pub enforced: bool,
    /// Seconds since the epoch, microseconds kept.
    pub since: f64,
    /// Likewise.
    pub until: f64,
    /// `local:alice`, `telegram:42`, `incident:ID` or `list:NAME`.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Packets that were dropped, or would have been.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packets: Option<u64>,
    /// Octets of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub octets: Option<u64>,
    /// When the latest of them came, in seconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<f64>,
}

/// How deciders that are no people are written.
const INCIDENT: &str = "incident:";
const LIST: &str = "list:";

impl From<&Block> for BlockLine {
    fn from(block: &Block) -> Self {
        let (network, host, protocol, port) = match block.target {
            Target::Peer { network, scope } => match scope {
                Scope::All => (Some(network), None, None, None),
                Scope::Protocol(protocol) => (Some(network), None, Some(protocol), None),
                Scope::Port { proto, port } => (Some(network), None, Some(proto), Some(port)),
            },
            Target::Requests { host, port } => (None, Some(host), None, Some(port)),
        };
        Self {
            network,
            host,
            protocol,
            port,
            limit: match block.measure {
                Measure::Drop => 0,
                Measure::Limit(limit) => limit,
            },
            enforced: block.enforced,
            since: block.since.epoch_seconds(),
            until: block.until.epoch_seconds(),
            by: match &block.by {
                Decider::Person(actor) => actor.clone(),
                Decider::Incident(id) => format!("{INCIDENT}{id}"),
                Decider::List(name) => format!("{LIST}{name}"),
            },
            reason: block.reason.clone(),
            packets: None,
            octets: None,
            last_seen: None,
        }
    }
}

impl BlockLine {
    /// The block; nothing if this says of none.
    #[must_use]
    pub fn block(&self) -> Option<Block> {
        let by = match (self.by.strip_prefix(INCIDENT), self.by.strip_prefix(LIST)) {
            (Some(id), _) => Decider::Incident(id.to_owned()),
            (None, Some(name)) => Decider::List(name.to_owned()),
            (None, None) => Decider::Person(self.by.clone()),
        };
        Some(Block {
            target: self.target()?,
            measure: if self.limit == 0 { Measure::Drop } else { Measure::Limit(self.limit) },
            enforced: self.enforced,
            since: timestamp(self.since),
            until: timestamp(self.until),
            by,
            reason: self.reason.clone(),
        })
    }

    /// Which packets; nothing if that makes no sense.
    #[must_use]
    pub const fn target(&self) -> Option<Target> {
        target(self.network, self.host, self.protocol, self.port)
    }
}

/// The target that these say of, if they do of one.
pub const fn target(
    network: Option<Network>,
    host: Option<IpAddr>,
    protocol: Option<u8>,
    port: Option<u16>,
) -> Option<Target> {
    match (network, host, protocol, port) {
        (Some(network), None, None, None) => Some(Target::Peer { network, scope: Scope::All }),
        (Some(network), None, Some(protocol), None) => Some(Target::Peer { network, scope: Scope::Protocol(protocol) }),
        (Some(network), None, Some(proto), Some(port)) => {
            Some(Target::Peer { network, scope: Scope::Port { proto, port } })
        }
        (None, Some(host), None, Some(port)) => Some(Target::Requests { host: host.to_canonical(), port }),
        _ => None,
    }
}

/// To the microsecond.
pub fn timestamp(secs: f64) -> Timestamp {
    let nanos = std::time::Duration::try_from_secs_f64(secs).map_or(0, sensor_core::time::nanos);
    // A double holds microseconds of our age, and not more.
    Timestamp::from_nanos(nanos.saturating_add(500) / 1000 * 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_the_same_after_its_json() {
        let network: Network = "203.0.113.0/24".parse().unwrap();
        let peer = |scope| Target::Peer { network, scope };
        for (target, measure, by) in [
            (peer(Scope::All), Measure::Drop, Decider::Person("local:alice".to_owned())),
            (peer(Scope::Protocol(17)), Measure::Limit(100), Decider::Incident("09ff71591213e016".to_owned())),
            (peer(Scope::Port { proto: 6, port: 22 }), Measure::Drop, Decider::List("drop".to_owned())),
            (
                Target::Requests { host: "2001:db8::1".parse().unwrap(), port: 443 },
                Measure::Limit(200),
                Decider::Person("telegram:42".to_owned()),
            ),
        ] {
            let block = Block {
                target,
                measure,
                enforced: true,
                since: Timestamp::from_secs(1_795_312_558),
                until: Timestamp::from_secs(1_795_316_158),
                by,
                reason: "a test".to_owned(),
            };
            let text = serde_json::to_string(&BlockLine::from(&block)).unwrap();
            assert_eq!(serde_json::from_str::<BlockLine>(&text).unwrap().block(), Some(block), "{text}");
        }
        let nothing =
            r#"{"type":"block","port":22,"limit":0,"enforced":true,"since":1,"until":2,"by":"x","reason":""}"#;
        assert_eq!(serde_json::from_str::<BlockLine>(nothing).unwrap().block(), None);
    }
}
