//! Addresses of hosts and of network cards.

/// An IPv6 address, or an IPv4 address mapped into `::ffff:0:0/96`, as two big-endian halves in host order.
///
/// The numeric order of the pair is the order of the addresses.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Addr {
    /// The first eight octets.
    pub high: u64,
    /// The last eight octets.
    pub low: u64,
}

impl Addr {
    const V4_MAPPED: u64 = 0xffff_0000_0000;

    /// The mapped form of an IPv4 address given in host order.
    #[inline(always)]
    #[must_use]
    pub const fn from_v4(bits: u32) -> Self {
        Self { high: 0, low: Self::V4_MAPPED | bits as u64 }
    }

    /// The sixteen octets in network order.
    #[must_use]
    pub const fn octets(self) -> [u8; 16] {
        (((self.high as u128) << 64) | self.low as u128).to_be_bytes()
    }
}

impl From<core::net::IpAddr> for Addr {
    fn from(addr: core::net::IpAddr) -> Self {
        match addr {
            core::net::IpAddr::V4(v4) => Self::from_v4(v4.to_bits()),
            core::net::IpAddr::V6(v6) => {
                let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = v6.octets();
                Self {
                    high: u64::from_be_bytes([a, b, c, d, e, f, g, h]),
                    low: u64::from_be_bytes([i, j, k, l, m, n, o, p]),
                }
            }
        }
    }
}

/// Mapped IPv4 addresses become IPv4 again.
impl From<Addr> for core::net::IpAddr {
    fn from(addr: Addr) -> Self {
        core::net::Ipv6Addr::from_octets(addr.octets()).to_canonical()
    }
}

/// A hardware address (EUI-48) as a number: the first octet is the highest of the low six.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddr(pub u64);

impl MacAddr {
    /// That of every station.
    pub const BROADCAST: Self = Self(0xffff_ffff_ffff);

    /// Whether it is that of a group, everyone included.
    #[inline(always)]
    #[must_use]
    pub const fn is_group(self) -> bool {
        self.0 >> 40 & 1 == 1
    }
}

impl core::fmt::Display for MacAddr {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let [_, _, a, b, c, d, e, g] = self.0.to_be_bytes();
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::IpAddr;

    #[test]
    fn addresses_round_trip() {
        for text in ["192.0.2.1", "2001:db8::1", "0.0.0.0", "::1", "255.255.255.255"] {
            let addr: IpAddr = text.parse().unwrap();
            assert_eq!(IpAddr::from(Addr::from(addr)), addr);
        }
    }

    #[test]
    fn hardware_addresses_are_written_as_usual() {
        assert_eq!(std::format!("{}", MacAddr(0x0200_5e00_53af)), "02:00:5e:00:53:af");
        assert!(MacAddr(0x0100_5e00_0001).is_group() && MacAddr::BROADCAST.is_group() && !MacAddr(2 << 40).is_group());
    }
}
