//! CDNOW for the tests: the raw orders of the repository's sample, and the published summary beside them.

use crate::history::{History, Purchases, parse_day};

/// The end of the published calibration period, 39 weeks.
pub(crate) const CALIBRATION_END: &str = "1997-09-30";
/// A calibration customer's validation period, weeks 40 to 78.
pub(crate) const VALIDATION_DAYS: i64 = 273;

/// One customer of the published summary.
pub(crate) struct Published {
    pub(crate) frequency: f64,
    pub(crate) recency: f64,
    pub(crate) age: f64,
    pub(crate) mean_spend: f64,
}

/// Order times and amounts of one customer.
pub(crate) struct Orders {
    pub(crate) times_ms: Vec<i64>,
    pub(crate) amounts: Vec<f64>,
}

/// The raw sample, in the order of the sample's customer ids.
pub(crate) fn orders() -> Vec<Orders> {
    parse_orders(include_str!("../../../examples/data/CDNOW_sample.txt"), 5)
}

/// Customers of a raw file; `fields` in each row, customer id, date and dollars being the last but 3, 2 and 0.
pub(crate) fn parse_orders(text: &str, fields: usize) -> Vec<Orders> {
    let mut customers = std::collections::BTreeMap::<&str, Orders>::new();
    for line in text.lines() {
        let row: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(row.len(), fields, "{line}");
        let date = row[fields - 3];
        let day = parse_day(&format!("{}-{}-{}", &date[..4], &date[4..6], &date[6..])).unwrap();
        let orders = customers.entry(row[fields - 4]).or_insert(Orders { times_ms: Vec::new(), amounts: Vec::new() });
        orders.times_ms.push(day * 86_400_000);
        orders.amounts.push(row[fields - 1].parse().unwrap());
    }
    customers.into_values().collect()
}

/// The sample's purchase days.
pub(crate) fn purchases() -> Vec<Purchases> {
    orders().iter().map(|orders| Purchases::new(&orders.times_ms, &orders.amounts)).collect()
}

/// The sample as of the end of the calibration period, in weeks.
pub(crate) fn calibration() -> Vec<History> {
    let end = parse_day(CALIBRATION_END).unwrap();
    purchases().iter().map(|purchases| purchases.as_of(end, 7.0).unwrap()).collect()
}

/// The summary that lifetimes ships, in the same order.
pub(crate) fn published() -> Vec<Published> {
    include_str!("../../../examples/data/cdnow_customers_summary_with_transactions.csv")
        .lines()
        .skip(1)
        .map(|line| {
            let row: Vec<f64> = line.split(',').map(|field| field.parse().unwrap()).collect();
            Published { frequency: row[1], recency: row[2], age: row[3], mean_spend: row[4] }
        })
        .collect()
}
