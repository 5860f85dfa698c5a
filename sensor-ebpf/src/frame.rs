//! Frames as the hooks see them: direct access to the linear part, a helper for the rest.
#![expect(clippy::cast_possible_truncation, reason = "lengths and offsets of a frame are far below 2^32")]

use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::generated::{bpf_skb_load_bytes, bpf_xdp_get_buff_len};
use aya_ebpf::programs::{TcContext, XdpContext};
use sensor_ebpf::abi::Reason;
use sensor_ebpf::packet::{MAX_OFFSET, Reader, ethertype, skip_ethernet};

/// A frame at the XDP hook. Drivers keep the headers in the linear part of a multi-buffer frame (`FRAGS`, Linux 5.18).
pub struct XdpFrame<'a, const FRAGS: bool> {
    ctx: &'a XdpContext,
    data: usize,
    data_end: usize,
}

impl<'a, const FRAGS: bool> XdpFrame<'a, FRAGS> {
    #[inline(always)]
    pub fn new(ctx: &'a XdpContext) -> Self {
        Self { ctx, data: ctx.data(), data_end: ctx.data_end() }
    }
}

impl<const FRAGS: bool> Reader for XdpFrame<'_, FRAGS> {
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
        unsafe { bpf_xdp_get_buff_len(self.ctx.ctx) as u32 }
    }
}

/// A frame at a TC hook.
pub struct TcFrame<'a> {
    ctx: &'a TcContext,
    data: usize,
    data_end: usize,
}

impl<'a> TcFrame<'a> {
    #[inline(always)]
    pub fn new(ctx: &'a TcContext) -> Self {
        Self { ctx, data: ctx.data(), data_end: ctx.data_end() }
    }

    /// Payload octets of each segment of a super-packet, 0 for an ordinary packet.
    #[inline(always)]
    pub fn gso_size(&self) -> u32 {
        // SAFETY: the context is valid while the program runs; the field exists since Linux 5.7.
        unsafe { (*self.ctx.skb.skb).gso_size }
    }

    /// The EtherType of the network layer and where it begins, for a frame that arrives.
    ///
    /// At once where generic XDP has copied the frame: TC then sees no link layer (Linux 6.18; the copy seems to lose
    /// `mac_len`, by which TC steps back to it).
    #[inline(always)]
    pub fn skip_link_layer(&self) -> Result<(u16, usize), Reason> {
        // SAFETY: the context is valid while the program runs.
        let kind = u16::from_be(unsafe { (*self.ctx.skb.skb).protocol } as u16);
        let is_ip = matches!(kind, ethertype::IPV4 | ethertype::IPV6);
        if is_ip && self.bytes(12).map(u16::from_be_bytes) != Some(kind) {
            return Ok((kind, 0));
        }
        skip_ethernet(self)
    }

    #[inline(always)]
    pub fn ifindex(&self) -> u32 {
        // SAFETY: the context is valid while the program runs.
        unsafe { (*self.ctx.skb.skb).ifindex }
    }
}

impl Reader for TcFrame<'_> {
    #[inline(always)]
    fn bytes<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        linear(self.data, self.data_end, offset).or_else(|| beyond_linear(self.ctx, offset))
    }

    #[inline(always)]
    fn wire_len(&self) -> u32 {
        self.ctx.len()
    }
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

#[inline(always)]
fn beyond_linear<const N: usize>(ctx: &TcContext, offset: usize) -> Option<[u8; N]> {
    if offset > MAX_OFFSET {
        return None;
    }
    let mut octets = Aligned([0u8; N]);
    // SAFETY: the helper writes exactly `N` octets into the array or fails.
    let result =
        unsafe { bpf_skb_load_bytes(ctx.as_ptr().cast_const(), offset as u32, octets.0.as_mut_ptr().cast(), N as u32) };
    (result == 0).then_some(octets.0)
}

/// The verifier allows wide loads of unaligned octets from a packet, but not from the stack.
#[repr(align(8))]
struct Aligned<T>(T);
