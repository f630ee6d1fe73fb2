//! A clock that was wrong for a while: what it did is mended when it is right again, and nothing is doubled by it.

use kith_model::time::{Clock as _, DAY_MS};
use kith_tests::{Client, Receiver, Source, TestKernel};
use serde_json::{Value, json};

use super::stage::{
    all_delivered, define_with, deliveries, each_got_one_message, everybody, message_through, send, size, webhook,
};

/// Start again with the machine's clock moved by so many days.
fn restart_after(kernel: &mut TestKernel, source: &Source, days: i64) -> Source {
    let now = kernel.clock.now();
    kernel.clock.set(now.plus_ms(days * DAY_MS));
    kernel.restart();
    Source { client: Client::with_write_key(kernel.url(), &source.write_key), write_key: source.write_key.clone() }
}

/// A clock that was two months ahead for one event each leaves no window wrong when it is right again: size, index and
/// history agree, and nobody is written to twice.
#[test]
fn a_clock_that_was_ahead_leaves_no_window_wrong() {
    let (mut kernel, receiver) = (TestKernel::start(), Receiver::start());
    let source = kernel.segment();
    webhook(&kernel, "webhook", &receiver);
    define_with(&kernel.admin(), "recent", "events('Seen', '30d').size() > 2", message_through("webhook"));
    kernel.settle();
    for round in 0..3 {
        send(&source, &everybody(5, "Seen", &format!("s{round}")));
    }
    kernel.settle();
    all_delivered(&kernel.admin(), 5);
    assert_eq!(size(&kernel.admin(), "recent"), Some(5));
    let ahead = restart_after(&mut kernel, &source, 60);
    kernel.settle();
    send(&ahead, &everybody(5, "Seen", "ahead"));
    kernel.settle();
    restart_after(&mut kernel, &source, -60);
    kernel.settle();
    assert_eq!(kernel.count("events('Seen', '31d').size() > 2"), 5, "from history");
    assert_eq!(kernel.count("events('Seen', '30d').size() > 2"), 5, "from the index");
    assert_eq!(size(&kernel.admin(), "recent"), Some(5));
    assert_eq!(deliveries(&kernel.admin()).len(), 5, "nobody entered by an event of her own");
    each_got_one_message(&receiver, 5);
}

/// A message that was taken before a clock went ahead and back is still known, and so is one that was taken meanwhile.
#[test]
fn repeats_are_recognised_after_a_clock_was_ahead() {
    let mut kernel = TestKernel::start();
    let source = kernel.segment();
    let before: Vec<Value> = everybody(5, "Seen", "before");
    send(&source, &before);
    let ahead = restart_after(&mut kernel, &source, 15);
    let meanwhile = everybody(5, "Seen", "meanwhile");
    send(&ahead, &meanwhile);
    let right = restart_after(&mut kernel, &source, -15);
    assert_eq!(right.batch(&before)["duplicate"], 5, "taken before the clock went ahead");
    assert_eq!(right.batch(&meanwhile)["duplicate"], 5, "taken while it was ahead");
    let tomorrow = restart_after(&mut kernel, &source, 1);
    assert_eq!(tomorrow.batch(&before)["duplicate"], 5, "a day later");
    assert_eq!(kernel.events("user_id:u0").len(), 2);
}

/// A jump of the clock while the server runs, in both directions, is survived in the same way.
#[test]
fn a_clock_that_jumps_while_the_server_runs_leaves_no_window_wrong() {
    let kernel = TestKernel::start();
    let source = kernel.segment();
    kernel
        .admin()
        .post("/api/v1/audiences", &json!({ "name": "recent", "condition": "events('Seen', '30d').size() > 1" }))
        .is(201);
    for round in 0..2 {
        send(&source, &everybody(5, "Seen", &format!("s{round}")));
    }
    kernel.settle();
    let now = kernel.clock.now();
    kernel.clock.set(now.plus_ms(60 * DAY_MS));
    send(&source, &everybody(2, "Seen", "ahead"));
    kernel.settle();
    kernel.clock.set(now.plus_ms(1_000));
    send(&source, &everybody(1, "Seen", "right"));
    kernel.settle();
    let from_history = kernel.count("events('Seen', '31d').size() > 1");
    assert_eq!(from_history, 5);
    kith_tests::wait_until("the window is mended", || size(&kernel.admin(), "recent") == Some(5));
    assert_eq!(kernel.count("events('Seen', '30d').size() > 1"), 5);
}
