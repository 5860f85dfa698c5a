//! Anomaly models of Leuko: arrays in, scores out.
//!
//! Everything here is pure. There is no IO, no clock and no randomness but the seed in the parameters: the same rows and
//! the same seed give the same model, and the same model gives the same scores.
//!
//! - [`isolation_forest`]: how easily a row is separated from the training rows, and by which features.
//! - [`calibrate`]: raw scores to p-values that mean the same on every network.
//!

#![forbid(unsafe_code)]

pub mod calibrate;
pub mod isolation_forest;

pub use calibrate::{Calibration, CalibrationError};
pub use isolation_forest::{FitError, IsolationForest, IsolationForestParams, Node, ParamsError, ValidParams};
