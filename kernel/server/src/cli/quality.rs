//! `kith source quality`: what a person who answers for the data looks at on a Monday morning.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::args::SourceCommand;
use super::client::{Client, encode};
use super::output::{self, AnswerFormat, count, cut, field, number};
use super::{Failure, print_json};

pub(crate) fn run(command: &SourceCommand, client: &Client, format: AnswerFormat) -> Result<(), Failure> {
    match command {
        SourceCommand::List => {
            let installed = client.list("/api/v1/installations", u64::MAX)?;
            let sources: Vec<Value> =
                installed.into_iter().filter(|installation| installation["kind"] == "connector").collect();
            output::say_list(&json!({ "items": sources }), format, |sources| match sources {
                [] => "no source is installed".to_owned(),
                sources => list_of(sources),
            })
        }
        SourceCommand::Quality { source: Some(source), days } => {
            let path = format!("/api/v1/sources/{}/quality?days={days}", encode(source.as_str()));
            let answer = client.get(&path)?;
            if format.is_json() { print_json(&answer) } else { output::say(of_one(&answer)) }
        }
        SourceCommand::Quality { source: None, .. } => {
            let all = client.list("/api/v1/sources/quality", u64::MAX)?;
            if format.is_json() { print_json(&json!({ "items": all })) } else { output::say(of_all(&all)) }
        }
    }
}

fn list_of(sources: &[Value]) -> String {
    let rows = sources.iter().map(|source| {
        let consent = if source["grants"]["consent"] == "give" { "agrees and refuses" } else { "refuses" };
        let mut row = ["name", "plugin", "version", "mode"].map(|name| field(source, name)).to_vec();
        row.extend([field(&source["activity"], "state"), consent.to_owned()]);
        row
    });
    output::table(&["source", "plugin", "version", "mode", "activity", "of consent it"], rows.collect())
}

/// Columns of counts, by their names in answers and for people.
const COLUMNS: [(&str, &str); 8] = [
    ("accepted", "accepted"),
    ("repeated", "repeated"),
    ("corrected", "corrected"),
    ("late", "late"),
    ("clock_corrected", "clock"),
    ("unplanned", "unplanned"),
    ("violations", "violations"),
    ("rejected", "rejected"),
];

fn cells(counts: &Value) -> Vec<String> {
    COLUMNS.iter().map(|(name, _)| count(number(counts, name))).chain([share(counts)]).collect()
}

fn headers(first: &str) -> Vec<&str> {
    [first].into_iter().chain(COLUMNS.iter().map(|(_, shown)| *shown)).chain(["rejected share"]).collect()
}

/// Tenths of a percent of the records that were rejected; `None` where there were none.
fn rejected_share(counts: &Value) -> Option<u64> {
    let rejected = number(counts, "rejected");
    let records = ["accepted", "repeated", "corrected"].iter().map(|name| number(counts, name)).sum::<u64>() + rejected;
    (rejected * 1_000 + records / 2).checked_div(records)
}

fn share(counts: &Value) -> String {
    rejected_share(counts).map_or_else(String::new, |share| format!("{}.{} %", share / 10, share % 10))
}

fn of_all(sources: &[Value]) -> String {
    if sources.is_empty() {
        return "no source is installed".to_owned();
    }
    let rows = sources.iter().map(|source| [vec![field(source, "source")], cells(&source["week"])].concat());
    let mut text = format!("the last seven days\n\n{}", output::table(&headers("source"), rows.collect()));
    for source in sources {
        let changes = changes(source);
        if !changes.is_empty() {
            text.push_str(&format!("\n\n{}: what changed\n{}", field(source, "source"), changes.join("\n")));
        }
    }
    text
}

fn of_one(source: &Value) -> String {
    let plan = match source.get("plan") {
        Some(Value::String(plan)) => format!("tracking plan `{}`", output::visible(plan)),
        _ => "no tracking plan".to_owned(),
    };
    let days = source.get("days").and_then(Value::as_array).into_iter().flatten();
    let mut rows: Vec<Vec<String>> = days.map(|day| [vec![field(day, "day")], cells(day)].concat()).collect();
    for (name, shown) in [("week", "seven days"), ("week_before", "seven before"), ("total", "in all")] {
        rows.push([vec![shown.to_owned()], cells(&source[name])].concat());
    }
    let mut text = format!("{} on {}, {plan}\n\n", field(source, "source"), field(source, "today"));
    text.push_str(&output::table(&headers("day"), rows));
    for (name, title) in [("reasons", "rejected because"), ("flags", "flagged")] {
        let rows = by_code(source, name);
        if !rows.is_empty() {
            text.push_str(&format!("\n\n{}", output::table(&[title, "seven days", "seven before", "in all"], rows)));
        }
    }
    let number_texts = number(source, "number_texts");
    if number_texts > 0 {
        text.push_str(&format!(
            "\n\n{} values came as texts that are written as numbers, and count as numbers",
            count(number_texts)
        ));
    }
    let changes = changes(source);
    let changes = if changes.is_empty() {
        "nothing, or names of few people, which only keys with `profiles:read` see".to_owned()
    } else {
        changes.join("\n")
    };
    text.push_str(&format!("\n\nwhat changed since the week before\n{changes}"));
    text
}

/// The counts of each code in both weeks and in all.
fn by_code(source: &Value, name: &str) -> Vec<Vec<String>> {
    let of = |part: &str, code: &str| source[part][name][code].as_u64().unwrap_or_default();
    let parts = ["week", "week_before", "total"];
    let codes: BTreeSet<&String> =
        parts.iter().filter_map(|part| source[part][name].as_object()).flat_map(|codes| codes.keys()).collect();
    let row = |code: &String| [vec![output::visible(code)], parts.map(|part| count(of(part, code))).to_vec()].concat();
    codes.into_iter().map(row).collect()
}

/// Sentences about what changed, the share of rejections first.
fn changes(source: &Value) -> Vec<String> {
    let mut changes = Vec::new();
    let (now, before) =
        (rejected_share(&source["week"]).unwrap_or(0), rejected_share(&source["week_before"]).unwrap_or(0));
    // Half a percent more and half as much again: less is noise.
    if now > before + 5 && now * 2 > before * 3 {
        changes.push(format!(
            "- rejected: {} of the records, {} the week before",
            share(&source["week"]),
            percent(before)
        ));
    }
    let accepted = |part: &str| number(&source[part], "accepted");
    if accepted("week") == 0 && accepted("week_before") > 0 {
        changes.push(format!(
            "- nothing was accepted for seven days, {} events the week before",
            count(accepted("week_before"))
        ));
    }
    let told = source.get("changes").and_then(Value::as_array).into_iter().flatten();
    changes.extend(told.map(|change| {
        let name = cut(&field(change, "name"), 60);
        let what = match change.get("event") {
            Some(event) => format!("property `{name}` of `{}`", cut(&output::plain(event), 60)),
            None => format!("{} `{name}`", field(change, "kind")),
        };
        let kinds = change.get("kinds").and_then(Value::as_array).into_iter().flatten();
        let kinds = kinds.map(output::plain).collect::<Vec<_>>().join(", ");
        let at = field(change, "at");
        match field(change, "what").as_str() {
            "new" if kinds.is_empty() => format!("- new: {what}, since {at}"),
            "new" => format!("- new: {what} ({kinds}), since {at}"),
            "new-kind" => {
                format!("- another type: {what} is {} since {at}; before it was {kinds}", field(change, "new_kind"))
            }
            _ => format!("- stopped: {what}, last at {at}"),
        }
    }));
    changes
}

fn percent(tenths: u64) -> String {
    format!("{}.{} %", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(accepted: u64, rejected: u64) -> Value {
        json!({ "accepted": accepted, "repeated": 12, "corrected": 0, "late": 3, "clock_corrected": 1, "unplanned": 2, "violations": 0,
            "rejected": rejected, "set_aside": rejected, "flags": { "clock-corrected": 1 },
            "reasons": if rejected > 0 { json!({ "missing-identifier": rejected }) } else { json!({}) } })
    }

    fn source() -> Value {
        let mut day = counts(1_200, 60);
        day["day"] = json!("2026-11-26");
        json!({ "source": "web", "plan": "shop", "today": "2026-11-26", "number_texts": 1_500, "days": [day],
            "week": counts(1_200, 60), "week_before": counts(9_000, 9), "total": counts(10_200, 69),
            "changes": [
                { "what": "new", "kind": "event", "name": "Checkout", "kinds": [], "at": "2026-11-25T10:00:00.000Z" },
                { "what": "new", "kind": "trait", "name": "plan", "kinds": ["text"], "at": "2026-11-25T10:00:00.000Z" },
                { "what": "new-kind", "kind": "property", "name": "total", "event": "Order", "new_kind": "text",
                    "kinds": ["number"], "at": "2026-11-24T10:00:00.000Z" },
                { "what": "stopped", "kind": "event", "name": "Signup", "kinds": [], "at": "2026-11-18T10:00:00.000Z" },
            ] })
    }

    #[test]
    fn a_source_is_shown_as_people_read_it() {
        let expected = "\
web on 2026-11-26, tracking plan `shop`

 day            accepted   repeated   corrected   late   clock   unplanned   violations   rejected   rejected share
────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
 2026-11-26        1,200         12           0      3       1           2            0         60   4.7 %
 seven days        1,200         12           0      3       1           2            0         60   4.7 %
 seven before      9,000         12           0      3       1           2            0          9   0.1 %
 in all           10,200         12           0      3       1           2            0         69   0.7 %

 rejected because     seven days   seven before   in all
─────────────────────────────────────────────────────────
 missing-identifier           60              9       69

 flagged           seven days   seven before   in all
──────────────────────────────────────────────────────
 clock-corrected            1              1        1

1,500 values came as texts that are written as numbers, and count as numbers

what changed since the week before
- rejected: 4.7 % of the records, 0.1 % the week before
- new: event `Checkout`, since 2026-11-25T10:00:00.000Z
- new: trait `plan` (text), since 2026-11-25T10:00:00.000Z
- another type: property `total` of `Order` is text since 2026-11-24T10:00:00.000Z; before it was number
- stopped: event `Signup`, last at 2026-11-18T10:00:00.000Z";
        let shown: Vec<String> = of_one(&source()).lines().map(|line| line.trim_end().to_owned()).collect();
        assert_eq!(shown.join("\n"), expected);
    }

    #[test]
    fn sources_are_listed_with_what_they_may_say_of_consent() {
        let source = json!({ "name": "web", "plugin": "kith/segment", "version": "0.1.0", "mode": "live",
            "activity": { "state": "running" }, "grants": { "consent": "give" } });
        insta::assert_snapshot!(list_of(&[source]), @r"
         source   plugin         version   mode   activity   of consent it
        ────────────────────────────────────────────────────────────────────────
         web      kith/segment     0.1.0   live   running    agrees and refuses
        ");
    }

    #[test]
    fn all_sources_are_shown_with_what_changed() {
        let shown = of_all(&[source()]);
        for part in ["the last seven days", "web", "1,200", "web: what changed", "- stopped: event `Signup`"] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        assert_eq!(of_all(&[]), "no source is installed");
        let silent = json!({ "source": "a", "week": counts(0, 0), "week_before": counts(5, 0), "changes": [] });
        assert_eq!(changes(&silent), ["- nothing was accepted for seven days, 5 events the week before"]);
    }
}
