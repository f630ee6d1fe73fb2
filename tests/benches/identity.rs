//! Merges and their undo in a large store: people are merged by hand, by addresses of desks and by a change of the rules, all of it
//! is undone, and what the API answers then is compared with the answers of a server that took the same events without any of
//! it.
//!
//! `cargo bench --bench identity` takes a hundred thousand people and two thousand merges; a number takes so many people, and
//! `-- quick` a twentieth. It ends with an error where the two servers' answers differ. Ids, ordinals, entries and times of
//! computation are not compared.

#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on has to stop, and to say where")]
#![allow(clippy::print_stdout, reason = "a table on standard output is what this program is for")]

mod figures;
mod wire;

use std::collections::BTreeSet;
use std::time::Instant;

use base64::Engine as _;
use kith_tests::{Client, Process, component};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::figures::Asked;
use crate::wire::Wire;

/// As in the product.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PEOPLE: usize = 100_000;
/// One of so many people is merged with the next by hand.
const EVERY: usize = 50;
/// Visitors whom the address of one desk ties.
const VISITORS: usize = 40;
const DESKS: usize = 25;
const BATCH: usize = 200;

const AUDIENCES: [(&str, &str); 4] = [
    ("buyers", "events('Order Completed').size() >= 2"),
    ("romans", "traits.city == 'Rome'"),
    ("spenders", "events('Order Completed').map(e, e.total).sum() > 100.0"),
    ("quiet", "events('Order Completed').size() == 0"),
];

/// What person `number` sends: a profile, two orders, and a visit on a device of theirs.
fn messages(number: usize) -> [Value; 4] {
    let (user, city) = (format!("u{number}"), ["Oslo", "Rome", "Bern", "Lima"][number % 4]);
    let phone = format!("0170 {:07}", number);
    let time = |hour: usize| format!("2026-03-{:02}T{hour:02}:00:00Z", 1 + number % 28);
    let order = |n: usize| {
        json!({ "type": "track", "messageId": format!("o{number}-{n}"), "userId": user, "event": "Order Completed",
                "timestamp": time(10 + n), "properties": { "total": number % 90 } })
    };
    let traits = json!({ "email": format!("{user}@example.com"), "phone": phone, "city": city });
    [
        json!({ "type": "identify", "messageId": format!("i{number}"), "userId": user, "timestamp": time(9), "traits": traits }),
        order(0),
        order(1),
        json!({ "type": "page", "messageId": format!("p{number}"), "userId": user, "anonymousId": format!("d{number}"),
                "timestamp": time(8) }),
    ]
}

/// What visitor `number` of a desk sends: an order of their own, and the address of the desk.
fn visit(desk: usize, number: usize) -> [Value; 2] {
    let device = format!("v{desk}-{number}");
    let time = format!("2026-04-{:02}T10:00:00Z", 1 + number % 28);
    [
        json!({ "type": "track", "messageId": format!("vo{desk}-{number}"), "anonymousId": device, "event": "Order Completed",
                "timestamp": time, "properties": { "total": number } }),
        json!({ "type": "identify", "messageId": format!("vi{desk}-{number}"), "anonymousId": device, "timestamp": time,
                "traits": { "email": format!("Desk{desk}@shop.example") } }),
    ]
}

struct Shop {
    server: Process,
    folder: TempDir,
}

impl Shop {
    fn open(people: usize) -> Shop {
        let folder = tempfile::tempdir().unwrap();
        let server = Process::serve(folder.path(), &[]);
        let admin = server.admin();
        admin.send("POST", "/api/v1/plugins", &[], component("kith/segment").component.clone()).is(201);
        let installed = admin.post("/api/v1/installations", &json!({ "plugin": "kith/segment" })).is(201);
        for (name, condition) in AUDIENCES {
            admin.post("/api/v1/audiences", &json!({ "name": name, "condition": condition })).is(201);
        }
        let key = format!("{}:", installed["write_key"].as_str().unwrap());
        let authorization = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(key));
        let mut wire = Wire::open(server.url(), "/v1/batch", &authorization);
        let visits = (0..DESKS).flat_map(|desk| (0..VISITORS).flat_map(move |number| visit(desk, number)));
        let all = (0..people).flat_map(messages).chain(visits);
        let mut batch = Vec::new();
        let mut send = |batch: &mut Vec<String>| {
            let (status, answer) = wire.post(&format!(r#"{{"batch":[{}]}}"#, batch.join(",")));
            assert_eq!(status, 200, "{answer}");
            batch.clear();
        };
        for message in all {
            batch.push(message.to_string());
            if batch.len() == BATCH {
                send(&mut batch);
            }
        }
        send(&mut batch);
        computed(&admin);
        Shop { server, folder }
    }

    fn admin(&self) -> Client {
        self.server.admin()
    }

    /// Put rules in force, and kill the server while history begins to follow them.
    fn kill_in(self, rules: &Value) -> Shop {
        let admin = self.admin();
        admin.send("PUT", "/api/v1/identity/rules", &[("content-type", "application/json")], rules.to_string()).is(200);
        let change = || admin.get("/api/v1/identity/rules/change").is(200);
        wait_long("the change to begin", || change()["state"] != "waiting");
        let at = change();
        let Shop { server, folder } = self;
        server.kill();
        let server = Process::serve(folder.path(), &[]);
        let shop = Shop { server, folder };
        let begun = Instant::now();
        computed(&shop.admin());
        let (state, step) = (&at["state"], &at["progress"]["step"]);
        println!(
            "  killed when {state} at {step}; gone on with and done {:.2} s after the start",
            begun.elapsed().as_secs_f64()
        );
        shop
    }

    /// All that the API says about who is who, without what names a computation.
    fn answers(&self) -> Vec<(String, BTreeSet<String>)> {
        let admin = self.admin();
        computed(&admin);
        let columns = "identifiers,traits.city,traits.email,traits.phone";
        let list = |path: &str| {
            let text = admin.get(&format!("{path}?format=ndjson&columns={columns}")).text();
            text.lines().map(str::to_owned).collect::<BTreeSet<String>>()
        };
        let mut answers = vec![("profiles".to_owned(), list("/api/v1/profiles/export"))];
        for (name, _) in AUDIENCES {
            answers.push((format!("members of {name}"), list(&format!("/api/v1/audiences/{name}/members/export"))));
        }
        let counts =
            ["has(traits.email)", "events('Order Completed', '3650d').size() == 2", "traits.city in ['Oslo', 'Lima']"];
        for condition in counts {
            let count = admin.post("/api/v1/audiences/count", &json!({ "condition": condition })).is(200);
            answers.push((format!("count of {condition}"), BTreeSet::from([count["count"].to_string()])));
        }
        let totals = admin.get("/api/v1/workspace").is(200)["totals"].clone();
        for name in ["profiles", "identifiers", "events"] {
            answers.push((format!("total of {name}"), BTreeSet::from([totals[name].to_string()])));
        }
        answers
    }
}

fn computed(admin: &Client) {
    let waiting = || admin.get("/api/v1/identity/rules/change").is(200)["state"] == "done";
    wait_long("history is tied", waiting);
    wait_long("everything is computed", || {
        let status = admin.get("/api/v1/workspace").is(200);
        status["progress"]["reacted"] == status["progress"]["head"] && status["progress"]["backlog"] == 0
    });
}

/// As long as it takes.
fn wait_long(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed().as_secs() < 1_800, "not in half an hour: {what}");
        std::thread::park_timeout(std::time::Duration::from_millis(100));
    }
}

/// Look at a change of rules, make it, and wait until history follows; what the look told.
fn change(admin: &Client, path: &str, mut body: Value) -> Value {
    let begun = Instant::now();
    let mut told = admin.post(path, &body).is(200);
    while told["state"] == "running" {
        let token = told["token"].as_str().unwrap();
        told = admin.get(&format!("/api/v1/identity/dry-run?token={token}")).is(200);
        std::thread::park_timeout(std::time::Duration::from_millis(100));
    }
    let looked = begun.elapsed();
    let begun = Instant::now();
    if path.ends_with("undo") {
        body["confirm"] = told["token"].clone();
        admin.post(path, &body).is(200);
    } else {
        let path = format!("/api/v1/identity/rules?confirm={}", told["token"].as_str().unwrap());
        admin.send("PUT", &path, &[("content-type", "application/json")], body.to_string()).is(200);
    }
    computed(admin);
    let effect = &told["effect"];
    println!(
        "  looked at in {:>6.2} s, made in {:>6.2} s: {} people then {}, {} come apart, {} joined, exact {}",
        looked.as_secs_f64(),
        begun.elapsed().as_secs_f64(),
        effect["people_before"],
        effect["people_after"],
        effect["parted"],
        effect["joined"],
        effect["exact"]
    );
    told
}

fn main() {
    let Some(asked) = Asked::of("identity") else { return };
    let people = asked.numbers.first().copied().unwrap_or(if asked.is_quick { PEOPLE / 20 } else { PEOPLE });
    let begun = Instant::now();
    let (plain, merged) = (Shop::open(people), Shop::open(people));
    println!("{people} people and {DESKS} desks twice, {:.1} s", begun.elapsed().as_secs_f64());
    let admin = merged.admin();
    let profiles = |admin: &Client| admin.get("/api/v1/workspace").is(200)["totals"]["profiles"].as_u64().unwrap();
    let before = profiles(&admin);

    let begun = Instant::now();
    let pairs: Vec<(String, String)> =
        (0..people - 1).step_by(EVERY).map(|n| (format!("user_id:u{n}"), format!("user_id:u{}", n + 1))).collect();
    for (winner, loser) in &pairs {
        admin.post("/api/v1/identity/merges", &json!({ "winner": winner, "loser": loser })).is(200);
    }
    computed(&admin);
    assert_eq!(profiles(&admin), before - pairs.len() as u64);
    println!("{} merged by hand in {:.1} s", pairs.len(), begun.elapsed().as_secs_f64());
    println!("telephone numbers of Germany:");
    let rules = "/api/v1/identity/rules/dry-run";
    change(&admin, rules, json!({ "phone_region": "DE" }));
    println!("one e-mail for each person, one telephone:");
    change(&admin, rules, json!({ "limits": { "user_id": 1, "email": 1, "phone": 1 } }));
    println!("as they were, with a kill of the server:");
    let merged = merged.kill_in(&json!({}));
    let admin = merged.admin();

    let begun = Instant::now();
    for (winner, loser) in &pairs {
        let found = admin.get(&format!("/api/v1/profiles?identifier={winner}")).is(200);
        let path = format!("/api/v1/profiles/{}/split", found["id"].as_str().unwrap());
        admin.post(&path, &json!({ "apart": [winner, loser] })).is(200);
    }
    computed(&admin);
    println!("{} parted by hand in {:.1} s", pairs.len(), begun.elapsed().as_secs_f64());
    println!("the addresses of two desks, and one of them back:");
    let undo = "/api/v1/identity/undo";
    for desk in [0, 1] {
        change(&admin, undo, json!({ "identifier": format!("email:desk{desk}@shop.example") }));
    }
    change(&admin, undo, json!({ "identifier": "email:desk0@shop.example", "back": true }));
    change(&admin, undo, json!({ "identifier": "email:desk1@shop.example", "back": true }));

    let mut differ = 0;
    let answers = plain.answers().into_iter().zip(merged.answers());
    for ((what, expected), (_, found)) in answers {
        let missing: Vec<&String> = expected.difference(&found).take(3).collect();
        let extra: Vec<&String> = found.difference(&expected).take(3).collect();
        let is_same = expected == found;
        println!("{what}: {} {}", expected.len(), if is_same { "the same" } else { "NOT THE SAME" });
        if !is_same {
            differ += 1;
            println!("  only without the merges: {missing:?}\n  only after their undo: {extra:?}");
        }
    }
    assert_eq!(differ, 0, "answers differ");
    let messages = admin.get("/api/v1/deliveries").is(200);
    assert_eq!(messages["items"], json!([]), "no message left");
}
