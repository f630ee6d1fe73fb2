//! How messages flow: through one installation of `kith/webhook` to a receiver that answers at once and to one that takes
//! 100 ms, and through ten of which one receiver hangs; beside a plain hyper client that sends the same bodies.
//!
//! `cargo bench --bench deliver` prints each figure beside its bound; nothing here passes or fails. `-- instant`, `-- slow` or
//! `-- hanging` measures that part alone, `-- quick` sends a tenth of the messages.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a measurement that cannot go on has to stop, and to say where"
)]
#![allow(clippy::print_stdout, reason = "a table on standard output is what this program is for")]
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

mod figures;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use kith_tests::{Client, Process, SIGNING_SECRET, component, settle, wait_for};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

use crate::figures::Asked;

/// As in the product.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Connections of the plain client.
const PLAIN_CONNECTIONS: usize = 64;

/// How a receiver answers.
#[derive(Clone, Copy)]
enum Answer {
    After(Duration),
    Never,
}

/// A receiver on loopback: when each message arrived, and the last body.
struct Receiver {
    address: SocketAddr,
    arrived: Arc<Mutex<Vec<Instant>>>,
    body: Arc<Mutex<Bytes>>,
}

impl Receiver {
    fn start(runtime: &Runtime, answer: Answer) -> Receiver {
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let (arrived, body) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Bytes::new())));
        let receiver = Receiver { address, arrived: Arc::clone(&arrived), body: Arc::clone(&body) };
        runtime.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let (arrived, body) = (Arc::clone(&arrived), Arc::clone(&body));
                let service = service_fn(move |request: Request<Incoming>| {
                    let (arrived, body) = (Arc::clone(&arrived), Arc::clone(&body));
                    async move {
                        let content = request.into_body().collect().await.map(|whole| whole.to_bytes());
                        arrived.lock().unwrap().push(Instant::now());
                        if let Ok(content) = content {
                            *body.lock().unwrap() = content;
                        }
                        match answer {
                            Answer::After(delay) if delay.is_zero() => {}
                            Answer::After(delay) => tokio::time::sleep(delay).await,
                            Answer::Never => std::future::pending().await,
                        }
                        Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
                    }
                });
                // A sender that hangs up ends its connection and nothing else.
                tokio::spawn(async move {
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await
                        .ok()
                });
            }
        });
        receiver
    }

    fn arrivals(&self) -> usize {
        self.arrived.lock().unwrap().len()
    }

    /// From the first arrival until the last.
    fn span(&self) -> Duration {
        let arrived = self.arrived.lock().unwrap();
        *arrived.last().unwrap() - *arrived.first().unwrap()
    }
}

/// A server with one channel and one audience for each receiver; whoever has the trait `shard: N` enters audience N.
struct Sender {
    server: Process,
    _folder: tempfile::TempDir,
    source: Client,
    channels: Vec<String>,
}

impl Sender {
    fn open(receivers: &[Receiver]) -> Sender {
        let folder = tempfile::tempdir().unwrap();
        let server = Process::serve(folder.path(), &["--allow-loopback", "--allow-plain-http"]);
        let admin = server.admin();
        for plugin in ["kith/segment", "kith/webhook"] {
            admin.send("POST", "/api/v1/plugins", &[], component(plugin).component.clone()).is(201);
        }
        let installed = admin.post("/api/v1/installations", &json!({ "plugin": "kith/segment" })).is(201);
        let channels: Vec<String> = (0..receivers.len()).map(|number| format!("webhook-{number}")).collect();
        for (number, (channel, receiver)) in channels.iter().zip(receivers).enumerate() {
            let host = receiver.address.to_string();
            let body = json!({
                "plugin": "kith/webhook", "name": channel, "config": { "url": format!("http://{host}/hook") },
                "grants": { "http": [host], "secrets": { "signing": [host] } },
                "secrets": { "signing": SIGNING_SECRET },
            });
            admin.post("/api/v1/installations", &body).is(201);
            let action = json!({ "channel": channel, "purpose": "marketing", "basis": "not_refused",
                "payload": { "text": "There is something in your cart", "link": "https://shop.example/cart" } });
            let condition = format!("events('Product Added').exists(e, e.shard == {number})");
            let audience = json!({ "name": format!("carts-{number}"), "condition": condition, "on_enter": action });
            admin.post("/api/v1/audiences", &audience).is(201);
        }
        settle(&admin);
        let source = Client::with_write_key(server.url(), installed["write_key"].as_str().unwrap());
        Sender { server, _folder: folder, source, channels }
    }

    fn switch(&self, mode: &str) {
        for channel in &self.channels {
            let path = format!("/api/v1/installations/{channel}");
            self.server.admin().patch(&path, &json!({ "mode": mode })).is(200);
        }
    }

    /// Let people enter while the channels are switched off, so that only the sending is measured.
    fn enter(&self, people: usize) {
        self.switch("disabled");
        let shards = self.channels.len();
        let messages: Vec<Value> = (0..people)
            .map(|number| {
                json!({ "type": "track", "event": "Product Added", "userId": format!("user-{number}"),
                    "messageId": format!("m-{number}"), "properties": { "shard": number % shards } })
            })
            .collect();
        for part in messages.chunks(500) {
            self.source.post("/v1/batch", &json!({ "batch": part })).is(200);
        }
        settle(&self.server.admin());
    }

    fn delivered(&self) -> u64 {
        self.server.admin().get("/api/v1/workspace").is(200)["totals"]["deliveries"]["delivered"].as_u64().unwrap()
    }
}

/// What sending so many messages came to.
struct Sent {
    arrived_per_s: f64,
    receipted_per_s: f64,
    processor_us: f64,
}

/// Send to everybody through the channels and wait until `messages` of them are delivered and receipted.
fn send(sender: &Sender, receivers: &[Receiver], people: usize, messages: usize) -> Sent {
    sender.enter(people);
    let (begun, processor) = (Instant::now(), sender.server.processor_time());
    sender.switch("live");
    let answering = &receivers[receivers.len() - messages.div_ceil(people / receivers.len())..];
    wait_long("the messages arrive", || answering.iter().map(Receiver::arrivals).sum::<usize>() >= messages);
    wait_long("the receipts are kept", || sender.delivered() >= messages as u64);
    let receipted = begun.elapsed();
    settle(&sender.server.admin());
    let processor = sender.server.processor_time().saturating_sub(processor);
    let span = answering.iter().map(Receiver::span).max().unwrap();
    Sent {
        arrived_per_s: messages as f64 / span.as_secs_f64(),
        receipted_per_s: messages as f64 / receipted.as_secs_f64(),
        processor_us: processor.as_secs_f64() * 1e6 / messages as f64,
    }
}

/// [`wait_for`] with more patience: the figures from before take minutes.
fn wait_long(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(1_200) {
        let until = Instant::now() + Duration::from_secs(60);
        if wait_for(what, || if holds() { Some(true) } else { (Instant::now() > until).then_some(false) }) {
            return;
        }
    }
    panic!("waited in vain: {what}");
}

fn print(what: &str, sent: &Sent) {
    println!(
        "  {what:<34} {:>7.0} messages/s arrive   {:>7.0} messages/s committed and receipted   {:>7.0} us of processor a message",
        sent.arrived_per_s, sent.receipted_per_s, sent.processor_us
    );
}

/// The same bodies from a plain hyper client on kept connections; messages/s from the first arrival until the last.
fn plain(runtime: &Runtime, receiver: &Receiver, messages: usize) -> f64 {
    let body = receiver.body.lock().unwrap().clone();
    receiver.arrived.lock().unwrap().clear();
    let (address, next) = (receiver.address, Arc::new(AtomicUsize::new(0)));
    let lanes: Vec<_> = (0..PLAIN_CONNECTIONS)
        .map(|_| {
            let (body, next) = (body.clone(), Arc::clone(&next));
            runtime.spawn(async move {
                let stream = TcpStream::connect(address).await.unwrap();
                stream.set_nodelay(true).unwrap();
                let (mut sender, connection) =
                    hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
                tokio::spawn(connection);
                while next.fetch_add(1, Ordering::Relaxed) < messages {
                    let request = Request::post("/hook")
                        .header("host", address.to_string())
                        .header("content-type", "application/json")
                        .body(Full::new(body.clone()))
                        .unwrap();
                    let answer = sender.send_request(request).await.unwrap();
                    answer.into_body().collect().await.unwrap();
                    sender.ready().await.unwrap();
                }
            })
        })
        .collect();
    for lane in lanes {
        runtime.block_on(lane).unwrap();
    }
    messages as f64 / receiver.span().as_secs_f64()
}

fn one_receiver(runtime: &Runtime, what: &str, delay: Duration, messages: usize, bound: u32) {
    println!("\n{what}: {messages} messages through one installation of kith/webhook");
    let receivers = [Receiver::start(runtime, Answer::After(delay))];
    let sender = Sender::open(&receivers);
    print("kith", &send(&sender, &receivers, messages, messages));
    println!("  bound: >= {bound} messages/s committed and receipted");
    let plain = plain(runtime, &receivers[0], messages);
    println!("  a plain hyper client, {PLAIN_CONNECTIONS} connections {plain:>7.0} messages/s");
    sender.server.terminate();
}

fn hanging(runtime: &Runtime, messages: usize) {
    println!("\nten receivers, {messages} messages; then the same where the first one never answers");
    let mut costs = Vec::new();
    for (what, first) in [("all answer", Answer::After(Duration::ZERO)), ("one hangs", Answer::Never)] {
        let answers = std::iter::once(first).chain(std::iter::repeat_n(Answer::After(Duration::ZERO), 9));
        let receivers: Vec<Receiver> = answers.map(|answer| Receiver::start(runtime, answer)).collect();
        let sender = Sender::open(&receivers);
        let answered = match first {
            Answer::Never => messages / 10 * 9,
            Answer::After(_) => messages,
        };
        let sent = send(&sender, &receivers, messages, answered);
        print(what, &sent);
        costs.push(sent.processor_us);
        // It may hang in its last request to the silent receiver; the figures are taken.
        sender.server.kill();
    }
    println!("  processor time of a message beside a hanging one: {:.2} x (bound: <= 1.1)", costs[1] / costs[0]);
}

fn main() {
    let Some(asked) = Asked::of("deliver") else { return };
    let messages = if asked.is_quick { 500 } else { 5_000 };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    if asked.part("instant") {
        one_receiver(&runtime, "a receiver that answers at once", Duration::ZERO, messages, 2_000);
    }
    if asked.part("slow") {
        one_receiver(&runtime, "a receiver that takes 100 ms", Duration::from_millis(100), messages, 500);
    }
    if asked.part("hanging") {
        hanging(&runtime, messages);
    }
}
