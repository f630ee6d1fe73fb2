//! `kith profile`: one person, and what the person did.

use serde_json::Value;

use super::args::{ListFormat, OriginArgs, Person, ProfileCommand, SearchArgs};
use super::client::{Client, encode};
use super::output::{self, AnswerFormat, cut, field, section};
use super::{Failure, print_json};

/// The widest value in a cell.
const MAX_CELL: usize = 60;

/// The same where a row has one.
const MAX_WIDE_CELL: usize = 200;

pub(crate) fn run(command: &ProfileCommand, client: &Client, format: AnswerFormat) -> Result<(), Failure> {
    match command {
        ProfileCommand::Get { person, from } => {
            let profile = if from.is_empty() { find(client, person)? } else { found_from(client, person, from)? };
            if format.is_json() {
                print_json(&profile)?;
            } else {
                output::say(report(&profile).trim_end())?;
            }
        }
        ProfileCommand::Search { search, part } => {
            let parameters = parameters(search)?;
            let given: Vec<(&str, &str)> =
                parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            output::say_list(&client.part("/api/v1/profiles", &given, part)?, format, |found| match found {
                [] => "nobody is found".to_owned(),
                found => found_table(found),
            })?;
        }
        ProfileCommand::Export { search, format: wanted } => {
            let parameters = parameters(search)?;
            let mut given: Vec<(&str, Option<&str>)> =
                parameters.iter().map(|(name, value)| (name.as_str(), Some(value.as_str()))).collect();
            given.push(("format", Some(word(export_format(*wanted, format)))));
            export(client, &with("/api/v1/profiles/export", &given), format)?;
        }
        ProfileCommand::Events { person, part } => {
            let profile = find(client, person)?;
            let path = format!("/api/v1/profiles/{}/events", field(&profile, "id"));
            output::say_list(&client.part(&path, &[], part)?, format, event_table)?;
        }
        ProfileCommand::Provenance { person, of } => {
            let answer = client.get(&origin_path(&field(&find(client, person)?, "id"), of))?;
            if format.is_json() { print_json(&answer)? } else { output::say(origin_report(&answer).trim_end())? }
        }
    }
    Ok(())
}

fn origin_path(id: &str, of: &OriginArgs) -> String {
    let position = of.event.map(|position| position.to_string());
    let given = [
        ("tag", of.tag.as_deref()),
        ("score", of.score.as_deref()),
        ("trait", of.fact.as_deref()),
        ("event", position.as_deref()),
    ];
    with(&format!("/api/v1/profiles/{id}/provenance"), &given)
}

/// Where something comes from, a line for each thing that is known.
fn origin_report(origin: &Value) -> String {
    let mut rows = vec![vec![field(origin, "kind"), field(origin, "name")]];
    let mut row = |what: &str, value: String| {
        if !value.is_empty() {
            rows.push(vec![what.to_owned(), cut(&value, MAX_WIDE_CELL)]);
        }
    };
    row("value", field(origin, "value"));
    plugin_rows(&origin["by"], &mut row);
    row("fit", origin["fit"].as_u64().filter(|fit| *fit > 0).map(|fit| fit.to_string()).unwrap_or_default());
    row(if origin["kind"] == "event" { "received" } else { "since" }, field(origin, "at"));
    row("set off by", set_off_by(field(origin, "set_off_by").as_str()).to_owned());
    let event = &origin["event"];
    if event.is_object() && origin["kind"] != "event" {
        let [name, position, message] = ["name", "position", "message_id"].map(|name| field(&event["event"], name));
        let is_another = origin["cause"] != event["event"]["position"];
        let which = if is_another { ", the last that the inputs had read" } else { "" };
        row("event", format!("{name} at position {position}, message {message}{which}"));
        row("read by", by_line(&event["by"]));
    }
    if event["counts"] == false {
        row("history", "a correction has taken its place".to_owned());
    }
    row("inputs", field(origin, "inputs_are").replace('_', " "));
    let mut text = output::table(&["what", "value"], rows);
    let inputs = origin["inputs"].as_array().into_iter().flatten();
    let inputs: Vec<Vec<String>> = inputs
        .map(|input| {
            let cells = [field(input, "value"), field(input, "expression")];
            let [value, expression] = cells.map(|cell| cut(&cell, MAX_CELL));
            vec![field(input, "name"), value, expression]
        })
        .collect();
    section(&mut text, &["input", "now", "expression"], inputs);
    text
}

fn plugin_rows(by: &Value, row: &mut impl FnMut(&str, String)) {
    row("installation", field(by, "installation"));
    row("plugin", field(by, "plugin"));
    row("version", field(by, "version"));
    row("sha-256", field(by, "digest"));
}

/// What had a value computed, in words; of an event nothing, which has a line of its own.
fn set_off_by(cause: &str) -> &str {
    match cause {
        "event" => "",
        "time" => "time that passed",
        "change" => "a change: a fit, another version or configuration, or the installation itself",
        "rebuild" => "a rebuild from the log",
        other => other,
    }
}

/// A plugin in one line.
fn by_line(by: &Value) -> String {
    let parts = ["installation", "plugin", "version", "digest"].map(|name| field(by, name));
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
}

/// A search as parameters of the API.
fn parameters(search: &SearchArgs) -> Result<Vec<(String, String)>, Failure> {
    let mut parameters = Vec::new();
    let given = [("identifier", &search.identifier), ("prefix", &search.prefix), ("columns", &search.columns)];
    for (name, value) in given {
        parameters.extend(value.iter().map(|value| (name.to_owned(), value.clone())));
    }
    for pair in &search.traits {
        let (name, value) = pair
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| Failure::Usage(format!("`{pair}` is no trait with its value; write --trait city=Paris")))?;
        parameters.push((format!("trait.{}", encode(name)), value.to_owned()));
    }
    if parameters.is_empty() {
        // Without any parameter at all the route still answers a page.
        parameters.push(("columns".to_owned(), "id,created_at,identifiers".to_owned()));
    }
    Ok(parameters)
}

/// A path with the parameters that are given.
pub(crate) fn with(path: &str, parameters: &[(&str, Option<&str>)]) -> String {
    let given = parameters.iter().filter_map(|(name, value)| Some(format!("{name}={}", encode((*value)?))));
    let query: Vec<String> = given.collect();
    if query.is_empty() { path.to_owned() } else { format!("{path}?{}", query.join("&")) }
}

/// How an export comes: for a program as lines of JSON, which become one document.
pub(crate) fn export_format(wanted: Option<ListFormat>, format: AnswerFormat) -> ListFormat {
    let default = if format.is_json() { ListFormat::Ndjson } else { ListFormat::Csv };
    wanted.unwrap_or(default)
}

/// Copy an export in the format of [`export_format`].
pub(crate) fn export(client: &Client, path: &str, format: AnswerFormat) -> Result<(), Failure> {
    if format.is_json() {
        output::copy_items(|sink| client.download(path, sink))
    } else {
        output::copy(|sink| client.download(path, sink))
    }
}

/// A format as the API names it.
pub(crate) fn word(format: ListFormat) -> &'static str {
    match format {
        ListFormat::Csv => "csv",
        ListFormat::Ndjson => "ndjson",
    }
}

/// People with the columns that came, in the order in which they are asked for most.
fn found_table(found: &[Value]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in found.iter().filter_map(Value::as_object).flat_map(|row| row.keys()) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    names.sort_by_key(|name| (*name != "id", *name));
    let cell = |row: &Value, name: &str| match row.get(name) {
        Some(Value::Array(values)) => values.iter().map(output::plain).collect::<Vec<_>>().join("; "),
        value => value.map(output::plain).unwrap_or_default(),
    };
    let rows = found.iter().map(|row| names.iter().map(|name| cut(&cell(row, name), MAX_CELL)).collect());
    output::table(&names, rows.collect())
}

/// The profile of `person`.
pub(crate) fn find(client: &Client, person: &Person) -> Result<Value, Failure> {
    let path = match person {
        Person::Identifier(identifier) => {
            format!("/api/v1/profiles?identifier={}", encode(&identifier.to_string()))
        }
        Person::Profile(id) => format!("/api/v1/profiles/{id}"),
    };
    Ok(client.get(&path)?)
}

/// The same with parts that begin further on.
fn found_from(client: &Client, person: &Person, from: &[String]) -> Result<Value, Failure> {
    let query = parts_from(&["traits", "tags", "scores", "consents"], from)?;
    let id = match person {
        Person::Profile(id) => id.to_string(),
        Person::Identifier(_) => field(&find(client, person)?, "id"),
    };
    Ok(client.get(&format!("/api/v1/profiles/{id}?{query}"))?)
}

/// The parts of an answer that begin further on, as parameters of the API.
pub(crate) fn parts_from(known: &[&str], from: &[String]) -> Result<String, Failure> {
    let mut parameters = Vec::with_capacity(from.len());
    for text in from {
        let part = text.split_once('=').filter(|(part, _)| known.contains(part));
        let no_part = || Failure::Usage(format!("`{text}` is none of {} with `=` and a name", known.join(", ")));
        let (part, name) = part.ok_or_else(no_part)?;
        parameters.push(format!("{part}_from={}", encode(name)));
    }
    Ok(parameters.join("&"))
}

/// What has no room in an answer about a person, and the command that shows it.
pub(crate) fn left_out(answer: &Value, command: &str) -> String {
    let parts = answer.get("left_out").and_then(Value::as_array).into_iter().flatten();
    let lines = parts.map(|left| {
        let (part, count) = (field(left, "part"), output::number(left, "count"));
        let from = format!("{part}={}", field(left, "from")).replace('\'', r"'\''");
        format!("{count} more {part} have no room here: {command} --from '{from}' shows them\n")
    });
    lines.collect()
}

fn report(profile: &Value) -> String {
    let mut text = format!("profile {}, since {}\n", field(profile, "id"), field(profile, "created_at"));
    let identifiers = profile.get("identifiers").and_then(Value::as_array).into_iter().flatten();
    let rows: Vec<Vec<String>> = identifiers.map(|found| vec![field(found, "type"), field(found, "value")]).collect();
    section(&mut text, &["identifier", "value"], rows);
    let traits = named(profile, "traits", |name, value| {
        vec![name, cut(&field(value, "value"), MAX_CELL), field(value, "source"), field(value, "time")]
    });
    section(&mut text, &["trait", "value", "source", "since"], traits);
    let consents = profile.get("consents").and_then(Value::as_array).into_iter().flatten();
    let consents = consents.map(|consent| {
        let purpose = consent.get("purpose").and_then(Value::as_str).unwrap_or("(all)");
        let is_allowed = consent.get("allowed").and_then(Value::as_bool).unwrap_or_default();
        let said = if is_allowed { "allowed".to_owned() } else { format!("refused: {}", field(consent, "said")) };
        let whose = cut(&identifier_of(profile, &field(consent, "identity")), MAX_CELL);
        vec![purpose.to_owned(), cut(&said, MAX_CELL), field(consent, "received_at"), whose]
    });
    section(&mut text, &["consent", "answer", "received", "whose"], consents.collect());
    let not_followed = profile.get("not_followed").and_then(Value::as_array).into_iter().flatten();
    let not_followed = not_followed.map(|found| {
        let ends = found.get("identifiers").and_then(Value::as_array).into_iter().flatten();
        let ends: Vec<String> = ends.map(|end| format!("{}:{}", field(end, "type"), field(end, "value"))).collect();
        vec![cut(&ends.join(" and "), MAX_CELL), field(found, "evidence"), field(found, "reason")]
    });
    section(&mut text, &["not followed", "evidence", "why"], not_followed.collect());
    if profile.get("not_followed_more").and_then(Value::as_bool) == Some(true) {
        text += "there is more that was not followed: kith identity not-followed lists all\n";
    }
    let tags = named(profile, "tags", |name, value| {
        vec![name, cut(&field(value, "value"), MAX_CELL), made_by(value), computed_at(value)]
    });
    section(&mut text, &["tag", "value", "made by", "computed"], tags);
    let scores = named(profile, "scores", |name, value| {
        let number = value.get("value").and_then(Value::as_f64).map(|number| format!("{number:.4}"));
        vec![name, number.unwrap_or_default(), made_by(value), computed_at(value)]
    });
    section(&mut text, &["score", "value", "made by", "computed"], scores);
    let audiences = profile.get("audiences").and_then(Value::as_array).into_iter().flatten();
    let audiences = audiences.map(|entry| vec![field(entry, "audience"), field(entry, "since")]).collect();
    section(&mut text, &["audience", "since"], audiences);
    text += &left_out(profile, &format!("kith profile get {}", field(profile, "id")));
    text
}

/// The identifier of one of a person's identities; the identity itself where it has none here.
fn identifier_of(profile: &Value, identity: &str) -> String {
    let mut identifiers = profile.get("identifiers").and_then(Value::as_array).into_iter().flatten();
    let found = identifiers.find(|found| field(found, "identity") == identity);
    found.map_or_else(|| identity.to_owned(), |found| format!("{}:{}", field(found, "type"), field(found, "value")))
}

/// Rows of an object of named values.
fn named(profile: &Value, member: &str, row: impl Fn(String, &Value) -> Vec<String>) -> Vec<Vec<String>> {
    let object = profile.get(member).and_then(Value::as_object).into_iter().flatten();
    object.map(|(name, value)| row(name.clone(), value)).collect()
}

/// The installation that made a value, with its fitted state where there is one.
fn made_by(value: &Value) -> String {
    let from = value.get("from").unwrap_or(&Value::Null);
    let (installation, fit) = (field(from, "installation"), output::number(from, "fit"));
    if fit == 0 { installation } else { format!("{installation}, fit {fit}") }
}

fn computed_at(value: &Value) -> String {
    value.get("from").map(|from| field(from, "computed_at")).unwrap_or_default()
}

fn event_table(events: &[Value]) -> String {
    let rows = events
        .iter()
        .map(|event| {
            let properties = event.get("properties").filter(|value| !value.is_null()).map(output::plain);
            vec![
                field(event, "time"),
                field(event, "kind"),
                field(event, "name"),
                field(event, "source"),
                cut(&properties.unwrap_or_default(), MAX_CELL),
            ]
        })
        .collect();
    output::table(&["time", "kind", "name", "source", "properties"], rows)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_profile_shows_where_each_value_came_from() {
        let profile = json!({
            "id": "0190", "created_at": "2026-11-21T10:00:00.000Z",
            "identifiers": [{"type": "user_id", "value": "ada", "identity": "0190"}],
            "traits": {"city": {"value": "Rome", "source": "segment", "time": "2026-11-20T10:00:00.000Z"}},
            "consents": [
                {"identity": "0190", "allowed": false, "said": "false", "received_at": "2026-11-20T10:00:00.000Z"},
                {"identity": "0190", "purpose": "news", "allowed": true, "received_at": "2026-11-21T10:00:00.000Z"}],
            "tags": {},
            "scores": {"p_alive": {"value": 0.51234, "from": {
                "installation": "clv", "fit": 2, "computed_at": "2026-11-21T10:00:01.000Z"}}},
            "audiences": [{"audience": "carts", "since": "2026-11-21T10:00:02.000Z"}],
        });
        insta::assert_snapshot!(report(&profile), @r"
        profile 0190, since 2026-11-21T10:00:00.000Z

         identifier   value
        ────────────────────
         user_id      ada

         trait   value   source    since
        ────────────────────────────────────────────────────
         city    Rome    segment   2026-11-20T10:00:00.000Z

         consent   answer           received                   whose
        ───────────────────────────────────────────────────────────────────
         (all)     refused: false   2026-11-20T10:00:00.000Z   user_id:ada
         news      allowed          2026-11-21T10:00:00.000Z   user_id:ada

         score      value   made by      computed
        ──────────────────────────────────────────────────────────
         p_alive   0.5123   clv, fit 2   2026-11-21T10:00:01.000Z

         audience   since
        ─────────────────────────────────────
         carts      2026-11-21T10:00:02.000Z
        ");
    }

    #[test]
    fn what_a_profile_leaves_out_is_said_with_the_command_that_shows_it() {
        let profile = json!({
            "id": "0190",
            "left_out": [
                {"part": "traits", "count": 1200, "from": "it's"},
                {"part": "consents", "count": 3, "from": "0191"}],
        });
        let shown = left_out(&profile, "kith profile get 0190");
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(
            lines,
            [
                r"1200 more traits have no room here: kith profile get 0190 --from 'traits=it'\''s' shows them",
                "3 more consents have no room here: kith profile get 0190 --from 'consents=0191' shows them",
            ]
        );
        assert!(report(&profile).ends_with(&shown));
    }
}
