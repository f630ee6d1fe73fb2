//! The BG/NBD model of repeat purchases: likelihood, estimation, P(alive) and expected purchases.
//!
//! P. Fader, B. Hardie, K. L. Lee, "Counting Your Customers" the Easy Way: An Alternative to the Pareto/NBD Model, Marketing Science 24 (2005).
//! Purchases of a living customer are Poisson with a Gamma(r, α) rate; after each one he drops out with a Beta(a, b) probability.
//! Time has any one unit. How orders become histories is in `history`; money is in `gamma_gamma`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::history::History;
use crate::optimize::{NoConvergence, best, minimize, within};
use crate::special::{digamma, drop_out_integral, ln_gamma, log_add};

/// The search stays within e^±MAX_LOG_PARAMETER.
const MAX_LOG_PARAMETER: f64 = 12.0;
/// A minimum outside of e^±MAX_CREDIBLE_LOG_PARAMETER lies on the flat slope towards infinity: the data do not determine the parameters, because
/// nobody drops out, nobody buys again, or all customers are alike.
const MAX_CREDIBLE_LOG_PARAMETER: f64 = 9.0;

/// The parameters of a fitted model.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct BgNbd {
    pub(crate) r: f64,
    pub(crate) alpha: f64,
    pub(crate) a: f64,
    pub(crate) b: f64,
}

/// A model with how well it fits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct FittedBgNbd {
    pub(crate) model: BgNbd,
    /// Of the whole population, not the mean.
    pub(crate) log_likelihood: f64,
    /// Steps of the search that found it.
    pub(crate) iterations: usize,
}

/// Customers with the same history, which share one term of the likelihood.
struct Group {
    frequency_index: usize,
    recency: f64,
    age: f64,
    customers: f64,
}

/// How many customers share each history: all that the likelihood needs of a population, in memory that grows with the variety of
/// histories and not with the customers.
#[derive(Debug, Default)]
pub(crate) struct Population {
    /// By the bits of frequency, recency and age: none of them is negative, so that their bits sort as they do.
    counts: BTreeMap<[u64; 3], u32>,
}

impl Population {
    pub(crate) fn add(&mut self, history: &History) {
        let key = [history.frequency, history.recency, history.age].map(f64::to_bits);
        *self.counts.entry(key).or_default() += 1;
    }
}

impl<'a> FromIterator<&'a History> for Population {
    fn from_iter<I: IntoIterator<Item = &'a History>>(histories: I) -> Population {
        let mut population = Population::default();
        histories.into_iter().for_each(|history| population.add(history));
        population
    }
}

/// A population laid out for going through it once for each step of the search.
struct Likelihood {
    /// Distinct numbers of repeat purchases with the number of customers that made them.
    frequencies: Vec<(f64, f64)>,
    groups: Vec<Group>,
    customers: f64,
}

impl Likelihood {
    fn new(population: &Population) -> Likelihood {
        let mut frequencies: Vec<(f64, f64)> = Vec::new();
        let mut groups = Vec::with_capacity(population.counts.len());
        for (key, count) in &population.counts {
            let [frequency, recency, age] = key.map(f64::from_bits);
            let customers = f64::from(*count);
            match frequencies.last_mut() {
                Some((last, sharing)) if *last == frequency => *sharing += customers,
                _ => frequencies.push((frequency, customers)),
            }
            groups.push(Group { frequency_index: frequencies.len() - 1, recency, age, customers });
        }
        let customers = frequencies.iter().map(|(_, customers)| customers).sum();
        Likelihood { frequencies, groups, customers }
    }

    /// The log-likelihood and its derivatives by r, α, a, b.
    fn at(&self, model: &BgNbd) -> (f64, [f64; 4]) {
        let BgNbd { r, alpha, a, b } = *model;
        let (ln_alpha, ln_a) = (libm::log(alpha), libm::log(a));
        let constant = ln_gamma(a + b) - ln_gamma(b) - ln_gamma(r) + r * ln_alpha;
        let (psi_r, psi_b, psi_ab) = (digamma(r), digamma(b), digamma(a + b));
        let mut value = self.customers * constant;
        let mut gradient = [
            self.customers * (ln_alpha - psi_r),
            self.customers * r / alpha,
            self.customers * psi_ab,
            self.customers * (psi_ab - psi_b),
        ];
        for &(frequency, customers) in &self.frequencies {
            value += customers * (ln_gamma(r + frequency) + ln_gamma(b + frequency) - ln_gamma(a + b + frequency));
            let psi_abx = digamma(a + b + frequency);
            gradient[0] += customers * digamma(r + frequency);
            gradient[2] -= customers * psi_abx;
            gradient[3] += customers * (digamma(b + frequency) - psi_abx);
        }
        for group in &self.groups {
            let frequency = self.frequencies[group.frequency_index].0;
            let shape = r + frequency;
            let ln_alive = libm::log(alpha + group.age);
            // A customer without a repeat purchase has had no chance to drop out.
            let (term, dead_share, ln_dead) = if frequency > 0.0 {
                let ln_dead = libm::log(alpha + group.recency);
                let (term, dead_share) =
                    log_add(-shape * ln_alive, ln_a - libm::log(b + frequency - 1.0) - shape * ln_dead);
                gradient[2] += group.customers * dead_share / a;
                gradient[3] -= group.customers * dead_share / (b + frequency - 1.0);
                (term, dead_share, ln_dead)
            } else {
                (-shape * ln_alive, 0.0, 0.0)
            };
            let alive_share = 1.0 - dead_share;
            value += group.customers * term;
            gradient[0] -= group.customers * (alive_share * ln_alive + dead_share * ln_dead);
            gradient[1] -=
                group.customers * shape * (alive_share / (alpha + group.age) + dead_share / (alpha + group.recency));
        }
        (value, gradient)
    }
}

impl BgNbd {
    /// Maximum likelihood, searched in the parameters' logarithms from two fixed starts.
    pub(crate) fn fit(population: &Population) -> Result<FittedBgNbd, NoConvergence> {
        let likelihood = Likelihood::new(population);
        let objective = |point: &[f64; 4]| {
            if point.iter().any(|coordinate| coordinate.abs() > MAX_LOG_PARAMETER) {
                return (f64::INFINITY, [f64::NAN; 4]);
            }
            let model = BgNbd::from_logarithms(point);
            let (value, gradient) = likelihood.at(&model);
            let parameters = [model.r, model.alpha, model.a, model.b];
            (
                -value / likelihood.customers,
                core::array::from_fn(|index| -gradient[index] * parameters[index] / likelihood.customers),
            )
        };
        let mean_age =
            likelihood.groups.iter().map(|group| group.customers * group.age).sum::<f64>() / likelihood.customers;
        let ln_age = libm::log(mean_age.max(1e-3)).clamp(-8.0, 8.0);
        let starts = [[-1.0, ln_age - 2.0, 0.0, 1.0], [0.0, ln_age, -1.0, 1.0]];
        let minimum = within(best(starts.map(|start| minimize(objective, start)))?, MAX_CREDIBLE_LOG_PARAMETER)?;
        Ok(FittedBgNbd {
            model: BgNbd::from_logarithms(&minimum.point),
            log_likelihood: -minimum.value * likelihood.customers,
            iterations: minimum.iterations,
        })
    }

    fn from_logarithms(point: &[f64; 4]) -> BgNbd {
        let [r, alpha, a, b] = point.map(libm::exp);
        BgNbd { r, alpha, a, b }
    }

    /// The probability that a customer with this history still buys.
    pub(crate) fn p_alive(&self, history: &History) -> f64 {
        1.0 / (1.0 + self.odds_of_drop_out(history))
    }

    /// Expected purchases in the next `horizon` units of time, given the history.
    pub(crate) fn expected_purchases(&self, history: &History, horizon: f64) -> f64 {
        let since = self.alpha + history.age;
        let alive = drop_out_integral(
            self.a,
            self.a + self.b + history.frequency - 1.0,
            self.a + self.b - 1.0 - self.r,
            horizon / (since + horizon),
        );
        alive / (1.0 + self.odds_of_drop_out(history))
    }

    /// (a / (b + x − 1)) · ((α + T) / (α + tₓ))^(r + x), 0 for a customer without repeat purchases.
    fn odds_of_drop_out(&self, history: &History) -> f64 {
        if history.frequency == 0.0 {
            return 0.0;
        }
        let log_silence = libm::log((self.alpha + history.age) / (self.alpha + history.recency));
        self.a / (self.b + history.frequency - 1.0) * libm::exp((self.r + history.frequency) * log_silence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cdnow;

    /// The recomputed six digits of the reference table.
    const PUBLISHED: BgNbd = BgNbd { r: 0.242_593, alpha: 4.413_531, a: 0.792_886, b: 2.425_753 };

    fn assert_close(actual: f64, expected: f64, tolerance: f64) {
        assert!((actual - expected).abs() <= tolerance, "{actual} is not {expected} within {tolerance}");
    }

    fn history(frequency: f64, recency: f64, age: f64) -> History {
        History { frequency, recency, age, mean_spend: None }
    }

    /// Expected repeat purchases of a new customer in `t` weeks.
    fn expected_from_start(model: &BgNbd, t: f64) -> f64 {
        model.expected_purchases(&history(0.0, 0.0, 0.0), t)
    }

    #[test]
    fn raw_orders_give_the_published_summary() {
        let (ours, published) = (cdnow::calibration(), cdnow::published());
        assert_eq!((ours.len(), published.len()), (2_357, 2_357));
        for (ours, published) in ours.iter().zip(&published) {
            assert_eq!(ours.frequency, published.frequency);
            assert_close(ours.recency, published.recency, 0.0044);
            assert_close(ours.age, published.age, 0.0044);
            assert_close(ours.mean_spend.unwrap(), published.mean_spend, 0.005_000_1);
        }
        assert_eq!(ours.iter().map(|history| history.frequency).sum::<f64>(), 2_457.0);
        assert_eq!(ours.iter().filter(|history| history.frequency == 0.0).count(), 1_411);
    }

    #[test]
    fn cdnow_gives_the_published_parameters() {
        let fitted = BgNbd::fit(&cdnow::calibration().iter().collect()).unwrap();
        assert_close(fitted.model.r, 0.242_593, 1e-3);
        assert_close(fitted.model.alpha, 4.413_531, 1e-3);
        assert_close(fitted.model.a, 0.792_886, 1e-3);
        assert_close(fitted.model.b, 2.425_753, 1e-3);
        assert_close(fitted.log_likelihood, -9_582.425_6, 5e-2);
    }

    #[test]
    fn few_steps_suffice_whatever_the_period() {
        for end in ["1997-06-30", cdnow::CALIBRATION_END, "1998-06-30"] {
            let end = crate::history::parse_day(end).unwrap();
            for time_unit_days in [1.0, 7.0, 30.0] {
                let histories: Vec<History> =
                    cdnow::purchases().iter().filter_map(|purchases| purchases.as_of(end, time_unit_days)).collect();
                let fitted = BgNbd::fit(&histories.iter().collect()).unwrap();
                assert!(fitted.iterations < 60, "{fitted:?}");
            }
        }
    }

    #[test]
    fn the_published_summary_gives_six_digits() {
        let histories: Vec<History> =
            cdnow::published().iter().map(|row| history(row.frequency, row.recency, row.age)).collect();
        let fitted = BgNbd::fit(&histories.iter().collect()).unwrap();
        assert_close(fitted.model.r, 0.242_593, 1e-6);
        assert_close(fitted.model.alpha, 4.413_531, 2e-5);
        assert_close(fitted.model.a, 0.792_886, 2e-5);
        assert_close(fitted.model.b, 2.425_753, 1e-4);
        assert_close(fitted.log_likelihood, -9_582.425_6, 1e-3);
    }

    #[test]
    fn gradient_is_the_slope_of_the_likelihood() {
        let likelihood = Likelihood::new(&cdnow::calibration().iter().collect());
        for model in [PUBLISHED, BgNbd { r: 1.3, alpha: 20.0, a: 0.1, b: 7.0 }] {
            let (_, gradient) = likelihood.at(&model);
            for (index, expected) in gradient.into_iter().enumerate() {
                let shifted = |sign: f64| {
                    let mut parameters = [model.r, model.alpha, model.a, model.b];
                    let step = 1e-6 * parameters[index];
                    parameters[index] += sign * step;
                    let [r, alpha, a, b] = parameters;
                    (likelihood.at(&BgNbd { r, alpha, a, b }).0, step)
                };
                let ((above, step), (below, _)) = (shifted(1.0), shifted(-1.0));
                assert_close((above - below) / (2.0 * step), expected, 1e-2 + 1e-5 * expected.abs());
            }
        }
    }

    #[test]
    fn grouping_changes_nothing() {
        let histories = cdnow::calibration();
        let grouped = Likelihood::new(&histories.iter().collect());
        assert!(grouped.groups.len() < histories.len());
        let (value, _) = grouped.at(&PUBLISHED);
        let one_by_one: f64 =
            histories.iter().map(|history| Likelihood::new(&[*history].iter().collect()).at(&PUBLISHED).0).sum();
        assert_close(value, one_by_one, 1e-8);
    }

    #[test]
    fn expected_purchases_of_a_new_customer() {
        for (t, expected) in
            [(0.1429, 0.0078), (1.0, 0.0532), (3.0, 0.1506), (31.8571, 1.0405), (32.0, 1.0437), (78.0, 1.8580)]
        {
            assert_close(expected_from_start(&PUBLISHED, t), expected, 5e-5);
        }
        assert_eq!(expected_from_start(&PUBLISHED, 0.0), 0.0);
    }

    #[test]
    fn published_customers() {
        let second = history(2.0, 30.43, 38.86);
        assert_close(PUBLISHED.expected_purchases(&second, 39.0), 1.225_91, 5e-6);
        assert_close(PUBLISHED.p_alive(&second), 0.726_609, 1e-6);
        assert_close(PUBLISHED.p_alive(&history(1.0, 1.71, 38.86)), 0.212_227, 1e-6);
        assert_eq!(PUBLISHED.p_alive(&history(0.0, 0.0, 38.86)), 1.0);
    }

    #[test]
    fn conditional_expectations_and_what_really_came() {
        let calibration_end = crate::history::parse_day(cdnow::CALIBRATION_END).unwrap();
        let mut sums = [(0.0, 0.0, 0.0); 8];
        let (mut predicted_sum, mut actual_sum) = (0.0, 0.0);
        for purchases in cdnow::purchases() {
            let history = purchases.as_of(calibration_end, 7.0).unwrap();
            let predicted = PUBLISHED.expected_purchases(&history, 39.0);
            let actual = purchases.purchases_between(calibration_end, calibration_end + cdnow::VALIDATION_DAYS) as f64;
            let row = &mut sums[(history.frequency as usize).min(7)];
            *row = (row.0 + 1.0, row.1 + predicted, row.2 + actual);
            predicted_sum += predicted;
            actual_sum += actual;
        }
        let model = [0.225, 0.523, 1.044, 1.520, 2.164, 2.654, 3.504, 6.157];
        let actual = [0.237, 0.697, 1.393, 1.560, 2.532, 2.947, 3.862, 6.359];
        for (index, (customers, predicted, came)) in sums.into_iter().enumerate() {
            assert_close(predicted / customers, model[index], 1e-3);
            assert_close(came / customers, actual[index], 6e-4);
        }
        assert_close(predicted_sum, 1_653.4, 0.2);
        assert_eq!(actual_sum, 1_882.0);
    }

    #[test]
    fn cumulative_repeats_to_week_78() {
        let total: f64 =
            cdnow::calibration().iter().map(|history| expected_from_start(&PUBLISHED, history.age + 39.0)).sum();
        assert_close(total, 4_160.6, 0.5);
    }

    #[test]
    fn frequent_buyers_do_not_overflow() {
        let expected = PUBLISHED.expected_purchases(&history(5_000.0, 500.0, 500.0), 5_200.0);
        assert!(expected.is_finite() && expected > 1_000.0 && expected < 52_000.0, "{expected}");
        let silent = PUBLISHED.expected_purchases(&history(5_000.0, 50.0, 500.0), 5_200.0);
        assert_eq!(silent, 0.0);
    }

    #[test]
    fn customers_without_any_repeat_determine_no_model() {
        let histories: Vec<History> = (1..200).map(|age| history(0.0, 0.0, f64::from(age))).collect();
        assert!(BgNbd::fit(&histories.iter().collect()).is_err());
    }
}
