//! Tests of the file format.

use ndarray::Array2;
use proptest::prelude::*;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::baseline::BaselineParams;
use crate::model::ModelKind;

const HEADER: usize = 16;

fn baseline(columns: usize, seed: u64) -> Baseline {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let rows = Array2::from_shape_simple_fn((150, columns), || rng.gen_range(-1e6_f32..1e6));
    let names: Vec<String> = (0..columns).map(|column| format!("feature \"{column}\"")).collect();
    let recipe = [(ModelKind::Residual, 1.0), (ModelKind::IsolationForest, 2.0)];
    let params = BaselineParams::new().recipe(&recipe).seed(seed).check().unwrap();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let fitted = params.fit(&names, rows.view(), 1_700_000_000).unwrap();
    fitted.with_metrics(Metrics::from([("auc".to_owned(), 0.9)]))
}

/// The file of the sections, with a checksum that is right.
fn file(sections: &[(&[u8; 4], Vec<u8>)]) -> Vec<u8> {
    let mut body = Writer::default();
    for (tag, payload) in sections {
        body.section(**tag, payload);
    }
    seal(&body.into_bytes())
}

const TAGS: [&[u8; 4]; 4] = [b"meta", b"summ", b"scal", b"ensm"];

fn parts(baseline: &Baseline) -> Vec<(&'static [u8; 4], Vec<u8>)> {
    let bytes = baseline.to_bytes().unwrap();
    let payloads = sections(open(&bytes).unwrap(), TAGS).unwrap();
    TAGS.into_iter().zip(payloads.map(<[u8]>::to_vec)).collect()
}

fn with_meta(baseline: &Baseline, edit: impl FnOnce(&mut serde_json::Value)) -> Vec<u8> {
    let mut sections = parts(baseline);
    let mut meta = serde_json::from_slice(&sections[0].1).unwrap();
    edit(&mut meta);
    sections[0].1 = serde_json::to_vec(&meta).unwrap();
    file(&sections)
}

/// A hostile file may hold any model, but only one that can be used.
fn use_if_valid(bytes: &[u8]) {
    let Ok(baseline) = Baseline::from_bytes(bytes) else {
        return;
    };
    let width = baseline.schema().len();
    for value in [0.0, -1e9, f32::MAX, f32::NAN] {
        let row = vec![value; width];
        let score = baseline.score(&row);
        assert!((0.0..=1.0).contains(&score), "{score}");
        assert!((0.0..=1.0).contains(&baseline.p_value(&row)));
        assert!(baseline.explain(&row, width).iter().all(|part| part.share > 0.0));
    }
    assert_eq!(Baseline::from_bytes(&baseline.to_bytes().unwrap()).unwrap(), baseline);
}

#[test]
fn the_envelope_says_what_is_wrong() {
    let good = baseline(2, 1).to_bytes().unwrap();
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    for (bytes, expected) in [
        (vec![], FormatError::NotAModel),
        (b"{\"not\": \"a model\"}".to_vec(), FormatError::NotAModel),
        (with(0, b'l'), FormatError::NotAModel),
        (MAGIC.to_vec(), FormatError::Damaged),
        (with(8, 2), FormatError::Version(2)),
        (with(9, 1), FormatError::Version(257)),
        (with(12, !good[12]), FormatError::Damaged),
        (good[..HEADER].to_vec(), FormatError::Damaged),
        (good[..good.len() - 1].to_vec(), FormatError::Damaged),
        ([good.as_slice(), b"\n"].concat(), FormatError::Damaged),
        (with_meta(&baseline(2, 1), |meta| meta["kind"] = "pca".into()), FormatError::Kind("pca".into())),
    ] {
        assert_eq!(Baseline::from_bytes(&bytes), Err(expected));
    }
}

#[test]
fn inputs_above_the_limit_are_refused_unread() {
    let mut bytes = baseline(2, 1).to_bytes().unwrap();
    bytes.resize(MAX_BYTES + 1, 0);
    assert_eq!(Baseline::from_bytes(&bytes), Err(FormatError::TooLarge(MAX_BYTES + 1)));
}

#[test]
fn parts_that_do_not_fit_together_are_refused() {
    let baseline = baseline(2, 1);
    let replace = |at: usize, payload: &[u8]| {
        let mut sections = parts(&baseline);
        sections[at].1 = payload.to_vec();
        file(&sections)
    };
    let mut twice = parts(&baseline);
    twice.push(twice[3].clone());
    let ensemble = |from: &str, to: &str| {
        let text = String::from_utf8(parts(&baseline)[3].1.clone()).unwrap();
        replace(3, text.replacen(from, to, 1).as_bytes())
    };
    let percentiles = |values: [f32; 6]| values.into_iter().flat_map(f32::to_le_bytes).collect::<Vec<_>>();
    let meta = |key: &str, value: serde_json::Value| with_meta(&baseline, |meta| meta[key] = value);
    let training = |key: &str, value: u32| with_meta(&baseline, |meta| meta["training"][key] = value.into());
    for (bytes, expected) in [
        (file(&parts(&baseline)[..3]), "missing"),
        (file(&twice), "twice"),
        (seal(b"meta\xff\xff\xff\xff{}"), "longer than the file"),
        (seal(b"met"), "longer than the file"),
        (replace(0, b"{"), "EOF"),
        (replace(0, &[b"{\"kind\":", vec![b'['; 999].as_slice()].concat()), "expected a string"),
        (replace(0, &[b"{\"new\":", vec![b'['; MAX_META_BYTES - 7].as_slice()].concat()), "EOF"),
        (replace(0, &vec![b' '; MAX_META_BYTES + 1]), "too long"),
        (meta("schema", serde_json::json!([])), "same columns"),
        (meta("schema", serde_json::json!(["a"])), "same columns"),
        (meta("schema", serde_json::json!(["a", "a"])), "names"),
        (meta("schema", serde_json::json!(["a", ""])), "names"),
        (meta("schema", serde_json::json!(["a", "b\u{1b}[2J"])), "names"),
        (meta("schema", "x".repeat(9999).into()), "invalid type"),
        (meta("schema", serde_json::json!(["a", "b", "c"])), "same columns"),
        (meta("schema", vec!["a"; 1025].into()), "names"),
        (training("rows", 149), "add up"),
        (training("rows", 0), "add up"),
        (training("fit_rows", 106), "add up"),
        (meta("metrics", serde_json::json!({"auc": "high"})), "invalid type"),
        (meta("metrics", serde_json::json!({"auc\u{1b}[2J": 0.5})), "names of the metrics"),
        (replace(1, b"123"), "cut off"),
        (replace(1, &[0; 16]), "cut off"),
        (replace(1, &[0; 12]), "same columns"),
        (replace(1, &[0; 12 * 1025]), "too many"),
        (replace(1, &percentiles([0.0, 1.0, 2.0, 0.0, 3.0, 2.0])), "out of order"),
        (replace(1, &percentiles([0.0, f32::NAN, 2.0, 0.0, 0.0, 0.0])), "out of order"),
        (replace(1, &percentiles([0.0, 1.0, f32::INFINITY, 0.0, 0.0, 0.0])), "out of order"),
        (replace(2, br#"{"columns":[]}"#), "scaled columns"),
        (replace(3, b""), "EOF"),
        (replace(3, b"{}"), "missing field"),
        (replace(3, br#"{"members":[],"calibration":[1]}"#), "number of models"),
        (ensemble("\"weight\":", "\"weight\":1"), "fit together"),
        (ensemble("\"features\":2", "\"features\":3"), "fit together"),
        (ensemble("\"calibration\":[", "\"calibration\":[0.5,"), "fit together"),
        (replace(3, &[b"{\"members\":", vec![b'['; 999].as_slice()].concat()), "expected"),
    ] {
        let error = Baseline::from_bytes(&bytes).unwrap_err();
        assert!(
            matches!(&error, FormatError::Invalid(reason) if reason.contains(expected)),
            "{error} has no {expected:?}"
        );
    }
}

#[test]
fn what_a_later_minor_version_adds_is_skipped() {
    let baseline = baseline(2, 1);
    let mut bytes = with_meta(&baseline, |meta| {
        meta["host"] = "db1".into();
        meta["training"]["hours"] = 6.into();
    });
    bytes.splice(HEADER..HEADER, *b"more\x03\0\0\0new");
    let mut later = seal(&bytes[HEADER..]);
    later[10] = 9;
    assert_eq!(Baseline::from_bytes(&later), Ok(baseline));
}

#[test]
fn a_baseline_too_large_to_be_read_is_not_written() {
    let names = vec!["\"".repeat(crate::baseline::MAX_COLUMN_NAME); usize::from(MAX_FEATURES)];
    assert!(serde_json::to_vec(&names).unwrap().len() + 4096 < MAX_META_BYTES);
    let many = (0..20_000).map(|n| (format!("metric number {n}"), 0.5)).collect();
    let error = baseline(2, 1).with_metrics(many).to_bytes().unwrap_err();
    assert!(matches!(error, FormatError::TooLarge(_)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_is_read_bit_for_bit(columns in 1_usize..6, seed: u64) {
        let original = baseline(columns, seed);
        let bytes = original.to_bytes().unwrap();
        let restored = Baseline::from_bytes(&bytes).unwrap();
        prop_assert_eq!(restored.to_bytes().unwrap(), bytes);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        for _ in 0..20 {
            let row: Vec<f32> = (0..columns).map(|_| rng.gen_range(-2e6_f32..2e6)).collect();
            prop_assert_eq!(restored.score(&row).to_bits(), original.score(&row).to_bits());
            prop_assert_eq!(restored.p_value(&row).to_bits(), original.p_value(&row).to_bits());
            prop_assert_eq!(restored.explain(&row, columns), original.explain(&row, columns));
        }
        prop_assert_eq!(restored, original);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn noise_is_not_a_model(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Baseline::from_bytes(&bytes).is_err());
        prop_assert!(Baseline::from_bytes(&seal(&bytes)).is_err());
    }

    #[test]
    fn a_damaged_file_is_refused(edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4), cut: prop::sample::Index) {
        let original = baseline(2, 1);
        let good = original.to_bytes().unwrap();
        let mut bytes = good.clone();
        for (at, byte) in edits {
            bytes[at.index(good.len())] = byte;
        }
        prop_assert!(Baseline::from_bytes(&bytes).map_or(true, |read| read == original));
        bytes.truncate(cut.index(good.len()));
        prop_assert!(Baseline::from_bytes(&bytes).is_err());
    }

    #[test]
    fn a_forged_file_is_refused_or_usable(edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let good = baseline(2, 1).to_bytes().unwrap();
        let mut body = good[HEADER..].to_vec();
        for (at, byte) in edits {
            let at = at.index(body.len());
            body[at] = byte;
        }
        use_if_valid(&seal(&body));
    }
}
