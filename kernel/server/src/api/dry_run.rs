//! What the records route answers to `?dry_run=true`: what a file would become, what was assumed about it, and what of it would be
//! refused.

use axum::http::Uri;
use kith_model::event::{DraftEvent, RejectedRecord};
use kith_pipeline::Preview;
use serde_json::{Map, Value, json};

use super::view::{IdentifierView, json as json_of, time};
use crate::error::ApiError;

/// Whether the query asks for a dry run.
///
/// # Errors
/// For a value that is neither `true` nor `false`: whoever misspells it must not import.
pub(crate) fn is_asked(uri: &Uri) -> Result<bool, ApiError> {
    let pairs = uri.query().unwrap_or_default().split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "true")));
    let mut is_asked = false;
    for (_, value) in pairs.filter(|(name, _)| *name == "dry_run") {
        is_asked = match value {
            "true" | "1" => true,
            "false" | "0" => false,
            other => {
                let message = format!("`dry_run` is `true` or `false`, not `{other}`");
                return Err(ApiError::BadInput { code: "bad-query", message, mistakes: Vec::new() });
            }
        };
    }
    Ok(is_asked)
}

/// What a connector assumed about the input.
pub(crate) fn notes(notes: &[(String, String)]) -> Value {
    notes.iter().map(|(name, note)| json!({ "name": name, "note": note })).collect()
}

/// The answer to a dry run.
pub(crate) fn answer(preview: &Preview, notes_of: &[(String, String)]) -> Value {
    let events: Vec<Value> = preview.events.iter().map(event).collect();
    let codes: Map<String, Value> = preview.codes.iter().map(|(code, count)| (code.clone(), (*count).into())).collect();
    json!({
        "dry_run": true,
        "events": events,
        "event_count": preview.event_count,
        "rejected": preview.rejected.iter().map(rejected).collect::<Vec<Value>>(),
        "rejected_count": preview.rejected_count,
        "rejected_codes": codes,
        "unplanned": preview.unplanned,
        "violations": preview.violations,
        "notes": notes(notes_of),
    })
}

fn event(event: &DraftEvent) -> Value {
    json!({
        "kind": event.kind,
        "name": event.name,
        "time": event.time.map(time),
        "message_id": event.message_id,
        "identifiers": event.identifiers.iter().map(IdentifierView::from).collect::<Vec<_>>(),
        "properties": json_of(&event.properties),
        "traits": json_of(&event.traits),
        "flags": event.flags,
    })
}

fn rejected(record: &RejectedRecord) -> Value {
    json!({ "line": record.place, "code": record.code, "message": record.message, "raw": record.raw })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_word_asks_for_a_dry_run() {
        let asked = |uri: &str| is_asked(&uri.parse().unwrap());
        for (uri, expected) in
            [("/r", false), ("/r?dry_run=true", true), ("/r?a=b&dry_run", true), ("/r?dry_run=false", false)]
        {
            assert_eq!(asked(uri).unwrap(), expected, "{uri}");
        }
        assert!(asked("/r?dry_run=ture").is_err());
    }
}
