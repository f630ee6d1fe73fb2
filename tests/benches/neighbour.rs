//! What a workspace feels of its neighbour: the time from an event to its audience in workspace B, alone and while a tag model
//! of workspace A is at its processor limit at every call, five times in turn.
//!
//! `cargo bench --bench neighbour` prints the ratios beside their bounds; nothing here passes or fails. `-- quick` takes a tenth
//! of the events.

#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on has to stop, and to say where")]
#![allow(clippy::print_stdout, reason = "a table on standard output is what this program is for")]
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

mod figures;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kith_tests::{Client, Source, TestKernel};
use serde_json::json;

use crate::figures::{Asked, median, percentile};

/// As in the product.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ALTERNATIONS: usize = 5;
const EVENTS: u64 = 200;
/// A call's processor limit is 2 s; a model that takes this long stays below it on a busy machine too.
const CALL: Duration = Duration::from_millis(1_400);
/// Between two events of B, so that a measurement lasts for many of A's calls.
const PAUSE: Duration = Duration::from_millis(40);

/// Workspace B: who sends, who asks, and how many have been sent.
struct Neighbour {
    source: Source,
    caller: Client,
    sent: u64,
}

impl Neighbour {
    /// The times from events to their audience, one event after the other, sorted.
    fn latencies(&mut self, events: u64) -> Vec<Duration> {
        let mut latencies: Vec<Duration> = (0..events)
            .map(|_| {
                std::thread::park_timeout(PAUSE);
                self.sent += 1;
                let number = self.sent;
                let begun = Instant::now();
                let seen = json!({ "type": "track", "event": "Seen", "userId": format!("u{number}"), "messageId": format!("m{number}") });
                self.source.batch(&[seen]);
                while self.caller.get("/api/v1/audiences/seen").is(200)["size"] != number {
                    assert!(begun.elapsed() < Duration::from_secs(60), "an event is not computed");
                    std::thread::park_timeout(Duration::from_millis(1));
                }
                begun.elapsed()
            })
            .collect();
        latencies.sort_unstable();
        latencies
    }
}

/// One of fifty people moves to another city. The clock stands still, so that of two moves the greater message id holds.
fn moves(number: u64) -> serde_json::Value {
    json!({ "type": "identify", "userId": format!("u{}", number % 50), "messageId": format!("i{number:08}"),
        "traits": { "city": format!("city {number}") } })
}

/// Set the model's work so that a call takes about [`CALL`].
fn calibrate(kernel: &TestKernel, source: &Source) {
    let admin = kernel.admin();
    let mut burn = 200;
    for number in 0..3 {
        let patch = json!({ "config": { "how": "well", "burn_millions": burn } });
        admin.patch("/api/v1/installations/model", &patch).is(200);
        kernel.settle();
        let begun = Instant::now();
        source.batch(&[moves(number)]);
        kernel.settle();
        let took = begun.elapsed().as_secs_f64();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some hundred")]
        let next = (f64::from(burn) * CALL.as_secs_f64() / took) as u32;
        println!("  a call with {burn} million steps takes {took:.2} s");
        burn = next;
    }
}

fn main() {
    let Some(asked) = Asked::of("neighbour") else { return };
    let events = if asked.is_quick { EVENTS / 10 } else { EVENTS };
    let kernel = TestKernel::start();
    let other_key = kernel.second_workspace();
    let source = kernel.segment();
    kernel.install("hostile/tag-model", json!({ "name": "model", "config": { "how": "well", "burn_millions": 1 } }));
    let caller = kernel.caller(&other_key);
    let theirs = kernel.source(&kernel.install_as(&caller, "kith/segment", json!({})));
    caller.post("/api/v1/audiences", &json!({ "name": "seen", "condition": "events('Seen').size() > 0" })).is(201);
    calibrate(&kernel, &source);
    let mut neighbour = Neighbour { source: theirs, caller, sent: 0 };
    neighbour.latencies(events);
    println!("\nevent to audience in B, {events} events, {ALTERNATIONS} times alone and beside A's model at its limit");
    let (mut of_p50, mut of_p99, mut more_p99, mut sent) = (Vec::new(), Vec::new(), Vec::new(), 100);
    for _ in 0..ALTERNATIONS {
        kernel.settle();
        let alone = neighbour.latencies(events);
        let done = AtomicBool::new(false);
        let beside = std::thread::scope(|scope| {
            let (first, source, done) = (sent, &source, &done);
            let load = scope.spawn(move || {
                let mut number = first;
                while !done.load(Ordering::SeqCst) {
                    source.batch(&[moves(number)]);
                    number += 1;
                    std::thread::park_timeout(Duration::from_millis(200));
                }
                number
            });
            let beside = neighbour.latencies(events);
            done.store(true, Ordering::SeqCst);
            sent = load.join().unwrap();
            beside
        });
        let [alone_p50, alone_p99, beside_p50, beside_p99] =
            [(&alone, 0.5), (&alone, 0.99), (&beside, 0.5), (&beside, 0.99)]
                .map(|(times, share)| percentile(times, share));
        println!(
            "  alone p50 {alone_p50:>8.2} ms  p99 {alone_p99:>8.2} ms   beside p50 {beside_p50:>8.2} ms  p99 {beside_p99:>8.2} ms"
        );
        of_p50.push(beside_p50 / alone_p50);
        of_p99.push(beside_p99 / alone_p99);
        more_p99.push(beside_p99 - alone_p99);
    }
    let shown = kernel.admin().get("/api/v1/installations/model").is(200);
    let faults = kith_tests::pages(&kernel.admin(), "/api/v1/dead-letters", 500);
    println!("  A's model is {} after {} faults and {sent} events", shown["mode"], faults.len());
    for fault in faults.iter().take(3) {
        println!("    {fault}");
    }
    println!("  p50 beside alone: {:.2} x (bound: <= 1.2)", median(of_p50));
    println!("  p99 beside alone: {:.2} x, {:+.1} ms (bound: <= 1.5 x or + 15 ms)", median(of_p99), median(more_p99));
}
