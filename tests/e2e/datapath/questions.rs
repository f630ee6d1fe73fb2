//! Ordinary questions cost what their answers hold, not what the workspace holds.

use std::time::{Duration, Instant};

use kith_tests::TestKernel;
use serde_json::{Value, json};

use super::stage::{everybody, identify, send, track};

/// The best of seven.
fn best(mut question: impl FnMut()) -> Duration {
    let once = |_| {
        let begun = Instant::now();
        question();
        begun.elapsed()
    };
    (0..7).map(once).min().unwrap()
}

/// What a question may cost at most beside another that reads as much: noise of a busy machine, not a scan.
fn is_level(small: Duration, large: Duration, what: &str) {
    let allowed = small * 5 + Duration::from_millis(10);
    assert!(large <= allowed, "{what}: {small:?} with little and {large:?} with much");
}

/// What the workspace holds is counted when it is written, not when it is asked for.
#[test]
fn the_totals_of_a_workspace_are_not_counted_row_by_row() {
    let kernel = TestKernel::start();
    let source = kernel.segment();
    let ask = || {
        best(|| {
            kernel.admin().get("/api/v1/workspace").is(200);
        })
    };
    send(&source, &everybody(100, "Seen", "first"));
    let small = ask();
    for round in 0..4 {
        send(&source, &everybody(15_000, "Seen", &format!("r{round}")));
    }
    kernel.settle();
    let large = ask();
    let totals = kernel.admin().get("/api/v1/workspace").is(200)["totals"].clone();
    assert_eq!((&totals["events"], &totals["profiles"]), (&json!(60_100), &json!(15_000)), "{totals}");
    is_level(small, large, "GET /workspace");
}

/// The newest event of a person with 20,000 of them is read without the others, and each page is as cheap as the first.
#[test]
fn a_page_of_events_does_not_read_the_history() {
    let kernel = TestKernel::start();
    let source = kernel.segment();
    let seen: Vec<Value> = (0..20_000)
        .map(|number| {
            let mut message = track("rich", "Seen", &format!("m{number}"));
            message["timestamp"] = json!(format!(
                "2026-11-{:02}T{:02}:{:02}:{:02}Z",
                1 + number / 4_000,
                number / 3_600 % 24,
                number / 60 % 60,
                number % 60
            ));
            message
        })
        .collect();
    send(&source, &seen);
    send(&source, &[track("poor", "Seen", "one"), track("poor", "Seen", "two")]);
    kernel.settle();
    let path = |user: &str| {
        format!(
            "/api/v1/profiles/{}/events?limit=1",
            kernel.profile(&format!("user_id:{user}"))["id"].as_str().unwrap()
        )
    };
    let (poor, rich) = (path("poor"), path("rich"));
    let ask = |path: &str| {
        best(|| {
            kernel.admin().get(path).is(200);
        })
    };
    is_level(ask(&poor), ask(&rich), "the newest event");
    let first = kernel.admin().get(&rich).is(200);
    let next = first["next"].as_str().unwrap().to_owned();
    is_level(ask(&poor), ask(&format!("{rich}&cursor={}", kith_tests::encode(&next))), "the second newest");
    assert_eq!(kernel.events("user_id:rich").len(), 20_000);
}

/// A text with more than 10,000 values is looked up, not compared person by person.
#[test]
fn a_count_on_a_text_with_many_values_is_a_lookup() {
    let kernel = TestKernel::start();
    let source = kernel.segment();
    let people: Vec<Value> = (0..15_000)
        .map(|number| {
            let traits = json!({ "plan": format!("p{}", number % 10), "code": format!("c{number}") });
            identify(&format!("u{number}"), &format!("i{number}"), traits)
        })
        .collect();
    send(&source, &people);
    kernel.settle();
    assert_eq!(kernel.count("traits.plan == 'p7'"), 1_500);
    assert_eq!(kernel.count("traits.code == 'c77'"), 1);
    let few = best(|| {
        kernel.count("traits.plan == 'p7'");
    });
    let many = best(|| {
        kernel.count("traits.code == 'c77'");
    });
    is_level(few, many, "a count");
}
