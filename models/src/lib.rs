//! Anomaly models of Leuko: arrays in, scores out.
//!
//! Everything here is pure. There is no IO, no clock and no randomness but the seed in the parameters: the same rows and
//! the same seed give the same model, and the same model gives the same scores.
//!
//! - [`isolation_forest`]: how easily a row is separated from the training rows, and by which features.
//! - [`one_class`]: what every model of normal rows can do.
//! - [`extended_forest`], [`residual`], [`clusters`], [`one_class_svm`], [`autoencoder`], [`half_space`]: other models of
//!   normal rows, on columns made comparable by [`scale`].
//! - [`model`]: any one of them, by name.
//! - [`explain`]: the smallest change that would make a row normal.
//! - [`classifier`]: the class of an attack, learnt from rows whose class is known.
//! - [`budget`]: a threshold from the number of alerts a day that are acceptable.
//! - [`labels`]: what the labels of data sets are called here.
//! - `onnx`, with the cargo feature of that name: models that another program has trained.
//! - [`calibrate`]: raw scores to p-values that mean the same on every network.
//! - [`ensemble`]: several of them as one, their p-values combined.
//! - [`baseline`]: what is normal here: an ensemble over named features and the usual range of each.
//! - [`reservoir`]: a bounded sample of recent traffic to learn from.
//! - [`drift`]: when a baseline is no longer what is normal here.
//! - [`feedback`]: what the user said about rows, and what the next baseline learns from it.
//! - [`challenge`]: whether a new baseline takes the place of the one that serves.
//! - [`trained`]: what is shipped.
//! - [`mod@format`]: models as bytes, and back from bytes nobody vouches for.
//!
//! Rows are `f32`, one column a feature, in the order of the schema the baseline was trained with.
//!
//! ```
//! use ndarray::Array2;
//! use sensor_models::{Baseline, BaselineParams};
//!
//! let rows = Array2::from_shape_fn((500, 2), |(i, j)| ((i * (7 + j)) % 50) as f32);
//! let params = BaselineParams::new().seed(7).check()?;
//! let baseline = params.fit(&["packets_per_second", "distinct_ports"], rows.view(), 1_700_000_000)?;
//!
//! let quiet = [20.0, 30.0];
//! let scan = [20.0, 900.0];
//! assert!(baseline.p_value(&scan) < baseline.p_value(&quiet));
//! assert_eq!(baseline.explain(&scan, 1)[0].feature, 1);
//!
//! let restored = Baseline::from_bytes(&baseline.to_bytes()?)?;
//! restored.expect_schema(&["packets_per_second", "distinct_ports"])?;
//! assert_eq!(restored.score(&scan), baseline.score(&scan));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

pub mod autoencoder;
pub mod baseline;
pub mod budget;
pub mod calibrate;
pub mod challenge;
pub mod classifier;
pub mod clusters;
pub mod drift;
pub mod ensemble;
pub mod explain;
pub mod extended_forest;
pub mod feedback;
pub mod format;
pub mod half_space;
pub mod isolation_forest;
pub mod labels;
mod linalg;
pub mod model;
pub mod one_class;
pub mod one_class_svm;
#[cfg(feature = "onnx")]
pub mod onnx;
pub mod reservoir;
pub mod residual;
pub mod scale;
pub mod trained;

pub use baseline::{
    Baseline, BaselineError, BaselineParams, Explanation, Metrics, SchemaError, Training, ValidBaselineParams,
};
pub use budget::{AlertBudget, BudgetError, Weighed};
pub use calibrate::{Calibration, CalibrationError};
pub use challenge::{
    ChallengeError, ChallengeParams, Contender, Decision, Evidence, Figures, Reason, ValidChallengeParams,
};
pub use classifier::{Classifier, ClassifierParams, Verdict};
pub use drift::{Drift, DriftError, DriftParams};
pub use ensemble::{Ensemble, EnsembleError};
pub use explain::{Change, Counterfactual, FeatureSummary, Reference};
pub use feedback::{Cleaned, FeedbackError, FeedbackParams, FeedbackSet, Mark, ValidFeedbackParams};
pub use format::FormatError;
pub use isolation_forest::{
    FitError, IsolationForest, IsolationForestParams, MergeError, Node, ParamsError, ValidParams,
};
pub use linalg::MAX_DENSE_COLUMNS;
pub use model::{Model, ModelKind};
pub use one_class::OneClass;
pub use reservoir::{Reservoir, ReservoirError, ReservoirParams, ValidReservoirParams};
