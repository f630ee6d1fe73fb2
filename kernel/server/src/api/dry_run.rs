//! What the records route answers to `?dry_run=true`: what a file would become, what was assumed about it, and what of it would be
//! refused.

use std::collections::BTreeMap;

use kith_model::audience::{Audience, Reach};
use kith_model::event::{DraftEvent, EventKind};
use kith_pipeline::Preview;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::intake::{NoteBody, PartPlace, RejectedBody};
use super::view::{IdentifierView, json as json_of, time};
use crate::catalogue::WorkspaceTables;
use crate::error::ApiError;

/// Whether a value of `dry_run` asks for one; the word alone does.
///
/// # Errors
/// For a value that is neither `true` nor `false`: whoever misspells it must not import.
pub(super) fn is_asked(value: Option<&str>) -> Result<bool, ApiError> {
    match value {
        Some("true" | "1" | "") => Ok(true),
        Some("false" | "0") | None => Ok(false),
        Some(other) => {
            let message = format!("`dry_run` is `true` or `false`, not `{other}`");
            Err(ApiError::BadInput { code: "bad-query", message, mistakes: Vec::new() })
        }
    }
}

/// What a stream of records would become.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RecordsPreview {
    /// `true`: nothing was stored.
    dry_run: bool,
    /// The first events as they would be stored; `event_count` counts all.
    events: Vec<PreviewedEvent>,
    event_count: u64,
    /// Events that a rule of the workspace would take out.
    dropped_count: u64,
    /// The first of what would be set aside; `rejected_count` counts all.
    rejected: Vec<RejectedBody>,
    rejected_count: u64,
    rejected_codes: BTreeMap<String, u64>,
    /// Events that are not as the source's tracking plan has them, taken or not.
    unplanned: u64,
    violations: u64,
    /// Rows with the id of another row of the file and other content.
    repeated_ids: u64,
    /// What the connector assumed about the input.
    notes: Vec<NoteBody>,
    /// Audiences whose actions also write to those whom imported history moves (`imports: send`): each to no more people than
    /// these events name. `null` for a key that may not read audiences.
    writing_audiences: Option<Vec<String>>,
}

/// An event as it would be stored.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PreviewedEvent {
    #[schema(value_type = String, pattern = "^(track|identify|page|screen|group|alias)$")]
    kind: EventKind,
    name: String,
    time: Option<String>,
    message_id: Option<String>,
    identifiers: Vec<IdentifierView>,
    /// As they would be stored, digit by digit.
    #[schema(value_type = Object)]
    properties: Box<RawValue>,
    #[schema(value_type = Object)]
    traits: Box<RawValue>,
    flags: Vec<String>,
}

/// The names of the audiences that write to those whom an import moves.
pub(super) fn writing_audiences(tables: &WorkspaceTables) -> Vec<String> {
    let writes = |audience: &Audience| {
        let mut actions = [&audience.on_enter, &audience.on_exit].into_iter().flatten();
        actions.any(|action| action.imports == Reach::Send)
    };
    tables.audiences.values().filter(|audience| writes(audience)).map(|audience| audience.name.to_string()).collect()
}

/// The answer to a dry run, without what of it not every key may see.
pub(super) fn answer(preview: &Preview, notes_of: &[(String, String)], repeated_ids: u64) -> RecordsPreview {
    let rejected = preview.rejected.iter().map(|record| RejectedBody::new(record, PartPlace::Line, true));
    RecordsPreview {
        dry_run: true,
        events: preview.events.iter().map(event).collect(),
        event_count: preview.event_count,
        dropped_count: preview.dropped_count,
        rejected: rejected.collect(),
        rejected_count: preview.rejected_count,
        rejected_codes: preview.codes.clone(),
        unplanned: preview.unplanned,
        violations: preview.violations,
        repeated_ids,
        notes: NoteBody::all(notes_of),
        writing_audiences: None,
    }
}

impl RecordsPreview {
    /// The same for a key that may read audiences.
    pub(super) fn with_writing_audiences(self, names: Vec<String>) -> RecordsPreview {
        RecordsPreview { writing_audiences: Some(names), ..self }
    }
}

fn event(event: &DraftEvent) -> PreviewedEvent {
    PreviewedEvent {
        kind: event.kind,
        name: event.name.clone(),
        time: event.time.map(time),
        message_id: event.message_id.clone(),
        identifiers: event.identifiers.iter().map(IdentifierView::from).collect(),
        properties: json_of(&event.properties),
        traits: json_of(&event.traits),
        flags: event.flags.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_word_asks_for_a_dry_run() {
        for (value, expected) in [
            (None, false),
            (Some("true"), true),
            (Some("1"), true),
            (Some(""), true),
            (Some("false"), false),
            (Some("0"), false),
        ] {
            assert_eq!(is_asked(value).unwrap(), expected, "{value:?}");
        }
        assert!(is_asked(Some("ture")).is_err());
    }
}
