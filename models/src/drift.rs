//! Tells when a stream of p-values or scores in [0, 1] is no longer what it was: ADWIN, a window that adapts.
//!
//! The window grows while its values look alike. It is cut where the mean of its older part differs from the mean of its
//! newer part by more than chance explains, and then only the newer part is kept:
//!
//! ```text
//! |mean_0 - mean_1| > sqrt(2 / m * variance * L) + 2 / (3 m) * L
//! L = ln(2 ln(n) / delta)      1 / m = r (1 / n_0 + 1 / n_1)
//! ```
//!
//! The window is kept as sums over blocks of 1, 2, 4, ... values, at most [`BLOCKS`] of a size: `O(BLOCKS log(n / BLOCKS))`
//! memory, and a value costs amortised `O(1)` but for the test every [`STEP`] values, which looks at every block boundary.
//!
//! Nothing is assumed about the mean: a calibration of 500 rows has p-values with a mean of 0.5 give or take 0.013, and
//! that is no drift. Flows come in bursts, and the values of a burst are alike: `r` is by how much the means of
//! [`RUN`] consecutive values vary more than those of independent values would, at least 1, from the differences of
//! successive means (which a change of level touches once). Without it, bursts would pass for changes.
//!
//! Measured on p-values, uniform until a share of them is at most 0.01; alarms in ten million values without a change,
//! median (largest) values until an alarm after 20 000 without, over twenty seeds:
//!
//! | | alarms, independent | in bursts of 2 | of 8 | of 16 | delay, share 5 % | 10 % | 20 % | 50 % |
//! |---|---|---|---|---|---|---|---|---|
//! | this test | 1 | 2 | 2 | 0 | 2784 (6816) | 864 (1728) | 288 (736) | 64 (128) |
//! | Page-Hinkley, slack 0.01, limit 40 | 4 | 190 | 4527 | 10210 | 1919 (5453) | 871 (1546) | 398 (681) | 147 (217) |
//!
//! Page-Hinkley is tuned for one size of a shift and knows nothing of bursts, so this one is used. A shift of 2 % takes it
//! 62 048 values, and is not always found within 100 000. The first [`RUN`] `* 17` values are not tested.
//!
//! Source: Bifet, Gavaldà, "Learning from time-changing data with adaptive windowing" (SDM 2007), ADWIN2; von Neumann,
//! "Distribution of the ratio of the mean square successive difference to the variance" (1941).

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Blocks of each size, `M`.
pub const BLOCKS: usize = 5;
/// Values between two tests.
pub const STEP: u64 = 32;
/// Consecutive values whose mean tells how much the values of a burst are alike.
pub const RUN: u32 = 128;
/// Runs before the first test.
const FIRST_RUNS: u32 = 16;
/// Runs that are remembered, about.
const RUNS: u32 = 100;
/// Fewest values in each part of a cut.
const MIN_PART: u64 = 8;
/// Sizes of blocks; what is beyond the last, two hundred billion values, falls out of the window.
const SIZES: usize = 36;

/// Parameters as the caller wrote them: [`check`](Self::check) turns them into an empty [`Drift`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DriftParams {
    delta: f64,
}

/// A window over a stream; less than 5 KiB, whatever passes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Plain", into = "Plain")]
pub struct Drift {
    delta: f64,
    /// `sizes[i]` has blocks of `2^i` values, the oldest first.
    sizes: Vec<Vec<Block>>,
    bursts: Bursts,
    observed: u64,
    changes: u64,
}

/// How much more the means of runs vary than those of independent values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Bursts {
    /// Of the run that is not complete.
    sum: f64,
    count: u32,
    /// Mean of the run before, once there is one.
    last: Option<f64>,
    /// Runs compared with the one before, up to [`RUNS`].
    runs: u32,
    /// Half the mean square of the differences: the variance of the mean of a run.
    variance: f64,
}

/// Sums of some consecutive values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Block {
    sum: f64,
    squares: f64,
}

/// A parameter or a saved state that no window can have.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
pub enum DriftError {
    /// Not in (0, 0.5].
    #[error("a confidence of {0}: choose more than 0 and at most 0.5, 0.002 is usual")]
    Delta(f64),
    /// Parts of a saved state that do not belong together.
    #[error("the saved drift test is damaged")]
    State,
}

impl DriftParams {
    /// `delta` 0.002.
    #[must_use]
    pub fn new() -> Self {
        Self { delta: 0.002 }
    }

    /// Bound on the chance that a test of a window without change cuts it. Smaller is slower and surer.
    #[must_use]
    pub fn delta(mut self, delta: f64) -> Self {
        self.delta = delta;
        self
    }

    /// Checks the range.
    ///
    /// # Errors
    /// A `delta` that is not in (0, 0.5].
    pub fn check(self) -> Result<Drift, DriftError> {
        if self.delta > 0.0 && self.delta <= 0.5 {
            return Ok(Drift {
                delta: self.delta,
                sizes: Vec::new(),
                bursts: Bursts::default(),
                observed: 0,
                changes: 0,
            });
        }
        Err(DriftError::Delta(self.delta))
    }
}

impl Default for DriftParams {
    fn default() -> Self {
        Self::new()
    }
}

impl Drift {
    /// Takes in the next value. Whether the stream has changed: the window then begins after the change.
    ///
    /// Values outside of `[0, 1]` are taken as the nearest end; `NaN` is ignored.
    pub fn observe(&mut self, value: f64) -> bool {
        if value.is_nan() {
            return false;
        }
        let value = value.clamp(0.0, 1.0);
        self.push(value);
        self.bursts.push(value);
        self.observed += 1;
        let changed = self.observed.is_multiple_of(STEP) && self.cut();
        self.changes += u64::from(changed);
        changed
    }

    /// Mean of the window; 0.5 while it is empty.
    #[must_use]
    pub fn mean(&self) -> f64 {
        let (length, total) = self.total();
        if length == 0 { 0.5 } else { total.sum / length as f64 }
    }

    /// Values in the window.
    #[must_use]
    pub fn window(&self) -> u64 {
        self.total().0
    }

    /// Values taken in so far.
    #[must_use]
    pub fn observed(&self) -> u64 {
        self.observed
    }

    /// Changes found so far.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes
    }

    fn push(&mut self, value: f64) {
        let mut carried = Some(Block { sum: value, squares: value * value });
        for size in 0..SIZES {
            let Some(block) = carried.take() else { return };
            if size == self.sizes.len() {
                self.sizes.push(Vec::with_capacity(BLOCKS + 1));
            }
            let blocks = &mut self.sizes[size];
            blocks.push(block);
            if blocks.len() > BLOCKS {
                let oldest = blocks.remove(0);
                carried = Some(oldest.plus(blocks.remove(0)));
            }
        }
    }

    /// Drops the oldest block while some boundary of blocks separates unlike parts.
    fn cut(&mut self) -> bool {
        let mut changed = false;
        while self.is_mixed() {
            changed = true;
            let oldest = self.sizes.last_mut().expect("a window that is mixed has blocks");
            oldest.remove(0);
            while self.sizes.last().is_some_and(Vec::is_empty) {
                self.sizes.pop();
            }
        }
        changed
    }

    fn is_mixed(&self) -> bool {
        let (length, total) = self.total();
        if length < 2 * MIN_PART || self.bursts.runs < FIRST_RUNS {
            return false;
        }
        let n = length as f64;
        let variance = (total.squares / n - (total.sum / n).powi(2)).max(0.0);
        let inflation = self.bursts.inflation(variance);
        let log = (2.0 * n.ln() / self.delta).ln();
        let (mut before, mut sum) = (0, 0.0);
        self.blocks().any(|(count, block)| {
            before += count;
            sum += block.sum;
            let after = length - before;
            if before < MIN_PART || after < MIN_PART {
                return false;
            }
            let (n0, n1) = (before as f64, after as f64);
            let inverse = inflation * (1.0 / n0 + 1.0 / n1);
            let limit = (2.0 * inverse * variance * log).sqrt() + 2.0 / 3.0 * inverse * log;
            (sum / n0 - (total.sum - sum) / n1).abs() > limit
        })
    }

    /// Number of values and their sums.
    fn total(&self) -> (u64, Block) {
        self.blocks().fold((0, Block::default()), |(length, total), (count, block)| (length + count, total.plus(block)))
    }

    /// Size and sums of each block, the oldest first.
    fn blocks(&self) -> impl Iterator<Item = (u64, Block)> + '_ {
        let sizes = self.sizes.iter().enumerate().rev();
        sizes.flat_map(|(size, blocks)| blocks.iter().map(move |block| (1_u64 << size, *block)))
    }
}

impl Bursts {
    fn push(&mut self, value: f64) {
        self.sum += value;
        self.count += 1;
        if self.count < RUN {
            return;
        }
        let mean = self.sum / f64::from(RUN);
        (self.sum, self.count) = (0.0, 0);
        if let Some(last) = self.last.replace(mean) {
            self.runs = (self.runs + 1).min(RUNS);
            self.variance += (0.5 * (mean - last).powi(2) - self.variance) / f64::from(self.runs);
        }
    }

    /// `r` for values of this variance.
    fn inflation(&self, variance: f64) -> f64 {
        let ratio = f64::from(RUN) * self.variance / variance;
        if ratio.is_finite() { ratio.max(1.0) } else { 1.0 }
    }

    fn is_sane(&self) -> bool {
        let sums = (0.0..=f64::from(RUN)).contains(&self.sum) && self.count < RUN && self.runs <= RUNS;
        sums && (0.0..=0.5).contains(&self.variance) && self.last.is_none_or(|mean| (0.0..=1.0).contains(&mean))
    }
}

impl Block {
    fn plus(self, other: Self) -> Self {
        Self { sum: self.sum + other.sum, squares: self.squares + other.squares }
    }
}

#[derive(Serialize, Deserialize)]
struct Plain {
    delta: f64,
    sizes: Vec<Vec<Block>>,
    bursts: Bursts,
    observed: u64,
    changes: u64,
}

impl From<Drift> for Plain {
    fn from(Drift { delta, sizes, bursts, observed, changes }: Drift) -> Self {
        Self { delta, sizes, bursts, observed, changes }
    }
}

impl TryFrom<Plain> for Drift {
    type Error = DriftError;

    fn try_from(Plain { delta, sizes, bursts, observed, changes }: Plain) -> Result<Self, DriftError> {
        let empty = DriftParams::new().delta(delta).check()?;
        if sizes.len() > SIZES || !bursts.is_sane() || sizes.iter().any(|blocks| blocks.len() > BLOCKS) {
            return Err(DriftError::State);
        }
        let read = Self { sizes, bursts, observed, changes, ..empty };
        // Squares of values in [0, 1] are at most the values; rounding is allowed for.
        let in_range = |(count, block): (u64, Block)| {
            (0.0..=count as f64 * 1.001).contains(&block.sum) && (0.0..=block.sum * 1.001).contains(&block.squares)
        };
        let whole = read.window() <= observed && changes <= observed && read.blocks().all(in_range);
        if whole { Ok(read) } else { Err(DriftError::State) }
    }
}

#[cfg(test)]
mod tests;
