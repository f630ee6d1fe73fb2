//! Consent from outside: who may give it, what proves it, who objects, and who must never be written to.

use std::sync::atomic::{AtomicUsize, Ordering};

use kith_model::time::Clock as _;
use kith_tests::{Receiver, Source, TestKernel, wait_for};
use serde_json::{Value, json};

use super::stage::{arrivals, define_with, deliveries, identify, message_through, send, track, webhook};

/// A shop that writes to its visitors.
struct Shop {
    kernel: TestKernel,
    receiver: Receiver,
    source: Source,
    visits: AtomicUsize,
}

impl Shop {
    /// With a source of these grants.
    fn open(grants: &Value) -> Shop {
        let (kernel, receiver) = (TestKernel::start(), Receiver::start());
        let installed = kernel.install("kith/segment", json!({ "grants": grants }));
        let source = kernel.source(&installed);
        webhook(&kernel, "webhook", &receiver);
        Shop { kernel, receiver, source, visits: AtomicUsize::new(0) }
    }

    /// Somebody comes; what becomes of the message, and why.
    fn visit(&self, user: &str) -> (String, String) {
        let visit = self.visits.fetch_add(1, Ordering::Relaxed);
        let (audience, event) = (format!("visit-{visit}"), format!("Visit {visit}"));
        let condition = format!("events('{event}').size() > 0");
        define_with(&self.kernel.admin(), &audience, &condition, message_through("webhook"));
        send(&self.source, &[track(user, &event, &audience)]);
        let mine = || deliveries(&self.kernel.admin()).into_iter().find(|delivery| delivery["audience"] == audience);
        let decided = wait_for("it is decided", || mine().filter(|delivery| delivery["state"] != "pending"));
        let text = |name: &str| decided[name].as_str().unwrap_or_default().to_owned();
        (text("state"), text("reason"))
    }

    fn consent(&self, identifier: &str) -> Value {
        let id = self.kernel.profile(identifier)["id"].as_str().unwrap().to_owned();
        self.kernel.admin().get(&format!("/api/v1/profiles/{id}/consent")).is(200)
    }

    fn tick(&self) {
        self.kernel.clock.advance_ms(1_000);
    }
}

fn says(allowed: bool) -> Value {
    json!({ "consent": { "marketing": allowed } })
}

/// No before the login, yes after it, through a key that stands in the page: the no holds and is shown, with the reason why the
/// yes counted for nothing. Once the source may give it, the next yes ends it.
#[test]
fn a_public_key_refuses_and_agrees_only_where_it_is_granted() {
    let shop = Shop::open(&json!({}));
    let mut before = identify("", "no", says(false));
    before.as_object_mut().unwrap().remove("userId");
    before["anonymousId"] = json!("d1");
    send(&shop.source, &[before]);
    shop.tick();
    let mut login = identify("ada", "yes", says(true));
    login["anonymousId"] = json!("d1");
    send(&shop.source, &[login.clone()]);
    let (state, reason) = shop.visit("ada");
    assert_eq!(state, "skipped");
    assert!(reason.contains("`marketing` is refused, under its anonymous_id"), "{reason}");
    let consent = shop.consent("user_id:ada");
    assert_eq!(consent["answers"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&consent["answers"][0]["allowed"], &consent["answers"][0]["source"]),
        (&json!(false), &json!("segment"))
    );
    assert_eq!(consent["answers"][0]["message_id"], "no");
    let statements = consent["statements"].as_array().unwrap();
    assert_eq!((statements.len(), &consent["overwritten"]), (2, &json!(0)));
    assert_eq!(
        (&statements[0]["said"][0]["counted"], &statements[1]["said"][0]["counted"]),
        (&json!(true), &json!(false))
    );
    assert!(statements[1]["said"][0]["why"].as_str().unwrap().contains("consent: give"), "{statements:?}");
    assert_eq!(statements[1]["identifier"]["value"], "ada");
    // The admin's own key says it for her: a form on paper, a call.
    shop.tick();
    let paper = |id: &str, time: Option<String>| {
        let mut said = identify("ada", id, says(true));
        time.into_iter().for_each(|time| said["timestamp"] = json!(time));
        let records = json!({ "batch": [said] });
        shop.kernel.admin().post("/api/v1/sources/segment/records", &records).is(200);
    };
    // Of a record without a time nobody knows whether it was said before the no, as in an export of what a system holds.
    paper("undated", None);
    assert_eq!(shop.visit("ada").0, "skipped");
    paper("paper", Some(shop.kernel.clock.now().to_string()));
    assert_eq!(shop.visit("ada").0, "delivered");
    send(&shop.source, &[identify("ada", "no-again", says(false))]);
    assert_eq!(shop.visit("ada").0, "skipped");
    shop.tick();
    let patch = json!({ "grants": { "consent": "give" } });
    shop.kernel.admin().patch("/api/v1/installations/segment", &patch).is(200);
    login["messageId"] = json!("granted");
    send(&shop.source, &[login]);
    assert_eq!(shop.visit("ada").0, "delivered");
    let bad = json!({ "plugin": "kith/webhook", "name": "w2", "config": { "url": "http://a.example/" }, "grants": { "consent": "give" } });
    shop.kernel.admin().post("/api/v1/installations", &bad).is_problem(400, "bad-input");
}

/// A subscription is a purpose for one channel; what is said of it says nothing of others, and a general agreement does not end
/// its refusal.
#[test]
fn a_subscription_is_a_purpose_of_one_channel() {
    let shop = Shop::open(&json!({ "consent": "give" }));
    for (user, said, state) in [
        ("own", json!({ "marketing@webhook": true }), "delivered"),
        ("other", json!({ "marketing@letters": false }), "delivered"),
        ("stopped", json!({ "marketing": true, "marketing@webhook": false }), "skipped"),
        ("unsubscribed", json!({ "marketing": true, "*": false }), "skipped"),
        ("elsewhere", json!({ "marketing": true, "marketing@letters": false }), "delivered"),
    ] {
        send(&shop.source, &[identify(user, &format!("c-{user}"), json!({ "consent": said }))]);
        let (became, reason) = shop.visit(user);
        assert_eq!(became, state, "{user}: {reason}");
    }
    shop.tick();
    send(
        &shop.source,
        &[
            identify("stopped", "more", says(true)),
            identify("unsubscribed", "more-u", json!({ "consent": { "*": true } })),
        ],
    );
    assert_eq!((shop.visit("stopped").0.as_str(), shop.visit("unsubscribed").0.as_str()), ("skipped", "delivered"));
}

#[test]
fn who_objects_to_profiling_is_in_no_audience_and_gets_nothing() {
    let shop = Shop::open(&json!({ "consent": "give" }));
    define_with(&shop.kernel.admin(), "all", "true", json!(null));
    send(&shop.source, &[identify("ada", "yes", says(true))]);
    assert_eq!(shop.visit("ada").0, "delivered");
    shop.kernel.settle();
    assert_eq!(shop.kernel.profile("user_id:ada")["audiences"].as_array().unwrap().len(), 2);
    send(&shop.source, &[identify("ada", "objects", json!({ "consent": { "profiling": false } }))]);
    shop.kernel.settle();
    assert_eq!(shop.kernel.profile("user_id:ada")["audiences"], json!([]));
    assert!(shop.consent("user_id:ada")["objection"].as_str().unwrap().contains("profiling"));
    shop.tick();
    send(&shop.source, &[identify("ada", "takes-back", json!({ "consent": { "profiling": true } }))]);
    shop.kernel.settle();
    assert_eq!(shop.kernel.profile("user_id:ada")["audiences"].as_array().unwrap().len(), 2);
    assert!(shop.consent("user_id:ada").get("objection").is_none());
}

/// An address that is suppressed gets nothing, whoever has it, until it is taken off the list; the list names nobody.
#[test]
fn nothing_is_sent_to_a_suppressed_identifier_whoever_has_it() {
    let shop = Shop::open(&json!({ "consent": "give" }));
    let (admin, address) = (shop.kernel.admin(), "email:ada@shop.example");
    let named = json!({ "identifiers": [address] });
    let added = json!({ "identifiers": [address, "phone:+4712345678"], "reason": "complained" });
    assert_eq!(admin.post("/api/v1/suppressions", &added).is(200)["changed"], 2);
    let mut ada = identify("ada", "yes", says(true));
    ada["traits"]["email"] = json!("ada@shop.example");
    send(&shop.source, &[ada, identify("eve", "eve-yes", says(true))]);
    let (state, reason) = shop.visit("ada");
    assert!(state == "skipped" && reason.contains("email is suppressed") && reason.ends_with("complained"), "{reason}");
    assert_eq!(shop.visit("eve").0, "delivered");
    assert!(shop.consent("user_id:ada")["suppressed"].as_str().unwrap().contains("complained"));
    let checked = admin.post("/api/v1/suppressions/check", &named).is(200);
    assert_eq!(
        (&checked["items"][0]["suppressed"], &checked["items"][0]["reason"]),
        (&json!(true), &json!("complained"))
    );
    let listed = admin.get("/api/v1/suppressions").is(200);
    assert_eq!(listed["items"].as_array().unwrap().len(), 2, "{listed}");
    assert!(!listed.to_string().contains("shop.example"), "{listed}");
    let other = shop.kernel.caller(&shop.kernel.second_workspace());
    assert_eq!(other.post("/api/v1/suppressions/check", &named).is(200)["items"][0]["suppressed"], false);
    let log = admin.get("/api/v1/audit?action=suppression.add").is(200);
    assert!(!log.to_string().contains("shop.example") && log["items"][0]["after"]["identifiers"] == 2, "{log}");
    admin.post("/api/v1/suppressions/remove", &named).is(200);
    assert_eq!(shop.visit("ada").0, "delivered");
    assert!(arrivals(&shop.receiver).contains_key("ada"));
    for bad in ["ada@shop.example", "Email:x", "email: ", ":x"] {
        admin.post("/api/v1/suppressions", &json!({ "identifiers": [bad] })).is_problem(400, "bad-input");
    }
}

/// Whoever reads the key in a page can say who is who, and so part a user from the address under which somebody refused, or
/// which is suppressed. The message left then.
#[test]
fn a_public_key_parts_nobody_from_a_refusal() {
    let shop = Shop::open(&json!({}));
    let address = |user: &str| format!("{user}@shop.example");
    let known = |user: &str, of: &str, id: &str| {
        let mut message = identify(user, id, json!({ "email": address(of) }));
        if user.is_empty() {
            message.as_object_mut().unwrap().remove("userId");
            message["traits"]["consent"] = json!({ "marketing": false });
        }
        message
    };
    let crowd = |of: &str| -> Vec<Value> {
        (0..11).map(|number| known(&format!("{of}-{number}"), of, &format!("crowd-{of}-{number}"))).collect()
    };
    for user in ["shared", "stolen", "listed", "free"] {
        send(&shop.source, &[known(user, user, &format!("known-{user}"))]);
    }
    shop.tick();
    send(&shop.source, &[known("", "shared", "no-shared"), known("", "stolen", "no-stolen")]);
    let suppressed = json!({ "identifiers": [format!("email:{}", address("listed"))], "reason": "complained" });
    shop.kernel.admin().post("/api/v1/suppressions", &suppressed).is(200);
    shop.tick();
    send(&shop.source, &crowd("shared"));
    send(&shop.source, &crowd("listed"));
    let mut thief = known("mallory", "stolen", "thief");
    thief["timestamp"] = json!("2001-01-01T00:00:00Z");
    shop.source.client.post("/v1/import", &json!({ "batch": [thief] })).is(200);
    for user in ["shared", "stolen", "listed"] {
        let (state, reason) = shop.visit(user);
        assert_eq!(state, "skipped", "{user}: {reason}");
    }
    assert_eq!(shop.visit("free").0, "delivered");
}
