//! All trees of a forest in one allocation, and the walks over them.
//!
//! [`Arena::assemble`] is the only way in, for grown trees and for trees read from a file: what it accepts can be walked
//! without a check, ends within `max_depth` steps and has finite path lengths.

use std::hint::select_unpredictable;

use thiserror::Error;

use super::{MAX_TREES, Node, average_path_length, max_depth};

/// A node before it has a place: position in the pre-order says the rest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum RawNode {
    Split { feature: u16, threshold: f32 },
    Leaf { samples: u32 },
}

/// The rule that a sequence of nodes breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum TreeError {
    #[error("the number of trees is out of range")]
    Trees,
    #[error("the last tree is not complete")]
    Incomplete,
    #[error("a tree is deeper than its sample size allows")]
    TooDeep,
    #[error("a split is on a feature that does not exist")]
    Feature,
    #[error("a threshold is not a finite number")]
    Threshold,
    #[error("the leaves of a tree do not hold its sample")]
    Samples,
}

/// Struct of arrays; index = node. Trees follow each other, each in pre-order: the left child is the next node.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Arena {
    hot: Vec<Packed>,
    /// `depth + c(samples)`: of a leaf its path length, of an inner node what to expect there.
    expected_path: Vec<f64>,
    samples: Vec<u32>,
    roots: Vec<u32>,
    /// Depth of the deepest leaf.
    depth: u32,
}

/// What a walk reads: eight bytes a node.
#[derive(Clone, Copy, Debug)]
struct Packed {
    threshold: f32,
    feature: u16,
    /// Distance to the right child, at least 2. A leaf has 0 and the threshold NaN: a walk stays there.
    skip: u16,
}

const LEAF: Packed = Packed { threshold: f32::NAN, feature: 0, skip: 0 };
/// Trees walked at the same time, so that the processor waits for several loads at once.
const LANES: usize = 8;

impl Arena {
    /// Lays out `nodes`, whole trees in pre-order one after the other, each grown on `sample_size` rows of `features`
    /// columns. Allocates 20 bytes a node, as many nodes as `nodes` says it has.
    pub(super) fn assemble<E: From<TreeError>>(
        nodes: impl ExactSizeIterator<Item = Result<RawNode, E>>,
        features: u16,
        sample_size: u32,
    ) -> Result<Self, E> {
        let mut builder = Builder::new(nodes.len(), features, sample_size);
        for node in nodes {
            builder.push(node?)?;
        }
        Ok(builder.finish()?)
    }

    pub(super) fn trees(&self) -> u32 {
        u32::try_from(self.roots.len()).expect("at most MAX_TREES")
    }

    pub(super) fn node_count(&self) -> usize {
        self.hot.len()
    }

    pub(super) fn nodes(&self, tree: u32) -> impl ExactSizeIterator<Item = Node> + '_ {
        let tree = tree as usize;
        let start = self.roots.get(tree).map_or(self.hot.len(), |&root| root as usize);
        let end = self.roots.get(tree + 1).map_or(self.hot.len(), |&root| root as usize);
        (start..end).map(move |at| match self.hot[at] {
            Packed { skip: 0, .. } => Node::Leaf { samples: self.samples[at], path_length: self.expected_path[at] },
            Packed { threshold, feature, skip } => {
                Node::Split { feature: usize::from(feature), threshold, right: at - start + usize::from(skip) }
            }
        })
    }

    /// The first node of each tree.
    pub(super) fn roots(&self) -> &[u32] {
        &self.roots
    }

    /// `depth + c(samples)` of a node.
    pub(super) fn expected_path(&self, node: u32) -> f64 {
        self.expected_path[node as usize]
    }

    /// Feature, threshold and right child of a split, whose left child is the next node; none for a leaf.
    pub(super) fn split(&self, node: u32) -> Option<(u16, f32, u32)> {
        let Packed { threshold, feature, skip } = self.hot[node as usize];
        (skip != 0).then(|| (feature, threshold, node + u32::from(skip)))
    }

    /// Sum of `h(row)` over the trees, always added in the same order.
    pub(super) fn path_sum(&self, row: &[f32]) -> f64 {
        let mut sum = 0.0;
        let (groups, rest) = self.roots.as_chunks::<LANES>();
        for roots in groups {
            let mut lanes = *roots;
            for _ in 0..self.depth {
                for at in &mut lanes {
                    *at = self.step(*at, row);
                }
            }
            for leaf in lanes {
                sum += self.expected_path[leaf as usize];
            }
        }
        for &root in rest {
            let leaf = (0..self.depth).fold(root, |at, _| self.step(at, row));
            sum += self.expected_path[leaf as usize];
        }
        sum
    }

    /// Calls `credit(feature, splits saved)` for each split that `row` passes, tree by tree from the root down.
    pub(super) fn for_each_split(&self, row: &[f32], mut credit: impl FnMut(usize, f64)) {
        for &root in &self.roots {
            let mut at = root;
            while self.hot[at as usize].skip != 0 {
                let child = self.step(at, row);
                let saved = self.expected_path[at as usize] - self.expected_path[child as usize];
                credit(usize::from(self.hot[at as usize].feature), saved);
                at = child;
            }
        }
    }

    /// The child of `at` on the way of `row`; a leaf is its own child. NaN is larger than every threshold.
    ///
    /// Which way a row goes cannot be predicted: with a conditional jump here a forest takes six times as long.
    #[inline(always)]
    fn step(&self, at: u32, row: &[f32]) -> u32 {
        let node = &self.hot[at as usize];
        let goes_left = row[usize::from(node.feature)] <= node.threshold;
        at + select_unpredictable(goes_left, 1, u32::from(node.skip))
    }
}

impl PartialEq for Packed {
    /// By bits, so that a leaf equals a leaf.
    fn eq(&self, other: &Self) -> bool {
        (self.threshold.to_bits(), self.feature, self.skip) == (other.threshold.to_bits(), other.feature, other.skip)
    }
}

/// Places nodes one by one. `open` are the splits from the root to the node that comes next.
struct Builder {
    arena: Arena,
    open: Vec<Open>,
    features: u16,
    sample_size: u32,
}

/// A split whose children are still coming.
struct Open {
    node: usize,
    /// Training rows in the left child, once it is complete.
    left: Option<u32>,
}

impl Builder {
    fn new(nodes: usize, features: u16, sample_size: u32) -> Self {
        let arena = Arena {
            hot: Vec::with_capacity(nodes),
            expected_path: Vec::with_capacity(nodes),
            samples: Vec::with_capacity(nodes),
            roots: Vec::new(),
            depth: 0,
        };
        Self { arena, open: Vec::new(), features, sample_size }
    }

    fn push(&mut self, node: RawNode) -> Result<(), TreeError> {
        let at = self.arena.hot.len();
        let depth = u32::try_from(self.open.len()).map_err(|_| TreeError::TooDeep)?;
        if depth == 0 {
            self.begin_tree(at)?;
        }
        match node {
            RawNode::Split { feature, threshold } => {
                if depth >= max_depth(self.sample_size) {
                    return Err(TreeError::TooDeep);
                }
                if feature >= self.features {
                    return Err(TreeError::Feature);
                }
                if !threshold.is_finite() {
                    return Err(TreeError::Threshold);
                }
                self.place(Packed { threshold, feature, skip: 0 }, 0.0, 0);
                self.open.push(Open { node: at, left: None });
                Ok(())
            }
            RawNode::Leaf { samples } => {
                if !(1..=self.sample_size).contains(&samples) {
                    return Err(TreeError::Samples);
                }
                self.place(LEAF, expected_path(depth, samples), samples);
                self.arena.depth = self.arena.depth.max(depth);
                self.close(samples)
            }
        }
    }

    fn begin_tree(&mut self, root: usize) -> Result<(), TreeError> {
        if self.arena.roots.len() == MAX_TREES as usize {
            return Err(TreeError::Trees);
        }
        self.arena.roots.push(u32::try_from(root).map_err(|_| TreeError::Trees)?);
        Ok(())
    }

    fn place(&mut self, packed: Packed, expected_path: f64, samples: u32) {
        self.arena.hot.push(packed);
        self.arena.expected_path.push(expected_path);
        self.arena.samples.push(samples);
    }

    /// A subtree of `samples` training rows is complete, and with it each split whose right child it ends.
    fn close(&mut self, mut samples: u32) -> Result<(), TreeError> {
        while let Some(mut parent) = self.open.pop() {
            let Some(left) = parent.left else {
                parent.left = Some(samples);
                let skip = u16::try_from(self.arena.hot.len() - parent.node).map_err(|_| TreeError::Samples)?;
                self.arena.hot[parent.node].skip = skip;
                self.open.push(parent);
                return Ok(());
            };
            samples = left.checked_add(samples).filter(|sum| *sum <= self.sample_size).ok_or(TreeError::Samples)?;
            let depth = u32::try_from(self.open.len()).map_err(|_| TreeError::TooDeep)?;
            self.arena.expected_path[parent.node] = expected_path(depth, samples);
            self.arena.samples[parent.node] = samples;
        }
        if samples == self.sample_size { Ok(()) } else { Err(TreeError::Samples) }
    }

    fn finish(self) -> Result<Arena, TreeError> {
        if !self.open.is_empty() {
            return Err(TreeError::Incomplete);
        }
        if self.arena.roots.is_empty() {
            return Err(TreeError::Trees);
        }
        Ok(self.arena)
    }
}

fn expected_path(depth: u32, samples: u32) -> f64 {
    f64::from(depth) + average_path_length(samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: RawNode = RawNode::Split { feature: 1, threshold: 0.5 };

    fn leaf(samples: u32) -> RawNode {
        RawNode::Leaf { samples }
    }

    fn assemble(nodes: &[RawNode]) -> Result<Arena, TreeError> {
        Arena::assemble(nodes.iter().copied().map(Ok::<_, TreeError>), 2, 4)
    }

    #[test]
    fn a_walk_follows_the_thresholds() {
        let root = RawNode::Split { feature: 0, threshold: 10.0 };
        let arena = assemble(&[root, NODE, leaf(1), leaf(2), leaf(1)]).unwrap();
        for (row, expected) in [
            ([10.0, 0.5], 2.0),
            ([10.0, 0.6], 3.0),
            ([10.1, 0.5], 1.0),
            ([f32::NEG_INFINITY, f32::NEG_INFINITY], 2.0),
            ([f32::INFINITY, 0.0], 1.0),
            ([f32::NAN, 0.0], 1.0),
            ([0.0, f32::NAN], 3.0),
        ] {
            assert_eq!(arena.path_sum(&row), expected, "{row:?}");
        }
    }

    #[test]
    fn children_come_after_their_parent() {
        let arena = assemble(&[NODE, NODE, leaf(1), leaf(2), leaf(1), leaf(4)]).unwrap();
        let right_of = |tree| {
            arena
                .nodes(tree)
                .map(|node| if let Node::Split { right, .. } = node { right } else { 0 })
                .collect::<Vec<_>>()
        };
        assert_eq!(right_of(0), [4, 3, 0, 0, 0]);
        assert_eq!(right_of(1), [0]);
        assert_eq!(right_of(2), [0; 0]);
    }

    #[test]
    fn broken_trees_are_rejected() {
        let on = |feature, threshold| RawNode::Split { feature, threshold };
        for (nodes, expected) in [
            (vec![], TreeError::Trees),
            (vec![leaf(4); 1025], TreeError::Trees),
            (vec![NODE], TreeError::Incomplete),
            (vec![NODE, leaf(2)], TreeError::Incomplete),
            (vec![leaf(4), NODE, leaf(2)], TreeError::Incomplete),
            (vec![NODE, NODE, NODE], TreeError::TooDeep),
            (vec![on(2, 0.0), leaf(2), leaf(2)], TreeError::Feature),
            (vec![on(u16::MAX, 0.0), leaf(2), leaf(2)], TreeError::Feature),
            (vec![on(0, f32::NAN), leaf(2), leaf(2)], TreeError::Threshold),
            (vec![on(0, f32::INFINITY), leaf(2), leaf(2)], TreeError::Threshold),
            (vec![leaf(0)], TreeError::Samples),
            (vec![leaf(3)], TreeError::Samples),
            (vec![leaf(u32::MAX)], TreeError::Samples),
            (vec![NODE, leaf(0), leaf(4)], TreeError::Samples),
            (vec![NODE, leaf(4), leaf(4)], TreeError::Samples),
            (vec![NODE, leaf(1), leaf(2)], TreeError::Samples),
        ] {
            assert_eq!(assemble(&nodes), Err(expected), "{nodes:?}");
        }
    }
}
