//! What to train on, told by content: tables with a header, and captures.

use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use sensor_models::labels::class_of;

use super::capture::{self, learnable};
use super::rows::{Origin, Rows};
use super::{Progress, Schema};
use crate::export::flows::{ATTACK_CAT, LABEL, NORMAL};
use crate::replay::ReplayOptions;

/// Reads all inputs, which have to be of one schema.
///
/// # Errors
/// An input that cannot be read or that does not go with the first, or no rows at all.
pub fn read_all(inputs: &[PathBuf], options: &ReplayOptions, progress: &Progress) -> Result<Rows> {
    let mut all: Option<(Rows, &PathBuf)> = None;
    for path in inputs {
        let kind = Kind::of(path).with_context(|| format!("read {}", path.display()))?;
        let schema = kind.schema();
        let (rows, first) = all.get_or_insert_with(|| (Rows::new(schema), path));
        if rows.schema != schema {
            bail!(
                "{} has {}, {} has {}: train on inputs of one kind at a time",
                first.display(),
                rows.schema.described(),
                path.display(),
                schema.described()
            );
        }
        match kind {
            Kind::Capture => {
                capture::read(path, options, rows, progress).with_context(|| format!("replay {}", path.display()))?;
            }
            Kind::Table(schema) => {
                read_table(path, schema, rows, progress).with_context(|| format!("read {}", path.display()))?;
            }
        }
    }
    progress.end();
    match all {
        None => bail!("there are no inputs: name tables of flows or captures"),
        Some((rows, _)) if rows.is_empty() => bail!("there are no rows in {}: nothing can be learned", rows.inputs()),
        Some((rows, _)) => Ok(rows),
    }
}

enum Kind {
    Capture,
    Table(Schema),
}

impl Kind {
    fn of(path: &Path) -> Result<Self> {
        if path.is_dir() {
            bail!("is a folder: name the files in it");
        }
        let mut start = Vec::new();
        File::open(path)?.take(4).read_to_end(&mut start)?;
        match start[..] {
            [0xa1, 0xb2, 0xc3, 0xd4 | 0x00 | 0xcd..=0xce, ..]
            | [0xd4, 0xc3, 0xb2, 0xa1]
            | [0xa1, 0xb2, 0x3c, 0x4d]
            | [0x4d, 0x3c, 0xb2, 0xa1]
            | [0x0a, 0x0d, 0x0d, 0x0a] => Ok(Self::Capture),
            [0x1f, 0x8b, ..] => bail!("is compressed: gunzip it first"),
            [0x28, 0xb5, 0x2f, 0xfd] => bail!("is compressed: unzstd it first"),
            [] => bail!("is empty: give a table with a header, or a capture"),
            [b'P', b'K', ..] => bail!("is an archive: unpack it, and name the files in it"),
            _ => Ok(Self::Table(header_schema(path)?)),
        }
    }

    const fn schema(&self) -> Schema {
        match self {
            Self::Capture => Schema::Flows,
            Self::Table(schema) => *schema,
        }
    }
}

fn header_schema(path: &Path) -> Result<Schema> {
    let mut reader = csv::Reader::from_path(path)?;
    let names = names(reader.headers().context("is neither a table with a header nor a capture (pcap, pcapng)")?);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    Schema::of_header(&names).with_context(|| {
        format!(
            "is neither a capture nor a table that is understood (flows of `leuko replay --export`, UNSW-NB15 with its \
             header): the columns are {}",
            shown(&names)
        )
    })
}

/// Names of columns as they are looked up.
fn names(header: &csv::StringRecord) -> Vec<String> {
    header.iter().map(|name| name.trim_start_matches('\u{feff}').trim().to_ascii_lowercase()).collect()
}

/// What a person can take in of a header that may be anything.
fn shown(names: &[impl AsRef<str>]) -> String {
    const MOST: usize = 60;
    let names = names
        .iter()
        .take(MOST)
        .map(|name| name.as_ref().chars().take(40).collect::<String>().escape_debug().to_string());
    names.collect::<Vec<_>>().join(", ")
}

/// Where a table has what.
struct Columns {
    features: Vec<usize>,
    label: Option<usize>,
    attack_cat: Option<usize>,
    /// First and latest packet, if the table says.
    span: Option<[usize; 2]>,
}

impl Columns {
    fn find(header: &csv::StringRecord, schema: Schema) -> Result<Self> {
        let names = names(header);
        let find = |name: &str| names.iter().position(|other| other == name);
        let missing: Vec<&str> = schema.columns().iter().copied().filter(|name| find(name).is_none()).collect();
        if !missing.is_empty() {
            bail!(
                "{} {} missing ({} are needed); there are {}",
                missing.join(", "),
                if missing.len() == 1 { "is" } else { "are" },
                schema.described(),
                shown(&names)
            );
        }
        Ok(Self {
            features: schema.columns().iter().filter_map(|name| find(name)).collect(),
            label: find(LABEL),
            attack_cat: find(ATTACK_CAT),
            span: find("first_seen").zip(find("last_seen")).map(|(first, last)| [first, last]),
        })
    }

    /// The class of a row: that of `attack_cat`, unless `label` says that the row is normal. An attack without a name is
    /// an anomaly, a row without either is normal.
    fn class(&self, row: &csv::StringRecord) -> Result<&'static str> {
        let named = self.attack_cat.map(|at| class_of(&row[at]));
        let attack = match self.label.map(|at| row[at].trim()) {
            None => return Ok(named.unwrap_or(NORMAL)),
            Some("0") => false,
            Some("1") => true,
            Some(other) => bail!("column {LABEL:?}: {other:?} is neither 0 nor 1"),
        };
        Ok(match (attack, named) {
            (false, _) => NORMAL,
            (true, Some(named)) if named != NORMAL => named,
            (true, _) => "anomaly",
        })
    }
}

fn read_table(path: &Path, schema: Schema, rows: &mut Rows, progress: &Progress) -> Result<()> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    progress.begin_bytes("reading", path, length);
    let mut reader = csv::Reader::from_reader(BufReader::new(file));
    let columns = Columns::find(&reader.headers()?.clone(), schema)?;
    let labelled = columns.label.is_some() || columns.attack_cat.is_some();
    let mut origin = Origin { path: path.to_owned(), kind: schema.described(), labelled, ..Origin::default() };
    let mut row = csv::StringRecord::new();
    let mut measured = vec![0.0; schema.columns().len()];
    while reader.read_record(&mut row)? {
        let line = row.position().map_or(0, csv::Position::line);
        let context = || format!("line {line}");
        for ((value, at), name) in measured.iter_mut().zip(&columns.features).zip(schema.columns()) {
            *value = number(&row[*at], name).with_context(context)?;
        }
        if let Some(span) = columns.span {
            let [first, last] = span.map(|at| row[at].trim().parse::<f64>().ok().filter(|at| at.is_finite()));
            let (Some(first), Some(last)) = (first, last) else {
                bail!("line {line}: first_seen or last_seen is no time")
            };
            origin.note_span(first, last);
        }
        rows.push(&measured, learnable(columns.class(&row).with_context(context)?, schema));
        origin.rows += 1;
        progress.at(reader.position().byte());
    }
    rows.origins.push(origin);
    Ok(())
}

fn number(cell: &str, column: &str) -> Result<f32> {
    let value = cell.trim().parse().ok().filter(|value: &f32| value.is_finite() && *value >= 0.0);
    value.with_context(|| format!("column {column:?}: {cell:?} is not a number from 0"))
}
