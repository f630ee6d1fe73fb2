//! Quintile scores 1 … 5 under three conventions.
//!
//! Conventions disagree about ties and boundaries, on CDNOW for almost half of the customers, so the convention is part of the configuration and
//! of the fitted state. Pure: numbers in, scores out. Which way round recency counts is `model`'s.

use serde::{Deserialize, Serialize};

/// Scores are 1 … BANDS.
pub(crate) const BANDS: usize = 5;

/// How values are divided into bands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Convention {
    /// Type-7 quantiles as upper bounds that belong to the lower band; equal values have equal scores.
    Quantile,
    /// Ranks divided as evenly as they go, like SQL's `NTILE(5)`; ties are split by the customer's id.
    Ntile,
    /// As the R package `rfm`: type-7 quantiles plus one as bounds that belong to the upper band.
    RfmPackage,
}

/// A value with the id that splits ties.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ranked {
    pub(crate) value: f64,
    pub(crate) id: String,
}

impl Ranked {
    fn order(&self, value: f64, id: &str) -> core::cmp::Ordering {
        self.value.total_cmp(&value).then_with(|| self.id.as_str().cmp(id))
    }
}

/// The bounds between bands, learnt from a population.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Breaks {
    /// Four ascending quantiles.
    Quantile([f64; BANDS - 1]),
    /// The last member of each band but the highest; `None` for a band that a population below five leaves empty.
    Ntile([Option<Ranked>; BANDS - 1]),
    /// Four ascending quantiles, before one is added.
    RfmPackage([f64; BANDS - 1]),
}

impl Breaks {
    /// Learn the bounds from the values of a population; `None` from an empty one. `ids` belong to the values one by one; only
    /// [`Convention::Ntile`] looks at them.
    pub(crate) fn fit(convention: Convention, values: &[f64], ids: &[String]) -> Option<Breaks> {
        if values.is_empty() {
            return None;
        }
        Some(match convention {
            Convention::Quantile => Breaks::Quantile(quintiles(values)),
            Convention::RfmPackage => Breaks::RfmPackage(quintiles(values)),
            Convention::Ntile => Breaks::Ntile(last_of_bands(values, ids)),
        })
    }

    /// 1 for the lowest values, 5 for the highest.
    pub(crate) fn score(&self, value: f64, id: &str) -> i64 {
        let below = match self {
            Breaks::Quantile(breaks) => breaks.iter().filter(|bound| **bound < value).count(),
            Breaks::RfmPackage(breaks) => breaks.iter().filter(|bound| **bound + 1.0 <= value).count(),
            Breaks::Ntile(last) => {
                last.iter().flatten().filter(|last| last.order(value, id) == core::cmp::Ordering::Less).count()
            }
        };
        below as i64 + 1
    }

    /// The four bounds as plain numbers, for the metrics of a fit.
    pub(crate) fn bounds(&self) -> [Option<f64>; BANDS - 1] {
        match self {
            Breaks::Quantile(breaks) | Breaks::RfmPackage(breaks) => breaks.map(Some),
            Breaks::Ntile(last) => last.each_ref().map(|last| last.as_ref().map(|last| last.value)),
        }
    }
}

/// The 20, 40, 60 and 80 % quantiles by Hyndman and Fan's type 7, the default of R and NumPy.
fn quintiles(values: &[f64]) -> [f64; BANDS - 1] {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    core::array::from_fn(|index| {
        // (n − 1) · k / 5 in whole numbers: where the quantile is a member of the population, it is exactly that member.
        let position = (sorted.len() - 1) * (index + 1);
        let (lower, fraction) = (position / BANDS, (position % BANDS) as f64 / BANDS as f64);
        let upper = (lower + 1).min(sorted.len() - 1);
        sorted[lower] + fraction * (sorted[upper] - sorted[lower])
    })
}

/// Bands as even as they go; the first `n mod 5` have one member more.
fn last_of_bands(values: &[f64], ids: &[String]) -> [Option<Ranked>; BANDS - 1] {
    let id = |member: usize| ids.get(member).map_or("", String::as_str);
    let mut members: Vec<usize> = (0..values.len()).collect();
    members
        .sort_unstable_by(|&left, &right| values[left].total_cmp(&values[right]).then_with(|| id(left).cmp(id(right))));
    let (size, longer) = (members.len() / BANDS, members.len() % BANDS);
    core::array::from_fn(|index| {
        let end = size * (index + 1) + longer.min(index + 1);
        // A population below five fills the first bands; the bounds of empty ones would repeat the last member.
        let is_filled = size > 0 || index < longer;
        is_filled.then(|| {
            let last = members[end - 1];
            Ranked { value: values[last], id: id(last).to_owned() }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit(convention: Convention, values: &[f64]) -> (Breaks, Vec<String>) {
        let ids: Vec<String> = (0..values.len()).map(|id| format!("{id:03}")).collect();
        (Breaks::fit(convention, values, &ids).unwrap(), ids)
    }

    fn scores(convention: Convention, values: &[f64]) -> Vec<i64> {
        let (breaks, ids) = fit(convention, values);
        values.iter().zip(&ids).map(|(value, id)| breaks.score(*value, id)).collect()
    }

    #[test]
    fn quantiles_are_type_seven() {
        // numpy.quantile([1, 2, 3, 4], [.2, .4, .6, .8])
        let (breaks, _) = fit(Convention::Quantile, &[4.0, 1.0, 3.0, 2.0]);
        let expected = [1.6, 2.2, 2.8, 3.4];
        for (bound, expected) in breaks.bounds().into_iter().zip(expected) {
            assert!((bound.unwrap() - expected).abs() < 1e-12);
        }
    }

    #[test]
    fn quantile_bounds_belong_to_the_lower_band_and_ties_share() {
        let values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        assert_eq!(scores(Convention::Quantile, &values), [1, 1, 2, 3, 4, 5]);
        assert_eq!(scores(Convention::Quantile, &[7.0; 9]), [1; 9]);
    }

    #[test]
    fn ntile_bands_are_even_whatever_the_ties() {
        assert_eq!(scores(Convention::Ntile, &[7.0; 12]), [1, 1, 1, 2, 2, 2, 3, 3, 4, 4, 5, 5]);
        assert_eq!(scores(Convention::Ntile, &[3.0, 1.0, 2.0]), [3, 1, 2]);
        assert_eq!(scores(Convention::Ntile, &[5.0]), [1]);
        assert_eq!(scores(Convention::Ntile, &[5.0, 4.0, 3.0, 2.0, 1.0]), [5, 4, 3, 2, 1]);
    }

    /// The analysis date, breaks and customers of rsquaredacademy/rfm's README.
    #[test]
    fn the_r_package_scores_as_published() {
        let recency = Breaks::RfmPackage([114.0, 180.0, 296.4, 481.0]);
        let frequency = Breaks::RfmPackage([3.0, 4.0, 5.0, 7.0]);
        let monetary = Breaks::RfmPackage([254.8, 381.0, 505.4, 665.0]);
        for (customer, expected) in [
            ((205.0, 6.0, 472.0), (3, 4, 3)),
            ((140.0, 3.0, 340.0), (4, 1, 2)),
            ((194.0, 4.0, 405.0), (3, 2, 3)),
            ((132.0, 5.0, 448.0), (4, 3, 3)),
            ((90.0, 9.0, 843.0), (5, 5, 5)),
        ] {
            let (days, orders, amount) = customer;
            let scored = (6 - recency.score(days, ""), frequency.score(orders, ""), monetary.score(amount, ""));
            assert_eq!(scored, expected, "{customer:?}");
        }
        // Where it differs from type-7 breaks: up to one above the bound still counts to the lower band.
        assert_eq!(
            (monetary.score(255.7, ""), Breaks::Quantile([254.8, 381.0, 505.4, 665.0]).score(255.7, "")),
            (1, 2)
        );
    }

    #[test]
    fn nobody_has_no_breaks() {
        assert_eq!(Breaks::fit(Convention::Quantile, &[], &[]), None);
    }
}
