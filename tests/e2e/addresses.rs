//! Addresses with a key in them: webhooks of providers that can set no header, and what receivers report of messages.

use kith_tests::{Client, Receiver, TestKernel, wait_for, wait_until};
use serde_json::{Value, json};

use super::datapath::stage::{arrivals, define_with, deliveries, identify, message_through, send, track, webhook};

/// A key for a source or a channel, made through the API; the key and its id.
pub(super) fn key_for(kernel: &TestKernel, installation: &str) -> (String, String) {
    let made = kernel.admin().post("/api/v1/keys", &json!({ "title": "hook", "source": installation })).is(201);
    (made["key"].as_str().unwrap().to_owned(), made["id"].as_str().unwrap().to_owned())
}

#[test]
fn a_provider_that_can_set_no_header_calls_an_address_of_its_own() {
    let kernel = TestKernel::start();
    kernel.segment();
    let (key, id) = key_for(&kernel, "segment");
    let nobody = Client::new(kernel.url(), None);
    let taken = nobody.post(&format!("/hooks/{key}"), &track("kim", "Called", "one")).is(200);
    assert_eq!(taken["accepted"], 1);
    let batch = json!({ "batch": [track("kim", "Called", "two")] });
    assert_eq!(nobody.post(&format!("/hooks/{key}/v1/batch"), &batch).is(200)["accepted"], 1);
    assert_eq!(kernel.events("user_id:kim").len(), 2);
    assert!(!json!(kernel.events("user_id:kim")).to_string().contains(&key), "no event holds the key");
    nobody.post("/hooks/nothing", &batch).is_problem(404, "not-found");
    nobody.post(&format!("/hooks/{}", kernel.key(&["*"])), &batch).is_problem(404, "not-found");
    // It is changed by making another one and revoking it.
    kernel.admin().delete(&format!("/api/v1/keys/{id}")).is(204);
    nobody.post(&format!("/hooks/{key}"), &batch).is_problem(404, "not-found");
}

#[test]
fn what_a_receiver_reports_becomes_an_event_of_the_person_and_an_unsubscription_a_refusal() {
    let (kernel, receiver) = (TestKernel::start(), Receiver::start());
    let source = kernel.segment();
    webhook(&kernel, "webhook", &receiver);
    for name in ["first", "second"] {
        let condition = format!("events('{name}').size() > 0");
        define_with(&kernel.admin(), name, &condition, message_through("webhook"));
    }
    send(&source, &[identify("ada", "i", json!({ "consent": { "marketing": true } })), track("ada", "first", "f")]);
    wait_until("it is written to", || arrivals(&receiver).contains_key("ada"));
    let message = wait_for("it is delivered", || {
        let all = deliveries(&kernel.admin());
        let delivered =
            all.iter().find(|delivery| delivery["state"] == "delivered" || delivery["state"] == "accepted")?;
        Some(delivered["id"].as_str()?.to_owned())
    });
    let (key, _) = key_for(&kernel, "webhook");
    let nobody = Client::new(kernel.url(), None);
    let address = format!("/callbacks/{key}");
    let opened =
        json!({ "message_id": message, "event": "Message Opened", "id": "open-1", "properties": { "client": "mail" } });
    for _ in 0..2 {
        nobody.post(&address, &opened).is(200);
    }
    let events = kernel.events("user_id:ada");
    let found: Vec<&Value> = events.iter().filter(|event| event["name"] == "Message Opened").collect();
    assert_eq!(found.len(), 1, "a repeat is one");
    assert_eq!((&found[0]["source"], &found[0]["properties"]["client"]), (&json!("webhook"), &json!("mail")));
    assert_eq!(
        (&found[0]["properties"]["message"], &found[0]["properties"]["purpose"]),
        (&json!(message), &json!("marketing"))
    );
    // Who unsubscribes there is not written to again through this channel.
    kernel.clock.advance_ms(1_000);
    let left = json!([{ "message_id": message, "event": "Message Unsubscribed" }]);
    nobody.post(&address, &left).is(200);
    send(&source, &[track("ada", "second", "s")]);
    let decided = || deliveries(&kernel.admin()).into_iter().find(|delivery| delivery["audience"] == "second");
    let second = wait_for("it is decided", || decided().filter(|delivery| delivery["state"] != "pending"));
    assert_eq!(second["state"], "skipped", "{second}");
    assert!(second["reason"].as_str().unwrap().contains("marketing@webhook"), "{second}");
    // A message that was never sent, and a key that is another's.
    let unknown = json!({ "message_id": "msg_00000000000000000000000000000000", "event": "Message Opened" });
    nobody.post(&address, &unknown).is_problem(400, "unknown-message");
    nobody.post("/callbacks/nothing", &opened).is_problem(404, "not-found");
    nobody.post(&format!("/callbacks/{}", source.write_key), &opened).is_some_problem();
}
