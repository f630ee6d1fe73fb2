//! Attacks that once ended the process, filled its disk or switched a source off, with the inputs that did it and more of their
//! kind: each costs whoever sends it an answer, and the second tenant beside it nothing.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;

use kith_tests::{Client, Neighbour, Process, Receiver, Source, TestKernel, component, gzip, settle, wait_until};
use serde_json::{Value, json};

use super::datapath::stage::{define, mode, size};
use super::guests::bytes_below;

/// HTTP lets a caller make up a method, and each made a series of figures that stayed: 3,000 requests with methods of 100 KB took
/// 1.1 GiB, and 11,000 ended the process. Nobody needed a key for it.
#[test]
fn made_up_methods_leave_nothing_behind() {
    const LONGEST: usize = 100_000;
    /// What buffers, allocator and the rest of the server may take meanwhile; the methods are 100 MB.
    const SLACK_BYTES: u64 = 48 << 20;
    let (folder, neighbour) = (tempfile::tempdir().unwrap(), Arc::new(Neighbour::through("hostile/connector")));
    let server = Process::serve_beside(&neighbour, folder.path(), &[]);
    let admin = server.admin();
    let ask = |number: usize, length: usize| {
        let name = format!("MADEUP{number}");
        let method = name.clone() + &"A".repeat(length.saturating_sub(name.len()));
        let mut stream = TcpStream::connect(server.url().trim_start_matches("http://")).unwrap();
        stream
            .write_all(format!("{method} /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes())
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 405 "), "a method of {length} bytes: {answer}");
    };
    (1..200).for_each(|length| ask(length, length));
    (0..20).for_each(|number| ask(number, LONGEST));
    let (figures_before, bytes_before) = (admin.get("/metrics").text().len(), server.resident_bytes());
    (0..1_000).for_each(|number| ask(number, LONGEST));
    let grown = server.resident_bytes().saturating_sub(bytes_before);
    assert!(grown < SLACK_BYTES, "{} MiB", grown >> 20);
    let figures = admin.get("/metrics").text();
    assert!(!figures.contains("MADEUP") && figures.contains("method=\"other\""), "{figures}");
    // The series of other routes that were asked meanwhile are a few lines each.
    assert!(figures.len() < figures_before + (32 << 10), "{figures_before} bytes became {}", figures.len());
    assert!(server.terminate().success());
}

/// Loops within loops over a list.
fn nested(list: &str, loops: usize) -> String {
    let open: String = (0..loops).map(|depth| format!("{list}.exists(v{depth}, ")).collect();
    format!("{open}v0 == traits.city{}", ")".repeat(loops))
}

/// Something that is twice as large after each loop, and is then held against a trait.
fn doubled(begin: &str, loops: usize) -> String {
    let maps: String = (0..loops).map(|depth| format!(".map(v{depth}, v{depth} + v{depth})")).collect();
    format!("[{begin}]{maps}.exists(v, v == traits.city)")
}

/// Fourteen loops over ten numbers kept a processor at work for ever, and with it the reaction of every workspace; forty
/// doublings of a text ended the process, as an audience at each start. Neither took a key that could change anything.
#[test]
fn a_condition_that_costs_too_much_holds_up_nobody_and_no_start() {
    let mut kernel = TestKernel::start();
    let key = kernel.key(&["audiences:read", "profiles:read"]);
    let write_key = kernel.segment().write_key;
    let text = format!("'{}'", "x".repeat(50));
    let dear = |begin: &str| [24, 40, 60].map(|loops| doubled(begin, loops));
    let dear: Vec<String> = [text.as_str(), "[1, 2, 3, 4]"].into_iter().flat_map(dear).collect();
    define(&kernel.admin(), "everybody", "traits.city != 'nowhere'");
    for (number, condition) in dear.iter().enumerate() {
        define(&kernel.admin(), &format!("dear{number}"), condition);
    }
    for start in 0..3 {
        let (admin, reader) = (kernel.admin(), kernel.caller(&key));
        let source = Source { client: Client::with_write_key(kernel.url(), &write_key), write_key: write_key.clone() };
        let traits = json!({ "city": format!("city {start}"), "list": [0, 1, 2, 3, 4, 5, 6, 7, 8, 9] });
        let people: Vec<Value> = ["ada", "bob"]
            .map(|user| json!({ "type": "identify", "userId": user, "messageId": format!("{user}{start}"), "traits": traits }))
            .into();
        source.batch(&people);
        for number in 0..dear.len() {
            let audience = || admin.get(&format!("/api/v1/audiences/dear{number}")).is(200);
            wait_until("the dear condition is set aside for both", || audience()["fault"]["people"] == 2);
        }
        kernel.settle();
        assert_eq!(size(&admin, "everybody"), Some(2), "the other audience goes on");
        let asked = |condition: &str| reader.post("/api/v1/audiences/count", &json!({ "condition": condition }));
        for list in ["[0,1,2,3,4,5,6,7,8,9]", "traits.list"] {
            for loops in [7, 14, 14, 40] {
                let refused = asked(&nested(list, loops)).is_problem(400, "bad-expression");
                assert!(refused.to_string().contains("steps for one person"), "{refused}");
                let stored = json!({ "name": "loops", "condition": nested(list, loops) });
                admin.post("/api/v1/audiences", &stored).is_problem(400, "bad-expression");
            }
        }
        for condition in &dear {
            assert_eq!(asked(condition).is(200)["count"], 0, "{condition}");
        }
        // It ends when it is told to, and comes up with these audiences.
        kernel.restart();
    }
}

/// Of whom such a condition had ended was forgotten with the process, until these people changed; and of one that reads nothing of
/// a person, nobody was told of who came after it.
#[test]
fn whom_a_condition_costs_too_much_for_is_told_after_a_kill() {
    let (folder, neighbour) = (tempfile::tempdir().unwrap(), Arc::new(Neighbour::default()));
    let server = Process::serve_beside(&neighbour, folder.path(), &[]);
    let admin = server.admin();
    admin.send("POST", "/api/v1/plugins", &[], component("kith/segment").component.clone()).is(201);
    let installed = admin.post("/api/v1/installations", &json!({ "plugin": "kith/segment" })).is(201);
    let write_key = installed["write_key"].as_str().unwrap().to_owned();
    let send = |server: &Process, users: &[&str]| {
        let seen = |user: &&str| json!({ "type": "track", "event": "Seen", "userId": user, "messageId": user });
        let batch = json!({ "batch": users.iter().map(seen).collect::<Vec<_>>() });
        Client::with_write_key(server.url(), &write_key).post("/v1/batch", &batch).is(200);
        settle(&server.admin());
    };
    let faults = |server: &Process| {
        ["dear", "constant"]
            .map(|name| server.admin().get(&format!("/api/v1/audiences/{name}")).is(200)["fault"].clone())
    };
    let people = |server: &Process| faults(server).map(|fault| fault["people"].clone());
    let dear = doubled(&format!("'{}'", "x".repeat(50)), 24);
    define(&admin, "dear", &dear);
    define(&admin, "constant", &dear.replace("traits.city", "'nowhere'"));
    send(&server, &["ada", "bob"]);
    let before = faults(&server);
    assert_eq!(people(&server), [2, 2], "{before:?}");
    server.kill();

    let server = Process::serve_beside(&neighbour, folder.path(), &[]);
    settle(&server.admin());
    assert_eq!(faults(&server), before, "since when, how many and who");
    send(&server, &["cid"]);
    assert_eq!(people(&server), [3, 3]);
    server.admin().patch("/api/v1/audiences/dear", &json!({ "condition": "traits.city != 'nowhere'" })).is(200);
    settle(&server.admin());
    server.kill();

    let server = Process::serve_beside(&neighbour, folder.path(), &[]);
    settle(&server.admin());
    assert_eq!(people(&server), [Value::Null, json!(3)], "the other condition has none");
    assert!(server.terminate().success());
}

/// A list of so many times the same, as a batch of about so many bytes.
fn batch_of(item: &[u8], bytes: usize) -> Vec<u8> {
    let items = vec![item; bytes / (item.len() + 1)].join(&b","[..]);
    [b"{\"batch\":[", items.as_slice(), b"]}"].concat()
}

/// Three bodies of 359 bytes, compressed, with a write key that stands in every browser switched the source off for everybody.
#[test]
fn no_body_with_a_write_key_switches_its_source_off() {
    const BYTES: usize = 300 << 10;
    let kernel = TestKernel::start();
    let source = kernel.segment();
    let tiny = br#"{"type":"track","userId":"u","event":"E","messageId":"m"}"#;
    let items: [(&[u8], usize); 9] = [
        (b"1", BYTES),
        (b"{}", BYTES),
        (b"null", BYTES),
        (b"\"\"", BYTES),
        (b"[]", BYTES),
        (b"\"\xff\xfe\"", BYTES),
        (b"{\"type\":\"track\"}", BYTES),
        (b"[[[[[[[[1]]]]]]]]", BYTES),
        (tiny, 4 << 20),
    ];
    for (item, bytes) in items {
        let body = batch_of(item, bytes);
        let times = if item == b"1" { 3 } else { 1 };
        for sent in vec![gzip(&body); times] {
            let answer = source.client.send("POST", "/v1/batch", &[("content-type", "application/json")], sent);
            let item = String::from_utf8_lossy(item);
            assert!(matches!(answer.status, 200 | 400 | 413), "{item}: {} {}", answer.status, answer.text());
        }
        assert_eq!(mode(&kernel.admin(), "segment"), "live", "{}", String::from_utf8_lossy(item));
    }
    assert_eq!(
        source.batch(&[json!({ "type": "track", "userId": "ada", "event": "E", "messageId": "last" })])["accepted"],
        1
    );
}

/// A body of 298 bytes, compressed, became 57 MiB of rows that were set aside, and 24 of them a gigabyte; the workspace's figures
/// then took 16 seconds.
#[test]
fn bodies_of_nothing_but_mistakes_become_few_rows() {
    const PARTS: usize = 125_829;
    const REQUESTS: u64 = 24;
    let kernel = TestKernel::start();
    let source = kernel.segment();
    kernel.settle();
    let before = bytes_below(kernel.folder());
    for number in 10..10 + REQUESTS {
        // Parts that are told from those of the other requests, so that each request has its own rows.
        let body = gzip(format!("{{\"batch\":[{number}{}]}}", format!(",{number}").repeat(PARTS - 1)));
        assert!(body.len() < 16 << 10, "{} bytes are sent", body.len());
        let counts = source.client.send("POST", "/v1/batch", &[], body).is(200);
        assert_eq!(counts["rejected_count"], PARTS);
    }
    kernel.settle();
    let totals = kernel.admin().get("/api/v1/workspace").is(200)["totals"].clone();
    let set_aside = totals["set_aside"].as_u64().unwrap();
    // A hundred of each request are kept as they came, and one row counts the others.
    assert!((1..=REQUESTS * 101).contains(&set_aside), "{totals}");
    let grown = bytes_below(kernel.folder()).saturating_sub(before);
    assert!(grown < 8 << 20, "{} MiB", grown >> 20);
}

/// A request whose body was one secret 300,000 times was filled in for 80 seconds, under limits of two of processor time, before
/// anybody looked at how large it had become.
#[test]
fn a_request_of_nothing_but_secrets_does_not_leave() {
    let (kernel, receiver) = (TestKernel::start(), Receiver::start());
    let host = receiver.host();
    let grants = json!({ "http": [host], "secrets": { "token": [host] } });
    let wanted = json!({ "name": "teller", "grants": grants, "secrets": { "token": "s".repeat(4 << 10) } });
    kernel.install("hostile/connector", wanted);
    for times in [17, 1_000, 40_000, 300_000] {
        let body = format!("secrets {times} http://{host}/");
        let answer = kernel.admin().send("POST", "/api/v1/sources/teller/records", &[], body);
        assert!(matches!(answer.status, 200 | 413 | 500), "{times}: {} {}", answer.status, answer.text());
    }
    assert!(receiver.arrived().is_empty(), "nothing left");
}
