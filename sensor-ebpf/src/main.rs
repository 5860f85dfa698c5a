//! The kernel program: XDP ingress and TC hooks that account every packet and pass it on.
#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(core_intrinsics))]
#![cfg_attr(target_arch = "bpf", allow(internal_features, reason = "core has no read-modify-write atomics for BPF"))]

#[cfg(not(target_arch = "bpf"))]
fn main() {}

#[cfg(target_arch = "bpf")]
mod atomic;
#[cfg(target_arch = "bpf")]
mod frame;
#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod table;

#[cfg(target_arch = "bpf")]
mod programs {
    use aya_ebpf::bindings::xdp_action::XDP_PASS;
    use aya_ebpf::helpers::bpf_ktime_get_ns;
    use aya_ebpf::macros::{classifier, xdp};
    use aya_ebpf::programs::{TcContext, XdpContext};
    use aya_log_ebpf::warn;
    use sensor_ebpf::abi::{FlowKey, Hook, Reason};
    use sensor_ebpf::account::{Wire, observe};
    use sensor_ebpf::packet::{Packet, parse_ethernet, parse_network, skip_ethernet};

    use crate::atomic::Shared;
    use crate::frame::{TcFrame, XdpFrame};
    use crate::{maps, table};

    /// TCX: the next program decides. clsact: as if this filter had not matched.
    const TC_NEXT: i32 = -1;

    /// Native XDP: the packet as it came from the wire.
    #[xdp(frags)]
    pub fn leuko_xdp(ctx: XdpContext) -> u32 {
        account_xdp::<true>(&ctx)
    }

    /// [`leuko_xdp`] for kernels before 5.18, which have no multi-buffer frames.
    #[xdp]
    pub fn leuko_xdp_linear(ctx: XdpContext) -> u32 {
        account_xdp::<false>(&ctx)
    }

    /// Generic XDP runs behind GRO, so it does not account: [`leuko_ingress`] does.
    #[xdp(frags)]
    pub fn leuko_xdp_generic(_ctx: XdpContext) -> u32 {
        XDP_PASS
    }

    /// [`leuko_xdp_generic`] for kernels before 5.18.
    #[xdp]
    pub fn leuko_xdp_generic_linear(_ctx: XdpContext) -> u32 {
        XDP_PASS
    }

    #[inline(always)]
    fn account_xdp<const FRAGS: bool>(ctx: &XdpContext) -> u32 {
        let frame = XdpFrame::<FRAGS>::new(ctx);
        if account(parse_ethernet(&frame), &Seen { hook: Hook::Ingress, gso_size: 0, ifindex: ifindex_of(ctx) })
            .is_err()
        {
            warn!(ctx, "flow table full, packet in no flow");
        }
        XDP_PASS
    }

    /// Ingress where XDP is generic: behind GRO, whose merged packets are counted as the wire had them.
    #[classifier]
    pub fn leuko_ingress(ctx: TcContext) -> i32 {
        account_skb(&ctx, Hook::Ingress)
    }

    /// Egress: in front of GSO, whose super-packets are counted as the wire will have them.
    #[classifier]
    pub fn leuko_egress(ctx: TcContext) -> i32 {
        account_skb(&ctx, Hook::Egress)
    }

    #[inline(always)]
    fn account_skb(ctx: &TcContext, hook: Hook) -> i32 {
        let frame = TcFrame::new(ctx);
        let network_layer = match hook {
            Hook::Ingress => frame.skip_link_layer(),
            Hook::Egress => skip_ethernet(&frame),
        };
        let parsed = match network_layer {
            Ok((kind, offset)) => parse_network(&frame, kind, offset),
            Err(reason) => Err(reason),
        };
        if account(parsed, &Seen { hook, gso_size: frame.gso_size(), ifindex: frame.ifindex() }).is_err() {
            warn!(ctx, "flow table full, packet in no flow");
        }
        TC_NEXT
    }

    /// Where a packet was seen.
    struct Seen {
        hook: Hook,
        gso_size: u32,
        ifindex: u32,
    }

    /// The table was full, for the first, second, fourth, eighth, ... time on this CPU.
    struct RareEvent;

    #[inline(always)]
    fn account(parsed: Result<Packet, Reason>, seen: &Seen) -> Result<(), RareEvent> {
        let Some(counters) = maps::counters(seen.hook) else {
            return Ok(());
        };
        // SAFETY: the pointer is this CPU's own element, and nothing preempts the program on this CPU.
        let counters = unsafe { &mut *counters };
        let packet = match parsed {
            Ok(packet) => packet,
            Err(reason) => {
                counters.packets += 1;
                counters.unaccounted[reason as usize] += 1;
                return Ok(());
            }
        };
        let wire = Wire::segmented(&packet, seen.gso_size);
        let packets = u64::from(wire.packets);
        counters.packets += packets;
        if packet.later_fragment {
            counters.fragments += packets;
        }
        if account_flow(&packet, &wire, seen.ifindex) {
            counters.octets += wire.octets;
            return Ok(());
        }
        let full = &mut counters.unaccounted[Reason::TableFull as usize];
        *full += packets;
        if *full & (*full - 1) == 0 { Err(RareEvent) } else { Ok(()) }
    }

    #[inline(always)]
    fn account_flow(packet: &Packet, wire: &Wire, ifindex: u32) -> bool {
        let (key, direction) =
            FlowKey::canonical(packet.src, packet.src_port, packet.dst, packet.dst_port, packet.proto);
        let Some(slot) = table::find_or_claim(&key, direction, ifindex) else {
            return false;
        };
        // SAFETY: the slot is an element of a preallocated array; userspace recycles it only after a grace period that
        // waits for this program.
        unsafe { observe::<Shared>(slot, packet, wire, direction, now_ns()) };
        true
    }

    #[inline(always)]
    fn now_ns() -> u64 {
        match maps::fixed_ns() {
            // SAFETY: a helper without arguments.
            0 => unsafe { bpf_ktime_get_ns() },
            fixed => fixed,
        }
    }

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the field has 32 bits")]
    fn ifindex_of(ctx: &XdpContext) -> u32 {
        ctx.ingress_ifindex() as u32
    }
}

#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
