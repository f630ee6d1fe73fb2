//! The tag model `acme/big-spender`: says who spends much.

use kith_plugin_sdk::{Failure, Table, TagModel, config, export, manifest};
use serde::Deserialize;

// `Inputs`, `Outputs` and the values of the tag, as `plugin.toml` declares them: what is misspelt does not compile.
manifest!();

/// The tag model.
pub struct BigSpender;

/// The configuration; `plugin.toml` has its schema and defaults.
#[derive(Deserialize)]
struct Settings {
    threshold: f64,
}

impl TagModel for BigSpender {
    fn evaluate(_state: &[u8], rows: &Table) -> Result<Table, Failure> {
        let settings: Settings = config::get()?;
        // Nobody who never spent anything gets a tag.
        let level = |spent: Option<f64>| match spent {
            Some(spent) if spent >= settings.threshold => Some(BigSpenderValue::High),
            Some(spent) if spent > 0.0 => Some(BigSpenderValue::Low),
            _ => None,
        };
        let inputs = Inputs::read(rows)?;
        Ok(inputs.rows().map(|row| Outputs { big_spender: level(row.spent) }).collect())
    }
}

export!(BigSpender as tag_model);

#[cfg(test)]
mod tests {
    use super::*;
    use kith_plugin_sdk::testing;
    use serde_json::json;

    #[test]
    fn the_threshold_decides() {
        let rows = Table::new(4).with_float64("spent", [Some(20.0), Some(100.0), Some(0.0), None]);
        let host = testing::Host::new().config(json!({ "threshold": 100 }));
        let tags = host.evaluate::<BigSpender>(&DECLARED, &[], &rows).0.unwrap();
        let levels: Vec<_> = tags.text("big_spender").unwrap().iter().collect();
        assert_eq!(levels, [Some("low"), Some("high"), None, None]);
    }
}
