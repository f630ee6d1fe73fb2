//! The table of budgets in `SECURITY.md`: one row for each budget of the product, in its order and with its figures.

use kith_model::budget::{Budget, BudgetUnit, table};
use kith_tests::root;

/// A number with commas.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let place = |at: usize| if at > 0 && (digits.len() - at).is_multiple_of(3) { "," } else { "" };
    digits.char_indices().map(|(at, digit)| format!("{}{digit}", place(at))).collect()
}

fn bytes(number: u64) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let whole = units.into_iter().find(|(size, _)| number.is_multiple_of(*size));
    whole.map_or_else(|| format!("{number} bytes"), |(size, unit)| format!("{} {unit}", grouped(number / size)))
}

/// A default as people read it.
fn default(budget: &Budget) -> String {
    let number = budget.default;
    let amount = match budget.unit {
        BudgetUnit::Bytes => bytes(number),
        BudgetUnit::Steps => format!("{} steps", grouped(number)),
        BudgetUnit::ProcessorMs => format!("{} s of processor time", number / 1_000),
        BudgetUnit::WallMs => format!("{} s", number / 1_000),
        BudgetUnit::AtOnce => format!("{} at once", grouped(number)),
        BudgetUnit::Kept | BudgetUnit::Items => grouped(number),
    };
    match budget.period.map(|period| period.as_secs()) {
        None => amount,
        Some(3_600) => format!("{amount} an hour"),
        Some(60) => format!("{amount} a minute"),
        Some(seconds) => format!("{amount} in {seconds} s"),
    }
}

/// Where it is set, as code where it is a name.
fn setting(budget: &Budget) -> String {
    match budget.setting {
        words if words == "fixed" || words.contains(' ') => words.to_owned(),
        name => format!("`{name}`"),
    }
}

#[test]
fn the_table_in_security_md_is_the_products() {
    let text = std::fs::read_to_string(root().join("SECURITY.md")).unwrap();
    let (_, section) = text.split_once("\n## Budgets\n").unwrap();
    let rows = section.lines().take_while(|line| !line.starts_with("## ")).filter(|line| line.starts_with('|'));
    let written: Vec<Vec<&str>> =
        rows.skip(2).map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect();
    for (row, budget) in written.iter().zip(table::ALL) {
        let [name, owner, bounds, limit, set_by] = row.as_slice() else { panic!("five cells: {row:?}") };
        let expected =
            [format!("`{}`", budget.name), budget.owner.as_str().to_owned(), default(budget), setting(budget)];
        assert_eq!([*name, *owner, *limit, *set_by], expected.each_ref().map(String::as_str));
        assert!(bounds.len() > 5, "{name} says what it bounds");
    }
    assert_eq!(written.len(), table::ALL.len(), "a row for each budget, and no other");
}
