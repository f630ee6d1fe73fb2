//! How much is sent at once: the server's own limits, lower ones of an installation, and threads that nobody shares.

use std::process::Command;
use std::sync::Arc;

use kith_tests::{
    ADMIN_KEY, Client, Process, Receiver, SIGNING_SECRET, TestKernel, component, kith, settle, wait_until,
};
use serde_json::{Value, json};

use super::stage::{
    all_delivered, define_with, deliveries, each_got_one_message, everybody, message_through, send, track, webhook,
};

/// Run `kith` against a server; the JSON that it prints.
#[track_caller]
fn run(server: &Process, arguments: &[&str]) -> Value {
    let mut command = Command::new(kith());
    command.args(["--url", server.url(), "--key", ADMIN_KEY, "--json"]).args(arguments);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn limit(value: u64, source: &str) -> Value {
    json!({ "value": value, "source": source })
}

/// An installation that is granted less than the server allows sends no more than that at once, and a change of the grant
/// holds without a restart.
#[test]
fn a_granted_limit_bounds_what_is_under_way_and_changes_at_once() {
    let kernel = TestKernel::start_with(|config| {
        (config.ceiling.messages_at_once, config.ceiling.requests_per_host) = (20, 10);
    });
    let (receiver, source) = (Receiver::start(), kernel.segment());
    webhook(&kernel, "webhook", &receiver);
    let admin = kernel.admin();
    let path = "/api/v1/installations/webhook";
    let mut grants = admin.get(path).is(200)["grants"].take();
    let mut grant = |limits: Value| {
        grants["limits"] = limits;
        admin.patch(path, &json!({ "grants": grants }))
    };
    let shown = grant(json!({ "messages_at_once": 3 })).is(200);
    assert_eq!(shown["effective_policy"]["messages_at_once"], limit(3, "grant"));
    assert_eq!(admin.get(path).is(200)["effective_policy"]["requests_per_host"], limit(10, "host"));
    define_with(&admin, "seen", "events('Seen').size() > 0", message_through("webhook"));
    kernel.settle();
    receiver.hold();
    send(&source, &everybody(30, "Seen", "s"));
    wait_until("three requests are under way", || receiver.arrived().len() == 3);
    grant(json!({ "messages_at_once": 20, "requests_per_host": 5 })).is(200);
    wait_until("five are", || receiver.arrived().len() == 5);
    let refused = grant(json!({ "messages_at_once": 0 })).is_problem(400, "bad-input");
    assert_eq!(refused["errors"][0]["path"], "grants.limits.messages_at_once");
    let more = grant(json!({ "messages_at_once": 1_000, "requests_per_host": 5 })).is(200);
    assert_eq!(more["effective_policy"]["messages_at_once"], limit(20, "host"), "no grant is above the host's");
    receiver.release();
    wait_until("all are delivered", || {
        // What found no room in the line for its host comes back after a while.
        kernel.clock.advance_ms(2_000);
        deliveries(&admin).iter().filter(|delivery| delivery["state"] == "delivered").count() == 30
    });
    each_got_one_message(&receiver, 30);
    assert_eq!(receiver.most_at_once(), 5, "never more than was granted");
}

/// The server's limits are options of `kith serve`, an installation's are options of `kith plugin install` and
/// `kith plugin change`.
#[test]
fn limits_are_set_from_the_command_line() {
    let (folder, receiver) = (tempfile::tempdir().unwrap(), Receiver::start());
    let arguments =
        ["--allow-loopback", "--allow-plain-http", "--messages-per-channel", "6", "--requests-per-host", "4"];
    let server = Process::serve_beside(&Arc::default(), folder.path(), &arguments);
    for plugin in ["kith/segment", "kith/webhook"] {
        server.admin().send("POST", "/api/v1/plugins", &[], component(plugin).component.clone()).is(201);
    }
    let segment = run(&server, &["plugin", "install", "kith/segment"]);
    let config = json!({ "url": format!("http://{}/", receiver.host()) }).to_string();
    let (host, secret) = (receiver.host(), format!("signing={SIGNING_SECRET}"));
    let mut install = vec!["plugin", "install", "kith/webhook", "--config", &config, "--grant-http", &host];
    install.extend(["--secret", &secret, "--messages-at-once", "2"]);
    let installed = run(&server, &install);
    assert_eq!(installed["effective_policy"]["messages_at_once"], limit(2, "grant"));
    // What an installation is given can be given to it later.
    run(
        &server,
        &["plugin", "install", "kith/webhook", "--name", "later", "--config", &config, "--disabled", "--grants-later"],
    );
    let mended = run(&server, &["plugin", "change", "later", "--grant-http", &host, "--secret", &secret]);
    assert_eq!((&mended["mode"], &mended["secrets"]), (&json!("disabled"), &json!(["signing"])));
    assert_eq!(mended["grants"]["secrets"], json!({ "signing": [host] }));
    assert_eq!(run(&server, &["plugin", "enable", "later"])["mode"], "live");
    define_with(&server.admin(), "seen", "events('Seen').size() > 0", message_through("webhook"));
    settle(&server.admin());
    receiver.hold();
    let client = Client::with_write_key(server.url(), segment["write_key"].as_str().unwrap());
    client.post("/v1/batch", &json!({ "batch": everybody(12, "Seen", "s") })).is(200);
    wait_until("two requests are under way", || receiver.arrived().len() == 2);
    run(&server, &["plugin", "change", "webhook", "--messages-at-once", "none"]);
    wait_until("as many are as the server allows to one host", || receiver.arrived().len() == 4);
    let shown = run(&server, &["plugin", "show", "webhook"])["effective_policy"].take();
    assert_eq!((&shown["messages_at_once"], &shown["requests_per_host"]), (&limit(6, "host"), &limit(4, "host")));
    let changed = run(&server, &["plugin", "change", "webhook", "--requests-per-host", "3"]);
    assert_eq!(changed["effective_policy"]["requests_per_host"], limit(3, "grant"));
    assert_eq!(changed["grants"]["http"], json!([host]), "what was granted before stays");
    receiver.release();
    all_delivered(&server.admin(), 12);
    each_got_one_message(&receiver, 12);
    assert_eq!(receiver.most_at_once(), 4);
    assert!(server.terminate().success());
}

/// Plugins' requests once ran on the threads that serve the API: while these were busy, no message left, and a peer that made
/// much work of its answers was felt by every caller.
#[test]
fn messages_leave_while_every_thread_that_serves_requests_is_busy() {
    let (kernel, receiver) = (TestKernel::start(), Receiver::start());
    let source = kernel.segment();
    webhook(&kernel, "webhook", &receiver);
    define_with(&kernel.admin(), "seen", "events('Seen').size() > 0", message_through("webhook"));
    kernel.settle();
    receiver.will_answer(503, &[]);
    send(&source, &[track("ada", "Seen", "s")]);
    wait_until(
        "the first attempt has failed",
        || matches!(&deliveries(&kernel.admin())[..], [delivery] if delivery["attempts"] == 1),
    );
    let occupied = kernel.occupy();
    kernel.clock.advance_ms(3_600_000);
    wait_until("the second attempt arrives", || receiver.arrived().len() == 2);
    drop(occupied);
    all_delivered(&kernel.admin(), 1);
}
