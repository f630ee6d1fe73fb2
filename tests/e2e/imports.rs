//! Files through the command line: again after weeks, in another order, corrected, with rows that are rejected, and broken off.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kith_model::time::{Clock as _, DAY_MS};
use kith_tests::{TestKernel, kith, wait_for};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

fn run(kernel: &TestKernel, file: &Path, source: &str) -> Output {
    let mut command = Command::new(kith());
    command.args(["--url", kernel.url(), "--key", kith_tests::ADMIN_KEY, "--json", "import"]);
    command.arg(file).args(["--source", source]).output().unwrap()
}

/// Import a text; the exit status, and accepted, corrected, duplicate, conflicting and rejected records.
fn import(kernel: &TestKernel, file: &Path, text: &str, source: &str) -> (Option<i32>, Vec<u64>) {
    std::fs::write(file, text).unwrap();
    let output = run(kernel, file, source);
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let counts = ["accepted", "corrected", "duplicate", "conflict", "rejected_count"];
    let counts = counts.map(|name| answer[name].as_u64().unwrap_or_else(|| panic!("{name} of {output:?}")));
    (output.status.code(), counts.to_vec())
}

fn mapping(name: &str, more: Value) -> Value {
    let mut config = json!({
        "event": { "name": "Order" }, "identifiers": { "user_id": "id" },
        "properties": { "total": { "column": "total", "type": "number" } },
    });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({ "name": name, "config": config })
}

/// The same file weeks later, also to a source that was removed and installed again under its name.
#[test]
fn a_file_is_known_for_ever_under_its_sources_name() {
    let mut kernel = TestKernel::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("orders.csv");
    let text = "id,order,total\n9,p1,5\n9,p2,6\n8,p3,7\n";
    kernel.install("kith/csv", mapping("orders", json!({ "message_id": "order" })));
    assert_eq!(import(&kernel, &file, text, "orders"), (Some(0), vec![3, 0, 0, 0, 0]));
    let now = kernel.clock.now();
    kernel.clock.set(now.plus_ms(19 * DAY_MS));
    kernel.restart();
    assert_eq!(import(&kernel, &file, text, "orders"), (Some(0), vec![0, 0, 3, 0, 0]));
    let removed = Command::new(kith())
        .args(["--url", kernel.url(), "--key", kith_tests::ADMIN_KEY, "plugin", "remove", "orders", "--yes"])
        .output()
        .unwrap();
    assert!(removed.status.success(), "{removed:?}");
    kernel.install("kith/csv", mapping("orders", json!({ "message_id": "order" })));
    assert_eq!(import(&kernel, &file, text, "orders"), (Some(0), vec![0, 0, 3, 0, 0]));
    assert_eq!(kernel.events("user_id:9").len(), 2);
}

/// Without ids a row is what it holds: one in front, another order and other line ends bring what is new alone.
#[test]
fn rows_without_ids_are_known_by_what_they_hold() {
    let kernel = TestKernel::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("visits.csv");
    kernel.install("kith/csv", mapping("visits", json!({})));
    assert_eq!(import(&kernel, &file, "id,total\n1,5\n1,6\n1,6\n", "visits").1, [3, 0, 0, 0, 0]);
    assert_eq!(import(&kernel, &file, "id,total\n7,9\n1,5\n1,6\n1,6\n", "visits").1, [1, 0, 3, 0, 0]);
    assert_eq!(import(&kernel, &file, "id,total\r\n1,6\r\n7,9\r\n1,6\r\n1,5\r\n1,6\r\n", "visits").1, [1, 0, 4, 0, 0]);
    assert_eq!(kernel.events("user_id:1").len(), 4);
}

/// A corrected order counts as what it is now in conditions, facts and history; without `upsert` it is a conflict.
#[test]
fn a_corrected_row_takes_the_place_of_the_one_before() {
    let kernel = TestKernel::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("orders.csv");
    let with_city = json!({ "message_id": "order", "traits": { "city": "city" } });
    kernel.install("kith/csv", mapping("strict", with_city.clone()));
    let before = "id,order,total,city\n1,p1,500,Oslo\n2,p2,20,Rome\n";
    let after = "id,order,total,city\n1,p1,50,Bern\n2,p2,20,Rome\n";
    assert_eq!(import(&kernel, &file, before, "strict"), (Some(0), vec![2, 0, 0, 0, 0]));
    assert_eq!(import(&kernel, &file, after, "strict"), (Some(2), vec![0, 0, 1, 1, 1]));
    let mut upsert = with_city;
    upsert["upsert"] = json!(true);
    kernel.install("kith/csv", mapping("orders", upsert));
    let many = "events('Order').filter(e, e.total > 100).size() > 0";
    kernel.admin().post("/api/v1/audiences", &json!({ "name": "many", "condition": many })).is(201);
    let (before, after) = (before.replace("\n1,", "\n3,"), after.replace("\n1,", "\n3,"));
    assert_eq!(import(&kernel, &file, &before, "orders").1, [2, 0, 0, 0, 0]);
    kernel.settle();
    assert_eq!(kernel.admin().get("/api/v1/audiences/many").is(200)["size"], 2);
    assert_eq!(import(&kernel, &file, &after, "orders"), (Some(0), vec![0, 1, 1, 0, 0]));
    kernel.settle();
    assert_eq!(kernel.admin().get("/api/v1/audiences/many").is(200)["size"], 1, "3 has no large order any more");
    assert_eq!(kernel.count(many), 1);
    let events = kernel.events("user_id:3");
    assert_eq!((events.len(), events[0]["properties"]["total"].as_f64()), (1, Some(50.0)), "{events:?}");
    assert_eq!(kernel.profile("user_id:3")["traits"]["city"]["value"], "Bern");
}

/// Rejected rows stand in a file as they stood in the input; corrected they are sent again, and nothing else is.
#[test]
fn rejected_rows_are_written_down_to_be_corrected_and_sent_again() {
    let kernel = TestKernel::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("orders.csv");
    kernel.install("kith/csv", mapping("orders", json!({ "message_id": "order" })));
    let text = "id,order,total\n1,p1,5\n2,p2,\"six\neuros\"\n3,p3,7\n4,p4,eight\n";
    assert_eq!(import(&kernel, &file, text, "orders"), (Some(2), vec![2, 0, 0, 0, 2]));
    let rows = folder.path().join("orders.csv.rejected.csv");
    let rejected = std::fs::read_to_string(&rows).unwrap();
    assert_eq!(rejected, "id,order,total\n2,p2,\"six\neuros\"\n4,p4,eight\n");
    let reasons = std::fs::read_to_string(folder.path().join("orders.csv.rejected.csv.reasons.csv")).unwrap();
    let codes: Vec<&str> = reasons.lines().map(|line| line.rsplitn(2, ",\"").last().unwrap_or_default()).collect();
    assert_eq!(codes, ["line,code,reason", "3,bad-number", "6,bad-number"], "{reasons}");
    let corrected = rejected.replace("\"six\neuros\"", "6").replace("eight", "8");
    assert_eq!(import(&kernel, &rows, &corrected, "orders"), (Some(0), vec![2, 0, 0, 0, 0]));
    assert_eq!(
        run(&kernel, &file, "nobody").status.code(),
        Some(1),
        "another end than rejected rows has another status"
    );
}

/// What another program writes is imported as a file of that name would be, with its rejected rows beside it.
#[test]
fn the_standard_input_is_a_file_with_a_name() {
    let kernel = TestKernel::start();
    let folder = tempfile::tempdir().unwrap();
    kernel.install("kith/csv", mapping("orders", json!({ "message_id": "order" })));
    let piped = |more: &[&str]| {
        let mut command = Command::new(kith());
        command.args([
            "--url",
            kernel.url(),
            "--key",
            kith_tests::ADMIN_KEY,
            "--json",
            "import",
            "-",
            "--source",
            "orders",
        ]);
        let mut child = command
            .args(more)
            .current_dir(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that refuses its arguments reads nothing.
        drop(child.stdin.take().unwrap().write_all(b"id,order,total\n1,p1,5\n2,p2,six\n"));
        child.wait_with_output().unwrap()
    };
    let unnamed = piped(&[]);
    assert_eq!(unnamed.status.code(), Some(2), "{unnamed:?}");
    assert!(String::from_utf8_lossy(&unnamed.stderr).contains("--name"), "{unnamed:?}");
    let output = piped(&["--name", "orders.csv"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&answer["accepted"], &answer["rejected_count"]), (&json!(1), &json!(1)), "{answer}");
    let rejected = std::fs::read_to_string(folder.path().join("orders.csv.rejected.csv")).unwrap();
    assert_eq!(rejected, "id,order,total\n2,p2,six\n");
    let misnamed = piped(&["--name", "orders.ndjson"]);
    assert_ne!(misnamed.status.code(), Some(0), "the ending says how it is read: {misnamed:?}");
}

/// A client that is gone in the middle: the same command goes on where it was, and tells of the whole file.
#[test]
fn an_import_that_was_broken_off_goes_on() {
    let mut kernel = TestKernel::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("visits.csv");
    kernel.install("kith/csv", mapping("visits", json!({ "properties": ["note"] })));
    let mut text = String::from("id,note\n");
    for row in 0..12_000 {
        // Each row stands there three times.
        text.push_str(&format!("u{},{} {}\n", row / 3 % 50, row / 3, "x".repeat(100)));
    }
    text.push_str(",nobody\n");
    std::fs::write(&file, &text).unwrap();
    let name: String = Sha256::digest(&text).iter().map(|byte| format!("{byte:02x}")).collect();
    let state = format!("/api/v1/sources/visits/imports/sha256-{name}");
    kernel.admin().get(&state).is_problem(404, "not-found");
    break_off(&kernel, &format!("/api/v1/sources/visits/records?import=sha256-{name}"), text.as_bytes());
    let bytes = wait_for("a piece is durable", || kernel.admin().get(&state).json()["bytes"].as_u64());
    assert!(bytes < text.len() as u64, "{bytes}");
    kernel.restart();
    let output = run(&kernel, &file, "visits");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(answer["went_on"]["bytes"].as_u64().unwrap() >= bytes, "{answer}");
    let taken = answer["accepted"].as_u64().unwrap() + answer["duplicate"].as_u64().unwrap();
    assert_eq!((taken, &answer["rejected_count"], &answer["rejected"][0]["line"]), (12_000, &json!(1), &json!(12_002)));
    kernel.admin().get(&state).is_problem(404, "not-found");
    kernel.settle();
    assert_eq!(kernel.count("events('Order').size() == 240"), 50);
    let (status, counts) = import(&kernel, &file, &text, "visits");
    assert_eq!((status, counts), (Some(2), vec![0, 0, 12_000, 0, 1]));
}

/// A network that cuts every long request: the command sends the file on by itself, and nothing of it is lost or doubled.
#[test]
fn a_connection_that_breaks_again_and_again_costs_an_import_nothing() {
    let kernel = TestKernel::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("visits.csv");
    kernel.install("kith/csv", mapping("visits", json!({ "properties": ["note"] })));
    let row = |row: u32| format!("u{},{row} {}\n", row % 50, "x".repeat(200));
    let text: String = std::iter::once("id,note\n".to_owned()).chain((0..40_000).map(row)).collect();
    std::fs::write(&file, &text).unwrap();
    // Each carries a third of the file, so that several are cut before one comes to the end.
    let cuts = Arc::new(AtomicUsize::new(0));
    let url = cutting_proxy(kernel.url(), text.len() / 3, Arc::clone(&cuts));
    let output = Command::new(kith())
        .args(["--url", &url, "--key", kith_tests::ADMIN_KEY, "--json", "import"])
        .arg(&file)
        .args(["--source", "visits"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(cuts.load(Ordering::SeqCst) >= 2, "{} were cut", cuts.load(Ordering::SeqCst));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((answer["accepted"].as_u64(), answer["duplicate"].as_u64()), (Some(40_000), Some(0)), "{answer}");
    kernel.settle();
    assert_eq!(kernel.count("events('Order').size() == 800"), 50);
}

/// A way to the server on which a connection is cut when it has carried so many bytes.
fn cutting_proxy(server: &str, limit: usize, cuts: Arc<AtomicUsize>) -> String {
    let server = server.strip_prefix("http://").unwrap().to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let (server, cuts) = (TcpStream::connect(&server).unwrap(), Arc::clone(&cuts));
            let (mut from_server, mut to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            std::thread::spawn(move || {
                drop(std::io::copy(&mut from_server, &mut to_client));
                drop(to_client.shutdown(Shutdown::Write));
            });
            std::thread::spawn(move || {
                let mut limited = client.take(limit as u64);
                drop(std::io::copy(&mut limited, &mut &server));
                if limited.limit() == 0 {
                    cuts.fetch_add(1, Ordering::SeqCst);
                    drop(limited.into_inner().shutdown(Shutdown::Both));
                }
                drop(server.shutdown(Shutdown::Both));
            });
        }
    });
    url
}

/// Send a half of a body and go.
fn break_off(kernel: &TestKernel, path: &str, body: &[u8]) {
    let address = kernel.url().strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {}\r\ncontent-type: text/csv\r\ncontent-length: {}\r\n\r\n",
        kith_tests::ADMIN_KEY,
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&body[..body.len() / 2]).unwrap();
    stream.flush().unwrap();
}

/// Lines of one order have its id each. As corrections of one another all but the last would be lost, which is told before and
/// after, and `upsert` is not called the remedy.
#[test]
fn ids_that_repeat_within_a_file_are_told() {
    let kernel = TestKernel::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("orders.csv");
    let text = "id,order,total,line\n9,#1,20,a\n9,#1,,b\n8,#2,7,a\n";
    std::fs::write(&file, text).unwrap();
    for (source, upsert, word) in [
        ("lines", false, "only the first of each id is taken"),
        ("upserted", true, "only the last row of each id counts"),
    ] {
        kernel.install("kith/csv", mapping(source, json!({ "message_id": "order", "upsert": upsert })));
        let mut command = Command::new(kith());
        command.args(["--url", kernel.url(), "--key", kith_tests::ADMIN_KEY, "import"]);
        let shown = command.arg(&file).args(["--source", source, "--dry-run"]).output().unwrap();
        let shown = String::from_utf8(shown.stdout).unwrap();
        assert!(
            shown.contains("ids that repeat: 1 rows have the id of another row") && shown.contains(word),
            "{shown}"
        );
        let mut command = Command::new(kith());
        command.args(["--url", kernel.url(), "--key", kith_tests::ADMIN_KEY, "import"]);
        let told = command.arg(&file).args(["--source", source]).output().unwrap();
        assert_eq!(told.status.code(), Some(if upsert { 0 } else { 2 }), "{told:?}");
        let told = String::from_utf8(told.stdout).unwrap();
        assert!(told.contains(word) && !told.contains("makes them corrections"), "{told}");
    }
    kernel.install("kith/csv", mapping("named", json!({ "message_id": "{order}-{line}" })));
    assert_eq!(import(&kernel, &file, text, "named"), (Some(0), vec![3, 0, 0, 0, 0]));
}

/// A CRM that has not heard of an unsubscribe says yes in its next export: the row has no time, and the no holds.
#[test]
fn an_export_without_times_takes_back_no_unsubscribe() {
    let kernel = TestKernel::start();
    let live = kernel.segment();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("crm.csv");
    let config = |time: Value| {
        let mut config = json!({
            "kind": "identify", "identifiers": { "user_id": "id" }, "traits": { "points": "points" }, "consent": { "news": "news" },
        });
        time.as_object().into_iter().for_each(|_| config["time"] = time.clone());
        config
    };
    kernel.install("kith/csv", json!({ "name": "crm", "config": config(Value::Null) }));
    kernel.install("kith/csv", json!({ "name": "dated", "config": config(json!({ "column": "at" })) }));
    let in_force = || -> Vec<bool> {
        let id = kernel.profile("user_id:ada")["id"].as_str().unwrap().to_owned();
        let consent = kernel.admin().get(&format!("/api/v1/profiles/{id}/consent")).is(200);
        let answers = consent["answers"].as_array().unwrap().iter().filter(|answer| answer["in_force"] == true);
        answers.map(|answer| answer["allowed"] == true).collect()
    };
    let accepted = (Some(0), vec![1, 0, 0, 0, 0]);
    assert_eq!(import(&kernel, &file, "id,points,news\nada,1,yes\n", "crm"), accepted);
    kernel.settle();
    assert_eq!(in_force(), [true], "where nothing was refused it counts");
    kernel.clock.advance_ms(1_000);
    live.batch(&[json!({ "type": "identify", "userId": "ada", "traits": { "consent": { "news": false } } })]);
    kernel.clock.advance_ms(1_000);
    assert_eq!(import(&kernel, &file, "id,points,news\nada,2,yes\n", "crm"), accepted);
    kernel.settle();
    assert_eq!(in_force(), [false], "the export has not heard of it");
    let again = format!("id,points,news,at\nada,3,yes,{}\n", kernel.clock.now());
    assert_eq!(import(&kernel, &file, &again, "dated"), accepted);
    kernel.settle();
    assert_eq!(in_force(), [true], "she agreed afterwards");
    kernel.clock.advance_ms(1_000);
    assert_eq!(import(&kernel, &file, "id,points,news\nada,4,no\n", "crm"), accepted);
    kernel.settle();
    assert_eq!(in_force(), [false], "a refusal without a time counts from its receipt");
}

/// A snapshot that goes back to what it said before says so now: facts, and a refusal that somebody took back in between.
#[test]
fn a_row_that_returns_to_an_earlier_state_is_taken() {
    let kernel = TestKernel::start();
    let live = kernel.segment();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("crm.csv");
    let config = json!({
        "kind": "identify", "identifiers": { "user_id": "id" }, "traits": ["city"], "consent": { "news": "news" },
    });
    kernel.install("kith/csv", json!({ "name": "crm", "config": config }));
    let week = |row: &str| {
        kernel.clock.advance_ms(60_000);
        import(&kernel, &file, &format!("id,city,news\n{row}\n"), "crm").1
    };
    let taken = vec![1, 0, 0, 0, 0];
    assert_eq!(week("h1,Rome,no"), taken);
    assert_eq!(week("h1,Rome,no"), [0, 0, 1, 0, 0], "the same again");
    kernel.clock.advance_ms(1_000);
    live.batch(&[json!({ "type": "identify", "userId": "h1", "traits": { "consent": { "news": true } } })]);
    assert_eq!(week("h1,Oslo,yes"), taken);
    assert_eq!(week("h1,Rome,no"), taken);
    kernel.settle();
    let list =
        kernel.admin().get("/api/v1/profiles/export?columns=identifiers.user_id,traits.city,consent.news").text();
    assert_eq!(list.lines().last(), Some("h1,Rome,refused"));
    assert_eq!(week("h1,Rome,no"), [0, 0, 1, 0, 0]);
}

/// Forged rows inside of a cell that is longer than what the kernel hands over at once are no records, dry or not.
#[test]
fn a_long_cell_brings_no_rows_of_its_own() {
    let kernel = TestKernel::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("orders.csv");
    kernel.install("kith/csv", mapping("orders", json!({ "message_id": "order", "properties": ["note"] })));
    let forged = "ceo,f1,5\n".repeat(80_000);
    let text = format!("id,order,note\n1,a,x\n2,b,\"Hello\n{forged}\"\n3,c,\"y\nz\"\n");
    assert_eq!(import(&kernel, &file, &text, "orders"), (Some(2), vec![2, 0, 0, 0, 1]));
    let shown = kernel.admin().send("POST", "/api/v1/sources/orders/records?dry_run=true", &[], text.as_str()).is(200);
    assert_eq!((&shown["event_count"], &shown["rejected_codes"]), (&json!(2), &json!({ "record-too-long": 1 })));
    kernel.settle();
    assert!(kernel.find("user_id:ceo").is_none() && kernel.find("user_id:3").is_some());
    let rejected = std::fs::read_to_string(folder.path().join("orders.csv.rejected.csv")).unwrap();
    assert_eq!(rejected, format!("id,order,note\n2,b,\"Hello\n{forged}\"\n"));
}
