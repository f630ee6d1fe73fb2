//! Dead letters: nothing that was set aside is a dead end. What was refused is kept as it came and where it stood, and can be
//! found, counted, corrected, tried again or dismissed, one by one and many at once, over the API and the command line.

use std::process::{Command, Output};

use kith_tests::{TestKernel, kith, pages};
use serde_json::{Value, json};

fn run(kernel: &TestKernel, arguments: &[&str]) -> Output {
    let mut command = Command::new(kith());
    command.args(["--url", kernel.url(), "--key", kith_tests::ADMIN_KEY]).args(arguments);
    command.output().unwrap()
}

fn letters(kernel: &TestKernel) -> Vec<Value> {
    pages(&kernel.admin(), "/api/v1/dead-letters", 50)
}

fn of<'l>(letters: &'l [Value], code: &str) -> &'l Value {
    letters.iter().find(|letter| letter["code"] == code).unwrap_or_else(|| panic!("no {code}: {letters:?}"))
}

fn path(letter: &Value) -> String {
    format!("/api/v1/dead-letters/{}", letter["id"].as_str().unwrap())
}

const ORDERS: &str = r#"{"event":{"name":"Order"},"identifiers":{"user_id":"id"},"properties":["order"]}"#;

#[test]
fn a_refused_message_is_kept_as_it_came_and_taken_once_it_is_corrected() {
    let kernel = TestKernel::start();
    let admin = kernel.admin();
    let source = kernel.install("kith/segment", json!({ "name": "web" }));
    let sender = kith_tests::Client::with_write_key(kernel.url(), source["write_key"].as_str().unwrap());
    let nobody = r#"{"type":"track","event":"bad", "userId":"null","messageId":"m3"}"#;
    let nameless = r#"{"type":"track","event":"","userId":"a"}"#;
    let fine = r#"{"type":"track","event":"ok","userId":"a","messageId":"m2"}"#;
    let body = format!(r#"{{"batch":[{nameless},{fine},{nobody}],"context":{{"locale":"de"}}}}"#);
    let answer = sender.send("POST", "/v1/batch", &[], body).is(200);
    let places: Vec<&Value> = answer["rejected"].as_array().unwrap().iter().map(|part| &part["index"]).collect();
    assert_eq!(places, [0, 2], "the caller's own indexes: {answer}");
    let kept = letters(&kernel);
    let (refused, letter) = (of(&kept, "missing-event-name"), of(&kept, "missing-identifier"));
    assert_eq!(
        (&refused["raw"], &refused["place"], &refused["path"]),
        (&json!(nameless), &json!(0), &json!("/v1/batch"))
    );
    assert_eq!((&letter["raw"], &letter["place"], &letter["replayable"]), (&json!(nobody), &json!(2), &json!(true)));

    // Tried as it is it is refused again, and stays.
    let again = admin.post(&format!("{}/replay", path(letter)), &json!({})).is(200);
    assert_eq!((&again["replayed"], &again["code"]), (&json!(false), &json!("missing-identifier")), "{again}");
    let corrected = nobody.replace("\"null\"", "\"ada\"");
    let edited = admin.patch(&path(letter), &json!({ "raw": corrected })).is(200);
    assert_eq!((&edited["raw"], &edited["edited"]), (&json!(corrected), &json!(true)));
    let taken = admin.post(&format!("{}/replay", path(letter)), &json!({})).is(200);
    assert_eq!((&taken["replayed"], &taken["accepted"]), (&json!(true), &json!(1)), "{taken}");
    assert_eq!(letters(&kernel).len(), 1);
    admin.post(&format!("{}/replay", path(letter)), &json!({})).is_problem(404, "not-found");
    kernel.settle();
    let profile = admin.get("/api/v1/profiles?identifier=user_id:ada").is(200);
    let events = admin.get(&format!("/api/v1/profiles/{}/events", profile["id"].as_str().unwrap())).is(200);
    let event = &events["items"][0];
    assert_eq!(
        (&event["name"], &event["context"]["locale"]),
        (&json!("bad"), &json!("de")),
        "with its batch's context: {event}"
    );

    // Who may not read people sees neither record nor words, and cannot search in them; who may not ingest corrects nothing.
    let reader = kernel.caller(&kernel.key(&["deliveries:read", "deliveries:write"]));
    let masked = reader.get(&path(refused)).is(200);
    assert_eq!((&masked["raw"], &masked["message"]), (&Value::Null, &Value::Null));
    reader.get("/api/v1/dead-letters?text=ada").is_problem(403, "denied");
    reader.patch(&path(refused), &json!({ "raw": fine })).is_problem(403, "denied");
    kernel.caller(&kernel.key(&["audiences:read"])).get(&path(refused)).is_problem(403, "denied");
    reader.delete(&path(refused)).is(204);
    assert!(letters(&kernel).is_empty());
    reader.delete(&path(refused)).is_problem(404, "not-found");
}

#[test]
fn rows_of_a_file_are_taken_with_the_configuration_of_today() {
    let kernel = TestKernel::start();
    let admin = kernel.admin();
    let config: Value = serde_json::from_str(ORDERS).unwrap();
    kernel.install("kith/csv", json!({ "name": "shop", "config": config }));
    let file = "id,order,mail\n1,a,\n2,b,\n3,c,\nnull,d,ada@shop.io\n,e,\"bo@shop.io\"\n";
    for _ in 0..2 {
        let answer = admin.send("POST", "/api/v1/sources/shop/records", &[], file).is(200);
        assert_eq!(answer["rejected_count"], 2, "{answer}");
    }
    let kept = letters(&kernel);
    let seen: Vec<_> = kept.iter().map(|letter| (&letter["place"], &letter["raw"], &letter["times"])).collect();
    let expected = [(json!(5), json!("null,d,ada@shop.io")), (json!(6), json!(",e,\"bo@shop.io\""))];
    assert_eq!(seen.len(), 2, "a file that comes twice leaves no letter twice: {kept:?}");
    for (place, raw) in &expected {
        assert!(seen.contains(&(place, raw, &json!(2))), "{seen:?}");
    }
    let counts = admin.get("/api/v1/dead-letters/counts?source=shop").is(200);
    assert_eq!(
        (&counts["letters"], &counts["items"][0]["times"], &counts["whole"]),
        (&json!(2), &json!(2 * 2), &json!(true)),
        "{counts}"
    );

    let many = json!({ "source": "shop", "code": "missing-identifier", "limit": 1 });
    let step = admin.post("/api/v1/dead-letters/replay", &many).is(200);
    assert_eq!((&step["letters"], &step["refused"]), (&json!(1), &json!(1)), "{step}");
    assert!(step["next"].is_string());
    admin
        .patch(
            "/api/v1/installations/shop",
            &json!({ "config": { "identifiers": { "user_id": null, "email": "mail" } } }),
        )
        .is(200);
    let replayed = run(&kernel, &["dead-letters", "replay", "--source", "shop", "--json"]);
    assert!(replayed.status.success(), "{replayed:?}");
    let report: Value = serde_json::from_slice(&replayed.stdout).unwrap();
    assert_eq!((&report["accepted"], &report["refused"]), (&json!(2), &json!(0)), "{report}");
    assert!(letters(&kernel).is_empty());
    kernel.settle();
    for mail in ["ada@shop.io", "bo@shop.io"] {
        admin.get(&format!("/api/v1/profiles?identifier=email:{mail}")).is(200);
    }
}

#[test]
fn letters_are_found_paged_and_dismissed() {
    let kernel = TestKernel::start();
    let admin = kernel.admin();
    for name in ["one", "two"] {
        kernel.install("kith/csv", json!({ "name": name, "config": serde_json::from_str::<Value>(ORDERS).unwrap() }));
        let rows: String = (0..70).map(|row| format!("null,{name}-{row}\n")).collect();
        admin.send("POST", &format!("/api/v1/sources/{name}/records"), &[], format!("id,order\n{rows}")).is(200);
    }
    let found = |query: &str| {
        let page = admin.get(&format!("/api/v1/dead-letters?limit=500&{query}")).is(200);
        assert_eq!(page["next"], Value::Null, "{query}");
        page["items"].as_array().unwrap().len()
    };
    for (query, expected) in [
        ("source=one", 70),
        ("code=missing-identifier", 140),
        ("code=other", 0),
        ("type=record", 140),
        ("type=delivery", 0),
        ("text=TWO-6", 11),
        ("source=one&text=two", 0),
        ("since=2999-01-01T00:00:00Z", 0),
        ("until=2999-01-01T00:00:00Z", 140),
        ("until=1999-01-01T00:00:00Z", 0),
    ] {
        assert_eq!(found(query), expected, "{query}");
    }
    for bad in ["source=nobody", "type=x", "since=yesterday", "cursor=zz"] {
        admin.get(&format!("/api/v1/dead-letters?{bad}")).is_problem(400, "bad-input");
    }
    // A list that is cut says so and goes on where it ended; --all has all of them.
    let first = run(&kernel, &["dead-letters", "list", "--limit", "100"]);
    let shown = |output: &Output| {
        let [table, hint] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        (table.lines().filter(|line| line.contains("aside_")).count(), hint)
    };
    let (count, hint) = shown(&first);
    assert!(count == 100 && hint.contains("there are more: add --cursor"), "{count}: {hint}");
    let cursor = hint.split("--cursor ").nth(1).unwrap().split([',', '\n']).next().unwrap().to_owned();
    let rest = run(&kernel, &["dead-letters", "list", "--cursor", &cursor, "--limit", "100"]);
    assert_eq!(shown(&rest), (40, String::new()));
    let all = run(&kernel, &["delivery", "dead-letters", "--limit", "500"]);
    assert_eq!(String::from_utf8_lossy(&all.stdout).matches("aside_").count(), 140);

    admin.post("/api/v1/dead-letters/dismiss", &json!({})).is_problem(400, "bad-input");
    let step = admin.post("/api/v1/dead-letters/dismiss", &json!({ "source": "two", "limit": 50 })).is(200);
    assert_eq!(step["dismissed"], 50);
    let dismissed = run(&kernel, &["dead-letters", "dismiss", "--source", "two"]);
    assert!(String::from_utf8_lossy(&dismissed.stdout).contains("dismissed 20"), "{dismissed:?}");
    assert_eq!(
        (found("type=record"), admin.get("/api/v1/workspace").is(200)["totals"]["set_aside"].as_u64()),
        (70, Some(70))
    );

    // Of a source that is no more: nothing is used up, and another one may take it.
    let letter = letters(&kernel)[0].clone();
    admin.delete("/api/v1/installations/one").is(204);
    admin.post(&format!("{}/replay", path(&letter)), &json!({})).is_problem(409, "source-removed");
    assert_eq!(found("type=record"), 70);
    let raw = letter["raw"].as_str().unwrap().replace("null", "ada");
    admin.patch(&path(&letter), &json!({ "raw": raw })).is(200);
    let taken = admin.post(&format!("{}/replay?into=two", path(&letter)), &json!({})).is(200);
    assert_eq!((&taken["accepted"], found("type=record")), (&json!(1), 69), "{taken}");
}

#[test]
fn a_request_on_which_a_connector_panics_is_kept() {
    let kernel = TestKernel::start();
    let admin = kernel.admin();
    let source = kernel.install("hostile/connector", json!({ "name": "wild" }));
    let sender = kith_tests::Client::with_write_key(kernel.url(), source["write_key"].as_str().unwrap());
    for _ in 0..2 {
        sender.send("POST", "/v1/track", &[], "trap-me").is_problem(500, "trap");
    }
    let kept = letters(&kernel);
    let [letter] = kept.as_slice() else { panic!("{kept:?}") };
    let shown = ["code", "raw", "path", "times"].map(|key| letter[key].clone());
    assert_eq!(shown, [json!("trap"), json!("trap-me"), json!("/v1/track"), json!(2)]);
    let digest = "8548f0d645efe175d024637166d69a8d8e4d65face1b059db9abdb56deef4898";
    assert_eq!(admin.get(&path(letter)).is(200)["sha256"], digest);
    let blind = kernel.caller(&kernel.key(&["deliveries:read"]));
    let withheld = blind.get(&path(letter)).is(200);
    assert_eq!((&withheld["raw"], &withheld["sha256"]), (&Value::Null, &Value::Null), "{withheld}");
    admin.post(&format!("{}/replay", path(letter)), &json!({})).is_problem(503, "not-replayed");
    assert_eq!(admin.get("/api/v1/installations/wild").is(200)["mode"], "live", "who tries it again stops no source");
    admin.patch(&path(letter), &json!({ "raw": "ada" })).is(200);
    let taken = admin.post(&format!("{}/replay", path(letter)), &json!({})).is(200);
    assert_eq!((&taken["accepted"], letters(&kernel).len()), (&json!(1), 0), "{taken}");
}

#[test]
fn what_nobody_dealt_with_is_forgotten_after_ninety_days() {
    let kernel = TestKernel::start();
    let admin = kernel.admin();
    kernel.install("kith/csv", json!({ "name": "shop", "config": serde_json::from_str::<Value>(ORDERS).unwrap() }));
    let import = |file: &str| admin.send("POST", "/api/v1/sources/shop/records", &[], file.to_owned()).is(200);
    import("id,order\nnull,old\nnull,again\n");
    kernel.clock.advance_ms(60 * 86_400_000);
    import("id,order\nnull,again\nnull,new\n");
    kernel.clock.advance_ms(31 * 86_400_000);
    kith_tests::wait_until("the old one is forgotten", || letters(&kernel).len() == 2);
    let mut raws: Vec<String> =
        letters(&kernel).iter().map(|letter| letter["raw"].as_str().unwrap().to_owned()).collect();
    raws.sort();
    assert_eq!(raws, ["null,again", "null,new"], "it counts from when it last came");
    assert_eq!(admin.get("/api/v1/workspace").is(200)["totals"]["set_aside"], 2);
    kernel.clock.advance_ms(60 * 86_400_000);
    kith_tests::wait_until("all are forgotten", || letters(&kernel).is_empty());
}
