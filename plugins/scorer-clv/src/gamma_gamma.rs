//! The Gamma-Gamma model of spend: likelihood, estimation and the expected mean value of a customer's purchases.
//!
//! P. Fader, B. Hardie, The Gamma-Gamma Model of Monetary Value (2013, brucehardie.com/notes/025). Amounts of one customer are Gamma(p, ν), and ν
//! varies between customers as Gamma(q, γ). It assumes that spend does not depend on frequency; `fit` reports their correlation.

use serde::{Deserialize, Serialize};

use crate::optimize::{Minimum, NoConvergence, best, minimize, within};
use crate::special::{digamma, ln_gamma};

/// The search stays within e^±MAX_LOG_PARAMETER; γ is in the workspace's currency, which may be a small one.
const MAX_LOG_PARAMETER: f64 = 25.0;
/// As for BG/NBD: beyond this the data do not determine p and q.
const MAX_CREDIBLE_LOG_PARAMETER: f64 = 9.0;

/// The parameters of a fitted model.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct GammaGamma {
    pub(crate) p: f64,
    pub(crate) q: f64,
    pub(crate) gamma: f64,
}

/// A model with how well it fits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct FittedGammaGamma {
    pub(crate) model: GammaGamma,
    /// Of the whole population, not the mean.
    pub(crate) log_likelihood: f64,
}

/// A customer's repeat purchases as the model sees them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spend {
    /// Number of repeat purchases, at least 1.
    pub(crate) frequency: f64,
    /// Their mean value, above 0.
    pub(crate) mean: f64,
}

impl GammaGamma {
    /// Maximum likelihood, searched in the parameters' logarithms from two fixed starts.
    pub(crate) fn fit(spends: &[Spend]) -> Result<FittedGammaGamma, NoConvergence> {
        let customers = spends.len() as f64;
        let objective = |point: &[f64; 3]| {
            if point.iter().any(|coordinate| coordinate.abs() > MAX_LOG_PARAMETER) {
                return (f64::INFINITY, [f64::NAN; 3]);
            }
            let model = GammaGamma::from_logarithms(point);
            let (value, gradient) = model.log_likelihood(spends);
            let parameters = [model.p, model.q, model.gamma];
            (-value / customers, core::array::from_fn(|index| -gradient[index] * parameters[index] / customers))
        };
        let mean = spends.iter().map(|spend| spend.mean).sum::<f64>() / customers;
        let ln_mean = libm::log(mean);
        let starts = [[1.0, 1.0, ln_mean], [0.0, 0.5, ln_mean - 1.0]];
        let minimum = best(starts.map(|start| minimize(objective, start)))?;
        let [p, q, _] = minimum.point;
        within(Minimum { point: [p, q, 0.0], ..minimum }, MAX_CREDIBLE_LOG_PARAMETER)?;
        Ok(FittedGammaGamma {
            model: GammaGamma::from_logarithms(&minimum.point),
            log_likelihood: -minimum.value * customers,
        })
    }

    /// The expected value of one purchase, given the mean of `frequency` repeat purchases; `None` where it is infinite.
    pub(crate) fn expected_value(&self, frequency: f64, mean: f64) -> Option<f64> {
        let denominator = self.p * frequency + self.q - 1.0;
        (denominator > 0.0).then(|| self.p * (self.gamma + frequency * mean) / denominator)
    }

    fn from_logarithms(point: &[f64; 3]) -> GammaGamma {
        let [p, q, gamma] = point.map(libm::exp);
        GammaGamma { p, q, gamma }
    }

    /// The log-likelihood and its derivatives by p, q, γ.
    fn log_likelihood(&self, spends: &[Spend]) -> (f64, [f64; 3]) {
        let GammaGamma { p, q, gamma } = *self;
        let (ln_gamma_q, psi_q, ln_scale) = (ln_gamma(q), digamma(q), libm::log(gamma));
        let mut value = 0.0;
        let mut gradient = [0.0; 3];
        for &Spend { frequency, mean } in spends {
            let shape = p * frequency;
            let total = frequency * mean;
            let (ln_total, ln_sum) = (libm::log(total), libm::log(gamma + total));
            value += ln_gamma(shape + q) - ln_gamma(shape) - ln_gamma_q + q * ln_scale + shape * ln_total
                - libm::log(mean)
                - (shape + q) * ln_sum;
            let psi_sum = digamma(shape + q);
            gradient[0] += frequency * (psi_sum - digamma(shape) + ln_total - ln_sum);
            gradient[1] += psi_sum - psi_q + ln_scale - ln_sum;
            gradient[2] += q / gamma - (shape + q) / (gamma + total);
        }
        (value, gradient)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cdnow;

    fn assert_close(actual: f64, expected: f64, tolerance: f64) {
        assert!((actual - expected).abs() <= tolerance, "{actual} is not {expected} within {tolerance}");
    }

    fn published_spends() -> Vec<Spend> {
        cdnow::published()
            .iter()
            .filter(|row| row.frequency > 0.0)
            .map(|row| Spend { frequency: row.frequency, mean: row.mean_spend })
            .collect()
    }

    #[test]
    fn the_published_summary_gives_the_published_parameters() {
        let spends = published_spends();
        assert_eq!(spends.len(), 946);
        let fitted = GammaGamma::fit(&spends).unwrap();
        let GammaGamma { p, q, gamma } = fitted.model;
        assert_close(p, 6.248_80, 1e-4);
        assert_close(q, 3.744_59, 1e-4);
        assert_close(gamma, 15.447_74, 1e-3);
        assert_close(fitted.log_likelihood, -4_055.923, 1e-3);
        assert_close(fitted.model.expected_value(0.0, 0.0).unwrap(), 35.171, 1e-3);
    }

    #[test]
    fn raw_orders_give_the_published_parameters() {
        let spends: Vec<Spend> = cdnow::calibration()
            .iter()
            .filter(|history| history.frequency > 0.0)
            .map(|history| Spend { frequency: history.frequency, mean: history.mean_spend.unwrap() })
            .collect();
        let fitted = GammaGamma::fit(&spends).unwrap();
        assert_close(fitted.model.p, 6.248_80, 5e-3);
        assert_close(fitted.model.q, 3.744_59, 5e-3);
        assert_close(fitted.model.gamma, 15.447_74, 1e-2);
        assert_close(fitted.log_likelihood, -4_055.923, 0.1);
    }

    #[test]
    fn published_customers() {
        let model = GammaGamma { p: 6.248_80, q: 3.744_59, gamma: 15.447_74 };
        let published = cdnow::published();
        for (customer, expected) in [(1, 24.658_6), (2, 18.911_5), (6, 71.462_9), (9, 27.282_4)] {
            let row = &published[customer - 1];
            assert_close(model.expected_value(row.frequency, row.mean_spend).unwrap(), expected, 1e-3);
        }
    }

    #[test]
    fn gradient_is_the_slope_of_the_likelihood() {
        let spends = published_spends();
        let parameters = [3.0, 2.5, 20.0];
        let at = |[p, q, gamma]: [f64; 3]| GammaGamma { p, q, gamma }.log_likelihood(&spends);
        let (_, gradient) = at(parameters);
        for (index, expected) in gradient.into_iter().enumerate() {
            let step = 1e-6 * parameters[index];
            let shifted = |sign: f64| {
                let mut shifted = parameters;
                shifted[index] += sign * step;
                at(shifted).0
            };
            assert_close((shifted(1.0) - shifted(-1.0)) / (2.0 * step), expected, 1e-3 + 1e-5 * expected.abs());
        }
    }

    #[test]
    fn an_infinite_mean_is_none() {
        let heavy = GammaGamma { p: 2.0, q: 0.9, gamma: 5.0 };
        assert_eq!(heavy.expected_value(0.0, 0.0), None);
        assert!(heavy.expected_value(1.0, 10.0).is_some());
    }

    #[test]
    fn customers_who_all_spend_the_same_determine_no_model() {
        let spends = vec![Spend { frequency: 2.0, mean: 10.0 }; 50];
        assert!(GammaGamma::fit(&spends).is_err());
    }
}
