//! Dense layers, their gradient, and Adam.

use ndarray::ArrayView2;
use rand::Rng as _;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::model::{InvalidModel, checked_serde};

const LEAK: f32 = 0.1;
const RATE: f32 = 2e-3;
/// Widest layer of a network that is read.
const MAX_WIDTH: usize = 256;
const MAX_WEIGHT: f32 = 1e4;

/// Layers in order; the output of one has the width that the next one takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub(super) struct Network {
    layers: Vec<Layer>,
}

checked_serde!(Network);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Layer {
    inputs: usize,
    outputs: usize,
    /// `inputs` lines of `outputs` weights.
    weights: Vec<f32>,
    bias: Vec<f32>,
}

impl Network {
    /// Weights uniform in a range that keeps variance from layer to layer (He et al. 2015), no bias.
    pub(super) fn random(widths: &[usize], rng: &mut ChaCha8Rng) -> Self {
        let layer = |pair: &[usize]| {
            let (inputs, outputs) = (pair[0], pair[1]);
            let range = (3.0 / inputs as f32).sqrt();
            let weights = (0..inputs * outputs).map(|_| rng.gen_range(-range..range)).collect();
            Layer { inputs, outputs, weights, bias: vec![0.0; outputs] }
        };
        Self { layers: widths.windows(2).map(layer).collect() }
    }

    pub(super) fn columns(&self) -> usize {
        self.layers.first().map_or(0, |layer| layer.inputs)
    }

    /// What the network makes of a scaled row.
    pub(super) fn repeat(&self, row: &[f32]) -> Vec<f32> {
        let mut values = row.to_vec();
        for (at, layer) in self.layers.iter().enumerate() {
            values = layer.forward(&values);
            if self.bends(at) {
                values.iter_mut().for_each(|value| *value = bend(*value));
            }
        }
        values
    }

    /// Mean squared error a value; infinite if it is not a number.
    pub(super) fn mean_error(&self, rows: ArrayView2<'_, f32>) -> f64 {
        let mut sum = 0.0;
        for row in rows.rows() {
            let row = row.to_vec();
            sum += row.iter().zip(self.repeat(&row)).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
        }
        let mean = sum / rows.len() as f64;
        if mean.is_finite() { mean } else { f64::INFINITY }
    }

    /// The middle and the output are linear.
    fn bends(&self, layer: usize) -> bool {
        layer + 1 != self.layers.len() && layer + 1 != self.layers.len() / 2
    }

    /// Adds the gradient of half the squared error of `row`.
    fn gradient(&self, row: &[f32], sums: &mut [Layer]) {
        let mut inputs = vec![row.to_vec()];
        for (at, layer) in self.layers.iter().enumerate() {
            let mut values = layer.forward(&inputs[at]);
            if self.bends(at) {
                values.iter_mut().for_each(|value| *value = bend(*value));
            }
            inputs.push(values);
        }
        let mut errors: Vec<f32> = inputs[self.layers.len()].iter().zip(row).map(|(a, b)| a - b).collect();
        for (at, layer) in self.layers.iter().enumerate().rev() {
            if self.bends(at) {
                let slopes = inputs[at + 1].iter().map(|value| if *value > 0.0 { 1.0 } else { LEAK });
                errors.iter_mut().zip(slopes).for_each(|(error, slope)| *error *= slope);
            }
            errors = layer.backward(&inputs[at], &errors, &mut sums[at]);
        }
    }

    fn validate(&self) -> Result<(), InvalidModel> {
        let usable = |layer: &Layer| {
            (1..=MAX_WIDTH).contains(&layer.inputs)
                && (1..=MAX_WIDTH).contains(&layer.outputs)
                && layer.weights.len() == layer.inputs * layer.outputs
                && layer.bias.len() == layer.outputs
                && layer.weights.iter().chain(&layer.bias).all(|value| value.abs() <= MAX_WEIGHT)
        };
        let joined = self.layers.windows(2).all(|pair| pair[0].outputs == pair[1].inputs);
        let same = self.layers.last().is_some_and(|layer| layer.outputs == self.columns());
        if self.layers.len() == 4 && self.layers.iter().all(usable) && joined && same {
            Ok(())
        } else {
            Err(InvalidModel("the layers of the network do not fit together"))
        }
    }
}

impl Layer {
    fn forward(&self, values: &[f32]) -> Vec<f32> {
        let mut out = self.bias.clone();
        for (value, line) in values.iter().zip(self.weights.chunks_exact(self.outputs)) {
            out.iter_mut().zip(line).for_each(|(to, weight)| *to += value * weight);
        }
        out
    }

    /// Adds to `sums`, and returns the errors of the inputs.
    fn backward(&self, inputs: &[f32], errors: &[f32], sums: &mut Self) -> Vec<f32> {
        sums.bias.iter_mut().zip(errors).for_each(|(to, error)| *to += error);
        let lines = self.weights.chunks_exact(self.outputs).zip(sums.weights.chunks_exact_mut(self.outputs));
        lines
            .zip(inputs)
            .map(|((line, sums), input)| {
                sums.iter_mut().zip(errors).for_each(|(to, error)| *to += input * error);
                dot(line, errors)
            })
            .collect()
    }

    fn zeroed(&self) -> Self {
        Self { weights: vec![0.0; self.weights.len()], bias: vec![0.0; self.bias.len()], ..*self }
    }
}

/// Running moments of the gradient.
pub(super) struct Adam {
    sums: Vec<Layer>,
    first: Vec<Layer>,
    second: Vec<Layer>,
    steps: i32,
}

impl Adam {
    pub(super) fn new(network: &Network) -> Self {
        let zeroed = || network.layers.iter().map(Layer::zeroed).collect::<Vec<_>>();
        Self { sums: zeroed(), first: zeroed(), second: zeroed(), steps: 0 }
    }

    /// One step on the mean gradient of the rows numbered `batch`.
    pub(super) fn step(&mut self, network: &mut Network, rows: ArrayView2<'_, f32>, batch: &[usize]) {
        const FIRST: f32 = 0.9;
        const SECOND: f32 = 0.999;
        for layer in &mut self.sums {
            layer.weights.fill(0.0);
            layer.bias.fill(0.0);
        }
        for at in batch {
            network.gradient(&rows.row(*at).to_vec(), &mut self.sums);
        }
        self.steps = self.steps.saturating_add(1);
        let (fade_first, fade_second) = (1.0 - FIRST.powi(self.steps), 1.0 - SECOND.powi(self.steps));
        let share = 1.0 / batch.len() as f32;
        let update = |value: &mut f32, sum: f32, first: &mut f32, second: &mut f32| {
            let slope = sum * share;
            *first = FIRST * *first + (1.0 - FIRST) * slope;
            *second = SECOND * *second + (1.0 - SECOND) * slope * slope;
            let moved = *value - RATE * (*first / fade_first) / ((*second / fade_second).sqrt() + 1e-8);
            *value = moved.clamp(-MAX_WEIGHT, MAX_WEIGHT);
        };
        let moments = self.first.iter_mut().zip(&mut self.second);
        for ((layer, sums), (first, second)) in network.layers.iter_mut().zip(&self.sums).zip(moments) {
            let moments = first.weights.iter_mut().zip(&mut second.weights);
            for ((value, sum), (first, second)) in layer.weights.iter_mut().zip(&sums.weights).zip(moments) {
                update(value, *sum, first, second);
            }
            let moments = first.bias.iter_mut().zip(&mut second.bias);
            for ((value, sum), (first, second)) in layer.bias.iter_mut().zip(&sums.bias).zip(moments) {
                update(value, *sum, first, second);
            }
        }
    }
}

fn bend(value: f32) -> f32 {
    if value > 0.0 { value } else { LEAK * value }
}

/// Eight sums at a time, always in the same order.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a_groups, a_rest) = a.as_chunks::<8>();
    let (b_groups, b_rest) = b.as_chunks::<8>();
    let mut sums = [0.0_f32; 8];
    for (x, y) in a_groups.iter().zip(b_groups) {
        for lane in 0..8 {
            sums[lane] += x[lane] * y[lane];
        }
    }
    sums.iter().sum::<f32>() + a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum::<f32>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;

    #[test]
    fn the_gradient_is_that_of_the_error() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let network = Network::random(&[3, 4, 2, 4, 3], &mut rng);
        let row = [0.7, -1.1, 0.4];
        let mut sums: Vec<Layer> = network.layers.iter().map(Layer::zeroed).collect();
        network.gradient(&row, &mut sums);
        let error = |network: &Network| {
            0.5 * row.iter().zip(network.repeat(&row)).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>()
        };
        for (layer, sums) in sums.iter().enumerate() {
            for at in 0..sums.weights.len() {
                let moved = |by: f32| {
                    let mut moved = network.clone();
                    moved.layers[layer].weights[at] += by;
                    error(&moved)
                };
                let expected = (moved(1e-2) - moved(-1e-2)) / 2e-2;
                let found = f64::from(sums.weights[at]);
                assert!((found - expected).abs() < 2e-3 * expected.abs().max(1.0), "{layer} {at}: {found} {expected}");
            }
        }
    }

    #[test]
    fn forged_layers_are_refused() {
        let network = Network::random(&[2, 2, 1, 2, 2], &mut ChaCha8Rng::seed_from_u64(1));
        let text = serde_json::to_string(&network).unwrap();
        assert_eq!(serde_json::from_str::<Network>(&text).unwrap(), network);
        for (from, to) in
            [("\"inputs\":1", "\"inputs\":3"), ("\"outputs\":1", "\"outputs\":0"), ("\"bias\":[0.0,", "\"bias\":[1e9,")]
        {
            assert!(serde_json::from_str::<Network>(&text.replacen(from, to, 1)).is_err(), "{to}");
        }
    }
}
