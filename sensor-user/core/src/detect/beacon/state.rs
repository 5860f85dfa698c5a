//! What a beacon detector remembers, in a form that outlives the process.

use std::collections::VecDeque;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::pairs::{Call, Key, Pair, Pairs, REMEMBERED, SERVERS, network};
use crate::time::Timestamp;

/// Version of the form.
const VERSION: u32 = 1;
/// Series of fewer calls are not worth keeping.
const WORTH: usize = 2;

/// The memory of a [`Beacon`](super::Beacon), to be saved and [resumed](crate::engine::Engine::resume_beacons).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BeaconState {
    version: u32,
    began_ns: Option<u64>,
    series: Vec<Series>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Series {
    client: IpAddr,
    servers: Vec<(IpAddr, u64)>,
    port: u16,
    proto: u8,
    within: bool,
    client_port: u16,
    latest_ns: u64,
    active_ns: u64,
    total: u64,
    reported: bool,
    /// Gap and duration in milliseconds, octets sent and received.
    calls: Vec<[u32; 4]>,
}

/// Why a saved state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BeaconStateError {
    /// Not the form, or damaged.
    #[error("it is damaged")]
    Damaged(#[from] serde_json::Error),
    /// Of another version of the sensor.
    #[error("it has version {0}, and this sensor knows version {VERSION}")]
    Version(u32),
}

impl BeaconState {
    /// Series of calls in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.series.len()
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// The octets to save.
    ///
    /// # Errors
    /// None is known; those of the serialiser.
    pub fn to_bytes(&self) -> Result<Vec<u8>, BeaconStateError> {
        Ok(serde_json::to_vec(self)?)
    }

    /// The state that was saved as `bytes`.
    ///
    /// # Errors
    /// See [`BeaconStateError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BeaconStateError> {
        let state: Self = serde_json::from_slice(bytes)?;
        if state.version == VERSION { Ok(state) } else { Err(BeaconStateError::Version(state.version)) }
    }

    pub(super) fn of(pairs: &Pairs, began: Option<Timestamp>) -> Self {
        let worth = pairs.iter().filter(|(_, pair)| pair.calls.len() >= WORTH);
        let mut series: Vec<(Key, Series)> = worth.map(|(key, pair)| (*key, Series::of(key, pair))).collect();
        series.sort_unstable_by_key(|(key, _)| *key);
        let series = series.into_iter().map(|(_, series)| series).collect();
        Self { version: VERSION, began_ns: began.map(Timestamp::nanos), series }
    }

    pub(super) fn began(&self) -> Option<Timestamp> {
        self.began_ns.map(Timestamp::from_nanos)
    }

    /// The series, of which `pairs` makes room for what it can hold.
    pub(super) fn fill(&self, pairs: &mut Pairs, most: usize, most_calls: usize) {
        let mut calls = 0;
        for series in self.series.iter().take(most) {
            let Some((key, pair)) = series.pair() else { continue };
            calls += pair.calls.len();
            if calls > most_calls {
                return;
            }
            if pairs.get(&key).is_none() {
                pairs.insert(key, pair);
            }
        }
    }
}

impl Series {
    fn of(key: &Key, pair: &Pair) -> Self {
        Self {
            client: key.client.into(),
            servers: pair.servers.iter().map(|(addr, calls)| ((*addr).into(), *calls)).collect(),
            port: key.port,
            proto: key.proto,
            within: key.within,
            client_port: pair.client_port,
            latest_ns: pair.latest.nanos(),
            active_ns: pair.active.nanos(),
            total: pair.total,
            reported: pair.reported,
            calls: pair.calls.iter().map(|call| [call.gap_ms, call.lasted_ms, call.sent, call.received]).collect(),
        }
    }

    fn pair(&self) -> Option<(Key, Pair)> {
        let server = self.servers.first()?.0;
        let key = Key {
            client: self.client.into(),
            network: network(server.into()),
            port: self.port,
            proto: self.proto,
            within: self.within,
        };
        let skipped = self.calls.len().saturating_sub(REMEMBERED);
        let calls = self.calls.iter().skip(skipped);
        let calls: VecDeque<Call> =
            calls.map(|&[gap_ms, lasted_ms, sent, received]| Call { gap_ms, sent, received, lasted_ms }).collect();
        Some((
            key,
            Pair {
                calls,
                total: self.total,
                latest: Timestamp::from_nanos(self.latest_ns),
                active: Timestamp::from_nanos(self.active_ns),
                client_port: self.client_port,
                due: 0,
                servers: self.servers.iter().take(SERVERS).map(|(addr, calls)| ((*addr).into(), *calls)).collect(),
                reported: self.reported,
            },
        ))
    }
}
