//! Half-space trees: a streaming detector of fixed size that counts how much traffic each region has seen.
//!
//! Trees halve the space at random before any row is seen; each node counts the rows that pass. Counts of the window
//! that is being filled replace those of the window before when it is full: the model follows its traffic.
//!
//! ```text
//! score(x) = mean over trees of log2(window + 1) - log2((m + 1) 2^d)
//! ```
//!
//! for the node of depth `d` at which the walk of `x` ends (the first with fewer rows than a tenth of the window per
//! tree depth, or a leaf) and its count `m`. The authors sum `m 2^d`; the mean of its logarithm makes trees equal
//! partners, and is additive over the splits of a walk.
//!
//! Source: Tan, Ting, Liu, "Fast anomaly detection for streaming data", IJCAI 2011.

mod params;

use ndarray::ArrayView2;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::isolation_forest::FitError;
use crate::model::{InvalidModel, checked_serde};
use crate::one_class::OneClass;
use crate::scale::{CLIP, Scaler, narrow};

pub use params::{
    HalfSpaceParams, HalfSpaceParamsError, MAX_HALF_SPACE_DEPTH, MAX_HALF_SPACE_TREES, MIN_WINDOW, ValidHalfSpaceParams,
};

/// Fitted trees and their counts: 14 bytes a node, as many nodes as the parameters say, whatever passes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct HalfSpaceTrees {
    scaler: Scaler,
    depth: u32,
    window: u32,
    /// Rows counted in `latest`, less than `window`.
    seen: u32,
    /// Rows that `reference` was made of, at least one.
    reference_rows: u32,
    /// Of inner nodes, tree by tree, each level by level: node `n` has the children `2 n + 1` and `2 n + 2`.
    columns: Vec<u16>,
    thresholds: Vec<f32>,
    /// Of all nodes, tree by tree.
    reference: Vec<u32>,
    latest: Vec<u32>,
}

checked_serde!(HalfSpaceTrees);

impl ValidHalfSpaceParams {
    /// Draws the trees, and fills the window with `rows`.
    ///
    /// # Errors
    /// Fewer than two rows, no or too many columns, or a value that is not finite.
    pub fn fit(&self, rows: ArrayView2<'_, f32>) -> Result<HalfSpaceTrees, FitError> {
        let mut model = self.empty(Scaler::fit(rows)?);
        rows.rows().into_iter().for_each(|row| model.update(&row.to_vec()));
        if model.reference_rows == 0 {
            model.turn();
        }
        Ok(model)
    }

    fn empty(&self, scaler: Scaler) -> HalfSpaceTrees {
        let HalfSpaceParams { trees, depth, window, seed } = self.0;
        let trees = trees as usize;
        let (inner, nodes) = ((1_usize << depth) - 1, (2_usize << depth) - 1);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut model = HalfSpaceTrees {
            depth,
            window,
            seen: 0,
            reference_rows: 0,
            columns: vec![0; trees * inner],
            thresholds: vec![0.0; trees * inner],
            reference: vec![0; trees * nodes],
            latest: vec![0; trees * nodes],
            scaler,
        };
        for tree in 0..trees {
            let mut limits: Vec<(f64, f64)> = model.scaler.columns().iter().map(|_| work_range(&mut rng)).collect();
            model.halve(tree * inner, 0, &mut limits, &mut rng);
        }
        model
    }
}

/// A range around a random point of the usual values that holds them all (Tan et al., section 3).
fn work_range(rng: &mut ChaCha8Rng) -> (f64, f64) {
    const USUAL: f64 = 3.0;
    let centre = rng.gen_range(-USUAL..USUAL);
    let reach = (USUAL + centre.abs()) * 1.25;
    (centre - reach, centre + reach)
}

impl HalfSpaceTrees {
    /// Counts a row of the stream. When the window is full, its counts become those that scores compare with.
    ///
    /// # Panics
    /// If `row` does not have one value for each column.
    pub fn update(&mut self, row: &[f32]) {
        let scaled = self.scaler.scale(row);
        let (inner, nodes) = (self.inner(), self.nodes());
        for tree in 0..self.trees() {
            let mut at = 0;
            loop {
                self.latest[tree * nodes + at] += 1;
                if at >= inner {
                    break;
                }
                at = self.child(tree, at, &scaled);
            }
        }
        self.seen += 1;
        if self.seen >= self.window {
            self.turn();
        }
    }

    /// Number of trees.
    #[must_use]
    pub fn trees(&self) -> usize {
        self.columns.len() / self.inner()
    }

    fn turn(&mut self) {
        std::mem::swap(&mut self.reference, &mut self.latest);
        self.latest.fill(0);
        self.reference_rows = self.seen;
        self.seen = 0;
    }

    fn halve(&mut self, first: usize, node: usize, limits: &mut [(f64, f64)], rng: &mut ChaCha8Rng) {
        if node >= self.inner() {
            return;
        }
        let count = u32::try_from(limits.len()).expect("at most MAX_FEATURES");
        let column = rng.gen_range(0..count) as usize;
        let (low, high) = limits[column];
        let middle = f64::midpoint(low, high);
        self.columns[first + node] = u16::try_from(column).expect("at most MAX_FEATURES");
        self.thresholds[first + node] = narrow(middle);
        limits[column] = (low, middle);
        self.halve(first, 2 * node + 1, limits, rng);
        limits[column] = (middle, high);
        self.halve(first, 2 * node + 2, limits, rng);
        limits[column] = (low, high);
    }

    fn inner(&self) -> usize {
        (1 << self.depth) - 1
    }

    fn nodes(&self) -> usize {
        (2 << self.depth) - 1
    }

    fn child(&self, tree: usize, node: usize, scaled: &[f64]) -> usize {
        let split = tree * self.inner() + node;
        let left = scaled[usize::from(self.columns[split])] <= f64::from(self.thresholds[split]);
        2 * node + if left { 1 } else { 2 }
    }

    /// Calls `step(column, surprise gained)` for each split of each walk.
    fn walk(&self, scaled: &[f64], mut step: impl FnMut(usize, f64)) {
        let (inner, nodes) = (self.inner(), self.nodes());
        let enough = (self.reference_rows / (10 * self.depth)).max(1);
        for tree in 0..self.trees() {
            let counts = &self.reference[tree * nodes..(tree + 1) * nodes];
            let mut at = 0;
            while at < inner && counts[at] >= enough {
                let next = self.child(tree, at, scaled);
                let gained = (f64::from(counts[at]) + 1.0).log2() - (f64::from(counts[next]) + 1.0).log2() - 1.0;
                step(usize::from(self.columns[tree * inner + at]), gained);
                at = next;
            }
        }
    }

    fn validate(&self) -> Result<(), InvalidModel> {
        let invalid = Err(InvalidModel("the half-space trees do not fit together"));
        if !(1..=MAX_HALF_SPACE_DEPTH).contains(&self.depth) {
            return invalid;
        }
        let (trees, width) = (self.trees(), self.scaler.columns().len());
        let usable = (1..=MAX_HALF_SPACE_TREES as usize).contains(&trees)
            && self.columns.len() == trees * self.inner()
            && self.thresholds.len() == self.columns.len()
            && self.reference.len() == trees * self.nodes()
            && self.latest.len() == self.reference.len()
            && self.columns.iter().all(|column| usize::from(*column) < width)
            && self.thresholds.iter().all(|threshold| f64::from(threshold.abs()) <= 2.0 * CLIP)
            && self.seen < self.window
            && (1..=self.window).contains(&self.reference_rows)
            && self.reference.iter().all(|count| *count <= self.reference_rows)
            && self.latest.iter().all(|count| *count <= self.seen);
        if usable { Ok(()) } else { invalid }
    }
}

impl OneClass for HalfSpaceTrees {
    fn features(&self) -> usize {
        self.scaler.columns().len()
    }

    fn score(&self, row: &[f32]) -> f64 {
        let mut sum = 0.0;
        self.walk(&self.scaler.scale(row), |_, gained| sum += gained);
        sum / self.trees() as f64
    }

    /// What the splits on each column added to the score: they sum to it.
    fn contributions(&self, row: &[f32]) -> Vec<f64> {
        let mut parts = vec![0.0; row.len()];
        let share = 1.0 / self.trees() as f64;
        self.walk(&self.scaler.scale(row), |column, gained| parts[column] += gained * share);
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;

    fn rows(offset: f32) -> Array2<f32> {
        Array2::from_shape_fn((512, 3), |(at, column)| offset + ((at * (7 + column * 4)) % 61) as f32)
    }

    #[test]
    fn the_model_follows_its_traffic() {
        let mut model = HalfSpaceParams::new().window(256).check().unwrap().fit(rows(0.0).view()).unwrap();
        let moved = [70.0, 70.0, 70.0];
        let before = model.score(&moved);
        for row in rows(40.0).rows() {
            model.update(&row.to_vec());
        }
        assert!(model.score(&moved) < before - 0.5);
        assert!(model.score(&[5.0, 5.0, 5.0]) > model.score(&moved));
    }

    #[test]
    fn a_stream_does_not_make_it_grow() {
        let mut model = HalfSpaceParams::new().window(16).check().unwrap().fit(rows(0.0).view()).unwrap();
        let nodes = model.reference.capacity() + model.latest.capacity();
        rows(1e9).rows().into_iter().for_each(|row| model.update(&row.to_vec()));
        assert_eq!(model.reference.capacity() + model.latest.capacity(), nodes);
    }

    #[test]
    fn each_level_counts_each_row_once() {
        let model = HalfSpaceParams::new()
            .trees(2)
            .depth(3)
            .window(512)
            .seed(1)
            .check()
            .unwrap()
            .fit(rows(0.0).view())
            .unwrap();
        assert_eq!(model.reference[0], 512);
        assert_eq!(model.reference[7..15].iter().sum::<u32>(), 512);
        assert_eq!(model.reference[15 + 7..].iter().sum::<u32>(), 512);
    }
}
