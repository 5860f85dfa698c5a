//! A connection as Zeek has summed it up, and the counters it would have left in a flow table.

use std::net::IpAddr;

use sensor_core::time::Timestamp;
use sensor_ebpf::abi::{Direction, FlowKey, FlowSlot, Half, HalfRare};
use sensor_ebpf::packet::proto;

/// A line of a connection log.
#[derive(Clone, Debug, PartialEq)]
pub struct Connection {
    /// First packet.
    pub began: Timestamp,
    /// Last packet.
    pub ended: Timestamp,
    /// Originator and responder.
    pub addrs: [IpAddr; 2],
    /// Their ports; of ICMP, type and code.
    pub ports: [u16; 2],
    /// IANA protocol number.
    pub proto: u8,
    /// Payload octets by end, where they are known.
    pub payload: [Option<u64>; 2],
    /// Packets by end, where they are known.
    pub packets: [Option<u64>; 2],
    /// IP octets by end, where they are known.
    pub octets: [Option<u64>; 2],
    /// State at its end, such as `SF` or `S0`.
    pub state: String,
    /// What happened, in order: a letter each, the originator's in capitals.
    pub history: String,
}

/// The longest packet that sizes are reckoned with where they are not known.
const FULL: u64 = 1500;

impl Connection {
    /// Its counters once `share` of its time is over, 0 for its first packet and 1 for all.
    #[must_use]
    pub fn slot(&self, share: f64) -> FlowSlot {
        let is_icmp = matches!(self.proto, proto::ICMP | proto::ICMPV6);
        let ports = if is_icmp { [0, 0] } else { self.ports };
        let [orig, resp] = self.addrs;
        let (key, way) = FlowKey::canonical(orig.into(), ports[0], resp.into(), ports[1], self.proto);
        let mut ways = [way, way.reverse()];
        if self.packets_of(0) == 0 {
            ways.reverse();
        }
        let mut slot = FlowSlot { key, initiator: ways[0] as u8, ..FlowSlot::default() };
        let is_over = share >= 1.0;
        let last = self.began.nanos() + fraction(self.ended.nanos().saturating_sub(self.began.nanos()), share);
        for (end, way) in [(0, way), (1, way.reverse())] {
            let all = self.packets_of(end);
            let first = u64::from(way == ways[0] && all > 0);
            let packets = if is_over { all } else { fraction(all, share).max(first) };
            if packets == 0 {
                continue;
            }
            let octets = if packets == all { self.octets_of(end) } else { self.octets_of(end) / all * packets };
            slot.half[way.index()] = self.half(end, packets, octets, last);
            slot.rare[way.index()] = self.rare(end, packets, is_over);
        }
        self.note_handshake(&mut slot, way, is_over);
        slot
    }

    fn half(&self, end: usize, packets: u64, octets: u64, last_ns: u64) -> Half {
        let mean = octets / packets.max(1);
        let length = u16::try_from(mean).unwrap_or(u16::MAX);
        let icmp = matches!(self.proto, proto::ICMP | proto::ICMPV6);
        Half {
            packets,
            octets,
            first_ns: self.began.nanos().max(1),
            last_ns: last_ns.max(1),
            len_sq: mean.saturating_mul(mean).saturating_mul(packets),
            window: if icmp { self.icmp_kind(end) } else { 0 },
            len_min: length,
            len_max: length,
            ..Half::default()
        }
    }

    /// Type and code. The answer of an echo is told by its request.
    fn icmp_kind(&self, end: usize) -> u16 {
        const ECHO: [(u8, u16, u16); 2] = [(proto::ICMP, 8, 0), (proto::ICMPV6, 128, 129)];
        let answer = ECHO.iter().find(|(protocol, kind, _)| *protocol == self.proto && *kind == self.ports[0]);
        match (end, answer) {
            (1, Some((_, _, answer))) => answer << 8,
            _ => (self.ports[0] & 0xff) << 8 | self.ports[1] & 0xff,
        }
    }

    /// Flags of one end: those of the handshake from the first packet on, the others when all is over.
    fn rare(&self, end: usize, packets: u64, is_over: bool) -> HalfRare {
        if self.proto != proto::TCP {
            return HalfRare::default();
        }
        let [syn, only_syns] = [self.did(end, 's'), !self.did(end, 'a') && !self.did(end, 'd')];
        // The first answer to a SYN has both SYN and ACK, which Zeek writes as one letter.
        let accepted = end == 1 && self.did(1, 'h');
        let reset = self.did(end, 'r');
        let finished = self.did(end, 'f');
        let packets = u32::try_from(packets).unwrap_or(u32::MAX);
        let repeated = packets.saturating_sub(u32::from(reset) + u32::from(finished)).max(1);
        let syns = match (syn, only_syns) {
            (true, true) => repeated,
            (true, false) => 1,
            (false, _) => u32::from(accepted),
        };
        HalfRare {
            syn: syns,
            no_ack: if syn { syns } else { 0 },
            fin: u32::from(is_over && finished),
            rst: u32::from(is_over && reset),
            ..HalfRare::default()
        }
    }

    /// Whether an end did what a letter of the history stands for; without a history, as far as the state tells.
    fn did(&self, end: usize, what: char) -> bool {
        let letter = if end == 0 { what.to_ascii_uppercase() } else { what };
        if !self.history.is_empty() {
            return self.history.contains(letter);
        }
        let is = |states: &[&str]| states.contains(&self.state.as_str());
        let established = ["SF", "S1", "S2", "S3", "RSTO", "RSTR"];
        match letter {
            'S' => is(&established) || is(&["S0", "REJ", "RSTOS0", "SH"]),
            'h' => is(&established) || is(&["RSTRH", "SHR"]),
            'A' => is(&established),
            'a' => is(&established) && self.payload[0].unwrap_or(0) > 0,
            'F' => is(&["SF", "S2", "SH"]),
            'f' => is(&["SF", "S3", "SHR"]),
            'R' => is(&["RSTO", "RSTOS0"]),
            'r' => is(&["REJ", "RSTR", "RSTRH"]),
            'D' => self.payload[0].unwrap_or(0) > 0,
            'd' => self.payload[1].unwrap_or(0) > 0,
            _ => false,
        }
    }

    /// Notes whose payload came first and that the handshake was completed.
    fn note_handshake(&self, slot: &mut FlowSlot, way: Direction, is_over: bool) {
        let first = self.history.chars().find(|letter| matches!(letter, 'd' | 'D'));
        let speaker = match first {
            Some('D') => Some(way),
            Some(_) => Some(way.reverse()),
            None if !self.history.is_empty() => None,
            None if self.payload[0].unwrap_or(0) > 0 => Some(way),
            None => self.payload[1].filter(|octets| *octets > 0).map(|_| way.reverse()),
        };
        let moved = slot.half.iter().map(|half| half.packets).sum::<u64>();
        if let Some(speaker) = speaker
            && matches!(self.proto, proto::TCP | proto::UDP)
            && (is_over || self.proto == proto::UDP || moved > 3)
        {
            slot.first_payload = speaker as u8 + 1;
        }
        if self.proto == proto::TCP && self.did(1, 'h') && (is_over || moved > 1) {
            slot.syn_ack_delay = 1;
            slot.ack_delay = u32::from(self.did(0, 'a') || self.did(0, 'd'));
        }
    }

    /// Packets of an end: as logged, or as many as its payload and its flags need.
    #[must_use]
    pub fn packets_of(&self, end: usize) -> u64 {
        self.packets[end].unwrap_or_else(|| {
            let flags =
                ['s', 'h', 'a', 'f', 'r'].iter().filter(|what| self.proto == proto::TCP && self.did(end, **what));
            let payload = self.payload[end].unwrap_or(0).div_ceil(FULL - self.header());
            let at_least = u64::from(end == 0 && self.history.is_empty());
            (payload + flags.count() as u64).max(at_least)
        })
    }

    /// IP octets of an end: as logged, or those of its payload and its headers.
    #[must_use]
    pub fn octets_of(&self, end: usize) -> u64 {
        let reckoned = || self.payload[end].unwrap_or(0) + self.packets_of(end) * self.header();
        self.octets[end].filter(|octets| *octets >= self.packets_of(end)).unwrap_or_else(reckoned)
    }

    fn header(&self) -> u64 {
        let network = if self.addrs[0].is_ipv4() { 20 } else { 40 };
        network + if self.proto == proto::TCP { 20 } else { 8 }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a count is no more than it")]
fn fraction(count: u64, share: f64) -> u64 {
    if share >= 1.0 { count } else { ((count as f64 * share.max(0.0)) as u64).min(count) }
}
