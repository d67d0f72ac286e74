//! How well a score ranks, from labels that the score has not seen.

/// The figures of one ranking, each 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Ranking {
    /// The probability that a positive scores higher than a negative; ties count half.
    pub auc: f64,
    /// Precision, averaged over the steps of recall.
    pub average_precision: f64,
    /// The highest harmonic mean of precision and recall over all thresholds.
    pub best_f1: f64,
}

/// Works the figures out. Scores that are the same are one step. `None` without a
/// positive or without a negative, or where the lengths differ.
#[must_use]
pub fn ranking(scores: &[f64], positive: &[bool]) -> Option<Ranking> {
    let positives = positive.iter().filter(|p| **p).count() as f64;
    let negatives = positive.len() as f64 - positives;
    if scores.len() != positive.len() || positives == 0.0 || negatives == 0.0 {
        return None;
    }
    let mut order: Vec<(f64, bool)> =
        scores.iter().copied().zip(positive.iter().copied()).collect();
    order.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    let mut ranking = Ranking::default();
    let (mut right, mut wrong) = (0.0, 0.0);
    for step in order.chunk_by(|a, b| a.0 == b.0) {
        let here = step.iter().filter(|(_, positive)| *positive).count() as f64;
        let others = step.len() as f64 - here;
        ranking.auc += others * (right + here / 2.0);
        right += here;
        wrong += others;
        let precision = right / (right + wrong);
        ranking.average_precision += precision * here / positives;
        ranking.best_f1 = ranking.best_f1.max(2.0 * right / (right + wrong + positives));
    }
    ranking.auc /= positives * negatives;
    Some(ranking)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn figures_that_were_worked_out_by_hand() {
        // In order: right, wrong, right, wrong.
        let found = ranking(&[4.0, 3.0, 2.0, 1.0], &[true, false, true, false]).unwrap();
        assert_eq!(found.auc, 0.75);
        assert!((found.average_precision - (1.0 + 2.0 / 3.0) / 2.0).abs() < 1e-12);
        assert!((found.best_f1 - 0.8).abs() < 1e-12);
        let tied = ranking(&[1.0; 4], &[true, false, true, false]).unwrap();
        assert_eq!((tied.auc, tied.average_precision), (0.5, 0.5));
        assert_eq!(ranking(&[1.0], &[true]), None);
    }

    proptest! {
        #[test]
        fn turning_the_scores_round_turns_the_area_round(
            rows in prop::collection::vec((0u8..20, any::<bool>()), 2..60),
        ) {
            let positive: Vec<bool> = rows.iter().map(|r| r.1).collect();
            let scores: Vec<f64> = rows.iter().map(|r| f64::from(r.0)).collect();
            let turned: Vec<f64> = scores.iter().map(|s| -s).collect();
            if let (Some(a), Some(b)) = (ranking(&scores, &positive), ranking(&turned, &positive)) {
                prop_assert!((a.auc + b.auc - 1.0).abs() < 1e-9);
            }
        }
    }
}
