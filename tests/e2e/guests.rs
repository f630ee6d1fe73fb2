//! What plugins take of the machine: many calls at once, calls that wait for peers that never answer, memory, and the journal.
//! Whoever is not the culprit goes on.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::channel;

use kith_tests::{Answer, Client, Neighbour, Process, Receiver, TestKernel, component, repacked, wait_for, wait_until};
use serde_json::{Value, json};

/// Small, so that it is not the host's memory that bounds how many calls are under way.
fn grants(receiver: &Receiver) -> Value {
    let limits = json!({ "cpu_ms": 300, "memory_bytes": 4 << 20, "output_bytes": 1 << 20 });
    json!({ "http": [receiver.host()], "limits": limits })
}

fn records(source: &str) -> String {
    format!("/api/v1/sources/{source}/records")
}

/// Two installations whose peers do not answer held every thread but none, and whoever came next waited for half a minute.
#[test]
fn mute_peers_hold_nobody_elses_calls() {
    let kernel = TestKernel::start();
    let other = kernel.second_workspace();
    let (admin, other, receiver) = (kernel.admin(), kernel.caller(&other), Receiver::start());
    for name in ["one", "two"] {
        kernel.install("hostile/connector", json!({ "name": name, "grants": grants(&receiver) }));
    }
    kernel.install_as(&other, "hostile/connector", json!({ "name": "neighbour", "grants": grants(&receiver) }));
    receiver.hold();
    let body = format!("hold 0 http://{}/", receiver.host());
    let ended = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let held: Vec<_> = (0..20)
            .map(|number| {
                let (admin, body, ended) = (&admin, &body, &ended);
                scope.spawn(move || {
                    let source = if number % 2 == 0 { "one" } else { "two" };
                    let answer = admin.send("POST", &records(source), &[], body.as_str());
                    ended.fetch_add(1, Ordering::SeqCst);
                    answer
                })
            })
            .collect();
        wait_until("all of them wait for the peer", || receiver.arrived().len() == 20);
        for number in 0..10 {
            assert_eq!(other.send("POST", &records("neighbour"), &[], format!("n{number}")).is(200)["accepted"], 1);
        }
        assert_eq!(admin.send("POST", &records("one"), &[], "ada").is(200)["accepted"], 1, "they compute as well");
        assert_eq!(ended.load(Ordering::SeqCst), 0, "all this while the peer was silent");
        receiver.release();
        held.into_iter().for_each(|answer| taken(&answer.join().unwrap()));
    });
}

/// All of them tell of the same record, so that one is taken and the others are repeats.
fn taken(answer: &Answer) {
    let counts = answer.is(200);
    assert_eq!(counts["accepted"].as_u64().unwrap() + counts["duplicate"].as_u64().unwrap(), 1, "{counts}");
}

/// The calls of one installation were bounded in nothing.
#[test]
fn an_installation_with_too_many_calls_is_told_which_budget_ended() {
    let (kernel, receiver) = (TestKernel::start(), Receiver::start());
    let admin = kernel.admin();
    kernel.install("hostile/connector", json!({ "name": "one", "grants": grants(&receiver) }));
    receiver.hold();
    let body = format!("hold 0 http://{}/", receiver.host());
    let (answered, answers) = channel();
    std::thread::scope(|scope| {
        for _ in 0..90 {
            let (admin, body, answered) = (&admin, &body, answered.clone());
            scope.spawn(move || drop(answered.send(admin.send("POST", &records("one"), &[], body.as_str()))));
        }
        let all: Vec<_> = answers.iter().take(74).collect();
        // Sixteen are under way, and of those beyond some found no place and some waited too long for one.
        for refused in &all {
            let problem = refused.is_problem(429, "budget-exhausted");
            let budget = problem["budget"].as_str().unwrap();
            assert!(["guest-calls-waiting", "guest-calls"].contains(&budget), "{problem}");
            assert!(!refused.header("retry-after").is_empty());
        }
        let named = |name: &str| all.iter().filter(|refused| refused.json()["budget"] == name).count();
        assert!(named("guest-calls-waiting") > 0 && named("guest-calls") > 0, "at once, and after a while");
        assert_eq!(receiver.arrived().len(), 16);
        receiver.release();
        answers.iter().take(16).for_each(|answer| taken(&answer));
    });
}

/// A burst of 600 endless loops at one source took 37 seconds of everybody's time.
#[test]
fn a_burst_of_loops_costs_a_neighbour_no_request() {
    let kernel = TestKernel::start();
    let other = kernel.second_workspace();
    let other = kernel.caller(&other);
    let installed = kernel.install_as(&other, "kith/segment", json!({}));
    let source = kernel.source(&installed);
    let grants = json!({ "limits": { "cpu_ms": 300, "wall_ms": 20_000, "memory_bytes": 4 << 20 } });
    kernel.install("hostile/connector", json!({ "name": "bad", "grants": grants }));
    let (admin, looping) = (kernel.admin(), AtomicUsize::new(600));
    // One that has served somebody is not stopped for what one sender makes it do.
    admin.send("POST", &records("bad"), &[], "ada").is(200);
    std::thread::scope(|scope| {
        for number in 0..600 {
            let (admin, looping) = (&admin, &looping);
            scope.spawn(move || {
                let answer = admin.send("POST", &records("bad"), &[], format!("loop-{number}"));
                looping.fetch_sub(1, Ordering::SeqCst);
                assert!(matches!(answer.status, 429 | 500 | 503), "{}: {}", answer.status, answer.text());
            });
        }
        for number in 0..10 {
            let message = json!({ "type": "track", "event": "E", "userId": "ada", "messageId": format!("m{number}") });
            source.client.post("/v1/batch", &json!({ "batch": [message] })).is(200);
        }
        assert!(looping.load(Ordering::SeqCst) > 0, "all were answered before the loops ended");
    });
}

/// 150 calls that each took 55 MiB, within the limit of one call, ended the process for want of memory.
#[test]
fn greedy_calls_stay_within_the_hosts_memory() {
    /// Of the client's side of 40 connections, of the store and of what the allocator keeps.
    const SLACK: u64 = 64 << 20;
    let (folder, receiver) = (tempfile::tempdir().unwrap(), Receiver::start());
    let flags = ["--allow-loopback", "--allow-plain-http", "--guest-memory", "256"];
    let neighbour = Arc::new(Neighbour::through("hostile/connector"));
    let server = Process::serve_beside(&neighbour, folder.path(), &flags);
    let admin = server.admin();
    admin.send("POST", "/api/v1/plugins", &[], component("hostile/connector").component.clone()).is(201);
    let grants = json!({ "http": [receiver.host()] });
    let install = json!({ "plugin": "hostile/connector", "name": "bad", "grants": grants });
    admin.post("/api/v1/installations", &install).is(201);
    admin.send("POST", &records("bad"), &[], "ada").is(200);
    let (before, most) = (server.resident_bytes(), AtomicU64::new(0));
    receiver.hold();
    let body = format!("hold 55 http://{}/", receiver.host());
    let refused = std::thread::scope(|scope| {
        let calls: Vec<_> =
            (0..40).map(|_| scope.spawn(|| admin.send("POST", &records("bad"), &[], body.as_str()))).collect();
        wait_until("whoever does not get a share is told so", || {
            most.fetch_max(server.resident_bytes(), Ordering::SeqCst);
            calls.iter().any(|call| call.is_finished())
        });
        receiver.release();
        wait_until("all are answered", || {
            most.fetch_max(server.resident_bytes(), Ordering::SeqCst);
            calls.iter().all(|call| call.is_finished())
        });
        let answers = calls.into_iter().map(|call| call.join().unwrap());
        let refused = answers.filter(|answer| answer.status != 200).map(|answer| {
            let problem = answer.is_problem(429, "budget-exhausted");
            assert_eq!((&problem["budget"], &problem["limit"]), (&json!("host-guest-memory"), &json!(256 << 20)));
        });
        refused.count()
    });
    assert!((1..40).contains(&refused), "{refused}");
    let grown = most.into_inner().saturating_sub(before);
    assert!(grown >= 55 << 20, "the calls that ran took their memory: {grown}");
    assert!(grown <= (256 << 20) + SLACK, "{} MiB", grown >> 20);
    assert_eq!(admin.send("POST", &records("bad"), &[], "eve").is(200)["accepted"], 1);
    assert!(server.terminate().success());
}

/// The bytes below a folder.
pub(super) fn bytes_below(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => bytes_below(&entry.path()),
            Ok(metadata) => metadata.len(),
            // A file of the store's that it has just put away.
            Err(_) => 0,
        })
        .sum()
}

/// Deletions needed no grant, and what was written again and again counted once: one call wrote 468 MiB of journal.
#[test]
fn a_plugins_state_costs_the_journal_no_more_than_is_granted() {
    let kernel = TestKernel::start();
    let admin = kernel.admin();
    kernel.install("hostile/connector", json!({ "name": "without" }));
    kernel.install("hostile/connector", json!({ "name": "with", "grants": { "kv_bytes": 1 << 20 } }));
    kernel.install("hostile/connector", json!({ "name": "much", "grants": { "kv_bytes": 16 << 20 } }));
    let wrote = |admin: &Client, source: &str, body: &str| {
        let before = bytes_below(&kernel.folder().join("store"));
        admin.send("POST", &records(source), &[], body).is(200);
        let event = kernel.events("user_id:writer").into_iter().next().unwrap();
        let times = event["name"].as_str().unwrap().trim_start_matches("Wrote ").parse::<u64>().unwrap();
        (times, bytes_below(&kernel.folder().join("store")).saturating_sub(before))
    };
    for body in ["set 2000 1000", "delete 2000 250", "delete 2000 3000"] {
        let (times, bytes) = wrote(&admin, "without", body);
        assert_eq!(times, 0, "{body}");
        assert!(bytes < 1 << 20, "{body}: {bytes}");
    }
    for (source, most_times, most_bytes) in [("with", 17, 4 << 20), ("much", 280, 64 << 20)] {
        let (times, bytes) = wrote(&admin, source, "set 4000 60000");
        assert!((1..=most_times).contains(&times), "{source}: {times}");
        assert!(bytes < most_bytes, "{source}: {bytes}");
    }
}

/// Three strikes switched a source off until an admin came, whoever made them.
#[test]
fn a_stopped_source_comes_back_by_itself_and_one_sender_stops_it_for_nobody() {
    let mut kernel = TestKernel::start();
    kernel.install("hostile/connector", json!({ "name": "shop" }));
    let send = |kernel: &TestKernel, body: &str| kernel.admin().send("POST", &records("shop"), &[], body);
    let shown = |kernel: &TestKernel| kernel.admin().get("/api/v1/installations/shop").is(200);
    let is = |kernel: &TestKernel, mode: &str| wait_until(mode, || shown(kernel)["mode"] == mode);
    send(&kernel, "ada").is(200);
    for number in 0..20 {
        send(&kernel, &format!("trap-{number}")).is_problem(500, "trap");
    }
    assert_eq!(send(&kernel, "bob").is(200)["accepted"], 1, "it serves others, so that it goes on");
    kernel.clock.advance_ms(601_000);
    for number in 0..3 {
        send(&kernel, &format!("trap-{number}")).is_problem(500, "trap");
    }
    is(&kernel, "quarantined");
    send(&kernel, "cid").is_problem(503, "source-not-live");
    let activity = shown(&kernel)["activity"].clone();
    assert_eq!(activity["next_trial_at"], "2026-11-21T10:11:01.000Z", "{activity}");
    kernel.clock.advance_ms(60_000);
    send(&kernel, "trap-again").is_problem(500, "trap");
    send(&kernel, "cid").is_problem(503, "source-not-live");
    assert_eq!(shown(&kernel)["activity"]["next_trial_at"], "2026-11-21T10:13:01.000Z", "twice as long");
    kernel.restart();
    assert_eq!(shown(&kernel)["mode"], "quarantined");
    kernel.clock.advance_ms(120_000);
    assert_eq!(send(&kernel, "cid").is(200)["accepted"], 1, "the trial is a request like any other");
    is(&kernel, "live");
    assert_eq!(send(&kernel, "dan").is(200)["accepted"], 1);
    let audit = kernel.admin().get("/api/v1/audit?limit=50").is(200);
    let entry = audit["items"].as_array().unwrap().iter().find(|entry| entry["action"] == "installation.recover");
    assert_eq!(entry.expect("it is audited")["actor"], "kernel", "{audit}");
}

/// An upgrade that fails took its source with it, although the version before had served.
#[test]
fn the_version_before_serves_again_where_one_is_stopped_for_its_faults() {
    let kernel = TestKernel::start();
    let admin = kernel.admin();
    kernel.install("hostile/connector", json!({ "name": "shop" }));
    let send = |body: &str| admin.send("POST", &records("shop"), &[], body.to_owned());
    let shown = || admin.get("/api/v1/installations/shop").is(200);
    let fail = || (0..3).for_each(|number| drop(send(&format!("trap-{number}")).is_problem(500, "trap")));
    let next = "0.2.0";
    let later = repacked(component("hostile/connector"), |manifest| manifest.replacen("0.1.0", next, 1));
    admin.send("POST", "/api/v1/plugins", &[], later).is(201);
    let upgraded = admin.patch("/api/v1/installations/shop", &json!({ "version": next })).is(200);
    assert_eq!((&upgraded["version"], &upgraded["falls_back_to"]), (&json!(next), &json!("0.1.0")), "{upgraded}");
    fail();
    wait_until("the version before serves", || shown()["version"] == "0.1.0");
    let back = shown();
    assert_eq!((&back["mode"], &back["activity"]["state"]), (&json!("live"), &json!("running")), "{back}");
    assert!(back["stopped_versions"][next].as_str().unwrap().contains("the guest gives up"), "{back}");
    assert_eq!(back["falls_back_to"], Value::Null, "{back}");
    assert_eq!(send("ada").is(200)["accepted"], 1);
    let audit = admin.get("/api/v1/audit?action=installation.fall-back").is(200);
    let noted = &audit["items"][0];
    assert_eq!((&noted["actor"], &noted["after"]["version"]), (&json!("kernel"), &json!("0.1.0")), "{audit}");
    assert_eq!(noted["before"]["version"], json!(next), "{audit}");
    // Where that fails too there is nothing before it; and to the other nothing leads but somebody's wish.
    kernel.clock.advance_ms(601_000);
    fail();
    wait_until("it is quarantined", || shown()["mode"] == "quarantined");
    assert_eq!(shown()["version"], "0.1.0");
}

#[test]
fn what_an_admin_switched_off_is_never_tried() {
    let kernel = TestKernel::start();
    let admin = kernel.admin();
    kernel.install("hostile/connector", json!({ "name": "shop" }));
    for number in 0..3 {
        admin.send("POST", &records("shop"), &[], format!("trap-{number}")).is_problem(500, "trap");
    }
    wait_until("it is quarantined", || admin.get("/api/v1/installations/shop").is(200)["mode"] == "quarantined");
    let shown = admin.patch("/api/v1/installations/shop", &json!({ "mode": "disabled" })).is(200);
    assert_eq!(shown["activity"].get("next_trial_at"), None, "{shown}");
    kernel.clock.advance_ms(7_200_000);
    admin.send("POST", &records("shop"), &[], "ada").is_problem(503, "source-not-live");
    assert_eq!(admin.get("/api/v1/installations/shop").is(200)["mode"], "disabled");
}

/// A tag model that is stopped comes back the same way, with nobody asking.
#[test]
fn a_stopped_model_is_tried_again_and_comes_back() {
    let kernel = TestKernel::start();
    let (admin, source) = (kernel.admin(), kernel.segment());
    kernel.install("hostile/tag-model", json!({ "name": "bad", "config": { "how": "trap" } }));
    let visit = |number: usize| {
        let traits = json!({ "city": format!("city {number}") });
        let user = ["ada", "bea", "cid"][number % 3];
        let message = json!({ "type": "identify", "userId": user, "messageId": format!("{number}"), "traits": traits });
        source.batch(&[message]);
        kernel.settle();
    };
    (0..3).for_each(visit);
    let stopped = |what: &str| {
        wait_for(what, || {
            let shown = admin.get("/api/v1/installations/bad").is(200);
            let next = shown["activity"]["next_trial_at"].as_str().map(str::to_owned);
            next.filter(|_| shown["mode"] == "quarantined")
        })
    };
    let first = stopped("it is quarantined");
    kernel.clock.advance_ms(60_000);
    visit(3);
    wait_until("its trial ends in a fault", || stopped("it is quarantined again") > first);
    assert_eq!(stopped("it waits twice as long"), "2026-11-21T10:03:00.000Z");
}

/// One that answers most people well and fails on many whom it answered before: no call tells whether it may run again.
#[test]
fn a_model_that_loses_many_people_is_tried_on_these_again() {
    let kernel = TestKernel::start();
    let (admin, source) = (kernel.admin(), kernel.segment());
    kernel.install("hostile/tag-model", json!({ "name": "model", "config": { "how": "well" } }));
    let person = |number: usize| {
        let mut traits = json!({ "city": "Oslo" });
        if number < 3 {
            traits["poison"] = json!("yes");
        }
        json!({ "type": "identify", "userId": format!("u{number}"), "messageId": format!("{number}"), "traits": traits })
    };
    source.batch(&(0..9).map(person).collect::<Vec<_>>());
    kernel.settle();
    let count = || admin.post("/api/v1/audiences/count", &json!({ "condition": "tags.hostile == 'Oslo'" })).is(200);
    wait_until("everybody has a tag", || (&count()["count"], &count()["exact"]) == (&json!(9), &json!(true)));
    // No other version to fall back to: the configuration is an admin's.
    admin.patch("/api/v1/installations/model", &json!({ "config": { "how": "trap-on-poison" } })).is(200);
    let stopped = |next: &str| {
        wait_until(&format!("it is stopped and tried again at {next}"), || {
            let shown = admin.get("/api/v1/installations/model").is(200);
            shown["mode"] == "quarantined" && shown["activity"]["next_trial_at"] == next
        });
        let shown = admin.get("/api/v1/installations/model").is(200);
        assert!(shown["activity"]["why"].as_str().unwrap().starts_with("it failed on 3 of 9 people"), "{shown}");
        assert_eq!(count()["count"], 9, "the values of before count");
    };
    stopped("2026-11-21T10:01:00.000Z");
    kernel.clock.advance_ms(60_000);
    stopped("2026-11-21T10:03:00.000Z");
    // What it cannot take is gone from two of them.
    source.batch(&[0, 1].map(|number| {
        json!({ "type": "identify", "userId": format!("u{number}"), "messageId": format!("mended-{number}"),
            "traits": { "poison": null } })
    }));
    kernel.clock.advance_ms(120_000);
    wait_until("it runs again", || admin.get("/api/v1/installations/model").is(200)["mode"] == "live");
    let audit = admin.get("/api/v1/audit?action=installation.recover").is(200);
    assert_eq!(audit["items"][0]["actor"], "kernel", "{audit}");
}
