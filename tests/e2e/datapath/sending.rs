//! Messages flow: many are under way at once, a slow receiver is nobody's fault, and whatever happens between a request and its
//! receipt, each message leaves once.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kith_tests::{
    Client, Neighbour, Process, Receiver, SIGNING_SECRET, Source, TestKernel, component, settle, wait_until,
};
use serde_json::{Value, json};

use super::stage::{
    SetAtEnd, all_delivered, arrivals, define_with, deliveries, each_got_one_message, everybody, install_webhook,
    letters, message_through, mode, send, track, webhook,
};

/// A server with a webhook, and an audience of everybody who was seen.
struct Post {
    kernel: TestKernel,
    source: Source,
    receiver: Receiver,
}

impl Post {
    fn open() -> Post {
        let (kernel, receiver) = (TestKernel::start(), Receiver::start());
        let source = kernel.segment();
        webhook(&kernel, "webhook", &receiver);
        define_with(&kernel.admin(), "seen", "events('Seen').size() > 0", message_through("webhook"));
        kernel.settle();
        Post { kernel, source, receiver }
    }
}

/// Forty messages to a receiver that answers none of them yet are all under way at the same time; when it answers, each has
/// arrived once, and the channel is as live as before.
#[test]
fn a_slow_receiver_gets_each_message_once_and_is_no_strike() {
    let post = Post::open();
    post.receiver.hold();
    send(&post.source, &everybody(40, "Seen", "s"));
    wait_until("forty requests are under way", || arrivals(&post.receiver).len() == 40);
    post.receiver.release();
    all_delivered(&post.kernel.admin(), 40);
    each_got_one_message(&post.receiver, 40);
    assert!(deliveries(&post.kernel.admin()).iter().all(|delivery| delivery["attempts"] == 1));
    assert_eq!(mode(&post.kernel.admin(), "webhook"), "live");
    assert!(letters(&post.kernel.admin(), "delivery").is_empty());
}

/// One message that is never answered holds up no other of its channel.
#[test]
fn a_silent_answer_holds_up_no_other_message() {
    let post = Post::open();
    post.receiver.hold_next(1);
    send(&post.source, &everybody(30, "Seen", "s"));
    wait_until("the others are delivered while one waits", || {
        let deliveries = deliveries(&post.kernel.admin());
        deliveries.iter().filter(|delivery| delivery["state"] == "delivered").count() == 29
    });
    post.receiver.release();
    all_delivered(&post.kernel.admin(), 30);
    each_got_one_message(&post.receiver, 30);
}

/// A 2xx status decides when it arrives: the body that it promised never comes, and the message is delivered.
#[test]
fn a_status_decides_whatever_becomes_of_the_body() {
    let post = Post::open();
    post.receiver.will_answer(200, &[("content-length", "1000000")]);
    send(&post.source, &[track("ada", "Seen", "s")]);
    all_delivered(&post.kernel.admin(), 1);
    assert_eq!(post.receiver.arrived().len(), 1);
    assert_eq!(deliveries(&post.kernel.admin())[0]["attempts"], 1);
}

/// An endpoint that says 410 is stopped: what is for it later does not leave, and what is for another channel does.
#[test]
fn a_gone_endpoint_gets_no_further_message() {
    let mut post = Post::open();
    let other = Receiver::start();
    install_webhook(&post.kernel.admin(), "other", &other);
    post.receiver.will_answer(410, &[]);
    send(&post.source, &[track("ada", "Seen", "a")]);
    wait_until("it was refused", || {
        deliveries(&post.kernel.admin()).iter().any(|delivery| delivery["state"] == "dead")
    });
    define_with(&post.kernel.admin(), "bought", "events('Bought').size() > 0", message_through("other"));
    post.kernel.settle();
    send(&post.source, &[track("eve", "Seen", "e"), track("eve", "Bought", "b")]);
    wait_until("the other channel's message arrives", || other.arrived().len() == 1);
    // A stop finishes what is under way.
    post.kernel.restart();
    assert_eq!(post.receiver.arrived().len(), 1, "nothing was sent after the 410");
}

/// While somebody sends an identifier that cannot be stored, forty people get one message each: receipts do not share the
/// fate of strangers' events.
#[test]
fn receipts_beside_a_poisoned_sender_double_no_message() {
    let post = Post::open();
    let poison = json!({ "batch": [track(&format!("u1{}", " ".repeat(5_000)), "Seen", "poison")] });
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _end = SetAtEnd(&done);
        for _ in 0..4 {
            scope.spawn(|| {
                while !done.load(Ordering::SeqCst) {
                    post.source.client.post("/v1/batch", &poison);
                }
            });
        }
        for message in everybody(40, "Seen", "s") {
            // As a client does, an event that is refused for the moment is sent again.
            wait_until("it is taken", || {
                post.source.client.post("/v1/batch", &json!({ "batch": [message] })).status == 200
            });
        }
        // What was sent and lost its receipt is sent again when its lease has run out.
        for _ in 0..3 {
            post.kernel.settle();
            post.kernel.clock.advance_ms(600_000);
        }
        wait_until("all are delivered", || {
            let mut deliveries = deliveries(&post.kernel.admin());
            deliveries.retain(|delivery| delivery["state"] == "delivered");
            deliveries.len() >= 40
        });
    });
    let mut doubled = arrivals(&post.receiver);
    doubled.retain(|_, messages| messages.values().sum::<usize>() > 1);
    assert!(doubled.is_empty(), "got more than one request: {doubled:?}");
}

const NOW: &str = "2026-11-21T10:00:00Z";
const AN_HOUR_LATER: &str = "2026-11-21T11:00:00Z";

fn serve(neighbour: &Arc<Neighbour>, folder: &Path, clock: &str) -> Process {
    Process::serve_beside(neighbour, folder, &["--clock", clock, "--allow-loopback", "--allow-plain-http"])
}

/// A server in a process of its own with a source and a webhook; the write key.
fn process_with_webhook(neighbour: &Arc<Neighbour>, folder: &Path, receiver: &Receiver) -> (Process, String) {
    let server = serve(neighbour, folder, NOW);
    let admin = server.admin();
    for plugin in ["kith/segment", "kith/webhook"] {
        admin.send("POST", "/api/v1/plugins", &[], component(plugin).component.clone()).is(201);
    }
    let installed = admin.post("/api/v1/installations", &json!({ "plugin": "kith/segment" })).is(201);
    install_webhook(&admin, "webhook", receiver);
    define_with(&admin, "seen", "events('Seen').size() > 0", message_through("webhook"));
    settle(&admin);
    (server, installed["write_key"].as_str().unwrap().to_owned())
}

/// A server that is told to stop while messages are under way waits for their answers and keeps them: after the next start
/// each has been sent once.
#[test]
fn a_graceful_stop_doubles_no_message() {
    let (folder, receiver, neighbour) = (tempfile::tempdir().unwrap(), Receiver::start(), Arc::default());
    let (server, write_key) = process_with_webhook(&neighbour, folder.path(), &receiver);
    let client = Client::with_write_key(server.url(), &write_key);
    receiver.hold();
    client.post("/v1/batch", &json!({ "batch": everybody(8, "Seen", "s") })).is(200);
    wait_until("messages are under way", || !receiver.arrived().is_empty());
    server.ask_to_stop();
    wait_until("it takes nothing new", || {
        let batch = json!({ "batch": [] }).to_string();
        client.try_send("POST", "/v1/batch", &[], batch).map_or(true, |answer| answer.status == 503)
    });
    receiver.release();
    assert!(server.wait().success());
    let server = serve(&neighbour, folder.path(), AN_HOUR_LATER);
    all_delivered(&server.admin(), 8);
    each_got_one_message(&receiver, 8);
    assert!(server.terminate().success());
}

/// A server that is killed while messages are under way sends them again under their own ids, and no others: a receiver that
/// keeps ids sees each message once.
#[test]
fn a_kill_repeats_messages_only_under_their_ids() {
    let (folder, receiver, neighbour) = (tempfile::tempdir().unwrap(), Receiver::start(), Arc::default());
    let (server, write_key) = process_with_webhook(&neighbour, folder.path(), &receiver);
    let client = Client::with_write_key(server.url(), &write_key);
    receiver.hold();
    client.post("/v1/batch", &json!({ "batch": everybody(8, "Seen", "s") })).is(200);
    wait_until("messages are under way", || !receiver.arrived().is_empty());
    server.kill();
    receiver.release();
    let server = serve(&neighbour, folder.path(), AN_HOUR_LATER);
    all_delivered(&server.admin(), 8);
    let arrivals = arrivals(&receiver);
    assert_eq!(arrivals.len(), 8);
    let ids: Vec<usize> = arrivals.values().map(std::collections::BTreeMap::len).collect();
    assert_eq!(ids, [1; 8], "ids for each person: {arrivals:?}");
    assert!(server.terminate().success());
}

/// A channel sees of a person only the types of identifiers that its grant allows, and carries messages for the
/// purposes that it allows: another grant holds for audiences that are there.
#[test]
fn a_channel_is_given_the_identifiers_and_carries_the_purposes_that_were_granted() {
    let (kernel, receiver) = (TestKernel::start(), Receiver::start());
    let source = kernel.segment();
    kernel.upload(&kernel.admin(), "kith/webhook");
    let host = receiver.host();
    let granting = |purposes: Value| {
        let secrets = json!({ "signing": [host] });
        json!({ "http": [host], "secrets": secrets, "recipients": ["user_id"], "purposes": purposes })
    };
    let body = json!({
        "plugin": "kith/webhook", "name": "narrow", "config": { "url": format!("http://{host}/") },
        "grants": granting(json!(["marketing"])), "secrets": { "signing": SIGNING_SECRET },
    });
    kernel.admin().post("/api/v1/installations", &body).is(201);
    define_with(&kernel.admin(), "seen", "events('Seen').size() > 0", message_through("narrow"));
    kernel.settle();
    send(
        &source,
        &[super::stage::identify("ada", "i", json!({ "email": "ada@example.com" })), track("ada", "Seen", "s")],
    );
    all_delivered(&kernel.admin(), 1);
    let arrived = receiver.arrived();
    let recipient = arrived[0].json()["data"]["recipient"].clone();
    assert_eq!(recipient, json!([{ "type": "user_id", "value": "ada" }]));
    let admin = kernel.admin();
    let taken = json!({ "grants": granting(json!(["service"])) });
    let narrowed = admin.patch("/api/v1/installations/narrow", &taken).is(200);
    assert!(narrowed["warnings"][0].as_str().is_some_and(|told| told.contains("`seen`")), "{narrowed}");
    send(&source, &[track("bob", "Seen", "s-bob")]);
    wait_until("the second message is decided", || {
        deliveries(&admin).iter().any(|delivery| delivery["state"] == "skipped")
    });
    let all = deliveries(&admin);
    let skipped = all.iter().find(|delivery| delivery["state"] == "skipped").unwrap();
    let said = skipped["reason"].as_str().unwrap_or_default();
    assert!(["`narrow`", "`service`", "`marketing`"].iter().all(|name| said.contains(name)), "{skipped}");
    assert_eq!(receiver.arrived().len(), 1);
    let again = json!({ "name": "again", "condition": "true", "on_enter": message_through("narrow") });
    admin.post("/api/v1/audiences", &again).is_problem(400, "purpose-not-carried");
}

/// Texts of a message are templates over declared inputs, checked when the audience is saved.
#[test]
fn a_template_that_cannot_be_filled_is_refused_when_the_audience_is_saved() {
    let post = Post::open();
    let mut action = message_through("webhook");
    action["payload"] = json!({ "text": "Hello {{ name" });
    let body = json!({ "name": "broken", "condition": "true", "on_enter": action });
    let refused: Value = post.kernel.admin().post("/api/v1/audiences", &body).is_problem(400, "bad-input");
    let place = refused["errors"][0]["path"].as_str().unwrap();
    assert!(place.starts_with("on_enter.payload"), "{refused}");
}
