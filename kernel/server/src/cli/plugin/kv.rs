//! `kith plugin kv|clear-kv`: what a plugin keeps of its own, without the values, and clearing it.

use kith_model::id::Name;
use serde_json::{Value, json};

use super::remote::path;
use crate::cli::args::PartArgs;
use crate::cli::client::Client;
use crate::cli::consent::Consent;
use crate::cli::output::{self, AnswerFormat, field, number};
use crate::cli::{Failure, print_json};

/// What all of it comes to, and the keys.
pub(super) fn kv(
    client: &Client,
    installation: &Name,
    prefix: Option<&str>,
    part: &PartArgs,
    format: AnswerFormat,
) -> Result<(), Failure> {
    let path = format!("{}/kv", path(installation));
    let prefix: Vec<(&str, &str)> = prefix.map(|prefix| ("prefix", prefix)).into_iter().collect();
    let mut answer = client.part(&path, &prefix, part)?;
    let all = client.get(&format!("{path}?limit=1"))?;
    for figure in ["keys", "bytes", "granted_bytes"] {
        answer[figure] = all[figure].clone();
    }
    output::say_list(&answer, format, |items| kv_text(&all, items))
}

fn kv_text(all: &Value, items: &[Value]) -> String {
    let [bytes, granted] = ["bytes", "granted_bytes"].map(|name| output::size(number(all, name)));
    let summary = format!("{}, {bytes} of {granted}", output::counted(number(all, "keys"), "key"));
    if items.is_empty() {
        return summary;
    }
    let rows = items.iter().map(|item| {
        let until = if item["expires_at"].is_null() { String::new() } else { field(item, "expires_at") };
        vec![field(item, "key"), output::size(number(item, "value_bytes")), until]
    });
    format!("{summary}\n\n{}", output::table(&["key", "value", "until"], rows.collect()))
}

/// Clear all of it. That cannot be taken back, so it is asked about first.
pub(super) fn clear_kv(
    client: &Client,
    installation: &Name,
    consent: Consent,
    format: AnswerFormat,
) -> Result<(), Failure> {
    let consequences = format!("{installation} forgets everything that it keeps of its own, e.g. how far it has come.");
    consent.insist(&consequences, &format!("clear the state of {installation}"))?;
    let cleared = client.delete(&format!("{}/kv", path(installation)))?;
    if format.is_json() {
        return print_json(&json!({ "cleared": cleared }));
    }
    if cleared["keys"].is_null() {
        return output::say(format!("cleared what {installation} kept; how much it was needs profiles:read"));
    }
    let keys = output::counted(number(&cleared, "keys"), "key");
    output::say(format!("cleared {keys} of {installation}, {} in all", output::size(number(&cleared, "bytes"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_shown_to_people() {
        let all = json!({ "keys": 2, "bytes": 12, "granted_bytes": 1_024 });
        let text = kv_text(
            &all,
            &[
                json!({ "key": "lock", "value_bytes": 3, "expires_at": "2026-11-21T10:00:00.000Z" }),
                json!({ "key": "seen", "value_bytes": 1, "expires_at": null }),
            ],
        );
        for part in ["2 keys, 12 B of", "lock", "3 B", "2026-11-21T10:00:00.000Z", "seen"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let none = json!({ "keys": 0, "bytes": 0, "granted_bytes": 0 });
        assert!(kv_text(&none, &[]).starts_with("0 keys, "));
    }
}
