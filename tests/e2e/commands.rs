//! The command line as a stranger and as a program meet it: lists that were cut, refusals, answers for programs, and another version of
//! a plugin.

use std::io::Write as _;
use std::process::{Command, Output};

use kith_tests::{TestKernel, component, kith, repacked, wait_until};
use serde_json::{Value, json};

fn run(kernel: &TestKernel, arguments: &[&str]) -> Output {
    let mut command = Command::new(kith());
    command.env("KITH_URL", kernel.url()).env("KITH_KEY", kith_tests::ADMIN_KEY).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Ada and Bob with events, an audience, a source of files, and one record that was set aside.
fn ground() -> TestKernel {
    let kernel = TestKernel::start();
    let web = kernel.segment();
    let ada = |id: &str| json!({ "type": "track", "event": "Buy", "userId": "ada", "messageId": id, "properties": { "n": 1 } });
    web.batch(&[
        json!({ "type": "identify", "userId": "ada", "traits": { "email": "ada@example.com", "city": "Rome" } }),
        json!({ "type": "identify", "userId": "bob", "traits": { "city": "Oslo" } }),
        json!({ "type": "track", "event": "Buy", "messageId": "nobody" }),
        ada("m1"),
        ada("m2"),
        ada("m3"),
    ]);
    kernel.install("kith/csv", json!({ "name": "orders", "config": { "event": { "name": "Order" }, "identifiers": { "user_id": "customer" } } }));
    let audience = json!({ "name": "all", "title": "All", "condition": "traits.city != ''" });
    kernel.admin().post("/api/v1/audiences", &audience).is(201);
    kernel.settle();
    kernel
}

/// A file of 60 MB whose source is not there ended after six tries with "Broken pipe"; the server had said why.
#[test]
fn a_large_file_that_is_refused_says_why_at_once() {
    let kernel = ground();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("big.csv");
    let mut file = std::io::BufWriter::new(std::fs::File::create(&path).unwrap());
    file.write_all(b"id,total\n").unwrap();
    (0..6_000_000).for_each(|row| writeln!(file, "{row:08},1234567").unwrap());
    file.into_inner().unwrap();
    let reader = kernel.key(&["profiles:read"]);
    for (source, key, told) in [
        ("nope", kith_tests::ADMIN_KEY, "nope"),
        // The file has no such column, which the connector says when it has read the first piece.
        ("orders", kith_tests::ADMIN_KEY, "customer"),
        ("orders", reader.as_str(), "403"),
        ("orders", "wrong", "401"),
    ] {
        let arguments = ["--url", kernel.url(), "--key", key, "import", path.to_str().unwrap(), "--source", source];
        for dry in [&[][..], &["--dry-run"]] {
            let output = Command::new(kith()).args(arguments).args(dry).output().unwrap();
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{source} {dry:?}: {said}");
            assert!(said.contains(told) && !said.contains("trying again"), "{source} {dry:?}: {said}");
        }
    }
}

/// Who names a source is told of sources, and how to find them; a write key is told of another source exactly what it is told of none.
#[test]
fn a_source_that_is_not_there_is_told_with_the_command_that_lists_them() {
    let kernel = ground();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.csv");
    std::fs::write(&path, "customer,total\nada,5\n").unwrap();
    let output = run(&kernel, &["import", path.to_str().unwrap(), "--source", "nosuch"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(["source `nosuch`", "kith source list"].iter().all(|words| said.contains(words)), "{said}");
    assert!(!said.contains("installation"), "{said}");
    let admin = kernel.admin();
    let made = admin.post("/api/v1/keys", &json!({ "title": "w", "source": "orders" })).is(201);
    let writer = kernel.caller(made["key"].as_str().unwrap());
    let told = |source: &str| {
        let path = format!("/api/v1/sources/{source}/imports/x");
        writer.get(&path).is_problem(404, "not-found")["message"].as_str().unwrap().replace(source, "NAME")
    };
    assert_eq!(told("segment"), told("nosuch"));
}

/// "Every command takes `--json`": one document from each, exports too, which wrote CSV and TOML all the same.
#[test]
fn every_command_answers_a_program_with_one_document() {
    let kernel = ground();
    for arguments in [
        "status",
        "plugin list",
        "plugin installations",
        "plugin show orders",
        "plugin upgrade orders",
        "profile get user_id:ada",
        "profile search --trait city=Rome",
        "profile events user_id:ada --all",
        "profile provenance user_id:ada --trait city",
        "plugin written kith/csv --version 0.1.0",
        "profile export",
        "profile export --columns id,traits.city",
        "consent show user_id:ada",
        "consent suppress email:eve@example.com",
        "consent list",
        "consent check email:eve@example.com",
        "identity merges",
        "identity splits",
        "identity not-followed",
        "identity why user_id:ada --with email:ada@example.com",
        "identity rules show",
        "identity rules status",
        "audience list",
        "audience show all",
        "audience members all",
        "audience members all --columns id,traits.city",
        "audience count true",
        "audience preview true",
        "audience explain all user_id:ada",
        "catalog",
        "source list",
        "source quality",
        "source quality segment",
        "tracking list",
        "tracking suggest Buy",
        "publisher add us --namespace kith/*",
        "publisher list",
        "publisher list --host",
        "publisher policy",
        "dictionary set trait city --meaning Town",
        "dictionary list",
        "dictionary show trait city",
        "dictionary export",
        "rules show",
        "key list",
        "workspace list",
        "workspace show default",
        "delivery list",
        "dead-letters list",
        "dead-letters counts",
        "audit list --all",
        "audit export",
        "audit verify",
    ] {
        let arguments: Vec<&str> = arguments.split(' ').chain(["--json"]).collect();
        let output = run(&kernel, &arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        let answer: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {}", text(&output.stdout)));
        if ["export", "--columns"].iter().any(|word| arguments.contains(word)) && arguments[0] != "dictionary" {
            assert!(!answer["items"].as_array().unwrap().is_empty(), "{arguments:?}: {answer}");
        }
        let people = run(&kernel, &arguments[..arguments.len() - 1]);
        assert!(people.status.success(), "{arguments:?}: {}", text(&people.stderr));
    }
}

/// What fails says so in one document too, whether the server refused or was never asked.
#[test]
fn every_failure_is_a_document_for_a_program() {
    let kernel = ground();
    for (arguments, status, code) in [
        (&["profile", "get", "user_id:nobody"][..], 1, "not-found"),
        (&["audience", "count", "events("], 1, "bad-expression"),
        (&["plugin", "install", "kith/nothing"], 1, "bad-input"),
        (&["import", "/no/such/file", "--source", "orders"], 1, "file"),
        (&["key", "create", "x"], 2, "usage"),
        (&["nonsense"], 2, "usage"),
        (&["--url", "nonsense", "status"], 2, "usage"),
        (&["--url", "http://127.0.0.1:1", "status"], 1, "unreachable"),
        (&["--key", "wrong", "status"], 1, "unauthenticated"),
    ] {
        let all: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
        let output = run(&kernel, &all);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {}", text(&output.stderr));
        let document: Value = serde_json::from_slice(&output.stderr)
            .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {}", text(&output.stderr)));
        assert!(document["message"].as_str().is_some_and(|message| !message.is_empty()), "{document}");
        assert_eq!(document["code"], code, "{arguments:?}: {document}");
        assert!(output.stdout.is_empty(), "{arguments:?}: {}", text(&output.stdout));
    }
}

/// The commands that a help names, each with those below it.
fn commands(kernel: &TestKernel, above: &[String]) -> Vec<Vec<String>> {
    let asked: Vec<&str> = above.iter().map(String::as_str).chain(["-h"]).collect();
    let help = text(&run(kernel, &asked).stdout);
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names = listed.filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')));
    let names = names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help");
    let below = names.flat_map(|name| commands(kernel, &[above, &[name.to_owned()]].concat()));
    let below: Vec<Vec<String>> = below.collect();
    if below.is_empty() { vec![above.to_vec()] } else { below }
}

/// Every command that the help names, asked with nothing but `--json`: it answers with one document, or fails with one, and writes
/// nothing beside it where a program reads.
#[test]
fn no_command_writes_beside_its_document() {
    let kernel = ground();
    let folder = tempfile::tempdir().unwrap();
    let all = commands(&kernel, &[]);
    assert!(all.len() > 60, "{all:?}");
    // These go on until they are ended, or work on a folder of this machine.
    let apart = ["serve", "demo", "plugin new", "plugin build", "key reset", "key host"];
    for command in all.iter().filter(|command| !apart.contains(&command.join(" ").as_str())) {
        let output = Command::new(kith())
            .env("KITH_URL", kernel.url())
            .env("KITH_KEY", kith_tests::ADMIN_KEY)
            .current_dir(folder.path())
            .stdin(std::process::Stdio::null())
            .args(command)
            .arg("--json")
            .output()
            .unwrap();
        let (document, beside) = match output.status.success() {
            true => (&output.stdout, None),
            false => (&output.stderr, Some(&output.stdout)),
        };
        serde_json::from_slice::<Value>(document)
            .unwrap_or_else(|error| panic!("{command:?}: {error}: {}", text(document)));
        assert!(beside.is_none_or(Vec::is_empty), "{command:?}: {output:?}");
    }
}

/// A list that was cut names flags that the command has, and they show the rest.
#[test]
fn a_list_that_was_cut_goes_on_where_it_says() {
    let kernel = ground();
    for list in [
        &["profile", "events", "user_id:ada"][..],
        &["profile", "search"],
        &["audience", "members", "all"],
        &["audit", "list"],
    ] {
        let all = [list, &["--all", "--json"]].concat();
        let all: Value = serde_json::from_slice(&run(&kernel, &all).stdout).unwrap();
        let all = all["items"].as_array().unwrap();
        let first = run(&kernel, &[list, &["--limit", "1"]].concat());
        let hint = text(&first.stderr);
        let cursor = hint.split("--cursor ").nth(1).and_then(|rest| rest.split(',').next());
        let cursor = cursor.unwrap_or_else(|| panic!("{list:?} names no cursor: {hint}"));
        assert!(hint.contains("or --all"), "{list:?}: {hint}");
        let second = run(&kernel, &[list, &["--limit", "1", "--cursor", cursor, "--json"]].concat());
        let second: Value = serde_json::from_slice(&second.stdout).unwrap();
        // What was asked for meanwhile is in the audit log as well, behind these.
        assert_eq!(second["items"][0], all[1], "{list:?}");
    }
}

/// Where several arguments would do, the message names them together; one that is set in the environment is not asked for.
#[test]
fn what_is_missing_is_named_with_all_that_would_do() {
    let kernel = TestKernel::start();
    for (arguments, named) in [
        (&["key", "create", "x"][..], &["--scope", "--role", "--source"][..]),
        (&["dead-letters", "dismiss"], &["--all", "--source", "[ID]"]),
        (&["identity", "undo"], &["IDENTIFIER", "--evidence"]),
        (&["consent", "check"], &["TYPE:VALUE", "--file"]),
        (&["workspace", "change", "shop"], &["--title", "--budget"]),
    ] {
        let output = run(&kernel, arguments);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        for name in named {
            let bare = name.trim_matches(['[', ']']);
            assert!(said.contains(bare), "{arguments:?} names no {name}: {said}");
        }
        assert!(!said.contains("--key <KEY>") && !said.contains("--url <URL>"), "{arguments:?}: {said}");
    }
}

#[test]
fn a_plugin_is_upgraded_and_put_back() {
    let kernel = ground();
    let next =
        repacked(component("kith/csv"), |manifest| manifest.replacen("version = \"0.1.0\"", "version = \"0.2.0\"", 1));
    kernel.admin().send("POST", "/api/v1/plugins", &[], next).is(201);
    let version = || kernel.admin().get("/api/v1/installations/orders").is(200)["version"].clone();
    // Nobody is given a version that is yanked, and who asks for it is told why.
    let yank = |action: &str, reason: &str| {
        let done = run(&kernel, &["plugin", action, "kith/csv", "0.2.0", "--reason", reason]);
        assert!(done.status.success(), "{}", text(&done.stderr));
    };
    yank("yank", "it loses rows");
    assert_eq!(text(&run(&kernel, &["plugin", "upgrade", "orders"]).stdout).trim(), "orders is as it was");
    let refused = text(&run(&kernel, &["plugin", "upgrade", "orders", "--version", "0.2.0"]).stderr);
    assert!(refused.contains("was yanked: it loses rows; take 0.1.0"), "{refused}");
    yank("unyank", "it does not");
    let up = run(&kernel, &["plugin", "upgrade", "orders"]);
    assert!(up.status.success(), "{}", text(&up.stderr));
    let said = text(&up.stdout);
    assert!(["version", "0.1.0", "0.2.0"].iter().all(|word| said.contains(word)), "{said}");
    assert_eq!(version(), "0.2.0");
    let again = run(&kernel, &["plugin", "upgrade", "orders"]);
    assert_eq!(text(&again.stdout).trim(), "orders is as it was");
    yank("yank", "it loses rows after all");
    let shown = text(&run(&kernel, &["plugin", "show", "orders"]).stdout);
    assert!(shown.contains("which was yanked: it loses rows after all; `kith plugin upgrade orders"), "{shown}");
    // The way back is one that somebody asks for, of another installation too.
    let back = ["plugin", "upgrade", "orders", "--version", "0.1.0"];
    let refused = run(&kernel, &back);
    let said = text(&refused.stderr);
    assert!(said.contains("older than 0.2.0") && said.contains("--allow-downgrade"), "{said}");
    assert_eq!((refused.status.code(), version()), (Some(1), json!("0.2.0")));
    let older = ["plugin", "install", "kith/csv@0.1.0", "--name", "older", "--disabled"];
    assert!(text(&run(&kernel, &older).stderr).contains("--allow-downgrade"));
    let back = run(&kernel, &[&back[..], &["--allow-downgrade"]].concat());
    assert!(back.status.success(), "{}", text(&back.stderr));
    assert_eq!(version(), "0.1.0");
    assert!(text(&run(&kernel, &older).stderr).contains("older than 0.2.0"), "it was installed all the same");
    let log = kernel.admin().get("/api/v1/audit?action=installation.downgrade").is(200);
    assert_eq!(
        (&log["items"][0]["target"], &log["items"][0]["before"]["highest"]),
        (&json!("orders"), &json!("0.2.0"))
    );
    let deleted = run(&kernel, &["plugin", "delete", "kith/csv", "0.2.0", "--yes"]);
    assert!(deleted.status.success(), "{}", text(&deleted.stderr));
    let said = text(&run(&kernel, &["plugin", "install", "kith/csv", "--name", "older"]).stderr);
    assert!(said.contains("0.2.0, which was installed here already and is deleted; to go back, add"), "{said}");
    let none = run(&kernel, &["plugin", "upgrade", "orders", "--version", "9.0.0"]);
    assert_eq!(none.status.code(), Some(1), "{}", text(&none.stderr));
    let limited = run(&kernel, &["plugin", "change", "orders", "--limit", "cpu_ms=250", "--json"]);
    let limited: Value = serde_json::from_slice(&limited.stdout).unwrap();
    assert_eq!(
        (&limited["grants"]["limits"]["cpu_ms"], limited["changed"].as_array().unwrap().len()),
        (&json!(250), 1)
    );
}

/// A publisher's whole way: a key is made, a component signed with it and taken where only signed ones are, and nothing of it is
/// installed anew once the key is revoked.
#[test]
fn a_plugin_is_signed_and_taken_until_its_key_is_revoked() {
    let kernel = TestKernel::start();
    let folder = tempfile::tempdir().unwrap();
    let [wasm, secret, public] = ["csv.wasm", "kith.key", "kith.pub"].map(|name| folder.path().join(name));
    std::fs::write(&wasm, &component("kith/csv").component).unwrap();
    let [wasm, secret, public] = [&wasm, &secret, &public].map(|path| path.to_str().unwrap());
    let does = |arguments: &[&str], exit: i32, word: &str| {
        let output = run(&kernel, arguments);
        let said = text(&output.stdout) + &text(&output.stderr);
        assert!(output.status.code() == Some(exit) && said.contains(word), "{arguments:?}: {said}");
        said
    };
    does(&["publisher", "policy", "required"], 0, "required is in force");
    does(&["plugin", "upload", wasm], 1, "it is not signed");
    does(&["plugin", "keygen", "--out", secret], 0, "without a password");
    does(&["plugin", "keygen", "--out", secret], 1, "could not make");
    does(&["plugin", "sign", wasm, "--secret-key", secret], 0, "kith/csv");
    does(&["plugin", "verify", wasm, "--public-key", public], 0, "plugin:kith/csv");
    does(&["plugin", "verify", wasm, "--public-key", public], 0, "Not looked at: whose key it is");
    does(&["plugin", "verify", wasm], 1, "which no publisher here has");
    does(&["plugin", "upload", wasm], 1, "which no publisher here has");
    does(&["publisher", "add", "us", "--namespace", "other/*", "--public-key", public], 0, "other/*");
    does(&["plugin", "upload", wasm], 1, "which may not sign it");
    does(&["plugin", "verify", wasm], 1, "which may not sign it");
    does(&["publisher", "add", "us", "--namespace", "kith/*"], 0, "kith/*");
    does(&["plugin", "upload", wasm], 0, "valid: us");
    does(&["plugin", "verify", wasm], 0, "The signature holds");

    let config = r#"{"event":{"name":"Order"},"identifiers":{"user_id":"customer"}}"#;
    let install = |name: &str, digest: &str, exit: i32, word: &str| {
        let arguments = ["plugin", "install", "kith/csv", "--name", name, "--config", config, "--digest", digest];
        does(&arguments, exit, word)
    };
    let digest = kernel.admin().get("/api/v1/plugins/kith/csv").is(200)["versions"][0]["digest"].clone();
    let digest = format!("sha256:{}", digest.as_str().unwrap());
    install("orders", &format!("sha256:{}", "0".repeat(64)), 1, "other-digest");
    install("orders", &digest, 0, "running");
    let shown = does(&["publisher", "show", "us"], 0, "key ");
    let key_id = shown.split_once("key ").unwrap().1.split_whitespace().next().unwrap();
    does(&["publisher", "revoke", "us", key_id, "--why", "it was stolen", "--yes"], 0, "it was stolen");
    does(&["plugin", "installations"], 0, "orders goes on with a version that is not to be trusted");
    does(&["plugin", "verify", wasm], 1, "is revoked since");
    install("again", &digest, 1, "it was stolen");
    does(&["publisher", "policy", "any"], 0, "any is in force");
    install("again", &digest, 1, "it was stolen");
    // Nor when its publisher is gone, which is asked before.
    does(&["publisher", "remove", "us"], 2, "to remove us without a question, add --yes");
    does(&["publisher", "remove", "us", "--yes"], 0, "us is removed");
    install("again", &digest, 1, "it was stolen");
    does(&["publisher", "list"], 0, "its revoked keys stay");
    does(&["publisher", "add", "them", "--namespace", "kith/*", "--public-key", public], 1, "that is for good");
}

/// How a connector polls is seen, asked for and set. This one has nothing to fetch, which is for good.
#[test]
fn a_connector_that_polls_is_seen_asked_and_told_how_often() {
    let kernel = TestKernel::start();
    let admin = kernel.admin();
    let said = |arguments: &[&str]| {
        let output = run(&kernel, arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    };
    let polls = repacked(component("hostile/connector"), |m| format!("{m}\n[poll]\nreason = \"To test\"\n"));
    admin.send("POST", "/api/v1/plugins", &[], polls).is(201);
    let feed = json!({ "plugin": "hostile/connector", "name": "feed" });
    let installed = admin.post("/api/v1/installations", &feed).is(201);
    assert_eq!(installed["poll"], json!({ "interval": "15m", "source": "manifest", "reason": "To test" }));
    let polls = || admin.get("/api/v1/installations/feed/polls").is(200);
    let times = |number: usize| polls()["polls"].as_array().unwrap().len() == number;
    wait_until("it has polled", || times(1));
    let seen = polls();
    assert_eq!(
        (&seen["polls"][0]["outcome"], &seen["waits_for_change"]),
        (&json!("permanent"), &json!(true)),
        "{seen}"
    );
    // A change is told from what was there before by its time.
    kernel.clock.advance_ms(1);
    let changed = said(&["plugin", "change", "feed", "--poll-interval", "5m"]);
    assert!(changed.contains("poll.interval") && changed.contains("5m"), "{changed}");
    wait_until("it polls again, because it was changed", || times(2));
    said(&["plugin", "poll", "feed", "--from-start"]);
    wait_until("it polls again, because it was asked", || times(3));
    let shown = said(&["plugin", "polls", "feed"]);
    assert!(shown.contains("this connector does not poll"), "{shown}");
    assert!(said(&["plugin", "show", "feed"]).contains("5m, set by installation"));
    let short = run(&kernel, &["plugin", "change", "feed", "--poll-interval", "30s"]);
    assert!(!short.status.success() && text(&short.stderr).contains("too short"), "{}", text(&short.stderr));
    let audit = admin.get("/api/v1/audit?action=installation.poll").is(200);
    assert_eq!(audit["items"][0]["after"], json!({ "from_start": true }), "{audit}");
    admin.patch("/api/v1/installations/feed", &json!({ "mode": "disabled" })).is(200);
    admin.post("/api/v1/installations/feed/poll", &json!({})).is_problem(409, "not-live");
    kernel.segment();
    admin.get("/api/v1/installations/segment/polls").is_problem(409, "does-not-poll");
}

/// Through a real component: two claims of one key, keys that are listed, a time to live over a restart; and what an admin sees of it.
#[test]
fn what_a_plugin_keeps_is_seen_ends_with_its_time_and_can_be_cleared() {
    let mut kernel = TestKernel::start();
    kernel.install("hostile/connector", json!({ "name": "keeper", "grants": { "kv_bytes": 1_000 } }));
    let told = |kernel: &TestKernel, step: &str, body: &str| {
        kernel.admin().send("POST", "/api/v1/sources/keeper/records", &[], body).is(200);
        let events = kernel.events("user_id:keeper");
        let mut names = events.iter().filter_map(|event| event["name"].as_str()?.strip_prefix(&format!("{step} ")));
        names.next().unwrap().to_owned()
    };
    assert_eq!(told(&kernel, "s1", "claim s1 lock 60000"), "Ok(true)");
    assert_eq!(told(&kernel, "s2", "claim s2 lock 60000"), "Ok(false)");
    assert_eq!(told(&kernel, "s3", "keep s3 seen/a"), "Ok(())");
    assert_eq!(told(&kernel, "s4", "keys s4 "), r#"Ok(["lock", "seen/a"])"#);
    let kv = "/api/v1/installations/keeper/kv";
    let seen = json!({ "key": "seen/a", "value_bytes": 4, "expires_at": null });
    let lock = json!({ "key": "lock", "value_bytes": 4, "expires_at": "2026-11-21T10:01:00.000Z" });
    let whole = json!({ "keys": 2, "bytes": 18, "granted_bytes": 1_000, "items": [lock, seen], "next": null });
    assert_eq!(kernel.admin().get(kv).is(200), whole);
    let first = kernel.admin().get(&format!("{kv}?limit=1")).is(200);
    let cursor = first["next"].as_str().unwrap();
    assert_eq!(kernel.admin().get(&format!("{kv}?limit=1&cursor={cursor}")).is(200)["items"], json!([seen]));
    let shown = text(&run(&kernel, &["plugin", "kv", "keeper", "--prefix", "seen/"]).stdout);
    assert!(
        shown.contains("2 keys, 18 B of 1,000 B") && shown.contains("seen/a") && !shown.contains("lock"),
        "{shown}"
    );
    kernel.clock.advance_ms(60_000);
    kernel.restart();
    assert_eq!(told(&kernel, "s5", "claim s5 lock 60000"), "Ok(true)", "its time is over");
    kernel.clock.advance_ms(3_600_000);
    let admin = kernel.admin();
    // A listing removes what it comes upon, so that another part is asked for.
    wait_until("what is over is removed", || admin.get(&format!("{kv}?prefix=none")).is(200)["bytes"] == 10);
    let cleared = run(&kernel, &["plugin", "clear-kv", "keeper", "--yes"]);
    assert!(text(&cleared.stdout).contains("cleared 1 key of keeper, 10 B"), "{}", text(&cleared.stderr));
    assert_eq!(told(&kernel, "s6", "keys s6 "), "Ok([])");
    let audit = admin.get("/api/v1/audit?action=installation.clear-kv").is(200);
    assert_eq!(audit["items"][0]["before"], json!({ "keys": 1, "bytes": 10 }), "{audit}");
    // A key may name somebody.
    kernel.caller(&kernel.key(&["plugins:admin"])).get(kv).is_problem(403, "denied");
}

/// The numbers tell what was changed, and not how many names were given.
#[test]
fn suppressions_count_what_they_change() {
    let kernel = TestKernel::start();
    let told = |arguments: &[&str]| text(&run(&kernel, arguments).stdout).trim().to_owned();
    let eve = "email:eve@example.com";
    assert_eq!(told(&["consent", "unsuppress", eve]), "0 taken off the list, 1 not on it");
    assert_eq!(told(&["consent", "suppress", eve, "email:bob@example.com"]), "2 suppressed");
    assert_eq!(told(&["consent", "suppress", eve, eve]), "0 suppressed, 1 on the list already, now with this reason");
    assert_eq!(told(&["consent", "unsuppress", eve, "email:new@example.com"]), "1 taken off the list, 1 not on it");
}

#[test]
fn a_dead_letter_is_found_by_the_beginning_that_a_list_shows() {
    let kernel = ground();
    let listed = text(&run(&kernel, &["dead-letters", "list"]).stdout);
    let beginning =
        listed.split_whitespace().find(|word| word.starts_with("aside_")).unwrap_or_else(|| panic!("{listed}"));
    assert!(beginning.len() < 40, "{beginning}");
    let shown = run(&kernel, &["dead-letters", "show", beginning]);
    assert!(text(&shown.stdout).contains("missing-identifier"), "{}", text(&shown.stdout));
    let dismissed = run(&kernel, &["dead-letters", "dismiss", beginning]);
    assert!(dismissed.status.success(), "{}", text(&dismissed.stderr));
    assert_eq!(run(&kernel, &["dead-letters", "show", beginning]).status.code(), Some(1));
}
