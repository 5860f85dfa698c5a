//! Values of `[kernel]` that say what the datapath looks at.

use std::collections::BTreeSet;

use sensor_ebpf::packet::tunnel;
use serde::{Deserialize, Serialize};

/// A kind of tunnel whose inner packets can be counted in place of the outer ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tunnel {
    /// VXLAN, UDP ports 4789 and 8472.
    Vxlan,
    /// Geneve, UDP port 6081.
    Geneve,
    /// GRE with IP or Ethernet inside.
    Gre,
    /// IPv4 or IPv6 in IP.
    Ipip,
}

impl Tunnel {
    /// The set as the datapath knows it.
    #[must_use]
    pub fn bits(tunnels: &BTreeSet<Self>) -> u32 {
        tunnels.iter().fold(0, |bits, tunnel| {
            bits | match tunnel {
                Self::Vxlan => tunnel::VXLAN,
                Self::Geneve => tunnel::GENEVE,
                Self::Gre => tunnel::GRE,
                Self::Ipip => tunnel::IPIP,
            }
        })
    }
}

/// One packet of so many is looked at, 1 to 65,536.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "u32")]
pub struct Sampling(u32);

impl Sampling {
    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl Default for Sampling {
    fn default() -> Self {
        Self(1)
    }
}

impl TryFrom<i64> for Sampling {
    type Error = &'static str;

    fn try_from(number: i64) -> Result<Self, Self::Error> {
        match u32::try_from(number) {
            Ok(number @ 1..=65_536) => Ok(Self(number)),
            Ok(_) | Err(_) => Err("must be from 1 (every packet) to 65536"),
        }
    }
}

impl From<Sampling> for u32 {
    fn from(sampling: Sampling) -> Self {
        sampling.0
    }
}
