//! A forest from the trees of another library, such as those of a fitted scikit-learn forest.

use thiserror::Error;

use super::{IsolationForest, MAX_FEATURES, MAX_SAMPLE_SIZE, RawNode, TreeError};

/// One tree as parallel arrays, index = node, the root at 0; as `sklearn.tree._tree.Tree` shows it. Nodes may come in
/// any order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TreeParts<'a> {
    /// Column a node compares. Not read in leaves.
    pub feature: &'a [i64],
    /// Rows with `row[feature] <= threshold` go left. Not read in leaves.
    pub threshold: &'a [f64],
    /// Node of the left child; in a leaf the same as `right`.
    pub left: &'a [i64],
    /// Node of the right child.
    pub right: &'a [i64],
    /// Training rows that reached the node. Read in leaves only.
    pub samples: &'a [i64],
}

/// Trees that are not those of an Isolation Forest.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PartsError {
    /// A sample size that no tree can have.
    #[error("a sample size of {0} rows: between 2 and {MAX_SAMPLE_SIZE} are supported")]
    SampleSize(u32),
    /// A number of columns that no row can have.
    #[error("{0} feature columns: between 1 and {MAX_FEATURES} are supported")]
    Columns(u16),
    /// Arrays that are not of the same length.
    #[error("the arrays of tree {0} do not have one value for each node")]
    Lengths(usize),
    /// A child that does not exist, that two nodes share, or a node that no other leads to.
    #[error("the nodes of tree {0} do not form one tree")]
    Links(usize),
    /// A number that cannot be a column, a threshold or a count of rows.
    #[error("node {node} of tree {tree} has a column, a threshold or a number of rows that is out of range")]
    Node {
        /// Tree, from 0.
        tree: usize,
        /// Node in the tree, from 0.
        node: usize,
    },
    /// A rule that all trees of a forest keep.
    #[error("the trees do not make a forest: {0}")]
    Rule(String),
}

impl IsolationForest {
    /// The forest of `trees`, each grown on `sample_size` rows of `features` columns. `-score_samples` of scikit-learn
    /// and [`score`](Self::score) of this forest are then the same number for rows of `f32`, up to the rounding of sums.
    ///
    /// A threshold that is no `f32` is rounded down: for each finite `f32` x, `x <= threshold` and `x <= rounded` are the same.
    ///
    /// # Errors
    /// The first thing that keeps the arrays from being trees, or the trees from being an Isolation Forest: too deep for
    /// the sample size, leaves that do not hold the sample, thresholds that are not finite.
    pub fn from_parts(trees: &[TreeParts<'_>], features: u16, sample_size: u32) -> Result<Self, PartsError> {
        if !(2..=MAX_SAMPLE_SIZE).contains(&sample_size) {
            return Err(PartsError::SampleSize(sample_size));
        }
        if !(1..=MAX_FEATURES).contains(&features) {
            return Err(PartsError::Columns(features));
        }
        let mut nodes = Vec::with_capacity(trees.iter().map(|tree| tree.left.len()).sum());
        for (number, tree) in trees.iter().enumerate() {
            tree.pre_order(number, &mut nodes)?;
        }
        let nodes = nodes.into_iter().map(Ok::<_, TreeError>);
        Self::from_nodes(nodes, features, sample_size).map_err(|broken| PartsError::Rule(broken.to_string()))
    }
}

impl TreeParts<'_> {
    fn pre_order(&self, tree: usize, nodes: &mut Vec<RawNode>) -> Result<(), PartsError> {
        let count = self.left.len();
        let lengths = [self.feature.len(), self.threshold.len(), self.right.len(), self.samples.len()];
        if count == 0 || lengths.iter().any(|length| *length != count) {
            return Err(PartsError::Lengths(tree));
        }
        let mut seen = vec![false; count];
        let mut waiting = vec![0];
        while let Some(at) = waiting.pop() {
            if std::mem::replace(&mut seen[at], true) {
                return Err(PartsError::Links(tree));
            }
            nodes.push(self.node(at).ok_or(PartsError::Node { tree, node: at })?);
            if self.left[at] != self.right[at] {
                let child = |link: i64| usize::try_from(link).ok().filter(|child| *child < count);
                let children = child(self.left[at]).zip(child(self.right[at]));
                let (left, right) = children.ok_or(PartsError::Links(tree))?;
                waiting.extend([right, left]);
            }
        }
        if seen.contains(&false) { Err(PartsError::Links(tree)) } else { Ok(()) }
    }

    fn node(&self, at: usize) -> Option<RawNode> {
        if self.left[at] == self.right[at] {
            return Some(RawNode::Leaf { samples: u32::try_from(self.samples[at]).ok()? });
        }
        let threshold = round_down(self.threshold[at]);
        threshold.is_finite().then_some(())?;
        Some(RawNode::Split { feature: u16::try_from(self.feature[at]).ok()?, threshold })
    }
}

/// The largest `f32` that is not above `value`.
#[expect(clippy::cast_possible_truncation, reason = "rounds to the nearest f32; rounding up is undone")]
fn round_down(value: f64) -> f32 {
    let nearest = value as f32;
    if f64::from(nearest) > value { nearest.next_down() } else { nearest }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::IsolationForestParams;
    use ndarray::Array2;
    use proptest::prelude::*;

    /// `0: x1 <= 0.5 ? 1 : 2`, children in the order given, each a leaf of two rows.
    fn stump<'a>(left: &'a [i64], right: &'a [i64]) -> TreeParts<'a> {
        TreeParts { feature: &[1, -2, -2], threshold: &[0.5, -2.0, -2.0], left, right, samples: &[4, 2, 2] }
    }

    #[test]
    fn children_may_come_in_any_order() {
        let forward = IsolationForest::from_parts(&[stump(&[1, -1, -1], &[2, -1, -1])], 2, 4).unwrap();
        let backward = IsolationForest::from_parts(&[stump(&[2, -1, -1], &[1, -1, -1])], 2, 4).unwrap();
        assert_eq!(forward, backward);
        assert_eq!(forward.score(&[9.0, 0.5]), (-2.0 / super::super::average_path_length(4)).exp2());
    }

    #[test]
    fn arrays_that_are_no_trees_are_rejected() {
        let good = stump(&[1, -1, -1], &[2, -1, -1]);
        for (tree, expected) in [
            (TreeParts { samples: &[4, 2], ..good }, PartsError::Lengths(0)),
            (TreeParts { feature: &[], threshold: &[], left: &[], right: &[], samples: &[] }, PartsError::Lengths(0)),
            (stump(&[1, -1, -1], &[3, -1, -1]), PartsError::Links(0)),
            (stump(&[0, -1, -1], &[2, -1, -1]), PartsError::Links(0)),
            (TreeParts { feature: &[1, 0, 0], ..stump(&[1, 0, -1], &[2, 2, -1]) }, PartsError::Links(0)),
            (stump(&[-1, -1, -1], &[-1, -1, -1]), PartsError::Links(0)),
            (TreeParts { feature: &[-1, 0, 0], ..good }, PartsError::Node { tree: 0, node: 0 }),
            (TreeParts { threshold: &[f64::NAN, 0.0, 0.0], ..good }, PartsError::Node { tree: 0, node: 0 }),
            (TreeParts { threshold: &[-1e300, 0.0, 0.0], ..good }, PartsError::Node { tree: 0, node: 0 }),
            (TreeParts { samples: &[4, -2, 2], ..good }, PartsError::Node { tree: 0, node: 1 }),
        ] {
            assert_eq!(IsolationForest::from_parts(&[tree], 2, 4), Err(expected), "{tree:?}");
        }
    }

    #[test]
    fn trees_that_are_no_isolation_forest_are_rejected() {
        let good = stump(&[1, -1, -1], &[2, -1, -1]);
        assert_eq!(IsolationForest::from_parts(&[good], 2, 1), Err(PartsError::SampleSize(1)));
        assert_eq!(IsolationForest::from_parts(&[good], 0, 4), Err(PartsError::Columns(0)));
        for (trees, features, sample_size) in [(&[][..], 2, 4), (&[good][..], 1, 4), (&[good][..], 2, 5)] {
            let broken = IsolationForest::from_parts(trees, features, sample_size);
            assert!(matches!(broken, Err(PartsError::Rule(_))), "{broken:?}");
        }
    }

    #[test]
    fn a_forest_survives_being_taken_apart() {
        let rows = Array2::from_shape_fn((300, 3), |(i, j)| ((i * (13 + 6 * j)) % 97) as f32);
        let forest = IsolationForestParams::new().trees(7).seed(5).check().unwrap().fit(rows.view()).unwrap();
        let trees: Vec<_> = (0..7).map(|tree| Arrays::of(&forest, tree)).collect();
        let parts: Vec<_> = trees.iter().map(Arrays::parts).collect();
        assert_eq!(IsolationForest::from_parts(&parts, 3, 256), Ok(forest));
    }

    #[derive(Default)]
    struct Arrays(Vec<i64>, Vec<f64>, [Vec<i64>; 3]);

    impl Arrays {
        fn of(forest: &IsolationForest, tree: u32) -> Self {
            let mut arrays = Self::default();
            for (at, node) in (0_i64..).zip(forest.nodes(tree)) {
                let (feature, threshold, links, samples) = match node {
                    super::super::Node::Split { feature, threshold, right } => (
                        i64::try_from(feature).unwrap(),
                        f64::from(threshold),
                        [at + 1, i64::try_from(right).unwrap()],
                        0,
                    ),
                    super::super::Node::Leaf { samples, .. } => (-2, -2.0, [-1, -1], i64::from(samples)),
                };
                arrays.0.push(feature);
                arrays.1.push(threshold);
                for (array, value) in arrays.2.iter_mut().zip([links[0], links[1], samples]) {
                    array.push(value);
                }
            }
            arrays
        }

        fn parts(&self) -> TreeParts<'_> {
            let [left, right, samples] = &self.2;
            TreeParts { feature: &self.0, threshold: &self.1, left, right, samples }
        }
    }

    proptest! {
        #[test]
        fn a_rounded_threshold_divides_rows_as_the_threshold_does(threshold in -1e30..1e30_f64, steps in -3_i32..4) {
            let rounded = round_down(threshold);
            let value = (0..steps.abs()).fold(rounded, |x, _| if steps < 0 { x.next_down() } else { x.next_up() });
            prop_assert_eq!(value <= rounded, f64::from(value) <= threshold);
        }
    }
}
