//! Responsible for holding what a guest returned against the contract and its manifest. The host never trusts a guest's
//! numbers: what passes here can be stored without another look.

use std::collections::BTreeSet;

use kith_model::event::{DraftEvent, EventKind};
use kith_model::plugin::{Fitted, Manifest, OutputSpec, PluginFault, PluginKind, Received, Refusal, SourceRequest};
use kith_model::polling::PollTurn;
use kith_model::table::{Column, Table, Texts, Values};

use crate::hidden::Hidden;

/// A fitted state travels with every call and is stored with every fit.
const MAX_STATE_BYTES: usize = 1024 * 1024;
const MAX_METRICS: usize = 64;

/// The longest name of a metric, in bytes.
const MAX_METRIC_NAME_BYTES: usize = 256;

fn invalid<T>(problem: impl Into<String>) -> Result<T, PluginFault> {
    Err(PluginFault::InvalidOutput(problem.into()))
}

/// Whether a table is well formed and holds exactly the manifest's outputs for `rows` rows.
pub(crate) fn outputs(hidden: &Hidden, manifest: &Manifest, rows: usize, table: &Table) -> Result<(), PluginFault> {
    if table.rows != rows {
        return invalid(format!("{} rows came back for {rows}", table.rows));
    }
    if let Err(problem) = table.validate() {
        return invalid(hidden.bounded(&problem.to_string()));
    }
    let declared = |column: &&Column| !manifest.outputs.iter().any(|output| output.name == column.name);
    if let Some(column) = table.columns.iter().find(declared) {
        return invalid(format!("the column `{}` is not among the manifest's outputs", hidden.bounded(&column.name)));
    }
    for output in &manifest.outputs {
        match table.column(&output.name) {
            None => return invalid(format!("the output `{}` is missing", output.name)),
            Some(column) => self::column(hidden, (manifest.kind, output), rows, column)?,
        }
    }
    Ok(())
}

fn column(
    hidden: &Hidden,
    (kind, output): (PluginKind, &OutputSpec),
    rows: usize,
    column: &Column,
) -> Result<(), PluginFault> {
    let name = &output.name;
    let found = column.values.column_type();
    if found != output.column_type {
        // The names of the fields of records are the guest's words.
        let found = hidden.bounded(&format!("{found:?}"));
        return invalid(format!("the output `{name}` is of type {found}; the manifest says {:?}", output.column_type));
    }
    if let (PluginKind::Scorer, Values::Float64(values)) = (kind, &column.values) {
        let bad = (0..rows).find(|row| column.is_valid(*row) && !values[*row].is_finite());
        if let Some(row) = bad {
            return invalid(format!("the score `{name}` of row {row} is {}; it must be finite or null", values[row]));
        }
    }
    if output.values.is_empty() {
        return Ok(());
    }
    let undeclared = match &column.values {
        Values::Text(texts) => undeclared(output, texts, |row| column.is_valid(row)),
        Values::TextList(lists) => undeclared(output, &lists.items, |_| true),
        _ => None,
    };
    match undeclared {
        Some(value) => {
            let value = String::from_utf8_lossy(value);
            invalid(format!("`{}` is not among the declared values of `{name}`", hidden.bounded(&value)))
        }
        None => Ok(()),
    }
}

/// The first of the texts that counts, by its place, and is not among the output's declared values.
fn undeclared<'a>(output: &OutputSpec, texts: &'a Texts, counts: impl Fn(usize) -> bool) -> Option<&'a [u8]> {
    let declared: Vec<&[u8]> = output.values.iter().map(String::as_bytes).collect();
    let words: Vec<u64> = declared.iter().filter_map(|value| word(value, 0, value.len())).collect();
    for (place, ends) in texts.offsets.windows(2).enumerate() {
        // The offsets were validated: not negative, rising, within the data.
        let (start, end) = (ends[0].unsigned_abs() as usize, ends[1].unsigned_abs() as usize);
        let is_declared = match word(&texts.data, start, end) {
            // Which of them it is cannot be predicted, so the search does not end at it.
            Some(word) => words.iter().fold(false, |found, declared| found | (*declared == word)),
            None => declared.contains(&&texts.data[start..end]),
        };
        if !is_declared && counts(place) {
            return Some(&texts.data[start..end]);
        }
    }
    None
}

/// The bytes from `start` to `end` and their number as one word, so that short texts are compared without a call for each;
/// `None` for more than seven bytes.
fn word(data: &[u8], start: usize, end: usize) -> Option<u64> {
    let length = end - start;
    if length > 7 {
        return None;
    }
    let bytes = match data[start..].first_chunk::<8>() {
        Some(bytes) => u64::from_le_bytes(*bytes) & ((1 << (8 * length)) - 1),
        None => data[start..end].iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
    };
    Some(bytes | (length as u64) << 56)
}

/// Whether a fit's result may be kept.
pub(crate) fn fitted(hidden: &Hidden, fitted: &Fitted) -> Result<(), PluginFault> {
    if fitted.state.len() > MAX_STATE_BYTES {
        return invalid(format!("the state has {} bytes; at most {MAX_STATE_BYTES} are kept", fitted.state.len()));
    }
    if fitted.metrics.len() > MAX_METRICS {
        return invalid(format!("{} metrics; at most {MAX_METRICS} are kept", fitted.metrics.len()));
    }
    match fitted.metrics.iter().find(|(_, value)| !value.is_finite()) {
        Some((name, value)) => invalid(format!("the metric `{}` is {value}; it must be finite", hidden.bounded(name))),
        None => names_of_metrics(hidden, &fitted.metrics),
    }
}

fn names_of_metrics(hidden: &Hidden, metrics: &[(String, f64)]) -> Result<(), PluginFault> {
    let mut seen = BTreeSet::new();
    for (name, _) in metrics {
        if name.len() > MAX_METRIC_NAME_BYTES {
            let length = name.len();
            return invalid(format!("a metric's name has {length} bytes; at most {MAX_METRIC_NAME_BYTES} are kept"));
        }
        if !seen.insert(name) {
            return invalid(format!("there are two metrics `{}`; each has a name of its own", hidden.bounded(name)));
        }
    }
    Ok(())
}

/// Whether the manifest lets a channel tell of these facts. What a connector emits and may not is refused by the kernel record by
/// record, because a sender's request must not lose what is right in it.
pub(crate) fn receipts<'e>(
    hidden: &Hidden,
    manifest: &Manifest,
    events: impl IntoIterator<Item = &'e DraftEvent>,
) -> Result<(), PluginFault> {
    let Some(names) = manifest.emitted_names() else { return Ok(()) };
    let mut tracked = events.into_iter().filter(|event| event.kind == EventKind::Track);
    match tracked.find(|event| !names.contains(&event.name)) {
        Some(event) => invalid(format!(
            "the event `{}` is not among those that `emits` under [capabilities] of the manifest names",
            hidden.bounded(&event.name)
        )),
        None => Ok(()),
    }
}

/// Whether a connector's account of a request adds up.
pub(crate) fn received(request: &SourceRequest, received: &Received) -> Result<(), PluginFault> {
    let size = request.body.len();
    if received.consumed > size {
        return invalid(format!("{} bytes consumed of {size}", received.consumed));
    }
    if request.complete && received.consumed != size {
        return invalid(format!("{} bytes consumed of {size}, though the input is complete", received.consumed));
    }
    if let Some(answer) = &received.answer {
        status(answer.status, 200..=599)?;
        if answer.content_type.bytes().any(|byte| byte.is_ascii_control()) {
            return invalid("the answer's content type holds control characters");
        }
    }
    Ok(())
}

/// The longest cursor that is kept.
const MAX_CURSOR_BYTES: usize = 64 * 1024;

/// Whether a turn of a poll can be carried out. How many requests a page takes over its rounds is counted by whoever sends them.
pub(crate) fn turn(turn: &PollTurn) -> Result<(), PluginFault> {
    match turn {
        PollTurn::Send(requests) if requests.is_empty() => {
            invalid("a turn of a poll has neither a page nor a request to send")
        }
        PollTurn::Page(page) if page.cursor.len() > MAX_CURSOR_BYTES => {
            invalid(format!("the cursor has {} bytes; at most {MAX_CURSOR_BYTES} are kept", page.cursor.len()))
        }
        PollTurn::Send(_) | PollTurn::Page(_) => Ok(()),
    }
}

/// Whether as many `what` came back as there were things to answer.
pub(crate) fn one_each(what: &str, asked: usize, came: usize) -> Result<(), PluginFault> {
    if came == asked { Ok(()) } else { invalid(format!("{came} {what} came back for {asked}")) }
}

/// Whether a refusal has a status that says so.
pub(crate) fn refusal(refusal: &Refusal) -> Result<(), PluginFault> {
    status(refusal.status, 400..=599)
}

fn status(status: u16, range: std::ops::RangeInclusive<u16>) -> Result<(), PluginFault> {
    if range.contains(&status) {
        return Ok(());
    }
    invalid(format!("status {status}; it must be from {} to {}", range.start(), range.end()))
}

#[cfg(test)]
mod tests {
    use kith_model::table::{ColumnType, Lists};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::manifest::Parted;

    /// Regression: the fields of records that came back were told by their names, however many and whatever they said.
    #[test]
    fn records_that_come_back_are_refused_in_few_words_and_without_what_is_hidden() {
        const SECRET: &str = "s3cret-of-many-letters";
        let parted = Parted { shown: json!({}), unshown: json!({ "token": SECRET }), paths: Default::default() };
        let manifest = crate::parse_manifest(crate::guests::SCORER).unwrap();
        let field = |number: usize| Column {
            name: format!("{SECRET} {number}"),
            validity: None,
            values: Values::Int64(Vec::new()),
        };
        let records = Table { rows: 0, columns: (0..1_000).map(field).collect() };
        let values = Values::Records(Lists { offsets: vec![0], items: records });
        let columns = vec![Column { name: manifest.outputs[0].name.clone(), validity: None, values }];
        let refused =
            outputs(&Hidden::new(&parted), &manifest, 0, &Table { rows: 0, columns }).unwrap_err().to_string();
        assert!(refused.contains("is of type Records("), "{refused}");
        assert!(!refused.contains(SECRET) && refused.len() < 5_000, "{} bytes", refused.len());
    }

    /// A column of offsets and items as a guest may write them.
    fn any_column() -> impl Strategy<Value = Values> {
        let offsets = || {
            prop_oneof![
                prop::collection::vec(-1..5_i32, 0..4),
                prop::collection::vec(prop_oneof![Just(i32::MIN), Just(-1), Just(0), Just(2), Just(i32::MAX)], 0..4),
            ]
        };
        let texts = move || {
            let data = prop_oneof![prop::collection::vec(any::<u8>(), 0..5), "[aé]{0,3}".prop_map(String::into_bytes)];
            (offsets(), data).prop_map(|(offsets, data)| Texts { offsets, data })
        };
        let single = move || {
            prop_oneof![
                prop::collection::vec(any::<u8>(), 0..3).prop_map(Values::Boolean),
                prop::collection::vec(any::<i64>(), 0..5).prop_map(Values::Int64),
                texts().prop_map(Values::Text),
            ]
        };
        let fields =
            prop::collection::vec(("[ab]", prop::option::of(prop::collection::vec(any::<u8>(), 0..2)), single()), 0..3);
        let records = (offsets(), fields).prop_map(|(offsets, fields)| {
            let field = |(name, validity, values)| Column { name, validity, values };
            // As they are taken over from a guest.
            let rows = offsets.last().map_or(0, |last| last.unsigned_abs() as usize);
            Values::Records(Lists { offsets, items: Table { rows, columns: fields.into_iter().map(field).collect() } })
        });
        let lists = (offsets(), prop::collection::vec(any::<i64>(), 0..5));
        let of_texts = (offsets(), texts());
        prop_oneof![
            single(),
            records,
            lists.prop_map(|(offsets, items)| Values::Int64List(Lists { offsets, items })),
            of_texts.prop_map(|(offsets, items)| Values::TextList(Lists { offsets, items })),
        ]
    }

    proptest! {
        /// Whatever buffers come back are refused, or each of their values can be read.
        #[test]
        fn what_is_valid_can_be_read(
            values in any_column(),
            validity in prop::option::of(prop::collection::vec(any::<u8>(), 0..2)),
            rows in 0..4_usize,
        ) {
            let is_of_nothing = matches!(&values, Values::Records(lists) if lists.items.columns.is_empty());
            let table = Table { rows, columns: vec![Column { name: "x".into(), validity, values }] };
            // Records without fields are none that a manifest declares, and take no memory until they are read.
            if table.validate().is_ok() && !is_of_nothing {
                (0..rows).for_each(|row| drop(table.columns[0].cell(row)));
            }
        }
    }

    #[test]
    fn a_metric_has_a_short_name_of_its_own() {
        let of = |names: &[&str]| {
            let metrics = names.iter().map(|name| ((*name).to_owned(), 0.5)).collect();
            fitted(&Hidden::default(), &Fitted { state: Vec::new(), metrics })
        };
        let longest = "m".repeat(MAX_METRIC_NAME_BYTES);
        assert_eq!(of(&["auc", &longest]), Ok(()));
        assert!(of(&["auc", "loss", "auc"]).unwrap_err().to_string().contains("two metrics `auc`"));
        assert!(of(&[&format!("{longest}m")]).unwrap_err().to_string().contains("257 bytes"));
    }

    #[test]
    fn a_text_is_declared_or_found_whatever_its_length() {
        let values = ["", "a", "abcdefg", "abcdefgh", "a longer value", "ä\0"].map(String::from);
        let output = OutputSpec {
            name: "tier".to_owned(),
            column_type: ColumnType::Text,
            values: values.to_vec(),
            description: String::new(),
            category: String::new(),
        };
        let find = |found: &[&str]| {
            let mut texts = Texts { offsets: vec![0], data: Vec::new() };
            for text in found {
                texts.data.extend_from_slice(text.as_bytes());
                texts.offsets.push(i32::try_from(texts.data.len()).unwrap());
            }
            undeclared(&output, &texts, |_| true).map(|text| String::from_utf8_lossy(text).into_owned())
        };
        let all: Vec<&str> = values.iter().map(String::as_str).collect();
        assert_eq!(find(&all), None);
        let absent = Texts { offsets: vec![0, 1], data: b"b".to_vec() };
        assert_eq!(undeclared(&output, &absent, |_| false), None);
        for other in ["b", "a\0", "abcdef", "abcdefgi", "abcdefghi", "ä", "a longer"] {
            assert_eq!(find(&[&all[..], &[other]].concat()).as_deref(), Some(other));
            assert_eq!(find(&[&[other], &all[..]].concat()).as_deref(), Some(other));
        }
    }
}
