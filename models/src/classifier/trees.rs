//! All trees of a classifier in one allocation, and the walks over them.
//!
//! [`Trees::assemble`] is the only way in, for grown trees and for trees read from a file: what it accepts can be walked
//! without a check, ends at a leaf, and has finite values.

use thiserror::Error;

/// Most leaves of a tree.
pub const MAX_LEAVES: u16 = 64;
/// A margin is a sum of at most `MAX_ROUNDS` of these, so it stays finite.
const MAX_VALUE: f32 = 1e6;

/// A node before it has a place: position in the pre-order says the rest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Node {
    /// None in a leaf.
    pub(crate) split: Option<Split>,
    /// What a leaf adds to the margin; of an inner node, what it would add if it were one.
    pub(crate) value: f32,
}

/// Rows with `row[feature] <= threshold` go left, others and NaN right.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Split {
    pub(crate) feature: u16,
    pub(crate) threshold: f32,
}

/// The rule that a sequence of nodes breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum TreesError {
    #[error("the number of trees is not the one described")]
    Count,
    #[error("the last tree is not complete")]
    Incomplete,
    #[error("a tree has too many leaves")]
    TooLarge,
    #[error("a split is on a feature that does not exist")]
    Feature,
    #[error("a threshold is not a finite number")]
    Threshold,
    #[error("the value of a node is out of range")]
    Value,
}

/// Index = node. Trees follow each other, each in pre-order: the left child is the next node.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Trees {
    hot: Vec<Packed>,
    values: Vec<f32>,
    roots: Vec<u32>,
}

/// What a walk reads: eight bytes a node.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Packed {
    threshold: f32,
    feature: u16,
    /// Distance to the right child, at least 2; 0 in a leaf.
    skip: u16,
}

impl Trees {
    /// `count` trees for rows of `features` columns.
    pub(super) fn assemble(nodes: impl Iterator<Item = Node>, count: usize, features: u16) -> Result<Self, TreesError> {
        let mut building =
            Building { trees: Self { hot: vec![], values: vec![], roots: vec![] }, open: vec![], missing: 0 };
        for node in nodes {
            if building.missing == 0 {
                building.begin(count)?;
            }
            building.push(node, features)?;
        }
        if building.missing > 0 {
            return Err(TreesError::Incomplete);
        }
        if building.trees.len() == count { Ok(building.trees) } else { Err(TreesError::Count) }
    }

    /// How many trees there are.
    pub(super) fn len(&self) -> usize {
        self.roots.len()
    }

    /// What `tree` adds to the margin of `row`, which has a value for each column.
    pub(super) fn value(&self, tree: usize, row: &[f32]) -> f64 {
        let mut at = self.roots[tree] as usize;
        while let Some(next) = self.next(at, row) {
            at = next;
        }
        f64::from(self.values[at])
    }

    /// What `tree` adds to the margin of a row of which nothing is known.
    pub(super) fn root_value(&self, tree: usize) -> f64 {
        f64::from(self.values[self.roots[tree] as usize])
    }

    /// Adds what each split on the way of `row` changes to the column it compares. In sum that is the difference of
    /// [`value`](Self::value) and [`root_value`](Self::root_value).
    pub(super) fn attribute(&self, tree: usize, row: &[f32], columns: &mut [f64]) {
        let mut at = self.roots[tree] as usize;
        while let Some(next) = self.next(at, row) {
            columns[usize::from(self.hot[at].feature)] += f64::from(self.values[next]) - f64::from(self.values[at]);
            at = next;
        }
    }

    /// All nodes in order, as [`assemble`](Self::assemble) takes them.
    pub(super) fn nodes(&self) -> impl Iterator<Item = Node> + '_ {
        self.hot.iter().zip(&self.values).map(|(node, value)| {
            let split = Split { feature: node.feature, threshold: node.threshold };
            Node { split: (node.skip > 0).then_some(split), value: *value }
        })
    }

    #[inline]
    fn next(&self, at: usize, row: &[f32]) -> Option<usize> {
        let node = self.hot[at];
        let right = usize::from(node.skip);
        (right > 0).then(|| at + if row[usize::from(node.feature)] <= node.threshold { 1 } else { right })
    }
}

/// Trees, the last of which may lack nodes.
struct Building {
    trees: Trees,
    /// Splits whose right child is yet to come, outermost first.
    open: Vec<usize>,
    /// Nodes that the last tree lacks at least.
    missing: usize,
}

impl Building {
    fn begin(&mut self, count: usize) -> Result<(), TreesError> {
        let root = u32::try_from(self.trees.hot.len()).ok().filter(|_| self.trees.len() < count);
        self.trees.roots.push(root.ok_or(TreesError::Count)?);
        self.missing = 1;
        Ok(())
    }

    fn push(&mut self, node: Node, features: u16) -> Result<(), TreesError> {
        let at = self.trees.hot.len();
        let root = self.trees.roots.last().map_or(at, |root| *root as usize);
        if at - root + self.missing >= 2 * usize::from(MAX_LEAVES) {
            return Err(TreesError::TooLarge);
        }
        if node.value.is_nan() || node.value.abs() > MAX_VALUE {
            return Err(TreesError::Value);
        }
        match node.split {
            Some(Split { feature, .. }) if feature >= features => return Err(TreesError::Feature),
            Some(Split { threshold, .. }) if !threshold.is_finite() => return Err(TreesError::Threshold),
            Some(Split { feature, threshold }) => {
                self.trees.hot.push(Packed { threshold, feature, skip: 0 });
                self.open.push(at);
                self.missing += 1;
            }
            None => {
                self.trees.hot.push(Packed { threshold: 0.0, feature: 0, skip: 0 });
                self.missing -= 1;
                if let Some(parent) = self.open.pop() {
                    let skip = u16::try_from(at + 1 - parent).map_err(|_| TreesError::TooLarge)?;
                    self.trees.hot[parent].skip = skip;
                }
            }
        }
        self.trees.values.push(node.value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(feature: u16, threshold: f32, value: f32) -> Node {
        Node { split: Some(Split { feature, threshold }), value }
    }

    fn leaf(value: f32) -> Node {
        Node { split: None, value }
    }

    fn assemble(nodes: &[Node], count: usize) -> Result<Trees, TreesError> {
        Trees::assemble(nodes.iter().copied(), count, 2)
    }

    #[test]
    fn rows_go_left_up_to_the_threshold_and_right_beyond() {
        let nodes = [split(1, 5.0, 1.0), split(0, 0.0, 2.0), leaf(4.0), leaf(8.0), leaf(16.0), leaf(32.0)];
        let trees = assemble(&nodes, 2).unwrap();
        for (row, value, columns) in [
            ([0.0, 5.0], 4.0, [2.0, 1.0]),
            ([1.0, 5.0], 8.0, [6.0, 1.0]),
            ([f32::NAN, f32::NEG_INFINITY], 8.0, [6.0, 1.0]),
            ([0.0, 6.0], 16.0, [0.0, 15.0]),
            ([0.0, f32::NAN], 16.0, [0.0, 15.0]),
        ] {
            let mut attributed = [0.0; 2];
            trees.attribute(0, &row, &mut attributed);
            assert_eq!((trees.value(0, &row), attributed), (value, columns), "{row:?}");
            assert_eq!(trees.value(1, &row), 32.0);
        }
        assert_eq!(trees.nodes().collect::<Vec<_>>(), nodes);
        assert_eq!((trees.len(), trees.root_value(0)), (2, 1.0));
    }

    #[test]
    fn nodes_that_are_no_trees_are_rejected() {
        let chain: Vec<Node> =
            (0..MAX_LEAVES).flat_map(|_| [split(0, 0.0, 0.0), leaf(0.0)]).chain([leaf(0.0)]).collect();
        for (nodes, count, expected) in [
            (&[][..], 1, TreesError::Count),
            (&[leaf(0.0)], 2, TreesError::Count),
            (&[leaf(0.0), leaf(0.0)], 1, TreesError::Count),
            (&[split(0, 0.0, 0.0)], 1, TreesError::Incomplete),
            (&[split(0, 0.0, 0.0), leaf(0.0)], 1, TreesError::Incomplete),
            (&[split(2, 0.0, 0.0), leaf(0.0), leaf(0.0)], 1, TreesError::Feature),
            (&[split(0, f32::NAN, 0.0), leaf(0.0), leaf(0.0)], 1, TreesError::Threshold),
            (&[split(0, f32::INFINITY, 0.0), leaf(0.0), leaf(0.0)], 1, TreesError::Threshold),
            (&[leaf(f32::NAN)], 1, TreesError::Value),
            (&[leaf(f32::INFINITY)], 1, TreesError::Value),
            (&[leaf(-2.0 * MAX_VALUE)], 1, TreesError::Value),
            (&chain, 1, TreesError::TooLarge),
        ] {
            assert_eq!(assemble(nodes, count), Err(expected), "{nodes:?}");
        }
        assert!(assemble(&chain[2..], 1).is_ok());
    }

    proptest! {
        #[test]
        fn what_is_accepted_can_be_walked(
            shape in prop::collection::vec((any::<bool>(), 0_u16..3, any::<f32>(), -9.0_f32..9.0), 1..40),
            count in 1_usize..4,
            row: [f32; 2],
        ) {
            let node = |(inner, feature, threshold, value)| if inner { split(feature, threshold, value) } else { leaf(value) };
            let nodes: Vec<Node> = shape.into_iter().map(node).collect();
            if let Ok(trees) = assemble(&nodes, count) {
                for tree in 0..count {
                    let mut columns = [0.0; 2];
                    trees.attribute(tree, &row, &mut columns);
                    let sum = trees.root_value(tree) + columns[0] + columns[1];
                    prop_assert!((sum - trees.value(tree, &row)).abs() < 1e-9);
                }
            }
        }
    }
}
