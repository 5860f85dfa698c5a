//! The conservation counters: every packet at a hook, and why it is in no flow.

/// Where a packet was seen; the index into the counters map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Hook {
    /// Packets that arrive.
    Ingress = 0,
    /// Packets that leave.
    Egress = 1,
}

impl Hook {
    /// Every hook, in the order of the counters map.
    pub const ALL: [Self; 2] = [Self::Ingress, Self::Egress];

    /// The stable name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }
}

/// Why a packet is in no flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(usize)]
pub enum Reason {
    /// ARP.
    Arp = 0,
    /// Any other network protocol than IP and ARP.
    NonIp = 1,
    /// More VLAN tags than two.
    VlanDepth = 2,
    /// Shorter than its headers.
    Truncated = 3,
    /// Headers that contradict themselves.
    Malformed = 4,
    /// More IPv6 extension headers than are followed.
    ExtensionDepth = 5,
    /// A link layer that is not understood (captures only).
    LinkType = 6,
    /// Left out by sampling.
    Sampled = 7,
    /// Forwarded, and counted already when it came in.
    Forwarded = 8,
    /// Dropped: its sender or receiver is blocked.
    Blocked = 9,
    /// Dropped: more than a limit lets pass.
    Limited = 10,
}

impl Reason {
    /// How many there are.
    pub const COUNT: usize = 11;

    /// Every reason, in the order of [`Counters::unaccounted`].
    pub const ALL: [Self; Self::COUNT] = [
        Self::Arp,
        Self::NonIp,
        Self::VlanDepth,
        Self::Truncated,
        Self::Malformed,
        Self::ExtensionDepth,
        Self::LinkType,
        Self::Sampled,
        Self::Forwarded,
        Self::Blocked,
        Self::Limited,
    ];

    /// The stable name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Arp => "arp",
            Self::NonIp => "non_ip",
            Self::VlanDepth => "vlan_depth",
            Self::Truncated => "truncated",
            Self::Malformed => "malformed",
            Self::ExtensionDepth => "extension_depth",
            Self::LinkType => "link_type",
            Self::Sampled => "sampled",
            Self::Forwarded => "forwarded",
            Self::Blocked => "blocked",
            Self::Limited => "limited",
        }
    }
}

/// Conservation counters of one hook: `packets` = packets in flows + `overflowed` + sum of `unaccounted`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Wire packets seen by the hook.
    pub packets: u64,
    /// IP octets of the packets in flows and aggregates.
    pub octets: u64,
    /// Packets in overflow aggregates.
    pub overflowed: u64,
    /// Later fragments.
    pub fragments: u64,
    /// Those of them whose first fragment was not seen: accounted to a flow without ports.
    pub orphan_fragments: u64,
    /// Packets to a multicast address of the link layer.
    pub multicast: u64,
    /// Packets to the broadcast address of the link layer.
    pub broadcast: u64,
    /// ARP messages that found no room in their ring.
    pub arp_lost: u64,
    /// Packets that would have been dropped by blocks that only count. They are in flows like all others.
    pub would_drop: u64,
    /// Packets in no flow, by [`Reason`].
    pub unaccounted: [u64; Reason::COUNT],
}

impl Counters {
    /// Packets in no flow and no aggregate, whatever the reason.
    #[must_use]
    pub fn unaccounted_total(&self) -> u64 {
        self.unaccounted.iter().sum()
    }

    /// Packets that were dropped.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.unaccounted[Reason::Blocked as usize] + self.unaccounted[Reason::Limited as usize]
    }

    /// Packets that have no flow by nature: other protocols than IP, copies of packets that have been counted, and what was
    /// dropped.
    #[must_use]
    pub fn without_flow(&self) -> u64 {
        let natural = [Reason::Arp, Reason::NonIp, Reason::Forwarded, Reason::Blocked, Reason::Limited];
        natural.into_iter().map(|reason| self.unaccounted[reason as usize]).sum()
    }

    /// Adds another CPU's or hook's counters.
    pub fn merge(&mut self, other: &Self) {
        self.packets += other.packets;
        self.octets += other.octets;
        self.overflowed += other.overflowed;
        self.fragments += other.fragments;
        self.orphan_fragments += other.orphan_fragments;
        self.multicast += other.multicast;
        self.broadcast += other.broadcast;
        self.arp_lost += other.arp_lost;
        self.would_drop += other.would_drop;
        for (mine, theirs) in self.unaccounted.iter_mut().zip(&other.unaccounted) {
            *mine += theirs;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_index_their_own_counter() {
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
        }
    }
}
