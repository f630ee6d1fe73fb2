//! The table of hostile cases in `docs/hostile-plugins.md`: each case once, with tests that there are or the reason for which it
//! does not apply.

use std::collections::BTreeSet;

use kith_tests::root;

use crate::files::rust_files;

/// The cases: of processor time, memory, stack, packages, data, determinism, the network and life, each letter from 1 on.
const CASES: [(char, usize); 8] = [('C', 10), ('M', 12), ('S', 4), ('P', 28), ('D', 13), ('N', 5), ('W', 15), ('L', 6)];

/// How the reason begins for which a case has no test.
const NOT: &str = "does not apply: ";

/// The names of all tests.
fn tests() -> BTreeSet<String> {
    let mut tests = BTreeSet::new();
    for (_, text) in rust_files() {
        let mut is_marked = false;
        for line in text.lines().map(str::trim) {
            let function = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
            if is_marked && let Some((name, _)) = function.and_then(|rest| rest.split_once('(')) {
                tests.insert(name.to_owned());
            }
            is_marked = line == "#[test]" || line.starts_with("#[tokio::test") || (is_marked && line.starts_with("#["));
        }
    }
    tests
}

#[test]
fn each_hostile_case_has_its_tests_or_a_reason() {
    let (page, tests) = (std::fs::read_to_string(root().join("docs/hostile-plugins.md")).unwrap(), tests());
    let rows = page.lines().filter(|line| line.starts_with('|')).skip(2);
    let mut found = Vec::new();
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [case, tried, comes_to, shown_by] = cells.as_slice() else { panic!("four cells: {row}") };
        assert!(!tried.is_empty() && !comes_to.is_empty(), "{row}");
        let named: Vec<&str> = shown_by.split_whitespace().map(|name| name.trim_matches('`')).collect();
        assert_eq!(named.is_empty(), comes_to.starts_with(NOT), "tests, or a reason: {row}");
        for name in named {
            assert!(tests.contains(name), "{case}: there is no test `{name}`");
        }
        found.push((*case).to_owned());
    }
    let cases = CASES.into_iter().flat_map(|(letter, last)| (1..=last).map(move |number| format!("{letter}{number}")));
    assert_eq!(found, cases.collect::<Vec<_>>(), "each case once, in their order");
}
