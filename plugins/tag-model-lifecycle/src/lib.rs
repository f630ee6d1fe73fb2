//! The stage of the customer lifecycle that somebody is in.
//!
//! This file ties columns and configuration to the rules in `stage`. What is an input and what is a tag is declared in `plugin.toml`; the
//! README has the rules as a table. Nothing is learnt: there is no state.

mod stage;

use kith_plugin_sdk::{Failure, Problem, Table, TagModel, config, export, manifest};

use stage::{Bounds, Person, stage};

// The columns and the stages that `plugin.toml` declares.
manifest!();

/// The tag model.
struct Lifecycle;

impl TagModel for Lifecycle {
    fn validate(config: &str) -> Result<(), Vec<Problem>> {
        let bounds: Bounds = config::read(config)?;
        bounds.check().map_err(|reason| vec![Problem::new("at_risk_days", reason)])
    }

    fn evaluate(_state: &[u8], rows: &Table) -> Result<Table, Failure> {
        let bounds: Bounds = config::get()?;
        bounds.check().map_err(Failure::permanent)?;
        let tags = |row: Row<'_>| {
            let person = Person {
                orders: row.orders.unwrap_or_default(),
                first_activity: row.first_activity,
                last_activity: row.last_activity,
            };
            Outputs { lifecycle: row.now.and_then(|now| stage(&person, &bounds, now)) }
        };
        Ok(Inputs::read(rows)?.rows().map(tags).collect())
    }
}

export!(Lifecycle as tag_model);

#[cfg(test)]
mod tests {
    use kith_plugin_sdk::testing;
    use serde_json::json;

    use super::*;
    use crate::stage::DAY_MS;

    fn rows() -> Table {
        let day = |day: i64| Some(day * DAY_MS);
        Table::new(5)
            .with_timestamp_list(
                "orders",
                [Some(vec![995 * DAY_MS]), Some(vec![100 * DAY_MS, 990 * DAY_MS]), Some(vec![]), None, Some(vec![0])],
            )
            .with_timestamp("first_activity", [day(995), day(100), day(900), None, day(0)])
            .with_timestamp("last_activity", [day(995), day(990), day(901), None, day(0)])
            .with_timestamp("now", [day(1_000), day(1_000), day(1_000), day(1_000), None])
    }

    fn config(at_risk_days: i64) -> serde_json::Value {
        json!({
            "order_event": "Order Completed",
            "activity_event": "*",
            "new_days": 30,
            "at_risk_days": at_risk_days,
            "dormant_days": 180,
            "won_back_days": 30,
            "loyal_orders": 3,
            "loyal_days": 365,
        })
    }

    #[test]
    fn each_row_gets_its_stage() {
        let host = testing::Host::new().config(config(90));
        let tags = host.evaluate::<Lifecycle>(&DECLARED, &[], &rows()).0.unwrap();
        let stages: Vec<_> = tags.text("lifecycle").unwrap().iter().collect();
        assert_eq!(stages, [Some("new"), Some("won_back"), Some("at_risk"), None, None]);
    }

    #[test]
    fn contradicting_bounds_are_a_permanent_failure() {
        let failure = testing::with_config(config(200), || Lifecycle::evaluate(&[], &rows())).unwrap_err();
        assert!(matches!(failure, Failure::Permanent(reason) if reason.contains("at_risk_days")));
    }

    #[test]
    fn contradicting_bounds_are_refused_when_they_are_configured() {
        for days in 1..400 {
            let checked = Lifecycle::validate(&config(days).to_string());
            assert_eq!(checked.is_ok(), days < 180, "{days}");
        }
    }
}
