//! A trained baseline as bytes: versioned, exact, and safe to read from a source that is not trusted.
//!
//! Binary, because numbers must survive bit for bit and a forest has tens of thousands of them (six bytes a node; JSON
//! would take three times as much and needs care to be exact). What people ask of a file (columns, seed, age) is one
//! JSON object near its start, readable with `strings`. Integers are little-endian.
//!
//! ```text
//! magic      8   "LEUKOMDL"
//! major      2   1: readers refuse another one
//! minor      2   readers ignore it: what a minor version adds, older readers skip
//! crc        4   CRC-32 (IEEE) of everything after it
//! sections       until the end, in any order, each once; unknown tags are skipped
//!   tag      4
//!   length   4
//!   payload
//!     "meta"   JSON: kind, schema, sample_size, training; unknown keys are skipped
//!     "summ"   for each column: f32 1st percentile, median, 99th percentile
//!     "frst"   nodes of all trees in pre-order: u16 feature, f32 threshold; or u16 0xFFFF, u32 samples in a leaf
//!     "clbr"   f64 calibration scores, ascending
//! ```
//!
//! Links between nodes and path lengths are not stored but derived, so a file cannot get them wrong.
//!
//! A model without a baseline ([`Model`](crate::Model)) is a file of another kind in the same envelope: its "meta" names
//! the model, and its one other section, "modl", is the plain data of the model as JSON.
//!
//! A [`Classifier`](crate::Classifier) is a third kind: its description in "meta", its trees in "tree".
//!
//! Reading a baseline allocates less than 5 times the size of the input plus 8 MiB, and refuses inputs above [`MAX_BYTES`].

mod classifier;
mod model;
mod wire;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::baseline::{Baseline, FeatureSummary, Training};
use crate::calibrate::Calibration;
use crate::isolation_forest::{IsolationForest, MAX_FEATURES, MAX_SAMPLE_SIZE, Node, RawNode, TreeError};

pub use model::MAX_MODEL_BYTES;
use wire::{Reader, Writer, crc32};

/// Largest input that is read. The largest baseline that can be fitted is smaller.
pub const MAX_BYTES: usize = 128 << 20;
/// Version of the layout.
pub const MAJOR: u16 = 1;

const MAGIC: [u8; 8] = *b"LEUKOMDL";
const MINOR: u16 = 0;
const KIND: &str = "isolation_forest_baseline";
/// 1024 columns with names of 64 bytes, each byte escaped, take less.
const MAX_META_BYTES: usize = 256 << 10;
/// Characters from the input that an error repeats.
const MAX_QUOTED: usize = 160;
const LEAF: u16 = u16::MAX;
const _: () = assert!(MAX_FEATURES < LEAF);

/// Bytes that are not a usable baseline.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FormatError {
    /// Something else.
    #[error("not a Leuko model: give the path of a file that leuko has trained")]
    NotAModel,
    /// Another layout than [`MAJOR`].
    #[error("model format {0} is not format {MAJOR} of this version: use the version that wrote it, or retrain")]
    Version(u16),
    /// A Leuko model, but a baseline where a model is wanted, or the reverse.
    #[error(
        "the model is of kind {0:?}, which is not the kind wanted here: give the path of another model, or retrain"
    )]
    Kind(String),
    /// More than [`MAX_BYTES`].
    #[error("{0} bytes are more than a model can have ({MAX_BYTES}): retrain")]
    TooLarge(usize),
    /// Cut off, or changed since it was written.
    #[error("the model is damaged or incomplete: copy it again, or retrain")]
    Damaged,
    /// Written by something that does not keep to the format, or made to deceive.
    #[error("the model is invalid, {0}: do not trust where it came from, and retrain")]
    Invalid(String),
}

#[derive(Serialize, Deserialize)]
struct Meta {
    kind: String,
    schema: Vec<String>,
    sample_size: u32,
    training: Training,
}

/// Only what has to be known before the rest may be looked at.
#[derive(Deserialize)]
struct Kind {
    kind: String,
}

impl Baseline {
    /// The baseline as a file. The same baseline always gives the same bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let meta = Meta {
            kind: KIND.to_owned(),
            schema: self.schema().to_vec(),
            sample_size: self.forest().sample_size(),
            training: *self.training(),
        };
        let mut body = Writer::default();
        body.section(*b"meta", &serde_json::to_vec(&meta).expect("strings and integers are JSON"));
        body.section(*b"summ", &encode_summaries(self.summaries()));
        body.section(*b"frst", &encode_forest(self.forest()));
        body.section(*b"clbr", &encode_calibration(self.calibration()));
        seal(&body.into_bytes())
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote: the result scores bit for bit as the original did.
    ///
    /// # Errors
    /// The input is no model, of another version or kind, damaged, or invalid. It never panics, whatever the input.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FormatError> {
        let sections = Sections::read(open(bytes)?)?;
        let meta = decode_meta(sections.meta)?;
        let features = u16::try_from(meta.schema.len())
            .ok()
            .filter(|columns| (1..=MAX_FEATURES).contains(columns))
            .ok_or_else(|| invalid("the number of columns is out of range"))?;
        if !(2..=MAX_SAMPLE_SIZE).contains(&meta.sample_size) {
            return Err(invalid("the sample size is out of range"));
        }
        let summaries = decode_summaries(sections.summaries)?;
        let forest = decode_forest(sections.forest, features, meta.sample_size)?;
        let calibration = decode_calibration(sections.calibration)?;
        Self::from_parts(meta.schema, meta.training, summaries, (forest, calibration)).map_err(invalid)
    }
}

/// Adds the envelope to the sections.
fn seal(body: &[u8]) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.put(&MAGIC);
    writer.put(&MAJOR.to_le_bytes());
    writer.put(&MINOR.to_le_bytes());
    writer.put(&crc32(body).to_le_bytes());
    writer.put(body);
    writer.into_bytes()
}

/// Takes the envelope off.
fn open(bytes: &[u8]) -> Result<&[u8], FormatError> {
    let mut reader = Reader::new(bytes);
    if reader.array() != Some(MAGIC) {
        return Err(FormatError::NotAModel);
    }
    let major = u16::from_le_bytes(reader.array().ok_or(FormatError::Damaged)?);
    if major != MAJOR {
        return Err(FormatError::Version(major));
    }
    if bytes.len() > MAX_BYTES {
        return Err(FormatError::TooLarge(bytes.len()));
    }
    let _minor: [u8; 2] = reader.array().ok_or(FormatError::Damaged)?;
    let crc = u32::from_le_bytes(reader.array().ok_or(FormatError::Damaged)?);
    if crc32(reader.rest()) == crc { Ok(reader.rest()) } else { Err(FormatError::Damaged) }
}

struct Sections<'a> {
    meta: &'a [u8],
    summaries: &'a [u8],
    forest: &'a [u8],
    calibration: &'a [u8],
}

impl<'a> Sections<'a> {
    fn read(body: &'a [u8]) -> Result<Self, FormatError> {
        let (mut meta, mut summaries, mut forest, mut calibration) = (None, None, None, None);
        let mut reader = Reader::new(body);
        while !reader.rest().is_empty() {
            let (tag, payload) = reader.section().ok_or_else(|| invalid("a section is longer than the file"))?;
            let slot = match &tag {
                b"meta" => &mut meta,
                b"summ" => &mut summaries,
                b"frst" => &mut forest,
                b"clbr" => &mut calibration,
                _ => continue,
            };
            if slot.replace(payload).is_some() {
                return Err(invalid("a section is there twice"));
            }
        }
        match (meta, summaries, forest, calibration) {
            (Some(meta), Some(summaries), Some(forest), Some(calibration)) => {
                Ok(Self { meta, summaries, forest, calibration })
            }
            _ => Err(invalid("a section is missing")),
        }
    }
}

fn decode_meta(payload: &[u8]) -> Result<Meta, FormatError> {
    if payload.len() > MAX_META_BYTES {
        return Err(invalid("the description is too long"));
    }
    let Kind { kind } = serde_json::from_slice(payload).map_err(invalid)?;
    if kind != KIND {
        return Err(FormatError::Kind(kind.chars().take(MAX_QUOTED).collect()));
    }
    serde_json::from_slice(payload).map_err(invalid)
}

fn encode_summaries(summaries: &[FeatureSummary]) -> Vec<u8> {
    summaries.iter().flat_map(|summary| [summary.p01, summary.median, summary.p99]).flat_map(f32::to_le_bytes).collect()
}

fn decode_summaries(payload: &[u8]) -> Result<Vec<FeatureSummary>, FormatError> {
    let (values, []) = payload.as_chunks::<4>() else {
        return Err(invalid("the percentiles are cut off"));
    };
    let (columns, []) = values.as_chunks::<3>() else {
        return Err(invalid("the percentiles are cut off"));
    };
    if columns.len() > usize::from(MAX_FEATURES) {
        return Err(invalid("there are too many percentiles"));
    }
    let summary = |column: &[[u8; 4]; 3]| {
        let [p01, median, p99] = column.map(f32::from_le_bytes);
        FeatureSummary { median, p99, p01 }
    };
    Ok(columns.iter().map(summary).collect())
}

fn encode_forest(forest: &IsolationForest) -> Vec<u8> {
    let mut writer = Writer::default();
    for node in (0..forest.trees()).flat_map(|tree| forest.nodes(tree)) {
        let (feature, value) = match node {
            Node::Split { feature, threshold, .. } => {
                (u16::try_from(feature).expect("at most MAX_FEATURES"), threshold.to_bits())
            }
            Node::Leaf { samples, .. } => (LEAF, samples),
        };
        writer.put(&feature.to_le_bytes());
        writer.put(&value.to_le_bytes());
    }
    writer.into_bytes()
}

fn decode_forest(payload: &[u8], features: u16, sample_size: u32) -> Result<IsolationForest, FormatError> {
    let (nodes, []) = payload.as_chunks::<6>() else {
        return Err(invalid("the forest is cut off"));
    };
    let nodes = nodes.iter().map(|&[f0, f1, v0, v1, v2, v3]| {
        let value = u32::from_le_bytes([v0, v1, v2, v3]);
        Ok::<_, TreeError>(match u16::from_le_bytes([f0, f1]) {
            LEAF => RawNode::Leaf { samples: value },
            feature => RawNode::Split { feature, threshold: f32::from_bits(value) },
        })
    });
    IsolationForest::from_nodes(nodes, features, sample_size).map_err(invalid)
}

fn encode_calibration(calibration: &Calibration) -> Vec<u8> {
    calibration.scores().iter().flat_map(|score| score.to_le_bytes()).collect()
}

fn decode_calibration(payload: &[u8]) -> Result<Calibration, FormatError> {
    let (scores, []) = payload.as_chunks::<8>() else {
        return Err(invalid("the calibration is cut off"));
    };
    Calibration::new(scores.iter().map(|score| f64::from_le_bytes(*score)).collect()).map_err(invalid)
}

fn invalid(reason: impl ToString) -> FormatError {
    FormatError::Invalid(reason.to_string().chars().take(MAX_QUOTED).collect())
}

#[cfg(test)]
mod tests;
