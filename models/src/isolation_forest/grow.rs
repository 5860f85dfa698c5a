//! Grows the trees: sub-samples, random splits, pre-order output.

use ndarray::ArrayView2;
use rand::{Rng as _, RngCore as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::params::ValidParams;
use super::{RawNode, max_depth};

/// Nodes of all trees, each tree in pre-order. `sample_size` is at most the number of rows.
///
/// ChaCha8 and ranges of `u32` only: the same numbers on 32-bit and 64-bit platforms of either byte order.
pub(super) fn forest(rows: ArrayView2<'_, f32>, params: &ValidParams, sample_size: u32) -> Vec<RawNode> {
    let count = u32::try_from(rows.nrows()).expect("the number of rows was checked");
    let features = u16::try_from(rows.ncols()).expect("the number of columns was checked");
    let mut rng = ChaCha8Rng::seed_from_u64(params.seed());
    let mut order: Vec<u32> = (0..count).collect();
    let mut tree = Tree {
        sample: Vec::new(),
        features: (0..features).collect(),
        max_depth: max_depth(sample_size),
        nodes: Vec::new(),
    };
    for _ in 0..params.trees() {
        tree.sample.clear();
        for &row in draw(&mut order, sample_size, &mut rng) {
            tree.sample.extend(rows.row(row as usize));
        }
        let mut members: Vec<u32> = (0..sample_size).collect();
        tree.grow(&mut members, 0, &mut rng);
    }
    tree.nodes
}

/// Moves `amount` elements of `order`, chosen without replacement, to the front, and returns them.
pub(crate) fn draw<'a>(order: &'a mut [u32], amount: u32, rng: &mut ChaCha8Rng) -> &'a [u32] {
    let count = u32::try_from(order.len()).expect("indices are counted in 32 bits");
    for next in 0..amount {
        order.swap(next as usize, rng.gen_range(next..count) as usize);
    }
    &order[..amount as usize]
}

struct Tree {
    /// The sub-sample, row-major.
    sample: Vec<f32>,
    /// Permutation of the feature indices: scratch space.
    features: Vec<u16>,
    max_depth: u32,
    nodes: Vec<RawNode>,
}

struct Split {
    feature: u16,
    threshold: f32,
}

impl Tree {
    /// Recurses at most `max_depth` deep, which is at most 13.
    fn grow(&mut self, members: &mut [u32], depth: u32, rng: &mut ChaCha8Rng) {
        let samples = u32::try_from(members.len()).expect("a sub-sample has at most MAX_SAMPLE_SIZE rows");
        if depth == self.max_depth || samples < 2 {
            return self.nodes.push(RawNode::Leaf { samples });
        }
        let Some(Split { feature, threshold }) = self.split(members, rng) else {
            return self.nodes.push(RawNode::Leaf { samples });
        };
        self.nodes.push(RawNode::Split { feature, threshold });
        let middle = partition(members, |member| self.value(member, feature) <= threshold);
        let (left, right) = members.split_at_mut(middle);
        self.grow(left, depth + 1, rng);
        self.grow(right, depth + 1, rng);
    }

    /// A feature uniform among those that vary within `members`, and a threshold uniform over its range that leaves
    /// both sides occupied.
    fn split(&mut self, members: &[u32], rng: &mut ChaCha8Rng) -> Option<Split> {
        let count = u32::try_from(self.features.len()).expect("at most MAX_FEATURES");
        for tried in 0..count {
            self.features.swap(tried as usize, rng.gen_range(tried..count) as usize);
            let feature = self.features[tried as usize];
            let (min, max) = self.range(members, feature);
            if min < max {
                return Some(Split { feature, threshold: uniform(min, max, rng) });
            }
        }
        None
    }

    fn range(&self, members: &[u32], feature: u16) -> (f32, f32) {
        members.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(min, max), &member| {
            let value = self.value(member, feature);
            (min.min(value), max.max(value))
        })
    }

    fn value(&self, member: u32, feature: u16) -> f32 {
        self.sample[member as usize * self.features.len() + usize::from(feature)]
    }
}

/// Uniform in `[min, max)`. The width is taken in `f64`, where it cannot overflow.
#[expect(clippy::cast_possible_truncation, reason = "rounds to the nearest f32; rounding up to max is undone")]
fn uniform(min: f32, max: f32, rng: &mut ChaCha8Rng) -> f32 {
    const UNIT: f64 = 1.0 / (1_u64 << 32) as f64;
    let fraction = f64::from(rng.next_u32()) * UNIT;
    let threshold = (f64::from(min) + fraction * (f64::from(max) - f64::from(min))) as f32;
    if threshold < max { threshold } else { min }
}

/// Moves the members that `belongs` accepts to the front; returns how many there are.
fn partition(members: &mut [u32], belongs: impl Fn(u32) -> bool) -> usize {
    let mut front = 0;
    for at in 0..members.len() {
        if belongs(members[at]) {
            members.swap(front, at);
            front += 1;
        }
    }
    front
}
