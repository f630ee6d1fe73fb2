//! The connector through its role, on the test host, with scripted answers.

use kith_plugin_sdk::http::{Error, Request as HttpRequest, Response};
use kith_plugin_sdk::{EventKind, Identifier, testing};
use serde_json::{Value, json};

use super::*;

mod answers;
mod examples;
mod pages;

/// 2027-01-15T08:00:00Z
const NOW: i64 = 1_800_000_000_000;

/// A configuration with one resource, of which `extra` says more.
fn config(extra: &Value) -> Value {
    let mut resource = json!({
        "name": "orders", "path": "/orders", "records": "items", "event": { "name": "Order Completed" },
        "identifiers": { "user_id": "customer" }, "id": "id",
    });
    let extra = extra.as_object().unwrap().clone();
    resource.as_object_mut().unwrap().extend(extra);
    json!({ "url": "https://shop.example/v1", "resources": [resource] })
}

fn answer(body: &Value) -> Response {
    text(&body.to_string())
}

fn text(body: &str) -> Response {
    Response::new(200).with_header("Content-Type", "application/json").with_body(body)
}

/// Orders with these ids, under `items`.
fn orders(ids: impl IntoIterator<Item = u64>) -> Value {
    let items: Vec<Value> = ids.into_iter().map(|id| json!({ "id": id, "customer": format!("c{id}") })).collect();
    json!({ "items": items })
}

/// Poll one page.
fn ask(
    config: &Value,
    cursor: Option<&[u8]>,
    result: Result<Response, Error>,
) -> (Result<Page, PollFailure>, HttpRequest) {
    let host = testing::Host::new().config(config).now(NOW).secret("token").http_answer(result);
    let (page, mut record) = host.poll::<HttpPull>(cursor);
    (page, record.requests.pop().expect("a page has one request"))
}

/// The page that one answer gives.
fn page(config: &Value, response: Response) -> Page {
    ask(config, None, Ok(response)).0.unwrap()
}

/// Why one answer gives no page.
fn failure(config: &Value, response: Response) -> PollFailure {
    ask(config, None, Ok(response)).0.unwrap_err()
}

/// A run with these answers: what was asked behind the host, the message ids, and the last cursor.
fn run(config: &Value, cursor: Option<Vec<u8>>, answers: Vec<Response>) -> (Vec<String>, Vec<String>, Vec<u8>) {
    let (mut asked, mut ids, mut cursor) = (Vec::new(), Vec::new(), cursor);
    let last = answers.len() - 1;
    for (place, response) in answers.into_iter().enumerate() {
        let (page, request) = ask(config, cursor.as_deref(), Ok(response));
        let page = page.unwrap();
        assert_eq!(page.more, place < last, "page {place}");
        asked.push(request.url().strip_prefix("https://shop.example/v1").unwrap().to_owned());
        ids.extend(page.events.into_iter().filter_map(|event| event.message_id));
        cursor = Some(page.cursor);
    }
    (asked, ids, cursor.unwrap())
}

fn words(failure: &PollFailure) -> String {
    failure.to_string()
}
