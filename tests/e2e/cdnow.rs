//! CDNOW through the public API: raw orders in, and out come the numbers that Fader and Hardie published.

use std::collections::BTreeMap;

use kith_tests::{TestKernel, data};
use serde_json::{Value, json};

/// One customer of the published summary, in weeks.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Summary {
    frequency: f64,
    recency: f64,
    age: f64,
}

/// Sample number → summary.
fn published() -> BTreeMap<u32, Summary> {
    let text = std::fs::read_to_string(data("cdnow_customers_summary_with_transactions.csv")).unwrap();
    let row = |line: &str| {
        let cells: Vec<&str> = line.trim().split(',').collect();
        let number = |at: usize| cells[at].parse::<f64>().unwrap();
        (cells[0].parse().unwrap(), Summary { frequency: number(1), recency: number(2), age: number(3) })
    };
    text.lines().skip(1).map(row).collect()
}

/// Whether a metric is the published one.
#[track_caller]
fn near(fit: &Value, name: &str, expected: f64, tolerance: f64) {
    let found = fit["metrics"][name].as_f64().unwrap_or_else(|| panic!("no {name} in {fit}"));
    assert!((found - expected).abs() <= tolerance, "{name} is {found}, published is {expected} ± {tolerance}");
}

#[test]
fn raw_orders_give_the_published_summary_and_models() {
    let kernel = TestKernel::start();
    kernel.clock.set("1998-07-01T00:00:00Z".parse().unwrap());
    let mapping = json!({
        "header": false, "delimiter": "whitespace", "columns": ["customer", "number", "date", "quantity", "total"],
        "identifiers": { "user_id": "cdnow-{number}" }, "event": { "name": "Order Completed" },
        "properties": { "total": { "column": "total", "type": "number" } },
        "time": { "column": "date", "formats": ["%Y%m%d"] },
    });
    kernel.install("kith/csv", json!({ "name": "orders", "config": mapping }));
    kernel.install("kith/clv", json!({ "config": { "calibration_end": "1997-09-30" } }));
    let admin = kernel.admin();
    let orders = std::fs::read(data("CDNOW_sample.txt")).unwrap();
    let load = || admin.send("POST", "/api/v1/sources/orders/records", &[], orders.clone()).is(200);
    let loaded = load();
    assert_eq!((&loaded["accepted"], &loaded["rejected_count"]), (&json!(6_919), &json!(0)), "{loaded}");
    let again = load();
    assert_eq!((&again["accepted"], &again["duplicate"]), (&json!(0), &json!(6_919)), "the same file changes nothing");
    kernel.settle();

    let fit = kernel.fit("clv");
    near(&fit, "customers", 2_357.0, 0.0);
    near(&fit, "r", 0.243, 0.002);
    near(&fit, "alpha", 4.414, 0.002);
    near(&fit, "a", 0.793, 0.002);
    near(&fit, "b", 2.426, 0.002);
    near(&fit, "log_likelihood", -9_582.4, 0.1);
    near(&fit, "spend_customers", 946.0, 0.0);
    near(&fit, "p", 6.25, 0.02);
    near(&fit, "q", 3.74, 0.02);
    near(&fit, "v", 15.44, 0.02);

    kernel.settle();
    let published = published();
    assert_eq!(published.len(), 2_357);
    for (number, expected) in &published {
        let profile = kernel.profile(&format!("user_id:cdnow-{number:04}"));
        let score = |name: &str| {
            let value = profile["scores"][name]["value"].as_f64();
            value.unwrap_or_else(|| panic!("no {name} of customer {number}: {profile}"))
        };
        let found = Summary { frequency: score("clv_frequency"), recency: score("clv_recency"), age: score("clv_t") };
        assert!(
            found.frequency == expected.frequency
                && (found.recency - expected.recency).abs() <= 0.005
                && (found.age - expected.age).abs() <= 0.005,
            "customer {number}: {found:?}, published {expected:?}"
        );
        assert!((0.0..=1.0).contains(&score("p_alive")), "customer {number}");
        assert_eq!(
            profile["scores"]["p_alive"]["from"]["fit"], 1,
            "customer {number} was scored with the fitted model"
        );
    }
    assert_eq!(kernel.count("scores.clv_frequency > 0.0"), 946, "repeat customers of the calibration period");
}
