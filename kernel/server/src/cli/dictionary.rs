//! `kith dictionary`: what names mean, who answers for them, and how sensitive they are; and that as a document for a repository.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::args::{DictionaryCommand, SubjectArgs};
use super::client::{ApiError, Client, encode};
use super::output::{self, AnswerFormat, cut, field};
use super::{Failure, items, print_json};

const DICTIONARY: &str = "/api/v1/dictionary";

/// The widest meaning in a cell.
const MAX_CELL: usize = 60;

/// What a document has of an entry, in the order in which it is written.
const FIELDS: [&str; 7] = ["kind", "event", "name", "meaning", "owner", "type", "sensitivity"];

pub(crate) fn run(command: &DictionaryCommand, client: &Client, format: AnswerFormat) -> Result<(), Failure> {
    match command {
        DictionaryCommand::List { kind, event, sensitivity, never_came } => {
            let came = never_came.then(|| "false".to_owned());
            let asked = [("kind", kind), ("event", event), ("sensitivity", sensitivity), ("came", &came)];
            let asked: Vec<(&str, &str)> =
                asked.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?))).collect();
            let entries = client.list_from(DICTIONARY, &asked, u64::MAX)?.0;
            if format.is_json() { print_json(&json!({ "items": entries })) } else { output::say(table(&entries)) }
        }
        DictionaryCommand::Show(subject) => shown(&client.get(&path(subject))?, format),
        DictionaryCommand::Set { subject, meaning, owner, value_type, sensitivity } => {
            let given = [("meaning", meaning), ("owner", owner), ("type", value_type), ("sensitivity", sensitivity)];
            let given = given.iter().filter_map(|(name, value)| Some(((*name).to_owned(), json!(value.as_ref()?))));
            let given = Value::Object(given.collect());
            // What is not given stays, where there is an entry; and where there is none, it has its default.
            let answer = match client.get_tagged(&path(subject)) {
                Ok((_, tag)) => client.patch_if(&path(subject), &given, tag.as_deref())?,
                Err(ApiError::Refused(problem)) if problem.http_status == 404 => client.put(&path(subject), &given)?,
                Err(error) => return Err(error.into()),
            };
            shown(&answer, format)
        }
        DictionaryCommand::Remove(subject) => {
            client.delete(&path(subject))?;
            if format.is_json() {
                print_json(&json!({ "removed": subject.name }))
            } else {
                output::say(format_args!("the entry of {} is removed", subject.name))
            }
        }
        DictionaryCommand::Import { file, remove_others, dry_run } => {
            let mut document = read(file)?;
            document["remove_others"] = json!(remove_others);
            document["dry_run"] = json!(dry_run);
            let answer = client.post("/api/v1/dictionary/import", &document)?;
            if format.is_json() { print_json(&answer) } else { output::say(changes(&answer)) }
        }
        DictionaryCommand::Export { format: wanted } => {
            let entries = client.list(DICTIONARY, u64::MAX)?;
            let default = if format.is_json() { "json" } else { "toml" };
            output::say(write(&entries, wanted.as_deref().unwrap_or(default))?.trim_end())
        }
    }
}

fn path(subject: &SubjectArgs) -> String {
    let path = format!("{DICTIONARY}/{}/{}", subject.kind, encode(&subject.name));
    match &subject.event {
        Some(event) => format!("{path}?event={}", encode(event)),
        None => path,
    }
}

fn shown(answer: &Value, format: AnswerFormat) -> Result<(), Failure> {
    if format.is_json() {
        return print_json(answer);
    }
    let mut text = table(std::slice::from_ref(answer));
    text.push_str(&readers(answer));
    output::say(text.trim_end())
}

/// The installations that read something sensitive, and whether they may.
fn readers(entry: &Value) -> String {
    let all = entry.get("readers").and_then(Value::as_array).into_iter().flatten();
    let lines = all.map(|reader| match reader.get("granted") {
        Some(Value::Bool(true)) => format!("\n{} reads it, as it is granted", field(reader, "installation")),
        _ => format!(
            "\n{} reads it and is held until that is granted: kith plugin change {} --grant-sensitive \"{}\"",
            field(reader, "installation"),
            field(reader, "installation"),
            field(entry, "written")
        ),
    });
    lines.collect()
}

fn table(entries: &[Value]) -> String {
    let rows = entries.iter().map(|entry| {
        let came = if entry.get("came") == Some(&json!(true)) { "" } else { "never came" };
        vec![
            cut(&field(entry, "written"), MAX_CELL),
            field(entry, "sensitivity"),
            field(entry, "type"),
            field(entry, "owner"),
            cut(&field(entry, "meaning"), MAX_CELL),
            came.to_owned(),
        ]
    });
    output::table(&["written", "sensitivity", "type", "owner", "meaning", ""], rows.collect())
}

fn changes(answer: &Value) -> String {
    let all = answer.get("changes").map(items).unwrap_or_default();
    let would = if answer.get("dry_run") == Some(&json!(true)) { "would be " } else { "" };
    let mut text = String::new();
    for change in all {
        text.push_str(&format!("{would}{}: {}\n", done(&field(change, "do")), field(change, "written")));
        for name in ["meaning", "owner", "type", "sensitivity"] {
            let of = |side: &str| change.get(side).map(|entry| field(entry, name)).unwrap_or_default();
            let (before, after) = (of("before"), of("after"));
            if before != after && change.get("after").is_some() {
                text.push_str(&format!("  {name}: {} -> {}\n", cut(&before, MAX_CELL), cut(&after, MAX_CELL)));
            }
        }
        text.extend(readers(change).lines().filter(|line| !line.is_empty()).map(|line| format!("  {line}\n")));
    }
    text.push_str(&format!("{} as they are", output::count(output::number(answer, "unchanged"))));
    text
}

fn done(act: &str) -> &str {
    match act {
        "add" => "added",
        "change" => "changed",
        "remove" => "removed",
        other => other,
    }
}

/// A document, JSON or TOML by its file's ending.
fn read(file: &Path) -> Result<Value, Failure> {
    let text = std::fs::read_to_string(file).map_err(|source| Failure::File {
        what: "read",
        path: file.to_owned(),
        source,
    })?;
    let is_toml = file.extension().is_some_and(|end| end.eq_ignore_ascii_case("toml"));
    let document = match is_toml {
        true => toml::from_str::<Value>(&text).map_err(|error| error.to_string()),
        false => serde_json::from_str::<Value>(&text).map_err(|error| error.to_string()),
    };
    let document = document.map_err(|error| Failure::Usage(format!("{}: {error}", file.display())))?;
    let Some(entries) = document.get("entries") else {
        return Err(Failure::Usage(format!("{}: has no `entries`", file.display())));
    };
    Ok(json!({ "entries": entries }))
}

/// The entries as a document that [`read`] takes: the same entries make the same text.
fn write(entries: &[Value], format: &str) -> Result<String, Failure> {
    let told = entries.iter().map(|entry| {
        let fields = FIELDS.iter().filter_map(|name| Some(((*name).to_owned(), entry.get(name)?.clone())));
        Value::Object(fields.filter(|(_, value)| *value != json!("")).collect::<Map<_, _>>())
    });
    let told: Vec<Value> = told.collect();
    if format == "json" {
        return Ok(format!("{:#}", json!({ "entries": told })));
    }
    let mut text = String::new();
    for entry in &told {
        text.push_str("[[entries]]\n");
        for name in FIELDS {
            let Some(value) = entry.get(name).and_then(Value::as_str) else { continue };
            // A text of JSON is one of TOML but for this character.
            let quoted = Value::from(value).to_string().replace('\u{7f}', "\\u007f");
            text.push_str(&format!("{name} = {quoted}\n"));
        }
        text.push('\n');
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries() -> Vec<Value> {
        vec![
            json!({ "kind": "property", "event": "Order Completed", "name": "total \"net\"", "written": "events('Order Completed').properties.x",
                "meaning": "in euros\nwithout tax", "owner": "", "type": "number", "sensitivity": "internal", "came": true }),
            json!({ "kind": "trait", "name": "salary", "written": "traits.salary", "meaning": "", "owner": "people team",
                "sensitivity": "sensitive", "came": false, "changed_at": "x",
                "readers": [{ "installation": "clv", "granted": false }] }),
        ]
    }

    #[test]
    fn a_document_is_read_as_it_was_written() {
        for format in ["toml", "json"] {
            let file = tempfile::Builder::new().suffix(&format!(".{format}")).tempfile().unwrap();
            let text = write(&entries(), format).unwrap();
            std::fs::write(file.path(), &text).unwrap();
            let document = read(file.path()).unwrap();
            let again = document["entries"].as_array().unwrap();
            assert_eq!(write(again, format).unwrap(), text, "the same entries make the same text");
            assert_eq!(again[0]["name"], "total \"net\"");
            assert_eq!(again[0]["meaning"], "in euros\nwithout tax");
            assert_eq!(again[1].get("owner"), Some(&json!("people team")));
            assert!(again[1].get("changed_at").is_none() && again[1].get("meaning").is_none());
        }
        let file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
        std::fs::write(file.path(), "x = 1").unwrap();
        assert!(matches!(read(file.path()), Err(Failure::Usage(_))));
    }

    #[test]
    fn what_is_held_is_told_with_what_lets_it_go_on() {
        let entries = entries();
        let shown = table(&entries);
        for part in ["traits.salary", "never came", "people team", "sensitive"] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        let told = readers(&entries[1]);
        assert!(told.contains("kith plugin change clv --grant-sensitive \"traits.salary\""), "{told}");
        let answer = json!({ "dry_run": true, "unchanged": 1200, "changes": [
            { "do": "change", "written": "traits.salary", "before": { "sensitivity": "internal" },
              "after": { "sensitivity": "sensitive" } } ] });
        let told = changes(&answer);
        for part in ["would be changed: traits.salary", "sensitivity: internal -> sensitive", "1,200 as they are"] {
            assert!(told.contains(part), "{part}: {told}");
        }
    }
}
