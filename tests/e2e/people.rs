//! Finding people by what is known of them, and taking whole lists out.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;

use kith_tests::{ADMIN_KEY, Client, TestKernel, kith, wait_until};
use serde_json::{Value, json};

fn person(number: usize) -> Value {
    let city = if number.is_multiple_of(3) { "Paris" } else { "Oslo" };
    json!({
        "type": "identify", "userId": format!("u{number:04}"), "messageId": format!("i{number}"),
        "traits": { "email": format!("U{number:04}@shop.example"), "city": city, "number": number, "note": "=1+1" },
    })
}

/// A server with so many people.
fn with_people(count: usize) -> TestKernel {
    let kernel = TestKernel::start();
    let source = kernel.segment();
    let all: Vec<Value> = (0..count).map(person).collect();
    all.chunks(500).for_each(|part| drop(source.batch(part)));
    kernel.settle();
    kernel
}

/// All items of a search, page by page.
fn all(caller: &Client, query: &str) -> Vec<Value> {
    let (mut items, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = caller.get(&format!("/api/v1/profiles?{query}{cursor}")).is(200);
        items.extend_from_slice(page["items"].as_array().unwrap());
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return items,
        }
    }
}

/// Whoever takes out a list behind an acknowledged import has everybody in it, also while they are still being computed.
#[test]
fn a_list_has_everybody_who_was_acknowledged_before() {
    let kernel = TestKernel::start();
    let source = kernel.segment();
    let admin = kernel.admin();
    for round in 1..=12_usize {
        let people: Vec<Value> = (500 * (round - 1)..500 * round).map(person).collect();
        source.batch(&people);
        let list = admin.get("/api/v1/profiles/export?columns=identifiers.user_id");
        assert_eq!(list.text().split_terminator("\r\n").count(), 1 + 500 * round, "round {round}");
    }
}

#[test]
fn people_are_found_by_identifier_beginning_and_trait() {
    let kernel = with_people(60);
    let admin = kernel.admin();
    let whole = admin.get("/api/v1/profiles?identifier=user_id:u0003").is(200);
    assert_eq!(whole["traits"]["city"]["value"], "Paris", "one person, whole");
    let found = all(&admin, "identifier=user_id:u0003&columns=traits.city,traits.number,identifiers.email");
    assert_eq!(found.len(), 1);
    assert_eq!((&found[0]["traits.city"], &found[0]["traits.number"]), (&json!("Paris"), &json!(3)));
    assert_eq!(found[0]["id"], whole["id"]);
    assert_eq!(all(&admin, "prefix=user_id:U000&limit=3").len(), 10, "over pages, whatever the case");
    assert_eq!(all(&admin, "trait.city=Paris&limit=7").len(), 20);
    assert_eq!(all(&admin, "trait.city=Paris&trait.number=6").len(), 1);
    assert_eq!(all(&admin, "trait.city=Paris&trait.number=7").len(), 0);
    assert_eq!(all(&admin, "columns=id").len(), 60);
    for bad in
        ["prefix=ada", "trait.=x", "city=Paris", "columns=email", "limit=0", "limit=x", "cursor=zz", "format=csv"]
    {
        admin.get(&format!("/api/v1/profiles?{bad}")).is_problem(400, "bad-input");
    }
    let other = kernel.caller(&kernel.second_workspace());
    assert_eq!(all(&other, "prefix=user_id:u").len(), 0);
    kernel.caller(&kernel.key(&["audiences:read"])).get("/api/v1/profiles?prefix=user_id:u").is_problem(403, "denied");
}

/// A list is sent to what stands in it, so that one address stands there once, whatever its spellings.
#[test]
fn an_address_of_several_spellings_is_one_in_a_list() {
    let kernel = TestKernel::start();
    let source = kernel.segment();
    let spellings = ["Ada@Example.com", "ada@example.com", " ADA@EXAMPLE.COM", "ada@EXAMPLE.com"];
    let phones = ["+1 (555) 012-3456", "+15550123456", "001 555 012 3456"];
    for (number, email) in spellings.iter().enumerate() {
        let traits = json!({ "email": email, "phone": phones[number % phones.len()] });
        source.batch(&[
            json!({ "type": "identify", "userId": "ada", "messageId": format!("s{number}"), "traits": traits }),
        ]);
    }
    source.batch(&[json!({ "type": "identify", "userId": "ada", "traits": { "email": "other@example.com" } })]);
    kernel.settle();
    let admin = kernel.admin();
    let found = all(&admin, "prefix=user_id:ada&columns=identifiers.email,identifiers");
    let mut emails: Vec<&str> =
        found[0]["identifiers.email"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    emails.sort_unstable();
    assert_eq!(emails, ["ada@example.com", "other@example.com"]);
    let csv = admin.get("/api/v1/profiles/export?columns=identifiers.email").text();
    assert_eq!(csv.matches('@').count(), 2, "{csv}");
}

/// A search for a value that nobody has, and a column that nobody writes, were empty without a word; counts say what may be meant.
#[test]
fn searches_and_lists_say_what_may_be_meant() {
    let kernel = with_people(30);
    let admin = kernel.admin();
    for (query, told) in [
        ("trait.city=paris", "nobody's `traits.city` is 'paris' so far; did you mean `Paris`?"),
        ("trait.cty=Paris", "nobody has the trait `cty` so far; did you mean `city`?"),
        ("columns=traits.nope", "nobody has the trait `nope` so far"),
        ("columns=id,identifiers.emial", "did you mean `email`?"),
        ("columns=tags.level", "no installed plugin writes the tag `level`"),
        ("columns=scores.clv&trait.city=Paris", "no installed plugin writes the score `clv`"),
        ("prefix=emial:u", "did you mean `email`?"),
        ("columns=traits.consent", "`traits.consent` is what was said last"),
    ] {
        let page = admin.get(&format!("/api/v1/profiles?{query}&limit=2")).is(200);
        assert!(page["warnings"][0].as_str().unwrap().contains(told), "{query}: {page}");
        let list = admin.get(&format!("/api/v1/profiles/export?{query}"));
        let header: Vec<String> = serde_json::from_str(list.header("kith-warnings")).unwrap();
        assert!(header[0].contains(told), "{query}: {header:?}");
    }
    for query in ["trait.city=Paris", "trait.number=5", "columns=traits.city,identifiers.email,id", "trait.note=null"] {
        assert!(admin.get(&format!("/api/v1/profiles?{query}&limit=2")).is(200).get("warnings").is_none(), "{query}");
        assert_eq!(admin.get(&format!("/api/v1/profiles/export?{query}")).header("kith-warnings"), "", "{query}");
    }
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new(kith_tests::kith());
        let output =
            command.args(["--url", kernel.url(), "--key", kith_tests::ADMIN_KEY]).args(arguments).output().unwrap();
        (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for arguments in [
        ["profile", "search", "--trait", "city=paris", "--columns", "id"],
        ["profile", "export", "--trait", "city=paris", "--columns", "id"],
    ] {
        let (shown, said) = run(&arguments);
        assert!(said.contains("warning: nobody's `traits.city` is 'paris'"), "{arguments:?}: {said}");
        assert!(!shown.contains("warning"), "{shown}");
    }
    admin.post("/api/v1/audiences", &json!({ "name": "all", "condition": "has(traits.city)" })).is(201);
    kernel.settle();
    let (_, said) = run(&["audience", "members", "all", "--columns", "traits.nope", "--format", "csv"]);
    assert!(said.contains("nobody has the trait `nope`"), "{said}");
}

/// Who takes a list elsewhere sees who agreed to what, as the gate would decide.
#[test]
fn a_list_shows_how_people_stand_to_a_purpose() {
    let kernel = TestKernel::start();
    let installed = kernel.install("kith/segment", json!({ "grants": { "consent": "give" } }));
    let source = kernel.source(&installed);
    let mut expected = Vec::new();
    for (number, (said, news, by_email)) in [
        (json!({ "news": true }), "agreed", "agreed"),
        (json!({ "news": false }), "refused", "refused"),
        (json!({ "*": false }), "refused", "refused"),
        (json!({ "news@email": false, "news": true }), "refused", "refused"),
        (json!({ "news@email": true }), "", "agreed"),
        (json!({ "news@phone": false }), "", ""),
        (json!({ "other": true }), "", ""),
        (json!({ "profiling": false, "news": true }), "refused", "refused"),
    ]
    .into_iter()
    .enumerate()
    {
        let traits = json!({ "email": format!("p{number}@shop.example"), "consent": said });
        source.batch(&[json!({ "type": "identify", "userId": format!("p{number}"), "messageId": format!("m{number}"), "traits": traits })]);
        expected.push(format!("p{number},{news},{by_email}"));
    }
    source.batch(&[json!({ "type": "identify", "userId": "p9", "traits": { "email": "p9@shop.example", "consent": { "news": true } } })]);
    let admin = kernel.admin();
    admin.post("/api/v1/suppressions", &json!({ "identifiers": ["email:p9@shop.example"] })).is(200);
    expected.push("p9,suppressed,suppressed".to_owned());
    kernel.settle();
    let csv = admin.get("/api/v1/profiles/export?columns=identifiers.user_id,consent.news,consent.News@Email").text();
    let mut lines: Vec<&str> = csv.split_terminator("\r\n").collect();
    assert_eq!(lines.remove(0), "identifiers.user_id,consent.news,consent.News@Email");
    lines.sort_unstable();
    assert_eq!(lines, expected);
    admin
        .post("/api/v1/audiences", &json!({ "name": "one", "condition": "'p0' in profile.identifiers.user_id" }))
        .is(201);
    kernel.settle();
    let members = admin.get("/api/v1/audiences/one/members/export?columns=consent.news").text();
    assert_eq!(members, "consent.news\r\nagreed\r\n");
    admin.get("/api/v1/profiles/export?columns=consent.").is_problem(400, "bad-input");
}

#[test]
fn lists_are_exported_whole_and_no_cell_is_a_formula() {
    let kernel = with_people(1_300);
    let admin = kernel.admin();
    let csv = admin.get("/api/v1/profiles/export?columns=identifiers.user_id,traits.note,traits.number");
    assert!(csv.header("content-type").starts_with("text/csv"));
    let text = csv.text();
    let lines: Vec<&str> = text.split_terminator("\r\n").collect();
    assert_eq!((lines.len(), lines[0]), (1_301, "identifiers.user_id,traits.note,traits.number"));
    assert!(lines[1..].iter().all(|line| line.contains(",'=1+1,")), "{}", lines[1]);
    let mut users: Vec<&str> = lines[1..].iter().map(|line| line.split(',').next().unwrap()).collect();
    users.sort_unstable();
    users.dedup();
    assert_eq!(users.len(), 1_300);
    let lines = admin.get("/api/v1/profiles/export?format=ndjson&trait.city=Paris&columns=traits.number").text();
    let rows: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 434);
    assert!(rows.iter().all(|row| row["traits.number"].as_u64().unwrap().is_multiple_of(3)));
    admin.post("/api/v1/audiences", &json!({ "name": "paris", "condition": "traits.city == 'Paris'" })).is(201);
    wait_until("it is computed", || admin.get("/api/v1/audiences/paris").is(200)["size"] == 434);
    let members = admin.get("/api/v1/audiences/paris/members/export?columns=id,identifiers.email").text();
    assert_eq!(members.split_terminator("\r\n").count(), 435);
    assert!(members.contains("@shop.example"));
    admin.get("/api/v1/audiences/none/members/export").is_problem(404, "not-found");
    admin.get("/api/v1/audiences/paris/members/export?trait.city=x").is_problem(400, "bad-input");
    admin.get("/api/v1/profiles/export?limit=5").is_problem(400, "bad-input");
    wait_until("it is in the audit log", || {
        let log = admin.get("/api/v1/audit?limit=500").is(200).to_string();
        log.contains("profile.export") && log.contains("audience.export")
    });
}

/// Regression: a person with tens of MB of facts was answered with all of them at once, and a few such answers held everybody up.
#[test]
fn of_a_person_with_much_an_answer_says_what_it_leaves_out() {
    let kernel = TestKernel::start();
    let (source, admin) = (kernel.segment(), kernel.admin());
    let facts = |device: usize, event: usize| -> Value {
        let facts = (0..7).map(|fact| (format!("d{device:02}e{event}f{fact}"), json!("x".repeat(4_000))));
        facts.collect::<serde_json::Map<_, _>>().into()
    };
    for device in 0..12 {
        let anonymous_id = format!("device-{device}");
        let said = |event| json!({ "type": "identify", "anonymousId": anonymous_id, "traits": facts(device, event) });
        let mut batch: Vec<Value> = (0..4).map(said).collect();
        batch.push(json!({ "type": "track", "userId": "much", "anonymousId": anonymous_id, "event": "Seen" }));
        source.batch(&batch);
    }
    kernel.settle();
    let all = 12 * 4 * 7;
    let id = kernel.profile("user_id:much")["id"].as_str().unwrap().to_owned();
    let (mut names, mut query, mut answers) = (Vec::new(), String::new(), 0);
    loop {
        let answer = admin.get(&format!("/api/v1/profiles/{id}{query}"));
        assert!(answer.text().len() < 3 << 20, "{}", answer.text().len());
        let profile = answer.is(200);
        names.extend(profile["traits"].as_object().unwrap().keys().cloned());
        answers += 1;
        let left_out = &profile["left_out"][0];
        if left_out.is_null() {
            break;
        }
        assert_eq!((&left_out["part"], &left_out["count"]), (&json!("traits"), &json!(all - names.len())));
        query = format!("?traits_from={}", left_out["from"].as_str().unwrap());
    }
    assert!(answers > 1 && names.len() == all && names.is_sorted(), "{answers}: {}", names.len());
    let run = |arguments: &[&str]| {
        let mut command = Command::new(kith());
        command.args(["--url", kernel.url(), "--key", ADMIN_KEY]).args(arguments);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let shown = run(&["profile", "get", "user_id:much"]);
    let said = format!("more traits have no room here: kith profile get {id} --from 'traits=d");
    assert!(shown.contains(&said), "{}", shown.lines().last().unwrap());
    let from = shown.rsplit_once("--from '").unwrap().1.split_once('\'').unwrap().0;
    assert!(run(&["profile", "get", &id, "--from", from]).contains(names.last().unwrap()));
    admin.get(&format!("/api/v1/profiles/{id}?consents_from=nobody")).is_some_problem();
}

/// Regression: what was called sensitive while an export ran did not reach it, however slowly it was read.
#[test]
fn an_export_ends_where_what_it_lists_is_called_sensitive() {
    let kernel = TestKernel::start();
    let source = kernel.segment();
    let notes: serde_json::Map<String, Value> =
        (0..5).map(|number| (format!("note{number}"), json!("x".repeat(4_000)))).collect();
    for part in 0..4 {
        let person = |number| json!({ "type": "identify", "userId": format!("p{part}-{number}"), "traits": notes });
        source.batch(&(0..25).map(person).collect::<Vec<_>>());
    }
    kernel.settle();
    let key = kernel.key(&["profiles:read"]);
    let columns: Vec<String> = (0..60).map(|column| format!("traits.note{}", column % 5)).collect();
    let path = format!("/api/v1/profiles/export?columns={}", columns.join(","));
    let mut reader = TcpStream::connect(kernel.url().trim_start_matches("http://")).unwrap();
    let head = format!(
        "GET {path} HTTP/1.1\r\nhost: kith.example\r\nconnection: close\r\nauthorization: Bearer {key}\r\n\r\n"
    );
    reader.write_all(head.as_bytes()).unwrap();
    let mut read = vec![0; 64];
    reader.read_exact(&mut read).unwrap();
    assert!(read.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&read));
    // It is of 24 MB, more than a connection holds that nobody reads from.
    let entry = json!({ "sensitivity": "sensitive", "owner": "people team" }).to_string();
    let headers = [("content-type", "application/json")];
    kernel.admin().send("PUT", "/api/v1/dictionary/trait/note3", &headers, entry).is(200);
    // A connection that breaks is an end, too.
    let _ = reader.read_to_end(&mut read);
    assert!(!read.ends_with(b"0\r\n\r\n"), "it breaks off");
    assert_eq!(kernel.caller(&key).get(&path).status, 403);
}
