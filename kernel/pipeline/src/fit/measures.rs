//! How good predictions are: figures of what a model said beforehand beside what came of it.
//!
//! Of labels that are true or false there are the area under the receiver operating characteristic, the Brier score and the log loss;
//! of numbers the root of the mean squared error, the mean absolute error and the rank correlation. A figure that cannot be told of
//! the rows that there are is left out.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A figure of how good predictions are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// How often somebody of whom the label is true has a greater prediction than somebody of whom it is false.
    Auc,
    /// The mean squared difference of a probability and what came of it.
    Brier,
    /// How surprising what came of it is to whoever believes the probabilities, in nats.
    LogLoss,
    /// The root of the mean squared error.
    Rmse,
    /// The mean absolute error.
    Mae,
    /// Whether those of whom much is foretold are those of whom much came, from −1 to 1.
    RankCorrelation,
}

/// What was foretold of one row, and what came of it: true is 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Foretold {
    pub label: f64,
    pub prediction: f64,
}

/// How far from 0 and 1 a probability is taken to be by the log loss at least: who was certain and wrong is else infinitely wrong.
const CERTAINTY: f64 = 1e-15;

impl Measure {
    /// Its name, as it is written and shown.
    pub fn name(self) -> &'static str {
        match self {
            Measure::Auc => "auc",
            Measure::Brier => "brier",
            Measure::LogLoss => "log_loss",
            Measure::Rmse => "rmse",
            Measure::Mae => "mae",
            Measure::RankCorrelation => "rank_correlation",
        }
    }

    /// Whether it is one of labels that are true or false; else it is one of numbers.
    pub fn is_of_truths(self) -> bool {
        match self {
            Measure::Auc | Measure::Brier | Measure::LogLoss => true,
            Measure::Rmse | Measure::Mae | Measure::RankCorrelation => false,
        }
    }

    /// The measure by which fits are compared where nobody chose one.
    pub fn usual(has_truths: bool) -> Measure {
        if has_truths { Measure::Auc } else { Measure::Rmse }
    }

    /// How one figure stands to another: greater where it is better.
    pub fn compare(self, one: f64, other: f64) -> Ordering {
        match self {
            Measure::Auc | Measure::RankCorrelation => one.total_cmp(&other),
            Measure::Brier | Measure::LogLoss | Measure::Rmse | Measure::Mae => other.total_cmp(&one),
        }
    }
}

/// The figures of these rows; `has_truths` where the labels are true or false.
pub(super) fn measured(rows: &[Foretold], has_truths: bool) -> BTreeMap<Measure, f64> {
    let figures = if has_truths {
        [(Measure::Auc, auc(rows)), (Measure::Brier, brier(rows)), (Measure::LogLoss, log_loss(rows))]
    } else {
        let errors = |of: fn(f64) -> f64| mean(rows.iter().map(|row| of(row.prediction - row.label)));
        [
            // R. J. Hyndman, A. B. Koehler, "Another look at measures of forecast accuracy", International Journal of Forecasting
            // 22 (2006), section 2.1, has both.
            (Measure::Rmse, errors(|error| error * error).map(f64::sqrt)),
            (Measure::Mae, errors(f64::abs)),
            (Measure::RankCorrelation, rank_correlation(rows)),
        ]
    };
    // Of predictions at the end of the range squares are infinite, which no row of ours can say.
    figures.into_iter().filter_map(|(measure, figure)| Some((measure, figure.filter(|it| it.is_finite())?))).collect()
}

/// The area under the receiver operating characteristic, by ranks: (R₁ − n₁ (n₁ + 1) / 2) / (n₁ n₀), where R₁ is the sum of the
/// ranks of those n₁ of whom the label is true, those that are equal having the mean of their ranks. J. A. Hanley, B. J. McNeil,
/// "The meaning and use of the area under a receiver operating characteristic (ROC) curve", Radiology 143 (1982); U is that of
/// H. B. Mann, D. R. Whitney, The Annals of Mathematical Statistics 18 (1947). None where all labels are the same.
fn auc(rows: &[Foretold]) -> Option<f64> {
    let ranks = ranks(rows.iter().map(|row| row.prediction).collect());
    let (mut sum, mut truths) = (0.0, 0_u32);
    for (_, rank) in rows.iter().zip(&ranks).filter(|(row, _)| row.label == 1.0) {
        sum += rank;
        truths += 1;
    }
    let [truths, others] = [f64::from(truths), count(rows.len()) - f64::from(truths)];
    (truths > 0.0 && others > 0.0).then(|| (sum - truths * (truths + 1.0) / 2.0) / (truths * others))
}

/// The mean of (p − y)²: G. W. Brier, "Verification of forecasts expressed in terms of probability", Monthly Weather Review 78
/// (1950), of one of the two classes. None where a prediction is no probability.
fn brier(rows: &[Foretold]) -> Option<f64> {
    let are_probabilities = rows.iter().all(|row| (0.0..=1.0).contains(&row.prediction));
    are_probabilities.then(|| mean(rows.iter().map(|row| (row.prediction - row.label).powi(2))))?
}

/// The mean of −y ln p − (1 − y) ln (1 − p): I. J. Good, "Rational decisions", Journal of the Royal Statistical Society B 14 (1952).
/// None where a prediction is no probability.
fn log_loss(rows: &[Foretold]) -> Option<f64> {
    let are_probabilities = rows.iter().all(|row| (0.0..=1.0).contains(&row.prediction));
    let loss = |row: &Foretold| {
        let chance = if row.label == 1.0 { row.prediction } else { 1.0 - row.prediction };
        -chance.max(CERTAINTY).ln()
    };
    are_probabilities.then(|| mean(rows.iter().map(loss)))?
}

/// The correlation of the ranks: C. Spearman, "The proof and measurement of association between two things", The American Journal
/// of Psychology 15 (1904), with equal values at the mean of their ranks. None where all labels or all predictions are the same.
fn rank_correlation(rows: &[Foretold]) -> Option<f64> {
    let labels = ranks(rows.iter().map(|row| row.label).collect());
    let predictions = ranks(rows.iter().map(|row| row.prediction).collect());
    // The mean of all ranks, whichever of them are equal.
    let middle = (count(rows.len()) + 1.0) / 2.0;
    let sum = |of: &dyn Fn(usize) -> f64| (0..rows.len()).map(of).sum::<f64>();
    let together = sum(&|row: usize| (labels[row] - middle) * (predictions[row] - middle));
    let [of_labels, of_predictions] =
        [&labels, &predictions].map(|ranks| sum(&|row: usize| (ranks[row] - middle) * (ranks[row] - middle)));
    (of_labels > 0.0 && of_predictions > 0.0).then(|| together / (of_labels.sqrt() * of_predictions.sqrt()))
}

/// The rank of each value, from 1; those that are equal have the mean of their ranks.
fn ranks(values: Vec<f64>) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|one, other| values[*one].total_cmp(&values[*other]));
    let mut ranks = vec![0.0; values.len()];
    let mut before = 0;
    for equal in order.chunk_by(|one, other| values[*one] == values[*other]) {
        let rank = count(2 * before + equal.len() + 1) / 2.0;
        equal.iter().for_each(|row| ranks[*row] = rank);
        before += equal.len();
    }
    ranks
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> Option<f64> {
    let rows = values.len();
    (rows > 0).then(|| values.sum::<f64>() / count(rows))
}

#[allow(clippy::cast_precision_loss, reason = "a number of rows that are in memory")]
fn count(rows: usize) -> f64 {
    rows as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rows(rows: &[(f64, f64)]) -> Vec<Foretold> {
        rows.iter().map(|(label, prediction)| Foretold { label: *label, prediction: *prediction }).collect()
    }

    fn near(figure: Option<f64>, wanted: f64) {
        assert!(figure.is_some_and(|figure| (figure - wanted).abs() < 1e-9), "{figure:?} is not {wanted}");
    }

    #[test]
    fn truths_are_measured_as_by_hand() {
        // Of the four pairs of one who did and one who did not, three are in order.
        let four = rows(&[(0.0, 0.1), (0.0, 0.4), (1.0, 0.35), (1.0, 0.8)]);
        near(auc(&four), 0.75);
        // 0.01, 0.16, 0.4225 and 0.04, which are 0.6325 in all.
        near(brier(&four), 0.158_125);
        // −ln of 0.9, 0.6, 0.35 and 0.8.
        near(log_loss(&four), (0.9_f64.ln() + 0.6_f64.ln() + 0.35_f64.ln() + 0.8_f64.ln()) / -4.0);
        near(auc(&rows(&[(0.0, 0.5), (1.0, 0.5)])), 0.5);
        near(auc(&rows(&[(1.0, -0.0), (0.0, 0.0)])), 0.5);
        near(auc(&rows(&[(1.0, 0.0), (0.0, 7.0)])), 0.0);
        near(log_loss(&rows(&[(1.0, 0.0)])), -CERTAINTY.ln());
        near(brier(&rows(&[(1.0, 0.0), (0.0, 0.0)])), 0.5);
    }

    #[test]
    fn numbers_are_measured_as_by_hand() {
        let four = rows(&[(3.0, 2.5), (-0.5, 0.0), (2.0, 2.0), (7.0, 8.0)]);
        let figures = measured(&four, false);
        near(figures.get(&Measure::Rmse).copied(), 0.375_f64.sqrt());
        near(figures.get(&Measure::Mae).copied(), 0.5);
        near(figures.get(&Measure::RankCorrelation).copied(), 1.0);
        // Differences of ranks of 4, 2, 0, 2 and 4 have 40 as the sum of their squares: 1 − 6 · 40 / (5 · 24).
        near(rank_correlation(&rows(&[(1.0, 9.0), (2.0, 8.0), (3.0, 7.0), (4.0, 6.0), (5.0, 5.0)])), -1.0);
        // Ranks 1, 2.5, 2.5, 4 beside 1, 2, 3, 4: 4.5 / √(4.5 · 5).
        near(rank_correlation(&rows(&[(1.0, 1.0), (2.0, 2.0), (2.0, 3.0), (3.0, 4.0)])), 4.5 / 22.5_f64.sqrt());
    }

    #[test]
    fn what_cannot_be_told_is_left_out() {
        let names = |these: &[(f64, f64)], has_truths| {
            measured(&rows(these), has_truths).into_keys().map(Measure::name).collect::<Vec<_>>()
        };
        assert_eq!(names(&[], true), [""; 0]);
        assert_eq!(names(&[], false), [""; 0]);
        assert_eq!(names(&[(1.0, 0.3), (1.0, 0.5)], true), ["brier", "log_loss"], "nobody of whom it is false");
        assert_eq!(names(&[(1.0, 3.0), (0.0, 0.5)], true), ["auc"], "3 is no probability");
        assert_eq!(names(&[(1.0, 3.0), (2.0, 3.0)], false), ["rmse", "mae"], "nothing is more than another");
        assert_eq!(names(&[(f64::MIN, f64::MAX), (0.0, 0.0)], false), ["rank_correlation"], "the errors are infinite");
    }

    #[test]
    fn more_is_better_of_some_and_worse_of_others() {
        assert_eq!(Measure::Auc.compare(0.8, 0.7), Ordering::Greater);
        assert_eq!(Measure::RankCorrelation.compare(-0.1, 0.0), Ordering::Less);
        for measure in [Measure::Brier, Measure::LogLoss, Measure::Rmse, Measure::Mae] {
            assert_eq!(measure.compare(0.8, 0.7), Ordering::Less, "{measure:?}");
            assert_eq!(measure.compare(0.7, 0.7), Ordering::Equal, "{measure:?}");
        }
        assert_eq!((Measure::usual(true), Measure::usual(false)), (Measure::Auc, Measure::Rmse));
        for has_truths in [true, false] {
            let figures = measured(&rows(&[(0.0, 0.25), (1.0, 0.5)]), has_truths);
            assert!(figures.len() == 3 && figures.keys().all(|measure| measure.is_of_truths() == has_truths));
        }
        for measure in [Measure::Auc, Measure::LogLoss, Measure::RankCorrelation] {
            let written = serde_json::to_string(&measure).unwrap();
            assert_eq!(written, format!("\"{}\"", measure.name()));
        }
    }

    /// The share of pairs of one who did and one who did not that are in order; those that are equal are half in order.
    fn naive_auc(rows: &[Foretold]) -> Option<f64> {
        let (mut in_order, mut pairs) = (0.0, 0.0);
        for truth in rows.iter().filter(|row| row.label == 1.0) {
            for other in rows.iter().filter(|row| row.label == 0.0) {
                pairs += 1.0;
                in_order += match truth.prediction.partial_cmp(&other.prediction) {
                    Some(Ordering::Greater) => 1.0,
                    Some(Ordering::Equal) => 0.5,
                    _ => 0.0,
                };
            }
        }
        (pairs > 0.0).then(|| in_order / pairs)
    }

    proptest! {
        #[test]
        fn the_area_is_the_share_of_pairs_in_order(
            drawn in proptest::collection::vec((any::<bool>(), -8_i32..8), 0..60),
        ) {
            let drawn: Vec<Foretold> = drawn
                .into_iter()
                .map(|(label, prediction)| Foretold {
                    label: f64::from(u8::from(label)),
                    prediction: f64::from(prediction) / 4.0,
                })
                .collect();
            match (auc(&drawn), naive_auc(&drawn)) {
                (Some(by_ranks), Some(by_pairs)) => prop_assert!((by_ranks - by_pairs).abs() < 1e-12),
                (by_ranks, by_pairs) => prop_assert_eq!(by_ranks, by_pairs),
            }
        }
    }
}
