//! Frames as the hooks see them: direct access to the linear part, into which headers are pulled if they are not there.
#![expect(clippy::cast_possible_truncation, reason = "lengths and offsets of a frame are far below 2^32")]

use core::cell::Cell;

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{__sk_buff, xdp_md};
use aya_ebpf::helpers::generated::{bpf_skb_pull_data, bpf_xdp_get_buff_len};
use aya_ebpf::programs::{TcContext, XdpContext};

use crate::abi::{Hook, Reason};
use crate::packet::arp::Cast;
use crate::packet::{MAX_OFFSET, Reader, ethertype, skip_ethernet};

/// A frame at a hook. Made anew in each function, because packet pointers are best not passed around.
pub trait Frame: Reader {
    /// The program's context, by which functions of their own are told of the frame.
    type Context: Copy;

    /// The frame of a context.
    fn open(context: Self::Context) -> Self;

    /// The EtherType of the network layer and where it begins.
    fn skip_link_layer(&self, hook: Hook) -> Result<(u16, usize), Reason>;

    /// Whom it is for.
    fn cast(&self) -> Cast;

    /// Payload octets of each segment of a super-packet, 0 for an ordinary packet.
    fn gso_size(&self) -> u32;

    /// Segments of a super-packet, 0 where nobody has counted them.
    fn gso_segs(&self) -> u32;

    /// Packets on the wire of a frame that is not parsed.
    #[inline(always)]
    fn segments(&self) -> u32 {
        let (size, segments) = (self.gso_size(), self.gso_segs());
        if segments != 0 {
            segments
        } else if size != 0 {
            self.wire_len().div_ceil(size)
        } else {
            1
        }
    }

    /// The interface.
    fn ifindex(&self) -> u32;

    /// The interface at which a forwarded packet came in.
    fn came_in_at(&self) -> Option<u32>;

    /// Whether a read has missed what is there, but not in the linear part.
    fn is_short(&self) -> bool;

    /// Moves headers into the linear part; frames of the context are to be opened anew.
    fn pull_headers(context: Self::Context);
}

/// A frame at the XDP hook, in several buffers perhaps (`FRAGS`, Linux 5.18). Drivers keep the headers in the first.
pub struct XdpFrame<const FRAGS: bool> {
    context: *mut xdp_md,
    data: usize,
    data_end: usize,
}

impl<const FRAGS: bool> Reader for XdpFrame<FRAGS> {
    #[inline(always)]
    fn bytes<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        linear(self.data, self.data_end, offset)
    }

    #[inline(always)]
    fn wire_len(&self) -> u32 {
        if !FRAGS {
            return (self.data_end - self.data) as u32;
        }
        // SAFETY: the context is valid while the program runs; the helper is as old as multi-buffer frames.
        unsafe { bpf_xdp_get_buff_len(self.context) as u32 }
    }
}

impl<const FRAGS: bool> Frame for XdpFrame<FRAGS> {
    type Context = *mut xdp_md;

    #[inline(always)]
    fn open(context: *mut xdp_md) -> Self {
        // SAFETY: the context is valid while the program runs.
        let [data, data_end] = unsafe { [word(&raw const (*context).data), word(&raw const (*context).data_end)] };
        Self { context, data, data_end }
    }

    #[inline(always)]
    fn skip_link_layer(&self, _: Hook) -> Result<(u16, usize), Reason> {
        skip_ethernet(self, 0)
    }

    #[inline(always)]
    fn cast(&self) -> Cast {
        Cast::of(self)
    }

    #[inline(always)]
    fn gso_size(&self) -> u32 {
        0
    }

    #[inline(always)]
    fn gso_segs(&self) -> u32 {
        0
    }

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        // SAFETY: the context is valid while the program runs.
        unsafe { (*self.context).ingress_ifindex }
    }

    #[inline(always)]
    fn came_in_at(&self) -> Option<u32> {
        None
    }

    #[inline(always)]
    fn is_short(&self) -> bool {
        false
    }

    #[inline(always)]
    fn pull_headers(_: *mut xdp_md) {}
}

/// A frame at a TC hook.
pub struct TcFrame {
    context: *mut __sk_buff,
    data: usize,
    data_end: usize,
    is_short: Cell<bool>,
}

impl Reader for TcFrame {
    #[inline(always)]
    fn bytes<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        let found = linear(self.data, self.data_end, offset);
        if found.is_none() && offset + N <= self.wire_len() as usize {
            self.is_short.set(true);
        }
        found
    }

    #[inline(always)]
    #[expect(clippy::misnamed_getters, reason = "the context's wire_len is that of a scheduler")]
    fn wire_len(&self) -> u32 {
        // SAFETY: the context is valid while the program runs.
        unsafe { (*self.context).len }
    }
}

impl TcFrame {
    /// Whether it begins like an IP packet of its length, and not with a hardware address. Padding is at most 26 octets.
    #[inline(always)]
    fn begins_with_ip(&self, kind: u16) -> bool {
        let Some([first, _, high, low, payload @ ..]) = self.bytes::<6>(0) else {
            return false;
        };
        let (version, octets) = if kind == ethertype::IPV4 {
            (4, u32::from(u16::from_be_bytes([high, low])))
        } else {
            (6, 40 + u32::from(u16::from_be_bytes(payload)))
        };
        first >> 4 == version && self.wire_len().wrapping_sub(octets) <= 26
    }
}

impl Frame for TcFrame {
    type Context = *mut __sk_buff;

    #[inline(always)]
    fn open(context: *mut __sk_buff) -> Self {
        // SAFETY: the context is valid while the program runs.
        let [data, data_end] = unsafe { [word(&raw const (*context).data), word(&raw const (*context).data_end)] };
        Self { context, data, data_end, is_short: Cell::new(false) }
    }

    /// At once where another's generic XDP has copied a frame that arrives: TC then sees no link layer (Linux 6.18; the copy
    /// seems to lose `mac_len`, by which TC steps back to it). Addresses of the sender stand where the type would.
    #[inline(always)]
    fn skip_link_layer(&self, hook: Hook) -> Result<(u16, usize), Reason> {
        // SAFETY: the context is valid while the program runs.
        let kind = u16::from_be(unsafe { (*self.context).protocol } as u16);
        let is_ip = matches!(kind, ethertype::IPV4 | ethertype::IPV6);
        let is_there = || self.bytes(12).map(u16::from_be_bytes) == Some(kind) && !self.begins_with_ip(kind);
        if matches!(hook, Hook::Ingress) && is_ip && !is_there() {
            return Ok((kind, 0));
        }
        skip_ethernet(self, 0)
    }

    /// What the stack says of frames that arrive, whose link layer may not be seen.
    #[inline(always)]
    fn cast(&self) -> Cast {
        const BROADCAST: u32 = 1;
        const MULTICAST: u32 = 2;
        const OUTGOING: u32 = 4;
        // SAFETY: the context is valid while the program runs.
        match unsafe { (*self.context).pkt_type } {
            BROADCAST => Cast::Broadcast,
            // An interface may have a broadcast address of its own.
            MULTICAST if matches!(Cast::of(self), Cast::Broadcast) => Cast::Broadcast,
            MULTICAST => Cast::Multicast,
            OUTGOING => Cast::of(self),
            _ => Cast::Unicast,
        }
    }

    #[inline(always)]
    fn gso_size(&self) -> u32 {
        // SAFETY: the context is valid while the program runs; the field exists since Linux 5.7.
        unsafe { (*self.context).gso_size }
    }

    #[inline(always)]
    fn gso_segs(&self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self.context).gso_segs }
    }

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self.context).ifindex }
    }

    #[inline(always)]
    fn came_in_at(&self) -> Option<u32> {
        // SAFETY: as above.
        let ifindex = unsafe { (*self.context).ingress_ifindex };
        (ifindex != 0).then_some(ifindex)
    }

    #[inline(always)]
    fn is_short(&self) -> bool {
        self.is_short.get()
    }

    #[inline(always)]
    fn pull_headers(context: *mut __sk_buff) {
        const HEADERS: u32 = 512;
        // SAFETY: the context is valid while the program runs. A failure is noticed by who reads again.
        unsafe {
            let length = (*context).len;
            bpf_skb_pull_data(context, if length < HEADERS { length } else { HEADERS });
        }
    }
}

/// A packet pointer of the context. Volatile, lest LLVM read it in the caller and pass it on.
///
/// # Safety
/// `field` is valid.
#[inline(always)]
unsafe fn word(field: *const u32) -> usize {
    // SAFETY: by the caller's contract.
    unsafe { field.read_volatile() as usize }
}

#[inline(always)]
fn linear<const N: usize>(data: usize, data_end: usize, offset: usize) -> Option<[u8; N]> {
    if offset > MAX_OFFSET {
        return None;
    }
    let start = data + offset;
    if start + N > data_end {
        return None;
    }
    // SAFETY: `N` octets from `start` are inside the packet; an array of octets has no alignment.
    Some(unsafe { *(start as *const [u8; N]) })
}

/// The context that `frame`s of an XDP program are opened by.
#[inline(always)]
pub fn xdp_context(ctx: &XdpContext) -> *mut xdp_md {
    ctx.ctx
}

/// The context that `frame`s of a TC program are opened by.
#[inline(always)]
pub fn tc_context(ctx: &TcContext) -> *mut __sk_buff {
    ctx.as_ptr().cast()
}
