//! What a network is trained with, checked before anything is computed.

use thiserror::Error;

/// Widest hidden layer.
pub const MAX_HIDDEN: usize = 256;
/// Most passes over the rows.
pub const MAX_EPOCHS: u32 = 1000;

/// Parameters as the caller wrote them: [`check`](Self::check) turns them into [`ValidAutoencoderParams`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AutoencoderParams {
    pub(super) hidden: Option<usize>,
    pub(super) middle: Option<usize>,
    pub(super) epochs: u32,
    pub(super) seed: u64,
}

/// Parameters that were checked; they can [`fit`](Self::fit).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValidAutoencoderParams(pub(super) AutoencoderParams);

/// A parameter that is out of range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AutoencoderParamsError {
    /// No outer hidden units, or more than [`MAX_HIDDEN`].
    #[error("{0} hidden units: choose between 1 and {MAX_HIDDEN}, twice the columns is usual")]
    Hidden(usize),
    /// No units in the middle, or more than [`MAX_HIDDEN`].
    #[error("{0} units in the middle: choose between 1 and {MAX_HIDDEN}, a quarter of the columns is usual")]
    Middle(usize),
    /// No epochs, or more than [`MAX_EPOCHS`].
    #[error("{0} epochs: choose between 1 and {MAX_EPOCHS}, 60 is usual")]
    Epochs(u32),
}

impl AutoencoderParams {
    /// Widths that follow from the number of columns, 60 epochs, seed 0.
    #[must_use]
    pub fn new() -> Self {
        Self { hidden: None, middle: None, epochs: 60, seed: 0 }
    }

    /// Width of the outer hidden layers. If it is not chosen: twice the columns, at least 16, at most 64.
    #[must_use]
    pub fn hidden(mut self, hidden: usize) -> Self {
        self.hidden = Some(hidden);
        self
    }

    /// Width of the middle. If it is not chosen: a quarter of the columns.
    #[must_use]
    pub fn middle(mut self, middle: usize) -> Self {
        self.middle = Some(middle);
        self
    }

    /// Passes over the rows at most.
    #[must_use]
    pub fn epochs(mut self, epochs: u32) -> Self {
        self.epochs = epochs;
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
    pub fn check(self) -> Result<ValidAutoencoderParams, AutoencoderParamsError> {
        let too_wide = |width: &usize| !(1..=MAX_HIDDEN).contains(width);
        if let Some(hidden) = self.hidden.filter(too_wide) {
            return Err(AutoencoderParamsError::Hidden(hidden));
        }
        if let Some(middle) = self.middle.filter(too_wide) {
            return Err(AutoencoderParamsError::Middle(middle));
        }
        if !(1..=MAX_EPOCHS).contains(&self.epochs) {
            return Err(AutoencoderParamsError::Epochs(self.epochs));
        }
        Ok(ValidAutoencoderParams(self))
    }
}

impl Default for AutoencoderParams {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_out_of_range_are_rejected() {
        let params = AutoencoderParams::new;
        for (given, expected) in [
            (params().hidden(0), AutoencoderParamsError::Hidden(0)),
            (params().hidden(MAX_HIDDEN + 1), AutoencoderParamsError::Hidden(MAX_HIDDEN + 1)),
            (params().middle(0), AutoencoderParamsError::Middle(0)),
            (params().middle(usize::MAX), AutoencoderParamsError::Middle(usize::MAX)),
            (params().epochs(0), AutoencoderParamsError::Epochs(0)),
            (params().epochs(MAX_EPOCHS + 1), AutoencoderParamsError::Epochs(MAX_EPOCHS + 1)),
        ] {
            assert_eq!(given.check(), Err(expected));
        }
    }

    #[test]
    fn parameters_at_the_limits_are_accepted() {
        for (width, epochs) in [(1, 1), (MAX_HIDDEN, MAX_EPOCHS)] {
            let given = AutoencoderParams::new().hidden(width).middle(width).epochs(epochs).seed(3);
            assert_eq!(given.check().unwrap().0, given);
        }
        assert!(AutoencoderParams::new().check().is_ok());
    }
}
