//! What hosts are for: whether they are ours, and what they do all day.

use std::net::IpAddr;

use sensor_ebpf::abi::Addr;

/// What is known of hosts.
#[derive(Debug, Default)]
pub struct Roles {}

impl Roles {
    /// Whether an address is of the networks that are watched over: private (RFC 1918, RFC 4193), shared (RFC 6598) and
    /// link-local addresses.
    #[must_use]
    pub fn is_local(&self, addr: Addr) -> bool {
        match IpAddr::from(addr) {
            IpAddr::V4(v4) => {
                let [a, b, ..] = v4.octets();
                v4.is_private() || v4.is_link_local() || v4.is_loopback() || (a == 100 && b & 0xc0 == 64)
            }
            IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local() || v6.is_loopback(),
        }
    }
}
