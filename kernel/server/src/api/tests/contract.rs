//! The contract of the client routes and of the records route.

use std::io::Write as _;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use base64::Engine as _;
use flate2::Compression;
use flate2::write::GzEncoder;
use kith_model::id::InstallationId;
use serde_json::json;

use super::{FIRST, ask, key_with, source};
use crate::auth::Scope;
use crate::serve::tests::{server, server_with};

fn basic(key: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{key}:")))
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn success_is_200_under_every_spelling_and_content_type() {
    let server = server();
    let key = source(&server, FIRST);
    for (number, path) in ["/v1/batch", "/v1/b", "/v1/track/", "/V1/T", "/v1/import", "/v1/a"].into_iter().enumerate() {
        let answer = ask(&server, "POST", path)
            .header("authorization", &basic(&key))
            .header("content-type", "application/x-www-form-urlencoded")
            .send(format!("user {number}\nbad"))
            .await;
        assert_eq!(answer.headers["access-control-allow-origin"], "*");
        let body = answer.with(200);
        assert_eq!((&body["success"], &body["accepted"], &body["duplicate"]), (&json!(true), &json!(1), &json!(0)));
        assert_eq!(body["rejected"][0], json!({ "index": 2, "code": "bad-line", "message": "the line says so" }));
    }
    let again = ask(&server, "POST", "/v1/batch").header("authorization", &basic(&key)).send("user 0").await.with(200);
    assert_eq!((&again["accepted"], &again["duplicate"]), (&json!(0), &json!(1)));
    let may_send = ask(&server, "OPTIONS", "/v1/t").empty().await;
    assert!(may_send.headers["access-control-allow-headers"].to_str().unwrap().contains("authorization"));
    may_send.with(204);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_may_be_in_the_header_or_in_the_body_but_not_differ() {
    let server = server();
    let key = source(&server, FIRST);
    let in_body = |key: &str| json!({ "writeKey": key }).to_string();
    ask(&server, "POST", "/v1/t").header("content-type", "text/plain").send(in_body(&key)).await.with(200);
    ask(&server, "POST", "/v1/t").header("authorization", &basic(&key)).send(in_body(&key)).await.with(200);
    let other = key_with(&server, FIRST, &[Scope::Ingest], Some(InstallationId(901)));
    let both = ask(&server, "POST", "/v1/t").header("authorization", &basic(&key)).send(in_body(&other)).await;
    both.problem(401, "unauthenticated");
    ask(&server, "POST", "/v1/t").send(in_body("nonsense")).await.problem(401, "unauthenticated");
    ask(&server, "POST", "/v1/t").send("no key").await.problem(401, "unauthenticated");
    ask(&server, "POST", "/v1/t").admin().send("x").await.problem(401, "unauthenticated");
}

#[tokio::test(flavor = "multi_thread")]
async fn gzip_is_seen_by_its_header_and_by_its_first_bytes_but_only_for_known_senders() {
    let server = server();
    let key = source(&server, FIRST);
    let said = ask(&server, "POST", "/v1/b").key(&key).header("content-encoding", "gzip").send(gzip("ada")).await;
    assert_eq!(said.with(200)["accepted"], 1);
    let unsaid = ask(&server, "POST", "/v1/b").key(&key).send(gzip("bob")).await;
    assert_eq!(unsaid.with(200)["accepted"], 1);
    let unknown = ask(&server, "POST", "/v1/b").send(gzip(&json!({ "writeKey": key }).to_string())).await;
    unknown.problem(401, "unauthenticated");
    let broken = ask(&server, "POST", "/v1/b").key(&key).header("content-encoding", "gzip").send("plain").await;
    broken.problem(400, "bad-gzip");
    let brotli = ask(&server, "POST", "/v1/b").key(&key).header("content-encoding", "br").send("x").await;
    brotli.problem(415, "unsupported-media-type");
    let bomb = ask(&server, "POST", "/v1/b").key(&key).send(gzip(&" ".repeat(11 << 20))).await;
    bomb.problem(413, "too-large");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_much_is_refused_before_a_byte_is_read() {
    let server = server_with(|config| config.http.max_ingest_bytes = 64 << 10);
    let key = source(&server, FIRST);
    let unread = || Body::new(NeverBody);
    let large = ask(&server, "POST", "/v1/batch").key(&key).header("content-length", "99999999").send(unread()).await;
    large.problem(413, "too-large");
    let wrong = ask(&server, "POST", "/v1/batch").key("nobody").header("content-length", "10").send(unread()).await;
    wrong.problem(401, "unauthenticated");
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_held_for_what_came_and_strangers_have_little_of_it() {
    let server = server_with(|config| config.http.max_ingest_bytes = 256 << 10);
    let key = source(&server, FIRST);
    // Who announces much and sends nothing holds the least there is.
    let (silent, announced) = (|| Body::new(NeverBody), "9000000");
    for _ in 0..8 {
        let request = ask(&server, "POST", "/v1/batch").key(&key).header("content-length", announced).send(silent());
        tokio::spawn(request);
    }
    ask(&server, "POST", "/v1/b").key(&key).send("user u\n".repeat(1_000)).await.with(200);
    let busy = ask(&server, "POST", "/v1/batch").key(&key).send(" ".repeat(200_000)).await;
    assert_eq!(busy.headers["retry-after"], "1");
    assert_eq!(busy.problem(429, "budget-exhausted")["budget"], "intake-memory");
    let compressed = ask(&server, "POST", "/v1/batch").key(&key).send(gzip(&" ".repeat(200_000))).await;
    compressed.problem(429, "budget-exhausted");
    let larger = ask(&server, "POST", "/v1/batch").key(&key).send(" ".repeat(300_000)).await;
    larger.problem(413, "budget-exhausted");
    let by_body = |bytes: usize| json!({ "writeKey": key, "batch": [], "fill": " ".repeat(bytes) }).to_string();
    ask(&server, "POST", "/v1/b").send(by_body(100)).await.with(200);
    let stranger = ask(&server, "POST", "/v1/b").send(by_body(20_000)).await.problem(413, "budget-exhausted");
    assert_eq!(stranger["budget"], "stranger-memory");
    ask(&server, "POST", "/v1/b").send(by_body(600_000)).await.problem(413, "too-large");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_holds_a_part_of_the_memory_and_leaves_the_others_theirs() {
    let server = server_with(|config| config.http.max_bytes_per_key = 100 << 10);
    let key = source(&server, FIRST);
    // Each holds the least there is, until nothing is left for a larger one.
    for _ in 0..5 {
        tokio::spawn(ask(&server, "POST", "/v1/batch").key(&key).send(Body::new(NeverBody)));
    }
    let mut held = ask(&server, "POST", "/v1/b").key(&key).send(" ".repeat(90_000)).await;
    while held.status != 429 {
        held = ask(&server, "POST", "/v1/b").key(&key).send(" ".repeat(90_000)).await;
    }
    assert_eq!(held.problem(429, "budget-exhausted")["budget"], "credential-memory");
    let other = ask(&server, "POST", "/api/v1/audiences").admin().header("content-type", "application/json");
    other.send(" ".repeat(90_000)).await.problem(400, "bad-input");
    let json = ask(&server, "POST", "/api/v1/audiences").admin().header("content-type", "application/json");
    let answer = json.send(" ".repeat(110_000)).await.problem(413, "budget-exhausted");
    assert_eq!(answer["budget"], "credential-memory", "bodies of the admin API count too");
}

/// A body that never comes.
struct NeverBody;

/// A body of which one byte comes, and nothing more.
struct StalledBody {
    has_begun: bool,
}

impl hyper::body::Body for StalledBody {
    type Data = bytes::Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<bytes::Bytes>, Self::Error>>> {
        if std::mem::replace(&mut self.has_begun, true) {
            return Poll::Pending;
        }
        Poll::Ready(Some(Ok(hyper::body::Frame::data(bytes::Bytes::from_static(b"{")))))
    }
}

/// Regression: 300 callers without a key who announced a mebibyte each and sent one byte had all memory for bodies reserved, so
/// that each of a neighbour's 76 requests was answered 429.
#[tokio::test(flavor = "multi_thread")]
async fn strangers_who_announce_much_and_stall_cost_a_sender_no_request() {
    let server = server();
    let key = source(&server, FIRST);
    for announced in [Some("1048576"), None].into_iter().cycle().take(300) {
        let mut stalled = ask(&server, "POST", "/v1/batch");
        if let Some(bytes) = announced {
            stalled = stalled.header("content-length", bytes);
        }
        tokio::spawn(stalled.send(Body::new(StalledBody { has_begun: false })));
    }
    for number in 0..76 {
        ask(&server, "POST", "/v1/b").key(&key).send(format!("user u{number}")).await.with(200);
    }
}

impl hyper::body::Body for NeverBody {
    type Data = bytes::Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<bytes::Bytes>, Self::Error>>> {
        Poll::Pending
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_and_traps_are_typed_and_hide_what_is_inside() {
    let server = server();
    let key = source(&server, FIRST);
    ask(&server, "POST", "/v1/batch").key(&key).send("refuse").await.problem(400, "no");
    let trapped = ask(&server, "POST", "/v1/batch").key(&key).send("trap").await.problem(500, "trap");
    assert!(!trapped.to_string().contains("secret text"));
    let own = ask(&server, "POST", "/v1/batch").key(&key).send("answer").await;
    assert_eq!(own.headers["content-type"], "text/plain");
    assert_eq!(own.with(200), json!("own"), "a client route answers exactly 200");
    let own = ask(&server, "POST", "/api/v1/sources/lines/records").key(&key).send("answer").await;
    assert_eq!(own.with(202), json!("own"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_gets_its_settings() {
    let told = server_with(|config| config.http.public_url = Some("https://kith.example".parse().unwrap()));
    let key = source(&told, FIRST);
    let path = format!("/v1/projects/{key}/settings");
    for host in ["kith.example", "evil.example", "127.0.0.1"] {
        let settings = ask(&told, "GET", &path).header("host", host).empty().await.with(200);
        let client = &settings["integrations"]["Segment.io"];
        assert_eq!((&client["apiHost"], &client["protocol"]), (&json!("kith.example/v1"), &json!("https")), "{host}");
    }
    let untold = server();
    let path = format!("/v1/projects/{}/settings", source(&untold, FIRST));
    ask(&untold, "GET", &path).header("host", "evil.example").empty().await.problem(503, "no-public-url");
    ask(&untold, "GET", "/v1/projects/nobody/settings").empty().await.problem(404, "not-found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_stream_is_taken_piece_by_piece_and_lines_are_counted_through() {
    let server = server();
    let key = source(&server, FIRST);
    let mut lines: String = (0..40_000).map(|number| format!("user {number}\n")).collect();
    lines.push_str("bad\nlast one without an end");
    for body in [lines.clone().into_bytes(), gzip(&lines)] {
        let first = body.len() > 400_000;
        let answer = ask(&server, "POST", "/api/v1/sources/lines/records").key(&key).send(body).await.with(200);
        let (accepted, duplicate) = if first { (40_001, 0) } else { (0, 40_001) };
        assert_eq!((&answer["accepted"], &answer["duplicate"]), (&json!(accepted), &json!(duplicate)));
        assert_eq!(answer["rejected"][0]["line"], 40_001);
    }
    let mut cut = gzip(&lines);
    cut.truncate(cut.len() - 20);
    let answer = ask(&server, "POST", "/api/v1/sources/lines/records").admin().send(cut).await;
    let body = answer.problem(400, "bad-gzip");
    assert!(body["taken"]["duplicate"].as_u64().unwrap() > 0, "what was taken before is told: {body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_key_feeds_its_own_source_and_does_nothing_else() {
    let server = server();
    let key = source(&server, FIRST);
    ask(&server, "POST", "/api/v1/sources/lines/records").key(&key).send("ada").await.with(200);
    let stranger = key_with(&server, FIRST, &[Scope::Ingest], Some(InstallationId(901)));
    let answer = ask(&server, "POST", "/api/v1/sources/lines/records").key(&stranger).send("ada").await;
    answer.problem(404, "not-found");
    ask(&server, "GET", "/api/v1/profiles?identifier=user_id:ada").key(&key).empty().await.problem(403, "denied");
}

/// HTTP lets a caller make up a method, so that a series for each would let anybody fill the memory.
#[tokio::test(flavor = "multi_thread")]
async fn callers_make_no_series_of_figures() {
    let server = server();
    let long = "X".repeat(10_000);
    for number in 0..200 {
        let method = format!("ODD{number}{}", if number % 100 == 0 { long.as_str() } else { "" });
        for path in ["/healthz", &format!("/odd{number}"), "/v1/batch"] {
            ask(&server, &method, path).empty().await;
        }
    }
    let figures = server.app().metrics.render();
    assert!(figures.contains(r#"method="other""#), "they are counted");
    assert!(!figures.to_lowercase().contains("odd"), "and not by their names");
}
