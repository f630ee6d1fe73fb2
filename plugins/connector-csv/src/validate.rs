//! What the JSON Schema of the configuration cannot say, found when the source is installed or changed instead of at its first
//! file.

use kith_plugin_sdk::{Failure, Problem, config};

use crate::settings::Settings;

/// Whether files could be read with a configuration.
pub(crate) fn validate(config: &str) -> Result<(), Vec<Problem>> {
    let settings: Settings = config::read(config)?;
    let mut problems = Vec::new();
    problems.extend(settings.delimiter().err().map(|failure| Problem::new("delimiter", words(failure))));
    problems.extend(settings.escape().err().map(|failure| Problem::new("escape", words(failure))));
    problems.extend(settings.encoding().err().map(|failure| Problem::new("encoding", words(failure))));
    problems.extend(settings.quote().err().map(|failure| Problem::new("quote", words(failure))));
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
        ] {
            assert_eq!(with(change.clone()), [key], "{change}");
        }
        assert_eq!(with(json!({ "delimiter": "||", "event": {} })), ["delimiter", "event"], "all of them at once");
    }
}
