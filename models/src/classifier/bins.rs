//! Columns as at most 256 steps, so that a split is found in one pass over a histogram.

use ndarray::{ArrayView1, ArrayView2};

/// Most steps of a column.
pub(super) const BINS: usize = 256;

/// Where the steps of each column end, and on which step each training value is.
pub(super) struct Bins {
    /// Ascending; a value is on step `b` if exactly `b` of its column are below it.
    cuts: Vec<Vec<f32>>,
    /// Column by column.
    steps: Vec<u8>,
    rows: usize,
}

impl Bins {
    /// Of rows without NaN. A column of few different values has a step for each of them, another steps of about
    /// equally many rows.
    pub(super) fn new(rows: ArrayView2<'_, f32>) -> Self {
        let cuts: Vec<Vec<f32>> = rows.columns().into_iter().map(cuts).collect();
        let step = |cuts: &[f32], value: f32| {
            u8::try_from(cuts.partition_point(|cut| *cut < value)).expect("fewer than BINS cuts")
        };
        let columns = rows.columns().into_iter().zip(&cuts);
        let steps = columns.flat_map(|(column, cuts)| column.into_iter().map(|value| step(cuts, *value))).collect();
        Self { cuts, steps, rows: rows.nrows() }
    }

    /// How many rows there are.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Ends of the steps of `column` but the last.
    pub(super) fn cuts(&self, column: usize) -> &[f32] {
        &self.cuts[column]
    }

    /// Step of each row in `column`.
    pub(super) fn steps(&self, column: usize) -> &[u8] {
        &self.steps[column * self.rows..][..self.rows]
    }
}

fn cuts(column: ArrayView1<'_, f32>) -> Vec<f32> {
    let mut values = column.to_vec();
    values.sort_unstable_by(f32::total_cmp);
    let mut different = values.clone();
    different.dedup();
    if different.len() <= BINS {
        return different.windows(2).map(|pair| between(pair[0], pair[1])).collect();
    }
    let mut cuts: Vec<f32> = (1..BINS)
        .filter_map(|quantile| {
            let last = values[quantile * values.len() / BINS - 1];
            let next = values.partition_point(|value| *value <= last);
            values.get(next).map(|next| between(last, *next))
        })
        .collect();
    cuts.dedup();
    cuts
}

/// A number that is at least `low` and below `high`.
fn between(low: f32, high: f32) -> f32 {
    let middle = low.midpoint(high);
    if middle < high { middle } else { low }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, Axis};
    use proptest::prelude::*;

    #[test]
    fn few_values_are_all_told_apart() {
        let bins = Bins::new(ndarray::array![[3.0, 1.0], [1.0, 1.0], [-7.0, 1.0], [1.0, 1.0]].view());
        assert_eq!(bins.cuts(0), [-3.0, 2.0]);
        assert_eq!((bins.steps(0), bins.steps(1)), (&[2, 1, 0, 1][..], &[0; 4][..]));
        assert!(bins.cuts(1).is_empty());
    }

    #[test]
    fn many_values_fall_on_steps_of_equal_size() {
        let bins = Bins::new(Array2::from_shape_fn((10_000, 1), |(row, _)| (row * 7 % 10_000) as f32).view());
        let mut sizes = [0; BINS];
        bins.steps(0).iter().for_each(|step| sizes[usize::from(*step)] += 1);
        assert!(sizes.iter().all(|size| (38..=41).contains(size)), "{sizes:?}");
    }

    proptest! {
        #[test]
        fn steps_and_cuts_agree(values in prop::collection::vec(prop::num::f32::NORMAL | prop::num::f32::ZERO, 1..600)) {
            let bins = Bins::new(ArrayView1::from(&values).insert_axis(Axis(1)));
            let cuts = bins.cuts(0);
            prop_assert!(cuts.len() < BINS && cuts.iter().all(|cut| cut.is_finite()));
            prop_assert!(cuts.windows(2).all(|pair| pair[0] < pair[1]));
            for (value, step) in values.iter().zip(bins.steps(0)) {
                let step = usize::from(*step);
                prop_assert!(step == 0 || cuts[step - 1] < *value);
                prop_assert!(step == cuts.len() || *value <= cuts[step]);
            }
        }
    }
}
