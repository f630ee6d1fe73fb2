//! `kith catalog`: which names there are for conditions.

use serde_json::{Value, json};

use super::args::CatalogArgs;
use super::client::Client;
use super::digits;
use super::output::{self, AnswerFormat, cut, field};
use super::{Failure, items, print_json};

pub(crate) fn run(args: &CatalogArgs, client: &Client, format: AnswerFormat) -> Result<(), Failure> {
    let described = args.undescribed.then(|| "false".to_owned());
    let asked = [("kind", &args.kind), ("event", &args.event), ("described", &described), ("source", &args.source)];
    let asked: Vec<(&str, &str)> = asked.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?))).collect();
    let entries = client.list_from("/api/v1/catalog", &asked, u64::MAX)?.0;
    let answer = json!({ "items": entries });
    if format.is_json() {
        return print_json(&answer);
    }
    output::say(table(items(&answer)))
}

/// Values of a name that are shown.
const MAX_SHOWN: usize = 5;

fn table(entries: &[Value]) -> String {
    let number = |entry: &Value, name: &str| entry.get(name).map_or_else(String::new, |_| output::known(entry, name));
    let rows = entries.iter().map(|entry| {
        let written = match entry.get("event") {
            Some(event) => format!("  {} ({})", field(entry, "written"), output::plain(event)),
            None => field(entry, "written"),
        };
        vec![
            cut(&written, 60),
            number(entry, "count"),
            number(entry, "people"),
            entry.get("last_seen").map_or_else(String::new, output::plain),
            values(entry),
            entry.get("dictionary").map_or_else(String::new, |entry| cut(&field(entry, "meaning"), 40)),
        ]
    });
    // Events and their properties are counted by events alone; a column of nothing would read as nobody.
    let has_people = entries.iter().any(|entry| entry.get("people").is_some());
    let header = ["written", "events", "people", "last seen", "values", "meaning"];
    let keeps = |place: usize| has_people || header[place] != "people";
    let kept = |row: Vec<String>| -> Vec<String> {
        row.into_iter().enumerate().filter(|(place, _)| keeps(*place)).map(|(_, cell)| cell).collect()
    };
    let names: Vec<&str> =
        header.iter().enumerate().filter(|(place, _)| keeps(*place)).map(|(_, name)| *name).collect();
    output::table(&names, rows.map(kept).collect())
}

fn values(entry: &Value) -> String {
    if entry.get("withheld") == Some(&json!(true)) {
        return "withheld".to_owned();
    }
    if entry.get("has_many_values") == Some(&json!(true)) {
        return "many".to_owned();
    }
    let all: Vec<&Value> = entry.get("values").and_then(Value::as_array).into_iter().flatten().collect();
    let shown = all
        .iter()
        .take(MAX_SHOWN)
        .map(|value| format!("{} ({})", digits::line(&value["value"]), output::known(value, "count")));
    let mut shown: Vec<String> = shown.collect();
    if all.len() > MAX_SHOWN {
        shown.push(format!("{} more", all.len() - MAX_SHOWN));
    }
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shown_as_conditions_write_them() {
        let entries = [
            json!({ "kind": "event", "written": "events('Buy')", "count": 1200, "last_seen": "2026-11-21T10:00:00.000Z" }),
            json!({ "kind": "property", "event": "Buy", "written": "e.properties['total price']", "count": 1100,
                "values": [{ "value": "5", "count": 9 }, { "value": true, "count": 2 }] }),
            json!({ "kind": "trait", "written": "traits.email", "people": 7, "has_many_values": true }),
        ];
        let shown = table(&entries);
        let of_events = table(&entries[..2]);
        assert!(!of_events.contains("people") && shown.contains("people"), "{of_events}");
        for part in ["events('Buy')", "1,200", "e.properties['total price'] (Buy)", "\"5\" (9), true (2)", "many"] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
    }
}
