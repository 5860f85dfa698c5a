//! What holds for every kind of model.

use ndarray::Array2;
use proptest::prelude::*;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::*;

/// Six columns as a sensor sees them: octets up to 1e12, a rate that follows from them, a count, a flag that is rarely
/// set, one that never is, and a share.
fn traffic(count: usize, seed: u64) -> Array2<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut rows = Array2::zeros((count, 6));
    for mut row in rows.rows_mut() {
        let octets = rng.gen_range(4.0_f32..27.0).exp();
        row[0] = octets;
        row[1] = octets / rng.gen_range(0.9_f32..1.1);
        row[2] = rng.gen_range(1.0_f32..20.0).floor();
        row[3] = f32::from(u8::from(rng.gen_range(0..100) == 0));
        row[5] = rng.gen_range(0.0..1.0);
    }
    rows
}

fn models() -> Vec<Model> {
    let rows = traffic(400, 1);
    ModelKind::ALL.map(|kind| kind.fit(rows.view(), 7).unwrap()).into()
}

#[test]
fn names_are_stable() {
    for kind in ModelKind::ALL {
        assert_eq!(kind.name().parse(), Ok(kind));
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
    }
    let error = "pca".parse::<ModelKind>().unwrap_err().to_string();
    assert!(error.contains("\"pca\"") && error.contains("half_space"), "{error}");
}

#[test]
fn the_seed_decides_everything() {
    let (rows, probe) = (traffic(300, 1), traffic(20, 2));
    for kind in ModelKind::ALL {
        let model = kind.fit(rows.view(), 7).unwrap();
        assert_eq!(model, kind.fit(rows.view(), 7).unwrap(), "{kind}");
        assert_eq!((model.kind(), model.features()), (kind, 6));
        let other = kind.fit(rows.view(), 8).unwrap();
        if kind != ModelKind::Residual {
            assert_ne!(model.score_batch(probe.view()), other.score_batch(probe.view()), "{kind}");
        }
    }
}

#[test]
fn shifted_rows_score_higher_and_name_the_column() {
    let usual = traffic(200, 3);
    for model in models() {
        let mean = |rows: &Array2<f32>| model.score_batch(rows.view()).sum() / rows.nrows() as f64;
        let mut shifted = usual.clone();
        shifted.column_mut(2).fill(500.0);
        assert!(mean(&shifted) > mean(&usual), "{}", model.kind());
        let named = shifted.rows().into_iter().filter(|row| {
            let parts = model.contributions(&row.to_vec());
            (0..6).all(|column| parts[column] <= parts[2])
        });
        let share = named.count() as f64 / 200.0;
        assert!(share > 0.75, "{} names the column in {share}", model.kind());
    }
}

#[test]
fn a_column_that_never_varied_is_seen_by_distances() {
    let usual = traffic(1, 3).row(0).to_vec();
    let mut other = usual.clone();
    other[4] = 1.0;
    for model in models() {
        let seen = matches!(
            model.kind(),
            ModelKind::Residual | ModelKind::Clusters | ModelKind::OneClassSvm | ModelKind::Autoencoder
        );
        if seen {
            assert!(model.score(&other) > model.score(&usual), "{}", model.kind());
        }
    }
}

#[test]
fn rows_without_any_difference_can_be_learnt() {
    for kind in ModelKind::ALL {
        let model = kind.fit(Array2::from_elem((60, 3), 5.0).view(), 1).unwrap();
        for row in [[5.0; 3], [0.0; 3], [f32::MAX; 3]] {
            assert!(model.score(&row).is_finite(), "{kind}");
            assert!(model.contributions(&row).iter().all(|part| part.is_finite()), "{kind}");
        }
    }
}

#[test]
fn two_rows_are_enough_and_unusable_rows_are_refused() {
    for kind in ModelKind::ALL {
        let model = kind.fit(ndarray::array![[1.0, 2.0], [3.0, f32::MAX]].view(), 1).unwrap();
        assert!(model.score(&[2.0, 2.0]).is_finite(), "{kind}");
        for (rows, expected) in [
            (Array2::zeros((1, 2)), FitError::TooFewRows { rows: 1, needed: 2 }),
            (Array2::zeros((2, 0)), FitError::Columns(0)),
            (Array2::from_elem((2, 2), f32::NAN), FitError::NotFinite { row: 0, column: 0 }),
        ] {
            assert_eq!(kind.fit(rows.view(), 1), Err(expected), "{kind}");
        }
    }
}

#[test]
fn plain_data_is_read_back_exactly() {
    let probe = traffic(50, 9);
    for model in models() {
        let text = serde_json::to_string(&model).unwrap();
        let restored: Model = serde_json::from_str(&text).unwrap();
        assert_eq!(restored, model);
        assert_eq!(restored.score_batch(probe.view()), model.score_batch(probe.view()));
        assert_eq!(serde_json::to_string(&restored).unwrap(), text);
    }
}

/// Changes one number of the plain data: the result is refused or can be used.
#[test]
fn forged_numbers_are_refused_or_harmless() {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    for model in models() {
        let good = serde_json::to_value(&model).unwrap();
        for _ in 0..40 {
            let mut forged = good.clone();
            let value = [0.0, -1.0, 0.5, 1e300, 65535.0, 4e9, 7.0][rng.gen_range(0..7)];
            forge(&mut forged, serde_json::json!(value), &mut rng);
            if let Ok(model) = serde_json::from_value::<Model>(forged.clone()) {
                use_it(&model);
            }
            let whole = [0_u64, 1, 2, 7, 65535, u64::from(u32::MAX), u64::MAX][rng.gen_range(0..7)];
            forge(&mut forged, serde_json::json!(whole), &mut rng);
            if let Ok(model) = serde_json::from_value::<Model>(forged) {
                use_it(&model);
            }
        }
    }
}

fn use_it(model: &Model) {
    for value in [0.0, -1e9, f32::MAX, f32::MIN, f32::INFINITY, f32::NAN] {
        let row = vec![value; model.features()];
        assert!(model.score(&row).is_finite(), "{}", model.kind());
        assert!(model.contributions(&row).iter().all(|part| part.is_finite()), "{}", model.kind());
    }
}

/// Replaces a random number somewhere.
fn forge(value: &mut serde_json::Value, with: serde_json::Value, rng: &mut ChaCha8Rng) {
    if let Some(list) = value.as_array_mut().filter(|list| !list.is_empty()) {
        let at = rng.gen_range(0..list.len());
        forge(&mut list[at], with, rng);
    } else if let Some(fields) = value.as_object_mut() {
        let at = rng.gen_range(0..fields.len());
        forge(fields.values_mut().nth(at).unwrap(), with, rng);
    } else {
        *value = with;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_row_has_a_finite_score(rows in prop::collection::vec(prop::collection::vec(prop::num::f32::ANY, 6), 1..20)) {
        thread_local!(static MODELS: Vec<Model> = models());
        MODELS.with(|models| {
            for (model, row) in models.iter().flat_map(|model| rows.iter().map(move |row| (model, row))) {
                prop_assert!(model.score(row).is_finite());
                prop_assert!(model.contributions(row).iter().all(|part| part.is_finite()));
            }
            Ok(())
        })?;
    }

    #[test]
    fn any_finite_rows_can_be_learnt(values in prop::collection::vec(prop::num::f32::NORMAL | prop::num::f32::ZERO, 24), seed: u64) {
        let rows = Array2::from_shape_vec((8, 3), values).unwrap();
        for kind in ModelKind::ALL {
            let model = kind.fit(rows.view(), seed).unwrap();
            prop_assert!(model.score_batch(rows.view()).iter().all(|score| score.is_finite()), "{}", kind);
            prop_assert!(serde_json::from_str::<Model>(&serde_json::to_string(&model).unwrap()).is_ok(), "{}", kind);
        }
    }
}
