//! The same rows scored by scikit-learn: what every model must beat.
//!
//! `python/floors.py` is handed the rows as files and leaves scores as files; its text says what they hold.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use ndarray::{Array2, Axis, concatenate};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::contestants::SEED;
use crate::measures::Scores;
use crate::split::Part;
use crate::{Prepared, PreparedSet};

/// Forests fitted with different seeds where distributions are compared.
pub const SEEDS: u16 = 10;

/// A folder that is shared with Python.
#[derive(Debug)]
pub struct Floors {
    python: PathBuf,
    folder: TempDir,
}

/// One column set of one data set.
#[derive(Debug, Serialize)]
struct Job {
    name: String,
    columns: usize,
    seed: u64,
    seeds: u16,
    left_out: Vec<u16>,
}

/// Seconds a row takes.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Cost {
    /// In a batch of 10,000.
    pub batch: f64,
    /// Alone.
    pub single: f64,
}

/// Costs of scikit-learn's models.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Costs {
    /// `IsolationForest.score_samples`.
    pub isolation_forest: Cost,
    /// `RandomForestClassifier.predict_proba`.
    pub random_forest: Cost,
}

impl Floors {
    /// Scores all column sets with the Python interpreter `python`, which has scikit-learn.
    ///
    /// # Errors
    /// Files that cannot be written, or a script that fails.
    pub fn measure(python: &Path, prepared: &[Prepared], leave_out: bool) -> Result<Self> {
        let folder = tempfile::tempdir().context("make a folder for rows and scores")?;
        let mut jobs = Vec::new();
        for data in prepared {
            for set in &data.sets {
                let job = Job {
                    name: job_name(data, set),
                    columns: set.rows.ncols(),
                    seed: SEED,
                    seeds: if compares_seeds(data, set) { SEEDS } else { 0 },
                    left_out: if leave_out && leaves_out(set) { data.data.source.attacks().collect() } else { vec![] },
                };
                let family =
                    data.data.family.iter().map(|family| u8::try_from(*family)).collect::<Result<Vec<_>, _>>()?;
                write_rows(folder.path(), &job.name, &set.rows, &data.split.part, &family)?;
                jobs.push(job);
            }
        }
        // The speed is that of the first job: all columns without protocol, of the first data set.
        jobs.sort_by_key(|job| job.seeds == 0);
        fs::write(folder.path().join("jobs.json"), serde_json::to_vec(&jobs)?).context("write jobs.json")?;
        let floors = Self { python: python.to_owned(), folder };
        floors.script("scores")?;
        Ok(floors)
    }

    /// Scores of scikit-learn's `model`.
    ///
    /// # Errors
    /// A file that is not there or does not hold a number for each row.
    pub fn scores(&self, data: &Prepared, set: &PreparedSet, model: &str) -> Result<Scores> {
        let path = self.folder.path().join(format!("{}.{model}.f64", job_name(data, set)));
        let bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        let (values, rest) = bytes.as_chunks::<8>();
        let mut values = values.iter().map(|bytes| f64::from_le_bytes(*bytes));
        let measured = data.split.part.iter().filter(|part| **part != Part::Fit).count();
        ensure!(values.len() == measured && rest.is_empty(), "scikit-learn did not score each row");
        let mut all = vec![f64::NAN; data.data.len()];
        for (score, _) in all.iter_mut().zip(&data.split.part).filter(|(_, part)| **part != Part::Fit) {
            *score = values.next().context("scikit-learn did not score each row")?;
        }
        let scores = data.scores(|row| all[row]);
        ensure!(scores.validation.iter().all(|score| score.is_finite()), "scikit-learn gave a score that is no number");
        Ok(scores)
    }

    /// The fitted forest of `set` as JSON; only where seeds are compared.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn forest(&self, data: &Prepared, set: &PreparedSet) -> Result<String> {
        let path = self.folder.path().join(format!("{}.forest.json", job_name(data, set)));
        fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    }

    /// How long scores take, on one core, with nothing else running.
    ///
    /// # Errors
    /// The script fails.
    pub fn costs(&self) -> Result<Costs> {
        self.script("speed")?;
        let text = fs::read_to_string(self.folder.path().join("costs.json")).context("read costs.json")?;
        serde_json::from_str(&text).context("read costs.json")
    }

    fn script(&self, task: &str) -> Result<()> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/floors.py");
        let mut command = Command::new(&self.python);
        command.arg("-B").arg(&script).arg(task).arg(self.folder.path());
        let status = command.status().with_context(|| format!("start {}", self.python.display()))?;
        ensure!(status.success(), "{} {task} failed: {status}", script.display());
        Ok(())
    }
}

/// How long scores of scikit-learn's Isolation Forest take that is fitted to `fit`; of the rows of `scored`.
///
/// # Errors
/// Files that cannot be written, or a script that fails.
pub fn isolation_forest_cost(python: &Path, fit: &Array2<f32>, scored: &Array2<f32>) -> Result<Cost> {
    let folder = tempfile::tempdir().context("make a folder for rows")?;
    let rows = concatenate(Axis(0), &[fit.view(), scored.view()]).context("rows of one width")?;
    let part = [vec![Part::Fit; fit.nrows()], vec![Part::Validation; scored.nrows()]].concat();
    let job = Job { name: "rows".to_owned(), columns: rows.ncols(), seed: SEED, seeds: 0, left_out: vec![] };
    write_rows(folder.path(), &job.name, &rows, &part, &vec![0; rows.nrows()])?;
    fs::write(folder.path().join("jobs.json"), serde_json::to_vec(&[job])?).context("write jobs.json")?;
    let floors = Floors { python: python.to_owned(), folder };
    Ok(floors.costs()?.isolation_forest)
}

/// Whether the forest is fitted with [`SEEDS`] seeds here.
#[must_use]
pub fn compares_seeds(data: &Prepared, set: &PreparedSet) -> bool {
    data.data.source.key == "unsw_nb15" && set.set.name == "all"
}

/// Whether families are left out here: protocol names would give them away, and the leak is only shown.
#[must_use]
pub fn leaves_out(set: &PreparedSet) -> bool {
    set.set.words.is_empty() && !set.set.leaks
}

fn job_name(data: &Prepared, set: &PreparedSet) -> String {
    format!("{}.{}", data.data.source.key, set.set.name.replace([' ', '+'], "_"))
}

fn write_rows(folder: &Path, name: &str, rows: &Array2<f32>, part: &[Part], family: &[u8]) -> Result<()> {
    let rows: Vec<u8> = rows.iter().flat_map(|value| value.to_le_bytes()).collect();
    let part: Vec<u8> = part.iter().map(|part| *part as u8).collect();
    for (ending, bytes) in [("rows.f32", &*rows), ("part.u8", &part), ("family.u8", family)] {
        fs::write(folder.join(format!("{name}.{ending}")), bytes).context("write rows for scikit-learn")?;
    }
    Ok(())
}
