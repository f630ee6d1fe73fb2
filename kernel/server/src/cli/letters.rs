//! `kith dead-letters`: what failed, and what is done about it. Lists go over as many pages as they take and say where they
//! were cut.

use kith_model::id::Name;
use serde_json::{Value, json};

use super::args::{LettersCommand, PartArgs, WhichLetters};
use super::client::{ApiError, Client, encode};
use super::output::{self, AnswerFormat, cut, field, number};
use super::{Failure, items, print_json, text_argument};

pub(crate) fn run(command: &LettersCommand, client: &Client, format: AnswerFormat) -> Result<(), Failure> {
    match command {
        LettersCommand::List { which, part } => list(client, which, part, format),
        LettersCommand::Counts { which } => counts(client, which, format),
        LettersCommand::Show { id } => {
            let letter = found(client, id)?;
            if format.is_json() { print_json(&letter) } else { output::say(one_letter(&letter)) }
        }
        LettersCommand::Edit { id, raw } => {
            let id = &whole_id(client, id)?;
            let answer = client.patch(&path(id), &json!({ "raw": text_argument(raw)? }))?;
            if format.is_json() {
                return print_json(&answer);
            }
            output::say(format_args!("corrected; try it again with `kith dead-letters replay {id}`"))
        }
        LettersCommand::Replay { id: Some(id), into, .. } => replay_one(client, id, into.as_ref(), format),
        LettersCommand::Replay { id: None, which, all, .. } => {
            replay_many(client, Selection { which, all: *all }, format)
        }
        LettersCommand::Dismiss { id: Some(id), .. } => {
            let id = &whole_id(client, id)?;
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

/// The letter with this id, or with the one id that begins so: a list shows beginnings, because whole ids take half of a line.
fn found(client: &Client, given: &str) -> Result<Value, Failure> {
    match client.get(&path(given)) {
        Err(ApiError::Refused(problem)) if problem.http_status == 404 => {
            let all = client.list("/api/v1/dead-letters", u64::MAX)?;
            let ids: Vec<String> = all.iter().map(|letter| field(letter, "id")).collect();
            match only(&ids, given)? {
                Some(id) => Ok(client.get(&path(id))?),
                None => Err(ApiError::Refused(problem).into()),
            }
        }
        other => Ok(other?),
    }
}

/// The id of that letter. Who may change letters and not look at them gives whole ids.
fn whole_id(client: &Client, given: &str) -> Result<String, Failure> {
    match found(client, given) {
        Ok(letter) => Ok(field(&letter, "id")),
        Err(Failure::Api(ApiError::Refused(problem))) if problem.http_status == 403 => Ok(given.to_owned()),
        Err(failure) => Err(failure),
    }
}

/// The one id of these that begins so, if there is any.
fn only<'a>(ids: &'a [String], beginning: &str) -> Result<Option<&'a str>, Failure> {
    let found: Vec<&str> = ids.iter().map(String::as_str).filter(|id| id.starts_with(beginning)).collect();
    match found[..] {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        _ => {
            let some: Vec<&str> = found.iter().take(5).copied().collect();
            Err(Failure::Usage(format!(
                "{} letters begin with `{beginning}`; write more of the one that is meant, e.g.\n  {}",
                found.len(),
                some.join("\n  ")
            )))
        }
    }
}

/// The least that is shown of an id.
const MIN_SHOWN: usize = 14;

/// Beginnings of ids that tell these apart, all of one length.
fn beginnings(ids: &[String]) -> Vec<String> {
    let begin = |id: &str, length: usize| id.chars().take(length).collect::<String>();
    let longest = ids.iter().map(String::len).max().unwrap_or_default();
    let are_distinct = |length: &usize| {
        let seen: std::collections::BTreeSet<String> = ids.iter().map(|id| begin(id, *length)).collect();
        seen.len() == ids.len()
    };
    let length = (MIN_SHOWN.min(longest)..=longest).find(are_distinct).unwrap_or(longest);
    ids.iter().map(|id| begin(id, length)).collect()
}

/// All of one letter, what is long of it last and as it stands.
fn one_letter(letter: &Value) -> String {
    let members = letter.as_object().into_iter().flatten();
    let long = ["raw", "payload", "rows"];
    let rows = members.clone().filter(|(name, value)| !long.contains(&name.as_str()) && !value.is_null());
    let rows = rows.map(|(name, value)| vec![name.replace('_', " "), output::plain(value)]).collect();
    let mut text = output::table(&["what", "value"], rows);
    for (name, value) in members.filter(|(name, value)| long.contains(&name.as_str()) && !value.is_null()) {
        let shown = match value.as_array() {
            Some(rows) if rows.is_empty() => continue,
            Some(rows) => digests(rows),
            None => output::plain(value),
        };
        text.push_str(&format!("\n\n{name}:\n{shown}"));
    }
    text
}

/// The rows that a model was given of people.
fn digests(rows: &[Value]) -> String {
    let rows = rows.iter().map(|row| vec![field(row, "profile"), field(row, "sha256")]).collect();
    output::table(&["profile", "sha256"], rows)
}

/// A page of dead letters, for `kith delivery dead-letters` as well.
pub(super) fn list(
    client: &Client,
    which: &WhichLetters,
    part: &PartArgs,
    format: AnswerFormat,
) -> Result<(), Failure> {
    let parameters = which.parameters();
    let parameters: Vec<(&str, &str)> = parameters.iter().map(|(name, value)| (*name, value.as_str())).collect();
    output::say_list(&client.part("/api/v1/dead-letters", &parameters, part)?, format, table)
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
                count["times"].as_u64().map(output::count).unwrap_or_default(),
                field(count, "first_at"),
                field(count, "last_at"),
            ]
        })
        .collect();
    let part =
        if answer["whole"] == true { "" } else { "\n\nnot all were counted; choose fewer with --source or --type" };
    let others = match number(&answer, "others") {
        0 => String::new(),
        others => format!(
            "\n\n{} of further sources, types and codes; choose fewer with --source or --type",
            output::counted(others, "letter")
        ),
    };
    output::say(output::table(&["of", "type", "code", "letters", "times", "first", "last"], rows) + &others + part)
}

/// Try one dead letter again, for `kith delivery replay` as well.
pub(super) fn replay_one(client: &Client, id: &str, into: Option<&Name>, format: AnswerFormat) -> Result<(), Failure> {
    let id = &whole_id(client, id)?;
    let into = into.map(|name| format!("?into={name}")).unwrap_or_default();
    let answer = client.post(&format!("{}/replay{into}", path(id)), &json!({}))?;
    let is_done = answer["replayed"] == true;
    if format.is_json() {
        print_json(&answer)?;
    } else if answer.get("accepted").is_some() {
        let [accepted, duplicate] = ["accepted", "duplicate"].map(|name| number(&answer, name));
        output::say(format_args!("{id} was taken: {accepted} accepted, {duplicate} had come already"))?;
    } else if let Some(people) = people_asked_about(&answer) {
        output::say(format_args!(
            "the model is asked again about {people}; {id} goes once it has answered for them, and stays where it fails again"
        ))?;
    } else if is_done {
        output::say(format_args!("{id} is in the outbox again"))?;
    }
    if is_done {
        return Ok(());
    }
    let reason = [field(&answer, "code"), field(&answer, "message")].join(": ");
    Err(Failure::Failed(format!("{id} was refused again and stays: {reason}")))
}

/// Whom a model is asked about again, as far as the key may see it; `None` where the letter was no computation's.
fn people_asked_about(answer: &Value) -> Option<String> {
    match (answer.get("people").and_then(Value::as_u64), answer.get("masked")) {
        (None, None) => None,
        (None, Some(_)) => Some("its people".to_owned()),
        (Some(people), None) => Some(output::counted(people, "person")),
        (Some(people), Some(_)) => Some(format!("about {}", output::counted(people, "person"))),
    }
}

fn replay_many(client: &Client, selection: Selection<'_>, format: AnswerFormat) -> Result<(), Failure> {
    let report = steps(client, "/api/v1/dead-letters/replay", selection)?;
    if format.is_json() {
        print_json(&report)?;
    } else {
        let of = |name| output::count(number(&report, name));
        output::say(format_args!(
            "{}: {} accepted, {} had come already, {} refused again, {} messages on their way, {} models asked again, {} could not be tried, {} left",
            output::counted(number(&report, "letters"), "letter"),
            of("accepted"),
            of("duplicate"),
            of("refused"),
            of("deliveries"),
            of("computations"),
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
    let ids: Vec<String> = letters.iter().map(|letter| field(letter, "id")).collect();
    let rows = letters
        .iter()
        .zip(beginnings(&ids))
        .map(|(letter, id)| {
            let why = ["message", "reason", "problem"].map(|name| field(letter, name)).concat();
            let of = ["source", "installation", "channel"].map(|name| field(letter, name)).concat();
            let code = if field(letter, "type") == "delivery" { field(letter, "state") } else { field(letter, "code") };
            let place = field(letter, "place");
            let times = ["times", "profiles"].map(|name| field(letter, name)).concat();
            vec![id, field(letter, "type"), of, place, code, times, cut(&why, 80)]
        })
        .collect();
    output::table(&["id", "type", "of", "place", "code", "times", "reason"], rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids() -> Vec<String> {
        ["00000003000001a21ee0ee84", "00000003000001a21ee0ff00", "00000004000001a21ee0ee84"]
            .map(|id| format!("aside_{id:0<56}"))
            .to_vec()
    }

    #[test]
    fn beginnings_tell_ids_apart_and_find_them_again() {
        let ids = ids();
        let shown = beginnings(&ids);
        assert!(shown.iter().all(|shown| shown.len() < 30), "{shown:?}");
        for (id, shown) in ids.iter().zip(&shown) {
            assert_eq!(only(&ids, shown).unwrap(), Some(id.as_str()));
        }
        assert_eq!(beginnings(&ids[..1]), ["aside_00000003"]);
        assert_eq!(beginnings(&["a".to_owned()]), ["a"]);
        assert!(beginnings(&[]).is_empty());
        let several = only(&ids, "aside_00000003").unwrap_err();
        assert!(several.to_string().starts_with("2 letters begin with `aside_00000003`"), "{several}");
        assert_eq!(only(&ids, "aside_9").unwrap(), None);
    }

    #[test]
    fn a_models_letter_is_shown_with_the_digests_of_its_rows_last() {
        let rows = json!([{ "profile": "prof_1", "sha256": "ab12" }]);
        let letter =
            json!({ "type": "computation", "id": "aside_1", "code": "trap", "people": ["prof_1"], "rows": rows });
        insta::assert_snapshot!(one_letter(&letter), @r#"
         what     value
        ──────────────────────
         code     trap
         id       aside_1
         people   ["prof_1"]
         type     computation

        rows:
         profile   sha256
        ──────────────────
         prof_1    ab12
        "#);
    }

    #[test]
    fn how_many_people_a_model_is_asked_about_again_is_said_as_far_as_the_key_may_see_it() {
        for (answer, said) in [
            (json!({ "people": 1 }), Some("1 person")),
            (json!({ "people": 1_200 }), Some("1,200 people")),
            (json!({ "people": 1_200, "masked": "rounded" }), Some("about 1,200 people")),
            (json!({ "masked": "withheld" }), Some("its people")),
            (json!({ "accepted": 1 }), None),
        ] {
            assert_eq!(people_asked_about(&answer).as_deref(), said, "{answer}");
        }
    }

    #[test]
    fn a_letter_is_shown_with_its_record_last() {
        let letter = json!({ "type": "record", "id": "aside_1", "source": "shop", "last_at": "2026-11-21T10:00:00.000Z", "path": null,
            "times": 3, "code": "bad-time", "message": "`x` is not a time", "raw": "{\"a\": 1}" });
        insta::assert_snapshot!(one_letter(&letter), @r#"
         what      value
        ────────────────────────────────────
         code      bad-time
         id        aside_1
         last at   2026-11-21T10:00:00.000Z
         message   `x` is not a time
         source    shop
         times     3
         type      record

        raw:
        {"a": 1}
        "#);
    }
}
