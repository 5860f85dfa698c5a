//! Which rows are held out, and what a model makes of them.
//!
//! `fpr_at_p_0_01` should be near 0.01: it is the share of normal rows, held out, with a p-value of at most 0.01. `auc` is
//! the probability that an attack scores higher than a normal row, ties counted half (Mann, Whitney 1947);
//! `tpr_at_fpr_0_01` the largest share of attacks above a threshold that at most 1 % of the normal rows reach.

use sensor_models::{Baseline, Metrics, OneClass as _};

use super::Rows;

/// Largest p-value that is flagged.
const ALPHA: f64 = 0.01;
/// One row in so many is held out.
const HELD_OUT: u64 = 5;

/// Whether a row is held out: by its content, so that copies of a row are on one side.
#[must_use]
pub fn is_held_out(values: &[f32]) -> bool {
    // 64-bit FNV-1a, finished as in SplitMix64 (Steele, Lea, Flood 2014).
    let fnv = values.iter().flat_map(|value| value.to_bits().to_le_bytes());
    let mut hash =
        fnv.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (hash ^ (hash >> 31)) % HELD_OUT == 0
}

/// What `baseline` makes of normal rows it was not fitted to, and of attacks.
#[must_use]
pub fn baseline(baseline: &Baseline, rows: &Rows, normal: &[usize], attacks: &[usize]) -> Metrics {
    let score = |chosen: &[usize]| baseline.ensemble().score_batch(rows.select(chosen).view()).to_vec();
    let mut metrics = Metrics::new();
    let mut put = |name: &str, value: f64| metrics.insert(name.to_owned(), value);
    let flagged = |scores: &[f64]| {
        let flagged = scores.iter().filter(|score| baseline.calibration().p_value(**score) <= ALPHA).count();
        flagged as f64 / scores.len() as f64
    };
    put("held_out_normal_rows", normal.len() as f64);
    put("attack_rows", attacks.len() as f64);
    let normal = score(normal);
    if !normal.is_empty() {
        put("fpr_at_p_0_01", flagged(&normal));
    }
    if !attacks.is_empty() {
        let attacks = score(attacks);
        put("tpr_at_p_0_01", flagged(&attacks));
        if !normal.is_empty() {
            let (auc, tpr) = ranking(&normal, &attacks);
            put("auc", auc);
            put("tpr_at_fpr_0_01", tpr);
        }
    }
    metrics
}

/// AUC, and TPR at 1 % FPR.
fn ranking(normal: &[f64], attacks: &[f64]) -> (f64, f64) {
    let labelled = |scores: &[f64], attack| scores.iter().map(move |score| (*score, attack)).collect::<Vec<_>>();
    let mut all = [labelled(normal, false), labelled(attacks, true)].concat();
    all.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (mut found, mut false_alarms, mut pairs, mut tpr) = (0.0, 0.0, 0.0, 0.0);
    for tied in all.chunk_by(|a, b| a.0 == b.0) {
        let gained = tied.iter().filter(|(_, attack)| *attack).count() as f64;
        let passed = tied.len() as f64 - gained;
        pairs += gained * (normal.len() as f64 - false_alarms - 0.5 * passed);
        found += gained;
        false_alarms += passed;
        if false_alarms <= 0.01 * normal.len() as f64 {
            tpr = found / attacks.len() as f64;
        }
    }
    (pairs / (normal.len() as f64 * attacks.len() as f64), tpr)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn about_a_fifth_is_held_out_and_copies_stay_together() {
        let rows: Vec<[f32; 2]> = (0..10_000_u16).map(|n| [f32::from(n), 1.0]).collect();
        let held_out = rows.iter().filter(|row| is_held_out(*row)).count();
        assert!(held_out.abs_diff(2000) < 150, "{held_out}");
    }

    #[test]
    fn ranking_is_its_definition() {
        for (normal, attacks, auc, tpr) in [
            (&[0.1, 0.2][..], &[0.3, 0.4][..], 1.0, 1.0),
            (&[0.3, 0.4], &[0.1, 0.2], 0.0, 0.0),
            (&[0.5], &[0.5], 0.5, 0.0),
            (&[0.1, 0.3], &[0.2, 0.4], 0.75, 0.5),
        ] {
            assert_eq!(ranking(normal, attacks), (auc, tpr), "{normal:?} {attacks:?}");
        }
    }
}
