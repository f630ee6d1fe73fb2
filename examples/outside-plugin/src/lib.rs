//! The tag model `acme/big-spender`: says who spends much.

use kith_plugin_sdk::{Failure, Table, TagModel, config, export};
use serde::Deserialize;

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
        let spent = rows.float64("spent")?;
        // Nobody who never spent anything gets a tag.
        let level = spent.iter().map(|spent| match spent {
            Some(spent) if spent >= settings.threshold => Some("high"),
            Some(spent) if spent > 0.0 => Some("low"),
            _ => None,
        });
        Ok(Table::new(rows.len()).with_text("big_spender", level))
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
        let tags = testing::with_config(json!({ "threshold": 100 }), || BigSpender::evaluate(&[], &rows)).unwrap();
        let levels: Vec<_> = tags.text("big_spender").unwrap().iter().collect();
        assert_eq!(levels, [Some("low"), Some("high"), None, None]);
    }
}
