//! Looks packets up in the list of blocks.
#![expect(clippy::cast_possible_truncation, reason = "halves of a word, and offsets in a frame")]

use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;

use super::atomic::Shared;
use super::frame::Frame;
use super::maps;
use crate::abi::{Addr, BlockEntry, BlockKey, Hook, Reason, filter, gate, kind};
use crate::account::Adder as _;
use crate::block::{Proof, Request, Retry, conforms, place_v4, place_v6};
use crate::packet::{Fragment, Packet, ethertype, proto, tcp_flags};

/// What there is to look for, as bits of [`gate`].
#[inline(always)]
pub fn sought() -> u32 {
    // SAFETY: it lives as long as the program; userspace writes it.
    unsafe { (&raw const (*maps::gate()).has).read_volatile() }
}

/// Whether a frame is to be dropped for whom it is from, or for whom it goes to where it leaves; 0, or the [`Reason`]. Needs
/// no more than addresses.
#[inline(always)]
pub fn judge_frame<F: Frame>(context: F::Context, hook: Hook) -> u32 {
    let mut frame = F::open(context);
    let mut peer = peer_of(&frame, hook);
    if peer.is_none() && frame.is_short() {
        F::pull_headers(context);
        frame = F::open(context);
        peer = peer_of(&frame, hook);
    }
    let Some((peer, octets)) = peer else {
        return 0;
    };
    let Near { mut blocked, is_allowed } = Near::of(peer);
    let Some(longest) = blocked.take() else {
        return 0;
    };
    let packets = frame.segments();
    // A call and its return take a tenth of a drop's time, so the plain cases are here.
    match maps::block(&BlockKey::network(peer, longest)) {
        Some(entry) => {
            // SAFETY: as in `leuko_judge`.
            let entry = unsafe { &mut *entry };
            let seen = Seen { packets, octets, now_ns: now_ns() };
            let is_plain = entry.gap_ns == 0 && entry.observe == 0;
            if !is_allowed && is_plain && entry.expires_ns > seen.now_ns {
                note(entry, &seen);
                return Reason::Blocked as u32;
            }
        }
        None if blocked.is_empty() => return 0,
        None => {}
    }
    leuko_judge(peer.high, peer.low, 0, u64::from(packets) << 32 | u64::from(octets), hook as u32)
}

/// Whether the packet that this CPU is looking at is to be dropped for what it is to which of our ports; 0, or the [`Reason`].
#[inline(always)]
pub fn judge_packet(hook: Hook, packets: u32) -> u32 {
    leuko_judge_parsed(hook as u32, packets, 0)
}

/// As [`judge_packet`], of what was in a tunnel, whose frame says nothing of it.
#[inline(always)]
pub fn judge_inner(hook: Hook, packets: u32) -> u32 {
    leuko_judge_parsed(hook as u32, packets, 1)
}

/// Looks for blocks of all that a peer sends, or of a `scope` of it: a protocol and a port. `size` is packets and octets. Of
/// all networks that hold the peer, the strictest block holds; every one that would drop the packet counts it.
///
/// Exported, so that its BTF linkage is global: the verifier looks at it once, not wherever it is called.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn leuko_judge(high: u64, low: u64, scope: u32, size: u64, hook: u32) -> u32 {
    let seen = Seen { packets: (size >> 32) as u32, octets: size as u32, now_ns: now_ns() };
    let peer = Addr { high, low };
    let Near { blocked: mut left, is_allowed } = Near::of(peer);
    if is_allowed && leuko_is_allowed(high, low) != 0 {
        return 0;
    }
    let mut would_drop = 0;
    for _ in 0..TRIED {
        let Some(prefix) = left.take() else {
            break;
        };
        let mut key = BlockKey::network(peer, prefix);
        (key.proto, key.port) = ((scope >> 16) as u8, scope as u16);
        let Some(entry) = maps::block(&key) else {
            continue;
        };
        // SAFETY: an element that is freed only after a grace period that waits for this program.
        let entry = unsafe { &mut *entry };
        let reason = judge(entry, &seen);
        if reason != 0 {
            note(entry, &seen);
            if entry.observe == 0 {
                return reason;
            }
            would_drop = seen.packets;
        }
    }
    tell_would_drop(hook, would_drop);
    0
}

/// As [`leuko_judge`], of the packet that this CPU is looking at; `inner` is not 0 where its addresses were not looked at yet.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn leuko_judge_parsed(hook: u32, packets: u32, inner: u32) -> u32 {
    let Some([packet, _]) = maps::packets() else {
        return 0;
    };
    // SAFETY: this CPU's own element.
    let packet = unsafe { &*packet };
    let (has, hook) = (sought(), hook_of(hook));
    let (peer, port) = match hook {
        Hook::Ingress => (packet.src, packet.dst_port),
        Hook::Egress => (packet.dst, packet.src_port),
    };
    if inner != 0 && has & gate::PEERS != 0 {
        let size = u64::from(packets) << 32 | u64::from(packet.ip_octets);
        let reason = leuko_judge(peer.high, peer.low, 0, size, hook as u32);
        if reason != 0 {
            return reason;
        }
    }
    if has & (gate::PROTOCOLS | gate::PORTS) != 0 && !Near::of(peer).blocked.is_empty() {
        let size = u64::from(packets) << 32 | u64::from(packet.ip_octets);
        let protocol = u32::from(packet.proto) << 16;
        if has & gate::PORTS != 0 && port != 0 {
            let reason = leuko_judge(peer.high, peer.low, protocol | u32::from(port), size, hook as u32);
            if reason != 0 {
                return reason;
            }
        }
        if has & gate::PROTOCOLS != 0 {
            let reason = leuko_judge(peer.high, peer.low, protocol, size, hook as u32);
            if reason != 0 {
                return reason;
            }
        }
    }
    if has & gate::REQUESTS == 0 || !matches!(hook, Hook::Ingress) || !begins_connection(packet) {
        return 0;
    }
    judge_request(packet, &Seen { packets, octets: packet.ip_octets, now_ns: now_ns() })
}

/// A SYN, or a fragment that is too short to tell: no host sends such (RFC 1858).
#[inline(always)]
fn begins_connection(packet: &Packet) -> bool {
    let is_cut = packet.tcp_flags == 0 && matches!(packet.fragment, Fragment::First);
    packet.proto == proto::TCP && (is_cut || packet.tcp_flags & (tcp_flags::SYN | tcp_flags::ACK) == tcp_flags::SYN)
}

#[inline(always)]
const fn hook_of(index: u32) -> Hook {
    if index == Hook::Egress as u32 { Hook::Egress } else { Hook::Ingress }
}

/// Strangers may ask a service only so often. Whoever has completed a connection is none; whoever asks again after the time
/// that hosts wait for an answer has a limit of the same rate that those who never do cannot use up.
#[inline(always)]
fn judge_request(packet: &Packet, seen: &Seen) -> u32 {
    let key =
        BlockKey { addr: packet.dst, kind: kind::REQUESTS, port: packet.dst_port, proto: proto::TCP, prefix: 128 };
    let Some(entry) = maps::block(&key) else {
        return 0;
    };
    // SAFETY: as in `leuko_judge`.
    let entry = unsafe { &mut *entry };
    let source = packet.src;
    if entry.expires_ns <= seen.now_ns
        || is_proven(source, seen.now_ns)
        || leuko_is_allowed(source.high, source.low) != 0
    {
        return 0;
    }
    let retry = Retry::of(packet, maps::seed());
    let Some(word) = maps::retry(retry.index) else {
        return 0;
    };
    // SAFETY: an aligned element of the array, read and written as a whole.
    let request = retry.of_word(unsafe { word.read_volatile() }, seen.now_ns);
    if let Request::New(memory) = request {
        // SAFETY: as above.
        unsafe { word.write_volatile(memory) };
    }
    let due = if matches!(request, Request::Again) { &mut entry.retries_due_ns } else { &mut entry.due_ns };
    if let Some(next) = conforms(*due, seen.now_ns, seen.packets, entry.gap_ns, entry.burst_ns) {
        *due = next;
        return 0;
    }
    note(entry, seen);
    if entry.observe != 0 {
        tell_would_drop(Hook::Ingress as u32, seen.packets);
        return 0;
    }
    Reason::Limited as u32
}

#[inline(always)]
fn is_proven(source: Addr, now_ns: u64) -> bool {
    let proof = Proof::of(source, maps::seed());
    // SAFETY: an aligned element of the array, read as a whole.
    maps::proven(proof.index).is_some_and(|word| proof.holds(unsafe { word.read_volatile() }, now_ns))
}

/// Who is at the other side, and how long the frame is behind the link layer.
#[inline(always)]
fn peer_of<F: Frame>(frame: &F, hook: Hook) -> Option<(Addr, u32)> {
    const V4_SOURCE: usize = 12;
    const V6_SOURCE: usize = 8;
    let (kind, offset) = frame.skip_link_layer(hook).ok()?;
    let leaves = matches!(hook, Hook::Egress);
    let peer = match kind {
        ethertype::IPV4 => {
            let at = if leaves { V4_SOURCE + 4 } else { V4_SOURCE };
            Addr::from_v4(u32::from_be_bytes(frame.bytes(offset + at)?))
        }
        ethertype::IPV6 => {
            let at = offset + if leaves { V6_SOURCE + 16 } else { V6_SOURCE };
            let half = |at| Some(u64::from_be_bytes(frame.bytes(at)?));
            Addr { high: half(at)?, low: half(at + 8)? }
        }
        _ => return None,
    };
    Some((peer, frame.wire_len().wrapping_sub(offset as u32)))
}

/// Networks on the lists that an address may be in.
struct Near {
    /// Lengths of the blocked ones.
    blocked: Lengths,
    /// Whether there are some that are never to be dropped.
    is_allowed: bool,
}

impl Near {
    #[inline(always)]
    fn of(peer: Addr) -> Self {
        if let Some(v4) = peer.v4() {
            // SAFETY: an aligned element of the array.
            let word = maps::filter_v4(place_v4(v4)).map_or(0, |word| unsafe { word.read_volatile() });
            return Self { blocked: Lengths { short: 0, long: word << 32 }, is_allowed: word >> 32 != 0 };
        }
        // SAFETY: as above.
        let words = maps::filter_v6(place_v6(peer.high)).map_or([0; 2], |words| unsafe { words.read_volatile() });
        // SAFETY: as in `sought`.
        let blocked = unsafe { (&raw const (*maps::gate()).short_v6).read_volatile() };
        let short = words[0] & !filter::ALLOWED_V6 | u64::from(blocked);
        let is_allowed = words[0] & filter::ALLOWED_V6 != 0 || allowed_v6()[0] as u32 != 0;
        Self { blocked: Lengths { short, long: words[1] }, is_allowed }
    }
}

/// Lengths of prefixes that are tried for one address, the longest first: there are 32 of IPv4.
const TRIED: u32 = 32;

/// Whether an address is never to be dropped, whatever the list says: not 0.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn leuko_is_allowed(high: u64, low: u64) -> u32 {
    let addr = Addr { high, low };
    let mut left = allowed_lengths(addr);
    for _ in 0..TRIED {
        let Some(prefix) = left.take() else {
            break;
        };
        if maps::is_allowed(&BlockKey::network(addr, prefix)) {
            return 1;
        }
    }
    0
}

#[inline(always)]
fn allowed_lengths(addr: Addr) -> Lengths {
    if let Some(v4) = addr.v4() {
        // SAFETY: an aligned element of the array.
        let word = maps::filter_v4(place_v4(v4)).map_or(0, |word| unsafe { word.read_volatile() });
        return Lengths { short: 0, long: word & !0 << 32 };
    }
    let [short, long] = allowed_v6();
    Lengths { short, long }
}

#[inline(always)]
fn allowed_v6() -> [u64; 2] {
    // SAFETY: as in `sought`.
    unsafe { (&raw const (*maps::gate()).allowed_v6).read_volatile() }
}

/// Lengths of prefixes: bit n of the first word is n + 1, of the second n + 65.
struct Lengths {
    short: u64,
    long: u64,
}

impl Lengths {
    #[inline(always)]
    fn is_empty(&self) -> bool {
        self.short | self.long == 0
    }

    /// Takes the longest.
    #[inline(always)]
    fn take(&mut self) -> Option<u32> {
        let (word, base) = if self.long != 0 { (&mut self.long, 65) } else { (&mut self.short, 1) };
        if *word == 0 {
            return None;
        }
        let bit = (63 - word.leading_zeros()) & 63;
        *word &= !(1 << bit);
        Some(base + bit)
    }
}

/// What is known of a packet before it is counted anywhere.
struct Seen {
    packets: u32,
    octets: u32,
    now_ns: u64,
}

/// Whether a block that has not ended drops a packet that it is about; 0, or the [`Reason`].
#[inline(always)]
fn judge(entry: &mut BlockEntry, seen: &Seen) -> u32 {
    if entry.expires_ns <= seen.now_ns {
        return 0;
    }
    if entry.gap_ns == 0 {
        return Reason::Blocked as u32;
    }
    match conforms(entry.due_ns, seen.now_ns, seen.packets, entry.gap_ns, entry.burst_ns) {
        Some(next) => {
            entry.due_ns = next;
            0
        }
        None => Reason::Limited as u32,
    }
}

/// Counts a packet that is to be dropped, or would be.
#[inline(always)]
fn note(entry: &mut BlockEntry, seen: &Seen) {
    // SAFETY: aligned words of the entry.
    unsafe {
        Shared::add64(&raw mut entry.packets, u64::from(seen.packets));
        Shared::add64(&raw mut entry.octets, u64::from(seen.octets));
    }
    entry.last_ns = seen.now_ns;
}

#[inline(always)]
fn tell_would_drop(hook: u32, packets: u32) {
    if let Some(counters) = maps::counters(hook_of(hook)) {
        // SAFETY: this CPU's own counters.
        unsafe { (*counters).would_drop += u64::from(packets) };
    }
}

/// CLOCK_MONOTONIC as of the last tick of the kernel (Linux 5.11): no device is asked, and a block may end 10 ms late.
#[inline(always)]
fn now_ns() -> u64 {
    match maps::fixed_ns() {
        // SAFETY: a helper without arguments.
        0 => unsafe { bpf_ktime_get_coarse_ns() },
        fixed => fixed,
    }
}
