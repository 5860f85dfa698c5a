//! What a one-class support vector machine is fitted with, checked before memory is taken.

use thiserror::Error;

/// Most rows the machine is fitted to: the kernel matrix takes 8 bytes times their square.
pub const MAX_SVM_ROWS: u32 = 4096;
/// Smallest fraction of training rows outside.
pub const MIN_NU: f64 = 1e-3;
/// Narrowest kernel, as a multiple of the median squared distance of rows.
pub const MIN_KERNEL_WIDTH: f64 = 1e-3;
/// Widest kernel, as a multiple of the median squared distance of rows.
pub const MAX_KERNEL_WIDTH: f64 = 100.0;

/// Parameters as the caller wrote them: [`check`](Self::check) turns them into [`ValidOneClassSvmParams`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OneClassSvmParams {
    pub(super) nu: f64,
    pub(super) width: f64,
    pub(super) rows: u32,
    pub(super) seed: u64,
}

/// Parameters that were checked; they can [`fit`](Self::fit).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ValidOneClassSvmParams(pub(super) OneClassSvmParams);

/// A parameter that is out of range.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
pub enum OneClassSvmParamsError {
    /// Less than [`MIN_NU`], more than 1, or no number.
    #[error("nu {0}: choose between {MIN_NU} and 1, 0.5 is usual")]
    Nu(f64),
    /// Less than [`MIN_KERNEL_WIDTH`], more than [`MAX_KERNEL_WIDTH`], or no number.
    #[error("kernel width {0}: choose between {MIN_KERNEL_WIDTH} and {MAX_KERNEL_WIDTH}, 0.02 is usual")]
    Width(f64),
    /// Less than two rows, or more than [`MAX_SVM_ROWS`].
    #[error("fitting to {0} rows: choose between 2 and {MAX_SVM_ROWS}, 2000 is usual")]
    Rows(u32),
}

impl OneClassSvmParams {
    /// Nu 0.5, width 0.02, 2000 rows, seed 0.
    #[must_use]
    pub fn new() -> Self {
        Self { nu: 0.5, width: 0.02, rows: 2000, seed: 0 }
    }

    /// Upper bound of the fraction of training rows outside, lower bound of the fraction of support vectors.
    #[must_use]
    pub fn nu(mut self, nu: f64) -> Self {
        self.nu = nu;
        self
    }

    /// Kernel width as a multiple of the median squared distance of rows.
    #[must_use]
    pub fn width(mut self, width: f64) -> Self {
        self.width = width;
        self
    }

    /// Rows fitted to, drawn without replacement; all rows if there are fewer.
    #[must_use]
    pub fn rows(mut self, rows: u32) -> Self {
        self.rows = rows;
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
    pub fn check(self) -> Result<ValidOneClassSvmParams, OneClassSvmParamsError> {
        if !(MIN_NU..=1.0).contains(&self.nu) {
            return Err(OneClassSvmParamsError::Nu(self.nu));
        }
        if !(MIN_KERNEL_WIDTH..=MAX_KERNEL_WIDTH).contains(&self.width) {
            return Err(OneClassSvmParamsError::Width(self.width));
        }
        if !(2..=MAX_SVM_ROWS).contains(&self.rows) {
            return Err(OneClassSvmParamsError::Rows(self.rows));
        }
        Ok(ValidOneClassSvmParams(self))
    }
}

impl Default for OneClassSvmParams {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_out_of_range_are_rejected() {
        let params = OneClassSvmParams::new;
        for (given, expected) in [
            (params().nu(0.0), OneClassSvmParamsError::Nu(0.0)),
            (params().nu(1.1), OneClassSvmParamsError::Nu(1.1)),
            (params().width(0.0), OneClassSvmParamsError::Width(0.0)),
            (params().width(101.0), OneClassSvmParamsError::Width(101.0)),
            (params().rows(1), OneClassSvmParamsError::Rows(1)),
            (params().rows(MAX_SVM_ROWS + 1), OneClassSvmParamsError::Rows(MAX_SVM_ROWS + 1)),
        ] {
            assert_eq!(given.check(), Err(expected));
        }
        assert!(params().nu(f64::NAN).check().is_err());
        assert!(params().width(f64::NAN).check().is_err());
    }

    #[test]
    fn parameters_at_the_limits_are_accepted() {
        for (nu, width, rows) in
            [(MIN_NU, MIN_KERNEL_WIDTH, 2), (0.5, 0.02, 2000), (1.0, MAX_KERNEL_WIDTH, MAX_SVM_ROWS)]
        {
            let given = OneClassSvmParams::new().nu(nu).width(width).rows(rows).seed(3);
            assert_eq!(given.check().unwrap().0, given);
        }
    }
}
