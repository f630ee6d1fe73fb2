//! No work is unbounded and no failure takes a neighbour along: large passes, large batches, bad identifiers, greedy guests,
//! ever new names.

use std::time::{Duration, Instant};

use kith_tests::{Client, Source, TestKernel, wait_for, wait_until};
use serde_json::{Value, json};

use super::stage::{define, everybody, letters, mode, send, size, track};

/// What 36 MiB of people's rows are made of: more than one unit of the store takes.
const LARGE_PEOPLE: usize = 6_000;
const LARGE_NOTE_BYTES: usize = 6_000;

fn noted(number: usize, bytes: usize, id: &str) -> Value {
    let mut message = track(&format!("u{number}"), "Cart Updated", id);
    // Each begins with its id, so that no two are the same text.
    message["properties"] = json!({ "note": format!("{id:x<bytes$}") });
    message
}

/// Everybody puts a long note into the cart.
fn fill(source: &Source, people: usize, bytes: usize) {
    for begin in (0..people).step_by(500) {
        let numbers = begin..people.min(begin + 500);
        let part: Vec<Value> = numbers.map(|number| noted(number, bytes, &format!("n{number}"))).collect();
        send(source, &part);
    }
}

/// An audience that makes the kernel keep a long text for everybody is computed for all of 36 MiB, and whatever comes after
/// it is computed too, also after a restart.
#[test]
fn a_first_computation_larger_than_a_unit_ends() {
    let mut kernel = TestKernel::start();
    let source = kernel.segment();
    fill(&source, LARGE_PEOPLE, LARGE_NOTE_BYTES);
    define(&kernel.admin(), "notes", "events('Cart Updated').last().note == 'hello'");
    define(&kernel.admin(), "pings", "events('Ping').size() > 0");
    kernel.settle();
    assert_eq!((size(&kernel.admin(), "notes"), size(&kernel.admin(), "pings")), (Some(0), Some(0)));
    send(&source, &[track("u0", "Ping", "p0")]);
    kernel.settle();
    assert_eq!(size(&kernel.admin(), "pings"), Some(1));
    kernel.restart();
    let source = Source { client: Client::with_write_key(kernel.url(), &source.write_key), ..source };
    send(&source, &[track("u1", "Ping", "p1")]);
    kernel.settle();
    assert_eq!(size(&kernel.admin(), "pings"), Some(2));
}

/// One batch of small events that touches 4,500 people with 9 KB of state each is one piece of work of 40 MB, and is
/// computed.
#[test]
fn a_live_pass_over_more_rows_than_a_unit_takes_ends() {
    let kernel = TestKernel::start();
    let source = kernel.segment();
    define(&kernel.admin(), "notes", "events('Cart Updated').last().note == 'hello'");
    define(&kernel.admin(), "pings", "events('Ping').size() > 0");
    fill(&source, 4_500, 9_000);
    kernel.settle();
    assert_eq!(source.batch(&everybody(4_500, "Ping", "p"))["accepted"], 4_500);
    kernel.settle();
    assert_eq!(size(&kernel.admin(), "pings"), Some(4_500));
}

/// One person whose history is larger than a unit holds nobody up: she is computed in parts, or set aside alone.
#[test]
fn one_person_larger_than_a_unit_holds_up_nobody() {
    let kernel = TestKernel::start();
    let source = kernel.segment();
    for begin in (0..1_200).step_by(200) {
        let numbers = begin..begin + 200;
        let part: Vec<Value> = numbers.map(|number| noted(0, 31_000, &format!("n{number}"))).collect();
        send(&source, &part);
    }
    define(&kernel.admin(), "notes", "events('Cart Updated').map(e, e.note).distinct().size() > 1000");
    define(&kernel.admin(), "pings", "events('Ping').size() > 0");
    kernel.settle();
    send(&source, &[track("u1", "Ping", "p1"), track("u0", "Ping", "p0")]);
    wait_until("her neighbour is computed", || size(&kernel.admin(), "pings").is_some_and(|size| size >= 1));
    kernel.settle();
    let is_computed = size(&kernel.admin(), "pings") == Some(2);
    assert!(
        is_computed || !letters(&kernel.admin(), "computation").is_empty(),
        "she is neither computed nor set aside"
    );
}

/// An identifier of 5,000 spaces is its own request's mistake: it never gets the 503 that a client repeats, and nobody beside
/// it gets anything but 200.
#[test]
fn an_identifier_that_cannot_be_stored_costs_nobody_else_a_request() {
    let kernel = TestKernel::start();
    let source = kernel.segment();
    let poison = json!({ "batch": [track(&format!("u1{}", " ".repeat(5_000)), "Seen", "poison")] });
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..25 {
                    let status = source.client.post("/v1/batch", &poison).status;
                    assert!(matches!(status, 200 | 400 | 413), "the poison is answered {status}");
                }
            });
        }
        for number in 0..100 {
            assert_eq!(source.batch(&[track("ada", "Seen", &format!("m{number}"))])["accepted"], 1);
        }
    });
    assert_eq!(kernel.events("user_id:ada").len(), 100);
}

/// Eight clients send batches of 9 MiB at the same time; each is within its limits, so each is taken, if only when those
/// before it have made room.
#[test]
fn large_batches_at_the_same_time_are_all_taken() {
    let kernel = TestKernel::start();
    let source = kernel.segment();
    std::thread::scope(|scope| {
        for lane in 0..8 {
            let source = &source;
            scope.spawn(move || {
                for turn in 0..3 {
                    let id = |number| format!("c{lane}-{turn}-{number}");
                    let batch: Vec<Value> = (0..300).map(|number| noted(lane, 31_000, &id(number))).collect();
                    assert_eq!(source.batch(&batch)["accepted"], 300);
                }
            });
        }
    });
}

/// One batch of 36,000 small events of new people on new devices has 4 MB and makes more rows than a unit takes; it is taken
/// at once, and whole.
#[test]
fn one_batch_of_very_many_new_people_is_taken() {
    let kernel = TestKernel::start();
    let source = kernel.segment();
    let mut batch = everybody(36_000, "Seen", "m");
    for (number, message) in batch.iter_mut().enumerate() {
        message["anonymousId"] = json!(format!("d{number}"));
    }
    assert_eq!(source.batch(&batch)["accepted"], 36_000);
    kernel.settle();
    assert_eq!(kernel.count("true"), 36_000);
}

/// Twelve requests of twenty bytes make a guest answer 15 MB each; the neighbour's requests are all taken.
#[test]
fn answers_of_a_greedy_guest_cost_its_neighbour_no_request() {
    greedy("texts", "500", "30000");
}

/// Requests of twenty bytes make a guest name 32,000 new identifiers each; the neighbour's requests are all taken.
#[test]
fn identifiers_of_a_greedy_guest_cost_its_neighbour_no_request() {
    greedy("people", "2000", "16");
}

/// A hostile connector is asked twelve times for this; the neighbour sends all the while.
fn greedy(what: &str, events: &str, each: &str) {
    let kernel = TestKernel::start();
    let source = kernel.segment();
    kernel.install("hostile/connector", json!({ "name": "greedy" }));
    std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..12)
            .map(|lane| {
                let body = format!("{what} lane-{lane} {events} {each}");
                let admin = kernel.admin();
                scope.spawn(move || admin.send("POST", "/api/v1/sources/greedy/records", &[], body).status)
            })
            .collect();
        for number in 0..100 {
            assert_eq!(source.batch(&[track("ada", "Seen", &format!("m{number}"))])["accepted"], 1);
        }
        for lane in lanes {
            let status = lane.join().unwrap();
            assert!(matches!(status, 200 | 413 | 429 | 500 | 503), "the greedy one is told what it did: {status}");
        }
    });
    assert_eq!(mode(&kernel.admin(), "segment"), "live");
}

/// Three requests that pass the memory of the connector are those requests' fault: the source goes on for everybody else.
#[test]
fn requests_that_are_too_large_for_a_connector_do_not_switch_it_off() {
    let kernel = TestKernel::start();
    let grants = json!({ "limits": { "memory_bytes": 12 << 20 } });
    let installed = kernel.install("kith/segment", json!({ "grants": grants }));
    let source = kernel.source(&installed);
    let small = json!({ "type": "track", "event": "E", "userId": "a" });
    let large = json!({ "batch": vec![small; 40_000] });
    for _ in 0..3 {
        let status = source.client.post("/v1/batch", &large).status;
        assert!(matches!(status, 200 | 413), "a body within the documented limit is answered {status}");
    }
    assert_eq!(source.batch(&[track("ada", "Seen", "m")])["accepted"], 1);
    assert_eq!(mode(&kernel.admin(), "segment"), "live");
}

/// How long 500 new people take from the request until they are computed; the best of three.
fn new_people(kernel: &TestKernel, source: &Source, round: &str) -> Duration {
    let once = |turn: usize| {
        let batch: Vec<Value> = (0..500)
            .map(|number| track(&format!("{round}-{turn}-{number}"), "Seen", &format!("{round}-{turn}-{number}")))
            .collect();
        let begun = Instant::now();
        send(source, &batch);
        kernel.settle();
        begun.elapsed()
    };
    (0..3).map(once).min().unwrap()
}

/// 50,000 unlike trait names, as `{"flag_123": true}` makes them, do not make new people dearer, and counts stay right.
#[test]
fn ever_new_trait_names_slow_down_nobody() {
    let kernel = TestKernel::start();
    let source = kernel.segment();
    send(&source, &[super::stage::identify("ada", "i", json!({ "city": "Oslo" }))]);
    let before = new_people(&kernel, &source, "before");
    for part in 0..50 {
        let flags = |person: usize| -> serde_json::Map<String, Value> {
            let names = (0..100).map(|name| format!("flag_{}", (part * 10 + person) * 100 + name));
            names.map(|name| (name, json!(true))).collect()
        };
        let batch: Vec<Value> = (0..10)
            .map(|person| {
                super::stage::identify(&format!("f{part}-{person}"), &format!("f{part}-{person}"), flags(person).into())
            })
            .collect();
        send(&source, &batch);
    }
    kernel.settle();
    let after = new_people(&kernel, &source, "after");
    assert_eq!(kernel.count("traits.city == 'Oslo'"), 1);
    let allowed = before * 3 + Duration::from_millis(100);
    assert!(after <= allowed, "500 new people took {before:?} before and {after:?} after 50,000 names");
}

/// While a new audience reads the history of everybody, live events go on to be computed.
#[test]
fn live_events_do_not_wait_for_a_backfill() {
    let kernel = TestKernel::start();
    let source = kernel.segment();
    let admin = kernel.admin();
    define(&admin, "pings", "events('Ping').size() > 0");
    for round in 0..25 {
        send(&source, &everybody(4_000, "Seen", &format!("r{round}")));
    }
    kernel.settle();
    let (mut turn, mut pings) = (0, 0);
    wait_until("a live event is computed in the midst of a backfill", || {
        turn += 1;
        // Another window each time, so that each audience reads the history.
        let (name, days) = (format!("seen{turn}"), 30 + turn);
        define(&admin, &name, &format!("events('Seen', '{days}d').size() >= 20"));
        let path = format!("/api/v1/audiences/{name}");
        let has_begun = wait_for("it has begun", || {
            let shown = admin.get(&path).is(200);
            let has_ended = shown["size"].is_u64();
            (has_ended || shown["progress"]["done"] != 0).then_some(!has_ended)
        });
        pings += 1;
        send(&source, &[track(&format!("ping-{pings}"), "Ping", &format!("p{pings}"))]);
        wait_until("a ping is computed", || size(&admin, "pings") == Some(pings));
        has_begun && size(&admin, &name).is_none()
    });
    kernel.settle();
    assert_eq!(size(&admin, &format!("seen{turn}")), Some(4_000));
}
