//! Conditions mean what people read: in counts, in audiences, in what the API and the command line say of names that there
//! are not.

use std::process::Command;

use kith_tests::{Source, TestKernel, kith, wait_until};
use serde_json::{Value, json};

/// Five people, of whom some never said something, and orders of which some come with amounts in texts.
fn shop(kernel: &TestKernel) -> Source {
    let source = kernel.segment();
    let person =
        |id: &str, traits: Value| json!({ "type": "identify", "userId": id, "messageId": id, "traits": traits });
    let order = |id: &str, number: u32, properties: Value| {
        json!({ "type": "track", "event": "Order Completed", "userId": id, "messageId": format!("o{number}"),
            "timestamp": "2026-11-20T10:00:00Z", "properties": properties })
    };
    let messages = [
        person("ada", json!({ "zz": 1, "sub": true, "tags": ["a", "b"], "n": 20, "plan": "gold" })),
        person("ben", json!({ "zz": 1, "sub": false, "tags": ["b"], "n": "20", "plan": "gold" })),
        person("cid", json!({ "zz": 1, "tags": "a", "n": "5", "plan": "" })),
        person("dot", json!({ "zz": 1, "n": null, "vip": "true" })),
        person("eve", json!({ "zz": 1, "n": "many" })),
        order("ada", 1, json!({ "total": "19.90", "name": "first" })),
        order("ada", 2, json!({ "total": 10, "total price": 3 })),
        order("ben", 3, json!({ "total": "19,90" })),
    ];
    assert_eq!(source.batch(&messages)["accepted"], messages.len());
    kernel.settle();
    source
}

/// Conditions, and how many of the five meet them.
const MEANINGS: &[(&str, u64)] = &[
    ("!('a' in traits.tags)", 3),
    ("'a' in traits.tags", 2),
    ("!traits.sub", 4),
    ("has(traits.sub) && !traits.sub", 1),
    ("traits.plan != 'gold'", 3),
    ("!(traits.plan == 'gold')", 3),
    ("!(traits.plan in ['gold'])", 3),
    ("traits.plan == ''", 1),
    ("traits.plan.size() == 0", 3),
    ("traits.n > 10", 2),
    ("traits.n == 20", 2),
    ("traits.n == '20'", 2),
    ("traits.n < 10", 1),
    ("!(traits.n > 10)", 3),
    ("traits.n > 10 || traits.n <= 10", 3),
    ("'100' > '5'", 0),
    ("[90, 'n/a'].max() == 90 && ['b', 'a'].max() == 'b'", 5),
    ("events('Order Completed').map(e, e.total).sum() > 29", 1),
    ("events('Order Completed').exists(e, e.total > 19)", 1),
    ("events('Order Completed').exists(e, e.properties['total price'] == 3)", 1),
    ("events('Order Completed').exists(e, e.properties.name == 'first')", 1),
    ("has(events('Order Completed', '1mo')) && has(traits.n)", 2),
    ("!has(events('Order Completed', '1d'))", 5),
    ("events('Order Completed', '30d rolling').size() == 2", 1),
];

#[test]
fn counts_and_audiences_of_who_never_said_and_of_numbers_in_texts_agree() {
    let kernel = TestKernel::start();
    shop(&kernel);
    let admin = kernel.admin();
    for (condition, people) in MEANINGS {
        assert_eq!(kernel.count(condition), *people, "{condition}");
    }
    for (number, (condition, _)) in MEANINGS.iter().enumerate() {
        admin.post("/api/v1/audiences", &json!({ "name": format!("m-{number}"), "condition": condition })).is(201);
    }
    kernel.settle();
    for (number, (condition, people)) in MEANINGS.iter().enumerate() {
        let path = format!("/api/v1/audiences/m-{number}");
        wait_until(condition, || admin.get(&path).is(200)["size"] == *people);
        assert_eq!(kernel.count(condition), *people, "{condition} by its columns");
    }
}

#[test]
fn a_condition_that_is_none_is_refused_with_its_place_and_what_to_write() {
    let kernel = TestKernel::start();
    let admin = kernel.admin();
    for (condition, column, told) in [
        ("1", 1, "traits.age > 40"),
        ("'x'", 1, "traits.city == 'Oslo'"),
        ("[1]", 1, "traits.city in"),
        ("traits.city == 'Oslo' || 'Rome'", 26, "traits.city in ['Oslo', 'Rome']"),
        ("traits.n = 3", 10, "`==`"),
        ("traits.a == 1 AND traits.b == 2", 15, "`&&`"),
        ("traits.a is not null", 10, "`has(x)`"),
        ("traits.a == today()", 13, "`now`"),
        ("events('A').count() > 1", 13, "size()"),
        ("!traits.a in ['x']", 11, "brackets"),
        ("profile.identifiers.email == 'x@y.example'", 27, "`'x@y.example' in profile.identifiers.email`"),
        ("!profile.identifiers.email.endsWith('@y.example')", 28, "exists(i, i.endsWith('@y.example'))"),
        ("events('A').map(e, e.total) > 5", 29, "sum()"),
        ("has(events('A', '3M'))", 17, "'3mo' for months"),
        ("email == 'x@y.example'", 1, "`'…' in profile.identifiers.email`"),
    ] {
        for body in [json!({ "name": "x", "condition": condition }), json!({ "condition": condition })] {
            let path = if body.get("name").is_some() { "/api/v1/audiences" } else { "/api/v1/audiences/count" };
            let problem = admin.post(path, &body).is_some_problem();
            let message = problem["message"].as_str().unwrap();
            assert!(message.contains(&format!("column {column}:")) && message.contains(told), "{condition}: {message}");
        }
    }
}

/// Values that are no times were told of beside `timestamp(…)` alone, and fields of texts and the consent that was said last of
/// nothing.
#[test]
fn what_holds_for_nobody_or_means_something_else_is_warned_of() {
    let kernel = TestKernel::start();
    let source = kernel.segment();
    let born = ["30.11.1985", "1985-11-30", "1990-11-02", "02.11.1990"];
    let people: Vec<Value> = born
        .iter()
        .enumerate()
        .map(|(number, born)| {
            let traits =
                json!({ "bday": born, "note": "a note", "address": { "city": "Oslo" }, "consent": { "promo": true } });
            json!({ "type": "identify", "userId": format!("u{number}"), "messageId": born, "traits": traits })
        })
        .collect();
    source.batch(&people);
    source.batch(&[
        json!({ "type": "identify", "userId": "u1", "messageId": "c", "traits": { "createdAt": 1_700_000_000 } }),
        json!({ "type": "track", "event": "Read", "userId": "u1", "messageId": "r", "properties": { "page": "x" } }),
    ]);
    kernel.settle();
    let warnings = |condition: &str| {
        let body = json!({ "condition": condition });
        kernel.admin().post("/api/v1/audiences/count", &body).is(200)["warnings"].to_string()
    };
    for condition in [
        "traits.bday > '2000-01-01'",
        "traits.bday <= '1990-01-01T00:00:00Z'",
        "traits.bday.month() == 11",
        "now.day() == day(traits.bday)",
        "traits.bday < timestamp('2000-01-01')",
        "now - traits.bday > duration('7d')",
    ] {
        let told = warnings(condition);
        assert!(told.contains("2 people's `traits.bday` is text that names no time"), "{condition}: {told}");
    }
    for condition in ["traits.createdAt < now", "timestamp(traits.createdAt) < now", "traits.createdAt.year() == 2023"]
    {
        let told = warnings(condition);
        assert!(
            told.contains("one person's `traits.createdAt` is a number, and no number is a time"),
            "{condition}: {told}"
        );
    }
    assert_eq!(warnings("traits.createdAt > 5"), "[]");
    for (condition, told) in [
        ("traits.note.length > 2", "`traits.note` never came as an object, so that it has no field `length`"),
        ("traits.note.length > 2", "`traits.note.size()`"),
        ("traits.note.street == 'x'", "has no field `street`"),
        ("events('Read').exists(e, e.page.length > 2)", "`page` of `Read` never came as an object"),
        ("traits.consent.promo == true", "`traits.consent` is what was said last, and not what holds"),
        ("traits.email == 'x'", "`'…' in profile.identifiers.email`"),
    ] {
        let warned = warnings(condition);
        assert!(warned.contains(told), "{condition}: {warned}");
    }
    for condition in [
        "traits.bday == '1985-11-30'",
        "traits.address.city == 'Oslo'",
        "has(events('Read')) && traits.note.size() > 2",
    ] {
        assert_eq!(warnings(condition), "[]", "{condition}");
    }
}

#[test]
fn names_that_nobody_writes_are_answered_with_what_may_be_meant() {
    let kernel = TestKernel::start();
    shop(&kernel);
    let admin = kernel.admin();
    for (condition, warnings) in [
        ("traits.plann == 'gold'", vec!["nobody has the trait `plann` so far; did you mean `plan`?"]),
        ("traits.plan == 'copper'", vec!["nobody's `traits.plan` is 'copper' so far"]),
        ("traits.plan == 'golt'", vec!["nobody's `traits.plan` is 'golt' so far; did you mean `gold`?"]),
        (
            "has(events('order_complted'))",
            vec!["no event `order_complted` came so far; did you mean `Order Completed`?"],
        ),
        (
            "events('Order Completed').exists(e, e.totl > 5)",
            vec!["no event `Order Completed` came with the property `totl` so far; did you mean `total`?"],
        ),
        (
            "events('Order Completed').exists(e, e.name == 'first')",
            vec!["`e.name` is the event's own name; the property `name` of `Order Completed` is `e.properties.name`"],
        ),
        ("tags.x == 'y'", vec!["no installed plugin writes the tag `x`, so nobody has it until one does"]),
        (
            "events('Order Completed').map(e, e.total).sum() > 5",
            vec![
                "`total` of `Order Completed` came as text that is no number in 1 events; sums, means and the greatest \
                  leave it out",
            ],
        ),
        (
            "traits.vip == true",
            vec![
                "one person's `traits.vip` is text such as 'true', which is neither true nor false; compare it with the text, \
                 `traits.vip == 'true'`, and import it with `\"type\": \"boolean\"`",
            ],
        ),
        (
            "size(profile.identifiers.emial) == 0",
            vec!["no identity rule has identifiers of the type `emial`; did you mean `email`?"],
        ),
        ("traits.sub == true && size(profile.identifiers.crm_id) == 0", vec![]),
        ("events('Order Completed').exists(e, e.properties['total price'] > 1) && traits.zz == 1", vec![]),
    ] {
        let counted = admin.post("/api/v1/audiences/count", &json!({ "condition": condition })).is(200);
        assert_eq!(counted["warnings"], json!(warnings), "{condition}");
        let previewed = admin.post("/api/v1/audiences/preview", &json!({ "condition": condition })).is(200);
        assert_eq!(previewed["warnings"], counted["warnings"], "{condition}");
    }
    let doubtful =
        |strict: bool| json!({ "name": "doubtful", "condition": "traits.plann == 'gold'", "strict": strict });
    let problem = admin.post("/api/v1/audiences", &doubtful(true)).is_problem(400, "doubtful-condition");
    assert_eq!(problem["errors"][0]["path"], "condition");
    let saved = admin.post("/api/v1/audiences", &doubtful(false)).is(201);
    assert_eq!(saved["warnings"][0], "nobody has the trait `plann` so far; did you mean `plan`?");
    // A key that may not read people learns nothing of values, and no name that few have.
    let writer = kernel.caller(&kernel.key(&["audiences:write", "audiences:read"]));
    let body = json!({ "name": "theirs", "condition": "traits.plan == 'golt' && traits.plann == 'x'" });
    assert_eq!(
        writer.post("/api/v1/audiences", &body).is(201)["warnings"],
        json!([
            "nobody, or fewer than 20 people, has the trait `plan` so far",
            "nobody, or fewer than 20 people, has the trait `plann` so far",
        ])
    );
}

#[test]
fn the_catalogue_lists_the_names_that_came_also_after_a_restart() {
    let mut kernel = TestKernel::start();
    let source = shop(&kernel);
    let admin = kernel.admin();
    let read = |kernel: &TestKernel| kernel.admin().get("/api/v1/catalog?limit=500").is(200);
    let before = read(&kernel);
    let find = |written: &str| {
        let items = before["items"].as_array().unwrap();
        items.iter().find(|item| item["written"] == written).unwrap_or_else(|| panic!("{written}: {before}")).clone()
    };
    assert_eq!(find("events('Order Completed')")["count"], 3);
    let total = find("e.properties.total");
    assert_eq!(
        (&total["count"], &total["kinds"]["number_texts"], &total["kinds"]["numbers"], &total["kinds"]["texts"]),
        (&json!(3), &json!(1), &json!(1), &json!(1))
    );
    assert_eq!(find("e.properties['total price']")["event"], "Order Completed");
    let plan = find("traits.plan");
    assert_eq!((&plan["people"], &plan["values"][0]), (&json!(3), &json!({ "value": "gold", "count": 2 })));
    let paged: Vec<Value> = kith_tests::pages(&admin, "/api/v1/catalog", 2);
    assert_eq!(json!(paged), before["items"]);
    let traits = admin.get("/api/v1/catalog?kind=trait&limit=500").is(200);
    assert!(traits["items"].as_array().unwrap().iter().all(|item| item["kind"] == "trait"), "{traits}");
    admin.get("/api/v1/catalog?kind=colour").is_some_problem();
    // Names that few have, and all values, are for those who may read people.
    let reader = kernel.caller(&kernel.key(&["audiences:read"]));
    assert_eq!(reader.get("/api/v1/catalog").is(200)["items"], json!([]));
    let many: Vec<Value> = (0..30)
        .map(|number| {
            json!({ "type": "track", "event": "Page Seen", "userId": format!("p{number}"),
                "messageId": format!("p{number}"), "properties": { "path": "/figs" } })
        })
        .collect();
    source.batch(&many);
    kernel.settle();
    let seen = reader.get("/api/v1/catalog").is(200);
    let written: Vec<&Value> = seen["items"].as_array().unwrap().iter().map(|item| &item["written"]).collect();
    assert_eq!(written, ["events('Page Seen')", "e.properties.path"], "{seen}");
    assert!(!seen.to_string().contains("figs") && seen["items"][0].get("last_seen").is_none(), "{seen}");
    let before = read(&kernel);
    kernel.restart();
    assert_eq!(read(&kernel), before);
}

#[test]
fn the_command_line_shows_warnings_and_names_and_refuses_doubt_where_it_is_told_to() {
    let kernel = TestKernel::start();
    shop(&kernel);
    let run = |arguments: &[&str]| {
        let mut command = Command::new(kith());
        let output =
            command.args(["--url", kernel.url(), "--key", kith_tests::ADMIN_KEY]).args(arguments).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.success(), text(&output.stdout) + &text(&output.stderr))
    };
    let (is_done, shown) = run(&["audience", "count", "traits.plann == 'gold'"]);
    assert!(is_done && shown.contains("did you mean `plan`?"), "{shown}");
    let create =
        |more: &[&str]| run(&[&["audience", "create", "gold", "--condition", "traits.plann == 'gold'"], more].concat());
    let (is_done, shown) = create(&["--strict"]);
    assert!(!is_done && shown.contains("did you mean `plan`?"), "{shown}");
    let (is_done, shown) = create(&[]);
    assert!(is_done && shown.contains("warning: nobody has the trait `plann`"), "{shown}");
    let (is_done, shown) = run(&["catalog", "--kind", "event"]);
    assert!(is_done && shown.contains("events('Order Completed')") && !shown.contains("traits.plan"), "{shown}");
    let (is_done, shown) = run(&["catalog"]);
    assert!(is_done && shown.contains("e.properties['total price'] (Order Completed)"), "{shown}");
}
