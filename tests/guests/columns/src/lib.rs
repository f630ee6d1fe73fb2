//! A tag model of eight columns, six numbers and two texts: logistic weights and three bands.
//!
//! The benchmark runs this very code twice, as a guest and natively, so that the ratio is the price of the sandbox. `exp` is
//! `libm`'s on both sides: a native `f64::exp` would be the system's C library, which is not this code.

use kith_plugin_sdk::{Failure, Table, TagModel, export};

/// The tag model.
pub struct Columns;

impl TagModel for Columns {
    fn evaluate(_state: &[u8], rows: &Table) -> Result<Table, Failure> {
        let numbers = [
            (rows.float64("recency_days")?, -0.03),
            (rows.float64("orders")?, 0.4),
            (rows.float64("spent")?, 0.002),
            (rows.float64("visits")?, 0.05),
            (rows.float64("opened")?, 0.3),
            (rows.float64("returned")?, -0.8),
        ];
        let (city, plan) = (rows.text("city")?, rows.text("plan")?);
        let mut weights = Vec::with_capacity(rows.len());
        for row in 0..rows.len() {
            let mut sum: f64 = numbers.iter().map(|(column, factor)| column.get(row).unwrap_or(0.0) * factor).sum();
            sum += city.get(row).map_or(0.0, |city| if city.starts_with('L') { 0.2 } else { -0.1 });
            sum += match plan.get(row) {
                Some("pro") => 0.7,
                Some("team") => 0.4,
                _ => 0.0,
            };
            weights.push(1.0 / (1.0 + libm::exp(-sum)));
        }
        let tiers = weights.iter().map(|weight| {
            Some(match weight {
                weight if *weight > 0.8 => "gold",
                weight if *weight > 0.5 => "silver",
                _ => "bronze",
            })
        });
        Ok(Table::new(rows.len()).with_text("tier", tiers).with_float64_values("weight", weights))
    }
}

export!(Columns as tag_model);
