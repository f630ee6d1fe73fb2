//! The servers of the end-to-end stories: each has a second tenant at work beside the story, or its reason here.

use std::collections::BTreeMap;

use crate::files::rust_files;

/// Servers that have none: the file and the function that start them, how many they are, and why.
const ALONE: [(&str, &str, usize, &str); 5] = [
    (
        "cli.rs",
        "serve_keeps_its_first_key_and_ends_well",
        2,
        "one ends with its first line, the other must not start; the tenant is at work before and after",
    ),
    ("outside.rs", "a_private_range_needs_the_server_and_the_grant", 1, "it must not start"),
    ("outside.rs", "other_machines_are_not_served_in_clear_text", 1, "it must not start"),
    ("room.rs", "a_new_directory_needs_room", 1, "it must not start"),
    ("secrets.rs", "what_is_only_written_is_never_shown_and_outlives_its_master_key", 1, "it must not start"),
];

/// How a server is started without one: by the harness, by the program, and as the harness does it in its own process.
const WAYS: [&str; 3] = ["Process::serve(", "\"serve\", \"--", "serve::open("];

#[test]
fn every_server_of_a_story_has_a_second_tenant_or_a_reason() {
    let mut found = BTreeMap::new();
    for (file, text) in rust_files() {
        let Ok(file) = file.strip_prefix("tests/e2e") else { continue };
        let mut function = "";
        for line in text.lines().map(str::trim_start) {
            let begins = line.split_once("fn ").filter(|(before, _)| before.is_empty() || before.starts_with("pub"));
            function = begins.and_then(|(_, rest)| rest.split(['(', '<']).next()).unwrap_or(function);
            if WAYS.iter().any(|way| line.contains(way)) {
                *found.entry((file.display().to_string(), function.to_owned())).or_insert(0) += 1;
            }
        }
    }
    let known = ALONE.map(|(file, function, servers, reason)| {
        assert!(!reason.is_empty(), "{function} of {file} says why");
        ((file.to_owned(), function.to_owned()), servers)
    });
    assert_eq!(
        found,
        BTreeMap::from(known),
        "start it with `Process::serve_beside`, or say why it has no second tenant"
    );
}
