//! The rounds of boosting: in each, one tree for each class that occurs, fitted to the derivatives of the softmax loss.
//!
//! Source: Friedman, "Greedy function approximation: a gradient boosting machine" (Annals of Statistics 29, 2001), with
//! the Newton steps of XGBoost and columns drawn for each tree.

use ndarray::ArrayView2;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use super::bins::Bins;
use super::grow::{Derivatives, grow};
use super::params::ClassifierParams;
use super::softmax;
use super::trees::Node;
use crate::isolation_forest::draw;

/// Fits to `classes`, positions in `present`, whose values are how many rows are of the class. Gives the trees of the
/// first class in the order of the rounds, then those of the next.
pub(super) fn boost(
    params: &ClassifierParams,
    rows: ArrayView2<'_, f32>,
    classes: &[usize],
    present: &[u32],
) -> Vec<Vec<Node>> {
    let bins = Bins::new(rows);
    let mut rng = ChaCha8Rng::seed_from_u64(params.seed);
    let columns = u32::try_from(rows.ncols()).expect("the number of columns was checked");
    let mut order: Vec<u32> = (0..columns).collect();
    let weights = weights(present, params.balance);
    // Row by row, the margin of each class.
    let start = start(present, &weights);
    let mut margins: Vec<f64> = classes.iter().flat_map(|_| &start).copied().collect();
    let mut trees: Vec<Vec<Vec<Node>>> = vec![Vec::new(); present.len()];
    for _ in 0..params.rounds {
        let mut probabilities = margins.clone();
        probabilities.chunks_exact_mut(present.len()).for_each(softmax);
        for (class, trees) in trees.iter_mut().enumerate() {
            let derivatives = derivatives(class, &probabilities, classes, &weights);
            let mut chosen = draw(&mut order, drawn(columns, params.column_share), &mut rng).to_vec();
            chosen.sort_unstable();
            let grown = grow(params, &bins, &derivatives, &chosen);
            for (margins, step) in margins.chunks_exact_mut(present.len()).zip(grown.step) {
                margins[class] += f64::from(step);
            }
            trees.push(grown.nodes);
        }
    }
    trees.into_iter().flatten().collect()
}

/// What a row of each class counts; 1 on average over the rows.
fn weights(present: &[u32], balance: f64) -> Vec<f64> {
    let unscaled: Vec<f64> = present.iter().map(|rows| f64::from(*rows).powf(-balance)).collect();
    let rows: f64 = present.iter().map(|rows| f64::from(*rows)).sum();
    let total: f64 = present.iter().zip(&unscaled).map(|(rows, weight)| f64::from(*rows) * weight).sum();
    unscaled.iter().map(|weight| weight * rows / total).collect()
}

/// Margins of a row of which nothing is known: the logarithm of the weighted share of each class.
fn start(present: &[u32], weights: &[f64]) -> Vec<f64> {
    let rows: f64 = present.iter().map(|rows| f64::from(*rows)).sum();
    present.iter().zip(weights).map(|(count, weight)| (f64::from(*count) * weight / rows).ln()).collect()
}

fn derivatives(class: usize, probabilities: &[f64], classes: &[usize], weights: &[f64]) -> Derivatives {
    let of_rows = probabilities.chunks_exact(weights.len()).zip(classes).map(|(probabilities, of)| {
        let (p, weight) = (probabilities[class], weights[*of]);
        let wanted = if *of == class { 1.0 } else { 0.0 };
        (weight * (p - wanted), weight * p * (1.0 - p))
    });
    let (gradient, hessian) = of_rows.unzip();
    Derivatives { gradient, hessian }
}

/// At least one column.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 1 to the number of columns")]
fn drawn(columns: u32, share: f64) -> u32 {
    (f64::from(columns) * share).ceil().clamp(1.0, f64::from(columns)) as u32
}
