//! A bounded sample of rows in which recent traffic counts more: each row's weight halves every half-life.
//!
//! Of `n` rows offered at times `t_i`, those with the `capacity` largest priorities are kept:
//!
//! ```text
//! priority_i = t_i / half_life - log2(-ln(u_i))      u_i uniform in (0, 1]
//! ```
//!
//! This is the order of the keys `u_i^(1 / w_i)` with `w_i = 2^(t_i / half_life)`: a weighted sample without replacement
//! in which, at any moment, rows that differ by one half-life in age differ by two in weight. The present weighs the same
//! factor on all sides, so nothing is ever rescaled, and in logarithms nothing overflows: after thirty thousand years and
//! with a half-life of a second a priority is still exact to 1e-3.
//!
//! Where far more rows come in a half-life than are kept, half of the sample is younger than one half-life and `2^-k` is
//! older than `k`. A row is forgotten only when another takes its place: quiet networks keep what they have.
//!
//! Times are event time. A row that is late by up to one half-life has the weight of its time; a time further back is a
//! clock that was set: it counts as the latest time, and time goes on from there. Rows of two clocks that disagree by more
//! than a half-life must not be mixed: each change from the slow to the fast one ages the sample.
//!
//! Source: Efraimidis, Spirakis, "Weighted random sampling with a reservoir" (2006), A-ES; Cormode, Shkapenyuk,
//! Srivastava, Xu, "Forward decay" (ICDE 2009).

mod params;
mod serial;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use ndarray::ArrayView2;
use rand::SeedableRng as _;
use rand::distributions::{Distribution as _, OpenClosed01};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

pub use params::{
    MAX_HALF_LIFE_S, MAX_RESERVOIR_ROWS, MAX_RESERVOIR_VALUES, ReservoirError, ReservoirParams, ValidReservoirParams,
};

use serial::Plain;

/// Times further than this from the epoch, in seconds, are no times: thirty thousand years.
const MAX_TIME_S: f64 = 1e12;

/// A time-decayed sample of rows. Memory is `capacity * (4 * width + 24)` bytes, taken when it is made; serialises with
/// its random state, so that it goes on after a restart as if there had been none.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "Plain", into = "Plain")]
pub struct Reservoir {
    params: ValidReservoirParams,
    /// Row-major, slot by slot.
    values: Vec<f32>,
    /// When the row of each slot was seen, on the clock of `clock`.
    seen_at: Vec<f64>,
    /// The slot that goes next is on top.
    order: BinaryHeap<Reverse<Rank>>,
    offered: u64,
    clock: Clock,
    rng: ChaCha8Rng,
}

/// A slot and what keeps it in the sample; ordered by priority, then slot.
#[derive(Clone, Copy, Debug)]
struct Rank {
    priority: f64,
    slot: u32,
}

/// Event time that does not go back, seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Clock {
    /// Latest time so far; none before the first row.
    latest: Option<f64>,
    /// What is added to the times that are given.
    offset: f64,
}

impl Reservoir {
    /// An empty sample.
    #[must_use]
    pub fn new(params: ValidReservoirParams) -> Self {
        let capacity = params.capacity();
        Self {
            values: Vec::with_capacity(capacity * params.width()),
            seen_at: Vec::with_capacity(capacity),
            order: BinaryHeap::with_capacity(capacity),
            offered: 0,
            clock: Clock::default(),
            rng: ChaCha8Rng::seed_from_u64(params.seed()),
            params,
        }
    }

    /// Offers a row seen at event time `at`, in seconds from any fixed epoch. Whether it was taken.
    ///
    /// A row with a value that is not finite is never taken and not counted, as no model can be fitted to it. Of a full
    /// sample the row with the lowest priority goes: `O(log capacity)`, no allocation.
    ///
    /// # Panics
    /// If `row` does not have one value for each column.
    pub fn offer(&mut self, row: &[f32], at: f64) -> bool {
        assert_eq!(row.len(), self.params.width(), "a row must have one value for each column of the reservoir");
        if !row.iter().all(|value| value.is_finite()) {
            return false;
        }
        self.offered += 1;
        let at = self.clock.advance(at, self.params.half_life());
        let uniform: f64 = OpenClosed01.sample(&mut self.rng);
        // u is 1 once in 2^53 offers: its priority would be infinite and its row stay for ever.
        let luck = -(-uniform.ln()).max(f64::MIN_POSITIVE).log2();
        self.place(row, at, at / self.params.half_life() + luck)
    }

    /// The rows of the sample, one a row, in no particular order.
    #[must_use]
    pub fn rows(&self) -> ArrayView2<'_, f32> {
        ArrayView2::from_shape((self.len(), self.params.width()), &self.values).expect("whole rows are kept")
    }

    /// How long ago each row was seen, seconds, in the order of [`Self::rows`]; never negative.
    pub fn ages(&self, now: f64) -> impl ExactSizeIterator<Item = f64> + '_ {
        let now = self.clock.at(now);
        self.seen_at.iter().map(move |seen_at| (now - seen_at).max(0.0))
    }

    /// Rows in the sample.
    #[must_use]
    pub fn len(&self) -> usize {
        self.seen_at.len()
    }

    /// Whether no row was taken yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.seen_at.is_empty()
    }

    /// Rows offered so far, taken or not.
    #[must_use]
    pub fn offered(&self) -> u64 {
        self.offered
    }

    /// What it was made with.
    #[must_use]
    pub fn params(&self) -> ValidReservoirParams {
        self.params
    }

    fn place(&mut self, row: &[f32], at: f64, priority: f64) -> bool {
        if self.len() < self.params.capacity() {
            let slot = u32::try_from(self.len()).expect("at most MAX_RESERVOIR_ROWS");
            self.order.push(Reverse(Rank { priority, slot }));
            self.values.extend_from_slice(row);
            self.seen_at.push(at);
            return true;
        }
        let mut lowest = self.order.peek_mut().expect("a capacity is at least one");
        let slot = lowest.0.slot;
        let rank = Rank { priority, slot };
        if rank <= lowest.0 {
            return false;
        }
        *lowest = Reverse(rank);
        let slot = slot as usize;
        self.values[slot * row.len()..][..row.len()].copy_from_slice(row);
        self.seen_at[slot] = at;
        true
    }
}

impl Clock {
    /// The time of a row given as `at`. Times that are none count as the latest.
    fn advance(&mut self, at: f64, tolerance: f64) -> f64 {
        let usable = at.is_finite() && at.abs() <= MAX_TIME_S;
        let Some(latest) = self.latest else {
            let first = if usable { at } else { 0.0 };
            self.latest = usable.then_some(first);
            return first;
        };
        if !usable {
            return latest;
        }
        if at + self.offset < latest - tolerance {
            self.offset = latest - at;
        }
        self.latest = Some(latest.max(at + self.offset));
        at + self.offset
    }

    /// The time that is given as `at`, not before the latest.
    fn at(&self, at: f64) -> f64 {
        let latest = self.latest.unwrap_or(0.0);
        if at.is_finite() { latest.max(at + self.offset) } else { latest }
    }
}

impl Ord for Rank {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.priority.total_cmp(&other.priority).then(self.slot.cmp(&other.slot))
    }
}

impl PartialOrd for Rank {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Rank {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Rank {}
