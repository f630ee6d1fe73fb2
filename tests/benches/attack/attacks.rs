//! The attacks: each is one thing that workspace A, or somebody without a key, does until it is told to stop. A later one is a
//! function and a line of [`ATTACKS`].

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine as _;
use kith_tests::{ADMIN_KEY, Process, gzip};
use serde_json::{Map, Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// One attack.
pub(crate) struct Attack {
    pub name: &'static str,
    /// Go on until the flag is set.
    pub run: fn(&Stage, &AtomicBool),
}

/// All of them, in the order of the table.
pub(crate) static ATTACKS: &[Attack] = &[
    Attack { name: "600-loops", run: loops },
    Attack { name: "600-mute-peers", run: mute_peers },
    Attack { name: "12-answers-of-16-MB", run: large_answers },
    Attack { name: "24-amplifying-bodies", run: amplifying_bodies },
    Attack { name: "model-at-its-limit", run: model },
    Attack { name: "compile-bomb", run: compile_bomb },
    Attack { name: "condition-at-its-budget", run: condition },
    Attack { name: "refused-conditions", run: refused_condition },
    Attack { name: "4096-idle-connections", run: idle_connections },
    Attack { name: "dear-plan-checks", run: plan_checks },
    Attack { name: "exports", run: exports },
    Attack { name: "searches", run: searches },
    Attack { name: "suppression-lists", run: suppression_lists },
    Attack { name: "large-settings", run: large_settings },
];

/// Where requests go.
#[derive(Clone, Copy)]
struct Target(SocketAddr);

/// Workspace A, with everything installed that the attacks need.
pub(crate) struct Stage {
    target: Target,
    /// Runs the attackers: one thread, so that they take little of the machine from the server.
    runtime: Runtime,
    write_key: String,
    /// Takes connections and never answers.
    mute: std::net::TcpListener,
    bomb: Vec<u8>,
}

/// What one attacker sends again and again.
#[derive(Clone)]
struct Request {
    method: &'static str,
    path: &'static str,
    authorization: String,
    /// Further lines of the head, each with its end.
    headers: &'static str,
    body: Vec<u8>,
}

impl Target {
    /// One request on a connection of its own, read to the end.
    async fn exchange(self, request: &Request) {
        let Request { method, path, authorization, headers, body } = request;
        let Ok(mut stream) = TcpStream::connect(self.0).await else { return };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-type: application/json\r\n\
             authorization: {authorization}\r\n{headers}content-length: {}\r\n\r\n",
            self.0,
            body.len()
        );
        if stream.write_all(head.as_bytes()).await.is_ok() && stream.write_all(body).await.is_ok() {
            // A refusal is as good an end as an answer.
            let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
        }
    }
}

impl Stage {
    /// Install what the attacks need.
    pub(crate) fn set(server: &Process) -> Stage {
        let admin = server.admin();
        for plugin in ["kith/segment", "hostile/connector", "hostile/tag-model"] {
            let upload = admin.send("POST", "/api/v1/plugins", &[], kith_tests::component(plugin).component.clone());
            assert!(upload.status < 300, "{plugin}: {}", upload.text());
        }
        let installed = admin.post("/api/v1/installations", &json!({ "plugin": "kith/segment" })).is(201);
        let write_key = installed["write_key"].as_str().unwrap().to_owned();
        // Never accepted: the system takes the connections, and nobody reads.
        let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let grants = json!({ "http": [mute.local_addr().unwrap().to_string()] });
        let hostile = json!({ "plugin": "hostile/connector", "name": "bad", "grants": grants });
        admin.post("/api/v1/installations", &hostile).is(201);
        let config = json!({ "how": "well", "burn_millions": 400 });
        admin
            .post("/api/v1/installations", &json!({ "plugin": "hostile/tag-model", "name": "model", "config": config }))
            .is(201);
        let target = Target(server.url().strip_prefix("http://").unwrap().parse().unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let stage = Stage {
            target,
            runtime,
            write_key,
            mute,
            bomb: kith_tests::compile_bomb(kith_tests::component("kith/clv")),
        };
        stage.people();
        stage
    }

    /// People for the condition to be asked about.
    fn people(&self) {
        let person = |number: usize| {
            let id = format!("p{number}");
            json!({ "type": "track", "event": "Seen", "userId": id, "messageId": format!("{id}-1") })
        };
        for first in (0..5_000).step_by(100) {
            let body = json!({ "batch": (first..first + 100).map(person).collect::<Vec<_>>() }).to_string();
            self.runtime.block_on(self.target.exchange(&self.batch("", body.into_bytes())));
        }
    }

    /// What an honest day brings: the caches, which have bounds of their own, are as full afterwards as they ever are, so that
    /// what the attacks leave behind is told apart from them.
    pub(crate) fn fill_caches(&self) {
        let text = "x".repeat(2_000);
        let seen = |number: usize| {
            let id = format!("day-{}", number * 7_919 % 50_000);
            let properties = json!({ "text": text, "number": number });
            json!({ "type": "track", "event": "Seen", "userId": id, "messageId": format!("day-{number}"),
                    "properties": properties, "context": { "traits": { "plan": number % 5 } } })
        };
        for first in (0..100_000).step_by(100) {
            let body = json!({ "batch": (first..first + 100).map(seen).collect::<Vec<_>>() }).to_string();
            self.runtime.block_on(self.target.exchange(&self.batch("", body.into_bytes())));
        }
    }

    /// A batch for the honest connector.
    fn batch(&self, headers: &'static str, body: Vec<u8>) -> Request {
        let key = base64::engine::general_purpose::STANDARD.encode(format!("{}:", self.write_key));
        let authorization = format!("Basic {key}");
        Request { method: "POST", path: "/v1/batch", authorization, headers, body }
    }

    /// A request that only the customer's own key may make.
    fn own(path: &'static str, body: impl Into<Vec<u8>>) -> Request {
        Request { method: "POST", path, authorization: format!("Bearer {ADMIN_KEY}"), headers: "", body: body.into() }
    }

    fn look(path: &'static str) -> Request {
        Request { method: "GET", ..Stage::own(path, Vec::new()) }
    }

    /// So many at once, each again and again until the flag is set; those under way are dropped then. Each time differs, by
    /// its number, where the request says how.
    fn storm(&self, done: &AtomicBool, many: usize, make: impl Fn(usize) -> Request + Copy + Send + 'static) {
        let target = self.target;
        self.runtime.block_on(async {
            let mut attackers = JoinSet::new();
            for first in 0..many {
                attackers.spawn(async move {
                    for number in (first..).step_by(many) {
                        target.exchange(&make(number)).await;
                    }
                });
            }
            until(done).await;
        });
    }
}

/// Wait for the flag.
async fn until(done: &AtomicBool) {
    while !done.load(Ordering::SeqCst) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A call that runs until its processor time is used up, 600 at once.
fn loops(stage: &Stage, done: &AtomicBool) {
    stage.storm(done, 600, |number| Stage::own("/api/v1/sources/bad/records", format!("loop-{number}")));
}

/// A call that waits for a peer which never answers, 600 at once.
fn mute_peers(stage: &Stage, done: &AtomicBool) {
    let port = stage.mute.local_addr().unwrap().port();
    stage.storm(done, 600, move |number| {
        Stage::own("/api/v1/sources/bad/records", format!("hold 0 http://127.0.0.1:{port}/{number}"))
    });
}

/// A few bytes that a connector answers with 16 MB of events.
fn large_answers(stage: &Stage, done: &AtomicBool) {
    stage.storm(done, 12, |number| Stage::own("/api/v1/sources/bad/records", format!("texts t{number} 1000 15600")));
}

/// 298 bytes of gzip that hold 125,000 things which are no messages.
fn amplifying_bodies(stage: &Stage, done: &AtomicBool) {
    let many = format!("{{\"batch\":[{}1]}}", "1,".repeat(125_000));
    let request = stage.batch("content-encoding: gzip\r\n", gzip(many.as_bytes()));
    let request: &'static Request = Box::leak(Box::new(request));
    stage.storm(done, 24, |_| request.clone());
}

/// A tag model that computes for as long as one call may.
fn model(stage: &Stage, done: &AtomicBool) {
    let authorization = stage.batch("", Vec::new()).authorization;
    let authorization: &'static str = Box::leak(authorization.into_boxed_str());
    stage.storm(done, 1, move |number| {
        let id = format!("p{}", number % 5_000);
        let traits = json!({ "city": format!("city {number}") });
        let moves =
            json!({ "type": "identify", "userId": id, "messageId": format!("{id}-m{number}"), "traits": traits });
        let body = json!({ "batch": [moves] }).to_string().into_bytes();
        Request { method: "POST", path: "/v1/batch", authorization: authorization.to_owned(), headers: "", body }
    });
}

/// Uploads that take long to compile, each another plugin.
fn compile_bomb(stage: &Stage, done: &AtomicBool) {
    let bomb: &'static [u8] = Box::leak(stage.bomb.clone().into_boxed_slice());
    stage.storm(done, 8, move |number| {
        // A custom section of its own makes it a component that was never seen.
        let section = [&[0, 9, 4], b"seed".as_slice(), &u32::try_from(number).unwrap().to_be_bytes()].concat();
        Stage::own("/api/v1/plugins", [bomb, &section].concat())
    });
}

/// A condition that takes nearly all that it may for each person, asked by eight at once.
fn condition(stage: &Stage, done: &AtomicBool) {
    ask_by_eight(
        stage,
        done,
        "[0,1,2,3,4,5,6,7,8,9].exists(a, [0,1,2,3,4,5,6,7,8,9,10,11,12].exists(b, \
         [0,1,2,3,4,5,6,7,8,9].exists(c, scores.x > 5.0 + double(a))))",
    );
}

/// One that may take more than any may, and is refused once it is read.
fn refused_condition(stage: &Stage, done: &AtomicBool) {
    ask_by_eight(
        stage,
        done,
        "[0,1,2,3,4,5,6,7,8,9].exists(a, [0,1,2,3,4,5,6,7,8,9].exists(b, [0,1,2,3,4,5,6,7,8,9].exists(c, \
         [0,1,2,3,4,5].exists(d, scores.x > 5.0 + double(a)))))",
    );
}

/// How many people meet a condition, each time another one.
fn ask_by_eight(stage: &Stage, done: &AtomicBool, condition: &'static str) {
    stage.storm(done, 8, move |number| {
        let condition = format!("{condition} || traits.n == {number}");
        Stage::own("/api/v1/audiences/count", json!({ "condition": condition }).to_string())
    });
}

/// A plan of many patterns that is not stored, tried on one record of half a mebibyte.
fn plan_checks(stage: &Stage, done: &AtomicBool) {
    let patterns: Map<String, Value> = (0..55).map(|number| (format!("^(.*)x{number}$"), json!({}))).collect();
    let properties: Map<String, Value> = (0..40_000).map(|number| (format!("n{number}"), json!(1))).collect();
    let plan = json!({ "events": { "B": { "policy": "reject", "schema": { "patternProperties": patterns } } } });
    let trial = json!({ "plan": plan, "records": [{ "type": "track", "name": "B", "properties": properties }] });
    let body: &'static str = Box::leak(trial.to_string().into_boxed_str());
    stage.storm(done, 12, move |_| Stage::own("/api/v1/tracking-plans/x/check", body));
}

/// Everybody, taken out by sixteen at once.
fn exports(stage: &Stage, done: &AtomicBool) {
    stage.storm(done, 16, |_| Stage::look("/api/v1/profiles/export?columns=id"));
}

/// Nobody, looked for among everybody by sixteen at once.
fn searches(stage: &Stage, done: &AtomicBool) {
    let traits: Vec<String> = (0..32).map(|number| format!("trait.a{number}={number}")).collect();
    let path = format!("/api/v1/profiles?prefix=user_id:nobody&{}", traits.join("&"));
    let path: &'static str = Box::leak(path.into_boxed_str());
    stage.storm(done, 16, move |_| Stage::look(path));
}

/// As many identifiers as a request may bring, each time others.
fn suppression_lists(stage: &Stage, done: &AtomicBool) {
    stage.storm(done, 8, |number| {
        let identifiers: Vec<String> = (0..10_000).map(|of| format!("email:a{number}-{of}@shop.example")).collect();
        Stage::own("/api/v1/suppressions", json!({ "identifiers": identifiers }).to_string())
    });
}

/// A dictionary of 5,000 entries, each of which is another one each time.
fn large_settings(stage: &Stage, done: &AtomicBool) {
    stage.storm(done, 8, |number| {
        let meaning = format!("m{}", number % 3).repeat(40);
        let entry = |of: usize| json!({ "kind": "trait", "name": format!("t{of}"), "meaning": meaning });
        let document = json!({ "remove_others": true, "entries": (0..5_000).map(entry).collect::<Vec<_>>() });
        Stage::own("/api/v1/dictionary/import", document.to_string())
    });
}

/// Connections of four addresses that say nothing. Those that the server closed are opened again, some thousands a second at
/// most: looking after them for each that is opened kept one of the cores busy that the server shares.
fn idle_connections(stage: &Stage, done: &AtomicBool) {
    const HELD: usize = 4_096;
    const OPENED_AT_ONCE: usize = 64;
    stage.runtime.block_on(async {
        let mut held = Vec::new();
        while !done.load(Ordering::SeqCst) {
            held.retain(|stream: &TcpStream| {
                stream.try_read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
            });
            for _ in 0..OPENED_AT_ONCE.min(HELD - held.len()) {
                let from = SocketAddr::from(([127, 0, 0, 2 + u8::try_from(held.len() % 4).unwrap()], 0));
                let socket = TcpSocket::new_v4().unwrap();
                if socket.bind(from).is_ok()
                    && let Ok(Ok(stream)) = timeout(Duration::from_millis(50), socket.connect(stage.target.0)).await
                {
                    held.push(stream);
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
}
