//! To whom a host sends most, in the memory of a few (space-saving).

use sensor_ebpf::abi::Addr;

/// Receivers followed of one host. What is sent to one of them is overestimated by at most what all others of its host
/// were sent, over this number.
const FOLLOWED: usize = 8;

/// What one receiver was sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Receiver {
    pub(super) port: u16,
    pub(super) octets: u64,
    /// What came back from there.
    pub(super) back: u64,
}

/// The largest receivers.
#[derive(Clone, Debug, Default)]
pub(super) struct Receivers(Vec<(Addr, Receiver)>);

impl Receivers {
    /// Counts what comes back from one that is followed.
    pub(super) fn add_back(&mut self, from: Addr, octets: u64) {
        if let Some((_, known)) = self.0.iter_mut().find(|(addr, _)| *addr == from) {
            known.back += octets;
        }
    }

    pub(super) fn add(&mut self, to: Addr, port: u16, octets: u64) {
        if let Some((_, known)) = self.0.iter_mut().find(|(addr, _)| *addr == to) {
            known.octets += octets;
        } else if self.0.len() < FOLLOWED {
            self.0.push((to, Receiver { port, octets, back: 0 }));
        } else if let Some(least) = self.0.iter_mut().min_by_key(|(_, receiver)| receiver.octets) {
            let inherited = least.1.octets;
            *least = (to, Receiver { port, octets: octets + inherited, back: 0 });
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (to, receiver) in &other.0 {
            self.add(*to, receiver.port, receiver.octets);
            self.add_back(*to, receiver.back);
        }
    }

    /// Remembers the most that each receiver was ever sent.
    pub(super) fn keep_largest(&mut self, other: &Self) {
        for (to, receiver) in &other.0 {
            if let Some((_, known)) = self.0.iter_mut().find(|(addr, _)| addr == to) {
                known.octets = known.octets.max(receiver.octets);
            } else if self.0.len() < FOLLOWED {
                self.0.push((*to, *receiver));
            } else if let Some(least) = self.0.iter_mut().min_by_key(|(_, receiver)| receiver.octets)
                && least.1.octets < receiver.octets
            {
                *least = (*to, *receiver);
            }
        }
    }

    pub(super) fn largest(&self) -> Option<(Addr, Receiver)> {
        self.0.iter().max_by_key(|(addr, receiver)| (receiver.octets, *addr)).copied()
    }

    pub(super) fn octets_to(&self, to: Addr) -> u64 {
        self.0.iter().find(|(addr, _)| *addr == to).map_or(0, |(_, receiver)| receiver.octets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_receiver_is_found_among_many() {
        let addr = |last: u32| Addr::from_v4(0x0a00_0000 + last);
        let mut receivers = Receivers::default();
        for round in 0..1000_u32 {
            receivers.add(addr(round % 300), 443, 100);
            receivers.add(addr(900), 22, 150);
        }
        let (to, largest) = receivers.largest().unwrap();
        assert_eq!((to, largest.port), (addr(900), 22));
        assert!((150_000..=150_000 + 250_000 / 8).contains(&largest.octets), "{}", largest.octets);
        let mut known = Receivers::default();
        known.keep_largest(&receivers);
        known.keep_largest(&Receivers::default());
        assert_eq!(known.octets_to(addr(900)), largest.octets);
        assert!(receivers.0.len() <= FOLLOWED && known.0.len() <= FOLLOWED);
    }
}
