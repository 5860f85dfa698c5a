//! What every program does with a packet: counts it once, in a flow, an aggregate, or by reason.
#![expect(clippy::cast_possible_truncation, reason = "halves of a word, masked or shifted in the same line")]

use aya_ebpf::helpers::{bpf_get_prandom_u32, bpf_ktime_get_ns};
use aya_ebpf::programs::{TcContext, XdpContext};

use super::atomic::Shared;
use super::frame::{Frame, TcFrame, XdpFrame, tc_context, xdp_context};
use super::table::{Place, Seen};
use super::{aggregates, blocks, maps, table};
use crate::abi::{ArpMessage, Counters, FlowKey, Hook, Reason, gate};
use crate::account::{Wire, observe, observe_icmp_error};
use crate::fragment;
use crate::packet::arp::{self, Cast};
use crate::packet::{Fragment, Packet, parse_layers, quoted, skip_ethernet, tunnel};

/// What becomes of a packet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Pass,
    /// It goes on, and the flow table was closed to it, for the first, second, fourth, eighth, ... time on this CPU: worth a
    /// line in the log.
    PassAndTell,
    /// It is dropped.
    Drop,
}

/// Accounts a frame at the XDP hook; `FRAGS` where frames may have several buffers.
#[inline(always)]
pub fn account_xdp<const FRAGS: bool>(ctx: &XdpContext) -> Verdict {
    account::<XdpFrame<FRAGS>>(xdp_context(ctx), Hook::Ingress)
}

/// Accounts a packet at a TC hook.
#[inline(always)]
pub fn account_skb(ctx: &TcContext, hook: Hook) -> Verdict {
    account::<TcFrame>(tc_context(ctx), hook)
}

#[inline(always)]
fn account<F: Frame>(context: F::Context, hook: Hook) -> Verdict {
    let (Some(counters), Some([packet, inner])) = (maps::counters(hook), maps::packets()) else {
        return Verdict::Pass;
    };
    // SAFETY: these are this CPU's own elements, and nothing preempts the program on this CPU.
    let (counters, packet) = unsafe { (&mut *counters, &mut *packet) };
    let sought = blocks::sought();
    if sought & gate::PEERS != 0 {
        let reason = blocks::judge_frame::<F>(context, hook);
        if reason != 0 {
            return drop_frame::<F>(context, reason, counters);
        }
    }
    let frame = F::open(context);
    match frame.cast() {
        Cast::Unicast => {}
        Cast::Multicast => counters.multicast += 1,
        Cast::Broadcast => counters.broadcast += 1,
    }
    let left_out = if maps::sampling() > 1 && !is_sampled() {
        Some(Reason::Sampled)
    } else if matches!(hook, Hook::Egress) && frame.came_in_at().is_some_and(maps::is_watched) {
        Some(Reason::Forwarded)
    } else {
        None
    };
    let is_judged = sought & gate::PARSED != 0;
    if let Some(reason) = left_out.filter(|_| !is_judged) {
        return leave_out(&frame, reason, counters);
    }
    let mut outcome = parse::<F>(context, packet, hook, 0);
    if outcome == SHORT {
        F::pull_headers(context);
        outcome = parse_apart::<F>(context, packet, hook, 0);
    }
    if outcome != PARSED {
        if is_judged && is_hidden(outcome) {
            return drop_frame::<F>(context, Reason::Blocked as u32, counters);
        }
        return refuse::<F>(context, outcome, counters);
    }
    if is_judged {
        let reason = blocks::judge_packet(hook, F::open(context).segments());
        if reason != 0 {
            return drop_frame::<F>(context, reason, counters);
        }
        if let Some(reason) = left_out {
            return leave_out(&F::open(context), reason, counters);
        }
    }
    if maps::tunnels() != 0 {
        let start = inside_tunnel::<F>(context, packet);
        // SAFETY: as above.
        let inner = unsafe { &mut *inner };
        if start != 0 && parse_apart::<F>(context, inner, hook, start) == PARSED {
            *packet = *inner;
            let reason = if sought != 0 { blocks::judge_inner(hook, F::open(context).segments()) } else { 0 };
            if reason != 0 {
                return drop_frame::<F>(context, reason, counters);
            }
        }
    }
    account_packet::<F>(context, packet, hook, counters)
}

/// Counts a packet that is not to be in a flow.
#[inline(always)]
fn leave_out<F: Frame>(frame: &F, reason: Reason, counters: &mut Counters) -> Verdict {
    let packets = u64::from(frame.segments());
    counters.packets += packets;
    counters.unaccounted[reason as usize] += packets;
    Verdict::Pass
}

/// Whether the headers of a packet lie deeper than any that is not meant to hide them (RFC 8504, 5.3, permits to drop it).
#[inline(always)]
const fn is_hidden(outcome: u32) -> bool {
    outcome == SHORT || outcome == 1 + Reason::ExtensionDepth as u32
}

/// Counts a packet that is dropped.
#[inline(always)]
fn drop_frame<F: Frame>(context: F::Context, reason: u32, counters: &mut Counters) -> Verdict {
    count_apart::<F>(context, reason, counters);
    Verdict::Drop
}

/// Counts a packet that belongs to no flow.
#[inline(always)]
fn count_apart<F: Frame>(context: F::Context, reason: u32, counters: &mut Counters) {
    let packets = u64::from(F::open(context).segments());
    counters.packets += packets;
    // SAFETY: a local. Volatile, because LLVM knows what global functions return and the verifier does not.
    let reason = unsafe { (&raw const reason).read_volatile() };
    if let Some(count) = counters.unaccounted.get_mut(reason as usize) {
        *count += packets;
    }
}

/// What [`parse`] says: the packet is there,
const PARSED: u32 = 0;
/// or something is not in the linear part. Anything else is 1 + [`Reason`].
const SHORT: u32 = 0xffff;

/// Parses the frame from its network layer (`start`: EtherType and offset), or from its link layer where `start` is 0.
#[inline(always)]
fn parse<F: Frame>(context: F::Context, packet: &mut Packet, hook: Hook, start: u32) -> u32 {
    let frame = F::open(context);
    let network =
        if start == 0 { frame.skip_link_layer(hook) } else { Ok(((start >> 16) as u16, start as usize & 0xffff)) };
    // No closure: LLVM may make a function of it, whose types the kernel does not accept.
    let parsed = match network {
        Ok((kind, offset)) => parse_layers(&frame, kind, offset),
        Err(reason) => Err(reason),
    };
    if frame.is_short() {
        return SHORT;
    }
    match parsed {
        Ok(parsed) => {
            *packet = parsed;
            PARSED
        }
        Err(reason) => 1 + reason as u32,
    }
}

/// [`parse`] for rare frames, as a function of its own. On the hot path its call and return take a tenth of a packet's
/// time, where a mitigation makes every return slow (SRSO).
#[inline(never)]
fn parse_apart<F: Frame>(context: F::Context, packet: &mut Packet, hook: Hook, start: u32) -> u32 {
    parse::<F>(context, packet, hook, start)
}

#[inline(never)]
fn inside_tunnel<F: Frame>(context: F::Context, outer: &Packet) -> u32 {
    match tunnel::inside(&F::open(context), outer, maps::tunnels()) {
        Some((kind, offset)) => u32::from(kind) << 16 | offset as u32 & 0xffff,
        None => 0,
    }
}

/// Counts a packet that cannot be parsed.
#[inline(always)]
fn refuse<F: Frame>(context: F::Context, outcome: u32, counters: &mut Counters) -> Verdict {
    let reason = if outcome == SHORT { Reason::Truncated as u32 } else { outcome - 1 };
    if reason == Reason::Arp as u32 && !report_arp::<F>(context) {
        counters.arp_lost += 1;
    }
    count_apart::<F>(context, reason, counters);
    Verdict::Pass
}

#[inline(always)]
fn account_packet<F: Frame>(context: F::Context, packet: &mut Packet, hook: Hook, counters: &mut Counters) -> Verdict {
    let frame = F::open(context);
    let now_ns = now_ns();
    let wire = Wire::segmented(packet, frame.gso_size(), frame.gso_segs());
    let packets = u64::from(wire.packets);
    counters.packets += packets;
    counters.octets += wire.octets;
    if !matches!(packet.fragment, Fragment::Whole) {
        resolve_fragment(packet, packets, now_ns, counters);
    }
    if packet.is_icmp_error() {
        note_icmp_error::<F>(context, packet);
    }
    let (key, direction) = FlowKey::canonical(packet.src, packet.src_port, packet.dst, packet.dst_port, packet.proto);
    let place = Place::of(&key);
    let found = if let Some(slot) = place.find() {
        Some(slot)
    } else {
        let is_forwarded = frame.came_in_at().is_some();
        place.introduce(packet, &wire, &Seen { hook, direction, ifindex: frame.ifindex(), is_forwarded, now_ns });
        let claimed = table::claim();
        if claimed.is_none() {
            aggregates::account();
        }
        claimed
    };
    if let Some(slot) = found {
        // SAFETY: the slot is an element of a preallocated array; userspace recycles it only after a grace period that
        // waits for this program.
        unsafe { observe::<Shared>(slot, packet, &wire, direction, now_ns) };
        return Verdict::Pass;
    }
    counters.overflowed += packets;
    if counters.overflowed & (counters.overflowed - 1) == 0 { Verdict::PassAndTell } else { Verdict::Pass }
}

/// First fragments leave their ports for the later ones.
#[inline(always)]
fn resolve_fragment(packet: &mut Packet, packets: u64, now_ns: u64, counters: &mut Counters) {
    let place = fragment::Place::of(packet, maps::seed());
    let Some(entry) = maps::fragment(place.index) else {
        return;
    };
    if matches!(packet.fragment, Fragment::First) {
        // SAFETY: an aligned element of the array, written and read as a whole.
        unsafe { entry.write_volatile(place.word(packet, now_ns)) };
        return;
    }
    counters.fragments += packets;
    // SAFETY: as above.
    match place.ports(unsafe { entry.read_volatile() }, now_ns) {
        Some(ports) => (packet.src_port, packet.dst_port) = ports,
        None => counters.orphan_fragments += packets,
    }
}

/// Notes an ICMP error at the flow of the packet that it quotes.
#[inline(never)]
fn note_icmp_error<F: Frame>(context: F::Context, error: &Packet) {
    if let Some(key) = quoted(&F::open(context), error)
        && let Some(slot) = Place::of(&key).find()
    {
        // SAFETY: as of every slot that is found.
        unsafe { observe_icmp_error(slot, error.window) };
    }
}

/// Hands an ARP message over. Says whether there was room for it.
#[inline(never)]
fn report_arp<F: Frame>(context: F::Context) -> bool {
    let frame = F::open(context);
    let message = skip_ethernet(&frame, 0).ok().and_then(|(_, offset)| arp::parse(&frame, offset));
    message
        .is_none_or(|message| maps::report_arp(&ArpMessage { time_ns: now_ns(), ifindex: frame.ifindex(), ..message }))
}

#[inline(always)]
fn is_sampled() -> bool {
    // SAFETY: a helper without arguments.
    unsafe { bpf_get_prandom_u32() }.is_multiple_of(maps::sampling())
}

#[inline(always)]
fn now_ns() -> u64 {
    match maps::fixed_ns() {
        // SAFETY: a helper without arguments.
        0 => unsafe { bpf_ktime_get_ns() },
        fixed => fixed,
    }
}
