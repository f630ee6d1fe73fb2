//! `kith tracking`: what sources are expected to send.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::args::{PlanCheckArgs, TrackingCommand};
use super::client::{Client, encode};
use super::output::{self, AnswerFormat, count, cut, field, number};
use super::{Failure, json_argument, print_json};

/// What one request of records has in bytes at most, about: half of what the server takes.
const MAX_PART_BYTES: usize = 400 << 10;

/// Mistakes that are shown; all are counted.
const MAX_SHOWN: usize = 100;

pub(crate) fn run(command: &TrackingCommand, client: &Client, format: AnswerFormat) -> Result<(), Failure> {
    match command {
        TrackingCommand::List => {
            let plans = client.list("/api/v1/tracking-plans", u64::MAX)?;
            if format.is_json() { print_json(&json!({ "items": plans })) } else { output::say(table(&plans)) }
        }
        TrackingCommand::Show { plan } => {
            let mut plan = client.get(&path(plan.as_str()))?;
            if let Some(plan) = plan.as_object_mut().filter(|_| !format.is_json()) {
                // What `set` takes.
                plan.remove("name");
                plan.remove("updated_at");
            }
            print_json(&plan)
        }
        TrackingCommand::Set { plan, document, merge } => {
            let (path, document) = (path(plan.as_str()), json_argument("the plan", document)?);
            let answer = if *merge { client.patch(&path, &document)? } else { client.put(&path, &document)? };
            if format.is_json() { print_json(&answer) } else { output::say(table(&[answer])) }
        }
        TrackingCommand::Remove { plan } => {
            client.delete(&path(plan.as_str()))?;
            if format.is_json() {
                print_json(&json!({ "removed": plan }))
            } else {
                output::say(format_args!("removed {plan}"))
            }
        }
        TrackingCommand::Check(args) => check(args, client, format),
        TrackingCommand::Suggest { event, source } => {
            let source = source.as_ref().map_or_else(String::new, |source| format!("&source={source}"));
            let found = client.get(&format!("/api/v1/catalog/schema?event={}{source}", encode(event)))?;
            if format.is_json() {
                return print_json(&found);
            }
            // What `set --merge` takes.
            let event = json!({ event: { "policy": "flag", "schema": found["schema"] } });
            print_json(&json!({ "events": event }))
        }
    }
}

fn path(plan: &str) -> String {
    format!("/api/v1/tracking-plans/{}", encode(plan))
}

fn table(plans: &[Value]) -> String {
    let rows = plans.iter().map(|plan| {
        let sources = plan.get("sources").and_then(Value::as_array);
        let sources = sources.map_or_else(
            || "all others".to_owned(),
            |sources| sources.iter().map(output::plain).collect::<Vec<_>>().join(", "),
        );
        let events = plan.get("events").and_then(Value::as_object).map_or(0, Map::len);
        let traits = plan
            .get("traits")
            .filter(|traits| !traits.is_null())
            .map_or_else(String::new, |traits| field(traits, "policy"));
        vec![
            field(plan, "name"),
            sources,
            count(events as u64),
            field(plan, "unplanned"),
            traits,
            field(plan, "updated_at"),
        ]
    });
    output::table(&["plan", "sources", "events", "unplanned", "traits", "updated"], rows.collect())
}

/// A record of a file as the plan sees it, and where it stands in it.
#[derive(Debug, PartialEq)]
struct SentRecord {
    /// The line, from 1; of a list its index, from 0.
    place: usize,
    record: Value,
}

/// The records of a text: a list, a batch, one record, or a line each.
fn records(text: &str) -> Result<Vec<SentRecord>, String> {
    let text = text.trim_start_matches('\u{feff}');
    let numbered = |list: Vec<Value>| {
        list.into_iter()
            .enumerate()
            .map(|(place, record)| SentRecord { place, record: seen_by_plan(&record) })
            .collect()
    };
    match serde_json::from_str::<Value>(text) {
        Ok(Value::Array(list)) => return Ok(numbered(list)),
        Ok(Value::Object(mut batch)) if batch.get("batch").is_some_and(Value::is_array) => {
            let Some(Value::Array(list)) = batch.remove("batch") else { return Ok(Vec::new()) };
            return Ok(numbered(list));
        }
        Ok(record) => return Ok(vec![SentRecord { place: 1, record: seen_by_plan(&record) }]),
        Err(_) => {}
    }
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let read = lines.map(|(place, line)| {
        let record = serde_json::from_str(line).map_err(|error| format!("line {}: {error}", place + 1))?;
        Ok(SentRecord { place: place + 1, record: seen_by_plan(&record) })
    });
    read.collect()
}

fn seen_by_plan(record: &Value) -> Value {
    let members = ["type", "event", "name", "properties", "traits"].into_iter();
    let kept =
        members.filter_map(|name| Some((name.to_owned(), record.get(name).filter(|value| !value.is_null())?.clone())));
    Value::Object(kept.collect())
}

/// What a file comes to by a plan.
#[derive(Default)]
struct Total {
    sums: Map<String, Value>,
    mistakes: Vec<Value>,
}

fn check(args: &PlanCheckArgs, client: &Client, format: AnswerFormat) -> Result<(), Failure> {
    let draft = args.draft.as_deref().map(|draft| json_argument("the draft", draft)).transpose()?;
    let records = read(&args.file)?;
    let mut total = Total::default();
    for part in parts(&records) {
        let bodies: Vec<&Value> = part.iter().map(|tried| &tried.record).collect();
        let mut body = json!({ "records": bodies });
        if let Some(draft) = &draft {
            body["plan"] = draft.clone();
        }
        total.add(part, &client.post(&format!("{}/check", path(args.plan.as_str())), &body)?);
    }
    let rejected = total.sums.get("rejected").and_then(Value::as_u64).unwrap_or_default();
    let mut answer = Value::Object(total.sums);
    answer["mistakes"] = total.mistakes.into();
    if format.is_json() {
        print_json(&answer)?
    } else {
        output::say(report(&answer))?
    }
    match rejected {
        0 => Ok(()),
        rejected => Err(Failure::Rejected(format!("{} records would be rejected", count(rejected)))),
    }
}

fn read(file: &Path) -> Result<Vec<SentRecord>, Failure> {
    let failed = |source| Failure::File { what: "read", path: file.to_owned(), source };
    let text = std::fs::read_to_string(file).map_err(failed)?;
    records(&text).map_err(|problem| Failure::Usage(format!("{}: {problem}", file.display())))
}

/// Records in parts that fit a request; at least one, so that an empty file is answered too.
fn parts(records: &[SentRecord]) -> Vec<&[SentRecord]> {
    let (mut parts, mut from, mut bytes) = (Vec::new(), 0, 0);
    for (place, tried) in records.iter().enumerate() {
        let size = tried.record.to_string().len();
        if bytes + size > MAX_PART_BYTES && place > from {
            parts.push(&records[from..place]);
            (from, bytes) = (place, 0);
        }
        bytes += size;
    }
    parts.push(&records[from..]);
    parts
}

impl Total {
    fn add(&mut self, part: &[SentRecord], answer: &Value) {
        for name in ["records", "as_planned", "allowed", "flagged", "rejected"] {
            let sum = self.sums.get(name).and_then(Value::as_u64).unwrap_or_default() + number(answer, name);
            self.sums.insert(name.to_owned(), sum.into());
        }
        for mistake in answer.get("mistakes").and_then(Value::as_array).into_iter().flatten() {
            if self.mistakes.len() == MAX_SHOWN {
                return;
            }
            let mut mistake = mistake.clone();
            let place = usize::try_from(number(&mistake, "index")).ok().and_then(|index| part.get(index));
            if let (Some(tried), Some(mistake)) = (place, mistake.as_object_mut()) {
                mistake.remove("index");
                mistake.insert("record".to_owned(), tried.place.into());
            }
            self.mistakes.push(mistake);
        }
    }
}

fn report(answer: &Value) -> String {
    let sums = ["records", "as_planned", "allowed", "flagged", "rejected"];
    let mut text = output::table(
        &["records", "as planned", "allowed", "flagged", "rejected"],
        vec![sums.map(|name| count(number(answer, name))).to_vec()],
    );
    let mistakes = answer.get("mistakes").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if !mistakes.is_empty() {
        let rows = mistakes.iter().map(|mistake| {
            let message = cut(&field(mistake, "message"), 80);
            vec![
                field(mistake, "record"),
                field(mistake, "policy"),
                field(mistake, "code"),
                cut(&field(mistake, "place"), 40),
                message,
            ]
        });
        text.push_str("\n\n");
        text.push_str(&output::table(&["record", "policy", "code", "place", "message"], rows.collect()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_found_in_lines_lists_and_batches() {
        let record = json!({ "type": "track", "event": "A", "userId": "u", "properties": { "n": 1 } });
        let seen = json!({ "type": "track", "event": "A", "properties": { "n": 1 } });
        let places = |text: &str| -> Vec<usize> {
            let found = records(text).unwrap();
            assert!(found.iter().all(|tried| tried.record == seen), "{text}");
            found.iter().map(|tried| tried.place).collect()
        };
        assert_eq!(places(&record.to_string()), [1]);
        assert_eq!(places(&json!([record, record]).to_string()), [0, 1]);
        assert_eq!(places(&json!({ "batch": [record] }).to_string()), [0]);
        assert_eq!(places(&format!("\u{feff}{record}\n\n{record}\n")), [1, 3]);
        assert_eq!(records("{}\nnot json\n").unwrap_err().split(':').next(), Some("line 2"));
        assert!(records("").unwrap().is_empty());
    }

    #[test]
    fn parts_fit_a_request_and_lose_nothing() {
        let of = |bytes: usize| SentRecord { place: bytes, record: json!({ "name": "x".repeat(bytes) }) };
        for sizes in
            [vec![], vec![10, 20], vec![MAX_PART_BYTES + 5, 1, MAX_PART_BYTES + 9], vec![MAX_PART_BYTES / 2; 7]]
        {
            let all: Vec<SentRecord> = sizes.iter().map(|size| of(*size)).collect();
            let parts = parts(&all);
            assert_eq!(parts.iter().map(|part| part.len()).sum::<usize>(), all.len());
            let size = |part: &[SentRecord]| part.iter().map(|tried| tried.record.to_string().len()).sum::<usize>();
            assert!(parts.iter().all(|part| part.len() <= 1 || size(part) <= MAX_PART_BYTES));
        }
    }
}
