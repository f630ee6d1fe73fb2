//! Dead letters of models over the API: what is answered to whoever tries one again, and to whom how much of it.

use std::sync::Arc;

use kith_model::id::InstallationId;
use kith_model::plugin::{Cancellation, ComputeModel, Dataset, Fitted, PluginFault};
use kith_model::table::{Cell, ColumnBuilder, ColumnType, Table};
use kith_model::time::Timestamp;
use kith_pipeline::{Activity, Installed};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::installations::with_model;
use super::{FIRST, ask, key_with, lines, setup};
use crate::auth::Scope;
use crate::serve::tests::{TestServer, server};

const LEVEL: InstallationId = InstallationId(901);

/// A tag model that fails on everybody while it has a fault.
struct Fragile(Mutex<Option<PluginFault>>);

impl ComputeModel for Fragile {
    fn fit(&self, _: Box<dyn Dataset>, _: &Cancellation) -> Result<Fitted, PluginFault> {
        Ok(Fitted { state: Vec::new(), metrics: Vec::new() })
    }

    fn compute(&self, _: &[u8], rows: Table) -> Result<Table, PluginFault> {
        if let Some(fault) = self.0.lock().clone() {
            return Err(fault);
        }
        let mut level = ColumnBuilder::new("level", &ColumnType::Text);
        (0..rows.rows).for_each(|_| level.push(Cell::Text("few".into())).unwrap());
        Ok(Table { rows: rows.rows, columns: vec![level.finish()] })
    }
}

async fn letters(server: &TestServer) -> Vec<Value> {
    let answer = ask(server, "GET", "/api/v1/dead-letters").admin().empty().await.with(200);
    answer["items"].as_array().unwrap().clone()
}

/// A server with a model that has failed on two people, the model as it runs, and the path of its letter.
async fn with_letter() -> (TestServer, (Arc<Fragile>, Installed), String) {
    let (server, model) = (server(), Arc::new(Fragile(Mutex::new(Some(PluginFault::BadInput("no".to_owned()))))));
    let level = with_model(&server, Arc::clone(&model) as Arc<dyn ComputeModel>, "ada\nbob").await;
    while server.app().kernel.uncomputed(FIRST, LEVEL).is_none_or(|uncomputed| uncomputed.people < 2) {
        tokio::task::yield_now().await;
    }
    let found = letters(&server).await;
    assert_eq!((found.len(), &found[0]["code"], &found[0]["profiles"]), (1, &json!("plugin.bad-input"), &json!(2)));
    let path = format!("/api/v1/dead-letters/{}", found[0]["id"].as_str().unwrap());
    (server, (model, level), path)
}

/// It was a conflict, whatever had been mended since.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_tries_a_models_letter_again_is_told_about_how_many_people_the_model_is_asked() {
    let (server, (model, _), path) = with_letter().await;
    let replay = format!("{path}/replay");
    let blind = key_with(&server, FIRST, &[Scope::DeliveriesRead, Scope::DeliveriesWrite], None);
    let masked = ask(&server, "POST", &replay).key(&blind).json(json!({})).await.with(200);
    assert_eq!((&masked["replayed"], &masked["masked"]), (&json!(true), &json!("withheld")));
    assert_eq!(masked.get("people"), None, "how many they are is for who may read people: {masked}");
    let whole = ask(&server, "POST", &replay).admin().json(json!({})).await.with(200);
    assert_eq!((&whole["replayed"], &whole["people"], whole.get("masked")), (&json!(true), &json!(2), None));
    let many = json!({ "type": "computation" });
    let report = ask(&server, "POST", "/api/v1/dead-letters/replay").admin().json(many).await.with(200);
    assert_eq!((&report["letters"], &report["computations"], &report["left"]), (&json!(1), &json!(1), &json!(0)));
    assert_eq!(letters(&server).await.len(), 1, "it stays while they fail");

    *model.0.lock() = None;
    ask(&server, "POST", &replay).admin().json(json!({})).await.with(200);
    while !letters(&server).await.is_empty() {
        tokio::task::yield_now().await;
    }
    ask(&server, "POST", &replay).admin().json(json!({})).await.problem(404, "not-found");
    let audit = ask(&server, "GET", "/api/v1/audit").admin().empty().await.with(200);
    assert_eq!(audit["items"][0]["action"], "dead-letter.replay");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_asked_any_more_is_a_conflict_that_says_what_to_do() {
    let (server, (_, level), path) = with_letter().await;
    let (replay, kernel) = (format!("{path}/replay"), &server.app().kernel);
    let activity = Activity::Held { since: Timestamp(0), why: "switched off".to_owned() };
    kernel.configure(setup(FIRST, vec![lines().1, Installed { activity, ..level }])).unwrap();
    let held = ask(&server, "POST", &replay).admin().json(json!({})).await.problem(409, "not-live");
    assert!(held["message"].as_str().unwrap().contains("`kith plugin show level`"), "{held}");
    kernel.configure(setup(FIRST, vec![lines().1])).unwrap();
    let removed = ask(&server, "POST", &replay).admin().json(json!({})).await.problem(409, "installation-removed");
    assert!(removed["message"].as_str().unwrap().ends_with("dismiss the letter"), "{removed}");
    let many = json!({ "type": "computation" });
    let report = ask(&server, "POST", "/api/v1/dead-letters/replay").admin().json(many).await.with(200);
    assert_eq!((&report["letters"], &report["computations"], &report["left"]), (&json!(1), &json!(0), &json!(1)));
    ask(&server, "DELETE", &path).admin().empty().await.with(204);
}
