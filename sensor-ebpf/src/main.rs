//! The kernel programs: XDP ingress and TC hooks that account every packet and pass it on, unless it is blocked.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(not(target_arch = "bpf"))]
fn main() {}

#[cfg(target_arch = "bpf")]
mod programs {
    use aya_ebpf::EbpfContext;
    use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
    use aya_ebpf::macros::{classifier, xdp};
    use aya_ebpf::programs::{TcContext, XdpContext};
    use aya_log_ebpf::warn;
    use sensor_ebpf::abi::Hook;
    use sensor_ebpf::kernel::hooks::{Verdict, account_skb, account_xdp};

    /// TCX: the next program decides. clsact: as if this filter had not matched.
    const TC_NEXT: i32 = -1;
    /// No further program is asked: the packet is freed.
    const TC_DROP: i32 = 2;

    #[inline(always)]
    fn xdp_action(ctx: &XdpContext, verdict: Verdict) -> u32 {
        tell(ctx, verdict);
        if verdict == Verdict::Drop { XDP_DROP } else { XDP_PASS }
    }

    #[inline(always)]
    fn tc_action(ctx: &TcContext, verdict: Verdict) -> i32 {
        tell(ctx, verdict);
        if verdict == Verdict::Drop { TC_DROP } else { TC_NEXT }
    }

    #[inline(always)]
    fn tell(ctx: &impl EbpfContext, verdict: Verdict) {
        if verdict == Verdict::PassAndTell {
            warn!(ctx, "flow table closed to new flows: packets are counted by host");
        }
    }

    /// Native XDP: the packet as it came from the wire.
    #[xdp(frags)]
    pub fn leuko_xdp(ctx: XdpContext) -> u32 {
        xdp_action(&ctx, account_xdp::<true>(&ctx))
    }

    /// [`leuko_xdp`] for kernels before 5.18, which have no multi-buffer frames.
    #[xdp]
    pub fn leuko_xdp_linear(ctx: XdpContext) -> u32 {
        xdp_action(&ctx, account_xdp::<false>(&ctx))
    }

    /// Ingress where XDP is not to be had: behind GRO, whose merged packets are counted as the wire had them.
    #[classifier]
    pub fn leuko_ingress(ctx: TcContext) -> i32 {
        tc_action(&ctx, account_skb(&ctx, Hook::Ingress))
    }

    /// Egress: in front of GSO, whose super-packets are counted as the wire will have them.
    #[classifier]
    pub fn leuko_egress(ctx: TcContext) -> i32 {
        tc_action(&ctx, account_skb(&ctx, Hook::Egress))
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
