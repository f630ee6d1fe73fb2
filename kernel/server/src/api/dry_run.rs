//! What the records route answers to `?dry_run=true`: what a file would become, what was assumed about it, and what of it would be
//! refused.

use std::collections::BTreeMap;

use axum::http::Uri;
use kith_model::event::{DraftEvent, EventKind, RejectedRecord};
use kith_pipeline::Preview;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

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
#[derive(Debug, Serialize)]
pub(crate) struct DryRunBody<'p> {
    dry_run: bool,
    events: Vec<EventBody<'p>>,
    event_count: u64,
    /// Events that a rule of the workspace would take out.
    dropped_count: u64,
    rejected: Vec<Value>,
    rejected_count: u64,
    rejected_codes: &'p BTreeMap<String, u64>,
    /// Events that are not as the source's tracking plan has them, taken or not.
    unplanned: u64,
    violations: u64,
    /// Rows with the id of another row of the file and other content.
    repeated_ids: u64,
    notes: Value,
}

/// An event as it would be stored.
#[derive(Debug, Serialize)]
struct EventBody<'p> {
    kind: EventKind,
    name: &'p str,
    time: Option<String>,
    message_id: Option<&'p str>,
    identifiers: Vec<IdentifierView>,
    /// As they would be stored, digit by digit.
    properties: Box<RawValue>,
    traits: Box<RawValue>,
    flags: &'p [String],
}

/// The answer to a dry run.
pub(crate) fn answer<'p>(preview: &'p Preview, notes_of: &[(String, String)], repeated_ids: u64) -> DryRunBody<'p> {
    DryRunBody {
        dry_run: true,
        events: preview.events.iter().map(event).collect(),
        event_count: preview.event_count,
        dropped_count: preview.dropped_count,
        rejected: preview.rejected.iter().map(rejected).collect(),
        rejected_count: preview.rejected_count,
        rejected_codes: &preview.codes,
        unplanned: preview.unplanned,
        violations: preview.violations,
        repeated_ids,
        notes: notes(notes_of),
    }
}

fn event(event: &DraftEvent) -> EventBody<'_> {
    EventBody {
        kind: event.kind,
        name: &event.name,
        time: event.time.map(time),
        message_id: event.message_id.as_deref(),
        identifiers: event.identifiers.iter().map(IdentifierView::from).collect(),
        properties: json_of(&event.properties),
        traits: json_of(&event.traits),
        flags: &event.flags,
    }
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
