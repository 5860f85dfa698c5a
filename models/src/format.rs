//! Models as bytes: versioned, exact, and safe to read from a source that is not trusted.
//!
//! An envelope around sections. What people ask of a file (kind, columns, seed, age, metrics) is one JSON object near its
//! start, readable with `strings`. Integers are little-endian; numbers survive bit for bit.
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
//! ```
//!
//! A baseline:
//!
//! ```text
//! "meta"   JSON: kind "baseline", schema, training, metrics; unknown keys are skipped
//! "summ"   for each column: f32 1st percentile, median, 99th percentile
//! "scal"   JSON: the scale of each column
//! "ensm"   JSON: the plain data of the ensemble: each model with its weight and calibration
//! ```
//!
//! A single model ([`Model`](crate::Model)) has "meta" (kind "one_class_model") and "modl", its plain data as JSON; a
//! [`Classifier`](crate::Classifier) has its description in "meta" and its trees in "tree".
//! Links between the nodes of a tree and path lengths are not stored but derived, so a file cannot get them wrong.
//!
//! Plain data is read if it is at most [`MAX_PLAIN_BYTES`] long; reading allocates less than 16 times the size of the input.

mod classifier;
mod model;
mod wire;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::baseline::{Baseline, Metrics, Training};
use crate::ensemble::Ensemble;
use crate::explain::{FeatureSummary, Reference};
use crate::isolation_forest::MAX_FEATURES;

use wire::{Reader, Writer, crc32};

/// Largest input that is read.
pub const MAX_BYTES: usize = 64 << 20;
/// Longest plain data of models that is written and read.
pub const MAX_PLAIN_BYTES: usize = 32 << 20;
/// Version of the layout.
pub const MAJOR: u16 = 1;

const MAGIC: [u8; 8] = *b"LEUKOMDL";
const MINOR: u16 = 0;
const KIND: &str = "baseline";
/// 1024 columns with names of 64 bytes, each byte escaped, take less.
const MAX_META_BYTES: usize = 256 << 10;
/// Characters from the input that an error repeats.
const MAX_QUOTED: usize = 160;

/// Bytes that are not a usable model.
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
    training: Training,
    #[serde(default)]
    metrics: Metrics,
}

/// Only what has to be known before the rest may be looked at.
#[derive(Deserialize)]
struct Kind {
    kind: String,
}

impl Baseline {
    /// The baseline as a file. The same baseline always gives the same bytes.
    ///
    /// # Errors
    /// The models are larger than [`MAX_PLAIN_BYTES`]: they have far more columns than a sensor has.
    pub fn to_bytes(&self) -> Result<Vec<u8>, FormatError> {
        let meta = Meta {
            kind: KIND.to_owned(),
            schema: self.schema().to_vec(),
            training: *self.training(),
            metrics: self.metrics().clone(),
        };
        let mut body = Writer::default();
        body.section(*b"meta", &encode_meta(&meta)?);
        body.section(*b"summ", &encode_summaries(self.reference()));
        body.section(*b"scal", &encode_plain(self.scaler())?);
        body.section(*b"ensm", &encode_plain(self.ensemble())?);
        Ok(seal(&body.into_bytes()))
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote: the result scores bit for bit as the original did.
    ///
    /// # Errors
    /// The input is no model, of another version or kind, damaged, or invalid. It never panics, whatever the input.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FormatError> {
        let [meta, summaries, scaler, ensemble] = sections(open(bytes)?, [b"meta", b"summ", b"scal", b"ensm"])?;
        let Meta { schema, training, metrics, .. } = decode_meta(meta, KIND)?;
        let measures = (decode_summaries(summaries)?, decode_plain(scaler)?);
        let ensemble: Ensemble = decode_plain(ensemble)?;
        Self::from_parts((schema, training, metrics), measures, ensemble).map_err(invalid)
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

/// The payloads of the sections with these tags, each of which must be there once.
fn sections<'a, const N: usize>(body: &'a [u8], tags: [&[u8; 4]; N]) -> Result<[&'a [u8]; N], FormatError> {
    let mut found = [None; N];
    let mut reader = Reader::new(body);
    while !reader.rest().is_empty() {
        let (tag, payload) = reader.section().ok_or_else(|| invalid("a section is longer than the file"))?;
        let Some(at) = tags.iter().position(|wanted| **wanted == tag) else { continue };
        if found[at].replace(payload).is_some() {
            return Err(invalid("a section is there twice"));
        }
    }
    let mut payloads = [&[][..]; N];
    for (to, from) in payloads.iter_mut().zip(found) {
        *to = from.ok_or_else(|| invalid("a section is missing"))?;
    }
    Ok(payloads)
}

fn encode_meta(meta: &impl Serialize) -> Result<Vec<u8>, FormatError> {
    let text = serde_json::to_vec(meta).expect("strings and finite numbers are JSON");
    if text.len() > MAX_META_BYTES { Err(FormatError::TooLarge(text.len())) } else { Ok(text) }
}

/// The description of a file of the kind that is wanted.
fn decode_meta<M: DeserializeOwned>(payload: &[u8], wanted: &str) -> Result<M, FormatError> {
    if payload.len() > MAX_META_BYTES {
        return Err(invalid("the description is too long"));
    }
    let Kind { kind } = serde_json::from_slice(payload).map_err(invalid)?;
    if kind != wanted {
        return Err(FormatError::Kind(kind.chars().take(MAX_QUOTED).collect()));
    }
    serde_json::from_slice(payload).map_err(invalid)
}

fn encode_plain(data: &impl Serialize) -> Result<Vec<u8>, FormatError> {
    let plain = serde_json::to_vec(data).expect("plain data is JSON");
    if plain.len() > MAX_PLAIN_BYTES { Err(FormatError::TooLarge(plain.len())) } else { Ok(plain) }
}

fn decode_plain<D: DeserializeOwned>(payload: &[u8]) -> Result<D, FormatError> {
    if payload.len() > MAX_PLAIN_BYTES {
        return Err(FormatError::TooLarge(payload.len()));
    }
    serde_json::from_slice(payload).map_err(invalid)
}

fn encode_summaries(reference: &Reference) -> Vec<u8> {
    let columns = reference.columns().iter();
    columns.flat_map(|summary| [summary.p01, summary.median, summary.p99]).flat_map(f32::to_le_bytes).collect()
}

fn decode_summaries(payload: &[u8]) -> Result<Reference, FormatError> {
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
    Reference::new(columns.iter().map(summary).collect())
        .ok_or_else(|| invalid("the percentiles of a column are out of order"))
}

/// What a reason quotes of the input may be made to be obeyed by a terminal.
fn invalid(reason: impl ToString) -> FormatError {
    let reason = reason.to_string();
    let printable = reason.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c });
    FormatError::Invalid(printable.take(MAX_QUOTED).collect())
}

#[cfg(test)]
mod tests;
