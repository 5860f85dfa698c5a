//! A reservoir as plain data, and back from data nobody vouches for.

use std::cmp::Reverse;

use serde::{Deserialize, Serialize};

use super::{Clock, Rank, Reservoir, ReservoirError, ValidReservoirParams};

/// Words of the random stream that an offer takes.
const WORDS_PER_OFFER: u128 = 2;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Plain {
    params: ValidReservoirParams,
    offered: u64,
    clock: Clock,
    values: Vec<f32>,
    seen_at: Vec<f64>,
    /// Of each slot.
    priorities: Vec<f64>,
}

impl From<Reservoir> for Plain {
    fn from(reservoir: Reservoir) -> Self {
        let Reservoir { params, values, seen_at, order, offered, clock, .. } = reservoir;
        let mut priorities = vec![0.0; seen_at.len()];
        for Reverse(Rank { priority, slot }) in order {
            priorities[slot as usize] = priority;
        }
        Self { params, offered, clock, values, seen_at, priorities }
    }
}

impl TryFrom<Plain> for Reservoir {
    type Error = ReservoirError;

    fn try_from(plain: Plain) -> Result<Self, ReservoirError> {
        plain.check()?;
        let Plain { params, offered, clock, values, seen_at, priorities } = plain;
        let mut reservoir = Self::new(params);
        reservoir.rng.set_word_pos(u128::from(offered) * WORDS_PER_OFFER);
        reservoir.values.extend(values);
        reservoir.seen_at.extend(seen_at);
        let ranks = (0_u32..).zip(priorities).map(|(slot, priority)| Reverse(Rank { priority, slot }));
        reservoir.order.extend(ranks);
        Ok(Self { offered, clock, ..reservoir })
    }
}

impl Plain {
    fn check(&self) -> Result<(), ReservoirError> {
        let rows = self.seen_at.len();
        let broken = if rows > self.params.capacity() || rows as u64 > self.offered {
            "it has more rows than it may have"
        } else if self.values.len() != rows * self.params.width() || self.priorities.len() != rows {
            "its rows are not whole"
        } else if !self.values.iter().all(|value| value.is_finite()) {
            "a value is not finite"
        } else if !self.seen_at.iter().chain(&self.priorities).all(|number| number.is_finite()) || !self.clock.is_sane()
        {
            "a time is not finite"
        } else {
            return Ok(());
        };
        Err(ReservoirError::State(broken))
    }
}

impl Clock {
    fn is_sane(&self) -> bool {
        self.offset.is_finite() && self.latest.is_none_or(f64::is_finite)
    }
}
