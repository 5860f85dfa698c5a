//! Any model of normal rows as a file: the envelope of [`format`](mod@crate::format), another kind.
//!
//! ```text
//! "meta"   JSON: kind "one_class_model", model (its stable name), features; unknown keys are skipped
//! "modl"   JSON: the plain data of the model, numbers exact
//! ```

use serde::{Deserialize, Serialize};

use super::wire::Writer;
use super::{FormatError, decode_meta, decode_plain, encode_meta, encode_plain, invalid, open, seal, sections};
use crate::model::{Model, ModelKind};
use crate::one_class::OneClass as _;

const KIND: &str = "one_class_model";

#[derive(Serialize, Deserialize)]
struct Meta {
    kind: String,
    model: ModelKind,
    features: usize,
}

impl Model {
    /// The model as a file. The same model always gives the same bytes.
    ///
    /// # Errors
    /// The model is larger than [`MAX_PLAIN_BYTES`](super::MAX_PLAIN_BYTES): it has far more trees or columns than the
    /// usual parameters give.
    pub fn to_bytes(&self) -> Result<Vec<u8>, FormatError> {
        let meta = Meta { kind: KIND.to_owned(), model: self.kind(), features: self.features() };
        let mut body = Writer::default();
        body.section(*b"meta", &encode_meta(&meta)?);
        body.section(*b"modl", &encode_plain(self)?);
        Ok(seal(&body.into_bytes()))
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote: the result scores bit for bit as the original did.
    ///
    /// # Errors
    /// The input is no model, of another version or kind, damaged, or invalid. It never panics, whatever the input.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FormatError> {
        let [meta, plain] = sections(open(bytes)?, [b"meta", b"modl"])?;
        let meta: Meta = decode_meta(meta, KIND)?;
        let model: Self = decode_plain(plain)?;
        if (model.kind(), model.features()) != (meta.model, meta.features) {
            return Err(invalid("the model is not the one described"));
        }
        Ok(model)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Baseline;
    use ndarray::Array2;
    use proptest::prelude::*;

    const HEADER: usize = 16;

    fn rows() -> Array2<f32> {
        Array2::from_shape_fn((60, 3), |(at, column)| ((at * (7 + 4 * column)) % 31) as f32)
    }

    #[test]
    fn every_kind_is_read_bit_for_bit() {
        for kind in ModelKind::ALL {
            let model = kind.fit(rows().view(), 3).unwrap();
            let bytes = model.to_bytes().unwrap();
            let restored = Model::from_bytes(&bytes).unwrap();
            assert_eq!(restored, model);
            assert_eq!(restored.to_bytes().unwrap(), bytes);
            assert_eq!(restored.score(&[1.5, 900.0, -3.0]).to_bits(), model.score(&[1.5, 900.0, -3.0]).to_bits());
        }
    }

    #[test]
    fn a_model_is_not_a_baseline() {
        let bytes = ModelKind::Residual.fit(rows().view(), 3).unwrap().to_bytes().unwrap();
        assert!(Baseline::from_bytes(&bytes).is_err());
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let model = ModelKind::Residual.fit(rows().view(), 3).unwrap();
        let plain = serde_json::to_vec(&model).unwrap();
        let file = |meta: &str, plain: &[u8]| {
            let mut body = Writer::default();
            body.section(*b"meta", meta.as_bytes());
            body.section(*b"modl", plain);
            seal(&body.into_bytes())
        };
        let good = r#"{"kind":"one_class_model","model":"residual","features":3,"new":1}"#;
        assert_eq!(Model::from_bytes(&file(good, &plain)), Ok(model));
        for (bytes, expected) in [
            (file(&good.replace("residual", "clusters"), &plain), "not the one described"),
            (file(&good.replace(":3", ":4"), &plain), "not the one described"),
            (file(&good.replace("residual", "pca"), &plain), "unknown variant"),
            (file(good, b"{}"), "expected value"),
            (file(good, &[b'['; 9999]), "expected"),
            (seal(b"meta\0\0\0\0"), "missing"),
            (seal(b""), "missing"),
        ] {
            let error = Model::from_bytes(&bytes).unwrap_err();
            let named = matches!(&error, FormatError::Invalid(reason) if reason.contains(expected));
            assert!(named, "{error} has no {expected:?}");
        }
        let other = file(&good.replace("one_class_model", "other"), &plain);
        assert_eq!(Model::from_bytes(&other), Err(FormatError::Kind("other".to_owned())));
    }

    #[test]
    fn an_error_repeats_nothing_that_a_terminal_obeys() {
        let mut body = Writer::default();
        let meta = r#"{"kind":"one_class_model","model":"\u001b[2Jclean\u009b\n","features":3}"#;
        body.section(*b"meta", meta.as_bytes());
        body.section(*b"modl", b"{}");
        let error = Model::from_bytes(&seal(&body.into_bytes())).unwrap_err().to_string();
        assert!(error.contains("clean") && !error.contains(char::is_control), "{error:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn a_forged_file_is_refused_or_usable(
            kind in 0..ModelKind::ALL.len(),
            edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
            cut: prop::sample::Index,
        ) {
            thread_local!(static FILES: Vec<Vec<u8>> =
                ModelKind::ALL.map(|kind| kind.fit(rows().view(), 3).unwrap().to_bytes().unwrap()).into());
            let good = FILES.with(|files| files[kind].clone());
            prop_assert!(Model::from_bytes(&good[..cut.index(good.len())]).is_err());
            let mut body = good[HEADER..].to_vec();
            for (at, byte) in edits {
                let at = at.index(body.len());
                body[at] = byte;
            }
            if let Ok(model) = Model::from_bytes(&seal(&body)) {
                for value in [0.0, -1e9, f32::MAX, f32::NAN] {
                    let row = vec![value; model.features()];
                    prop_assert!(model.score(&row).is_finite());
                    prop_assert_eq!(model.contributions(&row).len(), row.len());
                }
            }
        }
    }
}
