//! The scorer through its columns: CDNOW in, published figures out.

use kith_plugin_sdk::testing;
use serde_json::{Value, json};

use super::*;
use crate::cdnow::{CALIBRATION_END, Orders};

const DAY_MS: i64 = 86_400_000;

fn settings(changes: Value) -> Value {
    let mut settings = json!({
        "order_event": "Order Completed",
        "amount_property": "total",
        "horizon_days": 365,
        "time_unit_days": 7,
        "holdout_days": 0,
    });
    for (key, value) in changes.as_object().unwrap() {
        settings[key] = value.clone();
    }
    settings
}

/// The data set as the kernel streams it, `batch` rows a table, as of a day.
fn tables(customers: &[Orders], now: &str, batch: usize) -> Vec<Table> {
    let now = parse_day(now).unwrap() * DAY_MS;
    customers
        .chunks(batch)
        .map(|customers| {
            Table::new(customers.len())
                .with_timestamp_list("order_times", customers.iter().map(|customer| Some(&customer.times_ms)))
                .with_float64_list("order_amounts", customers.iter().map(|customer| Some(&customer.amounts)))
                .with_timestamp("now", customers.iter().map(|_| Some(now)))
        })
        .collect()
}

fn fit(config: Value, tables: Vec<Table>) -> Result<Fitted, Failure> {
    testing::with_config(config, || Clv::fit(Dataset::from(tables)))
}

fn metric(fitted: &Fitted, name: &str) -> f64 {
    fitted.metrics.iter().find(|(metric, _)| metric == name).unwrap_or_else(|| panic!("no metric {name}")).1
}

fn assert_close(actual: f64, expected: f64, tolerance: f64) {
    assert!((actual - expected).abs() <= tolerance, "{actual} is not {expected} within {tolerance}");
}

/// Three orders of 1e308 from somebody with a public write key stopped every later fit.
#[test]
fn amounts_that_no_order_has_stop_no_fit() {
    let config = settings(json!({ "calibration_end": CALIBRATION_END, "horizon_days": 273 }));
    let mut customers = cdnow::orders();
    let honest = fit(config.clone(), tables(&customers, "1998-07-01", 500)).unwrap();
    for customer in customers.iter_mut().filter(|customer| customer.amounts.len() > 3).take(3) {
        customer.amounts.iter_mut().for_each(|amount| *amount = 1e308);
    }
    let fitted = fit(config, tables(&customers, "1998-07-01", 500)).unwrap();
    assert_close(metric(&fitted, "q"), metric(&honest, "q"), 0.2);
}

#[test]
fn cdnow_is_fitted_and_scored_as_published() {
    let config = settings(json!({ "calibration_end": CALIBRATION_END, "horizon_days": 273 }));
    let customers = cdnow::orders();
    // The clock stands long after the calibration period: later orders must not count.
    let data = tables(&customers, "1998-07-01", 500);
    let fitted = fit(config.clone(), data.clone()).unwrap();
    for (name, expected) in [("r", 0.242_593), ("alpha", 4.413_531), ("a", 0.792_886), ("b", 2.425_753)] {
        assert_close(metric(&fitted, name), expected, 1e-3);
    }
    assert_close(metric(&fitted, "log_likelihood"), -9_582.425_6, 0.05);
    assert_close(metric(&fitted, "p"), 6.248_80, 5e-3);
    assert_close(metric(&fitted, "q"), 3.744_59, 5e-3);
    assert_close(metric(&fitted, "v"), 15.447_74, 1e-2);
    assert_eq!((metric(&fitted, "customers"), metric(&fitted, "repeat_customers")), (2_357.0, 946.0));
    assert!(fitted.state.len() < 1_024);

    let published = cdnow::published();
    let mut customer = 0;
    for rows in &data {
        let scores = testing::with_config(config.clone(), || Clv::score(&fitted.state, rows)).unwrap();
        let column = |name: &str| scores.float64(name).unwrap();
        for row in 0..rows.len() {
            assert_eq!(column("clv_frequency").get(row), Some(published[customer].frequency));
            assert_close(column("clv_recency").get(row).unwrap(), published[customer].recency, 0.0044);
            assert_close(column("clv_t").get(row).unwrap(), published[customer].age, 0.0044);
            customer += 1;
        }
        if customer == rows.len() {
            assert_close(column("p_alive").get(0).unwrap(), 0.726_609, 5e-4);
            assert_close(column("expected_purchases").get(0).unwrap(), 1.225_91, 1e-3);
            assert_close(column("expected_value").get(0).unwrap(), 1.225_91 * 24.658_6, 0.05);
        }
    }
    assert_eq!(customer, 2_357);
}

#[test]
fn batches_change_nothing() {
    let customers = cdnow::orders();
    let config = settings(json!({ "calibration_end": CALIBRATION_END }));
    let whole = fit(config.clone(), tables(&customers, "1998-07-01", 10_000)).unwrap();
    assert_eq!(whole, fit(config, tables(&customers, "1998-07-01", 7)).unwrap());
}

#[test]
fn held_out_history_is_reported() {
    let config = settings(json!({ "calibration_end": "1998-06-30", "holdout_days": 273 }));
    let fitted = fit(config, tables(&cdnow::orders(), "1998-07-01", 1_000)).unwrap();
    assert_eq!(metric(&fitted, "holdout_customers"), 2_357.0);
    assert_eq!(metric(&fitted, "holdout_actual_purchases"), 1_882.0);
    assert_close(metric(&fitted, "holdout_predicted_purchases"), 1_653.4, 0.5);
    assert_close(metric(&fitted, "holdout_correlation"), 0.625_63, 1e-4);
    // What is used afterwards is trained on everything.
    assert!((metric(&fitted, "log_likelihood") + 9_582.4).abs() > 1_000.0);
}

#[test]
fn without_calibration_end_today_is_the_end() {
    let customers = cdnow::orders();
    let at = |config, now| fit(settings(config), tables(&customers, now, 1_000)).unwrap();
    assert_eq!(
        at(json!({}), CALIBRATION_END).state,
        at(json!({ "calibration_end": CALIBRATION_END }), "1998-07-01").state
    );
}

#[test]
fn before_the_first_fit_only_the_history_is_known() {
    let rows = &tables(&cdnow::orders()[..1], CALIBRATION_END, 1)[0];
    let scores = testing::with_config(settings(json!({})), || Clv::score(&[], rows)).unwrap();
    assert_eq!(scores.float64("clv_frequency").unwrap().get(0), Some(2.0));
    for name in ["p_alive", "expected_purchases", "expected_value"] {
        assert_eq!(scores.float64(name).unwrap().get(0), None, "{name}");
    }
}

#[test]
fn people_without_orders_have_no_scores() {
    let rows = Table::new(2)
        .with_timestamp_list("order_times", [None, Some(vec![20 * DAY_MS])])
        .with_float64_list("order_amounts", [None, Some(vec![1.0])])
        .with_timestamp("now", [Some(10 * DAY_MS); 2]);
    let scores = testing::with_config(settings(json!({})), || Clv::score(&[], &rows)).unwrap();
    for (name, _) in scores.columns() {
        assert_eq!(scores.float64(name).unwrap().iter().flatten().count(), 0, "{name}");
    }
}

#[test]
fn too_little_history_is_refused_in_words() {
    let failure = fit(settings(json!({})), tables(&cdnow::orders()[..20], "1998-07-01", 10)).unwrap_err();
    assert!(matches!(&failure, Failure::Permanent(reason) if reason.contains("of 20 customers")), "{failure}");
}

#[test]
fn a_bad_date_and_a_strange_state_are_refused_in_words() {
    let rows = &tables(&cdnow::orders()[..1], "1998-07-01", 1)[0];
    let score = |config, state: &[u8]| testing::with_config(settings(config), || Clv::score(state, rows)).unwrap_err();
    assert!(score(json!({ "calibration_end": "1997-09-31" }), &[]).to_string().contains("1997-09-31"));
    assert!(score(json!({}), b"\x01\x02").to_string().contains("fit this installation again"));
    let newer = br#"{"version":2,"time_unit_days":7,"purchases":{"r":1,"alpha":1,"a":1,"b":1},"spend":null}"#;
    assert!(score(json!({}), newer).to_string().contains("version 2"));
}

#[test]
fn unknown_amounts_leave_only_the_value_open() {
    let mut customers = cdnow::orders();
    for customer in &mut customers {
        customer.amounts.clear();
    }
    let host = testing::Host::new().config(settings(json!({ "calibration_end": CALIBRATION_END })));
    let data = tables(&customers, "1998-07-01", 5_000);
    let (fitted, record) = host.run(|| Clv::fit(Dataset::from(data.clone())));
    let fitted = fitted.unwrap();
    assert!(record.logs.iter().any(|(_, line)| line.contains("expected_value")));
    let scores = testing::with_config(settings(json!({})), || Clv::score(&fitted.state, &data[0])).unwrap();
    assert!(scores.float64("expected_purchases").unwrap().get(0).is_some());
    assert_eq!(scores.float64("expected_value").unwrap().get(0), None);
}
