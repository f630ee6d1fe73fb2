//! What fires a message and what does not: an event and time do; imports and present members only when asked; edits, merges,
//! partings, restarts and replays never.

use kith_model::time::DAY_MS;
use kith_tests::{Client, Receiver, Source, TestKernel, wait_until};
use serde_json::{Value, json};

use super::stage::{
    all_delivered, arrivals, audiences_of, define, define_with, deliveries, each_got_one_message, everybody, identify,
    letters, message_through, not_again_before, redefine, send, size, track, webhook,
};

const PEOPLE: usize = 50;

/// A server with a source and a webhook.
struct Shop {
    kernel: TestKernel,
    source: Source,
    receiver: Receiver,
}

impl Shop {
    fn open() -> Shop {
        let (kernel, receiver) = (TestKernel::start(), Receiver::start());
        let source = kernel.segment();
        webhook(&kernel, "webhook", &receiver);
        Shop { kernel, source, receiver }
    }

    fn admin(&self) -> Client {
        self.kernel.admin()
    }

    /// Define an audience with a message for all who enter.
    fn define(&self, name: &str, condition: &str, on_enter: Value) {
        define_with(&self.admin(), name, condition, on_enter);
        self.kernel.settle();
    }

    /// Wait until all is computed, and insist on the number of messages that there are.
    #[track_caller]
    fn has_sent(&self, messages: usize, what: &str) {
        self.kernel.settle();
        assert_eq!(deliveries(&self.admin()).len(), messages, "{what}");
        all_delivered(&self.admin(), messages);
        // What comes next comes later, so that an id made from the clock shows.
        self.kernel.clock.advance_ms(1_000);
    }
}

/// A condition that is edited and restored empties the audience and fills it again, and nobody is written to twice.
#[test]
fn an_edit_and_its_undoing_send_nothing() {
    let shop = Shop::open();
    let condition = "events('Seen').size() > 0";
    shop.define("seen", condition, message_through("webhook"));
    send(&shop.source, &everybody(PEOPLE, "Seen", "s"));
    shop.has_sent(PEOPLE, "everybody entered");
    redefine(&shop.admin(), "seen", "events('Seen').size() > 5");
    shop.has_sent(PEOPLE, "edited");
    assert_eq!(size(&shop.admin(), "seen"), Some(0));
    redefine(&shop.admin(), "seen", condition);
    shop.has_sent(PEOPLE, "restored");
    assert_eq!(size(&shop.admin(), "seen"), Some(PEOPLE as u64));
    each_got_one_message(&shop.receiver, PEOPLE);
}

/// Writing to existing members that was asked for later showed their number, asked, and sent nothing.
#[test]
fn present_members_are_written_to_when_that_is_asked_for_later() {
    let shop = Shop::open();
    send(&shop.source, &everybody(PEOPLE, "Seen", "s"));
    shop.define("quiet", "events('Seen').size() > 0", message_through("webhook"));
    shop.has_sent(0, "nobody was asked for");
    let admin = shop.admin();
    let mut change = json!({ "on_enter": { "existing": "send" } });
    let asked = admin.patch("/api/v1/audiences/quiet", &change).is_problem(409, "preview-required");
    assert_eq!(asked["would_send"], PEOPLE);
    change["previewed"] = asked["token"].clone();
    admin.patch("/api/v1/audiences/quiet", &change).is(200);
    shop.has_sent(PEOPLE, "the existing ones were asked for");
    admin.patch("/api/v1/audiences/quiet", &change).is(200);
    shop.has_sent(PEOPLE, "they were asked for already");
    each_got_one_message(&shop.receiver, PEOPLE);
}

/// Who is a member when an audience is first computed is not written to, unless the action asks for the existing ones.
#[test]
fn present_members_are_written_to_only_when_asked() {
    let shop = Shop::open();
    send(&shop.source, &everybody(PEOPLE, "Seen", "s"));
    shop.define("quiet", "events('Seen').size() > 0", message_through("webhook"));
    shop.has_sent(0, "nobody was asked for");
    assert_eq!(size(&shop.admin(), "quiet"), Some(PEOPLE as u64));
    let mut action = message_through("webhook");
    action["existing"] = json!("send");
    let admin = shop.admin();
    let mut body = json!({ "name": "asked", "condition": "events('Seen', '30d').size() > 0", "on_enter": action });
    body["previewed"] = admin.post("/api/v1/audiences", &body).is_problem(409, "preview-required")["token"].clone();
    admin.post("/api/v1/audiences", &body).is(201);
    shop.has_sent(PEOPLE, "the existing ones were asked for");
    each_got_one_message(&shop.receiver, PEOPLE);
    // Once: a later change of the same definition finds them written to, and restarts repeat nothing.
    let mut change = json!({ "condition": "events('Seen', '31d').size() > 0" });
    let asked = admin.patch("/api/v1/audiences/asked", &change);
    change["previewed"] = asked.is_problem(409, "preview-required")["token"].clone();
    admin.patch("/api/v1/audiences/asked", &change).is(200);
    shop.has_sent(PEOPLE, "the definition changed");
    // Somebody new enters both by an event of her own.
    send(&shop.source, &[track("new", "Seen", "n")]);
    shop.has_sent(PEOPLE + 2, "somebody new");
}

/// Adding an action to an audience writes to nobody who is in it already.
#[test]
fn an_action_added_later_writes_to_nobody_who_is_there() {
    let shop = Shop::open();
    define(&shop.admin(), "seen", "events('Seen').size() > 0");
    send(&shop.source, &everybody(PEOPLE, "Seen", "s"));
    shop.kernel.settle();
    let patch = json!({ "on_enter": message_through("webhook") });
    shop.admin().patch("/api/v1/audiences/seen", &patch).is(200);
    shop.has_sent(0, "an action was added");
    send(&shop.source, &[track("new", "Seen", "n")]);
    shop.has_sent(1, "somebody new");
}

/// History that is imported moves people and writes to nobody, unless the action asks for imports.
#[test]
fn imported_history_is_written_about_only_when_asked() {
    let shop = Shop::open();
    shop.define("quiet", "events('Bought').size() > 0", message_through("webhook"));
    let mut action = message_through("webhook");
    action["imports"] = json!("send");
    shop.define("asked", "events('Joined').size() > 0", action);
    let import = |event: &str| {
        let rows: String =
            (0..PEOPLE).map(|number| format!("{event}-{number},u{number},{event},2026-11-20T10:00:00Z\n")).collect();
        let path = "/api/v1/sources/file/records";
        let body = format!("id,user,event,at\n{rows}");
        let dry = format!("{path}?dry_run=true");
        let dry = shop.admin().send("POST", &dry, &[("content-type", "text/csv")], body.clone()).is(200);
        assert_eq!((&dry["writing_audiences"], &dry["event_count"]), (&json!(["asked"]), &json!(PEOPLE)));
        let answer = shop.admin().send("POST", path, &[("content-type", "text/csv")], body).is(200);
        assert_eq!(answer["accepted"], PEOPLE, "{answer}");
    };
    let mapping = json!({ "identifiers": { "user_id": "user" }, "event": { "column": "event" }, "time": { "column": "at" },
        "message_id": "id" });
    shop.kernel.install("kith/csv", json!({ "name": "file", "config": mapping }));
    import("Bought");
    shop.has_sent(0, "an import that nobody asked about");
    assert_eq!(size(&shop.admin(), "quiet"), Some(PEOPLE as u64));
    let history: Vec<Value> =
        (0..PEOPLE).map(|number| track(&format!("h{number}"), "Bought", &format!("h{number}"))).collect();
    shop.source.client.post("/v1/import", &json!({ "batch": history })).is(200);
    shop.has_sent(0, "a client's history");
    assert_eq!(size(&shop.admin(), "quiet"), Some(2 * PEOPLE as u64));
    import("Joined");
    shop.has_sent(PEOPLE, "an import that was asked about");
    each_got_one_message(&shop.receiver, PEOPLE);
}

/// Two people who have both entered and turn out to be one are not written to again.
#[test]
fn a_merge_sends_nothing() {
    let shop = Shop::open();
    shop.define("seen", "events('Seen').size() > 0", message_through("webhook"));
    shop.define("twice", "events('Seen').size() > 1", message_through("webhook"));
    let anonymous = json!({ "type": "track", "event": "Seen", "anonymousId": "phone", "messageId": "a" });
    send(&shop.source, &[anonymous, track("ada", "Seen", "b")]);
    shop.has_sent(2, "two people entered");
    let both = json!({ "type": "identify", "anonymousId": "phone", "userId": "ada", "messageId": "c" });
    send(&shop.source, &[both]);
    shop.has_sent(2, "they are one, who meets the second condition by the merge alone");
    assert_eq!(audiences_of(&shop.kernel, "user_id:ada"), ["seen", "twice"]);
    assert_eq!(size(&shop.admin(), "seen"), Some(1));
}

/// Both sides of a parting keep what the one person had, and neither is written to.
#[test]
fn a_parting_sends_nothing() {
    let shop = Shop::open();
    shop.define("seen", "events('Seen').size() > 0", message_through("webhook"));
    let on_device = |user: Option<&str>, minute: u64, id: &str| {
        json!({ "type": "track", "event": "Seen", "anonymousId": "device", "userId": user, "messageId": id,
            "timestamp": format!("2026-11-20T10:{minute:02}:00Z") })
    };
    send(&shop.source, &[track("u1", "Seen", "u1")]);
    shop.has_sent(1, "u1 entered");
    send(&shop.source, &[on_device(None, 5, "m0"), on_device(Some("u2"), 20, "m2")]);
    shop.has_sent(2, "the device and u2 are one who entered");
    send(&shop.source, &[on_device(Some("u1"), 0, "m1")]);
    shop.has_sent(2, "the device was u1's first, so u2 is parted from it");
    each_got_one_message(&shop.receiver, arrivals(&shop.receiver).len());
}

/// Leave and enter again with the days: a window of two days that is filled at each turn.
fn come_back(shop: &Shop, turn: u64) {
    let admin = shop.admin();
    shop.kernel.clock.advance_ms(3 * DAY_MS);
    wait_until("she has left", || size(&admin, "fresh") == Some(0));
    send(&shop.source, &[track("ada", "Seen", &format!("back-{turn}"))]);
    wait_until("she is back", || size(&admin, "fresh") == Some(1));
}

/// `re_entry: always`, which is the default, writes at each return.
#[test]
fn every_return_is_written_about_unless_told_otherwise() {
    let shop = Shop::open();
    shop.define("fresh", "events('Seen', '2d').size() > 0", message_through("webhook"));
    for turn in 0..3 {
        come_back(&shop, turn);
        shop.has_sent(usize::try_from(turn).unwrap() + 1, "a return");
    }
}

/// `re_entry: never` writes once to a person, whatever she is merged with.
#[test]
fn never_again_means_once_for_a_person_also_after_a_merge() {
    let shop = Shop::open();
    let mut action = message_through("webhook");
    action["re_entry"] = json!("never");
    shop.define("fresh", "events('Seen', '2d').size() > 0", action);
    for turn in 0..2 {
        come_back(&shop, turn);
        shop.has_sent(1, "a return");
    }
    // Her phone, which nobody has written to, becomes hers; it was the one who entered.
    shop.kernel.clock.advance_ms(3 * DAY_MS);
    wait_until("she has left", || size(&shop.admin(), "fresh") == Some(0));
    let both = json!({ "type": "identify", "anonymousId": "phone", "userId": "ada", "messageId": "both" });
    send(&shop.source, &[both]);
    let seen = json!({ "type": "track", "event": "Seen", "anonymousId": "phone", "messageId": "phone" });
    send(&shop.source, &[seen]);
    wait_until("she is back by her phone", || size(&shop.admin(), "fresh") == Some(1));
    shop.has_sent(1, "a return by another of her identities");
}

/// `re_entry: after` writes again when the last entry that fired is so long ago, counted from that one and not from the last
/// return.
#[test]
fn a_return_is_written_about_again_after_the_time_asked_for() {
    let shop = Shop::open();
    shop.define("fresh", "events('Seen', '2d').size() > 0", not_again_before(message_through("webhook"), 7));
    for (turn, sent) in [(0, 1), (1, 1), (2, 1), (3, 2), (4, 2)] {
        // Returns are three days apart: the one nine days after the first fires again.
        come_back(&shop, turn);
        shop.has_sent(sent, &format!("return {turn}"));
    }
}

/// An action on exit writes to who leaves by an event or by time, and to nobody who leaves by an edit.
#[test]
fn who_leaves_is_written_to_and_not_when_the_condition_was_edited() {
    let shop = Shop::open();
    let body = json!({ "name": "fresh", "condition": "events('Seen', '2d').size() > 0 && events('Bought').size() == 0",
        "on_exit": message_through("webhook") });
    shop.admin().post("/api/v1/audiences", &body).is(201);
    shop.kernel.settle();
    send(&shop.source, &everybody(3, "Seen", "s"));
    shop.has_sent(0, "three entered");
    send(&shop.source, &[track("u0", "Bought", "b")]);
    shop.has_sent(1, "one left by an event");
    redefine(
        &shop.admin(),
        "fresh",
        "events('Seen', '2d').size() > 0 && events('Bought').size() == 0 && traits.vip == true",
    );
    shop.has_sent(1, "two left by an edit");
    redefine(&shop.admin(), "fresh", "events('Seen', '2d').size() > 0 && events('Bought').size() == 0");
    shop.has_sent(1, "and are back by another");
    shop.kernel.clock.advance_ms(3 * DAY_MS);
    wait_until("time has passed", || size(&shop.admin(), "fresh") == Some(0));
    shop.has_sent(3, "two left by time");
    assert_eq!(arrivals(&shop.receiver).into_keys().collect::<Vec<_>>(), ["u0", "u1", "u2"]);
}

/// A restart, and a replay of all that was computed, send nothing.
#[test]
fn restarts_send_nothing() {
    let mut shop = Shop::open();
    shop.define("seen", "events('Seen').size() > 0", message_through("webhook"));
    send(&shop.source, &everybody(PEOPLE, "Seen", "s"));
    shop.has_sent(PEOPLE, "everybody entered");
    for _ in 0..3 {
        shop.kernel.restart();
        shop.has_sent(PEOPLE, "started again");
    }
    each_got_one_message(&shop.receiver, PEOPLE);
}

/// The kernel's own events about its messages are no activity of a person: a win-back is not fed by its own mail. By name
/// they can be asked for.
#[test]
fn receipts_do_not_count_as_activity() {
    let shop = Shop::open();
    define(&shop.admin(), "any", "events('*').size() > 1");
    define(&shop.admin(), "delivered", "events('Message Delivered').size() > 0");
    shop.define("seen", "events('Seen').size() > 0", message_through("webhook"));
    send(&shop.source, &[track("ada", "Seen", "s")]);
    shop.has_sent(1, "she entered");
    wait_until("the receipt counts by its name", || size(&shop.admin(), "delivered") == Some(1));
    shop.kernel.settle();
    assert_eq!(size(&shop.admin(), "any"), Some(0), "her one event is all that she did");
    assert_eq!(shop.kernel.count("events('*', '30d').size() == 1"), 1);
}

/// A message of an audience that was deleted, and of a consent that was withdrawn, does not leave, although it waits already.
#[test]
fn what_is_no_longer_wanted_does_not_leave() {
    let shop = Shop::open();
    shop.define("gone", "events('Seen').size() > 0", message_through("webhook"));
    shop.define("withdrawn", "events('Bought').size() > 0", message_through("webhook"));
    // The first attempts are put off, so that the messages wait; the second may be put off with the first, since they go to
    // one host.
    shop.receiver.will_answer(503, &[("retry-after", "600")]);
    shop.receiver.will_answer(503, &[("retry-after", "600")]);
    send(&shop.source, &[track("ada", "Seen", "s")]);
    send(&shop.source, &[track("eve", "Bought", "b")]);
    wait_until("the host was tried", || {
        let deliveries = deliveries(&shop.admin());
        let is_over = |delivery: &Value| delivery["state"] == "pending";
        deliveries.len() == 2 && deliveries.iter().all(is_over) && deliveries.iter().any(|one| one["attempts"] == 1)
    });
    let arrived = shop.receiver.arrived().len();
    shop.admin().delete("/api/v1/audiences/gone").is(204);
    send(&shop.source, &[identify("eve", "no", json!({ "consent": { "marketing": false } }))]);
    shop.kernel.settle();
    shop.kernel.clock.advance_ms(3_600_000);
    wait_until("both are skipped", || {
        // One that was in hand as the clock jumped is looked at again a little later.
        shop.kernel.clock.advance_ms(1_000);
        deliveries(&shop.admin()).iter().all(|delivery| delivery["state"] == "skipped")
    });
    assert!(arrived <= 2 && shop.receiver.arrived().len() <= 2, "nothing left but the first attempts");
    assert!(letters(&shop.admin(), "delivery").is_empty(), "what is not wanted is no failure");
}

/// The same of messages that passed the gate and wait in line for a busy host: what had not left when somebody took it back does
/// not leave. Each way to take it back with messages of its own, and beside them those of an audience that nobody touches.
#[test]
fn what_waits_in_line_for_its_host_is_asked_for_again_before_it_leaves() {
    const WAYS: [&str; 5] = ["deleted", "ended", "refused", "suppressed", "kept"];
    const EACH: usize = 6;
    let kernel = TestKernel::start_with(|config| config.ceiling.requests_per_host = 2);
    let (receiver, source) = (Receiver::start(), kernel.segment());
    webhook(&kernel, "webhook", &receiver);
    let admin = kernel.admin();
    for way in WAYS {
        define_with(&admin, way, &format!("events('{way}').size() > 0"), message_through("webhook"));
    }
    kernel.settle();
    receiver.hold();
    let user = |way: &str, number: usize| format!("{way}-{number}");
    let of = |way: &'static str| (0..EACH).map(move |number| track(&user(way, number), way, &user(way, number)));
    send(&source, &WAYS.into_iter().flat_map(of).collect::<Vec<_>>());
    kernel.settle();
    wait_until("two are on their way", || receiver.arrived().len() == 2);
    admin.delete("/api/v1/audiences/deleted").is(204);
    admin.patch("/api/v1/audiences/ended", &json!({ "on_enter": null })).is(200);
    let refusals = (0..EACH).map(|number| {
        identify(&user("refused", number), &format!("no-{number}"), json!({ "consent": { "marketing": false } }))
    });
    send(&source, &refusals.collect::<Vec<_>>());
    let suppressed: Vec<String> = (0..EACH).map(|number| format!("user_id:{}", user("suppressed", number))).collect();
    admin.post("/api/v1/suppressions", &json!({ "identifiers": suppressed })).is(200);
    kernel.settle();
    let on_their_way: Vec<String> = arrivals(&receiver).into_keys().collect();
    assert_eq!(on_their_way.len(), 2, "{on_their_way:?}");
    receiver.release();
    wait_until("all is decided", || {
        kernel.clock.advance_ms(2_000);
        deliveries(&admin).iter().all(|delivery| matches!(delivery["state"].as_str(), Some("delivered" | "skipped")))
    });
    let arrived: Vec<String> = arrivals(&receiver).into_keys().collect();
    let late: Vec<&String> =
        arrived.iter().filter(|user| !user.starts_with("kept") && !on_their_way.contains(user)).collect();
    assert!(late.is_empty(), "left after they were taken back: {late:?}");
    assert_eq!(arrived.iter().filter(|user| user.starts_with("kept")).count(), EACH, "what nobody took back leaves");
}
