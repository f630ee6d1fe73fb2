//! `kith plugin remove`: what goes with an installation is shown and asked about before it is removed.

use kith_model::id::Name;
use serde_json::Value;

use super::remote::path;
use crate::cli::Failure;
use crate::cli::client::{ApiError, Client, encode};
use crate::cli::consent::Consent;
use crate::cli::output::{self, field};

/// The numbers of a model that runs may change between two looks; after so many it is better switched off first.
const MAX_CONFIRMATIONS: usize = 5;

/// Remove an installation. Where people or audiences lose something, that is shown and asked about first.
pub(super) fn remove(client: &Client, installation: &Name, consent: Consent) -> Result<(), Failure> {
    let mut confirmation = String::new();
    for _ in 0..MAX_CONFIRMATIONS {
        let problem = match client.delete(&format!("{}{confirmation}", path(installation))) {
            Ok(_) => return Ok(()),
            Err(ApiError::Refused(problem)) if problem.code == "confirmation-required" => problem,
            Err(error) => return Err(error.into()),
        };
        let details = Value::Object(problem.details);
        consent.insist(&consequences(installation, &details), &format!("remove {installation}"))?;
        confirmation = format!("?confirm={}", encode(&field(&details, "token")));
    }
    Err(Failure::Failed(format!(
        "what {installation} holds changes too fast to confirm; switch it off first, then remove it"
    )))
}

/// What goes with an installation.
fn consequences(installation: &Name, details: &Value) -> String {
    let people = match details.get("people").and_then(Value::as_u64) {
        Some(people) => format!("{} people hold", output::count(people)),
        None => "people may hold (how many needs profiles:read)".to_owned(),
    };
    let mut text = format!("{people} a tag or score of {installation}; it goes with the installation.");
    let audiences = details.get("audiences").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if !audiences.is_empty() {
        let names: Vec<String> = audiences.iter().map(output::plain).collect();
        text.push_str(&format!("\nThese audiences read it and change: {}.", names.join(", ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_key_may_not_count_is_asked_about_all_the_same() {
        let said = |details: Value| consequences(&"level".parse().unwrap(), &details);
        let known = said(json!({ "people": 1_200, "audiences": ["fews"] }));
        assert!(known.starts_with("1,200 people hold a tag or score of level;") && known.contains("fews"), "{known}");
        let withheld = said(json!({ "people": null, "audiences": [] }));
        assert!(withheld.starts_with("people may hold (how many needs profiles:read) a tag"), "{withheld}");
    }
}
