//! Files: what lies where, how each begins, and how long it may be.

use std::path::{Path, PathBuf};
use std::process::Command;

use kith_tests::root;

/// What may lie at the top, beside hidden files.
const TOP: [&str; 16] = [
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "SECURITY.md",
    "deny.toml",
    "docs",
    "examples",
    "kernel",
    "plugin-sdk",
    "plugins",
    "tests",
    "wit",
];

/// The longest file without its tests.
const MAX_LINES: usize = 500;

/// The largest file.
const MAX_BYTES: u64 = 1 << 20;

/// Longer files, each with its reason.
const LONGER: [(&str, &str); 0] = [];

/// Names that say nothing; a thing with no home is a sign that a noun is missing.
const NAMELESS: [&str; 6] = ["common", "util", "utils", "core", "types", "helpers"];

/// The files that git knows, or would know with the next commit, by their paths from the root.
fn files() -> Vec<PathBuf> {
    let mut git = Command::new("git");
    git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(root());
    let listed = git.output().unwrap();
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let names = String::from_utf8(listed.stdout).unwrap();
    let files: Vec<PathBuf> = names.split_terminator('\0').map(PathBuf::from).collect();
    // What was deleted and not yet committed is still listed.
    files.into_iter().filter(|file| root().join(file).is_file()).collect()
}

pub(crate) fn rust_files() -> Vec<(PathBuf, String)> {
    let is_rust = |file: &PathBuf| file.extension().is_some_and(|ending| ending == "rs");
    let read = |file: PathBuf| {
        let text = std::fs::read_to_string(root().join(&file)).unwrap();
        (file, text)
    };
    files().into_iter().filter(is_rust).map(read).collect()
}

/// Lines before the unit tests; a file of tests has none of its own.
fn length(file: &Path, text: &str) -> usize {
    let is_test =
        file.components().any(|part| matches!(part.as_os_str().to_str(), Some("tests" | "tests.rs" | "benches")));
    if is_test || file.file_stem().is_some_and(|stem| stem.to_string_lossy().ends_with("_tests")) {
        return 0;
    }
    text.lines().take_while(|line| line.trim() != "#[cfg(test)]").count()
}

#[test]
fn the_top_holds_what_it_should() {
    let mut unexpected: Vec<String> = files()
        .iter()
        .filter_map(|file| file.components().next().map(|first| first.as_os_str().to_string_lossy().into_owned()))
        .filter(|first| !first.starts_with('.') && !TOP.contains(&first.as_str()))
        .collect();
    unexpected.dedup();
    assert!(unexpected.is_empty(), "{unexpected:?} do not belong at the top");
    for needed in TOP {
        assert!(root().join(needed).exists(), "{needed} is missing at the top");
    }
}

#[test]
fn every_rust_file_says_what_it_is_responsible_for() {
    let silent: Vec<PathBuf> =
        rust_files().into_iter().filter(|(_, text)| !text.starts_with("//! ")).map(|(file, _)| file).collect();
    assert!(silent.is_empty(), "these do not begin with `//!`: {silent:?}");
}

#[test]
fn files_are_short() {
    for (file, text) in rust_files() {
        let length = length(&file, &text);
        let allowed = LONGER.iter().any(|(known, _)| file == Path::new(known));
        assert!(length <= MAX_LINES || allowed, "{} has {length} lines without tests; split it", file.display());
    }
}

#[test]
fn files_and_folders_have_names_that_say_something() {
    for (file, _) in rust_files() {
        assert_ne!(file.file_name().unwrap(), "mod.rs", "{}: use NAME.rs beside NAME/", file.display());
        let parts = file.with_extension("");
        let nameless = parts.components().find(|part| NAMELESS.contains(&part.as_os_str().to_string_lossy().as_ref()));
        assert!(nameless.is_none(), "{}: {nameless:?} says nothing", file.display());
    }
}

#[test]
fn nothing_large_is_committed() {
    for file in files() {
        let bytes = root().join(&file).metadata().unwrap().len();
        assert!(bytes <= MAX_BYTES, "{} has {bytes} bytes", file.display());
    }
}

#[test]
fn tests_neither_sleep_nor_are_switched_off() {
    let banned = [concat!("#[ig", "nore"), concat!("#[should_", "panic"), concat!("thread::", "sleep(")];
    for (file, text) in rust_files() {
        for word in banned {
            let found = text.lines().find(|line| line.contains(word) && !line.trim_start().starts_with("//"));
            // The command line looks at another process from time to time; the reason stands beside it.
            let allowed = file == Path::new("kernel/server/src/cli/client.rs") && word.contains("sleep");
            assert!(found.is_none() || allowed, "{}: {}", file.display(), found.unwrap_or_default());
        }
    }
}
