//! The report: a table for people, an array for programs.

use std::fmt;

use serde::Serialize;

use crate::turns::Sample;

/// Every line, in the order of the table.
#[derive(Default, Serialize)]
#[serde(transparent)]
pub struct Report {
    lines: Vec<Line>,
}

/// One line.
#[derive(Serialize)]
pub struct Line {
    what: String,
    /// Null when it is not available.
    value: Option<f64>,
    unit: &'static str,
    /// The tenth and the ninetieth percentile.
    spread: Option<[f64; 2]>,
    /// As a multiple of `of`.
    ratio: Option<f64>,
    of: Option<&'static str>,
    /// Of lines with a limit: whether the ratio keeps to it.
    kept: Option<bool>,
    /// Of lines without a value: why there is none.
    why: Option<String>,
}

impl Report {
    /// Adds a line, which may be given more.
    pub fn add(&mut self, what: impl Into<String>, value: f64, unit: &'static str) -> &mut Line {
        let line = Line {
            what: what.into(),
            value: Some(value),
            unit,
            spread: None,
            ratio: None,
            of: None,
            kept: None,
            why: None,
        };
        self.lines.push(line);
        self.lines.last_mut().expect("a line has just been pushed")
    }

    /// Adds a line with the median of a sample, and its spread.
    pub fn add_sample(&mut self, what: impl Into<String>, sample: &Sample, unit: &'static str) -> &mut Line {
        let line = self.add(what, sample.median(), unit);
        line.spread = Some(sample.spread());
        line
    }

    /// Adds a line of what cannot be had.
    pub fn add_missing(&mut self, what: impl Into<String>, unit: &'static str) -> &mut Line {
        let line = self.add(what, f64::NAN, unit);
        line.value = None;
        line
    }
}

impl Line {
    /// As a multiple of something else.
    pub fn relative(&mut self, to: f64, of: &'static str) -> &mut Self {
        self.ratio = self.value.map(|value| value / to);
        self.of = Some(of);
        self
    }

    /// Without a value, for this reason.
    pub fn because(&mut self, why: impl Into<String>) {
        self.why = Some(why.into());
    }

    /// With at most this ratio.
    pub fn limit(&mut self, ratio: f64) {
        self.kept = self.ratio.map(|found| found <= ratio);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(why) = &self.why {
            return write!(f, "{:<56} {:>22}: {why}", self.what, "not available");
        }
        let value = self.value.map_or_else(|| "not available".to_owned(), |value| format!("{value:.1} {}", self.unit));
        let spread = self.spread.map_or_else(String::new, |[low, high]| format!("{low:.0} to {high:.0}"));
        write!(f, "{:<56} {value:>22} {spread:>16}", self.what)?;
        if let (Some(ratio), Some(of)) = (self.ratio, self.of) {
            write!(f, " {ratio:8.2} x {of}")?;
        }
        match self.kept {
            Some(true) => write!(f, ": OK"),
            Some(false) => write!(f, ": OVER"),
            None => Ok(()),
        }
    }
}
