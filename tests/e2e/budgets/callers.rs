//! What addresses and keys may have of the server.

use std::net::TcpStream;

use kith_tests::{Client, wait_until};

use super::{Attack, Ground, come, first, is_exhausted, names, walk};

pub(super) const CONNECTED: &[Attack] =
    &[("connections", connections), ("intake-memory", intake_memory), ("stranger-memory", stranger_memory)];

#[test]
fn connections_and_bodies_together_have_an_end() {
    let ground = Ground::of_process(&["--connections", "24", "--intake-memory", "16777216"]);
    walk(&ground, CONNECTED);
}

pub(super) const PROCESS: &[Attack] = &[("process-memory", process_memory)];

#[test]
fn what_the_process_takes_has_an_end() {
    walk(&Ground::of_process(&["--memory", "128"]), PROCESS);
}

pub(super) const SOURCE: &[Attack] = &[("import-memory", import_memory), ("source-bytes", source_bytes)];

#[test]
fn what_a_source_brings_in_an_hour_has_an_end() {
    walk(&Ground::of_process(&["--source-bytes", "1000000", "--import-memory", "16384"]), SOURCE);
}

/// What is remembered of a file's rows grows with them; a small file beside it is taken.
fn import_memory(ground: &Ground) {
    let sender = ground.hostile("long", serde_json::json!({}));
    is_exhausted(&sender("texts row 1000 10"), 413, "import-memory");
    sender("texts few 100 10").is(200);
}

/// The last request that finds something left is taken whole; the next ones wait, and other sources do not.
fn source_bytes(ground: &Ground) {
    let sender = ground.hostile("eager", serde_json::json!({}));
    let neighbour = ground.hostile("modest", serde_json::json!({}));
    let mut taken = 0;
    let refused = loop {
        let answer = sender(&format!("texts b{taken} 10 10000"));
        if answer.status != 200 {
            break answer;
        }
        taken += 1;
    };
    is_exhausted(&refused, 429, "source-bytes");
    assert!((5..=10).contains(&taken), "{taken} requests of 100 kB");
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((1..=3_600).contains(&wait), "{wait}");
    neighbour("texts other 10 10").is(200);
}

pub(super) const KNOWN: &[Attack] = &[
    ("peer-connections", connections),
    ("failed-authentications", failed_authentications),
    ("prompt-refusals", prompt_refusals),
    ("credential-requests", credential_requests),
    ("credential-memory", credential_memory),
];

#[test]
fn an_address_and_a_key_have_their_shares() {
    let flags = [
        "--peer-connections",
        "24",
        "--failed-authentications",
        "3",
        "--key-requests",
        "8",
        "--key-memory",
        "16777216",
    ];
    walk(&Ground::of_process(&flags), KNOWN);
}

pub(super) const PROXIED: &[Attack] = &[("peer-requests", peer_requests)];

#[test]
fn behind_a_proxy_each_address_has_its_share() {
    walk(&Ground::of_process(&["--behind-proxy", "--peer-connections", "4"]), PROXIED);
}

/// More than either server lets in: somebody is sent away without a word.
fn connections(ground: &Ground) {
    let mut all: Vec<TcpStream> = (0..30).map(|_| ground.connection(b"")).collect();
    assert_eq!(first(&mut all), "", "its connection ends");
}

const MIB: usize = 1 << 20;

/// Uploads that stay under way with almost all that a component may have, until one is refused.
fn uploads(ground: &Ground) -> String {
    let part = vec![0; 8 * MIB - 1];
    let mut all: Vec<TcpStream> = (0..3).map(|_| ground.upload("/api/v1/plugins", 8 * MIB, "", &part)).collect();
    first(&mut all)
}

fn intake_memory(ground: &Ground) {
    names(&uploads(ground), 429, "intake-memory");
}

/// Bodies within all other budgets: what they take together with everything else is too much. Once they are gone there is room.
fn process_memory(ground: &Ground) {
    let part = vec![1; 8 * MIB - 1];
    let mut all: Vec<TcpStream> = (0..15).map(|_| ground.upload("/api/v1/plugins", 8 * MIB, "", &part)).collect();
    names(&first(&mut all), 429, "process-memory");
    drop(all);
    wait_until("there is room again", || {
        ground.admin.post("/api/v1/audiences/count", &serde_json::json!({ "condition": "true" })).status == 200
    });
}

fn credential_memory(ground: &Ground) {
    names(&uploads(ground), 429, "credential-memory");
}

/// A sixteenth of what is taken in is for those who do not say who they are.
fn stranger_memory(ground: &Ground) {
    let part = vec![b' '; 400 << 10];
    let head = "POST /v1/batch HTTP/1.1\r\nhost: x\r\ncontent-length: 500000\r\n\r\n";
    let mut all: Vec<TcpStream> = (0..3).map(|_| ground.connection(&[head.as_bytes(), &part].concat())).collect();
    names(&first(&mut all), 429, "stranger-memory");
}

fn failed_authentications(ground: &Ground) {
    let guesser = Client::new(&ground.url, Some("kith_wrong"));
    for _ in 0..3 {
        guesser.get("/api/v1/workspace").is_problem(401, "unauthenticated");
    }
    is_exhausted(&guesser.get("/api/v1/workspace"), 429, "failed-authentications");
    ground.admin.get("/api/v1/workspace").is(200);
}

/// Whoever is refused and asks again at once is soon kept waiting; whoever is answered is not.
fn prompt_refusals(ground: &Ground) {
    let guesser = Client::new(&ground.url, Some("kith_wrong"));
    let before = ground.refusals("prompt-refusals");
    for _ in 0..200 {
        assert_eq!(guesser.get("/api/v1/workspace").status, 429);
        if ground.refusals("prompt-refusals") > before {
            break;
        }
    }
    ground.admin.get("/api/v1/workspace").is(200);
}

/// A request whose handler has begun and waits for its body.
fn under_way(ground: &Ground, headers: &str) -> TcpStream {
    let headers = format!("expect: 100-continue\r\n{headers}");
    let mut stream = ground.upload("/api/v1/audiences", 10, &headers, b"");
    let go_ahead = first(std::slice::from_mut(&mut stream));
    assert!(go_ahead.starts_with("HTTP/1.1 100"), "{go_ahead}");
    stream
}

fn credential_requests(ground: &Ground) {
    let held: Vec<TcpStream> = (0..8).map(|_| under_way(ground, "")).collect();
    is_exhausted(&ground.admin.get("/api/v1/workspace"), 429, "credential-requests");
    drop(held);
    wait_until("its places are free again", || ground.admin.get("/api/v1/workspace").status == 200);
}

fn peer_requests(ground: &Ground) {
    let client = "x-forwarded-for: 192.0.2.1\r\n";
    let _held: Vec<TcpStream> = (0..4).map(|_| under_way(ground, client)).collect();
    let head = format!("GET /healthz HTTP/1.1\r\nhost: x\r\n{client}\r\n");
    let mut refused = ground.connection(head.as_bytes());
    names(&first(std::slice::from_mut(&mut refused)), 429, "peer-requests");
    let ask = |address: &str| {
        let headers = [("x-forwarded-for", address)];
        ground.admin.try_send("GET", "/api/v1/workspace", &headers, Vec::new()).unwrap()
    };
    ask("192.0.2.2").is(200);
    assert_eq!(come(&mut refused), None, "one answer");
}
