//! From an audience to a signed message at somebody else's server: retries, dead letters, consent, and receipts that come
//! back as events.

use kith_tests::{Receiver, SIGNING_SECRET, Source, TestKernel, wait_for, wait_until};
use serde_json::{Value, json};

/// A server with a webhook to a receiver, and an audience of everybody who put something into the cart.
struct Shop {
    kernel: TestKernel,
    source: Source,
    receiver: Receiver,
}

impl Shop {
    fn open(basis: &str) -> Shop {
        let (kernel, receiver) = (TestKernel::start(), Receiver::start());
        let source = kernel.segment();
        let host = receiver.host();
        let installed = kernel.install(
            "kith/webhook",
            json!({
                "config": { "url": format!("http://{host}/hook") },
                "grants": { "http": [host], "secrets": { "signing": [host] } },
                "secrets": { "signing": SIGNING_SECRET },
            }),
        );
        assert!(!installed.to_string().contains(SIGNING_SECRET), "a secret is never shown");
        let audience = json!({
            "name": "carts", "condition": "events('Product Added', '30d').size() > 0",
            "on_enter": { "channel": "webhook", "purpose": "marketing", "basis": basis, "payload": { "text": "Hello" } },
        });
        kernel.admin().post("/api/v1/audiences", &audience).is(201);
        kernel.settle();
        Shop { kernel, source, receiver }
    }

    /// A person puts something into the cart; what is known of her consent.
    fn visit(&self, user: &str, consent: Option<bool>) {
        let mut traits = json!({ "email": format!("{user}@example.com") });
        if let Some(consent) = consent {
            traits["consent"] = json!({ "marketing": consent });
        }
        self.source.batch(&[
            json!({ "type": "identify", "userId": user, "messageId": format!("i-{user}"), "traits": traits }),
            json!({ "type": "track", "event": "Product Added", "userId": user, "messageId": format!("a-{user}") }),
        ]);
    }

    fn deliveries(&self) -> Vec<Value> {
        let listed = self.kernel.admin().get("/api/v1/deliveries").is(200);
        listed["items"].as_array().unwrap().clone()
    }

    /// Wait until the one delivery there is looks like that.
    fn delivery(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        wait_for(what, || self.deliveries().into_iter().find(&is_so))
    }

    fn event_names(&self, user: &str) -> Vec<String> {
        let events = self.kernel.events(&format!("user_id:{user}"));
        events.iter().map(|event| event["name"].as_str().unwrap().to_owned()).collect()
    }
}

#[test]
fn a_message_is_signed_delivered_once_and_comes_back_as_an_event() {
    let shop = Shop::open("opt_in");
    shop.visit("ada", Some(true));
    let delivery = shop.delivery("it is delivered", |delivery| delivery["state"] == "delivered");
    assert_eq!((&delivery["channel"], &delivery["audience"]), (&json!("webhook"), &json!("carts")));
    assert_eq!((&delivery["purpose"], &delivery["attempts"]), (&json!("marketing"), &json!(1)));
    let arrived = shop.receiver.arrived();
    assert_eq!(arrived.len(), 1);
    let message = &arrived[0];
    assert!(message.is_signed_with(SIGNING_SECRET), "{message:?}");
    let usage = shop.kernel.admin().get("/api/v1/installations/webhook/usage").is(200);
    assert_eq!((&usage["requests"], usage["sent_bytes"].as_u64() > Some(50)), (&json!(1), true), "{usage}");
    assert_eq!(message.path, "/hook");
    assert_eq!(message.header("webhook-id"), delivery["id"].as_str().unwrap());
    assert_eq!(message.header("webhook-timestamp"), "1795255200");
    assert_eq!(message.json()["data"]["payload"], json!({ "text": "Hello" }));
    assert!(message.json()["data"]["recipient"].to_string().contains("ada@example.com"));
    wait_until("the receipt is an event", || shop.event_names("ada").contains(&"Message Delivered".to_owned()));
    // Another event of the same kind is no entry: nothing more is sent.
    let more = json!({ "type": "track", "event": "Product Added", "userId": "ada", "messageId": "a2" });
    shop.source.batch(&[more]);
    shop.kernel.settle();
    assert_eq!(shop.deliveries().len(), 1);
    assert_eq!(shop.receiver.arrived().len(), 1);
}

#[test]
fn a_busy_receiver_is_asked_again_when_it_wishes() {
    let shop = Shop::open("opt_in");
    shop.receiver.will_answer(503, &[("retry-after", "120")]);
    shop.visit("ada", Some(true));
    let waiting = shop.delivery("one attempt failed", |delivery| delivery["attempts"] == 1);
    assert_eq!(waiting["state"], "pending");
    assert_eq!(waiting["due_at"], "2026-11-21T10:02:00.000Z", "its wish is longer than the schedule's 5 s");
    assert!(waiting["last_reason"].as_str().unwrap().contains("503"), "{waiting}");
    shop.kernel.clock.advance_ms(119_000);
    shop.kernel.settle();
    assert_eq!(shop.receiver.arrived().len(), 1, "not before it is due");
    shop.kernel.clock.advance_ms(1_000);
    let delivered = shop.delivery("it is delivered", |delivery| delivery["state"] == "delivered");
    assert_eq!(delivered["attempts"], 2);
    let arrived = shop.receiver.arrived();
    assert_eq!(arrived.len(), 2);
    assert_eq!(arrived[0].header("webhook-id"), arrived[1].header("webhook-id"), "the receiver's key against doubles");
    assert_eq!(arrived[0].body, arrived[1].body);
    assert!(arrived.iter().all(|message| message.is_signed_with(SIGNING_SECRET)));
}

#[test]
fn a_gone_receiver_makes_a_dead_letter_that_can_be_replayed() {
    let shop = Shop::open("opt_in");
    shop.receiver.will_answer(410, &[]);
    shop.visit("ada", Some(true));
    let dead = shop.delivery("it is given up", |delivery| delivery["state"] == "dead");
    assert!(dead["reason"].as_str().unwrap().contains("410"), "{dead}");
    let letters = kith_tests::pages(&shop.kernel.admin(), "/api/v1/dead-letters", 50);
    assert_eq!(letters.len(), 1);
    assert_eq!((&letters[0]["type"], &letters[0]["id"]), (&json!("delivery"), &dead["id"]));
    wait_until("the failure is an event", || shop.event_names("ada").contains(&"Message Failed".to_owned()));
    let path = format!("/api/v1/dead-letters/{}/replay", dead["id"].as_str().unwrap());
    shop.kernel.admin().post(&path, &json!({})).is(200);
    // An endpoint that is gone stops its channel; an admin switches it on again.
    wait_until("the channel is held", || {
        shop.kernel.admin().get("/api/v1/installations/webhook").is(200)["mode"] == "quarantined"
    });
    let waiting = shop.delivery("it is due again", |delivery| delivery["state"] == "pending");
    let told = waiting["waits"].as_str().unwrap_or_default();
    assert!(["`kith plugin enable webhook`", "gone", "410"].iter().all(|word| told.contains(word)), "{waiting}");
    shop.kernel.admin().patch("/api/v1/installations/webhook", &json!({ "mode": "live" })).is(200);
    let delivered = shop.delivery("it is delivered", |delivery| delivery["state"] == "delivered");
    assert_eq!(delivered.get("waits"), None, "{delivered}");
    assert_eq!(shop.receiver.arrived().len(), 2);
    shop.kernel.admin().post(&path, &json!({})).is_problem(404, "not-found");
    assert!(kith_tests::pages(&shop.kernel.admin(), "/api/v1/dead-letters", 50).is_empty());
}

#[test]
fn who_did_not_agree_gets_nothing() {
    let shop = Shop::open("opt_in");
    shop.visit("refuses", Some(false));
    shop.visit("silent", None);
    wait_until("both are skipped", || {
        let deliveries = shop.deliveries();
        deliveries.len() == 2 && deliveries.iter().all(|delivery| delivery["state"] == "skipped")
    });
    assert!(shop.deliveries().iter().all(|delivery| delivery["reason"].as_str().unwrap().contains("consent")));
    assert!(shop.receiver.arrived().is_empty());
    let totals = shop.kernel.admin().get("/api/v1/workspace").is(200)["totals"]["deliveries"].clone();
    assert_eq!(totals, json!({ "delivered": 0, "pending": 0, "skipped": 2, "dead": 0 }));
}

/// A channel without its secret was live, and gave up each of its messages.
#[test]
fn a_channel_without_its_secret_is_not_live() {
    let (kernel, receiver) = (TestKernel::start(), Receiver::start());
    let admin = kernel.admin();
    kernel.upload(&admin, "kith/webhook");
    let host = receiver.host();
    let mut body = json!({
        "plugin": "kith/webhook", "config": { "url": format!("http://{host}/hook") },
        "grants": { "http": [host], "secrets": { "signing": [host] } },
    });
    let missing = |problem: Value| assert_eq!(problem["errors"][0]["path"], "secrets.signing", "{problem}");
    missing(admin.post("/api/v1/installations", &body).is_problem(400, "bad-input"));
    body["mode"] = json!("disabled");
    admin.post("/api/v1/installations", &body).is(201);
    let change = |body: Value| admin.patch("/api/v1/installations/webhook", &body);
    missing(change(json!({ "mode": "live" })).is_problem(400, "bad-input"));
    let live = change(json!({ "mode": "live", "secrets": { "signing": SIGNING_SECRET } })).is(200);
    assert_eq!((&live["mode"], &live["secrets"]), (&json!("live"), &json!(["signing"])));
    missing(change(json!({ "secrets": { "signing": null } })).is_problem(400, "bad-input"));
    change(json!({ "mode": "disabled", "secrets": { "signing": null } })).is(200);
}

/// Deliveries were listed by a hash, without their time and by the number of a removed audience, and a message for who leaves
/// looked like one for who enters.
#[test]
fn deliveries_are_found_by_whom_and_what_they_are_for() {
    let shop = Shop::open("not_refused");
    let admin = shop.kernel.admin();
    let message = json!({ "channel": "webhook", "purpose": "x", "basis": "not_refused", "payload": {} });
    let body = json!({ "name": "once", "condition": "events('Product Added').size() == 1", "on_exit": message });
    admin.post("/api/v1/audiences", &body).is(201);
    shop.kernel.settle();
    for user in ["ada", "bob"] {
        shop.kernel.clock.advance_ms(1_000);
        shop.visit(user, None);
        shop.kernel.settle();
    }
    shop.kernel.clock.advance_ms(1_000);
    let again = json!({ "type": "track", "event": "Product Added", "userId": "ada", "messageId": "again" });
    shop.source.batch(&[again]);
    wait_until("all are delivered", || {
        shop.deliveries().iter().filter(|delivery| delivery["state"] == "delivered").count() == 3
    });
    let listed = |query: &str| -> Vec<String> {
        let listed = admin.get(&format!("/api/v1/deliveries?{query}")).is(200);
        let items = listed["items"].as_array().unwrap().iter();
        items
            .map(|item| format!("{} {}", item["audience"].as_str().unwrap(), item["action"].as_str().unwrap()))
            .collect()
    };
    assert_eq!(listed(""), ["once on_exit", "carts on_enter", "carts on_enter"], "the newest first");
    assert_eq!(listed("person=email:ada@example.com"), ["once on_exit", "carts on_enter"]);
    let bob = shop.kernel.profile("user_id:bob")["id"].as_str().unwrap().to_owned();
    assert_eq!(listed(&format!("person={bob}&state=delivered&channel=webhook")), ["carts on_enter"]);
    assert_eq!(listed("audience=once"), ["once on_exit"]);
    assert!(listed("state=skipped").is_empty());
    admin.delete("/api/v1/audiences/once").is(204);
    let removed = admin.get("/api/v1/deliveries?audience=once&limit=1").is(200)["items"][0].clone();
    assert_eq!((&removed["audience"], &removed["audience_removed"]), (&json!("once"), &json!(true)));
    for (query, place) in [("audience=x", "?audience"), ("channel=x", "?channel"), ("state=sent", "?state")] {
        let problem = admin.get(&format!("/api/v1/deliveries?{query}")).is_problem(400, "bad-input");
        assert_eq!(problem["errors"][0]["path"], place);
    }
    admin.get("/api/v1/deliveries?person=user_id:nobody").is_problem(404, "not-found");
}

#[test]
fn where_silence_is_enough_only_a_refusal_stops_a_message() {
    let shop = Shop::open("not_refused");
    shop.visit("refuses", Some(false));
    shop.visit("silent", None);
    shop.delivery("one is delivered", |delivery| delivery["state"] == "delivered");
    shop.delivery("one is skipped", |delivery| delivery["state"] == "skipped");
    let arrived = shop.receiver.arrived();
    assert_eq!(arrived.len(), 1);
    assert!(arrived[0].json()["data"]["recipient"].to_string().contains("silent@example.com"));
}

#[test]
fn a_host_that_was_not_granted_is_not_reached() {
    let (kernel, receiver) = (TestKernel::start(), Receiver::start());
    let source = kernel.segment();
    let config = json!({ "url": format!("http://{}/hook", receiver.host()) });
    let secrets = json!({ "signing": SIGNING_SECRET });
    kernel.install("kith/webhook", json!({ "config": config, "secrets": secrets, "grants": "later" }));
    let audience = json!({
        "name": "carts", "condition": "events('Product Added').size() > 0",
        "on_enter": { "channel": "webhook", "purpose": "x", "basis": "not_refused", "payload": {} },
    });
    kernel.admin().post("/api/v1/audiences", &audience).is(201);
    // Who enters before the first computation has ended is not written to.
    kernel.settle();
    let added = json!({ "type": "track", "event": "Product Added", "userId": "ada", "messageId": "a" });
    source.batch(&[added]);
    let dead = wait_for("the delivery is given up", || {
        // An attempt that a busy machine cut off is made again when its time has come.
        kernel.clock.advance_ms(1_000);
        let listed = kernel.admin().get("/api/v1/deliveries").is(200);
        listed["items"].as_array().unwrap().iter().find(|delivery| delivery["state"] == "dead").cloned()
    });
    assert!(!dead["reason"].as_str().unwrap().is_empty());
    assert!(receiver.arrived().is_empty());
}

/// Payloads through the channel that comes with it name the person, and a name that it does not declare is refused at once.
#[test]
fn a_payload_addresses_the_person() {
    let shop = Shop::open("not_refused");
    let mut action = json!({ "channel": "webhook", "purpose": "marketing", "basis": "not_refused" });
    action["payload"] = json!({ "text": "Hello {{ first_name|default('you') }}", "to": "{{ name }}" });
    let admin = shop.kernel.admin();
    admin.patch("/api/v1/audiences/carts", &json!({ "on_enter": action })).is(200);
    let texts = |number: usize| -> Vec<Value> {
        wait_until("they are written to", || shop.receiver.arrived().len() == number);
        shop.receiver.arrived().iter().map(|message| message.json()["data"]["payload"].clone()).collect()
    };
    let traits = json!({ "firstName": "Zo\u{eb}", "name": "Zo\u{eb} Vogel" });
    shop.source.batch(&[json!({ "type": "identify", "userId": "zoe", "messageId": "z", "traits": traits })]);
    shop.visit("zoe", None);
    assert_eq!(texts(1), [json!({ "text": "Hello Zo\u{eb}", "to": "Zo\u{eb} Vogel" })]);
    shop.visit("bob", None);
    assert!(texts(2).contains(&json!({ "text": "Hello you", "to": "" })));
    action["payload"] = json!({ "text": "Hello {{ surname }}" });
    let refused = admin.patch("/api/v1/audiences/carts", &json!({ "on_enter": action }));
    assert!(refused.is_problem(400, "bad-input").to_string().contains("surname"));
}
