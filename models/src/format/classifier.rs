//! A classifier as a file: the envelope of [`format`](mod@crate::format), another kind.
//!
//! ```text
//! "meta"   JSON: kind "classifier", columns, classes, rounds, pass_at, name_at, normal_share, training, metrics;
//!          unknown keys are skipped
//! "tree"   nodes of all trees in pre-order, ten bytes each: u16 column, f32 threshold, f32 value; in a leaf the column
//!          is 0xFFFF and the threshold 0
//! ```
//!
//! Trees are those of the first class that occurs in the training rows in the order of the rounds, then those of the
//! next. Links between nodes are not stored but derived. Reading takes less than twice the size of the input plus 8 MiB.

use serde::Serialize;

use super::wire::Writer;
use super::{FormatError, decode_meta, invalid, open, seal, sections};
use crate::classifier::{Classifier, Node, Parts, Split};

const KIND: &str = "classifier";
/// In the place of the column of a split.
const LEAF: u16 = u16::MAX;

#[derive(Serialize)]
struct Meta<'a> {
    kind: String,
    #[serde(flatten)]
    parts: &'a Parts,
}

impl Classifier {
    /// The classifier as a file. The same classifier always gives the same bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let meta = Meta { kind: KIND.to_owned(), parts: self.parts() };
        let mut body = Writer::default();
        body.section(*b"meta", &serde_json::to_vec(&meta).expect("strings and finite numbers are JSON"));
        body.section(*b"tree", &encode_nodes(self.nodes()));
        seal(&body.into_bytes())
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote: the result judges bit for bit as the original did.
    ///
    /// # Errors
    /// The input is no model, of another version or kind, damaged, or invalid. It never panics, whatever the input.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FormatError> {
        let [meta, trees] = sections(open(bytes)?, [b"meta", b"tree"])?;
        let parts = decode_meta(meta, KIND)?;
        let (nodes, []) = trees.as_chunks::<10>() else {
            return Err(invalid("the trees are cut off"));
        };
        Self::from_parts(parts, nodes.iter().map(decode_node)).map_err(invalid)
    }
}

fn encode_nodes(nodes: impl Iterator<Item = Node>) -> Vec<u8> {
    let mut writer = Writer::default();
    for Node { split, value } in nodes {
        let Split { feature, threshold } = split.unwrap_or(Split { feature: LEAF, threshold: 0.0 });
        writer.put(&feature.to_le_bytes());
        writer.put(&threshold.to_le_bytes());
        writer.put(&value.to_le_bytes());
    }
    writer.into_bytes()
}

fn decode_node(&[f0, f1, t0, t1, t2, t3, v0, v1, v2, v3]: &[u8; 10]) -> Node {
    let feature = u16::from_le_bytes([f0, f1]);
    let threshold = f32::from_le_bytes([t0, t1, t2, t3]);
    let split = (feature != LEAF).then_some(Split { feature, threshold });
    Node { split, value: f32::from_le_bytes([v0, v1, v2, v3]) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classifier::{ClassifierParams, MAX_CLASSES, MAX_LEAVES, MAX_METRICS, MAX_ROUNDS, Names};
    use crate::format::{MAX_BYTES, MAX_META_BYTES};
    use crate::{Baseline, Model};
    use ndarray::Array2;
    use proptest::prelude::*;

    const HEADER: usize = 16;

    fn classifier() -> Classifier {
        let rows = Array2::from_shape_fn((90, 3), |(at, column)| ((at * (7 + 4 * column)) % 31 + at % 3 * 9) as f32);
        let classes: Vec<u16> = (0..90).map(|at| [0, 1, 3][at % 3]).collect();
        let names = Names { columns: &["a", "b \"c\"", "d"], classes: &["normal", "scan", "never", "flood"] };
        let params = ClassifierParams::new().rounds(3).leaves(4).learning_rate(0.5).seed(5).check().unwrap();
        let fitted = params.fit(rows.view(), &classes, names, 1_700_000_000).unwrap();
        fitted.with_prior(0.7).unwrap().with_metrics([("auc".to_owned(), 0.1 + 0.2)].into()).unwrap()
    }

    /// The file of these sections, with a checksum that is right.
    fn file(meta: &[u8], trees: &[u8]) -> Vec<u8> {
        let mut body = Writer::default();
        body.section(*b"meta", meta);
        body.section(*b"tree", trees);
        seal(&body.into_bytes())
    }

    fn good() -> (serde_json::Value, Vec<u8>) {
        let classifier = classifier();
        let meta = Meta { kind: KIND.to_owned(), parts: classifier.parts() };
        (serde_json::to_value(&meta).unwrap(), encode_nodes(classifier.nodes()))
    }

    /// A hostile file may hold any classifier, but only one that can be used.
    fn use_if_valid(bytes: &[u8]) {
        let Ok(classifier) = Classifier::from_bytes(bytes) else {
            return;
        };
        let classes = u16::try_from(classifier.classes().len()).unwrap();
        for value in [0.0, -1e9, f32::MAX, f32::NAN, f32::INFINITY] {
            let row = vec![value; classifier.columns().len()];
            let verdict = classifier.verdict(&row);
            assert!((verdict.probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{:?}", verdict.probabilities);
            for class in 0..classes {
                assert!(classifier.contributions(&row, class).iter().all(|part| part.is_finite()));
            }
        }
        let again = Classifier::from_bytes(&classifier.to_bytes()).unwrap();
        assert_eq!(again.to_bytes(), classifier.to_bytes());
    }

    #[test]
    fn what_is_written_is_read_bit_for_bit() {
        let original = classifier();
        let bytes = original.to_bytes();
        let restored = Classifier::from_bytes(&bytes).unwrap();
        assert_eq!(restored, original);
        assert_eq!(restored.to_bytes(), bytes);
        for row in [[1.5, 900.0, -3.0], [20.0, 3.0, f32::NAN]] {
            assert_eq!(restored.verdict(&row), original.verdict(&row));
            assert_eq!(restored.contributions(&row, 3), original.contributions(&row, 3));
        }
    }

    #[test]
    fn a_classifier_is_no_other_model() {
        let bytes = classifier().to_bytes();
        assert!(matches!(Baseline::from_bytes(&bytes), Err(FormatError::Invalid(_) | FormatError::Kind(_))));
        assert!(matches!(Model::from_bytes(&bytes), Err(FormatError::Invalid(_) | FormatError::Kind(_))));
        let (mut meta, trees) = good();
        meta["kind"] = "other".into();
        let other = file(meta.to_string().as_bytes(), &trees);
        assert_eq!(Classifier::from_bytes(&other), Err(FormatError::Kind("other".to_owned())));
    }

    #[test]
    fn a_file_cut_short_is_refused() {
        let bytes = classifier().to_bytes();
        for length in 0..bytes.len() {
            assert!(Classifier::from_bytes(&bytes[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn a_flipped_bit_is_seen() {
        let original = classifier();
        let good = original.to_bytes();
        for bit in 0..8 * good.len() {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            // The minor version says nothing that matters.
            let harmless = (80..96).contains(&bit);
            assert_eq!(Classifier::from_bytes(&bytes).ok(), harmless.then(|| original.clone()), "bit {bit}");
        }
    }

    #[test]
    fn parts_that_do_not_fit_together_are_refused() {
        let (meta, trees) = good();
        let text = meta.to_string().into_bytes();
        let with = |key: &str, value: serde_json::Value| {
            let mut meta = meta.clone();
            meta[key] = value;
            file(meta.to_string().as_bytes(), &trees)
        };
        let training =
            |rows: &[u32]| with("training", serde_json::json!({"rows_per_class": rows, "seed": 1, "trained_at_s": 2}));
        let node = |feature: u16, threshold: f32, value: f32| {
            let bytes = [&feature.to_le_bytes()[..], &threshold.to_le_bytes(), &value.to_le_bytes()].concat();
            file(&text, &[bytes.as_slice(), &trees[10..]].concat())
        };
        assert!(Classifier::from_bytes(&file(&text, &trees)).is_ok());
        assert!(Classifier::from_bytes(&with("new", 1.into())).is_ok());
        for (bytes, expected) in [
            (seal(b""), "missing"),
            (seal(b"meta\xff\xff\xff\xff{}"), "longer than the file"),
            (seal(&[&file(&text, &trees)[HEADER..], b"meta\0\0\0\0"].concat()), "twice"),
            (file(b"{", &trees), "EOF"),
            (file(&vec![b' '; MAX_META_BYTES + 1], &trees), "too long"),
            (file(&[b"{\"new\":", vec![b'['; 9999].as_slice()].concat(), &trees), "EOF"),
            (with("columns", serde_json::json!([])), "number of columns"),
            (with("columns", serde_json::json!(["a", "a", "b"])), "names of the columns"),
            (with("columns", serde_json::json!(["a"])), "feature that does not exist"),
            (with("classes", serde_json::json!(["normal"])), "names of the classes"),
            (with("classes", serde_json::json!(["normal", "scan", "\u{1b}", "flood"])), "names of the classes"),
            (with("classes", vec!["x"; 1000].into()), "names of the classes"),
            (with("rounds", 0.into()), "number of rounds"),
            (with("rounds", (MAX_ROUNDS + 1).into()), "number of rounds"),
            (with("rounds", 2.into()), "number of trees"),
            (with("rounds", 4.into()), "number of trees"),
            (with("pass_at", 0.into()), "decide at"),
            (with("name_at", 1.5.into()), "decide at"),
            (with("normal_share", 0.into()), "share of normal"),
            (with("normal_share", 1.0.into()), "share of normal"),
            (with("metrics", serde_json::json!({"": 1})), "metrics"),
            (training(&[30, 30, 0]), "rows for each class"),
            (training(&[0, 30, 0, 30]), "no normal"),
            (training(&[30, 0, 0, 0]), "no attacks"),
            (training(&[30, 30, 30, 30]), "number of trees"),
            (file(&text, &trees[1..]), "cut off"),
            (file(&text, &trees[..trees.len() - 10]), "not complete"),
            (file(&text, b""), "number of trees"),
            (file(&text, &[trees.as_slice(), &trees].concat()), "number of trees"),
            (node(3, 0.0, 0.0), "feature that does not exist"),
            (node(0, f32::NAN, 0.0), "threshold"),
            (node(0, 0.0, f32::INFINITY), "value"),
        ] {
            let error = Classifier::from_bytes(&bytes).unwrap_err();
            let named = matches!(&error, FormatError::Invalid(reason) if reason.contains(expected));
            assert!(named, "{error} has no {expected:?}");
        }
    }

    #[test]
    fn the_largest_classifier_is_within_the_limits() {
        let trees = usize::from(MAX_ROUNDS) * usize::from(MAX_CLASSES);
        assert!(10 * trees * (2 * usize::from(MAX_LEAVES) - 1) + MAX_META_BYTES < MAX_BYTES);
        let names = |count: usize| vec!["\"".repeat(crate::baseline::MAX_COLUMN_NAME); count];
        let words = names(usize::from(crate::isolation_forest::MAX_FEATURES + MAX_CLASSES) + MAX_METRICS);
        let numbers = 32 * MAX_METRICS + 12 * usize::from(MAX_CLASSES) + 1024;
        assert!(serde_json::to_vec(&words).unwrap().len() + numbers < MAX_META_BYTES);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn noise_is_no_classifier(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(Classifier::from_bytes(&bytes).is_err());
            prop_assert!(Classifier::from_bytes(&seal(&bytes)).is_err());
        }

        #[test]
        fn a_forged_file_is_refused_or_usable(edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
            thread_local!(static GOOD: Vec<u8> = classifier().to_bytes());
            let mut body = GOOD.with(|good| good[HEADER..].to_vec());
            for (at, byte) in edits {
                let at = at.index(body.len());
                body[at] = byte;
            }
            use_if_valid(&seal(&body));
        }

        #[test]
        fn forged_trees_are_refused_or_usable(
            nodes in prop::collection::vec((prop_oneof![Just(LEAF), 0_u16..4], any::<f32>(), -1e7_f32..1e7), 1..40),
            rounds in 1_u16..4,
        ) {
            let mut meta = good().0;
            meta["rounds"] = rounds.into();
            let bytes = nodes.iter().flat_map(|(feature, threshold, value)| {
                [&feature.to_le_bytes()[..], &threshold.to_le_bytes(), &value.to_le_bytes()].concat()
            });
            use_if_valid(&file(meta.to_string().as_bytes(), &bytes.collect::<Vec<u8>>()));
        }
    }
}
