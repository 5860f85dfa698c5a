//! Puts columns of any unit and range on one bounded scale on which distances mean something.
//!
//! Each column is fitted on its own to the training rows:
//! - a column whose tail is much heavier than its middle is taken as `sign(x) ln(1 + |x| / unit)`, where `unit` is the
//!   10th percentile of its values other than 0: octets and rates become orders of magnitude, whatever their unit;
//! - it is centred on its median and divided by the larger of its interquartile range and its 1st to 99th percentile
//!   range, both expressed as the standard deviation of a normal distribution; where both are 0 (a flag that is rarely
//!   set), by its standard deviation;
//! - it is clipped to `[-CLIP, CLIP]`, so that one column alone cannot make a score infinite;
//! - a column that never varied is 0, and `PENALTY` away from it for any other value, however far.
//!
//! `NaN` is taken as the largest value, as the forest does.
//!
//! Source: robust location and scale after Huber, "Robust Statistics" (1981).

use ndarray::{Array2, ArrayView2};
use serde::{Deserialize, Serialize};

use crate::isolation_forest::{FitError, MAX_FEATURES, check_rows};
use crate::model::{InvalidModel, checked_serde};

/// Largest scaled value, in robust standard deviations.
pub const CLIP: f64 = 12.0;
/// Scaled value of a deviation in a column that never varied.
pub const PENALTY: f64 = 4.0;

/// Fitted scaling of all columns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Scaler {
    columns: Vec<ColumnScale>,
}

checked_serde!(Scaler);

/// Scaling of one column.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ColumnScale {
    /// Unit of the logarithm, in that of the column; 0 where values are taken as they are.
    pub log_unit: f64,
    /// What becomes 0, after the logarithm.
    pub centre: f64,
    /// What becomes 1, after the logarithm; positive.
    pub spread: f64,
    /// Never varied in the training rows.
    pub constant: bool,
}

impl Scaler {
    /// Fits the scaling of each column of `rows`.
    ///
    /// # Errors
    /// Fewer than two rows, no or too many columns, or a value that is not finite.
    pub fn fit(rows: ArrayView2<'_, f32>) -> Result<Self, FitError> {
        check_rows(rows)?;
        Ok(Self { columns: rows.columns().into_iter().map(|column| ColumnScale::fit(column.to_vec())).collect() })
    }

    /// The columns, in order.
    #[must_use]
    pub fn columns(&self) -> &[ColumnScale] {
        &self.columns
    }

    /// A row on the common scale: each value in `[-CLIP, CLIP]`.
    ///
    /// # Panics
    /// If `row` does not have one value for each column.
    #[must_use]
    pub fn scale(&self, row: &[f32]) -> Vec<f64> {
        assert_eq!(row.len(), self.columns.len(), "a row must have one value for each column of the scaling");
        self.columns.iter().zip(row).map(|(column, value)| column.scale(*value)).collect()
    }

    /// [`Self::scale`] of each row.
    ///
    /// # Panics
    /// As [`Self::scale`].
    #[must_use]
    pub fn scale_rows(&self, rows: ArrayView2<'_, f32>) -> Array2<f64> {
        assert_eq!(rows.ncols(), self.columns.len(), "a row must have one value for each column of the scaling");
        Array2::from_shape_fn(rows.dim(), |(row, column)| self.columns[column].scale(rows[[row, column]]))
    }

    /// A scaled row in the units of the columns: the inverse of [`Self::scale`] up to clipping and rounding.
    ///
    /// # Panics
    /// As [`Self::scale`].
    #[must_use]
    pub fn unscale(&self, scaled: &[f64]) -> Vec<f32> {
        assert_eq!(scaled.len(), self.columns.len(), "a row must have one value for each column of the scaling");
        self.columns.iter().zip(scaled).map(|(column, value)| column.unscale(*value)).collect()
    }

    pub(crate) fn validate(&self) -> Result<(), InvalidModel> {
        let usable = |c: &ColumnScale| {
            c.log_unit.is_finite()
                && c.log_unit >= 0.0
                && c.centre.is_finite()
                && c.spread.is_finite()
                && c.spread > 0.0
        };
        if self.columns.is_empty() || self.columns.len() > usize::from(MAX_FEATURES) {
            return Err(InvalidModel("the number of scaled columns is out of range"));
        }
        if self.columns.iter().all(usable) { Ok(()) } else { Err(InvalidModel("the scale of a column is not usable")) }
    }
}

impl ColumnScale {
    /// Of finite values, at least one.
    fn fit(mut values: Vec<f32>) -> Self {
        values.sort_unstable_by(f32::total_cmp);
        let raw: Vec<f64> = values.iter().map(|value| f64::from(*value)).collect();
        let (first, last) = (raw[0], raw[raw.len() - 1]);
        if first == last {
            return Self { log_unit: 0.0, centre: first, spread: 1.0, constant: true };
        }
        let mut sizes: Vec<f64> = raw.iter().map(|value| value.abs()).filter(|size| *size > 0.0).collect();
        sizes.sort_unstable_by(f64::total_cmp);
        let unit = quantile(&sizes, 0.1);
        let logs: Vec<f64> = raw.iter().map(|value| signed_log(*value, unit)).collect();
        let chosen = if tail(&logs) < LIGHTER * tail(&raw) { &logs } else { &raw };
        let log_unit = if std::ptr::eq(chosen, &logs) { unit } else { 0.0 };
        Self { log_unit, centre: quantile(chosen, 0.5), spread: spread(chosen), constant: false }
    }

    fn scale(&self, value: f32) -> f64 {
        let value = f64::from(value);
        if self.constant {
            return if value == self.centre {
                0.0
            } else if value < self.centre {
                -PENALTY
            } else {
                PENALTY
            };
        }
        let shaped = if self.log_unit > 0.0 { signed_log(value, self.log_unit) } else { value };
        let scaled = (shaped - self.centre) / self.spread;
        if scaled.is_nan() { CLIP } else { scaled.clamp(-CLIP, CLIP) }
    }

    fn unscale(&self, scaled: f64) -> f32 {
        if self.constant {
            return narrow(self.centre);
        }
        let shaped = self.centre + scaled * self.spread;
        if self.log_unit > 0.0 {
            return narrow(shaped.signum() * shaped.abs().exp_m1() * self.log_unit);
        }
        narrow(shaped)
    }
}

/// A logarithm is worth it if it makes the tail this much lighter.
const LIGHTER: f64 = 0.75;

fn signed_log(value: f64, unit: f64) -> f64 {
    value.signum() * (value.abs() / unit).ln_1p()
}

/// Range over spread: how far the extremes are from the middle.
fn tail(sorted: &[f64]) -> f64 {
    (sorted[sorted.len() - 1] - sorted[0]) / spread(sorted)
}

/// Robust standard deviation of sorted values that vary; positive.
fn spread(sorted: &[f64]) -> f64 {
    const QUARTILES: f64 = 1.349;
    const PERCENTILES: f64 = 4.653;
    let middle = (quantile(sorted, 0.75) - quantile(sorted, 0.25)) / QUARTILES;
    let most = (quantile(sorted, 0.99) - quantile(sorted, 0.01)) / PERCENTILES;
    let robust = middle.max(most);
    if robust > 0.0 {
        return robust;
    }
    let count = sorted.len() as f64;
    let mean = sorted.iter().sum::<f64>() / count;
    let variance = sorted.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
    // Differences so small that their squares vanish.
    variance.sqrt().max(f64::MIN_POSITIVE * count)
}

/// Nearest rank, of sorted values.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank is at most the number of values")]
pub(crate) fn quantile(sorted: &[f64], level: f64) -> f64 {
    let rank = (level * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

/// The nearest finite `f32`.
#[expect(clippy::cast_possible_truncation, reason = "rounding is what is asked for")]
pub(crate) fn narrow(value: f64) -> f32 {
    value.clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array1, Axis, array};
    use proptest::prelude::*;

    fn column(values: Vec<f32>) -> Scaler {
        Scaler::fit(Array1::from(values).insert_axis(Axis(1)).view()).unwrap()
    }

    #[test]
    fn a_symmetric_column_is_centred_on_its_median() {
        let scaler = column((0..=1000).map(|value| value as f32).collect());
        assert_eq!(scaler.columns()[0].log_unit, 0.0);
        assert_eq!(scaler.scale(&[500.0]), [0.0]);
        assert!((scaler.scale(&[750.0])[0] - 0.674).abs() < 0.01);
    }

    #[test]
    fn a_heavy_tail_is_taken_as_orders_of_magnitude() {
        let scaler = column((0..1000).map(|step| (step as f32 / 50.0).exp()).collect());
        assert!(scaler.columns()[0].log_unit > 0.0);
        let step = |a: f32, b: f32| scaler.scale(&[b])[0] - scaler.scale(&[a])[0];
        assert!((step(1e4, 1e5) - step(1e6, 1e7)).abs() < 0.01);
    }

    #[test]
    fn a_column_that_never_varied_has_a_bounded_penalty() {
        let scaler = column(vec![3.0; 9]);
        for (value, expected) in
            [(3.0, 0.0), (3.1, PENALTY), (f32::MAX, PENALTY), (f32::NAN, PENALTY), (-1.0, -PENALTY)]
        {
            assert_eq!(scaler.scale(&[value]), [expected], "{value}");
        }
    }

    #[test]
    fn a_rare_flag_is_scaled_by_its_deviation() {
        let scaler = column((0..1000).map(|row| f32::from(u8::from(row == 0))).collect());
        assert_eq!(scaler.scale(&[0.0]), [0.0]);
        assert_eq!(scaler.scale(&[1.0]), [CLIP]);
    }

    #[test]
    fn what_cannot_be_scaled_is_refused() {
        for text in [
            r#"{"columns":[]}"#,
            r#"{"columns":[{"log_unit":-1,"centre":0,"spread":1,"constant":false}]}"#,
            r#"{"columns":[{"log_unit":0,"centre":0,"spread":0,"constant":false}]}"#,
            r#"{"columns":[{"log_unit":0,"centre":1e999,"spread":1,"constant":false}]}"#,
        ] {
            assert!(serde_json::from_str::<Scaler>(text).is_err(), "{text}");
        }
        assert_eq!(Scaler::fit(array![[f32::NAN], [1.0]].view()), Err(FitError::NotFinite { row: 0, column: 0 }));
    }

    proptest! {
        #[test]
        fn any_value_is_scaled_within_the_limits(
            values in prop::collection::vec(prop::num::f32::NORMAL | prop::num::f32::ZERO | prop::num::f32::SUBNORMAL, 2..30),
            probe in prop::num::f32::ANY,
        ) {
            let scaler = column(values);
            let scaled = scaler.scale(&[probe])[0];
            prop_assert!(scaled.abs() <= CLIP);
            prop_assert!(scaler.unscale(&[scaled])[0].is_finite());
        }

        #[test]
        fn unscaling_gives_the_value_back(values in prop::collection::vec(-1e12_f32..1e12, 20..40), at: prop::sample::Index) {
            let scaler = column(values.clone());
            let value = values[at.index(values.len())];
            let scaled = scaler.scale(&[value]);
            prop_assume!(scaled[0].abs() < CLIP);
            let back = scaler.unscale(&scaled)[0];
            prop_assert!((back - value).abs() <= 1e-4 * value.abs().max(1.0), "{} {}", value, back);
        }
    }
}
