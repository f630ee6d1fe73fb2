//! From orders to recency, frequency and monetary, and from these to scores by breaks learnt from a population.
//!
//! Pure. Columns, configuration and stored bytes are `lib`'s; how values are divided into bands is `scoring`'s.

use serde::{Deserialize, Serialize};

use crate::scoring::{BANDS, Breaks, Convention};

/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;
/// Sums of decimal amounts carry rounding noise in their last bits, which would split ties at random: amounts count to this many parts of one.
const AMOUNT_PARTS: f64 = 10_000.0;

/// What is known of a customer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Customer {
    /// UTC days since the last order; 0 on its day.
    pub(crate) recency: f64,
    /// UTC days with an order.
    pub(crate) frequency: f64,
    /// Sum of all amounts.
    pub(crate) monetary: f64,
}

impl Customer {
    /// `None` for somebody without an order. Orders after `now_ms` (a client's clock that is fast) count as of now.
    pub(crate) fn new(order_times_ms: &[i64], monetary: f64, now_ms: i64) -> Option<Customer> {
        let today = now_ms.div_euclid(DAY_MS);
        let mut days: Vec<i64> = order_times_ms.iter().map(|time| time.div_euclid(DAY_MS)).collect();
        days.sort_unstable();
        days.dedup();
        let last = *days.last()?;
        Some(Customer {
            recency: (today - last).max(0) as f64,
            frequency: days.len() as f64,
            // Adding 0 turns −0 into 0, which the total order of floats tells apart.
            monetary: libm::round(monetary * AMOUNT_PARTS) / AMOUNT_PARTS + 0.0,
        })
    }
}

/// The three scores of a customer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scores {
    pub(crate) recency: i64,
    pub(crate) frequency: i64,
    pub(crate) monetary: i64,
}

/// The learnt breaks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Model {
    pub(crate) convention: Convention,
    /// Of days, so that the lowest band is the best one; of days with the sign changed where ties are split by rank, so that among equally recent
    /// customers the same ids come first as in the other two.
    pub(crate) recency: Breaks,
    pub(crate) frequency: Breaks,
    pub(crate) monetary: Breaks,
}

/// The customers to learn from, poured in one by one; three numbers for each, and an id where the convention needs it.
#[derive(Debug)]
pub(crate) struct Population {
    convention: Convention,
    recency: Vec<f64>,
    frequency: Vec<f64>,
    monetary: Vec<f64>,
    ids: Vec<String>,
}

impl Population {
    pub(crate) fn new(convention: Convention) -> Population {
        Population { convention, recency: vec![], frequency: vec![], monetary: vec![], ids: vec![] }
    }

    pub(crate) fn add(&mut self, customer: &Customer, id: &str) {
        self.recency.push(recency_value(self.convention, customer));
        self.frequency.push(customer.frequency);
        self.monetary.push(customer.monetary);
        // Ids split ties in one convention alone; of a million customers they would be most of the memory.
        if self.convention == Convention::Ntile {
            self.ids.push(id.to_owned());
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.recency.len()
    }
}

impl Model {
    /// Learn from customers; `None` when there are none.
    pub(crate) fn fit(population: &Population) -> Option<Model> {
        let breaks = |values: &[f64]| Breaks::fit(population.convention, values, &population.ids);
        Some(Model {
            convention: population.convention,
            recency: breaks(&population.recency)?,
            frequency: breaks(&population.frequency)?,
            monetary: breaks(&population.monetary)?,
        })
    }

    /// The scores of a customer. The members of the population that was fitted get exactly the bands that `fit` put them in.
    pub(crate) fn score(&self, customer: &Customer, id: &str) -> Scores {
        let recency = self.recency.score(recency_value(self.convention, customer), id);
        Scores {
            recency: if is_reversed(self.convention) { BANDS as i64 + 1 - recency } else { recency },
            frequency: self.frequency.score(customer.frequency, id),
            monetary: self.monetary.score(customer.monetary, id),
        }
    }
}

/// Whether the score counts days down (few days are the lowest band), or recency itself up.
fn is_reversed(convention: Convention) -> bool {
    convention != Convention::Ntile
}

fn recency_value(convention: Convention, customer: &Customer) -> f64 {
    // 0 − x and not −x: the total order of floats puts −0 below 0.
    if is_reversed(convention) { customer.recency } else { 0.0 - customer.recency }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Days since 1970 of `YYYYMMDD` in 1997 and 1998.
    fn day(date: &str) -> i64 {
        let number = |range: std::ops::Range<usize>| date[range].parse::<i64>().unwrap();
        let (year, month, day) = (number(0..4), number(4..6), number(6..8));
        const BEFORE_MONTH: [i64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
        9_862 + (year - 1997) * 365 + BEFORE_MONTH[month as usize - 1] + day - 1
    }

    /// CDNOW on 1998-07-01, in the order of the customers' ids.
    fn cdnow() -> Vec<(Customer, String)> {
        let mut customers: BTreeMap<&str, (Vec<i64>, f64)> = BTreeMap::new();
        for line in include_str!("../../../examples/data/CDNOW_sample.txt").lines() {
            let row: Vec<&str> = line.split_whitespace().collect();
            let orders = customers.entry(row[1]).or_default();
            orders.0.push(day(row[2]) * DAY_MS);
            orders.1 += row[4].parse::<f64>().unwrap();
        }
        let now_ms = day("19980701") * DAY_MS;
        customers
            .into_iter()
            .map(|(id, (times, total))| (Customer::new(&times, total, now_ms).unwrap(), id.to_owned()))
            .collect()
    }

    fn scores(convention: Convention) -> (Model, Vec<(i64, i64, i64)>) {
        let customers = cdnow();
        assert_eq!(customers.len(), 2_357);
        let mut population = Population::new(convention);
        customers.iter().for_each(|(customer, id)| population.add(customer, id));
        let model = Model::fit(&population).unwrap();
        let scores = customers
            .iter()
            .map(|(customer, id)| {
                let scores = model.score(customer, id);
                (scores.recency, scores.frequency, scores.monetary)
            })
            .collect();
        (model, scores)
    }

    fn count<T: PartialEq>(scores: &[T], wanted: T) -> usize {
        scores.iter().filter(|score| **score == wanted).count()
    }

    fn assert_breaks(breaks: &Breaks, expected: [f64; 4]) {
        for (bound, expected) in breaks.bounds().into_iter().zip(expected) {
            assert!((bound.unwrap() - expected).abs() < 1e-9, "{breaks:?}");
        }
    }

    #[test]
    fn cdnow_by_quantiles() {
        let (model, scores) = scores(Convention::Quantile);
        assert_breaks(&model.recency, [153.0, 443.0, 487.0, 513.0]);
        assert_breaks(&model.frequency, [1.0, 1.0, 2.0, 4.0]);
        assert_breaks(&model.monetary, [15.36, 31.958, 59.25, 130.436]);
        assert_eq!((count(&scores, (5, 5, 5)), count(&scores, (1, 1, 1))), (233, 167));
        let frequency: Vec<i64> = scores.iter().map(|score| score.1).collect();
        assert_eq!([1, 2, 3, 4, 5].map(|score| count(&frequency, score)), [1_218, 0, 403, 358, 378]);
    }

    #[test]
    fn cdnow_by_ranks() {
        let (model, by_rank) = scores(Convention::Ntile);
        assert_eq!((count(&by_rank, (5, 5, 5)), count(&by_rank, (1, 1, 1))), (247, 171));
        assert_eq!(by_rank[..5], [(4, 4, 4), (1, 3, 4), (1, 1, 1), (1, 1, 1), (1, 1, 2)]);
        for band in [1, 2, 3, 4, 5] {
            let expected = if band <= 2 { 472 } else { 471 };
            for scores in [|s: &(i64, i64, i64)| s.0, |s: &(i64, i64, i64)| s.1, |s: &(i64, i64, i64)| s.2] {
                assert_eq!(by_rank.iter().filter(|score| scores(score) == band).count(), expected);
            }
        }
        // The state says nothing about the population but the four members at the bounds.
        assert!(serde_json::to_vec(&model).unwrap().len() < 1_024);
    }

    #[test]
    fn the_conventions_agree_on_little_more_than_half() {
        let (quantile, rank) = (scores(Convention::Quantile).1, scores(Convention::Ntile).1);
        let agreed = quantile.iter().zip(&rank).filter(|(left, right)| left == right).count();
        assert_eq!((agreed as f64 / 2_357.0 * 1_000.0).round(), 548.0);
    }

    #[test]
    fn a_customer_is_counted_in_utc_days() {
        let customer = |times: &[i64], now| Customer::new(times, 0.1 + 0.2, now);
        assert_eq!(
            customer(&[DAY_MS - 1, 0, DAY_MS], 3 * DAY_MS - 1),
            Some(Customer { recency: 1.0, frequency: 2.0, monetary: 0.3 })
        );
        assert_eq!(customer(&[5 * DAY_MS], 0).unwrap().recency, 0.0);
        assert_eq!(customer(&[], 0), None);
    }

    #[test]
    fn nobody_gives_no_model() {
        assert_eq!(Model::fit(&Population::new(Convention::Quantile)), None);
    }
}
