//! One regression tree, grown best split first on histograms of gradients.
//!
//! Source: the gain and leaf value of Chen, Guestrin, "XGBoost" (KDD 2016), section 2.2; histograms, growth by leaf and
//! the difference of histograms as in Ke et al., "LightGBM" (NIPS 2017).

use super::bins::{BINS, Bins};
use super::params::ClassifierParams;
use super::trees::{Node, Split};

/// Least sum of second derivatives in a leaf: below it all rows are as good as certain.
const MIN_HESSIAN: f64 = 1e-3;
/// Gains below are the rounding of sums.
const MIN_GAIN: f64 = 1e-9;

/// First and second derivative of the loss by the margin, for each row.
pub(super) struct Derivatives {
    pub(super) gradient: Vec<f64>,
    pub(super) hessian: Vec<f64>,
}

/// A tree, and the value of the leaf that each training row is in.
pub(super) struct Grown {
    /// Pre-order.
    pub(super) nodes: Vec<Node>,
    pub(super) step: Vec<f32>,
}

/// Sums over some rows.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    gradient: f64,
    hessian: f64,
    rows: f64,
}

/// A leaf of the tree so far.
struct Leaf {
    /// Node in [`Growing::nodes`].
    node: usize,
    rows: Vec<u32>,
    /// One run of [`BINS`] for each column.
    histogram: Vec<Sums>,
    best: Option<Best>,
}

/// The split of a leaf that lowers the loss most.
#[derive(Clone, Copy)]
struct Best {
    gain: f64,
    column: u32,
    /// Last step that goes left.
    step: usize,
}

/// A node with the places of its children, left then right.
struct Linked {
    node: Node,
    children: Option<[usize; 2]>,
}

struct Growing<'a> {
    params: &'a ClassifierParams,
    bins: &'a Bins,
    derivatives: &'a Derivatives,
    /// Columns the tree may use.
    columns: &'a [u32],
    nodes: Vec<Linked>,
}

/// Grows a tree on all rows that uses only `columns`, each of which is a column of `bins`.
pub(super) fn grow(params: &ClassifierParams, bins: &Bins, derivatives: &Derivatives, columns: &[u32]) -> Grown {
    let mut growing = Growing { params, bins, derivatives, columns, nodes: Vec::new() };
    let count = u32::try_from(bins.rows()).expect("the number of rows was checked");
    let all: Vec<u32> = (0..count).collect();
    let histogram = growing.histogram(&all);
    let mut leaves = vec![growing.leaf(all, histogram)];
    while leaves.len() < usize::from(params.leaves) {
        let Some((at, best)) = most_gain(&leaves) else { break };
        let leaf = leaves.swap_remove(at);
        leaves.extend(growing.split(leaf, best));
    }
    let mut step = vec![0.0; bins.rows()];
    for leaf in &leaves {
        let value = growing.nodes[leaf.node].node.value;
        leaf.rows.iter().for_each(|row| step[*row as usize] = value);
    }
    Grown { nodes: growing.pre_order(), step }
}

/// The leaf to split next and how; of equal gains, the one whose node came first.
fn most_gain(leaves: &[Leaf]) -> Option<(usize, Best)> {
    let splits = leaves.iter().enumerate().filter_map(|(at, leaf)| Some((at, leaf.best?, leaf.node)));
    splits.max_by(|a, b| a.1.gain.total_cmp(&b.1.gain).then(b.2.cmp(&a.2))).map(|(at, best, _)| (at, best))
}

impl Growing<'_> {
    /// Makes `rows` a leaf.
    fn leaf(&mut self, rows: Vec<u32>, histogram: Vec<Sums>) -> Leaf {
        let sums = rows.iter().fold(Sums::default(), |sums, row| sums.with(self.derivatives, *row));
        let value = -self.params.learning_rate * sums.gradient / (sums.hessian + self.params.l2);
        self.nodes.push(Linked { node: Node { split: None, value: narrow(value) }, children: None });
        let best = self.best(&histogram, sums);
        Leaf { node: self.nodes.len() - 1, rows, histogram, best }
    }

    fn split(&mut self, leaf: Leaf, Best { column, step, .. }: Best) -> [Leaf; 2] {
        let column = column as usize;
        let steps = self.bins.steps(column);
        let (left, right): (Vec<u32>, Vec<u32>) =
            leaf.rows.iter().partition(|row| usize::from(steps[**row as usize]) <= step);
        let left_is_small = left.len() <= right.len();
        let small = self.histogram(if left_is_small { &left } else { &right });
        let mut large = leaf.histogram;
        large.iter_mut().zip(&small).for_each(|(all, part)| *all = all.without(*part));
        let (left_histogram, right_histogram) = if left_is_small { (small, large) } else { (large, small) };
        let children = [self.leaf(left, left_histogram), self.leaf(right, right_histogram)];
        let parent = &mut self.nodes[leaf.node];
        let feature = u16::try_from(column).expect("at most MAX_FEATURES columns");
        parent.node.split = Some(Split { feature, threshold: self.bins.cuts(column)[step] });
        parent.children = Some([children[0].node, children[1].node]);
        children
    }

    fn histogram(&self, rows: &[u32]) -> Vec<Sums> {
        let mut histogram = vec![Sums::default(); self.columns.len() * BINS];
        for (column, sums) in self.columns.iter().zip(histogram.chunks_exact_mut(BINS)) {
            let steps = self.bins.steps(*column as usize);
            for row in rows {
                let bin = &mut sums[usize::from(steps[*row as usize])];
                *bin = bin.with(self.derivatives, *row);
            }
        }
        histogram
    }

    fn best(&self, histogram: &[Sums], all: Sums) -> Option<Best> {
        let mut best: Option<Best> = None;
        for (column, bins) in self.columns.iter().zip(histogram.chunks_exact(BINS)) {
            let mut left = Sums::default();
            for (step, bin) in bins[..self.bins.cuts(*column as usize).len()].iter().enumerate() {
                left = left.and(*bin);
                let right = all.without(left);
                if bin.rows > 0.0 && self.is_leaf(left) && self.is_leaf(right) {
                    let gain = self.worth(left) + self.worth(right) - self.worth(all);
                    if gain > best.map_or(MIN_GAIN, |best| best.gain) {
                        best = Some(Best { gain, column: *column, step });
                    }
                }
            }
        }
        best
    }

    fn is_leaf(&self, sums: Sums) -> bool {
        sums.rows >= f64::from(self.params.min_rows) && sums.hessian >= MIN_HESSIAN
    }

    /// Twice what a leaf lowers the loss.
    fn worth(&self, sums: Sums) -> f64 {
        sums.gradient * sums.gradient / (sums.hessian + self.params.l2)
    }

    fn pre_order(&self) -> Vec<Node> {
        let mut nodes = Vec::with_capacity(self.nodes.len());
        let mut waiting = vec![0];
        while let Some(at) = waiting.pop() {
            let Linked { node, children } = &self.nodes[at];
            nodes.push(*node);
            if let Some([left, right]) = *children {
                waiting.extend([right, left]);
            }
        }
        nodes
    }
}

impl Sums {
    fn with(self, derivatives: &Derivatives, row: u32) -> Self {
        let row = row as usize;
        self.and(Self { gradient: derivatives.gradient[row], hessian: derivatives.hessian[row], rows: 1.0 })
    }

    fn and(self, other: Self) -> Self {
        Self {
            gradient: self.gradient + other.gradient,
            hessian: self.hessian + other.hessian,
            rows: self.rows + other.rows,
        }
    }

    fn without(self, other: Self) -> Self {
        Self {
            gradient: self.gradient - other.gradient,
            hessian: self.hessian - other.hessian,
            rows: self.rows - other.rows,
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "leaves are small numbers; the last digits do not matter")]
fn narrow(value: f64) -> f32 {
    value as f32
}
