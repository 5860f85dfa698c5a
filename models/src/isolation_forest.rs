//! Isolation Forest: rows that random splits separate early are anomalous.
//!
//! Source: Liu, Ting, Zhou, "Isolation Forest", ICDM 2008, with the semantics of scikit-learn's `IsolationForest`
//! (`_iforest.py`): trees on sub-samples without replacement, a random feature among those that vary in the node, a
//! threshold uniform over the node's range, depth at most `ceil(log2(sample_size))`, and
//!
//! ```text
//! score(x) = 2^(-mean over trees of h(x) / c(psi))        in (0, 1); 0.5 is average, towards 1 is anomalous
//! h(x)     = depth of the leaf of x + c(training rows in that leaf)
//! c(n)     = 0, 1, 2 (ln(n - 1) + 0.5772...) - 2 (n - 1) / n   for n <= 1, n = 2, n > 2
//! ```
//!
//! scikit-learn's `score_samples` is the negative of this score.
//!
//! Two blind spots follow from the method. A column that is constant in the training rows never splits: a deviation in it
//! is not seen. And a value beyond the training range counts as just outside of it: a row that is extreme in one of many
//! columns scores little above a row at the edge of normal, however extreme it is.
//!
//! Values that are not finite are refused when fitting. When scoring, `-inf` is below every threshold, and `+inf` and `NaN`
//! are above every threshold, so any row has one well-defined score.

mod arena;
mod batch;
mod grow;
mod merge;
mod params;
mod parts;
mod serial;

use ndarray::{Array1, ArrayView2};

pub(crate) use arena::{RawNode, TreeError};
pub(crate) use grow::draw;
pub use merge::MergeError;
pub(crate) use params::check_rows;
pub use params::{FitError, IsolationForestParams, MAX_FEATURES, MAX_SAMPLE_SIZE, MAX_TREES, ParamsError, ValidParams};
pub use parts::{PartsError, TreeParts};

use arena::Arena;

/// A fitted forest.
#[derive(Clone, Debug, PartialEq)]
pub struct IsolationForest {
    features: u16,
    sample_size: u32,
    /// `c(sample_size)`, positive.
    average_path: f64,
    arena: Arena,
}

/// One node of a tree as [`IsolationForest::nodes`] shows it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Node {
    /// Rows with `row[feature] <= threshold` go on at the next node, others at node `right` of the same tree.
    Split {
        /// Column compared.
        feature: usize,
        /// In the unit of the column; finite.
        threshold: f32,
        /// Position in the tree of the child for larger values; always after this node.
        right: usize,
    },
    /// The walk ends here.
    Leaf {
        /// Training rows of the tree's sub-sample that ended here; at least one.
        samples: u32,
        /// `h(x)`: depth of this leaf plus `c(samples)`.
        path_length: f64,
    },
}

impl ValidParams {
    /// Fits a forest to `rows`: one training example a row, one feature a column.
    ///
    /// Trees see `min(sample_size, rows)` rows each. The forest depends on the rows, their order and the parameters only:
    /// it is the same on each platform.
    ///
    /// # Errors
    /// Fewer than two rows, no or too many columns, or a value that is not finite.
    pub fn fit(&self, rows: ArrayView2<'_, f32>) -> Result<IsolationForest, FitError> {
        let (count, features) = check_rows(rows)?;
        let sample_size = self.sample_size().min(count);
        let nodes = grow::forest(rows, self, sample_size);
        let forest = IsolationForest::from_nodes(nodes.into_iter().map(Ok::<_, TreeError>), features, sample_size);
        Ok(forest.expect("grown trees keep the rules of the arena"))
    }
}

impl IsolationForest {
    /// Score of one row, in (0, 1): 0.5 is average, towards 1 is anomalous. Does not allocate.
    ///
    /// # Panics
    /// If `row` does not have one value for each feature.
    #[must_use]
    pub fn score(&self, row: &[f32]) -> f64 {
        self.check_width(row.len());
        self.score_of(self.arena.path_sum(row))
    }

    /// Scores of `rows`, one example a row: bit for bit what [`score`](Self::score) gives for each.
    ///
    /// # Panics
    /// If `rows` does not have one column for each feature.
    #[must_use]
    pub fn score_batch(&self, rows: ArrayView2<'_, f32>) -> Array1<f64> {
        self.check_width(rows.ncols());
        if let Some(sums) = batch::path_sums(&self.arena, rows) {
            return sums.into_iter().map(|sum| self.score_of(sum)).collect();
        }
        let mut scratch = vec![0.0; rows.ncols()];
        rows.rows()
            .into_iter()
            .map(|row| {
                if let Some(row) = row.as_slice() {
                    return self.score(row);
                }
                scratch.iter_mut().zip(row).for_each(|(to, from)| *to = *from);
                self.score(&scratch)
            })
            .collect()
    }

    /// How much each feature did to isolate `row`, in splits saved; one value a feature, negative where the feature made
    /// the row look more ordinary.
    ///
    /// At a node of depth `d` that holds `n` training rows the path is expected to end at `e = d + c(n)`. A split that
    /// leads to a child of expectation `e'` saved `e - e'` splits, and its feature is credited with them. Averaged over
    /// the trees the credits sum to `c(psi) - mean h(x)`, the amount by which `row` is isolated sooner than average,
    /// which is `c(psi) * (1 + log2(score))`.
    ///
    /// Source: the decomposition along the decision path of Saabas, "Interpreting random forests" (2014), applied to
    /// the expected path length of Liu et al.; path-based like DIFFI (Carletti, Terzi, Susto 2019), but additive.
    ///
    /// # Panics
    /// If `row` does not have one value for each feature.
    #[must_use]
    pub fn contributions(&self, row: &[f32]) -> Vec<f64> {
        self.check_width(row.len());
        let mut credits = vec![0.0; row.len()];
        self.arena.for_each_split(row, |feature, saved| credits[feature] += saved);
        let trees = f64::from(self.trees());
        credits.iter_mut().for_each(|credit| *credit /= trees);
        credits
    }

    /// Columns a row must have.
    #[must_use]
    pub fn features(&self) -> usize {
        usize::from(self.features)
    }

    /// Number of trees.
    #[must_use]
    pub fn trees(&self) -> u32 {
        self.arena.trees()
    }

    /// Training rows each tree has seen, `psi`.
    #[must_use]
    pub fn sample_size(&self) -> u32 {
        self.sample_size
    }

    /// Nodes of all trees together.
    #[must_use]
    pub fn node_count(&self) -> usize {
        self.arena.node_count()
    }

    /// The nodes of tree number `tree` in pre-order, root first; empty if there is no such tree.
    pub fn nodes(&self, tree: u32) -> impl ExactSizeIterator<Item = Node> + '_ {
        self.arena.nodes(tree)
    }

    /// The forest that `nodes` describe: all trees in pre-order, one after the other. `sample_size` is at least 2.
    ///
    /// # Errors
    /// The first node that could not be read, or that breaks a rule of [`TreeError`].
    pub(crate) fn from_nodes<E: From<TreeError>>(
        nodes: impl ExactSizeIterator<Item = Result<RawNode, E>>,
        features: u16,
        sample_size: u32,
    ) -> Result<Self, E> {
        let arena = Arena::assemble(nodes, features, sample_size)?;
        Ok(Self { features, sample_size, average_path: average_path_length(sample_size), arena })
    }

    fn score_of(&self, path_sum: f64) -> f64 {
        let mean_path = path_sum / f64::from(self.trees());
        (-mean_path / self.average_path).exp2()
    }

    fn check_width(&self, width: usize) {
        assert_eq!(width, self.features(), "a row must have one value for each feature of the forest");
    }
}

/// `c(n)`: mean path length of an unsuccessful search in a binary search tree of `n` rows, in splits; as scikit-learn's
/// `_average_path_length`.
#[must_use]
pub fn average_path_length(n: u32) -> f64 {
    const EULER_GAMMA: f64 = 0.577_215_664_901_532_9;
    match n {
        0 | 1 => 0.0,
        2 => 1.0,
        _ => {
            let n = f64::from(n);
            2.0 * ((n - 1.0).ln() + EULER_GAMMA) - 2.0 * (n - 1.0) / n
        }
    }
}

/// `ceil(log2(sample_size))`: where a tree stops growing.
pub(crate) fn max_depth(sample_size: u32) -> u32 {
    sample_size.max(2).next_power_of_two().ilog2()
}

#[cfg(test)]
mod tests;
