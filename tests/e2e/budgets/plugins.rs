//! What is uploaded of plugins, and how they are configured.

use std::net::TcpStream;

use kith_tests::{Answer, compile_bomb, component, repacked};
use serde_json::json;

use super::{Attack, Ground, first, is_exhausted, names, walk};

pub(super) const ATTACKS: &[Attack] = &[
    ("component-size", component_size),
    ("manifest-text", manifest_text),
    ("manifest-words", manifest_words),
    ("schema-size", schema_size),
    ("config-size", config_size),
    ("config-steps", config_steps),
    ("compiles-waiting", compiles_waiting),
];

#[test]
fn a_plugin_and_its_configuration_are_so_large_and_no_larger() {
    walk(&Ground::of_process(&["--plugin-bytes", "4194304"]), ATTACKS);
}

fn component_size(ground: &Ground) {
    let answer = ground.admin.send("POST", "/api/v1/plugins", &[], vec![0; (4 << 20) + 1]);
    assert_eq!(answer.is_problem(413, "too-large")["budget"], "component-size");
}

/// Upload the hostile tag model with another manifest.
fn with_manifest(ground: &Ground, edit: impl FnOnce(&str) -> String) -> Answer {
    ground.admin.send("POST", "/api/v1/plugins", &[], repacked(component("hostile/tag-model"), edit))
}

/// Insist on a refusal that says what is wrong with the upload.
#[track_caller]
fn says(answer: &Answer, what: &str) {
    let problem = answer.is_some_problem();
    assert!(answer.status == 400 && problem.to_string().contains(what), "{problem}");
}

fn manifest_text(ground: &Ground) {
    let answer = with_manifest(ground, |manifest| format!("{manifest}\n# {}", "x".repeat(64 << 10)));
    says(&answer, "at most 65536 are read");
}

fn manifest_words(ground: &Ground) {
    let long = format!("title = \"{}\"", "t".repeat(2_049));
    let answer = with_manifest(ground, |manifest| manifest.replace("title = \"Hostile tag model\"", &long));
    says(&answer, "has 2049 bytes; write at most 2048");
    // One of 4 KB was compiled, and then had no room in a row's key: the only 500 that an input made.
    let version = |bytes: usize| {
        let long = format!("version = \"0.1.0-{}\"", "a".repeat(bytes - "0.1.0-".len()));
        with_manifest(ground, |manifest| manifest.replacen("version = \"0.1.0\"", &long, 1))
    };
    for bytes in [129, 4_096, 4_200, 60_000] {
        says(&version(bytes), "write at most 128");
    }
    version(128).is(201);
}

fn schema_size(ground: &Ground) {
    let many = format!("enum = [{} \"well\"", "1, ".repeat(4_100));
    let answer = with_manifest(ground, |manifest| manifest.replace("enum = [\"well\"", &many));
    says(&answer, "more than 4096 places");
}

fn config_size(ground: &Ground) {
    let config = json!({ "how": "x".repeat(64 << 10) });
    is_exhausted(&ground.install("hostile/tag-model", json!({ "config": config })), 413, "config-size");
}

fn config_steps(ground: &Ground) {
    let config = json!({ "how": vec![0; 30_000] });
    is_exhausted(&ground.install("hostile/tag-model", json!({ "config": config })), 413, "config-steps");
}

/// One is compiled and eight wait.
fn compiles_waiting(ground: &Ground) {
    let bomb = compile_bomb(component("kith/clv"));
    let mut all: Vec<TcpStream> = (0..10).map(|_| ground.upload("/api/v1/plugins", bomb.len(), "", &bomb)).collect();
    names(&first(&mut all), 429, "compiles-waiting");
}
