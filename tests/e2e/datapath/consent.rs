//! Consent: a gate that cannot read an answer refuses.

use kith_tests::{Receiver, TestKernel, wait_for, wait_until};
use serde_json::{Value, json};

use super::stage::{arrivals, define_with, deliveries, identify, message_through, send, track, webhook};

/// Everybody with these traits puts something into the cart; who is written to, on this basis.
fn written_to(basis: &str, people: &[(&str, Value)]) -> Vec<String> {
    let (kernel, receiver) = (TestKernel::start(), Receiver::start());
    let source = kernel.segment();
    webhook(&kernel, "webhook", &receiver);
    let mut action = message_through("webhook");
    action["basis"] = json!(basis);
    define_with(&kernel.admin(), "carts", "events('Product Added').size() > 0", action);
    kernel.settle();
    let known: Vec<Value> =
        people.iter().map(|(user, traits)| identify(user, &format!("i-{user}"), traits.clone())).collect();
    send(&source, &known);
    kernel.settle();
    let added: Vec<Value> = people.iter().map(|(user, _)| track(user, "Product Added", &format!("a-{user}"))).collect();
    send(&source, &added);
    wait_until("each has been decided", || {
        let deliveries = deliveries(&kernel.admin());
        let decided = |delivery: &Value| matches!(delivery["state"].as_str(), Some("delivered" | "skipped"));
        deliveries.len() == people.len() && deliveries.iter().all(decided)
    });
    arrivals(&receiver).into_keys().collect()
}

/// Every shape in which somebody may have refused is a refusal, also those that nobody can read; only an agreement and
/// silence let a message out where silence is enough.
#[test]
fn whatever_is_no_agreement_refuses() {
    let refusals = [
        json!({ "consent": { "marketing": false } }),
        json!({ "consent": { "marketing": "false" } }),
        json!({ "consent": { "marketing": 0 } }),
        json!({ "consent": { "marketing": "no" } }),
        json!({ "consent": { "marketing": "denied" } }),
        json!({ "consent": { "Marketing": false } }),
        json!({ "consent": { "marketing": { "granted": false } } }),
        json!({ "consent": { "marketing": null } }),
        json!({ "consent": false }),
        json!({ "consent": "none" }),
        json!({ "consent": ["analytics"] }),
        json!({ "consent": "{\"marketing\":false}" }),
    ];
    let named: Vec<String> = (0..refusals.len()).map(|number| format!("r{number:02}")).collect();
    let mut people: Vec<(&str, Value)> = named.iter().map(String::as_str).zip(refusals).collect();
    people.push(("agrees", json!({ "consent": { "marketing": true } })));
    people.push(("other", json!({ "consent": { "analytics": false } })));
    people.push(("silent", json!({ "city": "Oslo" })));
    assert_eq!(written_to("not_refused", &people), ["agrees", "other", "silent"]);
    assert_eq!(written_to("opt_in", &people), ["agrees"]);
}

/// A refusal of today holds against an agreement that claims to be of next year, as a phone with a wrong clock sends it.
#[test]
fn a_refusal_holds_against_an_agreement_dated_in_the_future() {
    let (kernel, receiver) = (TestKernel::start(), Receiver::start());
    let source = kernel.segment();
    webhook(&kernel, "webhook", &receiver);
    let mut action = message_through("webhook");
    action["basis"] = json!("opt_in");
    define_with(&kernel.admin(), "carts", "events('Product Added').size() > 0", action);
    kernel.settle();
    let mut agreed = identify("ada", "yes", json!({ "consent": { "marketing": true } }));
    agreed["timestamp"] = json!("2027-03-01T10:00:00Z");
    send(&source, &[agreed]);
    kernel.clock.advance_ms(60_000);
    send(&source, &[identify("ada", "no", json!({ "consent": { "marketing": false } }))]);
    send(&source, &[track("ada", "Product Added", "a")]);
    let state = wait_for("it is decided", || {
        let deliveries = deliveries(&kernel.admin());
        let state = deliveries.first()?["state"].as_str()?.to_owned();
        matches!(state.as_str(), "delivered" | "skipped").then_some(state)
    });
    assert_eq!(state, "skipped");
    assert!(receiver.arrived().is_empty());
}

fn answer_of(consent: &Value) -> (&str, bool) {
    (consent["purpose"].as_str().unwrap_or("all"), consent["allowed"].as_bool().unwrap())
}

/// Who refuses everything, or refuses when no further trait finds room, is not written to by a later agreement to something
/// else; who then agrees to the purpose by name is.
#[test]
fn a_refusal_is_heard_whatever_its_form_and_however_full_the_person_is() {
    let (kernel, receiver) = (TestKernel::start(), Receiver::start());
    let source = kernel.segment();
    webhook(&kernel, "webhook", &receiver);
    let condition = "events('Product Added').size() > 0";
    define_with(&kernel.admin(), "carts", condition, message_through("webhook"));
    let full: serde_json::Map<String, Value> = (0..1_000).map(|number| (format!("t{number}"), json!(number))).collect();
    for (turn, part) in full.into_iter().collect::<Vec<_>>().chunks(100).enumerate() {
        send(&source, &[identify("full", &format!("t{turn}"), Value::Object(part.iter().cloned().collect()))]);
    }
    let said = [
        ("all", json!(false)),
        ("all", json!({ "news": true })),
        ("back", json!("no")),
        ("back", json!({ "Marketing": true })),
        ("full", json!({ "marketing": false })),
    ];
    for (turn, (user, consent)) in said.iter().enumerate() {
        kernel.clock.advance_ms(1);
        send(&source, &[identify(user, &format!("c{turn}"), json!({ "consent": consent }))]);
    }
    let people = ["all", "back", "full"];
    send(&source, &people.map(|user| track(user, "Product Added", &format!("a-{user}"))));
    wait_until("each is decided", || {
        let deliveries = deliveries(&kernel.admin());
        deliveries.len() == 3 && deliveries.iter().all(|delivery| delivery["state"] != "pending")
    });
    wait_until("it is written to", || arrivals(&receiver).into_keys().eq(["back".to_owned()]));
    let full = kernel.profile("user_id:full");
    assert!(full["traits"].get("consent").is_none(), "the trait itself found no room");
    assert_eq!(answer_of(&full["consents"][0]), ("marketing", false));
}

/// An export of years ago that is imported today, and a call that comes late, allow nothing that was refused since.
#[test]
fn an_agreement_of_old_that_comes_late_allows_nothing() {
    let (kernel, receiver) = (TestKernel::start(), Receiver::start());
    let source = kernel.segment();
    webhook(&kernel, "webhook", &receiver);
    let condition = "events('Product Added').size() > 0";
    define_with(&kernel.admin(), "carts", condition, message_through("webhook"));
    send(&source, &[identify("ada", "no", json!({ "Consent": { "marketing": false } }))]);
    kernel.clock.advance_ms(1_000);
    let mut old = identify("ada", "old", json!({ "consent": { " marketing ": true } }));
    old["timestamp"] = json!("2020-01-01T10:00:00Z");
    source.client.post("/v1/import", &json!({ "batch": [old.clone()] })).is(200);
    old["messageId"] = json!("older");
    send(&source, &[old, track("ada", "Product Added", "a")]);
    wait_until("it is skipped", || deliveries(&kernel.admin()).iter().any(|delivery| delivery["state"] == "skipped"));
    kernel.clock.advance_ms(1_000);
    send(&source, &[identify("eve", "yes", json!({ "consent": { "marketing": true } }))]);
    send(&source, &[track("eve", "Product Added", "b")]);
    wait_until("who agreed is written to", || arrivals(&receiver).into_keys().eq(["eve".to_owned()]));
}

/// Who refused before she was known, and agreed elsewhere, is not written to before she has answered as one person; then as long as
/// the device is hers. Whoever the device turns out to belong to is not.
#[test]
fn an_agreement_of_the_user_lifts_what_her_device_refused_while_it_is_hers() {
    let (kernel, receiver) = (TestKernel::start(), Receiver::start());
    let source = kernel.segment();
    webhook(&kernel, "webhook", &receiver);
    define_with(&kernel.admin(), "carts", "events('Product Added').size() > 0", message_through("webhook"));
    define_with(&kernel.admin(), "seen", "events('Seen').size() > 0", message_through("webhook"));
    let states = |audience: &str| -> Vec<String> {
        let deliveries = deliveries(&kernel.admin()).into_iter().filter(|delivery| delivery["audience"] == audience);
        let mut states: Vec<String> =
            deliveries.map(|delivery| delivery["state"].as_str().unwrap().to_owned()).collect();
        states.sort();
        states
    };
    let refused = json!({ "consent": { "marketing": false } });
    let on_device = |mut message: Value| {
        message["anonymousId"] = json!("d1");
        message
    };
    let mut before = on_device(identify("", "no", refused));
    before.as_object_mut().unwrap().remove("userId");
    send(&source, &[before]);
    kernel.clock.advance_ms(1_000);
    let yes = json!({ "consent": { "marketing": true } });
    send(&source, &[identify("ada", "yes", yes.clone())]);
    kernel.clock.advance_ms(1_000);
    send(&source, &[on_device(track("ada", "Product Added", "a"))]);
    wait_until("the strictest holds", || states("carts") == ["skipped"]);
    kernel.clock.advance_ms(1_000);
    send(&source, &[identify("ada", "again", yes)]);
    kernel.clock.advance_ms(1_000);
    // Older evidence says whose the device is.
    let mut older = on_device(track("bob", "Signed In", "b"));
    older["timestamp"] = json!("2026-11-01T10:00:00Z");
    send(&source, &[older]);
    kernel.settle();
    send(&source, &[track("ada", "Seen", "c"), track("bob", "Seen", "d")]);
    wait_until("both are decided", || states("seen").len() == 2 && !states("seen").contains(&"pending".to_owned()));
    assert_eq!(states("seen"), ["delivered", "skipped"]);
    assert_eq!(arrivals(&receiver).into_keys().collect::<Vec<_>>(), ["ada"]);
}

/// A refusal beside an agreement in one message, and one in a message that is otherwise refused, was lost, and the person was
/// written to.
#[test]
fn a_refusal_is_heard_wherever_it_stands_and_whatever_is_wrong_beside_it() {
    let (kernel, receiver) = (TestKernel::start(), Receiver::start());
    let source = kernel.segment();
    webhook(&kernel, "webhook", &receiver);
    let condition = "events('Product Added').size() > 0";
    define_with(&kernel.admin(), "carts", condition, message_through("webhook"));
    let (yes, no) = (r#"{"consent":{"marketing":true}}"#, r#"{"consent":{"marketing":false}}"#);
    let message = |user: &str, parts: &str| format!(r#"{{"type":"identify","userId":"{user}",{parts}}}"#);
    let refused = json!({ "marketing": false });
    let mut large = identify("large", "l", json!({ "consent": refused }));
    large["properties"] = json!({ "text": "x".repeat(40_000) });
    let mut many: serde_json::Map<String, Value> = (0..600).map(|n| (format!("t{n}"), json!(1))).collect();
    many.insert("consent".to_owned(), refused.clone());
    let messages = [
        message("twice", &format!(r#""traits":{no},"traits":{yes}"#)),
        message("key", r#""traits":{"consent":{"marketing":false},"consent":{"marketing":true}}"#),
        message("context", &format!(r#""context":{{"traits":{no}}},"traits":{yes}"#)),
        identify("used", "same", json!({ "city": "Oslo" })).to_string(),
        identify("used", "same", json!({ "consent": refused })).to_string(),
        large.to_string(),
        identify("many", "m", Value::Object(many)).to_string(),
    ];
    let body = format!(r#"{{"batch":[{}]}}"#, messages.join(","));
    let answer = source.client.send("POST", "/v1/batch", &[("content-type", "application/json")], body.into_bytes());
    let answer = answer.is(200);
    for record in answer["rejected"].as_array().unwrap() {
        let message = record["message"].as_str().unwrap();
        assert!(message.ends_with("; the refusal of consent in it was taken"), "{record}");
    }
    let people = ["context", "key", "large", "many", "other", "twice", "used"];
    send(&source, &people.map(|user| track(user, "Product Added", &format!("a-{user}"))));
    wait_until("each is decided", || {
        let deliveries = deliveries(&kernel.admin());
        deliveries.len() == people.len() && deliveries.iter().all(|delivery| delivery["state"] != "pending")
    });
    wait_until("who said nothing is written to", || arrivals(&receiver).into_keys().eq(["other".to_owned()]));
}

/// A refusal of one purpose holds until that purpose is allowed, whatever is said of others in between.
#[test]
fn a_refusal_outlives_what_is_said_of_other_purposes() {
    let (kernel, receiver) = (TestKernel::start(), Receiver::start());
    let source = kernel.segment();
    webhook(&kernel, "webhook", &receiver);
    let condition = "events('Product Added').size() > 0";
    define_with(&kernel.admin(), "carts", condition, message_through("webhook"));
    let said =
        [json!({ "marketing": false }), json!({ "news": true }), json!({ "ads": true }), json!({ "ads": false })];
    for (turn, consent) in said.into_iter().enumerate() {
        kernel.clock.advance_ms(1);
        send(&source, &[identify("ada", &format!("c{turn}"), json!({ "consent": consent }))]);
    }
    send(&source, &[track("ada", "Product Added", "a")]);
    wait_until("it is skipped", || deliveries(&kernel.admin()).iter().any(|delivery| delivery["state"] == "skipped"));
    let ada = kernel.profile("user_id:ada");
    assert_eq!(ada["traits"]["consent"]["value"], json!({ "ads": false }));
    let shown: Vec<(&str, bool)> = ada["consents"].as_array().unwrap().iter().map(answer_of).collect();
    assert_eq!(shown, [("ads", false), ("marketing", false), ("news", true)]);
    send(&source, &[identify("eve", "c", json!({ "consent": { "marketing": false } }))]);
    kernel.clock.advance_ms(1);
    send(&source, &[identify("eve", "d", json!({ "consent": { "marketing": true } }))]);
    send(&source, &[track("eve", "Product Added", "b")]);
    wait_until("she is written to", || receiver.arrived().len() == 1);
}

/// Spellings of an address are one mailbox: what was refused under one holds under the others, also where the address is
/// shared by too many, or was undone, and ties nobody.
#[test]
fn a_refusal_of_an_address_holds_in_every_spelling_also_where_it_ties_nobody() {
    let (kernel, receiver) = (TestKernel::start(), Receiver::start());
    let (source, admin) = (kernel.segment(), kernel.admin());
    webhook(&kernel, "webhook", &receiver);
    define_with(&admin, "gone", "traits.go == 1", message_through("webhook"));
    kernel.settle();
    let of_address = |id: &str, email: &str, more: &Value| {
        let mut traits = more.clone();
        traits["email"] = json!(email);
        json!({ "type": "identify", "messageId": id, "traits": traits })
    };
    let refused = json!({ "consent": { "marketing": false } });
    let users: Vec<Value> =
        (0..12).map(|n| identify(&format!("u{n}"), &format!("i{n}"), json!({ "email": "desk@c.example" }))).collect();
    send(&source, &users);
    send(&source, &[of_address("r1", "desk@c.example", &refused)]);
    send(&source, &[identify("qz", "q", json!({ "email": "Z9@c.example" }))]);
    send(&source, &[of_address("r2", "Z9@c.example", &refused), of_address("r3", "Q8@c.example", &refused)]);
    let rules = json!({ "ties_nobody": ["email:z9@c.example"], "unfollowed": ["spelling:email"] });
    admin.send("PUT", "/api/v1/identity/rules", &[("content-type", "application/json")], rules.to_string()).is(200);
    wait_until("history is tied by the rules", || {
        admin.get("/api/v1/identity/rules/change").is(200)["state"] == "done"
    });
    kernel.clock.advance_ms(1_000);
    let go = json!({ "go": 1 });
    let spelled = ["Desk@c.example", "z9@c.example", "Z9@C.example", "q8@c.example", "free@c.example"];
    let sent: Vec<Value> = spelled.iter().map(|email| of_address(&format!("g-{email}"), email, &go)).collect();
    send(&source, &sent);
    kernel.settle();
    let decided = || {
        let mut states: Vec<String> =
            deliveries(&admin).iter().map(|delivery| delivery["state"].as_str().unwrap().to_owned()).collect();
        states.sort();
        states
    };
    wait_until("each has been decided", || decided().len() == 5 && !decided().contains(&"pending".to_owned()));
    assert_eq!(decided(), ["delivered", "skipped", "skipped", "skipped", "skipped"]);
}

/// A message goes to a mailbox: what one of its users refuses holds for the messages to the others, in whatever spelling the address
/// came and whoever came first, until that user agrees or the other one does later.
#[test]
fn what_a_user_refuses_holds_for_the_mailbox_whoever_a_message_is_for() {
    let (kernel, receiver) = (TestKernel::start(), Receiver::start());
    let (source, admin) = (kernel.segment(), kernel.admin());
    webhook(&kernel, "webhook", &receiver);
    define_with(&admin, "carts", "events('Product Added').size() > 0", message_through("webhook"));
    kernel.settle();
    let (no, yes) = (json!({ "marketing": false }), json!({ "marketing": true }));
    // Who owns the mailbox and who refuses with it beside, how it is spelled there, and what is said afterwards by whom.
    let table = [
        ("a", "A@c.example", no.clone(), None, "skipped"),
        ("b", "b@c.example", json!({ "*@email": false }), None, "skipped"),
        ("k", " k@C.example", json!({ "*": false }), None, "skipped"),
        ("d", "d@c.example", json!({ "marketing@phone": false }), None, "delivered"),
        ("e", "e@c.example", json!({ "profiling": false }), None, "delivered"),
        ("f", "f@c.example", no.clone(), Some(("u", yes.clone())), "delivered"),
        ("g", "G@c.example", no.clone(), Some(("v", yes.clone())), "delivered"),
        ("h", "other@c.example", no, None, "delivered"),
    ];
    for (name, spelled, said, after, _) in &table {
        send(
            &source,
            &[identify(&format!("v{name}"), &format!("v{name}"), json!({ "email": format!("{name}@c.example") }))],
        );
        kernel.clock.advance_ms(1_000);
        let refused = json!({ "email": spelled, "consent": said });
        send(&source, &[identify(&format!("u{name}"), &format!("u{name}"), refused)]);
        kernel.clock.advance_ms(1_000);
        if let Some((who, said)) = after {
            send(&source, &[identify(&format!("{who}{name}"), &format!("w{name}"), json!({ "consent": said }))]);
        }
    }
    kernel.settle();
    let added = table.iter().map(|(name, ..)| track(&format!("v{name}"), "Product Added", &format!("p{name}")));
    send(&source, &added.collect::<Vec<_>>());
    wait_until("each is decided", || {
        let deliveries = deliveries(&admin);
        deliveries.len() == table.len() && deliveries.iter().all(|delivery| delivery["state"] != "pending")
    });
    let delivered = table.iter().filter(|row| row.4 == "delivered").map(|row| format!("v{}", row.0));
    wait_until("those are written to", || arrivals(&receiver).into_keys().eq(delivered.clone()));
    // The reasons tell whose refusal it is.
    let id = kernel.profile("user_id:va")["id"].as_str().unwrap().to_owned();
    let shown = admin.get(&format!("/api/v1/profiles/{id}/consent")).is(200);
    let refusal = &shown["answers"][0];
    assert_eq!((&refusal["identifier"]["value"], &refusal["in_force"]), (&json!("ua"), &json!(true)), "{shown}");
    assert!(refusal["why"].as_str().unwrap().contains("another user with this person's email"), "{shown}");
    assert!(refusal["until"].as_str().unwrap().contains("under user_id:ua or under this person's user id"), "{shown}");
}

/// What was agreed to before everything was refused is not revived when the refusal is taken back, and the reasons say so.
#[test]
fn taking_back_a_refusal_of_everything_revives_no_agreement() {
    let (kernel, receiver) = (TestKernel::start(), Receiver::start());
    let (source, admin) = (kernel.segment(), kernel.admin());
    webhook(&kernel, "webhook", &receiver);
    let mut action = message_through("webhook");
    action["basis"] = json!("opt_in");
    define_with(&admin, "carts", "events('Product Added').size() > 0", action);
    kernel.settle();
    let said =
        [json!({ "marketing": true }), json!({ "*": false }), json!({ "*": true }), json!({ "Marketing": true })];
    for (user, count) in [("back", 3), ("again", 4)] {
        for (turn, consent) in said.iter().enumerate().take(count) {
            kernel.clock.advance_ms(1_000);
            send(&source, &[identify(user, &format!("{user}-{turn}"), json!({ "consent": consent }))]);
        }
    }
    send(&source, &[track("back", "Product Added", "b"), track("again", "Product Added", "a")]);
    wait_until("both are decided", || {
        let deliveries = deliveries(&admin);
        deliveries.len() == 2 && deliveries.iter().all(|delivery| delivery["state"] != "pending")
    });
    wait_until("who agreed again is written to", || arrivals(&receiver).into_keys().eq(["again".to_owned()]));
    let reason = deliveries(&admin).into_iter().find(|delivery| delivery["state"] == "skipped").unwrap();
    assert!(reason["reason"].as_str().unwrap().contains("before everything was refused"), "{reason}");
    let answers = |user: &str| {
        let id = kernel.profile(&format!("user_id:{user}"))["id"].as_str().unwrap().to_owned();
        let shown = admin.get(&format!("/api/v1/profiles/{id}/consent")).is(200);
        let answers = shown["answers"].as_array().unwrap().clone();
        answers.into_iter().find(|answer| answer["purpose"] == "marketing").unwrap()
    };
    let (back, again) = (answers("back"), answers("again"));
    assert_eq!((&back["in_force"], &again["in_force"]), (&json!(false), &json!(true)), "{back} {again}");
    let why = back["why"].as_str().unwrap();
    assert!(why.contains("when `*` was refused") && why.contains("event back-1 of segment"), "{back}");
    assert_eq!(back["until"], "back with an agreement to `marketing` that is newer");
    assert_eq!(again["until"], "a refusal of `marketing` or of `*`, from any source");
}

/// Somebody with the right to do so said that an address is not this user's: what the user refuses is nothing to who has it.
#[test]
fn who_was_parted_by_hand_refuses_nothing_for_the_mailbox() {
    let (kernel, receiver) = (TestKernel::start(), Receiver::start());
    let (source, admin) = (kernel.segment(), kernel.admin());
    webhook(&kernel, "webhook", &receiver);
    define_with(&admin, "carts", "events('Product Added').size() > 0", message_through("webhook"));
    kernel.settle();
    for name in ["parted", "other"] {
        let refused = json!({ "email": format!("{name}@c.example"), "consent": { "marketing": false } });
        send(&source, &[identify(&format!("u-{name}"), &format!("u-{name}"), refused)]);
    }
    let id = kernel.profile("user_id:u-parted")["id"].as_str().unwrap().to_owned();
    let apart = json!({ "apart": ["user_id:u-parted", "email:parted@c.example"] });
    admin.post(&format!("/api/v1/profiles/{id}/split"), &apart).is(200);
    kernel.clock.advance_ms(1_000);
    for name in ["parted", "other"] {
        let email = json!({ "email": format!("{name}@c.example") });
        send(&source, &[identify(&format!("v-{name}"), &format!("v-{name}"), email)]);
        send(&source, &[track(&format!("v-{name}"), "Product Added", &format!("p-{name}"))]);
    }
    // Of the other one the mailbox stays the first user's, and a message to the second goes to no address.
    wait_until("both are decided", || {
        let deliveries = deliveries(&admin);
        deliveries.len() == 2 && deliveries.iter().all(|delivery| delivery["state"] != "pending")
    });
    wait_until("who has the address is written to", || arrivals(&receiver).into_keys().any(|user| user == "v-parted"));
}
