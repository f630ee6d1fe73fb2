//! What every plugin of its kind has to stand, whatever it is for: no rows at all, nothing in any column, odd and huge texts, extreme
//! numbers, the same call again, and batches that are cut at every size. What it refuses in so many words is well; a fault of its
//! own is not, and neither is another answer to the same input.

use std::path::PathBuf;

use kith_host::{Abi, Plugin};
use kith_model::plugin::{Manifest, SourceRequest};
use kith_model::table::ColumnType;
use kith_model::time::ManualClock;
use serde_json::{Map, Value, json};

use super::{CaseOutcome, CaseReport, Readable, difference, name_of, read, together};
use crate::cli::Failure;
use crate::cli::plugin::local::{self, Input, Prepared};

/// What it is called beside the cases.
const NAME: &str = "conformance";

/// Inputs of a case that are tried beside the odd ones.
const MOST_OWN: usize = 8;

/// A text that is huge for a plugin, in bytes.
const HUGE: usize = 32 << 10;

/// A text of what people seldom type: line ends, quotes, nothing, another direction of writing, marks that belong to a letter.
const ODD: &str = "\"'\\ \r\n\t\u{0}\u{202e}\u{feff}a\u{301}\u{1f469}\u{200d}\u{1f680} <b> ${x} {{x}} %00 ';--";

/// How many items a long list has.
const LONG: usize = 1_000;

/// Try a plugin as its first case that passed without a fault or a refusal has it installed. `None` where there is none.
pub(super) fn check(
    plugin: &Plugin,
    files: &[PathBuf],
    reports: &[CaseReport],
    clock: &ManualClock,
) -> Option<CaseReport> {
    let goes_well = |report: &CaseReport| {
        let ends = |line: &Value| ["fault", "refused"].iter().any(|end| line.get(end).is_some());
        report.has_passed() && !report.output.iter().any(ends)
    };
    let good = files.iter().zip(reports).find(|(_, report)| goes_well(report));
    let Readable { setup, now, input, .. } = read(plugin, good?.0).ok()?;
    clock.set(now);
    let tried = local::prepare(plugin, setup, now).and_then(|prepared| tried(plugin, prepared, input));
    let outcome = match tried {
        Ok(None) => CaseOutcome::Passed,
        Ok(Some(difference)) => CaseOutcome::Differs(difference),
        Err(failure) => CaseOutcome::Unusable(failure.to_string()),
    };
    Some(CaseReport { name: NAME.to_owned(), outcome, output: Vec::new(), remarks: Vec::new(), figures: None })
}

/// What it does not stand.
fn tried(plugin: &Plugin, mut prepared: Prepared<'_>, own: Input) -> Result<Option<String>, Failure> {
    let manifest = plugin.manifest();
    match own {
        Input::Rows { fit, rows } => {
            if let Some(rows) = fit {
                prepared.learn(&rows)?;
            }
            rows_stood(&prepared, odd_rows(manifest).into_iter().chain(rows.into_iter().take(MOST_OWN)).collect())
        }
        Input::Request(request) => requests_stood(plugin, &prepared, &request),
        Input::Messages(messages) => messages_stood(&prepared, odd_messages(manifest, &messages)),
    }
}

fn rows_stood(prepared: &Prepared<'_>, rows: Vec<Value>) -> Result<Option<String>, Failure> {
    if let Some(fault) = prepared.fault_of_no_rows()?.filter(is_its_own) {
        return Ok(Some(format!("a call without a row: {}", words(&fault))));
    }
    let alone = prepared.answers_cut(&rows, 1)?;
    let input = Input::Rows { fit: None, rows: rows.clone() };
    if let Some((place, fault)) = alone.iter().enumerate().find(|(_, line)| is_its_own(line)) {
        return Ok(Some(format!("{}: {}", name_of(&input, place), words(fault))));
    }
    for size in 1..=rows.len() {
        let cut = prepared.answers_cut(&rows, size)?;
        if let Some(difference) = difference((&alone[..], &cut[..]), 0.0, |place| name_of(&input, place)) {
            return Ok(Some(format!("{}\n{difference}", otherwise("row", size))));
        }
    }
    Ok(None)
}

fn requests_stood(plugin: &Plugin, prepared: &Prepared<'_>, own: &SourceRequest) -> Result<Option<String>, Failure> {
    let requests: Vec<SourceRequest> =
        odd_bodies().into_iter().map(|body| SourceRequest { body, ..own.clone() }).collect();
    for request in &requests {
        let body = String::from_utf8_lossy(&request.body).chars().take(40).collect::<String>();
        let name = format!("a body of {} bytes, {body:?}", request.body.len());
        let ask = || prepared.call(&Input::Request(Box::new(request.clone())));
        let first = ask()?.output;
        if let Some(fault) = first.iter().find(|line| is_its_own(line)) {
            return Ok(Some(format!("{name}: {}", words(fault))));
        }
        if let Some(difference) =
            difference((&first[..], &ask()?.output[..]), 0.0, |place| format!("line {}", place + 1))
        {
            return Ok(Some(format!("{name}, sent again:\n{difference}")));
        }
    }
    let policy = prepared.policy();
    if plugin.abi() == Abi::V0_1 || !plugin.manifest().capabilities.http.is_empty() || policy.kv_bytes.value > 0 {
        // No server calls it for several.
        return Ok(None);
    }
    Ok(match together::requests_cut(prepared, requests)? {
        Some(CaseOutcome::Differs(difference)) => Some(difference),
        _ => None,
    })
}

fn messages_stood(prepared: &Prepared<'_>, messages: Vec<Value>) -> Result<Option<String>, Failure> {
    let cut = |size: usize| -> Result<Vec<Value>, Failure> {
        let calls = messages.chunks(size).map(|some| prepared.call(&Input::Messages(some.to_vec())));
        Ok(calls.collect::<Result<Vec<_>, Failure>>()?.into_iter().flat_map(|report| report.output).collect())
    };
    let name = |place: usize| format!("message {}", place + 1);
    let alone = cut(1)?;
    if let Some((place, fault)) = alone.iter().enumerate().find(|(_, line)| is_its_own(line)) {
        let message = messages.get(place).map(|message| message.to_string().chars().take(100).collect::<String>());
        return Ok(Some(format!("{}, {}: {}", name(place), message.unwrap_or_default(), words(fault))));
    }
    for size in 1..=messages.len() {
        if let Some(difference) = difference((&alone[..], &cut(size)?[..]), 0.0, name) {
            return Ok(Some(format!("{}\n{difference}", otherwise("message", size))));
        }
    }
    Ok(None)
}

/// Whether a line is a fault of the plugin's own.
fn is_its_own(line: &Value) -> bool {
    line["fault"]["owner"] == "plugin"
}

fn words(fault: &Value) -> String {
    let part = |name: &str| fault["fault"][name].as_str().unwrap_or_default().to_owned();
    let (code, message) = (part("code"), part("message"));
    if message.starts_with(&format!("{code}: ")) { message } else { format!("{code}: {message}") }
}

fn otherwise(what: &str, size: usize) -> String {
    match size {
        1 => format!("where each {what} is asked about again, something else comes of it:"),
        size => format!("in calls of {size} {what}s something else comes of them than of each alone:"),
    }
}

/// A row without anything, and rows of values that a plugin seldom meets.
fn odd_rows(manifest: &Manifest) -> Vec<Value> {
    let columns: Vec<(&String, Vec<Value>)> =
        manifest.inputs.iter().map(|input| (&input.name, odd(&input.column_type))).collect();
    let most = columns.iter().map(|(_, values)| values.len()).max().unwrap_or_default();
    let row = |at: usize| -> Value {
        let cells = columns.iter().map(|(name, values)| ((*name).clone(), values[at % values.len()].clone()));
        Value::Object(cells.collect::<Map<String, Value>>())
    };
    std::iter::once(json!({})).chain((0..most).map(row)).collect()
}

/// Values of a type that a plugin seldom meets.
fn odd(of: &ColumnType) -> Vec<Value> {
    match of {
        ColumnType::Boolean => vec![json!(false), json!(true)],
        ColumnType::Int64 => vec![json!(0), json!(-1), json!(i64::MAX), json!(i64::MIN)],
        ColumnType::Float64 => vec![json!(0), json!(-1.5), json!(f64::MAX), json!(f64::MIN), json!(f64::MIN_POSITIVE)],
        ColumnType::Timestamp => ["0001-01-01T00:00:00.000Z", "1970-01-01T00:00:00.000Z", "9999-12-30T22:00:00.000Z"]
            .map(Value::from)
            .to_vec(),
        ColumnType::Text => vec![json!(""), json!(ODD), json!("x".repeat(HUGE))],
        ColumnType::Int64List => lists(odd(&ColumnType::Int64)),
        ColumnType::Float64List => lists(odd(&ColumnType::Float64)),
        ColumnType::TimestampList => lists(odd(&ColumnType::Timestamp)),
        // A thousand huge texts would be one of the limits, and no text.
        ColumnType::TextList => lists(vec![json!(""), json!(ODD)]),
        ColumnType::Records(fields) => {
            let record = |at: usize| -> Value {
                let field = |name: &String, values: Vec<Value>| (name.clone(), values[at % values.len()].clone());
                let fields = fields.iter().map(|of| match &of.column_type {
                    ColumnType::Text => field(&of.name, vec![json!(""), json!(ODD)]),
                    of_field => field(&of.name, odd(of_field)),
                });
                Value::Object(fields.collect::<Map<String, Value>>())
            };
            lists((0..5).map(record).chain([json!({})]).collect())
        }
    }
}

/// No item, each of these, and very many.
fn lists(items: Vec<Value>) -> Vec<Value> {
    let many = items.iter().cycle().take(LONG).cloned().collect();
    vec![json!([]), Value::Array(items), Value::Array(many)]
}

/// What may come of senders who mean no good, or are broken.
fn odd_bodies() -> Vec<Vec<u8>> {
    let text = |text: &str| text.as_bytes().to_vec();
    vec![
        Vec::new(),
        text("null"),
        text("{}"),
        text("[]"),
        text("[null, {}, [], 1e309, -0, 9223372036854775808]"),
        json!([{ "id": ODD, "type": ODD, "userId": "x".repeat(HUGE) }]).to_string().into_bytes(),
        text(&"[".repeat(10_000)),
        text(&"x".repeat(HUGE)),
        vec![0; 64],
        vec![0xff, 0xfe, 0x80, 0xc0, b'"'],
    ]
}

/// The first message of a case with a payload, recipients and inputs that a channel seldom meets; each with an id of its own.
fn odd_messages(manifest: &Manifest, own: &[Value]) -> Vec<Value> {
    let first = own.first().and_then(Value::as_object).cloned().unwrap_or_default();
    let of_recipient = |value: &Value| -> Value {
        let kinds = first.get("recipient").and_then(Value::as_object).into_iter().flatten();
        Value::Object(kinds.map(|(kind, _)| (kind.clone(), value.clone())).collect::<Map<String, Value>>())
    };
    let of_payload = |value: &Value| -> Value {
        let keys = first.get("payload").and_then(Value::as_object).into_iter().flatten();
        Value::Object(keys.map(|(key, _)| (key.clone(), value.clone())).collect::<Map<String, Value>>())
    };
    let inputs = odd_rows(manifest);
    let long = json!("x".repeat(HUGE));
    let variants = [
        ("payload", json!({})),
        ("payload", of_payload(&json!(ODD))),
        ("payload", of_payload(&long)),
        ("payload", of_payload(&Value::Null)),
        ("recipient", json!({})),
        ("recipient", of_recipient(&json!(""))),
        ("recipient", of_recipient(&json!(ODD))),
    ];
    let variants = variants.into_iter().chain(inputs.into_iter().map(|row| ("inputs", row)));
    let message = |((member, value), number): ((&str, Value), u32)| {
        let mut message = first.clone();
        message.remove("answers");
        message.insert(member.to_owned(), value);
        message.insert("id".to_owned(), json!(format!("odd-{number}")));
        Value::Object(message)
    };
    variants.zip(1..).map(message).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::digits;

    #[test]
    fn every_type_has_values_that_its_column_takes() {
        let fields = ["boolean", "int64", "float64", "timestamp", "text"];
        let types = fields.into_iter().chain(["int64-list", "float64-list", "timestamp-list", "text-list"]);
        let inputs: String = types
            .map(|of| {
                format!(
                    "[inputs.{0}]\nexpression = \"traits.x\"\ntype = \"{of}\"\nreason = \"x\"\n",
                    of.replace('-', "_")
                )
            })
            .collect();
        let records = fields.map(|of| format!("{of} = \"{of}\"")).join(", ");
        let text = format!(
            "[plugin]\nid = \"acme/try\"\nversion = \"0.1.0\"\nkind = \"tag-model\"\nabi = \"0.2\"\nkernel = \">=0.1\"\n\
             title = \"Try\"\ndescription = \"To try\"\nlicense = \"Apache-2.0\"\n{inputs}[inputs.records]\n\
             expression = \"traits.x\"\ntype = \"records\"\nfields = {{ {records} }}\nreason = \"x\"\n\
             [outputs.level]\ntype = \"text\"\ndescription = \"A level\""
        );
        let manifest = kith_host::parse_manifest(&text).unwrap();
        let rows = odd_rows(&manifest);
        assert_eq!((rows.len(), &rows[0]), (6, &json!({})));
        assert!(rows.iter().skip(1).all(|row| row.as_object().is_some_and(|row| row.len() == manifest.inputs.len())));
        for (place, row) in rows.iter().enumerate().skip(1) {
            for input in &manifest.inputs {
                let value = kith_features::Value::from_json_text(&digits::line(&row[&input.name]));
                let cell = value.to_cell(&input.column_type, &kith_features::Zone::utc());
                assert!(cell.is_ok_and(|cell| cell != kith_model::table::Cell::Null), "{} of row {place}", input.name);
            }
        }
    }

    #[test]
    fn only_a_fault_of_the_plugins_own_is_one() {
        let fault = |owner: &str| json!({ "fault": { "code": "trap", "owner": owner, "message": "trap: boom" } });
        assert!(is_its_own(&fault("plugin")) && !is_its_own(&fault("request")) && !is_its_own(&json!({ "level": 1 })));
        assert_eq!(words(&fault("plugin")), "trap: boom");
    }

    #[test]
    fn messages_differ_from_the_cases_in_one_member_each() {
        let text = "[plugin]\nid = \"acme/try\"\nversion = \"0.1.0\"\nkind = \"channel\"\nabi = \"0.2\"\nkernel = \">=0.1\"\n\
                    title = \"Try\"\ndescription = \"To try\"\nlicense = \"Apache-2.0\"\n";
        let manifest = kith_host::parse_manifest(text).unwrap();
        let own = json!({ "id": "m1", "recipient": { "email": "a@b.c" }, "payload": { "text": "hi" }, "answers": [] });
        let messages = odd_messages(&manifest, &[own]);
        assert_eq!(messages.len(), 8);
        assert_eq!((&messages[0]["payload"], &messages[0]["recipient"]), (&json!({}), &json!({ "email": "a@b.c" })));
        assert_eq!((&messages[5]["recipient"], &messages[5]["id"]), (&json!({ "email": "" }), &json!("odd-6")));
        assert!(messages.iter().all(|message| message.get("answers").is_none()));
    }
}
