//! `kith dead-letters`: what failed, and what is done about it. Lists go over as many pages as they take and say where they
//! were cut.

use serde_json::{Value, json};

use super::args::{LettersCommand, WhichLetters};
use super::client::{Client, encode};
use super::output::{self, AnswerFormat, cut, field, number};
use super::{Failure, items, print_json};

pub(crate) fn run(command: &LettersCommand, client: &Client, format: AnswerFormat) -> Result<(), Failure> {
    match command {
        LettersCommand::List { which, cursor, limit, all } => {
            let limit = if *all { u64::MAX } else { *limit };
            list(client, which, cursor.as_deref(), limit, format)
        }
        LettersCommand::Counts { which } => counts(client, which, format),
        LettersCommand::Show { id } => print_json(&client.get(&path(id))?),
        LettersCommand::Edit { id, raw } => {
            let answer = client.patch(&path(id), &json!({ "raw": text(raw)? }))?;
            if format.is_json() {
                return print_json(&answer);
            }
            output::say(format_args!("corrected; try it again with `kith dead-letters replay {id}`"))
        }
        LettersCommand::Replay { id: Some(id), into, .. } => {
            let into = into.as_ref().map(|name| format!("?into={name}")).unwrap_or_default();
            replay_one(client, id, &format!("{}/replay{into}", path(id)), format)
        }
        LettersCommand::Replay { id: None, which, all, .. } => {
            replay_many(client, Selection { which, all: *all }, format)
        }
        LettersCommand::Dismiss { id: Some(id), .. } => {
            client.delete(&path(id))?;
            if format.is_json() {
                print_json(&json!({ "dismissed": 1 }))
            } else {
                output::say(format_args!("dismissed {id}"))
            }
        }
        LettersCommand::Dismiss { id: None, which, all } => {
            let report = steps(client, "/api/v1/dead-letters/dismiss", Selection { which, all: *all })?;
            if format.is_json() {
                return print_json(&report);
            }
            output::say(format_args!("dismissed {}", output::count(number(&report, "dismissed"))))
        }
    }
}

fn path(id: &str) -> String {
    format!("/api/v1/dead-letters/{}", encode(id))
}

/// A text as it stands, or of `@FILE`.
fn text(given: &str) -> Result<String, Failure> {
    match given.strip_prefix('@') {
        None => Ok(given.to_owned()),
        Some(path) => {
            std::fs::read_to_string(path).map_err(|source| Failure::File { what: "read", path: path.into(), source })
        }
    }
}

/// A page of dead letters, for `kith delivery dead-letters` as well.
pub(super) fn list(
    client: &Client,
    which: &WhichLetters,
    cursor: Option<&str>,
    limit: u64,
    format: AnswerFormat,
) -> Result<(), Failure> {
    let mut parameters = which.parameters();
    parameters.extend(cursor.map(|cursor| ("cursor", cursor.to_owned())));
    let parameters: Vec<(&str, &str)> = parameters.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let (letters, next) = client.list_from("/api/v1/dead-letters", &parameters, limit)?;
    if format.is_json() {
        return print_json(&json!({ "items": letters, "next": next }));
    }
    let more = next.map(|next| format!("\n\nthere are more: add --cursor {next}, or --all")).unwrap_or_default();
    output::say(table(&letters) + &more)
}

fn counts(client: &Client, which: &WhichLetters, format: AnswerFormat) -> Result<(), Failure> {
    let query: Vec<String> =
        which.parameters().iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
    let answer = client.get(&format!("/api/v1/dead-letters/counts?{}", query.join("&")))?;
    if format.is_json() {
        return print_json(&answer);
    }
    let rows = items(&answer)
        .iter()
        .map(|count| {
            vec![
                field(count, "source"),
                field(count, "type"),
                field(count, "code"),
                output::count(number(count, "letters")),
                output::count(number(count, "times")),
                field(count, "first_at"),
                field(count, "last_at"),
            ]
        })
        .collect();
    let part =
        if answer["whole"] == true { "" } else { "\n\nnot all were counted; choose fewer with --source or --type" };
    output::say(output::table(&["of", "type", "code", "letters", "times", "first", "last"], rows) + part)
}

/// Try one dead letter again, for `kith delivery replay` as well.
pub(super) fn replay_one(client: &Client, id: &str, path: &str, format: AnswerFormat) -> Result<(), Failure> {
    let answer = client.post(path, &json!({}))?;
    let is_done = answer["replayed"] == true;
    if format.is_json() {
        print_json(&answer)?;
    } else if answer.get("accepted").is_some() {
        let [accepted, duplicate] = ["accepted", "duplicate"].map(|name| number(&answer, name));
        output::say(format_args!("{id} was taken: {accepted} accepted, {duplicate} had come already"))?;
    } else if is_done {
        output::say(format_args!("{id} is in the outbox again"))?;
    }
    if is_done {
        return Ok(());
    }
    let reason = [field(&answer, "code"), field(&answer, "message")].join(": ");
    Err(Failure::Failed(format!("{id} was refused again and stays: {reason}")))
}

fn replay_many(client: &Client, selection: Selection<'_>, format: AnswerFormat) -> Result<(), Failure> {
    let report = steps(client, "/api/v1/dead-letters/replay", selection)?;
    if format.is_json() {
        print_json(&report)?;
    } else {
        let of = |name| output::count(number(&report, name));
        output::say(format_args!(
            "{} letters: {} accepted, {} had come already, {} refused again, {} messages on their way, {} could not be tried, {} left",
            of("letters"),
            of("accepted"),
            of("duplicate"),
            of("refused"),
            of("deliveries"),
            of("failed"),
            of("left"),
        ))?;
    }
    match number(&report, "refused") + number(&report, "failed") {
        0 => Ok(()),
        _ => Err(Failure::Said),
    }
}

/// Which letters are gone over.
#[derive(Clone, Copy)]
struct Selection<'a> {
    which: &'a WhichLetters,
    /// Said by whoever means every one, where `which` leaves none out.
    all: bool,
}

/// Go over all that are chosen, a step at a time; the sums of what the steps say.
fn steps(client: &Client, path: &str, selection: Selection<'_>) -> Result<Value, Failure> {
    let mut body = json!({ "all": selection.all });
    selection.which.parameters().into_iter().for_each(|(name, value)| body[name] = json!(value));
    let mut sums = serde_json::Map::new();
    loop {
        let step = client.post(path, &body)?;
        for (name, value) in step.as_object().into_iter().flatten() {
            if let Some(more) = value.as_u64() {
                let sum = sums.get(name).and_then(Value::as_u64).unwrap_or_default();
                sums.insert(name.clone(), json!(sum + more));
            }
        }
        match step.get("next").filter(|next| !next.is_null()) {
            Some(next) => body["cursor"] = next.clone(),
            None => return Ok(Value::Object(sums)),
        }
    }
}

fn table(letters: &[Value]) -> String {
    let rows = letters
        .iter()
        .map(|letter| {
            let why = ["message", "reason", "problem"].map(|name| field(letter, name)).concat();
            let of = ["source", "installation", "channel"].map(|name| field(letter, name)).concat();
            let code = if field(letter, "type") == "delivery" { field(letter, "state") } else { field(letter, "code") };
            let place = field(letter, "place");
            vec![field(letter, "id"), field(letter, "type"), of, place, code, field(letter, "times"), cut(&why, 80)]
        })
        .collect();
    output::table(&["id", "type", "of", "place", "code", "times", "reason"], rows)
}
