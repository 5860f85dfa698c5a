//! Rows to learn from, with their classes and where they came from.

use std::path::PathBuf;

use ndarray::Array2;
use sensor_models::labels::CLASSES;

use super::Schema;

/// Rows of one schema, as a model is given them.
#[derive(Clone, Debug)]
pub struct Rows {
    /// What the columns are.
    pub schema: Schema,
    /// One row after the other.
    values: Vec<f32>,
    /// Of each row: its class, a position in [`CLASSES`]; nothing if it is neither learned nor measured.
    classes: Vec<Option<u16>>,
    /// The inputs, in the order in which they were given.
    pub origins: Vec<Origin>,
}

/// One input.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// The file.
    pub path: PathBuf,
    /// `capture`, or what a table is.
    pub kind: &'static str,
    /// Whether somebody or something said which rows are attacks.
    pub labelled: bool,
    /// Rows in it.
    pub rows: usize,
    /// Event time of the first and of the latest flow, seconds since the epoch, where it is known.
    pub span_s: Option<(f64, f64)>,
    /// Where a capture is damaged, and how.
    pub damage: Option<String>,
}

impl Rows {
    /// No rows.
    #[must_use]
    pub const fn new(schema: Schema) -> Self {
        Self { schema, values: Vec::new(), classes: Vec::new(), origins: Vec::new() }
    }

    /// Adds a row as it was measured. Logarithms tame columns that span ten decades, and keep their order; the sensor
    /// takes them as well.
    pub fn push(&mut self, measured: &[f32], class: Option<u16>) {
        debug_assert_eq!(measured.len(), self.schema.columns().len());
        self.values.extend(measured.iter().map(|value| value.ln_1p()));
        self.classes.push(class);
    }

    /// Number of rows.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.classes.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.classes.is_empty()
    }

    /// Rows whose class is wanted.
    #[must_use]
    pub fn count(&self, wanted: impl Fn(Option<u16>) -> bool) -> usize {
        self.classes.iter().filter(|class| wanted(**class)).count()
    }

    /// Class of a row.
    #[must_use]
    pub fn class(&self, row: usize) -> Option<u16> {
        self.classes[row]
    }

    /// Values of a row.
    #[must_use]
    pub fn values(&self, row: usize) -> &[f32] {
        let width = self.schema.columns().len();
        &self.values[row * width..][..width]
    }

    /// Some rows as a matrix.
    #[must_use]
    pub fn select(&self, rows: &[usize]) -> Array2<f32> {
        Array2::from_shape_fn((rows.len(), self.schema.columns().len()), |(row, column)| self.values(rows[row])[column])
    }

    /// The files the rows are from.
    #[must_use]
    pub fn inputs(&self) -> String {
        self.origins.iter().map(|origin| origin.path.display().to_string()).collect::<Vec<_>>().join(", ")
    }

    /// Event time of the latest flow in seconds since the epoch, 0 if unknown.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float to an integer saturates")]
    pub fn latest_s(&self) -> u64 {
        self.origins.iter().filter_map(|origin| Some(origin.span_s?.1)).fold(0.0, f64::max) as u64
    }
}

impl Origin {
    /// Widens the span by that of a flow.
    pub fn note_span(&mut self, first: f64, last: f64) {
        let (from, to) = self.span_s.unwrap_or((first, last));
        self.span_s = Some((from.min(first), to.max(last)));
    }
}

/// Position of a class in [`CLASSES`].
#[must_use]
pub fn class_number(name: &str) -> u16 {
    let at = CLASSES.iter().position(|class| *class == name).expect("classes of the table of labels are asked for");
    u16::try_from(at).expect("there are a few classes")
}
