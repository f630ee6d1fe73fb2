//! `kith rules`: what is dropped, renamed or hashed of records.

use serde_json::json;

use super::args::RecordRulesCommand;
use super::client::Client;
use super::{Failure, json_argument, print_json};

const RULES: &str = "/api/v1/rules";

pub(crate) fn run(command: &RecordRulesCommand, client: &Client) -> Result<(), Failure> {
    let answer = match command {
        RecordRulesCommand::Show => client.get(RULES)?,
        RecordRulesCommand::Set { rules } => client.put(RULES, &document(rules)?)?,
        RecordRulesCommand::Try { records, rules, source } => {
            let mut body = json!({ "records": json_argument("the records", records)? });
            if let Some(rules) = rules {
                body["rules"] = document(rules)?["rules"].take();
            }
            if let Some(source) = source {
                body["source"] = json!(source);
            }
            client.post("/api/v1/rules/try", &body)?
        }
    };
    print_json(&answer)
}

/// A document of rules; what `show` says of it beside them is not sent back.
fn document(text: &str) -> Result<serde_json::Value, Failure> {
    let document = json_argument("the rules", text)?;
    match document.get("rules") {
        Some(rules) => Ok(json!({ "rules": rules })),
        None => Err(Failure::Usage("the rules: write an object with a list of `rules`".to_owned())),
    }
}
