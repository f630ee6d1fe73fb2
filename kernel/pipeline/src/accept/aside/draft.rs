//! An event as a connector found it, as JSON: what is kept of one that the kernel refused where nobody knows what the sender
//! wrote. An admin can read it, correct it and have it tried again.

use kith_model::event::{DraftEvent, EventKind};
use kith_model::identity::Identifier;
use kith_model::objects;
use kith_model::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenDraft {
    #[serde(rename = "type")]
    kind: EventKind,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    original_time: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sent_at: Option<String>,
    identifiers: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    properties: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    traits: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    context: Option<Box<RawValue>>,
    /// Whether the rules of the workspace have been applied to it: they are not applied twice.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    ruled: bool,
}

/// JSON as it is; what is none as a text of it, so that it can be seen.
fn json(text: &str) -> Option<Box<RawValue>> {
    if text.is_empty() {
        return None;
    }
    let quoted = || serde_json::value::to_raw_value(text).ok();
    RawValue::from_string(text.to_owned()).ok().or_else(quoted)
}

fn text(json: Option<Box<RawValue>>) -> String {
    json.map_or_else(String::new, |json| {
        serde_json::from_str::<String>(json.get()).unwrap_or_else(|_| json.get().to_owned())
    })
}

/// The event as JSON.
pub(crate) fn write(draft: &DraftEvent) -> String {
    written(draft, RuleStage::Before)
}

/// The same of one that the rules of the workspace have been applied to.
pub(crate) fn write_ruled(draft: &DraftEvent) -> String {
    written(draft, RuleStage::After)
}

/// Whether the rules have been applied to the event that such a JSON tells of.
pub(crate) fn is_ruled(written: &str) -> bool {
    objects::from_json::<WrittenDraft>(written).is_ok_and(|written| written.ruled)
}

/// The same JSON without the word that the rules have been applied.
pub(crate) fn unruled(written: String) -> String {
    match read(&written) {
        Ok(draft) if is_ruled(&written) => write(&draft),
        _ => written,
    }
}

/// Whether the rules of the workspace have been applied to a draft.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RuleStage {
    Before,
    After,
}

fn written(draft: &DraftEvent, stage: RuleStage) -> String {
    let written = WrittenDraft {
        ruled: stage == RuleStage::After,
        kind: draft.kind,
        name: draft.name.clone(),
        message_id: draft.message_id.clone(),
        time: draft.time.map(|time| time.to_string()),
        original_time: draft.original_time.clone(),
        sent_at: draft.sent_at.map(|time| time.to_string()),
        identifiers: draft.identifiers.iter().map(|one| (one.kind.clone(), one.value.clone())).collect(),
        properties: json(&draft.properties),
        traits: json(&draft.traits),
        context: json(&draft.context),
    };
    // Texts, numbers and JSON can always be written.
    serde_json::to_string(&written).unwrap_or_default()
}

/// The event that such a JSON tells of; else what is wrong with it.
pub(crate) fn read(written: &str) -> Result<DraftEvent, String> {
    let written: WrittenDraft = objects::from_json(written).map_err(|error| error.to_string())?;
    let time = |text: Option<String>| {
        let parse = |text: String| text.parse::<Timestamp>().map_err(|error| error.to_string());
        text.map(parse).transpose()
    };
    Ok(DraftEvent {
        kind: written.kind,
        message_id: written.message_id,
        name: written.name,
        time: time(written.time)?,
        sent_at: time(written.sent_at)?,
        identifiers: written.identifiers.into_iter().map(|(kind, value)| Identifier::new(kind, value)).collect(),
        properties: text(written.properties),
        traits: text(written.traits),
        context: text(written.context),
        flags: Vec::new(),
        original_time: written.original_time,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_as_it_was(
            name in ".{0,12}", id in proptest::option::of(".{0,12}"), time in proptest::option::of(0_i64..4_000_000_000_000),
            identifiers in proptest::collection::vec(("[a-z_]{1,8}", ".{0,12}"), 0..3),
            properties in prop_oneof![Just(String::new()), Just("{\"a\": 1.50}".to_owned()), Just("[1]".to_owned()), Just("{\"a\":".to_owned())],
        ) {
            let draft = DraftEvent {
                kind: EventKind::Track,
                message_id: id,
                name,
                time: time.map(Timestamp),
                sent_at: None,
                identifiers: identifiers.into_iter().map(|(kind, value)| Identifier::new(kind, value)).collect(),
                properties,
                traits: String::new(),
                ..DraftEvent::default()
            };
            prop_assert_eq!(read(&write(&draft)), Ok(draft));
        }
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        assert!(read("{").is_err() && read("{\"type\":\"track\"}").unwrap_err().contains("identifiers"));
        let list = r#"["track","viewed",null,null,null,null,[],null,null,null,false]"#;
        assert!(read(list).unwrap_err().contains("sequence"));
    }
}
