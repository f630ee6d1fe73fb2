//! The `kith` program as the shell sees it: what it prints and how it ends. Its commands are tested in `tests/e2e`, which
//! runs the program that cargo builds for this test.

use std::process::{Command, Output};

#[allow(clippy::unwrap_used, reason = "a test that cannot run the program has to stop")]
fn kith(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kith")).args(arguments).output().unwrap()
}

#[test]
fn it_names_its_version() {
    let output = kith(&["--version"]);
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stdout), concat!("kith ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn what_makes_no_sense_ends_with_2_and_what_fails_with_1() {
    assert_eq!(kith(&["nonsense"]).status.code(), Some(2));
    let nobody = kith(&["--url", "http://127.0.0.1:1", "status"]);
    assert_eq!(nobody.status.code(), Some(1));
    let said = String::from_utf8_lossy(&nobody.stderr);
    assert!(said.contains("no Kith server answers") && said.contains("kith serve"), "{said}");
}

#[test]
#[allow(clippy::unwrap_used, reason = "a test that cannot run the program has to stop")]
fn a_reader_that_has_seen_enough_ends_a_command_without_a_word() {
    let plugin = concat!(env!("CARGO_MANIFEST_DIR"), "/../../plugins/tag-model-rfm");
    for arguments in [&["plugin", "check", plugin][..], &["plugin", "check", plugin, "--json"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = Command::new(env!("CARGO_BIN_EXE_kith")).args(arguments).stdout(writer).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{}: {said}", output.status);
    }
}
