//! The neighbour: an honest customer whose requests come at a fixed rate, whether or not the last one was answered.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kith_tests::{Client, Process};
use serde_json::json;

/// Requests a second: one of three reads, the others send an event.
pub(crate) const RATE: u64 = 60;

/// Callers that take the next request in turn; a stall of so many is told by the time that the others begin late.
const CALLERS: usize = 24;

/// Workspace B.
pub(crate) struct Neighbour {
    url: String,
    write_key: String,
    key: String,
    sent: AtomicU64,
}

/// What came of one stretch of requests.
pub(crate) struct Stretch {
    /// From the moment at which a request was due until its answer, in ascending order.
    pub latencies: Vec<Duration>,
    /// Answered other than well, or not at all.
    pub refused: usize,
}

impl Neighbour {
    /// Make the workspace with a source and an audience.
    pub(crate) fn move_in(server: &Process) -> Neighbour {
        let made =
            server.admin().post("/api/v1/workspaces", &json!({ "name": "neighbour", "time_zone": "UTC" })).is(201);
        let key = made["key"].as_str().unwrap().to_owned();
        let admin = Client::new(server.url(), Some(&key));
        let upload =
            admin.send("POST", "/api/v1/plugins", &[], kith_tests::component("kith/segment").component.clone());
        assert!(upload.status < 300, "{}", upload.text());
        let installed = admin.post("/api/v1/installations", &json!({ "plugin": "kith/segment" })).is(201);
        let write_key = installed["write_key"].as_str().unwrap().to_owned();
        let audience = json!({ "name": "seen", "condition": "events('Seen').size() > 0" });
        admin.post("/api/v1/audiences", &audience).is(201);
        Neighbour { url: server.url().to_owned(), write_key, key, sent: AtomicU64::new(0) }
    }

    /// Ask for so long.
    pub(crate) fn ask(&self, length: Duration) -> Stretch {
        let begun = Instant::now();
        let (next, results) = (AtomicU64::new(0), Mutex::new(Vec::new()));
        std::thread::scope(|scope| {
            for _ in 0..CALLERS {
                scope.spawn(|| {
                    let source = Client::with_write_key(&self.url, &self.write_key);
                    let reader = Client::new(&self.url, Some(&self.key));
                    loop {
                        let number = next.fetch_add(1, Ordering::SeqCst);
                        let due = Duration::from_millis(number * 1_000 / RATE);
                        if due >= length {
                            return;
                        }
                        while begun.elapsed() < due {
                            std::thread::park_timeout(due.saturating_sub(begun.elapsed()));
                        }
                        let is_well = self.request(&source, &reader, number);
                        results.lock().unwrap().push((begun.elapsed().saturating_sub(due), is_well));
                    }
                });
            }
        });
        let results = results.into_inner().unwrap();
        let refused = results.iter().filter(|(_, is_well)| !is_well).count();
        let mut latencies: Vec<Duration> = results.into_iter().map(|(latency, _)| latency).collect();
        latencies.sort_unstable();
        Stretch { latencies, refused }
    }

    /// One request; whether it was answered well.
    fn request(&self, source: &Client, reader: &Client, number: u64) -> bool {
        let answer = if number.is_multiple_of(3) {
            reader.try_send("GET", "/api/v1/audiences/seen", &[], Vec::new())
        } else {
            let sent = self.sent.fetch_add(1, Ordering::SeqCst);
            let event = json!({ "type": "track", "event": "Seen", "userId": format!("u{}", sent % 500), "messageId": format!("n{sent}") });
            source.try_send("POST", "/v1/track", &[("content-type", "application/json")], event.to_string())
        };
        answer.is_ok_and(|answer| answer.status == 200)
    }
}
