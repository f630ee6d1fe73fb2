//! What the JSON Schema of the configuration cannot say, found when the source is installed or changed instead of at its first
//! file.

use kith_plugin_sdk::{Failure, Problem, config};

use crate::header::Duplicates;
use crate::settings::Settings;

/// Whether files could be read with a configuration.
pub(crate) fn validate(config: &str) -> Result<(), Vec<Problem>> {
    let settings: Settings = config::read(config)?;
    let mut problems = Vec::new();
    problems.extend(settings.delimiter().err().map(|failure| Problem::new("delimiter", words(failure))));
    problems.extend(settings.escape().err().map(|failure| Problem::new("escape", words(failure))));
    problems.extend(settings.encoding().err().map(|failure| Problem::new("encoding", words(failure))));
    problems.extend(settings.quote().err().map(|failure| Problem::new("quote", words(failure))));
    let further = settings.clashes().into_iter().chain(settings.far_shifts());
    problems.extend(further.map(|(key, message)| Problem::new(key, message)));
    if !settings.header && settings.columns.is_empty() {
        let message = "without a header line the configuration must name the `columns`";
        problems.push(Problem::new("columns", message));
    }
    problems.extend(settings.signature.iter().flat_map(|signature| signature.problems("signature")));
    match settings.mapping() {
        Ok(mapping) => {
            let is_unknown = |column: &&String| !settings.columns.is_empty() && !settings.columns.contains(column);
            let unknown = mapping.columns.iter().filter(is_unknown);
            problems.extend(unknown.map(|column| {
                Problem::new("columns", format!("the column `{column}` is used and is not among the `columns`"))
            }));
            let count = |column: &&String| settings.columns.iter().filter(|named| named == column).count();
            let is_refused = settings.duplicate_columns == Duplicates::Refuse;
            let doubled = mapping.columns.iter().filter(|column| is_refused && count(column) > 1);
            problems.extend(doubled.map(|column| {
                Problem::new(
                    "columns",
                    format!("the column `{column}` is used and is among the `columns` several times"),
                )
            }));
        }
        Err(failure) => {
            let message = words(failure);
            problems.push(Problem::new(key_of(&message), message));
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

fn words(failure: Failure) -> String {
    match failure {
        Failure::BadInput(words)
        | Failure::Transient(words)
        | Failure::Permanent(words)
        | Failure::UnreadableState(words) => words,
    }
}

/// Which key a mapping's failure is about: each names it in its words.
fn key_of(message: &str) -> &'static str {
    let keys = [
        ("`consent`", "consent"),
        ("`event`", "event"),
        ("`identifiers`", "identifiers"),
        ("`decimal`", "decimal"),
        ("`thousands`", "thousands"),
        ("zone", "time.zone"),
        ("format", "time.formats"),
        ("time", "time"),
    ];
    keys.into_iter().find(|(word, _)| message.contains(word)).map_or("", |(_, key)| key)
}

#[cfg(test)]
mod tests {
    use kith_plugin_sdk::{Connector as _, Request};
    use serde_json::{Value, json};

    use super::*;

    fn keys(config: Value) -> Vec<String> {
        validate(&config.to_string()).err().into_iter().flatten().map(|problem| problem.key).collect()
    }

    #[test]
    fn what_no_file_could_be_read_with_is_named_by_its_key() {
        let fine = json!({ "event": { "name": "E" }, "identifiers": { "user_id": "id" } });
        assert_eq!(keys(fine.clone()), [""; 0]);
        let with = |change: Value| {
            let mut config = fine.clone();
            change.as_object().unwrap().iter().for_each(|(key, value)| config[key] = value.clone());
            keys(config)
        };
        for (change, key) in [
            (json!({ "time": { "column": "t", "zone": "Nowhere/Land" } }), "time.zone"),
            (json!({ "time": { "column": "t", "formats": ["%Q"] } }), "time.formats"),
            (json!({ "event": {} }), "event"),
            (json!({ "identifiers": {} }), "identifiers"),
            (json!({ "header": false }), "columns"),
            (json!({ "columns": ["other"] }), "columns"),
            (json!({ "delimiter": "||" }), "delimiter"),
            (json!({ "quote": "ab" }), "quote"),
            (json!({ "encoding": "ebcdic" }), "encoding"),
            (json!({ "decimal": ";" }), "decimal"),
            (json!({ "decimal": ",", "thousands": "," }), "decimal"),
            (json!({ "delimiter": "'", "quote": "'" }), "quote"),
            (json!({ "delimiter": "\"" }), "quote"),
            (json!({ "delimiter": "whitespace", "quote": " " }), "quote"),
            (json!({ "delimiter": "tab", "quote": "\t" }), "quote"),
            (json!({ "delimiter": "\\", "escape": "\\" }), "escape"),
            (json!({ "quote": "\\", "escape": "\\" }), "escape"),
            (json!({ "shift_days": 36_526 }), "shift_days"),
            (json!({ "shift_ms": -3_155_760_000_001_i64 }), "shift_ms"),
            (json!({ "columns": ["id", "id"] }), "columns"),
            (json!({ "traits": { "Consent": "ok" }, "consent": { "news": "ok" } }), "consent"),
            (json!({ "traits": { "born": { "column": "b", "type": "date", "formats": ["%Q"] } } }), "time.formats"),
            (json!({ "traits": { "born": { "column": "b", "type": "time", "zone": "Nowhere" } } }), "time.zone"),
        ] {
            assert_eq!(with(change.clone()), [key], "{change}");
        }
        assert_eq!(with(json!({ "delimiter": "||", "event": {} })), ["delimiter", "event"], "all of them at once");
    }

    /// Whatever number stands there, it is taken within its bounds and refused by its key outside; no event of one that is taken has
    /// a time that cannot be written.
    #[test]
    fn shifts_at_every_size_are_refused_or_give_times_within_bounds() {
        let sizes = (0..63).flat_map(|bits| {
            let power = 1_i64 << bits;
            [power - 1, power, 1 - power, -power]
        });
        let edges = [i64::MIN, i64::MAX, 36_525, -36_525, 3_155_760_000_000, -3_155_760_000_000];
        for shift in sizes.chain(edges) {
            for (key, most) in [("shift_days", 36_525), ("shift_ms", 36_525 * 86_400_000_i64)] {
                let config = json!({ "event": { "name": "E" }, "identifiers": { "user_id": "id" }, "time": { "column": "t" }, key: shift });
                let is_fine = (-most..=most).contains(&shift);
                assert_eq!(keys(config.clone()).is_empty(), is_fine, "{key} {shift}");
                // One that was installed before its bounds were known traps nowhere.
                let body = "id,t\na,0000-01-01\nb,9999-12-31\nc,2026-01-05\n";
                let received = kith_plugin_sdk::testing::with_config(&config, || {
                    crate::Csv::receive(Request::post("/records", body))
                });
                let received = received.unwrap();
                assert_eq!(received.events.len() + received.rejected.len(), 3, "{key} {shift}");
                for time in received.events.iter().filter_map(|event| event.time) {
                    assert!(crate::zone::Local::from_utc(time).is_some(), "{key} {shift}: {time}");
                }
            }
        }
    }
}
