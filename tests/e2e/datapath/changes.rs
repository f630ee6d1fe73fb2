//! Changes of definitions while there are people, events and crashes: what is shown is right, or said not to be known yet.

use std::collections::BTreeSet;
use std::sync::Arc;

use kith_tests::{
    Client, Neighbour, Process, Random, Source, TestKernel, cases, component, settle, wait_for, wait_until,
};
use serde_json::{Value, json};

use super::stage::{define, everybody, redefine, send, size, track};

/// More people than one step of a first computation takes.
const MANY: usize = 20_000;

/// A count that says whether it is exact.
fn counted(admin: &Client, condition: &str) -> Value {
    admin.post("/api/v1/audiences/count", &json!({ "condition": condition })).is(200)
}

/// An audience that is gone takes nothing of its condition's counts with it, and one that shares its parts stays right.
#[test]
fn a_condition_is_counted_right_after_its_audience_is_deleted() {
    let kernel = TestKernel::start();
    let source = kernel.segment();
    let admin = kernel.admin();
    send(&source, &everybody(300, "Buy", "b"));
    send(&source, &[track("other", "Seen", "s")]);
    define(&admin, "buyers", "events('Buy').size() > 0");
    define(&admin, "double", "events('Buy').size() > 1");
    kernel.settle();
    assert_eq!(kernel.count("events('Buy').size() > 0"), 300);
    for gone in ["buyers", "double"] {
        admin.delete(&format!("/api/v1/audiences/{gone}")).is(204);
        kernel.settle();
        assert_eq!(kernel.count("events('Buy').size() > 0"), 300, "after `{gone}` was deleted");
        assert_eq!(kernel.count("events('Buy').size() == 0"), 1, "after `{gone}` was deleted");
    }
    define(&admin, "double", "events('Buy').size() > 1");
    send(&source, &everybody(10, "Buy", "again"));
    kernel.settle();
    assert_eq!((size(&admin, "double"), kernel.count("events('Buy').size() > 1")), (Some(10), 10));
}

/// An audience that is deleted and made again while its first deletion is still being worked off has everybody.
#[test]
fn an_audience_made_again_during_the_sweep_has_everybody() {
    let kernel = TestKernel::start();
    let source = kernel.segment();
    let admin = kernel.admin();
    send(&source, &everybody(MANY, "Buy", "b"));
    define(&admin, "buyers", "events('Buy').size() > 0");
    kernel.settle();
    for _ in 0..3 {
        admin.delete("/api/v1/audiences/buyers").is(204);
        define(&admin, "buyers", "events('Buy').size() > 0");
        kernel.settle();
        assert_eq!(size(&admin, "buyers"), Some(MANY as u64));
        let answer = counted(&admin, "events('Buy').size() > 0");
        assert_eq!((&answer["count"], &answer["exact"]), (&json!(MANY), &json!(true)), "{answer}");
    }
}

/// A server in a process of its own with a source; the source's write key.
fn serve_with_source(neighbour: &Arc<Neighbour>, folder: &std::path::Path) -> (Process, String) {
    let server = Process::serve_beside(neighbour, folder, &[]);
    let admin = server.admin();
    admin.send("POST", "/api/v1/plugins", &[], component("kith/segment").component.clone()).is(201);
    let installed = admin.post("/api/v1/installations", &json!({ "plugin": "kith/segment" })).is(201);
    (server, installed["write_key"].as_str().unwrap().to_owned())
}

fn sender(server: &Process, write_key: &str) -> Source {
    Source { client: Client::with_write_key(server.url(), write_key), write_key: write_key.to_owned() }
}

/// Events that come between the deletion of an audience and a second one like it count, also where the server is killed
/// before the second has been computed.
#[test]
fn what_came_while_an_audience_was_gone_counts_after_a_kill() {
    let (folder, neighbour) = (tempfile::tempdir().unwrap(), Arc::default());
    let (server, write_key) = serve_with_source(&neighbour, folder.path());
    let source = sender(&server, &write_key);
    send(&source, &everybody(2 * MANY, "Seen", "s"));
    send(&source, &everybody(100, "Buy", "b"));
    define(&server.admin(), "buyers", "events('Buy').size() > 0");
    settle(&server.admin());
    server.admin().delete("/api/v1/audiences/buyers").is(204);
    let late: Vec<Value> =
        (100..200).map(|number| track(&format!("u{number}"), "Buy", &format!("l{number}"))).collect();
    send(&source, &late);
    // They have passed by, and what the deletion left to do is still being worked off.
    wait_until("they are computed", || server.admin().get("/readyz").json()["behind"] == 0);
    define(&server.admin(), "buyers", "events('Buy').size() > 0");
    server.kill();
    let server = Process::serve_beside(&neighbour, folder.path(), &[]);
    settle(&server.admin());
    assert_eq!(counted(&server.admin(), "events('Buy', '30d').size() > 0")["count"], 200, "from history");
    assert_eq!(counted(&server.admin(), "events('Buy').size() > 0")["count"], 200, "from the index");
    assert_eq!(size(&server.admin(), "buyers"), Some(200));
    assert!(server.terminate().success());
}

/// A changed condition has no size, and says how far it is, until it is computed; the old size is never shown as the new
/// one's.
#[test]
fn a_changed_condition_has_no_size_until_it_is_computed() {
    let kernel = TestKernel::start();
    let source = kernel.segment();
    let admin = kernel.admin();
    for round in 0..3 {
        send(&source, &everybody(MANY / 2, "Seen", &format!("s{round}")));
    }
    define(&admin, "a", "events('Seen').size() > 0");
    let mut days = 30;
    // The answer to a change may be late, and find the change computed.
    wait_until("a change is answered before it is computed", || {
        redefine(&admin, "a", "events('Seen').size() > 0");
        kernel.settle();
        assert_eq!(size(&admin, "a"), Some(MANY as u64 / 2));
        let mut answer = redefine(&admin, "a", &format!("events('Never', '{days}d').size() > 0"));
        days += 1;
        let is_answered_before = answer["size"].is_null();
        while answer["size"].is_null() {
            assert!(answer["progress"].is_object(), "no size, and no progress either: {answer}");
            answer = admin.get("/api/v1/audiences/a").is(200);
        }
        assert_eq!(answer["size"], 0, "the first size shown is the new condition's: {answer}");
        is_answered_before
    });
    kernel.settle();
    assert_eq!(size(&admin, "a"), Some(0));
}

/// While a changed condition is computed, nobody who meets it is told that she does not.
#[test]
fn nobody_is_told_false_while_a_changed_condition_is_computed() {
    let kernel = TestKernel::start();
    let source = kernel.segment();
    let admin = kernel.admin();
    for round in 0..3 {
        send(&source, &everybody(MANY / 2, "Seen", &format!("s{round}")));
    }
    define(&admin, "a", "events('Seen').size() > 0");
    kernel.settle();
    let people: Vec<String> = (0..20)
        .map(|number| kernel.profile(&format!("user_id:u{}", number * 499))["id"].as_str().unwrap().to_owned())
        .collect();
    let mut days = 30;
    wait_until("everybody is asked about while the new condition is computed", || {
        redefine(&admin, "a", &format!("events('Seen', '{days}d').size() > 2"));
        days += 1;
        let mut asked_before = false;
        loop {
            let was_computed = size(&admin, "a").is_some();
            for person in &people {
                let explained = admin.get(&format!("/api/v1/audiences/a/explain?profile={person}")).is(200);
                assert_ne!(explained["explanation"]["truth"], false, "{person} meets it: {explained}");
            }
            if was_computed {
                return asked_before;
            }
            asked_before = true;
        }
    });
    kernel.settle();
    assert_eq!(size(&admin, "a"), Some(MANY as u64 / 2));
}

/// Forty audiences whose conditions are changed four times in a row are all computed in the end: no first computation is lost
/// on the way.
#[test]
fn forty_audiences_changed_four_times_in_a_row_are_computed() {
    let kernel = TestKernel::start();
    let source = kernel.segment();
    let admin = kernel.admin();
    send(&source, &everybody(200, "Seen", "s"));
    for number in 0..40 {
        define(&admin, &format!("a{number}"), &format!("events('Seen', '{}d').size() > 0", number + 1));
    }
    kernel.settle();
    for round in 0..cases(15) {
        for turn in 0..4 {
            let days = 50 + (round * 4 + turn) % 300;
            redefine(
                &admin,
                &format!("a{}", (round * 4 + turn) % 40),
                &format!("events('Seen', '{days}d').size() > 0"),
            );
        }
        // Ends only when the backlog does.
        kernel.settle();
    }
    for number in 0..40 {
        assert_eq!(size(&admin, &format!("a{number}")), Some(200), "a{number}");
    }
}

/// Audiences defined, changed and deleted at random while events come and first computations run, with restarts between: in
/// the end each size, each count from the index and the count from history are the same number.
#[test]
fn changes_during_first_computations_and_restarts_leave_no_wrong_count() {
    for seed in 0..cases(2) {
        let mut kernel = TestKernel::start();
        let mut source = kernel.segment();
        let mut random = Random::new(100 + seed);
        // So many that a first computation takes more than one step, and can be interrupted between two.
        send(&source, &everybody(MANY, "Seen", "s"));
        let mut defined: BTreeSet<u64> = BTreeSet::new();
        let conditions = ["events('Seen').size() > 1", "events('Buy').size() > 0", "events('Buy', '40d').size() == 0"];
        let mut number = 0;
        for _ in 0..20 {
            let chosen = random.below(3);
            let (name, condition) = (format!("a{chosen}"), conditions[usize::try_from(chosen).unwrap()]);
            if defined.remove(&chosen) {
                kernel.admin().delete(&format!("/api/v1/audiences/{name}")).is(204);
            } else {
                define(&kernel.admin(), &name, condition);
                defined.insert(chosen);
            }
            let events: Vec<Value> = (0..20)
                .map(|_| {
                    number += 1;
                    let event = if random.below(2) == 0 { "Buy" } else { "Seen" };
                    track(&format!("u{}", random.below(MANY as u64)), event, &format!("e{number}"))
                })
                .collect();
            send(&source, &events);
            if random.below(3) == 0 {
                kernel.restart();
                source = Source { client: Client::with_write_key(kernel.url(), &source.write_key), ..source };
            }
            if random.below(4) == 0 {
                kernel.settle();
            }
        }
        kernel.settle();
        let untracked = [
            "events('Seen', '399d').size() > 1",
            "events('Buy', '399d').size() > 0",
            "events('Buy', '399d').size() == 0",
        ];
        for (chosen, condition) in (0_u64..).zip(conditions) {
            let from_history = kernel.count(untracked[usize::try_from(chosen).unwrap()]);
            assert_eq!(kernel.count(condition), from_history, "seed {seed}: {condition}");
            if defined.contains(&chosen) {
                assert_eq!(
                    size(&kernel.admin(), &format!("a{chosen}")),
                    Some(from_history),
                    "seed {seed}: {condition}"
                );
            }
        }
    }
}

/// A count that calls itself exact is the right number at every moment of a refit, whose values are the same as before.
#[test]
fn a_count_during_a_refit_is_right_or_says_that_it_is_not_exact() {
    const OSLO: u64 = MANY as u64 / 4;
    let kernel = TestKernel::start();
    let source = kernel.segment();
    let admin = kernel.admin();
    kernel.install("hostile/tag-model", json!({ "name": "model", "config": { "how": "well" } }));
    let people: Vec<Value> = (0..MANY)
        .map(|number| {
            let city = if number % 4 == 0 { "Oslo" } else { "Rome" };
            super::stage::identify(&format!("u{number}"), &format!("i{number}"), json!({ "city": city }))
        })
        .collect();
    send(&source, &people);
    kernel.settle();
    kernel.fit("model");
    kernel.settle();
    assert_eq!(kernel.count("tags.hostile == 'Oslo'"), OSLO);
    for _ in 0..3 {
        let begun = admin.post("/api/v1/installations/model/fit", &json!({})).is(202);
        let mut wrong = Vec::new();
        wait_for("the fit is in use and computed", || {
            // Counted all the while, so that no state between the old values and the new ones is missed.
            for _ in 0..30 {
                let answer = counted(&admin, "tags.hostile == 'Oslo'");
                if answer["exact"] == true && answer["count"] != OSLO {
                    wrong.push(answer);
                }
            }
            let fits = admin.get("/api/v1/installations/model/fits").is(200);
            let in_use = fits["items"].as_array().unwrap().iter().find(|fit| fit["in_use"] == true)?.clone();
            let ready = admin.get("/readyz").json();
            (in_use["version"] == begun["version"] && ready["behind"] == 0 && ready["backlog"] == 0).then_some(())
        });
        assert!(wrong.is_empty(), "wrong and exact: {wrong:?}");
    }
    assert_eq!(kernel.count("tags.hostile == 'Oslo'"), OSLO);
}
