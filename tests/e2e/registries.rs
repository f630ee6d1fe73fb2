//! Plugins out of registries: published with their signature, installed as the bytes that somebody named, and refused as others.

use std::path::Path;
use std::process::Command;

use kith_tests::{ADMIN_KEY, Registry, TestKernel, component, kith, repacked};
use serde_json::{Value, json};

/// What `kith plugin` answers to a program; where it fails, the code of its document.
#[track_caller]
fn plugin(kernel: &TestKernel, logins: &Path, arguments: &[&str]) -> Result<Value, String> {
    let mut command = Command::new(kith());
    command.args(["--url", kernel.url(), "--key", ADMIN_KEY, "--json"]).args(arguments).env("DOCKER_CONFIG", logins);
    let output = command.output().unwrap();
    let document = if output.status.success() { &output.stdout } else { &output.stderr };
    let read: Value = serde_json::from_slice(document)
        .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {}", String::from_utf8_lossy(document)));
    if output.status.success() { Ok(read) } else { Err(read["code"].as_str().unwrap().to_owned()) }
}

#[test]
fn a_signed_plugin_goes_through_a_registry_and_its_tag_may_lie() {
    let mut registries = vec![Registry::own()];
    match Registry::debians() {
        Some(debians) => registries.push(debians),
        None => eprintln!(
            "`docker-registry` is not installed (Debian's package of that name): the tests' own alone is asked"
        ),
    }
    for registry in &registries {
        goes_through(registry);
    }
}

#[track_caller]
fn goes_through(registry: &Registry) {
    let (kernel, folder) = (TestKernel::start(), tempfile::tempdir().unwrap());
    let run = |arguments: &[&str]| plugin(&kernel, folder.path(), arguments);
    let place = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (file, other, key) = (place("segment.wasm"), place("other.wasm"), place("kith.key"));
    let segment = component("kith/segment");
    std::fs::write(&file, &segment.component).unwrap();
    let title = format!("title = \"{}\"", segment.manifest.title);
    std::fs::write(&other, repacked(segment, |manifest| manifest.replacen(&title, "title = \"Other\"", 1))).unwrap();
    let made = run(&["plugin", "keygen", "--out", &key]).unwrap();
    run(&["plugin", "sign", &file, "--secret-key", &key]).unwrap();
    run(&["publisher", "add", "kith", "--namespace", "kith/*", "--public-key", made["public_key"].as_str().unwrap()])
        .unwrap();
    run(&["publisher", "policy", "required"]).unwrap();

    let repository = registry.repository("kith/segment");
    let version = segment.manifest.version.to_string();
    let tagged = format!("{repository}:{version}");
    let published = run(&["plugin", "publish", &file, &repository, "--plain-http"]).unwrap();
    assert_eq!((&published["reference"], &published["published"]), (&json!(tagged), &json!(true)));
    assert_eq!((&published["signed"], &published["digest"]), (&json!(true), &json!(segment.inspection.digest)));
    let again = run(&["plugin", "publish", &file, &tagged, "--plain-http"]).unwrap();
    assert_eq!((&again["published"], &again["pinned"]), (&json!(false), &published["pinned"]));
    // Nobody takes the signature of a component off unseen.
    let bare = place("bare.wasm");
    std::fs::write(&bare, &segment.component).unwrap();
    assert_eq!(run(&["plugin", "publish", &bare, &tagged, "--plain-http"]).unwrap_err(), "signature-taken");
    // A release names one component, unless somebody insists.
    let publish = ["plugin", "publish", &other, &tagged, "--plain-http"];
    assert_eq!(run(&publish).unwrap_err(), "tag-taken");
    let moved = run(&[&publish[..], &["--move-tag"]].concat()).unwrap();
    assert_eq!(moved["signed"], false);

    // The tag names what nobody signed now; who named the bytes gets them, with their signature.
    assert_eq!(run(&["plugin", "install", &tagged, "--plain-http"]).unwrap_err(), "signature-refused");
    let pinned = published["pinned"].as_str().unwrap();
    let installed = run(&["plugin", "install", pinned, "--name", "web", "--plain-http"]).unwrap();
    assert_eq!((&installed["digest"], &installed["version"]), (&published["digest"], &json!(version)));
    assert_eq!((&installed["signature"]["state"], &installed["mode"]), (&json!("valid"), &json!("live")));
    assert_eq!(run(&["plugin", "upload", &tagged, "--plain-http"]).unwrap_err(), "version-exists");

    for (reference, code) in [
        (format!("{repository}:9.9.9"), "not-in-registry"),
        (format!("{repository}@sha256:{}", "0".repeat(64)), "not-in-registry"),
        (repository.clone(), "usage"),
        ("oci://registry.example/x:1".to_owned(), "usage"),
    ] {
        assert_eq!(run(&["plugin", "upload", &reference, "--plain-http"]).unwrap_err(), code, "{reference}");
    }
}
