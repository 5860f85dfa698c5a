//! One forest from the forests of several sensors, without their rows.

use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use thiserror::Error;

use super::{IsolationForest, MAX_TREES, Node, RawNode, TreeError, draw};

/// Forests that cannot be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MergeError {
    /// Nothing to merge.
    #[error("no forests to merge")]
    Empty,
    /// No tree allowed, or more than [`MAX_TREES`].
    #[error("a merge of {0} trees: choose between 1 and {MAX_TREES}")]
    Trees(u32),
    /// A forest of rows with other columns than the first.
    #[error("forest {0} does not have the columns of the first: retrain it with this version")]
    Features(usize),
    /// A forest whose trees saw another number of rows than those of the first: their paths mean something else.
    #[error(
        "the trees of forest {0} have seen another number of rows than those of the first: train it on more traffic"
    )]
    SampleSize(usize),
    /// A weight that is not a positive number.
    #[error("the weight of forest {0} is not a positive number")]
    Weight(usize),
}

impl IsolationForest {
    /// A forest of trees of each of `forests`, as many of each as its weight says, such as the rows it was trained on.
    ///
    /// It has as many trees as keep to these proportions and to `limit`: with equal weights and enough room, all. The mean
    /// path of a row is then the weighted mean of its mean paths in the forests, up to the trees that are left out; these
    /// are drawn with `seed`. Of a forest with a very small weight there may be none.
    ///
    /// Scores of the parts do not calibrate the merge, whose mean paths vary less: let each sensor score its held-out
    /// rows with the merge, and merge these with [`Calibration::merge`](crate::Calibration::merge).
    ///
    /// # Errors
    /// No forests, a limit or a weight out of range, or forests with other columns or sample sizes than the first.
    pub fn merge(forests: &[(&Self, f64)], limit: u32, seed: u64) -> Result<Self, MergeError> {
        let Some((first, _)) = forests.first() else { return Err(MergeError::Empty) };
        check(forests, first, limit)?;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut nodes = Vec::new();
        for ((forest, _), trees) in forests.iter().zip(allot(forests, limit)) {
            let mut order: Vec<u32> = (0..forest.trees()).collect();
            let mut chosen = draw(&mut order, trees, &mut rng).to_vec();
            chosen.sort_unstable();
            nodes.extend(chosen.into_iter().flat_map(|tree| forest.nodes(tree)).map(raw));
        }
        let merged = Self::from_nodes(nodes.into_iter().map(Ok::<_, TreeError>), first.features, first.sample_size);
        Ok(merged.expect("the trees of forests keep the rules of the arena"))
    }
}

fn check(forests: &[(&IsolationForest, f64)], first: &IsolationForest, limit: u32) -> Result<(), MergeError> {
    if !(1..=MAX_TREES).contains(&limit) {
        return Err(MergeError::Trees(limit));
    }
    forests.iter().enumerate().try_for_each(|(at, (forest, weight))| {
        if forest.features != first.features {
            Err(MergeError::Features(at))
        } else if forest.sample_size != first.sample_size {
            Err(MergeError::SampleSize(at))
        } else if !(weight.is_finite() && *weight > 0.0) {
            Err(MergeError::Weight(at))
        } else {
            Ok(())
        }
    })
}

/// Trees to take of each forest: the largest remainders round up.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most MAX_TREES")]
fn allot(forests: &[(&IsolationForest, f64)], limit: u32) -> Vec<u32> {
    // Divided by the largest first, so that sums of huge weights are finite.
    let most = forests.iter().map(|(_, weight)| *weight).fold(0.0, f64::max);
    let whole: f64 = forests.iter().map(|(_, weight)| weight / most).sum();
    let share = |weight: f64| weight / most / whole;
    let room = |(forest, weight): &(&IsolationForest, f64)| f64::from(forest.trees()) / share(*weight);
    // The tolerance keeps 100 / (1 / 3) at 300.
    let total = (forests.iter().map(room).fold(f64::from(limit), f64::min) + 1e-6).floor();
    let wanted: Vec<f64> = forests.iter().map(|(_, weight)| total * share(*weight)).collect();
    let mut trees: Vec<u32> = wanted.iter().map(|wanted| (wanted + 1e-6).floor() as u32).collect();
    let mut order: Vec<usize> = (0..trees.len()).collect();
    let rest = |at: usize| wanted[at] - f64::from(trees[at]);
    order.sort_by(|a, b| rest(*b).total_cmp(&rest(*a)));
    let missing = (total as usize).saturating_sub(trees.iter().map(|trees| *trees as usize).sum());
    let open: Vec<usize> = order.into_iter().filter(|at| trees[*at] < forests[*at].0.trees()).take(missing).collect();
    open.into_iter().for_each(|at| trees[at] += 1);
    trees
}

fn raw(node: Node) -> RawNode {
    match node {
        Node::Split { feature, threshold, .. } => {
            RawNode::Split { feature: u16::try_from(feature).expect("at most MAX_FEATURES"), threshold }
        }
        Node::Leaf { samples, .. } => RawNode::Leaf { samples },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::IsolationForestParams;
    use ndarray::Array2;
    use proptest::prelude::*;
    use rand::Rng as _;

    fn forest(trees: u32, columns: usize, seed: u64) -> IsolationForest {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let rows = Array2::from_shape_simple_fn((400, columns), || rng.gen_range(0.0..100.0));
        let params = IsolationForestParams::new().trees(trees).sample_size(64).seed(seed).check().unwrap();
        params.fit(rows.view()).unwrap()
    }

    /// Mean path of a row, in units of `c(psi)`.
    fn path(forest: &IsolationForest, row: &[f32]) -> f64 {
        -forest.score(row).log2()
    }

    #[test]
    fn equal_weights_take_all_trees_and_give_the_mean_path() {
        let (a, b) = (forest(60, 3, 1), forest(60, 3, 2));
        let merged = IsolationForest::merge(&[(&a, 500.0), (&b, 500.0)], MAX_TREES, 0).unwrap();
        assert_eq!((merged.trees(), merged.sample_size(), merged.features()), (120, 64, 3));
        for row in [[0.0, 50.0, 99.0], [50.0; 3], [500.0; 3]] {
            let mean = (path(&a, &row) + path(&b, &row)) / 2.0;
            assert!((path(&merged, &row) - mean).abs() < 1e-12);
        }
    }

    #[test]
    fn trees_are_in_proportion_to_the_weights() {
        let (a, b, c) = (forest(60, 2, 1), forest(60, 2, 2), forest(20, 2, 3));
        for (weights, limit, expected) in [
            ([1.0, 1.0, 1.0], 1024, vec![20, 20, 20]),
            ([3.0, 3.0, 1.0], 1024, vec![60, 60, 20]),
            ([3.0, 3.0, 1.0], 70, vec![30, 30, 10]),
            ([6.0, 3.0, 1.0], 1024, vec![60, 30, 10]),
            ([1e300, 1e300, 1e-300], 100, vec![50, 50, 0]),
            ([1.0, 1.0, 1.0], 1, vec![1, 0, 0]),
            ([f64::MAX; 3], 7, vec![3, 2, 2]),
        ] {
            let forests = [(&a, weights[0]), (&b, weights[1]), (&c, weights[2])];
            assert_eq!(allot(&forests, limit), expected, "{weights:?} {limit}");
        }
    }

    #[test]
    fn a_merge_of_one_forest_is_that_forest_and_a_smaller_one_is_drawn_by_the_seed() {
        let a = forest(50, 3, 1);
        assert_eq!(IsolationForest::merge(&[(&a, 2.0)], 50, 9), Ok(a.clone()));
        let part = |seed| IsolationForest::merge(&[(&a, 2.0)], 20, seed).unwrap();
        assert!(part(1).trees() == 20 && part(1) == part(1) && part(1) != part(2));
    }

    #[test]
    fn forests_that_do_not_belong_together_are_refused() {
        let (a, wide) = (forest(10, 2, 1), forest(10, 3, 1));
        let rows = Array2::from_shape_fn((30, 2), |(i, j)| (i * (j + 1)) as f32);
        let small = IsolationForestParams::new().trees(10).check().unwrap().fit(rows.view()).unwrap();
        for (forests, limit, expected) in [
            (vec![], 10, MergeError::Empty),
            (vec![(&a, 1.0)], 0, MergeError::Trees(0)),
            (vec![(&a, 1.0)], 1025, MergeError::Trees(1025)),
            (vec![(&a, 1.0), (&wide, 1.0)], 10, MergeError::Features(1)),
            (vec![(&a, 1.0), (&a, 1.0), (&small, 1.0)], 10, MergeError::SampleSize(2)),
            (vec![(&a, 0.0)], 10, MergeError::Weight(0)),
            (vec![(&a, 1.0), (&a, -1.0)], 10, MergeError::Weight(1)),
            (vec![(&a, f64::NAN)], 10, MergeError::Weight(0)),
            (vec![(&a, f64::INFINITY)], 10, MergeError::Weight(0)),
        ] {
            assert_eq!(IsolationForest::merge(&forests, limit, 0), Err(expected));
        }
    }

    proptest! {
        #[test]
        fn equal_forests_keep_their_scores(copies in 1_usize..6, trees in 1_u32..30, row in prop::array::uniform2(-50.0_f32..150.0)) {
            let a = forest(trees, 2, 4);
            let merged = IsolationForest::merge(&vec![(&a, 7.0); copies], MAX_TREES, 1).unwrap();
            prop_assert_eq!(u64::from(merged.trees()), u64::from(trees) * copies as u64);
            prop_assert!((merged.score(&row) - a.score(&row)).abs() < 1e-12);
        }

        #[test]
        fn any_weights_give_a_forest_within_the_limit(
            parts in prop::collection::vec((1_u32..12, prop_oneof![1e-300..1e300_f64, 0.1..10.0_f64]), 1..6), limit in 1_u32..100,
        ) {
            let forests: Vec<IsolationForest> = parts.iter().map(|(trees, _)| forest(*trees, 1, 5)).collect();
            let weighted: Vec<_> = forests.iter().zip(&parts).map(|(forest, (_, weight))| (forest, *weight)).collect();
            let merged = IsolationForest::merge(&weighted, limit, 3).unwrap();
            prop_assert!((1..=limit).contains(&merged.trees()));
            prop_assert!(allot(&weighted, limit).iter().zip(&parts).all(|(taken, (trees, _))| taken <= trees));
        }
    }
}
