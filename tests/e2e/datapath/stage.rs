//! What the stories of the data path share: people and what they do, a channel, audiences, and what was sent to whom.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use kith_tests::{Client, Receiver, SIGNING_SECRET, Source, TestKernel, pages, wait_until, wait_until_seen};
use serde_json::{Value, json};

/// Messages in a batch that the connector's memory takes many times over.
const BATCH: usize = 1_000;

/// Sets a flag when it goes, also where the test fails: threads that go on until then would keep a failed test from ending.
pub(crate) struct SetAtEnd<'a>(pub(crate) &'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Somebody does something now.
pub(crate) fn track(user: &str, event: &str, id: &str) -> Value {
    json!({ "type": "track", "event": event, "userId": user, "messageId": id })
}

/// Something becomes known about somebody.
pub(crate) fn identify(user: &str, id: &str, traits: Value) -> Value {
    let mut message = json!({ "type": "identify", "userId": user, "messageId": id });
    message["traits"] = traits;
    message
}

/// Each of the first `people` does something once.
pub(crate) fn everybody(people: usize, event: &str, round: &str) -> Vec<Value> {
    (0..people).map(|number| track(&format!("u{number}"), event, &format!("{round}-{number}"))).collect()
}

/// Send messages in batches, all of which must be taken.
#[track_caller]
pub(crate) fn send(source: &Source, messages: &[Value]) {
    for part in messages.chunks(BATCH) {
        assert_eq!(source.batch(part)["accepted"], part.len());
    }
}

/// Install `kith/webhook` under a name, with the receiver as its other end.
#[track_caller]
pub(crate) fn webhook(kernel: &TestKernel, name: &str, receiver: &Receiver) {
    kernel.upload(&kernel.admin(), "kith/webhook");
    install_webhook(&kernel.admin(), name, receiver);
}

/// The same where the plugin was uploaded.
#[track_caller]
pub(crate) fn install_webhook(admin: &Client, name: &str, receiver: &Receiver) {
    let host = receiver.host();
    let body = json!({
        "plugin": "kith/webhook", "name": name,
        "config": { "url": format!("http://{host}/{name}") },
        "grants": { "http": [host], "secrets": { "signing": [host] } },
        "secrets": { "signing": SIGNING_SECRET },
    });
    admin.post("/api/v1/installations", &body).is(201);
}

/// A message through a channel to everybody who has not refused.
pub(crate) fn message_through(channel: &str) -> Value {
    json!({ "channel": channel, "purpose": "marketing", "basis": "not_refused", "payload": { "text": "Hello" } })
}

/// An action that fires again for a person only when its last firing is so long ago.
pub(crate) fn not_again_before(mut action: Value, days: u64) -> Value {
    action["re_entry"] = json!({ "after": format!("{days}d") });
    action
}

/// Define an audience.
#[track_caller]
pub(crate) fn define(admin: &Client, name: &str, condition: &str) {
    admin.post("/api/v1/audiences", &json!({ "name": name, "condition": condition })).is(201);
}

/// Define an audience that sends a message to everybody who enters, and wait until it does: who enters before its first
/// computation has ended was there before it, and is not written to.
#[track_caller]
pub(crate) fn define_with(admin: &Client, name: &str, condition: &str, on_enter: Value) {
    let mut body = json!({ "name": name, "condition": condition });
    body["on_enter"] = on_enter;
    admin.post("/api/v1/audiences", &body).is(201);
    wait_until("the audience is computed", || size(admin, name).is_some());
}

/// Give an audience another condition.
#[track_caller]
pub(crate) fn redefine(admin: &Client, name: &str, condition: &str) -> Value {
    admin.patch(&format!("/api/v1/audiences/{name}"), &json!({ "condition": condition })).is(200)
}

/// An audience's size; `None` while it is computed.
#[track_caller]
pub(crate) fn size(admin: &Client, name: &str) -> Option<u64> {
    admin.get(&format!("/api/v1/audiences/{name}")).is(200)["size"].as_u64()
}

/// The names of the audiences that a person is in.
#[track_caller]
pub(crate) fn audiences_of(kernel: &TestKernel, identifier: &str) -> Vec<String> {
    let profile = kernel.profile(identifier);
    let memberships = profile["audiences"].as_array().unwrap().iter();
    let mut names: Vec<String> =
        memberships.map(|membership| membership["audience"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

/// A tag of a person.
#[track_caller]
pub(crate) fn tag(kernel: &TestKernel, identifier: &str, name: &str) -> Value {
    kernel.profile(identifier)["tags"][name]["value"].clone()
}

/// All deliveries.
#[track_caller]
pub(crate) fn deliveries(admin: &Client) -> Vec<Value> {
    pages(admin, "/api/v1/deliveries", 500)
}

/// Wait until there are so many deliveries and each of them has been delivered.
#[track_caller]
pub(crate) fn all_delivered(admin: &Client, number: usize) {
    wait_until_seen(&format!("{number} messages are delivered"), || {
        let mut deliveries = deliveries(admin);
        let made = deliveries.len();
        deliveries.retain(|delivery| delivery["state"] != "delivered");
        if made == number && deliveries.is_empty() {
            return Ok(());
        }
        deliveries.truncate(3);
        Err(format!("there are {made}, and not delivered are among others {}", json!(deliveries)))
    });
}

/// How often each message id arrived, by the person it was for.
pub(crate) fn arrivals(receiver: &Receiver) -> BTreeMap<String, BTreeMap<String, usize>> {
    let mut by_person: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
    for message in receiver.arrived() {
        let data = &message.json()["data"];
        let known = data["recipient"].as_array().cloned().unwrap_or_default();
        let user = known.iter().find(|identifier| identifier["type"] == "user_id");
        let person = user.map_or(&data["profile"], |user| &user["value"]).as_str().unwrap().to_owned();
        *by_person.entry(person).or_default().entry(message.header("webhook-id").to_owned()).or_default() += 1;
    }
    by_person
}

/// Insist that so many people got one message each, once.
#[track_caller]
pub(crate) fn each_got_one_message(receiver: &Receiver, people: usize) {
    let arrivals = arrivals(receiver);
    assert_eq!(arrivals.len(), people, "people who got something");
    for (person, messages) in &arrivals {
        let times: Vec<usize> = messages.values().copied().collect();
        assert_eq!(times, [1], "messages of {person}");
    }
}

/// The mode of an installation.
#[track_caller]
pub(crate) fn mode(admin: &Client, installation: &str) -> String {
    let shown = admin.get(&format!("/api/v1/installations/{installation}")).is(200);
    shown["mode"].as_str().unwrap().to_owned()
}

/// Switch an installation off or on.
#[track_caller]
pub(crate) fn switch(admin: &Client, installation: &str, mode: &str) {
    admin.patch(&format!("/api/v1/installations/{installation}"), &json!({ "mode": mode })).is(200);
}

/// The dead letters of one kind: `record`, `computation`, `delivery`, …
#[track_caller]
pub(crate) fn letters(admin: &Client, kind: &str) -> Vec<Value> {
    let mut letters = pages(admin, "/api/v1/dead-letters", 500);
    letters.retain(|letter| letter["type"] == kind);
    letters
}
