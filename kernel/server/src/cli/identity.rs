//! `kith identity`: who is one person, why, and by which rules.

use serde_json::{Value, json};

use super::args::{IdentityCommand, Person};
use super::client::{Client, encode};
use super::output::{self, AnswerFormat, cut, field};
use super::{Failure, print_json, profile};

mod rules;

/// The widest identifier in a cell.
const MAX_CELL: usize = 48;

pub(crate) fn run(command: &IdentityCommand, client: &Client, format: AnswerFormat) -> Result<(), Failure> {
    match command {
        IdentityCommand::Rules(command) => rules::run(command, client, format),
        IdentityCommand::Undo { identifier, evidence, back, confirm } => {
            let mut body = json!({ "back": back });
            let given = [("identifier", identifier), ("evidence", evidence), ("confirm", confirm)];
            for (name, value) in given {
                if let Some(value) = value {
                    body[name] = json!(value);
                }
            }
            let answer = client.post("/api/v1/identity/undo", &body)?;
            rules::dry_run(client, answer, format)
        }
        IdentityCommand::Splits(part) => {
            output::say_list(&client.part("/api/v1/identity/splits", &[], part)?, format, |found| {
                let rows = found.iter().map(|item| ends(item)[..2].to_vec());
                output::table(&["one", "other"], rows.collect())
            })
        }
        IdentityCommand::Unsplit { one, other } => {
            let path = format!("/api/v1/identity/splits?one={}&other={}", encode(one), encode(other));
            stated(&client.delete(&path)?, format)
        }
        IdentityCommand::NotFollowed(part) => {
            output::say_list(&client.part("/api/v1/identity/not-followed", &[], part)?, format, |found| {
                let rows = found.iter().map(|item| [ends(item), vec![field(item, "rule")], given(item)].concat());
                output::table(&["one", "other", "evidence", "rule", "time", "message"], rows.collect())
            })
        }
        IdentityCommand::Merges(part) => {
            output::say_list(&client.part("/api/v1/identity/merges", &[], part)?, format, |found| {
                let rows = found
                    .iter()
                    .map(|item| [vec![field(item, "winner"), field(item, "loser")], ends(item), given(item)].concat());
                let names = ["winner", "loser", "one", "other", "evidence", "time", "message"];
                output::table(&names, rows.collect())
            })
        }
        IdentityCommand::Merge { winner, loser } => {
            let body = json!({ "winner": winner, "loser": loser });
            stated(&client.post("/api/v1/identity/merges", &body)?, format)
        }
        IdentityCommand::Split { one, other } => {
            let found = client.get(&format!("/api/v1/profiles?identifier={}", encode(one)))?;
            let path = format!("/api/v1/profiles/{}/split", field(&found, "id"));
            stated(&client.post(&path, &json!({ "apart": [one, other] }))?, format)
        }
        IdentityCommand::Why { person, with } => why(client, person, with, format),
    }
}

/// The way of evidence between two identifiers.
fn why(client: &Client, person: &Person, with: &str, format: AnswerFormat) -> Result<(), Failure> {
    let found = profile::find(client, person)?;
    let path = format!("/api/v1/profiles/{}/why?with={}", field(&found, "id"), encode(with));
    let mut from = match person {
        Person::Identifier(identifier) => Some(identifier.to_string()),
        Person::Profile(_) => None,
    };
    let mut steps = Vec::new();
    // A way whose events are large comes in parts.
    let mut answer = loop {
        let begin = from.map(|from| format!("&from={}", encode(&from))).unwrap_or_default();
        let mut part = client.get(&format!("{path}{begin}"))?;
        if let Some(Value::Array(more)) = part.get_mut("steps").map(Value::take) {
            steps.extend(more);
        }
        from = part.get("next").and_then(Value::as_str).map(str::to_owned);
        if from.is_none() {
            break part;
        }
    };
    answer["steps"] = Value::Array(steps);
    if format.is_json() {
        return print_json(&answer);
    }
    if answer.get("same").and_then(Value::as_bool) != Some(true) {
        return output::say(
            "they are two people; `kith identity not-followed` lists evidence that joins nobody, with its rule",
        );
    }
    let steps = answer.get("steps").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let rows = steps.iter().map(|step| [ends(step), given(step)].concat());
    output::say(output::table(&["one", "other", "evidence", "time", "message"], rows.collect()))
}

/// Whose two identifiers are now.
fn stated(answer: &Value, format: AnswerFormat) -> Result<(), Failure> {
    if format.is_json() {
        return print_json(answer);
    }
    let profiles = answer.get("profiles").and_then(Value::as_array).into_iter().flatten();
    let profiles: Vec<String> = profiles.map(output::plain).collect();
    match &profiles[..] {
        [one, other] if one == other => output::say(format_args!("one person: {one}")),
        _ => output::say(format_args!("two people: {}", profiles.join(" and "))),
    }
}

/// Both identifiers of a piece of evidence, and what kind of evidence it is.
fn ends(item: &Value) -> Vec<String> {
    let ends = item.get("identifiers").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut cells: Vec<String> =
        ends.iter().map(|end| cut(&format!("{}:{}", field(end, "type"), field(end, "value")), MAX_CELL)).collect();
    cells.resize(2, String::new());
    cells.push(field(item, "evidence"));
    cells
}

/// When it came, and with which message.
fn given(item: &Value) -> Vec<String> {
    vec![field(item, "time"), field(item, "message_id")]
}
