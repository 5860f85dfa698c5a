//! Blocks as the kernel program knows them: whose packets, what becomes of them, and until when.

use super::Addr;

/// Entries of each of the two filters, see [`crate::block`].
pub const FILTER_ENTRIES: u32 = 1 << 16;

/// Networks that are never dropped, at most.
pub const ALLOWED_ENTRIES: u32 = 1 << 16;

/// Sources that are known to have completed a connection, at most.
pub const PROVEN_ENTRIES: u32 = 1 << 16;

/// Connection requests that are remembered in case they come again.
pub const RETRY_ENTRIES: u32 = 1 << 20;

/// Which packets a block is about.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockKey {
    /// The network, whose bits behind the prefix are zero.
    pub addr: Addr,
    /// [`kind::PEER`] or [`kind::REQUESTS`].
    pub kind: u32,
    /// Port at our side, 0 for any.
    pub port: u16,
    /// IANA protocol number, 0 for any.
    pub proto: u8,
    /// Length of the prefix of the (mapped) address.
    pub prefix: u8,
}

/// What a [`BlockKey`] can be about.
pub mod kind {
    /// What comes from these addresses, and what is sent to them.
    pub const PEER: u32 = 0;
    /// Connection requests of strangers to this port of this host.
    pub const REQUESTS: u32 = 1;
}

/// What becomes of the packets, and what became of them. The counts are exact but for those that an update from userspace
/// overtakes; the times are those of the latest writer.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockEntry {
    /// When it ends, by CLOCK_MONOTONIC: nobody has to take it away.
    pub expires_ns: u64,
    /// Packets that were dropped, or would have been.
    pub packets: u64,
    /// Octets of their frames behind the link layer.
    pub octets: u64,
    /// When the latest of them came.
    pub last_ns: u64,
    /// A limit's theoretical arrival time (see [`crate::block::conforms`]),
    pub due_ns: u64,
    /// and that of requests that come again.
    pub retries_due_ns: u64,
    /// Time between two packets of a limit; 0 to drop all of them.
    pub gap_ns: u32,
    /// How much of it may be saved up.
    pub burst_ns: u32,
    /// Not zero to count and let pass.
    pub observe: u32,
    /// Not zero if a list that was imported has it; nothing to the kernel.
    pub listed: u32,
}

/// What there is to look for. All zero: nothing.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gate {
    /// Bits of [`gate`].
    pub has: u32,
    /// Bit n: a network of IPv6 with a prefix of n + 1 is blocked; prefixes up to 32 only.
    pub short_v6: u32,
    /// Bit n: a network of IPv6 with a prefix of n + 1 is allowed, and of n + 65.
    pub allowed_v6: [u64; 2],
}

/// Words of the filters, see [`crate::block`]. Of IPv4: bit n for blocked networks with a prefix of n + 1, bit n + 32 for
/// those that are allowed. Of IPv6: bit n of the first word for blocked networks with a prefix of n + 1, if that is more
/// than 32, and of the second for those with a prefix of n + 65.
pub mod filter {
    /// In the first word of IPv6: networks are allowed here, of the lengths that [`super::Gate::allowed_v6`] says.
    pub const ALLOWED_V6: u64 = 1;
}

/// Bits of [`Gate::has`].
pub mod gate {
    /// There are blocks of peers, whatever the packet.
    pub const PEERS: u32 = 1;
    /// There are blocks of peers by protocol.
    pub const PROTOCOLS: u32 = 2;
    /// There are blocks of peers by port.
    pub const PORTS: u32 = 4;
    /// There are services that strangers may ask only so often.
    pub const REQUESTS: u32 = 8;
    /// Those for which headers have to be parsed.
    pub const PARSED: u32 = PROTOCOLS | PORTS | REQUESTS;
}

const _: () = {
    assert!(size_of::<BlockKey>() == 24);
    assert!(size_of::<BlockEntry>() == 64);
    assert!(size_of::<Gate>() == 24);
};

#[cfg(feature = "user")]
mod pod {
    // SAFETY: repr(C), no padding (asserted sizes are the sums of the fields), no pointers; every bit pattern is valid.
    unsafe impl aya::Pod for super::BlockKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::BlockEntry {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Gate {}
}
