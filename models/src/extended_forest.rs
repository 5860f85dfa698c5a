//! Extended Isolation Forest: splits along random slopes, so that no axis is special.
//!
//! As [`isolation_forest`](crate::isolation_forest), but a node compares a random combination of columns with a random
//! offset: `w . x <= w . p`, with `w` normal in a few random columns and `p` uniform in the box of the node's rows.
//! Columns are scaled before, since a slope mixes their units. Scores are those of the forest.
//!
//! Source: Hariri, Carrasco Kind, Brunner, "Extended Isolation Forest", IEEE TKDE 33 (2019).

mod params;

use ndarray::{Array2, ArrayView2, Axis};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::isolation_forest::{FitError, MAX_SAMPLE_SIZE, MAX_TREES, average_path_length, draw, max_depth};
use crate::model::{InvalidModel, checked_serde};
use crate::one_class::OneClass;
use crate::scale::{CLIP, Scaler, narrow};

pub use params::{ExtendedForestParams, ExtendedForestParamsError, MAX_SLOPE, ValidExtendedForestParams};

/// A fitted forest. Struct of arrays; index = node; trees follow each other, each in pre-order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct ExtendedForest {
    scaler: Scaler,
    sample_size: u32,
    slope: usize,
    roots: Vec<u32>,
    /// Distance to the right child; 0 in a leaf. The left child is the next node.
    skip: Vec<u32>,
    /// Training rows.
    samples: Vec<u32>,
    offsets: Vec<f32>,
    /// `slope` columns and weights for each node, 0 in a leaf.
    columns: Vec<u16>,
    weights: Vec<f32>,
}

checked_serde!(ExtendedForest);

impl ValidExtendedForestParams {
    /// Fits a forest to `rows`.
    ///
    /// # Errors
    /// Fewer than two rows, no or too many columns, or a value that is not finite.
    pub fn fit(&self, rows: ArrayView2<'_, f32>) -> Result<ExtendedForest, FitError> {
        let scaler = Scaler::fit(rows)?;
        let count = u32::try_from(rows.nrows()).map_err(|_| FitError::TooManyRows(rows.nrows()))?;
        let sample_size = self.0.sample_size.min(count);
        let mut rng = ChaCha8Rng::seed_from_u64(self.0.seed);
        let mut order: Vec<u32> = (0..count).collect();
        let mut forest = ExtendedForest {
            scaler,
            sample_size,
            slope: self.0.slope.min(rows.ncols()),
            roots: Vec::new(),
            skip: Vec::new(),
            samples: Vec::new(),
            offsets: Vec::new(),
            columns: Vec::new(),
            weights: Vec::new(),
        };
        for _ in 0..self.0.trees {
            let chosen: Vec<usize> = draw(&mut order, sample_size, &mut rng).iter().map(|row| *row as usize).collect();
            let sample = forest.scaler.scale_rows(rows.select(Axis(0), &chosen).view());
            forest.roots.push(forest.next_node());
            forest.grow(&sample, &(0..chosen.len()).collect::<Vec<_>>(), 0, &mut rng);
        }
        Ok(forest)
    }
}

struct Split {
    columns: Vec<u16>,
    weights: Vec<f32>,
    offset: f32,
}

impl Split {
    /// Through a random point of the box of `members`.
    fn random(sample: &Array2<f64>, members: &[usize], slope: usize, rng: &mut ChaCha8Rng) -> Self {
        let mut split = Self { columns: Vec::new(), weights: Vec::new(), offset: 0.0 };
        let mut order: Vec<u32> = (0..u32::try_from(sample.ncols()).expect("at most MAX_FEATURES")).collect();
        let count = u32::try_from(order.len()).expect("at most MAX_FEATURES");
        let mut offset = 0.0;
        for next in 0..count {
            order.swap(next as usize, rng.gen_range(next..count) as usize);
            let column = order[next as usize];
            let values = members.iter().map(|row| sample[[*row, column as usize]]);
            let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
            if low < high {
                let weight = narrow(normal(rng));
                offset += f64::from(weight) * rng.gen_range(low..high);
                split.columns.push(u16::try_from(column).expect("at most MAX_FEATURES"));
                split.weights.push(weight);
            }
            if split.columns.len() == slope {
                break;
            }
        }
        split.offset = narrow(offset);
        split.columns.resize(slope, 0);
        split.weights.resize(slope, 0.0);
        split
    }

    fn goes_left(&self, row: ndarray::ArrayView1<'_, f64>) -> bool {
        let sum: f64 = self.columns.iter().zip(&self.weights).map(|(c, w)| f64::from(*w) * row[usize::from(*c)]).sum();
        sum <= f64::from(self.offset)
    }
}

/// Standard normal (Box, Muller 1958).
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.r#gen::<f64>()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.r#gen::<f64>()).cos()
}

impl ExtendedForest {
    /// Number of trees.
    #[must_use]
    pub fn trees(&self) -> usize {
        self.roots.len()
    }

    fn next_node(&self) -> u32 {
        u32::try_from(self.skip.len()).expect("MAX_TREES trees have fewer nodes")
    }

    fn grow(&mut self, sample: &Array2<f64>, members: &[usize], depth: u32, rng: &mut ChaCha8Rng) {
        const ATTEMPTS: u32 = 8;
        let at = self.skip.len();
        self.skip.push(0);
        self.samples.push(u32::try_from(members.len()).expect("at most MAX_SAMPLE_SIZE"));
        self.offsets.push(0.0);
        self.columns.extend(std::iter::repeat_n(0, self.slope));
        self.weights.extend(std::iter::repeat_n(0.0, self.slope));
        if depth == max_depth(self.sample_size) || members.len() < 2 {
            return;
        }
        for _ in 0..ATTEMPTS {
            let split = Split::random(sample, members, self.slope, rng);
            let (left, right): (Vec<usize>, Vec<usize>) =
                members.iter().partition(|row| split.goes_left(sample.row(**row)));
            if left.is_empty() || right.is_empty() {
                continue;
            }
            self.offsets[at] = split.offset;
            self.columns[at * self.slope..(at + 1) * self.slope].copy_from_slice(&split.columns);
            self.weights[at * self.slope..(at + 1) * self.slope].copy_from_slice(&split.weights);
            self.grow(sample, &left, depth + 1, rng);
            self.skip[at] = u32::try_from(self.skip.len() - at).expect("a tree has fewer than 2^14 nodes");
            self.grow(sample, &right, depth + 1, rng);
            return;
        }
    }

    fn terms(&self, at: usize) -> impl Iterator<Item = (usize, f64)> + '_ {
        let range = at * self.slope..(at + 1) * self.slope;
        self.columns[range.clone()].iter().zip(&self.weights[range]).map(|(c, w)| (usize::from(*c), f64::from(*w)))
    }

    fn child(&self, at: usize, scaled: &[f64]) -> usize {
        let sum: f64 = self.terms(at).map(|(column, weight)| weight * scaled[column]).sum();
        if sum <= f64::from(self.offsets[at]) { at + 1 } else { at + self.skip[at] as usize }
    }

    /// The leaf of a walk and its depth, telling `visit(node, child, depth of node)` of each split.
    fn walk(&self, root: u32, scaled: &[f64], mut visit: impl FnMut(usize, usize, u32)) -> (usize, u32) {
        let (mut at, mut depth) = (root as usize, 0);
        while self.skip[at] != 0 {
            let child = self.child(at, scaled);
            visit(at, child, depth);
            (at, depth) = (child, depth + 1);
        }
        (at, depth)
    }

    fn expected_path(&self, at: usize, depth: u32) -> f64 {
        f64::from(depth) + average_path_length(self.samples[at])
    }

    fn validate(&self) -> Result<(), InvalidModel> {
        let invalid = Err(InvalidModel("the trees of the extended forest do not fit together"));
        let (nodes, width) = (self.skip.len(), self.scaler.columns().len());
        let sizes = (2..=MAX_SAMPLE_SIZE).contains(&self.sample_size)
            && (1..=MAX_SLOPE).contains(&self.slope)
            && (1..=MAX_TREES as usize).contains(&self.roots.len())
            && self.samples.len() == nodes
            && self.offsets.len() == nodes
            && self.columns.len() == nodes * self.slope
            && self.weights.len() == self.columns.len();
        let values = self.columns.iter().all(|column| usize::from(*column) < width)
            && self.weights.iter().all(|weight| f64::from(weight.abs()) <= CLIP)
            && self.offsets.iter().all(|offset| offset.is_finite());
        if !sizes || !values {
            return invalid;
        }
        let mut next = 0;
        for root in &self.roots {
            let whole = *root as usize == next && self.samples.get(next) == Some(&self.sample_size);
            match self.end_of_tree(next, 0) {
                Some(end) if whole => next = end,
                _ => return invalid,
            }
        }
        if next == nodes { Ok(()) } else { invalid }
    }

    /// The node after the subtree at `at`, if that subtree is whole.
    fn end_of_tree(&self, at: usize, depth: u32) -> Option<usize> {
        let (skip, samples) = (*self.skip.get(at)? as usize, self.samples[at]);
        if skip == 0 {
            return (samples > 0).then_some(at + 1);
        }
        if depth == max_depth(self.sample_size) || self.end_of_tree(at + 1, depth + 1)? != at + skip {
            return None;
        }
        let end = self.end_of_tree(at + skip, depth + 1)?;
        (self.samples[at + 1].checked_add(self.samples[at + skip])? == samples).then_some(end)
    }
}

impl OneClass for ExtendedForest {
    fn features(&self) -> usize {
        self.scaler.columns().len()
    }

    fn score(&self, row: &[f32]) -> f64 {
        let scaled = self.scaler.scale(row);
        let path = |root: &u32| {
            let (leaf, depth) = self.walk(*root, &scaled, |_, _, _| {});
            self.expected_path(leaf, depth)
        };
        let mean = self.roots.iter().map(path).sum::<f64>() / self.trees() as f64;
        (-mean / average_path_length(self.sample_size)).exp2()
    }

    /// Splits saved, as those of [`IsolationForest`](crate::IsolationForest): what a split saved is shared among its
    /// columns by the size of their terms. They sum to `c(psi) * (1 + log2(score))`.
    fn contributions(&self, row: &[f32]) -> Vec<f64> {
        let scaled = self.scaler.scale(row);
        let mut credits = vec![0.0; row.len()];
        let share = 1.0 / self.trees() as f64;
        for root in &self.roots {
            self.walk(*root, &scaled, |at, child, depth| {
                let saved = (self.expected_path(at, depth) - self.expected_path(child, depth + 1)) * share;
                let size = |(column, weight): (usize, f64)| (weight * scaled[column]).abs() + 1e-12;
                let total: f64 = self.terms(at).map(size).sum();
                self.terms(at).for_each(|(column, weight)| credits[column] += saved * size((column, weight)) / total);
            });
        }
        credits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring() -> Array2<f32> {
        Array2::from_shape_fn((1000, 2), |(at, column)| {
            let angle = at as f32 * 0.006_283;
            let radius = 10.0 + ((at * 7) % 11) as f32 / 11.0;
            radius * if column == 0 { angle.sin() } else { angle.cos() }
        })
    }

    #[test]
    fn credits_sum_to_the_paths_saved() {
        let forest = ExtendedForestParams::new().slope(2).check().unwrap().fit(ring().view()).unwrap();
        let row = [30.0, -2.0];
        let expected = average_path_length(forest.sample_size) * (1.0 + forest.score(&row).log2());
        assert!((forest.contributions(&row).iter().sum::<f64>() - expected).abs() < 1e-9);
    }

    #[test]
    fn the_hole_of_a_ring_is_less_normal_than_the_ring() {
        let forest = ExtendedForestParams::new().slope(2).check().unwrap().fit(ring().view()).unwrap();
        let on_ring: Vec<f64> = ring().rows().into_iter().map(|row| forest.score(&row.to_vec())).collect();
        let usual = on_ring.iter().sum::<f64>() / on_ring.len() as f64;
        assert!(forest.score(&[0.0, 0.0]) > usual);
    }
}
