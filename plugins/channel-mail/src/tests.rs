//! The channel through its role, on the test host.

use kith_plugin_sdk::http::Error;
use kith_plugin_sdk::mail::Reply;
use kith_plugin_sdk::{Identifier, SentMail, testing};
use serde_json::{Value, json};

use super::*;

fn config() -> Value {
    json!({
        "relay": "smtp.example.com:587", "security": "starttls", "user": "shop", "from": "shop@example.com",
        "from_name": "Shop", "reply_to": "help@example.com", "subject": "News", "one_click": true,
    })
}

fn message(payload: &Value) -> Message {
    let recipient = vec![Identifier::new("user_id", "u1"), Identifier::new("email", "ada@example.com")];
    Message { id: "msg_1".into(), recipient, payload: payload.to_string(), ..Message::default() }
}

fn step(config: Value, message: Message) -> Step {
    testing::Host::new().config(config).run(|| MailChannel::requests(vec![message])).0.remove(0)
}

#[test]
fn a_message_is_a_mail_to_the_person() {
    let payload = json!({ "text": "Hello", "html": "<p>Hello</p>", "unsubscribe": "https://example.com/u?k=1" });
    let step = step(config(), message(&payload));
    let sender = Mailbox::new("shop@example.com").named("Shop");
    let expected = Mail::through("smtp.example.com:587", sender, "ada@example.com", "News")
        .login("shop", "password")
        .reply_to(Mailbox::new("help@example.com"))
        .text("Hello")
        .html("<p>Hello</p>")
        .header("List-Unsubscribe", "<https://example.com/u?k=1>")
        .header("List-Unsubscribe-Post", "List-Unsubscribe=One-Click");
    assert_eq!(step.mail(), Some(&expected));
}

#[test]
fn what_is_no_mail_is_for_good() {
    let nobody = Message { recipient: Vec::new(), ..message(&json!({ "text": "Hello" })) };
    let unsubscribe = |place: &str| message(&json!({ "text": "Hello", "unsubscribe": place }));
    for (message, expected) in [
        (nobody, "no `email`"),
        (message(&json!({ "subject": "Hello" })), "neither `text` nor `html`"),
        (message(&json!({ "subject": "", "text": "Hello" })), "no `subject`"),
        (message(&json!({ "text": 7 })), "not that of a mail"),
        (unsubscribe("javascript:alert(1)"), "`unsubscribe` is not an address"),
        (unsubscribe("https://a.example/>\r\nBcc: e@x.de"), "`unsubscribe` is not an address"),
    ] {
        let step = step(config(), message);
        let Some(Outcome::Permanent(reason)) = step.outcome() else { panic!("{step:?}") };
        assert!(reason.contains(expected), "{reason}");
    }
}

#[test]
fn a_relays_answer_has_its_outcome() {
    let sent = |result| SentMail::new(message(&json!({})), result);
    let steps = MailChannel::mailed(vec![
        sent(Ok(Reply::new(250, Some("2.0.0"), "queued"))),
        sent(Ok(Reply::new(450, Some("4.2.1"), "later"))),
        sent(Ok(Reply::new(550, Some("5.1.1"), "nobody"))),
        sent(Err(Error::Denied("not granted".into()))),
    ]);
    let outcomes: Vec<&Outcome> = steps.iter().filter_map(Step::outcome).collect();
    assert!(
        matches!(
            outcomes[..],
            [Outcome::Accepted(None), Outcome::Retry { .. }, Outcome::Permanent(_), Outcome::Permanent(_)]
        ),
        "{outcomes:?}"
    );
}

#[test]
fn a_relay_has_a_port() {
    let validate = |relay: &str| {
        let mut config = config();
        config["relay"] = json!(relay);
        MailChannel::validate(&config.to_string())
    };
    assert_eq!(validate("smtp.example.com:587"), Ok(()));
    for relay in ["smtp.example.com:0", "smtp.example.com:70000"] {
        assert_eq!(validate(relay).unwrap_err()[0].key, "relay", "{relay}");
    }
}
