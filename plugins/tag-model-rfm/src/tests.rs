//! The tag model through its columns.

use kith_plugin_sdk::testing;
use serde_json::json;

use super::*;

const DAY_MS: i64 = 86_400_000;

/// Twenty customers: number `i` bought on `i + 1` days, `i` days ago at the last, for 10 a day. Then one who never ordered.
fn rows() -> Table {
    let times =
        |customer: i64| (0..=customer).map(|order| (50 - customer - order) * DAY_MS).rev().collect::<Vec<i64>>();
    let customers = 0..20_i64;
    Table::new(21)
        .with_timestamp_list(
            "order_times",
            customers.clone().map(|customer| Some(times(customer))).chain([Some(vec![])]),
        )
        .with_float64("spent", customers.clone().map(|customer| Some(10.0 * (customer + 1) as f64)).chain([None]))
        .with_text_list(
            "ids",
            customers.map(|customer| Some(vec![format!("z{customer}"), format!("u{customer:02}")])).chain([None]),
        )
        .with_timestamp("now", (0..21).map(|_| Some(50 * DAY_MS + 5)))
}

fn fit(convention: &str) -> Fitted {
    testing::with_config(json!({ "convention": convention }), || Rfm::fit(Dataset::from(rows()))).unwrap()
}

fn evaluate(state: &[u8]) -> Table {
    Rfm::evaluate(state, &rows()).unwrap()
}

#[test]
fn the_population_is_scored() {
    for convention in ["quantile", "ntile", "rfm-package"] {
        let tags = evaluate(&fit(convention).state);
        let row = |row: usize| {
            (
                tags.int64("rfm_recency").unwrap().get(row),
                tags.int64("rfm_frequency").unwrap().get(row),
                tags.int64("rfm_monetary").unwrap().get(row),
                tags.text("rfm_score").unwrap().get(row),
                tags.text("rfm_segment").unwrap().get(row),
            )
        };
        assert_eq!(row(0), (Some(5), Some(1), Some(1), Some("511"), Some("new")), "{convention}");
        assert_eq!(row(19), (Some(1), Some(5), Some(5), Some("155"), Some("cant_lose")), "{convention}");
        assert_eq!(row(20), (None, None, None, None, None), "{convention}");
    }
}

#[test]
fn the_figures_of_a_fit_are_its_breaks() {
    let metrics = fit("quantile").metrics;
    assert_eq!(metrics.len(), 13);
    assert_eq!(metrics[0], ("customers".to_owned(), 20.0));
    assert_eq!(metrics[1].0, "recency_break_1");
    assert!((metrics[1].1 - 3.8).abs() < 1e-12);
    assert!(fit("ntile").metrics.iter().all(|(_, value)| *value >= 0.0));
}

#[test]
fn batches_change_nothing() {
    let one_by_one: Vec<Table> = vec![
        rows(),
        Table::new(0)
            .with_timestamp_list("order_times", [] as [Option<Vec<i64>>; 0])
            .with_float64("spent", [])
            .with_text_list("ids", [] as [Option<Vec<String>>; 0])
            .with_timestamp("now", []),
    ];
    let config = json!({ "convention": "ntile" });
    let fitted = testing::with_config(config, || Rfm::fit(Dataset::from(one_by_one))).unwrap();
    assert_eq!(fitted, fit("ntile"));
}

#[test]
fn before_the_first_fit_nobody_is_scored() {
    let tags = evaluate(&[]);
    assert_eq!(tags.int64("rfm_recency").unwrap().iter().flatten().count(), 0);
    assert_eq!(tags.text("rfm_segment").unwrap().iter().flatten().count(), 0);
}

#[test]
fn a_fit_without_orders_is_refused_in_words() {
    let nobody =
        testing::with_config(json!({ "convention": "quantile" }), || Rfm::fit(Dataset::from(Vec::<Table>::new())));
    assert!(nobody.unwrap_err().to_string().contains("order_event"));
}

#[test]
fn a_strange_state_is_refused_in_words() {
    assert!(Rfm::evaluate(b"?", &rows()).unwrap_err().to_string().contains("fit this installation again"));
    let newer = String::from_utf8(fit("quantile").state).unwrap().replace("\"version\":1", "\"version\":2");
    assert!(Rfm::evaluate(newer.as_bytes(), &rows()).unwrap_err().to_string().contains("version 2"));
}
