//! Where messages go: the address that the record says which counts, one mailbox in every spelling, and a list of suppressed
//! addresses that keeps off whom it names.

use std::process::Command;

use kith_tests::{Client, Receiver, TestKernel, kith, wait_for};
use serde_json::{Value, json};

use super::stage::{define_with, deliveries, identify, message_through, send, track, webhook};

/// The addresses that messages to somebody went to, the first of each.
fn addresses(receiver: &Receiver, user: &str) -> Vec<Vec<String>> {
    let of_message = |data: &Value| -> Option<Vec<String>> {
        let recipient = data["recipient"].as_array()?;
        let is_theirs = recipient.iter().any(|identifier| identifier["value"] == user);
        let emails = recipient.iter().filter(|identifier| identifier["type"] == "email");
        is_theirs.then(|| emails.map(|email| email["value"].as_str().unwrap_or_default().to_owned()).collect())
    };
    receiver.arrived().iter().filter_map(|message| of_message(&message.json()["data"])).collect()
}

/// What became of the message to whoever is in an audience.
fn decided(admin: &Client, audience: &str) -> (String, String) {
    let mine = || deliveries(admin).into_iter().find(|delivery| delivery["audience"] == audience);
    let delivery = wait_for("it is decided", || mine().filter(|delivery| delivery["state"] != "pending"));
    let text = |name: &str| delivery[name].as_str().unwrap_or_default().to_owned();
    (text("state"), text("reason"))
}

/// After the correction of an address both stayed with the person, and the message went to the wrong one.
#[test]
fn a_corrected_address_gets_no_message() {
    let (kernel, receiver) = (TestKernel::start(), Receiver::start());
    let (source, admin) = (kernel.segment(), kernel.admin());
    webhook(&kernel, "webhook", &receiver);
    let config = json!({
        "kind": "identify", "upsert": true, "message_id": "row",
        "identifiers": { "user_id": "user", "email": "email" }, "traits": { "city": "city" },
    });
    kernel.install("kith/csv", json!({ "name": "crm", "config": config }));
    let import = |rows: &[(&str, &str, &str)]| {
        let lines: Vec<String> = rows.iter().map(|(row, user, email)| format!("{row},{user},{email},Oslo\n")).collect();
        let file = format!("row,user,email,city\n{}", lines.concat());
        admin.send("POST", "/api/v1/sources/crm/records", &[("content-type", "text/csv")], file).is(200)
    };
    let (wrong, right) = ("a-wrong@shop.example", "b-right@shop.example");
    import(&[
        ("1", "mended", wrong),
        ("2", "twice", wrong.replace("wrong", "first").as_str()),
        ("3", "live", "live-a@shop.example"),
        ("4", "back", "back-a@shop.example"),
        ("5", "both", "both-a@shop.example"),
        ("6", "both", "both-b@shop.example"),
        ("7", "rich", "rich-a@shop.example"),
    ]);
    kernel.clock.advance_ms(1_000);
    // What somebody says live is no record of the file.
    send(&source, &[identify("live", "live", json!({ "email": "live-a@shop.example" }))]);
    let corrected = import(&[
        ("1", "mended", right),
        ("2", "twice", "a-second@shop.example"),
        ("3", "live", "live-b@shop.example"),
        ("4", "back", "back-b@shop.example"),
        ("6", "both", "both-c@shop.example"),
        ("7", "rich", "rich-b@shop.example"),
    ]);
    assert_eq!(corrected["corrected"], 6, "{corrected}");
    // More than is looked through for a record that names the address before: it fails closed.
    for batch in 0..11 {
        let visits: Vec<Value> =
            (0..2_000).map(|visit| track("rich", "Visit", &format!("rich-{batch}-{visit}"))).collect();
        send(&source, &visits);
    }
    kernel.clock.advance_ms(1_000);
    import(&[("2", "twice", "A-Third@shop.example"), ("4", "back", "back-a@shop.example")]);
    kernel.settle();
    for (user, expected) in [
        ("mended", vec![right]),
        ("twice", vec!["a-third@shop.example"]),
        ("live", vec!["live-a@shop.example", "live-b@shop.example"]),
        ("back", vec!["back-a@shop.example"]),
        ("both", vec!["both-a@shop.example", "both-c@shop.example"]),
        ("rich", vec!["rich-b@shop.example"]),
    ] {
        define_with(&admin, user, &format!("events('Visit {user}').size() > 0"), message_through("webhook"));
        send(&source, &[track(user, &format!("Visit {user}"), &format!("visit-{user}"))]);
        assert_eq!(decided(&admin, user).0, "delivered", "{user}");
        let mut sent = addresses(&receiver, user);
        assert_eq!(sent.len(), 1, "{user}");
        sent[0].sort();
        assert_eq!(sent[0], expected, "{user}");
    }
    // They are one person all the same, and what holds for the address before holds for the person.
    assert_eq!(kernel.profile(&format!("email:{wrong}"))["id"], kernel.profile("user_id:mended")["id"]);
    admin.post("/api/v1/suppressions", &json!({ "identifiers": [format!("email:{wrong}")] })).is(200);
    define_with(&admin, "again", "events('Again').size() > 0", message_through("webhook"));
    send(&source, &[track("mended", "Again", "again")]);
    let (state, reason) = decided(&admin, "again");
    assert!(state == "skipped" && reason.contains("suppressed"), "{state}: {reason}");
}

/// An agreement under `eve@…` ended no refusal under `Eve@…`, while the other way round it did.
#[test]
fn what_is_said_of_a_mailbox_holds_in_every_spelling_and_the_later_counts() {
    let (kernel, receiver) = (TestKernel::start(), Receiver::start());
    let admin = kernel.admin();
    webhook(&kernel, "webhook", &receiver);
    let config = json!({
        "kind": "identify", "identifiers": { "email": "email" }, "time": { "column": "at" },
        "consent": { "marketing": "news", "profiling": "profiling" },
    });
    kernel.install("kith/csv", json!({ "name": "forms", "config": config, "grants": { "consent": "give" } }));
    let spellings = ["Eve@Spell.example", "eve@spell.example", "EVE@spell.example"];
    let mut rows = Vec::new();
    let mut expected = Vec::new();
    for (first, one) in spellings.iter().enumerate() {
        for (second, other) in spellings.iter().enumerate() {
            for (answer, state) in [(["no", "yes"], "delivered"), (["yes", "no"], "skipped")] {
                // Each pair has a mailbox of its own.
                let name = format!("e{first}{second}{state}");
                let of = |spelling: &str| match spelling.starts_with("eve") {
                    true => format!("{name}@spell.example"),
                    false if spelling.starts_with("EVE") => format!("{}@spell.example", name.to_uppercase()),
                    false => format!("{}@Spell.example", name.replacen('e', "E", 1)),
                };
                rows.push(format!("{},2026-03-01,{},{}\n", of(one), answer[0], answer[0]));
                rows.push(format!("{},2026-10-01,{},{}\n", of(other), answer[1], answer[1]));
                expected.push((name, state));
            }
        }
    }
    for half in 0..2 {
        // Of some the later statement comes first.
        let part = rows.chunks(2).enumerate().flat_map(|(pair, rows)| rows.get((half + pair) % 2).cloned());
        let file = format!("email,at,news,profiling\n{}", part.collect::<String>());
        admin.send("POST", "/api/v1/sources/forms/records", &[("content-type", "text/csv")], file).is(200);
    }
    kernel.settle();
    let source = kernel.segment();
    for (name, state) in expected {
        define_with(&admin, &name, &format!("traits.go == '{name}'"), message_through("webhook"));
        let traits = json!({ "email": format!("{name}@spell.example"), "go": name });
        send(&source, &[json!({ "type": "identify", "messageId": name, "traits": traits })]);
        kernel.settle();
        let is_member = admin.get(&format!("/api/v1/audiences/{name}")).is(200)["size"] == 1;
        assert_eq!(is_member, state == "delivered", "{name}: profiling");
        if is_member {
            assert_eq!(decided(&admin, &name).0, "delivered", "{name}");
        }
    }
}

/// `mail:…` and `email:zed` counted as suppressed, and kept nothing from anybody.
#[test]
fn what_can_be_nobodys_is_not_taken_for_suppressed() {
    let kernel = TestKernel::start();
    let admin = kernel.admin();
    let source = kernel.segment();
    send(&source, &[identify("ada", "a", json!({ "email": "ada@shop.example" }))]);
    kernel.settle();
    for (bad, told) in [
        ("mail:zed@z.example", "did you mean `email`?"),
        ("e_mail:zed@z.example", "did you mean `email`?"),
        ("loyalty:7", "nobody has an identifier of the type `loyalty`"),
        ("email:zed", "is no e-mail address"),
        ("email:notanemail@", "is no e-mail address"),
        ("email:a b@z.example", "is no e-mail address"),
        ("phone:call me", "is no telephone number"),
        ("phone:12", "is no telephone number"),
    ] {
        let body = json!({ "identifiers": ["email:fine@shop.example", bad] });
        let problem = admin.post("/api/v1/suppressions", &body).is_problem(400, "no-such-identifier");
        let message = problem["message"].as_str().unwrap();
        assert!(message.contains(told) && message.starts_with("identifiers[1]: "), "{bad}: {message}");
    }
    let dry = json!({ "identifiers": ["email:fine@shop.example"], "dry_run": true });
    admin.post("/api/v1/suppressions", &dry).is(200);
    assert_eq!(admin.get("/api/v1/suppressions").is(200)["items"], json!([]), "nothing was changed");
    for fine in ["email:new@shop.example", "Email: x", "phone:+4915112345670", "user_id:any", "anonymous_id:d1"] {
        let is_fine = !fine.starts_with("Email");
        let answer = admin.post("/api/v1/suppressions", &json!({ "identifiers": [fine] }));
        if is_fine {
            assert_eq!(answer.is(200)["changed"], 1, "{fine}");
        } else {
            answer.is_problem(400, "bad-input");
        }
    }
    // A type that rules speak of may come to be somebody's.
    let rules = json!({ "priority": ["user_id", "loyalty", "email", "phone"] });
    admin.send("PUT", "/api/v1/identity/rules", &[("content-type", "application/json")], rules.to_string()).is(200);
    admin.post("/api/v1/suppressions", &json!({ "identifiers": ["loyalty:7"] })).is(200);
}

/// The command line takes a column as it is exported, and a long list whole or not at all.
#[test]
fn a_list_to_suppress_is_taken_whole_or_not_at_all() {
    let kernel = TestKernel::start();
    let admin = kernel.admin();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("list.csv");
    let run = |text: &str| {
        let units: Vec<u8> = format!("\u{feff}{text}").encode_utf16().flat_map(u16::to_le_bytes).collect();
        std::fs::write(&file, units).unwrap();
        let mut command = Command::new(kith());
        command.args(["--url", kernel.url(), "--key", kith_tests::ADMIN_KEY, "consent", "suppress", "--file"]);
        let output = command.arg(&file).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.success(), text(&output.stdout) + &text(&output.stderr))
    };
    let lines: String = (0..1_500).map(|number| format!("list-{number}@shop.example\r\n")).collect();
    let (is_done, shown) = run(&format!("email\r\n{lines}nobody\r\n"));
    assert!(!is_done && shown.contains("is no e-mail address"), "{shown}");
    let listed = |number: u32| {
        let asked = json!({ "identifiers": [format!("email:list-{number}@shop.example")] });
        admin.post("/api/v1/suppressions/check", &asked).is(200)["items"][0]["suppressed"] == true
    };
    assert!(!listed(0), "the first part was sent before the last was looked at");
    let (is_done, shown) = run(&format!("email\r\n{lines}"));
    assert!(is_done && shown.contains("1,500 suppressed"), "{shown}");
    assert!(listed(0) && listed(1_499));
}
