//! Public labelled data sets, read from compressed CSV files.

pub mod cicids2017;
pub mod nsl_kdd;
pub mod unsw_nb15;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};

use crate::columns::ColumnSet;

/// The data sets of the card, in its order.
pub const SOURCES: [Source; 3] = [unsw_nb15::SOURCE, cicids2017::SOURCE, nsl_kdd::SOURCE];

/// Where a data set is and what it means.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// Short and stable.
    pub key: &'static str,
    /// Name in the card.
    pub name: &'static str,
    /// What a reader must know of it, one sentence.
    pub about: &'static str,
    /// Path below the data folder.
    pub file: &'static str,
    /// Column with the class of a row.
    pub label: &'static str,
    /// Families of attacks; a label that is none of them is damage.
    pub families: &'static [Family],
    /// The label of normal rows.
    pub normal: &'static str,
    /// Columns by which rows count as the same, see [`split`](crate::split).
    pub identity: &'static [&'static str],
    /// What models are fitted to.
    pub sets: &'static [ColumnSet],
    /// File with the number of rows each label has in the full data set, if this is a sample by label.
    pub prevalence: Option<&'static str>,
}

/// Attacks of one kind: what is left out together is unseen.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// Name in the card.
    pub name: &'static str,
    /// Labels that belong to it.
    pub labels: &'static [&'static str],
}

/// Rows with their labels.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// What it is.
    pub source: Source,
    numbers: Vec<(&'static str, Vec<f32>)>,
    words: Vec<(&'static str, Vec<String>)>,
    /// Of each row: 0 is normal, else 1 + position in [`Source::families`].
    pub family: Vec<u16>,
    /// Of each row: how many rows of the full data set it stands for. None if rows stand for themselves.
    pub weight: Option<Vec<f64>>,
}

impl Dataset {
    /// Reads the data set of `source` below the folder `data`.
    ///
    /// # Errors
    /// A file that is missing, cannot be decompressed, lacks a column, or has a cell that is not what its column wants;
    /// the error names the file and, where there is one, the line.
    pub fn read(source: &Source, data: &Path) -> Result<Self> {
        let weights = source.prevalence.map(|file| read_weights(&data.join(file))).transpose()?;
        let path = data.join(source.file);
        let file = File::open(&path)
            .with_context(|| format!("open {} (say where the data is by --data or LEUKO_DATA)", path.display()))?;
        let decoder = zstd::Decoder::new(file).with_context(|| format!("decompress {}", path.display()))?;
        Self::parse(source, decoder, weights.as_deref()).with_context(|| format!("read {}", path.display()))
    }

    /// Reads rows as CSV with a header. `weights` are those of labels.
    fn parse(source: &Source, csv: impl Read, weights: Option<&[(String, f64)]>) -> Result<Self> {
        let mut reader = csv::Reader::from_reader(csv);
        let headers = reader.headers().context("the header is not readable")?.clone();
        let find = |name: &str| {
            headers
                .iter()
                .position(|header| header.trim() == name)
                .with_context(|| format!("there is no column {name:?}"))
        };
        let label_at = find(source.label)?;
        let mut data = Self::empty(source);
        let numbers_at = data.numbers.iter().map(|(name, _)| find(name)).collect::<Result<Vec<_>>>()?;
        let words_at = data.words.iter().map(|(name, _)| find(name)).collect::<Result<Vec<_>>>()?;
        let mut row_weights = Vec::new();
        for record in reader.records() {
            let record = record.context("a line is damaged")?;
            let line = record.position().map_or(0, csv::Position::line);
            let label = record[label_at].trim();
            let family =
                source.family(label).with_context(|| format!("line {line}: the label {label:?} is unknown"))?;
            data.family.push(family);
            for ((name, column), at) in data.numbers.iter_mut().zip(&numbers_at) {
                let value: f32 =
                    record[*at].trim().parse().ok().filter(|value: &f32| value.is_finite()).with_context(|| {
                        format!("line {line}: {:?} in column {name:?} is not a finite number", &record[*at])
                    })?;
                column.push(value);
            }
            for ((_, column), at) in data.words.iter_mut().zip(&words_at) {
                column.push(record[*at].trim().to_owned());
            }
            if let Some(weights) = weights {
                let known = weights.iter().find(|(name, _)| name == label);
                row_weights.push(known.with_context(|| format!("the label {label:?} has no weight"))?.1);
            }
        }
        ensure!(data.family.contains(&0), "there are no normal rows");
        ensure!(data.family.iter().any(|family| *family > 0), "there are no attacks");
        data.weight = weights.map(|_| row_weights);
        Ok(data)
    }

    /// Without rows, with the columns of all sets.
    pub(crate) fn empty(source: &Source) -> Self {
        let mut numbers: Vec<(&'static str, Vec<f32>)> = Vec::new();
        let mut words: Vec<(&'static str, Vec<String>)> = Vec::new();
        for set in source.sets {
            for name in set.number_names() {
                if !numbers.iter().any(|(known, _)| *known == name) {
                    numbers.push((name, Vec::new()));
                }
            }
            for name in set.words {
                if !words.iter().any(|(known, _)| known == name) {
                    words.push((name, Vec::new()));
                }
            }
        }
        Self { source: *source, numbers, words, family: Vec::new(), weight: None }
    }

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.family.len()
    }

    /// Whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.family.is_empty()
    }

    /// A column of numbers.
    ///
    /// # Panics
    /// If no set of the source names the column.
    #[must_use]
    pub fn number(&self, name: &str) -> &[f32] {
        let found = self.numbers.iter().find(|(known, _)| *known == name);
        &found.expect("columns that sets name are read").1
    }

    /// A column of words.
    ///
    /// # Panics
    /// If no set of the source names the column.
    #[must_use]
    pub fn word(&self, name: &str) -> &[String] {
        let found = self.words.iter().find(|(known, _)| *known == name);
        &found.expect("columns that sets name are read").1
    }

    /// Gives every number column the same value.
    #[cfg(test)]
    pub(crate) fn push_test_row(&mut self, words: &[&str], value: f32, family: u16) {
        self.numbers.iter_mut().for_each(|(_, column)| column.push(value));
        self.words.iter_mut().for_each(|(_, column)| column.push(words[0].to_owned()));
        self.family.push(family);
    }
}

impl Source {
    /// What the family with this number is called; 0 is normal.
    #[must_use]
    pub fn family_name(&self, family: u16) -> &'static str {
        match usize::from(family).checked_sub(1) {
            None => "normal",
            Some(at) => self.families[at].name,
        }
    }

    /// Numbers of the families of attacks.
    pub fn attacks(&self) -> impl Iterator<Item = u16> + use<> {
        1..=u16::try_from(self.families.len()).expect("a data set has a few families")
    }

    fn family(&self, label: &str) -> Option<u16> {
        if label == self.normal {
            return Some(0);
        }
        self.attacks().find(|family| self.families[usize::from(*family) - 1].labels.contains(&label))
    }
}

fn read_weights(path: &Path) -> Result<Vec<(String, f64)>> {
    let context = || format!("read {}", path.display());
    let mut weights = Vec::new();
    for record in csv::Reader::from_path(path).with_context(context)?.records() {
        let record = record.with_context(context)?;
        let counts = record.get(1).zip(record.get(2)).and_then(|(all, here)| {
            Some((all.parse::<f64>().ok()?, here.parse::<f64>().ok()?)).filter(|(all, here)| *all > 0.0 && *here > 0.0)
        });
        let Some((all, here)) = counts else { bail!("{}: a line does not say label, rows, rows here", path.display()) };
        weights.push((record[0].to_owned(), all / here));
    }
    Ok(weights)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TINY: Source = Source {
        key: "tiny",
        name: "Tiny",
        about: "For tests.",
        file: "tiny.csv.zst",
        label: "class",
        families: &[Family { name: "scan", labels: &["syn", "fin"] }, Family { name: "flood", labels: &["flood"] }],
        normal: "ok",
        identity: &["a"],
        sets: &[ColumnSet { name: "all", numbers: &[&["b", "a"]], words: &["p"], leaks: false }],
        prevalence: None,
    };

    fn parse(csv: &str) -> Result<Dataset> {
        Dataset::parse(&TINY, csv.as_bytes(), None)
    }

    #[test]
    fn columns_are_found_by_name() {
        let data = parse("a,p,class,b\n1,tcp,ok,2\n3,udp,fin,4\n5,udp,flood,6\n").unwrap();
        assert_eq!(data.number("a"), [1.0, 3.0, 5.0]);
        assert_eq!(data.number("b"), [2.0, 4.0, 6.0]);
        assert_eq!(data.word("p"), ["tcp", "udp", "udp"]);
        assert_eq!(data.family, [0, 1, 2]);
        assert_eq!(TINY.family_name(2), "flood");
    }

    #[test]
    fn damage_is_named() {
        for (csv, expected) in [
            ("a,p,class\n1,tcp,ok\n", "no column \"b\""),
            ("a,p,class,b\n1,tcp,ok,2\n1,tcp,ok,x\n", "line 3: \"x\" in column \"b\" is not a finite number"),
            ("a,p,class,b\n1,tcp,ok,inf\n", "line 2: \"inf\""),
            ("a,p,class,b\n1,tcp,nmap,2\n", "line 2: the label \"nmap\" is unknown"),
            ("a,p,class,b\n1,tcp,ok\n", "a line is damaged"),
            ("a,p,class,b\n", "no normal rows"),
            ("a,p,class,b\n1,tcp,ok,2\n", "no attacks"),
        ] {
            let error = format!("{:#}", parse(csv).unwrap_err());
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_missing_file_says_what_to_do() {
        let error = format!("{:#}", Dataset::read(&TINY, Path::new("/no/such/folder")).unwrap_err());
        assert!(error.contains("/no/such/folder/tiny.csv.zst") && error.contains("--data"), "{error}");
    }

    #[test]
    fn a_file_cut_short_is_damage() {
        let folder = tempfile::tempdir().unwrap();
        let csv = format!("a,p,class,b\n{}", "1,tcp,ok,2\n3,udp,fin,4\n".repeat(5000));
        let whole = zstd::encode_all(csv.as_bytes(), 3).unwrap();
        std::fs::write(folder.path().join(TINY.file), &whole[..whole.len() / 2]).unwrap();
        let error = format!("{:#}", Dataset::read(&TINY, folder.path()).unwrap_err());
        assert!(error.contains("tiny.csv.zst"), "{error}");
    }
}
