//! From an audience to a mail in a relay's hands: what it takes, what it puts off, what it refuses, and what nobody knows.

use kith_tests::{Relay, TestKernel, Verdict, wait_for};
use serde_json::{Value, json};

/// A server that hands mail to a relay of its own, and an audience whose people get one.
fn start() -> (TestKernel, Relay) {
    let (kernel, relay) = (TestKernel::start(), Relay::start());
    let (place, admin) = (relay.place(), kernel.admin());
    kernel.install(
        "kith/mail",
        json!({
            "config": { "relay": place, "security": "plain", "from": "shop@example.com", "from_name": "Shop" },
            "grants": { "mail": [place] },
        }),
    );
    let policy = admin.get("/api/v1/installations/mail/policy").is(200);
    let items = policy["items"].as_array().unwrap();
    let item = items.iter().find(|item| item["kind"] == "mail").unwrap_or_else(|| panic!("{policy}"));
    assert_eq!((&item["effective"], &item["decided_by"]), (&json!([place]), &json!("grant")), "{item}");
    let payload = json!({ "subject": "Your cart", "text": "Hello\n.\nBye", "unsubscribe": "https://shop.example/u" });
    let on_enter = json!({ "channel": "mail", "purpose": "marketing", "basis": "not_refused", "payload": payload });
    let condition = "events('Product Added', '30d').size() > 0";
    admin.post("/api/v1/audiences", &json!({ "name": "carts", "condition": condition, "on_enter": on_enter })).is(201);
    (kernel, relay)
}

/// One story, because each step needs the one before: a server, a relay, and people who come one after the other.
#[test]
fn a_mail_goes_to_its_person_once_and_the_relays_word_counts() {
    let (kernel, relay) = start();
    let (source, admin) = (kernel.segment(), kernel.admin());
    kernel.settle();
    let visit = |user: &str| {
        let traits = json!({ "email": format!("{user}@example.com") });
        source.batch(&[
            json!({ "type": "identify", "userId": user, "messageId": format!("i-{user}"), "traits": traits }),
            json!({ "type": "track", "event": "Product Added", "userId": user, "messageId": format!("a-{user}") }),
        ]);
    };
    let of = |user: &str| -> Option<Value> {
        let listed = admin.get(&format!("/api/v1/deliveries?person=user_id:{user}")).is(200);
        listed["items"].as_array().unwrap().first().cloned()
    };
    let until = |user: &str, state: &str| {
        wait_for(&format!("{user}'s is {state}"), || of(user).filter(|delivery| delivery["state"] == state))
    };

    visit("ada");
    let accepted = until("ada", "accepted");
    let mails = relay.mails();
    let mail = &mails[0];
    assert_eq!((mail.sender.as_str(), &mail.recipients[..]), ("shop@example.com", &["ada@example.com".to_owned()][..]));
    assert_eq!(mail.header("Message-ID"), format!("<{}@example.com>", accepted["id"].as_str().unwrap()));
    assert_eq!((mail.header("To"), mail.header("Subject")), ("ada@example.com", "Your cart"));
    assert_eq!(mail.header("List-Unsubscribe"), "<https://shop.example/u>");
    assert_eq!(mail.header("Date"), "Sat, 21 Nov 2026 10:00:00 +0000");
    assert!(mail.content.contains("\r\n\r\nHello\r\n.\r\nBye"), "{}", mail.content);

    // It has the whole mail and says nothing more: nobody repeats it, however long it is.
    relay.will(Verdict::Drops);
    visit("bob");
    until("bob", "unknown");
    kernel.clock.advance_ms(3_600_000);
    kernel.settle();
    assert_eq!(relay.mails().iter().filter(|mail| mail.recipients == ["bob@example.com"]).count(), 1);
    let letters = kith_tests::pages(&admin, "/api/v1/dead-letters", 50);
    assert_eq!(
        letters.iter().filter(|letter| letter["type"] == "delivery").count(),
        1,
        "an admin decides: {letters:?}"
    );

    relay.will(Verdict::Refuses("550 5.1.1 no such user"));
    visit("cay");
    let dead = until("cay", "dead");
    assert!(dead["reason"].as_str().unwrap().contains("550 5.1.1 no such user"), "{dead}");

    // What it puts off it gets again, as the same mail.
    relay.will(Verdict::Says("451 4.3.0 later"));
    visit("dan");
    // Before the attempt it is pending too, and while the attempt runs nothing is said of it yet.
    let is_put_off = |delivery: &Value| delivery["state"] == "pending" && delivery["attempts"] == 1;
    let delivery = wait_for("dan's is put off", || of("dan").filter(is_put_off));
    assert!(delivery["last_reason"].as_str().unwrap().contains("451 4.3.0 later"), "{delivery}");
    kernel.clock.advance_ms(5_000);
    until("dan", "accepted");
    let twice = relay.mails();
    let twice: Vec<_> = twice.iter().filter(|mail| mail.recipients == ["dan@example.com"]).collect();
    assert_eq!(twice.len(), 2);
    assert_eq!(twice[0].header("Message-ID"), twice[1].header("Message-ID"));

    // A relay that is not granted is told of before anybody waits for mail.
    let refused = admin.patch("/api/v1/installations/mail", &json!({ "grants": {} })).is_some_problem();
    assert!(refused.to_string().contains("grants.mail"), "{refused}");
}
