//! Measures over all thresholds: one sort, then one pass for each weighting of the rows.

/// Rows by descending score, equal scores together.
#[derive(Clone, Debug)]
pub struct Ranking {
    order: Vec<usize>,
    /// Ends of the runs of equal scores in `order`.
    ends: Vec<usize>,
}

impl Ranking {
    /// Sorts rows by their scores.
    #[must_use]
    pub fn new(scores: &[f64]) -> Self {
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
        let mut ends: Vec<usize> = (1..order.len()).filter(|at| scores[order[*at]] != scores[order[at - 1]]).collect();
        ends.push(order.len());
        Self { order, ends }
    }

    /// AUC, average precision, and TPR at each of `rates`, as defined in [`measures`](super). NaN where the weight of
    /// the attacks or of the normal rows is zero.
    #[must_use]
    pub fn measure(&self, attacks: &[bool], weight: &[f64], rates: [f64; 2]) -> [f64; 4] {
        let (mut positive, mut negative) = (0.0, 0.0);
        for (attack, weight) in attacks.iter().zip(weight) {
            *(if *attack { &mut positive } else { &mut negative }) += weight;
        }
        let (mut found, mut false_alarms, mut auc, mut precision) = (0.0, 0.0, 0.0, 0.0);
        let mut tpr = [0.0; 2];
        let mut start = 0;
        for &end in &self.ends {
            let (found_before, false_before) = (found, false_alarms);
            for &row in &self.order[start..end] {
                *(if attacks[row] { &mut found } else { &mut false_alarms }) += weight[row];
            }
            start = end;
            let (gained, passed) = (found - found_before, false_alarms - false_before);
            auc += gained * (negative - false_alarms + 0.5 * passed);
            if gained > 0.0 {
                precision += gained * found / (found + false_alarms);
            }
            for (best, rate) in tpr.iter_mut().zip(rates) {
                // A sum of weights is not exact: a millionth of a millionth is no false alarm.
                if false_alarms <= rate * negative * (1.0 + 1e-12) {
                    *best = found / positive;
                }
            }
        }
        if positive <= 0.0 || negative <= 0.0 {
            return [f64::NAN; 4];
        }
        [auc / (positive * negative), precision / positive, tpr[0], tpr[1]]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definitions, threshold by threshold and pair by pair.
    fn naive(scores: &[f64], attacks: &[bool], weight: &[f64], rates: [f64; 2]) -> [f64; 4] {
        let sum =
            |wanted: &dyn Fn(usize) -> bool| (0..scores.len()).filter(|i| wanted(*i)).map(|i| weight[i]).sum::<f64>();
        let (positive, negative) = (sum(&|i| attacks[i]), sum(&|i| !attacks[i]));
        let mut auc = 0.0;
        for i in (0..scores.len()).filter(|i| attacks[*i]) {
            for j in (0..scores.len()).filter(|j| !attacks[*j]) {
                let won = if scores[i] > scores[j] { 1.0 } else { f64::from(u8::from(scores[i] == scores[j])) / 2.0 };
                auc += weight[i] * weight[j] * won;
            }
        }
        let mut thresholds = scores.to_vec();
        thresholds.sort_by(|a, b| b.total_cmp(a));
        thresholds.dedup();
        let (mut precision, mut before, mut tpr) = (0.0, 0.0, [0.0_f64; 2]);
        for t in thresholds {
            let found = sum(&|i| attacks[i] && scores[i] >= t);
            let alarms = sum(&|i| !attacks[i] && scores[i] >= t);
            if found + alarms > 0.0 {
                precision += (found - before) / positive * found / (found + alarms);
            }
            before = found;
            for (best, rate) in tpr.iter_mut().zip(rates) {
                if alarms / negative <= rate {
                    *best = best.max(found / positive);
                }
            }
        }
        [auc / (positive * negative), precision, tpr[0], tpr[1]]
    }

    proptest! {
        #[test]
        fn one_pass_gives_what_the_definitions_say(
            rows in prop::collection::vec((0_u8..12, any::<bool>(), 0_u8..4), 2..60),
            rates in [0.01_f64..0.9, 0.01..0.9],
        ) {
            let scores: Vec<f64> = rows.iter().map(|row| f64::from(row.0)).collect();
            let attacks: Vec<bool> = rows.iter().map(|row| row.1).collect();
            let weight: Vec<f64> = rows.iter().map(|row| f64::from(row.2)).collect();
            let weight_of = |attack| rows.iter().filter(|row| row.1 == attack).map(|row| u32::from(row.2)).sum::<u32>();
            let fast = Ranking::new(&scores).measure(&attacks, &weight, rates);
            if weight_of(true) == 0 || weight_of(false) == 0 {
                prop_assert!(fast.iter().all(|measure| measure.is_nan()));
            } else {
                for (fast, naive) in fast.into_iter().zip(naive(&scores, &attacks, &weight, rates)) {
                    prop_assert!((fast - naive).abs() < 1e-9, "{fast} is not {naive}");
                }
            }
        }

        #[test]
        fn turning_scores_around_turns_the_auc_around(scores in prop::collection::vec(0_u8..9, 6..40)) {
            let scores: Vec<f64> = scores.into_iter().map(f64::from).collect();
            let attacks: Vec<bool> = (0..scores.len()).map(|row| row % 3 == 0).collect();
            let weight = vec![1.0; scores.len()];
            let auc = |scores: &[f64]| Ranking::new(scores).measure(&attacks, &weight, [0.1, 0.1])[0];
            let around: Vec<f64> = scores.iter().map(|score| -score).collect();
            prop_assert!((auc(&scores) + auc(&around) - 1.0).abs() < 1e-12);
        }
    }

    #[test]
    fn equal_scores_are_worth_a_coin() {
        let [auc, precision, tpr, _] =
            Ranking::new(&[1.0; 4]).measure(&[true, false, false, false], &[1.0; 4], [0.5; 2]);
        assert_eq!((auc, precision, tpr), (0.5, 0.25, 0.0));
    }
}
