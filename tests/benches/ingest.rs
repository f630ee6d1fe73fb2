//! Durable ingest through the `segment` connector with One-ID, features, one tag model and one audience live; then a count, and
//! a start on the store that came of it. The server is a process of its own; the client shares its processors.

use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine as _;
use kith_tests::{Client, Process, Random, component, kith};
use serde_json::json;

use crate::figures::percentile;
use crate::wire::Wire;

const PROFILES: u64 = 100_000;
const BATCHED: Duration = Duration::from_secs(20);
const SINGLY: Duration = Duration::from_secs(8);
const BATCH_CONNECTIONS: usize = 4;
const SINGLE_CONNECTIONS: usize = 16;

/// What a run of requests came to.
struct Ran {
    events: u64,
    took: Duration,
    /// Sorted.
    latencies: Vec<Duration>,
}

impl Ran {
    fn print(&self, what: &str) {
        let rate = self.events as f64 / self.took.as_secs_f64();
        let (p50, p99) = (percentile(&self.latencies, 0.5), percentile(&self.latencies, 0.99));
        println!("  {what:<42} {rate:>8.0} events/s   p50 {p50:>7.2} ms   p99 {p99:>7.2} ms");
    }
}

fn message(number: u64, user: u64, random: &mut Random) -> String {
    let (total, product) = (random.below(50_000), random.below(1_000));
    format!(
        r#"{{"type":"track","event":"Order Completed","userId":"user-{user}","messageId":"m-{number}","timestamp":"2026-11-20T10:{:02}:{:02}.000Z","properties":{{"total":{}.{:02},"order_id":"o-{number}","currency":"EUR","products":[{{"product_id":"p-{product}","quantity":1}}]}},"context":{{"library":{{"name":"bench","version":"1"}}}}}}"#,
        number / 60 % 60,
        number % 60,
        total / 100,
        total % 100
    )
}

/// Post batches of `size` on `connections` until `until` says stop.
fn post(
    url: &str,
    key: &str,
    connections: usize,
    size: u64,
    first: u64,
    until: impl Fn(u64, Duration) -> bool + Sync,
) -> Ran {
    let begun = Instant::now();
    let authorization = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{key}:")));
    let run = |lane: u64| {
        let mut wire = Wire::open(url, "/v1/batch", &authorization);
        let mut random = Random::new(first + lane);
        let (mut latencies, mut sent) = (Vec::new(), 0);
        while !until(sent, begun.elapsed()) {
            let messages: Vec<String> = (0..size)
                .map(|place| {
                    let number = first + lane * 1_000_000_000 + sent + place;
                    let user = if first == 0 {
                        lane * (PROFILES / connections as u64) + sent + place
                    } else {
                        random.below(PROFILES)
                    };
                    message(number, user, &mut random)
                })
                .collect();
            let body = format!(r#"{{"batch":[{}]}}"#, messages.join(","));
            let asked = Instant::now();
            let (status, answer) = wire.post(&body);
            assert_eq!(status, 200, "{answer}");
            latencies.push(asked.elapsed());
            sent += size;
        }
        (latencies, sent)
    };
    let lanes: Vec<_> = std::thread::scope(|scope| {
        let run = &run;
        let threads: Vec<_> = (0..connections).map(|lane| scope.spawn(move || run(lane as u64))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let took = begun.elapsed();
    let mut latencies: Vec<Duration> = lanes.iter().flat_map(|(latencies, _)| latencies.iter().copied()).collect();
    latencies.sort_unstable();
    Ran { events: lanes.iter().map(|(_, sent)| sent).sum(), took, latencies }
}

fn install(admin: &Client, plugin: &str, name: &str) -> serde_json::Value {
    let bytes = component(plugin).component.clone();
    admin.send("POST", "/api/v1/plugins", &[("content-type", "application/wasm")], bytes).is(201);
    admin.post("/api/v1/installations", &json!({ "plugin": plugin, "name": name })).is(201)
}

/// How long until everything sent so far is computed.
fn catch_up(admin: &Client) -> Duration {
    let begun = Instant::now();
    kith_tests::settle(admin);
    begun.elapsed()
}

/// Post, wait until all of it is computed, and print what that came to; also what the server's processors worked for each event,
/// which two builds can be compared by though a phase ends by the clock.
fn phase(server: &Process, what: &str, post: impl FnOnce(&str) -> Ran) -> (Ran, Duration) {
    let processor = server.processor_time();
    let ran = post(server.url());
    ran.print(what);
    let lag = catch_up(&server.admin());
    let worked = server.processor_time().saturating_sub(processor).as_secs_f64() * 1e6 / ran.events as f64;
    println!("  computed {:.2} s after the last answer   {worked:.1} us of processor an event", lag.as_secs_f64());
    (ran, lag)
}

pub(crate) fn run(alone: f64) {
    let folder = tempfile::tempdir().unwrap();
    let server = Process::serve(folder.path(), &[]);
    let admin = server.admin();
    let source = install(&admin, "kith/segment", "segment");
    let key = source["write_key"].as_str().expect("a connector's write key is shown at its installation").to_owned();
    install(&admin, "kith/lifecycle", "lifecycle");
    let audience =
        json!({ "name": "buyers", "title": "Buyers", "condition": "events('Order Completed', '30d').size() >= 3" });
    admin.post("/api/v1/audiences", &audience).is(201);

    println!("\ndurable ingest through `segment`: One-ID, features, tag model `lifecycle` and one audience live, sled");
    let each = PROFILES / BATCH_CONNECTIONS as u64;
    phase(&server, "new people, batches of 100, 4 connections", |url| {
        post(url, &key, BATCH_CONNECTIONS, 100, 0, |sent, _| sent >= each)
    });
    let (batched, lag) = phase(&server, "known people, batches of 100, 4 connections", |url| {
        post(url, &key, BATCH_CONNECTIONS, 100, 1 << 40, |_, time| time >= BATCHED)
    });
    let sustained = batched.events as f64 / (batched.took + lag).as_secs_f64();
    println!(
        "  {sustained:.0} events/s with all that follows computed; the store alone takes {alone:.0}: ratio {:.2}",
        sustained / alone
    );
    phase(&server, "known people, singly, 16 connections", |url| {
        post(url, &key, SINGLE_CONNECTIONS, 1, 1 << 41, |_, time| time >= SINGLY)
    });

    count(&admin);
    restart(server, folder.path());
}

fn count(admin: &Client) {
    let condition = "tags.lifecycle in ['new', 'active'] && events('Order Completed', '30d').size() >= 3 \
                     && events('Order Completed', '30d').size() < 9 && profile.created_at <= now && tags.lifecycle != 'loyal'";
    let mut times = Vec::new();
    let mut answer = serde_json::Value::Null;
    for _ in 0..50 {
        let begun = Instant::now();
        answer = admin.post("/api/v1/audiences/count", &json!({ "condition": condition })).is(200);
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    println!("\ncount of a condition with 5 terms over HTTP, {PROFILES} profiles: {answer}");
    println!("  p50 {:.2} ms   p99 {:.2} ms", percentile(&times, 0.5), percentile(&times, 0.99));
}

fn restart(server: Process, folder: &Path) {
    server.terminate();
    let _ = kith();
    let begun = Instant::now();
    let server = Process::serve(folder, &[]);
    kith_tests::wait_until("the server is ready", || server.admin().get("/readyz").status == 200);
    println!("\nstart on that store, compile cache warm: {:.2} s until ready", begun.elapsed().as_secs_f64());
    server.terminate();
}
