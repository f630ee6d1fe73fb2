//! What is linked into the product asks for no more than `deny.toml` allows, so that nobody finds out after a release.

use std::collections::BTreeSet;

use cargo_metadata::MetadataCommand;
use kith_tests::root;

/// The licences that `deny.toml` allows.
fn allowed() -> BTreeSet<String> {
    let text = std::fs::read_to_string(root().join("deny.toml")).unwrap();
    let list = text.split("allow = [").nth(1).and_then(|rest| rest.split(']').next());
    let list = list.expect("deny.toml has a list of allowed licences");
    list.split(',').map(|name| name.trim().trim_matches('"').to_owned()).filter(|name| !name.is_empty()).collect()
}

/// Whether a licence expression (SPDX) can be met with `allowed` alone: one side of an `OR`, both sides of an `AND`.
fn is_met(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let expression = expression.trim();
    // The `/` is what crates wrote before they wrote SPDX.
    let split = |word: &str| outside_of_parentheses(&expression.replace('/', " OR "), word);
    let any = split(" OR ");
    if any.len() > 1 {
        return any.iter().any(|part| is_met(part, allowed));
    }
    let all = split(" AND ");
    if all.len() > 1 {
        return all.iter().all(|part| is_met(part, allowed));
    }
    match expression.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) {
        Some(inner) => is_met(inner, allowed),
        None => allowed.contains(expression),
    }
}

/// The parts of a text between the `word`s that stand in no parentheses.
fn outside_of_parentheses(text: &str, word: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    for piece in text.split_inclusive(word) {
        let part = parts.last_mut().unwrap();
        part.push_str(piece);
        let is_closed = part.matches('(').count() == part.matches(')').count();
        if is_closed && let Some(whole) = part.strip_suffix(word).map(str::to_owned) {
            *part = whole;
            parts.push(String::new());
        }
    }
    parts
}

#[test]
fn licence_expressions_are_read() {
    let allowed: BTreeSet<String> = ["MIT", "Apache-2.0", "Zlib"].map(str::to_owned).into();
    for met in ["MIT", "GPL-3.0 OR MIT", "MIT/GPL-3.0", "(MIT OR GPL-3.0) AND Zlib", "MIT AND Zlib", "(Zlib)"] {
        assert!(is_met(met, &allowed), "{met}");
    }
    for unmet in ["GPL-3.0", "MIT AND GPL-3.0", "(MIT OR Zlib) AND GPL-3.0", "", "Apache-2.0 WITH LLVM-exception"] {
        assert!(!is_met(unmet, &allowed), "{unmet}");
    }
}

#[test]
fn every_dependency_has_a_licence_that_is_allowed() {
    // Without a platform cargo would want every crate that only other systems need.
    let platform = ["--filter-platform", "x86_64-unknown-linux-gnu"].map(str::to_owned);
    let mut command = MetadataCommand::new();
    command.manifest_path(root().join("Cargo.toml")).other_options(platform);
    let metadata = command.exec().unwrap();
    let allowed = allowed();
    let refused: Vec<String> = metadata
        .packages
        .iter()
        .filter(|package| !package.license.as_deref().is_some_and(|license| is_met(license, &allowed)))
        .map(|package| {
            format!("{} {}: {}", package.name, package.version, package.license.as_deref().unwrap_or("none"))
        })
        .collect();
    assert!(refused.is_empty(), "deny.toml does not allow these: {refused:#?}");
    assert!(metadata.packages.len() > 100, "only {} packages were looked at", metadata.packages.len());
}
