//! What a draft must be before it can become an event. Drafts come from guests and are trusted with nothing.

use std::borrow::Cow;
use std::collections::BTreeMap;

use kith_model::consent::{self, CONSENT, Entries, is_consent};
use kith_model::event::{DraftEvent, EventKind, MAX_EVENT_NAME_BYTES, MAX_RAW_BYTES, RejectedRecord};
use kith_model::identity::{Identifier, IdentityRules, Unfit};
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::named::{self, EventIdentifier, LeftOut};

/// Longest message id, in bytes.
const MAX_ID_BYTES: usize = 256;

/// Largest properties, traits or context of one event, in bytes: what Segment's and RudderStack's clients can send as one message.
const MAX_BODY_BYTES: usize = 4 << 20;

/// Most identifiers that one event can name.
const MAX_IDENTIFIERS: usize = 16;

/// Most traits that one event can set.
const MAX_TRAITS: usize = 512;

/// How deep lists and objects may lie in each other in an event. JSON readers of 64 or 100 levels are common, and nothing below
/// reads as deep.
pub(super) const MAX_DEPTH: usize = 64;

/// Trait name → JSON text.
pub(crate) type Traits<'d> = BTreeMap<Cow<'d, str>, &'d RawValue>;

/// A draft that may become an event.
#[derive(Debug)]
pub(crate) struct CheckedDraft<'d> {
    /// Admitted ones, the strongest first, at least one.
    pub identifiers: Vec<EventIdentifier>,
    pub traits: Traits<'d>,
    /// What it says of consents, each as it stands there: of a name that comes twice the traits have the last alone.
    pub consents: Vec<&'d RawValue>,
    /// What was sent as an identifier and names nobody; the event stands without it.
    pub left_out: Vec<LeftOut>,
}

/// Check a draft.
///
/// # Errors
/// The record to keep aside; its place is for the caller to fill in.
pub(crate) fn check<'d>(draft: &'d DraftEvent, rules: &IdentityRules) -> Result<CheckedDraft<'d>, RejectedRecord> {
    let refuse = |code: &str, message: String| {
        Err(RejectedRecord { place: 0, code: code.to_owned(), message, raw: excerpt(draft) })
    };
    if draft.name.len() > MAX_EVENT_NAME_BYTES {
        return refuse("name-too-long", format!("an event's name has at most {MAX_EVENT_NAME_BYTES} bytes"));
    }
    if draft.message_id.as_ref().is_some_and(|id| id.is_empty() || id.len() > MAX_ID_BYTES) {
        return refuse("bad-message-id", format!("a message id has 1 to {MAX_ID_BYTES} bytes"));
    }
    let texts = [("properties", &draft.properties), ("traits", &draft.traits), ("context", &draft.context)];
    let are_plain = texts.map(|(_, text)| text.is_empty() || kith_json::is_plain_object(text, MAX_DEPTH));
    for ((what, text), is_plain) in texts.into_iter().zip(are_plain) {
        if text.len() > MAX_BODY_BYTES {
            return refuse("too-large", format!("{what} have {} bytes; {MAX_BODY_BYTES} are allowed", text.len()));
        }
        if !is_plain && kith_json::is_deeper_than(text, MAX_DEPTH) {
            return refuse("too-deep", format!("{what} are nested more than {MAX_DEPTH} levels deep"));
        }
    }
    for ((what, text), is_plain) in texts.into_iter().zip(are_plain) {
        // Traits are taken apart below.
        if what != "traits"
            && !is_plain
            && (!text.trim_start().starts_with('{') || serde_json::from_str::<IgnoredAny>(text).is_err())
        {
            return refuse("not-an-object", format!("{what} must be a JSON object"));
        }
    }
    let (traits, consents) = match facts(draft) {
        Ok(Entries(facts)) => {
            let consents = facts.iter().filter(|(name, _)| is_consent(name)).map(|(_, value)| *value).collect();
            (facts.into_iter().collect::<Traits<'_>>(), consents)
        }
        Err(error) => return refuse("not-an-object", format!("traits must be a JSON object: {error}")),
    };
    if traits.len() > MAX_TRAITS {
        return refuse("too-many-traits", format!("{} traits; one event can set {MAX_TRAITS}", traits.len()));
    }
    let (identifiers, left_out) = named::identifiers(draft, rules);
    match identifiers.len() {
        0 if left_out.iter().any(|left_out| matches!(left_out.why, Unfit::TooLong { .. })) => {
            refuse("identifier-too-long", named::nobody(&left_out))
        }
        0 => refuse("missing-identifier", named::nobody(&left_out)),
        1..=MAX_IDENTIFIERS if identifiers.iter().all(|named| is_well_named(&named.normal)) => {
            Ok(CheckedDraft { identifiers, traits, consents, left_out })
        }
        1..=MAX_IDENTIFIERS => refuse(
            "bad-identifier-type",
            "an identifier's type is of lower-case letters, digits and `_`, at most 64".into(),
        ),
        many => refuse("too-many-identifiers", format!("{many} identifiers; one event can name {MAX_IDENTIFIERS}")),
    }
}

fn facts(draft: &DraftEvent) -> Result<Entries<'_>, serde_json::Error> {
    match draft.traits.as_str() {
        "" => Ok(Entries(Vec::new())),
        text => serde_json::from_str(text),
    }
}

fn is_well_named(identifier: &Identifier) -> bool {
    let kind = &identifier.kind;
    (1..=64).contains(&kind.len())
        && kind.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// What a draft that cannot become an event says of consents.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// It refuses nothing.
    None,
    /// An event of whom it names, with what it refuses and nothing else.
    Readable(Box<DraftEvent>),
    /// It may refuse something, and cannot be read or names nobody.
    Lost,
}

/// What there is of a refusal in a draft that cannot become an event. An agreement in it counts for nothing.
pub(crate) fn refusal(draft: &DraftEvent, rules: &IdentityRules) -> Refusal {
    let Ok(Entries(facts)) = facts(draft) else {
        return if mentions_consent(&draft.traits) { Refusal::Lost } else { Refusal::None };
    };
    let said = facts.iter().filter(|(name, _)| is_consent(name));
    let refused: Vec<String> = said
        .filter_map(|(_, value)| consent::refusal(value.get()))
        .map(|refused| format!("\"{CONSENT}\":{refused}"))
        .collect();
    if refused.is_empty() {
        return Refusal::None;
    }
    let (named, _) = named::identifiers(draft, rules);
    let identifiers = named.into_iter().map(|named| named.spelled);
    let mut identifiers: Vec<Identifier> =
        identifiers.filter(|identifier| is_well_named(identifier) && !identifier.is_previous()).collect();
    identifiers.truncate(MAX_IDENTIFIERS);
    if identifiers.is_empty() {
        return Refusal::Lost;
    }
    Refusal::Readable(Box::new(DraftEvent {
        kind: EventKind::Identify,
        // Its own is not good, or another message's.
        message_id: None,
        name: String::new(),
        time: draft.time,
        sent_at: draft.sent_at,
        identifiers,
        traits: format!("{{{}}}", refused.join(",")),
        ..DraftEvent::default()
    }))
}

/// Whether a text may tell of consents.
pub(crate) fn mentions_consent(text: &str) -> bool {
    text.as_bytes().windows(CONSENT.len()).any(|part| part.eq_ignore_ascii_case(CONSENT.as_bytes()))
}

/// What a person needs to see of a refused draft, and to try it again.
pub(crate) fn excerpt(draft: &DraftEvent) -> String {
    let mut text = super::aside::draft::write(draft);
    cut(&mut text);
    text
}

/// Cut a text to what is kept of a refused input.
pub(crate) fn cut(text: &mut String) {
    text.truncate(text.floor_char_boundary(MAX_RAW_BYTES));
}

#[cfg(test)]
mod tests {
    use super::*;
    use kith_model::event::EventKind;
    use kith_model::time::Timestamp;

    fn draft() -> DraftEvent {
        DraftEvent {
            kind: EventKind::Track,
            message_id: Some("m1".into()),
            name: "Order Completed".into(),
            time: None,
            sent_at: None,
            identifiers: vec![Identifier::new("anonymous_id", "a1"), Identifier::new("user_id", "u1")],
            properties: r#"{"total": 5}"#.into(),
            ..DraftEvent::default()
        }
    }

    fn code(draft: &DraftEvent) -> String {
        check(draft, &IdentityRules::default()).map_or_else(|refused| refused.code, |_| "fine".into())
    }

    #[test]
    fn the_strongest_identifier_comes_first() {
        let draft = draft();
        let checked = check(&draft, &IdentityRules::default()).unwrap();
        assert_eq!(checked.identifiers[0].spelled, Identifier::new("user_id", "u1"));
    }

    #[test]
    fn what_cannot_be_an_event_says_why() {
        type Spoil = fn(&mut DraftEvent);
        let cases: [(&str, Spoil); 11] = [
            ("too-deep", |draft| draft.properties = format!("{{\"a\":{}1{}}}", "[".repeat(64), "]".repeat(64))),
            ("too-deep", |draft| draft.context = format!("{}1{}", "{\"a\":".repeat(5_000), "}".repeat(5_000))),
            ("too-deep", |draft| draft.traits = format!("{{\"a\":{}1{}}}", "[".repeat(64), "]".repeat(64))),
            ("identifier-too-long", |draft| draft.identifiers = vec![Identifier::new("user_id", "x".repeat(513))]),
            ("missing-identifier", |draft| draft.identifiers = vec![Identifier::new("user_id", "null")]),
            ("bad-identifier-type", |draft| draft.identifiers = vec![Identifier::new("User ID", "x")]),
            ("not-an-object", |draft| draft.properties = "[1]".into()),
            ("not-an-object", |draft| draft.traits = "{\"a\":}".into()),
            ("bad-message-id", |draft| draft.message_id = Some(String::new())),
            ("name-too-long", |draft| draft.name = "x".repeat(257)),
            ("too-many-identifiers", |draft| {
                draft.identifiers = (0..17).map(|n| Identifier::new("anonymous_id", format!("a{n}"))).collect();
            }),
        ];
        for (expected, spoil) in cases {
            let mut spoiled = draft();
            spoil(&mut spoiled);
            assert_eq!(code(&spoiled), expected);
        }
        assert_eq!(code(&draft()), "fine");
        let fine: [Spoil; 3] = [
            |draft| draft.time = Some(Timestamp(i64::MAX)),
            |draft| draft.sent_at = Some(Timestamp(i64::MIN)),
            |draft| draft.properties = format!("{{\"a\":{}\"[\\\"[\"{}}}", "[".repeat(63), "]".repeat(63)),
        ];
        for change in fine {
            let mut changed = draft();
            change(&mut changed);
            assert_eq!(code(&changed), "fine", "{changed:?}");
        }
    }

    #[test]
    fn an_identifier_is_judged_and_kept_without_the_spaces_around_it() {
        let mut spaced = draft();
        spaced.identifiers = vec![
            Identifier::new("user_id", format!("u1{}", " ".repeat(5_000))),
            Identifier::new("email", "x".repeat(600)),
        ];
        let checked = check(&spaced, &IdentityRules::default()).unwrap();
        let spelled: Vec<&Identifier> = checked.identifiers.iter().map(|named| &named.spelled).collect();
        assert_eq!(spelled, [&Identifier::new("user_id", "u1")]);
        let left_out: Vec<&str> = checked.left_out.iter().map(|left_out| left_out.why.code()).collect();
        assert_eq!(left_out, ["identifier-too-long"]);
    }
}
