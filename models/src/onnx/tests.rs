//! Tests of models read from ONNX files.

use ndarray::{Array1, Array2, array};

use super::*;
use crate::Calibration;

/// Just enough protocol buffers to write a model.
mod wire {
    use ndarray::Array2;

    fn varint(mut value: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        while value > 0x7f {
            bytes.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
            value >>= 7;
        }
        bytes.push(u8::try_from(value).unwrap());
        bytes
    }

    fn number(tag: u64, value: usize) -> Vec<u8> {
        [varint(tag << 3), varint(value as u64)].concat()
    }

    fn field(tag: u64, payload: impl AsRef<[u8]>) -> Vec<u8> {
        [&varint(tag << 3 | 2), &varint(payload.as_ref().len() as u64), payload.as_ref()].concat()
    }

    pub fn constant(name: &str, values: &Array2<f32>) -> Vec<u8> {
        let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let sizes: Vec<u8> = values.shape().iter().flat_map(|size| number(1, *size)).collect();
        field(5, [sizes, number(2, 1), field(8, name), field(9, data)].concat())
    }

    /// 64-bit integers.
    pub fn sizes(name: &str, values: &[i64]) -> Vec<u8> {
        let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        field(5, [number(1, values.len()), number(2, 7), field(8, name), field(9, data)].concat())
    }

    pub fn node(operator: &str, inputs: &[&str], output: &str) -> Vec<u8> {
        let inputs: Vec<u8> = inputs.iter().flat_map(|name| field(1, name)).collect();
        field(1, [inputs, field(2, output), field(3, output), field(4, operator)].concat())
    }

    fn table(tag: u64, name: &str, kind: usize, rows: Vec<u8>, columns: usize) -> Vec<u8> {
        let shape = [field(1, rows), field(1, number(1, columns))].concat();
        let tensor = [number(1, kind), field(2, shape)].concat();
        field(tag, [field(1, name), field(2, field(1, tensor))].concat())
    }

    pub fn input(name: &str, columns: usize) -> Vec<u8> {
        table(11, name, 1, field(2, "batch"), columns)
    }

    pub fn input_of(name: &str, kind: usize, rows: usize, columns: usize) -> Vec<u8> {
        table(11, name, kind, number(1, rows), columns)
    }

    pub fn output(name: &str) -> Vec<u8> {
        field(12, field(1, name))
    }

    pub fn model(parts: &[Vec<u8>]) -> Vec<u8> {
        let graph = [field(2, "graph"), parts.concat()].concat();
        [number(1, 8), field(8, number(2, 13)), field(7, graph)].concat()
    }
}

fn reference(columns: usize) -> Reference {
    Reference::fit(Array2::from_shape_fn((101, columns), |(at, column)| (at * (column + 1)) as f32).view()).unwrap()
}

fn load(bytes: &[u8], output: OnnxOutput) -> Result<OnnxModel, OnnxError> {
    OnnxModel::from_bytes(bytes, output, &reference(3))
}

/// `w . x + b`.
fn linear() -> Vec<u8> {
    wire::model(&[
        wire::constant("w", &array![[0.5], [-2.0], [0.25]]),
        wire::constant("b", &array![[3.0]]),
        wire::input("x", 3),
        wire::output("score"),
        wire::node("Gemm", &["x", "w", "b"], "score"),
    ])
}

fn encoder() -> (Array2<f32>, Array2<f32>) {
    (array![[0.5, -0.25], [0.125, 1.0], [-0.75, 0.5]], array![[1.0, -0.5, 0.25], [0.5, 0.75, -1.0]])
}

/// 3 columns through 2 rectified ones, with a bias each.
fn autoencoder() -> Vec<u8> {
    let (down, up) = encoder();
    wire::model(&[
        wire::constant("down", &down),
        wire::constant("up", &up),
        wire::constant("bias", &array![[1.0, -2.0, 3.0]]),
        wire::input("x", 3),
        wire::output("label"),
        wire::output("again"),
        wire::node("MatMul", &["x", "down"], "h"),
        wire::node("Relu", &["h"], "middle"),
        wire::node("Identity", &["middle"], "label"),
        wire::node("MatMul", &["middle", "up"], "u"),
        wire::node("Add", &["u", "bias"], "again"),
    ])
}

fn probabilities() -> Vec<u8> {
    wire::model(&[
        wire::constant("w", &array![[0.01, -0.02], [0.0, 0.005], [-0.01, 0.0]]),
        wire::input("x", 3),
        wire::output("p"),
        wire::node("MatMul", &["x", "w"], "z"),
        wire::node("Softmax", &["z"], "p"),
    ])
}

const ROWS: [[f32; 3]; 4] = [[0.0, 0.0, 0.0], [1.0, -7.5, 300.25], [1e6, 3.0, -2.0], [-0.001, 40.0, 12.0]];

#[track_caller]
fn check_near(score: f64, expected: f64) {
    assert!((score - expected).abs() <= 1e-5 * expected.abs().max(1.0), "{score} is not {expected}");
}

#[test]
fn a_linear_score_is_the_one_computed_by_hand() {
    let (score, negated) = (OnnxOutput::Score, OnnxOutput::NegatedScore);
    let (model, reverse) = (load(&linear(), score).unwrap(), load(&linear(), negated).unwrap());
    assert_eq!((model.features(), model.output(), reverse.output()), (3, score, negated));
    for row in ROWS {
        let expected = f64::from(0.5 * row[0] - 2.0 * row[1] + 0.25 * row[2] + 3.0);
        check_near(model.score(&row), expected);
        assert_eq!(reverse.score(&row), -model.score(&row));
    }
}

#[test]
fn the_contribution_of_a_column_is_what_its_median_takes_away() {
    let model = load(&linear(), OnnxOutput::Score).unwrap();
    // Medians are 50, 100 and 150.
    let parts = model.contributions(&[60.0, 100.0, 110.0]);
    for (part, expected) in parts.into_iter().zip([5.0, 0.0, -10.0]) {
        check_near(part, expected);
    }
}

#[test]
fn the_error_of_an_autoencoder_is_in_usual_ranges() {
    let model = load(&autoencoder(), OnnxOutput::ReconstructionError).unwrap();
    let (down, up) = encoder();
    for row in ROWS {
        let again =
            Array1::from(row.to_vec()).dot(&down).mapv(|value| value.max(0.0)).dot(&up) + array![1.0, -2.0, 3.0];
        // Percentiles 1 and 99 of 0 to 100 times 1, 2 and 3.
        let squares = (0..3).map(|at| (f64::from(row[at] - again[at]) / (98.0 * (at + 1) as f64)).powi(2));
        check_near(model.score(&row), (squares.sum::<f64>() / 3.0).sqrt());
    }
}

#[test]
fn the_score_of_a_classifier_is_the_probability_that_a_row_is_not_normal() {
    let model = load(&probabilities(), OnnxOutput::NormalProbability).unwrap();
    for row in [[10.0_f32, 20.0, 30.0], [100.0, 0.0, 0.0], [0.0, 100.0, 100.0]] {
        let [normal, attack] = [0.01 * row[0] - 0.01 * row[2], -0.02 * row[0] + 0.005 * row[1]].map(f32::exp);
        check_near(model.score(&row), f64::from(attack / (normal + attack)));
    }
}

#[test]
fn batches_score_as_rows_do_and_calibrate() {
    let model = load(&autoencoder(), OnnxOutput::ReconstructionError).unwrap();
    let normal = Array2::from_shape_fn((50, 3), |(at, column)| (at * (column + 1)) as f32);
    let scores = model.score_batch(normal.view());
    assert!(normal.rows().into_iter().zip(&scores).all(|(row, score)| model.score(&row.to_vec()) == *score));
    let calibration = Calibration::new(scores.to_vec()).unwrap();
    assert_eq!(calibration.p_value(model.score(&[1e6, -1e6, 1e6])), 1.0 / 51.0);
}

#[test]
fn what_is_not_finite_has_the_largest_score() {
    for (bytes, output) in [
        (linear(), OnnxOutput::Score),
        (linear(), OnnxOutput::NegatedScore),
        (autoencoder(), OnnxOutput::ReconstructionError),
        (probabilities(), OnnxOutput::NormalProbability),
    ] {
        let model = load(&bytes, output).unwrap();
        for row in [[f32::NAN; 3], [f32::INFINITY, f32::NEG_INFINITY, f32::INFINITY]] {
            assert_eq!(model.score(&row), LARGEST_SCORE, "{output:?} {row:?}");
            assert!(model.contributions(&row).iter().all(|part| part.is_finite()));
        }
        for row in [[f32::MAX; 3], [f32::MIN; 3]] {
            assert!(model.score(&row).abs() <= LARGEST_SCORE, "{output:?} {row:?}");
        }
    }
}

#[test]
fn outputs_that_are_not_what_was_said_are_refused() {
    for (bytes, output, values) in [
        (autoencoder(), OnnxOutput::Score, 3),
        (autoencoder(), OnnxOutput::NegatedScore, 3),
        (autoencoder(), OnnxOutput::NormalProbability, 3),
        (linear(), OnnxOutput::ReconstructionError, 1),
        (linear(), OnnxOutput::NormalProbability, 1),
    ] {
        assert_eq!(load(&bytes, output).unwrap_err(), OnnxError::Output { values, wanted: output.name() });
    }
}

#[test]
fn inputs_that_are_not_rows_of_the_same_columns_are_refused() {
    let identity = |inputs: &[Vec<u8>]| {
        let parts = [inputs, &[wire::output("y"), wire::node("Identity", &["x"], "y")]].concat();
        load(&wire::model(&parts), OnnxOutput::ReconstructionError)
    };
    let width = |found| OnnxError::Width { expected: 3, found };
    assert!(identity(&[wire::input_of("x", 1, 1, 3)]).is_ok());
    for (inputs, expected) in [
        (vec![wire::input("x", 4)], width(4)),
        (vec![wire::input("x", 0)], width(0)),
        (vec![wire::input_of("x", 1, 2, 3)], OnnxError::Input),
        (vec![wire::input_of("x", 11, 1, 3)], OnnxError::Input),
        (vec![wire::input("x", 3), wire::input("z", 3)], OnnxError::Input),
        (vec![], OnnxError::Input),
    ] {
        assert_eq!(identity(&inputs).unwrap_err(), expected);
    }
}

#[test]
fn operators_that_roll_dice_or_compute_without_end_are_refused() {
    for operator in REFUSED {
        let parts = [wire::input("x", 3), wire::output("y"), wire::node(operator, &["x"], "y")];
        let error = load(&wire::model(&parts), OnnxOutput::Score).unwrap_err();
        assert_eq!(error, OnnxError::Operator(operator.to_owned()));
    }
}

#[test]
fn tensors_that_no_memory_holds_are_refused() {
    let parts = [
        wire::sizes("shape", &[1 << 20, 1 << 10, 3]),
        wire::input("x", 3),
        wire::output("y"),
        wire::node("Expand", &["x", "shape"], "y"),
    ];
    let error = load(&wire::model(&parts), OnnxOutput::Score).unwrap_err();
    assert_eq!(error, OnnxError::Unusable("a tensor is too large".to_owned()));
}

#[test]
fn files_that_are_not_models_are_refused() {
    let dangling = [wire::input("x", 3), wire::output("nowhere")];
    let unknown = [wire::input("x", 3), wire::output("y"), wire::node("Levitate", &["x"], "y")];
    for bytes in [vec![], b"LEUKOMDL".to_vec(), vec![0xff; 100], wire::model(&dangling), wire::model(&unknown)] {
        assert!(matches!(load(&bytes, OnnxOutput::Score), Err(OnnxError::Unusable(_) | OnnxError::Input)));
    }
    let large = vec![0; MAX_ONNX_BYTES + 1];
    assert_eq!(load(&large, OnnxOutput::Score).unwrap_err(), OnnxError::TooLarge(large.len()));
}

#[test]
fn damaged_files_are_errors_or_can_be_used() {
    let output = OnnxOutput::ReconstructionError;
    let good = autoencoder();
    for at in 0..good.len() {
        assert!(load(&good[..at], output).is_err(), "the first {at} bytes");
        let mut damaged = good.clone();
        damaged[at] ^= 1 << (at % 8);
        if let Ok(model) = load(&damaged, output) {
            assert!(model.score(&ROWS[1]).is_finite(), "byte {at}");
        }
    }
}
