//! Blocks in words: stable identifiers for programs, English for people.

use std::fmt;
use std::time::Duration;

use sensor_ebpf::packet::proto;

use super::{Decider, Ending, Measure, Protection, Scope, Target};

/// `203.0.113.7`, `203.0.113.0/24 tcp port 22`, `requests to 192.0.2.1 port 443`.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer { network, scope: Scope::All } => network.fmt(f),
            Self::Peer { network, scope } => f.pad(&format!("{network} {scope}")),
            Self::Requests { host, port } => f.pad(&format!("requests to {host} port {port}")),
        }
    }
}

/// `all`, `udp`, `tcp port 22`.
impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::All => f.pad("all"),
            Self::Protocol(proto) => f.pad(&protocol(proto)),
            Self::Port { proto, port } => f.pad(&format!("{} port {port}", protocol(proto))),
        }
    }
}

/// `drop`, `limit 100/s`.
impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drop => f.pad("drop"),
            Self::Limit(packets) => f.pad(&format!("limit {packets}/s")),
        }
    }
}

/// `local:alice`, `incident 3f0c`, `list drop`.
impl fmt::Display for Decider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Person(actor) => f.pad(actor),
            Self::Incident(id) => f.pad(&format!("incident {id}")),
            Self::List(name) => f.pad(&format!("list {name}")),
        }
    }
}

impl Ending {
    /// The stable identifier, e.g. `rolled_back`.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Unblocked { .. } => "unblocked",
            Self::RolledBack => "rolled_back",
            Self::Guarded(_) => "guarded",
            Self::Delisted => "delisted",
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired => f.pad("its time was over"),
            Self::Unblocked { actor, reason } if reason.is_empty() => f.pad(&format!("unblocked by {actor}")),
            Self::Unblocked { actor, reason } => f.pad(&format!("unblocked by {actor}: {reason}")),
            Self::RolledBack => f.pad("healthy traffic fared worse with it"),
            Self::Guarded(protection) => f.pad(&format!("it is or holds {protection}")),
            Self::Delisted => f.pad("it is not on its list any more"),
        }
    }
}

impl Protection {
    /// Every protection, in the order of declaration.
    pub const ALL: [Self; 7] =
        [Self::Own, Self::Gateway, Self::Resolver, Self::Configured, Self::Session, Self::Receiver, Self::Special];

    /// The stable identifier, e.g. `gateway`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Gateway => "gateway",
            Self::Resolver => "resolver",
            Self::Configured => "configured",
            Self::Session => "session",
            Self::Receiver => "receiver",
            Self::Special => "special",
        }
    }
}

/// What an address is, e.g. `a gateway`.
impl fmt::Display for Protection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Own => "an address of this host",
            Self::Gateway => "a gateway",
            Self::Resolver => "a resolver",
            Self::Configured => "an address that the configuration excepts",
            Self::Session => "where somebody works on this host from",
            Self::Receiver => "a receiver of incidents",
            Self::Special => "an address of no single host",
        })
    }
}

/// A duration in its largest whole unit: `24 h`, `90 s`.
pub(super) fn span(span: Duration) -> String {
    const DAY: u64 = 86_400;
    match span.as_secs() {
        secs if secs > DAY && secs.is_multiple_of(DAY) => format!("{} d", secs / DAY),
        secs if secs > 0 && secs.is_multiple_of(3600) => format!("{} h", secs / 3600),
        secs if secs > 0 && secs.is_multiple_of(60) => format!("{} min", secs / 60),
        secs => format!("{secs} s"),
    }
}

/// `tcp`, `protocol 89`.
pub(super) fn protocol(number: u8) -> String {
    match number {
        proto::ICMP => "icmp".to_owned(),
        proto::TCP => "tcp".to_owned(),
        proto::UDP => "udp".to_owned(),
        proto::GRE => "gre".to_owned(),
        proto::ICMPV6 => "icmpv6".to_owned(),
        proto::SCTP => "sctp".to_owned(),
        proto::UDPLITE => "udplite".to_owned(),
        number => format!("protocol {number}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_told_in_words() {
        let peer = |text: &str, scope| Target::Peer { network: text.parse().unwrap(), scope };
        let host = "192.0.2.1".parse().unwrap();
        let unblocked = |reason: &str| Ending::Unblocked { actor: "local:alice".to_owned(), reason: reason.to_owned() };
        for (written, expected) in [
            (peer("203.0.113.7", Scope::All).to_string(), "203.0.113.7"),
            (peer("203.0.113.0/24", Scope::Port { proto: 6, port: 22 }).to_string(), "203.0.113.0/24 tcp port 22"),
            (peer("2001:db8::/64", Scope::Protocol(89)).to_string(), "2001:db8::/64 protocol 89"),
            (Target::Requests { host, port: 443 }.to_string(), "requests to 192.0.2.1 port 443"),
            (format!("{:>6}|{}", Measure::Drop, Measure::Limit(100)), "  drop|limit 100/s"),
            (Decider::Person("local:alice".to_owned()).to_string(), "local:alice"),
            (Decider::Incident("abc".to_owned()).to_string(), "incident abc"),
            (Decider::List("drop".to_owned()).to_string(), "list drop"),
            (unblocked("").to_string(), "unblocked by local:alice"),
            (unblocked("a colleague").to_string(), "unblocked by local:alice: a colleague"),
            (Ending::Guarded(Protection::Gateway).to_string(), "it is or holds a gateway"),
            (span(Duration::from_secs(86_400)), "24 h"),
            (span(Duration::from_secs(30 * 86_400)), "30 d"),
            (span(Duration::from_secs(600)), "10 min"),
            (span(Duration::from_secs(90)), "90 s"),
        ] {
            assert_eq!(written, expected);
        }
    }
}
