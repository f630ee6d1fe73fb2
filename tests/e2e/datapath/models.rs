//! Models that stop, fail, are slow or change: what they wrote stays and counts, others go on, and nobody is written to for it.

use std::process::Command;

use kith_tests::{ADMIN_KEY, Client, Receiver, Source, TestKernel, kith, wait_for, wait_until};
use serde_json::{Value, json};
use sha2::Digest as _;

use super::stage::{
    all_delivered, arrivals, audiences_of, define, define_with, deliveries, each_got_one_message, identify, letters,
    message_through, mode, send, size, switch, tag, track, webhook,
};

pub(super) const PEOPLE: u64 = 100;

/// People with a tag, and an audience on it that has welcomed each of them.
pub(super) struct Welcomed {
    pub(super) kernel: TestKernel,
    pub(super) source: Source,
    pub(super) receiver: Receiver,
}

impl Welcomed {
    fn open(config: &Value) -> Welcomed {
        Welcomed::with(|kernel| {
            kernel.install("hostile/tag-model", json!({ "name": "model", "config": config }));
        })
    }

    /// The same with the test's own way to install the model.
    pub(super) fn with(install: impl FnOnce(&TestKernel)) -> Welcomed {
        let (kernel, receiver) = (TestKernel::start(), Receiver::start());
        let source = kernel.segment();
        webhook(&kernel, "webhook", &receiver);
        install(&kernel);
        define_with(&kernel.admin(), "oslo", "tags.hostile == 'Oslo'", message_through("webhook"));
        kernel.settle();
        let people: Vec<Value> = (0..PEOPLE).map(|number| lives_in(&format!("u{number}"), "Oslo", 0)).collect();
        send(&source, &people);
        kernel.settle();
        all_delivered(&kernel.admin(), PEOPLE as usize);
        Welcomed { kernel, source, receiver }
    }

    /// Everybody is still tagged, a member and counted, and has had the one welcome.
    #[track_caller]
    pub(super) fn nothing_changed(&self, what: &str) {
        self.kernel.settle();
        // A model that is held meanwhile is a change, during which a size is not known for a moment.
        let size = wait_for("the size is known", || size(&self.kernel.admin(), "oslo"));
        assert_eq!(size, PEOPLE, "{what}");
        // Of who came while the model was held nothing is known, so the count may not be exact.
        let question = json!({ "condition": "tags.hostile == 'Oslo'" });
        let counted = self.kernel.admin().post("/api/v1/audiences/count", &question).is(200);
        assert_eq!(counted["count"], PEOPLE, "{what}: {counted}");
        assert_eq!(tag(&self.kernel, "user_id:u7", "hostile"), "Oslo", "{what}");
        assert_eq!(deliveries(&self.kernel.admin()).len() as u64, PEOPLE, "{what}");
        each_got_one_message(&self.receiver, PEOPLE as usize);
        // What comes next comes later, so that an id made from the clock shows.
        self.kernel.clock.advance_ms(1_000);
    }
}

pub(super) fn lives_in(user: &str, city: &str, turn: u64) -> Value {
    identify(user, &format!("{user}-{city}-{turn}"), json!({ "city": city }))
}

/// Three identifies of one person on whom the model traps take nobody's tag away and welcome nobody again, also when an admin
/// switches the model off and on.
#[test]
fn one_person_on_whom_a_model_traps_costs_nobody_else_a_tag() {
    let shop = Welcomed::open(&json!({ "how": "trap-on-poison" }));
    for turn in 0..3 {
        let poisoned =
            identify("eve", &format!("p{turn}"), json!({ "poison": format!("drop {turn}"), "city": "Rome" }));
        send(&shop.source, &[poisoned]);
        shop.nothing_changed("after a poisoned identify");
    }
    let letters = letters(&shop.kernel.admin(), "computation");
    assert_eq!(letters.len(), 1, "one letter for one person and one cause: {letters:?}");
    assert_eq!((&letters[0]["installation"], &letters[0]["code"]), (&json!("model"), &json!("trap")));
    // It named nobody: who it was, and what the model was shown of them, is what an admin has to know.
    let eve = shop.kernel.profile("user_id:eve")["id"].clone();
    assert_eq!((&letters[0]["people"], &letters[0]["plugin"]), (&json!([&eve]), &json!("hostile/tag-model@0.1.0")));
    assert!(letters[0]["inputs"].as_array().unwrap().contains(&json!("poison")), "{}", letters[0]);
    let row = sha2::Sha256::digest(r#"{"city":"Rome","poison":"drop 2"}"#);
    let row: String = row.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(letters[0]["rows"], json!([{ "profile": eve, "sha256": row }]), "the last that it was given of her");
    let reader = shop.kernel.caller(&shop.kernel.key(&["deliveries:read"]));
    let masked = reader.get(&format!("/api/v1/dead-letters/{}", letters[0]["id"].as_str().unwrap())).is(200);
    assert_eq!((&masked["people"], &masked["message"]), (&Value::Null, &Value::Null), "{masked}");
    assert_eq!(
        (&masked["withheld"], &masked["plugin"]),
        (&json!(["message", "people", "rows"]), &letters[0]["plugin"])
    );
    assert_eq!(mode(&shop.kernel.admin(), "model"), "live", "a fault of one row is no strike");
    // Tried again, it fails again, and neither blames the model nor moves anybody.
    let replay = format!("/api/v1/dead-letters/{}/replay", letters[0]["id"].as_str().unwrap());
    let again = shop.kernel.admin().post(&replay, &json!({})).is(200);
    assert_eq!((&again["replayed"], &again["people"]), (&json!(true), &json!(1)), "{again}");
    shop.nothing_changed("a letter that was tried again");
    // It ran, and said nothing of whom it has no answer for.
    let shown = shop.kernel.admin().get("/api/v1/installations/model").is(200);
    let uncomputed = &shown["uncomputed"];
    assert_eq!((&uncomputed["people"], &uncomputed["last_fault"]["code"]), (&json!(1), &json!("trap")), "{shown}");
    let who_runs_plugins = shop.kernel.caller(&shop.kernel.key(&["plugins:admin"]));
    let hidden = who_runs_plugins.get("/api/v1/installations/model").is(200);
    assert_eq!(hidden.get("uncomputed"), None, "on whom a plugin fails is for who may read people: {hidden}");
    let of_tags = json!({ "condition": "tags.hostile == 'Oslo'" });
    let counted = shop.kernel.admin().post("/api/v1/audiences/count", &of_tags).is(200);
    assert_eq!((&counted["pending"], &counted["exact"]), (&json!(1), &json!(false)), "{counted}");
    switch(&shop.kernel.admin(), "model", "disabled");
    shop.nothing_changed("switched off");
    switch(&shop.kernel.admin(), "model", "live");
    shop.nothing_changed("switched on again");
}

/// A model that is switched off keeps what it wrote, and nobody is written to when it comes back.
#[test]
fn a_model_that_is_switched_off_and_on_again_sends_nothing() {
    let mut shop = Welcomed::open(&json!({ "how": "well" }));
    switch(&shop.kernel.admin(), "model", "disabled");
    shop.nothing_changed("switched off");
    let shown = shop.kernel.admin().get("/api/v1/installations/model").is(200);
    assert_eq!(shown["mode"], "disabled");
    shop.kernel.restart();
    shop.nothing_changed("switched off and started again");
    switch(&shop.kernel.admin(), "model", "live");
    shop.nothing_changed("switched on again");
}

/// A model that has been quarantined keeps what it wrote.
#[test]
fn a_quarantined_model_keeps_what_it_wrote() {
    let shop = Welcomed::open(&json!({ "how": "well" }));
    let admin = shop.kernel.admin();
    admin.patch("/api/v1/installations/model", &json!({ "config": { "how": "trap" } })).is(200);
    for turn in 0..4 {
        send(&shop.source, &[lives_in("eve", &format!("Rome {turn}"), turn)]);
        shop.kernel.settle();
    }
    wait_until("it is quarantined", || mode(&admin, "model") == "quarantined");
    shop.nothing_changed("quarantined");
    admin.patch("/api/v1/installations/model", &json!({ "mode": "live", "config": { "how": "well" } })).is(200);
    shop.nothing_changed("well again");
}

/// An upgrade whose new version cannot read the fit, and says so or traps on it, serves the old values until it is fitted
/// again, and sends nothing.
#[test]
fn an_upgrade_that_cannot_read_its_fit_serves_the_old_values() {
    for how in ["well", "refuse-fit", "trap-on-fit"] {
        let shop = Welcomed::open(&json!({ "how": how }));
        let admin = shop.kernel.admin();
        shop.kernel.fit("model");
        shop.nothing_changed("fitted");
        let next = shop.kernel.upload_newest("hostile/tag-model");
        admin.patch("/api/v1/installations/model", &json!({ "version": next })).is(200);
        shop.nothing_changed("upgraded");
        // Each of these makes it run once more, and fail.
        for turn in 0..4 {
            send(&shop.source, &[lives_in("eve", &format!("Rome {turn}"), turn)]);
            shop.nothing_changed("upgraded, and a person came");
        }
        assert_eq!(tag(&shop.kernel, "user_id:u7", "hostile_version"), "0.1.0", "the old version's value serves");
        // One that does not say why it fails is stopped, and the version before serves again. Whoever wants the later one all the
        // same has it stopped as it was, and fits it while it is: it is asked nothing before it has its fit.
        if how != "well" {
            let version = || admin.get("/api/v1/installations/model").is(200)["version"].clone();
            wait_until("the version before serves", || version() == "0.1.0");
            shop.nothing_changed("the version before serves");
            admin.patch("/api/v1/installations/model", &json!({ "version": next })).is(200);
            assert_eq!(mode(&admin, "model"), "quarantined");
            shop.nothing_changed("upgraded again");
        }
        shop.kernel.fit("model");
        if how != "well" {
            shop.nothing_changed("fitted while it is stopped");
            assert_eq!(mode(&admin, "model"), "quarantined", "an admin switches it on");
            switch(&admin, "model", "live");
        }
        shop.nothing_changed("fitted again");
        assert_eq!(mode(&admin, "model"), "live");
        assert_eq!(tag(&shop.kernel, "user_id:u7", "hostile_version"), next);
    }
}

/// An audience that an upgrade fills, since the new version tags differently, writes to nobody: an upgrade is a change, not
/// an event.
#[test]
fn who_enters_by_an_upgrade_is_not_written_to() {
    let shop = Welcomed::open(&json!({ "how": "well" }));
    let admin = shop.kernel.admin();
    define_with(&admin, "next", "tags.hostile_version == '0.2.0'", message_through("webhook"));
    shop.kernel.settle();
    assert_eq!(size(&admin, "next"), Some(0));
    let next = shop.kernel.upload_newest("hostile/tag-model");
    admin.patch("/api/v1/installations/model", &json!({ "version": next })).is(200);
    shop.kernel.settle();
    wait_until("everybody is tagged by the new version", || size(&admin, "next") == Some(PEOPLE));
    shop.nothing_changed("upgraded");
    // Somebody who comes by an event of her own is written to.
    send(&shop.source, &[lives_in("new", "Rome", 0)]);
    shop.kernel.settle();
    all_delivered(&admin, PEOPLE as usize + 1);
    assert_eq!(arrivals(&shop.receiver)["new"].len(), 1);
}

/// Only removal takes values away, and it says first whom it touches: 409 with the numbers of people and audiences and a
/// token to go on with.
#[test]
fn removal_says_whom_it_touches_before_it_retracts() {
    let shop = Welcomed::open(&json!({ "how": "well" }));
    let admin = shop.kernel.admin();
    let refused = admin.delete("/api/v1/installations/model");
    assert_eq!(refused.status, 409, "{}", refused.text());
    let body = refused.is_some_problem();
    assert_eq!((&body["people"], &body["audiences"]), (&json!(PEOPLE), &json!(["oslo"])), "{body}");
    shop.nothing_changed("a removal that was not confirmed");
    let token = body["token"].as_str().unwrap();
    admin.delete(&format!("/api/v1/installations/model?confirm={}", kith_tests::encode(token))).is(204);
    shop.kernel.settle();
    wait_until("the values are retracted", || size(&admin, "oslo") == Some(0));
    assert_eq!(deliveries(&admin).len() as u64, PEOPLE, "a removal sends nothing");
}

/// The command line shows whom a removal touches, and where there is no terminal to ask on, it goes on only when told to.
#[test]
fn the_command_line_asks_before_it_removes() {
    let shop = Welcomed::open(&json!({ "how": "well" }));
    let remove = |flags: &[&str]| {
        let mut command = Command::new(kith());
        command.args(["--url", shop.kernel.url(), "--key", ADMIN_KEY, "plugin", "remove", "model"]).args(flags);
        command.output().unwrap()
    };
    let asked = remove(&[]);
    let said = String::from_utf8_lossy(&asked.stderr);
    assert_eq!(asked.status.code(), Some(2), "{said}");
    assert!(["100 people", "oslo", "--yes"].iter().all(|part| said.contains(part)), "{said}");
    shop.nothing_changed("a removal that was not confirmed");
    let removed = remove(&["--yes"]);
    assert!(removed.status.success(), "{}", String::from_utf8_lossy(&removed.stderr));
    wait_until("the values are retracted", || size(&shop.kernel.admin(), "oslo") == Some(0));
    assert_eq!(deliveries(&shop.kernel.admin()).len() as u64, PEOPLE, "a removal sends nothing");
}

/// One row that a model cannot take costs the 400 others of its batch nothing, whether the model refuses it or traps on it.
#[test]
fn all_but_the_bad_row_of_a_batch_get_their_tag() {
    for (how, code) in [("refuse-poison", "plugin.bad-input"), ("trap-on-poison", "trap")] {
        let kernel = TestKernel::start();
        let source = kernel.segment();
        let admin = kernel.admin();
        define(&admin, "oslo", "tags.hostile == 'Oslo'");
        let mut people: Vec<Value> = (0..400).map(|number| lives_in(&format!("u{number}"), "Oslo", 0)).collect();
        people.insert(137, identify("eve", "poison", json!({ "poison": "yes", "city": "Oslo" })));
        send(&source, &people);
        kernel.settle();
        // Installed afterwards, so that it sees all of them in one batch.
        kernel.install("hostile/tag-model", json!({ "name": "model", "config": { "how": how } }));
        kernel.settle();
        assert_eq!(size(&admin, "oslo"), Some(400), "{how}");
        assert_eq!(tag(&kernel, "user_id:eve", "hostile"), Value::Null, "{how}");
        let letters = letters(&admin, "computation");
        assert_eq!(letters.len(), 1, "{how}: {letters:?}");
        assert_eq!((&letters[0]["code"], &letters[0]["profiles"]), (&json!(code), &json!(1)), "{how}");
        assert_eq!(mode(&admin, "model"), "live", "{how}");
    }
}

/// A model that refuses everybody is held, and nobody is told that nobody has its tag: it is not known of anyone.
#[test]
fn a_model_that_refuses_everybody_is_held_and_nobody_counts_as_untagged() {
    let kernel = TestKernel::start();
    let source = kernel.segment();
    let admin = kernel.admin();
    let people: Vec<Value> = (0..40).map(|number| lives_in(&format!("u{number}"), "Oslo", 0)).collect();
    send(&source, &people);
    kernel.settle();
    kernel.install("hostile/tag-model", json!({ "name": "model", "config": { "how": "refuse" } }));
    wait_until("it is held", || mode(&admin, "model") == "quarantined");
    kernel.settle();
    let shown = admin.get("/api/v1/installations/model").is(200);
    assert!(shown.to_string().contains("it refused all "), "{shown}");
    let question = json!({ "condition": "tags.hostile == 'Oslo'" });
    let counted = admin.post("/api/v1/audiences/count", &question).is(200);
    assert_eq!((&counted["count"], &counted["pending"], &counted["exact"]), (&json!(0), &json!(40), &json!(false)));
}

/// A model that is transient for ever makes one dead letter with a count, not one for each event and minute.
#[test]
fn a_model_that_is_transient_for_ever_makes_one_letter() {
    let kernel = TestKernel::start();
    let source = kernel.segment();
    let admin = kernel.admin();
    kernel.install("hostile/tag-model", json!({ "name": "model", "config": { "how": "transient" } }));
    for number in 0..30 {
        send(&source, &[lives_in(&format!("u{}", number % 10), &format!("city {number}"), number)]);
        kernel.clock.advance_ms(90_000);
    }
    let first = wait_for("the failure is kept", || letters(&admin, "computation").into_iter().next());
    assert_eq!((&first["installation"], &first["code"]), (&json!("model"), &json!("plugin.transient")));
    for _ in 0..10 {
        kernel.clock.advance_ms(120_000);
        // An ordinary audience's event is computed behind whatever is repeated.
        send(&source, &[track("clock", "Tick", &format!("t{}", kith_now(&kernel)))]);
    }
    wait_until("the ticks are computed", || {
        let ticks = json!({ "condition": "events('Tick').size() == 10" });
        let counted = admin.post("/api/v1/audiences/count", &ticks).is(200);
        (&counted["count"], &counted["exact"]) == (&json!(1), &json!(true))
    });
    let after = letters(&admin, "computation");
    assert_eq!(after.len(), 1, "one letter for one installation and one cause: {}", after.len());
    assert!(after[0]["profiles"].as_u64().unwrap() >= 2, "with a count: {}", after[0]);
    assert_eq!(mode(&admin, "model"), "live", "trying later is no strike");
}

fn kith_now(kernel: &TestKernel) -> String {
    use kith_model::time::Clock as _;
    kernel.clock.now().to_string()
}

/// While a model is inside a long call, audiences that do not read it are computed, in its own workspace too.
#[test]
fn a_slow_model_delays_only_what_reads_it() {
    let kernel = TestKernel::start();
    let source = kernel.segment();
    let admin = kernel.admin();
    slow_model(&kernel, &admin);
    define(&admin, "seen", "events('Seen').size() > 0");
    define(&admin, "oslo", "tags.hostile == 'Oslo'");
    kernel.settle();
    let last = computed_during_a_call(&kernel, &source, &source, &admin);
    wait_until("the model answers", || audiences_of(&kernel, &last) == ["oslo"]);
}

/// While a model of one workspace is inside a long call, another workspace is computed.
#[test]
fn a_slow_model_delays_no_other_workspace() {
    let kernel = TestKernel::start();
    let other_key = kernel.second_workspace();
    let source = kernel.segment();
    slow_model(&kernel, &kernel.admin());
    let other = kernel.caller(&other_key);
    let other_source = kernel.source(&kernel.install_as(&other, "kith/segment", json!({})));
    define(&other, "seen", "events('Seen').size() > 0");
    wait_until("the audience is computed", || size(&other, "seen") == Some(0));
    let last = computed_during_a_call(&kernel, &source, &other_source, &other);
    wait_until("the model answers", || tag(&kernel, &last, "hostile") == "Oslo");
}

/// Wait until two events, one after the other, are in the audience `seen` while the model has not answered for somebody who
/// came before them. A machine that is busy with other things may answer in between, and so there are further turns; where
/// events wait for the model none of them succeeds. The person whom the model was asked about last.
fn computed_during_a_call(kernel: &TestKernel, of_model: &Source, of_events: &Source, caller: &Client) -> String {
    let (mut turn, mut seen) = (0, 0);
    wait_for("two events are computed while the model is inside a call", || {
        turn += 1;
        send(of_model, &[lives_in(&format!("ada{turn}"), "Oslo", turn)]);
        for _ in 0..2 {
            seen += 1;
            send(of_events, &[track(&format!("u{seen}"), "Seen", &format!("s{seen}"))]);
            wait_until("the event is computed", || size(caller, "seen") == Some(seen));
        }
        let person = format!("user_id:ada{turn}");
        (tag(kernel, &person, "hostile") == Value::Null).then_some(person)
    })
}

/// A model that takes about a second for each call and stays below its limit.
fn slow_model(kernel: &TestKernel, admin: &Client) {
    kernel.upload(admin, "hostile/tag-model");
    let body =
        json!({ "plugin": "hostile/tag-model", "name": "model", "config": { "how": "well", "burn_millions": 600 } });
    admin.post("/api/v1/installations", &body).is(201);
}

/// What `kith plugin undo` says of a digest of a plugin.
fn undo_by_hand(shop: &Welcomed, (plugin, digest): (&str, &str), flag: &str) -> String {
    let mut command = Command::new(kith());
    command.args(["--url", shop.kernel.url(), "--key", ADMIN_KEY, "plugin", "undo", plugin]);
    let output = command.args(["--digest", digest, flag]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What a connector read leaves the histories of all in one command, with what it alone stated; nobody is written to for it, and
/// the same may come again.
fn what_was_read_is_taken_back(shop: &Welcomed, read: &Value) {
    let admin = shop.kernel.admin();
    let [plugin, digest, source] =
        [&read["plugin"], &read["digest"], &read["events"][0]["source"]].map(|text| text.as_str().unwrap());
    let path = format!("/api/v1/plugins/{plugin}/digests/{digest}");
    let ranges = admin.get(&format!("{path}/written/ranges?limit=1")).is(200);
    assert_eq!((&ranges["items"], &ranges["next"]), (&read["events"], &Value::Null));
    admin.post(&format!("{path}/undo"), &json!({})).is_problem(409, "still-in-use");
    let shown = undo_by_hand(shop, (plugin, digest), "--dry-run");
    let told = [format!("{PEOPLE} events would leave"), format!("{PEOPLE} messages that left since")];
    assert!(told.iter().all(|told| shown.contains(told)), "{shown}");
    shop.nothing_changed("a dry run of events");

    switch(&admin, source, "disabled");
    undo_by_hand(shop, (plugin, digest), "--yes");
    let undone = || admin.get(&format!("{path}/written")).is(200)["undone"][0].clone();
    wait_until("the events are taken back", || undone()["state"] == "done");
    let all = json!({ "events": PEOPLE, "with_facts": PEOPLE, "agreeing": 0, "returned": 0 });
    assert_eq!(undone()["taken_back"], all);
    // Asked for again, it is told still what was taken back.
    let again = admin.post(&format!("{path}/undo"), &json!({})).is(202);
    assert_eq!(again[0]["taken_back"], all);
    wait_until("nothing is left to be taken back", || undone()["state"] == "done");
    assert_eq!(undone()["taken_back"], all);
    shop.kernel.settle();
    wait_until("the audience is empty", || size(&admin, "oslo") == Some(0));
    let left = || admin.get(&format!("{path}/written/events?limit=3")).is(200)["items"].as_array().unwrap().len();
    assert_eq!(left(), 0);
    assert_eq!(shop.kernel.profile("user_id:u7")["traits"]["city"], Value::Null);
    assert_eq!(deliveries(&admin).len() as u64, PEOPLE, "nobody was written to");
    undo_by_hand(shop, (plugin, digest), "--cancel");
    let log = admin.get("/api/v1/audit?action=plugin.undo-cancel").is(200);
    assert_eq!(log["items"], json!([]), "nothing was under way");

    switch(&admin, source, "live");
    send(&shop.source, &[lives_in("u7", "Oslo", 0)]);
    shop.kernel.settle();
    assert_eq!(left(), 1, "it is no repeat");
    wait_until("the tag is there again", || tag(&shop.kernel, "user_id:u7", "hostile") == "Oslo");
}

/// From a tag to the version that made it and the event behind it, from there back to everybody who has it; it is taken back in one
/// command, and nobody is written to for it, nor when the version comes back.
#[test]
fn what_a_version_wrote_is_found_and_taken_back() {
    let shop = Welcomed::open(&json!({ "how": "well" }));
    let admin = shop.kernel.admin();
    let person = shop.kernel.profile("user_id:u7")["id"].as_str().unwrap().to_owned();
    let origin = admin.get(&format!("/api/v1/profiles/{person}/provenance?tag=hostile")).is(200);
    assert_eq!((&origin["by"]["plugin"], &origin["by"]["version"]), (&json!("hostile/tag-model"), &json!("0.1.0")));
    assert_eq!((&origin["value"], &origin["inputs_are"]), (&json!("Oslo"), &json!("as_computed")), "{origin}");
    assert!(origin["inputs"].as_array().unwrap().iter().any(|input| input["value"] == "Oslo"), "{origin}");
    let event = &origin["event"];
    assert_eq!((&event["by"]["plugin"], &event["event"]["position"]), (&json!("kith/segment"), &origin["cause"]));
    assert_eq!(origin["set_off_by"], "event");

    let written = |of: &Value| {
        let [plugin, digest] = ["plugin", "digest"].map(|name| of["by"][name].as_str().unwrap());
        format!("/api/v1/plugins/{plugin}/digests/{digest}/written")
    };
    let read = admin.get(&written(event)).is(200);
    assert_eq!((&read["events"][0]["events"], &read["values"]), (&json!(PEOPLE), &json!([])), "{read}");
    let listed = admin.get(&format!("{}/events?limit=3", written(event))).is(200);
    assert_eq!(listed["items"].as_array().unwrap().len(), 3, "{listed}");
    let path = written(&origin);
    let wrote = admin.get(&path).is(200);
    assert_eq!((&wrote["values"][0]["people"]["hostile"], &wrote["exact"]), (&json!(PEOPLE), &json!(true)), "{wrote}");
    assert_eq!(wrote["messages"], json!({ "audiences": ["oslo"], "sent": PEOPLE }));
    let reader = shop.kernel.caller(&shop.kernel.key(&["plugins:admin"]));
    reader.get(&format!("{path}/values")).is_problem(403, "denied");

    let take_back = path.replace("/written", "/undo");
    admin.post(&take_back, &json!({})).is_problem(409, "still-in-use");
    switch(&admin, "model", "disabled");
    shop.nothing_changed("switched off");
    let digest = origin["by"]["digest"].as_str().unwrap();
    let undo = |flag: &str| undo_by_hand(&shop, ("hostile/tag-model", digest), flag);
    let shown = undo("--dry-run");
    assert!(["hostile", "100", "no message is taken back"].iter().all(|part| shown.contains(part)), "{shown}");
    shop.nothing_changed("a dry run");
    undo("--yes");
    wait_until("it is taken back", || admin.get(&path).is(200)["undone"][0]["state"] == "done");
    wait_until("the audience is empty", || size(&admin, "oslo") == Some(0));
    assert_eq!(tag(&shop.kernel, "user_id:u7", "hostile"), Value::Null);
    let log = admin.get("/api/v1/audit?action=plugin.undo").is(200);
    assert_eq!(log["items"].as_array().unwrap().len(), 1, "{log}");
    switch(&admin, "model", "live");
    wait_until("everybody is tagged again", || size(&admin, "oslo") == Some(PEOPLE));
    shop.nothing_changed("switched on again");
    what_was_read_is_taken_back(&shop, &read);

    // What is sensitive is withheld here as elsewhere.
    let entry = json!({ "sensitivity": "sensitive" }).to_string();
    admin.send("PUT", "/api/v1/dictionary/trait/city", &[("content-type", "application/json")], entry).is(200);
    let reader = shop.kernel.caller(&shop.kernel.key(&["profiles:read"]));
    let masked = |of: &str| reader.get(&format!("/api/v1/profiles/{person}/provenance?{of}")).is(200);
    let fact = masked("trait=city");
    assert_eq!((&fact["value"], &fact["withheld"]), (&Value::Null, &json!(["traits.city"])), "{fact}");
    let computed = masked("tag=hostile");
    let city = json!({ "name": "city", "expression": null, "value": null });
    assert!(computed["inputs"].as_array().unwrap().contains(&city), "{computed}");
    assert_eq!(computed["withheld"], json!(["inputs.city"]), "{computed}");
}
