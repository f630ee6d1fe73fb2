//! Finding people by what is known of them, and taking whole lists out.

use kith_tests::{Client, TestKernel, wait_until};
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
