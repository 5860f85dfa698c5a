//! Who is involved in open incidents, found at once.

use std::collections::HashMap;

use sensor_ebpf::abi::Addr;

/// How many roles an address has in open incidents.
#[derive(Debug, Default)]
pub(super) struct Index(HashMap<Addr, u32>);

impl Index {
    pub(super) fn contains(&self, addr: Addr) -> bool {
        self.0.contains_key(&addr)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn add(&mut self, addr: Addr) {
        *self.0.entry(addr).or_default() += 1;
    }

    pub(super) fn remove(&mut self, addr: Addr) {
        if let Some(roles) = self.0.get_mut(&addr) {
            *roles -= 1;
            if *roles == 0 {
                self.0.remove(&addr);
            }
        }
    }
}
