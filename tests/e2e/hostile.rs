//! Guests that loop, eat memory, trap and lie: each ends as a typed failure, costs its own installation its place, and
//! nobody else anything.

use std::sync::atomic::{AtomicBool, Ordering};

use kith_tests::{TestKernel, pages, wait_for, wait_until};
use serde_json::{Value, json};

/// Little enough that a test does not wait, and more than any honest call needs.
fn limits() -> Value {
    json!({ "limits": { "cpu_ms": 300, "wall_ms": 5_000, "memory_bytes": 16 << 20, "log_bytes": 4_096 } })
}

#[test]
fn a_connector_that_misbehaves_is_a_typed_failure_and_then_quarantined() {
    let kernel = TestKernel::start();
    let admin = kernel.admin();
    kernel.install("hostile/connector", json!({ "name": "bad", "grants": limits() }));
    kernel.install("hostile/connector", json!({ "name": "twin", "grants": limits() }));
    let send = |source: &str, body: &str| admin.send("POST", &format!("/api/v1/sources/{source}/records"), &[], body);
    assert_eq!(send("bad", "ada").is(200)["accepted"], 1);
    for (body, code) in [("loop", "limit.cpu"), ("memory", "limit.memory")] {
        let problem = send("bad", body).is_problem(500, code);
        let message = problem["message"].as_str().unwrap();
        assert!(
            message.starts_with("the plugin failed: it passed the limit of "),
            "a few bytes are not too many: {message}"
        );
        assert!(!problem.to_string().contains("hostile::"), "no guest's inside is shown: {problem}");
    }
    assert_eq!(send("bad", "eve").is(200)["accepted"], 1, "two strikes, then a good answer: they are forgotten");
    for _ in 0..4 {
        send("bad", "trap").is_problem(500, "trap");
    }
    assert_eq!(send("bad", "eva").is(200)["accepted"], 1, "one request, however often it comes, is one strike");
    // While it serves others, what one sender's requests do to it is no strike.
    kernel.clock.advance_ms(601_000);
    for number in 0..3 {
        send("bad", &format!("trap-{number}")).is_problem(500, "trap");
    }
    let shown = wait_for("it is quarantined", || {
        let shown = admin.get("/api/v1/installations/bad").is(200);
        (shown["mode"] == "quarantined").then_some(shown)
    });
    assert!(shown["mode_reason"].as_str().unwrap().contains("the guest gives up"), "{shown}");
    let refused = send("bad", "ada");
    refused.is_problem(503, "source-not-live");
    assert!(refused.header("retry-after").parse::<u32>().unwrap() <= 300);
    assert_eq!(send("twin", "kim").is(200)["accepted"], 1, "another installation of the same plugin goes on");
    admin.patch("/api/v1/installations/bad", &json!({ "mode": "live" })).is(200);
    assert_eq!(send("bad", "bob").is(200)["accepted"], 1, "an admin switches it on again");
}

#[test]
fn others_are_served_while_a_guest_loops() {
    let kernel = TestKernel::start();
    let source = kernel.segment();
    let grants = json!({ "limits": { "cpu_ms": 2_000, "wall_ms": 20_000 } });
    kernel.install("hostile/connector", json!({ "name": "bad", "grants": grants }));
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let looping: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let answer = kernel.admin().send("POST", "/api/v1/sources/bad/records", &[], "loop");
                    ended.store(true, Ordering::SeqCst);
                    answer
                })
            })
            .collect();
        let mut meanwhile = 0;
        for number in 0..20 {
            let message = json!({ "type": "track", "event": "E", "userId": "ada", "messageId": format!("m{number}") });
            source.batch(&[message]);
            kernel.profile("user_id:ada");
            meanwhile += usize::from(!ended.load(Ordering::SeqCst));
        }
        assert!(meanwhile > 0, "nothing was answered before the loops ended");
        for answer in looping {
            answer.join().unwrap().is_problem(500, "limit.cpu");
        }
    });
    assert_eq!(kernel.events("user_id:ada").len(), 20);
}

#[test]
fn a_tag_model_that_misbehaves_is_set_aside_and_then_quarantined() {
    for (how, code) in
        [("loop", "limit.cpu"), ("memory", "limit.memory"), ("trap", "trap"), ("short", "invalid-output")]
    {
        let kernel = TestKernel::start();
        let admin = kernel.admin();
        let source = kernel.segment();
        kernel.install("kith/lifecycle", json!({}));
        let install = json!({ "name": "bad", "config": { "how": how }, "grants": limits() });
        kernel.install("hostile/tag-model", install);
        let mut visits = 0;
        let mut visit = || {
            // Of different people: what goes wrong over one person again and again is one strike.
            let user = ["ada", "bea", "cid"][visits % 3];
            visits += 1;
            source.batch(&[json!({ "type": "identify", "userId": user, "messageId": format!("{visits}"),
                "traits": { "city": format!("city {visits}") } })]);
            kernel.settle();
        };
        visit();
        let letter = wait_for(&format!("{how}: the failed computation is kept"), || {
            let letters = pages(&admin, "/api/v1/dead-letters", 50);
            letters.into_iter().find(|letter| letter["type"] == "computation")
        });
        assert_eq!((&letter["installation"], &letter["code"]), (&json!("bad"), &json!(code)), "{letter}");
        assert_eq!(letter["profiles"], 1);
        let ada = kernel.profile("user_id:ada");
        assert_eq!(ada["tags"]["lifecycle"]["value"], "new", "{how}: the other model goes on: {ada}");
        assert_eq!(ada["tags"].get("hostile"), None, "{how}: {ada}");
        visit();
        visit();
        wait_until(&format!("{how}: it is quarantined"), || {
            admin.get("/api/v1/installations/bad").is(200)["mode"] == "quarantined"
        });
        admin.patch("/api/v1/installations/bad", &json!({ "mode": "live", "config": { "how": "well" } })).is(200);
        visit();
        wait_until(&format!("{how}: what behaves again is run again"), || {
            kernel.profile("user_id:ada")["tags"]["hostile"]["value"] == format!("city {visits}")
        });
    }
}

/// A model could say what it saw only as a tag.
#[test]
fn what_a_tag_model_emits_is_an_event_of_the_person_and_of_its_version() {
    let kernel = TestKernel::start();
    let (admin, source) = (kernel.admin(), kernel.segment());
    let installed = kernel.install("hostile/tag-model", json!({ "name": "model", "config": { "how": "emit" } }));
    assert_eq!(installed["emits"], json!(["City Reached"]), "{installed}");
    // Whom a first computation finds is no news.
    kernel.settle();
    let visit = |number: usize, city: &str| {
        source.batch(&[json!({ "type": "identify", "userId": "ada", "messageId": format!("{number}"),
            "traits": { "city": city } })]);
        kernel.settle();
    };
    let emitted = || {
        let mut events = kernel.events("user_id:ada");
        events.retain(|event| event["name"] == "City Reached");
        events
    };
    for (number, city, count) in [(0, "Oslo", 1), (1, "Rome", 2), (2, "Oslo", 2), (3, "Bonn", 3)] {
        visit(number, city);
        wait_until(&format!("what is told of {city} has come"), || emitted().len() == count);
    }
    let newest = &emitted()[0];
    assert_eq!((&newest["source"], &newest["properties"]["city"]), (&json!("model"), &json!("Bonn")), "{newest}");
    let person = kernel.profile("user_id:ada")["id"].as_str().unwrap().to_owned();
    let origin = admin.get(&format!("/api/v1/profiles/{person}/provenance?event={}", newest["position"])).is(200);
    let by = &origin["by"];
    assert_eq!((&by["installation"], &by["version"]), (&json!("model"), &json!("0.1.0")), "{origin}");
    let digest = by["digest"].as_str().unwrap();
    let written = admin.get(&format!("/api/v1/plugins/hostile/tag-model/digests/{digest}/written")).is(200);
    assert_eq!((&written["events"][0]["source"], &written["events"][0]["events"]), (&json!("model"), &json!(3)));

    // What it does not declare, and more than a call may emit, is a fault that says so.
    for (number, how, code, said) in [
        (4, "emit-other", "invalid-output", "the event `Other` is not among those that `emits`"),
        (5, "emit-flood", "limit.events", "passed the limit of 4096 events"),
    ] {
        admin.patch("/api/v1/installations/model", &json!({ "mode": "live", "config": { "how": how } })).is(200);
        visit(number, &format!("city {number}"));
        let letter = wait_for(&format!("{how} is reported"), || {
            pages(&admin, "/api/v1/dead-letters", 50).into_iter().find(|letter| letter["code"] == code)
        });
        assert!(letter["message"].as_str().unwrap().contains(said), "{letter}");
    }
    assert_eq!(emitted().len(), 3, "nothing of it was said");

    // Its values are taken back, and never what it emitted.
    let foreseen = || {
        let path = format!("/api/v1/plugins/hostile/tag-model/digests/{digest}/undo?dry_run=true");
        admin.post(&path, &json!({})).is(200)
    };
    assert_eq!((&foreseen()[0]["installation"], &foreseen()[0]["taken_back"]), (&json!("model"), &Value::Null));
    let asked = admin.delete("/api/v1/installations/model").is_problem(409, "confirmation-required");
    let confirmed = format!("/api/v1/installations/model?confirm={}", asked["token"].as_str().unwrap());
    admin.delete(&confirmed).is(204);
    assert_eq!(foreseen(), json!([]));
}

/// A model that takes all its time for each call was asked about everybody it had, for minutes, also after it had been mended.
#[test]
fn a_model_that_is_stuck_is_given_up_as_soon_as_it_is_mended() {
    let kernel = TestKernel::start();
    let (admin, source) = (kernel.admin(), kernel.segment());
    kernel.install("hostile/tag-model", json!({ "name": "bad", "config": { "how": "loop" }, "grants": limits() }));
    let identify = |user: usize| {
        json!({ "type": "identify", "userId": format!("u{user}"), "messageId": format!("m{user}"),
            "traits": { "city": "Oslo" } })
    };
    source.batch(&(0..60).map(identify).collect::<Vec<_>>());
    let calls = || admin.get("/api/v1/installations/bad/usage").is(200)["calls"].as_u64().unwrap();
    wait_until("it is stuck", || calls() >= 2);
    admin.patch("/api/v1/installations/bad", &json!({ "mode": "live", "config": { "how": "well" } })).is(200);
    let before = calls();
    wait_until("it answers", || kernel.profile("user_id:u59")["tags"]["hostile"]["value"] == "Oslo");
    let after = calls();
    assert!(after - before <= 6, "{before} calls, then {after}");
}

#[test]
fn a_flood_of_log_lines_is_cut_and_seen_without_the_servers_log() {
    let kernel = TestKernel::start();
    let source = kernel.segment();
    let install = json!({ "name": "bad", "config": { "how": "flood" }, "grants": limits() });
    kernel.install("hostile/tag-model", install);
    source.batch(&[json!({ "type": "identify", "userId": "ada", "messageId": "1", "traits": { "city": "Oslo" } })]);
    kernel.settle();
    let letters = wait_for("the flood is kept", || {
        let letters = pages(&kernel.admin(), "/api/v1/dead-letters", 50);
        (!letters.is_empty()).then_some(letters)
    });
    assert_eq!(letters[0]["code"], "limit.host-calls", "what is too much for the log is cut, and no fault");
    let admin = kernel.admin();
    let usage = admin.get("/api/v1/installations/bad/usage").is(200);
    let figure = |name: &str| usage[name].as_u64().unwrap();
    assert!(figure("log_lines_cut") > 0 && figure("log_lines") > figure("log_lines_cut"), "{usage}");
    assert!(figure("calls") > 0 && figure("rows") > 0 && figure("memory_peak_bytes") > 0, "{usage}");
    assert!(usage["faults"]["plugin"].as_u64().unwrap() > 0, "{usage}");
    assert_eq!(usage["last_fault"]["code"], "limit.host-calls", "{usage}");
    assert!(usage["last_fault"]["message"].is_string(), "{usage}");
    let figures = admin.get("/metrics").text();
    let bad = "{installation=\"bad\",plugin=\"hostile/tag-model\"";
    for line in ["call_seconds", "faults_total", "log_lines_total"] {
        assert!(figures.contains(&format!("kith_installation_{line}{bad},")), "{figures}");
    }
    let latest = admin.get("/api/v1/installations/bad/logs?limit=2").is(200);
    let lines = latest["items"].as_array().unwrap();
    assert_eq!((lines.len(), &latest["gone"]), (2, &json!(0)), "{latest}");
    assert_eq!(lines[1]["number"].as_u64().unwrap() + 1, latest["next"].as_u64().unwrap());
    let path = format!("/api/v1/installations/bad/logs?from={}", latest["next"]);
    let after = admin.get(&path).is(200);
    assert_eq!((&after["items"], &after["next"]), (&json!([]), &latest["next"]), "{after}");
    wait_until("the reading is in the audit log", || {
        admin.get("/api/v1/audit?action=people.read").is(200).to_string().contains("installation.logs")
    });
    // What a plugin says may name people.
    let watcher = kernel.caller(&kernel.key(&["plugins:admin", "metrics:read"]));
    assert!(!watcher.get("/metrics").text().contains("kith_installation_"));
    let blind = kernel.caller(&kernel.key(&["plugins:admin"]));
    blind.get("/api/v1/installations/bad/logs").is_problem(403, "denied");
    blind.get("/api/v1/installations/bad/usage").is_problem(403, "denied");
    let masked = blind.get("/api/v1/installations/bad").is(200);
    assert!(!masked.to_string().contains("the last: "), "{masked}");
}

#[test]
fn bytes_that_are_no_plugin_are_refused_with_the_reason() {
    let kernel = TestKernel::start();
    let admin = kernel.admin();
    let upload = |bytes: &[u8]| admin.send("POST", "/api/v1/plugins", &[], bytes.to_vec());
    upload(b"").is_problem(400, "bad-component");
    upload(b"\0asm\x01\0\0\0").is_problem(400, "bad-component");
    let good = &kith_tests::component("kith/lifecycle").component;
    upload(&good[..good.len() / 2]).is_problem(400, "bad-component");
    let mut random = kith_tests::Random::new(3);
    for _ in 0..20 {
        let mut spoiled = good.clone();
        let place = usize::try_from(random.below(spoiled.len() as u64)).unwrap();
        spoiled[place] ^= 1 << random.below(8);
        let answer = upload(&spoiled);
        // A changed byte of code or of a text may still be a plugin; then it is another one under a taken version, or a new one.
        assert!(matches!(answer.status, 200 | 201 | 400 | 409), "{}: {}", answer.status, answer.text());
    }
    upload(&vec![0; (8 << 20) + 1]).is_problem(413, "too-large");
    assert_eq!(admin.get("/healthz").is(200)["status"], "ok");
}
