//! A block of addresses in CIDR notation, for lists of who is trusted.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// `192.0.2.7`, `10.0.0.0/8`, `2001:db8::/32`. Never the whole Internet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network(IpNet);

impl Network {
    /// Whether `addr` is in it. An IPv4 address mapped into IPv6 is its IPv4 address.
    #[must_use]
    pub fn contains(&self, addr: IpAddr) -> bool {
        self.0.contains(&addr.to_canonical())
    }

    /// Its first address.
    #[must_use]
    pub fn addr(&self) -> IpAddr {
        self.0.addr()
    }

    /// How many leading bits its addresses share.
    #[must_use]
    pub fn prefix_len(&self) -> u8 {
        self.0.prefix_len()
    }
}

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let text = text.trim();
        let net = match text.parse::<IpAddr>() {
            Ok(addr) => IpNet::from(addr.to_canonical()),
            Err(_) => text.parse::<IpNet>().map_err(|_| {
                format!("{text:?} is no address such as \"192.0.2.7\" and no network such as \"10.0.0.0/8\"")
            })?,
        };
        if net.prefix_len() == 0 {
            return Err(format!("{text:?} is the whole Internet: nobody would ever be reported"));
        }
        // A slip of the keyboard here would silently trust the wrong hosts.
        if net != net.trunc() {
            return Err(format!(
                "{text:?} has bits set after the prefix: write \"{}\" or \"{}\"",
                net.trunc(),
                net.addr()
            ));
        }
        Ok(Self(net))
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() { self.0.addr().fmt(f) } else { self.0.fmt(f) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Result<Network, String> {
        Network::try_from(text.to_owned())
    }

    #[test]
    fn contains_its_addresses_and_no_others() {
        for (net, inside, outside) in [
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("10.0.0.0/8", "10.255.255.255", "11.0.0.0"),
            ("10.0.0.0/8", "::ffff:10.1.2.3", "::10.1.2.3"),
            ("::ffff:10.1.2.3", "10.1.2.3", "10.1.2.4"),
            ("2001:db8::/33", "2001:db8:7fff::1", "2001:db8:8000::"),
            ("fe80::/10", "fe80::1", "10.0.0.1"),
        ] {
            let net = network(net).unwrap();
            assert!(net.contains(inside.parse().unwrap()), "{net} {inside}");
            assert!(!net.contains(outside.parse().unwrap()), "{net} {outside}");
            assert_eq!(network(&net.to_string()).unwrap(), net);
        }
    }

    #[test]
    fn what_would_trust_others_than_meant_is_refused() {
        for (text, words) in [
            ("", "is no address"),
            ("web-1", "is no address"),
            ("10.0.0.0/33", "is no address"),
            ("10.0.0.1/8", "write \"10.0.0.0/8\" or \"10.0.0.1\""),
            ("2001:db8::1/32", "write \"2001:db8::/32\""),
            ("0.0.0.0/0", "the whole Internet"),
            ("::/0", "the whole Internet"),
        ] {
            let error = network(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
