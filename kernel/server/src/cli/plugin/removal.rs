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

/// Remove an installation. What cannot be had again is shown and asked about first: of a connector and a channel always, of a model
/// where people or audiences lose something.
pub(super) fn remove(client: &Client, installation: &Name, consent: Consent) -> Result<(), Failure> {
    if let Some(consequences) = goes_with(&client.get(&path(installation))?) {
        consent.insist(&consequences, &format!("remove {installation}"))?;
    }
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

/// What goes with a connector or a channel; nothing of a model, of which the server says it.
fn goes_with(present: &Value) -> Option<String> {
    let name = field(present, "name");
    let text = match field(present, "kind").as_str() {
        "connector" => format!(
            "With {name} its write keys, secrets and state go, and where it polls the place where it was: whoever sends to it is \
             refused. Its events stay."
        ),
        "channel" => format!("With {name} its secrets and state go, and nothing is sent through it any more."),
        _ => return None,
    };
    Some(text)
}

/// What of people's values and of audiences goes with a model.
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
    fn a_connector_and_a_channel_are_asked_about_before_they_are_removed() {
        let said = |kind: &str| goes_with(&json!({ "name": "shop", "kind": kind }));
        assert!(said("connector").is_some_and(|said| said.contains("With shop its write keys, secrets")));
        assert!(said("channel").is_some_and(|said| said.contains("nothing is sent")));
        assert_eq!(said("tag-model"), None, "the server counts who loses a tag");
    }

    #[test]
    fn what_a_key_may_not_count_is_asked_about_all_the_same() {
        let said = |details: Value| consequences(&"level".parse().unwrap(), &details);
        let known = said(json!({ "people": 1_200, "audiences": ["fews"] }));
        assert!(known.starts_with("1,200 people hold a tag or score of level;") && known.contains("fews"), "{known}");
        let withheld = said(json!({ "people": null, "audiences": [] }));
        assert!(withheld.starts_with("people may hold (how many needs profiles:read) a tag"), "{withheld}");
    }
}
