//! Training on a population: both models, their quality gate, and the check on held-out history.
//!
//! Pure: takes purchases, gives models and figures. Columns, configuration and stored state are `lib`'s.

use std::collections::BTreeMap;

use crate::bg_nbd::{BgNbd, FittedBgNbd, Population};
use crate::gamma_gamma::{FittedGammaGamma, GammaGamma, Spend};
use crate::history::{History, Purchases};
use crate::optimize::NoConvergence;

/// The four parameters of BG/NBD need a population that shows repeat purchases; below this many repeat customers estimates are noise.
pub(crate) const MIN_REPEAT_CUSTOMERS: usize = 30;

/// Why a population gives no model.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum TrainingError {
    /// Not enough customers bought again.
    TooFewRepeatCustomers { found: usize, customers: usize },
    /// The likelihood has no maximum inside of sensible parameters.
    NoConvergence { model: &'static str, gradient: f64, iterations: usize },
}

impl core::fmt::Display for TrainingError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            TrainingError::TooFewRepeatCustomers { found, customers } => write!(
                f,
                "{found} of {customers} customers bought on more than one day and {MIN_REPEAT_CUSTOMERS} are needed; \
                 import more history, or check `order_event` and `calibration_end`"
            ),
            TrainingError::NoConvergence { model, gradient, iterations } => write!(
                f,
                "the likelihood of the {model} model has no clear maximum on this history (largest slope {gradient:.1e} after \
                 {iterations} iterations), so its parameters would mean nothing; customers may be too alike or the history too short"
            ),
        }
    }
}

/// Both models of one population.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Trained {
    pub(crate) purchases: FittedBgNbd,
    /// `None` where fewer than [`MIN_REPEAT_CUSTOMERS`] repeat customers have a positive mean spend.
    pub(crate) spend: Option<FittedGammaGamma>,
    pub(crate) customers: usize,
    pub(crate) repeat_customers: usize,
    pub(crate) spend_customers: usize,
    /// Pearson's correlation of frequency and mean spend over the customers of the spend model, which assumes that there is none.
    pub(crate) frequency_spend_correlation: Option<f64>,
}

/// How a model that was trained on the history before a day did on the time after it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Verification {
    pub(crate) customers: usize,
    pub(crate) predicted: f64,
    pub(crate) actual: f64,
    /// Pearson's correlation over customers; `None` where one side does not vary.
    pub(crate) correlation: Option<f64>,
}

/// What training needs of a population. A streamed data set is poured into it customer by customer.
#[derive(Debug, Default)]
pub(crate) struct Sample {
    population: Population,
    spends: Vec<Spend>,
    customers: usize,
    repeat_customers: usize,
}

impl Sample {
    pub(crate) fn add(&mut self, history: &History) {
        self.population.add(history);
        self.customers += 1;
        if history.frequency > 0.0 {
            self.repeat_customers += 1;
            // The Gamma distribution has no place for customers whose orders cost nothing, or less.
            let mean = history.mean_spend.filter(|mean| *mean > 0.0);
            self.spends.extend(mean.map(|mean| Spend { frequency: history.frequency, mean }));
        }
    }
}

impl<'a> FromIterator<&'a History> for Sample {
    fn from_iter<I: IntoIterator<Item = &'a History>>(histories: I) -> Sample {
        let mut sample = Sample::default();
        histories.into_iter().for_each(|history| sample.add(history));
        sample
    }
}

/// Train both models on customers as of the end of their history.
pub(crate) fn train(sample: &Sample) -> Result<Trained, TrainingError> {
    let purchases = train_purchases(sample)?;
    let spend = if sample.spends.len() < MIN_REPEAT_CUSTOMERS {
        None
    } else {
        Some(GammaGamma::fit(&sample.spends).map_err(no_convergence("Gamma-Gamma"))?)
    };
    Ok(Trained {
        purchases,
        spend,
        customers: sample.customers,
        repeat_customers: sample.repeat_customers,
        spend_customers: sample.spends.len(),
        frequency_spend_correlation: correlation(sample.spends.iter().map(|spend| (spend.frequency, spend.mean, 1.0))),
    })
}

fn train_purchases(sample: &Sample) -> Result<FittedBgNbd, TrainingError> {
    if sample.repeat_customers < MIN_REPEAT_CUSTOMERS {
        return Err(TrainingError::TooFewRepeatCustomers {
            found: sample.repeat_customers,
            customers: sample.customers,
        });
    }
    BgNbd::fit(&sample.population).map_err(no_convergence("BG/NBD"))
}

fn no_convergence(model: &'static str) -> impl Fn(NoConvergence) -> TrainingError {
    move |NoConvergence { gradient, iterations }| TrainingError::NoConvergence { model, gradient, iterations }
}

/// A population whose last days are held out of training.
#[derive(Debug, Default)]
pub(crate) struct HeldOut {
    /// As of the day before the held-out time.
    before: Sample,
    /// How many customers share a history, by the bits of frequency, recency and age, and a number of purchases in the held-out time.
    outcomes: BTreeMap<([u64; 3], usize), u32>,
}

impl HeldOut {
    /// Split a customer's purchases at `as_of − holdout_days`. Those who came later are left out.
    pub(crate) fn add(&mut self, purchases: &Purchases, as_of: i64, holdout_days: i64, time_unit_days: f64) {
        let cut = as_of - holdout_days;
        if let Some(history) = purchases.as_of(cut, time_unit_days) {
            self.before.add(&history);
            let key = [history.frequency, history.recency, history.age].map(f64::to_bits);
            *self.outcomes.entry((key, purchases.purchases_between(cut, as_of))).or_default() += 1;
        }
    }
}

/// Train on the history before the held-out time and compare with what came in it, `horizon` units of time.
pub(crate) fn verify(held_out: &HeldOut, horizon: f64) -> Result<Verification, TrainingError> {
    let model = train_purchases(&held_out.before)?.model;
    let outcomes: Vec<(f64, f64, f64)> = held_out
        .outcomes
        .iter()
        .map(|((key, actual), customers)| {
            let [frequency, recency, age] = key.map(f64::from_bits);
            let history = History { frequency, recency, age, mean_spend: None };
            (model.expected_purchases(&history, horizon), *actual as f64, f64::from(*customers))
        })
        .collect();
    Ok(Verification {
        customers: held_out.before.customers,
        predicted: outcomes.iter().map(|(predicted, _, customers)| predicted * customers).sum(),
        actual: outcomes.iter().map(|(_, actual, customers)| actual * customers).sum(),
        correlation: correlation(outcomes.iter().copied()),
    })
}

/// Pearson's correlation coefficient of `(x, y, weight)`; `None` where one side does not vary.
fn correlation(triples: impl Iterator<Item = (f64, f64, f64)> + Clone) -> Option<f64> {
    let (mut count, mut sum_x, mut sum_y) = (0.0, 0.0, 0.0);
    for (x, y, weight) in triples.clone() {
        count += weight;
        sum_x += weight * x;
        sum_y += weight * y;
    }
    let (mean_x, mean_y) = (sum_x / count, sum_y / count);
    let (mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0);
    for (x, y, weight) in triples {
        xx += weight * (x - mean_x) * (x - mean_x);
        yy += weight * (y - mean_y) * (y - mean_y);
        xy += weight * (x - mean_x) * (y - mean_y);
    }
    (xx > 0.0 && yy > 0.0).then(|| xy / (xx * yy).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cdnow;
    use crate::history::parse_day;

    #[test]
    fn cdnow_trains() {
        let trained = train(&cdnow::calibration().iter().collect()).unwrap();
        assert_eq!((trained.customers, trained.repeat_customers, trained.spend_customers), (2_357, 946, 946));
        assert!((trained.frequency_spend_correlation.unwrap() - 0.113_9).abs() < 5e-4);
        assert!(trained.spend.is_some());
    }

    #[test]
    fn held_out_cdnow_gives_the_published_validation() {
        let end = parse_day(cdnow::CALIBRATION_END).unwrap() + cdnow::VALIDATION_DAYS;
        let mut held_out = HeldOut::default();
        for purchases in cdnow::purchases() {
            held_out.add(&purchases, end, cdnow::VALIDATION_DAYS, 7.0);
        }
        let verification = verify(&held_out, 39.0).unwrap();
        assert_eq!((verification.customers, verification.actual), (2_357, 1_882.0));
        assert!((verification.predicted - 1_653.4).abs() < 0.5, "{verification:?}");
        assert!((verification.correlation.unwrap() - 0.625_63).abs() < 1e-4, "{verification:?}");
    }

    #[test]
    fn thirty_repeat_customers_are_the_least() {
        let calibration = cdnow::calibration();
        let with_repeats = |count: usize| {
            let mut left = count;
            calibration
                .iter()
                .filter(|history| {
                    history.frequency == 0.0 || {
                        let is_kept = left > 0;
                        left = left.saturating_sub(1);
                        is_kept
                    }
                })
                .collect::<Sample>()
        };
        let refused = train(&with_repeats(29)).unwrap_err();
        assert_eq!(refused, TrainingError::TooFewRepeatCustomers { found: 29, customers: 1_411 + 29 });
        assert!(refused.to_string().contains("29 of 1440 customers"));
        assert!(!matches!(train(&with_repeats(30)), Err(TrainingError::TooFewRepeatCustomers { .. })));
        assert!(train(&Sample::default()).is_err());
    }

    #[test]
    fn without_amounts_purchases_are_still_modelled() {
        let histories: Vec<History> =
            cdnow::calibration().into_iter().map(|history| History { mean_spend: None, ..history }).collect();
        let trained = train(&histories.iter().collect()).unwrap();
        assert_eq!((trained.spend, trained.spend_customers, trained.frequency_spend_correlation), (None, 0, None));
    }

    #[test]
    fn customers_who_are_all_alike_determine_no_model() {
        let alike = History { frequency: 3.0, recency: 30.0, age: 31.0, mean_spend: Some(10.0) };
        assert!(matches!(
            train(&[alike; 100].iter().collect()),
            Err(TrainingError::NoConvergence { model: "BG/NBD", .. })
        ));
    }
}
