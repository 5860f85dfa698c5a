//! Networks of addresses.

use std::net::{IpAddr, Ipv6Addr};

use sensor_ebpf::abi::Addr;

/// All addresses that begin alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    base: Addr,
    /// Counted from the front of the mapped address.
    prefix: u8,
}

impl Network {
    /// The network of an address; a prefix that is too long is that of the address alone.
    #[must_use]
    pub fn new(addr: IpAddr, prefix: u8) -> Self {
        let prefix = if addr.is_ipv4() { 96 + prefix.min(32) } else { prefix.min(128) };
        Self { base: addr.into(), prefix }
    }

    /// Whether an address is of this network.
    #[must_use]
    pub fn contains(&self, addr: Addr) -> bool {
        let bits = |addr: Addr| u128::from_be_bytes(addr.octets());
        let shift = 128 - u32::from(self.prefix);
        (bits(self.base) ^ bits(addr)).checked_shr(shift).unwrap_or(0) == 0
    }

    /// The first of its addresses, and the last.
    #[must_use]
    pub fn bounds(&self) -> (Addr, Addr) {
        let base = u128::from_be_bytes(self.base.octets());
        let hosts = u128::MAX.checked_shr(u32::from(self.prefix)).unwrap_or(0);
        let addr = |bits: u128| Addr::from(IpAddr::V6(Ipv6Addr::from_bits(bits)));
        (addr(base & !hosts), addr(base | hosts))
    }
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
}
