//! What half-space trees are made with, checked before memory is taken.

use thiserror::Error;

/// Most trees of a model.
pub const MAX_HALF_SPACE_TREES: u32 = 256;
/// Deepest tree: 2^13 - 1 nodes.
pub const MAX_HALF_SPACE_DEPTH: u32 = 12;
/// Shortest window.
pub const MIN_WINDOW: u32 = 16;

/// Parameters as the caller wrote them: [`check`](Self::check) turns them into [`ValidHalfSpaceParams`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HalfSpaceParams {
    pub(super) trees: u32,
    pub(super) depth: u32,
    pub(super) window: u32,
    pub(super) seed: u64,
}

/// Parameters that were checked; they can [`fit`](Self::fit).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValidHalfSpaceParams(pub(super) HalfSpaceParams);

/// A parameter that is out of range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HalfSpaceParamsError {
    /// No trees, or more than [`MAX_HALF_SPACE_TREES`].
    #[error("{0} trees: choose between 1 and {MAX_HALF_SPACE_TREES}, 100 is usual")]
    Trees(u32),
    /// No splits, or more than [`MAX_HALF_SPACE_DEPTH`] on a way.
    #[error("trees of depth {0}: choose between 1 and {MAX_HALF_SPACE_DEPTH}, 10 is usual")]
    Depth(u32),
    /// Less than [`MIN_WINDOW`].
    #[error("a window of {0} rows: choose at least {MIN_WINDOW}, 4096 is usual")]
    Window(u32),
}

impl HalfSpaceParams {
    /// 100 trees of depth 10, a window of 4096 rows, seed 0.
    #[must_use]
    pub fn new() -> Self {
        Self { trees: 100, depth: 10, window: 4096, seed: 0 }
    }

    /// Number of trees.
    #[must_use]
    pub fn trees(mut self, trees: u32) -> Self {
        self.trees = trees;
        self
    }

    /// Splits on each way.
    #[must_use]
    pub fn depth(mut self, depth: u32) -> Self {
        self.depth = depth;
        self
    }

    /// Rows after which what was counted becomes what is compared with.
    #[must_use]
    pub fn window(mut self, window: u32) -> Self {
        self.window = window;
        self
    }

    /// The only source of randomness.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// The first parameter that is out of range.
    pub fn check(self) -> Result<ValidHalfSpaceParams, HalfSpaceParamsError> {
        if !(1..=MAX_HALF_SPACE_TREES).contains(&self.trees) {
            return Err(HalfSpaceParamsError::Trees(self.trees));
        }
        if !(1..=MAX_HALF_SPACE_DEPTH).contains(&self.depth) {
            return Err(HalfSpaceParamsError::Depth(self.depth));
        }
        if self.window < MIN_WINDOW {
            return Err(HalfSpaceParamsError::Window(self.window));
        }
        Ok(ValidHalfSpaceParams(self))
    }
}

impl Default for HalfSpaceParams {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_out_of_range_are_rejected() {
        let params = HalfSpaceParams::new;
        let (trees, depth) = (MAX_HALF_SPACE_TREES + 1, MAX_HALF_SPACE_DEPTH + 1);
        for (given, expected) in [
            (params().trees(0), HalfSpaceParamsError::Trees(0)),
            (params().trees(trees), HalfSpaceParamsError::Trees(trees)),
            (params().depth(0), HalfSpaceParamsError::Depth(0)),
            (params().depth(depth), HalfSpaceParamsError::Depth(depth)),
            (params().window(MIN_WINDOW - 1), HalfSpaceParamsError::Window(MIN_WINDOW - 1)),
        ] {
            assert_eq!(given.check(), Err(expected));
        }
    }

    #[test]
    fn parameters_at_the_limits_are_accepted() {
        for (trees, depth, window) in [(1, 1, MIN_WINDOW), (MAX_HALF_SPACE_TREES, MAX_HALF_SPACE_DEPTH, u32::MAX)] {
            let given = HalfSpaceParams::new().trees(trees).depth(depth).window(window).seed(3);
            assert_eq!(given.check().unwrap().0, given);
        }
    }
}
