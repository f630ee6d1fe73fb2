//! Fits: a stop ends a long one, and one workspace's delay nobody else's.

use std::time::{Duration, Instant};

use kith_tests::{Client, TestKernel, wait_until};
use serde_json::{Value, json};

use super::models::{Welcomed, lives_in};
use super::stage::{send, tag};

/// Less than a fit's limits, and more than anything that does not wait for one.
const SOON: Duration = Duration::from_secs(20);

/// So many million steps that a fit runs into its limit of a minute.
const VERY_LONG: u64 = 200_000;

#[track_caller]
fn model(admin: &Client) -> Value {
    admin.get("/api/v1/installations/model").is(200)
}

/// Begin a fit and wait until it has read its rows.
#[track_caller]
fn begin_fit(caller: &Client, installation: &str) {
    caller.post(&format!("/api/v1/installations/{installation}/fit"), &json!({})).is(202);
    wait_until("the fit has read its rows", || newest_fit(caller, installation)["progress"]["rows_done"] != 0);
}

#[track_caller]
fn newest_fit(caller: &Client, installation: &str) -> Value {
    caller.get(&format!("/api/v1/installations/{installation}/fits")).is(200)["items"][0].clone()
}

/// A graceful stop waited for a fit as long as its limits allowed, or cut it off without a word.
#[test]
fn a_stop_ends_a_long_fit_and_the_next_start_shows_that_it_was_not_done() {
    let mut shop = Welcomed::with(|kernel| {
        let config = json!({ "how": "well", "burn_fit_millions": VERY_LONG });
        kernel.install("hostile/tag-model", json!({ "name": "model", "config": config }));
    });
    begin_fit(&shop.kernel.admin(), "model");
    let again = shop.kernel.admin().post("/api/v1/installations/model/fit", &json!({}));
    again.is_problem(409, "fit-under-way");
    let began = Instant::now();
    shop.kernel.restart();
    assert!(began.elapsed() < SOON, "the stop took {:?}", began.elapsed());
    let admin = shop.kernel.admin();
    let fit = newest_fit(&admin, "model");
    assert_eq!(fit["status"], "failed", "{fit}");
    assert_eq!(fit["error"], "the server stopped before it was done; fit again");
    assert_eq!((&fit["in_use"], &model(&admin)["fit"]), (&json!(false), &Value::Null));
    shop.nothing_changed("started again");
    admin.patch("/api/v1/installations/model", &json!({ "config": { "how": "well" } })).is(200);
    assert_eq!(shop.kernel.fit("model")["version"], 2);
    shop.nothing_changed("fitted");
}

/// Fits of one workspace that take as long as they may delay neither another's fit nor anybody's values.
#[test]
fn long_fits_of_one_workspace_delay_neither_anothers_fit_nor_values() {
    let mut kernel = TestKernel::start();
    let other_key = kernel.second_workspace();
    let (admin, other) = (kernel.admin(), kernel.caller(&other_key));
    let source = kernel.segment();
    let slow = json!({ "how": "well", "burn_fit_millions": VERY_LONG });
    kernel.install("hostile/tag-model", json!({ "name": "model", "config": slow }));
    kernel.install("kith/rfm", json!({ "name": "rfm" }));
    kernel.install_as(&other, "hostile/tag-model", json!({ "name": "model", "config": { "how": "well" } }));
    send(&source, &[lives_in("ada", "Oslo", 0)]);
    begin_fit(&admin, "model");
    admin.post("/api/v1/installations/rfm/fit", &json!({})).is(202);
    let began = Instant::now();
    other.post("/api/v1/installations/model/fit", &json!({})).is(202);
    wait_until("the other's fit is done", || newest_fit(&other, "model")["status"] == "succeeded");
    send(&source, &[lives_in("bob", "Rome", 0)]);
    wait_until("the model's values come while it is fitted", || tag(&kernel, "user_id:bob", "hostile") == "Rome");
    assert!(began.elapsed() < SOON, "it took {:?}", began.elapsed());
    assert_eq!(newest_fit(&admin, "model")["status"], "running");
    assert_eq!(newest_fit(&admin, "rfm")["status"], "running", "the workspace's next fit waits for its first");
}
