//! Who was blocked by the sensor, and how often: repeaters are blocked for longer.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::net::Network;
use crate::time::Timestamp;

/// Networks remembered; those that have been quiet for the longest give way.
const REMEMBERED: usize = 16_384;

/// How often a network was blocked by the sensor. Stored as JSON, the time in nanoseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offence {
    /// The network.
    pub network: Network,
    /// How often.
    pub count: u32,
    /// When it last gave reason to.
    #[serde(rename = "last_ns", with = "nanos")]
    pub last: Timestamp,
}

#[derive(Debug, Default)]
pub(super) struct Offences {
    networks: BTreeMap<Network, (u32, Timestamp)>,
}

impl Offences {
    /// Takes in an offence that is followed by a new block; says how many that makes.
    pub(super) fn add(&mut self, network: Network, now: Timestamp) -> u32 {
        let count = self.count(network).saturating_add(1);
        self.restore(Offence { network, count, last: now });
        count
    }

    pub(super) fn count(&self, network: Network) -> u32 {
        self.networks.get(&network).map_or(0, |(count, _)| *count)
    }

    /// One of them was followed by no block.
    pub(super) fn take_back(&mut self, network: Network) {
        match self.networks.get_mut(&network) {
            Some((count, _)) if *count > 1 => *count -= 1,
            Some(_) | None => drop(self.networks.remove(&network)),
        }
    }

    /// The offence goes on.
    pub(super) fn touch(&mut self, network: Network, now: Timestamp) {
        if let Some((_, last)) = self.networks.get_mut(&network) {
            *last = now;
        }
    }

    pub(super) fn restore(&mut self, offence: Offence) {
        if self.networks.len() >= REMEMBERED
            && !self.networks.contains_key(&offence.network)
            && let Some((&oldest, _)) = self.networks.iter().min_by_key(|(_, (_, last))| *last)
        {
            self.networks.remove(&oldest);
        }
        self.networks.insert(offence.network, (offence.count, offence.last));
    }

    /// Forgets what overlaps a network.
    pub(super) fn forget(&mut self, network: &Network) {
        self.networks.retain(|one, _| !one.overlaps(network));
    }

    pub(super) fn expire(&mut self, remembered: Duration, now: Timestamp) {
        self.networks.retain(|_, (_, last)| now.since(*last) < remembered);
    }

    pub(super) fn move_back(&mut self, by: Duration) {
        self.networks.values_mut().for_each(|(_, last)| *last = *last - by);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Offence> {
        self.networks.iter().map(|(&network, &(count, last))| Offence { network, count, last })
    }
}

mod nanos {
    use serde::{Deserialize as _, Deserializer, Serializer};

    use crate::time::Timestamp;

    pub(super) fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(time.nanos())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        u64::deserialize(deserializer).map(Timestamp::from_nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offence(n: u32, last: u64) -> Offence {
        let network = Network::new(std::net::Ipv4Addr::from_bits(0x0b00_0000 + n).into(), 32);
        Offence { network, count: 2, last: Timestamp::from_secs(last) }
    }

    #[test]
    fn those_that_were_quiet_for_the_longest_give_way() {
        let mut offences = Offences::default();
        (0..).take(REMEMBERED).for_each(|n| offences.restore(offence(n, 100 + u64::from(n))));
        offences.touch(offence(0, 0).network, Timestamp::from_secs(1 << 20));
        assert_eq!(offences.add(offence(1 << 20, 0).network, Timestamp::from_secs(1 << 20)), 1);
        assert_eq!(offences.iter().count(), REMEMBERED);
        let counts = [0, 1, 2].map(|n| offences.count(offence(n, 0).network));
        assert_eq!(counts, [2, 0, 2]);
    }

    #[test]
    fn offences_are_stored() {
        let text = r#"{"network":"11.0.0.7","count":2,"last_ns":9000000000}"#;
        assert_eq!(serde_json::to_string(&offence(7, 9)).unwrap(), text);
        assert_eq!(serde_json::from_str::<Offence>(text).unwrap(), offence(7, 9));
    }
}
