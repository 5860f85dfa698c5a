//! Who claims which address, and who asks for how many: what ARP messages (RFC 826, RFC 5227) say.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use sensor_ebpf::abi::{ArpMessage, MacAddr};
use sensor_ebpf::packet::arp::{REPLY, REQUEST};

use crate::bounded::make_room;
use crate::sketch::Distinct;
use crate::time::Timestamp;

/// An address on the network behind an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Interface on which it was heard of; 0 in captures.
    pub ifindex: u32,
    /// The address.
    pub ip: Ipv4Addr,
}

/// What is known of who has an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Who claimed it last.
    pub mac: MacAddr,
    /// Who had claimed it before that one, if anyone.
    pub previous: Option<MacAddr>,
    /// First claim, by anyone.
    pub first_seen: Timestamp,
    /// Latest claim.
    pub last_seen: Timestamp,
    /// Claims by anyone.
    pub claims: u64,
    /// How often another station claimed it than the time before.
    pub changes: u64,
}

/// What a station has asked for within [`ArpTable::WINDOW`].
#[derive(Clone, Debug, PartialEq)]
pub struct Asker {
    /// First question of the window.
    pub since: Timestamp,
    /// Latest question.
    pub last_seen: Timestamp,
    /// Questions in the window.
    pub requests: u64,
    /// Addresses asked for in the window.
    pub asked: Distinct,
}

/// Claims and questions. Of addresses and of stations the least recently seen go first, an eighth at a time.
#[derive(Debug, Default)]
pub struct ArpTable {
    places: HashMap<Place, Claim>,
    askers: HashMap<MacAddr, Asker>,
    messages: u64,
    claims: u64,
    conflicts: u64,
}

impl ArpTable {
    /// Addresses remembered, 72 octets each.
    pub const ADDRESSES: usize = 4096;
    /// Asking stations remembered, at most 4.2 KiB each.
    pub const ASKERS: usize = 1024;
    /// How long questions are counted together.
    pub const WINDOW: Duration = Duration::from_secs(60);

    /// Takes in a message that was seen at `at`.
    ///
    /// Only the sender's fields claim an address, in requests and replies alike (RFC 826). A probe (RFC 5227: a request
    /// without a sender's address) claims nothing and asks; an announcement (sender's and target's address the same)
    /// claims and does not ask.
    pub fn observe(&mut self, message: &ArpMessage, at: Timestamp) {
        self.messages += 1;
        if !matches!(message.operation, REQUEST | REPLY) {
            return;
        }
        let sender = Ipv4Addr::from_bits(message.sender_ip);
        if is_host(sender) {
            self.claim(Place { ifindex: message.ifindex, ip: sender }, message.sender_mac, at);
        }
        if message.operation == REQUEST && message.target_ip != message.sender_ip {
            self.ask(message.sender_mac, message.target_ip, at);
        }
    }

    /// Messages so far.
    #[must_use]
    pub const fn messages(&self) -> u64 {
        self.messages
    }

    /// Claims so far.
    #[must_use]
    pub const fn claims(&self) -> u64 {
        self.claims
    }

    /// Changes of owner so far.
    #[must_use]
    pub const fn conflicts(&self) -> u64 {
        self.conflicts
    }

    /// Who has an address.
    #[must_use]
    pub fn claimant(&self, place: Place) -> Option<&Claim> {
        self.places.get(&place)
    }

    /// What a station asks for.
    #[must_use]
    pub fn asker(&self, mac: MacAddr) -> Option<&Asker> {
        self.askers.get(&mac)
    }

    fn claim(&mut self, place: Place, mac: MacAddr, at: Timestamp) {
        self.claims += 1;
        if let Some(claim) = self.places.get_mut(&place) {
            claim.claims += 1;
            claim.last_seen = claim.last_seen.max(at);
            if claim.mac != mac {
                claim.previous = Some(claim.mac);
                claim.mac = mac;
                claim.changes += 1;
                self.conflicts += 1;
            }
            return;
        }
        make_room(&mut self.places, Self::ADDRESSES, &place, |claim| claim.last_seen);
        let claim = Claim { mac, previous: None, first_seen: at, last_seen: at, claims: 1, changes: 0 };
        self.places.insert(place, claim);
    }

    fn ask(&mut self, mac: MacAddr, target: u32, at: Timestamp) {
        make_room(&mut self.askers, Self::ASKERS, &mac, |asker| asker.last_seen);
        let fresh = || Asker { since: at, last_seen: at, requests: 0, asked: Distinct::default() };
        let asker = self.askers.entry(mac).or_insert_with(fresh);
        if at.since(asker.since) >= Self::WINDOW {
            *asker = fresh();
        }
        asker.last_seen = asker.last_seen.max(at);
        asker.requests += 1;
        asker.asked.insert(0, u64::from(target));
    }
}

/// Whether a host can have the address.
const fn is_host(ip: Ipv4Addr) -> bool {
    !ip.is_unspecified() && !ip.is_multicast() && !ip.is_broadcast()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: MacAddr = MacAddr(0x0200_0000_000a);
    const B: MacAddr = MacAddr(0x0200_0000_000b);

    fn message(operation: u16, sender: (MacAddr, u32), target_ip: u32, seconds: u64) -> ArpMessage {
        ArpMessage {
            time_ns: seconds * 1_000_000_000,
            operation,
            sender_mac: sender.0,
            sender_ip: sender.1,
            target_ip,
            ..ArpMessage::default()
        }
    }

    fn observe(table: &mut ArpTable, message: &ArpMessage) {
        table.observe(message, Timestamp::from_nanos(message.time_ns));
    }

    fn place(ip: u32) -> Place {
        Place { ifindex: 0, ip: Ipv4Addr::from_bits(ip) }
    }

    #[test]
    fn requests_and_replies_claim_and_probes_do_not() {
        let mut table = ArpTable::default();
        observe(&mut table, &message(REQUEST, (A, 0x0a00_0001), 0x0a00_0002, 1));
        observe(&mut table, &message(REPLY, (B, 0x0a00_0002), 0x0a00_0001, 2));
        observe(&mut table, &message(REQUEST, (A, 0), 0x0a00_0003, 3));
        assert_eq!((table.messages(), table.claims(), table.conflicts()), (3, 2, 0));
        assert_eq!(table.claimant(place(0x0a00_0001)).unwrap().mac, A);
        assert_eq!(table.claimant(place(0x0a00_0002)).unwrap().mac, B);
        assert!(table.claimant(place(0)).is_none() && table.claimant(place(0x0a00_0003)).is_none());
        assert_eq!(table.asker(A).unwrap().asked.count(), 2, "a probe asks");
    }

    #[test]
    fn an_announcement_claims_and_does_not_ask() {
        let mut table = ArpTable::default();
        observe(&mut table, &message(REQUEST, (A, 0x0a00_0001), 0x0a00_0001, 1));
        assert_eq!(table.claims(), 1);
        assert!(table.asker(A).is_none());
    }

    #[test]
    fn each_change_of_owner_is_a_conflict() {
        let mut table = ArpTable::default();
        for (second, mac) in [(1, A), (2, A), (3, B), (4, B), (5, A)] {
            observe(&mut table, &message(REPLY, (mac, 0x0a00_0001), 0x0a00_0009, second));
        }
        let claim = table.claimant(place(0x0a00_0001)).unwrap();
        assert_eq!((claim.mac, claim.previous, claim.claims, claim.changes), (A, Some(B), 5, 2));
        assert_eq!((claim.first_seen, claim.last_seen), (Timestamp::from_secs(1), Timestamp::from_secs(5)));
        assert_eq!(table.conflicts(), 2);
    }

    #[test]
    fn networks_behind_two_interfaces_do_not_conflict() {
        let mut table = ArpTable::default();
        observe(&mut table, &ArpMessage { ifindex: 2, ..message(REPLY, (A, 0x0a00_0001), 9, 1) });
        observe(&mut table, &ArpMessage { ifindex: 3, ..message(REPLY, (B, 0x0a00_0001), 9, 1) });
        assert_eq!(table.conflicts(), 0);
    }

    #[test]
    fn questions_are_counted_by_the_window() {
        let mut table = ArpTable::default();
        (0..500).for_each(|n| observe(&mut table, &message(REQUEST, (A, 7), 0x0a00_0000 + n, 10)));
        let asked = table.asker(A).unwrap().asked.count();
        assert!((475..=525).contains(&asked), "{asked}");
        observe(&mut table, &message(REQUEST, (A, 7), 0x0a00_0001, 70));
        assert_eq!((table.asker(A).unwrap().asked.count(), table.asker(A).unwrap().requests), (1, 1));
    }

    #[test]
    fn a_flood_of_forged_claims_is_bounded_and_the_newest_stay() {
        let mut table = ArpTable::default();
        for n in 0..20_000_u32 {
            let mac = MacAddr(0x0200_0000_0000 | u64::from(n));
            observe(&mut table, &message(REQUEST, (mac, 0x0a00_0000 + n), 1, u64::from(n)));
            assert!(table.places.len() <= ArpTable::ADDRESSES && table.askers.len() <= ArpTable::ASKERS);
        }
        assert!(table.claimant(place(0x0a00_0000 + 19_999)).is_some());
        assert!(table.claimant(place(0x0a00_0000 + 16_500)).is_some());
        assert!(table.claimant(place(0x0a00_0000 + 100)).is_none());
    }
}
