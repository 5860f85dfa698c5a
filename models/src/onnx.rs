//! Models that another program has trained, read from ONNX files: networks of Keras or PyTorch, some of scikit-learn.
//!
//! Only with the cargo feature `onnx`, which is off by default because the runtime takes minutes to build; nothing else
//! of Leuko needs it. Its tests, which also tell whether it still compiles:
//!
//! ```text
//! cargo test -p sensor-models --features onnx
//! ```
//!
//! A file has one input of 32-bit floats, rows by columns, with the number of rows free or 1. Rows are given to it as they
//! are: what scales them belongs into the file, as a normalisation layer. What its **last** output means cannot be seen
//! and has to be said: [`OnnxOutput`].
//!
//! Of scikit-learn, linear models and classifiers of trees can be run, exported with `zipmap=False` so that
//! probabilities are a table; labels come first and are ignored. The runtime does not know the operators `Scaler` (of
//! `StandardScaler`) and `TreeEnsembleRegressor` (of `IsolationForest`): such files are refused by that name.
//!
//! Scores are as little comparable as those of other models. p-values come from rows of normal traffic that were not used
//! to train the file:
//!
//! ```no_run
//! use sensor_models::onnx::{OnnxModel, OnnxOutput};
//! use sensor_models::{Calibration, OneClass, Reference};
//! # fn demo(bytes: &[u8], held_out: ndarray::ArrayView2<'_, f32>, row: &[f32]) -> Result<(), Box<dyn std::error::Error>> {
//! let model = OnnxModel::from_bytes(bytes, OnnxOutput::NegatedScore, &Reference::fit(held_out)?)?;
//! let calibration = Calibration::new(model.score_batch(held_out).to_vec())?;
//! let p_value = calibration.p_value(model.score(row));
//! # Ok(())
//! # }
//! ```
//!
//! A damaged file, or one made to deceive, is an error: no other file is read on its behalf, control flow and randomness
//! are refused, and a panic of the runtime becomes an error. What loading takes in memory and time is not bounded,
//! because the runtime computes what is constant in the file: load files of people you would let change the
//! configuration. Scores are the same for the same file on the same kind of processor; their last bits may differ on
//! another one, whose vector instructions add in another order.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use thiserror::Error;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::dimension;
use tract_onnx::pb::{GraphProto, ModelProto, type_proto};
use tract_onnx::prelude::{
    Arc, Datum as _, Framework as _, InferenceModelExt as _, IntoRunnable as _, IntoTValue as _, Tensor, TractResult,
    TypedModel, TypedSimplePlan, tvec,
};
use tract_onnx::tract_hir::internal::{InferenceFact, anyhow, ensure};

use crate::explain::Reference;
use crate::one_class::OneClass;

/// Largest file that is read.
pub const MAX_ONNX_BYTES: usize = 64 << 20;
/// Most values of a tensor that is computed from a row.
pub const MAX_TENSOR_VALUES: usize = 1 << 24;
/// The score of a row for which the file computes no finite number.
pub const LARGEST_SCORE: f64 = f32::MAX as f64;

/// Operators with which the same row may get another score, or none in finite time.
const REFUSED: [&str; 9] = [
    "Bernoulli",
    "If",
    "Loop",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
    "Scan",
];
/// Characters from the file that an error repeats.
const MAX_QUOTED: usize = 160;

/// A model read from an ONNX file.
#[derive(Clone)]
pub struct OnnxModel {
    plan: Arc<TypedSimplePlan>,
    output: OnnxOutput,
    /// Median of each column.
    usual: Vec<f32>,
    /// Usual range of each column, positive.
    ranges: Vec<f64>,
}

/// What the last output of a file says of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OnnxOutput {
    /// One number, higher is more anomalous: it is the score.
    Score,
    /// One number, lower is more anomalous, as `decision_function` and `score_samples` of scikit-learn: the score is its
    /// negative.
    NegatedScore,
    /// The row again, by an autoencoder, in the units of the row: the score is the root mean square over columns of the
    /// error, in usual ranges (1st to 99th percentile) of the column. A file whose output is scaled ends in its own error
    /// instead, which is a [`Self::Score`].
    ReconstructionError,
    /// Probabilities of classes, that of normal traffic first: the score is 1 minus that.
    NormalProbability,
}

/// Bytes that are no usable model.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OnnxError {
    /// More than [`MAX_ONNX_BYTES`].
    #[error("{0} bytes, at most {MAX_ONNX_BYTES} are supported: export a smaller model")]
    TooLarge(usize),
    /// Damaged, no ONNX file, or more than the runtime supports.
    #[error("the ONNX model cannot be run, {0}: export it again, with an operator set from 9 to 18")]
    Unusable(String),
    /// Control flow or randomness.
    #[error("the ONNX model has the operator {0}, which is not allowed: export the model for inference only")]
    Operator(String),
    /// Not one table of floats.
    #[error("the ONNX model must have one input, a table of 32-bit floats with one row or any number of rows")]
    Input,
    /// Another number of columns.
    #[error("the ONNX model takes {found} columns where {expected} are expected: export one for the same features")]
    Width {
        /// Columns of the reference.
        expected: usize,
        /// Columns of the input.
        found: usize,
    },
    /// Not what the output was said to mean.
    #[error("the last output of the ONNX model has {values} values for a usual row, which cannot be {wanted}")]
    Output {
        /// Values for one row.
        values: usize,
        /// What was said.
        wanted: &'static str,
    },
}

impl OnnxModel {
    /// Reads a file, whose last output means `output`, and tries it on the medians of `reference`, which also stand in for
    /// columns in [`contributions`](OneClass::contributions).
    ///
    /// # Errors
    /// The input is no ONNX file, too large, damaged, of operators that are not supported, for other columns than those
    /// of `reference`, or its output is not what was said.
    pub fn from_bytes(bytes: &[u8], output: OnnxOutput, reference: &Reference) -> Result<Self, OnnxError> {
        if bytes.len() > MAX_ONNX_BYTES {
            return Err(OnnxError::TooLarge(bytes.len()));
        }
        let proto = guarded(|| tract_onnx::onnx().proto_model_for_read(&mut &*bytes))?;
        let graph = proto.graph.as_ref().ok_or_else(|| OnnxError::Unusable("it has no graph".to_owned()))?;
        check_operators(graph)?;
        let columns = reference.columns();
        check_input(graph, columns.len())?;
        let plan = guarded(|| plan(&proto, columns.len()))?;
        let range = |column: &crate::FeatureSummary| f64::from(column.p99) - f64::from(column.p01);
        let model = Self {
            plan,
            output,
            usual: columns.iter().map(|column| column.median).collect(),
            ranges: columns.iter().map(range).map(|range| if range > 0.0 { range } else { 1.0 }).collect(),
        };
        let values = model.run(&model.usual)?;
        if output.fits(&values, columns.len()) {
            Ok(model)
        } else {
            Err(OnnxError::Output { values: values.len(), wanted: output.name() })
        }
    }

    /// What the output means.
    #[must_use]
    pub fn output(&self) -> OnnxOutput {
        self.output
    }

    /// The last output for a row.
    fn run(&self, row: &[f32]) -> Result<Vec<f64>, OnnxError> {
        guarded(|| {
            let input = Tensor::from_shape(&[1, row.len()], row)?;
            let outputs = self.plan.run(tvec![input.into_tvalue()])?;
            let values = outputs[0].cast_to::<f64>()?;
            Ok(values.to_plain_array_view::<f64>()?.iter().copied().collect())
        })
    }

    fn root_mean_square(&self, row: &[f32], repeated: &[f64]) -> f64 {
        let error = |((value, other), range): ((&f32, &f64), &f64)| ((f64::from(*value) - other) / range).powi(2);
        let sum: f64 = row.iter().zip(repeated).zip(&self.ranges).map(error).sum();
        (sum / row.len() as f64).sqrt()
    }
}

impl OneClass for OnnxModel {
    fn features(&self) -> usize {
        self.usual.len()
    }

    /// At most [`LARGEST_SCORE`], which is that of a row for which the file computes something that is not finite, or fails.
    fn score(&self, row: &[f32]) -> f64 {
        assert_eq!(row.len(), self.features(), "a row must have one value for each column");
        let values = self.run(row).unwrap_or_default();
        let score = match (self.output, &*values) {
            (OnnxOutput::Score, [value]) => *value,
            (OnnxOutput::NegatedScore, [value]) => -value,
            (OnnxOutput::NormalProbability, [normal, _, ..]) => 1.0 - normal,
            (OnnxOutput::ReconstructionError, repeated) if repeated.len() == row.len() => {
                self.root_mean_square(row, repeated)
            }
            _ => f64::NAN,
        };
        if score.is_finite() { score.clamp(-LARGEST_SCORE, LARGEST_SCORE) } else { LARGEST_SCORE }
    }

    /// Occlusion, the same for any model: by how much the score falls when the column has its median and the others stay.
    /// Columns that are only anomalous together share what they say, or each say all of it: the parts do not sum to the
    /// score. Takes one score more than there are columns.
    ///
    /// Source: Zeiler, Fergus, "Visualizing and understanding convolutional networks" (2014), section 4.2.
    fn contributions(&self, row: &[f32]) -> Vec<f64> {
        let whole = self.score(row);
        let mut occluded = row.to_vec();
        let fall = |column: usize| {
            occluded[column] = self.usual[column];
            let score = self.score(&occluded);
            occluded[column] = row[column];
            whole - score
        };
        (0..row.len()).map(fall).collect()
    }
}

impl std::fmt::Debug for OnnxModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OnnxModel").field("output", &self.output).field("usual", &self.usual).finish_non_exhaustive()
    }
}

impl OnnxOutput {
    fn name(self) -> &'static str {
        match self {
            Self::Score | Self::NegatedScore => "a score (one number)",
            Self::ReconstructionError => "the row again (as many numbers as columns)",
            Self::NormalProbability => "probabilities of classes (two or more numbers from 0 to 1)",
        }
    }

    fn fits(self, values: &[f64], columns: usize) -> bool {
        match self {
            Self::Score | Self::NegatedScore => values.len() == 1,
            Self::ReconstructionError => values.len() == columns,
            Self::NormalProbability => {
                values.len() > 1 && values.iter().all(|value| (-ROUNDING..=1.0 + ROUNDING).contains(value))
            }
        }
    }
}

/// How far a probability that was computed with 32 bits may be off.
const ROUNDING: f64 = 1e-3;

fn check_operators(graph: &GraphProto) -> Result<(), OnnxError> {
    match graph.node.iter().find(|node| REFUSED.contains(&&*node.op_type)) {
        Some(node) => Err(OnnxError::Operator(node.op_type.clone())),
        None => Ok(()),
    }
}

/// Files of older versions list constants among the inputs.
fn check_input(graph: &GraphProto, expected: usize) -> Result<(), OnnxError> {
    let constants: HashSet<&str> = graph.initializer.iter().map(|tensor| &*tensor.name).collect();
    let mut inputs = graph.input.iter().filter(|input| !constants.contains(&*input.name));
    let (Some(input), None) = (inputs.next(), inputs.next()) else { return Err(OnnxError::Input) };
    let kind = input.r#type.as_ref().and_then(|kind| kind.value.as_ref());
    let Some(type_proto::Value::TensorType(tensor)) = kind else { return Err(OnnxError::Input) };
    let dimensions = tensor.shape.as_ref().map_or(&[][..], |shape| &shape.dim);
    let ([rows, columns], true) = (dimensions, tensor.elem_type == DataType::Float as i32) else {
        return Err(OnnxError::Input);
    };
    if matches!(rows.value, Some(dimension::Value::DimValue(rows)) if rows > 1) {
        return Err(OnnxError::Input);
    }
    match columns.value {
        Some(dimension::Value::DimValue(found)) if usize::try_from(found) != Ok(expected) => {
            Err(OnnxError::Width { expected, found: usize::try_from(found).unwrap_or(0) })
        }
        _ => Ok(()),
    }
}

/// What computes the last output for one row.
fn plan(proto: &ModelProto, columns: usize) -> TractResult<Arc<TypedSimplePlan>> {
    let mut model = tract_onnx::onnx().model_for_proto_model(proto)?;
    let last = model.output_outlets()?.last().copied().ok_or_else(|| anyhow!("it has no output"))?;
    model.select_output_outlets(&[last])?;
    model.set_input_fact(0, InferenceFact::dt_shape(f32::datum_type(), [1, columns]))?;
    let model = model.into_optimized()?;
    check_sizes(&model)?;
    model.into_runnable()
}

fn check_sizes(model: &TypedModel) -> TractResult<()> {
    for fact in model.nodes().iter().flat_map(|node| &node.outputs).map(|output| &output.fact) {
        let shape = fact.shape.as_concrete().ok_or_else(|| anyhow!("the size of a tensor depends on the row"))?;
        let values = shape.iter().try_fold(1_usize, |values, size| values.checked_mul(*size));
        ensure!(values.is_some_and(|values| values <= MAX_TENSOR_VALUES), "a tensor is too large");
    }
    Ok(())
}

/// The runtime indexes and asserts by what files say, both when it reads them and when it runs them. Nothing is left half
/// changed by a panic: what `work` makes is lost with it, and what it borrows is only read.
fn guarded<T>(work: impl FnOnce() -> TractResult<T>) -> Result<T, OnnxError> {
    let reason = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(error)) => format!("{error:#}"),
        Err(_) => "it breaks the runtime".to_owned(),
    };
    let printable = reason.chars().map(|c| if c.is_control() { ' ' } else { c });
    Err(OnnxError::Unusable(printable.take(MAX_QUOTED).collect()))
}

#[cfg(test)]
mod tests;
