//! Networks of addresses.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use sensor_ebpf::abi::Addr;
use serde::{Deserialize, Serialize};

/// All addresses that begin alike. In order by the first of them; of two that begin alike the wider is first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network {
    /// The first address.
    base: Addr,
    /// Counted from the front of the mapped address.
    prefix: u8,
}

impl Network {
    /// The network of an address; a prefix that is too long is that of the address alone.
    #[must_use]
    pub fn new(addr: IpAddr, prefix: u8) -> Self {
        let prefix = if addr.is_ipv4() { 96 + prefix.min(32) } else { prefix.min(128) };
        Self { base: from_bits(bits(addr.into()) & !hosts(prefix)), prefix }
    }

    /// The network of an address alone.
    #[must_use]
    pub fn of(addr: Addr) -> Self {
        Self { base: addr, prefix: 128 }
    }

    /// The first of its addresses.
    #[must_use]
    pub fn addr(&self) -> IpAddr {
        self.base.into()
    }

    /// How many leading bits its addresses share, of the 32 of IPv4 or the 128 of IPv6.
    #[must_use]
    pub fn prefix_len(&self) -> u8 {
        if self.is_ipv4() { self.prefix - 96 } else { self.prefix }
    }

    /// Whether its addresses are of IPv4, mapped ones included.
    #[must_use]
    pub fn is_ipv4(&self) -> bool {
        // The first address of anything wider than all of IPv4 is not a mapped one.
        self.addr().is_ipv4()
    }

    /// Whether it is one address.
    #[must_use]
    pub const fn is_single(&self) -> bool {
        self.prefix == 128
    }

    /// Whether an address is of this network.
    #[must_use]
    pub fn contains(&self, addr: Addr) -> bool {
        bits(addr) & !hosts(self.prefix) == bits(self.base)
    }

    /// Whether all addresses of another are of this network.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.prefix <= other.prefix && self.contains(other.base)
    }

    /// Whether the two have an address in common.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.covers(other) || other.covers(self)
    }

    /// The first of its addresses, and the last.
    #[must_use]
    pub fn bounds(&self) -> (Addr, Addr) {
        (self.base, from_bits(bits(self.base) | hosts(self.prefix)))
    }
}

/// `192.0.2.7`, `10.0.0.0/8`, `2001:db8::/32`: an address alone has no prefix.
impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.addr() {
            addr if self.is_single() => f.pad(&addr.to_string()),
            addr => f.pad(&format!("{addr}/{}", self.prefix_len())),
        }
    }
}

/// Why a text is no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseNetworkError {
    /// It is something else.
    #[error("{0:?} is no address such as \"192.0.2.7\" and no network such as \"10.0.0.0/8\"")]
    Other(String),
    /// There are no prefixes so long.
    #[error("{text:?} has a prefix of more than {most} bits")]
    Prefix {
        /// The text.
        text: String,
        /// The bits of an address.
        most: u8,
    },
    /// A slip of the keyboard, after which other hosts would be meant.
    #[error("{text:?} has bits set after the prefix: write \"{network}\" or \"{addr}\"")]
    Ambiguous {
        /// The text.
        text: String,
        /// What may be meant.
        network: Network,
        /// What else may be meant.
        addr: IpAddr,
    },
}

impl FromStr for Network {
    type Err = ParseNetworkError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let other = || ParseNetworkError::Other(text.chars().take(64).collect());
        let Some((addr, prefix)) = text.split_once('/') else {
            return Ok(Self::of(text.parse::<IpAddr>().map_err(|_| other())?.into()));
        };
        let addr: IpAddr = addr.parse().map_err(|_| other())?;
        if prefix.is_empty() || prefix.len() > 3 || !prefix.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(other());
        }
        let most = if addr.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix.parse::<u8>() {
            Ok(prefix) if prefix <= most => prefix,
            _ => return Err(ParseNetworkError::Prefix { text: text.to_owned(), most }),
        };
        let network = Self::new(addr, prefix);
        if network.base != Addr::from(addr) {
            return Err(ParseNetworkError::Ambiguous { text: text.to_owned(), network, addr });
        }
        Ok(network)
    }
}

impl TryFrom<String> for Network {
    type Error = ParseNetworkError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

fn bits(addr: Addr) -> u128 {
    u128::from_be_bytes(addr.octets())
}

fn from_bits(bits: u128) -> Addr {
    IpAddr::V6(Ipv6Addr::from_bits(bits)).into()
}

/// The bits after a prefix.
fn hosts(prefix: u8) -> u128 {
    u128::MAX.checked_shr(u32::from(prefix)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_of_both_families_hold_their_own() {
        let network = |text: &str, prefix: u8| Network::new(text.parse().unwrap(), prefix);
        let addr = |text: &str| Addr::from(text.parse::<IpAddr>().unwrap());
        for (net, inside, outside) in [
            (network("10.0.0.0", 8), "10.255.0.1", "11.0.0.1"),
            (network("192.0.2.9", 32), "192.0.2.9", "192.0.2.8"),
            (network("0.0.0.0", 0), "8.8.8.8", "2001:db8::1"),
            (network("2001:db8::", 32), "2001:db8:ffff::1", "2001:db9::1"),
        ] {
            assert!(net.contains(addr(inside)) && !net.contains(addr(outside)), "{net:?}");
            let (first, last) = net.bounds();
            assert!(net.contains(first) && net.contains(last) && first <= addr(inside) && addr(inside) <= last);
        }
        assert!(network("::", 0).contains(addr("8.8.8.8")), "everything");
    }

    #[test]
    fn networks_are_written_as_they_are_read() {
        for (text, written, prefix, single) in [
            ("192.0.2.7", "192.0.2.7", 32, true),
            ("192.0.2.7/32", "192.0.2.7", 32, true),
            (" 10.0.0.0/8 ", "10.0.0.0/8", 8, false),
            ("0.0.0.0/0", "0.0.0.0/0", 0, false),
            ("::ffff:192.0.2.0/120", "192.0.2.0/24", 24, false),
            ("::ffff:0:0/96", "0.0.0.0/0", 0, false),
            ("2001:db8::/32", "2001:db8::/32", 32, false),
            ("2001:db8::1", "2001:db8::1", 128, true),
            ("::/0", "::/0", 0, false),
        ] {
            let network: Network = text.parse().unwrap();
            assert_eq!((network.to_string().as_str(), network.prefix_len()), (written, prefix), "{text}");
            assert_eq!(network.is_single(), single, "{text}");
            assert_eq!(written.parse(), Ok(network), "{text}");
        }
        for (text, words) in [
            ("", "is no address"),
            ("web-1", "is no address"),
            ("192.0.2.7/", "is no address"),
            ("192.0.2.7/+8", "is no address"),
            ("10.0.0.0/33", "more than 32 bits"),
            ("::/999", "more than 128 bits"),
            ("10.0.0.1/8", "write \"10.0.0.0/8\" or \"10.0.0.1\""),
        ] {
            let error = text.parse::<Network>().unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn networks_nest_or_have_nothing_in_common() {
        for (wide, narrow, covers) in [
            ("10.0.0.0/8", "10.1.0.0/16", true),
            ("10.0.0.0/8", "10.0.0.0/8", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("::/0", "192.0.2.1", true),
            ("::/64", "192.0.2.1", true),
            ("2001:db8::/32", "2001:db8:1::/64", true),
            ("2001:db8::/32", "2001:db9::/64", false),
        ] {
            let (wide, narrow): (Network, Network) = (wide.parse().unwrap(), narrow.parse().unwrap());
            assert_eq!((wide.covers(&narrow), wide.overlaps(&narrow)), (covers, covers), "{wide} {narrow}");
            assert_eq!((narrow.covers(&wide), narrow.overlaps(&wide)), (wide == narrow, covers), "{narrow} {wide}");
        }
    }
}
