//! What null and unknown mean: the table of the front page, walked row by row.

use super::{Someone, at};
use crate::functions::FUNCTIONS;
use crate::{Expression, Value, Zone, naive};

/// The texts in back quotes of a cell.
fn quoted(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(|text| text.replace("\\|", "|")).collect()
}

/// The rows of the table: what is written, and what it gives where x is null and where it is unknown.
fn rows() -> Vec<(Vec<String>, String, String)> {
    let page = include_str!("../lib.rs");
    let table = page.split("//! | written | where x is null | where x is unknown |\n").nth(1).unwrap();
    let lines = table.lines().skip(1).take_while(|line| line.starts_with("//! | "));
    lines
        .map(|line| {
            let cells: Vec<&str> = line.split(" | ").collect();
            let [_, written, null, unknown] = cells.as_slice() else { panic!("{line}") };
            let only = |cell: &str| quoted(cell).into_iter().next().unwrap();
            (quoted(written), only(null), only(unknown))
        })
        .collect()
}

/// The expression with `tags.x` in place of the word `x`.
fn with_tag(written: &str) -> Expression {
    let is_word = |letter: Option<char>| letter.is_some_and(|letter| letter.is_ascii_alphanumeric() || letter == '_');
    let letters: Vec<char> = written.chars().collect();
    let mut text = String::new();
    for (place, letter) in letters.iter().enumerate() {
        let before = place.checked_sub(1).map(|place| letters[place]);
        let alone = !is_word(before) && !is_word(letters.get(place + 1).copied());
        text.push_str(if *letter == 'x' && alone { "tags.x" } else { "" });
        text.extend((*letter != 'x' || !alone).then_some(*letter));
    }
    Expression::parse(&text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// The value both ways; they must agree.
fn value(expression: &Expression, x: Value) -> Value {
    let now = at("2026-11-21T10:00:00Z");
    let mut someone = Someone::default();
    someone.tags.insert("x".into(), x);
    let compiled = expression.evaluate(&someone, &|_| Value::Null, now);
    assert_eq!(compiled, naive::evaluate(expression, &someone, &[], now, &Zone::utc()), "{expression}");
    compiled
}

#[test]
fn the_table_on_the_front_page_holds_for_every_operator() {
    let rows = rows();
    for (written, null, unknown) in &rows {
        for text in written {
            let expression = with_tag(text);
            assert_eq!(value(&expression, Value::Null).to_string(), *null, "{text} where x is null");
            assert_eq!(value(&expression, Value::Unknown).to_string(), *unknown, "{text} where x is unknown");
        }
    }
    let all: Vec<&str> = rows.iter().flat_map(|(written, ..)| written).map(String::as_str).collect();
    let functions = FUNCTIONS.iter().map(|spec| format!("{}(", spec.name));
    let signs = [
        "==",
        "!=",
        "<",
        "<=",
        ">",
        ">=",
        "+",
        "-",
        "*",
        "/",
        "%",
        "&&",
        "||",
        "!x",
        "-x",
        " in ",
        " ? ",
        "has(",
        ".matches(",
    ];
    let others = ["[0]", "[x]", "[1, x]", "x.y", ".exists(", ".all(", ".exists_one(", ".filter(", ".map("];
    for sign in functions.chain(signs.iter().chain(&others).map(|sign| (*sign).to_owned())) {
        assert!(all.iter().any(|text| text.contains(&sign)), "the table has no row for {sign}");
    }
}

#[test]
fn an_unknown_condition_does_not_hold_and_has_no_timer() {
    let now = at("2026-11-21T10:00:00Z");
    let mut someone = Someone::default();
    someone.tags.insert("x".into(), Value::Unknown);
    let expression = Expression::parse("now - tags.x > duration('7d')").unwrap();
    let value = expression.evaluate(&someone, &|_| Value::Null, now);
    assert!(value.is_unknown() && !value.is_true() && !value.is_null());
    assert_eq!(expression.next_change_at(&someone, &|_| Value::Null, now, &Zone::utc()), None);
    assert_eq!(value.to_json(), serde_json::Value::Null);
}
